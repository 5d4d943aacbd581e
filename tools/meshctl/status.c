/* SPDX-License-Identifier: BSD-2-Clause */
/* status: how meshd and the data path are. */
#include "meshctl.h"

int verb_status(struct args *a)
{
	struct buf request = { 0 };

	if (a->word_nr)
		return usage_error("status: unexpected argument `%s`", a->words[0]);
	request_begin(&request, a, WIRE_STATUS);
	return request_run(a, &request);
}
