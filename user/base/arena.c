/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bump allocator in a list of chunks, newest first. Chunks start small, because each document of
 * the user has an arena of its own, and grow by half of what is held. Frees nothing before the
 * whole arena goes.
 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARENA_ALIGN 8
#define CHUNK_MIN 512
#define CHUNK_GROWTH_MAX (1u << 20)

struct arena_chunk {
	struct arena_chunk *next;
	size_t size; /* of data */
	char data[];
};

static void __attribute__((noreturn)) out_of_memory(void)
{
	static const char text[] = "out of memory\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
		/* Nobody to tell; the exit code says it. */
	}
	_exit(3);
}

void *xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xcalloc(size_t nr, size_t size)
{
	void *p = calloc(nr ? nr : 1, size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xrealloc(void *p, size_t size)
{
	p = realloc(p, size ? size : 1);
	if (!p)
		out_of_memory();
	return p;
}

char *xstrdup(const char *z)
{
	size_t len = strlen(z) + 1;

	return memcpy(xmalloc(len), z, len);
}

static void push_chunk(struct arena *a, size_t size)
{
	struct arena_chunk *c = xcalloc(1, size + sizeof(*c));

	c->size = size;
	c->next = a->chunks;
	a->chunks = c;
	a->at = c->data;
	a->end = c->data + c->size;
}

static void add_chunk(struct arena *a, size_t size)
{
	size_t want = a->chunks ? arena_size(a) / 2 : 0;

	if (want > CHUNK_GROWTH_MAX)
		want = CHUNK_GROWTH_MAX;
	if (want < CHUNK_MIN)
		want = CHUNK_MIN;
	want -= sizeof(struct arena_chunk);
	push_chunk(a, size > want ? size : want);
}

void arena_reserve(struct arena *a, size_t size)
{
	if (!a->at || (size_t)(a->end - a->at) < size)
		push_chunk(a, size);
}

/* Bytes wasted at a->at so that the next object is aligned. */
static size_t padding(const struct arena *a)
{
	return -(uintptr_t)a->at & (ARENA_ALIGN - 1);
}

void *arena_alloc(struct arena *a, size_t size)
{
	char *p;

	if (size > SIZE_MAX / 2)
		out_of_memory();
	if (!a->at || (size_t)(a->end - a->at) < size + padding(a))
		add_chunk(a, size + ARENA_ALIGN);
	p = a->at + padding(a);
	a->at = p + size;
	return p;
}

void *arena_array(struct arena *a, size_t nr, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(nr, size, &total))
		out_of_memory();
	return arena_alloc(a, total);
}

/* Text needs no alignment, and there is a lot of it. */
static char *alloc_text(struct arena *a, size_t len)
{
	char *p;

	if (!a->at || (size_t)(a->end - a->at) <= len)
		add_chunk(a, len + 1);
	p = a->at;
	a->at += len + 1;
	return p;
}

struct str arena_str(struct arena *a, struct str s)
{
	char *p = alloc_text(a, s.len);

	if (s.len)
		memcpy(p, s.p, s.len);
	return (struct str){ p, s.len };
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *p;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0)
		len = 0;
	p = alloc_text(a, (size_t)len);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)len + 1, fmt, ap);
	va_end(ap);
	return (struct str){ p, (uint32_t)len };
}

size_t arena_size(const struct arena *a)
{
	size_t sum = 0;

	for (const struct arena_chunk *c = a->chunks; c; c = c->next)
		sum += c->size + sizeof(*c);
	return sum;
}

static void free_chunks(struct arena_chunk *c)
{
	while (c) {
		struct arena_chunk *next = c->next;

		free(c);
		c = next;
	}
}

void arena_clear(struct arena *a)
{
	struct arena_chunk *c = a->chunks;

	if (!c)
		return;
	/* The newest is the only one with an untouched, hence still zero, rest. */
	memset(c->data, 0, (size_t)(a->at - c->data));
	free_chunks(c->next);
	c->next = NULL;
	a->at = c->data;
	a->end = c->data + c->size;
}

void arena_release(struct arena *a)
{
	free_chunks(a->chunks);
	*a = (struct arena){ 0 };
}
