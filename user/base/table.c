/* SPDX-License-Identifier: BSD-2-Clause */
/* Column tables: see table.h. Cells are kept as text until the widths are known. */
#include "base/table.h"

#include <stdio.h>

#define GAP 3

static uint32_t width_of(const char *text)
{
	uint32_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void table_head(struct table *t, const char *const *headers, uint32_t nr)
{
	t->column_nr = nr > TABLE_COLUMNS_MAX ? TABLE_COLUMNS_MAX : nr;
	for (uint32_t i = 0; i < t->column_nr; i++)
		table_cell(t, str_of(headers[i]));
}

void table_cell(struct table *t, struct str text)
{
	uint32_t column = t->cell_nr % t->column_nr;
	size_t at = t->cells.len;
	uint32_t width;

	buf_str(&t->cells, text.len ? text : STR("<none>"));
	for (size_t i = at; i < t->cells.len; i++) {
		if ((unsigned char)t->cells.data[i] < 0x20 || t->cells.data[i] == 0x7f)
			t->cells.data[i] = '?';
	}
	width = width_of(t->cells.data + at);
	buf_add(&t->cells, "", 1);
	if (width > t->width[column])
		t->width[column] = width;
	t->cell_nr++;
}

void table_cellf(struct table *t, const char *fmt, ...)
{
	struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	table_cell(t, (struct str){ b.data, (uint32_t)b.len });
	buf_release(&b);
}

uint32_t table_rows(const struct table *t)
{
	return t->column_nr ? (t->cell_nr + t->column_nr - 1) / t->column_nr - 1 : 0;
}

void table_print(const struct table *t, struct buf *out)
{
	const char *cell = t->cells.data;

	for (uint32_t i = 0; i < t->cell_nr; i++) {
		uint32_t column = i % t->column_nr;
		bool last = column + 1 == t->column_nr || i + 1 == t->cell_nr;

		buf_str(out, str_of(cell));
		if (last)
			buf_add(out, "\n", 1);
		else
			buf_printf(out, "%*s", (int)(t->width[column] - width_of(cell) + GAP), "");
		cell += strlen(cell) + 1;
	}
}

void table_release(struct table *t)
{
	buf_release(&t->cells);
	*t = (struct table){ 0 };
}

const char *table_age(int64_t s, char *out)
{
	const int64_t m = 60, h = 60 * m, d = 24 * h;

	if (s < 0)
		s = 0;
	/* Two units only while the first is small, as kubectl's HumanDuration does. */
	if (s < 2 * m)
		snprintf(out, 16, "%ds", (int)s);
	else if (s < 10 * m && s % m)
		snprintf(out, 16, "%dm%ds", (int)(s / m), (int)(s % m));
	else if (s < 3 * h)
		snprintf(out, 16, "%dm", (int)(s / m));
	else if (s < 8 * h && s % h / m)
		snprintf(out, 16, "%dh%dm", (int)(s / h), (int)(s % h / m));
	else if (s < 2 * d)
		snprintf(out, 16, "%dh", (int)(s / h));
	else if (s < 8 * d && s % d / h)
		snprintf(out, 16, "%dd%dh", (int)(s / d), (int)(s % d / h));
	else if (s < 2 * 365 * d)
		snprintf(out, 16, "%dd", (int)(s / d));
	else
		snprintf(out, 16, "%dy", (int)(s / (365 * d) > 9999 ? 9999 : s / (365 * d)));
	return out;
}
