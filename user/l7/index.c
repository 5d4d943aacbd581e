/* SPDX-License-Identifier: BSD-2-Clause */
/* Indexes over hosts and routes: a thousand routes of exact paths and prefixes cost what one does, and the first that matches still wins. */
#include <stdlib.h>

#include "l7/rules.h"

#define HOST_MAX 255

/* ---- by offset ---- */

static uint32_t offset_slot(const struct offset_map *m, uint64_t key)
{
	uint32_t at = (uint32_t)(key * 0x9e3779b97f4a7c15ull >> 32) & m->mask;

	while (m->slots[at].key && m->slots[at].key != key)
		at = (at + 1) & m->mask;
	return at;
}

void *offset_map_get(const struct offset_map *m, uint64_t key)
{
	return m->slots ? m->slots[offset_slot(m, key)].value : NULL;
}

void offset_map_put(struct offset_map *m, uint64_t key, void *value)
{
	uint32_t at;

	if (!m->slots || 2 * m->nr > m->mask) {
		struct offset_map more = { .mask = m->slots ? 2 * m->mask + 1 : 15, .nr = m->nr };

		more.slots = xcalloc(more.mask + 1ul, sizeof(*more.slots));
		for (uint32_t i = 0; m->slots && i <= m->mask; i++)
			if (m->slots[i].key)
				more.slots[offset_slot(&more, m->slots[i].key)] = m->slots[i];
		free(m->slots);
		*m = more;
	}
	at = offset_slot(m, key);
	m->nr += !m->slots[at].key;
	m->slots[at].key = key;
	m->slots[at].value = value;
}

/* ---- by text ---- */

static uint32_t text_slot(const struct text_map *m, struct str text, uint64_t hash)
{
	uint32_t at = (uint32_t)(hash ^ hash >> 32) & m->mask;

	while (m->slots[at].nr && (m->slots[at].hash != hash || !str_eq(m->slots[at].text, text)))
		at = (at + 1) & m->mask;
	return at;
}

static const struct text_entry *text_map_get(const struct text_map *m, struct str text, uint64_t hash)
{
	const struct text_entry *e;

	if (!m->slots)
		return NULL;
	e = &m->slots[text_slot(m, text, hash)];
	return e->nr ? e : NULL;
}

static void text_map_grow(struct text_map *m, struct arena *arena)
{
	struct text_map more = { .mask = m->slots ? 2 * m->mask + 1 : 7, .nr = m->nr };

	more.slots = arena_array(arena, more.mask + 1ul, sizeof(*more.slots));
	for (uint32_t i = 0; m->slots && i <= m->mask; i++)
		if (m->slots[i].nr)
			more.slots[text_slot(&more, m->slots[i].text, m->slots[i].hash)] = m->slots[i];
	*m = more;
}

/* One number more for this text. */
static void text_map_add(struct text_map *m, struct arena *arena, struct str text, uint32_t value)
{
	uint64_t hash = str_hash(text);
	struct text_entry *e;

	if (!m->slots || 2 * m->nr > m->mask)
		text_map_grow(m, arena);
	e = &m->slots[text_slot(m, text, hash)];
	if (!e->nr) {
		m->nr++;
		e->hash = hash;
		e->text = text;
	}
	/* Room for a power of two of them. */
	if (!(e->nr & (e->nr - 1))) {
		uint32_t *v = arena_array(arena, e->nr ? 2ul * e->nr : 1, sizeof(*v));

		if (e->nr)
			memcpy(v, e->v, e->nr * sizeof(*v));
		e->v = v;
	}
	e->v[e->nr++] = value;
}

/* ---- hosts ---- */

struct host_index *host_index_new(struct arena *arena, const struct mesh_http_image *image,
				  const struct mesh_http_table *table)
{
	struct host_index *ix = arena_new(arena, struct host_index);
	const struct mesh_http_host *hosts = http_ref(image, table->hosts);

	ix->any = UINT32_MAX;
	for (uint32_t i = 0; i < table->hosts.nr; i++) {
		struct str name = http_text(image, hosts[i].name);

		if (str_is(name, "*"))
			ix->any = ix->any == UINT32_MAX ? i : ix->any;
		else
			text_map_add(&ix->names, arena, name.p[0] == '*' ? str_sub(name, 1, name.len) : name, i);
	}
	return ix;
}

