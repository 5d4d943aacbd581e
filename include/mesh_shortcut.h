/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What crosses the maps of shortcuts (bpf/shortcut.bpf.h), under the rules of mesh_abi.h. */
#ifndef MESH_SHORTCUT_H
#define MESH_SHORTCUT_H

#include "mesh_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * One direction of a TCP connection between two pods of the node: value of mesh_shortcuts; the key is the source as client, the destination
 * as server, proto and kind 0. It comes with the SYN (answer: with the SYN-ACK) that has arrived at the destination's link, and so has
 * come through whatever the node forbids.
 */
enum mesh_shortcut_state {
	MESH_SHORTCUT_SYN = 1,	    /* the SYN is at the server's link */
	MESH_SHORTCUT_ANSWERED = 2, /* and its answer at the client's */
	MESH_SHORTCUT_TRACKED = 3,  /* established; the node's netfilter tracks it, and minds what it would not see */
	MESH_SHORTCUT_OPEN = 4,	    /* established: packets may go straight to the destination's link */
	MESH_SHORTCUT_CLOSED = 5,   /* one side has ended */
};
struct mesh_shortcut {
	struct mesh_addr destination;  /* as in the key: an element may be recycled while it is read */
	__u64 near_cookie, far_cookie; /* namespaces of source and destination */
	__u64 born_ns;		       /* CLOCK_BOOTTIME, the same in both directions */
	__u64 seen_ns;	      /* last packet at the destination's link by the long way, CLOCK_MONOTONIC, coarse */
	__u64 verdict_epoch;  /* live epoch when the policy was asked */
	__u64 packets, bytes; /* that went straight */
	__u32 far_ifindex;
	__u32 seq;  /* of the SYN, or of its answer */
	__u8 state; /* enum mesh_shortcut_state */
	__u8 reply; /* 1: from the server */
	__u16 pad;
	__u32 waits; /* TRACKED: segments that have come since */
};
_Static_assert(sizeof(struct mesh_shortcut) == 88, "mesh_shortcut");
/* Message of mesh_offers: netfilter's entry for this connection may be loosened; key of the client's direction. */
struct mesh_offer {
	struct mesh_tuple key;
	__u64 born_ns;
};
_Static_assert(sizeof(struct mesh_offer) == 48, "mesh_offer");
/* Value of mesh_loosened, key as in the offer: netfilter's entry minds no sequence numbers any more. */
struct mesh_loosened {
	__u64 born_ns;	  /* of the connection that was offered */
	__u32 timeout_ms; /* that the entry would have, had it seen all packets */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_loosened) == 16, "mesh_loosened");
/* An entry is worth loosening once a direction has had so many segments. */
#define MESH_SHORTCUT_WAITS 16

/* For so long the long way is taken to be open as it was. */
#define MESH_SHORTCUT_LEASE_S 10

#ifdef __cplusplus
}
#endif

#endif
