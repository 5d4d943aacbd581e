// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Packets at the links of the node: what socket hooks cannot see. Two programs stand at the host's end of each pod's link, two at the
 * node's links to the outside. A new connection to a service gets an endpoint by the same decision as connect(); a connection is
 * translated where its client comes in, both ways, so that nothing in between sees the service's address. The server's link asks its
 * policy. Nothing that is not understood is touched.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "file.bpf.h"
#include "fast.bpf.h"
#include "guard.bpf.h"
#include "icmp.bpf.h"
#include "legs.bpf.h"
#include "steps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What both programs of a pod's link do first. 0: go on; otherwise the packet is nobody's business (*ret: program result). */
static __always_inline int pod_enter(struct __sk_buff *skb, struct work *w, __u32 hook, struct mesh_iface **ret_iface,
				     int *ret)
{
	__u32 ifindex = skb->ifindex;
	struct mesh_iface *iface = bpf_map_lookup_elem(&mesh_ifaces, &ifindex);
	struct mesh_control *ctl = mesh_control_get();
	struct mesh_pod *pod;
	__u64 live;

	if (!iface || !ctl || iface->kind != MESH_IFACE_POD)
		return *ret = pass(hook, MESH_REASON_NOT_ENROLLED), 1;
	if ((ctl->flags & MESH_CONTROL_SOCKETS) &&
	    (hook == MESH_HOOK_TO_POD ? fast_to_pod(skb, iface, ctl, ret) : fast_from_pod(skb, iface, ctl, ret)))
		return 1;
	live = *(volatile __u64 *)&ctl->live;
	pod = pod_find(iface->netns_cookie, live);
	if (!pod)
		return *ret = pass(hook, MESH_REASON_NOT_ENROLLED), 1;
	work_begin(w, hook, ifindex);
	w->live = live;
	w->pod_id = pod->workload_id;
	w->scope = pod->scope;
	w->identity = pod->identity;
	w->pod_flags = pod->flags;
	w->sidecar_id = pod->sidecar_id;
	w->netns_cookie = pod->netns_cookie;
	w->own[0] = pod->addr[0];
	w->own[1] = pod->addr[1];
	*ret_iface = iface;
	return 0;
}

/* Reads the packet. 0: it is IP and w->kind says what; otherwise *ret is the program's result. */
static __always_inline int read_ip(struct __sk_buff *skb, struct work *w, int *ret)
{
	if (tags_hide(skb, w->hook == MESH_HOOK_FROM_POD || w->hook == MESH_HOOK_TO_POD))
		return *ret = drop(w->hook, MESH_REASON_TAGGED), 1;
	if (skb->protocol == ETH_IP)
		w->kind = pkt_read(skb, &w->p, ETH_LEN, 0, 0);
	else if (skb->protocol == ETH_IP6)
		w->kind = pkt_read(skb, &w->p, ETH_LEN, 1, 0);
	else
		return *ret = pass(w->hook, MESH_REASON_NOT_HANDLED), 1;
	if (w->kind == PKT_MALFORMED)
		return *ret = drop(w->hook, MESH_REASON_MALFORMED), 1;
	return 0;
}

/* ---- links of pods ---- */

/* May not reach what the rules do not know: 1. The socket hooks see to it where they are. */
static __always_inline int unregistered(const struct work *w, const struct mesh_control *ctl)
{
	const struct mesh_addr *to = &w->p.t.server;

	if (!(w->pod_flags & MESH_POD_REGISTRY_ONLY) || (ctl->flags & MESH_CONTROL_SOCKETS))
		return 0;
	return !mesh_addr_special(to) && !workload_find(to, w->live) && !bpf_map_lookup_elem(&mesh_locals, to);
}

/* The socket that sent this has a flow there: connect() chose the address, which was not dialled. */
static __always_inline int socket_chose(struct __sk_buff *skb, const struct work *w)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct mesh_flow *flow = cookie ? bpf_map_lookup_elem(&mesh_flows, &cookie) : NULL;

	return flow && flow->chosen_port_be == w->p.t.server_port_be && mesh_addr_eq(&flow->chosen, &w->p.t.server);
}

/* The parser is down: as if its row said MESH_ROUTE, where that is how it is to fail. */
static __always_inline int without_parser(struct __sk_buff *skb, struct work *w)
{
	if (w->row.flags & MESH_ROW_FAIL_OPEN) {
		w->row.action = MESH_ROUTE;
		return tc_route(skb);
	}
	aim_direct(w);
	return tc_refuse_new(skb, MESH_REASON_NO_PARSER);
}

