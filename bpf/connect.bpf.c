// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The socket hooks of a client: connect() chooses an endpoint, getpeername() and recvfrom() keep showing what was dialled, and the
 * socket's release ends what connect() began. IPv4 and IPv6 are one text; each entry program is two lines.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "decide.bpf.h"
#include "dial.bpf.h"
#include "flow.bpf.h"
#include "lookup.bpf.h"
#include "maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 closed_mask = 0;

/* Ends what an earlier connect() of the same socket left behind. */
static __always_inline void end_previous(struct mesh_dial *dial)
{
	if (dial->proto == MESH_PROTO_UDP)
		flow_end(dial, MESH_STATE_CLOSED, MESH_REASON_CLOSED);
	else if (!dial->sent)
		flow_end(dial, MESH_STATE_FAILED, MESH_REASON_NOT_SENT);
	else
		flow_end(dial, MESH_STATE_CLOSED, MESH_REASON_CLOSED);
}

/* Keeps what the socket dialled and opens its flow. Returns the reason to count. */
static __always_inline __u16 record(struct bpf_sock_addr *ctx, struct mesh_flow *flow, __u16 reason)
{
	struct mesh_dial *dial = bpf_sk_storage_get(&mesh_dials, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!dial)
		return MESH_REASON_SOCK_STORAGE;
	dial->dialled = flow->dialled;
	dial->chosen = flow->chosen;
	dial->dialled_port_be = flow->dialled_port_be;
	dial->chosen_port_be = flow->chosen_port_be;
	dial->proto = flow->proto;
	dial->sent = 0;
	dial->bytes_sent = 0;
	dial->bytes_received = 0;
	if (bpf_map_update_elem(&mesh_flows, &flow->cookie, flow, BPF_ANY)) {
		dial->cookie = 0;
		return MESH_REASON_FLOW_TABLE_FULL;
	}
	dial->cookie = flow->cookie;
	return reason;
}

static __always_inline int route(struct bpf_sock_addr *ctx, int v6, const struct dial *d, const struct mesh_row *row,
				 __u16 *ret_reason)
{
	__u16 reason = MESH_REASON_PASSED;
	struct mesh_flow flow;
	__u32 backend = 0;

	flow_begin(ctx, d, row->service_id, &flow);
	if (row->action == MESH_ROUTE)
		reason = flow_choose(row, &flow, &backend);
	*ret_reason = reason;
	if (reason != MESH_REASON_ROUTED && reason != MESH_REASON_PASSED) {
		flow_fail(&flow, reason);
		return refuse();
	}
	*ret_reason = flow_policy(d, &flow);
	if (*ret_reason != MESH_REASON_NONE) {
		flow_fail(&flow, *ret_reason);
		return DENY;
	}
	if (reason == MESH_REASON_ROUTED)
		ctx_set_user_addr(ctx, v6, &flow.chosen, flow.chosen_port_be);
	*ret_reason = record(ctx, &flow, reason);
	return ALLOW;
}

/* Somewhere that a pod which may reach only what the rules know must not go. */
static __always_inline int off_limits(const struct mesh_addr *addr)
{
	return !mesh_addr_special(addr) && !bpf_map_lookup_elem(&mesh_locals, addr);
}

/*
 * No service: the address itself. Nothing is recorded but a refusal. A pod's own address is never off the pod. A UDP socket that is
 * bound to a port may be a server that answers its client, which the tc path can tell from a first datagram and this hook cannot.
 */
static __always_inline int direct(struct bpf_sock_addr *ctx, const struct dial *d, __u16 *ret_reason)
{
	struct mesh_workload *server;
	struct mesh_flow flow;
	__u32 policy_id = 0;
	__u16 reason;

	*ret_reason = MESH_REASON_NOT_SERVICE;
	if (d->key.proto == MESH_PROTO_UDP && ctx->sk->src_port)
		return ALLOW;
	server = workload_find(&d->key.addr, d->live);
	if (!server && !(d->pod->flags & MESH_POD_REGISTRY_ONLY))
		return ALLOW;
	if (mesh_addr_eq(&d->key.addr, &d->pod->addr[0]) || mesh_addr_eq(&d->key.addr, &d->pod->addr[1]))
		return ALLOW;
	if (server)
		reason = dial_policy(d, server, &d->key.addr, d->key.port_be, &policy_id);
	else
		reason = off_limits(&d->key.addr) ? MESH_REASON_REGISTRY_ONLY : MESH_REASON_NONE;
	if (reason == MESH_REASON_NONE)
		return ALLOW;
	flow_begin(ctx, d, 0, &flow);
	flow.policy_id = reason == MESH_REASON_REGISTRY_ONLY ? d->pod->sidecar_id : policy_id;
	flow.server_id = server ? server->workload_id : 0;
	flow_fail(&flow, reason);
	*ret_reason = reason;
	return DENY;
}

