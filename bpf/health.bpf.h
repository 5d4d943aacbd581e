/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How endpoints fare: active connections, taken before the SYN and given back exactly once, failures in a row, and ejection. All of it
 * goes on without user space. Counts of the pool change before those of the endpoint, both ways: when an endpoint has none left, its
 * pool has none of it either.
 */
#ifndef BPF_HEALTH_H
#define BPF_HEALTH_H

#include "decide.bpf.h"
#include "maps.bpf.h"

#define HEALTH_MS 1000000ull

static __always_inline struct mesh_backend *backend_of(__u32 backend)
{
	return backend ? bpf_map_lookup_elem(&mesh_backends, &backend) : NULL;
}

static __always_inline struct mesh_pool *pool_of(const struct mesh_backend *b)
{
	__u32 at = b ? b->pool : 0;

	return at ? bpf_map_lookup_elem(&mesh_pools, &at) : NULL;
}

/* One connection more of this backend. 0: its cluster has as many as it may. */
__weak __noinline int mesh_slot_take(__u32 backend)
{
	struct mesh_backend *b = backend_of(backend);
	struct mesh_pool *pool = pool_of(b);

	if (!pool || !b)
		return 1;
	if (*(volatile __u32 *)&pool->active >= pool->max_connections)
		goto over;
	if (__sync_fetch_and_add(&pool->active, 1) >= pool->max_connections) {
		__sync_fetch_and_add(&pool->active, (__u32)-1);
		goto over;
	}
	__sync_fetch_and_add(&b->active, 1);
	return 1;
over:
	__sync_fetch_and_add(&pool->overflow, 1);
	return 0;
}

/* The same for one that was chosen some time ago: a handshake may outlast its endpoint, whose place is nobody's then, or another's. */
__weak __noinline int mesh_slot_take_late(__u32 backend, const struct mesh_addr *addr, __u32 port_be)
{
	struct mesh_backend *b = backend_of(backend);

	if (!b || !addr || !*(volatile __u8 *)&b->used || b->port_be != (__u16)port_be || !mesh_addr_eq(&b->addr, addr))
		return 0;
	return mesh_slot_take(backend);
}

__weak __noinline int mesh_slot_give(__u32 backend)
{
	struct mesh_backend *b = backend_of(backend);
	struct mesh_pool *pool = pool_of(b);

	/* As when it was taken: where one is missing nothing was counted. */
	if (!pool || !b)
		return 0;
	__sync_fetch_and_add(&pool->active, (__u32)-1);
	__sync_fetch_and_add(&b->active, (__u32)-1);
	return 0;
}

/* Gives back what `held` says is taken, once, whoever comes first. */
static __always_inline void held_give(__u32 *held, __u32 backend)
{
	if (*(volatile __u32 *)held && __sync_lock_test_and_set(held, 0))
		mesh_slot_give(backend);
}

/* An ejection whose time is over ends with whoever sees that. */
static __always_inline void eject_lapse(struct mesh_backend *b, struct mesh_pool *pool, __u64 until)
{
	if (__sync_val_compare_and_swap(&b->ejected_until_ns, until, 0) == until)
		__sync_fetch_and_add(&pool->ejected, (__u32)-1);
}

static __always_inline void eject(struct mesh_backend *b, struct mesh_tally *tally, struct mesh_pool *pool, __u16 cause)
{
	__u64 now = bpf_ktime_get_boot_ns(), until = *(volatile __u64 *)&b->ejected_until_ns, ms;

	if (until && now >= until)
		eject_lapse(b, pool, until);
	if (__sync_fetch_and_add(&pool->ejected, 1) >= mesh_ejections_max(pool))
		goto back;
	ms = mesh_ejection_ms(pool, *(volatile __u32 *)&tally->ejections + 1);
	if (__sync_val_compare_and_swap(&b->ejected_until_ns, 0, now + ms * HEALTH_MS))
		goto back;
	b->cause = cause;
	tally->ejected_for_ms = (__u32)ms;
	__sync_fetch_and_add(&tally->ejections, 1);
	*(volatile __u32 *)&b->connect_failures = 0;
	*(volatile __u32 *)&b->resets = 0;
	return;
back:
	__sync_fetch_and_add(&pool->ejected, (__u32)-1);
}

/* One more in a row; enough of them eject. */
static __always_inline void failure(struct mesh_backend *b, struct mesh_tally *tally, __u32 *in_a_row, int reset)
{
	struct mesh_pool *pool = pool_of(b);
	__u32 nr = __sync_fetch_and_add(in_a_row, 1) + 1, enough;

	if (!pool || !b->used || !(pool->flags & MESH_POOL_OUTLIER))
		return;
	enough = reset ? pool->resets : pool->connect_failures;
	if (enough && nr >= enough)
		eject(b, tally, pool, reset ? MESH_CAUSE_RESETS : MESH_CAUSE_CONNECT_FAILURES);
}

static __always_inline struct mesh_tally *tally_of(__u32 backend)
{
	return backend ? bpf_map_lookup_elem(&mesh_tallies, &backend) : NULL;
}

static __always_inline void latency(struct mesh_tally *tally, __u32 us)
{
	__u32 was = tally->latency_us;

	if (!us)
		return;
	/* Smoothed as TCP does it (RFC 6298); one of two that come at once may be lost. */
	*(volatile __u32 *)&tally->latency_us = tally->latency_nr ? was + ((__s32)(us - was) >> 3) : us;
	__sync_fetch_and_add(&tally->latency_nr, 1);
}

/* A connection is established. us: round trip of its handshake, 0: not known. */
__weak __noinline int mesh_health_open(__u32 backend, __u32 us)
{
	struct mesh_tally *tally = tally_of(backend);
	struct mesh_backend *b = backend_of(backend);

	if (!b || !tally)
		return 0;
	__sync_fetch_and_add(&tally->opened, 1);
	if (b->connect_failures)
		*(volatile __u32 *)&b->connect_failures = 0;
	latency(tally, us);
	return 0;
}

/* And over, or was never one. answered: the endpoint has sent something. */
__weak __noinline int mesh_health_end(__u32 backend, __u32 state, __u32 reason, __u32 us, int answered)
{
	struct mesh_tally *tally = tally_of(backend);
	struct mesh_backend *b = backend_of(backend);
	int broken;

	if (!b || !tally)
		return 0;
	if (state == MESH_STATE_FAILED) {
		if (!mesh_blames_endpoint(reason))
			return 0;
		__sync_fetch_and_add(&tally->failed, 1);
		failure(b, tally, &b->connect_failures, 0);
		return 0;
	}
	latency(tally, us);
	broken = reason == MESH_REASON_RESET || reason == MESH_REASON_TIMED_OUT;
	if (broken)
		__sync_fetch_and_add(&tally->reset, 1);
	if (broken && !answered)
		failure(b, tally, &b->resets, 1);
	else if (b->resets)
		*(volatile __u32 *)&b->resets = 0;
	return 0;
}

#endif
