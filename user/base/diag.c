/* SPDX-License-Identifier: BSD-2-Clause */
/* Collects diags and renders one. Decides nothing, and never writes anywhere but into buffers. */
#include "base/diag.h"

#include <stdio.h>
#include <stdlib.h>

/* Of a longer source line only this many bytes are kept, around the column: JSON comes as one line
 * of megabytes. */
#define SOURCE_MAX 160
#define SOURCE_BEFORE 80

/* Errors and others of one document (item 0: of the document with all its items). A zero key is a
 * free slot. */
struct diag_count {
	uint64_t key;
	uint32_t errors, others;
};

static uint64_t count_key(struct str file, uint32_t document, uint32_t item)
{
	uint64_t h = str_hash(file);

	h = (h ^ document) * 0x9e3779b97f4a7c15ull;
	h = (h ^ (h >> 29) ^ item) * 0xbf58476d1ce4e5b9ull;
	h ^= h >> 32;
	return h ? h : 1;
}

static struct diag_count *count_find(const struct diags *d, uint64_t key)
{
	for (uint32_t i = (uint32_t)key & (d->count_cap - 1); d->count_cap && d->counts[i].key;
	     i = (i + 1) & (d->count_cap - 1))
		if (d->counts[i].key == key)
			return &d->counts[i];
	return NULL;
}

static void count_grow(struct diags *d)
{
	struct diag_count *old = d->counts;
	uint32_t old_cap = d->count_cap;

	d->count_cap = old_cap ? old_cap * 2 : 64;
	d->counts = xcalloc(d->count_cap, sizeof(*d->counts));
	for (uint32_t i = 0; i < old_cap; i++) {
		uint32_t at = (uint32_t)old[i].key & (d->count_cap - 1);

		if (!old[i].key)
			continue;
		while (d->counts[at].key)
			at = (at + 1) & (d->count_cap - 1);
		d->counts[at] = old[i];
	}
	free(old);
}

static struct diag_count *count_get(struct diags *d, uint64_t key)
{
	struct diag_count *c = count_find(d, key);
	uint32_t i;

	if (c)
		return c;
	if (d->count_nr * 2 >= d->count_cap)
		count_grow(d);
	d->count_nr++;
	for (i = (uint32_t)key & (d->count_cap - 1); d->counts[i].key;)
		i = (i + 1) & (d->count_cap - 1);
	d->counts[i].key = key;
	return &d->counts[i];
}

/* Counts one diag in; true when it is to be kept. */
static bool count_in(struct diags *d, enum diag_level level, const struct where *at)
{
	struct diag_count *c;

	if (level == DIAG_ERROR)
		d->errors++;
	else if (level == DIAG_WARNING)
		d->warnings++;
	if (at->item) {
		c = count_get(d, count_key(at->file, at->document, 0));
		c->errors += level == DIAG_ERROR;
	}
	c = count_get(d, count_key(at->file, at->document, at->item));
	if (level == DIAG_ERROR)
		return c->errors++ < DIAG_PER_DOCUMENT;
	return c->others++ < DIAG_PER_DOCUMENT;
}

uint32_t diag_errors_in(const struct diags *d, struct str file, uint32_t document)
{
	const struct diag_count *c = count_find(d, count_key(file, document, 0));

	return c ? c->errors : 0;
}

uint32_t diag_errors_at(const struct diags *d, const struct where *at)
{
	const struct diag_count *c = count_find(d, count_key(at->file, at->document, at->item));

	return c ? c->errors : 0;
}

void diags_release(struct diags *d)
{
	arena_release(&d->arena);
	free(d->items);
	free(d->counts);
	*d = (struct diags){ 0 };
}

void diags_source(struct diags *d, struct str text, uint32_t line, uint32_t indent)
{
	d->text = text;
	d->text_line = line;
	d->text_indent = indent;
}

