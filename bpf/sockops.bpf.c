// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * TCP's own callbacks: the SYN, the handshake, round trips and the end of a flow that connect opened.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "flow.bpf.h"
#include "maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A tick of the kernel's timers. Set before loading. */
const volatile __u32 tick_ns = 10000000;

#define BPF_SOCK_OPS_TIMEOUT_INIT_ 1

static __always_inline struct mesh_flow *flow_of(struct bpf_sock_ops *ops)
{
	__u64 cookie = bpf_get_socket_cookie(ops);

	return bpf_map_lookup_elem(&mesh_flows, &cookie);
}

/* What a socket without a flow has instead. */
static __always_inline struct mesh_dial *dial_of(struct bpf_sock_ops *ops)
{
	struct mesh_dial *dial = ops->sk ? bpf_sk_storage_get(&mesh_dials, ops->sk, 0, 0) : NULL;

	return dial && dial->held ? dial : NULL;
}

static __always_inline __u16 on_connect(struct bpf_sock_ops *ops)
{
	struct mesh_flow *flow = flow_of(ops);
	struct mesh_dial *dial = flow ? NULL : dial_of(ops);

	if (dial) {
		dial->sent = 1;
		bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
		return MESH_REASON_FLOW_TABLE_FULL;
	}
	if (!flow)
		return MESH_REASON_NOT_TRACKED;
	ops_local(ops, &flow->client, &flow->client_port_be);
	bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
	return MESH_REASON_TRACKED;
}

/* on_state() has just seen the change to ESTABLISHED; the flag that on_connect() set says whose socket this is. */
static __always_inline __u16 on_established(struct bpf_sock_ops *ops)
{
	if (!(ops->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG))
		return MESH_REASON_NOT_TRACKED;
	bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTT_CB_FLAG);
	return MESH_REASON_TRACKED;
}

/* The first SYN is sent again, and given up, no later than the cluster's policy says. */
static __always_inline __u16 on_timeout_init(struct bpf_sock_ops *ops)
{
	struct mesh_control *ctl = mesh_control_get();
	struct mesh_flow *flow;
	struct mesh_pool *pool;
	__u64 ticks;

	if (!ctl || !(ctl->flags & MESH_CONTROL_HASTE) || !ops->is_fullsock || ops->state != TCP_SYN_SENT_)
		return MESH_REASON_NOT_HANDLED;
	flow = flow_of(ops);
	pool = flow ? pool_of(backend_of(flow->backend)) : NULL;
	if (!pool || !pool->connect_timeout_ms || pool->connect_timeout_ms >= MESH_SYN_TIMEOUT_MS)
		return MESH_REASON_NOT_TRACKED;
	ticks = pool->connect_timeout_ms * 1000000ull / tick_ns;
	ops->reply = ticks ? (__u32)ticks : 1;
	return MESH_REASON_TRACKED;
}

/* What connect() has put in the place of the socket's own timeout was for the handshake. */
static __always_inline void timeout_restore(struct bpf_sock_ops *ops, struct mesh_flow *flow)
{
	int ms = (int)flow->user_timeout_ms - 1;

	if (ms < 0)
		return;
	flow->user_timeout_ms = 0;
	bpf_setsockopt(ops, SOL_TCP_, TCP_USER_TIMEOUT_, &ms, sizeof(ms));
}

static __always_inline __u16 on_accepted(struct bpf_sock_ops *ops)
{
	__u64 cookie = bpf_get_netns_cookie(ops);

	return bpf_map_lookup_elem(&mesh_netns, &cookie) ? MESH_REASON_ACCEPTED : MESH_REASON_NOT_ENROLLED;
}

static __always_inline __u16 on_rtt(struct bpf_sock_ops *ops)
{
	struct mesh_flow *flow = flow_of(ops);
	struct tcp_sock *tp;

	if (!flow || !ops->sk)
		return MESH_REASON_NOT_TRACKED;
	tp = bpf_skc_to_tcp_sock(ops->sk);
	if (!tp)
		return MESH_REASON_NOT_TRACKED;
	flow_count_tcp(flow, tp, ops->state);
	return MESH_REASON_TRACKED;
}

