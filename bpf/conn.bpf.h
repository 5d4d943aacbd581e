/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections of the tc path: found by any of their views, opened, followed packet by packet, confirmed, ended. A new one is in
 * mesh_conns_new, where newer ones push it out; once both ends have answered each other it moves to mesh_conns, where it stays until it
 * ends or its timer does. An element may be recycled while it is read, so whoever finds one compares its tuple.
 */
#ifndef BPF_CONN_H
#define BPF_CONN_H

#include "flow.bpf.h"
#include "maps.bpf.h"
#include "pkt.bpf.h"
#include "relay.bpf.h"
#include "tuple.bpf.h"

#define CLOCK_BOOTTIME_ 7
#define ENOMEM_ 12
#define SECOND 1000000000ull

/* mesh_keys: tuples in the making, off the stack. One a CPU is enough: tc programs and timers run with softirqs off. */
struct conn_keys {
	struct mesh_tuple key, value, view, wire;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct conn_keys);
} mesh_keys SEC(".maps");

static __always_inline struct conn_keys *conn_keys(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&mesh_keys, &zero);
}

/* Elements are made from this and filled in place: they have no room on a stack. */
static const struct mesh_conn_slot conn_nothing;

static const __u32 conn_seconds[MESH_CONN_STATE_NR] = {
#define X(name, seconds) [MESH_CONN_##name] = seconds,
	MESH_CONN_STATES(X)
#undef X
};

/* The connection with this tuple on the wire (kind WIRE); NULL: none. */
static __always_inline struct mesh_conn *conn_get(const struct mesh_tuple *wire)
{
	struct mesh_conn_slot *slot = bpf_map_lookup_elem(&mesh_conns, wire);

	if (!slot)
		slot = bpf_map_lookup_elem(&mesh_conns_new, wire);
	if (!slot || !tuple_from_client(wire, &slot->conn.wire))
		return NULL;
	return &slot->conn;
}

/* What a packet or socket finds of a connection. */
struct conn_found {
	struct mesh_conn *conn; /* NULL: none */
	__u8 view;		/* enum mesh_tuple_kind */
	__u8 reply;		/* the packet comes from the server */
};

/* The connection that `t` (client: source, server: destination) belongs to, by whichever of its views. */
static __always_inline void conn_find(const struct mesh_tuple *t, struct conn_found *ret)
{
	struct conn_keys *k = conn_keys();
	struct mesh_tuple *at;
	struct mesh_conn *conn;

	ret->conn = NULL;
	if (!k)
		return;
	tuple_key(t, &k->key);
	at = bpf_map_lookup_elem(&mesh_nats, &k->key);
	if (!at)
		at = bpf_map_lookup_elem(&mesh_nats_new, &k->key);
	if (!at)
		return;
	ret->view = at->kind;
	k->wire = *at;
	k->wire.kind = MESH_TUPLE_WIRE;
	conn = conn_get(&k->wire);
	if (!conn)
		return;
	if (ret->view == MESH_TUPLE_MASQ) {
		k->wire.client = conn->masq;
		k->wire.client_port_be = conn->masq_port_be;
	} else if (ret->view == MESH_TUPLE_DIALLED) {
		k->wire = conn->dialled;
	}
	ret->reply = tuple_from_server(t, &k->wire);
	if (ret->reply || tuple_from_client(t, &k->wire))
		ret->conn = conn;
}

/* ---- opening ---- */

static __always_inline void index_put(const struct mesh_tuple *view, const struct mesh_tuple *wire, __u8 kind,
				      int confirmed)
{
	struct conn_keys *k = conn_keys();

	if (!k)
		return;
	tuple_key(view, &k->key);
	k->value = *wire;
	k->value.kind = kind;
	if (confirmed)
		bpf_map_update_elem(&mesh_nats, &k->key, &k->value, BPF_ANY);
	else
		bpf_map_update_elem(&mesh_nats_new, &k->key, &k->value, BPF_ANY);
}

