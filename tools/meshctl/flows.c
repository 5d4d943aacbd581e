/* SPDX-License-Identifier: BSD-2-Clause */
/* flows: connections that the kernel recorded. */
#include "mesh_abi.h"
#include "meshctl.h"

#define X(name, text) text,
static const char *const states[] = { MESH_STATES(X) };
#undef X

const char *flow_state(uint32_t i)
{
	/* The first of the kernel's states is that of no flow. */
	return !i ? "open" : i < MESH_STATE_NR ? states[i] : NULL;
}

static bool state_known(const char *text)
{
	for (uint32_t i = 0; flow_state(i); i++) {
		if (!strcmp(flow_state(i), text))
			return true;
	}
	return false;
}

int verb_flows(struct args *a)
{
	struct buf request = { 0 };

	if (a->word_nr)
		return usage_error("flows: unexpected argument `%s`", a->words[0]);
	if (a->value[FLAG_STATE] && !state_known(a->value[FLAG_STATE])) {
		struct buf all = { 0 };
		int rc;

		for (uint32_t i = 0; flow_state(i); i++)
			buf_printf(&all, "%s%s", i ? "|" : "", flow_state(i));
		rc = usage_error("flows: unknown state `%s`; choose from %s", a->value[FLAG_STATE], all.data);
		buf_release(&all);
		return rc;
	}
	request_begin(&request, a, WIRE_FLOWS);
	request_flag(&request, a, FLAG_WORKLOAD);
	request_flag(&request, a, FLAG_SERVICE);
	request_flag(&request, a, FLAG_STATE);
	request_flag(&request, a, FLAG_LIVE);
	return request_run(a, &request);
}
