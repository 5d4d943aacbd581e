/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What of the maps is in use: single slots, runs of columns, and a compact hash table of slot numbers; and windows onto mmapable
 * arrays that map only the pages in use. Knows nothing of rules.
 */
#ifndef PLANE_ALLOC_H
#define PLANE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Slots 1 .. max-1 of an array, lowest free first; slot 0 is never given out. */
struct slots {
	uint64_t *used;	  /* bitmap, owned */
	uint32_t max, nr; /* nr: in use, without slot 0 */
	uint32_t hint;	  /* no free slot in words before it */
};

void slots_init(struct slots *s, uint32_t max);
void slots_release(struct slots *s);
uint32_t slots_get(struct slots *s);	       /* 0: none is free */
bool slots_take(struct slots *s, uint32_t at); /* false: out of range or taken already */
bool slots_used(const struct slots *s, uint32_t at);
void slots_put(struct slots *s, uint32_t at);

/* Runs of columns: a buddy allocator (Knowlton 1965), lowest free block first. A run of n takes the next power of two. */
#define RUNS_ORDERS 21
struct runs {
	uint64_t *free[RUNS_ORDERS]; /* bitmaps of free blocks, owned */
	uint32_t hint[RUNS_ORDERS];
	uint32_t max, nr; /* nr: columns in use, rounding included */
};

void runs_init(struct runs *r, uint32_t max);
void runs_release(struct runs *r);
bool runs_get(struct runs *r, uint32_t nr, uint32_t *ret); /* false: no such run is free */
bool runs_take(struct runs *r, uint32_t at, uint32_t nr);  /* exactly this run; false: not free or not aligned */
void runs_put(struct runs *r, uint32_t at, uint32_t nr);

/* Open-addressed set of numbers > 0 (slots or indexes) whose keys live elsewhere. */
struct slotset {
	uint32_t *at; /* owned */
	uint32_t cap, nr;
	uint64_t (*hash)(const void *owner, uint32_t value);
	const void *owner;
};

typedef bool (*slotset_eq)(const void *owner, uint32_t value, const void *key);

void slotset_init(struct slotset *t, uint64_t (*hash)(const void *owner, uint32_t value), const void *owner);
void slotset_release(struct slotset *t);
uint32_t slotset_find(const struct slotset *t, uint64_t hash, slotset_eq eq, const void *key); /* 0: none */
void slotset_add(struct slotset *t, uint32_t value);
void slotset_del(struct slotset *t, uint32_t value);
/* Mixes 64 bits (Stafford's variant 13 of the MurmurHash3 finalizer). */
uint64_t slotset_mix(uint64_t x);

/*
 * An mmapable array map. The kernel maps every page of such a mapping at once, so a whole one would count as resident memory:
 * address space for all of it is reserved, and windows are mapped when an element in them is first asked for.
 */
struct marray {
	char *base; /* owned */
	uint64_t *mapped;
	size_t len;
	uint32_t elem_size, nr;
	int fd; /* borrowed */
};

int marray_init(struct marray *m, int fd, uint32_t value_size, uint32_t nr); /* 0 or -errno */
void marray_release(struct marray *m);
/* Elements at .. at+nr-1, which must exist. Never NULL: no memory for a window ends the process with a message. */
void *marray_at(struct marray *m, uint32_t at, uint32_t nr);

#endif
