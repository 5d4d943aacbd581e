/* SPDX-License-Identifier: BSD-2-Clause */
#include "l7/chunk.h"

#include "l7/head.h"

enum { SIZE, EXT, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LF, END, BAD };

void chunk_begin(struct chunk *c)
{
	memset(c, 0, offsetof(struct chunk, trailer));
}

static int digit(char b)
{
	if (b >= '0' && b <= '9')
		return b - '0';
	b |= 0x20;
	return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static uint8_t size_byte(struct chunk *c, char b)
{
	int d = digit(b);

	if (d >= 0) {
		/* 15 digits are 2^60 - 1: nothing overflows. */
		if (c->digits == 15)
			return BAD;
		c->digits++;
		c->left = c->left << 4 | (uint64_t)d;
		return SIZE;
	}
	if (!c->digits)
		return BAD;
	c->ext = 0;
	c->quoted = 0;
	return b == '\r' ? SIZE_LF : b == ';' ? EXT : BAD;
}

static uint8_t ext_byte(struct chunk *c, char b)
{
	uint8_t u = (uint8_t)b;

	if (b == '\r')
		return c->quoted ? BAD : SIZE_LF;
	if (++c->ext > CHUNK_EXT_MAX || (u < 0x20 && b != '\t') || u == 0x7f)
		return BAD;
	if (c->quoted == 2)
		c->quoted = 1;
	else if (b == '"')
		c->quoted = !c->quoted;
	else if (b == '\\' && c->quoted)
		c->quoted = 2;
	return EXT;
}

/* A trailer's line is complete: it is a field that may be one. */
static bool trailer_line(struct chunk *c)
{
	struct head_field f;

	if (!head_field_line(c->trailer + c->trailer_at, c->trailer_at, c->trailer_len - 2 - c->trailer_at, &f))
		return false;
	c->trailer_at = c->trailer_len;
	return f.known == HEAD_OTHER;
}

static uint8_t trailer_byte(struct chunk *c, char b)
{
	if (c->trailer_len == CHUNK_TRAILER_MAX || (b == '\n' && c->state != TRAILER_LF))
		return BAD;
	c->trailer[c->trailer_len++] = b;
	if (c->state == TRAILER)
		return b == '\r' ? TRAILER_LF : TRAILER;
	if (b != '\n')
		return BAD;
	if (c->trailer_len - c->trailer_at == 2) {
		c->trailer_len = c->trailer_at;
		return END;
	}
	return trailer_line(c) ? TRAILER : BAD;
}

static uint8_t step(struct chunk *c, char b)
{
	switch (c->state) {
	case SIZE:
		return size_byte(c, b);
	case EXT:
		return ext_byte(c, b);
	case SIZE_LF:
		return b != '\n' ? BAD : c->left ? DATA : TRAILER;
	case DATA_CR:
		return b == '\r' ? DATA_LF : BAD;
	case DATA_LF:
		c->digits = 0;
		return b == '\n' ? SIZE : BAD;
	case TRAILER:
	case TRAILER_LF:
		return trailer_byte(c, b);
	}
	return BAD;
}

enum chunk_result chunk_read(struct chunk *c, const char *p, uint32_t len, uint32_t *ret_used, struct str *ret)
{
	uint32_t i = 0;

	*ret = (struct str){ p, 0 };
	while (i < len && c->state != END && c->state != BAD) {
		if (c->state == DATA) {
			uint32_t n = len - i < c->left ? len - i : (uint32_t)c->left;

			*ret = (struct str){ p + i, n };
			*ret_used = i + n;
			c->left -= n;
			if (!c->left)
				c->state = DATA_CR;
			return CHUNK_DATA;
		}
		c->state = step(c, p[i++]);
	}
	*ret_used = i;
	return c->state == END ? CHUNK_END : c->state == BAD ? CHUNK_BAD : CHUNK_MORE;
}
