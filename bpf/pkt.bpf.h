/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets: what the tc path reads of one, and how it changes one. Like ctx.bpf.h for sockets, the only file that knows the layout of
 * headers: addresses leave as struct mesh_addr (IPv4 as ::ffff:a.b.c.d), ports in network order. Links are Ethernet.
 * Checksums change by difference (RFC 1624), so that one which the sender left to its device, or that was wrong, stays so.
 */
#ifndef BPF_PKT_H
#define BPF_PKT_H

#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "maps.bpf.h"

#define ETH_LEN 14
#define ETH_IP bpf_htons(0x0800)
#define ETH_IP6 bpf_htons(0x86dd)
#define ETH_ARP bpf_htons(0x0806)
#define ETH_VLAN bpf_htons(0x8100)
#define ETH_VLAN_AD bpf_htons(0x88a8)
#define PROTO_ICMP 1
#define PROTO_ICMP6 58
#define EXTENSIONS_MAX 6

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

enum pkt_kind {
	PKT_MALFORMED = -1,
	PKT_OTHER = 0, /* IP, but none of the below: t has addresses, and ports 0 */
	PKT_L4 = 1,    /* TCP or UDP with ports */
	PKT_ICMP = 2,
	PKT_FRAGMENT = 3, /* TCP or UDP, not the first part; ports 0 */
};

struct pkt {
	struct mesh_tuple t; /* client: source, server: destination */
	__u32 l3, l4;	     /* offsets */
	__u32 payload;	     /* bytes behind the header of TCP or UDP */
	__u32 seq, ack;
	__u32 frag_id;
	__u8 v6;
	__u8 tcp_flags;
	__u8 more_fragments; /* the first part of several */
	__u8 icmp_type;
	__u8 header[64];
};

static __always_inline void addr_from_v6(struct mesh_addr *out, const __u8 *b)
{
	__builtin_memcpy(out, b, sizeof(*out));
}

static __always_inline __be16 be16_at(const __u8 *b)
{
	return *(const __be16 *)b;
}

static __always_inline __u32 u32_at(const __u8 *b)
{
	return bpf_ntohl(*(const __be32 *)b);
}

/* The header of the transport, at p->l4; `end` is where the IP packet ends. Embedded packets may end after 8 bytes of it. */
static __always_inline int pkt_transport(struct __sk_buff *skb, struct pkt *p, __u32 end, int embedded)
{
	__u32 need = embedded || p->t.proto != MESH_PROTO_TCP ? 8 : 20, header = 8;

	if (p->t.proto == (p->v6 ? PROTO_ICMP6 : PROTO_ICMP)) {
		if (p->l4 + 8 > end || bpf_skb_load_bytes(skb, p->l4, p->header, 8))
			return PKT_MALFORMED;
		p->icmp_type = p->header[0];
		return PKT_ICMP;
	}
	if (p->t.proto != MESH_PROTO_TCP && p->t.proto != MESH_PROTO_UDP)
		return PKT_OTHER;
	if (p->l4 + need > end)
		return PKT_MALFORMED;
	if (need == 20 ? bpf_skb_load_bytes(skb, p->l4, p->header, 20) : bpf_skb_load_bytes(skb, p->l4, p->header, 8))
		return PKT_MALFORMED;
	p->t.client_port_be = be16_at(p->header);
	p->t.server_port_be = be16_at(p->header + 2);
	if (need == 20) {
		p->seq = u32_at(p->header + 4);
		p->ack = u32_at(p->header + 8);
		p->tcp_flags = p->header[13];
		header = (p->header[12] >> 4) * 4;
		if (header < 20 || p->l4 + header > end)
			return PKT_MALFORMED;
	}
	p->payload = end - p->l4 - header;
	return PKT_L4;
}

