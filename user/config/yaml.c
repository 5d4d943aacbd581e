/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text -> nodes. The text is cut at its `---` lines first and each piece gets a parser of its own:
 * libyaml cannot go on behind an error, and reads ahead, so that a bad byte in one document would
 * take the ones in front of it along. Gives no meaning to any key.
 */
#include "config/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <yaml.h>

/* A collection that is not closed yet. */
struct frame {
	struct ynode *node;
	uint32_t base; /* of its items in y->pending */
};

struct yaml {
	struct str file, text;
	uint32_t begin, end; /* of the piece in hand */
	uint32_t line;	     /* of its first character, 0-based */
	uint32_t document;

	/* One piece. libyaml counts characters; `at_char` characters of the piece are `at_byte`
	 * bytes. */
	yaml_parser_t parser;
	bool ascii;
	size_t at_char, at_byte;
	struct frame frames[YAML_DEPTH_MAX];
	uint32_t depth, nodes;
	uint32_t errors;
	struct arena *arena;
	struct diags *diags;
	/* The piece as the parser sees it: the text, or a copy with colons masked. */
	const char *input;
	char *masked;
	size_t budget; /* bytes that may be parsed again, over the whole text */

	/* Items of all open collections, innermost last. */
	struct ynode **pending;
	uint32_t pending_nr, pending_cap;
	/* Keys of one large map, by hash, to find duplicates. */
	const struct ynode **keys;
	uint32_t keys_cap;
};

struct yaml *yaml_open(struct str file, struct str text)
{
	struct yaml *y = xcalloc(1, sizeof(*y));

	y->file = file;
	y->text = text.len ? text : STR("");
	y->budget = (size_t)text.len * 4 + (1u << 20);
	/* A byte order mark may stand in front of UTF-8; it is no character of the first line. */
	if (str_starts(text, STR("\xef\xbb\xbf")))
		y->end = 3;
	return y;
}

void yaml_close(struct yaml *y)
{
	free(y->pending);
	free(y->keys);
	free(y->masked);
	free(y);
}

static void __attribute__((format(printf, 5, 6)))
report(struct yaml *y, size_t line, size_t column, const char *hint, const char *fmt, ...)
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
	diag_add(y->diags, DIAG_ERROR, at, STR(""), str_of(hint), "%s", text);
}

static void __attribute__((format(printf, 4, 5)))
report_mark(struct yaml *y, const yaml_mark_t *mark, const char *hint, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	report(y, y->line + mark->line + 1, mark->column + 1, hint, "%s", text);
}

/* ---- pieces ---- */

/* "---" or "..." and then white space or the end. */
static bool is_marker(struct str text, uint32_t at, char c)
{
	const char *p = text.p + at;
	uint32_t left = text.len - at;

	if (left < 3 || p[0] != c || p[1] != c || p[2] != c)
		return false;
	return left == 3 || p[3] == ' ' || p[3] == '\t' || p[3] == '\r' || p[3] == '\n';
}

static uint32_t next_line(struct str text, uint32_t at)
{
	const char *end = at < text.len ? memchr(text.p + at, '\n', text.len - at) : NULL;

	return end ? (uint32_t)(end - text.p) + 1 : text.len;
}

/* Nothing in this line makes a document: blank, comment or directive. */
static bool is_prologue(struct str text, uint32_t at)
{
	if (text.p[at] == '%')
		return true;
	while (at < text.len && (text.p[at] == ' ' || text.p[at] == '\t' || text.p[at] == '\r'))
		at++;
	return at == text.len || text.p[at] == '\n' || text.p[at] == '#';
}

/* Cuts the next piece: up to the next line with a marker. False at the end of the text. */
static bool next_piece(struct yaml *y)
{
	bool content = false;
	const char *p;
	uint32_t at;

	for (at = y->begin; (p = memchr(y->text.p + at, '\n', y->end - at)); y->line++)
		at = (uint32_t)(p - y->text.p) + 1;
	y->begin = y->end;
	if (y->begin == y->text.len)
		return false;
	for (at = y->begin; at < y->text.len; at = next_line(y->text, at)) {
		if (is_marker(y->text, at, '-')) {
			if (content)
				break;
			content = true;
		} else if (is_marker(y->text, at, '.')) {
			at = next_line(y->text, at);
			break;
		} else if (!content) {
			content = !is_prologue(y->text, at);
		}
	}
	y->end = at;
	return true;
}

