/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Two ends of a TCP connection between pods of this node: what one may know of the other, and how an end goes into mesh_sockets and out.
 *
 * Each end's record is written by its own socket's system calls and packets alone. The other end reads it, and some of its socket, by their
 * addresses in the kernel: neither can be looked up where sk_msg runs. Both may have been freed and be something else by then, so the
 * cookies are read with them: a socket that still has its cookie afterwards was there all the time, and so was its record.
 *
 * Bytes of one direction have all been read when
 *     write_seq (of who sends) == copied_seq (of who reads) == copied_seq when recv() last returned, and
 *     bytes sent past TCP == bytes that recv() returned and that were not TCP's.
 * So nothing is left of what went by TCP or past it, and everything came back from recv(): nobody sits in the middle of a call with a part of
 * it in his hands, or has taken it some other way.
 */
#ifndef BPF_ENDS_H
#define BPF_ENDS_H

#include "ctx.bpf.h"
#include "flow.bpf.h"
#include "maps.bpf.h"

#define EOPNOTSUPP_ 95

/* What is known of the other end: of its record, what is before the threads. */
#define READ_OF_OTHER __builtin_offsetof(struct mesh_end, reader)
struct other {
	struct mesh_end end;
	__u32 copied_seq;
	int rcvlowat;
	int owned;
	__u8 state;
};

/*
 * Reads what may be gone. As through a pointer (Linux 6.2) that takes an instruction, which gives 0 where nothing is, instead of a call. Only
 * the object that says READ_BY_POINTER does: libbpf 1.1 does not link two that name the same function of the kernel.
 */
#define READ_BY_CALL(dst, type, at, field)           \
	bpf_probe_read_kernel((dst), sizeof(*(dst)), \
			      (const char *)(unsigned long)(at) + bpf_core_field_offset(type, field))
#ifdef READ_BY_POINTER
extern void *bpf_rdonly_cast(const void *at, __u32 type) __ksym __weak;
#define POINTER(type, at) ((type *)bpf_rdonly_cast((const void *)(unsigned long)(at), bpf_core_type_id_kernel(type)))
#define READ_AT(dst, type, at, field)                                                 \
	(bpf_rdonly_cast ? (*(dst) = (__typeof__(*(dst)))POINTER(type, at)->field, 0) \
			 : READ_BY_CALL(dst, type, at, field))
#else
#define READ_AT READ_BY_CALL
#endif

static __always_inline int sock_is(__u64 sk, __u64 cookie)
{
	__u64 now = 0;

	return cookie && !READ_AT(&now, struct sock, sk, __sk_common.skc_cookie.counter) && now == cookie;
}

/* Reads the other end. 0: it is gone, or does not know of this one. */
static __always_inline int other_read(const struct mesh_end *end, struct other *ret)
{
	__u64 sk = end->peer_sk;

	if (bpf_probe_read_kernel(&ret->end, READ_OF_OTHER, (const void *)(unsigned long)end->peer_self) ||
	    READ_AT(&ret->copied_seq, struct tcp_sock, sk, copied_seq) ||
	    READ_AT(&ret->rcvlowat, struct sock, sk, sk_rcvlowat) ||
	    READ_AT(&ret->owned, struct sock, sk, sk_lock.owned) ||
	    READ_AT(&ret->state, struct sock, sk, __sk_common.skc_state) || !sock_is(sk, end->peer_cookie))
		return 0;
	return ret->end.cookie == end->peer_cookie && ret->end.peer_cookie == end->cookie;
}

/* All that `from` has sent is read by `to`. */
static __always_inline int all_read(__u32 write_seq, __u64 redirected, const struct mesh_end *to, __u32 copied_seq)
{
	return write_seq == copied_seq && to->copied == copied_seq && to->past == redirected;
}

static __always_inline int end_shift(struct mesh_end *end, __u32 from, __u32 to)
{
	return __sync_val_compare_and_swap(&end->state, from, to) == from;
}

/* No packet of it passes a link: user space is to run the iterator. */
static __always_inline void end_waits(void)
{
	struct mesh_control *ctl = mesh_control_get();

	if (ctl)
		__sync_fetch_and_add(&ctl->limits.waiting, 1);
}

/* Takes an end off the way past TCP, for good or until it behaves. What is in mesh_sockets goes when it is drained. */
static __always_inline void end_leave(struct mesh_end *end, __u8 why)
{
	end->why = why;
	if (end_shift(end, MESH_END_READY, MESH_END_LEAVING) || end_shift(end, MESH_END_ENROLLED, MESH_END_LEAVING) ||
	    end_shift(end, MESH_END_ENTERING, MESH_END_LEAVING) || end_shift(end, MESH_END_MATCHED, MESH_END_LEFT) ||
	    end_shift(end, MESH_END_OFFERED, MESH_END_LEFT))
		return;
	end_shift(end, MESH_END_WATCHED, MESH_END_LEFT);
}

