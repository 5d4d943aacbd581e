/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The chunked transfer coding (RFC 9112, section 7.1), byte by byte: resumable, without memory of its own but for the line of a trailer.
 * Sizes are hexadecimal digits alone, lines end in CR LF, trailers cannot say anything about framing or routing.
 */
#ifndef L7_CHUNK_H
#define L7_CHUNK_H

#include "base/str.h"

#define CHUNK_EXT_MAX 1024     /* bytes of one chunk's extensions */
#define CHUNK_TRAILER_MAX 8192 /* bytes of all trailers */

enum chunk_result {
	CHUNK_MORE, /* all bytes are used up, and the end was not among them */
	CHUNK_DATA, /* *ret is a piece of the body */
	CHUNK_END,  /* the last byte of the message was used */
	CHUNK_BAD,
};

struct chunk {
	uint8_t state;
	uint8_t digits;
	uint8_t quoted; /* in a quoted string of an extension; 2: behind its backslash */
	uint64_t left;	/* of the chunk */
	uint32_t ext;	/* bytes of extensions of this chunk */
	uint32_t trailer_len, trailer_at;
	char trailer[CHUNK_TRAILER_MAX]; /* the trailers' lines as they came, with CR LF */
};

void chunk_begin(struct chunk *c);
/* Goes on at p[0 .. len): *ret_used bytes are done with, those of *ret among them. */
enum chunk_result chunk_read(struct chunk *c, const char *p, uint32_t len, uint32_t *ret_used, struct str *ret);

#endif
