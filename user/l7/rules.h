/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What meshl7 makes of compiled rules when they are loaded: regular expressions, and indexes over hosts and routes. Of the router's files
 * alone. Everything is found by the offset of the struct it belongs to.
 */
#ifndef L7_RULES_H
#define L7_RULES_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/regex.h"
#include "l7/route.h"

/* Offsets of structs in the memfd, and what belongs to them. */
struct offset_map {
	struct {
		uint64_t key; /* offset and number of elements; 0: free */
		void *value;
	} * slots;
	uint32_t mask, nr;
};

/* A text and the numbers that go with it, ascending. */
struct text_entry {
	uint64_t hash;
	struct str text;
	uint32_t *v;
	uint32_t nr;
};
struct text_map {
	struct text_entry *slots;
	uint32_t mask, nr;
};

/* Hosts of a table by their names. */
struct host_index {
	struct text_map names; /* "a.b", and of "*.b" ".b" */
	uint32_t any;	       /* number of "*", UINT32_MAX: there is none */
};

/* Entries are {route, match of it} in the order in which they are asked. */
struct route_entry {
	const struct mesh_http_route *route;
	const struct mesh_http_match *match; /* NULL: the route has none */
};
#define INDEX_PREFIX_MAX 1024 /* longer ones are asked each time */
#define INDEX_LISTS_MAX 48
struct route_index {
	struct route_entry *entries;
	uint32_t nr;
	struct text_map exact, prefix;
	uint64_t lengths[INDEX_PREFIX_MAX / 64 + 1]; /* of the prefixes */
	uint32_t longest;
	uint32_t *rest, rest_nr; /* numbers of the entries that any path may fit */
};

/* Entries that may fit a path, in order. */
struct candidates {
	const struct route_index *index;
	struct {
		const uint32_t *v;
		uint32_t left;
	} lists[INDEX_LISTS_MAX];
	uint32_t nr, next;
	bool all; /* there are too many lists */
};

struct http_rules {
	_Atomic uint32_t refs;
	const char *base;
	const struct mesh_http *http;
	void (*release)(void *data);
	void *data;
	struct arena arena;
	struct offset_map regexes; /* of a struct mesh_http_text or mesh_http_rewrite: struct regex */
	struct offset_map tables;  /* of a table: struct host_index */
	struct offset_map routes;  /* of an array of routes: struct route_index */
	struct offset_map images;  /* of an image: it was checked */
};

static inline uint32_t rules_offset(const struct http_rules *r, const void *p)
{
	return (uint32_t)((const char *)p - r->base);
}

void offset_map_put(struct offset_map *m, uint64_t key, void *value);
/* NULL: it is not there. A value that was put is never NULL. */
void *offset_map_get(const struct offset_map *m, uint64_t key);
static inline uint64_t offset_key(uint32_t at, uint32_t nr)
{
	return (uint64_t)nr << 32 | at;
}

/* index.c: made after everything was checked. */
struct host_index *host_index_new(struct arena *arena, const struct mesh_http_image *image,
				  const struct mesh_http_table *table);
const struct mesh_http_host *host_index_find(const struct host_index *ix, const struct mesh_http_image *image,
					     const struct mesh_http_table *table, struct str name);
struct route_index *route_index_new(struct arena *arena, const struct mesh_http_image *image, struct mesh_ref routes);
void candidates_begin(struct candidates *c, const struct route_index *ix, struct str path);
const struct route_entry *candidates_next(struct candidates *c); /* NULL: no more */

/* match.c. `there` is false: there is no such thing. */
bool text_matches(const struct http_rules *r, const struct mesh_http_text *t, struct str pattern, struct str s,
		  bool there);
/* An authority without its port, and without the dot at its end. */
struct str authority_name(struct str authority);
/* The path of a request without its query; *ret_query without "?", or {NULL, 0}. */
struct str request_path(const struct http_request *rq, struct str *ret_query);
/* The first parameter of that name. */
bool query_find(struct str query, struct str name, struct str *ret);
/* All fields of that name (lower case), joined by ","; in `joined` where there are several. Not those that Connection takes away. */
bool field_find(const struct http_request *rq, struct str name, struct buf *joined, struct str *ret);

/* rewrite.c: the path as the rewriting makes it (the query is not in it). */
void rewrite_path(const struct http_place *place, const struct mesh_http_rewrite *w, const struct mesh_http_match *m,
		  struct str path, struct buf *out);

#endif
