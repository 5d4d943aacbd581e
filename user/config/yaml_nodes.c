/* SPDX-License-Identifier: BSD-2-Clause */
/* Events of the parser -> nodes: keys and duplicates, anchors, aliases and merge keys, and the errors of all that. */
#include "config/yaml_local.h"

#include <stdlib.h>

/* ---- errors ---- */

void yaml_report(struct yaml *y, size_t line, size_t column, const char *path, const char *hint, const char *fmt, ...)
{
	struct where at = {
		.file = y->file, .document = y->document, .line = (uint32_t)line, .column = (uint32_t)column
	};
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	y->errors++;
	diag_add(y->diags, DIAG_ERROR, at, str_of(path), str_of(hint), "%s", text);
}

void yaml_report_mark(struct yaml *y, const yaml_mark_t *mark, const char *hint, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	yaml_report(y, y->line + mark->line + 1, mark->column + 1, "", hint, "%s", text);
}

/* Byte offset in the whole text of a libyaml mark. Marks go forward but for a few characters. */
uint32_t yaml_byte_at(struct yaml *y, const yaml_mark_t *mark)
{
	const char *p = y->text.p + y->begin;
	size_t len = y->end - y->begin;

	if (y->ascii)
		return y->begin + (uint32_t)(mark->index < len ? mark->index : len);
	while (y->at_char > mark->index) {
		do
			y->at_byte--;
		while (y->at_byte && (p[y->at_byte] & 0xc0) == 0x80);
		y->at_char--;
	}
	while (y->at_char < mark->index && y->at_byte < len) {
		do
			y->at_byte++;
		while (y->at_byte < len && (p[y->at_byte] & 0xc0) == 0x80);
		y->at_char++;
	}
	return y->begin + (uint32_t)y->at_byte;
}

#define PATH_SIZE 512

/* Where the node in hand is: "spec.ports[2].name". key: of the pair in hand, NULL when it is pushed already, or there is none. */
static void path_of(const struct yaml *y, const struct ynode *key, char out[PATH_SIZE])
{
	size_t len = 0;

	out[0] = '\0';
	for (uint32_t i = 0; i < y->depth && len < PATH_SIZE; i++) {
		const struct frame *f = &y->frames[i];
		bool top = i + 1 == y->depth;
		/* Of an outer collection the last item is the inner one. */
		uint32_t end = top ? y->pending_nr : y->frames[i + 1].base - 1, nr = end - f->base;
		const struct ynode *k = top && key ? key : nr % 2 ? y->pending[end - 1] : NULL;

		if (f->node->kind == YNODE_SEQ)
			len += (size_t)snprintf(out + len, PATH_SIZE - len, "[%u]", nr);
		else if (k && k->kind == YNODE_SCALAR)
			len += (size_t)snprintf(out + len, PATH_SIZE - len, "%s%.*s", len ? "." : "",
						STR_ARG(str_sub(k->scalar, 0, 64)));
	}
}

static void __attribute__((format(printf, 6, 7)))
report(struct yaml *y, size_t line, size_t column, const struct ynode *key, const char *hint, const char *fmt, ...)
{
	char path[PATH_SIZE], text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	path_of(y, key, path);
	yaml_report(y, line, column, path, hint, "%s", text);
}

static void __attribute__((format(printf, 4, 5)))
report_event(struct yaml *y, const yaml_event_t *ev, const char *hint, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	report(y, y->line + ev->start_mark.line + 1, ev->start_mark.column + 1, NULL, hint, "%s", text);
}

/* ---- nodes ---- */

static void push(struct yaml *y, struct ynode *n)
{
	if (y->pending_nr == y->pending_cap) {
		y->pending_cap = y->pending_cap ? y->pending_cap * 2 : 64;
		y->pending = xrealloc(y->pending, y->pending_cap * sizeof(*y->pending));
	}
	y->pending[y->pending_nr++] = n;
}

/* The node to come is the key of a pair. */
static bool at_key(const struct yaml *y)
{
	const struct frame *f;

	if (!y->depth)
		return false;
	f = &y->frames[y->depth - 1];
	return f->node->kind == YNODE_MAP && (y->pending_nr - f->base) % 2 == 0;
}

static struct ynode *new_node(struct yaml *y, const yaml_event_t *ev, enum ynode_kind kind)
{
	struct ynode *n = arena_new(y->arena, struct ynode);

	n->kind = (uint8_t)kind;
	n->line = y->line + (uint32_t)ev->start_mark.line + 1;
	n->column = (uint32_t)ev->start_mark.column + 1;
	n->begin = yaml_byte_at(y, &ev->start_mark);
	n->end = yaml_byte_at(y, &ev->end_mark);
	return n;
}

