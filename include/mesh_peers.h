/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of mesh_abi.h that is about sockets which dial services without connect(). Included by that alone. */
#ifndef MESH_PEERS_H
#define MESH_PEERS_H

/* Where an address leads that a socket dials with each datagram, not with connect(). */
struct mesh_peer {
	struct mesh_addr dialled;
	struct mesh_addr chosen;
	__be16 dialled_port_be; /* 0: this entry is free */
	__be16 chosen_port_be;
	__u32 backend; /* in mesh_backends; 0: none chosen, dialled and chosen are the same */
	__u64 cookie;  /* of the flow; 0: no flow recorded */
	__u64 seen_ns; /* last datagram either way, CLOCK_BOOTTIME */
	__u64 bytes_sent;
	__u64 bytes_received;
	__u32 server_id; /* mesh_names: workload, 0: none known */
	__u16 owed;	 /* sent and not answered yet */
	__u8 answered;	 /* 1: a datagram has come back */
	__u8 pad;
};
_Static_assert(sizeof(struct mesh_peer) == 80, "mesh_peer");

/* Socket storage of a socket that dials services without connect(). As many entries as fit into one page with what the kernel adds. */
#define MESH_PEERS 48
struct mesh_peers {
	__u32 nr; /* entries that were ever used */
	__u32 pad;
	struct mesh_peer peer[MESH_PEERS];
};
_Static_assert(sizeof(struct mesh_peers) == 3848, "mesh_peers");

#endif
