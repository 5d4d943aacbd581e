/* SPDX-License-Identifier: BSD-2-Clause */
/* Bookkeeping of map space: plain memory, no rules and, but for the windows of struct marray, no system calls. */
#include "plane/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"

#define WORD_BITS 64u

static uint32_t words(uint32_t bits)
{
	return (bits + WORD_BITS - 1) / WORD_BITS;
}

static bool bit_get(const uint64_t *map, uint32_t i)
{
	return map[i / WORD_BITS] >> (i % WORD_BITS) & 1;
}

static void bit_set(uint64_t *map, uint32_t i)
{
	map[i / WORD_BITS] |= 1ull << (i % WORD_BITS);
}

static void bit_clear(uint64_t *map, uint32_t i)
{
	map[i / WORD_BITS] &= ~(1ull << (i % WORD_BITS));
}

void slots_init(struct slots *s, uint32_t max)
{
	*s = (struct slots){ .max = max, .used = xcalloc(words(max), sizeof(uint64_t)) };
	bit_set(s->used, 0);
	/* Bits behind the end are taken for good. */
	for (uint32_t i = max; i < words(max) * WORD_BITS; i++)
		bit_set(s->used, i);
}

void slots_release(struct slots *s)
{
	free(s->used);
	*s = (struct slots){ 0 };
}

uint32_t slots_get(struct slots *s)
{
	for (uint32_t w = s->hint; w < words(s->max); w++) {
		if (s->used[w] != UINT64_MAX) {
			uint32_t at = w * WORD_BITS + (uint32_t)__builtin_ctzll(~s->used[w]);

			s->hint = w;
			bit_set(s->used, at);
			s->nr++;
			return at;
		}
	}
	s->hint = words(s->max);
	return 0;
}

bool slots_used(const struct slots *s, uint32_t at)
{
	return at >= s->max || bit_get(s->used, at);
}

bool slots_take(struct slots *s, uint32_t at)
{
	if (slots_used(s, at))
		return false;
	bit_set(s->used, at);
	s->nr++;
	return true;
}

void slots_put(struct slots *s, uint32_t at)
{
	if (!at || at >= s->max || !bit_get(s->used, at))
		return;
	bit_clear(s->used, at);
	s->nr--;
	if (at / WORD_BITS < s->hint)
		s->hint = at / WORD_BITS;
}

static uint32_t order_of(uint32_t nr)
{
	return nr <= 1 ? 0 : 32u - (uint32_t)__builtin_clz(nr - 1);
}

static void block_free(struct runs *r, uint32_t order, uint32_t block)
{
	bit_set(r->free[order], block);
	if (block / WORD_BITS < r->hint[order])
		r->hint[order] = block / WORD_BITS;
}

void runs_init(struct runs *r, uint32_t max)
{
	uint32_t at = 0;

	*r = (struct runs){ .max = max };
	for (uint32_t o = 0; o < RUNS_ORDERS; o++)
		r->free[o] = xcalloc(words((max >> o) + 1), sizeof(uint64_t));
	for (uint32_t o = RUNS_ORDERS; o-- > 0;) {
		while (max - at >= 1u << o) {
			block_free(r, o, at >> o);
			at += 1u << o;
		}
	}
}

void runs_release(struct runs *r)
{
	for (uint32_t o = 0; o < RUNS_ORDERS; o++)
		free(r->free[o]);
	*r = (struct runs){ 0 };
}

/* Lowest free block of this very order. */
static bool block_find(struct runs *r, uint32_t order, uint32_t *ret)
{
	uint32_t end = words((r->max >> order) + 1);

	for (uint32_t w = r->hint[order]; w < end; w++) {
		if (r->free[order][w]) {
			r->hint[order] = w;
			*ret = w * WORD_BITS + (uint32_t)__builtin_ctzll(r->free[order][w]);
			return true;
		}
	}
	r->hint[order] = end;
	return false;
}

bool runs_get(struct runs *r, uint32_t nr, uint32_t *ret)
{
	uint32_t want = order_of(nr), o, block = 0;

	for (o = want; o < RUNS_ORDERS; o++)
		if (block_find(r, o, &block))
			break;
	if (o >= RUNS_ORDERS)
		return false;
	bit_clear(r->free[o], block);
	while (o > want) {
		o--;
		block *= 2;
		block_free(r, o, block + 1);
	}
	r->nr += 1u << want;
	*ret = block << want;
	return true;
}

bool runs_take(struct runs *r, uint32_t at, uint32_t nr)
{
	uint32_t want = order_of(nr), o;

	if (want >= RUNS_ORDERS || at >= r->max || at & ((1u << want) - 1) || r->max - at < 1u << want)
		return false;
	for (o = want; o < RUNS_ORDERS; o++)
		if (bit_get(r->free[o], at >> o))
			break;
	if (o == RUNS_ORDERS)
		return false;
	bit_clear(r->free[o], at >> o);
	while (o > want) {
		o--;
		block_free(r, o, at >> o ^ 1);
	}
	r->nr += 1u << want;
	return true;
}