/* A key that YAML 1.1 turns into something else than what is written would name another field than
 * the user sees. */
static void check_key(struct yaml *y, const struct ynode *n)
{
	enum ytype type;
	uint64_t v;

	if (n->quoted)
		return;
	if (str_is(n->scalar, "<<")) {
		y->merges = true;
		return;
	}
	type = yscalar_type(n->scalar);
	if (type == YTYPE_STR || str_is(n->scalar, "true") || str_is(n->scalar, "false"))
		return;
	if (type == YTYPE_INT && str_to_u64(n->scalar, INT64_MAX, &v) && (n->scalar.p[0] != '0' || n->scalar.len == 1))
		return;
	report(y, n->line, n->column, n, "quote it", "key `%.*s` is %s in YAML, not a string",
	       (int)(n->scalar.len < 64 ? n->scalar.len : 64), n->scalar.p, ytype_text(type));
}

/* A tag changes what a node means. */
static void check_tag(struct yaml *y, const yaml_event_t *ev, const yaml_char_t *tag)
{
	static const char core[] = "tag:yaml.org,2002:";
	const char *text = (const char *)tag;
	bool is_core;

	if (!tag)
		return;
	is_core = !strncmp(text, core, sizeof(core) - 1);
	report_event(y, ev, "quote the value to make it a string", "tags are not accepted: `%s%.64s`",
		     is_core ? "!!" : "", text + (is_core ? sizeof(core) - 1 : 0));
}

/* ---- anchors ---- */

struct anchor {
	struct str name; /* in y->arena */
	struct ynode *node;
};

#define ANCHORS_MAX 256
/* Values that all aliases of a document may stand for: a few lines could stand for more than there is memory. */
#define ALIAS_NODES_MAX 100000
#define MERGE_WORK_MAX (1u << 22)

static void add_anchor(struct yaml *y, const yaml_event_t *ev, const yaml_char_t *name, struct ynode *n)
{
	if (!name)
		return;
	if (y->anchor_nr == ANCHORS_MAX) {
		report_event(y, ev, "", "the document has more than %d anchors", ANCHORS_MAX);
		return;
	}
	if (!y->anchors)
		y->anchors = xcalloc(ANCHORS_MAX, sizeof(*y->anchors));
	y->anchors[y->anchor_nr++] = (struct anchor){ arena_str(y->arena, str_of((const char *)name)), n };
}

/* The last anchor of that name is meant. */
static struct ynode *find_anchor(const struct yaml *y, const yaml_char_t *name)
{
	for (uint32_t i = y->anchor_nr; i--;)
		if (str_is(y->anchors[i].name, (const char *)name))
			return y->anchors[i].node;
	return NULL;
}

static bool is_open(const struct yaml *y, const struct ynode *n)
{
	for (uint32_t i = 0; i < y->depth; i++)
		if (y->frames[i].node == n)
			return true;
	return false;
}

/* Counts what an alias at this depth stands for. False: it is too much, or too deep. */
static bool charge(struct yaml *y, const struct ynode *n, uint32_t depth)
{
	uint32_t nr = n->kind == YNODE_MAP ? 2 * n->nr : n->kind == YNODE_SEQ ? n->nr : 0;

	if (++y->alias_nodes > ALIAS_NODES_MAX || (nr && depth >= YAML_DEPTH_MAX))
		return false;
	for (uint32_t i = 0; i < nr; i++)
		if (!charge(y, n->items[i], depth + 1))
			return false;
	return true;
}

static void add_alias(struct yaml *y, const yaml_event_t *ev)
{
	const char *name = (const char *)ev->data.alias.anchor;
	struct ynode *n = find_anchor(y, ev->data.alias.anchor);
	bool key = at_key(y);

	y->last_end = yaml_byte_at(y, &ev->end_mark);
	if (!n) {
		report_event(y, ev, "its anchor must stand in front of it, in the same document",
			     "unknown anchor: `*%.64s`", name);
	} else if (is_open(y, n)) {
		report_event(y, ev, "", "`*%.64s` would be a part of itself", name);
	} else if (key && n->kind != YNODE_SCALAR) {
		report_event(y, ev, "", "a key must be a string, this is %s", ytype_text(ynode_type(n)));
	} else if (!charge(y, n, y->depth)) {
		report_event(y, ev, "write the values out",
			     y->alias_nodes > ALIAS_NODES_MAX ? "aliases stand for more than %d values"
							      : "nested deeper than %d levels",
			     y->alias_nodes > ALIAS_NODES_MAX ? ALIAS_NODES_MAX : YAML_DEPTH_MAX);
	} else {
		if (key)
			check_key(y, n);
		push(y, n);
		return;
	}
	push(y, new_node(y, ev, key ? YNODE_SCALAR : YNODE_NULL));
}

