// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Packets at the links of the node: what socket hooks cannot see. Four programs, two at the host's end of each pod's link, two at the
 * node's links to the outside.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "lookup.bpf.h"
#include "maps.bpf.h"
#include "policy.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TCX_NEXT_ (-1)

SEC("tc")
int mesh_from_pod(struct __sk_buff *skb)
{
	(void)skb;
	return TCX_NEXT_;
}

SEC("tc")
int mesh_to_pod(struct __sk_buff *skb)
{
	(void)skb;
	return TCX_NEXT_;
}

SEC("tc")
int mesh_from_node(struct __sk_buff *skb)
{
	(void)skb;
	return TCX_NEXT_;
}

SEC("tc")
int mesh_to_node(struct __sk_buff *skb)
{
	(void)skb;
	return TCX_NEXT_;
}
