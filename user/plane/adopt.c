/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an earlier meshd left in the pinned maps: rows of an apply that was never committed are taken out of the way, and everything
 * that live rows reach is counted as in use. The first apply then replaces all of it. Must not change what a reader of the live
 * epoch sees.
 */
#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "config/alias.h"
#include "plane/plane_int.h"

/* No chain is longer than MESH_PREV_MAX; one that is goes in circles. */
#define CHAIN_MAX (2 * MESH_PREV_MAX)

/* Growing lists that become the one struct lowered of the adopted state. */
struct adoption {
	struct plane *p;
	uint64_t live;
	uint32_t *rows, *clusters, *runs;
	uint32_t row_nr, row_cap, cluster_nr, cluster_cap, run_nr, run_cap;
	uint64_t *run_seen; /* bitmap of first columns of row tables */
	uint32_t gone_cap, cidr_cap;
	uint32_t rolled_back;
	const char *corrupt; /* what is wrong, once something is */
};

static bool push(uint32_t **list, uint32_t *nr, uint32_t *cap, uint32_t value)
{
	*list = plane_grow(*list, *nr, cap, sizeof(**list));
	(*list)[(*nr)++] = value;
	return true;
}

static bool columns_ok(struct adoption *a, uint32_t at, uint32_t nr)
{
	uint32_t max = a->p->map_max[PLANE_MAP_CHOICES];

	if (nr <= ALIAS_NR_MAX && at < max && nr <= max - at)
		return true;
	a->corrupt = "a table lies outside mesh_choices";
	return false;
}

static void take_backend(struct adoption *a, uint32_t slot)
{
	if (!slot || slot >= a->p->map_max[PLANE_MAP_BACKENDS]) {
		a->corrupt = "a table names a backend that does not exist";
		return;
	}
	if (!backend_adopt(a->p, slot))
		a->corrupt = "a backend names a pool that does not exist";
	else
		backend_hold(a->p, slot);
}

static bool is_stray(struct plane *p, const struct mesh_cluster *c, uint32_t i)
{
	const uint64_t *bits;

	if (!(c->flags & MESH_CLUSTER_STRAYS) || i / 64 >= c->table_nr)
		return false;
	bits = marray_at(&p->tables, c->table, c->table_nr);
	return bits[i / 64] >> i % 64 & 1;
}

static void take_level(struct adoption *a, uint32_t slot)
{
	struct plane *p = a->p;
	const struct mesh_choice *columns;
	const struct mesh_cluster *c;

	if (!slot || slot >= p->map_max[PLANE_MAP_CLUSTERS]) {
		a->corrupt = "a table names a cluster that does not exist";
		return;
	}
	if (!slots_take(&p->cluster_slots, slot))
		return;
	push(&a->clusters, &a->cluster_nr, &a->cluster_cap, slot);
	c = marray_at(&p->clusters, slot, 1);
	name_hold(p, c->cluster_id);
	if (!pool_adopt(p, c->pool)) {
		a->corrupt = "a cluster names a pool that does not exist";
		return;
	}
	if (!c->choice_nr || !columns_ok(a, c->choice, c->choice_nr))
		return;
	if (!runs_take(&p->runs, c->choice, c->choice_nr) ||
	    (c->table_nr && !runs_take(&p->table_runs, c->table, c->table_nr))) {
		a->corrupt = "two tables overlap";
		return;
	}
	columns = marray_at(&p->choices, c->choice, c->choice_nr);
	for (uint32_t i = 0; i < c->choice_nr && !a->corrupt; i++) {
		take_backend(a, columns[i].primary);
		take_backend(a, columns[i].alias);
		if (c->first && !is_stray(p, c, i) && columns[i].primary != c->first + i)
			a->corrupt = "a cluster names other backends than its columns";
	}
}

/* All levels of a cluster, by its first. */
static void take_cluster(struct adoption *a, uint32_t slot)
{
	uint32_t i = 0;

	do {
		if (i++ == U_LEVELS_MAX)
			a->corrupt = "levels of a cluster go in circles";
		else
			take_level(a, slot);
		if (!a->corrupt)
			slot = ((struct mesh_cluster *)marray_at(&a->p->clusters, slot, 1))->next;
	} while (slot && !a->corrupt);
}

