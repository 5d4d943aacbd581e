/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rule store's view of the rules directory: which documents of which file came, went or stayed. Only what changed on disk is
 * read, and of that only documents that say something else are replaced.
 */
#include "plane/rules_local.h"

#include <errno.h>
#include <stdlib.h>

/* The documents of one file that was read into rows [from, b->nr). */
static void file_adopt(struct rules_file *f, const struct batch *b, uint32_t from)
{
	f->docs = xcalloc(b->nr - from + 1, sizeof(*f->docs));
	for (uint32_t i = from; i < b->nr; i++) {
		if (b->results[i].outcome == OUTCOME_APPLIED)
			f->docs[f->doc_nr++] = doc_ref(b->results[i].doc);
	}
}

/* Place in the file's order: no two documents of a file have the same, and the lists of documents are sorted by it. */
static int doc_order(const struct doc *a, const struct doc *b)
{
	if (a->at.document != b->at.document)
		return a->at.document < b->at.document ? -1 : 1;
	return a->at.item < b->at.item ? -1 : a->at.item > b->at.item;
}

static bool doc_same(const struct doc *a, const struct doc *b)
{
	return a->kind == b->kind && a->at.line == b->at.line && str_eq(a->kind_name, b->kind_name) &&
	       str_eq(a->meta.name, b->meta.name) && str_eq(a->meta.ns, b->meta.ns) && str_eq(a->text, b->text);
}

/* Documents that did not change stay the same object, so that one that did costs no more than itself. */
static void file_keep_same(struct rules_file *now, const struct rules_file *was)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < now->doc_nr; i++) {
		while (k < was->doc_nr && doc_order(was->docs[k], now->docs[i]) < 0)
			k++;
		if (k == was->doc_nr || doc_order(was->docs[k], now->docs[i]) || !doc_same(now->docs[i], was->docs[k]))
			continue;
		doc_unref(now->docs[i]);
		now->docs[i] = doc_ref(was->docs[k++]);
	}
}

static void file_read(struct txn *t, struct rules_file *f, struct batch *b)
{
	struct where at = { .file = str_of(f->path) };
	struct buf text = { 0 };
	uint32_t from = b->nr;
	int rc = rules_file_read(f, &text);

	/* Gone since the scan: the next one will see it. */
	if (rc && rc != -ENOENT) {
		diag_add(&b->diags, DIAG_ERROR, at, STR(""), STR(""), "%s", strerror(-rc));
	} else if (!rc) {
		batch_read(b, LAYER_RULES, str_of(f->path), (struct str){ text.data, (uint32_t)text.len });
		t->text += text.len;
	}
	file_adopt(f, b, from);
	buf_release(&text);
}

/* Is `d` one of the documents of `f` (which may be NULL)? To be asked in the order of the file; *hint begins at 0. */
static bool file_has(const struct rules_file *f, const struct doc *d, uint32_t *hint)
{
	while (f && *hint < f->doc_nr && doc_order(f->docs[*hint], d) < 0)
		(*hint)++;
	return f && *hint < f->doc_nr && f->docs[*hint] == d;
}

static void file_remove_old(struct txn *t, const struct rules_file *was, const struct rules_file *now)
{
	uint32_t hint = 0;

	for (uint32_t i = 0; i < was->doc_nr; i++) {
		if (!file_has(now, was->docs[i], &hint))
			txn_remove(t, was->docs[i]);
	}
}

static void file_put_new(struct txn *t, const struct rules_file *now, const struct rules_file *was, struct batch *b)
{
	uint32_t hint = 0;

	for (uint32_t i = 0; i < now->doc_nr; i++) {
		struct doc *d = now->docs[i], *old;

		if (was && file_has(was, d, &hint))
			continue;
		old = txn_put(t, d);
		if (!old)
			continue;
		diag_add(&b->diags, DIAG_ERROR, d->at, STR("metadata.name"), STR(""),
			 "%.*s \"%.*s\" is given twice, first at %.*s:%u", STR_ARG(d->kind_name), STR_ARG(d->meta.name),
			 STR_ARG(old->at.file), old->at.line);
		batch_refuse(b, d->at.file, d->at.document, d->at.line);
	}
}

/* Pairs the files that were with those that are, in order of their paths; either may be NULL for fn. */
typedef void (*pair_fn)(struct txn *t, struct rules_file *now, const struct rules_file *was, struct batch *b);

static void each_pair(struct txn *t, struct batch *b, pair_fn fn)
{
	const struct rules_files *was = &t->rules->files;
	struct rules_files *now = &t->files;
	uint32_t i = 0, k = 0;

	while (i < now->nr || k < was->nr) {
		int cmp = i == now->nr ? 1 : k == was->nr ? -1 : strcmp(now->v[i].path, was->v[k].path);

		fn(t, cmp <= 0 ? &now->v[i] : NULL, cmp >= 0 ? &was->v[k] : NULL, b);
		i += cmp <= 0;
		k += cmp >= 0;
	}
}

static void pair_read(struct txn *t, struct rules_file *now, const struct rules_file *was, struct batch *b)
{
	if (!now)
		return;
	if (!was || !rules_file_same(now, was)) {
		file_read(t, now, b);
		if (was)
			file_keep_same(now, was);
		return;
	}
	now->docs = xcalloc(was->doc_nr + 1, sizeof(*now->docs));
	for (uint32_t i = 0; i < was->doc_nr; i++)
		now->docs[now->doc_nr++] = doc_ref(was->docs[i]);
}

static void pair_remove(struct txn *t, struct rules_file *now, const struct rules_file *was, struct batch *b)
{
	if (was)
		file_remove_old(t, was, now);
}

static void pair_put(struct txn *t, struct rules_file *now, const struct rules_file *was, struct batch *b)
{
	if (now)
		file_put_new(t, now, was, b);
}

int txn_directory(struct txn *t, struct batch *b, struct buf *err)
{
	const char *dir = t->rules->settings->rules;
	int rc;

	t->has_files = true;
	if (!dir[0])
		return 0;
	rc = rules_files_scan(dir, &t->files);
	if (rc) {
		buf_printf(err, "rules directory %s: %s", dir, rc == -E2BIG ? "too many files" : strerror(-rc));
		return -EINVAL;
	}
	each_pair(t, b, pair_read);
	if (b->diags.errors || b->refused)
		return -EINVAL;
	each_pair(t, b, pair_remove);
	each_pair(t, b, pair_put);
	return b->diags.errors ? -EINVAL : 0;
}