void runs_put(struct runs *r, uint32_t at, uint32_t nr)
{
	uint32_t o = order_of(nr), block = at >> o;

	r->nr -= 1u << o;
	while (o + 1 < RUNS_ORDERS && bit_get(r->free[o], block ^ 1)) {
		bit_clear(r->free[o], block ^ 1);
		block /= 2;
		o++;
	}
	block_free(r, o, block);
}

void slotset_init(struct slotset *t, uint64_t (*hash)(const void *owner, uint32_t value), const void *owner)
{
	*t = (struct slotset){ .hash = hash, .owner = owner };
}

void slotset_release(struct slotset *t)
{
	free(t->at);
	t->at = NULL;
	t->cap = t->nr = 0;
}

uint64_t slotset_mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

uint32_t slotset_find(const struct slotset *t, uint64_t hash, slotset_eq eq, const void *key)
{
	if (!t->cap)
		return 0;
	for (uint32_t i = (uint32_t)hash & (t->cap - 1); t->at[i]; i = (i + 1) & (t->cap - 1))
		if (eq(t->owner, t->at[i], key))
			return t->at[i];
	return 0;
}

static void slotset_place(struct slotset *t, uint32_t value)
{
	uint32_t i = (uint32_t)t->hash(t->owner, value) & (t->cap - 1);

	while (t->at[i])
		i = (i + 1) & (t->cap - 1);
	t->at[i] = value;
}

void slotset_add(struct slotset *t, uint32_t value)
{
	if ((t->nr + 1) * 4ull > t->cap * 3ull) {
		uint32_t *old = t->at, cap = t->cap;

		t->cap = cap ? cap * 2 : 64;
		t->at = xcalloc(t->cap, sizeof(uint32_t));
		for (uint32_t i = 0; i < cap; i++)
			if (old[i])
				slotset_place(t, old[i]);
		free(old);
	}
	slotset_place(t, value);
	t->nr++;
}

void slotset_del(struct slotset *t, uint32_t value)
{
	uint32_t mask = t->cap - 1, hole, i;

	if (!t->cap)
		return;
	for (hole = (uint32_t)t->hash(t->owner, value) & mask; t->at[hole] != value; hole = (hole + 1) & mask)
		if (!t->at[hole])
			return;
	/* Close the gap: move back each follower whose own place is not between the hole and it. */
	for (i = (hole + 1) & mask; t->at[i]; i = (i + 1) & mask) {
		uint32_t home = (uint32_t)t->hash(t->owner, t->at[i]) & mask;

		if (((i - home) & mask) >= ((i - hole) & mask)) {
			t->at[hole] = t->at[i];
			hole = i;
		}
	}
	t->at[hole] = 0;
	t->nr--;
}

#define WINDOW_LEN (64u << 10)

int marray_init(struct marray *m, int fd, uint32_t value_size, uint32_t nr)
{
	uint32_t elem_size = (value_size + 7) & ~7u;
	size_t len = (size_t)elem_size * nr;
	void *base;

	len = (len + WINDOW_LEN - 1) / WINDOW_LEN * WINDOW_LEN;
	base = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	*m = (struct marray){ .base = base, .len = len, .elem_size = elem_size, .nr = nr, .fd = fd };
	m->mapped = xcalloc(words((uint32_t)(len / WINDOW_LEN)), sizeof(uint64_t));
	return 0;
}

void marray_release(struct marray *m)
{
	if (m->base)
		munmap(m->base, m->len);
	free(m->mapped);
	*m = (struct marray){ .fd = -1 };
}

static void window_map(struct marray *m, uint32_t window)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), from = (size_t)window * WINDOW_LEN,
	       end = (size_t)m->elem_size * m->nr, len;
	void *got;

	/* The last window ends with the map's last page. */
	end = (end + page - 1) / page * page;
	len = end - from < WINDOW_LEN ? end - from : WINDOW_LEN;
	got = mmap(m->base + from, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->fd, (off_t)from);
	if (got == MAP_FAILED) {
		log_err("cannot map a window of a map error=%s", strerror(errno));
		exit(1);
	}
	bit_set(m->mapped, window);
}

void *marray_at(struct marray *m, uint32_t at, uint32_t nr)
{
	size_t from = (size_t)m->elem_size * at, last = from + (size_t)m->elem_size * nr - 1;

	for (uint32_t w = (uint32_t)(from / WINDOW_LEN); w <= last / WINDOW_LEN; w++)
		if (!bit_get(m->mapped, w))
			window_map(m, w);
	return m->base + from;
}
