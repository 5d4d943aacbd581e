/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP and ICMPv6 errors about packets of a translated connection (RFC 5508): the packet that the error quotes, the checksums in it, and
 * the error's own addresses become what the receiver knows.
 */
#ifndef BPF_ICMP_H
#define BPF_ICMP_H

#include "steps.bpf.h"

static __always_inline int icmp_is_error(const struct work *w)
{
	__u8 type = w->p.icmp_type;

	return w->p.v6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
}

/* One 2-, 4- or 16-byte field inside an ICMP error, whose checksum goes along. */
static __always_inline int icmp_set(struct __sk_buff *skb, const struct work *w, __u32 at, const void *was,
				    const void *is, __u32 len)
{
	__u32 sum = w->p.l4 + 2;
	__s64 diff;

	if (len == 2) {
		if (bpf_l4_csum_replace(skb, sum, *(const __be16 *)was, *(const __be16 *)is, 2))
			return -1;
		return bpf_skb_store_bytes(skb, at, is, 2, 0);
	}
	if (len == 4) {
		diff = bpf_csum_diff((__be32 *)was, 4, (__be32 *)is, 4, 0);
		if (diff < 0 || bpf_l4_csum_replace(skb, sum, 0, diff, 0))
			return -1;
		return bpf_skb_store_bytes(skb, at, is, 4, 0);
	}
	diff = bpf_csum_diff((__be32 *)was, 16, (__be32 *)is, 16, 0);
	if (diff < 0 || bpf_l4_csum_replace(skb, sum, 0, diff, 0))
		return -1;
	return bpf_skb_store_bytes(skb, at, is, 16, 0);
}

/* Updates a checksum field inside the quoted packet by what changed, from the old and new 16-bit or folded difference. */
static __always_inline int icmp_sum(struct __sk_buff *skb, const struct work *w, __u32 at, __s64 diff)
{
	__be16 was, is;
	__u64 sum;

	if (bpf_skb_load_bytes(skb, at, &was, 2))
		return 0; /* it was cut off before */
	if (!was && w->inner.t.proto == MESH_PROTO_UDP && at != w->inner.l3 + 10)
		return 0;
	sum = (__u64)(__u16)~was + (__u64)(__u32)diff;
	is = (__u16)~sum_fold(sum);
	if (!is && w->inner.t.proto == MESH_PROTO_UDP && at != w->inner.l3 + 10)
		is = 0xffff;
	return icmp_set(skb, w, at, &was, &is, 2);
}

/* One end of the quoted packet: address, port, and the checksums that cover them. */
static __always_inline int icmp_end(struct __sk_buff *skb, struct work *w, int server)
{
	const struct mesh_addr *was = server ? &w->inner.t.server : &w->inner.t.client;
	const struct mesh_addr *is = server ? &w->to.server : &w->to.client;
	__be16 port = server ? w->inner.t.server_port_be : w->inner.t.client_port_be;
	__be16 to_port = server ? w->to.server_port_be : w->to.client_port_be;
	__u32 at = w->inner.l3 + (w->p.v6 ? (server ? 24 : 8) : (server ? 16 : 12));
	__u32 sum = w->inner.t.proto == MESH_PROTO_UDP ? w->inner.l4 + 6 : w->inner.l4 + 16;
	__be32 ports[2] = { 0, 0 };
	__s64 diff = 0;

	if (!mesh_addr_eq(was, is)) {
		diff = bpf_csum_diff((__be32 *)was->w_be, 16, (__be32 *)is->w_be, 16, 0);
		if (!w->p.v6 && icmp_sum(skb, w, w->inner.l3 + 10, diff))
			return -1;
		if (icmp_sum(skb, w, sum, diff))
			return -1;
		if (w->p.v6 ? icmp_set(skb, w, at, was, is, 16) : icmp_set(skb, w, at, &was->w_be[3], &is->w_be[3], 4))
			return -1;
	}
	if (port != to_port) {
		ports[0] = port;
		ports[1] = to_port;
		diff = bpf_csum_diff(&ports[0], 4, &ports[1], 4, 0);
		if (icmp_sum(skb, w, sum, diff) || icmp_set(skb, w, w->inner.l4 + server * 2, &port, &to_port, 2))
			return -1;
	}
	return 0;
}

/* The error's own addresses, where they are ends of the connection. */
static __always_inline int icmp_outer(struct __sk_buff *skb, struct work *w, int server)
{
	const struct mesh_addr *own = server ? &w->p.t.server : &w->p.t.client;
	const struct mesh_addr *is = own;
	__u32 sum = w->p.v6 ? w->p.l4 + 2 : 0;

	/* It goes against the packet that it quotes. */
	if (mesh_addr_eq(own, &w->inner.t.client))
		is = &w->to.client;
	else if (mesh_addr_eq(own, &w->inner.t.server))
		is = &w->to.server;
	return pkt_set_addr(skb, &w->p, server, own, is, sum, 0);
}

/* The quoted packet becomes w->to, and the error's own ends go along. */
__noinline int tc_icmp(struct __sk_buff *skb)
{
	struct work *w = work_get();

	if (!w)
		return TC_ACT_SHOT_;
	if (icmp_end(skb, w, 0) || icmp_end(skb, w, 1) || icmp_outer(skb, w, 0) || icmp_outer(skb, w, 1))
		return drop(w->hook, MESH_REASON_MALFORMED);
	return pass(w->hook, MESH_REASON_ICMP_TRANSLATED);
}

/* The connection that an error is about, by the packet that it quotes. 0: none. */
__noinline int tc_icmp_find(struct __sk_buff *skb)
{
	struct work *w = work_get();

	if (!w || !icmp_is_error(w))
		return 0;
	/* The guard asks for the addresses, whatever the rest is. */
	if (pkt_read(skb, &w->inner, w->p.l4 + 8, w->p.v6, 1) != PKT_L4)
		return 0;
	return tc_find(&w->inner.t);
}

/* No way to the server, says somebody on it: what the connection will have failed of if nothing else comes. */
__noinline int tc_icmp_note(void)
{
	struct work *w = work_get();
	struct mesh_conn *conn;

	if (!w || w->conn_ifindex != w->ifindex || w->conn_state > MESH_CONN_SYN_ACK ||
	    w->p.icmp_type != (w->p.v6 ? 1 : 3))
		return 0;
	conn = conn_get(&w->wire);
	if (conn)
		conn->flow.reason = MESH_REASON_UNREACHABLE;
	return 0;
}

#endif
