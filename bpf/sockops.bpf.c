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

static __always_inline struct mesh_flow *flow_of(struct bpf_sock_ops *ops)
{
	__u64 cookie = bpf_get_socket_cookie(ops);

	return bpf_map_lookup_elem(&mesh_flows, &cookie);
}

static __always_inline __u16 on_connect(struct bpf_sock_ops *ops)
{
	struct mesh_flow *flow = flow_of(ops);

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
	struct tcp_sock *tp;
	__u16 reason;

	/* From one state of closing to the next nothing changes for the flow. */
	if (new != TCP_CLOSE_ && !was_open)
		return MESH_REASON_TRACKED;
	flow = flow_of(ops);
	if (!flow || !ops->sk)
		return MESH_REASON_NOT_TRACKED;
	if (new != TCP_CLOSE_) {
		flow->state = new == TCP_ESTABLISHED_ ? MESH_STATE_ESTABLISHED : MESH_STATE_CLOSING;
		return MESH_REASON_TRACKED;
	}
	tp = bpf_skc_to_tcp_sock(ops->sk);
	if (!tp)
		return MESH_REASON_NOT_TRACKED;
	flow_count_tcp(flow, tp, old);
	/* A policy cut it: cut.bpf.c has written down which. */
	reason = flow->reason == MESH_REASON_CUT ? MESH_REASON_CUT : end_reason(old, ((struct sock *)tp)->sk_err);
	flow_close(bpf_get_socket_cookie(ops), old == TCP_SYN_SENT_ ? MESH_STATE_FAILED : MESH_STATE_CLOSED, reason,
		   NULL);
	return reason;
}

SEC("sockops")
int mesh_sockops(struct bpf_sock_ops *ops)
{
	__u16 reason = MESH_REASON_NOT_HANDLED;

	switch (ops->op) {
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