/* A pod's packet that belongs to no connection. */
__noinline int tc_from_pod_new(struct __sk_buff *skb)
{
	struct mesh_control *ctl = mesh_control_get();
	struct work *w = work_get();
	struct mesh_workload *self;
	int found, hooks;

	if (!w || !ctl)
		return TC_ACT_SHOT_;
	if (w->kind != PKT_L4 || !work_begins(w))
		return pass(w->hook, MESH_REASON_NOT_TRACKED);
	found = find_service(w);
	hooks = ctl->flags & MESH_CONTROL_SOCKETS;
	if (found == ROW_RACED)
		return drop(w->hook, MESH_REASON_ROW_RACED);
	/* With the socket hooks on, what they have chosen may itself be an address of the service. */
	if (found == ROW_FOUND && w->row.action == MESH_ROUTE && !(hooks && (w->row.flags & MESH_ROW_ENDPOINT)))
		return tc_route(skb);
	if (found == ROW_FOUND && w->row.action == MESH_PASS && !hooks)
		return tc_route(skb);
	if (found == ROW_FOUND && w->row.action == MESH_L7 &&
	    !(hooks && (w->row.flags & MESH_ROW_ENDPOINT) && socket_chose(skb, w)))
		return tc_parser_up() ? tc_parse(skb) : without_parser(skb, w);
	aim_direct(w);
	if ((found == ROW_NONE || w->row.action == MESH_ABSENT) && unregistered(w, ctl)) {
		w->policy_id = w->sidecar_id;
		return tc_refuse_new(skb, MESH_REASON_REGISTRY_ONLY);
	}
	/* Answers to a pod that is guarded are told from requests by this. */
	self = w->p.t.proto == MESH_PROTO_UDP ? workload_find(&w->p.t.client, w->live) : NULL;
	if (self && (self->policy | self->shadow))
		tc_begin(0);
	return pass(w->hook, MESH_REASON_NOT_SERVICE);
}

static __always_inline int fragment_unknown(const struct work *w)
{
	return (w->kind == PKT_FRAGMENT || w->p.more_fragments) && !tc_fragment();
}

static __always_inline int from_pod_l4(struct __sk_buff *skb, struct work *w)
{
	if (fragment_unknown(w))
		return pass(w->hook, MESH_REASON_FRAGMENT);
	if (!tc_find(&w->p.t))
		return tc_from_pod_new(skb);
	if (!w->conn_reply && stale(w)) {
		tc_forget(&w->wire);
		return tc_from_pod_new(skb);
	}
	/* It comes from the parser. */
	if (!w->conn_reply && (w->conn_flags & MESH_CONN_LEG))
		return pass(w->hook, MESH_REASON_TRACKED);
	if (!w->conn_reply && (w->conn_flags & MESH_CONN_L7))
		tc_past(skb);
	if (!tc_take())
		return tc_cut(skb);
	if (!w->conn_reply && (w->conn_flags & MESH_CONN_L7))
		return tc_to_parser(skb);
	if (!(w->conn_flags & MESH_CONN_NAT))
		return pass(w->hook, MESH_REASON_TRACKED);
	if (w->conn_view == MESH_TUPLE_DIALLED && !w->conn_reply)
		aim(w, &w->wire, 0);
	else if (w->conn_view == MESH_TUPLE_WIRE && w->conn_reply && (w->conn_flags & MESH_CONN_HAIRPIN))
		aim(w, &w->conn_dialled, 1);
	else
		return pass(w->hook, MESH_REASON_TRACKED);
	if (w->conn_flags & MESH_CONN_LEG)
		return tc_send_on(skb, 0) == TCX_NEXT_ ? tc_to_parser(skb) : TC_ACT_SHOT_;
	return tc_send_on(skb, w->conn_flags & MESH_CONN_HAIRPIN);
}

/* A pod's error about a packet that it got: quotes what the server sent, as the pod saw it. */
static __always_inline int from_pod_icmp(struct __sk_buff *skb, struct work *w)
{
	int found = tc_icmp_find(skb);

	if (!guard_icmp(w))
		return drop(w->hook, MESH_REASON_SPOOFED_ICMP);
	if (found && w->conn_reply && (w->conn_flags & MESH_CONN_L7))
		return tc_to_parser(skb);
	if (!found || w->conn_view != MESH_TUPLE_DIALLED || !w->conn_reply || (w->conn_flags & MESH_CONN_HAIRPIN))
		return pass(w->hook, MESH_REASON_NOT_HANDLED);
	aim(w, &w->wire, 1);
	return tc_icmp(skb);
}