static __always_inline int pkt_v4(struct __sk_buff *skb, struct pkt *p, int embedded)
{
	__u32 size, length, end = skb->len, offset;

	if (bpf_skb_load_bytes(skb, p->l3, p->header, 20) || p->header[0] >> 4 != 4)
		return PKT_MALFORMED;
	size = (p->header[0] & 15) * 4;
	length = bpf_ntohs(be16_at(p->header + 2));
	if (size < 20 || (length && length < size))
		return PKT_MALFORMED;
	/* No length: more than it can say (BIG TCP). */
	if (length && p->l3 + length < end)
		end = p->l3 + length;
	else if (length && p->l3 + length > end && !embedded)
		return PKT_MALFORMED;
	if (p->l3 + size > end)
		return PKT_MALFORMED;
	p->t.proto = p->header[9];
	p->l4 = p->l3 + size;
	p->frag_id = bpf_ntohs(be16_at(p->header + 4));
	offset = bpf_ntohs(be16_at(p->header + 6));
	p->more_fragments = !(offset & 0x1fff) && (offset & 0x2000);
	addr_from_v4(&p->t.client, *(__be32 *)(p->header + 12));
	addr_from_v4(&p->t.server, *(__be32 *)(p->header + 16));
	if (offset & 0x1fff) {
		p->payload = end - p->l4;
		return p->t.proto == MESH_PROTO_TCP || p->t.proto == MESH_PROTO_UDP ? PKT_FRAGMENT : PKT_OTHER;
	}
	return pkt_transport(skb, p, end, embedded);
}

/* Hop-by-hop, routing, destination options; fragment; authentication. */
static __always_inline int is_extension(__u8 next)
{
	return next == 0 || next == 43 || next == 60 || next == 44 || next == 51;
}

static __always_inline int pkt_v6(struct __sk_buff *skb, struct pkt *p, int embedded)
{
	__u32 length, end = skb->len, offset = 0;
	__u8 next;
	int i;

	if (bpf_skb_load_bytes(skb, p->l3, p->header, 40) || p->header[0] >> 4 != 6)
		return PKT_MALFORMED;
	length = bpf_ntohs(be16_at(p->header + 4));
	if (length && p->l3 + 40 + length < end)
		end = p->l3 + 40 + length;
	else if (length && p->l3 + 40 + length > end && !embedded)
		return PKT_MALFORMED;
	next = p->header[6];
	addr_from_v6(&p->t.client, p->header + 8);
	addr_from_v6(&p->t.server, p->header + 24);
	/* Would be taken for the IPv4 address; on no wire (RFC 4942 2.2). */
	if (mesh_addr_v4(&p->t.client) || mesh_addr_v4(&p->t.server))
		return PKT_MALFORMED;
	p->l4 = p->l3 + 40;
	for (i = 0; i < EXTENSIONS_MAX; i++) {
		if (!is_extension(next))
			break;
		if (p->l4 + 8 > end || bpf_skb_load_bytes(skb, p->l4, p->header, 8))
			return PKT_MALFORMED;
		if (next == 44) {
			offset = bpf_ntohs(be16_at(p->header + 2));
			p->frag_id = u32_at(p->header + 4);
			p->more_fragments = !(offset & 0xfff8) && (offset & 1);
			p->l4 += 8;
		} else {
			p->l4 += next == 51 ? (p->header[1] + 2) * 4 : (p->header[1] + 1) * 8;
		}
		next = p->header[0];
		if (offset & 0xfff8)
			break;
	}
	p->t.proto = next;
	/* What stands behind more headers than are read is not known, and might be anything. */
	if (p->l4 > end || (i == EXTENSIONS_MAX && is_extension(next)))
		return PKT_MALFORMED;
	if (offset & 0xfff8) {
		p->payload = end - p->l4;
		return next == MESH_PROTO_TCP || next == MESH_PROTO_UDP ? PKT_FRAGMENT : PKT_OTHER;
	}
	return pkt_transport(skb, p, end, embedded);
}

/* Reads the IP packet at offset l3. `embedded`: what an ICMP error quotes, which may be cut short. */
static __always_inline int pkt_read(struct __sk_buff *skb, struct pkt *p, __u32 l3, int v6, int embedded)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->l3 = l3;
	p->v6 = v6;
	return v6 ? pkt_v6(skb, p, embedded) : pkt_v4(skb, p, embedded);
}