/* Byte offset in the whole text of a libyaml mark. Marks go forward but for a few characters. */
static uint32_t byte_at(struct yaml *y, const yaml_mark_t *mark)
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

static bool all_ascii(const char *p, size_t len)
{
	uint64_t seen = 0;

	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		seen |= v;
	}
	while (len--)
		seen |= (unsigned char)*p++;
	return !(seen & 0x8080808080808080ull);
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
	n->begin = byte_at(y, &ev->start_mark);
	n->end = byte_at(y, &ev->end_mark);
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
		report(y, n->line, n->column, "write the fields out", "merge keys are not accepted");
		return;
	}
	type = yscalar_type(n->scalar);
	if (type == YTYPE_STR || str_is(n->scalar, "true") || str_is(n->scalar, "false"))
		return;
	if (type == YTYPE_INT && str_to_u64(n->scalar, INT64_MAX, &v) && (n->scalar.p[0] != '0' || n->scalar.len == 1))
		return;
	report(y, n->line, n->column, "quote it", "key `%.*s` is %s in YAML, not a string",
	       (int)(n->scalar.len < 64 ? n->scalar.len : 64), n->scalar.p, ytype_text(type));
}

/* Anchors and tags change what a node means. */
static void check_properties(struct yaml *y, const yaml_event_t *ev, const yaml_char_t *anchor, const yaml_char_t *tag)
{
	if (anchor)
		report_mark(y, &ev->start_mark, "write the value out where it is used",
			    "anchors are not accepted: `&%.64s`", (const char *)anchor);
	if (tag) {
		static const char core[] = "tag:yaml.org,2002:";
		const char *text = (const char *)tag;
		bool is_core = !strncmp(text, core, sizeof(core) - 1);

		report_mark(y, &ev->start_mark, "quote the value to make it a string",
			    "tags are not accepted: `%s%.64s`", is_core ? "!!" : "",
			    text + (is_core ? sizeof(core) - 1 : 0));
	}
}

static void add_scalar(struct yaml *y, const yaml_event_t *ev)
{
	struct str value = { (const char *)ev->data.scalar.value, (uint32_t)ev->data.scalar.length };
	bool key = at_key(y);
	struct ynode *n;
	uint32_t skip;

	check_properties(y, ev, ev->data.scalar.anchor, ev->data.scalar.tag);
	n = new_node(y, ev, YNODE_SCALAR);
	n->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	/* Most scalars stand in the text as they are; what was masked is only known from there. */
	skip = n->quoted ? 1 : 0;
	if (n->end - n->begin == value.len + 2 * skip &&
	    !memcmp(y->input + (n->begin - y->begin) + skip, value.p, value.len))
		n->scalar = (struct str){ y->text.p + n->begin + skip, value.len };
	else if (!y->masked || !memcmp(y->input + (n->begin - y->begin), y->text.p + n->begin, n->end - n->begin))
		n->scalar = arena_str(y->arena, value);
	else
		report_mark(y, &ev->start_mark, "quote it", "found unexpected ':' in a plain scalar");
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

	if (map)
		check_properties(y, ev, ev->data.mapping_start.anchor, ev->data.mapping_start.tag);
	else
		check_properties(y, ev, ev->data.sequence_start.anchor, ev->data.sequence_start.tag);
	if (at_key(y))
		report_mark(y, &ev->start_mark, "", "a key must be a string, this is %s", map ? "an object" : "a list");
	n = new_node(y, ev, kind);
	n->flow = map ? ev->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
		      : ev->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
	push(y, n);
	y->frames[y->depth++] = (struct frame){ n, y->pending_nr };
}

