/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One packet's way through a tc program: what was found out so far. It has no room on a stack; tc programs run with softirqs off, so
 * that one a CPU is enough. The larger steps are global functions, which the verifier takes one by one: they find the work themselves.
 */
#ifndef BPF_WORK_H
#define BPF_WORK_H

#include "choose.bpf.h"
#include "conn.bpf.h"
#include "lookup.bpf.h"
#include "pkt.bpf.h"
#include "policy.bpf.h"

#define TCX_NEXT_ (-1) /* also TC_ACT_UNSPEC: go on to whoever is next */
#define TC_ACT_SHOT_ 2

struct work {
	struct pkt p;
	struct pkt inner; /* what an ICMP error quotes */
	struct mesh_tuple to;
	struct mesh_tuple dialled;
	struct mesh_row row;
	struct pick pick;
	struct mesh_addr own[2]; /* addresses of the link's pod */
	__u64 live;
	__u64 netns_cookie;
	__u32 hook;
	__u32 ifindex;
	__u32 scope;
	__u32 identity; /* of the packet's source */
	__u32 pod_id;	/* workload at this link, 0: a link of the node */
	__u32 pod_flags;
	__u32 sidecar_id;
	__u32 cluster_id;
	__u32 backend;
	__u32 server_id;
	__u32 policy_id;
	int kind; /* enum pkt_kind */
	/* The connection that find() found: a copy, since only scalars and memory cross the borders of separately verified functions. */
	struct mesh_tuple wire;
	struct mesh_tuple conn_dialled;
	__u64 conn_verdict_epoch;
	__u32 conn_ifindex;
	__u32 conn_backend;
	__u32 conn_server_id;
	__u8 conn_view;	 /* enum mesh_tuple_kind: how the packet sees it */
	__u8 conn_reply; /* the packet comes from the server */
	__u8 conn_state;
	__u8 pad;
	__u16 conn_flags;
	__u8 macs[12]; /* link addresses, destination first */
};

/* mesh_work: scratch of one CPU. Writer, reader: tc. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} mesh_work SEC(".maps");

static __always_inline struct work *work_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&mesh_work, &zero);
}

/* What a packet leaves behind is not the next one's. The packet itself is read over by pkt_read(). */
static __always_inline void work_begin(struct work *w, __u32 hook, __u32 ifindex)
{
	__builtin_memset(&w->row, 0, sizeof(w->row));
	__builtin_memset(w->own, 0, sizeof(w->own));
	w->netns_cookie = 0;
	w->hook = hook;
	w->ifindex = ifindex;
	w->scope = 0;
	w->identity = 0;
	w->pod_id = 0;
	w->pod_flags = 0;
	w->sidecar_id = 0;
	w->cluster_id = 0;
	w->backend = 0;
	w->server_id = 0;
	w->policy_id = 0;
	w->conn_flags = 0;
	w->kind = PKT_OTHER;
}

static __always_inline int pass(__u32 hook, __u16 reason)
{
	mesh_count(hook, reason);
	return TCX_NEXT_;
}

static __always_inline int drop(__u32 hook, __u16 reason)
{
	mesh_count(hook, reason);
	return TC_ACT_SHOT_;
}

/* Two tags, of which a receiver takes the first off without a question when it names no VLAN, and then the second. On the links of a node
 * VLANs may be stacked; a pod has none. */
static __always_inline int tags_hide(const struct __sk_buff *skb, int pod)
{
	if (skb->protocol != ETH_VLAN && skb->protocol != ETH_VLAN_AD)
		return 0;
	return pod || !(skb->vlan_tci & 0xfff);
}

static __always_inline int work_tcp(const struct work *w, __u8 flags, __u8 mask)
{
	return w->p.t.proto == MESH_PROTO_TCP && (w->p.tcp_flags & mask) == flags;
}

/* The packet may begin a connection: a SYN, any datagram. */
static __always_inline int work_begins(const struct work *w)
{
	return w->p.t.proto == MESH_PROTO_UDP || work_tcp(w, TCP_SYN, TCP_SYN | TCP_ACK | TCP_RST);
}

/* Refuses a packet: a reset for TCP, back to where it came from; nothing for the rest. Who comes from outside to a node that has no
 * endpoint of its own hears nothing, as from Kubernetes: whoever sent it here has other nodes to try. */
__noinline int tc_refuse(struct __sk_buff *skb, __u32 reason)
{
	struct work *w = work_get();

	if (!w)
		return TC_ACT_SHOT_;
	mesh_count(w->hook, reason);
	if (w->kind != PKT_L4 || w->p.t.proto != MESH_PROTO_TCP || (w->p.tcp_flags & TCP_RST))
		return TC_ACT_SHOT_;
	if (reason == MESH_REASON_NO_LOCAL && w->hook == MESH_HOOK_FROM_NODE)
		return TC_ACT_SHOT_;
	/* Nobody has said no: it is said again, and asked about again. */
	if (reason == MESH_REASON_ROW_RACED)
		return TC_ACT_SHOT_;
	if (pkt_reset(skb, &w->p, 0))
		return TC_ACT_SHOT_;
	return bpf_redirect(w->ifindex,
			    w->hook == MESH_HOOK_TO_POD || w->hook == MESH_HOOK_TO_NODE ? BPF_F_INGRESS : 0);
}

/* Ports of a later fragment, from the first; or keeps those of a first one. 0: not known. */
__noinline int tc_fragment(void)
{
	struct work *w = work_get();
	struct mesh_frag *frag, ports;
	struct mesh_frag_key key = {};

	if (!w)
		return 0;
	key.source = w->p.t.client;
	key.destination = w->p.t.server;
	key.id = w->p.frag_id;
	key.proto = w->p.t.proto;
	if (w->kind == PKT_L4) {
		ports.source_port_be = w->p.t.client_port_be;
		ports.destination_port_be = w->p.t.server_port_be;
		bpf_map_update_elem(&mesh_frags, &key, &ports, BPF_ANY);
		return 1;
	}
	frag = bpf_map_lookup_elem(&mesh_frags, &key);
	if (!frag)
		return 0;
	w->p.t.client_port_be = frag->source_port_be;
	w->p.t.server_port_be = frag->destination_port_be;
	return 1;
}

/* Asks the policy that guards `server`: 0: yes, else the reason why not. w->policy_id is who said so. identity: of the source; 0: that of its
 * address. `relayed`: the parser asks about each request. */
__noinline int tc_ask(const struct mesh_addr *source, __u32 identity, const struct mesh_addr *server, __u32 port,
		      int relayed)
{
	struct work *w = work_get();
	struct policy_run run = {};
	struct mesh_workload *guard, *client;
	__u16 reason;
	int found;

	if (!w || !source || !server)
		return MESH_REASON_CORRUPT;
	found = mesh_workload_find(server, w->live);
	if (found == ROW_RACED)
		return MESH_REASON_ROW_RACED;
	guard = workload_at(found);
	w->policy_id = 0;
	if (guard)
		w->server_id = guard->workload_id;
	if (!guard || !(guard->policy | guard->shadow))
		return MESH_REASON_NONE;
	if (!identity) {
		found = mesh_workload_find(source, w->live);
		if (found == ROW_RACED)
			return MESH_REASON_ROW_RACED;
		client = workload_at(found);
		identity = client ? client->identity : 0;
	}
	run.subject.source = *source;
	run.subject.destination = *server;
	run.subject.identity = identity;
	run.subject.port = (__u16)port;
	reason = policy_check(&run, guard, relayed);
	w->policy_id = run.policy_id;
	return reason;
}

#endif
