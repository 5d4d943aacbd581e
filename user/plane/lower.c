/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A unit, written into free slots: backends, clusters with their tables over backends, alias tables of rows over clusters, rows. Nothing here is reachable until apply.c points a key at a row. References are counted in what the maps say, so that they
 * can be counted again after a restart: each column holds its two backends, each cluster, row, backend and pod its name.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "base/arena.h"
#include "config/alias.h"
#include "config/tables.h"
#include "plane/plane_int.h"

/* A weighted round robin has at most so many turns, or as many as endpoints. */
#define TURNS_MAX 4096
/* The columns of fewer endpoints are few lines of memory, strays or not. */
#define STRAYS_MIN 64

_Static_assert(sizeof(struct addr) == sizeof(struct mesh_addr), "one address form");

struct mesh_row *row_at(struct plane *p, uint32_t slot)
{
	return marray_at(&p->rows, slot, 1);
}

struct mesh_pod *pod_row_at(struct plane *p, uint32_t slot)
{
	return marray_at(&p->pods_rows, slot, 1);
}

static struct mesh_cluster *cluster_at(struct plane *p, uint32_t slot)
{
	return marray_at(&p->clusters, slot, 1);
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
	if (c->table_nr)
		runs_put(&p->table_runs, c->table, c->table_nr);
	name_drop(p, c->cluster_id);
	pool_drop(p, c->pool);
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

static bool has_table(const struct mesh_cluster *c)
{
	return c->lb == MESH_LB_RING || c->lb == MESH_LB_MAGLEV ||
	       (c->lb == MESH_LB_ROUND_ROBIN && (c->flags & MESH_CLUSTER_WEIGHTED));
}

/* Which columns are strays, while most are none. Where no room is left for that, all are read. Who takes turns finds columns one beside another. */
static void level_strays(struct lowering *lo, uint32_t nr, uint32_t in_place, uint32_t first, struct mesh_cluster *c)
{
	uint32_t words = (nr + 63) / 64, at;
	uint64_t *bits;

	if (c->lb == MESH_LB_ROUND_ROBIN || nr < STRAYS_MIN || in_place < nr / 2 ||
	    !runs_get(&lo->p->table_runs, words, &at))
		return;
	bits = marray_at(&lo->p->tables, at, words);
	memset(bits, 0, words * sizeof(*bits));
	for (uint32_t i = 0; i < nr; i++)
		if (lo->ids[i] != first + i)
			bits[i / 64] |= 1ull << i % 64;
	c->first = first;
	c->flags |= MESH_CLUSTER_STRAYS;
	c->table = at;
	c->table_nr = words;
}

/*
 * Where endpoints are alike and their backends' numbers follow each other, column i is backend first + i: connect() reads no column then,
 * which is one line of memory less for it to wait for. Tables of hashes keep the order of the rules, which is the same on every node.
 */
static void level_align(struct lowering *lo, uint32_t nr, struct mesh_cluster *c)
{
	uint32_t in_place = 0, first;

	if (c->flags & MESH_CLUSTER_WEIGHTED || has_table(c))
		return;
	first = alias_align(lo->ids, nr, lo->scratch, &in_place);
	if (in_place == nr)
		c->first = first;
	else
		level_strays(lo, nr, in_place, first, c);
}

static void backends_unused(struct lowering *lo, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		backend_unused(lo->p, lo->ids[i]);
}

/* The endpoints of one level: a run of columns over their backends. */
static int level_backends(struct lowering *lo, const struct u_endpoint *e, uint32_t nr, uint8_t proto,
			  struct mesh_cluster *c)
{
	struct plane *p = lo->p;
	struct mesh_choice *columns;
	uint64_t sum = 0;
	uint32_t at = 0;
	int err;

	for (uint32_t i = 0; i < nr; i++) {
		lo->weights[i] = e[i].weight;
		if (e[i].weight != e->weight)
			c->flags |= MESH_CLUSTER_WEIGHTED;
		lo->ids[i] = backend_get(p, lo->u, &e[i], proto, c->pool);
		if (!lo->ids[i]) {
			backends_unused(lo, i);
			return full(lo, "endpoints", "max-endpoints", p->max_endpoints);
		}
	}
	level_align(lo, nr, c);
	err = run_build(lo, nr, &at, &sum);
	if (err) {
		backends_unused(lo, nr);
		return err;
	}
	c->choice = at;
	c->weight_sum = sum;
	c->choice_nr = nr;
	columns = marray_at(&p->choices, c->choice, c->choice_nr);
	for (uint32_t i = 0; i < c->choice_nr; i++) {
		backend_hold(p, columns[i].primary);
		backend_hold(p, columns[i].alias);
	}
	return 0;
}

/* The table that the level's kind of balancing needs besides columns, to be freed; *ret_nr: turns, positions, entries. */
static uint64_t *table_words(const struct table_entry *entries, uint32_t nr, const struct u_traffic *t, uint16_t lb,
			     uint32_t *ret_nr)
{
	struct table_position *ring;
	uint32_t *ids = NULL;
	uint64_t *words;

	switch (lb) {
	case MESH_LB_ROUND_ROBIN:
		*ret_nr = table_turns(entries, nr, TURNS_MAX, &ids);
		break;
	case MESH_LB_RING:
		*ret_nr = table_ring(entries, nr, t->table_size, &ring);
		words = xcalloc(*ret_nr, sizeof(*words));
		for (uint32_t i = 0; i < *ret_nr; i++)
			words[i] = ring[i].hash >> 32 << 32 | ring[i].id;
		free(ring);
		return words;
	case MESH_LB_MAGLEV:
		ids = xcalloc(t->table_size, sizeof(*ids));
		*ret_nr = table_maglev(entries, nr, t->table_size, ids) ? 0 : t->table_size;
		break;
	}
	words = xcalloc(*ret_nr, sizeof(*words));
	for (uint32_t i = 0; i < *ret_nr; i++)
		words[i] = ids[i];
	free(ids);
	return words;
}

static int level_table(struct lowering *lo, const struct u_endpoint *e, const struct u_traffic *t,
		       struct mesh_cluster *c)
{
	struct plane *p = lo->p;
	struct table_entry *entries = xcalloc(c->choice_nr, sizeof(*entries));
	uint32_t nr = 0, at = 0;
	uint64_t *words;
	int err = 0;