static void check_pair(struct yaml *y, const struct ynode *key, const struct ynode *first)
{
	report(y, key->line, key->column, "", "duplicate key `%.*s`, first given in line %u",
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

static void close_collection(struct yaml *y, const yaml_event_t *ev)
{
	struct frame *f = &y->frames[--y->depth];
	uint32_t nr = y->pending_nr - f->base;
	struct ynode **items = y->pending + f->base;
	struct ynode *n = f->node;

	n->nr = n->kind == YNODE_MAP ? nr / 2 : nr;
	n->items = arena_array(y->arena, nr, sizeof(*items));
	if (nr)
		memcpy(n->items, items, nr * sizeof(*items));
	y->pending_nr = f->base;
	if (n->flow)
		n->end = byte_at(y, &ev->end_mark);
	else if (nr)
		/* libyaml puts the end of a block at the next token; comments in between belong to
		 * that. */
		n->end = n->items[nr - 1]->end;
	if (n->kind == YNODE_MAP)
		check_duplicates(y, n->items, n->nr);
}

/* ---- documents ---- */

/* Takes one event in. False: the rest of the document makes no sense any more. */
static bool take(struct yaml *y, const yaml_event_t *ev)
{
	bool opens = ev->type == YAML_MAPPING_START_EVENT || ev->type == YAML_SEQUENCE_START_EVENT;

	if (opens && y->depth == YAML_DEPTH_MAX) {
		report_mark(y, &ev->start_mark, "", "nested deeper than %d levels", YAML_DEPTH_MAX);
		return false;
	}
	if ((opens || ev->type == YAML_SCALAR_EVENT) && ++y->nodes > YAML_NODES_MAX) {
		report_mark(y, &ev->start_mark, "split it into several documents",
			    "the document has more than %u values", YAML_NODES_MAX);
		return false;
	}
	switch (ev->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (ev->data.document_start.tag_directives.start != ev->data.document_start.tag_directives.end)
			report_mark(y, &ev->start_mark, "", "tags are not accepted: %%TAG directive");
		break;
	case YAML_ALIAS_EVENT:
		report_mark(y, &ev->start_mark, "write the value out", "aliases are not accepted: `*%.64s`",
			    (const char *)ev->data.alias.anchor);
		push(y, new_node(y, ev, at_key(y) ? YNODE_SCALAR : YNODE_NULL));
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

/* libyaml's reader knows only the byte. */
static void report_reader(struct yaml *y)
{
	size_t len = y->end - y->begin, line = y->line + 1, column = 1;
	size_t at = y->parser.problem_offset < len ? y->parser.problem_offset : len;

	for (const char *p = y->text.p + y->begin; at--; p++) {
		line += *p == '\n';
		column = *p == '\n' ? 1 : column + ((*p & 0xc0) != 0x80);
	}
	report(y, line, column, "the text must be UTF-8 without control characters", "%s", y->parser.problem);
}

static void report_parser(struct yaml *y)
{
	const yaml_parser_t *p = &y->parser;
	const char *problem = p->problem ? p->problem : "cannot be read";
	const char *hint = "";

	if (p->error == YAML_READER_ERROR) {
		report_reader(y);
		return;
	}
	if (strstr(problem, "cannot start any token"))
		hint = "indent with spaces, and quote values that begin so";
	if (!p->context || !strcmp(p->context, "while scanning for the next token")) {
		report_mark(y, &p->problem_mark, hint, "%s", problem);
	} else if (byte_at(y, &p->problem_mark) < y->end) {
		report_mark(y, &p->problem_mark, hint, "%s %s in line %zu", problem, p->context,
			    y->line + p->context_mark.line + 1);
	} else if (byte_at(y, &p->context_mark) >= y->end && y->depth) {
		/* Something was never closed: where it was opened says more than where the text ends. */
		const struct ynode *open = y->frames[y->depth - 1].node;

		report(y, open->line, open->column, hint, "%s %s", problem, p->context);
	} else {
		report_mark(y, &p->context_mark, hint, "%s %s", problem, p->context);
	}
}

/*
 * libyaml refuses a plain scalar in brackets that ends in a colon, as in [2001:db8::], which
 * upstream's reader takes. Masks such colons from here to the end of the line. False: that is not
 * what is wrong.
 */
static bool mask_colons(struct yaml *y)
{
	static const char problem[] = "found unexpected ':'";
	uint32_t len = y->end - y->begin, at;

	if (y->errors || y->parser.error != YAML_SCANNER_ERROR || strcmp(y->parser.problem, problem))
		return false;
	at = byte_at(y, &y->parser.problem_mark) - y->begin;
	if (at == 0 || at + 1 >= len || y->budget < len)
		return false;
	y->budget -= len;
	if (!y->masked) {
		y->masked = xmalloc(len);
		memcpy(y->masked, y->input, len);
		y->input = y->masked;
	}
	y->masked[at] = '.';
	for (at++; at + 1 < len && y->masked[at] != '\n'; at++) {
		char before = y->masked[at - 1], after = y->masked[at + 1];

		if (y->masked[at] == ':' && (before == ':' || isxdigit((unsigned char)before)) &&
		    (after == ',' || after == ']'))
			y->masked[at] = '.';
	}
	return true;
}

/* Runs the parser over the piece. True when it holds a document, empty or not. */
static bool parse_piece(struct yaml *y, bool *ret_again)
{
	uint32_t documents = 0;
	bool going = true;

	*ret_again = false;
	while (going) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&y->parser, &ev)) {
			*ret_again = mask_colons(y);
			if (!*ret_again)
				report_parser(y);
			return true;
		}
		documents += ev.type == YAML_DOCUMENT_START_EVENT;
		if (documents > 1) {
			report_mark(y, &ev.start_mark, "end lines with a line feed",
				    "a second document begins here, but not on a line of its own");
			going = false;
		} else {
			going = take(y, &ev) && ev.type != YAML_STREAM_END_EVENT;
		}
		yaml_event_delete(&ev);
	}
	return documents > 0;
}

static bool read_piece(struct yaml *y)
{
	uint32_t len = y->end - y->begin;
	bool again, document;

	free(y->masked);
	y->masked = NULL;
	y->input = y->text.p + y->begin;
	y->ascii = all_ascii(y->input, len);
	y->errors = 0;
	do {
		y->at_char = y->at_byte = y->depth = y->nodes = y->pending_nr = 0;
		if (!yaml_parser_initialize(&y->parser))
			abort();
		yaml_parser_set_encoding(&y->parser, YAML_UTF8_ENCODING);
		yaml_parser_set_input_string(&y->parser, (const unsigned char *)y->input, len);
		document = parse_piece(y, &again);
		yaml_parser_delete(&y->parser);
	} while (again);
	return document;
}

/* The lines from the one the root begins in to the one it ends in. */
static struct str lines_of(const struct yaml *y, const struct ynode *root)
{
	uint32_t from = root->begin, to = root->end;

	while (from > y->begin && y->text.p[from - 1] != '\n')
		from--;
	/* `--- {a: b}`: the marker is not part of the document. */
	if (is_marker(y->text, from, '-'))
		from = root->begin;
	if (to == from || y->text.p[to - 1] != '\n')
		to = next_line(y->text, to);
	return (struct str){ y->text.p + from, (to < y->end ? to : y->end) - from };
}

int yaml_next(struct yaml *y, struct arena *arena, struct diags *diags, struct ynode **ret_root, uint32_t *ret_document,
	      struct str *ret_text)
{
	struct ynode *root;
	bool document;

	y->arena = arena;
	y->diags = diags;
	*ret_document = y->document + 1;
	*ret_text = STR("");
	if (y->text.len > YAML_TEXT_MAX) {
		y->document++;
		y->begin = y->end = y->text.len = 0;
		report(y, 1, 0, "", "the text is larger than %u MiB", YAML_TEXT_MAX >> 20);
		return -EINVAL;
	}
	do {
		if (!next_piece(y))
			return 0;
		diags_source(diags, str_sub(y->text, y->begin, y->end - y->begin), y->line + 1, 0);
		y->document++;
		document = read_piece(y);
		y->document -= !document;
	} while (!document);
	*ret_document = y->document;
	if (y->errors)
		return -EINVAL;
	root = y->pending[0];
	*ret_text = lines_of(y, root);
	*ret_root = root->kind == YNODE_NULL ? NULL : root;
	return 1;
}

const struct ynode *ynode_get(const struct ynode *map, const char *key)
{
	struct str want = str_of(key);

	if (!map || map->kind != YNODE_MAP)
		return NULL;
	for (uint32_t i = 0; i < map->nr; i++)
		if (str_eq(map->items[2 * i]->scalar, want))
			return map->items[2 * i + 1]->kind == YNODE_NULL ? NULL : map->items[2 * i + 1];
	return NULL;
}
