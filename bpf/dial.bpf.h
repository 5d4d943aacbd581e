/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What connect() and a datagram of an unconnected socket have in common: who dials, what it means, whether a policy allows it, and
 * how it is refused.
 */
#ifndef BPF_DIAL_H
#define BPF_DIAL_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "choose.bpf.h"
#include "ctx.bpf.h"
#include "flow.bpf.h"
#include "lookup.bpf.h"
#include "policy.bpf.h"
#include "tuple.bpf.h"

/* Program results of cgroup/connect and cgroup/sendmsg. DENY alone is EPERM, on every kernel. */
enum { DENY = 0, ALLOW = 1 };

/* What has no room on the stack: some of it for each CPU, as hooks in process context can be preempted, and the next one comes then. */
#define DIAL_WORKS 16
struct dial_work {
	__u32 busy;
	__u32 pad;
	struct pick pick;
	struct mesh_flow flow; /* what becomes of the dial */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DIAL_WORKS);
	__type(key, __u32);
	__type(value, struct dial_work);
} mesh_dialling __weak SEC(".maps");

static __always_inline struct dial_work *dial_work_get(void)
{
	struct dial_work *w;
	__u32 i;

	for (i = 0; i < DIAL_WORKS; i++) {
		__u32 at = i;

		w = bpf_map_lookup_elem(&mesh_dialling, &at);
		if (w && !__sync_lock_test_and_set(&w->busy, 1))
			return w;
	}
	return NULL;
}

static __always_inline void dial_work_put(struct dial_work *w)
{
	*(volatile __u32 *)&w->busy = 0;
}

struct dial {
	struct mesh_pod *pod;
	__u64 live;
	struct mesh_key key;	/* what was dialled; scope is the row's */
	struct mesh_addr local; /* the socket's own; the any-address: not bound to one */
	struct dial_work *work;
};

/* Refuses with ECONNREFUSED, with EPERM on kernels that cannot say which (before 5.18). */
static __always_inline int refuse(void)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_set_retval))
		bpf_set_retval(-E_CONNREFUSED);
	return DENY;
}

/* The address that the pod has for talking to `peer`. */
static __always_inline void pod_addr(const struct mesh_pod *pod, const struct mesh_addr *local,
				     const struct mesh_addr *peer, struct mesh_addr *ret)
{
	if (!mesh_addr_any(local))
		*ret = *local;
	else if (mesh_addr_v4(&pod->addr[0]) == mesh_addr_v4(peer))
		*ret = pod->addr[0];
	else
		*ret = pod->addr[1];
}

/* Fills what a flow record says of the dial, before anything is chosen. */
static __always_inline void flow_begin(struct bpf_sock_addr *ctx, struct dial *d, __u32 service_id)
{
	struct mesh_flow *flow = &d->work->flow;

	__builtin_memset(flow, 0, sizeof(*flow));
	flow->cookie = bpf_get_socket_cookie(ctx);
	flow->netns_cookie = d->pod->netns_cookie;
	flow->epoch = d->live;
	flow->opened_ns = bpf_ktime_get_boot_ns();
	pod_addr(d->pod, &d->local, &d->key.addr, &flow->client);
	flow->dialled = d->key.addr;
	flow->chosen = d->key.addr;
	flow->dialled_port_be = d->key.port_be;
	flow->chosen_port_be = d->key.port_be;
	flow->proto = d->key.proto;
	flow->client_id = d->pod->workload_id;
	flow->service_id = service_id;
	flow->state = d->key.proto == MESH_PROTO_TCP ? MESH_STATE_CONNECTING : MESH_STATE_ESTABLISHED;
}

static __always_inline void flow_fail(struct mesh_flow *flow, __u16 reason)
{
	flow->state = MESH_STATE_FAILED;
	flow->reason = reason;
	flow_to_ring(flow, flow->opened_ns);
}

/* May this pod reach that server? MESH_REASON_NONE: yes; otherwise the reason why not. ret_policy_id is set when a policy says so. */
static __always_inline __u16 dial_policy(const struct dial *d, const struct mesh_workload *server,
					 const struct mesh_addr *addr, __be16 port_be, __u32 *ret_policy_id)
{
	struct policy_run run = {};
	__u16 reason;

	if (!server->policy && !server->shadow)
		return MESH_REASON_NONE;
	pod_addr(d->pod, &d->local, addr, &run.subject.source);
	run.subject.destination = *addr;
	run.subject.identity = d->pod->identity;
	run.subject.port = bpf_ntohs(port_be);
	reason = policy_check(&run, server, 0);
	*ret_policy_id = run.policy_id;
	return reason;
}

/*
 * The same for what the flow has chosen. That there is nothing to ask is remembered with the endpoint until workloads or policies change:
 * among many endpoints each of the lookups, one after the other, finds what it needs in no cache.
 */
