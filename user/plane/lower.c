/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A unit, written into free slots: backends, clusters with their alias tables over backends, alias tables of rows over clusters,
 * rows. Nothing here is reachable until apply.c points a key at a row. References are counted in what the maps say, so that they
 * can be counted again after a restart: each column holds its two backends, each cluster, row, backend and pod its name.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "base/arena.h"
#include "config/alias.h"
#include "plane/plane_int.h"

_Static_assert(sizeof(struct addr) == sizeof(struct mesh_addr), "one address form");

struct backend_key {
	struct mesh_addr addr;
	uint16_t port_be;
	uint8_t proto;
};

static uint64_t backend_hash(const struct mesh_addr *a, uint16_t port_be, uint8_t proto)
{
	uint64_t w[2];

	memcpy(w, a, sizeof(w));
	return slotset_mix(slotset_mix(w[0] ^ ((uint64_t)port_be << 8 | proto)) ^ w[1]);
}

struct mesh_row *row_at(struct plane *p, uint32_t slot)
{
	return marray_at(&p->rows, slot, 1);
}

struct mesh_pod *pod_row_at(struct plane *p, uint32_t slot)
{
	return marray_at(&p->pods_rows, slot, 1);
}

static struct mesh_backend *backend_at(const struct plane *p, uint32_t slot)
{
	return marray_at((struct marray *)&p->backends, slot, 1);
}

static struct mesh_cluster *cluster_at(struct plane *p, uint32_t slot)
{
	return marray_at(&p->clusters, slot, 1);
}

static uint64_t hash_by_slot(const void *owner, uint32_t slot)
{
	const struct mesh_backend *b = backend_at(owner, slot);

	return backend_hash(&b->addr, b->port_be, b->proto);
}

static bool eq_by_key(const void *owner, uint32_t slot, const void *key)
{
	const struct mesh_backend *b = backend_at(owner, slot);
	const struct backend_key *want = key;

	return b->port_be == want->port_be && b->proto == want->proto &&
	       !memcmp(&b->addr, &want->addr, sizeof(b->addr));
}

void backends_init(struct plane *p)
{
	slots_init(&p->backend_slots, p->map_max[PLANE_MAP_BACKENDS]);
	p->backend_refs = xcalloc(p->map_max[PLANE_MAP_BACKENDS], sizeof(*p->backend_refs));
	slotset_init(&p->backend_set, hash_by_slot, p);
}

void backend_hold(struct plane *p, uint32_t slot)
{
	if (slot)
		p->backend_refs[slot]++;
}

/* First sight of a backend that an earlier meshd left. */
void backend_adopt(struct plane *p, uint32_t slot)
{
	if (slots_take(&p->backend_slots, slot)) {
		slotset_add(&p->backend_set, slot);
		name_hold(p, backend_at(p, slot)->workload_id);
	}
}

static void backend_drop(struct plane *p, uint32_t slot)
{
	struct mesh_backend *b;

	if (!slot || --p->backend_refs[slot])
		return;
	b = backend_at(p, slot);
	slotset_del(&p->backend_set, slot);
	name_drop(p, b->workload_id);
	b->used = 0;
	slots_put(&p->backend_slots, slot);
}

/* Slot of an endpoint, without a reference; 0: the table is full. */
static uint32_t backend_get(struct plane *p, const struct unit *u, const struct u_endpoint *e, uint8_t proto)
{
	struct backend_key key = { .port_be = htons(e->port), .proto = proto };
	uint32_t slot, id, old;
	struct mesh_backend *b;

	memcpy(&key.addr, &e->addr, sizeof(key.addr));
	slot = slotset_find(&p->backend_set, backend_hash(&key.addr, key.port_be, proto), eq_by_key, &key);
	if (!slot) {
		slot = slots_get(&p->backend_slots);
		if (!slot)
			return 0;
		b = backend_at(p, slot);
		*b = (struct mesh_backend){ .addr = key.addr, .port_be = key.port_be, .proto = proto, .used = 1 };
		slotset_add(&p->backend_set, slot);
	}
	if (!e->workload)
		return slot;
	/* Only names in flow records hang on the workload: when an address changes hands, the next flow may say so at once. */
	b = backend_at(p, slot);
	old = b->workload_id;
	id = name_ref(p, MESH_NAME_WORKLOAD, u->workloads[e->workload - 1].text);
	__atomic_store_n(&b->workload_id, id, __ATOMIC_RELAXED);
	name_drop(p, old);
	return slot;
}

