/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The set of documents. One table a kind, shared between clones until one of them changes it; a change costs what it touches.
 * Documents are borrowed by their reference count and never looked into beyond their names.
 */
#include "config/model.h"

#include <stdlib.h>

#define LAYERS 2

/* After so many changes without a reader in between, the sorted list is built anew instead of edited. */
#define LIST_EDITS_MAX 16

/* Open addressing from hashes to ids; cells without an id are free. Deletion moves cells up, so there are no tombstones. */
struct cell {
	uint32_t hash, id; /* id + 1 */
};

struct cells {
	struct cell *v;
	uint32_t nr, cap;
};

/* One name in one kind. */
struct entry {
	uint32_t hash;
	struct doc *docs[LAYERS];
};

/* Visible slice documents of one service. */
struct group {
	uint32_t refs; /* of tables */
	uint32_t hash;
	struct str ns, service; /* in text */
	struct doc **docs;	/* sorted by kind and name; borrowed from the entries */
	uint32_t nr, cap;
	char text[];
};

struct table {
	uint32_t refs; /* of models */
	enum kind kind;
	struct entry *entries;
	uint32_t nr, cap, docs;
	struct cells by_name;

	struct doc **list; /* visible documents, sorted; borrowed from the entries */
	uint32_t list_nr, list_cap, list_edits;
	bool list_valid;

	struct group **groups; /* KIND_SLICE only */
	uint32_t group_nr, group_cap;
	struct cells by_service;
};

struct model {
	struct table *tables[KIND_NR];
};

/* ---- cells ---- */

static void cells_put(struct cells *c, uint32_t hash, uint32_t id)
{
	uint32_t at;

	if ((c->nr + 1) * 2 > c->cap) {
		struct cells old = *c;

		c->cap = old.cap ? old.cap * 2 : 16;
		c->nr = 0;
		c->v = xcalloc(c->cap, sizeof(*c->v));
		for (uint32_t i = 0; i < old.cap; i++)
			if (old.v[i].id)
				cells_put(c, old.v[i].hash, old.v[i].id - 1);
		free(old.v);
	}
	for (at = hash & (c->cap - 1); c->v[at].id;)
		at = (at + 1) & (c->cap - 1);
	c->v[at] = (struct cell){ hash, id + 1 };
	c->nr++;
}

/* The cell of exactly this id, which is there. */
static uint32_t cells_at(const struct cells *c, uint32_t hash, uint32_t id)
{
	uint32_t at = hash & (c->cap - 1);

	while (c->v[at].id != id + 1)
		at = (at + 1) & (c->cap - 1);
	return at;
}

static void cells_remove(struct cells *c, uint32_t hash, uint32_t id)
{
	uint32_t mask = c->cap - 1, hole = cells_at(c, hash, id);

	for (uint32_t at = (hole + 1) & mask; c->v[at].id; at = (at + 1) & mask) {
		uint32_t home = c->v[at].hash & mask;

		/* It may move into the hole unless its home lies behind that. */
		if (((at - home) & mask) < ((at - hole) & mask))
			continue;
		c->v[hole] = c->v[at];
		hole = at;
	}
	c->v[hole].id = 0;
	c->nr--;
}

static struct cells cells_copy(const struct cells *c)
{
	struct cells copy = *c;

	if (c->cap)
		copy.v = memcpy(xmalloc(c->cap * sizeof(*c->v)), c->v, c->cap * sizeof(*c->v));
	return copy;
}

static uint32_t name_hash(struct str ns, struct str name)
{
	uint64_t h = (str_hash(ns) ^ 0x2f) * 0x9e3779b97f4a7c15ull ^ str_hash(name);

	return (uint32_t)(h ^ (h >> 32));
}

/* ---- order ---- */

static bool is_istio(enum kind kind)
{
	return kind == KIND_VIRTUAL_SERVICE || kind == KIND_DESTINATION_RULE || kind == KIND_SERVICE_ENTRY ||
	       kind == KIND_WORKLOAD_ENTRY || kind == KIND_WORKLOAD_GROUP || kind == KIND_ISTIO_GATEWAY ||
	       kind == KIND_AUTHORIZATION_POLICY || kind == KIND_PEER_AUTHENTICATION || kind == KIND_SIDECAR;
}

