/* SPDX-License-Identifier: BSD-2-Clause */
/* Tables as kubectl prints them. */
#include "test.h"

#include "base/table.h"

static const char *const heads[] = { "NAME", "HOSTS", "AGE" };

TEST(columns_line_up)
{
	struct table t = { 0 };
	struct buf out = { 0 };

	table_head(&t, heads, 3);
	CHECK_INT(table_rows(&t), 0);
	table_cell(&t, STR("reviews"));
	table_cellf(&t, "%s,%s", "a", "b");
	table_cell(&t, STR("5m"));
	table_cell(&t, STR("x"));
	table_cell(&t, STR(""));
	table_cell(&t, STR("1s"));
	CHECK_INT(table_rows(&t), 2);
	table_print(&t, &out);
	CHECK_STR(out.data, "NAME      HOSTS    AGE\n"
			    "reviews   a,b      5m\n"
			    "x         <none>   1s\n");
	buf_release(&out);
	table_release(&t);
}

TEST(width_counts_characters)
{
	struct table t = { 0 };
	struct buf out = { 0 };

	table_head(&t, heads, 2);
	table_cell(&t, STR("zürich-ß"));
	table_cell(&t, STR("a\nb\033"));
	table_print(&t, &out);
	CHECK_STR(out.data, "NAME       HOSTS\nzürich-ß   a?b?\n");
	buf_release(&out);
	table_release(&t);
}

TEST(a_short_last_row)
{
	struct table t = { 0 };
	struct buf out = { 0 };

	table_head(&t, heads, 3);
	table_cell(&t, STR("only"));
	CHECK_INT(table_rows(&t), 1);
	table_print(&t, &out);
	CHECK_STR(out.data, "NAME   HOSTS   AGE\nonly\n");
	buf_release(&out);
	table_release(&t);
}

TEST(ages)
{
	static const struct {
		int64_t s;
		const char *text;
	} rows[] = {
		{ -5, "0s" },	    { 0, "0s" },	 { 119, "119s" },	  { 120, "2m" },
		{ 125, "2m5s" },    { 600, "10m" },	 { 3599, "59m" },	  { 3 * 3600, "3h" },
		{ 11220, "3h7m" },  { 8 * 3600, "8h" },	 { 47 * 3600, "47h" },	  { 48 * 3600, "2d" },
		{ 187200, "2d4h" }, { 86400 * 8, "8d" }, { 86400 * 400, "400d" }, { 86400ll * 800, "2y" },
	};
	char text[16];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		CHECK_STR(table_age(rows[i].s, text), rows[i].text);
}