/* Takes a view away again, unless another connection has it by now. */
static __always_inline void index_drop(const struct mesh_tuple *view, const struct mesh_tuple *wire, int confirmed)
{
	struct conn_keys *k = conn_keys();
	struct mesh_tuple *at;

	if (!k)
		return;
	tuple_key(view, &k->key);
	at = confirmed ? bpf_map_lookup_elem(&mesh_nats, &k->key) : bpf_map_lookup_elem(&mesh_nats_new, &k->key);
	if (!at || !tuple_from_client(at, wire))
		return;
	if (confirmed)
		bpf_map_delete_elem(&mesh_nats, &k->key);
	else
		bpf_map_delete_elem(&mesh_nats_new, &k->key);
}

static __always_inline void masq_view(const struct mesh_conn *conn, struct mesh_tuple *ret)
{
	*ret = conn->wire;
	ret->client = conn->masq;
	ret->client_port_be = conn->masq_port_be;
}

static __always_inline void index_put_all(const struct mesh_conn *conn, int confirmed)
{
	struct conn_keys *k = conn_keys();

	index_put(&conn->wire, &conn->wire, MESH_TUPLE_WIRE, confirmed);
	if (conn->flags & MESH_CONN_NAT)
		index_put(&conn->dialled, &conn->wire, MESH_TUPLE_DIALLED, confirmed);
	if (!conn->masq_port_be || !k)
		return;
	masq_view(conn, &k->view);
	index_put(&k->view, &conn->wire, MESH_TUPLE_MASQ, confirmed);
}

static __always_inline void index_drop_all(const struct mesh_conn *conn, int confirmed)
{
	struct conn_keys *k = conn_keys();

	index_drop(&conn->wire, &conn->wire, confirmed);
	if (conn->flags & MESH_CONN_NAT)
		index_drop(&conn->dialled, &conn->wire, confirmed);
	if (!conn->masq_port_be || !k)
		return;
	masq_view(conn, &k->view);
	index_drop(&k->view, &conn->wire, confirmed);
}

/* Seconds without a packet after which the connection is over. A client that got no answer sends its SYN again after about as long
 * as it has tried so far, plus one second (RFC 6298); one that does not has given up. */
static __always_inline __u64 conn_patience(const struct mesh_conn *conn)
{
	__u32 state = conn->state;

	if (state == MESH_CONN_SYN)
		return conn->seen_ns - conn->flow.opened_ns + 4 * SECOND;
	if (state >= MESH_CONN_STATE_NR)
		return SECOND;
	return conn_seconds[state] * SECOND;
}

/* The server has sent bytes, acknowledged or not yet. */
static __always_inline int conn_answered(const struct mesh_conn *conn)
{
	return conn->flow.bytes_received || conn->seq_end[1] != conn->acked[1];
}

static __always_inline void conn_report(struct mesh_conn *conn, __u8 state, __u16 reason)
{
	__u64 now = bpf_ktime_get_boot_ns();

	conn->flow.state = state;
	conn->flow.reason = reason;
	conn->flow.closed_ns = now;
	held_give(&conn->flow.held, conn->flow.backend);
	if (conn->relayed)
		relay_give(conn);
	if (!(conn->flags & MESH_CONN_RECORD))
		return;
	conn->flags &= ~MESH_CONN_RECORD;
	if (conn->wire.proto == MESH_PROTO_TCP)
		mesh_health_end(conn->flow.backend, state, reason, 0, conn_answered(conn));
	flow_to_ring(&conn->flow, now);
}

/* When the element goes, not when the connection ends: whoever opens and ends them quickly would fill the table with what is over. */
static __always_inline void quota_give_back(struct mesh_conn *conn)
{
	__u32 ifindex = conn->quota;
	struct mesh_load *load;

	if (conn->relayed)
		relay_give(conn);
	if (!ifindex)
		return;
	conn->quota = 0;
	load = bpf_map_lookup_elem(&mesh_loads, &ifindex);
	if (load)
		__sync_fetch_and_add(&load->established, (__u32)-1);
}

