/* SPDX-License-Identifier: BSD-2-Clause */
/* apply, delete, diff: what changes rules, or would. All of a request or nothing. */
#include <errno.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/linediff.h"
#include "config/explain.h"
#include "config/kinds.h"
#include "plane/verbs_local.h"

/* Notes and warnings that one answer carries; the rest are counted. */
#define NOTES_MAX 100

static void read_files(const struct request *q, struct batch *b)
{
	for (uint32_t i = 0; i < q->file_nr; i++)
		batch_read(b, LAYER_APPLIED, q->files[i].name, q->files[i].data);
	/* The texts end with the request; diags that come later find theirs in the documents. */
	diags_source(&b->diags, STR(""), 0, 0);
}

/* Why a transaction failed: the report of the documents, and what is not theirs. */
static int refused(const struct request *q, const struct batch *b, const struct rules_result *res, int rc,
		   struct reply *r)
{
	if (res->err.len) {
		reply_error(r, EXIT_REFUSED, "%.*s", STR_ARG(buf_text(&res->err)));
	} else if (q->output == OUTPUT_JSON) {
		report_json(b, &r->out);
	} else {
		report_text(b, &r->out, q->colour);
		reply_error(r, EXIT_REFUSED, "refused, nothing was changed");
	}
	/* Rules that do not fit are refused, too; what else goes wrong is meshd's trouble. */
	return rc == -EINVAL || rc == -ENOSPC || rc == -E2BIG ? EXIT_REFUSED : EXIT_FAILED;
}

/* ---- units that differ between two snapshots ---- */

static int unit_cmp(const struct unit *a, const struct unit *b)
{
	int rc = str_cmp(a->host, b->host);

	return rc ? rc : str_cmp(a->ns, b->ns);
}

typedef void (*unit_pair_fn)(void *data, const struct unit *before, const struct unit *after);

/* Units are shared where they are equal, so most steps compare two pointers. */
static void each_changed_unit(const struct snapshot *before, const struct snapshot *after, unit_pair_fn fn, void *data)
{
	uint32_t an = before ? before->unit_nr : 0, bn = after->unit_nr, i = 0, k = 0;

	while (i < an || k < bn) {
		const struct unit *a = i < an ? before->units[i] : NULL;
		const struct unit *b = k < bn ? after->units[k] : NULL;
		int cmp = a == b ? 0 : !a ? 1 : !b ? -1 : unit_cmp(a, b);

		if (a != b)
			fn(data, cmp <= 0 ? a : NULL, cmp >= 0 ? b : NULL);
		i += cmp <= 0;
		k += cmp >= 0;
	}
}

/* ---- apply ---- */

struct notes {
	struct buf *out;
	uint32_t nr;
};

static void add_unit_notes(void *data, const struct unit *before, const struct unit *after)
{
	struct notes *n = data;

	for (uint32_t i = 0; after && i < after->note_nr; i++) {
		if (n->nr++ < NOTES_MAX)
			buf_printf(n->out, "note: %.*s: %.*s\n", STR_ARG(after->host), STR_ARG(after->notes[i]));
	}
}

/* The diag speaks of a file of this request, not of what is live already. */
static bool of_request(const struct request *q, const struct diag *d)
{
	for (uint32_t i = 0; i < q->file_nr; i++)
		if (str_eq(q->files[i].name, d->at.file))
			return true;
	return false;
}

static void print_notes(const struct request *q, const struct batch *b, const struct rules_result *res, struct buf *out)
{
	struct notes n = { .out = out };
	uint32_t others = 0;

	for (uint32_t i = 0; i < b->diags.nr; i++) {
		const struct diag *d = &b->diags.items[i];

		if (d->level == DIAG_ERROR)
			continue;
		if (!of_request(q, d))
			others++;
		else if (n.nr++ < NOTES_MAX)
			diag_print(out, d, q->colour);
	}
	each_changed_unit(res->before, res->after, add_unit_notes, &n);
	if (n.nr > NOTES_MAX)
		buf_printf(out, "... and %u more warnings and notes\n", n.nr - NOTES_MAX);
	if (others)
		buf_printf(out, "%u warning%s about documents that were live before\n", others, others == 1 ? "" : "s");
}

