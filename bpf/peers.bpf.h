/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a socket dials without connect(): a table in the socket's own storage. The hooks that change it run under the socket's lock, so
 * that there is one of them at a time; the tracepoints and the iterator beside them only count and end flows.
 */
#ifndef BPF_PEERS_H
#define BPF_PEERS_H

#include "flow.bpf.h"
#include "lookup.bpf.h"
#include "maps.bpf.h"

#define PEER_SECOND 1000000000ull

/* Nothing was seen of it for as long as tc would keep it. What is received on another processor may be later than `now`. */
static __always_inline int peer_idle(const struct mesh_peer *e, __u64 now)
{
	__s64 idle = (__s64)(now - e->seen_ns);

	return idle > (__s64)((e->answered ? MESH_UDP_BOTH_WAYS_S : MESH_UDP_ONE_WAY_S) * PEER_SECOND);
}

/* The rules still have its endpoint; or its pod is there still, which is only to get no new flows. */
static __always_inline int peer_there(const struct mesh_peer *e)
{
	struct mesh_control *ctl = mesh_control_get();
	__u32 at = e->backend;
	struct mesh_backend *backend = at ? bpf_map_lookup_elem(&mesh_backends, &at) : NULL;
	struct mesh_workload *server;

	if (!at || (backend && backend->used && backend->port_be == e->chosen_port_be &&
		    mesh_addr_eq(&backend->addr, &e->chosen)))
		return 1;
	server = ctl ? workload_find(&e->chosen, ctl->live) : NULL;
	return server && server->workload_id == e->server_id;
}

/* Index of the entry of a dialled address; -1: none. */
__weak __noinline int mesh_peer_dialled(const struct mesh_peers *p, const struct mesh_addr *addr, __u32 port_be)
{
	__u32 i;

	if (!p || !addr)
		return -1;
	for (i = 0; i < MESH_PEERS && i < p->nr; i++)
		if (p->peer[i].dialled_port_be == port_be && mesh_addr_eq(&p->peer[i].dialled, addr))
			return (int)i;
	return -1;
}

/* Index of the entry that a datagram from this endpoint answers; -1: none. When several addresses led to one endpoint, the one that has
 * waited longest for an answer; when none does, the one used last. */
__weak __noinline int mesh_peer_shown(const struct mesh_peers *p, const struct mesh_addr *addr, __u32 port_be)
{
	__u64 seen = 0;
	int best = -1, owed = 0;
	__u32 i;

	if (!p || !addr)
		return -1;
	for (i = 0; i < MESH_PEERS && i < p->nr; i++) {
		const struct mesh_peer *e = &p->peer[i];
		int better = e->owed ? !owed || e->seen_ns < seen : !owed && e->seen_ns >= seen;

		if (!e->dialled_port_be || e->chosen_port_be != port_be || !mesh_addr_eq(&e->chosen, addr) || !better)
			continue;
		best = (int)i;
		owed = e->owed != 0;
		seen = e->seen_ns;
	}
	return best;
}

/* Index of the entry that a new address takes: a free one, else the one idle for longest. */
__weak __noinline int mesh_peer_room(const struct mesh_peers *p)
{
	__u64 seen = ~0ull;
	int oldest = 0;
	__u32 i;

	if (!p)
		return 0;
	for (i = 0; i < MESH_PEERS; i++) {
		if (i >= p->nr || !p->peer[i].dialled_port_be)
			return (int)i;
		if (p->peer[i].seen_ns < seen) {
			oldest = (int)i;
			seen = p->peer[i].seen_ns;
		}
	}
	return oldest;
}

/* Ends the flow of an entry; whoever comes first does. */
static __noinline int peer_end(struct mesh_peer *e, __u16 reason)
{
	__u64 cookie = __sync_lock_test_and_set(&e->cookie, 0);
	__u64 bytes[] = { e->bytes_sent, e->bytes_received };

	if (cookie)
		flow_close(cookie, MESH_STATE_CLOSED, reason, bytes);
	return 0;
}

static __always_inline void peers_end(struct mesh_peers *p)
{
	__u32 i;

	for (i = 0; i < MESH_PEERS && i < p->nr; i++)
		peer_end(&p->peer[i], MESH_REASON_CLOSED);
}

#endif
