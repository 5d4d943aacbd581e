/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way through the programs of a pod's link, for what most packets are where the socket hooks are attached: a TCP segment in
 * the middle of a connection that the links do not track. It decides nothing that the long way would not; whatever is unusual about a
 * packet is left to that.
 */
#ifndef BPF_FAST_H
#define BPF_FAST_H

#include "conn.bpf.h"

struct fast_head {
	const __u8 *tcp;
	struct mesh_addr source;
};

/* Source and TCP header of a whole segment without IP options or extension headers, read in place. 0: it is something else. */
static __always_inline int fast_v4(const __u8 *ip, const void *end, __u32 room, struct fast_head *ret)
{
	__u32 total;

	if ((const void *)(ip + 40) > end || ip[0] != 0x45 || ip[9] != MESH_PROTO_TCP)
		return 0;
	total = bpf_ntohs(be16_at(ip + 2));
	if ((be16_at(ip + 6) & bpf_htons(0x3fff)) || total > room || total < 20 + (ip[32] >> 4) * 4u)
		return 0;
	ret->tcp = ip + 20;
	addr_from_v4(&ret->source, *(const __be32 *)(ip + 12));
	return 1;
}

static __always_inline int fast_v6(const __u8 *ip, const void *end, __u32 room, struct fast_head *ret)
{
	struct mesh_addr destination;
	__u32 length;

	if ((const void *)(ip + 60) > end || ip[0] >> 4 != 6 || ip[6] != MESH_PROTO_TCP)
		return 0;
	length = bpf_ntohs(be16_at(ip + 4));
	if (40 + length > room || length < (ip[52] >> 4) * 4u)
		return 0;
	ret->tcp = ip + 40;
	addr_from_v6(&ret->source, ip + 8);
	addr_from_v6(&destination, ip + 24);
	return !mesh_addr_v4(&ret->source) && !mesh_addr_v4(&destination);
}

/*
 * The packet is such a segment, 1; from `pod`, it comes from where that may send from; to a pod (NULL), it is for its link. A SYN that
 * begins a connection is not one in the middle. Where TCP connections have ever been tracked, each is looked for: the long way.
 */
static __noinline int fast_midstream(struct __sk_buff *skb, const struct mesh_iface *iface, const struct mesh_pod *pod)
{
	const __u8 *eth = (const __u8 *)(long)skb->data;
	const void *end = (const void *)(long)skb->data_end;
	__u32 ifindex = skb->ifindex;
	struct mesh_load *load = bpf_map_lookup_elem(&mesh_loads, &ifindex);
	struct fast_head head;

	if (!load || *(volatile __u32 *)&load->tracks)
		return 0;
	if (skb->protocol == ETH_IP
		    ? !fast_v4(eth + ETH_LEN, end, skb->len - ETH_LEN, &head)
		    : skb->protocol != ETH_IP6 || !fast_v6(eth + ETH_LEN, end, skb->len - ETH_LEN, &head))
		return 0;
	if ((head.tcp[13] & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN || head.tcp[12] >> 4 < 5)
		return 0;
	/* Link and IP address of the pod's end. */
	return mac_equal(eth + (pod ? 6 : 0), iface->mac) &&
	       (!pod || mesh_addr_eq(&head.source, &pod->addr[0]) || mesh_addr_eq(&head.source, &pod->addr[1]));
}

#endif
