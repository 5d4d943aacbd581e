/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text -> pieces -> nodes. The text is cut at its `---` lines first and each piece gets a parser of its own:
 * libyaml cannot go on behind an error, and reads ahead, so that a bad byte in one document would
 * take the ones in front of it along. Gives no meaning to any key.
 */
#include "config/yaml_local.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

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
	yaml_nodes_release(y);
	free(y->masked);
	free(y);
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

static uint32_t skip_blanks(struct str text, uint32_t at)
{
	while (at < text.len && strchr(" \t\r\n", text.p[at]) && text.p[at])
		at++;
	return at;
}

/* Behind the JSON object that begins at `at`. */
static uint32_t object_end(struct str text, uint32_t at)
{
	uint32_t depth = 0;
	bool quoted = false;

	for (; at < text.len; at++) {
		char c = text.p[at];

		if (quoted && c == '\\')
			at++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && c == '{')
			depth++;
		else if (!quoted && c == '}' && !--depth)
			return at + 1;
	}
	return text.len;
}

/*
 * JSON objects may follow each other without a marker, as jq prints them. Where a line begins with an object, the line that the next
 * one begins in; 0: there is none. To YAML nothing can stand behind an object.
 */
static uint32_t next_object(struct str text, uint32_t at)
{
	uint32_t next;

	at = skip_blanks(text, at);
	if (at == text.len || text.p[at] != '{')
		return 0;
	at = object_end(text, at);
	next = skip_blanks(text, at);
	if (next == text.len || text.p[next] != '{')
		return 0;
	while (next > at && text.p[next - 1] != '\n')
		next--;
	return next > at ? next : 0;
}

/* Cuts the next piece: up to the next line with a marker. False at the end of the text. */
static bool next_piece(struct yaml *y)
{
	bool content = false, begun = false;
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
		} else if (!begun && !is_prologue(y->text, at)) {
			uint32_t object = next_object(y->text, at);

			begun = content = true;
			if (object) {
				at = object;
				break;
			}
		}
	}
	y->end = at;
	return true;
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

/* ---- documents ---- */

/* libyaml's reader knows only the byte. */
static void report_reader(struct yaml *y)
{
	size_t len = y->end - y->begin, line = y->line + 1, column = 1;
	size_t at = y->parser.problem_offset < len ? y->parser.problem_offset : len;

	for (const char *p = y->text.p + y->begin; at--; p++) {
		line += *p == '\n';
		column = *p == '\n' ? 1 : column + ((*p & 0xc0) != 0x80);
	}
	yaml_report(y, line, column, "", "the text must be UTF-8 without control characters", "%s", y->parser.problem);
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
		yaml_report_mark(y, &p->problem_mark, hint, "%s", problem);
	} else if (yaml_byte_at(y, &p->problem_mark) < y->end) {
		yaml_report_mark(y, &p->problem_mark, hint, "%s %s in line %zu", problem, p->context,
				 y->line + p->context_mark.line + 1);
	} else if (yaml_byte_at(y, &p->context_mark) >= y->end && y->depth) {
		/* Something was never closed: where it was opened says more than where the text ends. */
		const struct ynode *open = y->frames[y->depth - 1].node;

		yaml_report(y, open->line, open->column, "", hint, "%s %s", problem, p->context);
	} else {
		yaml_report_mark(y, &p->context_mark, hint, "%s %s", problem, p->context);
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
	at = yaml_byte_at(y, &y->parser.problem_mark) - y->begin;
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
			if (*ret_again)
				return true;
			report_parser(y);
			break;
		}
		documents += ev.type == YAML_DOCUMENT_START_EVENT;
		if (documents > 1) {
			yaml_report_mark(y, &ev.start_mark, "end lines with a line feed",
					 "a second document begins here, but not on a line of its own");
			going = false;
		} else {
			going = yaml_take(y, &ev) && ev.type != YAML_STREAM_END_EVENT;
		}
		yaml_event_delete(&ev);
	}
	yaml_close_all(y);
	return documents || y->errors;
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
		y->at_char = y->at_byte = 0;
		yaml_nodes_clear(y);
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
		yaml_report(y, 1, 0, "", "", "the text is larger than %u MiB", YAML_TEXT_MAX >> 20);
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
	root = y->pending_nr ? y->pending[0] : NULL;
	*ret_root = root && root->kind != YNODE_NULL ? root : NULL;
	if (y->errors)
		return -EINVAL;
	*ret_text = lines_of(y, root);
	return 1;
}

const struct ynode *ynode_get(const struct ynode *map, const char *key)
{
	struct str want = str_of(key);

	if (!map || map->kind != YNODE_MAP)
		return NULL;
	for (uint32_t i = 0; i < map->nr; i++)
		if (map->items[2 * i]->kind == YNODE_SCALAR && str_eq(map->items[2 * i]->scalar, want))
			return map->items[2 * i + 1]->kind == YNODE_NULL ? NULL : map->items[2 * i + 1];
	return NULL;
}
