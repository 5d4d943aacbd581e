// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The way past TCP: what a socket in mesh_sockets sends goes straight into the other end's queue, where that changes nothing that a program
 * could see, and by TCP otherwise. It never drops: one SK_DROP makes every later send of that socket fail. And the tracepoints of all calls
 * that send and receive, which show whose sockets are fit for it.
 */
#define READ_BY_POINTER 1

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "observe.bpf.h"
#include "udp.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MESSAGE_COST 1024 /* of memory that the smallest message takes, about */
#define SEND_SHUTDOWN_ 2

/* TCP's memory is past half of the way to where it comes under pressure: a redirect would make send() fail there. */
static __always_inline int pressure(const struct sock *sk)
{
	long *marks = sk->__sk_common.skc_prot->sysctl_mem, mark = 0;

	return bpf_probe_read_kernel(&mark, sizeof(mark), marks + 1) ||
	       sk->__sk_common.skc_prot->memory_allocated->counter > mark >> 1;
}

/* The sender's own side. */
static __always_inline __u16 self_bars(const struct mesh_end *end, const struct sock *sk, __u32 size)
{
	struct mesh_control *ctl = mesh_control_get();
	__u8 state = sk->__sk_common.skc_state;

	if (end->state != MESH_END_READY || !ctl || !(ctl->flags & MESH_CONTROL_ACCELERATE))
		return MESH_REASON_NOT_MATCHED;
	if ((state != TCP_ESTABLISHED_ && state != TCP_CLOSE_WAIT_) || (sk->sk_shutdown & SEND_SHUTDOWN_) || sk->sk_err)
		return MESH_REASON_CLOSED;
	if (sk->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY) & 1)
		return MESH_REASON_OPTION;
	/* Rules have changed: links ask them, about packets. */
	if (end->parser && end->epoch != *(volatile __u64 *)&ctl->live)
		return MESH_REASON_LONG_WAY;
	if (end->run + size > ctl->limits.message)
		return MESH_REASON_BULK;
	return pressure(sk) ? MESH_REASON_PRESSURE : MESH_REASON_NONE;
}

/* The other side, and what is under way to it. */
static __always_inline __u16 other_bars(struct mesh_end *end, const struct tcp_sock *tp, const struct other *o,
					__u32 cost)
{
	struct mesh_control *ctl = mesh_control_get();

	if (o->end.state != MESH_END_READY || o->state != TCP_ESTABLISHED_ || !ctl)
		return MESH_REASON_NOT_MATCHED;
	if (o->owned)
		return MESH_REASON_BUSY;
	if (o->rcvlowat > 1)
		return MESH_REASON_OPTION;
	if (all_read(tp->write_seq, end->redirected, &o->end, o->copied_seq))
		end->held = 0;
	else if (!end->redirecting || end->redirect_seq != tp->write_seq)
		return MESH_REASON_NOT_DRAINED;
	return end->held + cost > ctl->limits.held ? MESH_REASON_HELD : MESH_REASON_NONE;
}

/* Netfilter of the node has not seen a byte of it for so long that it is to see some again, should it have come to forbid them. What stays
 * inside a pod it sees none of anyway. */
static __always_inline int lease_over(struct mesh_end *end)
{
	__u16 now = MESH_END_TICK(bpf_ktime_get_coarse_ns());

	if (!end->by_tcp)
		end->by_tcp = now;
	return !end->loopback && (__u16)(now - end->by_tcp) >= MESH_END_LEASE;
}

/* Says how much it is about to send, and looks once more whether the other end takes it: that one looks at how much it was once it has said
 * that it takes no more, so that one of the two sees the other. */
static __always_inline int announce(struct mesh_end *end, __u32 size)
{
	__u32 state = 0;

	__sync_fetch_and_add(&end->redirected, size);
	if (!bpf_probe_read_kernel(&state, sizeof(state),
				   (const char *)(unsigned long)end->peer_self +
					   __builtin_offsetof(struct mesh_end, state)) &&
	    state == MESH_END_READY)
		return 1;
	__sync_fetch_and_add(&end->redirected, -(__u64)size);
	return 0;
}

