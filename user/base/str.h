/* SPDX-License-Identifier: BSD-2-Clause */
/* A borrowed slice of text, passed by value, not NUL-terminated; and a growing byte buffer. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
	const char *p;
	uint32_t len;
};

#define STR(literal) ((struct str){ "" literal, sizeof(literal) - 1 })
/* For printf: "%.*s", STR_ARG(s). */
#define STR_ARG(s) (int)(s).len, (s).p

static inline struct str str_of(const char *z)
{
	return (struct str){ z, z ? (uint32_t)strlen(z) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (!a.len || !memcmp(a.p, b.p, a.len));
}

static inline bool str_is(struct str a, const char *z)
{
	return str_eq(a, str_of(z));
}

/* <0, 0, >0 in byte order. */
int str_cmp(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Index of the first c, or -1. */
int str_find(struct str s, char c);
struct str str_sub(struct str s, uint32_t from, uint32_t len); /* clamps */
/* Decimal digits only, whole string. False when empty, not digits or > max. */
bool str_to_u64(struct str s, uint64_t max, uint64_t *ret);
/* Closest of `nr` candidates by Levenshtein distance, or -1 when none is near enough to suggest. */
int str_nearest(struct str s, const struct str *candidates, uint32_t nr);
uint64_t str_hash(struct str s); /* FNV-1a, 64 bits */
/* The hash of a text with one byte more behind it. */
static inline uint64_t str_hash_more(uint64_t hash, char c)
{
	return (hash ^ (unsigned char)c) * 0x100000001b3ull;
}

/* Growing buffer; owned. Never fails: out of memory ends the process with a message. data is NUL-terminated. */
struct buf {
	char *data;
	size_t len, cap;
};

void buf_add(struct buf *b, const void *data, size_t len);
/* `len` bytes more, which the caller fills: where they begin. */
char *buf_extend(struct buf *b, size_t len);
void buf_str(struct buf *b, struct str s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);
void buf_clear(struct buf *b);
void buf_release(struct buf *b);

#endif
