/* SPDX-License-Identifier: BSD-2-Clause */
/* The walk of a document beside its table of fields. Knows types, never kinds. */
#include "config/schema.h"

#include <stdio.h>
#include <stdlib.h>

#define FIELDS_MAX 128 /* of one object */
#define SHOWN_MAX 80   /* characters of the user's text in a message */

#define SHOW(s) (int)((s).len < SHOWN_MAX ? (s).len : SHOWN_MAX), (s).p

/* ---- paths and errors ---- */

static uint32_t path_add(struct decode *d, const char *before, struct str s, const char *after)
{
	uint32_t was = d->path_len;
	uint32_t need = (uint32_t)strlen(before) + s.len + (uint32_t)strlen(after);
	char *p = d->path + was;

	/* A path that does not fit stays at its parent. */
	if (need >= sizeof(d->path) - was)
		return was;
	for (; *before; before++)
		*p++ = *before;
	memcpy(p, s.p, s.len);
	p += s.len;
	for (; *after; after++)
		*p++ = *after;
	d->path_len = was + need;
	return was;
}

static uint32_t path_field(struct decode *d, struct str name)
{
	return path_add(d, d->path_len ? "." : "", name, "");
}

static uint32_t path_index(struct decode *d, uint32_t index)
{
	char text[12];
	char *p = text + sizeof(text);

	do
		*--p = (char)('0' + index % 10);
	while (index /= 10);
	return path_add(d, "[", (struct str){ p, (uint32_t)(text + sizeof(text) - p) }, "]");
}

static void __attribute__((format(printf, 6, 0), nonnull))
report(struct decode *d, enum diag_level level, struct place at, const char *sub, const char *hint, const char *fmt,
       va_list ap)
{
	struct where where = {
		.file = d->file, .document = d->document, .item = d->item, .line = at.line, .column = at.column
	};
	bool joined = !sub[0] || sub[0] == '[' || sub[0] == '.' || !d->path_len;
	char text[512], path[sizeof(d->path) + 256];
	int len;

	d->errors += level == DIAG_ERROR;
	vsnprintf(text, sizeof(text), fmt, ap);
	len = snprintf(path, sizeof(path), "%.*s%s%s", (int)d->path_len, d->path, joined ? "" : ".", sub);
	if (len >= (int)sizeof(path))
		len = sizeof(path) - 1;
	diag_add(d->diags, level, where, (struct str){ path, (uint32_t)len }, str_of(hint), "%s", text);
}

static struct place place_of(const struct ynode *n)
{
	return n ? (struct place){ n->line, n->column } : (struct place){ 0 };
}

void decode_error(struct decode *d, const struct ynode *at, const char *sub, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(d, DIAG_ERROR, place_of(at), sub, hint, fmt, ap);
	va_end(ap);
}

void decode_error_at(struct decode *d, struct place at, const char *field, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(d, DIAG_ERROR, at, field, hint, fmt, ap);
	va_end(ap);
}

void decode_warn_at(struct decode *d, struct place at, const char *field, const char *hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(d, DIAG_WARNING, at, field, hint, fmt, ap);
	va_end(ap);
}

/* Errors beyond what is kept are only counted: looking for suggestions would cost more than the rest of the document. */
static bool is_silent(const struct decode *d)
{
	return d->errors >= DIAG_PER_DOCUMENT;
}

static void want(struct decode *d, const struct ynode *n, const char *what)
{
	enum ytype got = ynode_type(n);
	bool plain_scalar = got == YTYPE_BOOL || got == YTYPE_INT || got == YTYPE_FLOAT;
	const char *hint = "";

	if (plain_scalar && !strcmp(what, "a string"))
		hint = "quote it";
	else if (plain_scalar && !strcmp(what, "a duration"))
		hint = "give it a unit: 10s, 1m30s, 500ms";
	else if (got == YTYPE_STR && n->quoted && yscalar_type(n->scalar) != YTYPE_STR && n->scalar.len)
		hint = "remove the quotes";
	else if (got == YTYPE_MAP && !strncmp(what, "a list", 6))
		hint = "begin each entry with `- `";
	else if (got == YTYPE_STR && !strncmp(what, "a list", 6))
		hint = "write it in brackets: [...]";
	decode_error(d, n, "", hint, "want %s, got %s", what, ytype_text(got));
}

/* ---- values ---- */

/* What is thrown away behind the document. */
static struct arena *scratch(const struct decode *d)
{
	return d->scratch ? d->scratch : d->arena;
}

