/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's own types, trimmed by hand to the fields that bpf/ reads; offsets are fixed up at load (CO-RE), so one object
 * serves every kernel. Contexts and helper ids come from the stable UAPI header. vmlinux/dump writes the full header of the
 * running kernel, to look a field up. Host code never includes this file.
 */
#ifndef TULLE_VMLINUX_H
#define TULLE_VMLINUX_H

#include <linux/bpf.h>
#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct net {
	__u64 net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

typedef struct {
	long counter;
} atomic_long_t;

typedef struct {
	__s64 counter;
} atomic64_t;

/* Of a protocol's memory: pages that all its sockets hold, and low, pressure and high marks. */
struct proto {
	atomic_long_t *memory_allocated;
	long *sysctl_mem;
};

struct sk_filter;

typedef struct {
	int owned; /* somebody is in a system call with the socket */
} socket_lock_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num; /* local port, host order */
	unsigned short skc_family;
	volatile unsigned char skc_state;
	int skc_bound_dev_if;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
	struct proto *skc_prot;
	atomic64_t skc_cookie;
};

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	__u8 sk_userlocks : 4;
	__u16 sk_protocol;
	__u8 sk_shutdown;
	int sk_rcvlowat;
	__s32 sk_peek_off;
	__u32 sk_tsflags;
	struct sk_filter *sk_filter;
	socket_lock_t sk_lock;
	struct socket *sk_socket;
	void *sk_user_data;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct super_block {
	__u32 s_dev;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_size;
	__u32 i_generation;
};

struct file {
	unsigned int f_flags;
	struct inode *f_inode;
	struct hlist_head *f_ep; /* struct epitem of each epoll set it is in */
};

struct mm_struct {
	struct file *exe_file;
};

struct task_struct {
	struct mm_struct *mm;
	struct task_struct *group_leader;
	__u64 start_boottime;
};

struct socket {
	struct file *file;
};

struct epoll_event {
	__u32 events;
};

struct epitem {
	struct hlist_node fllink;
	struct epoll_event event;
};

struct sk_buff {
	unsigned long _nfct; /* connection tracking's entry, and in the lowest three bits how it belongs to it */
};

struct nf_conn {
	unsigned long status;
};

struct tcp_ulp_ops;

struct inet_connection_sock {
	const struct tcp_ulp_ops *icsk_ulp_ops;
};

struct list_head {
	struct list_head *next;
};

struct sk_psock {
	struct list_head ingress_msg;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 copied_seq;
	__u32 data_segs_in;
	__u8 repair : 1;
	__u8 recvmsg_inq : 1;
	_Bool is_mptcp;
	__u32 write_seq;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 srtt_us; /* smoothed round trip time << 3 in usecs */
	__u32 total_retrans;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_acked;
	__u64 bytes_received;
};

struct udp_sock;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
};

enum sock_flags {
	SOCK_DEAD,
	SOCK_DONE,
	SOCK_ZEROCOPY,
};

#pragma clang attribute pop

#endif