const struct mesh_http_host *host_index_find(const struct host_index *ix, const struct mesh_http_image *image,
					     const struct mesh_http_table *table, struct str name)
{
	const struct mesh_http_host *hosts = http_ref(image, table->hosts);
	char lower[HOST_MAX];
	struct str s = { lower, name.len };
	const struct text_entry *e;

	if (ix->names.nr && name.len && name.len <= sizeof(lower)) {
		for (uint32_t i = 0; i < name.len; i++)
			lower[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] | 0x20) : name.p[i];
		/* An authority that begins with a dot is no name, and ".b" means "*.b". */
		e = lower[0] == '.' ? NULL : text_map_get(&ix->names, s, str_hash(s));
		for (uint32_t i = 1; !e && i < name.len; i++)
			if (lower[i] == '.') {
				s = (struct str){ lower + i, name.len - i };
				e = text_map_get(&ix->names, s, str_hash(s));
			}
		if (e)
			return &hosts[e->v[0]];
	}
	return ix->any == UINT32_MAX ? NULL : &hosts[ix->any];
}

/* ---- routes ---- */

/* Without the slashes at its end, which mean nothing there. */
static struct str path_prefix(struct str s)
{
	while (s.len && s.p[s.len - 1] == '/')
		s.len--;
	return s;
}

static void index_entry(struct route_index *ix, struct arena *arena, const struct mesh_http_image *image,
			const struct mesh_http_match *m, uint32_t nr)
{
	struct str text = m ? http_text(image, m->path.text) : STR("");

	if (m && !m->path.invert && !m->path.ignore_case) {
		if (m->path.kind == MESH_TEXT_EXACT) {
			text_map_add(&ix->exact, arena, text, nr);
			return;
		}
		if (m->path.kind == MESH_TEXT_PATH_PREFIX)
			text = path_prefix(text);
		if ((m->path.kind == MESH_TEXT_PREFIX || m->path.kind == MESH_TEXT_PATH_PREFIX) &&
		    text.len <= INDEX_PREFIX_MAX) {
			text_map_add(&ix->prefix, arena, text, nr);
			ix->lengths[text.len / 64] |= 1ull << text.len % 64;
			ix->longest = text.len > ix->longest ? text.len : ix->longest;
			return;
		}
	}
	ix->rest[ix->rest_nr++] = nr;
}

struct route_index *route_index_new(struct arena *arena, const struct mesh_http_image *image, struct mesh_ref ref)
{
	struct route_index *ix = arena_new(arena, struct route_index);
	const struct mesh_http_route *routes = http_ref(image, ref);
	uint32_t total = 0;

	for (uint32_t i = 0; i < ref.nr; i++)
		total += routes[i].matches.nr ? routes[i].matches.nr : 1;
	ix->entries = arena_array(arena, total, sizeof(*ix->entries));
	ix->rest = arena_array(arena, total, sizeof(*ix->rest));
	for (uint32_t i = 0; i < ref.nr; i++) {
		const struct mesh_http_match *m = http_ref(image, routes[i].matches);

		for (uint32_t k = 0; k < (m ? routes[i].matches.nr : 1); k++) {
			ix->entries[ix->nr] = (struct route_entry){ &routes[i], m ? &m[k] : NULL };
			index_entry(ix, arena, image, m ? &m[k] : NULL, ix->nr++);
		}
	}
	return ix;
}

/* ---- which entries may fit a path ---- */

static void candidates_add(struct candidates *c, const uint32_t *v, uint32_t nr)
{
	if (c->nr == INDEX_LISTS_MAX) {
		c->all = true;
		return;
	}
	c->lists[c->nr].v = v;
	c->lists[c->nr++].left = nr;
}

void candidates_begin(struct candidates *c, const struct route_index *ix, struct str path)
{
	uint64_t hash = str_hash(STR(""));
	const struct text_entry *e;

	c->nr = c->next = 0;
	c->all = false;
	c->index = ix;
	if (ix->rest_nr)
		candidates_add(c, ix->rest, ix->rest_nr);
	if (ix->exact.nr && (e = text_map_get(&ix->exact, path, str_hash(path))))
		candidates_add(c, e->v, e->nr);
	if (!ix->prefix.nr)
		return;
	for (uint32_t len = 0;; len++) {
		if (ix->lengths[len / 64] >> len % 64 & 1) {
			e = text_map_get(&ix->prefix, (struct str){ path.p, len }, hash);
			if (e)
				candidates_add(c, e->v, e->nr);
		}
		if (len == path.len || len == ix->longest)
			return;
		hash = str_hash_more(hash, path.p[len]);
	}
}

const struct route_entry *candidates_next(struct candidates *c)
{
	uint32_t best = UINT32_MAX, at = 0;

	if (c->all)
		return c->next < c->index->nr ? &c->index->entries[c->next++] : NULL;
	for (uint32_t i = 0; i < c->nr; i++)
		if (c->lists[i].left && *c->lists[i].v < best) {
			best = *c->lists[i].v;
			at = i;
		}
	if (best == UINT32_MAX)
		return NULL;
	c->lists[at].v++;
	c->lists[at].left--;
	return &c->index->entries[best];
}
