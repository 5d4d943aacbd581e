/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The only file that knows address families and byte orders of the kernel's contexts. Everything leaves here as struct mesh_addr
 * (IPv4 as ::ffff:a.b.c.d) and ports in network order.
 *   bpf_sock_addr.user_port  network order     bpf_sock_ops.local_port, sock_common.skc_num  host order
 */
#ifndef BPF_CTX_H
#define BPF_CTX_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "mesh_abi.h"

#define MESH_AF_INET 2
#define SOL_SOCKET_ 1
#define SO_KEEPALIVE_ 9
#define SOL_TCP_ 6
#define TCP_KEEPIDLE_ 4
#define TCP_KEEPINTVL_ 5
#define TCP_KEEPCNT_ 6
#define TCP_USER_TIMEOUT_ 18
#define MESH_SS_CONNECTED 1  /* bpf_sock.state of a UDP socket after connect() */
#define MESH_BINDPORT_LOCK 8 /* of sock.sk_userlocks */

static __always_inline void addr_from_v4(struct mesh_addr *out, __be32 v4_be)
{
	out->w_be[0] = 0;
	out->w_be[1] = 0;
	out->w_be[2] = bpf_htonl(0xffff);
	out->w_be[3] = v4_be;
}

/* The address and port that the application named, or that it is about to be shown. */
static __always_inline void ctx_user_addr(const struct bpf_sock_addr *ctx, int v6, struct mesh_addr *ret_addr,
					  __be16 *ret_port_be)
{
	if (v6) {
		ret_addr->w_be[0] = ctx->user_ip6[0];
		ret_addr->w_be[1] = ctx->user_ip6[1];
		ret_addr->w_be[2] = ctx->user_ip6[2];
		ret_addr->w_be[3] = ctx->user_ip6[3];
	} else {
		addr_from_v4(ret_addr, ctx->user_ip4);
	}
	*ret_port_be = (__be16)ctx->user_port;
}

static __always_inline void ctx_set_user_addr(struct bpf_sock_addr *ctx, int v6, const struct mesh_addr *addr,
					      __be16 port_be)
{
	if (v6) {
		ctx->user_ip6[0] = addr->w_be[0];
		ctx->user_ip6[1] = addr->w_be[1];
		ctx->user_ip6[2] = addr->w_be[2];
		ctx->user_ip6[3] = addr->w_be[3];
	} else {
		ctx->user_ip4 = addr->w_be[3];
	}
	ctx->user_port = port_be;
}

/* The address that the socket is bound to; all zero (or ::ffff:0.0.0.0) when it is not. */
static __always_inline void ctx_bound_addr(const struct bpf_sock_addr *ctx, int v6, struct mesh_addr *ret)
{
	struct bpf_sock *sk = ctx->sk;

	if (v6) {
		ret->w_be[0] = sk->src_ip6[0];
		ret->w_be[1] = sk->src_ip6[1];
		ret->w_be[2] = sk->src_ip6[2];
		ret->w_be[3] = sk->src_ip6[3];
	} else {
		addr_from_v4(ret, sk->src_ip4);
	}
}

/* The address that the datagram will leave from, as far as bind() or IP_PKTINFO says; all zero (or ::ffff:0.0.0.0) otherwise. */
static __always_inline void ctx_source_addr(const struct bpf_sock_addr *ctx, int v6, struct mesh_addr *ret)
{
	if (v6) {
		ret->w_be[0] = ctx->msg_src_ip6[0];
		ret->w_be[1] = ctx->msg_src_ip6[1];
		ret->w_be[2] = ctx->msg_src_ip6[2];
		ret->w_be[3] = ctx->msg_src_ip6[3];
	} else {
		addr_from_v4(ret, ctx->msg_src_ip4);
	}
}

/* The socket is connected, and to this address. */
static __always_inline int ctx_connected_to(const struct bpf_sock_addr *ctx, int v6, const struct mesh_addr *addr,
					    __be16 port_be)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk->state != MESH_SS_CONNECTED || sk->dst_port != port_be)
		return 0;
	if (!v6)
		return sk->dst_ip4 == addr->w_be[3];
	return sk->dst_ip6[0] == addr->w_be[0] && sk->dst_ip6[1] == addr->w_be[1] && sk->dst_ip6[2] == addr->w_be[2] &&
	       sk->dst_ip6[3] == addr->w_be[3];
}

/* bind() has given the socket its port, rather than its first datagram. The verifier takes no arithmetic on the pointer to a socket, so
 * it goes through memory and comes back as a number. */
static __always_inline int ctx_bound_port(const struct bpf_sock_addr *ctx)
{
	struct bpf_sock *volatile kept = ctx->sk;
	struct sock *sk = NULL;

	bpf_probe_read_kernel(&sk, sizeof(sk), (void *)&kept);
	return (BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & MESH_BINDPORT_LOCK) != 0;
}

/* MESH_PROTO_*, or 0 for what the mesh leaves alone. */
static __always_inline __u8 ctx_proto(const struct bpf_sock_addr *ctx)
{
	__u32 proto = ctx->protocol;

	return proto == MESH_PROTO_TCP || proto == MESH_PROTO_UDP ? proto : 0;
}

/* Local end of the socket that a sock_ops callback is about. */
static __always_inline void ops_local(const struct bpf_sock_ops *ops, struct mesh_addr *ret_addr, __be16 *ret_port_be)
{
	if (ops->family == MESH_AF_INET) {
		addr_from_v4(ret_addr, ops->local_ip4);
	} else {
		ret_addr->w_be[0] = ops->local_ip6[0];
		ret_addr->w_be[1] = ops->local_ip6[1];
		ret_addr->w_be[2] = ops->local_ip6[2];
		ret_addr->w_be[3] = ops->local_ip6[3];
	}
	*ret_port_be = bpf_htons((__u16)ops->local_port);
}

/* Local end of a kernel socket. */
static __always_inline void sock_local(const struct sock *sk, struct mesh_addr *ret_addr, __be16 *ret_port_be)
{
	if (sk->__sk_common.skc_family == MESH_AF_INET) {
		addr_from_v4(ret_addr, sk->__sk_common.skc_rcv_saddr);
	} else {
		ret_addr->w_be[0] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		ret_addr->w_be[1] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		ret_addr->w_be[2] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		ret_addr->w_be[3] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3];
	}
	*ret_port_be = bpf_htons(sk->__sk_common.skc_num);
}

/* Its other end; the any-address when it has none. */
static __always_inline void sock_remote(const struct sock *sk, struct mesh_addr *ret_addr, __be16 *ret_port_be)
{
	if (sk->__sk_common.skc_family == MESH_AF_INET) {
		addr_from_v4(ret_addr, sk->__sk_common.skc_daddr);
	} else {
		ret_addr->w_be[0] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[0];
		ret_addr->w_be[1] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[1];
		ret_addr->w_be[2] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[2];
		ret_addr->w_be[3] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[3];
	}
	*ret_port_be = sk->__sk_common.skc_dport;
}

#endif
