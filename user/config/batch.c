/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text -> documents: each is decoded, skipped or refused through the table of kinds, and gets a row that says so. Resolves no
 * names, and keeps nothing of the text but what it copies.
 */
#include <stdio.h>
#include <stdlib.h>

#include "config/kinds.h"

/* How far to look back for the beginning of a line; JSON comes as one line of megabytes. */
#define LINE_BACK_MAX 256
#define PAD_MAX 64

struct reader {
	struct batch *b;
	enum layer layer;
	struct str file, text; /* file in the batch's arena */
	uint32_t document;
	struct arena nodes;   /* of the document in hand */
	struct arena scratch; /* of the object in hand */
};

/* One object: a document, or an item of a List. */
struct object {
	const struct ynode *root;
	uint32_t item;
	struct str api_version, kind; /* as given, or as the List implies; borrowed */
	bool implied;		      /* apiVersion and kind are the List's */
};

/* ---- documents ---- */

struct doc *doc_ref(struct doc *d)
{
	d->refs++;
	return d;
}

void doc_unref(struct doc *d)
{
	struct arena arena;

	if (!d || --d->refs)
		return;
	/* The doc stands in its own arena. */
	arena = d->arena;
	arena_release(&arena);
}

void doc_diag(struct diags *d, enum diag_level level, const struct doc *doc, struct place at, struct str field,
	      struct str hint, const char *fmt, ...)
{
	struct where where = doc->at;
	char text[512];
	va_list ap;

	where.line = at.line;
	where.column = at.column;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (doc->text_line)
		diags_source(d, doc->text, doc->text_line, doc->text_indent);
	diag_add(d, level, where, field, hint, "%s", text);
	diags_source(d, STR(""), 0, 0);
}

/* ---- text of an object ---- */

/* End of the line that `at` stands in, behind its line feed. */
static uint32_t line_end(struct str text, uint32_t at)
{
	const char *end = at < text.len ? memchr(text.p + at, '\n', text.len - at) : NULL;

	return end ? (uint32_t)(end - text.p) + 1 : text.len;
}

/* End of a node, with the rest of its line: a comment may stand there. In brackets the rest belongs to somebody else. */
static uint32_t node_end(struct str text, const struct ynode *n)
{
	if (n->flow || (n->end > n->begin && text.p[n->end - 1] == '\n'))
		return n->end;
	return line_end(text, n->end);
}

/* Takes up to `indent` blanks off the front of a line, but never makes a document marker of it. */
static struct str dedent(struct str line, uint32_t indent)
{
	uint32_t cut = 0;

	while (cut < indent && cut < line.len && line.p[cut] == ' ')
		cut++;
	if (cut && (str_starts(str_sub(line, cut, 3), STR("---")) || str_starts(str_sub(line, cut, 3), STR("..."))))
		cut--;
	return str_sub(line, cut, line.len);
}

/* An item of a List as a document of its own: in block style its lines move left, in brackets they stay where they are. */
static void item_text(struct doc *doc, struct str text, const struct object *o, struct buf *out)
{
	const struct ynode *n = o->root;
	uint32_t indent = n->column - 1, at = n->begin, end = node_end(text, n);
	bool one_line = !memchr(text.p + at, '\n', end - at);

	doc->text_line = n->line;
	if (!n->flow || (one_line && indent > PAD_MAX))
		doc->text_indent = indent;
	else
		buf_printf(out, "%*s", (int)(indent <= PAD_MAX ? indent : 0), "");
	if (o->implied && n->flow) {
		buf_printf(out, "{\"apiVersion\": \"%.*s\", \"kind\": \"%.*s\"%s", STR_ARG(o->api_version),
			   STR_ARG(o->kind), n->nr ? ", " : "");
		at++;
	} else if (o->implied) {
		buf_printf(out, "apiVersion: \"%.*s\"\nkind: \"%.*s\"\n", STR_ARG(o->api_version), STR_ARG(o->kind));
		doc->text_line = n->line > 2 ? n->line - 2 : 0;
	}
	for (text.len = end; at < end;) {
		uint32_t next = line_end(text, at);
		struct str line = { text.p + at, next - at };

		buf_str(out, n->flow || at == n->begin ? line : dedent(line, indent));
		at = next;
	}
	if (out->len && out->data[out->len - 1] != '\n')
		buf_add(out, "\n", 1);
}

