// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Datagrams that name their destination: sendto() to a service gets an endpoint by the same decision as connect(), and keeps it while
 * datagrams go to and fro; recvfrom() shows what was dialled. The kernel asks for every such datagram of every socket in the cgroup, so
 * what is known already comes first. A datagram to an IPv4 address is IPv4's business on any socket; what arrives on an IPv6 one is
 * IPv6's, with mapped addresses.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "decide.bpf.h"
#include "dial.bpf.h"
#include "flow.bpf.h"
#include "lookup.bpf.h"
#include "maps.bpf.h"
#include "peers.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The tracepoint that follows counts the datagram for this flow. */
static __always_inline void note(__u64 cookie)
{
	__u64 *at = bpf_task_storage_get(&mesh_notes, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (at)
		*at = cookie;
}

/* The barrier keeps the compiler from multiplying before the number is bounded, which the verifier does not take. */
static __always_inline struct mesh_peer *peer_at(struct mesh_peers *peers, int at)
{
	__u64 i = (__u32)at;

	if (i >= MESH_PEERS)
		return NULL;
	asm volatile("" : "+r"(i));
	return &peers->peer[i];
}

static __always_inline void send_to(struct bpf_sock_addr *ctx, int v6, struct mesh_peer *e, __u64 now)
{
	e->seen_ns = now;
	if (e->owed < 0xffff)
		e->owed++;
	note(e->cookie);
	if (e->backend)
		ctx_set_user_addr(ctx, v6, &e->chosen, e->chosen_port_be);
}

/* Sends to where earlier datagrams went. MESH_REASON_NONE: there were none, or their flow is over. */
static __always_inline __u16 known(struct bpf_sock_addr *ctx, int v6, const struct mesh_key *to)
{
	struct mesh_peers *peers = bpf_sk_storage_get(&mesh_peers, ctx->sk, 0, 0);
	__u64 now = bpf_ktime_get_boot_ns();
	struct mesh_peer *e;

	e = peers ? peer_at(peers, mesh_peer_dialled(peers, &to->addr, to->port_be)) : NULL;
	if (!e)
		return MESH_REASON_NONE;
	if (!peer_idle(e, now) && peer_there(e)) {
		send_to(ctx, v6, e, now);
		return MESH_REASON_TRACKED;
	}
	peer_end(e, MESH_REASON_CLOSED);
	e->dialled_port_be = 0;
	return MESH_REASON_NONE;
}

/* The socket's own connect() has decided. MESH_REASON_NONE: it has not, of this address. */
static __always_inline __u16 connected(struct bpf_sock_addr *ctx, int v6, const struct mesh_key *to)
{
	struct mesh_dial *dial;

	/* Mapped addresses: send() comes here too, with what is chosen already. */
	if (ctx_connected_to(ctx, v6, &to->addr, to->port_be))
		return MESH_REASON_TRACKED;
	if (ctx->sk->state != MESH_SS_CONNECTED)
		return MESH_REASON_NONE;
	dial = bpf_sk_storage_get(&mesh_dials, ctx->sk, 0, 0);
	if (!dial || dial->dialled_port_be != to->port_be || !mesh_addr_eq(&dial->dialled, &to->addr) ||
	    !ctx_connected_to(ctx, v6, &dial->chosen, dial->chosen_port_be))
		return MESH_REASON_NONE;
	ctx_set_user_addr(ctx, v6, &dial->chosen, dial->chosen_port_be);
	return MESH_REASON_TRACKED;
}

/* Takes an entry for what the flow has chosen, and opens its record. */
static __always_inline __u16 record(struct bpf_sock_addr *ctx, int v6, struct mesh_flow *flow, __u16 reason)
{
	struct mesh_peers *peers = bpf_sk_storage_get(&mesh_peers, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct mesh_peer *e;
	int at;

	at = peers ? mesh_peer_room(peers) : 0;
	e = peers ? peer_at(peers, at) : NULL;
	if (!e || !peers)
		return MESH_REASON_SOCK_STORAGE;
	peer_end(e, MESH_REASON_CLOSED);
	if (peers->nr <= (__u32)at)
		peers->nr = (__u32)at + 1;
	e->dialled = flow->dialled;
	e->chosen = flow->chosen;
	e->dialled_port_be = flow->dialled_port_be;
	e->chosen_port_be = flow->chosen_port_be;
	e->backend = flow->backend;
	e->server_id = flow->server_id;
	e->bytes_sent = e->bytes_received = 0;
	e->owed = e->answered = 0;
	flow->cookie = 1ull << 62 | (__u64)bpf_get_smp_processor_id() << 52 | (flow->opened_ns & ((1ull << 52) - 1));
	flow->client_port_be = bpf_htons((__u16)ctx->sk->src_port);
	if (bpf_map_update_elem(&mesh_flows, &flow->cookie, flow, BPF_NOEXIST))
		reason = MESH_REASON_FLOW_TABLE_FULL;
	else
		e->cookie = flow->cookie;
	send_to(ctx, v6, e, flow->opened_ns);
	return reason;
}

static __always_inline int route(struct bpf_sock_addr *ctx, int v6, struct dial *d, const struct mesh_row *row,
				 __u16 *ret_reason)
{
	int verdict = dial_route(ctx, d, row, ret_reason);

	if (verdict == ALLOW)
		*ret_reason = record(ctx, v6, &d->work->flow, *ret_reason);
	return verdict;
}

static __always_inline int answer(struct bpf_sock_addr *ctx, int v6, struct dial *d, __u16 *ret_reason)
{
	struct mesh_row *row = NULL;
	int verdict = dial_find(ctx, d, &row, ret_reason);

	if (!row)
		return verdict;
	/* The links translated it before the hooks were there, and go on. */
	*ret_reason = MESH_REASON_TRACKED;
	if (dial_linked(d) && dial_tracked(ctx, d))
		return ALLOW;
	return route(ctx, v6, d, row, ret_reason);
}

static __always_inline int decide(struct bpf_sock_addr *ctx, int v6, __u16 *ret_reason)
{
	struct dial d;
	int verdict;

	*ret_reason = MESH_REASON_NOT_HANDLED;
	if (!ctx->sk || ctx_proto(ctx) != MESH_PROTO_UDP)
		return ALLOW;
	ctx_user_addr(ctx, v6, &d.key.addr, &d.key.port_be);
	*ret_reason = connected(ctx, v6, &d.key);
	if (*ret_reason == MESH_REASON_NONE)
		*ret_reason = known(ctx, v6, &d.key);
	if (*ret_reason == MESH_REASON_NONE)
		*ret_reason = dial_begin(ctx, v6, &d);
	if (*ret_reason != MESH_REASON_NONE)
		return ALLOW;
	ctx_source_addr(ctx, v6, &d.local);
	*ret_reason = MESH_REASON_FOREIGN_SOURCE;
	if (!mesh_pod_owns(d.pod, &d.local))
		return ALLOW;
	d.work = dial_work_get();
	*ret_reason = MESH_REASON_SOCK_STORAGE;
	if (!d.work)
		return refuse();
	verdict = answer(ctx, v6, &d, ret_reason);
	dial_work_put(d.work);
	return verdict;
}
SEC("cgroup/sendmsg4")
int mesh_sendmsg4(struct bpf_sock_addr *ctx)
{
	__u16 reason = MESH_REASON_NONE;
	int verdict = decide(ctx, 0, &reason);

	mesh_count(MESH_HOOK_SENDMSG4, reason);
	return verdict;
}

SEC("cgroup/sendmsg6")
int mesh_sendmsg6(struct bpf_sock_addr *ctx)
{
	__u16 reason = MESH_REASON_NONE;
	int verdict = decide(ctx, 1, &reason);

	mesh_count(MESH_HOOK_SENDMSG6, reason);
	return verdict;
}

/* Puts the dialled address where the kernel was about to show the chosen one. */
static __always_inline __u16 restore(struct bpf_sock_addr *ctx, int v6)
{
	struct mesh_peers *peers;
	struct mesh_addr shown;
	struct mesh_peer *e;
	__be16 port_be;

	if (!ctx->sk || ctx_proto(ctx) != MESH_PROTO_UDP)
		return MESH_REASON_NOT_HANDLED;
	ctx_user_addr(ctx, v6, &shown, &port_be);
	if (dial_restore(ctx, v6, &shown, port_be) == MESH_REASON_RESTORED)
		return MESH_REASON_RESTORED;
	peers = bpf_sk_storage_get(&mesh_peers, ctx->sk, 0, 0);
	e = peers ? peer_at(peers, mesh_peer_shown(peers, &shown, port_be)) : NULL;
	if (!e)
		return MESH_REASON_NOT_TRACKED;
	e->seen_ns = bpf_ktime_get_boot_ns();
	e->answered = 1;
	if (e->owed)
		e->owed--;
	note(e->cookie);
	ctx_set_user_addr(ctx, v6, &e->dialled, e->dialled_port_be);
	return MESH_REASON_RESTORED;
}

SEC("cgroup/recvmsg4")
int mesh_recvmsg4(struct bpf_sock_addr *ctx)
{
	mesh_count(MESH_HOOK_RECVMSG4, restore(ctx, 0));
	return ALLOW;
}

SEC("cgroup/recvmsg6")
int mesh_recvmsg6(struct bpf_sock_addr *ctx)
{
	mesh_count(MESH_HOOK_RECVMSG6, restore(ctx, 1));
	return ALLOW;
}