/* Takes an end out, now where nothing waits in it. */
static __always_inline void end_quit(struct mesh_end *end, __u8 why)
{
	end_leave(end, why);
	if (end->state == MESH_END_LEAVING && end_drained(end))
		end_out(end, MESH_HOOK_ENDS);
}

/* Both ends go once one of them is used otherwise, before this packet arrives there. */
static __noinline int pair_step(struct mesh_end *end, __u32 state)
{
	__u64 key = end->peer_cookie;
	struct mesh_end *peer;
	struct bpf_sock *sk;
	__u8 why = pair_bars(end, state);

	if (why == MESH_WHY_NONE)
		return 0;
	sk = bpf_map_lookup_elem(&mesh_sockets, &key);
	if (sk) {
		peer = bpf_sk_storage_get(&mesh_ends, sk, 0, 0);
		if (peer && peer->mode != MESH_ACCELERATE_ON)
			end_quit(peer, why);
		bpf_sk_release(sk);
	}
	end_quit(end, why);
	return 0;
}

/* The socket that sent this is to be accelerated, or not any more: only here can it be put among those that are, or taken out. */
static __noinline int step_end(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct mesh_end *end;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || sk->protocol != MESH_PROTO_TCP)
		return 0;
	end = bpf_sk_storage_get(&mesh_ends, sk, 0, 0);
	if (!end)
		return 0;
	/* Of one that leaves as it is closed, the other end may still be there. */
	if (end->state >= MESH_END_ENROLLED && end->mode != MESH_ACCELERATE_ON)
		pair_step(end, sk->state);
	if (end->state == MESH_END_MATCHED || end->state == MESH_END_LEAVING)
		END_STEP(end, sk, MESH_HOOK_ENDS);
	return 0;
}

SEC("tc")
int mesh_from_pod(struct __sk_buff *skb)
{
	struct mesh_iface *iface = NULL;
	struct work *w = work_get();
	__u8 macs[12];
	__u16 reason;
	int ret;

	step_end(skb);
	if (!w || pod_enter(skb, w, MESH_HOOK_FROM_POD, &iface, &ret))
		return w ? ret : TCX_NEXT_;
	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return drop(MESH_HOOK_FROM_POD, MESH_REASON_MALFORMED);
	if (!iface || !mac_equal(macs + 6, iface->mac))
		return drop(MESH_HOOK_FROM_POD, MESH_REASON_SPOOFED_MAC);
	if (skb->protocol == ETH_ARP) {
		reason = guard_arp(skb, w, iface);
		return reason ? drop(MESH_HOOK_FROM_POD, reason) : pass(MESH_HOOK_FROM_POD, MESH_REASON_NOT_HANDLED);
	}
	if (read_ip(skb, w, &ret))
		return ret;
	if (!guard_source(w, iface))
		return drop(MESH_HOOK_FROM_POD, MESH_REASON_SPOOFED_IP);
	if (w->kind == PKT_L4 || w->kind == PKT_FRAGMENT)
		return from_pod_l4(skb, w);
	if (w->kind != PKT_ICMP)
		return pass(MESH_HOOK_FROM_POD, MESH_REASON_NOT_HANDLED);
	reason = w->p.v6 ? guard_ndp(skb, w, iface) : MESH_REASON_NONE;
	return reason ? drop(MESH_HOOK_FROM_POD, reason) : from_pod_icmp(skb, w);
}

/* Sent by a process of the host that is in no pod: the kubelet's probes, the node's own business. */
static __always_inline int from_host(struct __sk_buff *skb)
{
	__u64 cgroup;
	int level;

	if (skb->ingress_ifindex)
		return 0;
	for (level = 1; level <= 8; level++) {
		cgroup = bpf_skb_ancestor_cgroup_id(skb, level);
		if (!cgroup)
			break;
		if (bpf_map_lookup_elem(&mesh_host_pods, &cgroup))
			return 0;
	}
	return 1;
}

static __always_inline int cuts(void)
{
	struct mesh_control *ctl = mesh_control_get();

	return ctl && ctl->flags & MESH_CONTROL_CUT;
}

