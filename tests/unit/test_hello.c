/* SPDX-License-Identifier: BSD-2-Clause */
/* The first message of TLS: the name in it, in one piece and cut anywhere; and what is none. */
#include "test.h"

#include "guard.h"
#include "hello_bytes.h"
#include "l7/hello.h"

static struct hello hello;

/* Gives it `step` bytes more each time, of which the last stands in front of a guard page. */
static enum hello_result read_by(const struct buf *b, uint32_t step)
{
	struct guard g = guard_new(b->len);
	enum hello_result r = HELLO_MORE;

	hello_begin(&hello);
	for (uint32_t have = 0; have < b->len && r == HELLO_MORE;) {
		struct str piece;

		have = b->len - have < step ? (uint32_t)b->len : have + step;
		piece = guard_end(&g, b->data, have);
		r = hello_scan(&hello, piece.p, piece.len);
	}
	guard_free(&g);
	return r;
}

static void make(struct buf *out, const struct buf *extensions, uint32_t record)
{
	struct buf m = { 0 };

	buf_clear(out);
	hello_message(&m, extensions);
	hello_records(out, &m, record);
	buf_release(&m);
}

/* GREASE, a name, ALPN, versions and an encrypted inner hello. */
static void usual(struct buf *e, struct str name)
{
	static const char inner[250] = "\0\0\1\0\1\7\0\x20";

	buf_clear(e);
	hello_extension(e, 0xfafa, "", 0);
	hello_server_name(e, name);
	hello_extension(e, 16, "\0\14\2h2\10http/1.1", 14);
	hello_extension(e, 43, "\6\xca\xca\3\4\3\3", 7);
	hello_extension(e, 0xfe0d, inner, sizeof(inner));
	hello_extension(e, 0x4a4a, "\0", 1);
}

TEST(name_however_it_is_cut)
{
	static const uint32_t records[] = { 16384, 300, 64, 7, 1 };
	struct buf e = { 0 }, b = { 0 };

	usual(&e, STR("Shop.Example.COM"));
	for (size_t i = 0; i < sizeof(records) / sizeof(*records); i++) {
		make(&b, &e, records[i]);
		for (uint32_t step = 1; step <= b.len; step += step < 80 ? 1 : 37) {
			CHECK_INT(read_by(&b, step), HELLO_WHOLE);
			CHECK(str_is(hello_name(&hello), "shop.example.com"));
			CHECK_INT(hello.at, b.len);
		}
	}
	for (uint32_t len = 0; len < b.len; len++) {
		struct buf part = { .data = b.data, .len = len };

		CHECK_INT(read_by(&part, len ? len : 1), HELLO_MORE);
	}
	buf_release(&e);
	buf_release(&b);
}

TEST(without_a_name)
{
	struct buf e = { 0 }, b = { 0 };

	make(&b, NULL, HELLO_MAX);
	CHECK_INT(read_by(&b, 1), HELLO_WHOLE);
	CHECK_INT(hello.name_len, 0);
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 1), HELLO_WHOLE);
	CHECK_INT(hello.name_len, 0);
	hello_extension(&e, 43, "\2\3\4", 3);
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 1), HELLO_WHOLE);
	CHECK_INT(hello.name_len, 0);
	buf_release(&e);
	buf_release(&b);
}

TEST(names)
{
	static const struct {
		const char *name;
		bool taken;
	} rows[] = {
		{ "a", true },	     { "a-b.c_d.example", true },    { "10.0.0.1", true }, { "a.example.", true },
		{ "a b", false },    { "a\xc3\xa4.example", false }, { "a/b", false },	   { "*.example", false },
		{ "[2001]", false },
	};
	struct buf e = { 0 }, b = { 0 };
	char most[HELLO_NAME_MAX + 1];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		usual(&e, str_of(rows[i].name));
		make(&b, &e, HELLO_MAX);
		CHECK_MSG(read_by(&b, 64) == (rows[i].taken ? HELLO_WHOLE : HELLO_BAD), "%s", rows[i].name);
		CHECK_MSG(!hello.name_len == !rows[i].taken, "%s", rows[i].name);
	}
	usual(&e, (struct str){ "a\0b", 3 });
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 64), HELLO_BAD);
	usual(&e, STR(""));
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 64), HELLO_BAD);
	memset(most, 'x', sizeof(most));
	usual(&e, (struct str){ most, HELLO_NAME_MAX });
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 64), HELLO_WHOLE);
	CHECK_INT(hello.name_len, HELLO_NAME_MAX);
	usual(&e, (struct str){ most, HELLO_NAME_MAX + 1 });
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 64), HELLO_BAD);
	buf_release(&e);
	buf_release(&b);
}

