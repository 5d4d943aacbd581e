/* SPDX-License-Identifier: BSD-2-Clause */
/* flows: connections that the kernel recorded. */
#include "meshctl.h"

int verb_flows(struct args *a)
{
	struct buf request = { 0 };

	if (a->word_nr)
		return usage_error("flows: unexpected argument `%s`", a->words[0]);
	request_begin(&request, a, WIRE_FLOWS);
	request_flag(&request, a, FLAG_WORKLOAD);
	request_flag(&request, a, FLAG_SERVICE);
	request_flag(&request, a, FLAG_STATE);
	request_flag(&request, a, FLAG_LIVE);
	return request_run(a, &request);
}