/* A backend that was found or made, but that no column came to hold. */
static void backend_unused(struct plane *p, uint32_t slot)
{
	if (slot && slots_used(&p->backend_slots, slot) && !p->backend_refs[slot]) {
		p->backend_refs[slot] = 1;
		backend_drop(p, slot);
	}
}

static void cluster_free(struct plane *p, uint32_t slot)
{
	struct mesh_cluster *c = cluster_at(p, slot);
	struct mesh_choice *columns;

	if (c->choice_nr) {
		columns = marray_at(&p->choices, c->choice, c->choice_nr);
		for (uint32_t i = 0; i < c->choice_nr; i++) {
			backend_drop(p, columns[i].primary);
			backend_drop(p, columns[i].alias);
		}
		runs_put(&p->runs, c->choice, c->choice_nr);
	}
	name_drop(p, c->cluster_id);
	slots_put(&p->cluster_slots, slot);
}

void row_free(struct plane *p, uint32_t slot)
{
	name_drop(p, row_at(p, slot)->service_id);
	slots_put(&p->row_slots, slot);
}

void pod_row_free(struct plane *p, uint32_t slot)
{
	name_drop(p, pod_row_at(p, slot)->workload_id);
	name_drop(p, pod_row_at(p, slot)->sidecar_id);
	name_drop(p, pod_row_at(p, slot)->ns_id);
	slots_put(&p->pod_slots, slot);
}

void lowered_free(struct plane *p, struct lowered *l)
{
	const uint32_t *slot;

	if (!l)
		return;
	slot = l->slot;
	for (uint32_t i = 0; i < l->row_nr; i++)
		row_free(p, *slot++);
	for (uint32_t i = 0; i < l->cluster_nr; i++)
		cluster_free(p, *slot++);
	for (uint32_t i = 0; i < l->run_nr; i++, slot += 2)
		runs_put(&p->runs, slot[0], slot[1]);
	free(l);
}

/* Memory of one lowering, and what it has taken so far. */
struct lowering {
	struct plane *p;
	const struct unit *u;
	uint64_t epoch;
	struct buf *err;
	uint32_t *rows, *clusters, *runs; /* slots taken; runs in pairs */
	uint32_t row_nr, cluster_nr, run_nr;
	uint32_t *cluster_of; /* [u_cluster * 2 + udp] -> slot */
	struct {
		uint32_t dest, dest_nr, at, nr;
		uint64_t sum;
		uint8_t proto;
	} * tables; /* row tables made so far */
	uint32_t table_nr;
	uint64_t *weights;
	uint32_t *ids;
	void *scratch;
};

static int full(struct lowering *lo, const char *what, const char *setting, uint32_t limit)
{
	buf_printf(lo->err, "%.*s/%.*s: no room left for %s (%u); raise %s", STR_ARG(lo->u->ns), STR_ARG(lo->u->host),
		   what, limit, setting);
	return -ENOSPC;
}

/* Alias table over `nr` ids and weights of lo; *ret_at is not set when nr is 0. */
static int run_build(struct lowering *lo, uint32_t nr, uint32_t *ret_at, uint64_t *ret_sum)
{
	struct plane *p = lo->p;
	uint32_t at;
	int err;

	if (!runs_get(&p->runs, nr, &at))
		return full(lo, "columns of choices", "max-endpoints", p->map_max[PLANE_MAP_CHOICES]);
	err = alias_build(lo->weights, lo->ids, nr, marray_at(&p->choices, at, nr), ret_sum, lo->scratch);
	if (err) {
		runs_put(&p->runs, at, nr);
		buf_printf(lo->err, "%.*s: weights sum to 0 or to more than %llu", STR_ARG(lo->u->host),
			   (unsigned long long)ALIAS_SUM_MAX);
		return err;
	}
	*ret_at = at;
	return 0;
}

static void backends_unused(struct lowering *lo, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		backend_unused(lo->p, lo->ids[i]);
}

