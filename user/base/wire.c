/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: see wire.h. Pure; the decoder trusts no length it reads. */
#include "base/wire.h"

#include <errno.h>

static const char magic[4] = { 'T', 'U', 'L', 'L' };

#define PART_HEAD 8

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)v);
	put16(p + 2, (uint16_t)(v >> 16));
}

int wire_header_decode(const uint8_t *in, struct wire_header *ret)
{
	struct wire_header h = {
		.version = get16(in + 4),
		.type = get16(in + 6),
		.body_len = get32(in + 8),
		.part_nr = get32(in + 12),
	};

	if (memcmp(in, magic, sizeof(magic)))
		return -EPROTO;
	if (h.version != WIRE_VERSION)
		return -EPROTONOSUPPORT;
	if (h.body_len > WIRE_BODY_MAX || h.part_nr > WIRE_PARTS_MAX)
		return -EPROTO;
	if ((uint64_t)h.part_nr * PART_HEAD > h.body_len)
		return -EPROTO;
	*ret = h;
	return 0;
}

int wire_part_next(struct str body, uint32_t *at, struct wire_part *ret)
{
	uint32_t left, name_len, data_len;
	const uint8_t *p;

	if (*at == body.len)
		return 0;
	if (*at > body.len || body.len - *at < PART_HEAD)
		return -EPROTO;
	p = (const uint8_t *)body.p + *at;
	left = body.len - *at - PART_HEAD;
	name_len = get32(p);
	data_len = get32(p + 4);
	if (name_len > WIRE_NAME_MAX || name_len > left || data_len > left - name_len)
		return -EPROTO;
	ret->name = (struct str){ (const char *)p + PART_HEAD, name_len };
	ret->data = (struct str){ (const char *)p + PART_HEAD + name_len, data_len };
	*at += PART_HEAD + name_len + data_len;
	return 1;
}

void wire_begin(struct buf *b, uint16_t type)
{
	uint8_t head[WIRE_HEADER_LEN] = { 0 };

	memcpy(head, magic, sizeof(magic));
	put16(head + 4, WIRE_VERSION);
	put16(head + 6, type);
	buf_clear(b);
	buf_add(b, head, sizeof(head));
}

void wire_add(struct buf *b, struct str name, struct str data)
{
	uint8_t head[PART_HEAD];
	uint8_t *part_nr;

	put32(head, name.len);
	put32(head + 4, data.len);
	buf_add(b, head, sizeof(head));
	buf_str(b, name);
	buf_str(b, data);
	part_nr = (uint8_t *)b->data + 12;
	put32(part_nr, get32(part_nr) + 1);
}

void wire_end(struct buf *b)
{
	size_t len = b->len - WIRE_HEADER_LEN;

	/* A length that does not fit is one that every decoder refuses. */
	put32((uint8_t *)b->data + 8, len > UINT32_MAX ? UINT32_MAX : (uint32_t)len);
}
