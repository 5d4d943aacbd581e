/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the live rules ask to be watched, and the one timer behind all of it. The rules are looked at again only after they have changed,
 * and not in the request that changes them: nothing here has to be in time for a connection.
 */
#include "plane/health_int.h"

#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"

#define TICK_MS 1000u
#define TICK_MIN_MS 20u
/* Between two looks at connections: an eighth of the shortest time that is asked for, within these. */
#define LAPSE_MIN_MS 100u
#define LAPSE_MAX_MS 30000u

uint64_t health_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

uint32_t backend_next(const struct plane *p, uint32_t at)
{
	const struct slots *s = &p->backend_slots;

	for (at++; at < s->max; at++) {
		uint64_t left = s->used[at / 64] >> at % 64;

		if (left & 1)
			return at;
		at = left ? at + (uint32_t)__builtin_ctzll(left) - 1 : at | 63;
	}
	return 0;
}

static int by_pool(const void *a, const void *b)
{
	const struct watched *x = a, *y = b;

	return x->pool < y->pool ? -1 : x->pool > y->pool;
}

struct watched *watched_find(const struct health *h, uint32_t pool)
{
	const struct watched key = { .pool = pool };

	return h->watched_nr ? bsearch(&key, h->watched, h->watched_nr, sizeof(key), by_pool) : NULL;
}

/* ---- what the rules ask for ---- */

static bool is_watched(const struct u_traffic *t)
{
	return t->outlier || t->latency_factor || t->idle_timeout_ms || t->max_duration_ms ||
	       t->drain_ms != DRAIN_UNSET || t->removal != REMOVAL_UNSET;
}

/* Clusters of one name have one policy, and one pool. */
static void watch_clusters(struct health *h)
{
	const struct snapshot *s = h->p->snapshot;
	uint32_t cap = 0, nr = 0;

	for (uint32_t i = 0; s && i < s->unit_nr; i++) {
		const struct unit *u = s->units[i];

		for (uint32_t k = 0; k < u->cluster_nr; k++) {
			const struct u_cluster *c = &u->clusters[k];
			uint32_t pool = is_watched(&c->traffic) ? pool_find(h->p, c->name) : 0;

			if (!pool)
				continue;
			h->watched = plane_grow(h->watched, nr, &cap, sizeof(*h->watched));
			h->watched[nr++] = (struct watched){ .pool = pool, .traffic = c->traffic };
		}
	}
	if (nr)
		qsort(h->watched, nr, sizeof(*h->watched), by_pool);
	for (uint32_t i = 0; i < nr; i++)
		if (!i || h->watched[i].pool != h->watched[i - 1].pool)
			h->watched[h->watched_nr++] = h->watched[i];
}

/* Backends by pool: counted, then put into runs. */
static void watch_members(struct health *h)
{
	struct plane *p = h->p;
	uint32_t nr = 0, at = 0;

	for (uint32_t i = 0; h->watched_nr && (i = backend_next(p, i));) {
		struct watched *w = watched_find(h, backend_at(p, i)->pool);

		if (w && backend_at(p, i)->used)
			w->nr++;
	}
	for (uint32_t i = 0; i < h->watched_nr; i++) {
		h->watched[i].first = nr;
		nr += h->watched[i].nr;
		h->watched[i].nr = 0;
	}
	free(h->members);
	h->members = nr ? xcalloc(nr, sizeof(*h->members)) : NULL;
	while (nr && (at = backend_next(p, at))) {
		struct watched *w = watched_find(h, backend_at(p, at)->pool);

		if (w && backend_at(p, at)->used)
			h->members[w->first + w->nr++] = at;
	}
}

/* Clusters that lead on to a next level, and are nobody's next. */
static void watch_levels(struct health *h)
{
	struct plane *p = h->p;
	struct slots *s = &p->cluster_slots;
	uint64_t *is_next = NULL;

	h->head_nr = 0;
	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint32_t i = 1; i < s->max; i++) {
			const struct mesh_cluster *c;

			if (!(i & 63) && !s->used[i / 64]) {
				i |= 63;
				continue;
			}
			c = slots_used(s, i) ? marray_at(&p->clusters, i, 1) : NULL;
			if (!c || !c->next)
				continue;
			if (!is_next)
				is_next = xcalloc(s->max / 64 + 1, sizeof(*is_next));
			if (!pass) {
				is_next[c->next / 64] |= 1ull << c->next % 64;
			} else if (!(is_next[i / 64] >> i % 64 & 1)) {
				h->heads = plane_grow(h->heads, h->head_nr, &h->head_cap, sizeof(*h->heads));
				h->heads[h->head_nr++] = i;
			}
		}
	}
	free(is_next);
}

