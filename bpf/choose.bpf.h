/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The choice of an endpoint: a destination of the row by weight, then one of its endpoints as its kind of balancing says. Who is ejected,
 * unhealthy or draining is passed over while anybody else is there: drawn again, then looked for one by one, then in the next level of
 * priority. Larger steps are global functions, which the verifier takes one by one; only numbers and memory cross their borders.
 */
#ifndef BPF_CHOOSE_H
#define BPF_CHOOSE_H

#include "health.bpf.h"

/* Candidates that are drawn before they are looked for one by one. */
#define PICK_TRIES 8
#define PICK_RING_TRIES 32
#define PICK_LEVELS 8 /* U_LEVELS_MAX */
#define PICK_RING_BITS 21

/* What a choice needs and what comes of it. */
struct pick {
	__u64 rng;
	__u64 now;
	__u32 hash; /* of the client's address */
	__u32 pool;
	__u32 cluster_id;
	__u32 backend; /* 0: none */
	__u8 proto;
	__u8 how; /* enum pick_how */
	__u8 local;
	__u8 pad[5];
	struct mesh_affinity_key key; /* these here and not on the stack, which is short below the programs at links */
	struct mesh_affinity fresh;
	__u32 choice, choice_nr, start, found; /* of the search one by one */
};
enum pick_how {
	PICK_PANIC = 1, /* too few are healthy: ejections and checks are overlooked */
	PICK_WARM = 2,	/* who has just come gets less than its share */
};

/* A new connection may go to this backend. */
static __always_inline int is_ready(__u32 backend, __u32 pool_at, __u64 now, __u32 how)
{
	struct mesh_backend *b = bpf_map_lookup_elem(&mesh_backends, &backend);
	struct mesh_pool *pool = bpf_map_lookup_elem(&mesh_pools, &pool_at);
	__u64 until;

	if (!b || !pool || (b->flags & MESH_HEALTH_DRAINS))
		return 0;
	until = *(volatile __u64 *)&b->ejected_until_ns;
	if (until && now >= until) {
		eject_lapse(b, pool, until);
		until = 0;
	}
	if (how & PICK_PANIC)
		return 1;
	if (until || (b->flags & MESH_HEALTH_FAILS))
		return 0;
	if (!pool->warmup_ms || !(how & PICK_WARM))
		return 1;
	return mesh_warm(pool, now - b->since_ns, bpf_get_prandom_u32());
}

__weak __noinline int mesh_ready(__u32 backend, __u32 pool_at, __u64 now, __u32 how)
{
	return is_ready(backend, pool_at, now, how);
}

static __always_inline int ready(const struct pick *p, __u32 backend)
{
	return mesh_ready(backend, p->pool, p->now, p->how);
}

static __always_inline __u32 active_of(__u32 backend)
{
	struct mesh_backend *b = bpf_map_lookup_elem(&mesh_backends, &backend);

	return b ? *(volatile __u32 *)&b->active : 0;
}

/* A target of an alias table by weight, 0: none. */
__weak __noinline int mesh_weighted(__u32 choice, __u32 nr, __u64 sum, __u64 *rng)
{
	struct mesh_choice *column;
	__u64 part;
	__u32 at;

	if (!rng || !mesh_draw(rng, nr, sum, &at, &part))
		return 0;
	at += choice;
	column = bpf_map_lookup_elem(&mesh_choices, &at);
	return column ? (int)mesh_take(column, part) : 0;
}

static __always_inline __u64 entry(const struct mesh_cluster *c, __u32 i)
{
	__u32 at = c->table + i;
	__u64 *e = bpf_map_lookup_elem(&mesh_tables, &at);

	return e ? *e : 0;
}

/* The endpoint of a column. It is known without reading it, as a rule: one of many is in no cache, and says where to read next. */
static __always_inline __u32 primary(const struct mesh_cluster *c, __u32 i)
{
	__u32 at = c->choice + i;
	struct mesh_choice *column;

	if (c->first && !(c->flags & MESH_CLUSTER_STRAYS && entry(c, i / 64) >> i % 64 & 1))
		return c->first + i;
	column = bpf_map_lookup_elem(&mesh_choices, &at);
	return column ? column->primary : 0;
}

/* An endpoint of the level by weight, 0: none. */
static __always_inline __u32 weighted(const struct mesh_cluster *c, struct pick *p)
{
	__u64 i;

	if (!c->first)
		return (__u32)mesh_weighted(c->choice, c->choice_nr, c->weight_sum, &p->rng);
	return mesh_below(&p->rng, c->choice_nr, &i) ? primary(c, (__u32)i) : 0;
}

