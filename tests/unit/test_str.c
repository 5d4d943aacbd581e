/* SPDX-License-Identifier: BSD-2-Clause */
/* user/base/str.c */
#include "base/str.h"

#include "test.h"

TEST(compares_in_byte_order)
{
	CHECK(str_cmp(STR("a"), STR("b")) < 0);
	CHECK(str_cmp(STR("b"), STR("a")) > 0);
	CHECK(str_cmp(STR("a"), STR("ab")) < 0);
	CHECK(str_cmp(STR("ab"), STR("a")) > 0);
	CHECK_INT(str_cmp(STR("ab"), STR("ab")), 0);
	CHECK_INT(str_cmp(STR(""), (struct str){ 0 }), 0);
	CHECK(str_cmp(STR("\xff"), STR("a")) > 0);
}

TEST(finds_ends_and_pieces)
{
	CHECK(str_starts(STR("reviews.default"), STR("reviews")));
	CHECK(str_starts(STR("x"), STR("")));
	CHECK(!str_starts(STR("x"), STR("xy")));
	CHECK(str_ends(STR("ServiceList"), STR("List")));
	CHECK(!str_ends(STR("st"), STR("List")));
	CHECK_INT(str_find(STR("a.b.c"), '.'), 1);
	CHECK_INT(str_find(STR("abc"), '.'), -1);
	CHECK_INT(str_find((struct str){ 0 }, '.'), -1);
	CHECK(str_is(str_sub(STR("abcdef"), 2, 3), "cde"));
	CHECK(str_is(str_sub(STR("abc"), 2, 300), "c"));
	CHECK(str_is(str_sub(STR("abc"), 7, 1), ""));
	CHECK(str_is(str_of(NULL), ""));
}

TEST(numbers_are_digits_only)
{
	uint64_t v = 7;

	CHECK(str_to_u64(STR("0"), 10, &v) && v == 0);
	CHECK(str_to_u64(STR("65535"), 65535, &v) && v == 65535);
	CHECK(!str_to_u64(STR("65536"), 65535, &v));
	CHECK(str_to_u64(STR("18446744073709551615"), UINT64_MAX, &v) && v == UINT64_MAX);
	CHECK(!str_to_u64(STR("18446744073709551616"), UINT64_MAX, &v));
	CHECK(!str_to_u64(STR("99999999999999999999"), UINT64_MAX, &v));
	CHECK(!str_to_u64(STR(""), 10, &v));
	CHECK(!str_to_u64(STR("-1"), 10, &v));
	CHECK(!str_to_u64(STR("+1"), 10, &v));
	CHECK(!str_to_u64(STR(" 1"), 10, &v));
	CHECK(!str_to_u64(STR("1x"), 10, &v));
	CHECK(v == UINT64_MAX);
}

TEST(suggests_what_is_near)
{
	static const struct str names[] = { { "subset", 6 }, { "host", 4 }, { "port", 4 }, { "weight", 6 } };

	CHECK_INT(str_nearest(STR("subest"), names, 4), 0);
	CHECK_INT(str_nearest(STR("Host"), names, 4), 1);
	CHECK_INT(str_nearest(STR("ports"), names, 4), 2);
	CHECK_INT(str_nearest(STR("wieght"), names, 4), 3);
	CHECK_INT(str_nearest(STR("timeout"), names, 4), -1);
	CHECK_INT(str_nearest(STR("x"), names, 4), -1);
	CHECK_INT(str_nearest(STR(""), names, 4), -1);
	CHECK_INT(str_nearest(STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), names, 4), -1);
	CHECK_INT(str_nearest(STR("host"), names, 0), -1);
}

TEST(hashes_as_fnv1a)
{
	CHECK(str_hash(STR("")) == 0xcbf29ce484222325ull);
	CHECK(str_hash(STR("a")) == 0xaf63dc4c8601ec8cull);
	CHECK(str_hash(STR("foobar")) == 0x85944171f73967e8ull);
}

TEST(buffer_grows_and_ends_with_nul)
{
	struct buf b = { 0 };

	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%d,", i);
	CHECK_INT(b.len, 10 * 2 + 90 * 3 + 900 * 4);
	CHECK_INT(strlen(b.data), b.len);
	CHECK(!strncmp(b.data, "0,1,2,", 6));
	buf_clear(&b);
	CHECK_STR(b.data, "");
	buf_printf(&b, "%0200d", 5);
	CHECK_INT(b.len, 200);
	buf_add(&b, "\0x", 2);
	CHECK_INT(b.len, 202);
	buf_str(&b, STR("tail"));
	CHECK_STR(b.data + 202, "tail");
	buf_release(&b);
	CHECK(!b.data && !b.len && !b.cap);
}

/* Lengths around each power of two, where the text just fits or does not. */
TEST(buffer_formats_at_every_length)
{
	for (int len = 0; len < 300; len++) {
		struct buf b = { 0 };

		buf_printf(&b, "%*s", len, "");
		CHECK_INT(b.len, len);
		buf_printf(&b, "%s", "x");
		CHECK_INT(strlen(b.data), len + 1);
		buf_release(&b);
	}
}