static struct arena *arena_for(const struct decode *d, const struct field *f)
{
	return f->flags & FIELD_SCRATCH ? scratch(d) : d->arena;
}

static bool text_of(struct decode *d, const struct ynode *n, struct arena *arena, struct str *ret)
{
	if (!ynode_is_string(n)) {
		want(d, n, "a string");
		return false;
	}
	*ret = arena_str(arena, n->scalar);
	return true;
}

static void decode_str(struct decode *d, const struct field *f, const struct ynode *n, struct str *out)
{
	if (text_of(d, n, arena_for(d, f), out) && (f->flags & FIELD_NONEMPTY) && !out->len)
		decode_error(d, n, "", f->note ? f->note : "", "must not be empty");
}

static void decode_int(struct decode *d, const struct field *f, const struct ynode *n, int64_t *out)
{
	enum ytype type = ynode_type(n);
	int64_t v;

	if (type != YTYPE_INT && type != YTYPE_FLOAT) {
		want(d, n, "a number");
		return;
	}
	if (!ynode_int(n, &v)) {
		decode_error(d, n, "", "",
			     type == YTYPE_INT ? "`%.*s` is out of range" : "`%.*s` is not a whole number",
			     SHOW(n->scalar));
		return;
	}
	if ((f->min || f->max) && (v < f->min || v > f->max)) {
		decode_error(d, n, "", f->note ? f->note : "", "%lld is out of range, want %lld to %lld", (long long)v,
			     (long long)f->min, (long long)f->max);
		return;
	}
	*out = v;
}

static void decode_double(struct decode *d, const struct field *f, const struct ynode *n, double *out)
{
	double v;

	if (!ynode_double(n, &v)) {
		want(d, n, "a number");
		return;
	}
	/* The negation catches what is not a number. */
	if (f->min || f->max ? !(v >= (double)f->min && v <= (double)f->max) : v != v) {
		decode_error(d, n, "", "", "%.*s is out of range, want %lld to %lld", SHOW(n->scalar),
			     (long long)f->min, (long long)f->max);
		return;
	}
	*out = v;
}

static void decode_duration(struct decode *d, const struct field *f, const struct ynode *n, int64_t *out)
{
	bool gep2257 = f->flags & FIELD_GEP2257;

	if (!ynode_is_string(n))
		want(d, n, "a duration");
	else if (!duration_parse(n->scalar, gep2257, out))
		decode_error(d, n, "",
			     gep2257 ? "up to four numbers of at most five digits with h, m, s or ms: 1h30m"
				     : "a number with a unit: 1h, 1m30s, 1.5s, 500ms",
			     "`%.*s` is not a duration", SHOW(n->scalar));
}

static void decode_time(struct decode *d, const struct ynode *n, int64_t *out)
{
	if (!ynode_is_string(n))
		want(d, n, "a time");
	else if (!time_parse(n->scalar, out))
		decode_error(d, n, "", "RFC 3339: 2026-01-31T12:00:00Z", "`%.*s` is not a time", SHOW(n->scalar));
}

static void enum_error(struct decode *d, const struct field *f, const struct ynode *n)
{
	struct str names[FIELDS_MAX] = { { 0 } };
	uint32_t nr = 0;
	char hint[400] = "one of";
	size_t len = strlen(hint);
	int near;

	while (f->names[nr] && nr < FIELDS_MAX) {
		names[nr] = str_of(f->names[nr]);
		nr++;
	}
	if (f->flags & FIELD_OPEN_ENUM) {
		decode_error(d, n, "", f->note ? f->note : "", "value `%.*s` is not enforced yet", SHOW(n->scalar));
		return;
	}
	near = is_silent(d) ? -1 : str_nearest(n->scalar, names, nr);
	if (near >= 0)
		snprintf(hint, sizeof(hint), "did you mean `%.*s`?", STR_ARG(names[near]));
	else
		for (uint32_t i = 0; i < nr && len + names[i].len + 3 < sizeof(hint); i++)
			len += (size_t)sprintf(hint + len, "%s %.*s", i ? "," : "", STR_ARG(names[i]));
	decode_error(d, n, "", hint, "unknown value `%.*s`", SHOW(n->scalar));
}

