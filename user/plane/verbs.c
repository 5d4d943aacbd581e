/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests taken apart, handed to their verb and answered; and the verbs that are a few lines. */
#include "plane/verbs_local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/version.h"
#include "config/explain.h"
#include "config/kinds.h"
#include "mesh_abi.h"

/* Above this much answer, freed memory is given back to the system soon after. */
#define TRIM_MIN (1u << 20)

int reply_error(struct reply *r, enum exit_code code, const char *fmt, ...)
{
	va_list ap;

	buf_printf(&r->err, "error: ");
	va_start(ap, fmt);
	buf_vprintf(&r->err, fmt, ap);
	va_end(ap);
	buf_add(&r->err, "\n", 1);
	return code;
}

void add_lower(struct buf *out, struct str s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		buf_add(out, &c, 1);
	}
}

const struct kind_entry *resource_find(struct str text, struct reply *r)
{
	const struct kind_entry *e = kind_by_resource(text);

	if (e && e->class == KIND_DECODED)
		return e;
	if (e)
		reply_error(r, EXIT_USAGE, "documents of the kind %s are not kept: they %s", e->kind,
			    e->class == KIND_SKIPPED ? "have no meaning for traffic" : "are refused");
	else
		reply_error(r, EXIT_USAGE, "unknown kind `%.*s`", STR_ARG(text));
	return NULL;
}

/* ---- small verbs ---- */

static int verb_version(struct verbs *v, const struct request *q, struct reply *r)
{
	struct json j;

	if (q->output != OUTPUT_JSON) {
		buf_printf(&r->out, "meshd %s\n", tulle_version.p);
		return EXIT_DONE;
	}
	json_init(&j, &r->out);
	json_object(&j);
	json_kstr(&j, "version", tulle_version);
	json_kuint(&j, "protocol", WIRE_VERSION);
	json_kuint(&j, "layout", MESH_LAYOUT);
	json_object_end(&j);
	buf_add(&r->out, "\n", 1);
	return EXIT_DONE;
}

static int verb_explain(struct verbs *v, const struct request *q, struct reply *r)
{
	const struct snapshot *s = rules_live(v->rules);
	bool udp = str_is(q->protocol, "udp");
	struct buf text = { 0 }, object = { 0 }, words = { 0 };
	struct explain_node node;
	struct str host;
	struct json j;
	uint16_t port;
	int rc;

	if (!addr_split_port(q->destination, &host, &port))
		return reply_error(r, EXIT_USAGE, "`%.*s` is not HOST:PORT, ADDRESS:PORT or [ADDRESS]:PORT",
				   STR_ARG(q->destination));
	if (!udp && q->protocol.len && !str_is(q->protocol, "tcp"))
		return reply_error(r, EXIT_USAGE, "unknown protocol `%.*s`", STR_ARG(q->protocol));
	if (!s)
		return reply_error(r, EXIT_REFUSED, "the rules do not compile; `meshctl status` says why");
	json_init(&j, &object);
	plane_explain(v->plane, &node, &words);
	rc = explain(s, rules_options(v->rules), &node, q->source, host, port, udp ? MESH_PROTO_UDP : MESH_PROTO_TCP,
		     &text, &j);
	if (rc) {
		while (text.len && text.data[text.len - 1] == '\n')
			text.len--;
		rc = reply_error(r, EXIT_REFUSED, "%.*s", STR_ARG(buf_text(&text)));
	} else {
		buf_str(&r->out, buf_text(q->output == OUTPUT_JSON ? &object : &text));
		if (r->out.len && r->out.data[r->out.len - 1] != '\n')
			buf_add(&r->out, "\n", 1);
	}
	buf_release(&text);
	buf_release(&object);
	buf_release(&words);
	return rc;
}

/* ---- requests ---- */

static const char *const outputs[] = {
	[OUTPUT_TABLE] = "table", [OUTPUT_WIDE] = "wide", [OUTPUT_JSON] = "json",
	[OUTPUT_YAML] = "yaml",	  [OUTPUT_NAME] = "name",
};