static int by_number(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

bool is_draining(const struct health *h, uint32_t backend)
{
	return h->draining_nr && bsearch(&backend, h->draining, h->draining_nr, sizeof(backend), by_number);
}

static void watch_draining(struct health *h)
{
	const struct snapshot *s = h->p->snapshot;

	for (uint32_t i = 0; s && i < s->unit_nr; i++) {
		const struct unit *u = s->units[i];

		for (uint32_t k = 0; k < u->cluster_nr; k++) {
			const struct u_cluster *c = &u->clusters[k];
			const struct u_endpoint *e = u->endpoints + c->endpoint + c->endpoint_nr;
			uint32_t pool = c->draining_nr ? pool_find(h->p, c->name) : 0;

			for (uint32_t n = 0; n < c->draining_nr && pool; n++) {
				h->draining =
					plane_grow(h->draining, h->draining_nr, &h->draining_cap, sizeof(*h->draining));
				h->draining[h->draining_nr++] =
					backend_find(h->p, pool, &e[n].addr, e[n].port, MESH_PROTO_TCP);
			}
		}
	}
	if (h->draining_nr)
		qsort(h->draining, h->draining_nr, sizeof(*h->draining), by_number);
}

static void shorten(uint32_t *period_ms, uint64_t time_ms)
{
	uint64_t part = time_ms / 8;

	part = part < LAPSE_MIN_MS ? LAPSE_MIN_MS : part > LAPSE_MAX_MS ? LAPSE_MAX_MS : part;
	if (time_ms && (!*period_ms || part < *period_ms))
		*period_ms = (uint32_t)part;
}

void health_rules(struct health *h)
{
	struct watched *old = h->watched;
	uint32_t old_nr = h->watched_nr;
	bool latency = false, reset_removed = h->reset_removed;
	uint64_t now = loop_now_ms();

	h->watched = NULL;
	h->watched_nr = 0;
	watch_clusters(h);
	watch_members(h);
	watch_levels(h);
	h->lapse_ms = 0;
	for (uint32_t i = 0; i < h->watched_nr; i++) {
		struct watched *w = &h->watched[i];
		const struct watched *was = old_nr ? bsearch(w, old, old_nr, sizeof(*old), by_pool) : NULL;

		/* An interval that has begun goes on. */
		w->interval_ms = was && was->traffic.interval_ms == w->traffic.interval_ms
					 ? was->interval_ms
					 : now + w->traffic.interval_ms;
		shorten(&h->lapse_ms, w->traffic.idle_timeout_ms);
		shorten(&h->lapse_ms, w->traffic.max_duration_ms);
		latency |= w->traffic.latency_factor != 0;
		reset_removed |= w->traffic.removal == REMOVAL_RESET;
	}
	free(old);
	h->draining_nr = 0;
	if (reset_removed)
		watch_draining(h);
	if (latency && !h->latency_nr)
		h->latency_nr = xcalloc(h->p->map_max[PLANE_MAP_BACKENDS], sizeof(*h->latency_nr));
	checks_update(h);
	h->applied = h->p->applied;
	h->looked = true;
}

/* ---- time ---- */

static void intervals(struct health *h, uint64_t now, uint64_t *next)
{
	for (uint32_t i = 0; i < h->watched_nr; i++) {
		struct watched *w = &h->watched[i];

		if (!w->traffic.outlier && !w->traffic.latency_factor)
			continue;
		if (w->interval_ms <= now) {
			outlier_interval(h, w);
			w->interval_ms = now + (w->traffic.interval_ms ? w->traffic.interval_ms : TICK_MS);
		}
		*next = w->interval_ms < *next ? w->interval_ms : *next;
	}
}

static void lapses(struct health *h, uint64_t now, uint64_t *next)
{
	uint32_t period = h->lapse_ms;
	uint64_t drain_ms;

	/* Some may stay for long: they are looked at once a second at most. */
	if (lapse_drains(h, &drain_ms))
		shorten(&period, drain_ms > 8 * TICK_MS ? drain_ms : 8 * TICK_MS);
	if (!period)
		return;
	if (h->lapse_due_ms <= now) {
		lapse_look(h);
		h->lapse_due_ms = now + period;
	} else if (h->lapse_due_ms > now + period) {
		h->lapse_due_ms = now + period;
	}
	*next = h->lapse_due_ms < *next ? h->lapse_due_ms : *next;
}

static void on_tick(void *data)
{
	struct health *h = data;
	uint64_t now = loop_now_ms(), next = now + TICK_MS;

	if (!h->looked || h->applied != h->p->applied)
		health_rules(h);
	intervals(h, now, &next);
	levels_update(h);
	lapses(h, now, &next);
	h->timer = loop_timer_add(h->loop, next < now + TICK_MIN_MS ? TICK_MIN_MS : next - now, on_tick, h);
	if (!h->timer)
		log_err("no memory for the timer that watches endpoints");
}

struct health *health_new(struct loop *l, const struct settings *s, struct plane *p)
{
	struct health *h = xcalloc(1, sizeof(*h));

	*h = (struct health){
		.p = p,
		.loop = l,
		.probes = { .loop = l },
		.drain_ms = (uint64_t)s->drain_timeout_s * 1000,
		.reset_removed = s->reset_removed,
	};
	p->health = h;
	h->timer = loop_timer_add(l, 0, on_tick, h);
	return h;
}

void health_free(struct health *h)
{
	if (!h)
		return;
	if (h->timer)
		loop_timer_del(h->timer);
	checks_release(h);
	free(h->watched);
	free(h->members);
	free(h->latency_nr);
	free(h->heads);
	free(h->draining);
	free(h->activity);
	h->p->health = NULL;
	free(h);
}