/* What a document takes with its text, as measured over Services and EndpointSlices. */
static size_t doc_size(uint32_t text_len)
{
	return 2 * sizeof(struct doc) + text_len + (size_t)text_len * 3 / 2;
}

static void set_text(struct reader *r, struct doc *doc, const struct object *o, struct str whole)
{
	struct buf text = { 0 };

	if (!o->item) {
		doc->text = arena_str(&doc->arena, whole);
		doc->text_line = o->root->line;
		/* `--- {a: b}`: the text begins where the document does. */
		if (whole.p == r->text.p + o->root->begin)
			doc->text_indent = o->root->column - 1;
		return;
	}
	item_text(doc, r->text, o, &text);
	doc->text = arena_str(&doc->arena, (struct str){ text.data, (uint32_t)text.len });
	buf_release(&text);
}

/* Source lines of the next diags come from this node's lines alone, so that their cost does not grow with the List. */
static void set_source(struct reader *r, const struct ynode *n)
{
	uint32_t from = n->begin, end = node_end(r->text, n), stop;
	uint32_t indent = 0;

	while (from && r->text.p[from - 1] != '\n' && n->begin - from < LINE_BACK_MAX)
		from--;
	if (from && r->text.p[from - 1] != '\n') {
		from = n->begin;
		indent = n->column - 1;
	}
	stop = end + LINE_BACK_MAX < r->text.len ? end + LINE_BACK_MAX : r->text.len;
	end = line_end((struct str){ r->text.p, stop }, end);
	diags_source(&r->b->diags, str_sub(r->text, from, end - from), n->line, indent);
}

/* ---- rows ---- */

static struct doc_result *row_add(struct reader *r, const struct object *o, uint32_t line, uint32_t column)
{
	struct batch *b = r->b;
	struct doc_result *row;

	if (b->nr == b->cap) {
		b->cap = b->cap ? b->cap * 2 : 16;
		b->results = xrealloc(b->results, b->cap * sizeof(*b->results));
	}
	row = &b->results[b->nr++];
	*row = (struct doc_result){ .outcome = OUTCOME_REFUSED };
	row->at = (struct where){
		.file = r->file, .document = r->document, .line = line, .column = column, .item = o ? o->item : 0
	};
	b->refused++;
	return row;
}

static void row_outcome(struct batch *b, struct doc_result *row, enum outcome outcome)
{
	uint32_t *const counts[] = {
		[OUTCOME_APPLIED] = &b->applied,
		[OUTCOME_SKIPPED] = &b->skipped,
		[OUTCOME_REFUSED] = &b->refused,
	};

	(*counts[row->outcome])--;
	(*counts[outcome])++;
	row->outcome = outcome;
}

static struct str text_or_empty(const struct ynode *n)
{
	return n && n->kind == YNODE_SCALAR ? n->scalar : STR("");
}

/* Texts of rows repeat from one to the next. */
static struct str row_text(struct batch *b, struct str s, struct str before)
{
	return str_eq(s, before) ? before : arena_str(&b->arena, s);
}

static void row_names(struct batch *b, struct doc_result *row, const struct object *o, const struct kind_entry *e)
{
	const struct ynode *meta = ynode_get(o->root, "metadata");
	const struct doc_result *before = row > b->results ? row - 1 : row;
	struct str ns = text_or_empty(ynode_get(meta, "namespace"));

	if (e && e->class == KIND_DECODED)
		ns = e->cluster_scoped ? STR("") : ns.len ? ns : STR("default");
	row->api_version = row_text(b, o->api_version, before->api_version);
	row->kind = row_text(b, o->kind, before->kind);
	row->ns = row_text(b, ns, before->ns);
	row->name = arena_str(&b->arena, text_or_empty(ynode_get(meta, "name")));
}

/* ---- duplicates ---- */

static struct str group_of(struct str api_version)
{
	int slash = str_find(api_version, '/');

	return str_sub(api_version, 0, slash < 0 ? 0 : (uint32_t)slash);
}

