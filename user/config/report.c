/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What became of each document, as `check` and `apply` print it. Renders a batch; decides nothing. The JSON is stable (see
 * meshctl(8)): a summary, then documents in input order with their errors and warnings; notes are warnings there.
 */
#include "base/json.h"
#include "config/explain.h"
#include "config/index.h"

static const char *const outcomes[] = { "applied", "skipped", "refused" };

static bool belongs(const struct diag *d, const struct doc_result *r)
{
	return d->at.document == r->at.document && d->at.item == r->at.item && str_eq(d->at.file, r->at.file);
}

static uint64_t place_hash(const struct where *at)
{
	return str_hash(at->file) + at->document * 0x9e3779b97f4a7c15ull + at->item;
}

static void json_diags(struct json *j, const struct batch *b, const struct index *by_document,
		       const struct doc_result *r, bool errors)
{
	json_array(j);
	for (index_each(by_document, place_hash(&r->at), at, i)) {
		const struct diag *d = &b->diags.items[i];

		if ((d->level == DIAG_ERROR) != errors || !belongs(d, r))
			continue;
		json_object(j);
		json_kuint(j, "line", d->at.line);
		json_kuint(j, "column", d->at.column);
		json_kstr(j, "field", d->field);
		json_kstr(j, "message", d->message);
		json_kstr(j, "hint", d->hint);
		json_object_end(j);
	}
	json_array_end(j);
}

void report_json(const struct batch *b, struct buf *out)
{
	struct index by_document;
	struct arena arena = { 0 };
	struct json j;

	index_init(&by_document, &arena, b->diags.nr);
	for (uint32_t i = 0; i < b->diags.nr; i++)
		index_add(&by_document, place_hash(&b->diags.items[i].at), i);
	index_seal(&by_document, &arena);
	json_init(&j, out);
	json_object(&j);
	json_key(&j, "summary");
	json_object(&j);
	json_kuint(&j, "applied", b->applied);
	json_kuint(&j, "skipped", b->skipped);
	json_kuint(&j, "refused", b->refused);
	json_object_end(&j);
	json_key(&j, "documents");
	json_array(&j);
	for (uint32_t i = 0; i < b->nr; i++) {
		const struct doc_result *r = &b->results[i];

		json_object(&j);
		json_kstr(&j, "file", r->at.file);
		json_kuint(&j, "document", r->at.document);
		json_kuint(&j, "line", r->at.line);
		json_kstr(&j, "apiVersion", r->api_version);
		json_kstr(&j, "kind", r->kind);
		json_kstr(&j, "namespace", r->ns);
		json_kstr(&j, "name", r->name);
		json_kstr(&j, "outcome", str_of(outcomes[r->outcome]));
		json_key(&j, "errors");
		json_diags(&j, b, &by_document, r, true);
		json_key(&j, "warnings");
		json_diags(&j, b, &by_document, r, false);
		json_object_end(&j);
	}
	json_array_end(&j);
	json_object_end(&j);
	buf_str(out, STR("\n"));
	arena_release(&arena);
}

/* "VirtualService default/reviews", or as much of it as is known. */
static void print_name(struct buf *out, const struct doc_result *r)
{
	if (r->kind.len)
		buf_str(out, r->kind);
	else
		buf_printf(out, "document %u of %.*s", r->at.document, STR_ARG(r->at.file));
	if (r->name.len && r->ns.len)
		buf_printf(out, " %.*s/%.*s", STR_ARG(r->ns), STR_ARG(r->name));
	else if (r->name.len)
		buf_printf(out, " %.*s", STR_ARG(r->name));
}

/* What people read of one run; the rest is counted. report_json has them all. */
#define TEXT_ERRORS_MAX 20
#define TEXT_OTHERS_MAX 20

void report_text(const struct batch *b, struct buf *out, bool colour)
{
	uint32_t errors = 0, others = 0;

	for (uint32_t i = 0; i < b->diags.nr; i++) {
		const struct diag *d = &b->diags.items[i];

		if (d->level == DIAG_ERROR ? errors++ < TEXT_ERRORS_MAX : others++ < TEXT_OTHERS_MAX)
			diag_print(out, d, colour);
	}
	if (b->diags.errors > TEXT_ERRORS_MAX)
		buf_printf(out, "... and %u more errors\n", b->diags.errors - TEXT_ERRORS_MAX);
	if (others > TEXT_OTHERS_MAX)
		buf_printf(out, "... and %u more warnings\n", others - TEXT_OTHERS_MAX);
	for (uint32_t i = 0; i < b->nr; i++) {
		const struct doc_result *r = &b->results[i];

		print_name(out, r);
		if (colour && r->outcome == OUTCOME_REFUSED)
			buf_printf(out, " \033[31m%s\033[0m\n", outcomes[r->outcome]);
		else
			buf_printf(out, " %s\n", outcomes[r->outcome]);
	}
	buf_printf(out, "%u applied, %u skipped, %u refused\n", b->applied, b->skipped, b->refused);
}