/* Lets a packet in that its policy allows. From a pod of the node, a SYN begins what may become a shortcut. */
static __always_inline int pass_direct(const struct work *w, int foreign, __u16 reason)
{
	struct mesh_control *ctl = mesh_control_get();

	if (!foreign && w->kind == PKT_L4 && w->p.t.proto == MESH_PROTO_TCP && ctl &&
	    (ctl->flags & MESH_CONTROL_SHORTCUTS))
		tc_shortcut_begin();
	return pass(w->hook, reason);
}

/* A packet to the pod that belongs to no connection: its policy is asked about all that may begin one, and about other protocols. */
__noinline int tc_to_pod_new(struct __sk_buff *skb)
{
	struct mesh_workload *source, *guard;
	const struct mesh_addr *own;
	struct work *w = work_get();
	int foreign, guarded, reason, found;

	if (!w)
		return TC_ACT_SHOT_;
	if (w->kind == PKT_FRAGMENT || (w->kind == PKT_L4 && !work_begins(w)))
		return pass(w->hook, MESH_REASON_NOT_TRACKED);
	own = w->p.v6 == !mesh_addr_v4(&w->own[0]) ? &w->own[0] : &w->own[1];
	source = workload_find(&w->p.t.client, w->live);
	found = mesh_workload_find(own, w->live);
	if (found == ROW_RACED)
		return drop(w->hook, MESH_REASON_ROW_RACED);
	guard = workload_at(found);
	foreign = !source || !(source->flags & MESH_WORKLOAD_LOCAL);
	guarded = guard && (guard->policy | guard->shadow);
	if (!guarded && (!foreign || w->kind != PKT_L4))
		return pass_direct(w, foreign, MESH_REASON_NOT_TRACKED);
	if (from_host(skb))
		return pass(w->hook, MESH_REASON_NOT_HANDLED);
	aim_direct(w);
	reason = tc_ask(&w->p.t.client, 0, own, bpf_ntohs(w->p.t.server_port_be), 0);
	if (reason)
		return w->kind == PKT_L4 ? tc_refuse_new(skb, reason) : drop(w->hook, reason);
	/* Only a SYN is asked about, so that a TCP connection needs to be kept for its record alone, unless it may be cut. */
	if (w->kind != PKT_L4 || (!foreign && w->p.t.proto == MESH_PROTO_TCP && !cuts()))
		return pass_direct(w, foreign, MESH_REASON_NOT_TRACKED);
	if (!tc_begin(MESH_CONN_ASKED | (foreign ? MESH_CONN_RECORD : 0)))
		return pass(w->hook, MESH_REASON_CONN_TABLE_FULL);
	return pass_direct(w, foreign, MESH_REASON_TRACKED);
}

/* A connection that the client's link tracks without having asked the server's policy. 0: denied. */
__noinline int tc_admit(void)
{
	struct work *w = work_get();
	struct mesh_conn *conn;
	int reason;

	if (!w)
		return 0;
	reason = tc_ask(&w->p.t.client, 0, &w->wire.server, bpf_ntohs(w->wire.server_port_be), 0);
	if (reason) {
		mesh_count(w->hook, reason);
		return 0;
	}
	conn = conn_get(&w->wire);
	if (conn)
		conn->flags |= MESH_CONN_ASKED;
	return 1;
}

/* The server of a leg answers, at the link of the client whom it takes that to be. */
static __always_inline int leg_answered(const struct work *w)
{
	return w->conn_reply && w->conn_ifindex == w->ifindex &&
	       (w->conn_flags & (MESH_CONN_LEG | MESH_CONN_HAIRPIN)) == MESH_CONN_LEG;
}

static __always_inline int to_pod_l4(struct __sk_buff *skb, struct work *w)
{
	if (fragment_unknown(w))
		return pass(w->hook, MESH_REASON_FRAGMENT);
	if (!tc_find(&w->p.t))
		return tc_to_pod_new(skb);
	if (!w->conn_reply && w->conn_ifindex == w->ifindex && stale(w)) {
		tc_forget(&w->wire);
		return tc_to_pod_new(skb);
	}
	if (!w->conn_reply && !(w->conn_flags & MESH_CONN_ASKED) && !tc_admit())
		return TC_ACT_SHOT_;
	if (!tc_take())
		return tc_cut(skb);
	if (leg_answered(w))
		return tc_to_parser(skb);
	if (w->conn_view != MESH_TUPLE_WIRE || !w->conn_reply || !(w->conn_flags & MESH_CONN_NAT) ||
	    (w->conn_flags & MESH_CONN_HAIRPIN))
		return pass(w->hook, MESH_REASON_TRACKED);
	aim(w, &w->conn_dialled, 1);
	return tc_send_on(skb, 0);
}