static uint64_t row_hash(const struct doc_result *row)
{
	uint64_t h = str_hash(row->name);

	h = (h ^ str_hash(row->ns)) * 0x9e3779b97f4a7c15ull;
	h = (h ^ str_hash(row->kind)) * 0xbf58476d1ce4e5b9ull;
	return h ^ (h >> 32);
}

static bool same_object(const struct doc_result *a, const struct doc_result *b)
{
	return str_eq(a->name, b->name) && str_eq(a->ns, b->ns) && str_eq(a->kind, b->kind) &&
	       str_eq(group_of(a->api_version), group_of(b->api_version));
}

/* Slot of the row, or the free one where it belongs. */
static uint32_t *seen_slot(struct batch *b, const struct doc_result *row)
{
	uint32_t at = (uint32_t)row_hash(row) & (b->seen_cap - 1);

	while (b->seen[at] && !same_object(&b->results[b->seen[at] - 1], row))
		at = (at + 1) & (b->seen_cap - 1);
	return &b->seen[at];
}

/* The row that gave the same object before, or NULL; from now on this one is known. */
static const struct doc_result *seen_before(struct batch *b, const struct doc_result *row)
{
	uint32_t *slot;

	if ((b->seen_nr + 1) * 2 > b->seen_cap) {
		uint32_t *old = b->seen, old_cap = b->seen_cap;

		b->seen_cap = old_cap ? old_cap * 2 : 64;
		b->seen = xcalloc(b->seen_cap, sizeof(*b->seen));
		for (uint32_t i = 0; i < old_cap; i++)
			if (old[i])
				*seen_slot(b, &b->results[old[i] - 1]) = old[i];
		free(old);
	}
	slot = seen_slot(b, row);
	if (*slot)
		return &b->results[*slot - 1];
	*slot = (uint32_t)(row - b->results) + 1;
	b->seen_nr++;
	return NULL;
}

/* ---- reading ---- */

static void decode_object(struct reader *r, struct decode *d, const struct object *o, const struct kind_entry *e,
			  struct str whole, struct doc_result *row)
{
	const struct doc_result *first;
	struct arena arena = { 0 };
	struct doc *doc;

	arena_reserve(&arena, doc_size(o->item ? o->root->end - o->root->begin : whole.len));
	doc = arena_new(&arena, struct doc);
	doc->arena = arena;
	doc->refs = 1;
	doc->kind = e->id;
	doc->layer = r->layer;
	doc->order = (uint32_t)(row - r->b->results);
	doc->at = row->at;
	doc->at.file = arena_str(&doc->arena, r->file);
	doc->api_version = arena_str(&doc->arena, o->api_version);
	doc->kind_name = arena_str(&doc->arena, o->kind);
	set_text(r, doc, o, whole);
	d->arena = &doc->arena;
	arena_clear(&r->scratch);
	if (!e->decode(d, o->root, doc) || d->errors) {
		doc_unref(doc);
		return;
	}
	first = seen_before(r->b, row);
	if (first) {
		decode_error_at(d, doc->meta.name_at, "metadata.name", "",
				"%s \"%.*s\" is given twice, first at %.*s:%u", e->kind, STR_ARG(row->name),
				STR_ARG(first->at.file), first->at.line);
		doc_unref(doc);
		return;
	}
	row->doc = doc;
	row_outcome(r->b, row, OUTCOME_APPLIED);
}

/* apiVersion or kind of an object; false when it is missing or no text. */
static bool read_header(struct decode *d, const struct ynode *root, const char *name, struct str implied,
			struct str *ret)
{
	const struct ynode *n = ynode_get(root, name);

	if (!n && implied.len) {
		*ret = implied;
		return true;
	}
	if (!n)
		decode_error(d, root, name, "", "required field is missing");
	else if (!ynode_is_string(n) || !n->scalar.len)
		decode_error(d, n, name, "", "want a string, got %s",
			     n->kind == YNODE_SCALAR && n->quoted ? "an empty one" : ytype_text(ynode_type(n)));
	else
		*ret = n->scalar;
	return ret->len;
}

static const struct ynode *value_or(const struct ynode *root, const char *name)
{
	const struct ynode *n = ynode_get(root, name);

	return n ? n : root;
}

static bool group_is(struct str api_version, const char *suffix)
{
	int slash = str_find(api_version, '/');

	return slash > 0 && str_ends(str_sub(api_version, 0, (uint32_t)slash), str_of(suffix));
}