/* The table of a row, which other rows may share. */
static void take_run(struct adoption *a, const struct mesh_row *row)
{
	uint64_t *seen = &a->run_seen[row->choice / 64], bit = 1ull << row->choice % 64;
	const struct mesh_choice *columns;

	if (*seen & bit)
		return;
	*seen |= bit;
	if (!runs_take(&a->p->runs, row->choice, row->choice_nr)) {
		a->corrupt = "two tables overlap";
		return;
	}
	push(&a->runs, &a->run_nr, &a->run_cap, row->choice);
	push(&a->runs, &a->run_nr, &a->run_cap, row->choice_nr);
	columns = marray_at(&a->p->choices, row->choice, row->choice_nr);
	for (uint32_t i = 0; i < row->choice_nr && !a->corrupt; i++) {
		take_cluster(a, columns[i].primary);
		if (!a->corrupt)
			take_cluster(a, columns[i].alias);
	}
}

static bool row_ok(struct adoption *a, uint32_t slot)
{
	if (slot && slot < a->p->map_max[PLANE_MAP_ROWS])
		return true;
	a->corrupt = "a key leads to a row that does not exist";
	return false;
}

/* The version of a row that is live, 0: none. */
static uint32_t live_row(struct adoption *a, uint32_t slot)
{
	for (uint32_t i = 0; i < CHAIN_MAX; i++) {
		if (!row_ok(a, slot))
			return 0;
		if (row_at(a->p, slot)->epoch <= a->live)
			return slot;
		slot = row_at(a->p, slot)->prev;
		if (!slot)
			return 0;
	}
	a->corrupt = "versions of a row go in circles";
	return 0;
}

static void take_gone(struct adoption *a, const struct mesh_key *key, uint32_t slot)
{
	struct plane *p = a->p;

	p->gone = plane_grow(p->gone, p->gone_nr, &a->gone_cap, sizeof(*p->gone));
	p->gone[p->gone_nr++] = (struct gone){ .key = *key, .slot = slot, .tag = retire_tag(p) };
}

static void put_back(struct adoption *a, const struct mesh_key *key, uint32_t slot)
{
	struct mesh_cidr_key cidr;
	const void *k = key;
	enum plane_map_id map = PLANE_MAP_SERVICES;
	int rc;

	if (key->prefix_len < 128) {
		cidr_key(key, &cidr);
		k = &cidr;
		map = PLANE_MAP_CIDRS;
	}
	rc = slot ? bpf_map_update_elem(a->p->map_fd[map], k, &slot, BPF_ANY)
		  : bpf_map_delete_elem(a->p->map_fd[map], k);
	if (rc)
		log_warn("cannot roll back a row error=%s", strerror(errno));
	a->rolled_back++;
}

static void take_row(struct adoption *a, const struct mesh_key *key, uint32_t slot)
{
	struct plane *p = a->p;
	uint32_t live = live_row(a, slot);
	const struct mesh_row *row;
	bool own;

	if (a->corrupt)
		return;
	row = live ? row_at(p, live) : NULL;
	own = row && !memcmp(&row->key, key, sizeof(*key));
	/* A network that never became live leads to the network around it: that one has a key of its own. */
	if (live != slot)
		put_back(a, key, own ? live : 0);
	if (!row || (live != slot && !own))
		return;
	if (!slots_take(&p->row_slots, live)) {
		a->corrupt = "two keys lead to one row";
		return;
	}
	name_hold(p, row->service_id);
	if (!own || row->action == MESH_GONE) {
		take_gone(a, key, live);
		return;
	}
	push(&a->rows, &a->row_nr, &a->row_cap, live);
	if (key->prefix_len < 128) {
		p->cidrs = plane_grow(p->cidrs, p->cidr_nr, &a->cidr_cap, sizeof(*p->cidrs));
		p->cidrs[p->cidr_nr++] = (struct cidr_row){ *key, live };
	}
	if ((row->action == MESH_ROUTE || row->action == MESH_L7) && row->choice_nr &&
	    columns_ok(a, row->choice, row->choice_nr))
		take_run(a, row);
}

/* Every key and value of a map of u32 values, as two arrays that the caller frees. */
static int read_all(struct plane *p, enum plane_map_id map, size_t key_size, void **ret_keys, uint32_t **ret_values,
		    uint32_t *ret_nr)
{
	uint32_t nr = 0, cap = 0, cap2 = 0;
	char *keys = NULL, *at = NULL;
	uint32_t *values = NULL;

	for (;;) {
		keys = plane_grow(keys, nr, &cap, key_size);
		values = plane_grow(values, nr, &cap2, sizeof(*values));
		at = nr ? keys + (nr - 1) * key_size : NULL;
		if (bpf_map_get_next_key(p->map_fd[map], at, keys + nr * key_size)) {
			if (errno == ENOENT)
				break;
			free(keys);
			free(values);
			return -errno;
		}
		if (bpf_map_lookup_elem(p->map_fd[map], keys + nr * key_size, &values[nr])) {
			free(keys);
			free(values);
			return -errno;
		}
		nr++;
	}
	*ret_keys = keys;
	*ret_values = values;
	*ret_nr = nr;
	return 0;
}