static bool has_key(const struct ynode *map, struct str key)
{
	for (uint32_t i = 0; i < map->nr; i++)
		if (str_eq(map->items[2 * i]->scalar, key))
			return true;
	return false;
}

/* Adds the pairs of `from` whose keys are not there yet; there is room for them. */
static void merge_map(struct yaml *y, struct ynode *map, const struct ynode *from)
{
	for (uint32_t i = 0; i < from->nr; i++) {
		if (has_key(map, from->items[2 * i]->scalar))
			continue;
		map->items[2 * map->nr] = from->items[2 * i];
		map->items[2 * map->nr + 1] = from->items[2 * i + 1];
		map->nr++;
	}
}

/* `<<: *other` or `<<: [*one, *other]` in a map that is closed: its own keys win, then those that come first. */
static void merge(struct yaml *y, struct ynode *map)
{
	struct ynode merged = { 0 }, *one, **from;
	const struct ynode *key = NULL;
	uint32_t nr = 1, sum = 0, at;
	bool good = true;

	for (at = 0; at < map->nr && !key; at++)
		if (!map->items[2 * at]->quoted && str_is(map->items[2 * at]->scalar, "<<"))
			key = map->items[2 * at];
	if (!key)
		return;
	one = map->items[2 * at - 1];
	from = &one;
	if (one->kind == YNODE_SEQ) {
		from = one->items;
		nr = one->nr;
	}
	for (uint32_t i = 0; i < nr; i++) {
		good &= from[i]->kind == YNODE_MAP;
		sum += from[i]->kind == YNODE_MAP ? from[i]->nr : 0;
	}
	if (!good) {
		report(y, key->line, key->column, key, "", "`<<` wants an object or a list of objects");
		return;
	}
	if ((uint64_t)sum * (sum + map->nr) > MERGE_WORK_MAX) {
		report(y, key->line, key->column, key, "write the fields out", "too many fields to merge");
		return;
	}
	merged.items = arena_array(y->arena, 2 * ((size_t)map->nr + sum), sizeof(*merged.items));
	for (uint32_t i = 0; i < map->nr; i++) {
		if (map->items[2 * i] == key)
			continue;
		merged.items[2 * merged.nr] = map->items[2 * i];
		merged.items[2 * merged.nr + 1] = map->items[2 * i + 1];
		merged.nr++;
	}
	for (uint32_t i = 0; i < nr; i++)
		merge_map(y, &merged, from[i]);
	map->items = merged.items;
	map->nr = merged.nr;
}

/* ---- scalars and collections ---- */

static void add_scalar(struct yaml *y, const yaml_event_t *ev)
{
	struct str value = { (const char *)ev->data.scalar.value, (uint32_t)ev->data.scalar.length };
	bool key = at_key(y);
	struct ynode *n;
	uint32_t skip;

	check_tag(y, ev, ev->data.scalar.tag);
	n = new_node(y, ev, YNODE_SCALAR);
	y->last_end = n->end;
	add_anchor(y, ev, ev->data.scalar.anchor, n);
	n->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	/* Most scalars stand in the text as they are; what was masked is only known from there. */
	skip = n->quoted ? 1 : 0;
	if (n->end - n->begin == value.len + 2 * skip &&
	    !memcmp(y->input + (n->begin - y->begin) + skip, value.p, value.len))
		n->scalar = (struct str){ y->text.p + n->begin + skip, value.len };
	else if (!y->masked || !memcmp(y->input + (n->begin - y->begin), y->text.p + n->begin, n->end - n->begin))
		n->scalar = arena_str(y->arena, value);
	else
		report_event(y, ev, "quote it", "found unexpected ':' in a plain scalar");
	if (key)
		check_key(y, n);
	else if (!n->quoted && yscalar_type(n->scalar) == YTYPE_NULL)
		n->kind = YNODE_NULL;
	push(y, n);
}

static void open_collection(struct yaml *y, const yaml_event_t *ev, enum ynode_kind kind)
{
	bool map = kind == YNODE_MAP;
	struct ynode *n;

	check_tag(y, ev, map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag);
	if (at_key(y))
		report_event(y, ev, "", "a key must be a string, this is %s", map ? "an object" : "a list");
	n = new_node(y, ev, kind);
	n->flow = map ? ev->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
		      : ev->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
	add_anchor(y, ev, map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor, n);
	push(y, n);
	y->frames[y->depth++] = (struct frame){ n, y->pending_nr };
}

