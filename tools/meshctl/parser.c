/* SPDX-License-Identifier: BSD-2-Clause */
/* parser and metrics: meshl7 as meshd has it. */
#include "meshctl.h"

int verb_parser(struct args *a)
{
	struct buf request = { 0 };

	if (a->word_nr != 1 || strcmp(a->words[0], "restart"))
		return usage_error("parser: what it can do is `meshctl parser restart`");
	request_begin(&request, a, WIRE_PARSER);
	request_text(&request, "name", a->words[0]);
	return request_run(a, &request);
}

int verb_metrics(struct args *a)
{
	struct buf request = { 0 };

	if (a->word_nr)
		return usage_error("metrics: unexpected argument `%s`", a->words[0]);
	request_begin(&request, a, WIRE_METRICS);
	return request_run(a, &request);
}
