/* SPDX-License-Identifier: BSD-2-Clause */
/* Bump allocator: many small objects, one release. Memory is zeroed. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/str.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	char *at, *end;
};

/* A zeroed struct arena is ready to use. Allocation never fails: out of memory ends the process with a message. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t nr, size_t size); /* nr * size, overflow checked */
#define arena_new(a, type) ((type *)arena_alloc(a, sizeof(type)))
struct str arena_str(struct arena *a, struct str s); /* copy, NUL-terminated behind its length */
struct str arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The next `size` bytes come out of one chunk: for callers that know how much they are about to take. */
void arena_reserve(struct arena *a, size_t size);
size_t arena_size(const struct arena *a); /* bytes held */
void arena_clear(struct arena *a);	  /* keeps one chunk for reuse */
void arena_release(struct arena *a);

/* malloc, calloc, realloc, strdup that end the process with a message instead of failing. */
void *xmalloc(size_t size);
void *xcalloc(size_t nr, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *z);

#endif
