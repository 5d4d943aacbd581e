// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * In the network namespace of the parser, where every address is local: whatever a client has dialled, one of the parser's listeners has its
 * connection, and sees what was dialled as its own address.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* So many elements are tried: all are filled but for the instant in which listeners change. */
#define PARSER_TRIES 8

SEC("sk_lookup")
int mesh_parser(struct bpf_sk_lookup *ctx)
{
	__u32 first = bpf_ntohs((__u16)ctx->remote_port) * 0x9e3779b1u >> 16, i;
	struct bpf_sock *sk;
	long rc;

	for (i = 0; i < PARSER_TRIES && ctx->protocol == MESH_PROTO_TCP; i++) {
		__u32 at = (first + i) % MESH_PARSERS_MAX;

		sk = bpf_map_lookup_elem(&mesh_parsers, &at);
		if (!sk)
			continue;
		rc = bpf_sk_assign(ctx, sk, 0);
		bpf_sk_release(sk);
		mesh_count(MESH_HOOK_PARSER, rc ? MESH_REASON_ERROR : MESH_REASON_PARSED);
		return rc ? SK_DROP : SK_PASS;
	}
	mesh_count(MESH_HOOK_PARSER, MESH_REASON_NO_PARSER);
	return SK_DROP;
}