static void decode_enum(struct decode *d, const struct field *f, const struct ynode *n, uint32_t *out)
{
	if (!ynode_is_string(n)) {
		want(d, n, "a string");
		return;
	}
	if (!n->scalar.len && (f->flags & FIELD_EMPTY_ENUM))
		return;
	for (uint32_t i = 0; f->names[i]; i++)
		if (str_is(n->scalar, f->names[i])) {
			*out = i + 1;
			return;
		}
	enum_error(d, f, n);
}

static void decode_intstr(struct decode *d, const struct ynode *n, struct int_or_str *out)
{
	int64_t v;

	if (ynode_is_string(n)) {
		out->given = text_of(d, n, d->arena, &out->name);
		return;
	}
	if (ynode_type(n) != YTYPE_INT && ynode_type(n) != YTYPE_FLOAT) {
		want(d, n, "a number or a string");
		return;
	}
	if (!ynode_int(n, &v) || v < INT32_MIN || v > INT32_MAX) {
		decode_error(d, n, "", "", "`%.*s` is out of range", SHOW(n->scalar));
		return;
	}
	out->number = (int32_t)v;
	out->given = true;
}

/* Number of entries of a list field; false when it is none, or has too few or too many. */
static bool list_of(struct decode *d, const struct field *f, const struct ynode *n, const char *what)
{
	if (n->kind != YNODE_SEQ) {
		want(d, n, what);
		return false;
	}
	if (f->max && n->nr > (uint64_t)f->max) {
		decode_error(d, n, "", f->note ? f->note : "", "has %u entries, at most %lld are allowed", n->nr,
			     (long long)f->max);
		return false;
	}
	if ((f->flags & FIELD_NONEMPTY) && !n->nr) {
		decode_error(d, n, "", f->note ? f->note : "", "must not be empty");
		return false;
	}
	return true;
}

static void decode_strs(struct decode *d, const struct field *f, const struct ynode *n, struct strs *out)
{
	if (!list_of(d, f, n, "a list of strings"))
		return;
	out->v = arena_array(arena_for(d, f), n->nr, sizeof(*out->v));
	out->at = arena_array(arena_for(d, f), n->nr, sizeof(*out->at));
	out->nr = n->nr;
	for (uint32_t i = 0; i < n->nr; i++) {
		uint32_t was = path_index(d, i);

		text_of(d, n->items[i], arena_for(d, f), &out->v[i]);
		out->at[i] = place_of(n->items[i]);
		d->path_len = was;
	}
}

static int kv_cmp(const void *a, const void *b)
{
	return str_cmp(((const struct kv *)a)->key, ((const struct kv *)b)->key);
}

static void decode_kvs(struct decode *d, const struct field *f, const struct ynode *n, struct kvs *out)
{
	if (n->kind != YNODE_MAP) {
		want(d, n, "an object");
		return;
	}
	if ((f->flags & FIELD_NONEMPTY) && !n->nr) {
		decode_error(d, n, "", f->note ? f->note : "", "must not be empty");
		return;
	}
	out->v = arena_array(d->arena, n->nr, sizeof(*out->v));
	out->nr = n->nr;
	for (uint32_t i = 0; i < n->nr; i++) {
		const struct ynode *key = n->items[2 * i], *val = n->items[2 * i + 1];
		uint32_t was = path_add(d, "[", key->scalar, "]");

		out->v[i].key = arena_str(d->arena, key->scalar);
		if (val->kind == YNODE_NULL)
			out->v[i].val = STR("");
		else
			text_of(d, val, d->arena, &out->v[i].val);
		d->path_len = was;
	}
	qsort(out->v, out->nr, sizeof(*out->v), kv_cmp);
}

static void decode_list(struct decode *d, const struct field *f, const struct ynode *n, struct list *out)
{
	if (!list_of(d, f, n, "a list"))
		return;
	out->v = arena_array(scratch(d), n->nr, f->sub->size);
	out->nr = n->nr;
	for (uint32_t i = 0; i < n->nr; i++) {
		uint32_t was = path_index(d, i);

		schema_decode(d, f->sub, n->items[i], (char *)out->v + (size_t)i * f->sub->size);
		d->path_len = was;
	}
}

static void decode_map(struct decode *d, const struct field *f, const struct ynode *n, struct list *out)
{
	if (n->kind != YNODE_MAP) {
		want(d, n, "an object");
		return;
	}
	out->v = arena_array(scratch(d), n->nr, f->sub->size);
	out->nr = n->nr;
	for (uint32_t i = 0; i < n->nr; i++) {
		const struct ynode *key = n->items[2 * i];
		uint32_t was = path_add(d, "[", key->scalar, "]");
		struct str *item = (struct str *)((char *)out->v + (size_t)i * f->sub->size);

		*item = arena_str(d->arena, key->scalar);
		schema_decode(d, f->sub, n->items[2 * i + 1], item);
		d->path_len = was;
	}
}

