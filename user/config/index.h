/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A multimap from 64-bit hashes to u32 values: filled first, sealed once, then read. Values of one hash come back in the
 * order they were added. Keys are not kept: the caller compares what the values stand for. Memory is the arena's.
 */
#ifndef CONFIG_INDEX_H
#define CONFIG_INDEX_H

#include "base/arena.h"

struct index_entry {
	uint64_t hash;
	uint32_t value, next; /* next: position + 1, 0: end */
};

struct index {
	struct index_entry *entries;
	uint32_t nr, cap;
	uint32_t *heads; /* position + 1, 0: empty */
	uint32_t mask;
};

/* Room for `cap` entries; more must not be added. */
void index_init(struct index *ix, struct arena *a, uint32_t cap);
void index_add(struct index *ix, uint64_t hash, uint32_t value);
void index_seal(struct index *ix, struct arena *a);

/* Position + 1 of the first entry at or behind `at` (a position + 1) with this hash, 0: none. */
static inline uint32_t index_skip(const struct index *ix, uint32_t at, uint64_t hash)
{
	while (at && ix->entries[at - 1].hash != hash)
		at = ix->entries[at - 1].next;
	return at;
}

static inline uint32_t index_first(const struct index *ix, uint64_t hash)
{
	return ix->heads ? index_skip(ix, ix->heads[hash & ix->mask], hash) : 0;
}

/* for (index_each(ix, hash, at, value)): value runs over the values of this hash. */
#define index_each(ix, h, at, val)                                                    \
	uint32_t at = index_first(ix, h), val = at ? (ix)->entries[at - 1].value : 0; \
	at;                                                                           \
	at = index_skip(ix, (ix)->entries[at - 1].next, h), val = at ? (ix)->entries[at - 1].value : 0

/* Hash of two texts as one key. */
static inline uint64_t index_hash2(struct str a, struct str b)
{
	uint64_t h = str_hash(a) * 0x9e3779b97f4a7c15ull;

	return (h ^ (h >> 29)) + str_hash(b);
}

#endif
