/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the file of a socket says of how its program reads, before it does: whether calls may sleep, and what it waits for in epoll. Sockets
 * are told by their address in the kernel, as in ends.bpf.h, so that one function serves both ends. Whoever asks about another's socket
 * asks sock_is() afterwards.
 */
#ifndef BPF_FILE_H
#define BPF_FILE_H

#include "ends.bpf.h"

#define O_NONBLOCK_ 04000
#define EPOLLET_ (1u << 31)
#define TCP_CLOSE_WAIT_ 8
#define WATCHERS_MAX 4 /* epoll sets that one socket is in, at most, to be accelerated */

static __always_inline __u64 file_of(__u64 sk)
{
	__u64 socket = 0, file = 0;

	if (READ_AT(&socket, struct sock, sk, sk_socket) || !socket || READ_AT(&file, struct socket, socket, file))
		return 0;
	return file;
}

/* Calls that do not say otherwise may sleep; so it is with a socket that no program has, or none any more. */
static __always_inline int file_blocks(__u64 file)
{
	__u32 flags = 0;

	return !file || READ_AT(&flags, struct file, file, f_flags) || !(flags & O_NONBLOCK_);
}

/*
 * Some epoll set tells of it once each time that something comes. Its program may take a read that gives less than was asked for as the end
 * of what there is, and wait: but a read gives less where bytes past TCP end and those of TCP begin.
 */
static __always_inline int file_edges(__u64 file)
{
	__u64 head = 0, node = 0;
	__u32 events = 0;

	if (!file || READ_AT(&head, struct file, file, f_ep) || !head)
		return 0;
	if (READ_AT(&node, struct hlist_head, head, first))
		return 1;
	for (int i = 0; i < WATCHERS_MAX && node; i++) {
		if (READ_AT(&events, struct epitem, node - bpf_core_field_offset(struct epitem, fllink),
			    event.events) ||
		    (events & EPOLLET_) || READ_AT(&node, struct hlist_node, node, next))
			return 1;
	}
	return node != 0;
}

/* enum mesh_why: what speaks against a socket in `auto`. */
static __always_inline __u8 file_bars(__u64 sk)
{
	__u64 file = file_of(sk);

	if (file_blocks(file))
		return MESH_WHY_BLOCKING;
	return file_edges(file) ? MESH_WHY_EDGES : MESH_WHY_NONE;
}

/* What speaks against both ends' going on past TCP as a packet of this one is sent. That has not arrived yet: whoever it wakes can find a
 * plain TCP socket. */
static __always_inline __u8 pair_bars(const struct mesh_end *end, __u32 state)
{
	__u8 why;

	if (state != TCP_ESTABLISHED_ && state != TCP_CLOSE_WAIT_)
		return MESH_WHY_ENDING;
	why = file_bars(end->sk);
	if (why == MESH_WHY_NONE)
		why = file_bars(end->peer_sk);
	return why == MESH_WHY_NONE && end->bulk ? MESH_WHY_BULK : why;
}

#endif
