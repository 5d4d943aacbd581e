/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Readers of what user/plane wrote, all under one live epoch: rows, pods, workloads, and the choice of an endpoint. Shared by the
 * socket hooks and the tc path, so that both decide alike.
 */
#ifndef BPF_LOOKUP_H
#define BPF_LOOKUP_H

#include "decide.bpf.h"
#include "maps.bpf.h"

/* How often a lookup is repeated when the hash hands out a row of another key (a recycled element). */
#define ROW_TRIES 4

enum { ROW_RACED = -1, ROW_NONE = 0, ROW_FOUND = 1 };

/* The version of row `at` that is live: *ret is set when one is. ROW_NONE: the key was not there yet in that epoch. */
static __always_inline int row_live(__u32 at, const struct mesh_key *key, __u64 live, struct mesh_row **ret)
{
	struct mesh_row *row = NULL;
	int i;

	for (i = 0; i < MESH_PREV_MAX; i++) {
		row = bpf_map_lookup_elem(&mesh_rows, &at);
		if (!row)
			return ROW_RACED;
		if (row->epoch <= live)
			break;
		at = row->prev;
		if (!at)
			break;
	}
	/* The key is compared once, with the row where the walk ended: all versions of a row have the same, and a comparison in
	 * each round would cost the verifier dear. */
	if (!row || !mesh_row_is(row, key))
		return ROW_RACED;
	if (row->epoch > live)
		return at ? ROW_RACED : ROW_NONE;
	*ret = row;
	return row->action == MESH_GONE ? ROW_NONE : ROW_FOUND;
}

/* After a race the live epoch is read again: whoever was held up for more versions than a chain has finds the newest one then. */
static __always_inline int row_exact(const struct mesh_control *ctl, const struct mesh_key *key, __u64 *live,
				     struct mesh_row **ret)
{
	int i, found = ROW_NONE;

	for (i = 0; i < ROW_TRIES; i++) {
		__u32 *at = bpf_map_lookup_elem(&mesh_services, key);

		if (!at)
			return ROW_NONE;
		found = row_live(*(volatile __u32 *)at, key, *live, ret);
		if (found != ROW_RACED)
			break;
		*live = *(const volatile __u64 *)&ctl->live;
	}
	return found;
}

static __always_inline int row_cidr(const struct mesh_control *ctl, const struct mesh_key *key, __u64 *live,
				    struct mesh_row **ret)
{
	struct mesh_cidr_key want = {
		.prefix_len = 64 + 128,
		.scope = key->scope,
		.port_be = key->port_be,
		.proto = key->proto,
		.addr = key->addr,
	};
	int i, found = ROW_NONE;

	for (i = 0; i < ROW_TRIES; i++) {
		__u32 *at = bpf_map_lookup_elem(&mesh_cidrs, &want);

		if (!at)
			return ROW_NONE;
		found = row_live(*(volatile __u32 *)at, key, *live, ret);
		if (found != ROW_RACED)
			break;
		*live = *(const volatile __u64 *)&ctl->live;
	}
	return found;
}

/* What the client of this scope meets at key: its own row, else the common one, else a network's. */
static __always_inline int row_find(const struct mesh_control *ctl, struct mesh_key *key, __u64 *live,
				    struct mesh_row **ret)
{
	__u32 scope = key->scope;
	int found = row_exact(ctl, key, live, ret);

	if (found == ROW_NONE && scope) {
		key->scope = 0;
		found = row_exact(ctl, key, live, ret);
	}
	if (found != ROW_NONE || !ctl->cidr_nr)
		return found;
	key->scope = scope;
	found = row_cidr(ctl, key, live, ret);
	if (found == ROW_NONE && scope) {
		key->scope = 0;
		found = row_cidr(ctl, key, live, ret);
	}
	return found;
}

/* The same, and node ports: rows at the any-address of a family stand for every address of the node itself. */
static __always_inline int row_dialled(const struct mesh_control *ctl, struct mesh_key *key, __u64 *live,
				       struct mesh_row **ret)
{
	struct mesh_addr dialled = key->addr;
	__u32 scope = key->scope;
	int found = row_find(ctl, key, live, ret);

	if (found != ROW_NONE || !bpf_map_lookup_elem(&mesh_locals, &dialled))
		return found;
	key->scope = scope;
	mesh_addr_any_of(&dialled, &key->addr);
	found = row_find(ctl, key, live, ret);
	key->addr = dialled;
	return found;
}

/* The pod whose network namespace this is, in the live epoch. */
static __always_inline struct mesh_pod *pod_find(__u64 cookie, __u64 live)
{
	__u32 *slot = bpf_map_lookup_elem(&mesh_netns, &cookie);
	__u32 at;
	int i;

	if (!slot)
		return NULL;
	at = *(volatile __u32 *)slot;
	for (i = 0; i < MESH_PREV_MAX; i++) {
		struct mesh_pod *pod = bpf_map_lookup_elem(&mesh_pods, &at);

		if (!pod || pod->netns_cookie != cookie)
			return NULL;
		if (pod->epoch <= live)
			return pod->workload_id ? pod : NULL;
		at = pod->prev;
		if (!at)
			return NULL;
	}
	return NULL;
}

/* Chooses a cluster of the row, then an endpoint of the cluster. */
static __always_inline __u16 choose(const struct mesh_row *row, __u32 *ret_cluster_id, __u32 *ret_at,
				    struct mesh_backend **ret)
{
	__u64 rng = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	struct mesh_cluster *cluster;
	struct mesh_choice *column;
	__u32 at;
	__u64 part;

	if (!mesh_draw(&rng, row->choice_nr, row->weight_sum, &at, &part))
		return MESH_REASON_NO_ENDPOINT;
	at += row->choice;
	column = bpf_map_lookup_elem(&mesh_choices, &at);
	if (!column)
		return MESH_REASON_CORRUPT;
	at = mesh_take(column, part);
	cluster = bpf_map_lookup_elem(&mesh_clusters, &at);
	if (!cluster)
		return MESH_REASON_CORRUPT;
	*ret_cluster_id = cluster->cluster_id;
	if (!mesh_draw(&rng, cluster->choice_nr, cluster->weight_sum, &at, &part))
		return MESH_REASON_NO_ENDPOINT;
	at += cluster->choice;
	column = bpf_map_lookup_elem(&mesh_choices, &at);
	if (!column)
		return MESH_REASON_CORRUPT;
	at = mesh_take(column, part);
	*ret_at = at;
	*ret = bpf_map_lookup_elem(&mesh_backends, &at);
	if (!*ret || !(*ret)->used)
		return MESH_REASON_CORRUPT;
	return MESH_REASON_ROUTED;
}

/* The workload that has this address, in the live epoch; NULL: none. */
static __always_inline struct mesh_workload *workload_find(const struct mesh_addr *addr, __u64 live)
{
	__u32 *slot = bpf_map_lookup_elem(&mesh_members, addr);
	__u32 at;
	int i;

	if (!slot)
		return NULL;
	at = *(volatile __u32 *)slot;
	for (i = 0; i < MESH_PREV_MAX; i++) {
		struct mesh_workload *w = bpf_map_lookup_elem(&mesh_workloads, &at);

		if (!w || !mesh_addr_eq(&w->addr, addr))
			return NULL;
		if (w->epoch <= live)
			return w->workload_id ? w : NULL;
		at = w->prev;
		if (!at)
			return NULL;
	}
	return NULL;
}

#endif
