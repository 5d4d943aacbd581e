/* SPDX-License-Identifier: BSD-2-Clause */
/* The rule store: see rules.h. The model is changed in place and changed back on failure, so a change costs what it touches. */
#include "plane/rules_local.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"

/* Above this much text in one transaction, freed memory is given back to the system soon after. */
#define TRIM_MIN (1u << 20)

/* ---- transactions ---- */

static void txn_step(struct txn *t, struct doc *put, struct doc *old)
{
	if (t->nr == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 8;
		t->steps = xrealloc(t->steps, t->cap * sizeof(*t->steps));
	}
	t->steps[t->nr++] = (struct step){ put, old };
}

struct doc *txn_put(struct txn *t, struct doc *d)
{
	struct doc *old = model_put(t->rules->model, d);

	txn_step(t, doc_ref(d), old);
	t->text += d->text.len;
	return old;
}

static struct doc *model_take(struct model *m, const struct doc *d)
{
	return model_remove(m, d->layer, d->kind, d->kind_name, d->meta.ns, d->meta.name);
}

void txn_remove(struct txn *t, struct doc *d)
{
	struct doc *old = model_take(t->rules->model, d);

	if (old)
		txn_step(t, NULL, old);
}

static void txn_release(struct txn *t)
{
	for (uint32_t i = 0; i < t->nr; i++) {
		doc_unref(t->steps[i].put);
		doc_unref(t->steps[i].old);
	}
	free(t->steps);
	rules_files_release(&t->files);
}

static void txn_rollback(struct txn *t)
{
	struct rules *r = t->rules;

	for (uint32_t i = t->nr; i--;) {
		struct step *s = &t->steps[i];

		if (s->old)
			doc_unref(model_put(r->model, s->old));
		else
			doc_unref(model_take(r->model, s->put));
	}
	stuck_unmark(r);
	journal_drop(r->journal);
	txn_release(t);
}

static void txn_commit(struct txn *t, struct snapshot *after)
{
	struct rules *r = t->rules;

	for (uint32_t i = 0; i < t->nr; i++) {
		const struct step *s = &t->steps[i];

		r->applied_nr += s->put && s->put->layer == LAYER_APPLIED;
		r->applied_nr -= s->old && s->old->layer == LAYER_APPLIED;
	}
	stuck_drop(r);
	if (t->has_files) {
		struct rules_files old = r->files;

		r->files = t->files;
		t->files = old;
	}
	if (after != r->live) {
		snapshot_unref(r->live);
		r->live = snapshot_ref(after);
		r->last_at = time(NULL);
	}
	r->trim |= t->text > TRIM_MIN;
	txn_release(t);
}

/* Compiles the model. 0 with *ret, or -EINVAL. */
static int txn_compile(struct txn *t, struct batch *b, struct snapshot **ret, struct buf *err)
{
	struct rules *r = t->rules;
	struct doc **changed;
	uint32_t nr = 0;
	int rc;

	if (stuck_left(r, err))
		return -EINVAL;
	changed = xmalloc((size_t)t->nr * 2 * sizeof(*changed) + 1);
	for (uint32_t i = 0; i < t->nr; i++) {
		if (t->steps[i].put)
			changed[nr++] = t->steps[i].put;
		if (t->steps[i].old)
			changed[nr++] = t->steps[i].old;
	}
	rc = snapshot_build(r->model, &r->options, r->live, changed, nr, b, ret);
	free(changed);
	return rc;
}

/*
 * Compile, journal, data path; then commit, or everything back. The journal comes before the data path, so that what is live
 * after a crash is never more than what is remembered.
 */
static int txn_finish(struct txn *t, struct batch *b, bool dry_run, struct rules_result *ret)
{
	struct rules *r = t->rules;
	struct snapshot *after = NULL;
	int rc;

	ret->before = r->live ? snapshot_ref(r->live) : NULL;
	ret->touched = t->nr || !r->live;
	if (!ret->touched) {
		ret->after = snapshot_ref(r->live);
		txn_commit(t, r->live);
		return 0;
	}
	rc = txn_compile(t, b, &after, &ret->err);
	if (rc)
		goto out_rollback;
	if (dry_run) {
		ret->after = after;
		txn_rollback(t);
		return 0;
	}
	rc = journal_commit(r->journal);
	if (rc) {
		buf_printf(&ret->err, "journal in %s: %s", r->settings->state,
			   rc == -E2BIG ? "too much in one command" : strerror(-rc));
		goto out_rollback;
	}
	rc = plane_apply(r->plane, after, &ret->applied, &ret->err);
	if (rc) {
		if (!ret->err.len)
			buf_printf(&ret->err, "the data path refused the rules: %s", strerror(-rc));
		journal_undo(r->journal);
		goto out_rollback;
	}
	r->last = ret->applied;
	r->warnings = b->diags.warnings;
	txn_commit(t, after);
	ret->after = after;
	return 0;

out_rollback:
	snapshot_unref(after);
	txn_rollback(t);
	return rc;
}

