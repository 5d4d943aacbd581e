/* SPDX-License-Identifier: BSD-2-Clause */
/* First messages of TLS, made by parts, for tests. */
#ifndef TESTS_UNIT_HELLO_BYTES_H
#define TESTS_UNIT_HELLO_BYTES_H

#include <stdint.h>

#include "base/str.h"

static inline void hello_u8(struct buf *b, uint32_t v)
{
	char c = (char)v;

	buf_add(b, &c, 1);
}

static inline void hello_u16(struct buf *b, uint32_t v)
{
	hello_u8(b, v >> 8);
	hello_u8(b, v);
}

static inline void hello_extension(struct buf *b, uint32_t type, const char *body, uint32_t len)
{
	hello_u16(b, type);
	hello_u16(b, len);
	buf_add(b, body, len);
}

static inline void hello_server_name(struct buf *b, struct str name)
{
	hello_u16(b, 0);
	hello_u16(b, name.len + 5);
	hello_u16(b, name.len + 3);
	hello_u8(b, 0);
	hello_u16(b, name.len);
	buf_str(b, name);
}

/* The message: `extensions` NULL: it has not even room for them. */
static inline void hello_message(struct buf *out, const struct buf *extensions)
{
	struct buf m = { 0 };

	hello_u16(&m, 0x303);
	for (uint32_t i = 0; i < 32; i++)
		hello_u8(&m, i * 7);
	hello_u8(&m, 32);
	for (uint32_t i = 0; i < 32; i++)
		hello_u8(&m, i);
	hello_u16(&m, 6);
	hello_u16(&m, 0x1a1a);
	hello_u16(&m, 0x1301);
	hello_u16(&m, 0xc02b);
	hello_u16(&m, 0x100); /* one compression: none */
	if (extensions) {
		hello_u16(&m, (uint32_t)extensions->len);
		buf_add(&m, extensions->data, extensions->len);
	}
	hello_u8(out, 1);
	hello_u8(out, 0);
	hello_u16(out, (uint32_t)m.len);
	buf_add(out, m.data, m.len);
	buf_release(&m);
}

/* In records of `max` bytes each. */
static inline void hello_records(struct buf *out, const struct buf *message, uint32_t max)
{
	for (size_t at = 0; at < message->len; at += max) {
		uint32_t len = message->len - at < max ? (uint32_t)(message->len - at) : max;

		hello_u8(out, 0x16);
		hello_u16(out, 0x301);
		hello_u16(out, len);
		buf_add(out, message->data + at, len);
	}
}

#endif
