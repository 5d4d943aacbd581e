/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Readers of what user/plane wrote, all under one live epoch: rows, pods, workloads. Shared by the
 * socket hooks and the tc path, so that both decide alike.
 */
#ifndef BPF_LOOKUP_H
#define BPF_LOOKUP_H

#include "decide.bpf.h"
#include "maps.bpf.h"

/* How often a lookup is repeated when the hash hands out a row of another key (a recycled element). */
#define ROW_TRIES 4

enum { ROW_RACED = -1, ROW_NONE = 0, ROW_FOUND = 1 };

/* The version of row `at` that is live, in *ret. ROW_NONE: the key was not there yet in that epoch. */
static __always_inline int row_live(__u32 at, const struct mesh_key *key, __u64 live, __u32 *ret)
{
	struct mesh_row *row = NULL;
	int i;

	*ret = at;
	for (i = 0; i < MESH_PREV_MAX; i++) {
		row = bpf_map_lookup_elem(&mesh_rows, ret);
		if (!row)
			return ROW_RACED;
		if (row->epoch <= live || !row->prev)
			break;
		*ret = row->prev;
	}
	/* The key is compared once, with the row where the walk ended: all versions of a row have the same, and a comparison in
	 * each round would cost the verifier dear. */
	if (!row || !mesh_row_is(row, key))
		return ROW_RACED;
	if (row->epoch > live)
		return row->prev ? ROW_RACED : ROW_NONE;
	return row->action == MESH_GONE ? ROW_NONE : ROW_FOUND;
}

/* After a race the live epoch is read again: whoever was held up for more versions than a chain has finds the newest one then. */
static __always_inline int row_exact(const struct mesh_control *ctl, const struct mesh_key *key, __u64 *live,
				     __u32 *ret)
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

static __always_inline int row_cidr(const struct mesh_control *ctl, const struct mesh_key *key, __u64 *live, __u32 *ret)
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

/*
 * What the client of key->scope meets at key: its own row, else the common one, else a network's. Number of the row, 0: none, or
 * ROW_RACED. A global function: the verifier takes it once, and only numbers cross its border.
 */
__weak __noinline int mesh_row_find(struct mesh_key *key, __u64 *live)
{
	struct mesh_control *ctl = mesh_control_get();
	__u32 scope, at = 0;
	int found, open;

	if (!ctl || !key || !live)
		return 0;
	scope = key->scope;
	open = scope && !(scope & MESH_SCOPE_CLOSED);
	found = row_exact(ctl, key, live, &at);
	if (found == ROW_NONE && open) {
		key->scope = 0;
		found = row_exact(ctl, key, live, &at);
	}
	if (found == ROW_NONE && ctl->cidr_nr) {
		key->scope = scope;
		found = row_cidr(ctl, key, live, &at);
		if (found == ROW_NONE && open) {
			key->scope = 0;
			found = row_cidr(ctl, key, live, &at);
		}
	}
	return found == ROW_FOUND ? (int)at : found;
}

/* The same for what a client has dialled: an address of the node that means nothing by itself is asked for as the any-address, which is
 * how a port of every node is written. */
static __always_inline int row_dialled(struct mesh_key *key, __u64 *live, struct mesh_row **ret)
{
	struct mesh_addr dialled = key->addr;
	__u32 scope = key->scope, slot;
	int at = mesh_row_find(key, live);

	if (!at && bpf_map_lookup_elem(&mesh_locals, &dialled)) {
		key->scope = scope;
		mesh_addr_any_of(&dialled, &key->addr);
		at = mesh_row_find(key, live);
		key->addr = dialled;
	}
	if (at <= 0)
		return at;
	slot = (__u32)at;
	*ret = bpf_map_lookup_elem(&mesh_rows, &slot);
	return *ret ? ROW_FOUND : ROW_RACED;
}

/* Number of the row of the pod whose network namespace this is, in the live epoch; 0: none. */
__weak __noinline int mesh_pod_find(__u64 cookie, __u64 live)
{
	__u32 *slot = bpf_map_lookup_elem(&mesh_netns, &cookie);
	__u32 at;
	int i;

	if (!slot)
		return 0;
	at = *(volatile __u32 *)slot;
	for (i = 0; i < MESH_PREV_MAX; i++) {
		struct mesh_pod *pod = bpf_map_lookup_elem(&mesh_pods, &at);

		if (!pod || pod->netns_cookie != cookie)
			return 0;
		if (pod->epoch <= live)
			return pod->workload_id ? (int)at : 0;
		at = pod->prev;
		if (!at)
			return 0;
	}
	return 0;
}

static __always_inline struct mesh_pod *pod_find(__u64 cookie, __u64 live)
{
	__u32 at = (__u32)mesh_pod_find(cookie, live);

	return at ? bpf_map_lookup_elem(&mesh_pods, &at) : NULL;
}

/* Number of the version of the address's row `at` that is live; 0: it is no workload's then. */
static __always_inline int member_live(__u32 at, const struct mesh_addr *addr, __u64 live)
{
	struct mesh_workload *w = NULL;
	int i;

	for (i = 0; i < MESH_PREV_MAX; i++) {
		w = bpf_map_lookup_elem(&mesh_workloads, &at);
		if (!w)
			return ROW_RACED;
		if (w->epoch <= live || !w->prev)
			break;
		at = w->prev;
	}
	if (!w || !mesh_addr_eq(&w->addr, addr))
		return ROW_RACED;
	if (w->epoch > live)
		return w->prev ? ROW_RACED : 0;
	return w->workload_id ? (int)at : 0;
}

/* Number of the row of the workload that has this address, in the live epoch, after a race the newest; 0: none, or ROW_RACED. */
__weak __noinline int mesh_workload_find(const struct mesh_addr *addr, __u64 live)
{
	struct mesh_control *ctl;
	int i, found = ROW_RACED;

	for (i = 0; addr && i < ROW_TRIES; i++) {
		__u32 *slot = bpf_map_lookup_elem(&mesh_members, addr);

		if (!slot)
			return 0;
		found = member_live(*(volatile __u32 *)slot, addr, live);
		if (found != ROW_RACED)
			break;
		ctl = mesh_control_get();
		live = ctl ? *(const volatile __u64 *)&ctl->live : live;
	}
	return found;
}

static __always_inline struct mesh_workload *workload_at(int found)
{
	__u32 at = (__u32)found;

	return found > 0 ? bpf_map_lookup_elem(&mesh_workloads, &at) : NULL;
}

static __always_inline struct mesh_workload *workload_find(const struct mesh_addr *addr, __u64 live)
{
	return workload_at(mesh_workload_find(addr, live));
}

#endif