/* Where the transport has its checksum, 0: nowhere; flags are those of bpf_l4_csum_replace. */
static __always_inline __u32 pkt_csum(const struct pkt *p, __u64 *ret_flags)
{
	*ret_flags = p->t.proto == MESH_PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	if (p->t.proto != MESH_PROTO_UDP)
		return p->l4 + 16;
	/* The header was read last. A datagram may go without. */
	return be16_at(p->header + 6) ? p->l4 + 6 : 0;
}

/* The transport's sum goes along with an IPv6 address. No other sum in the packet does, so that the kernel's own sum of the packet, where a
 * device has made one, stays as it is: that is what the flag says (6.16; older ones do not know it, and their sum is lost then). */
#define CSUM_IPV6 (1ull << 7)
static __always_inline int csum_addr6(struct __sk_buff *skb, __u32 sum, __s64 diff, __u64 flags)
{
	flags |= BPF_F_PSEUDO_HDR;
	return bpf_l4_csum_replace(skb, sum, 0, diff, flags | CSUM_IPV6) &&
	       bpf_l4_csum_replace(skb, sum, 0, diff, flags);
}

/* One address of an IP header becomes another. `sum`: the transport's checksum, 0: none; then nothing in the packet makes up for it but in
 * IPv4 the header's own. */