static void decode_value(struct decode *d, const struct field *f, const struct ynode *n, void *out)
{
	switch ((enum field_type)f->type) {
	case FIELD_STR:
		decode_str(d, f, n, out);
		break;
	case FIELD_BOOL:
		if (!ynode_bool(n, out))
			want(d, n, "a boolean");
		break;
	case FIELD_INT:
		decode_int(d, f, n, out);
		break;
	case FIELD_DOUBLE:
		decode_double(d, f, n, out);
		break;
	case FIELD_DURATION:
		decode_duration(d, f, n, out);
		break;
	case FIELD_TIME:
		decode_time(d, n, out);
		break;
	case FIELD_ENUM:
		decode_enum(d, f, n, out);
		break;
	case FIELD_INTSTR:
		decode_intstr(d, n, out);
		break;
	case FIELD_STRS:
		decode_strs(d, f, n, out);
		break;
	case FIELD_KVS:
		decode_kvs(d, f, n, out);
		break;
	case FIELD_OBJECT:
		schema_decode(d, f->sub, n, out);
		break;
	case FIELD_OBJECT_PTR:
		*(void **)out = arena_alloc(scratch(d), f->sub->size);
		schema_decode(d, f->sub, n, *(void **)out);
		break;
	case FIELD_LIST:
		decode_list(d, f, n, out);
		break;
	case FIELD_MAP:
		decode_map(d, f, n, out);
		break;
	case FIELD_ANY:
		break;
	}
}

/* A field that is not kept. Nothing is copied: of some kinds these are most of a document. */
static void check_type(struct decode *d, const struct field *f, const struct ynode *n)
{
	bool yes;
	int64_t number;

	switch ((enum field_type)f->type) {
	case FIELD_STR:
		if (!ynode_is_string(n))
			want(d, n, "a string");
		break;
	case FIELD_BOOL:
		if (!ynode_bool(n, &yes))
			want(d, n, "a boolean");
		break;
	case FIELD_INT:
		decode_int(d, f, n, &number);
		break;
	case FIELD_STRS:
		if (!list_of(d, f, n, "a list of strings"))
			break;
		for (uint32_t i = 0; i < n->nr; i++) {
			uint32_t was = path_index(d, i);

			if (!ynode_is_string(n->items[i]))
				want(d, n->items[i], "a string");
			d->path_len = was;
		}
		break;
	case FIELD_LIST:
		list_of(d, f, n, "a list");
		break;
	case FIELD_OBJECT:
		if (n->kind != YNODE_MAP)
			want(d, n, "an object");
		break;
	default:
		break;
	}
}

/* ---- objects ---- */

/* Is `given` the protobuf name of the field whose JSON name is `name`? match_labels: matchLabels. */
static bool is_proto_name(struct str given, const char *name)
{
	bool up = false, some = false;

	for (uint32_t i = 0; i < given.len; i++) {
		char c = given.p[i];

		if (c == '_') {
			up = some = true;
			continue;
		}
		if (up && c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		up = false;
		if (!*name || *name++ != c)
			return false;
	}
	return some && !up && !*name;
}

/* Index of the field in the table, or -1. Documents list fields in much the same order as tables do: `from` is where to begin. */
static int field_find(const struct decode *d, const struct schema *s, uint32_t nr, uint32_t from, struct str name)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t at = from + i < nr ? from + i : from + i - nr;

		if (str_is(name, s->fields[at].name))
			return (int)at;
	}
	if (!d->proto_names || str_find(name, '_') < 0)
		return -1;
	for (uint32_t i = 0; i < nr; i++)
		if (is_proto_name(name, s->fields[i].name))
			return (int)i;
	return -1;
}

static void unknown_field(struct decode *d, const struct schema *s, uint32_t nr, const struct ynode *key)
{
	struct str names[FIELDS_MAX] = { { 0 } };
	char hint[128] = "";
	int near;

	if (!is_silent(d)) {
		for (uint32_t i = 0; i < nr; i++)
			names[i] = str_of(s->fields[i].name);
		near = str_nearest(key->scalar, names, nr);
		if (near >= 0)
			snprintf(hint, sizeof(hint), "did you mean `%.*s`?", STR_ARG(names[near]));
	}
	decode_error(d, key, "", hint, "unknown field `%.*s`", SHOW(key->scalar));
}

