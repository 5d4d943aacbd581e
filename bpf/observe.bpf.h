/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Evidence: how the two ends of a TCP connection between pods of this node are used, seen at recvmsg and sendmsg while the bytes still go by
 * TCP. Most sockets are left after a test or two: other protocols, connections that are young, other namespaces than pods'.
 *
 * Options that only TCP honours are read off the socket, at each of its calls, not caught at setsockopt(): that sees what was inherited, or
 * set before, and costs the setsockopt() of others nothing.
 */
#ifndef BPF_OBSERVE_H
#define BPF_OBSERVE_H

#include "census.bpf.h"
#include "file.bpf.h"
#include "lookup.bpf.h"

#define MSG_OOB_ 1
#define MSG_PEEK_ 2
#define MSG_TRUNC_ 0x20
#define MSG_DONTWAIT_ 0x40
#define MSG_WAITALL_ 0x100
#define MSG_ERRQUEUE_ 0x2000

#define STATES_READ (1u << TCP_ESTABLISHED_ | 1u << TCP_FIN_WAIT1_ | 1u << TCP_FIN_WAIT2_)
#define SEGMENTS_MIN 4 /* with data, that came in, before a connection is worth a record */
#define TURNS_MIN 32   /* requests and responses before it is worth being accelerated */
#define TIMES_MAX 8

/* Something that TCP does for this socket, and sk_msg does not. */
static __always_inline int has_option(struct tcp_sock *tp)
{
	struct sock *sk = (struct sock *)tp;

	return sk->sk_rcvlowat > 1 ||
	       (sk->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY) & 1) ||
	       sk->sk_filter || sk->sk_tsflags || sk->sk_peek_off >= 0 || tp->inet_conn.icsk_ulp_ops || tp->is_mptcp ||
	       BPF_CORE_READ_BITFIELD(tp, recvmsg_inq) || BPF_CORE_READ_BITFIELD(tp, repair);
}

/* Whoever is in the parser's network namespace. */
static const struct mesh_pod parser_pod = { .accelerate = MESH_ACCELERATE_ON, .flags = MESH_POD_NO_SPLICE };

static __always_inline const struct mesh_pod *pod_of(const struct sock *sk, __u64 live)
{
	struct mesh_control *ctl = mesh_control_get();
	__u64 netns = sk->__sk_common.skc_net.net->net_cookie;

	return ctl && netns == ctl->limits.parser ? &parser_pod : pod_find(netns, live);
}

/* The links know the connection as a client's to the parser, or as one of the parser's to a server. */
static __noinline int with_parser(const struct mesh_addr *local, const struct mesh_addr *remote, __u32 local_port_be,
				  __u32 remote_port_be)
{
	struct mesh_tuple t = { .proto = MESH_PROTO_TCP, .kind = MESH_TUPLE_WIRE };
	struct mesh_conn_slot *slot;

	if (!local || !remote)
		return 0;
	t.client = *local;
	t.server = *remote;
	t.client_port_be = local_port_be;
	t.server_port_be = remote_port_be;
	slot = bpf_map_lookup_elem(&mesh_conns, &t);
	if (slot)
		return (slot->conn.flags & (MESH_CONN_L7 | MESH_CONN_CUT)) == MESH_CONN_L7;
	t.client = *remote;
	t.server = *local;
	t.client_port_be = remote_port_be;
	t.server_port_be = local_port_be;
	slot = bpf_map_lookup_elem(&mesh_conns, &t);
	return slot && (slot->conn.flags & (MESH_CONN_LEG | MESH_CONN_CUT)) == MESH_CONN_LEG;
}

/* What speaks against it whatever the calls are: whose socket, and where the other end is. */
static __always_inline __u8 judge_place(struct mesh_end *end, const struct sock *sk, const struct mesh_pod *pod,
					__u64 live)
{
	struct mesh_control *ctl = mesh_control_get();
	struct mesh_addr local, remote;
	__be16 local_port_be, remote_port_be;
	struct mesh_workload *w;

	sock_local(sk, &local, &local_port_be);
	sock_remote(sk, &remote, &remote_port_be);
	if (!ctl || pod->accelerate < MESH_ACCELERATE_AUTO)
		return MESH_WHY_OFF;
	end->loopback = mesh_addr_eq(&local, &remote) || mesh_addr_special(&remote);
	if (end->loopback)
		return ctl->limits.loopback || (pod->flags & MESH_POD_TRIAL) ? MESH_WHY_NONE : MESH_WHY_LOOPBACK;
	end->parser = pod == &parser_pod ||
		      (ctl->limits.parser && with_parser(&local, &remote, local_port_be, remote_port_be));
	if (pod == &parser_pod)
		return MESH_WHY_NONE;
	if (end->parser && !mesh_pod_owns(pod, &local))
		return MESH_WHY_ELSEWHERE;
	/* It sends under the reader's lock, as everybody does past TCP, and has others waiting. */
	if (end->parser)
		return pod->accelerate == MESH_ACCELERATE_ON ? MESH_WHY_NONE : MESH_WHY_PARSER;
	w = workload_find(&remote, live);
	if (!w || !(w->flags & MESH_WORKLOAD_LOCAL) || !mesh_pod_owns(pod, &local))
		return MESH_WHY_ELSEWHERE;
	return MESH_WHY_NONE;
}

