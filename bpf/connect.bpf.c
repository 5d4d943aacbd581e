// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The socket hooks of a client: connect() chooses an endpoint, getpeername() keeps showing what was dialled, and the socket's
 * release ends what connect() or its datagrams began. IPv4 and IPv6 are one text; each entry program is two lines.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "decide.bpf.h"
#include "dial.bpf.h"
#include "ends.bpf.h"
#include "flow.bpf.h"
#include "lookup.bpf.h"
#include "maps.bpf.h"
#include "peers.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 closed_mask = 0;

/* Ends what an earlier connect() of the same socket left behind. */
static __always_inline void end_previous(struct bpf_sock_addr *ctx, __u8 proto)
{
	struct mesh_dial *dial = bpf_sk_storage_get(&mesh_dials, ctx->sk, 0, 0);
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct mesh_flow *flow;

	if (dial) {
		flow_end(dial, MESH_STATE_CLOSED, MESH_REASON_CLOSED);
		__builtin_memset(&dial->chosen, 0, sizeof(dial->chosen));
	}
	flow = proto == MESH_PROTO_TCP ? bpf_map_lookup_elem(&mesh_flows, &cookie) : NULL;
	if (!flow)
		return;
	if (flow->client_port_be)
		flow_close(cookie, MESH_STATE_CLOSED, MESH_REASON_CLOSED, NULL);
	else
		flow_close(cookie, MESH_STATE_FAILED, MESH_REASON_NOT_SENT, NULL);
}

/* Opens the flow, and keeps in the socket what it dialled where the flow does not. Returns the reason to count. */
static __always_inline __u16 record(struct bpf_sock_addr *ctx, struct mesh_flow *flow, __u16 reason)
{
	int full = bpf_map_update_elem(&mesh_flows, &flow->cookie, flow, BPF_ANY) != 0;
	struct mesh_dial *dial;

	if (flow->proto == MESH_PROTO_TCP && !full)
		return reason;
	dial = bpf_sk_storage_get(&mesh_dials, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!dial) {
		held_give(&flow->held, flow->backend);
		if (!full)
			bpf_map_delete_elem(&mesh_flows, &flow->cookie);
		return MESH_REASON_SOCK_STORAGE;
	}
	dial->dialled = flow->dialled;
	dial->chosen = flow->chosen;
	dial->dialled_port_be = flow->dialled_port_be;
	dial->chosen_port_be = flow->chosen_port_be;
	dial->sent = 0;
	dial->bytes_sent = 0;
	dial->bytes_received = 0;
	dial->backend = flow->backend;
	dial->held = flow->held;
	dial->cookie = full ? 0 : flow->cookie;
	return full ? MESH_REASON_FLOW_TABLE_FULL : reason;
}

/* A copy on the stack: the helper writes to no map. */
static __always_inline void option(struct bpf_sock_addr *ctx, int level, int name, __u32 value)
{
	int v = (int)value;

	if (v)
		bpf_setsockopt(ctx, level, name, &v, sizeof(v));
}

/* What the cluster's policy asks of the socket. The user timeout bounds the handshake too, where TCP's own tries go on for minutes; a
 * shorter one of the application's stays. */
static __noinline int sock_policy(struct bpf_sock_addr *ctx, struct mesh_flow *flow)
{
	struct mesh_pool *pool = pool_of(backend_of(flow->backend));
	__u32 was = 0;

	if (!pool)
		return 0;
	if (pool->flags & MESH_POOL_KEEPALIVE) {
		option(ctx, SOL_SOCKET_, SO_KEEPALIVE_, 1);
		option(ctx, SOL_TCP_, TCP_KEEPIDLE_, pool->keepalive_time_s);
		option(ctx, SOL_TCP_, TCP_KEEPINTVL_, pool->keepalive_interval_s);
		option(ctx, SOL_TCP_, TCP_KEEPCNT_, pool->keepalive_probes);
	}
	if (!pool->connect_timeout_ms || bpf_getsockopt(ctx, SOL_TCP_, TCP_USER_TIMEOUT_, &was, sizeof(was)) ||
	    (was && was <= pool->connect_timeout_ms))
		return 0;
	flow->user_timeout_ms = was + 1;
	option(ctx, SOL_TCP_, TCP_USER_TIMEOUT_, pool->connect_timeout_ms);
	return 0;
}

static __always_inline int route(struct bpf_sock_addr *ctx, int v6, struct dial *d, const struct mesh_row *row,
				 __u16 *ret_reason)
{
	int verdict = dial_route(ctx, d, row, ret_reason);

	if (verdict != ALLOW || *ret_reason == MESH_REASON_PARSED)
		return verdict;
	if (*ret_reason == MESH_REASON_ROUTED)
		ctx_set_user_addr(ctx, v6, &d->work->flow.chosen, d->work->flow.chosen_port_be);
	if (d->work->flow.held)
		sock_policy(ctx, &d->work->flow);
	*ret_reason = record(ctx, &d->work->flow, *ret_reason);
	return ALLOW;
}

