// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Brings the counters of live flows up to date when somebody asks: two iterators, which user space runs in the network namespaces of
 * the pods that have flows. (The iterator over socket storage would meet just the right sockets, but some kernels refuse it; the one over
 * open files would let whoever asks be the last to hold a file that its owner closes.)
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "flow.bpf.h"
#include "maps.bpf.h"
#include "peers.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The record is replaced, not written in place: its owner may end the flow meanwhile, and the hash reuses an element at once; BPF_EXIST
 * then fails and nothing is lost. */
static __always_inline void flow_refresh(__u64 cookie, struct mesh_flow *flow)
{
	bpf_map_update_elem(&mesh_flows, &cookie, flow, BPF_EXIST);
}

/* A copy of the flow's record; 0: there is none (any more). */
static __always_inline int flow_copy(__u64 cookie, struct mesh_flow *ret)
{
	struct mesh_flow *now = cookie ? bpf_map_lookup_elem(&mesh_flows, &cookie) : NULL;

	if (!now)
		return 0;
	__builtin_memcpy(ret, now, sizeof(*ret));
	return ret->cookie == cookie;
}

static __noinline int peer_refresh(struct mesh_peer *e, __u64 now)
{
	__u64 cookie = e->cookie;
	struct mesh_flow flow;

	if (cookie && peer_idle(e, now))
		return peer_end(e, MESH_REASON_CLOSED);
	if (!flow_copy(cookie, &flow))
		return 0;
	flow.bytes_sent = e->bytes_sent;
	flow.bytes_received = e->bytes_received;
	if (*(volatile __u64 *)&e->cookie == cookie)
		flow_refresh(cookie, &flow);
	return 0;
}

static __always_inline void peers_refresh(struct mesh_peers *peers)
{
	__u64 now = bpf_ktime_get_boot_ns();
	__u32 i;

	for (i = 0; i < MESH_PEERS && i < peers->nr; i++)
		peer_refresh(&peers->peer[i], now);
}

SEC("iter/tcp")
int mesh_flows_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct mesh_flow flow;
	struct tcp_sock *tp;
	__u64 cookie;

	if (!skc)
		return 0;
	/* Neither handshakes nor what is left of connections in TIME_WAIT. */
	tp = bpf_skc_to_tcp_sock(skc);
	cookie = tp ? bpf_get_socket_cookie(tp) : 0;
	if (!tp || !flow_copy(cookie, &flow))
		return 0;
	flow_count_tcp(&flow, tp, ((struct sock *)tp)->__sk_common.skc_state);
	flow_refresh(cookie, &flow);
	return 0;
}

static __always_inline void dial_refresh(const struct mesh_dial *dial)
{
	__u64 cookie = dial->cookie;
	struct mesh_flow flow;

	if (!flow_copy(cookie, &flow))
		return;
	flow.bytes_sent = dial->bytes_sent;
	flow.bytes_received = dial->bytes_received;
	flow_refresh(cookie, &flow);
}

SEC("iter/udp")
int mesh_flows_udp(struct bpf_iter__udp *ctx)
{
	struct sock *sk = (struct sock *)ctx->udp_sk;
	struct mesh_peers *peers;
	struct mesh_dial *dial;

	if (!sk)
		return 0;
	dial = bpf_sk_storage_get(&mesh_dials, sk, 0, 0);
	if (dial)
		dial_refresh(dial);
	peers = bpf_sk_storage_get(&mesh_peers, sk, 0, 0);
	if (peers)
		peers_refresh(peers);
	return 0;
}