TEST(two_names)
{
	struct buf e = { 0 }, b = { 0 };

	usual(&e, STR("a.example"));
	hello_server_name(&e, STR("b.example"));
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 100), HELLO_BAD);
	/* Two in one list. */
	buf_clear(&e);
	hello_extension(&e, 0, "\0\10\0\0\1a\0\0\1b", 10);
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 100), HELLO_BAD);
	/* Another kind of name. */
	buf_clear(&e);
	hello_extension(&e, 0, "\0\4\1\0\1a", 6);
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 100), HELLO_BAD);
	/* A list that does not fill its extension. */
	buf_clear(&e);
	hello_extension(&e, 0, "\0\4\0\0\1a\0", 7);
	make(&b, &e, HELLO_MAX);
	CHECK_INT(read_by(&b, 100), HELLO_BAD);
	buf_release(&e);
	buf_release(&b);
}

/* One byte of a whole message is another. */
TEST(bytes_changed)
{
	enum { RECORD = 5, BODY = RECORD + 4, SESSION = BODY + 34, CIPHERS = SESSION + 33, COMPRESSIONS = CIPHERS + 8 };
	static const struct {
		const char *name;
		uint32_t at;
		uint8_t to;
	} rows[] = {
		{ "another type of record", 0, 0x17 },
		{ "no version 3", 1, 2 },
		{ "record of more than there may be", 3, 0x41 },
		{ "another message", RECORD, 2 },
		{ "message of more than 16 KiB", RECORD + 1, 1 },
		{ "message that ends before its record", RECORD + 3, 0 },
		{ "SSL 3", BODY + 1, 0 },
		{ "version 2", BODY, 2 },
		{ "session of 33 bytes", SESSION, 33 },
		{ "no cipher suites", CIPHERS + 1, 0 },
		{ "half a cipher suite", CIPHERS + 1, 5 },
		{ "more cipher suites than message", CIPHERS, 0xff },
		{ "no compression", COMPRESSIONS, 0 },
		{ "extensions that do not fill the message", COMPRESSIONS + 3, 0 },
		{ "extension beyond the message", COMPRESSIONS + 6, 0xff },
	};
	struct buf e = { 0 }, b = { 0 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		usual(&e, STR("a.example"));
		make(&b, &e, HELLO_MAX);
		b.data[rows[i].at] = (char)rows[i].to;
		CHECK_MSG(read_by(&b, 1) == HELLO_BAD, "%s", rows[i].name);
		CHECK_MSG(read_by(&b, (uint32_t)b.len) == HELLO_BAD, "%s", rows[i].name);
	}
	buf_release(&e);
	buf_release(&b);
}

TEST(records)
{
	struct buf e = { 0 }, b = { 0 }, m = { 0 };

	/* Empty ones would be many for nothing. */
	usual(&e, STR("a.example"));
	hello_message(&m, &e);
	buf_add(&b, "\x16\3\1\0\0", 5);
	hello_records(&b, &m, HELLO_MAX);
	CHECK_INT(read_by(&b, 3), HELLO_BAD);
	/* Something behind the message in its record. */
	buf_add(&m, "\1\0\0\0", 4);
	buf_clear(&b);
	hello_records(&b, &m, HELLO_MAX);
	CHECK_INT(read_by(&b, 3), HELLO_BAD);
	/* Something between its records. */
	buf_clear(&m);
	hello_message(&m, &e);
	buf_clear(&b);
	hello_records(&b, &m, 100);
	b.data[105] = 0x15;
	CHECK_INT(read_by(&b, 3), HELLO_BAD);
	buf_release(&e);
	buf_release(&b);
	buf_release(&m);
}
