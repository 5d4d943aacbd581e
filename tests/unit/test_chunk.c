/* SPDX-License-Identifier: BSD-2-Clause */
/* Chunked bodies: what they hold, where they end, and what is none; in one piece and cut anywhere. */
#include "test.h"

#include "guard.h"
#include "l7/chunk.h"

static struct chunk chunk;

/* Reads text in pieces of `step` bytes. The result, the body in *out, bytes used in *ret_used. */
static enum chunk_result read_by(struct str text, uint32_t step, struct buf *out, uint32_t *ret_used)
{
	struct guard g = guard_new(text.len);
	enum chunk_result r = CHUNK_MORE;
	uint32_t at = 0;

	chunk_begin(&chunk);
	buf_clear(out);
	while (at < text.len && (r == CHUNK_MORE || r == CHUNK_DATA)) {
		struct str piece = guard_end(&g, text.p + at, text.len - at < step ? text.len - at : step), data;
		uint32_t used = 0;

		r = chunk_read(&chunk, piece.p, piece.len, &used, &data);
		buf_str(out, data);
		at += used;
	}
	*ret_used = at;
	guard_free(&g);
	return r;
}

struct row {
	const char *name, *text, *body; /* body NULL: refused */
	const char *trailer;
};

static const struct row rows[] = {
	{ "one", "5\r\nhello\r\n0\r\n\r\n", "hello", "" },
	{ "two, and what follows stays", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\nGET", "abc", "" },
	{ "nothing", "0\r\n\r\n", "", "" },
	{ "capitals and zeros", "0A\r\n0123456789\r\n000\r\n\r\n", "0123456789", "" },
	{ "extensions", "1;a=b;c=\"d;\\\"\"\r\nx\r\n0;e\r\n\r\n", "x", "" },
	{ "trailers", "1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", "x", "A: b\r\nC: d\r\n" },
	{ "no size", "\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "size with a prefix", "0x1\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "size with a sign", "+1\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "size with a space behind", "1 \r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "size with a space in front", " 1\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "size of 16 digits", "0000000000000001\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "size around 2^64", "10000000000000001\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "bare line feed behind the size", "1\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "carriage return alone behind the size", "1\rx\r\n0\r\n\r\n", NULL, NULL },
	{ "bare line feed behind the data", "1\r\nx\n0\r\n\r\n", NULL, NULL },
	{ "data longer than said", "1\r\nxy\r\n0\r\n\r\n", NULL, NULL },
	{ "line feed in an extension", "1;a\nb\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "control byte in an extension", "1;a\x01\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "line end in a quoted extension", "1;a=\"\r\nx\r\n0\r\n\r\n", NULL, NULL },
	{ "bare line feed at the end", "0\r\n\n", NULL, NULL },
	{ "trailer with a length", "0\r\nContent-Length: 5\r\n\r\n", NULL, NULL },
	{ "trailer with a coding", "0\r\ntransfer-encoding: chunked\r\n\r\n", NULL, NULL },
	{ "trailer with a host", "0\r\nHost: a\r\n\r\n", NULL, NULL },
	{ "trailer that is no field", "0\r\nx\r\n\r\n", NULL, NULL },
	{ "folded trailer", "0\r\nA: b\r\n c\r\n\r\n", NULL, NULL },
	{ "bare line feed in a trailer", "0\r\nA: b\nC: d\r\n\r\n", NULL, NULL },
	{ "carriage return alone in a trailer", "0\r\nA: b\rC: d\r\n\r\n", NULL, NULL },
};

TEST(bodies)
{
	struct buf out = { 0 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct row *r = &rows[i];
		struct str text = str_of(r->text);
		const char *follows = strstr(r->text, "GET");

		for (uint32_t step = 1; step <= text.len; step++) {
			uint32_t used = 0;
			enum chunk_result got = read_by(text, step, &out, &used);

			CHECK_MSG(got == (r->body ? CHUNK_END : CHUNK_BAD), "%s by %u: %d", r->name, step, got);
			if (!r->body)
				continue;
			CHECK_STR(out.data ? out.data : "", r->body);
			CHECK(str_is((struct str){ chunk.trailer, chunk.trailer_len }, r->trailer));
			CHECK_INT(used, follows ? (size_t)(follows - r->text) : text.len);
		}
	}
	buf_release(&out);
}

TEST(more_to_come)
{
	static const char text[] = "5\r\nhello\r\n0\r\nA: b\r\n\r\n";
	struct buf out = { 0 };
	uint32_t used;

	for (uint32_t len = 1; len < sizeof(text) - 1; len++) {
		enum chunk_result r = read_by((struct str){ text, len }, len, &out, &used);

		CHECK_MSG(r == CHUNK_MORE || r == CHUNK_DATA, "%u bytes: %d", len, r);
		CHECK_INT(used, len);
	}
	buf_release(&out);
}

TEST(bounded)
{
	struct buf text = { 0 }, out = { 0 };
	uint32_t used;

	buf_str(&text, STR("1;"));
	for (int i = 0; i <= CHUNK_EXT_MAX; i++)
		buf_str(&text, STR("a"));
	buf_str(&text, STR("\r\nx\r\n0\r\n\r\n"));
	CHECK_INT(read_by((struct str){ text.data, (uint32_t)text.len }, 100, &out, &used), CHUNK_BAD);
	buf_clear(&text);
	buf_str(&text, STR("0\r\n"));
	for (int i = 0; i <= CHUNK_TRAILER_MAX / 6; i++)
		buf_str(&text, STR("A: b\r\n"));
	buf_str(&text, STR("\r\n"));
	CHECK_INT(read_by((struct str){ text.data, (uint32_t)text.len }, 1000, &out, &used), CHUNK_BAD);
	buf_release(&text);
	buf_release(&out);
}