static __always_inline __u32 pick_random(const struct mesh_cluster *c, struct pick *p)
{
	__u32 i, at;

	for (i = 0; i < PICK_TRIES; i++) {
		at = weighted(c, p);
		if (ready(p, at))
			return at;
	}
	return 0;
}

/*
 * Equal weights: of two that are drawn the one with fewer connections (Mitzenmacher 2001). Unequal ones: of four that are drawn by weight, one
 * with a probability in proportion to 1 / (active + 1): resampled by importance, which is exact by weight where nothing is active, and
 * tends to Envoy's weight / (active + 1).
 */
static __always_inline __u32 pick_least(const struct mesh_cluster *c, struct pick *p)
{
	int uneven = c->flags & MESH_CLUSTER_WEIGHTED;
	__u32 i, at, best = 0, found = 0, want = uneven ? 4 : 2;
	__u64 best_active = 0, total = 0;

	for (i = 0; i < PICK_TRIES && found < want; i++) {
		__u64 active;

		at = weighted(c, p);
		if (!ready(p, at))
			continue;
		found++;
		active = active_of(at);
		if (uneven ? mesh_resample(&p->rng, active, &total) : !best || active < best_active) {
			best = at;
			best_active = active;
		}
	}
	return best;
}

static __always_inline __u32 pick_turn(const struct mesh_cluster *c, struct pick *p)
{
	__u32 i, at, turn, pool_at = p->pool;
	struct mesh_pool *pool = bpf_map_lookup_elem(&mesh_pools, &pool_at);

	for (i = 0; pool && i < PICK_TRIES; i++) {
		turn = __sync_fetch_and_add(&pool->cursor, 1);
		at = c->table_nr ? (__u32)entry(c, turn % c->table_nr) : primary(c, turn % c->choice_nr);
		if (ready(p, at))
			return at;
	}
	return 0;
}

/* The first position at or after the client's hash, or one of the next. */
static __always_inline __u32 pick_ring(const struct mesh_cluster *c, struct pick *p)
{
	__u32 low = 0, high = c->table_nr, i, at;

	for (i = 0; i < PICK_RING_BITS && low < high; i++) {
		__u32 middle = low + (high - low) / 2;

		if (entry(c, middle) >> 32 < p->hash)
			low = middle + 1;
		else
			high = middle;
	}
	for (i = 0; c->table_nr && i < PICK_RING_TRIES; i++) {
		at = (__u32)entry(c, (low + i) % c->table_nr);
		if (ready(p, at))
			return at;
	}
	return 0;
}

static __always_inline __u32 pick_maglev(const struct mesh_cluster *c, struct pick *p)
{
	__u32 i, at;

	for (i = 0; c->table_nr && i < PICK_TRIES; i++) {
		at = (__u32)entry(c, mesh_rehash(p->hash, i) % c->table_nr);
		if (ready(p, at))
			return at;
	}
	return 0;
}

/* bpf_loop() takes a pointer to the stack alone. */
struct scan {
	struct pick *pick;
};

static long scan_one(__u32 i, struct scan *s)
{
	struct pick *p = s->pick;
	__u32 at = p->choice_nr ? p->choice + (p->start + i) % p->choice_nr : 0;
	struct mesh_choice *column = bpf_map_lookup_elem(&mesh_choices, &at);

	if (!column || !is_ready(column->primary, p->pool, p->now, p->how & ~PICK_WARM))
		return 0;
	p->found = column->primary;
	return 1;
}

/* One of the level's endpoints that is ready, 0: none is. */
__weak __noinline int mesh_pick_level(__u32 cluster, struct pick *p)
{
	struct mesh_cluster *c = bpf_map_lookup_elem(&mesh_clusters, &cluster);
	struct scan s = { .pick = p };
	__u32 at = 0, hashes;

	if (!c || !p || !c->choice_nr)
		return 0;
	hashes = c->lb == MESH_LB_RING || c->lb == MESH_LB_MAGLEV;
	if (c->lb == MESH_LB_RING)
		at = pick_ring(c, p);
	else if (c->lb == MESH_LB_MAGLEV)
		at = pick_maglev(c, p);
	else if (c->lb == MESH_LB_ROUND_ROBIN)
		at = pick_turn(c, p);
	else if (c->lb == MESH_LB_LEAST_REQUEST && p->proto == MESH_PROTO_TCP)
		at = pick_least(c, p);
	else
		at = pick_random(c, p);
	if (at)
		return (int)at;
	p->found = 0;
	p->choice = c->choice;
	p->choice_nr = c->choice_nr;
	p->start = (hashes ? p->hash : bpf_get_prandom_u32()) % c->choice_nr;
	bpf_loop(c->choice_nr, scan_one, &s, 0);
	return (int)p->found;
}

