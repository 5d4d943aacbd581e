/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The life of a flow record: opened in mesh_flows by the connect hook, updated and closed by whichever hook sees the end,
 * then moved to the ring mesh_closed. No decision is taken here.
 */
#ifndef BPF_FLOW_H
#define BPF_FLOW_H

#include "ctx.bpf.h"
#include "decide.bpf.h"
#include "health.bpf.h"
#include "maps.bpf.h"

enum {
	TCP_ESTABLISHED_ = 1,
	TCP_SYN_SENT_ = 2,
	TCP_SYN_RECV_ = 3,
	TCP_FIN_WAIT1_ = 4,
	TCP_FIN_WAIT2_ = 5,
	TCP_TIME_WAIT_ = 6,
	TCP_CLOSE_ = 7,
	TCP_LAST_ACK_ = 9,
	TCP_LISTEN_ = 10,
	TCP_CLOSING_ = 11,
	TCP_NEW_SYN_RECV_ = 12
};

/* Errors of sk_err that the ends of a flow are told apart by. */
enum { E_CONNREFUSED = 111, E_TIMEDOUT = 110, E_CONNRESET = 104, E_HOSTUNREACH = 113, E_NETUNREACH = 101, E_PIPE = 32 };

/* Writes a closed flow to the ring. A reader takes a record only when seq, seq_end and the index agree before and after. */
static __always_inline void flow_to_ring(const struct mesh_flow *flow, __u64 now)
{
	struct mesh_control *ctl = mesh_control_get();
	struct mesh_flow *slot;
	__u64 seq;
	__u32 at;

	if (!ctl)
		return;
	seq = __sync_fetch_and_add(&ctl->closed_head, 1);
	at = (__u32)seq & closed_mask;
	slot = bpf_map_lookup_elem(&mesh_closed, &at);
	if (!slot)
		return;
	*(volatile __u64 *)&slot->seq = 0;
	barrier();
	__builtin_memcpy((char *)slot + sizeof(slot->seq), (const char *)flow + sizeof(flow->seq),
			 sizeof(*flow) - sizeof(flow->seq));
	slot->closed_ns = now;
	slot->seq_end = seq + 1;
	barrier();
	*(volatile __u64 *)&slot->seq = seq + 1;
}

/* Ends a flow: from the live table to the ring. bytes: sent and received, where the record does not have them itself (UDP). */
static __always_inline void flow_close(__u64 cookie, __u8 state, __u16 reason, const __u64 *bytes)
{
	struct mesh_flow *flow = bpf_map_lookup_elem(&mesh_flows, &cookie);

	if (!flow)
		return;
	held_give(&flow->held, flow->backend);
	flow->state = state;
	flow->reason = reason;
	if (bytes) {
		flow->bytes_sent = bytes[0];
		flow->bytes_received = bytes[1];
	}
	flow_to_ring(flow, bpf_ktime_get_boot_ns());
	bpf_map_delete_elem(&mesh_flows, &cookie);
}

/* Ends the flow of a UDP socket that has called connect(), or what a TCP socket holds without a flow. */
static __always_inline void flow_end(struct mesh_dial *dial, __u8 state, __u16 reason)
{
	__u64 bytes[] = { dial->bytes_sent, dial->bytes_received };
	__u64 cookie = dial->cookie;

	held_give(&dial->held, dial->backend);
	if (!cookie)
		return;
	dial->cookie = 0;
	flow_close(cookie, state, reason, bytes);
}

/* What a TCP socket counts. state is the one to judge a FIN by: at CLOSE, the state before. */
static __always_inline void tcp_seen(const struct tcp_sock *tp, __u32 state, struct mesh_tcp_seen *ret)
{
	ret->bytes_acked = tp->bytes_acked;
	ret->bytes_received = tp->bytes_received;
	ret->bytes_sent = tp->bytes_sent;
	ret->bytes_retrans = tp->bytes_retrans;
	ret->write_seq = tp->write_seq;
	ret->snd_una = tp->snd_una;
	ret->snd_nxt = tp->snd_nxt;
	ret->fin_sent = state == TCP_FIN_WAIT1_ || state == TCP_FIN_WAIT2_ || state == TCP_TIME_WAIT_ ||
			state == TCP_LAST_ACK_ || state == TCP_CLOSING_;
	ret->fin_received = (((struct sock *)tp)->__sk_common.skc_flags >> SOCK_DONE) & 1;
}

static __always_inline int tcp_began(const struct tcp_sock *tp, __u32 state)
{
	struct mesh_tcp_seen seen;

	tcp_seen(tp, state, &seen);
	return mesh_tcp_began(&seen);
}

/* Takes the counters of a TCP socket. Of what went past TCP its record tells: what it sent, and what it has read. */
static __always_inline void flow_count_tcp(struct mesh_flow *flow, struct tcp_sock *tp, __u32 state)
{
	struct mesh_end *end = bpf_sk_storage_get(&mesh_ends, tp, 0, 0);
	struct mesh_tcp_seen seen;

	tcp_seen(tp, state, &seen);
	flow->bytes_sent = mesh_payload_sent(&seen);
	flow->bytes_received = mesh_payload_received(&seen);
	flow->srtt_us = tp->srtt_us >> 3;
	flow->retransmits = tp->total_retrans;
	if (!end)
		return;
	flow->bytes_sent += end->redirected;
	flow->bytes_received += end->past;
	flow->bytes_redirected = end->redirected + end->past;
	flow->path = flow->bytes_redirected ? MESH_PATH_REDIRECT : flow->path;
}

#endif
