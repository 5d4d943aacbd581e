/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ids of services, clusters and workloads, and mesh_names, which tells people what they mean. An id keeps its text for as long as a
 * row, cluster, backend or pod refers to it, and for a while after, since closed flows name it still; ids are never used again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/plane_int.h"

/* So many texts that nothing refers to are kept before those that no flow names are dropped, oldest first. */
#define NAMES_IDLE_MAX 32768u
#define NAMES_BATCH 1024u

struct name_key {
	struct str text;
	uint8_t kind;
};

static uint64_t text_hash(struct str text, uint8_t kind)
{
	return slotset_mix(str_hash(text) + kind);
}

static uint64_t hash_by_text(const void *owner, uint32_t value)
{
	const struct name *n = &((const struct names *)owner)->items[value];

	return text_hash((struct str){ n->text, n->len }, n->kind);
}

static uint64_t hash_by_id(const void *owner, uint32_t value)
{
	return slotset_mix(((const struct names *)owner)->items[value].id);
}

static bool eq_by_text(const void *owner, uint32_t value, const void *key)
{
	const struct name *n = &((const struct names *)owner)->items[value];
	const struct name_key *want = key;

	return n->kind == want->kind && str_eq((struct str){ n->text, n->len }, want->text);
}

static bool eq_by_id(const void *owner, uint32_t value, const void *key)
{
	return ((const struct names *)owner)->items[value].id == *(const uint32_t *)key;
}

void names_init(struct plane *p)
{
	struct names *n = &p->names;

	n->nr = 1;
	n->next_id = 1;
	n->items = plane_grow(NULL, 0, &n->cap, sizeof(*n->items));
	slotset_init(&n->by_text, hash_by_text, n);
	slotset_init(&n->by_id, hash_by_id, n);
}

void names_release(struct plane *p)
{
	struct names *n = &p->names;

	for (uint32_t i = 1; i < n->nr; i++)
		free(n->items[i].text);
	free(n->items);
	free(n->pending);
	free(n->spare);
	slotset_release(&n->by_text);
	slotset_release(&n->by_id);
	*n = (struct names){ 0 };
}

static struct name *name_find(const struct plane *p, uint32_t id)
{
	uint32_t at = id ? slotset_find(&p->names.by_id, slotset_mix(id), eq_by_id, &id) : 0;

	return at ? &p->names.items[at] : NULL;
}

static uint32_t name_add(struct names *n, uint8_t kind, struct str text, uint32_t id)
{
	struct name *name;
	uint32_t at;

	if (n->spare_nr) {
		at = n->spare[--n->spare_nr];
	} else {
		n->items = plane_grow(n->items, n->nr, &n->cap, sizeof(*n->items));
		at = n->nr++;
	}
	name = &n->items[at];
	*name = (struct name){ .id = id, .kind = kind, .len = (uint16_t)text.len, .text = xmalloc(text.len + 1) };
	memcpy(name->text, text.p, text.len);
	name->text[text.len] = 0;
	slotset_add(&n->by_text, at);
	slotset_add(&n->by_id, at);
	return at;
}

static void name_idle(struct names *n, struct name *name)
{
	name->idle_since = ++n->idle_seq;
	n->idle++;
}

uint32_t name_ref(struct plane *p, enum mesh_name_kind kind, struct str text)
{
	struct names *n = &p->names;
	struct name_key key = { .kind = (uint8_t)kind };
	char cut[MESH_NAME_LEN];
	uint32_t at, id;

	if (text.len >= MESH_NAME_LEN) {
		int keep = MESH_NAME_LEN - 1 - 17;

		snprintf(cut, sizeof(cut), "%.*s~%016llx", keep, text.p, (unsigned long long)str_hash(text));
		text = str_of(cut);
	}
	key.text = text;
	at = slotset_find(&n->by_text, text_hash(text, key.kind), eq_by_text, &key);
	if (!at) {
		do
			id = n->next_id++;
		while (!id || name_find(p, id));
		at = name_add(n, key.kind, text, id);
		n->pending = plane_grow(n->pending, n->pending_nr, &n->pending_cap, sizeof(*n->pending));
		n->pending[n->pending_nr++] = at;
	} else if (!n->items[at].refs) {
		n->idle--;
	}
	n->items[at].refs++;
	return n->items[at].id;
}

void name_hold(struct plane *p, uint32_t id)
{
	struct name *name = name_find(p, id);

	if (name && !name->refs++)
		p->names.idle--;
}

void name_drop(struct plane *p, uint32_t id)
{
	struct name *name = name_find(p, id);

	if (name && name->refs && !--name->refs)
		name_idle(&p->names, name);
}

struct str name_text(const struct plane *p, uint32_t id)
{
	const struct name *name = name_find(p, id);

	return name ? (struct str){ name->text, name->len } : (struct str){ 0 };
}

/* A policy counts its verdicts for as long as it has a name. */
static int hits_begin(struct plane *p, uint32_t id, struct buf *err)
{
	const struct mesh_policy_hits none = { 0 };

	if (!bpf_map_update_elem(p->map_fd[PLANE_MAP_POLICIES], &id, &none, BPF_NOEXIST) || errno == EEXIST)
		return 0;
	buf_printf(err, "cannot write mesh_policies: %s; raise max-policy-terms", strerror(errno));
	return -errno;
}

