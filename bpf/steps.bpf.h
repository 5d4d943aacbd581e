/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Steps of the tc programs around one connection: find it, count the packet and ask whether it still may, or decide where a new one
 * goes, open it, record one that never was.
 */
#ifndef BPF_STEPS_H
#define BPF_STEPS_H

#include "work.bpf.h"

/* The connection that `t` belongs to, into w->conn_* and w->wire. 0: none. */
__noinline int tc_find(const struct mesh_tuple *t)
{
	struct work *w = work_get();
	struct conn_found found;

	if (!w || !t)
		return 0;
	conn_find(t, &found);
	if (!found.conn)
		return 0;
	w->wire = found.conn->wire;
	w->conn_dialled = found.conn->dialled;
	w->conn_ifindex = found.conn->ifindex;
	w->conn_backend = found.conn->flow.backend;
	w->conn_server_id = found.conn->flow.server_id;
	w->conn_view = found.view;
	w->conn_reply = found.reply;
	w->conn_verdict_epoch = found.conn->verdict_epoch;
	w->conn_state = found.conn->state;
	w->conn_flags = found.conn->flags;
	return 1;
}

/* Ends the connection with this tuple on the wire, and forgets it. */
__noinline int tc_forget(const struct mesh_tuple *wire)
{
	struct mesh_conn *conn = wire ? conn_get(wire) : NULL;

	if (conn)
		conn_drop(conn);
	return 0;
}

/* A policy that came after the connection is asked whether it may go on. 1: it may. */
static __always_inline int still_allowed(struct work *w, struct mesh_conn *conn)
{
	struct mesh_control *ctl = mesh_control_get();
	int reason;

	if (conn->flags & MESH_CONN_CUT)
		return 0;
	if (!ctl)
		return 1;
	/* A leg is kept for connections that its client has yet to make, which a change is for in any case. */
	if ((conn->flags & MESH_CONN_LEG ? *(volatile __u64 *)&ctl->member_epoch : ctl->cut_epoch) <=
	    conn->verdict_epoch)
		return 1;
	reason = tc_ask(&w->conn_dialled.client, 0, &w->wire.server, bpf_ntohs(w->wire.server_port_be),
			!!(conn->flags & (MESH_CONN_L7 | MESH_CONN_LEG)));
	if (!reason)
		conn->verdict_epoch = w->live;
	/* Overtaken: nobody has said anything, and the next packet asks again. */
	if (!reason || reason == MESH_REASON_ROW_RACED)
		return !reason;
	conn->flow.policy_id = w->policy_id;
	conn_cut(conn, MESH_REASON_CUT);
	return 0;
}

/* Takes the packet into account where its connection is tracked. 0: the connection has been forbidden. A reset, which may be that of a
 * socket that was cut, is let through. A SYN within an open connection is the other end's business. */
__noinline int tc_take(void)
{
	struct mesh_control *ctl = mesh_control_get();
	struct work *w = work_get();
	struct mesh_conn *conn;

	if (!w || !ctl)
		return 1;
	/* Most packets of what is tracked at another link need nothing more. */
	if (w->conn_ifindex != w->ifindex && !(w->conn_flags & MESH_CONN_CUT) &&
	    ctl->cut_epoch <= w->conn_verdict_epoch)
		return 1;
	conn = conn_get(&w->wire);
	if (!conn)
		return 1;
	if (!still_allowed(w, conn)) {
		if (conn->flags & MESH_CONN_CUT)
			conn_cut_seen(conn);
		return work_tcp(w, TCP_RST, TCP_RST);
	}
	/* What was sent back to its own pod was counted on its way in. */
	if (w->hook == MESH_HOOK_TO_POD && (conn->flags & MESH_CONN_HAIRPIN))
		return 1;
	if (conn->ifindex != w->ifindex || (w->p.t.proto == MESH_PROTO_TCP && w->kind == PKT_FRAGMENT) ||
	    (conn->state == MESH_CONN_OPEN && work_tcp(w, TCP_SYN, TCP_SYN)))
		return 1;
	conn_follow(conn, &w->p, w->conn_reply, w->hook);
	return 1;
}

/* The packet begins the connection that find() found anew: a SYN after the last one ended; a datagram to an endpoint that the rules
 * have no more, unless the pod is there still, which is only to get no new connections. */
static __always_inline int stale(const struct work *w)
{
	struct mesh_workload *server;
	struct mesh_backend *backend;
	__u32 at = w->conn_backend;

	if (w->p.t.proto == MESH_PROTO_TCP)
		return (w->conn_state >= MESH_CONN_FIN || w->conn_flags & MESH_CONN_CUT) && work_begins(w);
	if (!at || !(w->conn_flags & MESH_CONN_NAT))
		return 0;
	backend = bpf_map_lookup_elem(&mesh_backends, &at);
	if (backend && backend->used && mesh_addr_eq(&backend->addr, &w->wire.server))
		return 0;
	server = workload_find(&w->wire.server, w->live);
	return !server || server->workload_id != w->conn_server_id;
}

