/* SPDX-License-Identifier: BSD-2-Clause */
/* Column tables as kubectl prints them: left-aligned, three spaces between columns, `<none>` for what is empty. */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include "base/str.h"

#define TABLE_COLUMNS_MAX 24

struct table {
	uint32_t column_nr;
	uint32_t width[TABLE_COLUMNS_MAX]; /* in characters */
	struct buf cells;		   /* NUL-terminated texts, row by row */
	uint32_t cell_nr;
};

/* For a zeroed struct table: the headers, which fix the number of columns. */
void table_head(struct table *t, const char *const *headers, uint32_t nr); /* nr <= TABLE_COLUMNS_MAX */
/* Cells go in from left to right, row after row; control characters become '?'. */
void table_cell(struct table *t, struct str text);
void table_cellf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint32_t table_rows(const struct table *t); /* without the headers */
/* Appends the whole table; missing cells of the last row are empty. */
void table_print(const struct table *t, struct buf *out);
void table_release(struct table *t);

/* Age as kubectl writes it ("45s", "12m", "3h7m", "2d4h"), of seconds >= 0. out has 16 bytes; returns out. */
const char *table_age(int64_t seconds, char *out);

#endif
