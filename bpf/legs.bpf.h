/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets between clients, the parser, and servers. A connection whose row says MESH_L7 goes into the parser's network namespace, and its
 * answers go back to the client's link. What the parser itself begins, a leg, bears the address of a client that has connections to it, and
 * comes in at that client's link, as if the client had sent it: whatever the node and the server's policy have for the client, they have for
 * the leg. The server's answers are taken from there before they get to the client.
 */
#ifndef BPF_LEGS_H
#define BPF_LEGS_H

#include "relay.bpf.h"
#include "shortcut.bpf.h"
#include "steps.bpf.h"

#define PARSER_UP_TRIES 4

/* Somebody listens in the parser's namespace. */
__noinline int tc_parser_up(void)
{
	struct mesh_control *ctl = mesh_control_get();
	__u32 first = bpf_get_prandom_u32(), i;

	if (!ctl || !ctl->parser_ifindex)
		return 0;
	for (i = 0; i < PARSER_UP_TRIES; i++) {
		__u32 at = (first + i) % MESH_PARSERS_MAX;
		struct bpf_sock *sk = bpf_map_lookup_elem(&mesh_parsers, &at);

		if (!sk)
			continue;
		bpf_sk_release(sk);
		return 1;
	}
	return 0;
}

/* A client's packet to the parser: where answers and legs go is kept, and from its third packet on the parser may speak for it. */
static __always_inline void client_seen(struct __sk_buff *skb, struct work *w)
{
	struct mesh_conn *conn = conn_get(&w->wire);
	struct mesh_iface *iface;
	__u32 ifindex = w->ifindex;

	if (!conn || conn->ifindex != ifindex || bpf_skb_load_bytes(skb, 0, w->macs, sizeof(w->macs)))
		return;
	iface = bpf_map_lookup_elem(&mesh_ifaces, &ifindex);
	if (iface && (iface->gateway[0] | iface->gateway[1] | iface->gateway[2] | iface->gateway[3] |
		      iface->gateway[4] | iface->gateway[5]))
		__builtin_memcpy(w->macs, iface->gateway, sizeof(iface->gateway));
	__builtin_memcpy(conn->far, w->macs, sizeof(conn->far));
	__builtin_memcpy(conn->near, w->macs + 6, sizeof(conn->near));
	if (conn->quota && !conn->relayed && conn->state != MESH_CONN_CLOSED && !(conn->flags & MESH_CONN_CUT))
		relay_take(conn);
}

/* What a client of the parser has sent and read past TCP, into the record of its connection: no packet told of it. */
__noinline int tc_past(struct __sk_buff *skb)
{
	struct mesh_control *ctl = mesh_control_get();
	struct work *w = work_get();
	struct bpf_sock *sk = skb->sk;
	__u64 redirected, past;
	struct mesh_conn *conn;
	struct mesh_end *end;

	sk = sk && ctl && (ctl->flags & MESH_CONTROL_ACCELERATE) ? bpf_sk_fullsock(sk) : NULL;
	end = sk ? bpf_sk_storage_get(&mesh_ends, sk, 0, 0) : NULL;
	conn = end && w ? conn_get(&w->wire) : NULL;
	if (!end || !conn || conn->ifindex != w->ifindex)
		return 0;
	/* Of several packets at once one may tell too much and the next one less than nothing: the sum is right. */
	redirected = end->redirected;
	redirected -= __sync_lock_test_and_set(&end->told_redirected, redirected);
	past = end->past;
	past -= __sync_lock_test_and_set(&end->told_past, past);
	__sync_fetch_and_add(&conn->flow.bytes_sent, redirected);
	__sync_fetch_and_add(&conn->flow.bytes_received, past);
	__sync_fetch_and_add(&conn->flow.bytes_redirected, redirected + past);
	return 0;
}

