/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whom the parser may speak for: clients that have established connections to it, counted. The last one takes the element along; whoever
 * meets it in that instant tries again with the next packet.
 */
#ifndef BPF_RELAY_H
#define BPF_RELAY_H

#include "decide.bpf.h"
#include "maps.bpf.h"

#define RELAY_TRIES 4

/* The client's element; NULL: it has no connection to the parser. */
static __always_inline struct mesh_relay *relay_of(const struct mesh_addr *client)
{
	struct mesh_relay *r = bpf_map_lookup_elem(&mesh_relays, client);
	__u32 nr = r ? *(volatile __u32 *)&r->connections : 0;

	return r && nr && nr != MESH_RELAY_GONE && mesh_addr_eq(&r->client, client) ? r : NULL;
}

/* conn->relayed while somebody is about to count it: another packet of the connection may be on another CPU. */
#define RELAY_TAKING 2

/* Counts it off. */
static __always_inline void relay_give(struct mesh_conn *conn)
{
	struct mesh_relay *r;

	if (__sync_val_compare_and_swap(&conn->relayed, 1, 0) != 1)
		return;
	r = bpf_map_lookup_elem(&mesh_relays, &conn->dialled.client);
	if (!r || !mesh_addr_eq(&r->client, &conn->dialled.client) ||
	    __sync_fetch_and_add(&r->connections, (__u32)-1) != 1)
		return;
	if (!__sync_val_compare_and_swap(&r->connections, 0, MESH_RELAY_GONE))
		bpf_map_delete_elem(&mesh_relays, &conn->dialled.client);
}

/* Counts the client of the connection once more. */
static __always_inline int relay_count(const struct mesh_conn *conn)
{
	struct mesh_relay fresh = {}, *r;
	__u32 was;
	int i;

	fresh.client = conn->dialled.client;
	fresh.connections = 1;
	fresh.ifindex = conn->ifindex;
	__builtin_memcpy(fresh.far, conn->far, sizeof(fresh.far));
	__builtin_memcpy(fresh.near, conn->near, sizeof(fresh.near));
	for (i = 0; i < RELAY_TRIES; i++) {
		r = bpf_map_lookup_elem(&mesh_relays, &fresh.client);
		if (!r) {
			if (!bpf_map_update_elem(&mesh_relays, &fresh.client, &fresh, BPF_NOEXIST))
				return 1;
			continue;
		}
		was = *(volatile __u32 *)&r->connections;
		if (was == MESH_RELAY_GONE || __sync_val_compare_and_swap(&r->connections, was, was + 1) != was)
			continue;
		if (!mesh_addr_eq(&r->client, &fresh.client)) {
			__sync_fetch_and_add(&r->connections, (__u32)-1);
			continue;
		}
		r->ifindex = fresh.ifindex;
		__builtin_memcpy(r->far, fresh.far, sizeof(r->far));
		__builtin_memcpy(r->near, fresh.near, sizeof(r->near));
		return 1;
	}
	return 0;
}

/* Counts the connection. */
static __noinline int relay_take(struct mesh_conn *conn)
{
	int counted;

	if (__sync_val_compare_and_swap(&conn->relayed, 0, RELAY_TAKING))
		return 0;
	counted = relay_count(conn);
	*(volatile __u32 *)&conn->relayed = counted;
	/* It ended meanwhile. */
	if (!*(volatile __u32 *)&conn->quota)
		relay_give(conn);
	return counted;
}

#endif