/* An alias of this item stands for something outside of it, where its text as a document of its own does not reach. */
static bool reaches_out(const struct ynode *n, const struct ynode *item)
{
	uint32_t nr = n->kind == YNODE_MAP ? 2 * n->nr : n->kind == YNODE_SEQ ? n->nr : 0;

	for (uint32_t i = 0; i < nr; i++)
		if (n->items[i]->begin < item->begin || n->items[i]->end > item->end || reaches_out(n->items[i], item))
			return true;
	return false;
}

static void read_object(struct reader *r, struct object *o, struct str whole);

/* The kind of the items of `kind`: "" for List, "Service" for ServiceList. False: this is no list. */
static bool list_kind(struct reader *r, const struct object *o, struct str *ret)
{
	struct str hint;

	if (o->item || !str_ends(o->kind, STR("List")))
		return false;
	*ret = str_sub(o->kind, 0, o->kind.len - 4);
	return !ret->len || kind_find(&r->nodes, o->api_version, *ret, &hint);
}

/* Rows for the items; one for the List itself only when something is wrong with it. */
static void read_list(struct reader *r, struct decode *d, const struct object *list, struct str kind)
{
	static const struct field fields[] = {
		{ .name = "apiVersion", .type = FIELD_ANY, .flags = FIELD_INERT },
		{ .name = "kind", .type = FIELD_ANY, .flags = FIELD_INERT },
		{ .name = "metadata", .type = FIELD_ANY, .flags = FIELD_INERT },
		{ .name = "items", .type = FIELD_ANY, .flags = FIELD_INERT },
		{ .name = NULL },
	};
	static const struct schema schema = { .name = "List", .fields = fields };
	const struct ynode *items = ynode_get(list->root, "items");
	char none;

	schema_decode(d, &schema, list->root, &none);
	if (items && items->kind != YNODE_SEQ)
		decode_error(d, items, "items", "", "want a list, got %s", ytype_text(ynode_type(items)));
	if (d->errors) {
		struct doc_result *row = row_add(r, list, list->root->line, list->root->column);

		row_names(r->b, row, list, NULL);
		return;
	}
	for (uint32_t i = 0; items && i < items->nr; i++) {
		struct object o = { .root = items->items[i], .item = i + 1 };

		if (kind.len) {
			o.api_version = list->api_version;
			o.kind = kind;
		}
		read_object(r, &o, STR(""));
	}
}

static void refuse_kind(struct decode *d, const struct object *o, const struct kind_entry *e, struct str hint)
{
	char text[256];

	if (e) {
		decode_error(d, value_or(o->root, "kind"), "kind", "", "%.*s: %s", STR_ARG(o->kind),
			     e->note ? e->note : "not enforced yet");
		return;
	}
	snprintf(text, sizeof(text), "%.*s", STR_ARG(hint));
	if (o->item && str_ends(o->kind, STR("List")))
		decode_error(d, value_or(o->root, "kind"), "kind", "put its items into the outer list",
			     "a List inside a List is not accepted");
	else if (kind_of_group(o->api_version, o->kind))
		decode_error(d, value_or(o->root, "apiVersion"), "apiVersion", text,
			     "unknown version `%.*s` of kind %.*s", STR_ARG(str_sub(o->api_version, 0, 80)),
			     STR_ARG(o->kind));
	else
		decode_error(d, value_or(o->root, "kind"), "kind", text, "unknown kind `%.*s` of `%.*s`",
			     STR_ARG(str_sub(o->kind, 0, 80)), STR_ARG(str_sub(o->api_version, 0, 80)));
}