static __always_inline int answer(struct bpf_sock_addr *ctx, int v6, struct dial *d, __u16 *ret_reason)
{
	struct mesh_row *row = NULL;
	int verdict = dial_find(ctx, d, &row, ret_reason);

	return row ? route(ctx, v6, d, row, ret_reason) : verdict;
}

static __always_inline int decide(struct bpf_sock_addr *ctx, int v6, __u16 *ret_reason)
{
	struct dial d;
	int verdict;

	*ret_reason = dial_begin(ctx, v6, &d);
	if (*ret_reason != MESH_REASON_NONE)
		return ALLOW;
	end_previous(ctx, d.key.proto);
	ctx_bound_addr(ctx, v6, &d.local);
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
SEC("cgroup/connect4")
int mesh_connect4(struct bpf_sock_addr *ctx)
{
	__u16 reason = MESH_REASON_NONE;
	int verdict = decide(ctx, 0, &reason);

	mesh_count(MESH_HOOK_CONNECT4, reason);
	return verdict;
}

SEC("cgroup/connect6")
int mesh_connect6(struct bpf_sock_addr *ctx)
{
	__u16 reason = MESH_REASON_NONE;
	int verdict = decide(ctx, 1, &reason);

	mesh_count(MESH_HOOK_CONNECT6, reason);
	return verdict;
}

static __always_inline __u16 restore(struct bpf_sock_addr *ctx, int v6)
{
	struct mesh_addr shown;
	__be16 port_be;

	if (!ctx->sk)
		return MESH_REASON_NOT_HANDLED;
	ctx_user_addr(ctx, v6, &shown, &port_be);
	return dial_restore(ctx, v6, &shown, port_be);
}

SEC("cgroup/getpeername4")
int mesh_getpeer4(struct bpf_sock_addr *ctx)
{
	mesh_count(MESH_HOOK_GETPEERNAME4, restore(ctx, 0));
	return ALLOW;
}

SEC("cgroup/getpeername6")
int mesh_getpeer6(struct bpf_sock_addr *ctx)
{
	mesh_count(MESH_HOOK_GETPEERNAME6, restore(ctx, 1));
	return ALLOW;
}

/* A TCP socket that is closed before its SYN went out has a flow that sockops never hears of. (The SYN of TCP_FASTOPEN_CONNECT waits for
 * the first bytes.) */
static __always_inline __u16 release_tcp(struct bpf_sock *sk)
{
	int early = sk->state == TCP_CLOSE_ || sk->state == TCP_SYN_SENT_;
	__u64 cookie = early ? bpf_get_socket_cookie(sk) : 0;
	struct mesh_end *end = bpf_sk_storage_get(&mesh_ends, sk, 0, 0);
	struct mesh_flow *flow = cookie ? bpf_map_lookup_elem(&mesh_flows, &cookie) : NULL;
	struct mesh_dial *dial = cookie && !flow ? bpf_sk_storage_get(&mesh_dials, sk, 0, 0) : NULL;

	/* What it still sends, its FIN at least, passes a link: it must not be taken in there. */
	if (end) {
		end_leave(end, MESH_WHY_NONE);
		end_uncount(end);
	}
	if (dial && !dial->sent)
		held_give(&dial->held, dial->backend);
	if (!flow || flow->client_port_be)
		return MESH_REASON_NOT_TRACKED;
	flow_close(cookie, MESH_STATE_FAILED, MESH_REASON_NOT_SENT, NULL);
	return MESH_REASON_NOT_SENT;
}

static __always_inline __u16 release_udp(struct bpf_sock *sk)
{
	struct mesh_peers *peers = bpf_sk_storage_get(&mesh_peers, sk, 0, 0);
	struct mesh_dial *dial = bpf_sk_storage_get(&mesh_dials, sk, 0, 0);
	__u16 reason = MESH_REASON_NOT_TRACKED;

	if (dial && dial->cookie) {
		reason = MESH_REASON_CLOSED;
		flow_end(dial, MESH_STATE_CLOSED, MESH_REASON_CLOSED);
	}
	if (peers) {
		reason = MESH_REASON_CLOSED;
		peers_end(peers);
	}
	return reason;
}

/* TCP flows whose SYN went out end in sockops; what never got that far, and UDP, ends here. */
SEC("cgroup/sock_release")
int mesh_release(struct bpf_sock *sk)
{
	mesh_count(MESH_HOOK_SOCK_RELEASE, sk->protocol == MESH_PROTO_TCP ? release_tcp(sk) : release_udp(sk));
	return ALLOW;
}
