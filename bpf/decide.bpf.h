/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision, pure: no map, no helper, no context. Compiled into the hooks, and on the host for unit tests and fuzzing.
 */
#ifndef BPF_DECIDE_H
#define BPF_DECIDE_H

#include "mesh_abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MESH_BE32(x) __builtin_bswap32(x)
#else
#define MESH_BE32(x) (x)
#endif

static __always_inline int mesh_addr_eq(const struct mesh_addr *a, const struct mesh_addr *b)
{
	return a->w_be[0] == b->w_be[0] && a->w_be[1] == b->w_be[1] && a->w_be[2] == b->w_be[2] &&
	       a->w_be[3] == b->w_be[3];
}

static __always_inline int mesh_addr_v4(const struct mesh_addr *a)
{
	return !(a->w_be[0] | a->w_be[1]) && a->w_be[2] == MESH_BE32(0xffff);
}

/* ::ffff:0.0.0.0, what an unbound IPv4 socket shows in the mapped form. */
static __always_inline int mesh_addr_any(const struct mesh_addr *a)
{
	return !(a->w_be[0] | a->w_be[1] | a->w_be[3]) && (!a->w_be[2] || a->w_be[2] == MESH_BE32(0xffff));
}

/* ::ffff:0.0.0.0 or ::, by the family of the address. */
static __always_inline void mesh_addr_any_of(const struct mesh_addr *a, struct mesh_addr *ret)
{
	ret->w_be[0] = ret->w_be[1] = ret->w_be[3] = 0;
	ret->w_be[2] = mesh_addr_v4(a) ? a->w_be[2] : 0;
}

/* No address of somebody else's: unspecified, loopback, link-local, multicast or broadcast. */
static __always_inline int mesh_addr_special(const struct mesh_addr *a)
{
	__u32 first = MESH_BE32(a->w_be[0]), last = MESH_BE32(a->w_be[3]);

	if (mesh_addr_any(a))
		return 1;
	if (mesh_addr_v4(a))
		return last >> 24 == 127 || last >> 16 == 0xa9fe || last >> 28 == 0xe || last == 0xffffffff;
	if (!(a->w_be[0] | a->w_be[1] | a->w_be[2]))
		return last == 1;
	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6;
}

/* The addresses that a pod sees itself under when its own service leads back to it: one of the link-local and one of the unique local
 * addresses, which nothing else uses. */
static __always_inline void mesh_addr_loop_of(int v4, struct mesh_addr *ret)
{
	ret->w_be[0] = v4 ? 0 : MESH_BE32(0xfd74756c);
	ret->w_be[1] = v4 ? 0 : MESH_BE32(0x6c650000);
	ret->w_be[2] = v4 ? MESH_BE32(0xffff) : 0;
	ret->w_be[3] = v4 ? MESH_BE32(0xa9fe7475) : MESH_BE32(1);
}

static __always_inline int mesh_addr_loop(const struct mesh_addr *a)
{
	struct mesh_addr loop;

	mesh_addr_loop_of(mesh_addr_v4(a), &loop);
	return mesh_addr_eq(a, &loop);
}

/* The first len bits of the addresses are equal. */
static __always_inline int mesh_addr_match(const struct mesh_addr *a, const struct mesh_addr *b, __u32 len)
{
	int i;

	for (i = 0; i < 4; i++) {
		__u32 bits = len > 32 ? 32 : len;
		__u32 mask = bits ? MESH_BE32(~0u << (32 - bits)) : 0;

		if ((a->w_be[i] ^ b->w_be[i]) & mask)
			return 0;
		len -= bits;
	}
	return 1;
}

/* The row speaks of this key: it is the row's own key, or an address in its network. */
static __always_inline int mesh_row_is(const struct mesh_row *row, const struct mesh_key *key)
{
	return row->key.scope == key->scope && row->key.port_be == key->port_be && row->key.proto == key->proto &&
	       (row->key.prefix_len == 128 ? mesh_addr_eq(&row->key.addr, &key->addr)
					   : mesh_addr_match(&row->key.addr, &key->addr, row->key.prefix_len));
}