/*
 * The reason, as far as the endpoint is concerned: a client that has given up although its SYN was sent again had no answer. Envoy's connect
 * timeout says as much there.
 */
static __always_inline __u16 blamed_for(__u16 reason, const struct tcp_sock *tp)
{
	return reason == MESH_REASON_ABORTED && tp->total_retrans ? MESH_REASON_TIMED_OUT : reason;
}

/* Why a TCP flow that left state `old` for CLOSE ended. */
static __always_inline __u16 end_reason(__u32 old, int err)
{
	switch (err) {
	case E_CONNREFUSED:
		return MESH_REASON_REFUSED;
	case E_TIMEDOUT:
		return MESH_REASON_TIMED_OUT;
	case E_HOSTUNREACH:
	case E_NETUNREACH:
		return MESH_REASON_UNREACHABLE;
	case E_CONNRESET:
	case E_PIPE:
		return MESH_REASON_RESET;
	case 0:
		return old == TCP_SYN_SENT_ ? MESH_REASON_ABORTED : MESH_REASON_CLOSED;
	}
	return MESH_REASON_ERROR;
}

static __always_inline __u16 on_state(struct bpf_sock_ops *ops)
{
	__u32 old = ops->args[0], new = ops->args[1];
	int was_open = old == TCP_SYN_SENT_ || old == TCP_ESTABLISHED_;
	struct mesh_flow *flow;
	struct mesh_dial *dial;
	struct tcp_sock *tp;
	__u32 state = old == TCP_SYN_SENT_ ? MESH_STATE_FAILED : MESH_STATE_CLOSED;
	__u16 reason;

	/* From one state of closing to the next nothing changes for the flow. */
	if (new != TCP_CLOSE_ && !was_open)
		return MESH_REASON_TRACKED;
	flow = flow_of(ops);
	if (!ops->sk)
		return MESH_REASON_NOT_TRACKED;
	tp = bpf_skc_to_tcp_sock(ops->sk);
	dial = flow ? NULL : dial_of(ops);
	if (!tp || (!flow && !dial))
		return MESH_REASON_NOT_TRACKED;
	if (new == TCP_ESTABLISHED_)
		mesh_health_open(flow ? flow->backend : dial->backend, tp->srtt_us >> 3);
	if (new != TCP_CLOSE_) {
		if (!flow)
			return MESH_REASON_FLOW_TABLE_FULL;
		flow->state = new == TCP_ESTABLISHED_ ? MESH_STATE_ESTABLISHED : MESH_STATE_CLOSING;
		if (new == TCP_ESTABLISHED_)
			timeout_restore(ops, flow);
		return MESH_REASON_TRACKED;
	}
	if (!flow) {
		reason = end_reason(old, ((struct sock *)tp)->sk_err);
		mesh_health_end(dial->backend, state, blamed_for(reason, tp), tp->srtt_us >> 3,
				tp->bytes_received != 0);
		held_give(&dial->held, dial->backend);
		return reason;
	}
	flow_count_tcp(flow, tp, old);
	/* Where cut.bpf.c ended it, that has written down why. */
	reason = flow->reason ? flow->reason : end_reason(old, ((struct sock *)tp)->sk_err);
	mesh_health_end(flow->backend, state, blamed_for(reason, tp), flow->srtt_us, flow->bytes_received != 0);
	flow_close(bpf_get_socket_cookie(ops), (__u8)state, reason, NULL);
	return reason;
}

SEC("sockops")
int mesh_sockops(struct bpf_sock_ops *ops)
{
	__u16 reason = MESH_REASON_NOT_HANDLED;

	switch (ops->op) {
	case BPF_SOCK_OPS_TIMEOUT_INIT_:
		reason = on_timeout_init(ops);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		reason = on_connect(ops);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		reason = on_established(ops);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		reason = on_accepted(ops);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		reason = on_rtt(ops);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		reason = on_state(ops);
		break;
	}
	mesh_count(MESH_HOOK_SOCKOPS, reason);
	return 1;
}
