/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: what is encoded decodes, and nothing hostile reads past the end (run under ASan, at every prefix). */
#include "test.h"

#include <errno.h>

#include "base/wire.h"

static struct buf sample(void)
{
	struct buf b = { 0 };

	wire_begin(&b, WIRE_APPLY);
	wire_add(&b, STR("file:a.yaml"), STR("kind: Service\n"));
	wire_add(&b, STR("dry-run"), STR("1"));
	wire_add(&b, STR(""), STR(""));
	wire_end(&b);
	return b;
}

TEST(round_trip)
{
	struct buf b = sample();
	struct wire_header h = { 0 };
	struct wire_part p;
	uint32_t at = 0;
	struct str body;

	CHECK_INT(wire_header_decode((uint8_t *)b.data, &h), 0);
	CHECK_INT(h.version, WIRE_VERSION);
	CHECK_INT(h.type, WIRE_APPLY);
	CHECK_INT(h.part_nr, 3);
	CHECK_INT(h.body_len, b.len - WIRE_HEADER_LEN);
	body = (struct str){ b.data + WIRE_HEADER_LEN, h.body_len };
	CHECK_INT(wire_part_next(body, &at, &p), 1);
	CHECK(str_is(p.name, "file:a.yaml"));
	CHECK(str_is(p.data, "kind: Service\n"));
	CHECK_INT(wire_part_next(body, &at, &p), 1);
	CHECK(str_is(p.name, "dry-run"));
	CHECK(str_is(p.data, "1"));
	CHECK_INT(wire_part_next(body, &at, &p), 1);
	CHECK_INT(p.name.len + p.data.len, 0);
	CHECK_INT(wire_part_next(body, &at, &p), 0);
	CHECK_INT(wire_part_next(body, &at, &p), 0);
	buf_release(&b);
}

TEST(begin_empties_the_buffer)
{
	struct buf b = sample();

	wire_begin(&b, WIRE_STATUS);
	wire_end(&b);
	CHECK_INT(b.len, WIRE_HEADER_LEN);
	buf_release(&b);
}

/* A copy that ends where the prefix ends, so that ASan sees one byte too many. */
TEST(every_prefix_of_a_body)
{
	struct buf b = sample();

	for (uint32_t len = 0; len < b.len - WIRE_HEADER_LEN; len++) {
		char *copy = malloc(len + 1);
		struct str body = { copy, len };
		struct wire_part p;
		uint32_t at = 0;
		int rc;

		memcpy(copy, b.data + WIRE_HEADER_LEN, len);
		while ((rc = wire_part_next(body, &at, &p)) > 0)
			CHECK(p.data.p + p.data.len <= copy + len);
		CHECK(rc == 0 || rc == -EPROTO);
		free(copy);
	}
	buf_release(&b);
}

TEST(lengths_that_lie)
{
	static const uint8_t bodies[][12] = {
		{ 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 },
		{ 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff },
		{ 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff },
		{ 0, 0, 0, 0x80, 0, 0, 0, 0x80 },
		{ 3, 0, 0, 0, 2, 0, 0, 0 },
		{ 1, 0x10, 0, 0, 0, 0, 0, 0 }, /* name over WIRE_NAME_MAX */
	};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		struct str body = { (const char *)bodies[i], sizeof(bodies[i]) };
		struct wire_part p;
		uint32_t at = 0;

		CHECK_INT(wire_part_next(body, &at, &p), -EPROTO);
	}
}

TEST(headers)
{
	struct buf b = sample();
	uint8_t *h = (uint8_t *)b.data, saved;
	struct wire_header ret;

	for (int i = 0; i < 4; i++) {
		saved = h[i];
		h[i] ^= 1;
		CHECK_INT(wire_header_decode(h, &ret), -EPROTO);
		h[i] = saved;
	}
	h[4] = WIRE_VERSION + 1;
	CHECK_INT(wire_header_decode(h, &ret), -EPROTONOSUPPORT);
	h[4] = WIRE_VERSION;
	h[11] = 0x20; /* 512 MiB */
	CHECK_INT(wire_header_decode(h, &ret), -EPROTO);
	h[11] = 0;
	h[14] = 0x11; /* more parts than the limit */
	CHECK_INT(wire_header_decode(h, &ret), -EPROTO);
	h[14] = 0;
	h[13] = 1; /* more parts than the body can hold */
	CHECK_INT(wire_header_decode(h, &ret), -EPROTO);
	buf_release(&b);
}