static int take_services(struct adoption *a)
{
	struct mesh_key *keys;
	uint32_t *values, nr;
	int rc = read_all(a->p, PLANE_MAP_SERVICES, sizeof(*keys), (void **)&keys, &values, &nr);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < nr && !a->corrupt; i++)
		take_row(a, &keys[i], values[i]);
	free(keys);
	free(values);
	return 0;
}

static int take_cidrs(struct adoption *a)
{
	struct mesh_cidr_key *keys;
	uint32_t *values, nr;
	int rc = read_all(a->p, PLANE_MAP_CIDRS, sizeof(*keys), (void **)&keys, &values, &nr);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < nr && !a->corrupt; i++) {
		struct mesh_key key = {
			.scope = keys[i].scope,
			.port_be = keys[i].port_be,
			.proto = keys[i].proto,
			.prefix_len = (uint8_t)(keys[i].prefix_len - 64),
			.addr = keys[i].addr,
		};

		take_row(a, &key, values[i]);
	}
	free(keys);
	free(values);
	return 0;
}

static void take_pod(struct adoption *a, uint64_t cookie, uint32_t slot)
{
	struct plane *p = a->p;
	struct podset *s = &p->pods;
	uint32_t at = slot;

	for (uint32_t i = 0; at && at < p->map_max[PLANE_MAP_PODS] && i < CHAIN_MAX; i++) {
		if (pod_row_at(p, at)->epoch <= a->live)
			break;
		at = pod_row_at(p, at)->prev;
	}
	if (at && (at >= p->map_max[PLANE_MAP_PODS] || pod_row_at(p, at)->epoch > a->live)) {
		a->corrupt = "versions of a pod go in circles";
		return;
	}
	if (at != slot) {
		int rc = at ? bpf_map_update_elem(p->map_fd[PLANE_MAP_NETNS], &cookie, &at, BPF_ANY)
			    : bpf_map_delete_elem(p->map_fd[PLANE_MAP_NETNS], &cookie);

		if (rc)
			log_warn("cannot roll back a pod error=%s", strerror(errno));
		a->rolled_back++;
	}
	if (!at)
		return;
	if (!slots_take(&p->pod_slots, at)) {
		a->corrupt = "two namespaces lead to one pod";
		return;
	}
	name_hold(p, pod_row_at(p, at)->workload_id);
	name_hold(p, pod_row_at(p, at)->sidecar_id);
	name_hold(p, pod_row_at(p, at)->ns_id);
	s->enrolled = plane_grow(s->enrolled, s->enrolled_nr, &s->enrolled_cap, sizeof(*s->enrolled));
	s->enrolled[s->enrolled_nr++] = (struct enrolled){
		.cookie = cookie,
		.slot = at,
		.gone = !pod_row_at(p, at)->workload_id,
		.tag = retire_tag(p),
	};
}

static int take_pods(struct adoption *a)
{
	uint64_t *cookies;
	uint32_t *values, nr;
	int rc = read_all(a->p, PLANE_MAP_NETNS, sizeof(*cookies), (void **)&cookies, &values, &nr);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < nr && !a->corrupt; i++)
		take_pod(a, cookies[i], values[i]);
	free(cookies);
	free(values);
	return 0;
}

/* The version of an address's row that is live, 0: none. */
static uint32_t live_workload(struct adoption *a, uint32_t slot)
{
	for (uint32_t i = 0; slot && i < CHAIN_MAX; i++) {
		if (slot >= a->p->map_max[PLANE_MAP_WORKLOADS])
			break;
		if (workload_at(a->p, slot)->epoch <= a->live)
			return slot;
		slot = workload_at(a->p, slot)->prev;
	}
	if (slot)
		a->corrupt = "versions of a workload go in circles";
	return 0;
}

/* A program that several rows have is adopted once. */
static void take_program(struct adoption *a, uint32_t first)
{
	const struct programs *s = &a->p->programs;

	if (!first)
		return;
	for (uint32_t i = 1; i < s->nr; i++)
		if (s->items[i].live && s->items[i].term == first)
			return;
	a->corrupt = program_adopt(a->p, first);
}