/* w->to becomes `to`, as a packet from the client or, a reply, from the server has it. */
static __always_inline void aim(struct work *w, const struct mesh_tuple *to, int reply)
{
	w->to = *to;
	if (!reply)
		return;
	w->to.client = to->server;
	w->to.client_port_be = to->server_port_be;
	w->to.server = to->client;
	w->to.server_port_be = to->client_port_be;
}

/* ---- new connections ---- */

/* What the rules say of the packet's destination, into w->row: ROW_FOUND, ROW_NONE or ROW_RACED. */
static __always_inline int find_service(struct work *w)
{
	struct mesh_key key = { .prefix_len = 128 };
	struct mesh_row *row = NULL;
	int found;

	key.scope = w->scope;
	key.port_be = w->p.t.server_port_be;
	key.proto = w->p.t.proto;
	key.addr = w->p.t.server;
	found = row_dialled(&key, &w->live, &row);
	if (found == ROW_FOUND && row)
		w->row = *row;
	return found;
}

/* The packet's own ends are both what was dialled and what is on the wire. */
static __always_inline void aim_direct(struct work *w)
{
	w->dialled = w->p.t;
	w->dialled.kind = MESH_TUPLE_DIALLED;
	w->to = w->p.t;
	w->to.kind = MESH_TUPLE_WIRE;
}

/* Chooses where w->row sends the connection: w->to. */
static __always_inline int tc_choose(void)
{
	struct mesh_backend *backend = NULL;
	struct work *w = work_get();
	__u16 reason;

	if (!w)
		return MESH_REASON_CORRUPT;
	reason = choose(&w->row, &w->p.t.client, &w->pick, &backend);
	w->cluster_id = w->pick.cluster_id;
	if (reason != MESH_REASON_ROUTED)
		return reason;
	if (!backend)
		return MESH_REASON_CORRUPT;
	w->backend = w->pick.backend;
	w->server_id = backend->workload_id;
	w->to.server = backend->addr;
	w->to.server_port_be = backend->port_be;
	return MESH_REASON_ROUTED;
}

/* An element for w->to. An older connection of the same client that is over makes room; one of another service that the client has from
 * the same port moves this one to another source port. */
__noinline int tc_open(__u32 tries)
{
	struct work *w = work_get();
	struct mesh_conn *conn;
	__u32 i;

	if (!w)
		return 0;
	for (i = 0; i < 8 && i < tries; i++) {
		conn = conn_get(&w->to);
		if (!conn || conn->state == MESH_CONN_CLOSED || tuple_from_client(&conn->dialled, &w->dialled)) {
			tc_forget(&w->to);
			if (conn_open(&w->to))
				return 1;
		}
		w->to.client_port_be = bpf_htons(1024 + bpf_get_prandom_u32() % 64512);
	}
	return 0;
}

/* Fills the record of the connection that tc_open() made. */
static __always_inline void describe(struct work *w, struct mesh_conn *conn, __u32 flags)
{
	struct mesh_workload *client;

	conn->dialled = w->dialled;
	conn->flags = (__u16)flags;
	if (flags & MESH_CONN_L7)
		conn->flow.path = MESH_PATH_L7;
	conn->ifindex = w->ifindex;
	conn->flow.backend = w->backend;
	conn->verdict_epoch = w->live;
	conn->flow.netns_cookie = w->netns_cookie;
	conn->flow.epoch = w->live;
	conn->flow.client = w->dialled.client;
	conn->flow.client_port_be = w->dialled.client_port_be;
	conn->flow.dialled = w->dialled.server;
	conn->flow.dialled_port_be = w->dialled.server_port_be;
	conn->flow.chosen = w->to.server;
	conn->flow.chosen_port_be = w->to.server_port_be;
	conn->flow.server_id = w->server_id;
	conn->flow.policy_id = w->policy_id;
	conn->flow.service_id = w->row.service_id;
	conn->flow.cluster_id = w->cluster_id;
	if (w->hook == MESH_HOOK_FROM_POD) {
		conn->flow.client_id = w->pod_id;
		return;
	}
	client = workload_find(&w->dialled.client, w->live);
	conn->flow.client_id = client ? client->workload_id : 0;
	conn->flow.server_side = 1;
}