static void print_document(struct buf *out, const struct doc_result *row, const char *what, bool dry_run)
{
	add_lower(out, row->kind);
	buf_printf(out, "/%.*s %s%s\n", STR_ARG(row->name), what, dry_run ? " (dry run)" : "");
}

static void print_applied(const struct request *q, const struct batch *b, const struct rules_result *res,
			  struct buf *out)
{
	static const char *const texts[] = {
		[CHANGE_NONE] = "unchanged",
		[CHANGE_CREATED] = "created",
		[CHANGE_CONFIGURED] = "configured",
	};
	const struct plane_applied *a = &res->applied;

	for (uint32_t i = 0; i < b->nr; i++) {
		const struct doc_result *row = &b->results[i];

		print_document(out, row, row->outcome == OUTCOME_SKIPPED ? "skipped" : texts[res->changes[i]],
			       q->dry_run);
	}
	print_notes(q, b, res, out);
	buf_printf(out, "%u applied, %u skipped", b->applied, b->skipped);
	if (q->dry_run)
		buf_printf(out, "; nothing was changed\n");
	else if (!res->touched)
		buf_printf(out, "; nothing to change\n");
	else
		buf_printf(out, "; live as epoch %llu: %u hosts, %u rows written, %u removed, %.1f ms\n",
			   (unsigned long long)a->epoch, a->units_changed, a->rows_written, a->rows_removed,
			   (double)a->ns / 1e6);
}

int verb_apply(struct verbs *v, const struct request *q, struct reply *r)
{
	struct rules_result res = { 0 };
	struct batch b = { 0 };
	int rc, code = EXIT_DONE;

	read_files(q, &b);
	rc = rules_apply(v->rules, &b, q->dry_run, &res);
	if (rc)
		code = refused(q, &b, &res, rc, r);
	else if (q->output == OUTPUT_JSON)
		report_json(&b, &r->out);
	else
		print_applied(q, &b, &res, &r->out);
	rules_result_release(&res);
	batch_release(&b);
	return code;
}

/* ---- delete ---- */

struct victims {
	struct rules_victim *v;
	uint32_t nr;
	struct arena arena; /* of names */
};

/* Adds the applied document of that name, or says why there is none to delete. */
static int victim_add(struct verbs *v, struct victims *to, enum kind kind, const char *kind_name, struct str ns,
		      struct str name, struct reply *r)
{
	struct doc *d = model_get(rules_model(v->rules), kind, str_of(kind_name), ns, name);
	struct buf text = { 0 };
	struct str entry;

	rules_entry_name(&text, kind, str_of(kind_name), ns, name);
	entry = arena_str(&to->arena, buf_text(&text));
	buf_release(&text);
	if (!d && !rules_is_stuck(v->rules, entry))
		return reply_error(r, EXIT_REFUSED, "%s \"%.*s\" not found%s%.*s", kind_name, STR_ARG(name),
				   ns.len ? " in namespace " : "", STR_ARG(ns));
	if (d && d->layer == LAYER_RULES)
		return reply_error(r, EXIT_REFUSED,
				   "%s \"%.*s\" comes from %.*s:%u: delete it there (only applied "
				   "documents can be deleted)",
				   kind_name, STR_ARG(name), STR_ARG(d->at.file), d->at.line);
	for (uint32_t i = 0; i < to->nr; i++) {
		if (str_eq(to->v[i].name, entry))
			return EXIT_DONE;
	}
	to->v[to->nr++] = (struct rules_victim){ d, entry };
	return EXIT_DONE;
}

static int victims_by_name(struct verbs *v, const struct request *q, struct victims *to, struct reply *r)
{
	const struct kind_entry *e = resource_find(q->kind, r);
	struct str ns = q->ns.len ? q->ns : STR("default");
	int code = EXIT_DONE;

	if (!e)
		return EXIT_USAGE;
	if (!q->name_nr)
		return reply_error(r, EXIT_USAGE, "delete: NAME is missing");
	to->v = xcalloc(q->name_nr, sizeof(*to->v));
	for (uint32_t i = 0; i < q->name_nr; i++)
		code |= victim_add(v, to, e->id, e->kind, e->cluster_scoped ? (struct str){ 0 } : ns, q->names[i], r);
	return code;
}