static void take_member(struct adoption *a, const struct mesh_addr *addr, uint32_t slot)
{
	struct plane *p = a->p;
	uint32_t live = live_workload(a, slot);
	const struct mesh_workload *row;

	if (live != slot && !a->corrupt) {
		int rc = live ? bpf_map_update_elem(p->map_fd[PLANE_MAP_MEMBERS], addr, &live, BPF_ANY)
			      : bpf_map_delete_elem(p->map_fd[PLANE_MAP_MEMBERS], addr);

		if (rc)
			log_warn("cannot roll back an address error=%s", strerror(errno));
		a->rolled_back++;
	}
	if (!live || a->corrupt)
		return;
	if (!slots_take(&p->workload_slots, live)) {
		a->corrupt = "two addresses lead to one workload";
		return;
	}
	row = workload_at(p, live);
	name_hold(p, row->workload_id);
	take_program(a, row->policy);
	if (!a->corrupt)
		take_program(a, row->shadow);
	if (!a->corrupt)
		take_program(a, row->relayed);
	p->members[p->member_nr++] = (struct member){ .slot = live, .gone = !row->workload_id, .tag = retire_tag(p) };
	p->members_gone += !row->workload_id;
}

static struct plane *ordered; /* qsort has no argument for it */

static int member_order(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return memcmp(&workload_at(ordered, x->slot)->addr, &workload_at(ordered, y->slot)->addr,
		      sizeof(struct mesh_addr));
}

static int take_members(struct adoption *a)
{
	struct plane *p = a->p;
	struct mesh_addr *keys;
	uint32_t *values, nr;
	int rc = read_all(p, PLANE_MAP_MEMBERS, sizeof(*keys), (void **)&keys, &values, &nr);

	if (rc)
		return rc;
	p->members = xcalloc(nr, sizeof(*p->members));
	for (uint32_t i = 0; i < nr && !a->corrupt; i++)
		take_member(a, &keys[i], values[i]);
	ordered = p;
	if (p->member_nr)
		qsort(p->members, p->member_nr, sizeof(*p->members), member_order);
	free(keys);
	free(values);
	return 0;
}

static int gone_order(const void *a, const void *b)
{
	return memcmp(&((const struct gone *)a)->key, &((const struct gone *)b)->key, sizeof(struct mesh_key));
}

static struct lowered *adoption_result(const struct adoption *a)
{
	uint32_t nr = a->row_nr + a->cluster_nr + a->run_nr;
	struct lowered *l = xmalloc(sizeof(*l) + nr * sizeof(*l->slot));

	l->row_nr = a->row_nr;
	l->cluster_nr = a->cluster_nr;
	l->run_nr = a->run_nr / 2;
	if (a->row_nr)
		memcpy(l->slot, a->rows, a->row_nr * sizeof(*l->slot));
	if (a->cluster_nr)
		memcpy(l->slot + a->row_nr, a->clusters, a->cluster_nr * sizeof(*l->slot));
	if (a->run_nr)
		memcpy(l->slot + a->row_nr + a->cluster_nr, a->runs, a->run_nr * sizeof(*l->slot));
	return l;
}

int adopt(struct plane *p, struct buf *err)
{
	struct adoption a = { .p = p, .live = p->control->live };
	int rc = names_adopt(p);

	p->next_epoch = a.live + 1;
	a.run_seen = xcalloc(p->map_max[PLANE_MAP_CHOICES] / 64 + 1, sizeof(*a.run_seen));
	if (!rc)
		rc = take_services(&a);
	if (!rc && !a.corrupt)
		rc = take_cidrs(&a);
	if (!rc && !a.corrupt)
		rc = take_pods(&a);
	if (!rc && !a.corrupt)
		rc = take_members(&a);
	if (!rc && !a.corrupt)
		rc = backends_adopt_left(p);
	if (rc)
		buf_printf(err, "cannot read the pinned maps: %s", strerror(-rc));
	if (a.corrupt) {
		buf_printf(err, "the pinned maps contradict each other: %s; run meshd --unload, then start again",
			   a.corrupt);
		rc = -EUCLEAN;
	}
	if (!rc) {
		if (p->gone_nr)
			qsort(p->gone, p->gone_nr, sizeof(*p->gone), gone_order);
		p->adopted = adoption_result(&a);
		/* Slots that the earlier meshd gave up, or that were rolled back just now, may still be in somebody's hands. */
		barrier_wait(p);
		if (a.rolled_back)
			log_info("rolled back an apply that was never committed rows=%u", a.rolled_back);
	}
	free(a.rows);
	free(a.clusters);
	free(a.runs);
	free(a.run_seen);
	return rc;
}
