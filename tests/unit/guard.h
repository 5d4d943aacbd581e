/* SPDX-License-Identifier: BSD-2-Clause */
/* A copy of a text whose next byte, and the one in front, fault when touched: for parsers that must not read past their input. */
#ifndef TESTS_UNIT_GUARD_H
#define TESTS_UNIT_GUARD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/str.h"

struct guard {
	char *map;
	size_t size, data; /* data: bytes between the two guard pages */
};

static inline struct guard guard_new(size_t max)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), data = (max + page) / page * page;
	struct guard g = { .size = data + 2 * page, .data = data };

	g.map = mmap(NULL, g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g.map == MAP_FAILED || mprotect(g.map, page, PROT_NONE) || mprotect(g.map + page + data, page, PROT_NONE))
		abort();
	return g;
}

/* The text right in front of the guard page; valid until the next call. */
static inline struct str guard_end(const struct guard *g, const void *p, size_t len)
{
	char *at = g->map + g->size - (g->size - g->data) / 2 - len;

	if (len)
		memcpy(at, p, len);
	return (struct str){ at, (uint32_t)len };
}

/* The text right behind the guard page. */
static inline struct str guard_begin(const struct guard *g, const void *p, size_t len)
{
	char *at = g->map + (g->size - g->data) / 2;

	if (len)
		memcpy(at, p, len);
	return (struct str){ at, (uint32_t)len };
}

static inline void guard_free(struct guard *g)
{
	munmap(g->map, g->size);
}

#endif