/* Into the parser's namespace: of a client's connection what comes from the client, of a leg what comes from its server. */
__noinline int tc_to_parser(struct __sk_buff *skb)
{
	static const __u8 mac[6] = MESH_PARSER_MAC;
	struct mesh_control *ctl = mesh_control_get();
	struct work *w = work_get();
	__u32 ifindex = ctl ? *(volatile __u32 *)&ctl->parser_ifindex : 0;

	if (!w)
		return TC_ACT_SHOT_;
	if (!ifindex)
		return tc_refuse(skb, MESH_REASON_NO_PARSER);
	if (!w->conn_reply && (w->conn_flags & MESH_CONN_L7))
		client_seen(skb, w);
	if (bpf_skb_store_bytes(skb, 0, mac, sizeof(mac), 0))
		return drop(w->hook, MESH_REASON_MALFORMED);
	mesh_count(w->hook, MESH_REASON_PARSED);
	if (w->hook == MESH_HOOK_TO_POD || w->hook == MESH_HOOK_TO_NODE)
		return bpf_redirect(ifindex, 0);
	if (skb->pkt_type != PACKET_HOST_)
		bpf_skb_change_type(skb, PACKET_HOST_);
	return bpf_redirect_peer(ifindex, 0);
}

/* A packet of what has been forbidden meanwhile. Of a server it tells the parser, which may be waiting for an answer; the next one is refused. */
__noinline int tc_cut(struct __sk_buff *skb)
{
	struct work *w = work_get();

	if (!w)
		return TC_ACT_SHOT_;
	if (!w->conn_reply || (w->conn_flags & (MESH_CONN_LEG | MESH_CONN_HAIRPIN | MESH_CONN_MASQ)) != MESH_CONN_LEG ||
	    w->conn_state == MESH_CONN_CLOSED || w->kind != PKT_L4)
		return tc_refuse(skb, MESH_REASON_CUT);
	return pkt_reset(skb, &w->p, 1) ? drop(w->hook, MESH_REASON_CUT) : tc_to_parser(skb);
}

/* An older connection with the same ends is no way for packets of this one. */
static __always_inline void no_shortcut(const struct work *w)
{
	struct conn_keys *k = conn_keys();

	if (!k)
		return;
	k->key = w->p.t;
	k->key.proto = k->key.kind = 0;
	shortcut_back(&k->key, &k->view);
	bpf_map_delete_elem(&mesh_shortcuts, &k->key);
	bpf_map_delete_elem(&mesh_shortcuts, &k->view);
}

/* A new connection whose row says MESH_L7. */
__noinline int tc_parse(struct __sk_buff *skb)
{
	struct work *w = work_get();

	if (!w)
		return TC_ACT_SHOT_;
	aim_direct(w);
	no_shortcut(w);
	w->server_id = w->policy_id = 0;
	if (!tc_begin(MESH_CONN_RECORD | MESH_CONN_ASKED | MESH_CONN_L7))
		return drop(w->hook, MESH_REASON_CONN_TABLE_FULL);
	w->wire = w->to;
	w->conn_reply = 0;
	w->conn_flags = MESH_CONN_L7;
	return tc_to_parser(skb);
}

/* ---- what comes from the parser ---- */

/* Link addresses become those that the connection has at its client's link, `reply`: as a packet to the client. */
static __always_inline int aim_link(struct __sk_buff *skb, struct work *w, const struct mesh_conn *conn, int reply)
{
	__builtin_memcpy(w->macs, reply ? conn->near : conn->far, 6);
	__builtin_memcpy(w->macs + 6, reply ? conn->far : conn->near, 6);
	return bpf_skb_store_bytes(skb, 0, w->macs, sizeof(w->macs), 0);
}

/* An answer to a client. */
__noinline int tc_answer(struct __sk_buff *skb)
{
	struct work *w = work_get();
	struct mesh_conn *conn = w ? conn_get(&w->wire) : NULL;

	if (!w || !conn)
		return TC_ACT_SHOT_;
	if (aim_link(skb, w, conn, 1))
		return drop(w->hook, MESH_REASON_MALFORMED);
	mesh_count(w->hook, MESH_REASON_PARSED);
	return bpf_redirect(conn->ifindex, 0);
}

