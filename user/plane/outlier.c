/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interval work of outlier detection, as Envoy does it: ejections end, who was well is forgiven one of them; beyond Envoy, who is far slower
 * than its peers is ejected. And shares of levels of priority. Failures in a row are the kernel's business, which ejects on its own.
 */
#include "plane/health_int.h"

#include <stdlib.h>

#include "base/arena.h"
#include "plane/shares.h"

/* Of an interval: with fewer round trips an endpoint is not judged. */
#define LATENCY_SAMPLES_MIN 3u

static bool swap64(__u64 *at, __u64 from, __u64 to)
{
	return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* A place among the ejected ones of a pool, if there is one. */
static bool place_take(struct mesh_pool *pool)
{
	uint32_t most = pool->endpoint_nr * pool->max_ejection_percent / 100;

	if (__atomic_fetch_add(&pool->ejected, 1, __ATOMIC_RELAXED) < (most ? most : 1))
		return true;
	__atomic_fetch_sub(&pool->ejected, 1, __ATOMIC_RELAXED);
	return false;
}

static void eject(struct health *h, const struct watched *w, uint32_t backend, uint64_t now, enum mesh_cause cause)
{
	struct mesh_pool *pool = pool_at(h->p, w->pool);
	struct mesh_backend *b = backend_at(h->p, backend);
	struct mesh_tally *tally = tally_at(h->p, backend);
	uint64_t ms = (uint64_t)w->traffic.base_ejection_ms * (tally->ejections + 1);

	if (!place_take(pool))
		return;
	if (ms > w->traffic.max_ejection_ms)
		ms = w->traffic.max_ejection_ms;
	if (!swap64(&b->ejected_until_ns, 0, now + ms * 1000000)) {
		__atomic_fetch_sub(&pool->ejected, 1, __ATOMIC_RELAXED);
		return;
	}
	b->cause = (__u16)cause;
	tally->ejected_for_ms = (uint32_t)ms;
	__atomic_fetch_add(&tally->ejections, 1, __ATOMIC_RELAXED);
}

static bool measured(const struct health *h, uint32_t backend)
{
	const struct mesh_backend *b = backend_at(h->p, backend);

	return tally_at(h->p, backend)->latency_nr - h->latency_nr[backend] >= LATENCY_SAMPLES_MIN &&
	       !b->ejected_until_ns && !b->flags;
}

static void eject_slow(struct health *h, const struct watched *w, uint64_t now)
{
	uint32_t *us = xcalloc((size_t)w->nr + 1, sizeof(*us)), *who = xcalloc((size_t)w->nr + 1, sizeof(*who)), nr = 0;
	bool *slow = xcalloc((size_t)w->nr + 1, sizeof(*slow));

	for (uint32_t i = 0; i < w->nr; i++) {
		uint32_t backend = h->members[w->first + i];
		const struct mesh_tally *tally = tally_at(h->p, backend);

		if (measured(h, backend)) {
			us[nr] = tally->latency_us;
			who[nr++] = backend;
		}
		h->latency_nr[backend] = tally->latency_nr;
	}
	latency_judge(us, nr, w->traffic.latency_factor, w->traffic.latency_floor_us, slow);
	for (uint32_t i = 0; i < nr; i++)
		if (slow[i])
			eject(h, w, who[i], now, MESH_CAUSE_LATENCY);
	free(us);
	free(who);
	free(slow);
}

void outlier_interval(struct health *h, const struct watched *w)
{
	struct mesh_pool *pool = pool_at(h->p, w->pool);
	uint64_t now = health_now_ns();

	for (uint32_t i = 0; i < w->nr; i++) {
		struct mesh_backend *b = backend_at(h->p, h->members[w->first + i]);
		struct mesh_tally *tally = tally_at(h->p, h->members[w->first + i]);
		uint64_t until = __atomic_load_n(&b->ejected_until_ns, __ATOMIC_RELAXED);

		if (!until && tally->ejections)
			__atomic_fetch_sub(&tally->ejections, 1, __ATOMIC_RELAXED);
		else if (until && until <= now && swap64(&b->ejected_until_ns, until, 0))
			__atomic_fetch_sub(&pool->ejected, 1, __ATOMIC_RELAXED);
	}
	if (w->traffic.latency_factor)
		eject_slow(h, w, now);
}

/* ---- levels ---- */

static uint32_t cluster_health(struct plane *p, const struct mesh_cluster *c, uint64_t now)
{
	const struct mesh_choice *columns = marray_at(&p->choices, c->choice, c->choice_nr ? c->choice_nr : 1);
	uint32_t well = 0;

	for (uint32_t i = 0; i < c->choice_nr; i++) {
		const struct mesh_backend *b = backend_at(p, columns[i].primary);

		well += !b->flags && b->ejected_until_ns <= now;
	}
	return level_health(well, c->choice_nr);
}

void levels_update(struct health *h)
{
	struct mesh_cluster *level[U_LEVELS_MAX];
	uint32_t health[U_LEVELS_MAX], share[U_LEVELS_MAX];
	uint64_t now = health_now_ns();

	for (uint32_t i = 0; i < h->head_nr; i++) {
		uint32_t nr = 0;

		for (uint32_t at = h->heads[i]; at && nr < U_LEVELS_MAX; at = level[nr - 1]->next) {
			level[nr] = marray_at(&h->p->clusters, at, 1);
			health[nr] = cluster_health(h->p, level[nr], now);
			nr++;
		}
		level_shares(health, nr, share);
		for (uint32_t k = 0; k < nr; k++)
			__atomic_store_n(&level[k]->share, share[k], __ATOMIC_RELAXED);
	}
}
