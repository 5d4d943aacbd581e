/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* TCP segments as most are: whole, without IP options or extension headers, read in place. Whatever is unusual is left to pkt.bpf.h. */
#ifndef BPF_SEGMENT_H
#define BPF_SEGMENT_H

#include "pkt.bpf.h"

struct segment {
	const __u8 *eth, *tcp;
	struct mesh_tuple t; /* client: source, server: destination; proto and kind 0 */
	__u32 payload;
};

static __always_inline int segment_v4(const __u8 *ip, const void *end, __u32 room, struct segment *ret)
{
	__u32 total, heads;

	if ((const void *)(ip + 40) > end || ip[0] != 0x45 || ip[9] != MESH_PROTO_TCP)
		return 0;
	total = bpf_ntohs(be16_at(ip + 2));
	heads = 20 + (ip[32] >> 4) * 4u;
	if ((be16_at(ip + 6) & bpf_htons(0x3fff)) || total > room || total < heads)
		return 0;
	ret->tcp = ip + 20;
	ret->payload = total - heads;
	addr_from_v4(&ret->t.client, *(const __be32 *)(ip + 12));
	addr_from_v4(&ret->t.server, *(const __be32 *)(ip + 16));
	return 1;
}

static __always_inline int segment_v6(const __u8 *ip, const void *end, __u32 room, struct segment *ret)
{
	__u32 length, head;

	if ((const void *)(ip + 60) > end || ip[0] >> 4 != 6 || ip[6] != MESH_PROTO_TCP)
		return 0;
	length = bpf_ntohs(be16_at(ip + 4));
	head = (ip[52] >> 4) * 4u;
	if (40 + length > room || length < head)
		return 0;
	ret->tcp = ip + 40;
	ret->payload = length - head;
	addr_from_v6(&ret->t.client, ip + 8);
	addr_from_v6(&ret->t.server, ip + 24);
	return !mesh_addr_v4(&ret->t.client) && !mesh_addr_v4(&ret->t.server);
}

/* The frame holds such a segment, 1, and it is no SYN that begins a connection. */
static __always_inline int segment_read(struct __sk_buff *skb, struct segment *ret)
{
	const void *end = (const void *)(long)skb->data_end;

	ret->eth = (const __u8 *)(long)skb->data;
	if (skb->protocol == ETH_IP
		    ? !segment_v4(ret->eth + ETH_LEN, end, skb->len - ETH_LEN, ret)
		    : skb->protocol != ETH_IP6 || !segment_v6(ret->eth + ETH_LEN, end, skb->len - ETH_LEN, ret))
		return 0;
	if ((ret->tcp[13] & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN || ret->tcp[12] >> 4 < 5)
		return 0;
	ret->t.client_port_be = be16_at(ret->tcp);
	ret->t.server_port_be = be16_at(ret->tcp + 2);
	*(__u32 *)&ret->t.proto = 0;
	return 1;
}

#endif
