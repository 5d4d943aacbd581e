/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way through the programs of a pod's link, for what most packets are where the socket hooks are attached: a TCP segment in
 * the middle of a connection, which goes straight to its pod (shortcut.bpf.h) or is one that the links do not track. It decides nothing
 * that the long way would not; whatever is unusual about a packet is left to that.
 */
#ifndef BPF_FAST_H
#define BPF_FAST_H

#include "conn.bpf.h"
#include "shortcut.bpf.h"

/* Where TCP connections have ever been tracked, each is looked for. */
static __always_inline int fast_tracks(__u32 ifindex)
{
	struct mesh_load *load = bpf_map_lookup_elem(&mesh_loads, &ifindex);

	return !load || *(volatile __u32 *)&load->tracks;
}

/* 1: nothing more is to be done about the packet, which comes from where the pod may send from, and *ret is the program's result. */
static __noinline int fast_from_pod(struct __sk_buff *skb, const struct mesh_iface *iface,
				    const struct mesh_control *ctl, int *ret)
{
	struct mesh_pod *pod;
	struct segment s;

	if (!segment_read(skb, &s) || !mac_equal(s.eth + 6, iface->mac))
		return 0;
	if ((ctl->flags & MESH_CONTROL_SHORTCUTS) && (iface->flags & MESH_IFACE_ALONE) &&
	    shortcut_take(skb, iface, ctl, &s, ret))
		return 1;
	if (fast_tracks(skb->ifindex))
		return 0;
	pod = pod_find(iface->netns_cookie, *(const volatile __u64 *)&ctl->live);
	if (!pod || (!mesh_addr_eq(&s.t.client, &pod->addr[0]) && !mesh_addr_eq(&s.t.client, &pod->addr[1])))
		return 0;
	*ret = pass(MESH_HOOK_FROM_POD, MESH_REASON_NOT_TRACKED);
	return 1;
}

/* The same for a packet that arrives at the pod. */
static __noinline int fast_to_pod(struct __sk_buff *skb, const struct mesh_iface *iface, const struct mesh_control *ctl,
				  int *ret)
{
	struct segment s;

	if (!segment_read(skb, &s) || !mac_equal(s.eth, iface->mac))
		return 0;
	if (ctl->flags & MESH_CONTROL_SHORTCUTS)
		shortcut_seen(skb, iface, ctl, &s);
	if (fast_tracks(skb->ifindex))
		return 0;
	*ret = pass(MESH_HOOK_TO_POD, MESH_REASON_NOT_TRACKED);
	return 1;
}

#endif