/* Opens the connection w->dialled -> w->to and counts its first packet. 0: there is no room. */
__noinline int tc_begin(__u32 flags)
{
	struct work *w = work_get();
	struct mesh_conn *conn;

	if (!w || !tc_open(flags & MESH_CONN_NAT ? 8 : 1))
		return 0;
	conn = conn_get(&w->to);
	if (!conn)
		return 0;
	describe(w, conn, flags);
	if (flags & MESH_CONN_KEPT) {
		conn = conn_confirm(conn, w->hook);
		if (!conn->quota) {
			tc_forget(&w->to);
			return 0;
		}
		tracks_tcp(conn->ifindex);
	}
	conn_follow(conn, &w->p, 0, w->hook);
	if (!(flags & MESH_CONN_KEPT))
		conn_begin(conn);
	return 1;
}

/* A connection that never was: its record, and a refusal. */
__noinline int tc_refuse_new(struct __sk_buff *skb, __u32 reason)
{
	struct work *w = work_get();
	struct mesh_conn *conn;

	if (!w)
		return TC_ACT_SHOT_;
	if (reason != MESH_REASON_ROW_RACED && tc_open(1)) {
		conn = conn_get(&w->to);
		if (conn) {
			describe(w, conn, MESH_CONN_RECORD);
			conn_report(conn, MESH_STATE_FAILED, (__u16)reason);
		}
		tc_forget(&w->to);
	}
	return tc_refuse(skb, reason);
}

/* Translates the packet to w->to, and sends it back to the pod that it came from when that is where the service led. */
__noinline int tc_send_on(struct __sk_buff *skb, __u32 hairpin)
{
	struct work *w = work_get();

	if (!w)
		return TC_ACT_SHOT_;
	if (pkt_translate(skb, &w->p, &w->to, w->kind == PKT_FRAGMENT))
		return drop(w->hook, MESH_REASON_MALFORMED);
	mesh_count(w->hook, MESH_REASON_TRANSLATED);
	if (!hairpin)
		return TCX_NEXT_;
	pkt_swap_macs(skb);
	return bpf_redirect(w->ifindex, 0);
}

static __always_inline int unspecified(const struct mesh_addr *a)
{
	return !(a->w_be[0] | a->w_be[1] | a->w_be[2] | a->w_be[3]);
}

/* A pod of one family has no other address: the unspecified one is nobody's own. */
static __always_inline int own_address(const struct work *w, const struct mesh_addr *a)
{
	return !unspecified(a) && (mesh_addr_eq(a, &w->own[0]) || mesh_addr_eq(a, &w->own[1]));
}

/* The identity of whoever the packet comes from; 0: by its address. */
static __always_inline __u32 source_identity(const struct work *w)
{
	return w->hook == MESH_HOOK_FROM_POD ? w->identity : 0;
}

/* Its destination allows only so many connections. */
static __always_inline int limited(__u32 backend)
{
	struct mesh_pool *pool = pool_of(backend_of(backend));

	return pool && pool->max_connections != ~0u;
}

/* A new connection to the service of w->row, from a pod or from outside. */
__noinline int tc_route(struct __sk_buff *skb)
{
	struct work *w = work_get();
	__u32 flags = MESH_CONN_RECORD | MESH_CONN_ASKED;
	struct mesh_workload *server;
	int reason;

	if (!w)
		return TC_ACT_SHOT_;
	aim_direct(w);
	if (w->row.action == MESH_ROUTE) {
		reason = tc_choose();
		if (reason != MESH_REASON_ROUTED)
			return tc_refuse_new(skb, reason);
		flags |= MESH_CONN_NAT;
	}
	reason = tc_ask(&w->p.t.client, source_identity(w), &w->to.server, bpf_ntohs(w->to.server_port_be), 0);
	if (reason)
		return tc_refuse_new(skb, reason);
	server = workload_find(&w->to.server, w->live);
	if (w->hook == MESH_HOOK_FROM_POD && own_address(w, &w->to.server)) {
		flags |= MESH_CONN_HAIRPIN;
		mesh_addr_loop_of(!w->p.v6, &w->to.client);
	}
	if (w->hook == MESH_HOOK_FROM_NODE && (!server || !(server->flags & MESH_WORKLOAD_LOCAL)))
		flags |= MESH_CONN_MASQ;
	if (w->p.t.proto == MESH_PROTO_TCP && limited(w->backend)) {
		if (!mesh_slot_take(w->backend))
			return tc_refuse_new(skb, MESH_REASON_OVERFLOW);
		flags |= MESH_CONN_KEPT;
	}
	if (!tc_begin(flags)) {
		if (flags & MESH_CONN_KEPT)
			mesh_slot_give(w->backend);
		return drop(w->hook, MESH_REASON_CONN_TABLE_FULL);
	}
	if (!(flags & MESH_CONN_NAT))
		return pass(w->hook, MESH_REASON_PASSED);
	return tc_send_on(skb, flags & MESH_CONN_HAIRPIN);
}

#endif