/* As if that had been when something last went by TCP. */
static __always_inline __u16 lease_ended(void)
{
	__u16 then = MESH_END_TICK(bpf_ktime_get_ns()) - MESH_END_LEASE;

	return then ? then : (__u16)-1;
}

/* Judges an end under the live rules; one that was out may come in again, one that is in may have to go. */
static __always_inline void judge(struct mesh_end *end, struct tcp_sock *tp, const struct mesh_pod *pod, __u64 live)
{
	__u8 why = judge_place(end, (struct sock *)tp, pod, live), before = end->why;

	end->epoch = live;
	end->ns_id = pod->ns_id;
	end->no_splice = !!(pod->flags & MESH_POD_NO_SPLICE);
	if (end->state < MESH_END_MATCHED)
		end->mode = pod->accelerate;
	if (why != MESH_WHY_NONE) {
		end_leave(end, why);
		end_shift(end, MESH_END_NONE, MESH_END_LEFT);
		return;
	}
	/* Policies are asked about packets: by TCP goes what is sent next. */
	if (end->parser)
		end->by_tcp = lease_ended();
	if (before >= MESH_WHY_BLOCKING && before != MESH_WHY_PARSER && before != MESH_WHY_FULL &&
	    end->state == MESH_END_LEFT)
		return;
	if (end->state == MESH_END_LEFT)
		end->copied = tp->copied_seq;
	end->turns = 0;
	if (end_shift(end, MESH_END_NONE, MESH_END_WATCHED) || end_shift(end, MESH_END_LEFT, MESH_END_WATCHED))
		end->why = MESH_WHY_NONE;
}

/* The same of an end that has a record, whenever the rules have changed. */
static __always_inline void judge_again(struct mesh_end *end, struct tcp_sock *tp, __u64 live)
{
	const struct mesh_pod *pod;

	if (end->epoch == live)
		return;
	pod = pod_of((struct sock *)tp, live);
	if (pod)
		judge(end, tp, pod, live);
	else
		end_leave(end, MESH_WHY_OFF);
}

/* The record of a socket that is worth one; NULL: leave it alone. */
static __always_inline struct mesh_end *end_of(struct sock *sk, struct tcp_sock *tp)
{
	struct mesh_end *end = bpf_sk_storage_get(&mesh_ends, sk, 0, 0);
	struct mesh_control *ctl = mesh_control_get();
	const struct mesh_pod *pod;
	__u64 live;

	if (!ctl || (!end && (tp->data_segs_in < SEGMENTS_MIN || !(ctl->flags & MESH_CONTROL_ACCELERATE))))
		return NULL;
	live = *(volatile __u64 *)&ctl->live;
	if (end) {
		__u32 before = end->state;

		judge_again(end, tp, live);
		return before == MESH_END_LEFT ? NULL : end;
	}
	pod = pod_of(sk, live);
	if (pod && (ctl->flags & MESH_CONTROL_TRIAL) && !(pod->flags & MESH_POD_TRIAL))
		return NULL;
	end = pod ? bpf_sk_storage_get(&mesh_ends, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (!end || !pod)
		return NULL;
	end->copied = tp->copied_seq;
	end->cookie = bpf_get_socket_cookie(sk);
	end->sk = (__u64)(unsigned long)sk;
	end->self = (__u64)(unsigned long)end;
	end->netns_cookie = sk->__sk_common.skc_net.net->net_cookie;
	judge(end, tp, pod, live);
	return NULL; /* what this call has read is not counted any more */
}

/* What this call shows of how the end is read, that would make a difference past TCP. */
static __always_inline __u8 judge_recv(struct mesh_end *end, struct tcp_sock *tp, int flags)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u8 why = file_bars(end->sk);

	if (!(flags & MSG_DONTWAIT_))
		why = MESH_WHY_BLOCKING;
	if (flags & (MSG_OOB_ | MSG_TRUNC_ | MSG_WAITALL_ | MSG_ERRQUEUE_))
		why = MESH_WHY_FLAGS;
	if (has_option(tp))
		why = MESH_WHY_OPTION;
	if (why)
		end->seen = why;
	if (!end->reader)
		end->reader = thread;
	/* Whoever sleeps in recv() since before the socket was taken in would sleep on. So with one thread, in `on` too. */
	if (end->reader != thread)
		return MESH_WHY_THREADS;
	return end->mode == MESH_ACCELERATE_ON ? MESH_WHY_NONE : end->seen;
}