static bool take_text(struct request *q, const struct wire_part *p)
{
	const struct {
		const char *name;
		struct str *to;
	} texts[] = {
		{ "kind", &q->kind },	      { "namespace", &q->ns },
		{ "source", &q->source },     { "destination", &q->destination },
		{ "protocol", &q->protocol }, { "workload", &q->workload },
		{ "service", &q->service },   { "state", &q->state },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		if (!str_is(p->name, texts[i].name))
			continue;
		*texts[i].to = p->data;
		return true;
	}
	return false;
}

static bool take_flag(struct request *q, const struct wire_part *p)
{
	bool *to = str_is(p->name, "colour")	? &q->colour
		   : str_is(p->name, "dry-run") ? &q->dry_run
		   : str_is(p->name, "live")	? &q->live
						: NULL;

	if (to)
		*to = str_is(p->data, "1");
	return to;
}

/* One part; false with an error on r when it is not known: what is not understood must not be ignored. */
static bool take_part(struct request *q, const struct wire_part *p, struct reply *r)
{
	if (take_text(q, p) || take_flag(q, p))
		return true;
	if (str_is(p->name, "name")) {
		q->names[q->name_nr++] = p->data;
		return true;
	}
	if (str_starts(p->name, STR("file:"))) {
		q->files[q->file_nr++] =
			(struct wire_part){ str_sub(p->name, sizeof("file:") - 1, p->name.len), p->data };
		return true;
	}
	if (str_is(p->name, "output")) {
		for (size_t i = 0; i < sizeof(outputs) / sizeof(*outputs); i++) {
			if (!str_is(p->data, outputs[i]))
				continue;
			q->output = (enum output)i;
			return true;
		}
	}
	reply_error(r, EXIT_USAGE, "the request has a part `%.*s` that is not understood",
		    STR_ARG(str_sub(p->name, 0, 64)));
	return false;
}

static bool request_read(struct request *q, const struct wire_header *h, struct str body, struct reply *r)
{
	struct wire_part part;
	uint32_t at = 0, nr = 0;
	int rc;

	/* The header bounds part_nr by the length of the body. */
	q->files = xcalloc((size_t)h->part_nr + 1, sizeof(*q->files));
	q->names = xcalloc((size_t)h->part_nr + 1, sizeof(*q->names));
	while ((rc = wire_part_next(body, &at, &part)) > 0) {
		if (++nr > h->part_nr)
			break;
		if (!take_part(q, &part, r))
			return false;
	}
	if (rc || nr != h->part_nr) {
		reply_error(r, EXIT_USAGE, "the request is malformed");
		return false;
	}
	return true;
}

static verb_fn verb_find(uint16_t type)
{
	static const verb_fn verbs[] = {
		[WIRE_VERSION_GET] = verb_version, [WIRE_APPLY] = verb_apply,
		[WIRE_DELETE] = verb_delete,	   [WIRE_GET] = verb_get,
		[WIRE_DIFF] = verb_diff,	   [WIRE_EXPLAIN] = verb_explain,
		[WIRE_FLOWS] = verb_flows,	   [WIRE_STATUS] = verb_status,
		[WIRE_ENDPOINTS] = verb_endpoints, [WIRE_PARSER] = verb_parser,
		[WIRE_METRICS] = verb_metrics,
	};

	return type < sizeof(verbs) / sizeof(*verbs) ? verbs[type] : NULL;
}

void verbs_answer(void *data, const struct wire_header *h, struct str body, struct buf *reply)
{
	struct verbs *v = data;
	verb_fn fn = verb_find(h->type);
	struct request q = { 0 };
	struct reply r = { 0 };
	int code = EXIT_USAGE;
	char text[16];

	if (!fn)
		reply_error(&r, EXIT_USAGE, "meshd does not know requests of type %u", h->type);
	else if (request_read(&q, h, body, &r))
		code = fn(v, &q, &r);
	if (r.out.len > TRIM_MIN)
		rules_trim_later(v->rules);
	snprintf(text, sizeof(text), "%d", code);
	wire_begin(reply, WIRE_REPLY);
	wire_add(reply, STR("exit"), str_of(text));
	wire_add(reply, STR("out"), buf_text(&r.out));
	wire_add(reply, STR("err"), buf_text(&r.err));
	wire_end(reply);
	buf_release(&r.out);
	buf_release(&r.err);
	free(q.files);
	free(q.names);
}