/* Ends a connection that nobody hears of any more, with the reason that its state suggests. The caller deletes its element. */
static __always_inline void conn_over(struct mesh_conn *conn, int confirmed)
{
	__u8 failed = conn->state == MESH_CONN_SYN || conn->state == MESH_CONN_SYN_ACK;
	__u16 reason = conn->flow.reason;

	if (!reason)
		reason = failed				 ? MESH_REASON_TIMED_OUT
			 : conn->state == MESH_CONN_OPEN ? MESH_REASON_EXPIRED
							 : MESH_REASON_CLOSED;
	conn_report(conn, failed ? MESH_STATE_FAILED : MESH_STATE_CLOSED, reason);
	quota_give_back(conn);
	index_drop_all(conn, confirmed);
}

/* Timers run out together, some fifteen times a second: an interrupt for each connection costs more than all the rest of its end. */
static __always_inline void timer_run(struct bpf_timer *timer, __u64 left)
{
	__u64 now = bpf_ktime_get_boot_ns();

	bpf_timer_start(timer, ((now + left) | ((1ull << 26) - 1)) - now, 0);
}

/* The timer's question: is it over? Nanoseconds until the next look, 0: it was, and its views are gone. */
static __always_inline __u64 conn_due(struct mesh_conn *conn, int confirmed)
{
	__u64 now = bpf_ktime_get_boot_ns(), over = conn->seen_ns + conn_patience(conn);

	if (now < over)
		return over - now;
	conn_over(conn, confirmed);
	mesh_count(MESH_HOOK_CONN_TIMER, MESH_REASON_EXPIRED);
	return 0;
}

static int conn_timer(void *map, struct mesh_tuple *key, struct mesh_conn_slot *slot)
{
	__u64 left = conn_due(&slot->conn, 1);

	if (left)
		timer_run(&slot->timer, left);
	else
		bpf_map_delete_elem(&mesh_conns, key);
	return 0;
}

static int conn_new_timer(void *map, struct mesh_tuple *key, struct mesh_conn_slot *slot)
{
	__u64 left = conn_due(&slot->conn, 0);

	if (left)
		timer_run(&slot->timer, left);
	else
		bpf_map_delete_elem(&mesh_conns_new, key);
	return 0;
}

/* Ends the connection now and forgets it. */
static __always_inline void conn_drop(struct mesh_conn *conn)
{
	struct conn_keys *k = conn_keys();

	if (!k)
		return;
	conn_over(conn, 0);
	index_drop_all(conn, 1);
	k->wire = conn->wire;
	bpf_map_delete_elem(&mesh_conns, &k->wire);
	bpf_map_delete_elem(&mesh_conns_new, &k->wire);
}

/*
 * A new element for a connection with this tuple on the wire, all zero but wire, dialled (the same) and times. NULL: there is no room
 * (or somebody else opened it this instant). The caller fills it in, then calls conn_begin().
 */
static __always_inline struct mesh_conn *conn_open(const struct mesh_tuple *wire)
{
	struct mesh_conn_slot *slot;
	struct mesh_conn *conn;

	if (bpf_map_update_elem(&mesh_conns_new, wire, &conn_nothing, BPF_NOEXIST))
		return NULL;
	slot = bpf_map_lookup_elem(&mesh_conns_new, wire);
	if (!slot)
		return NULL;
	conn = &slot->conn;
	conn->wire = *wire;
	conn->dialled = *wire;
	conn->dialled.kind = MESH_TUPLE_DIALLED;
	conn->seen_ns = bpf_ktime_get_boot_ns();
	conn->flow.opened_ns = conn->seen_ns;
	conn->flow.cookie = 1ull << 63 | (__u64)bpf_get_smp_processor_id() << 52 | (conn->seen_ns & ((1ull << 52) - 1));
	conn->flow.proto = wire->proto;
	conn->flow.path = MESH_PATH_TC;
	conn->state = wire->proto == MESH_PROTO_TCP ? MESH_CONN_SYN : MESH_CONN_UDP_NEW;
	conn->flow.state = wire->proto == MESH_PROTO_TCP ? MESH_STATE_CONNECTING : MESH_STATE_ESTABLISHED;
	return conn;
}

/* From now on segments at this interface may belong to a connection (fast.bpf.h). */
static __always_inline void tracks_tcp(__u32 ifindex)
{
	struct mesh_load *load = bpf_map_lookup_elem(&mesh_loads, &ifindex);

	if (load && !load->tracks)
		*(volatile __u32 *)&load->tracks = 1;
}