static int cluster_backends(struct lowering *lo, const struct u_cluster *uc, uint8_t proto, struct mesh_cluster *c)
{
	const struct u_endpoint *e = lo->u->endpoints + uc->endpoint;
	struct plane *p = lo->p;
	struct mesh_choice *columns;
	uint64_t sum = 0;
	uint32_t at = 0;
	int err;

	for (uint32_t i = 0; i < uc->endpoint_nr; i++) {
		lo->weights[i] = e[i].weight;
		lo->ids[i] = backend_get(p, lo->u, &e[i], proto);
		if (!lo->ids[i]) {
			backends_unused(lo, i);
			return full(lo, "endpoints", "max-endpoints", p->max_endpoints);
		}
	}
	err = run_build(lo, uc->endpoint_nr, &at, &sum);
	if (err) {
		backends_unused(lo, uc->endpoint_nr);
		return err;
	}
	c->choice = at;
	c->weight_sum = sum;
	c->choice_nr = uc->endpoint_nr;
	columns = marray_at(&p->choices, c->choice, c->choice_nr);
	for (uint32_t i = 0; i < c->choice_nr; i++) {
		backend_hold(p, columns[i].primary);
		backend_hold(p, columns[i].alias);
	}
	return 0;
}

/* The slot of a cluster of the unit for one protocol, made when first asked for. */
static int lower_cluster(struct lowering *lo, uint32_t index, uint8_t proto, uint32_t *ret)
{
	uint32_t *known = &lo->cluster_of[index * 2 + (proto == MESH_PROTO_UDP)];
	const struct u_cluster *uc = &lo->u->clusters[index];
	struct mesh_cluster c = { .flags = uc->elsewhere ? MESH_CLUSTER_ELSEWHERE : 0 };
	uint32_t slot;
	int err;

	if (*known) {
		*ret = *known;
		return 0;
	}
	slot = slots_get(&lo->p->cluster_slots);
	if (!slot)
		return full(lo, "destinations", "max-services", lo->p->map_max[PLANE_MAP_CLUSTERS]);
	if (uc->endpoint_nr) {
		err = cluster_backends(lo, uc, proto, &c);
		if (err) {
			slots_put(&lo->p->cluster_slots, slot);
			return err;
		}
	}
	c.cluster_id = name_ref(lo->p, MESH_NAME_CLUSTER, uc->name);
	*cluster_at(lo->p, slot) = c;
	lo->clusters[lo->cluster_nr++] = slot;
	*ret = *known = slot;
	return 0;
}

/* Fills the choice of a row: a table over its destinations, shared by the unit's rows with the same destinations. */
static int lower_choice(struct lowering *lo, const struct u_row *r, struct mesh_row *row)
{
	const struct u_dest *d = lo->u->dests + r->dest;
	uint32_t at = 0;
	uint64_t sum = 0;
	int err;

	if (!r->dest_nr)
		return 0;
	for (uint32_t t = 0; t < lo->table_nr; t++) {
		if (lo->tables[t].dest == r->dest && lo->tables[t].dest_nr == r->dest_nr &&
		    lo->tables[t].proto == r->proto) {
			row->choice = lo->tables[t].at;
			row->choice_nr = lo->tables[t].nr;
			row->weight_sum = lo->tables[t].sum;
			return 0;
		}
	}
	/* Clusters first: they use the same scratch memory. */
	for (uint32_t i = 0; i < r->dest_nr; i++) {
		uint32_t slot;

		err = lower_cluster(lo, d[i].cluster, r->proto, &slot);
		if (err)
			return err;
	}
	for (uint32_t i = 0; i < r->dest_nr; i++) {
		lo->ids[i] = lo->cluster_of[d[i].cluster * 2 + (r->proto == MESH_PROTO_UDP)];
		lo->weights[i] = d[i].weight;
	}
	err = run_build(lo, r->dest_nr, &at, &sum);
	if (err)
		return err;
	lo->runs[lo->run_nr * 2] = at;
	lo->runs[lo->run_nr++ * 2 + 1] = r->dest_nr;
	lo->tables[lo->table_nr].dest = r->dest;
	lo->tables[lo->table_nr].dest_nr = r->dest_nr;
	lo->tables[lo->table_nr].proto = r->proto;
	lo->tables[lo->table_nr].at = at;
	lo->tables[lo->table_nr].nr = r->dest_nr;
	lo->tables[lo->table_nr++].sum = sum;
	row->choice = at;
	row->choice_nr = r->dest_nr;
	row->weight_sum = sum;
	return 0;
}