void rules_result_release(struct rules_result *r)
{
	free(r->changes);
	snapshot_unref(r->before);
	snapshot_unref(r->after);
	buf_release(&r->err);
	*r = (struct rules_result){ 0 };
}

/* ---- applied documents ---- */

static struct doc *find_visible(const struct rules *r, const struct doc *d)
{
	return model_get(r->model, d->kind, d->kind_name, d->meta.ns, d->meta.name);
}

static uint64_t applied_len(const struct doc *d)
{
	return d && d->layer == LAYER_APPLIED ? d->text.len : 0;
}

static enum change apply_one(struct txn *t, struct doc *d, struct batch *b)
{
	struct rules *r = t->rules;
	struct doc *old = find_visible(r, d);
	struct buf name = { 0 }, vips = { 0 };

	if (old && old->layer == LAYER_APPLIED && str_eq(old->text, d->text))
		return CHANGE_NONE;
	entry_name(&name, d);
	if (vips_take_over(d, old)) {
		vips_print(&vips, d);
		diag_add(&b->diags, DIAG_NOTE, d->at, STR("spec.clusterIPs"), STR(""),
			 "not given, keeps %s of the document it replaces", vips.data);
	}
	stuck_mark(r, (struct str){ name.data, (uint32_t)name.len });
	journal_put(r->journal,
		    &(struct journal_entry){
			    { name.data, (uint32_t)name.len }, d->text, { vips.data, (uint32_t)vips.len } },
		    applied_len(old));
	txn_put(t, d);
	buf_release(&name);
	buf_release(&vips);
	return old ? CHANGE_CONFIGURED : CHANGE_CREATED;
}

/* Nothing is live that this process compiled, so the directory belongs to this transaction too. */
static int txn_start_over(struct txn *t, struct buf *err)
{
	struct batch b = { 0 };
	int rc;

	if (t->rules->live)
		return 0;
	rc = txn_directory(t, &b, err);
	if (rc && b.diags.nr) {
		buf_printf(err, "the rules directory does not compile, put that right first:");
		for (uint32_t i = 0; i < b.diags.nr && i < LOGGED_MAX; i++) {
			buf_printf(err, "\n  ");
			diag_line(err, &b.diags.items[i]);
		}
	}
	batch_release(&b);
	return rc;
}

int rules_apply(struct rules *r, struct batch *b, bool dry_run, struct rules_result *ret)
{
	struct txn t = { .rules = r };
	int rc;

	*ret = (struct rules_result){ 0 };
	if (b->refused)
		return -EINVAL;
	ret->changes = xcalloc(b->nr + 1, sizeof(*ret->changes));
	rc = txn_start_over(&t, &ret->err);
	if (rc) {
		txn_rollback(&t);
		return rc;
	}
	for (uint32_t i = 0; i < b->nr; i++) {
		if (b->results[i].outcome == OUTCOME_APPLIED)
			ret->changes[i] = apply_one(&t, b->results[i].doc, b);
	}
	return txn_finish(&t, b, dry_run, ret);
}

int rules_delete(struct rules *r, const struct rules_victim *v, uint32_t nr, struct batch *b, struct rules_result *ret)
{
	struct txn t = { .rules = r };
	int rc;

	*ret = (struct rules_result){ 0 };
	rc = txn_start_over(&t, &ret->err);
	if (rc) {
		txn_rollback(&t);
		return rc;
	}
	for (uint32_t i = 0; i < nr; i++) {
		journal_del(r->journal, v[i].name, applied_len(v[i].doc));
		if (v[i].doc)
			txn_remove(&t, v[i].doc);
		else
			stuck_mark(r, v[i].name);
	}
	return txn_finish(&t, b, false, ret);
}

/* ---- errors that nobody waits for ---- */

void diag_line(struct buf *out, const struct diag *d)
{
	buf_str(out, d->at.file);
	if (d->at.line)
		buf_printf(out, ":%u:%u", d->at.line, d->at.column);
	buf_printf(out, ": %s: ", d->level == DIAG_ERROR ? "error" : "warning");
	if (d->field.len)
		buf_printf(out, "%.*s: ", STR_ARG(d->field));
	buf_str(out, d->message);
	if (d->hint.len)
		buf_printf(out, " (%.*s)", STR_ARG(d->hint));
}

static void log_diags(struct rules *r, const struct diags *diags, enum diag_level level)
{
	struct buf line = { 0 };
	uint32_t nr = 0;

	for (uint32_t i = 0; i < diags->nr && nr < LOGGED_MAX; i++) {
		if (diags->items[i].level != level)
			continue;
		nr++;
		buf_clear(&line);
		diag_line(&line, &diags->items[i]);
		log_at(level == DIAG_ERROR ? LOG_LEVEL_ERR : LOG_LEVEL_WARN, "%s", line.data);
		if (level == DIAG_ERROR)
			buf_printf(&r->error, "%s\n", line.data);
	}
	buf_release(&line);
}

