/* SPDX-License-Identifier: BSD-2-Clause */
/* Unified diffs. */
#include "test.h"

#include "base/linediff.h"

static void check(const char *a, const char *b, const char *want)
{
	struct buf out = { 0 };

	linediff(&out, str_of(a), str_of(b), false);
	CHECK_STR(out.data ? out.data : "", want);
	buf_release(&out);
}

TEST(equal)
{
	check("", "", "");
	check("a\nb\n", "a\nb\n", "");
}

TEST(from_and_to_nothing)
{
	check("", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n");
	check("a\n", "", "@@ -1,1 +0,0 @@\n-a\n");
}

TEST(context)
{
	check("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n",
	      "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
}

TEST(two_hunks)
{
	check("a\n1\n2\n3\n4\n5\n6\n7\n8\nz\n", "b\n1\n2\n3\n4\n5\n6\n7\n8\ny\n",
	      "@@ -1,4 +1,4 @@\n-a\n+b\n 1\n 2\n 3\n@@ -7,4 +7,4 @@\n 6\n 7\n 8\n-z\n+y\n");
}

TEST(moved_and_inserted)
{
	check("a\nb\nc\n", "b\nx\nc\n", "@@ -1,3 +1,3 @@\n-a\n b\n+x\n c\n");
}

TEST(colour)
{
	struct buf out = { 0 };

	linediff(&out, STR("a\n"), STR("b\n"), true);
	CHECK_STR(out.data, "\033[36m@@ -1,1 +1,1 @@\033[0m\n\033[31m-a\033[0m\n\033[32m+b\033[0m\n");
	buf_release(&out);
}

TEST(too_large_for_the_table)
{
	struct buf a = { 0 }, b = { 0 }, out = { 0 };
	uint32_t minus = 0, plus = 0;

	for (int i = 0; i < 6000; i++) {
		buf_printf(&a, "a%d\n", i);
		buf_printf(&b, "b%d\n", i);
	}
	linediff(&out, (struct str){ a.data, (uint32_t)a.len }, (struct str){ b.data, (uint32_t)b.len }, false);
	for (size_t i = 0; i < out.len; i++) {
		minus += out.data[i] == '\n' && out.data[i + 1] == '-';
		plus += out.data[i] == '\n' && out.data[i + 1] == '+';
	}
	CHECK_INT(minus, 6000);
	CHECK_INT(plus, 6000);
	buf_release(&a);
	buf_release(&b);
	buf_release(&out);
}