static __always_inline int decide(struct bpf_sock_addr *ctx, int v6, __u16 *ret_reason)
{
	struct mesh_row *row = NULL;
	struct mesh_dial *dial;
	struct dial d = {};
	int found;

	*ret_reason = dial_begin(ctx, v6, &d);
	if (*ret_reason != MESH_REASON_NONE)
		return ALLOW;
	dial = bpf_sk_storage_get(&mesh_dials, ctx->sk, 0, 0);
	if (dial) {
		end_previous(dial);
		__builtin_memset(&dial->chosen, 0, sizeof(dial->chosen));
	}
	*ret_reason = MESH_REASON_FOREIGN_SOURCE;
	if (!mesh_pod_owns(d.pod, &d.local))
		return ALLOW;
	found = row_dialled(&d.key, &d.live, &row);
	*ret_reason = MESH_REASON_ROW_RACED;
	if (found == ROW_RACED)
		return refuse();
	if (found == ROW_NONE || !row || row->action == MESH_ABSENT)
		return direct(ctx, &d, ret_reason);
	return route(ctx, v6, &d, row, ret_reason);
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

/* Puts the dialled address where the kernel was about to show the chosen one. */
static __always_inline __u16 restore(struct bpf_sock_addr *ctx, int v6, int udp_only)
{
	struct mesh_dial *dial;
	struct mesh_addr shown;
	__be16 port_be;

	if (!ctx->sk || (udp_only && ctx_proto(ctx) != MESH_PROTO_UDP))
		return MESH_REASON_NOT_HANDLED;
	dial = bpf_sk_storage_get(&mesh_dials, ctx->sk, 0, 0);
	if (!dial)
		return MESH_REASON_NOT_TRACKED;
	ctx_user_addr(ctx, v6, &shown, &port_be);
	if (port_be != dial->chosen_port_be || !mesh_addr_eq(&shown, &dial->chosen))
		return MESH_REASON_NOT_TRACKED;
	ctx_set_user_addr(ctx, v6, &dial->dialled, dial->dialled_port_be);
	return MESH_REASON_RESTORED;
}

SEC("cgroup/getpeername4")
int mesh_getpeer4(struct bpf_sock_addr *ctx)
{
	mesh_count(MESH_HOOK_GETPEERNAME4, restore(ctx, 0, 0));
	return ALLOW;
}

SEC("cgroup/getpeername6")
int mesh_getpeer6(struct bpf_sock_addr *ctx)
{
	mesh_count(MESH_HOOK_GETPEERNAME6, restore(ctx, 1, 0));
	return ALLOW;
}

SEC("cgroup/recvmsg4")
int mesh_recvmsg4(struct bpf_sock_addr *ctx)
{
	mesh_count(MESH_HOOK_RECVMSG4, restore(ctx, 0, 1));
	return ALLOW;
}

SEC("cgroup/recvmsg6")
int mesh_recvmsg6(struct bpf_sock_addr *ctx)
{
	mesh_count(MESH_HOOK_RECVMSG6, restore(ctx, 1, 1));
	return ALLOW;
}

/* TCP flows whose SYN went out end in sockops; what never got that far, and UDP, ends here. */
SEC("cgroup/sock_release")
int mesh_release(struct bpf_sock *sk)
{
	struct mesh_dial *dial = bpf_sk_storage_get(&mesh_dials, sk, 0, 0);
	__u16 reason = MESH_REASON_NOT_TRACKED;

	if (dial && dial->cookie && (!dial->sent || dial->proto == MESH_PROTO_UDP)) {
		reason = dial->proto == MESH_PROTO_UDP ? MESH_REASON_CLOSED : MESH_REASON_NOT_SENT;
		end_previous(dial);
	}
	mesh_count(MESH_HOOK_SOCK_RELEASE, reason);
	return ALLOW;
}