static bool utf8_continues(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Bytes in front of the `chars`-th character (0-based) of a line, or the whole line. */
static uint32_t bytes_of(struct str line, uint32_t chars)
{
	uint32_t i = 0;

	while (i < line.len && chars) {
		do
			i++;
		while (i < line.len && utf8_continues(line.p[i]));
		chars--;
	}
	return i;
}

/* The line `at` names, without its end; false when the text does not have it. */
static bool find_line(const struct diags *d, uint32_t number, struct str *ret)
{
	struct str rest = d->text;
	int end;

	if (!rest.len || number < d->text_line)
		return false;
	for (uint32_t line = d->text_line; line < number; line++) {
		end = str_find(rest, '\n');
		if (end < 0)
			return false;
		rest = str_sub(rest, (uint32_t)end + 1, UINT32_MAX);
	}
	end = str_find(rest, '\n');
	if (end >= 0)
		rest.len = (uint32_t)end;
	if (rest.len && rest.p[rest.len - 1] == '\r')
		rest.len--;
	*ret = rest;
	return true;
}

static void cut_source(struct diags *d, struct diag *g)
{
	struct str line;
	uint32_t column = g->at.column, from = 0, at, len, lead;
	char *p;

	if (!g->at.line || !find_line(d, g->at.line, &line))
		return;
	column = column > d->text_indent ? column - d->text_indent : 1;
	at = bytes_of(line, column - 1);
	if (line.len > SOURCE_MAX && at > SOURCE_BEFORE)
		for (from = at - SOURCE_BEFORE; from < at && utf8_continues(line.p[from]);)
			from++;
	len = line.len - from;
	if (len > SOURCE_MAX)
		for (len = SOURCE_MAX; len && utf8_continues(line.p[from + len]);)
			len--;
	/* Give back the columns that were cut, so that it looks as in the user's file. */
	lead = from || d->text_indent > SOURCE_BEFORE ? 0 : d->text_indent;
	p = arena_alloc(&d->arena, lead + len);
	memset(p, ' ', lead);
	memcpy(p + lead, line.p + from, len);
	g->source = (struct str){ p, lead + len };
	if (!g->at.column)
		return;
	g->caret = lead + 1;
	if (!from)
		g->caret += column - 1;
	for (uint32_t i = from; from && i < at; i++)
		g->caret += !utf8_continues(line.p[i]);
}

void diag_add(struct diags *d, enum diag_level level, struct where at, struct str field, struct str hint,
	      const char *fmt, ...)
{
	char text[512];
	struct diag *g;
	va_list ap;

	if (!count_in(d, level, &at))
		return;
	if (d->nr == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 16;
		d->items = xrealloc(d->items, d->cap * sizeof(*d->items));
	}
	g = &d->items[d->nr];
	*g = (struct diag){ .level = level, .at = at };
	/* Runs of diags name the same file: one copy serves them. */
	if (d->nr && str_eq(d->items[d->nr - 1].at.file, at.file))
		g->at.file = d->items[d->nr - 1].at.file;
	else
		g->at.file = arena_str(&d->arena, at.file);
	d->nr++;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	g->message = arena_str(&d->arena, str_of(text));
	g->field = arena_str(&d->arena, field);
	g->hint = arena_str(&d->arena, hint);
	cut_source(d, g);
}

/* The user's bytes go to a terminal: whatever could steer it becomes a question mark. */
static void put_safe(struct buf *out, struct str s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool c1 = c == 0xc2 && i + 1 < s.len && (unsigned char)s.p[i + 1] < 0xa0;

		if (c1)
			i++;
		if (c1 || (c < 0x20 && c != '\t') || c == 0x7f)
			buf_add(out, "?", 1);
		else
			buf_add(out, s.p + i, 1);
	}
}

static void put_source(struct buf *out, const struct diag *g, const char *on, const char *off)
{
	uint32_t column = 1;

	if (!g->source.len)
		return;
	buf_str(out, STR("  "));
	put_safe(out, g->source);
	buf_add(out, "\n", 1);
	if (!g->caret)
		return;
	buf_str(out, STR("  "));
	/* Tabs stay tabs, so that the caret stands under its column whatever their width. */
	for (uint32_t i = 0; i < g->source.len && column < g->caret; i++) {
		if (utf8_continues(g->source.p[i]))
			continue;
		buf_add(out, g->source.p[i] == '\t' ? "\t" : " ", 1);
		column++;
	}
	for (; column < g->caret; column++)
		buf_add(out, " ", 1);
	buf_printf(out, "%s^%s\n", on, off);
}

void diag_print(struct buf *out, const struct diag *g, bool colour)
{
	static const char *const names[] = { [DIAG_ERROR] = "error", [DIAG_WARNING] = "warning", [DIAG_NOTE] = "note" };
	static const char *const colours[] = {
		[DIAG_ERROR] = "\033[1;31m", [DIAG_WARNING] = "\033[1;33m", [DIAG_NOTE] = "\033[1;36m"
	};
	const char *on = colour ? colours[g->level] : "", *off = colour ? "\033[0m" : "";

	put_safe(out, g->at.file);
	if (g->at.line)
		buf_printf(out, ":%u", g->at.line);
	if (g->at.line && g->at.column)
		buf_printf(out, ":%u", g->at.column);
	buf_printf(out, ": %s%s:%s ", on, names[g->level], off);
	if (g->field.len) {
		put_safe(out, g->field);
		buf_str(out, STR(": "));
	}
	put_safe(out, g->message);
	buf_add(out, "\n", 1);
	put_source(out, g, on, off);
	if (g->hint.len) {
		buf_str(out, STR("hint: "));
		put_safe(out, g->hint);
		buf_add(out, "\n", 1);
	}
}