static __always_inline __u16 flow_policy(const struct dial *d, struct mesh_flow *flow)
{
	struct mesh_backend *b = backend_of(flow->backend);
	struct mesh_control *ctl = mesh_control_get();
	__u64 since = ctl ? *(volatile __u64 *)&ctl->member_epoch : ~0ull;
	struct mesh_workload *server;
	int found;

	/* A change that is not live for this connection is not its business, and what it finds not that of later ones. */
	if (since > d->live)
		b = NULL;
	if (b && b->open_epoch == (__u32)since)
		return MESH_REASON_NONE;
	found = mesh_workload_find(&flow->chosen, d->live);
	if (found == ROW_RACED)
		return MESH_REASON_ROW_RACED;
	server = workload_at(found);
	if (server && !flow->server_id)
		flow->server_id = server->workload_id;
	else if (b && (server ? !(server->policy | server->shadow) : !found))
		b->open_epoch = (__u32)since;
	return server ? dial_policy(d, server, &flow->chosen, flow->chosen_port_be, &flow->policy_id)
		      : MESH_REASON_NONE;
}

/* Chooses an endpoint into the flow. MESH_REASON_ROUTED: there is one; otherwise the reason why not. */
static __always_inline __u16 flow_choose(const struct mesh_row *row, struct mesh_flow *flow, struct pick *pick)
{
	struct mesh_backend *backend = NULL;
	__u16 reason = choose(row, &flow->client, pick, &backend);

	flow->cluster_id = pick->cluster_id;
	flow->backend = pick->backend;
	if (reason != MESH_REASON_ROUTED)
		return reason;
	if (!backend)
		return MESH_REASON_CORRUPT;
	flow->chosen = backend->addr;
	flow->chosen_port_be = backend->port_be;
	flow->server_id = backend->workload_id;
	return MESH_REASON_ROUTED;
}

/* Who dials what, for a socket of the mesh; d->local is the caller's. MESH_REASON_NONE, or why the mesh leaves it alone. */
static __always_inline __u16 dial_begin(struct bpf_sock_addr *ctx, int v6, struct dial *d)
{
	struct mesh_control *ctl = mesh_control_get();

	d->key.prefix_len = 128;
	d->key.proto = ctx_proto(ctx);
	if (!d->key.proto || !ctl || !ctx->sk)
		return MESH_REASON_NOT_HANDLED;
	d->live = *(volatile __u64 *)&ctl->live;
	d->pod = pod_find(bpf_get_netns_cookie(ctx), d->live);
	if (!d->pod)
		return MESH_REASON_NOT_ENROLLED;
	d->key.scope = d->pod->scope;
	ctx_user_addr(ctx, v6, &d->key.addr, &d->key.port_be);
	return MESH_REASON_NONE;
}

/* Somewhere that a pod which may reach only what the rules know must not go. */
static __always_inline int off_limits(const struct mesh_addr *addr)
{
	return !mesh_addr_special(addr) && !bpf_map_lookup_elem(&mesh_locals, addr);
}

/* The links track a connection between the socket and what it dials. */
static __always_inline int dial_tracked(const struct bpf_sock_addr *ctx, const struct dial *d)
{
	struct mesh_tuple t = { .proto = d->key.proto }, key;

	pod_addr(d->pod, &d->local, &d->key.addr, &t.client);
	t.client_port_be = bpf_htons((__u16)ctx->sk->src_port);
	t.server = d->key.addr;
	t.server_port_be = d->key.port_be;
	tuple_key(&t, &key);
	return bpf_map_lookup_elem(&mesh_nats, &key) || bpf_map_lookup_elem(&mesh_nats_new, &key);
}

/* The programs at the links are there for the pod. */
static __always_inline int dial_linked(const struct dial *d)
{
	__u32 ifindex = d->pod->ifindex;

	return bpf_map_lookup_elem(&mesh_ifaces, &ifindex) != NULL;
}

/* A datagram may be a server's answer, which nobody has to allow. The links have tracked what it answers, or an earlier datagram that was
 * allowed, when anything needs to be allowed here; without them, whoever has bound a port counts as a server. */
static __always_inline int dial_answers(const struct bpf_sock_addr *ctx, const struct dial *d)
{
	if (d->key.proto != MESH_PROTO_UDP)
		return 0;
	return dial_linked(d) ? dial_tracked(ctx, d) : ctx_bound_port(ctx);
}