/* A packet of a leg that is there: on its way as if the client had sent it; straight to the client's link where that is the server too. */
__noinline int tc_leg(struct __sk_buff *skb)
{
	struct work *w = work_get();
	struct mesh_conn *conn = w ? conn_get(&w->wire) : NULL;
	int hairpin;

	if (!w || !conn)
		return TC_ACT_SHOT_;
	hairpin = conn->flags & MESH_CONN_HAIRPIN;
	if (hairpin) {
		aim(w, &w->wire, 0);
		if (pkt_translate(skb, &w->p, &w->to, 0))
			return drop(w->hook, MESH_REASON_MALFORMED);
	}
	if (aim_link(skb, w, conn, hairpin))
		return drop(w->hook, MESH_REASON_MALFORMED);
	mesh_count(w->hook, MESH_REASON_TRACKED);
	return bpf_redirect(conn->ifindex, hairpin ? 0 : BPF_F_INGRESS);
}

/* The client itself has a connection between these ends which only the shortcuts know of. */
static __always_inline int leg_taken(const struct work *w)
{
	struct conn_keys *k = conn_keys();
	struct mesh_shortcut *there;

	if (!k)
		return 1;
	k->key = w->p.t;
	k->key.proto = k->key.kind = 0;
	there = bpf_map_lookup_elem(&mesh_shortcuts, &k->key);
	return there && there->state != MESH_SHORTCUT_CLOSED;
}

/* Where the legs of w's client come in, into w; flags of the leg, 0: nowhere. */
static __always_inline __u32 leg_place(struct work *w)
{
	struct mesh_relay *r = relay_of(&w->p.t.client);
	__u32 flags = MESH_CONN_LEG | MESH_CONN_ASKED, ifindex;
	struct mesh_workload *server;
	struct mesh_iface *iface;

	if (!r)
		return 0;
	ifindex = r->ifindex;
	__builtin_memcpy(w->macs, r->far, 6);
	__builtin_memcpy(w->macs + 6, r->near, 6);
	iface = bpf_map_lookup_elem(&mesh_ifaces, &ifindex);
	if (!iface)
		return 0;
	w->ifindex = ifindex;
	if (mesh_addr_eq(&w->p.t.client, &w->p.t.server))
		return flags | MESH_CONN_NAT | MESH_CONN_HAIRPIN;
	server = workload_find(&w->p.t.server, w->live);
	if (iface->kind == MESH_IFACE_NODE && (!server || !(server->flags & MESH_WORKLOAD_LOCAL)))
		flags |= MESH_CONN_MASQ;
	return flags;
}

/* The SYN of a leg. What w->ifindex says is the client's link meanwhile. */
static __always_inline __u16 leg_open(struct work *w)
{
	__u32 flags = leg_place(w);
	struct mesh_conn *conn;
	__u16 reason;

	if (!flags)
		return MESH_REASON_LEG_UNBOUND;
	if (leg_taken(w))
		return MESH_REASON_LEG_TAKEN;
	aim_direct(w);
	reason = (__u16)tc_ask(&w->p.t.client, source_identity(w), &w->p.t.server, bpf_ntohs(w->p.t.server_port_be), 1);
	if (reason)
		return reason;
	if (flags & MESH_CONN_HAIRPIN)
		mesh_addr_loop_of(!w->p.v6, &w->to.client);
	if (!tc_begin(flags))
		return MESH_REASON_CONN_TABLE_FULL;
	conn = conn_get(&w->to);
	if (!conn)
		return MESH_REASON_CONN_TABLE_FULL;
	__builtin_memcpy(conn->far, w->macs, sizeof(conn->far));
	__builtin_memcpy(conn->near, w->macs + 6, sizeof(conn->near));
	w->wire = w->to;
	return MESH_REASON_NONE;
}

__noinline int tc_leg_new(struct __sk_buff *skb)
{
	struct work *w = work_get();
	__u16 reason;

	if (!w)
		return TC_ACT_SHOT_;
	reason = leg_open(w);
	w->ifindex = skb->ifindex;
	return reason ? tc_refuse(skb, reason) : tc_leg(skb);
}

/* Takes a packet of the leg into account, as if at the client's link. 0: it has been forbidden. */
static __always_inline int leg_take(struct __sk_buff *skb, struct work *w)
{
	int allowed;

	w->ifindex = w->conn_ifindex;
	allowed = tc_take();
	w->ifindex = skb->ifindex;
	return allowed;
}

#endif