	for (uint32_t i = 0; i < c->choice_nr; i++)
		entries[i] = (struct table_entry){
			.addr = e[i].addr, .port = e[i].port, .weight = e[i].weight, .id = lo->ids[i]
		};
	words = table_words(entries, c->choice_nr, t, c->lb, &nr);
	c->table_nr = nr;
	if (!nr) {
		buf_printf(lo->err, "%.*s: more endpoints than a Maglev table of %u entries holds",
			   STR_ARG(lo->u->host), t->table_size);
		err = -ERANGE;
	} else if (!runs_get(&p->table_runs, c->table_nr, &at)) {
		c->table_nr = 0;
		err = full(lo, "tables", "max-table-entries", p->map_max[PLANE_MAP_TABLES]);
	} else {
		c->table = at;
		memcpy(marray_at(&p->tables, at, c->table_nr), words, nr * sizeof(*words));
	}
	free(words);
	free(entries);
	return err;
}

static uint16_t lb_of(const struct u_traffic *t)
{
	switch (t->lb) {
	case LB_RANDOM:
		return MESH_LB_RANDOM;
	case LB_ROUND_ROBIN:
		return MESH_LB_ROUND_ROBIN;
	case LB_RING:
		return MESH_LB_RING;
	case LB_MAGLEV:
		return MESH_LB_MAGLEV;
	}
	return MESH_LB_LEAST_REQUEST;
}

/* One level, before `next`: its slot is in *ret. */
static int lower_level(struct lowering *lo, const struct u_cluster *uc, uint32_t first, uint32_t nr, uint8_t proto,
		       uint32_t pool, uint32_t next, uint32_t *ret)
{
	const struct u_endpoint *e = lo->u->endpoints + uc->endpoint + first;
	struct plane *p = lo->p;
	struct mesh_cluster c = { .pool = pool, .next = next, .share = first ? 0 : 100, .lb = lb_of(&uc->traffic) };
	uint32_t slot = slots_get(&p->cluster_slots);
	int err = 0;

	if (!slot)
		return full(lo, "destinations", "max-services", p->map_max[PLANE_MAP_CLUSTERS]);
	c.flags = (uint16_t)((uc->elsewhere ? MESH_CLUSTER_ELSEWHERE : 0) | (uc->local ? MESH_CLUSTER_LOCAL : 0));
	if (nr)
		err = level_backends(lo, e, nr, proto, &c);
	if (!err && nr && has_table(&c))
		err = level_table(lo, e, &uc->traffic, &c);
	c.cluster_id = name_ref(p, MESH_NAME_CLUSTER, uc->name);
	pool_hold(p, pool);
	*cluster_at(p, slot) = c;
	lo->clusters[lo->cluster_nr++] = slot;
	*ret = slot;
	return err;
}

/* The first level of a cluster of the unit for one protocol, made when first asked for. */
static int lower_cluster(struct lowering *lo, uint32_t index, uint8_t proto, uint32_t *ret)
{
	uint32_t *known = &lo->cluster_of[index * 2 + (proto == MESH_PROTO_UDP)];
	const struct u_cluster *uc = &lo->u->clusters[index];
	const struct u_endpoint *e = lo->u->endpoints + uc->endpoint;
	uint32_t pool, end = uc->endpoint_nr, slot = 0;
	int err = 0;

	if (*known) {
		*ret = *known;
		return 0;
	}
	pool = pool_get(lo->p, uc);
	if (!pool)
		return full(lo, "destinations", "max-services", lo->p->map_max[PLANE_MAP_POOLS]);
	/* From the last level to the first, so that each knows the next. */
	do {
		uint32_t first = end ? end - 1 : 0;

		while (first && e[first - 1].level == e[first].level)
			first--;
		err = lower_level(lo, uc, first, end - first, proto, pool, slot, &slot);
		end = first;
	} while (!err && end);
	pool_drop(lo->p, pool);
	if (!err)
		*ret = *known = slot;
	return err;
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
	struct mesh_row row = { .key = lower_key(r), .epoch = lo->epoch, .action = r->l7 ? MESH_L7 : r->action };
	uint32_t slot;
	int err;

	if (r->action == MESH_ROUTE) {
		err = lower_choice(lo, r, &row);
		if (err)
			return err;
		row.flags = sends_to_itself(lo->u, r) ? MESH_ROW_ENDPOINT : 0;
		row.flags |= r->l7 && r->fail_open ? MESH_ROW_FAIL_OPEN : 0;
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
	lo.clusters = arena_array(&arena, u->cluster_nr * 2 * U_LEVELS_MAX, sizeof(uint32_t));
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