struct mesh_key lower_key(const struct u_row *r)
{
	struct mesh_key key = {
		.scope = r->scope,
		.port_be = htons(r->port),
		.proto = r->proto,
		.prefix_len = r->prefix_len,
	};

	memcpy(&key.addr, &r->addr, sizeof(key.addr));
	return key;
}

/* The row answers for an address that it may also send to. */
static bool sends_to_itself(const struct unit *u, const struct u_row *r)
{
	for (uint32_t i = 0; i < r->dest_nr; i++) {
		const struct u_cluster *c = &u->clusters[u->dests[r->dest + i].cluster];

		for (uint32_t k = 0; k < c->endpoint_nr; k++) {
			const struct u_endpoint *e = &u->endpoints[c->endpoint + k];

			if (e->port == r->port && addr_in(&e->addr, &r->addr, r->prefix_len))
				return true;
		}
	}
	return false;
}

static int lower_row(struct lowering *lo, const struct u_row *r, struct str service)
{
	struct mesh_row row = { .key = lower_key(r), .epoch = lo->epoch, .action = r->action };
	uint32_t slot;
	int err;

	if (r->action == MESH_ROUTE) {
		err = lower_choice(lo, r, &row);
		if (err)
			return err;
		row.flags = sends_to_itself(lo->u, r) ? MESH_ROW_ENDPOINT : 0;
	}
	slot = slots_get(&lo->p->row_slots);
	if (!slot)
		return full(lo, "rows", "max-services", lo->p->max_services);
	row.service_id = name_ref(lo->p, MESH_NAME_SERVICE, service);
	*row_at(lo->p, slot) = row;
	lo->rows[lo->row_nr++] = slot;
	return 0;
}

static uint32_t longest(const struct unit *u)
{
	uint32_t nr = 1;

	for (uint32_t i = 0; i < u->row_nr; i++)
		if (u->rows[i].dest_nr > nr)
			nr = u->rows[i].dest_nr;
	for (uint32_t i = 0; i < u->cluster_nr; i++)
		if (u->clusters[i].endpoint_nr > nr)
			nr = u->clusters[i].endpoint_nr;
	return nr;
}

static struct lowered *lowering_result(const struct lowering *lo)
{
	uint32_t nr = lo->row_nr + lo->cluster_nr + lo->run_nr * 2;
	struct lowered *l = xmalloc(sizeof(*l) + nr * sizeof(*l->slot));

	l->row_nr = lo->row_nr;
	l->cluster_nr = lo->cluster_nr;
	l->run_nr = lo->run_nr;
	memcpy(l->slot, lo->rows, lo->row_nr * sizeof(*l->slot));
	memcpy(l->slot + lo->row_nr, lo->clusters, lo->cluster_nr * sizeof(*l->slot));
	memcpy(l->slot + lo->row_nr + lo->cluster_nr, lo->runs, lo->run_nr * 2 * sizeof(*l->slot));
	return l;
}

int lower_unit(struct plane *p, const struct unit *u, uint64_t epoch, struct lowered **ret, struct buf *err)
{
	struct lowering lo = { .p = p, .u = u, .epoch = epoch, .err = err };
	uint32_t most = longest(u);
	struct arena arena = { 0 };
	struct str service;
	int rc = 0;

	lo.rows = arena_array(&arena, u->row_nr, sizeof(uint32_t));
	lo.clusters = arena_array(&arena, u->cluster_nr * 2, sizeof(uint32_t));
	lo.cluster_of = arena_array(&arena, u->cluster_nr * 2, sizeof(uint32_t));
	lo.runs = arena_array(&arena, u->row_nr * 2, sizeof(uint32_t));
	lo.tables = arena_array(&arena, u->row_nr, sizeof(*lo.tables));
	lo.weights = arena_array(&arena, most, sizeof(uint64_t));
	lo.ids = arena_array(&arena, most, sizeof(uint32_t));
	lo.scratch = arena_alloc(&arena, ALIAS_SCRATCH(most));
	service = arena_printf(&arena, "%.*s/%.*s", STR_ARG(u->ns), STR_ARG(u->host));
	for (uint32_t i = 0; i < u->row_nr && !rc; i++)
		rc = lower_row(&lo, &u->rows[i], service);
	*ret = lowering_result(&lo);
	arena_release(&arena);
	if (rc) {
		lowered_free(p, *ret);
		*ret = NULL;
	}
	return rc;
}
