/* SPDX-License-Identifier: BSD-2-Clause */
/* parser and metrics: meshl7. */
#include "plane/verbs_local.h"

static int no_parser(struct reply *r)
{
	return reply_error(r, EXIT_REFUSED, "there is no meshl7: the setting `parser` is off");
}

int verb_parser(struct verbs *v, const struct request *q, struct reply *r)
{
	struct buf err = { 0 };
	int rc = EXIT_DONE;

	if (q->name_nr != 1 || !str_is(q->names[0], "restart"))
		return reply_error(r, EXIT_USAGE, "parser: the one thing to be done is `restart`");
	if (!v->parser)
		return no_parser(r);
	if (parser_restart(v->parser, &err))
		rc = reply_error(r, EXIT_FAILED, "%s", err.data);
	else
		buf_printf(&r->out, "a new process serves\n");
	buf_release(&err);
	return rc;
}

int verb_metrics(struct verbs *v, const struct request *q, struct reply *r)
{
	if (!v->parser)
		return no_parser(r);
	parser_metrics(v->parser, &r->out);
	return EXIT_DONE;
}