/* An error about a packet that the pod sent: quotes it as it was on the wire. */
static __always_inline int to_pod_icmp(struct __sk_buff *skb, struct work *w)
{
	if (!tc_icmp_find(skb) || w->conn_view != MESH_TUPLE_WIRE || w->conn_reply)
		return pass(w->hook, MESH_REASON_NOT_HANDLED);
	tc_icmp_note();
	if (w->conn_flags & MESH_CONN_LEG && w->conn_ifindex == w->ifindex)
		return tc_to_parser(skb);
	if (!(w->conn_flags & MESH_CONN_NAT) || (w->conn_flags & MESH_CONN_HAIRPIN) || w->conn_ifindex != w->ifindex)
		return pass(w->hook, MESH_REASON_NOT_HANDLED);
	aim(w, &w->conn_dialled, 0);
	return tc_icmp(skb);
}

SEC("tc")
int mesh_to_pod(struct __sk_buff *skb)
{
	struct mesh_iface *iface = NULL;
	struct work *w = work_get();
	__u8 mac[6];
	int ret;

	if (!w || pod_enter(skb, w, MESH_HOOK_TO_POD, &iface, &ret))
		return w ? ret : TCX_NEXT_;
	/* What a bridge sends everywhere is heard, and answered, only by whom it is for. */
	if (!iface || bpf_skb_load_bytes(skb, 0, mac, sizeof(mac)) || (!(mac[0] & 1) && !mac_equal(mac, iface->mac)))
		return drop(MESH_HOOK_TO_POD, MESH_REASON_FLOODED);
	if (read_ip(skb, w, &ret))
		return ret;
	if (w->kind == PKT_L4 || w->kind == PKT_FRAGMENT)
		return to_pod_l4(skb, w);
	if (w->kind == PKT_ICMP)
		return to_pod_icmp(skb, w);
	return tc_to_pod_new(skb);
}

/* ---- links of the node ---- */

static __always_inline int node_enter(struct __sk_buff *skb, struct work *w, __u32 hook, struct mesh_iface **ret_iface,
				      int *ret)
{
	__u32 ifindex = skb->ifindex;
	struct mesh_control *ctl = mesh_control_get();

	work_begin(w, hook, ifindex);
	*ret_iface = bpf_map_lookup_elem(&mesh_ifaces, &ifindex);
	if (!*ret_iface || !ctl || (*ret_iface)->kind != MESH_IFACE_NODE)
		return *ret = pass(hook, MESH_REASON_NOT_ENROLLED), 1;
	w->live = *(volatile __u64 *)&ctl->live;
	w->scope = MESH_SCOPE_OUTSIDE;
	return read_ip(skb, w, ret);
}

static __always_inline int from_node_new(struct __sk_buff *skb, struct work *w)
{
	int row;

	if (w->kind != PKT_L4 || !work_begins(w))
		return pass(w->hook, MESH_REASON_NOT_TRACKED);
	row = find_service(w);
	if (row == ROW_RACED)
		return drop(w->hook, MESH_REASON_ROW_RACED);
	if (row == ROW_FOUND && w->row.action == MESH_L7)
		return tc_parser_up() ? tc_parse(skb) : without_parser(skb, w);
	if (row == ROW_NONE || w->row.action != MESH_ROUTE)
		return pass(w->hook, MESH_REASON_NOT_SERVICE);
	return tc_route(skb);
}

/* A datagram straight to the endpoint of a flow that the same client's port has by way of a service: the answers to both look alike, and
 * the latest of them is who gets them. */
static __always_inline int goes_past(const struct work *w)
{
	return w->p.t.proto == MESH_PROTO_UDP && w->conn_view == MESH_TUPLE_WIRE && w->conn_ifindex == w->ifindex &&
	       (w->conn_flags & MESH_CONN_NAT);
}