/* The level where this connection's search begins, by the shares of the levels. */
static __always_inline __u32 pick_start(__u32 first)
{
	__u32 at = first, part = 100, i;

	for (i = 0; i < PICK_LEVELS; i++) {
		struct mesh_cluster *c = bpf_map_lookup_elem(&mesh_clusters, &at);
		__u32 share = c ? *(volatile __u32 *)&c->share : 100;

		if (!c || !c->next || share >= 100)
			break;
		if (part == 100)
			part = bpf_get_prandom_u32() % 100;
		if (part < share)
			break;
		part -= share;
		at = c->next;
	}
	return at;
}

/* Levels in turn from where the search begins, and those before it last. */
static __always_inline __u32 pick_anew(__u32 first, struct pick *p)
{
	__u32 at = pick_start(first), begin = at, i;

	for (i = 0; i < PICK_LEVELS; i++) {
		struct mesh_cluster *c = bpf_map_lookup_elem(&mesh_clusters, &at);
		__u32 found = c ? (__u32)mesh_pick_level(at, p) : 0;

		if (!c || found)
			return found;
		at = c->next ? c->next : first;
		if (at == begin)
			break;
	}
	return 0;
}

/* Where the client's address went last, when that is to be kept and is ready; 0: nowhere. */
static __always_inline __u32 pick_again(const struct mesh_affinity_key *key, struct pick *p, __u32 keep_s)
{
	struct mesh_affinity *old = bpf_map_lookup_elem(&mesh_affinities, key);
	struct mesh_backend *b;
	__u32 at;

	if (!old || p->now - old->seen_ns > keep_s * 1000 * HEALTH_MS)
		return 0;
	at = old->backend;
	b = bpf_map_lookup_elem(&mesh_backends, &at);
	if (!b || !b->used || b->pool != p->pool || b->proto != p->proto ||
	    !mesh_ready(at, p->pool, p->now, p->how & ~PICK_WARM))
		return 0;
	old->seen_ns = p->now;
	return at;
}

/* An endpoint of the cluster that begins with level `first`, for the client; 0: none is ready. */
__weak __noinline int mesh_pick(__u32 first, const struct mesh_addr *client, struct pick *p, __u32 keep_s)
{
	__u32 at;

	if (!p || !client)
		return 0;
	if (keep_s) {
		p->key.client = *client;
		p->key.pool = p->pool;
		p->key.proto = p->proto;
		p->key.local = p->local;
		at = pick_again(&p->key, p, keep_s);
		if (at)
			return (int)at;
	}
	at = pick_anew(first, p);
	if (at && keep_s) {
		p->fresh.seen_ns = p->now;
		p->fresh.backend = at;
		bpf_map_update_elem(&mesh_affinities, &p->key, &p->fresh, BPF_ANY);
	}
	return (int)at;
}

/* Chooses a destination of the row and an endpoint of that for the client: MESH_REASON_ROUTED with p->backend, or why there is none. */
static __always_inline __u16 choose(const struct mesh_row *row, const struct mesh_addr *client, struct pick *p,
				    struct mesh_backend **ret)
{
	struct mesh_cluster *c;
	struct mesh_pool *pool;
	__u32 first, at;

	p->rng = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	p->backend = p->cluster_id = 0;
	if (!row->choice_nr)
		return MESH_REASON_NO_ENDPOINT;
	first = (__u32)mesh_weighted(row->choice, row->choice_nr, row->weight_sum, &p->rng);
	c = bpf_map_lookup_elem(&mesh_clusters, &first);
	if (!c)
		return MESH_REASON_CORRUPT;
	p->cluster_id = c->cluster_id;
	if (!c->choice_nr)
		return c->flags & MESH_CLUSTER_ELSEWHERE ? MESH_REASON_NO_LOCAL : MESH_REASON_NO_ENDPOINT;
	p->pool = at = c->pool;
	pool = bpf_map_lookup_elem(&mesh_pools, &at);
	if (!pool)
		return MESH_REASON_CORRUPT;
	p->now = bpf_ktime_get_boot_ns();
	p->proto = row->key.proto;
	p->local = !!(c->flags & MESH_CLUSTER_LOCAL);
	p->how = PICK_WARM | (mesh_panics(pool) ? PICK_PANIC : 0);
	p->hash = mesh_addr_hash(client);
	p->backend = at = (__u32)mesh_pick(first, client, p, pool->affinity_s);
	if (!at)
		return MESH_REASON_NO_HEALTHY;
	*ret = bpf_map_lookup_elem(&mesh_backends, &at);
	return *ret ? MESH_REASON_ROUTED : MESH_REASON_CORRUPT;
}

#endif