/* The filled connection can be found, and its time runs. */
static __always_inline void conn_begin(struct mesh_conn *conn)
{
	struct mesh_conn_slot *slot = bpf_map_lookup_elem(&mesh_conns_new, &conn->wire);

	if (!slot)
		return;
	if (conn->wire.proto == MESH_PROTO_TCP)
		tracks_tcp(conn->ifindex);
	index_put_all(conn, 0);
	if (bpf_timer_init(&slot->timer, &mesh_conns_new, CLOCK_BOOTTIME_))
		return;
	bpf_timer_set_callback(&slot->timer, conn_new_timer);
	timer_run(&slot->timer, conn_patience(conn));
}

/* ---- following ---- */

/* Gives a connection that was confirmed without its timer one: that which has waited longest, or it waits on. */
static __noinline int conn_arm(void)
{
	struct conn_keys *k = conn_keys();
	struct mesh_conn_slot *slot;
	__u8 state;
	long rc;

	if (!k || bpf_map_pop_elem(&mesh_untimed, &k->wire))
		return 0;
	slot = bpf_map_lookup_elem(&mesh_conns, &k->wire);
	if (!slot)
		return 0;
	rc = bpf_timer_init(&slot->timer, &mesh_conns, CLOCK_BOOTTIME_);
	if (rc == -ENOMEM_)
		return bpf_map_push_elem(&mesh_untimed, &k->wire, 0);
	/* Another connection with the same ends has its timer. */
	if (rc)
		return 0;
	bpf_timer_set_callback(&slot->timer, conn_timer);
	state = *(volatile __u8 *)&slot->conn.state;
	timer_run(&slot->timer, conn_patience(&slot->conn));
	/* It has ended meanwhile: the earlier time that was set then is not to be undone. */
	if (*(volatile __u8 *)&slot->conn.state != state)
		timer_run(&slot->timer, conn_patience(&slot->conn));
	return 1;
}

/* Its state has less patience now: the timer looks again in time. */
static __always_inline void conn_hurry(struct mesh_conn *conn)
{
	struct mesh_conn_slot *slot = bpf_map_lookup_elem(&mesh_conns, &conn->wire);

	if (!slot)
		slot = bpf_map_lookup_elem(&mesh_conns_new, &conn->wire);
	if (slot)
		timer_run(&slot->timer, conn_patience(conn));
	conn_arm();
}

/* It may not go on: whatever comes next of it is answered by a reset. It keeps its place until then, as if it were open: without it, a
 * packet that comes days later would go unanswered. */
static __always_inline void conn_cut(struct mesh_conn *conn, __u16 reason)
{
	conn->flags |= MESH_CONN_CUT;
	conn_report(conn, MESH_STATE_CLOSED, reason);
}

/* A packet of one that was cut has come: both ends hear of it from now on, or never. */
static __always_inline void conn_cut_seen(struct mesh_conn *conn)
{
	if (conn->state == MESH_CONN_CLOSED)
		return;
	conn->state = MESH_CONN_CLOSED;
	quota_give_back(conn);
	conn_hurry(conn);
}

/* Takes one of the connections that the interface's pod may have. 0: it has as many as that already. */
static __always_inline int quota_take(__u32 ifindex)
{
	struct mesh_control *ctl = mesh_control_get();
	struct mesh_load *load = bpf_map_lookup_elem(&mesh_loads, &ifindex);

	if (!ctl || !load)
		return 1;
	if (__sync_fetch_and_add(&load->established, 1) < ctl->pod_conns)
		return 1;
	__sync_fetch_and_add(&load->established, (__u32)-1);
	return 0;
}

/*
 * Both ends have answered each other: from the table that newcomers push out of to the one that nothing does. When there is no room,
 * or the pod has its share, it goes on where it is. Returns the connection where it is then.
 */