static void check_pair(struct yaml *y, const struct ynode *key, const struct ynode *first)
{
	report(y, key->line, key->column, key, "", "duplicate key `%.*s`, first given in line %u",
	       (int)(key->scalar.len < 64 ? key->scalar.len : 64), key->scalar.p, first->line);
}

static bool same_key(const struct ynode *a, const struct ynode *b)
{
	return a->kind == YNODE_SCALAR && b->kind == YNODE_SCALAR && str_eq(a->scalar, b->scalar);
}

/* Few keys: compare each with each. Many: a hash table, as wide as twice their number. */
static void check_duplicates(struct yaml *y, struct ynode *const *items, uint32_t pairs)
{
	uint32_t cap = 64;

	if (pairs <= 8) {
		for (uint32_t i = 1; i < pairs; i++)
			for (uint32_t j = 0; j < i; j++)
				if (same_key(items[2 * i], items[2 * j])) {
					check_pair(y, items[2 * i], items[2 * j]);
					break;
				}
		return;
	}
	while (cap < pairs * 2)
		cap *= 2;
	if (cap > y->keys_cap) {
		y->keys = xrealloc(y->keys, cap * sizeof(*y->keys));
		y->keys_cap = cap;
	}
	memset(y->keys, 0, cap * sizeof(*y->keys));
	for (uint32_t i = 0; i < pairs; i++) {
		const struct ynode *key = items[2 * i];
		uint32_t at;

		if (key->kind != YNODE_SCALAR)
			continue;
		at = (uint32_t)str_hash(key->scalar) & (cap - 1);
		while (y->keys[at] && !same_key(y->keys[at], key))
			at = (at + 1) & (cap - 1);
		if (y->keys[at])
			check_pair(y, key, y->keys[at]);
		else
			y->keys[at] = key;
	}
}

/* The items of the innermost collection are complete. */
static struct ynode *close_frame(struct yaml *y)
{
	struct frame *f = &y->frames[y->depth - 1];
	uint32_t nr = y->pending_nr - f->base;
	struct ynode *n = f->node;

	n->nr = n->kind == YNODE_MAP ? nr / 2 : nr;
	n->items = arena_array(y->arena, nr, sizeof(*n->items));
	if (nr)
		memcpy(n->items, y->pending + f->base, nr * sizeof(*n->items));
	y->pending_nr = f->base;
	/* libyaml puts the end of a block at the next token; comments in between belong to that. */
	if (!n->flow && nr)
		n->end = y->last_end;
	return n;
}

static void close_collection(struct yaml *y, const yaml_event_t *ev)
{
	struct ynode *n = close_frame(y);

	if (n->flow)
		n->end = y->last_end = yaml_byte_at(y, &ev->end_mark);
	if (n->kind == YNODE_MAP) {
		check_duplicates(y, n->items, n->nr);
		if (y->merges && !y->errors)
			merge(y, n);
	}
	y->depth--;
}

void yaml_close_all(struct yaml *y)
{
	for (; y->depth; y->depth--)
		close_frame(y);
}

void yaml_nodes_clear(struct yaml *y)
{
	y->depth = y->nodes = y->pending_nr = y->anchor_nr = y->alias_nodes = y->last_end = 0;
	y->merges = false;
}

void yaml_nodes_release(struct yaml *y)
{
	free(y->pending);
	free(y->keys);
	free(y->anchors);
}

/* Takes one event in. False: the rest of the document makes no sense any more. */
bool yaml_take(struct yaml *y, const yaml_event_t *ev)
{
	bool opens = ev->type == YAML_MAPPING_START_EVENT || ev->type == YAML_SEQUENCE_START_EVENT;

	if (opens && y->depth == YAML_DEPTH_MAX) {
		yaml_report_mark(y, &ev->start_mark, "", "nested deeper than %d levels", YAML_DEPTH_MAX);
		return false;
	}
	if ((opens || ev->type == YAML_SCALAR_EVENT) && ++y->nodes > YAML_NODES_MAX) {
		report_event(y, ev, "split it into several documents", "the document has more than %u values",
			     YAML_NODES_MAX);
		return false;
	}
	switch (ev->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (ev->data.document_start.tag_directives.start != ev->data.document_start.tag_directives.end)
			report_event(y, ev, "", "tags are not accepted: %%TAG directive");
		break;
	case YAML_ALIAS_EVENT:
		add_alias(y, ev);
		break;
	case YAML_SCALAR_EVENT:
		add_scalar(y, ev);
		break;
	case YAML_SEQUENCE_START_EVENT:
		open_collection(y, ev, YNODE_SEQ);
		break;
	case YAML_MAPPING_START_EVENT:
		open_collection(y, ev, YNODE_MAP);
		break;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		close_collection(y, ev);
		break;
	default:
		break;
	}
	return true;
}