static __always_inline int from_node_l4(struct __sk_buff *skb, struct work *w)
{
	if (fragment_unknown(w))
		return pass(w->hook, MESH_REASON_FRAGMENT);
	if (!tc_find(&w->p.t))
		return from_node_new(skb, w);
	if (w->conn_view == MESH_TUPLE_MASQ && w->conn_reply) {
		aim(w, &w->wire, 1);
		return tc_send_on(skb, 0);
	}
	if (!w->conn_reply && w->conn_view != MESH_TUPLE_MASQ && (stale(w) || goes_past(w))) {
		tc_forget(&w->wire);
		return from_node_new(skb, w);
	}
	if (w->conn_reply || (w->conn_view != MESH_TUPLE_DIALLED && !(w->conn_flags & MESH_CONN_L7)))
		return pass(w->hook, MESH_REASON_TRACKED);
	if (!tc_take())
		return tc_cut(skb);
	if (w->conn_flags & MESH_CONN_L7)
		return tc_to_parser(skb);
	aim(w, &w->wire, 0);
	return tc_send_on(skb, 0);
}

static __always_inline int from_node_icmp(struct __sk_buff *skb, struct work *w)
{
	if (!tc_icmp_find(skb))
		return pass(w->hook, MESH_REASON_NOT_HANDLED);
	if (w->conn_reply && (w->conn_flags & MESH_CONN_L7))
		return tc_to_parser(skb);
	if (w->conn_view == MESH_TUPLE_DIALLED && w->conn_reply)
		aim(w, &w->wire, 1);
	else if (w->conn_view == MESH_TUPLE_MASQ && !w->conn_reply)
		aim(w, &w->wire, 0);
	else
		return pass(w->hook, MESH_REASON_NOT_HANDLED);
	return tc_icmp(skb);
}

SEC("tc")
int mesh_from_node(struct __sk_buff *skb)
{
	struct mesh_iface *iface = NULL;
	struct mesh_workload *source;
	struct work *w = work_get();
	int ret;

	if (!w || node_enter(skb, w, MESH_HOOK_FROM_NODE, &iface, &ret))
		return w ? ret : TCX_NEXT_;
	/* This node's pods do not come from outside. */
	source = workload_find(&w->p.t.client, w->live);
	if (source && (source->flags & MESH_WORKLOAD_LOCAL))
		return drop(MESH_HOOK_FROM_NODE, MESH_REASON_SPOOFED_IP);
	if (w->kind == PKT_L4 || w->kind == PKT_FRAGMENT)
		return from_node_l4(skb, w);
	if (w->kind == PKT_ICMP)
		return from_node_icmp(skb, w);
	return pass(MESH_HOOK_FROM_NODE, MESH_REASON_NOT_HANDLED);
}

/* A source port of the node for a connection that leaves it again; above those that its own sockets take by default. w->to becomes what
 * is sent. 0: there is none. */
__noinline int tc_masquerade(const struct mesh_addr *own)
{
	struct work *w = work_get();
	struct mesh_conn *conn = w ? conn_get(&w->wire) : NULL;
	struct conn_keys *k = conn_keys();
	int i;

	if (!w || !conn || !own || !k)
		return 0;
	w->to = w->wire;
	w->to.client = *own;
	for (i = 0; i < 16 && !conn->masq_port_be && !unspecified(own); i++) {
		w->to.client_port_be = bpf_htons(61000 + bpf_get_prandom_u32() % 4536);
		tuple_key(&w->to, &k->key);
		if (bpf_map_lookup_elem(&mesh_nats, &k->key) || bpf_map_lookup_elem(&mesh_nats_new, &k->key))
			continue;
		conn->masq = *own;
		conn->masq_port_be = w->to.client_port_be;
		index_put(&w->to, &w->wire, MESH_TUPLE_MASQ, bpf_map_lookup_elem(&mesh_conns, &w->wire) != NULL);
	}
	w->to.client = conn->masq;
	w->to.client_port_be = conn->masq_port_be;
	return conn->masq_port_be != 0;
}

static __always_inline int to_node_l4(struct __sk_buff *skb, struct work *w, const struct mesh_iface *iface)
{
	if (fragment_unknown(w))
		return pass(w->hook, MESH_REASON_FRAGMENT);
	if (!tc_find(&w->p.t) || w->conn_view != MESH_TUPLE_WIRE)
		return pass(w->hook, MESH_REASON_NOT_TRACKED);
	if (!w->conn_reply && (w->conn_flags & MESH_CONN_MASQ)) {
		if (!tc_masquerade(w->p.v6 ? &iface->addr[1] : &iface->addr[0]))
			return drop(w->hook, MESH_REASON_NO_PORT);
		return tc_send_on(skb, 0);
	}
	if (!w->conn_reply || w->conn_ifindex != w->ifindex ||
	    !(w->conn_flags & (MESH_CONN_NAT | MESH_CONN_L7 | MESH_CONN_LEG)))
		return pass(w->hook, MESH_REASON_TRACKED);
	if (!tc_take())
		return tc_cut(skb);
	if (leg_answered(w))
		return tc_to_parser(skb);
	if (!(w->conn_flags & MESH_CONN_NAT))
		return pass(w->hook, MESH_REASON_TRACKED);
	aim(w, &w->conn_dialled, 1);
	return tc_send_on(skb, 0);
}