static __always_inline struct mesh_conn *conn_confirm(struct mesh_conn *conn, __u32 hook)
{
	struct mesh_conn_slot *slot;
	__u32 ifindex = conn->ifindex;
	int timed;

	/* It is there since its SYN. */
	if (conn->quota)
		return conn;
	if (!quota_take(ifindex)) {
		mesh_count(hook, MESH_REASON_CONN_LIMIT);
		return conn;
	}
	if (bpf_map_update_elem(&mesh_conns, &conn->wire, &conn_nothing, BPF_NOEXIST)) {
		conn->quota = ifindex;
		quota_give_back(conn);
		mesh_count(hook, MESH_REASON_CONN_TABLE_FULL);
		return conn;
	}
	slot = bpf_map_lookup_elem(&mesh_conns, &conn->wire);
	if (!slot) {
		conn->quota = ifindex;
		quota_give_back(conn);
		return conn;
	}
	/* Before it can be found here: whoever sees it end sets an earlier time, which this one must not undo. */
	timed = !bpf_timer_init(&slot->timer, &mesh_conns, CLOCK_BOOTTIME_);
	if (timed) {
		bpf_timer_set_callback(&slot->timer, conn_timer);
		timer_run(&slot->timer, conn_patience(conn));
	}
	__builtin_memcpy(&slot->conn, conn, sizeof(slot->conn));
	slot->conn.quota = ifindex;
	if (conn->wire.proto == MESH_PROTO_TCP && conn->flow.backend)
		slot->conn.flow.held = (conn->flags & MESH_CONN_KEPT) ||
				       mesh_slot_take_late(conn->flow.backend, &slot->conn.flow.chosen,
							   slot->conn.flow.chosen_port_be);
	index_put_all(&slot->conn, 1);
	index_drop_all(&slot->conn, 0);
	bpf_map_delete_elem(&mesh_conns_new, &slot->conn.wire);
	conn_arm();
	if (!timed && bpf_map_push_elem(&mesh_untimed, &slot->conn.wire, 0))
		mesh_count(hook, MESH_REASON_CONN_TABLE_FULL);
	return &slot->conn;
}

/* b is at or after a, in sequence numbers. */
static __always_inline int seq_after(__u32 b, __u32 a)
{
	return (__s32)(b - a) > 0;
}

#define ACKED_TRIES 3

/* What `p`, sent in direction `dir`, acknowledges of the other one. Two that say so may be on two CPUs: each byte is counted by one of them. */
static __always_inline void conn_acked(struct mesh_conn *conn, const struct pkt *p, int dir)
{
	__u32 other = !dir, *acked = &conn->acked[other & 1], was = *(volatile __u32 *)acked, now;
	__u64 bytes;

	if (!(p->tcp_flags & TCP_ACK))
		return;
	for (int i = 0;; i++, was = now) {
		if (i == ACKED_TRIES || p->ack == was || p->ack - was > 0x7fffffff)
			return;
		now = __sync_val_compare_and_swap(acked, was, p->ack);
		if (now == was)
			break;
	}
	/* The first acknowledgement that is seen says where counting begins; then a SYN's or FIN's number is no byte. */
	bytes = was ? p->ack - was : 0;
	if ((conn->fin >> other & 1) && p->ack == conn->seq_end[other & 1] && !(conn->fin >> (other + 2) & 1)) {
		conn->fin |= 4 << other;
		if (bytes)
			bytes--;
	}
	/* Whoever counts what goes past TCP (legs.bpf.h) may be on another CPU. */
	if (bytes)
		__sync_fetch_and_add(other ? &conn->flow.bytes_received : &conn->flow.bytes_sent, bytes);
}

/* A reset counts when its number is one that the other end would take: not before what it acknowledged, nor far beyond. */
static __always_inline int reset_counts(const struct mesh_conn *conn, const struct pkt *p, int dir)
{
	return conn->state <= MESH_CONN_SYN_ACK || p->seq - conn->acked[dir & 1] < 1u << 30;
}