static void report_failure(struct rules *r, const char *what, const struct batch *b, const struct buf *err)
{
	buf_clear(&r->error);
	r->error_at = time(NULL);
	if (err->len) {
		log_err("%s", err->data);
		buf_printf(&r->error, "%s\n", err->data);
	}
	log_diags(r, &b->diags, DIAG_ERROR);
	log_err("%s refused, what was live stays live errors=%u", what, b->diags.errors);
}

static void report_success(struct rules *r, const char *what, const struct batch *b, const struct plane_applied *a)
{
	buf_release(&r->error);
	r->error_at = 0;
	log_diags(r, &b->diags, DIAG_WARNING);
	log_info("%s live epoch=%llu units_changed=%u rows_written=%u rows_removed=%u ms=%llu", what,
		 (unsigned long long)a->epoch, a->units_changed, a->rows_written, a->rows_removed,
		 (unsigned long long)(a->ns / 1000000));
}

void rules_reread(struct rules *r)
{
	struct rules_result result = { 0 };
	struct txn t = { .rules = r };
	struct batch b = { 0 };
	int rc;

	rc = txn_directory(&t, &b, &result.err);
	if (rc)
		txn_rollback(&t);
	else
		rc = txn_finish(&t, &b, false, &result);
	if (rc)
		report_failure(r, "rules directory", &b, &result.err);
	else if (result.touched || r->error.len)
		report_success(r, "rules directory", &b, &result.applied);
	batch_release(&b);
	rules_result_release(&result);
}

/* ---- start ---- */

int rules_new(const struct settings *s, struct plane *p, struct rules **ret, struct buf *err)
{
	struct rules *r = xcalloc(1, sizeof(*r));
	struct loading l = { .rules = r };
	int rc;

	r->settings = s;
	r->plane = p;
	r->options = (struct snapshot_options){
		.cluster_domain = str_of(s->cluster_domain),
		.root_namespace = str_of(s->root_namespace),
		.node_name = str_of(s->node_name),
		.registry_only = s->registry_only,
		.no_parser = !s->parser,
		.http_fail_open = s->parser_fail_open,
		.http_per_request = s->http_per_request,
	};
	r->model = model_new();
	rc = journal_open(s->state, entry_load, &l, &r->journal, err);
	batch_release(&l.batch);
	if (rc) {
		rules_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void rules_start(struct rules *r)
{
	rules_reread(r);
	r->trim = true;
}

void rules_free(struct rules *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; i < r->stuck_nr; i++)
		r->stuck[i].gone = true;
	stuck_drop(r);
	free(r->stuck);
	rules_files_release(&r->files);
	snapshot_unref(r->live);
	model_free(r->model);
	journal_close(r->journal);
	buf_release(&r->error);
	free(r);
}

/* ---- the rest ---- */

const struct model *rules_model(const struct rules *r)
{
	return r->model;
}

const struct snapshot *rules_live(const struct rules *r)
{
	return r->live;
}

const struct snapshot_options *rules_options(const struct rules *r)
{
	return &r->options;
}

void rules_status(const struct rules *r, struct json *j)
{
	json_object(j);
	json_kstr(j, "directory", str_of(r->settings->rules));
	json_kuint(j, "files", r->files.nr);
	json_kuint(j, "documents", model_count(r->model));
	json_kuint(j, "documents_applied", r->applied_nr);
	json_kbool(j, "compiled", r->live != NULL);
	json_kuint(j, "units", r->live ? r->live->unit_nr : 0);
	json_kuint(j, "rows", r->live ? r->live->row_nr : 0);
	json_kuint(j, "endpoints", r->live ? r->live->endpoint_nr : 0);
	json_kuint(j, "clients", r->live ? r->live->client_nr : 0);
	json_kuint(j, "scopes", r->live ? r->live->scope_nr : 0);
	json_kuint(j, "epoch", r->last.epoch);
	json_ktime(j, "changed", (uint64_t)r->last_at * 1000000000);
	json_kuint(j, "warnings", r->warnings);
	json_ktime(j, "refused", (uint64_t)r->error_at * 1000000000);
	json_kstr(j, "error", (struct str){ r->error.data, (uint32_t)r->error.len });
	json_object_end(j);
}

void rules_trim_later(struct rules *r)
{
	r->trim = true;
}

void rules_idle(struct rules *r)
{
	if (journal_wants_compaction(r->journal)) {
		int rc = journal_compact(r->journal, entry_each, r);

		if (rc)
			log_warn("journal could not be rewritten: %s", strerror(-rc));
	}
	if (!r->trim)
		return;
	r->trim = false;
	malloc_trim(0);
}