/* The program that reads the end is one that may be past TCP. 0: not, or not yet. */
static __always_inline int end_known(struct mesh_end *end)
{
	__u8 why = end->no_splice ? MESH_WHY_NONE : census_bars(end->netns_cookie);

	if (end->mode == MESH_ACCELERATE_ON) {
		end->seen = why ? why : end->seen;
		return 1;
	}
	if (why == MESH_WHY_SPLICES)
		end_leave(end, why);
	else if (why || end->why == MESH_WHY_CENSUS)
		end->why = why;
	return why == MESH_WHY_NONE;
}

/* Looks for the other end, and tells it of this one. */
static __always_inline void end_match(struct mesh_end *end, const struct sock *sk)
{
	struct mesh_suitor offer = {
		.cookie = end->cookie, .sk = end->sk, .self = end->self, .ns_id = end->ns_id, .mode = end->mode
	};
	struct mesh_suitor_key key;
	struct mesh_suitor *other;

	offer_key(sk, end, 0, &key);
	bpf_map_update_elem(&mesh_suitors, &key, &offer, BPF_ANY);
	offer_key(sk, end, 1, &key);
	other = bpf_map_lookup_elem(&mesh_suitors, &key);
	if (!other)
		return;
	offer = *other;
	if (!sock_is(offer.sk, offer.cookie))
		return;
	if (offer.mode < end->mode)
		end->mode = offer.mode;
	if (end->mode != MESH_ACCELERATE_ON && (offer.ns_id != end->ns_id || end->seen))
		return end_leave(end, end->seen ? end->seen : MESH_WHY_NAMESPACE);
	end->peer_sk = offer.sk;
	end->peer_self = offer.self;
	end->peer_cookie = offer.cookie;
	end_shift(end, MESH_END_OFFERED, MESH_END_MATCHED);
	if (end->loopback)
		end_waits();
}

static __always_inline void observe_recv(struct mesh_end *end, struct sock *sk, struct tcp_sock *tp, int len, int flags)
{
	__u32 by_tcp = tp->copied_seq - end->copied;
	__u8 why;

	if (len > 0 && !(flags & (MSG_PEEK_ | MSG_OOB_ | MSG_ERRQUEUE_))) {
		if (by_tcp > (__u32)len || (by_tcp != (__u32)len && end->state < MESH_END_ENROLLED))
			return end_leave(end, MESH_WHY_UNSEEN);
		end->copied += by_tcp;
		end->past += len - by_tcp;
		end->run = 0;
		end->turns += end->last_sent;
		end->last_sent = 0;
	}
	why = judge_recv(end, tp, flags);
	if (why)
		return end_leave(end, why);
	end_shift(end, MESH_END_ENROLLED, MESH_END_READY);
	if (end->state == MESH_END_WATCHED && !end_known(end))
		return;
	if (end->turns >= (__u32)TURNS_MIN << end->times && end_shift(end, MESH_END_WATCHED, MESH_END_OFFERED))
		end->why = MESH_WHY_NONE;
	if (end->state == MESH_END_OFFERED)
		end_match(end, sk);
}

static __always_inline void observe_send(struct mesh_end *end, struct tcp_sock *tp, int len)
{
	struct mesh_control *ctl = mesh_control_get();
	__u64 thread = bpf_get_current_pid_tgid();

	if (len <= 0 || !ctl)
		return;
	if (!end->writer)
		end->writer = thread;
	if (end->writer != thread)
		return end_leave(end, MESH_WHY_THREADS);
	if (end->mode != MESH_ACCELERATE_ON && has_option(tp))
		return end_leave(end, MESH_WHY_OPTION);
	end->last_sent = 1;
	end->run += len;
	if (end->run <= ctl->limits.message)
		return;
	/* So much one way: bulk. What is in already stays until it is clear that it goes on. */
	end->turns = 0;
	if (end->run <= 4 * ctl->limits.message || end->state < MESH_END_OFFERED || end->state == MESH_END_LEAVING)
		return;
	end->times += end->times < TIMES_MAX;
	end_leave(end, MESH_WHY_BULK);
	if (end_shift(end, MESH_END_LEFT, MESH_END_WATCHED))
		end->why = MESH_WHY_BULK;
}

static __always_inline void observe(struct sock *sk, int len, int flags, __u32 hook)
{
	struct tcp_sock *tp;
	struct mesh_end *end;

	/* What one side has shut down is still read by the other. */
	if (!(1u << sk->__sk_common.skc_state & STATES_READ))
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	end = tp ? end_of(sk, tp) : NULL;
	if (!end)
		return;
	if (hook == MESH_HOOK_RECV)
		observe_recv(end, sk, tp, len, flags);
	else
		observe_send(end, tp, len);
}

#endif
