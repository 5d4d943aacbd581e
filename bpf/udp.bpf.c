// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Bytes of connected UDP flows. TCP keeps its own counters in the socket; UDP has none, so its packets are counted where they pass
 * the socket's cgroup. Never drops anything.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* connect() binds a UDP socket after its hook ran, so the flow learns the local end from the first packet. */
static __always_inline void learn_local(struct mesh_dial *dial, const struct bpf_sock *sk)
{
	struct mesh_flow *flow = bpf_map_lookup_elem(&mesh_flows, &dial->cookie);

	if (flow)
		sk_local(sk, &flow->client, &flow->client_port_be);
	dial->sent = 1;
}

static __always_inline __u16 count(struct __sk_buff *skb, int sent)
{
	struct mesh_dial *dial;
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return MESH_REASON_NOT_HANDLED;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != MESH_PROTO_UDP)
		return MESH_REASON_NOT_HANDLED;
	dial = bpf_sk_storage_get(&mesh_dials, sk, 0, 0);
	if (!dial || !dial->cookie)
		return MESH_REASON_NOT_TRACKED;
	if (!dial->sent)
		learn_local(dial, sk);
	__sync_fetch_and_add(sent ? &dial->bytes_sent : &dial->bytes_received, skb_udp_payload(skb));
	return MESH_REASON_TRACKED;
}

SEC("cgroup_skb/egress")
int mesh_egress(struct __sk_buff *skb)
{
	mesh_count(MESH_HOOK_EGRESS, count(skb, 1));
	return 1;
}

SEC("cgroup_skb/ingress")
int mesh_ingress(struct __sk_buff *skb)
{
	mesh_count(MESH_HOOK_INGRESS, count(skb, 0));
	return 1;
}