/* No service: the address itself. Nothing is recorded but a refusal. A pod's own address is never off the pod. */
static __always_inline int dial_direct(struct bpf_sock_addr *ctx, struct dial *d, __u16 *ret_reason)
{
	int found = mesh_workload_find(&d->key.addr, d->live);
	struct mesh_workload *server = workload_at(found);
	__u32 policy_id = 0;
	__u16 reason;

	*ret_reason = MESH_REASON_ROW_RACED;
	if (found == ROW_RACED)
		return refuse();
	*ret_reason = MESH_REASON_NOT_SERVICE;
	if (server ? !(server->policy | server->shadow) : !(d->pod->flags & MESH_POD_REGISTRY_ONLY))
		return ALLOW;
	if (mesh_addr_eq(&d->key.addr, &d->pod->addr[0]) || mesh_addr_eq(&d->key.addr, &d->pod->addr[1]) ||
	    dial_answers(ctx, d))
		return ALLOW;
	if (server)
		reason = dial_policy(d, server, &d->key.addr, d->key.port_be, &policy_id);
	else
		reason = off_limits(&d->key.addr) ? MESH_REASON_REGISTRY_ONLY : MESH_REASON_NONE;
	if (reason == MESH_REASON_NONE)
		return ALLOW;
	flow_begin(ctx, d, 0);
	d->work->flow.policy_id = reason == MESH_REASON_REGISTRY_ONLY ? d->pod->sidecar_id : policy_id;
	d->work->flow.server_id = server ? server->workload_id : 0;
	flow_fail(&d->work->flow, reason);
	*ret_reason = reason;
	return DENY;
}

/* The row that answers, in *ret_row; without one the verdict is here already. */
static __always_inline int dial_find(struct bpf_sock_addr *ctx, struct dial *d, struct mesh_row **ret_row,
				     __u16 *ret_reason)
{
	struct mesh_row *row = NULL;
	int found = row_dialled(&d->key, &d->live, &row);

	*ret_reason = MESH_REASON_ROW_RACED;
	if (found == ROW_RACED)
		return refuse();
	if (found == ROW_NONE || !row || row->action == MESH_ABSENT)
		return dial_direct(ctx, d, ret_reason);
	*ret_row = row;
	return ALLOW;
}

/* A service: chooses an endpoint into the flow, asks its policy, and counts it. *ret_reason: ROUTED or PASSED with ALLOW, else why not. */
static __always_inline int dial_route(struct bpf_sock_addr *ctx, struct dial *d, const struct mesh_row *row,
				      __u16 *ret_reason)
{
	__u16 reason = MESH_REASON_PASSED, denied;
	struct mesh_flow *flow = &d->work->flow;

	/* The links hand it to the parser, with the address that was dialled. */
	*ret_reason = MESH_REASON_PARSED;
	if (row->action == MESH_L7 && dial_linked(d))
		return ALLOW;
	flow_begin(ctx, d, row->service_id);
	if (row->action == MESH_ROUTE || row->flags & MESH_ROW_FAIL_OPEN)
		reason = flow_choose(row, flow, &d->work->pick);
	else if (row->action == MESH_L7)
		reason = MESH_REASON_NO_PARSER;
	*ret_reason = reason;
	if (reason != MESH_REASON_ROUTED && reason != MESH_REASON_PASSED) {
		flow_fail(flow, reason);
		return refuse();
	}
	denied = flow_policy(d, flow);
	if (denied != MESH_REASON_NONE) {
		flow_fail(flow, denied);
		*ret_reason = denied;
		return DENY;
	}
	if (reason == MESH_REASON_PASSED || flow->proto != MESH_PROTO_TCP)
		return ALLOW;
	if (!mesh_slot_take(flow->backend)) {
		*ret_reason = MESH_REASON_OVERFLOW;
		flow_fail(flow, MESH_REASON_OVERFLOW);
		return refuse();
	}
	flow->held = 1;
	return ALLOW;
}

/* Puts the dialled address where the kernel was about to show the one that connect() chose. */
static __always_inline __u16 dial_restore(struct bpf_sock_addr *ctx, int v6, const struct mesh_addr *shown,
					  __be16 port_be)
{
	struct mesh_dial *dial = bpf_sk_storage_get(&mesh_dials, ctx->sk, 0, 0);
	__u64 cookie = dial || ctx_proto(ctx) != MESH_PROTO_TCP ? 0 : bpf_get_socket_cookie(ctx);
	struct mesh_flow *flow = cookie ? bpf_map_lookup_elem(&mesh_flows, &cookie) : NULL;

	if (dial && port_be == dial->chosen_port_be && mesh_addr_eq(shown, &dial->chosen))
		ctx_set_user_addr(ctx, v6, &dial->dialled, dial->dialled_port_be);
	else if (flow && port_be == flow->chosen_port_be && mesh_addr_eq(shown, &flow->chosen))
		ctx_set_user_addr(ctx, v6, &flow->dialled, flow->dialled_port_be);
	else
		return MESH_REASON_NOT_TRACKED;
	return MESH_REASON_RESTORED;
}

#endif
