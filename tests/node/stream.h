/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes that say where in their stream they belong: word k of a stream is (k + 1) times an odd number, mixed with the stream's seed. So
 * what is read can be checked at any offset, and whoever reads a piece of unknown origin can tell its offset.
 */
#ifndef TESTS_NODE_STREAM_H
#define TESTS_NODE_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>

#define STREAM_ODD 0x9e3779b97f4a7c15ull

static inline uint64_t stream_word(uint64_t seed, uint64_t k)
{
	return (k + 1) * STREAM_ODD ^ seed;
}

static inline void stream_fill(uint64_t seed, uint64_t at, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len;) {
		uint64_t w = stream_word(seed, (at + i) / 8) >> 8 * ((at + i) % 8);
		size_t n = 8 - (at + i) % 8;

		n = n < len - i ? n : len - i;
		memcpy(out + i, &w, n);
		i += n;
	}
}

/* Offset of the first byte that is not the stream's; len when all are. */
static inline size_t stream_check(uint64_t seed, uint64_t at, const uint8_t *data, size_t len)
{
	uint8_t want[4096];

	for (size_t i = 0; i < len;) {
		size_t n = len - i < sizeof(want) ? len - i : sizeof(want);

		stream_fill(seed, at + i, want, n);
		for (size_t j = 0; memcmp(want, data + i, n) && j < n; j++)
			if (want[j] != data[i + j])
				return i + j;
		i += n;
	}
	return len;
}

/* Where in the first `most` bytes of the stream the piece, of 16 bytes or more, belongs; UINT64_MAX: nowhere. */
static inline uint64_t stream_place(uint64_t seed, const uint8_t *data, size_t len, uint64_t most)
{
	uint64_t inverse = STREAM_ODD, k;

	/* Newton's method doubles the bits that are right. */
	for (int i = 0; i < 6; i++)
		inverse *= 2 - STREAM_ODD * inverse;
	for (size_t shift = 0; shift < 8; shift++) {
		memcpy(&k, data + shift, 8);
		k = (k ^ seed) * inverse - 1;
		if (k < most / 8 + 1 && k * 8 >= shift && stream_check(seed, k * 8 - shift, data, len) == len)
			return k * 8 - shift;
	}
	return UINT64_MAX;
}

#endif