/* Sequence numbers of one segment. */
static __always_inline void conn_sent(struct mesh_conn *conn, const struct pkt *p, int dir)
{
	__u32 end = p->seq + p->payload + !!(p->tcp_flags & TCP_SYN) + !!(p->tcp_flags & TCP_FIN);

	if (p->tcp_flags & TCP_SYN) {
		if (conn->acked[dir & 1] == p->seq + 1)
			conn->flow.retransmits++;
		conn->seq_end[dir & 1] = end;
		conn->acked[dir & 1] = p->seq + 1;
		return;
	}
	if (p->payload && conn->seq_end[dir & 1] && !seq_after(end, conn->seq_end[dir & 1]))
		conn->flow.retransmits++;
	if (!conn->seq_end[dir & 1] || seq_after(end, conn->seq_end[dir & 1]))
		conn->seq_end[dir & 1] = end;
	if (p->tcp_flags & TCP_FIN)
		conn->fin |= 1 << dir;
}

/* State of a TCP connection after this segment. */
static __always_inline __u8 conn_next(const struct mesh_conn *conn, const struct pkt *p, int dir)
{
	if (conn->state == MESH_CONN_CLOSED || (conn->fin & 12) == 12)
		return MESH_CONN_CLOSED;
	if (conn->fin & 3)
		return MESH_CONN_FIN;
	if (conn->state == MESH_CONN_SYN && dir)
		return MESH_CONN_SYN_ACK;
	if (conn->state == MESH_CONN_SYN_ACK && !dir && !(p->tcp_flags & TCP_SYN))
		return MESH_CONN_OPEN;
	return conn->state;
}

static __always_inline void conn_reset(struct mesh_conn *conn, int dir)
{
	int early = conn->state <= MESH_CONN_SYN_ACK;

	if (dir)
		conn_report(conn, early ? MESH_STATE_FAILED : MESH_STATE_CLOSED,
			    early ? MESH_REASON_REFUSED : MESH_REASON_RESET);
	else
		conn_report(conn, early ? MESH_STATE_FAILED : MESH_STATE_CLOSED,
			    early ? MESH_REASON_ABORTED : MESH_REASON_CLOSED);
	conn->state = MESH_CONN_CLOSED;
	conn_hurry(conn);
}

static __always_inline struct mesh_conn *conn_tcp(struct mesh_conn *conn, const struct pkt *p, int dir, __u32 hook)
{
	__u8 was = conn->state, state;

	conn_acked(conn, p, dir);
	if (p->tcp_flags & TCP_RST) {
		if (was != MESH_CONN_CLOSED && reset_counts(conn, p, dir))
			conn_reset(conn, dir);
		return conn;
	}
	conn_sent(conn, p, dir);
	state = conn_next(conn, p, dir);
	if (state == was)
		return conn;
	conn->state = state;
	if (state == MESH_CONN_OPEN) {
		conn->flow.state = MESH_STATE_ESTABLISHED;
		conn->flow.reason = MESH_REASON_NONE;
		mesh_health_open(conn->flow.backend, 0);
		return conn_confirm(conn, hook);
	}
	if (state == MESH_CONN_CLOSED)
		conn_report(conn, MESH_STATE_CLOSED, MESH_REASON_CLOSED);
	else if (state == MESH_CONN_FIN)
		conn->flow.state = MESH_STATE_CLOSING;
	if (state == MESH_CONN_FIN || state == MESH_CONN_CLOSED)
		conn_hurry(conn);
	return conn;
}

static __always_inline struct mesh_conn *conn_udp(struct mesh_conn *conn, const struct pkt *p, int dir, __u32 hook)
{
	if (dir)
		conn->flow.bytes_received += p->payload;
	else
		conn->flow.bytes_sent += p->payload;
	if (conn->state != MESH_CONN_UDP_NEW || !dir)
		return conn;
	conn->state = MESH_CONN_UDP;
	return conn_confirm(conn, hook);
}

/* Takes a packet into account. dir 0: the client's. Returns the connection where it is then. */
static __always_inline struct mesh_conn *conn_follow(struct mesh_conn *conn, const struct pkt *p, int dir, __u32 hook)
{
	conn->packets[dir & 1]++;
	conn->seen_ns = bpf_ktime_get_boot_ns();
	return conn->wire.proto == MESH_PROTO_TCP ? conn_tcp(conn, p, dir, hook) : conn_udp(conn, p, dir, hook);
}

#endif