/* Names of a union, "a, b or c". */
static void oneof_text(const struct oneof *o, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (uint32_t i = 0; o->names[i] && len < size; i++) {
		const char *between = !i ? "" : o->names[i + 1] ? ", " : " or ";

		len += (size_t)snprintf(out + len, size - len, "%s%s", between, o->names[i]);
	}
}

static void check_oneof(struct decode *d, const struct oneof *o, const struct ynode *map)
{
	const struct ynode *given = NULL;
	char text[256];

	for (uint32_t i = 0; i < map->nr; i++) {
		const struct ynode *key = map->items[2 * i];
		bool member = false;

		for (uint32_t k = 0; o->names[k] && !member; k++)
			member = str_is(key->scalar, o->names[k]) ||
				 (d->proto_names && is_proto_name(key->scalar, o->names[k]));
		if (!member || map->items[2 * i + 1]->kind == YNODE_NULL)
			continue;
		if (given) {
			oneof_text(o, text, sizeof(text));
			decode_error(d, key, "", "", "only one of %s may be given, and `%.*s` is", text,
				     SHOW(given->scalar));
			return;
		}
		given = key;
	}
	if (!given && o->required) {
		oneof_text(o, text, sizeof(text));
		decode_error(d, map, "", "", "one of %s is required", text);
	}
}

static uint32_t field_count(const struct schema *s)
{
	uint32_t nr = 0;

	while (s->fields && s->fields[nr].name)
		nr++;
	if (nr > FIELDS_MAX)
		abort();
	return nr;
}

static void decode_field(struct decode *d, const struct field *f, const struct ynode *key, const struct ynode *val,
			 void *out)
{
	if (f->place_offset)
		*(struct place *)((char *)out + f->place_offset) = place_of(val);
	if (f->flags & FIELD_REFUSED)
		decode_error(d, key, "", "", "not enforced yet%s%s", f->note ? ": " : "", f->note ? f->note : "");
	else if (f->flags & FIELD_INERT)
		check_type(d, f, val);
	else
		decode_value(d, f, val, (char *)out + f->offset);
}

void schema_decode(struct decode *d, const struct schema *schema, const struct ynode *node, void *out)
{
	bool seen[FIELDS_MAX] = { false };
	uint32_t nr = field_count(schema), from = 0;

	if (node->kind != YNODE_MAP) {
		want(d, node, "an object");
		return;
	}
	if (schema->place_offset_plus1)
		*(struct place *)((char *)out + schema->place_offset_plus1 - 1) = place_of(node);
	for (uint32_t i = 0; i < node->nr; i++) {
		const struct ynode *key = node->items[2 * i], *val = node->items[2 * i + 1];
		uint32_t was = path_field(d, key->scalar);
		int at = field_find(d, schema, nr, from, key->scalar);

		if (at < 0 && !schema->open) {
			unknown_field(d, schema, nr, key);
		} else if (at >= 0 && seen[at]) {
			decode_error(d, key, "", "", "duplicate field `%.*s`, also given as `%s`", SHOW(key->scalar),
				     schema->fields[at].name);
		} else if (at >= 0 && val->kind != YNODE_NULL) {
			seen[at] = true;
			from = (uint32_t)at + 1;
			decode_field(d, &schema->fields[at], key, val, out);
		}
		d->path_len = was;
	}
	for (uint32_t i = 0; i < nr; i++)
		if ((schema->fields[i].flags & FIELD_REQUIRED) && !seen[i])
			decode_error(d, node, schema->fields[i].name, "", "required field is missing");
	for (const struct oneof *o = schema->oneofs; o && o->names; o++)
		check_oneof(d, o, node);
}

const struct str *kvs_get(const struct kvs *kvs, struct str key)
{
	uint32_t low = 0, high = kvs->nr;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int r = str_cmp(kvs->v[mid].key, key);

		if (!r)
			return &kvs->v[mid].val;
		if (r < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

bool kvs_match(const struct kvs *want_kvs, const struct kvs *have)
{
	for (uint32_t i = 0; i < want_kvs->nr; i++) {
		const struct str *val = kvs_get(have, want_kvs->v[i].key);

		if (!val || !str_eq(*val, want_kvs->v[i].val))
			return false;
	}
	return true;
}