/* One document or item: exactly one row, unless it is a List. */
static void read_object(struct reader *r, struct object *o, struct str whole)
{
	struct decode d = {
		.arena = &r->nodes,
		.scratch = &r->scratch,
		.diags = &r->b->diags,
		.file = r->file,
		.document = r->document,
		.item = o->item,
	};
	struct str api_version = STR(""), kind = STR(""), hint = STR(""), items_kind;
	const struct kind_entry *e;
	struct doc_result *row;

	set_source(r, o->root);
	if (o->root->kind != YNODE_MAP) {
		decode_error(&d, o->root, "", "", "want an object, got %s", ytype_text(ynode_type(o->root)));
		row_add(r, o, o->root->line, o->root->column);
		return;
	}
	o->implied = o->kind.len && (!ynode_get(o->root, "apiVersion") || !ynode_get(o->root, "kind"));
	read_header(&d, o->root, "apiVersion", o->api_version, &api_version);
	read_header(&d, o->root, "kind", o->kind, &kind);
	o->api_version = api_version;
	o->kind = kind;
	if (o->item && reaches_out(o->root, o->root))
		decode_error(&d, o->root, "", "write the value out",
			     "an alias of this item stands for something outside of it");
	if (!d.errors && list_kind(r, o, &items_kind)) {
		read_list(r, &d, o, items_kind);
		return;
	}
	row = row_add(r, o, o->root->line, o->root->column);
	e = d.errors ? NULL : kind_find(&r->nodes, api_version, kind, &hint);
	row_names(r->b, row, o, e);
	if (d.errors)
		return;
	d.proto_names = group_is(api_version, "istio.io");
	if (e && e->class == KIND_DECODED)
		decode_object(r, &d, o, e, whole, row);
	else if (e && e->class == KIND_SKIPPED)
		row_outcome(r->b, row, OUTCOME_SKIPPED);
	else
		refuse_kind(&d, o, e, hint);
}

/* A document that cannot be read; root: what there is of it. */
static void row_unread(struct reader *r, const struct ynode *root)
{
	struct object o = { .root = root };
	struct doc_result *row;
	struct str hint;

	if (!root || root->kind != YNODE_MAP) {
		row_add(r, NULL, r->b->diags.text_line, 0);
		return;
	}
	row = row_add(r, NULL, root->line, root->column);
	o.api_version = text_or_empty(ynode_get(root, "apiVersion"));
	o.kind = text_or_empty(ynode_get(root, "kind"));
	row_names(r->b, row, &o, kind_find(&r->nodes, o.api_version, o.kind, &hint));
}

void batch_read(struct batch *b, enum layer layer, struct str file, struct str text)
{
	struct reader r = { .b = b, .layer = layer, .text = text };
	struct yaml *y;
	int rc;

	r.file = arena_str(&b->arena, file);
	y = yaml_open(r.file, text);
	for (;;) {
		struct ynode *root = NULL;
		struct object o = { 0 };
		struct str whole;

		rc = yaml_next(y, &r.nodes, &b->diags, &root, &r.document, &whole);
		if (!rc)
			break;
		if (rc < 0) {
			row_unread(&r, root);
		} else if (root) {
			o.root = root;
			read_object(&r, &o, whole);
		}
		arena_clear(&r.nodes);
	}
	yaml_close(y);
	arena_release(&r.nodes);
	arena_release(&r.scratch);
	diags_source(&b->diags, STR(""), 0, 0);
}

void batch_release(struct batch *b)
{
	for (uint32_t i = 0; i < b->nr; i++)
		doc_unref(b->results[i].doc);
	free(b->results);
	free(b->seen);
	arena_release(&b->arena);
	diags_release(&b->diags);
	*b = (struct batch){ 0 };
}

static void refuse_row(struct batch *b, struct doc_result *row)
{
	if (!row->doc)
		return;
	doc_unref(row->doc);
	row->doc = NULL;
	row_outcome(b, row, OUTCOME_REFUSED);
}

void batch_refuse(struct batch *b, struct str file, uint32_t document, uint32_t line)
{
	for (uint32_t i = 0; i < b->nr; i++) {
		struct doc_result *row = &b->results[i];

		if (row->at.line == line && row->at.document == document && row->outcome == OUTCOME_APPLIED &&
		    str_eq(row->at.file, file)) {
			refuse_row(b, row);
			return;
		}
	}
}

void batch_refuse_doc(struct batch *b, const struct doc *doc)
{
	/* Documents know their row, unless they came from another batch. */
	if (doc->order < b->nr && b->results[doc->order].doc == doc)
		refuse_row(b, &b->results[doc->order]);
}

void batch_skip_doc(struct batch *b, const struct doc *doc)
{
	if (doc->order < b->nr && b->results[doc->order].doc == doc)
		row_outcome(b, &b->results[doc->order], OUTCOME_SKIPPED);
}
