/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a pod may put on its link: its own link address, its own IP addresses, and neighbour discovery that speaks for those alone
 * (RFC 826, RFC 4861). Whoever decides by the source address of a packet later may rely on it.
 */
#ifndef BPF_GUARD_H
#define BPF_GUARD_H

#include "steps.bpf.h"

#define MLD_QUERY 130
#define ND_ROUTER_ADVERT 134
#define ND_NEIGHBOUR_SOLICIT 135
#define ND_NEIGHBOUR_ADVERT 136
#define ND_REDIRECT 137

/* Ethernet ARP: sender's link and IPv4 address at 8 and 14. Probes come from 0.0.0.0 (RFC 5227). */
static __noinline __u16 guard_arp(struct __sk_buff *skb, struct work *w, const struct mesh_iface *iface)
{
	struct mesh_addr sender;
	__u8 *b = w->p.header;

	if (bpf_skb_load_bytes(skb, ETH_LEN, b, 28) || *(__be32 *)b != bpf_htonl(0x00010800) ||
	    be16_at(b + 4) != bpf_htons(0x0604))
		return MESH_REASON_MALFORMED;
	addr_from_v4(&sender, *(__be32 *)(b + 14));
	if (!mac_equal(b + 8, iface->mac) || (sender.w_be[3] && !own_address(w, &sender)))
		return MESH_REASON_SPOOFED_ARP;
	return MESH_REASON_NONE;
}

/* No router speaks from a pod; an advertised address is the pod's own, and so is one that it looks for a second owner of. */
static __noinline __u16 guard_ndp(struct __sk_buff *skb, struct work *w, const struct mesh_iface *iface)
{
	struct mesh_addr target;

	if (w->p.icmp_type == ND_ROUTER_ADVERT || w->p.icmp_type == ND_REDIRECT || w->p.icmp_type == MLD_QUERY)
		return MESH_REASON_SPOOFED_NDP;
	if (w->p.icmp_type != ND_NEIGHBOUR_ADVERT &&
	    (w->p.icmp_type != ND_NEIGHBOUR_SOLICIT || !unspecified(&w->p.t.client)))
		return MESH_REASON_NONE;
	if (bpf_skb_load_bytes(skb, w->p.l4 + 8, &target, sizeof(target)))
		return MESH_REASON_MALFORMED;
	if (own_address(w, &target) || mesh_addr_eq(&target, &iface->link_local))
		return MESH_REASON_NONE;
	return MESH_REASON_SPOOFED_NDP;
}

/* An error is about a packet that the pod got; no pod is a router that redirects, or is asked to slow down (RFC 6633). */
static __always_inline int guard_icmp(const struct work *w)
{
	__u8 type = w->p.icmp_type;

	if (w->p.v6 ? type < 1 || type > 4 : type != 3 && type != 11 && type != 12)
		return w->p.v6 || (type != 4 && type != 5);
	return own_address(w, &w->inner.t.server);
}

/* The packet's IP source is the pod's, or one that no identity hangs on. */
static __always_inline int guard_source(const struct work *w, const struct mesh_iface *iface)
{
	const struct mesh_tuple *t = &w->p.t;

	if (own_address(w, &t->client))
		return 1;
	if (w->p.v6)
		return t->proto == PROTO_ICMP6 &&
		       (unspecified(&t->client) || mesh_addr_eq(&t->client, &iface->link_local));
	/* DHCP. */
	return mesh_addr_any(&t->client) && t->proto == MESH_PROTO_UDP && t->client_port_be == bpf_htons(68) &&
	       t->server_port_be == bpf_htons(67);
}

#endif