static int doc_cmp(const struct doc *a, const struct doc *b)
{
	int ns, name, kind_name;

	if (a->meta.created_s != b->meta.created_s)
		return a->meta.created_s < b->meta.created_s ? -1 : 1;
	ns = str_cmp(a->meta.ns, b->meta.ns);
	name = str_cmp(a->meta.name, b->meta.name);
	kind_name = str_cmp(a->kind_name, b->kind_name);
	if (is_istio(a->kind))
		return name ? name : ns ? ns : kind_name;
	return ns ? ns : name ? name : kind_name;
}

static int doc_ptr_cmp(const void *a, const void *b)
{
	return doc_cmp(*(struct doc *const *)a, *(struct doc *const *)b);
}

static int slice_cmp(const struct doc *a, const struct doc *b)
{
	int r = str_cmp(a->kind_name, b->kind_name);

	return r ? r : str_cmp(a->meta.name, b->meta.name);
}

typedef int (*order_fn)(const struct doc *a, const struct doc *b);

/* First position in a sorted array whose document is not in front of `d`. */
static uint32_t position(struct doc *const *v, uint32_t nr, const struct doc *d, order_fn cmp)
{
	uint32_t low = 0, high = nr;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (cmp(v[mid], d) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void sorted_add(struct doc ***v, uint32_t *nr, uint32_t *cap, struct doc *d, order_fn cmp)
{
	uint32_t at = position(*v, *nr, d, cmp);

	if (*nr == *cap) {
		*cap = *cap ? *cap * 2 : 2;
		*v = xrealloc(*v, *cap * sizeof(**v));
	}
	memmove(*v + at + 1, *v + at, (*nr - at) * sizeof(**v));
	(*v)[at] = d;
	(*nr)++;
}

static void sorted_remove(struct doc **v, uint32_t *nr, const struct doc *d, order_fn cmp)
{
	uint32_t at = position(v, *nr, d, cmp);

	(*nr)--;
	memmove(v + at, v + at + 1, (*nr - at) * sizeof(*v));
}

/* ---- slices of a service ---- */

static struct group *group_find(const struct table *t, uint32_t hash, struct str ns, struct str service)
{
	const struct cells *c = &t->by_service;

	for (uint32_t at = hash & (c->cap - 1); c->cap && c->v[at].id; at = (at + 1) & (c->cap - 1)) {
		struct group *g = t->groups[c->v[at].id - 1];

		if (g->hash == hash && str_eq(g->service, service) && str_eq(g->ns, ns))
			return g;
	}
	return NULL;
}

static struct group *group_new(uint32_t hash, struct str ns, struct str service)
{
	struct group *g = xcalloc(1, sizeof(*g) + ns.len + service.len);

	g->refs = 1;
	g->hash = hash;
	if (ns.len)
		memcpy(g->text, ns.p, ns.len);
	if (service.len)
		memcpy(g->text + ns.len, service.p, service.len);
	g->ns = (struct str){ g->text, ns.len };
	g->service = (struct str){ g->text + ns.len, service.len };
	return g;
}

static void group_unref(struct group *g)
{
	if (--g->refs)
		return;
	free(g->docs);
	free(g);
}

static uint32_t group_id(const struct table *t, const struct group *g)
{
	const struct cells *c = &t->by_service;
	uint32_t at = g->hash & (c->cap - 1);

	while (t->groups[c->v[at].id - 1] != g)
		at = (at + 1) & (c->cap - 1);
	return c->v[at].id - 1;
}

/* The group, which only this table may have, because it is about to change. */
static struct group *group_own(struct table *t, struct group *g)
{
	struct group *own;

	if (g->refs == 1)
		return g;
	own = group_new(g->hash, g->ns, g->service);
	own->nr = own->cap = g->nr;
	own->docs = memcpy(xmalloc(g->nr * sizeof(*g->docs)), g->docs, g->nr * sizeof(*g->docs));
	t->groups[group_id(t, g)] = own;
	g->refs--;
	return own;
}

static void group_add(struct table *t, struct doc *d)
{
	struct str service = d->slices[0].service;
	uint32_t hash = name_hash(d->meta.ns, service);
	struct group *g = group_find(t, hash, d->meta.ns, service);

	if (g) {
		g = group_own(t, g);
	} else {
		g = group_new(hash, d->meta.ns, service);
		if (t->group_nr == t->group_cap) {
			t->group_cap = t->group_cap ? t->group_cap * 2 : 16;
			t->groups = xrealloc(t->groups, t->group_cap * sizeof(struct group *));
		}
		cells_put(&t->by_service, hash, t->group_nr);
		t->groups[t->group_nr++] = g;
	}
	sorted_add(&g->docs, &g->nr, &g->cap, d, slice_cmp);
}

static void group_remove(struct table *t, const struct doc *d)
{
	struct str service = d->slices[0].service;
	struct group *g = group_find(t, name_hash(d->meta.ns, service), d->meta.ns, service);
	uint32_t id, last;

	g = group_own(t, g);
	sorted_remove(g->docs, &g->nr, d, slice_cmp);
	if (g->nr)
		return;
	/* The last group takes its id. */
	id = group_id(t, g);
	last = --t->group_nr;
	cells_remove(&t->by_service, g->hash, id);
	if (id != last) {
		struct group *moved = t->groups[last];

		t->by_service.v[cells_at(&t->by_service, moved->hash, last)].id = id + 1;
		t->groups[id] = moved;
	}
	group_unref(g);
}

static bool has_group(const struct doc *d)
{
	return d->kind == KIND_SLICE && d->slice_nr && d->slices[0].service.len;
}

/* ---- tables ---- */

static void table_unref(struct table *t)
{
	if (!t || --t->refs)
		return;
	for (uint32_t i = 0; i < t->nr; i++)
		for (unsigned int layer = 0; layer < LAYERS; layer++)
			doc_unref(t->entries[i].docs[layer]);
	for (uint32_t i = 0; i < t->group_nr; i++)
		group_unref(t->groups[i]);
	free(t->entries);
	free(t->by_name.v);
	free(t->list);
	free(t->groups);
	free(t->by_service.v);
	free(t);
}

static struct table *table_copy(const struct table *t)
{
	struct table *copy = xmalloc(sizeof(*copy));

	*copy = *t;
	copy->refs = 1;
	copy->cap = t->nr;
	copy->entries = xmalloc(t->nr * sizeof(*t->entries));
	for (uint32_t i = 0; i < t->nr; i++) {
		copy->entries[i] = t->entries[i];
		for (unsigned int layer = 0; layer < LAYERS; layer++)
			if (t->entries[i].docs[layer])
				doc_ref(t->entries[i].docs[layer]);
	}
	copy->by_name = cells_copy(&t->by_name);
	copy->list = NULL;
	copy->list_nr = copy->list_cap = 0;
	copy->list_valid = false;
	copy->group_cap = t->group_nr;
	copy->groups = xmalloc(t->group_nr * sizeof(struct group *));
	for (uint32_t i = 0; i < t->group_nr; i++) {
		copy->groups[i] = t->groups[i];
		copy->groups[i]->refs++;
	}
	copy->by_service = cells_copy(&t->by_service);
	return copy;
}

static struct doc *visible(const struct entry *e)
{
	return e->docs[LAYER_APPLIED] ? e->docs[LAYER_APPLIED] : e->docs[LAYER_RULES];
}

/* kind_name empty: any. */
static struct entry *table_find(const struct table *t, uint32_t hash, struct str kind_name, struct str ns,
				struct str name)
{
	const struct cells *c;

	if (!t)
		return NULL;
	c = &t->by_name;
	for (uint32_t at = hash & (c->cap - 1); c->cap && c->v[at].id; at = (at + 1) & (c->cap - 1)) {
		struct entry *e = &t->entries[c->v[at].id - 1];
		const struct doc *d = visible(e);

		if (e->hash == hash && str_eq(d->meta.name, name) && str_eq(d->meta.ns, ns) &&
		    (!kind_name.len || str_eq(d->kind_name, kind_name)))
			return e;
	}
	return NULL;
}

/* The visible document of one name changed; either may be NULL. */
static void table_shown(struct table *t, struct doc *was, struct doc *now)
{
	if (was == now)
		return;
	if (was && has_group(was))
		group_remove(t, was);
	if (now && has_group(now))
		group_add(t, now);
	if (!t->list_valid)
		return;
	if (t->list_edits++ == LIST_EDITS_MAX) {
		t->list_valid = false;
		return;
	}
	if (was)
		sorted_remove(t->list, &t->list_nr, was, doc_cmp);
	if (now)
		sorted_add(&t->list, &t->list_nr, &t->list_cap, now, doc_cmp);
}

static struct entry *table_add(struct table *t, uint32_t hash)
{
	struct entry *e;

	if (t->nr == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 16;
		t->entries = xrealloc(t->entries, t->cap * sizeof(*t->entries));
	}
	cells_put(&t->by_name, hash, t->nr);
	e = &t->entries[t->nr++];
	*e = (struct entry){ .hash = hash };
	return e;
}

/* The last entry takes the place of an empty one. */
static void table_drop(struct table *t, struct entry *e)
{
	uint32_t id = (uint32_t)(e - t->entries), last = --t->nr;

	cells_remove(&t->by_name, e->hash, id);
	if (id == last)
		return;
	t->by_name.v[cells_at(&t->by_name, t->entries[last].hash, last)].id = id + 1;
	*e = t->entries[last];
}

/* The table, which only this model may have, because it is about to change. */
static struct table *table_own(struct model *m, enum kind kind)
{
	struct table *t = m->tables[kind];

	if (!t) {
		t = xcalloc(1, sizeof(*t));
		t->refs = 1;
		t->kind = kind;
	} else if (t->refs > 1) {
		t->refs--;
		t = table_copy(t);
	}
	m->tables[kind] = t;
	return t;
}

/* ---- model ---- */

struct model *model_new(void)
{
	return xcalloc(1, sizeof(struct model));
}

void model_free(struct model *m)
{
	if (!m)
		return;
	for (unsigned int i = 0; i < KIND_NR; i++)
		table_unref(m->tables[i]);
	free(m);
}

struct model *model_clone(const struct model *m)
{
	struct model *clone = model_new();

	*clone = *m;
	for (unsigned int i = 0; i < KIND_NR; i++)
		if (clone->tables[i])
			clone->tables[i]->refs++;
	return clone;
}

struct doc *model_put(struct model *m, struct doc *d)
{
	struct table *t = table_own(m, d->kind);
	uint32_t hash = name_hash(d->meta.ns, d->meta.name);
	struct entry *e = table_find(t, hash, d->kind_name, d->meta.ns, d->meta.name);
	struct doc *was = e ? visible(e) : NULL, *old;

	if (!e)
		e = table_add(t, hash);
	old = e->docs[d->layer];
	e->docs[d->layer] = doc_ref(d);
	t->docs += !old;
	table_shown(t, was, visible(e));
	return old;
}

struct doc *model_remove(struct model *m, enum layer layer, enum kind kind, struct str kind_name, struct str ns,
			 struct str name)
{
	uint32_t hash = name_hash(ns, name);
	struct entry *e = table_find(m->tables[kind], hash, kind_name, ns, name);
	struct doc *was, *old;
	struct table *t;

	if (!e || !e->docs[layer])
		return NULL;
	t = table_own(m, kind);
	e = table_find(t, hash, kind_name, ns, name);
	was = visible(e);
	old = e->docs[layer];
	e->docs[layer] = NULL;
	t->docs--;
	table_shown(t, was, visible(e));
	if (!visible(e))
		table_drop(t, e);
	return old;
}

struct doc *model_get(const struct model *m, enum kind kind, struct str kind_name, struct str ns, struct str name)
{
	struct entry *e = table_find(m->tables[kind], name_hash(ns, name), kind_name, ns, name);

	return e ? visible(e) : NULL;
}

struct doc *const *model_list(const struct model *m, enum kind kind, uint32_t *ret_nr)
{
	struct table *t = m->tables[kind];

	*ret_nr = 0;
	if (!t)
		return NULL;
	t->list_edits = 0;
	if (!t->list_valid) {
		if (t->list_cap < t->nr) {
			t->list_cap = t->nr;
			t->list = xrealloc(t->list, t->list_cap * sizeof(*t->list));
		}
		for (uint32_t i = 0; i < t->nr; i++)
			t->list[i] = visible(&t->entries[i]);
		t->list_nr = t->nr;
		if (t->nr)
			qsort(t->list, t->nr, sizeof(*t->list), doc_ptr_cmp);
		t->list_valid = true;
	}
	*ret_nr = t->list_nr;
	return t->list;
}

struct doc *const *model_slices_of(const struct model *m, struct str ns, struct str service, uint32_t *ret_nr)
{
	const struct table *t = m->tables[KIND_SLICE];
	const struct group *g = t ? group_find(t, name_hash(ns, service), ns, service) : NULL;

	*ret_nr = g ? g->nr : 0;
	return g ? g->docs : NULL;
}

uint32_t model_count(const struct model *m)
{
	uint32_t nr = 0;

	for (unsigned int i = 0; i < KIND_NR; i++)
		nr += m->tables[i] ? m->tables[i]->docs : 0;
	return nr;
}
