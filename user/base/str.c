/* SPDX-License-Identifier: BSD-2-Clause */
/* Text slices and the growing buffer. Knows nothing of what the text means. */
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

/* Longer texts get no suggestion; it bounds the distance table. */
#define NEAREST_LEN_MAX 48

int str_cmp(struct str a, struct str b)
{
	uint32_t len = a.len < b.len ? a.len : b.len;
	int r = len ? memcmp(a.p, b.p, len) : 0;

	if (r)
		return r;
	return a.len < b.len ? -1 : a.len > b.len;
}

bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && (!prefix.len || !memcmp(s.p, prefix.p, prefix.len));
}

bool str_ends(struct str s, struct str suffix)
{
	return s.len >= suffix.len && (!suffix.len || !memcmp(s.p + s.len - suffix.len, suffix.p, suffix.len));
}

int str_find(struct str s, char c)
{
	const char *at = s.len ? memchr(s.p, c, s.len) : NULL;

	return at ? (int)(at - s.p) : -1;
}

struct str str_sub(struct str s, uint32_t from, uint32_t len)
{
	if (from > s.len)
		from = s.len;
	if (len > s.len - from)
		len = s.len - from;
	return (struct str){ s.p ? s.p + from : NULL, len };
}

bool str_to_u64(struct str s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (!s.len)
		return false;
	for (uint32_t i = 0; i < s.len; i++) {
		uint64_t digit = (uint64_t)(unsigned char)s.p[i] - '0';

		if (digit > 9 || v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	if (v > max)
		return false;
	*ret = v;
	return true;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/*
 * Levenshtein distance without regard to case, or at least `limit` when it is not below that. Both texts are at most
 * NEAREST_LEN_MAX long.
 */
static uint32_t distance(struct str a, struct str b, uint32_t limit)
{
	uint32_t row[NEAREST_LEN_MAX + 1];

	if (a.len > b.len + limit || b.len > a.len + limit)
		return limit;
	for (uint32_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (uint32_t i = 1; i <= a.len; i++) {
		uint32_t diagonal = row[0], least = i;

		row[0] = i;
		for (uint32_t j = 1; j <= b.len; j++) {
			uint32_t best = diagonal + (lower(a.p[i - 1]) != lower(b.p[j - 1]));

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
			least = best < least ? best : least;
		}
		/* It never shrinks from row to row. */
		if (least >= limit)
			return limit;
	}
	return row[b.len];
}

int str_nearest(struct str s, const struct str *candidates, uint32_t nr)
{
	/* A third of the letters wrong is still a typo; more is another word. */
	uint32_t limit = s.len < 3 ? 1 : s.len / 3 + (s.len < 6);
	uint32_t best = limit + 1;
	int found = -1;

	if (!s.len || s.len > NEAREST_LEN_MAX)
		return -1;
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t d;

		if (!candidates[i].len || candidates[i].len > NEAREST_LEN_MAX)
			continue;
		d = distance(s, candidates[i], best);
		/* Nothing in common is no suggestion, however short the two are. */
		if (d < best && d < s.len) {
			best = d;
			found = (int)i;
		}
	}
	return found;
}

uint64_t str_hash(struct str s)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (uint32_t i = 0; i < s.len; i++)
		h = str_hash_more(h, s.p[i]);
	return h;
}

/* Room for `more` bytes and the NUL. */
static void buf_reserve(struct buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 64;

	if (b->cap - b->len > more)
		return;
	while (cap - b->len <= more)
		cap *= 2;
	b->data = xrealloc(b->data, cap);
	b->cap = cap;
}

char *buf_extend(struct buf *b, size_t len)
{
	char *at;

	buf_reserve(b, len);
	at = b->data + b->len;
	b->len += len;
	b->data[b->len] = '\0';
	return at;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	char *at = buf_extend(b, len);

	if (len)
		memcpy(at, data, len);
}

void buf_str(struct buf *b, struct str s)
{
	buf_add(b, s.p, s.len);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int len;

	va_copy(again, ap);
	buf_reserve(b, 0);
	len = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	if (len > 0 && (size_t)len >= b->cap - b->len) {
		buf_reserve(b, (size_t)len);
		vsnprintf(b->data + b->len, b->cap - b->len, fmt, again);
	}
	va_end(again);
	if (len > 0)
		b->len += (size_t)len;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->data)
		b->data[0] = '\0';
}

void buf_release(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}
