/* SPDX-License-Identifier: BSD-2-Clause */
/* apply, delete, diff: rules handed to meshd. */
#include "meshctl.h"

/* The requests whose parts are files. */
static int send_files(struct args *a, enum wire_type type, const char *verb)
{
	struct inputs in = { 0 };
	struct buf request = { 0 };
	int rc;

	if (!(a->given & FLAG(FILENAME)) && a->word_nr)
		return usage_error("%s: unexpected argument `%s`; files are given with -f", verb, a->words[0]);
	rc = inputs_read(&in, a);
	if (!rc) {
		request_begin(&request, a, type);
		request_flag(&request, a, FLAG_DRY_RUN);
		request_inputs(&request, &in);
		rc = request_run(a, &request);
	}
	inputs_release(&in);
	return rc;
}

int verb_apply(struct args *a)
{
	return send_files(a, WIRE_APPLY, "apply");
}

int verb_diff(struct args *a)
{
	return send_files(a, WIRE_DIFF, "diff");
}

int verb_delete(struct args *a)
{
	struct buf request = { 0 };
	int rc;

	if (a->given & FLAG(FILENAME)) {
		if (a->given & FLAG(NAMESPACE))
			return usage_error(
				"delete: --namespace goes with KIND NAME; with -f the documents say their namespaces");
		return send_files(a, WIRE_DELETE, "delete");
	}
	request_begin(&request, a, WIRE_DELETE);
	rc = request_resources(&request, a, "delete", 1);
	if (rc) {
		buf_release(&request);
		return rc;
	}
	return request_run(a, &request);
}