SEC("tc")
int mesh_to_node(struct __sk_buff *skb)
{
	struct mesh_iface *iface = NULL;
	struct work *w = work_get();
	int ret;

	if (!w || node_enter(skb, w, MESH_HOOK_TO_NODE, &iface, &ret))
		return w ? ret : TCX_NEXT_;
	if (!iface)
		return TCX_NEXT_;
	if (w->kind == PKT_L4 || w->kind == PKT_FRAGMENT)
		return to_node_l4(skb, w, iface);
	if (w->kind != PKT_ICMP || !tc_icmp_find(skb) || w->conn_view != MESH_TUPLE_WIRE || w->conn_reply ||
	    w->conn_ifindex != w->ifindex || !(w->conn_flags & (MESH_CONN_NAT | MESH_CONN_LEG)))
		return pass(MESH_HOOK_TO_NODE, MESH_REASON_NOT_HANDLED);
	tc_icmp_note();
	if (w->conn_flags & MESH_CONN_LEG)
		return tc_to_parser(skb);
	aim(w, &w->conn_dialled, 0);
	return tc_icmp(skb);
}

/* ---- the parser's link ---- */

/* Nothing else than answers to clients and legs of theirs leaves the parser. */
static __always_inline int from_parser_tcp(struct __sk_buff *skb, struct work *w)
{
	if (!tc_find(&w->p.t))
		return work_begins(w) ? tc_leg_new(skb) : drop(w->hook, MESH_REASON_NO_CONN);
	if (w->conn_reply)
		return w->conn_flags & MESH_CONN_L7 ? tc_answer(skb) : drop(w->hook, MESH_REASON_LEG_TAKEN);
	if (work_begins(w) && (w->conn_flags & MESH_CONN_LEG ? stale(w) : w->conn_state == MESH_CONN_CLOSED)) {
		tc_forget(&w->wire);
		return tc_leg_new(skb);
	}
	if (!(w->conn_flags & MESH_CONN_LEG))
		return work_begins(w) ? tc_refuse(skb, MESH_REASON_LEG_TAKEN) : drop(w->hook, MESH_REASON_LEG_TAKEN);
	return leg_take(skb, w) ? tc_leg(skb) : tc_cut(skb);
}

SEC("tc")
int mesh_from_parser(struct __sk_buff *skb)
{
	struct mesh_control *ctl = mesh_control_get();
	struct work *w = work_get();
	int ret;

	if (!w || !ctl)
		return TC_ACT_SHOT_;
	if (ctl->flags & MESH_CONTROL_ACCELERATE)
		step_end(skb);
	work_begin(w, MESH_HOOK_FROM_PARSER, skb->ifindex);
	w->live = *(volatile __u64 *)&ctl->live;
	if (read_ip(skb, w, &ret) || w->kind != PKT_L4 || w->p.t.proto != MESH_PROTO_TCP)
		return drop(MESH_HOOK_FROM_PARSER, MESH_REASON_NOT_HANDLED);
	return from_parser_tcp(skb, w);
}

/* Not at any link: user space runs it by BPF_PROG_TEST_RUN, to end the connection that stands behind the link header of its packet. */
SEC("tc")
int mesh_lapse_conn(struct __sk_buff *skb)
{
	struct mesh_conn_lapse end;
	struct mesh_conn *conn;

	if (bpf_skb_load_bytes(skb, ETH_LEN, &end, sizeof(end)))
		return TC_ACT_SHOT_;
	conn = conn_get(&end.wire);
	if (!conn || conn->flow.cookie != end.cookie || (conn->flags & MESH_CONN_CUT))
		return TC_ACT_SHOT_;
	conn_cut(conn, (__u16)end.reason);
	mesh_count(MESH_HOOK_CUT, (__u16)end.reason);
	return 0;
}