static __always_inline int pkt_set_addr(struct __sk_buff *skb, const struct pkt *p, int server,
					const struct mesh_addr *was, const struct mesh_addr *is, __u32 sum, __u64 flags)
{
	__u32 at = p->l3 + (p->v6 ? (server ? 24 : 8) : (server ? 16 : 12));
	__s64 diff;

	if (mesh_addr_eq(was, is))
		return 0;
	if (!p->v6) {
		if (sum && bpf_l4_csum_replace(skb, sum, was->w_be[3], is->w_be[3], flags | BPF_F_PSEUDO_HDR | 4))
			return -1;
		return bpf_l3_csum_replace(skb, p->l3 + 10, was->w_be[3], is->w_be[3], 4) ||
		       bpf_skb_store_bytes(skb, at, &is->w_be[3], 4, 0);
	}
	diff = bpf_csum_diff((__be32 *)was->w_be, 16, (__be32 *)is->w_be, 16, 0);
	if (diff < 0 || (sum && csum_addr6(skb, sum, diff, flags)))
		return -1;
	return bpf_skb_store_bytes(skb, at, is, 16, sum ? 0 : BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int pkt_set_port(struct __sk_buff *skb, __u32 at, __be16 was, __be16 is, __u32 sum, __u64 flags)
{
	if (was == is)
		return 0;
	if (sum && bpf_l4_csum_replace(skb, sum, was, is, flags | 2))
		return -1;
	return bpf_skb_store_bytes(skb, at, &is, 2, sum ? 0 : BPF_F_RECOMPUTE_CSUM);
}

/* Source and destination become those of `to`. 0, or -1: no memory, the packet is in pieces. */
static __noinline int pkt_translate(struct __sk_buff *skb, struct pkt *p, const struct mesh_tuple *to, int fragment)
{
	__u64 flags = 0;
	__u32 sum = fragment ? 0 : pkt_csum(p, &flags);

	if (pkt_set_addr(skb, p, 0, &p->t.client, &to->client, sum, flags) ||
	    pkt_set_addr(skb, p, 1, &p->t.server, &to->server, sum, flags))
		return -1;
	if (!fragment && (pkt_set_port(skb, p->l4, p->t.client_port_be, to->client_port_be, sum, flags) ||
			  pkt_set_port(skb, p->l4 + 2, p->t.server_port_be, to->server_port_be, sum, flags)))
		return -1;
	p->t.client = to->client;
	p->t.server = to->server;
	p->t.client_port_be = to->client_port_be;
	p->t.server_port_be = to->server_port_be;
	return 0;
}

static __always_inline int mac_equal(const __u8 *a, const __u8 *b)
{
	int i, differ = 0;

	for (i = 0; i < 6; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

static __always_inline void pkt_swap_macs(struct __sk_buff *skb)
{
	__u8 macs[12], swapped[12];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}

static __always_inline __u16 sum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Sum of 32-bit words in network order, as they lie in memory. */
static __always_inline __u64 sum_words(const __be32 *words, int nr)
{
	__u64 sum = 0;
	int i;

	for (i = 0; i < nr; i++)
		sum += words[i];
	return sum;
}

/*
 * Makes the TCP segment a reset that answers it (RFC 9293 3.5.2), ends swapped, and nothing behind the TCP header; or, `on`, one in its own
 * place. Only for packets without IP options. 0 or -1.
 */
static __noinline int pkt_reset(struct __sk_buff *skb, struct pkt *p, int on)
{
	__u32 ip = p->v6 ? 40 : 20, partial;
	struct mesh_tuple back = { .client = p->t.server,
				   .server = p->t.client,
				   .client_port_be = p->t.server_port_be,
				   .server_port_be = p->t.client_port_be };
	__be32 tcp[5] = {}, pseudo[2] = { 0, bpf_htonl(20) };
	__u64 sum;
	__u16 folded;

	if (p->l4 != p->l3 + ip)
		return -1;
	if (on)
		back = p->t;
	((__be16 *)tcp)[0] = back.client_port_be;
	((__be16 *)tcp)[1] = back.server_port_be;
	if (on) {
		tcp[1] = bpf_htonl(p->seq);
		tcp[2] = bpf_htonl(p->ack);
		tcp[3] = bpf_htonl(5u << 28 | (__u32)(TCP_RST | TCP_ACK) << 16);
	} else if (p->tcp_flags & TCP_ACK) {
		tcp[1] = bpf_htonl(p->ack);
		tcp[3] = bpf_htonl(5u << 28 | (__u32)TCP_RST << 16);
	} else {
		__u32 next = p->seq + p->payload + !!(p->tcp_flags & TCP_SYN) + !!(p->tcp_flags & TCP_FIN);

		tcp[2] = bpf_htonl(next);
		tcp[3] = bpf_htonl(5u << 28 | (__u32)(TCP_RST | TCP_ACK) << 16);
	}
	/* The kernel refuses to cut into a checksum that it left to the device: then the field holds the pseudo header's sum alone. */
	partial = bpf_skb_change_tail(skb, p->l4 + 16, 0) != 0;
	if (bpf_skb_change_tail(skb, p->l4 + 20, 0))
		return -1;
	pseudo[0] = bpf_htonl(MESH_PROTO_TCP);
	if (p->v6)
		sum = sum_words(back.client.w_be, 4) + sum_words(back.server.w_be, 4);
	else
		sum = (__u64)back.client.w_be[3] + back.server.w_be[3];
	sum += sum_words(pseudo, 2);
	if (!partial)
		sum += sum_words(tcp, 5);
	folded = sum_fold(sum);
	((__be16 *)tcp)[8] = partial ? folded : (__u16)~folded;
	if (bpf_skb_store_bytes(skb, p->l4, tcp, sizeof(tcp), 0))
		return -1;
	if (p->v6) {
		__be16 length = bpf_htons(20);

		if (bpf_skb_store_bytes(skb, p->l3 + 4, &length, 2, 0) ||
		    bpf_skb_store_bytes(skb, p->l3 + 8, &back.client, 16, 0) ||
		    bpf_skb_store_bytes(skb, p->l3 + 24, &back.server, 16, 0))
			return -1;
	} else {
		__be32 v4[5] = { bpf_htonl(0x45000028), bpf_htonl(0x4000),
				 bpf_htonl(64u << 24 | MESH_PROTO_TCP << 16) };

		v4[3] = back.client.w_be[3];
		v4[4] = back.server.w_be[3];
		((__be16 *)v4)[5] = (__u16)~sum_fold(sum_words(v4, 5));
		if (bpf_skb_store_bytes(skb, p->l3, v4, sizeof(v4), 0))
			return -1;
	}
	if (!on)
		pkt_swap_macs(skb);
	p->t.client = back.client;
	p->t.server = back.server;
	return 0;
}

#endif