/* A socket bound to this address may speak for the pod. */
static __always_inline int mesh_pod_owns(const struct mesh_pod *pod, const struct mesh_addr *local)
{
	return mesh_addr_any(local) || mesh_addr_eq(local, &pod->addr[0]) || mesh_addr_eq(local, &pod->addr[1]);
}

/* splitmix64 (Steele, Lea, Flood 2014): the seed is 64 fresh random bits, each step is a bijection of its state. */
static __always_inline __u64 mesh_random(__u64 *state)
{
	__u64 z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Uniform number below bound (bound >= 1), by masking and drawing again, so there is no modulo bias. False: gave up. */
static __always_inline int mesh_below(__u64 *state, __u64 bound, __u64 *ret)
{
	__u64 mask = bound - 1;
	int i;

	mask |= mask >> 1;
	mask |= mask >> 2;
	mask |= mask >> 4;
	mask |= mask >> 8;
	mask |= mask >> 16;
	mask |= mask >> 32;
	for (i = 0; i < MESH_DRAWS_MAX; i++) {
		__u64 r = mesh_random(state) & mask;

		if (r < bound) {
			*ret = r;
			return 1;
		}
	}
	return 0;
}

/* One draw in an alias table of nr columns with weight sum: which column, and the number to hold against its threshold. */
static __always_inline int mesh_draw(__u64 *state, __u32 nr, __u64 sum, __u32 *ret_column, __u64 *ret_part)
{
	__u64 r;

	if (!nr || !sum)
		return 0;
	if (!mesh_below(state, nr * sum, &r))
		return 0;
	*ret_column = (__u32)(r / sum);
	*ret_part = r % sum;
	return 1;
}

static __always_inline __u32 mesh_take(const struct mesh_choice *column, __u64 part)
{
	return part < column->threshold ? column->primary : column->alias;
}

/* ---- balancing and health ---- */

/* 32 bits of an address, the same on every node. */
static __always_inline __u32 mesh_addr_hash(const struct mesh_addr *a)
{
	__u64 z = (__u64)a->w_be[0] << 32 | a->w_be[1];

	z = mesh_random(&z) ^ ((__u64)a->w_be[2] << 32 | a->w_be[3]);
	return (__u32)(mesh_random(&z) >> 32);
}

/* The hash of the n-th attempt. */
static __always_inline __u32 mesh_rehash(__u32 hash, __u32 n)
{
	__u64 z = (__u64)n << 32 | hash;

	return n ? (__u32)(mesh_random(&z) >> 32) : hash;
}

/* Takes a candidate instead of those before it, with 1 / (active + 1) of all such terms so far. */
static __always_inline int mesh_resample(__u64 *rng, __u64 active, __u64 *total)
{
	__u64 part = (1ull << 24) / (active + 1) + 1;

	*total += part;
	return ((mesh_random(rng) >> 32) * *total) >> 32 < part;
}

/* Too few of the pool's endpoints are well for that to matter. */
static __always_inline int mesh_panics(const struct mesh_pool *pool)
{
	__u64 ill = (__u64)pool->ejected + pool->unhealthy, all = pool->endpoint_nr;

	if (!pool->min_health_percent)
		return 0;
	return ill >= all || (all - ill) * 100 < all * pool->min_health_percent;
}

/* How many of the pool's endpoints may be ejected at once: one in any case. */
static __always_inline __u32 mesh_ejections_max(const struct mesh_pool *pool)
{
	__u32 max = (__u32)((__u64)pool->endpoint_nr * pool->max_ejection_percent / 100);

	return max ? max : 1;
}

/* Longer each time; as long as the first at least, whatever the limit. */
static __always_inline __u64 mesh_ejection_ms(const struct mesh_pool *pool, __u32 times)
{
	__u64 ms = (__u64)pool->base_ejection_ms * times;
	__u64 max = pool->max_ejection_ms > pool->base_ejection_ms ? pool->max_ejection_ms : pool->base_ejection_ms;

	return ms < max ? ms : max;
}

/* An endpoint of this age is taken, being drawn: it has its share of connections in its warm-up. */
static __always_inline int mesh_warm(const struct mesh_pool *pool, __u64 age_ns, __u32 random)
{
	__u64 window = (__u64)pool->warmup_ms * 1000000;
	__u64 step = age_ns < window ? age_ns / (window / MESH_WARMUP_STEPS) : MESH_WARMUP_STEPS;

	return step >= MESH_WARMUP_STEPS || (random & 0xffff) <= pool->warmup[step & (MESH_WARMUP_STEPS - 1)];
}

/* A connection that was never established for this reason speaks against its endpoint. */
static __always_inline int mesh_blames_endpoint(__u32 reason)
{
	return reason == MESH_REASON_REFUSED || reason == MESH_REASON_TIMED_OUT || reason == MESH_REASON_UNREACHABLE ||
	       reason == MESH_REASON_RESET;
}

/* ---- policies ---- */

/* A connection as a policy sees it. */
struct mesh_subject {
	struct mesh_addr source, destination; /* the server's on the wire */
	__u32 identity;			      /* of the source, 0: none */
	__u16 port;			      /* the server's on the wire, host order */
	__u16 pad;
};

enum mesh_verdict { MESH_VERDICT_NONE = 0, MESH_VERDICT_ALLOW = MESH_OP_ALLOW, MESH_VERDICT_DENY = MESH_OP_DENY };

/* A test of a policy program but MESH_OP_IDENTITY, which needs mesh_bits. */
static __always_inline int mesh_term_hits(const struct mesh_term *t, const struct mesh_subject *s)
{
	switch (t->op) {
	case MESH_OP_SOURCE:
		return mesh_addr_match(&s->source, &t->addr, t->nr);
	case MESH_OP_DESTINATION:
		return mesh_addr_match(&s->destination, &t->addr, t->nr);
	case MESH_OP_PORT:
		return s->port >= t->arg && s->port <= t->nr;
	}
	return 0;
}

/* What a TCP socket tells about its flow; the numbers of struct tcp_sock (RFC 4898 names in tcp_info). */
struct mesh_tcp_seen {
	__u64 bytes_acked;
	__u64 bytes_received;
	__u64 bytes_sent; /* with retransmissions */
	__u64 bytes_retrans;
	__u32 write_seq;
	__u32 snd_una;
	__u32 snd_nxt;
	int fin_sent; /* state says that a FIN is in the send queue or beyond */
	int fin_received;
};

/* Payload: the SYN counts as one byte acknowledged on the connecting side, a FIN as one in each direction. */
static __always_inline __u64 mesh_payload_sent(const struct mesh_tcp_seen *t)
{
	__u64 n = t->bytes_acked;

	if (n)
		n--;
	if (n && t->fin_sent && t->snd_una == t->write_seq)
		n--;
	return n;
}

/*
 * Whether this end began the connection. TCP does not keep that, but of all that is acknowledged or on its way (but a FIN) only the
 * SYN of whoever connects is counted there and not among the bytes sent. What does not add up (TCP_REPAIR) is taken for the other end.
 */
static __always_inline int mesh_tcp_began(const struct mesh_tcp_seen *t)
{
	__u64 seen = t->bytes_acked + (__u32)(t->snd_nxt - t->snd_una), sent = t->bytes_sent - t->bytes_retrans;

	if (t->fin_sent && t->snd_nxt == t->write_seq)
		sent++;
	return seen == sent + 1;
}

static __always_inline __u64 mesh_payload_received(const struct mesh_tcp_seen *t)
{
	return t->bytes_received && t->fin_received ? t->bytes_received - 1 : t->bytes_received;
}

#endif