int names_flush(struct plane *p, struct buf *err)
{
	struct names *n = &p->names;
	uint32_t cap = n->pending_nr < NAMES_BATCH ? n->pending_nr : NAMES_BATCH, at = 0;
	struct mesh_name *values = xcalloc(cap ? cap : 1, sizeof(*values));
	uint32_t *ids = xcalloc(cap ? cap : 1, sizeof(*ids));
	int rc = 0;

	while (at < n->pending_nr) {
		uint32_t nr = n->pending_nr - at < cap ? n->pending_nr - at : cap;

		for (uint32_t i = 0; i < nr; i++) {
			const struct name *name = &n->items[n->pending[at + i]];

			ids[i] = name->id;
			values[i] = (struct mesh_name){ .kind = name->kind };
			memcpy(values[i].text, name->text, name->len);
		}
		rc = plane_errno(bpf_map_update_batch(p->map_fd[PLANE_MAP_NAMES], ids, values, &nr, NULL));
		if (rc) {
			buf_printf(err, "cannot write mesh_names: %s", strerror(-rc));
			if (rc == -E2BIG)
				buf_printf(err, ": more than %u names; raise max-services or max-endpoints",
					   p->map_max[PLANE_MAP_NAMES]);
			break;
		}
		for (uint32_t i = 0; i < nr && !rc; i++) {
			n->items[n->pending[at + i]].written = true;
			if (values[i].kind == MESH_NAME_POLICY)
				rc = hits_begin(p, ids[i], err);
		}
		at += nr;
		if (rc)
			break;
	}
	n->pending_nr -= at;
	if (n->pending_nr) {
		memmove(n->pending, n->pending + at, n->pending_nr * sizeof(*n->pending));
	} else {
		free(n->pending);
		n->pending = NULL;
		n->pending_cap = 0;
	}
	free(values);
	free(ids);
	return rc;
}

static void adopt_one(struct plane *p, uint32_t id, const struct mesh_name *value)
{
	struct names *n = &p->names;
	struct name_key key = { .kind = (uint8_t)value->kind };
	uint32_t at;

	key.text = (struct str){ value->text, (uint32_t)strnlen(value->text, MESH_NAME_LEN - 1) };
	if (!id || name_find(p, id))
		return;
	/* Two ids of one text: the younger one serves, the other stays for old flows until it is dropped. */
	if (slotset_find(&n->by_text, text_hash(key.text, key.kind), eq_by_text, &key))
		log_debug("two ids of one name id=%u", id);
	at = name_add(n, key.kind, key.text, id);
	n->items[at].written = true;
	name_idle(n, &n->items[at]);
	if (id >= n->next_id)
		n->next_id = id + 1;
}

int names_adopt(struct plane *p)
{
	uint32_t cap = NAMES_BATCH, in = 0, out = 0;
	uint32_t *ids = xcalloc(cap, sizeof(*ids));
	struct mesh_name *values = xcalloc(cap, sizeof(*values));
	bool first = true;
	int rc;

	for (;;) {
		uint32_t nr = cap;

		rc = plane_errno(bpf_map_lookup_batch(p->map_fd[PLANE_MAP_NAMES], first ? NULL : &in, &out, ids, values,
						      &nr, NULL));
		if (rc == -ENOSPC) { /* a bucket holds more than the batch */
			cap *= 2;
			ids = xrealloc(ids, cap * sizeof(*ids));
			values = xrealloc(values, cap * sizeof(*values));
			continue;
		}
		if (rc && rc != -ENOENT)
			break;
		for (uint32_t i = 0; i < nr; i++)
			adopt_one(p, ids[i], &values[i]);
		if (rc == -ENOENT) {
			rc = 0;
			break;
		}
		in = out;
		first = false;
	}
	free(ids);
	free(values);
	return rc;
}

static int name_older(const void *a, const void *b)
{
	const struct name *x = *(const struct name *const *)a, *y = *(const struct name *const *)b;

	return x->idle_since < y->idle_since ? -1 : x->idle_since > y->idle_since;
}

static void name_delete(struct plane *p, struct name *name)
{
	struct names *n = &p->names;
	uint32_t at = (uint32_t)(name - n->items);

	if (name->written && bpf_map_delete_elem(p->map_fd[PLANE_MAP_NAMES], &name->id) && errno != ENOENT)
		return;
	if (name->written && name->kind == MESH_NAME_POLICY)
		bpf_map_delete_elem(p->map_fd[PLANE_MAP_POLICIES], &name->id);
	slotset_del(&n->by_text, at);
	slotset_del(&n->by_id, at);
	free(name->text);
	name->text = NULL;
	n->spare = plane_grow(n->spare, n->spare_nr, &n->spare_cap, sizeof(*n->spare));
	n->spare[n->spare_nr++] = at;
	n->idle--;
}

/* A name that a flow still shows counts as used just now. */
static bool touch_flow(void *data, const struct flow_view *v)
{
	struct plane *p = data;
	const uint32_t ids[] = { v->flow->client_id, v->flow->server_id, v->flow->service_id, v->flow->cluster_id,
				 v->flow->policy_id };

	for (uint32_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
		struct name *name = name_find(p, ids[i]);

		if (name && !name->refs)
			name->idle_since = ++p->names.idle_seq;
	}
	return true;
}

void names_trim(struct plane *p)
{
	struct names *n = &p->names;
	struct name **idle;
	uint32_t nr = 0;

	if (n->idle <= NAMES_IDLE_MAX)
		return;
	plane_flows(p, &(struct flow_filter){ 0 }, touch_flow, p);
	idle = xcalloc(n->idle, sizeof(struct name *));
	for (uint32_t i = 1; i < n->nr && nr < n->idle; i++)
		if (n->items[i].text && !n->items[i].refs && n->items[i].written)
			idle[nr++] = &n->items[i];
	qsort(idle, nr, sizeof(struct name *), name_older);
	for (uint32_t i = 0; i < nr && n->idle > NAMES_IDLE_MAX / 2; i++)
		name_delete(p, idle[i]);
	free(idle);
}
