/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bytes of UDP flows. TCP keeps its own counters in the socket; UDP has none, so its sends and receives are counted at
 * the socket layer's tracepoints (6.3+). Packet hooks of the cgroup would do the same at several times the price, and for every
 * TCP segment. What has not dialled a service is left at the first test.
 */
#ifndef BPF_UDP_H
#define BPF_UDP_H

#include "ctx.bpf.h"
#include "maps.bpf.h"

/* connect() binds a UDP socket after its hook ran, so the flow learns the local end from the first datagram. */
static __always_inline void learn_local(struct mesh_dial *dial, const struct sock *sk)
{
	struct mesh_flow *flow = bpf_map_lookup_elem(&mesh_flows, &dial->cookie);

	if (flow)
		sock_local(sk, &flow->client, &flow->client_port_be);
	dial->sent = 1;
}

/* The entry whose flow a datagram without connect() belongs to: what the hook before has noted; without a note (recv() asks for no
 * address) the only one there is. NULL: none. */
static __always_inline struct mesh_peer *noted(struct mesh_peers *peers)
{
	__u64 *at = bpf_task_storage_get(&mesh_notes, bpf_get_current_task_btf(), 0, 0), cookie = 0;
	__u32 i;

	if (at) {
		cookie = *at;
		*at = 0;
	}
	if (!cookie && peers->nr == 1)
		return &peers->peer[0];
	for (i = 0; cookie && i < MESH_PEERS && i < peers->nr; i++)
		if (peers->peer[i].cookie == cookie)
			return &peers->peer[i];
	return NULL;
}

static __always_inline void count_dial(struct mesh_dial *dial, const struct sock *sk, int len, __u32 hook)
{
	if (!dial->sent)
		learn_local(dial, sk);
	__sync_fetch_and_add(hook == MESH_HOOK_SEND ? &dial->bytes_sent : &dial->bytes_received, len);
}

static __always_inline void count_peer(struct mesh_peer *e, int len, __u32 hook)
{
	__sync_fetch_and_add(hook == MESH_HOOK_SEND ? &e->bytes_sent : &e->bytes_received, len);
	if (hook == MESH_HOOK_SEND)
		return;
	e->seen_ns = bpf_ktime_get_boot_ns();
	e->answered = 1;
}

/* nothing: the call took nothing away, whatever it returned. */
static __always_inline void count_udp(struct sock *sk, int len, int nothing, __u32 hook)
{
	struct mesh_dial *dial = bpf_sk_storage_get(&mesh_dials, sk, 0, 0);
	struct mesh_peers *peers = bpf_sk_storage_get(&mesh_peers, sk, 0, 0);
	struct mesh_peer *e = peers ? noted(peers) : NULL;

	if ((!e && (!dial || !dial->cookie)) || len <= 0 || nothing)
		return mesh_count(hook, MESH_REASON_NOT_TRACKED);
	if (e)
		count_peer(e, len, hook);
	else if (dial)
		count_dial(dial, sk, len, hook);
	mesh_count(hook, MESH_REASON_TRACKED);
}

#endif