static int victims_by_file(struct verbs *v, const struct request *q, struct victims *to, struct reply *r)
{
	struct batch b = { 0 };
	int code = EXIT_DONE;

	read_files(q, &b);
	if (b.refused) {
		report_text(&b, &r->out, q->colour);
		code = EXIT_REFUSED;
	}
	to->v = xcalloc((size_t)b.nr + 1, sizeof(*to->v));
	for (uint32_t i = 0; i < b.nr && !b.refused; i++) {
		const struct doc *d = b.results[i].doc;
		struct buf kind = { 0 };

		if (!d)
			continue;
		buf_str(&kind, d->kind_name);
		code |= victim_add(v, to, d->kind, kind.data, d->meta.ns, d->meta.name, r);
		buf_release(&kind);
	}
	batch_release(&b);
	return code;
}

static void print_deleted(const struct victims *to, struct buf *out)
{
	for (uint32_t i = 0; i < to->nr; i++) {
		struct str name = to->v[i].name;
		uint32_t last = name.len;

		while (last && name.p[last - 1] != '/')
			last--;
		add_lower(out, str_sub(name, 0, (uint32_t)str_find(name, '/')));
		buf_printf(out, "/%.*s deleted\n", STR_ARG(str_sub(name, last, name.len)));
	}
}

int verb_delete(struct verbs *v, const struct request *q, struct reply *r)
{
	struct rules_result res = { 0 };
	struct victims to = { 0 };
	struct batch b = { 0 };
	int rc, code;

	code = q->file_nr ? victims_by_file(v, q, &to, r) : victims_by_name(v, q, &to, r);
	if (!code && to.nr) {
		rc = rules_delete(v->rules, to.v, to.nr, &b, &res);
		if (rc) {
			code = refused(q, &b, &res, rc, r);
		} else {
			print_deleted(&to, &r->out);
			print_notes(q, &b, &res, &r->out);
		}
	}
	rules_result_release(&res);
	batch_release(&b);
	arena_release(&to.arena);
	free(to.v);
	return code;
}

/* ---- diff ---- */

struct diff {
	struct buf *out;
	bool colour;
	struct buf a, b; /* scratch */
};

static void diff_unit(void *data, const struct unit *before, const struct unit *after)
{
	const struct unit *named = after ? after : before;
	struct diff *d = data;
	size_t at = d->out->len;
	size_t head;

	buf_clear(&d->a);
	buf_clear(&d->b);
	if (before)
		unit_print(before, &d->a);
	if (after)
		unit_print(after, &d->b);
	buf_printf(d->out, "--- %s%.*s\n+++ %s%.*s\n", before ? "live/" : "none/", STR_ARG(named->host),
		   after ? "applied/" : "none/", STR_ARG(named->host));
	head = d->out->len;
	linediff(d->out, buf_text(&d->a), buf_text(&d->b), d->colour);
	/* Units can differ in what the kernel does not see. */
	if (d->out->len == head) {
		d->out->len = at;
		d->out->data[at] = 0;
	}
}

int verb_diff(struct verbs *v, const struct request *q, struct reply *r)
{
	struct rules_result res = { 0 };
	struct diff d = { .out = &r->out, .colour = q->colour };
	struct batch b = { 0 };
	int rc, code;

	read_files(q, &b);
	rc = rules_apply(v->rules, &b, true, &res);
	if (rc) {
		report_text(&b, &r->err, q->colour);
		if (res.err.len)
			reply_error(r, EXIT_USAGE, "%.*s", STR_ARG(buf_text(&res.err)));
		code = EXIT_USAGE;
	} else {
		each_changed_unit(res.before, res.after, diff_unit, &d);
		code = r->out.len ? EXIT_REFUSED : EXIT_DONE;
	}
	buf_release(&d.a);
	buf_release(&d.b);
	rules_result_release(&res);
	batch_release(&b);
	return code;
}
