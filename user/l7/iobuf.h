/* SPDX-License-Identifier: BSD-2-Clause */
/* Buffers of sockets, in three sizes, kept by the worker: a connection has one only while there are bytes in it. */
#ifndef L7_IOBUF_H
#define L7_IOBUF_H

#include <stdint.h>

#include "base/str.h"

struct iobuf {
	struct iobuf *next; /* in the pool */
	uint32_t at, end;   /* bytes are at data[at .. end) */
	uint32_t cap;
	uint32_t size; /* which of the sizes; IOBUF_SIZES: none of them, given back to the system */
	char data[];
};

enum iobuf_size { IOBUF_SMALL, IOBUF_USUAL, IOBUF_LARGE, IOBUF_SIZES };
#define IOBUF_SMALL_CAP 2048u
#define IOBUF_USUAL_CAP 16384u
#define IOBUF_LARGE_CAP 65536u

struct iobuf_pool {
	struct iobuf *free[IOBUF_SIZES];
	uint32_t nr[IOBUF_SIZES];
};

/* Never fails: out of memory ends the process. */
struct iobuf *iobuf_get(struct iobuf_pool *pool, uint32_t cap);
void iobuf_put(struct iobuf_pool *pool, struct iobuf *b); /* NULL is fine */
void iobuf_pool_release(struct iobuf_pool *pool);

static inline uint32_t iobuf_len(const struct iobuf *b)
{
	return b ? b->end - b->at : 0;
}

/* Appends; *b is taken, moved or made larger where that is necessary. */
void iobuf_add(struct iobuf_pool *pool, struct iobuf **b, const void *data, size_t len);
/* Room for `cap` bytes from data[at] on. */
void iobuf_reserve(struct iobuf_pool *pool, struct iobuf **b, uint32_t cap);
/* The first `len` bytes are done with: an empty one goes back. */
void iobuf_consume(struct iobuf_pool *pool, struct iobuf **b, uint32_t len);

#endif
