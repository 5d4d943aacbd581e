/* SPDX-License-Identifier: BSD-2-Clause */
#include "l7/iobuf.h"

#include <stdlib.h>

#include "base/arena.h"

static const uint32_t caps[IOBUF_SIZES] = { IOBUF_SMALL_CAP, IOBUF_USUAL_CAP, IOBUF_LARGE_CAP };
/* What is kept for the next: a quarter of a megabyte of each. */
static const uint32_t kept[IOBUF_SIZES] = { 128, 16, 4 };

static struct iobuf *made(uint32_t cap, uint32_t size)
{
	struct iobuf *b = xmalloc(sizeof(*b) + cap);

	b->cap = cap;
	b->size = size;
	return b;
}

struct iobuf *iobuf_get(struct iobuf_pool *pool, uint32_t cap)
{
	uint32_t size = 0;
	struct iobuf *b;

	while (size < IOBUF_SIZES && caps[size] < cap)
		size++;
	b = size < IOBUF_SIZES ? pool->free[size] : NULL;
	if (b) {
		pool->free[size] = b->next;
		pool->nr[size]--;
	} else {
		b = made(size < IOBUF_SIZES ? caps[size] : cap, size);
	}
	b->next = NULL;
	b->at = b->end = 0;
	return b;
}

void iobuf_put(struct iobuf_pool *pool, struct iobuf *b)
{
	if (!b)
		return;
	if (b->size == IOBUF_SIZES || pool->nr[b->size] == kept[b->size]) {
		free(b);
		return;
	}
	b->next = pool->free[b->size];
	pool->free[b->size] = b;
	pool->nr[b->size]++;
}

void iobuf_pool_release(struct iobuf_pool *pool)
{
	for (uint32_t i = 0; i < IOBUF_SIZES; i++)
		for (struct iobuf *b; (b = pool->free[i]);) {
			pool->free[i] = b->next;
			free(b);
		}
	*pool = (struct iobuf_pool){ 0 };
}

void iobuf_reserve(struct iobuf_pool *pool, struct iobuf **b, uint32_t cap)
{
	struct iobuf *old = *b, *new;
	uint32_t len = iobuf_len(old);

	if (old && old->at + cap <= old->cap)
		return;
	if (old && cap <= old->cap) {
		memmove(old->data, old->data + old->at, len);
		old->at = 0;
		old->end = len;
		return;
	}
	/* Beyond the largest it at least doubles. */
	if (cap > IOBUF_LARGE_CAP && old && cap < 2 * old->cap)
		cap = 2 * old->cap;
	new = iobuf_get(pool, cap);
	if (old) {
		memcpy(new->data, old->data + old->at, len);
		new->end = len;
		iobuf_put(pool, old);
	}
	*b = new;
}

void iobuf_add(struct iobuf_pool *pool, struct iobuf **b, const void *data, size_t len)
{
	if (!len)
		return;
	iobuf_reserve(pool, b, iobuf_len(*b) + (uint32_t)len);
	memcpy((*b)->data + (*b)->end, data, len);
	(*b)->end += (uint32_t)len;
}

void iobuf_consume(struct iobuf_pool *pool, struct iobuf **b, uint32_t len)
{
	if (!*b)
		return;
	(*b)->at += len;
	if ((*b)->at == (*b)->end) {
		iobuf_put(pool, *b);
		*b = NULL;
	}
}