static __always_inline __u16 redirect(struct sk_msg_md *msg, struct mesh_end *end, struct tcp_sock *tp)
{
	__u32 size = msg->size, cost = size > MESSAGE_COST ? size : MESSAGE_COST;
	__u16 reason = self_bars(end, (struct sock *)tp, size);
	__u64 key = end->peer_cookie;
	struct other o = {};
	int blocks;

	if (reason != MESH_REASON_NONE)
		return reason;
	blocks = end->mode != MESH_ACCELERATE_ON &&
		 (file_blocks(file_of(end->sk)) || file_blocks(file_of(end->peer_sk)));
	if (!other_read(end, &o))
		return MESH_REASON_NOT_MATCHED;
	if (blocks)
		return MESH_REASON_BLOCKING;
	reason = other_bars(end, tp, &o, cost);
	if (reason != MESH_REASON_NONE)
		return reason;
	if (lease_over(end))
		return MESH_REASON_LONG_WAY;
	if (!announce(end, size))
		return MESH_REASON_NOT_MATCHED;
	if (bpf_msg_redirect_hash(msg, &mesh_sockets, &key, BPF_F_INGRESS) != SK_PASS) {
		__sync_fetch_and_add(&end->redirected, -(__u64)size);
		return MESH_REASON_NOT_MATCHED;
	}
	end->held += cost;
	end->redirect_seq = tp->write_seq;
	return MESH_REASON_REDIRECTED;
}

SEC("sk_msg")
int mesh_redirect(struct sk_msg_md *msg)
{
	__u16 reason = MESH_REASON_NOT_MATCHED;
	struct mesh_end *end = NULL;
	struct tcp_sock *tp = NULL;

	if (msg->sk) {
		end = bpf_sk_storage_get(&mesh_ends, msg->sk, 0, 0);
		tp = bpf_skc_to_tcp_sock(msg->sk);
	}
	if (end && tp) {
		reason = redirect(msg, end, tp);
		if (end->redirecting != (reason == MESH_REASON_REDIRECTED))
			mesh_count(MESH_HOOK_REDIRECT, MESH_REASON_SWITCHED);
		end->redirecting = reason == MESH_REASON_REDIRECTED;
		end->bulk = reason == MESH_REASON_BULK || reason == MESH_REASON_LONG_WAY;
		if (!end->redirecting)
			end->by_tcp = MESH_END_TICK(bpf_ktime_get_coarse_ns());
	}
	mesh_count(MESH_HOOK_REDIRECT, reason);
	return SK_PASS;
}

/* Of every socket of the host. */
static __always_inline void called(struct sock *sk, int len, int flags, __u32 hook)
{
	if (!sk)
		return;
	if (sk->sk_protocol == MESH_PROTO_TCP)
		return observe(sk, len, flags, hook);
	if (sk->sk_protocol == MESH_PROTO_UDP)
		return count_udp(sk, len, flags & (MSG_PEEK_ | MSG_ERRQUEUE_), hook);
	mesh_count(hook, MESH_REASON_NOT_HANDLED);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(mesh_send, struct sock *sk, int ret, int flags)
{
	called(sk, ret, flags, MESH_HOOK_SEND);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(mesh_recv, struct sock *sk, int ret, int flags)
{
	called(sk, ret, flags, MESH_HOOK_RECV);
	return 0;
}

/* Steps of ends whose packets do not pass tc, or that send none. Writes a byte for each that stays on its way. */
SEC("iter/tcp")
int mesh_step_ends(struct bpf_iter__tcp *ctx)
{
	struct mesh_control *ctl = mesh_control_get();
	__u8 waits = 1;

	struct sock_common *skc = ctx->sk_common;
	struct tcp_sock *tp = skc ? bpf_skc_to_tcp_sock(skc) : NULL;
	struct mesh_end *end = tp ? bpf_sk_storage_get(&mesh_ends, tp, 0, 0) : NULL;

	if (!end || !tp || !ctl)
		return 0;
	if (!(ctl->flags & MESH_CONTROL_ACCELERATE))
		end_leave(end, MESH_WHY_OFF);
	else
		judge_again(end, tp, ctl->live);
	if (end->state == MESH_END_MATCHED || end->state == MESH_END_LEAVING)
		END_STEP(end, tp, MESH_HOOK_ENDS);
	if (end->state == MESH_END_MATCHED || end->state == MESH_END_LEAVING)
		bpf_seq_write(ctx->meta->seq, &waits, sizeof(waits));
	return 0;
}

/* Every end that has a record, for who asks. */
SEC("iter/tcp")
int mesh_show_ends(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct tcp_sock *tp = skc ? bpf_skc_to_tcp_sock(skc) : NULL;
	struct mesh_end *end = tp ? bpf_sk_storage_get(&mesh_ends, tp, 0, 0) : NULL;

	if (end)
		bpf_seq_write(ctx->meta->seq, end, sizeof(*end));
	return 0;
}
