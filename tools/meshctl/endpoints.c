/* SPDX-License-Identifier: BSD-2-Clause */
/* endpoints: how the endpoints of services fare. */
#include "meshctl.h"

int verb_endpoints(struct args *a)
{
	struct buf request = { 0 };

	if (a->word_nr > 1)
		return usage_error("endpoints: at most one HOST");
	request_begin(&request, a, WIRE_ENDPOINTS);
	if (a->word_nr)
		request_text(&request, "name", a->words[0]);
	return request_run(a, &request);
}
