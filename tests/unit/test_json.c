/* SPDX-License-Identifier: BSD-2-Clause */
/* user/base/json.c */
#include "base/json.h"

#include <math.h>

#include "guard.h"
#include "test.h"

static const char *as_json(const char *text, uint32_t len)
{
	static struct buf out;
	struct json j;

	buf_clear(&out);
	json_init(&j, &out);
	json_str(&j, (struct str){ text, len });
	return out.data;
}

#define JSON(literal) as_json(literal, sizeof(literal) - 1)

TEST(escapes_what_must_be_escaped)
{
	CHECK_STR(JSON("plain"), "\"plain\"");
	CHECK_STR(JSON(""), "\"\"");
	CHECK_STR(JSON("a\"b\\c/"), "\"a\\\"b\\\\c/\"");
	CHECK_STR(JSON("\n\t\r\x01\x1f\x7f"), "\"\\n\\t\\r\\u0001\\u001f\\u007f\"");
	CHECK_STR(JSON("a\0b"), "\"a\\u0000b\"");
	CHECK_STR(JSON("\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82"), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82\"");
}

TEST(replaces_what_is_no_utf8)
{
	CHECK_STR(JSON("a\xff"), "\"a\xef\xbf\xbd\"");
	CHECK_STR(JSON("\xc3"), "\"\xef\xbf\xbd\"");
	CHECK_STR(JSON("\xc0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
	CHECK_STR(JSON("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	CHECK_STR(JSON("\xf4\x90\x80\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	CHECK_STR(JSON("\xe2\x82x"), "\"\xef\xbf\xbd\xef\xbf\xbdx\"");
}

TEST(commas_and_nesting)
{
	struct buf out = { 0 };
	struct json j;

	json_init(&j, &out);
	json_object(&j);
	json_kstr(&j, "s", STR("v"));
	json_kuint(&j, "u", UINT64_MAX);
	json_kint(&j, "i", INT64_MIN);
	json_kbool(&j, "b", true);
	json_key(&j, "a");
	json_array(&j);
	json_double(&j, 0.25);
	json_double(&j, NAN);
	json_null(&j);
	json_object(&j);
	json_object_end(&j);
	json_array(&j);
	json_array_end(&j);
	json_raw(&j, STR("[1]"));
	json_array_end(&j);
	json_kbool(&j, "z", false);
	json_object_end(&j);
	CHECK_STR(out.data, "{\"s\":\"v\",\"u\":18446744073709551615,\"i\":-9223372036854775808,\"b\":true,"
			    "\"a\":[0.25,null,null,{},[],[1]],\"z\":false}");
	buf_release(&out);
}

TEST(times_are_rfc3339)
{
	struct buf out = { 0 };
	struct json j;

	json_init(&j, &out);
	json_object(&j);
	json_ktime(&j, "t", 1767225599123456789ull);
	json_ktime(&j, "none", 0);
	json_object_end(&j);
	CHECK_STR(out.data, "{\"t\":\"2025-12-31T23:59:59.123456Z\",\"none\":null}");
	buf_release(&out);
}

TEST(reads_no_byte_too_many)
{
	static const char text[] = "\xf0\x9f\x99\x82\xe2\x82\xac\xc3\xa9\"\\";
	struct guard g = guard_new(64);

	for (size_t from = 0; from < sizeof(text) - 1; from++)
		for (size_t len = 0; len < sizeof(text) - from; len++) {
			struct str s = guard_end(&g, text + from, len);

			CHECK(strlen(as_json(s.p, s.len)) >= 2);
		}
	guard_free(&g);
}
