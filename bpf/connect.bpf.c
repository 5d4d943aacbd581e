// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The socket hooks of a client: connect() chooses an endpoint, getpeername() and recvfrom() keep showing what was dialled, and the
 * socket's release ends what connect() began. IPv4 and IPv6 are one text; each entry program is two lines.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "decide.bpf.h"
#include "flow.bpf.h"
#include "lookup.bpf.h"
#include "maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 closed_mask = 0;

/* Program results of cgroup/connect. */
enum { DENY = 0, ALLOW = 1 };

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

/* Refuses a connect() with ECONNREFUSED, with EPERM on kernels that cannot say which (before 5.18). */
static __always_inline int refuse(void)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_set_retval))
		bpf_set_retval(-E_CONNREFUSED);
	return DENY;
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

/* Fills what a flow record says of the decision. */
static __always_inline void flow_begin(struct bpf_sock_addr *ctx, const struct mesh_key *key,
				       const struct mesh_pod *pod, const struct mesh_row *row, __u64 live,
				       struct mesh_flow *flow)
{
	flow->cookie = bpf_get_socket_cookie(ctx);
	flow->netns_cookie = pod->netns_cookie;
	flow->epoch = live;
	flow->opened_ns = bpf_ktime_get_boot_ns();
	flow->client = mesh_addr_v4(&pod->addr[0]) == mesh_addr_v4(&key->addr) ? pod->addr[0] : pod->addr[1];
	flow->dialled = key->addr;
	flow->chosen = key->addr;
	flow->dialled_port_be = key->port_be;
	flow->chosen_port_be = key->port_be;
	flow->proto = key->proto;
	flow->client_id = pod->workload_id;
	flow->service_id = row->service_id;
	flow->state = key->proto == MESH_PROTO_TCP ? MESH_STATE_CONNECTING : MESH_STATE_ESTABLISHED;
}

static __always_inline int route(struct bpf_sock_addr *ctx, int v6, const struct mesh_row *row, struct mesh_flow *flow,
				 __u16 *ret_reason)
{
	struct mesh_backend *backend = NULL;
	__u32 at = 0;
	__u16 reason = choose(row, &flow->cluster_id, &at, &backend);

	if (reason != MESH_REASON_ROUTED || !backend) {
		flow->state = MESH_STATE_FAILED;
		flow->reason = reason;
		flow_to_ring(flow, flow->opened_ns);
		*ret_reason = reason;
		return refuse();
	}
	flow->chosen = backend->addr;
	flow->chosen_port_be = backend->port_be;
	flow->server_id = backend->workload_id;
	ctx_set_user_addr(ctx, v6, &flow->chosen, flow->chosen_port_be);
	*ret_reason = record(ctx, flow, MESH_REASON_ROUTED);
	return ALLOW;
}

static __always_inline int decide(struct bpf_sock_addr *ctx, int v6, __u16 *ret_reason)
{
	struct mesh_control *ctl = mesh_control_get();
	struct mesh_key key = { .prefix_len = 128 };
	struct mesh_flow flow = {};
	struct mesh_row *row = NULL;
	struct mesh_addr local;
	struct mesh_dial *dial;
	struct mesh_pod *pod;
	__u64 live;
	int found;

	key.proto = ctx_proto(ctx);
	*ret_reason = MESH_REASON_NOT_HANDLED;
	if (!key.proto || !ctl || !ctx->sk)
		return ALLOW;
	live = *(volatile __u64 *)&ctl->live;
	pod = pod_find(bpf_get_netns_cookie(ctx), live);
	*ret_reason = MESH_REASON_NOT_ENROLLED;
	if (!pod)
		return ALLOW;
	dial = bpf_sk_storage_get(&mesh_dials, ctx->sk, 0, 0);
	if (dial) {
		end_previous(dial);
		__builtin_memset(&dial->chosen, 0, sizeof(dial->chosen));
	}
	ctx_bound_addr(ctx, v6, &local);
	*ret_reason = MESH_REASON_FOREIGN_SOURCE;
	if (!mesh_pod_owns(pod, &local))
		return ALLOW;
	key.scope = pod->scope;
	ctx_user_addr(ctx, v6, &key.addr, &key.port_be);
	found = row_find(ctl, &key, &live, &row);
	*ret_reason = MESH_REASON_ROW_RACED;
	if (found == ROW_RACED)
		return refuse();
	*ret_reason = MESH_REASON_NOT_SERVICE;
	if (found == ROW_NONE || !row || row->action == MESH_ABSENT)
		return ALLOW;
	flow_begin(ctx, &key, pod, row, live, &flow);
	if (row->action == MESH_ROUTE)
		return route(ctx, v6, row, &flow, ret_reason);
	*ret_reason = record(ctx, &flow, MESH_REASON_PASSED);
	return ALLOW;
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