/* Each pod has room for so many; the parser for those of all. 0: it is taken. */
static __always_inline int end_count(struct mesh_end *end)
{
	struct mesh_control *ctl = mesh_control_get();
	__u64 cookie = end->netns_cookie;
	__u32 none = 0, *nr = bpf_map_lookup_elem(&mesh_pod_ends, &cookie);

	if (!nr) {
		bpf_map_update_elem(&mesh_pod_ends, &cookie, &none, BPF_NOEXIST);
		nr = bpf_map_lookup_elem(&mesh_pod_ends, &cookie);
	}
	if (!nr || !ctl || (__sync_fetch_and_add(nr, 1) >= ctl->limits.pod_ends && cookie != ctl->limits.parser)) {
		if (nr)
			__sync_fetch_and_add(nr, -1);
		return 0;
	}
	end->counted = 1;
	return 1;
}

/* Whoever it is that sees first that it is over. */
static __always_inline void end_uncount(struct mesh_end *end)
{
	__u64 cookie = end->netns_cookie;
	__u32 *nr = bpf_map_lookup_elem(&mesh_pod_ends, &cookie);

	if (__sync_val_compare_and_swap(&end->counted, 1, 0) == 1 && nr)
		__sync_fetch_and_add(nr, -1);
}

/* Nothing waits in the queue that bytes past TCP come into. */
static __always_inline int queue_empty(__u64 sk)
{
	__u64 psock = 0, next = 0;

	if (READ_AT(&psock, struct sock, sk, sk_user_data))
		return 0;
	psock &= ~7ull; /* flags of whose it is */
	if (!psock)
		return 1;
	return !READ_AT(&next, struct sk_psock, psock, ingress_msg.next) &&
	       next == psock + bpf_core_field_offset(struct sk_psock, ingress_msg);
}

/* Everything that the other end has sent past TCP is read, and nothing more can be on its way: it has seen that this end takes no more, or
 * will when it looks again after it has said how much it is about to send. */
static __always_inline int end_drained(struct mesh_end *end)
{
	struct other o = {};

	return queue_empty(end->sk) && (!other_read(end, &o) || end->past == o.end.redirected);
}

/* It is not let in. A socket that is closed meanwhile has no place in mesh_sockets, which is no want of room. */
static __always_inline void end_refused(struct mesh_end *end, long err, __u32 hook)
{
	end_uncount(end);
	end->why = err == -EOPNOTSUPP_ ? MESH_WHY_ENDING : MESH_WHY_FULL;
	end_shift(end, MESH_END_ENTERING, MESH_END_LEFT);
	if (err != -EOPNOTSUPP_)
		mesh_count(hook, MESH_REASON_CONN_LIMIT);
}

/* A step of an end that is to go in or out, of which several CPUs may think so at once: one of them takes it, by its state. sk: its socket,
 * of whichever type the program has it as. */
#define END_STEP(end, sk_ptr, hook)                                                                    \
	do {                                                                                           \
		__u64 key_ = (end)->cookie;                                                            \
		if (end_shift(end, MESH_END_MATCHED, MESH_END_ENTERING)) {                             \
			long err_ = -1;                                                                \
			(end)->bulk = 0; /* of the last time that it was in */                         \
			if (end_count(end))                                                            \
				err_ = bpf_map_update_elem(&mesh_sockets, &key_, sk_ptr, BPF_NOEXIST); \
			if (err_)                                                                      \
				end_refused(end, err_, hook);                                          \
			else                                                                           \
				end_in(end, hook);                                                     \
		} else if ((end)->state == MESH_END_LEAVING && end_drained(end)) {                     \
			end_out(end, hook);                                                            \
		}                                                                                      \
	} while (0)

/* It is among those that are accelerated, and takes bytes once it has come back from recv(); or goes again, should it have left meanwhile. */
static __always_inline void end_in(struct mesh_end *end, __u32 hook)
{
	mesh_count(hook, MESH_REASON_ENROLLED);
	if (end_shift(end, MESH_END_ENTERING, MESH_END_ENROLLED) || end_shift(end, MESH_END_LEFT, MESH_END_LEAVING))
		return;
	end_shift(end, MESH_END_WATCHED, MESH_END_LEAVING);
}

static __always_inline void end_out(struct mesh_end *end, __u32 hook)
{
	__u64 key = end->cookie;

	if (!end_shift(end, MESH_END_LEAVING, MESH_END_LEFT))
		return;
	bpf_map_delete_elem(&mesh_sockets, &key);
	end_uncount(end);
	mesh_count(hook, MESH_REASON_LEFT);
	end->turns = 0;
	if (end->why == MESH_WHY_BULK)
		end_shift(end, MESH_END_LEFT, MESH_END_WATCHED);
}

/* The end as one that looks for the other, or, of_other, the other as it would. */
static __always_inline void offer_key(const struct sock *sk, const struct mesh_end *end, int of_other,
				      struct mesh_suitor_key *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	if (of_other) {
		sock_remote(sk, &ret->local, &ret->local_port_be);
		sock_local(sk, &ret->remote, &ret->remote_port_be);
	} else {
		sock_local(sk, &ret->local, &ret->local_port_be);
		sock_remote(sk, &ret->remote, &ret->remote_port_be);
	}
	ret->netns_cookie = end->loopback ? end->netns_cookie : 0;
	ret->parser = end->parser;
}

#endif
