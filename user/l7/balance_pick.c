/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The choice of an endpoint. As long as nobody is ejected and nothing was tried it takes a draw or two of the first level; else those who
 * may be chosen are looked for.
 */
#include "l7/balance_int.h"

#include <stdlib.h>

/* Round robin by weight goes through a round of this length at most, as in the kernel. */
#define TURNS_MAX 4096

/* ---- what is made once ---- */

static void level_weights(struct level *l, const struct member *m)
{
	bool differ = false;

	for (uint32_t i = 0; i < l->nr; i++) {
		l->weight_sum += m[i].weight;
		differ |= m[i].weight != m[0].weight;
	}
	if (!differ)
		return;
	l->sums = xcalloc(l->nr, sizeof(*l->sums));
	for (uint32_t i = 0; i < l->nr; i++)
		l->sums[i] = (i ? l->sums[i - 1] : 0) + m[i].weight;
}

static void level_tables(struct level *l, const struct member *m, const struct mesh_http_cluster *c)
{
	struct table_entry *entries = xcalloc(l->nr, sizeof(*entries));

	for (uint32_t i = 0; i < l->nr; i++) {
		memcpy(&entries[i].addr, &m[i].host->pub.addr, sizeof(entries[i].addr));
		entries[i].port = m[i].host->pub.port;
		entries[i].weight = m[i].weight;
		entries[i].id = i;
	}
	if (c->lb == MESH_LB_ROUND_ROBIN && l->sums) {
		l->turn_nr = table_turns(entries, l->nr, TURNS_MAX, &l->turns);
	} else if (c->lb == MESH_LB_RING) {
		l->ring_nr = table_ring(entries, l->nr, c->table_size, &l->ring);
	} else if (c->lb == MESH_LB_MAGLEV) {
		l->maglev = xcalloc(c->table_size ? c->table_size : 1, sizeof(*l->maglev));
		/* A size that makes no table leaves none: the choice is at random. */
		if (!table_maglev(entries, l->nr, c->table_size, l->maglev))
			l->maglev_size = c->table_size;
	}
	free(entries);
}

void set_levels(struct set *s, const struct mesh_http_cluster *c)
{
	for (uint32_t i = 0; i < s->nr; i++)
		s->level_nr += !i || s->members[i].level != s->members[i - 1].level;
	s->levels = xcalloc(s->level_nr ? s->level_nr : 1, sizeof(*s->levels));
	for (uint32_t i = 0, at = 0; at < s->level_nr; at++) {
		struct level *l = &s->levels[at];

		for (l->first = i; i < s->nr && s->members[i].level == s->members[l->first].level; i++)
			l->nr++;
		level_weights(l, s->members + l->first);
		level_tables(l, s->members + l->first, c);
	}
}

void set_free(struct set *s)
{
	for (uint32_t i = 0; i < s->level_nr; i++) {
		free(s->levels[i].sums);
		free(s->levels[i].turns);
		free(s->levels[i].ring);
		free(s->levels[i].maglev);
	}
	free(s->levels);
	free(s->members);
	free(s);
}

/* ---- who may be chosen ---- */

struct wanted {
	const struct set *s;
	const struct lb_tried *tried; /* NULL: they may be */
	uint64_t now_ms;
	bool ejected; /* they may be */
};

static bool wants(const struct wanted *w, const struct member *m)
{
	if (!w->ejected && host_ejected(&m->host->pub, w->now_ms))
		return false;
	for (uint32_t i = 0; w->tried && i < w->tried->nr; i++)
		if (w->tried->v[i] == &m->host->pub)
			return false;
	return true;
}

static uint32_t count(const struct wanted *w, uint32_t first, uint32_t nr)
{
	uint32_t n = 0;

	for (uint32_t i = first; i < first + nr; i++)
		n += wants(w, &w->s->members[i]);
	return n;
}

static uint64_t next_draw(uint64_t *rng)
{
	uint64_t z = *rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint64_t below(uint64_t draw, uint64_t n)
{
	return (uint64_t)((unsigned __int128)draw * n >> 64);
}

/* One of a level by weight. */
static uint32_t weighted(const struct level *l, uint64_t draw)
{
	uint32_t from = 0, to = l->nr - 1;
	uint64_t at;

	if (!l->sums)
		return (uint32_t)below(draw, l->nr);
	at = below(draw, l->weight_sum);
	while (from < to) {
		uint32_t middle = (from + to) / 2;

		if (l->sums[middle] > at)
			to = middle;
		else
			from = middle + 1;
	}
	return from;
}

/* One of those that are wanted, by weight. There is one. */
static uint32_t weighted_wanted(const struct wanted *w, const struct level *l, uint64_t draw)
{
	const struct member *m = w->s->members + l->first;
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < l->nr; i++)
		sum += wants(w, &m[i]) ? m[i].weight : 0;
	sum = below(draw, sum);
	for (i = 0; i < l->nr; i++) {
		if (!wants(w, &m[i]))
			continue;
		if (sum < m[i].weight)
			return i;
		sum -= m[i].weight;
	}
	return 0;
}

/* Draws until one is wanted; where few are, they are looked for. */
static uint32_t draw_one(const struct wanted *w, const struct level *l, uint64_t *rng)
{
	for (int i = 0; i < 4; i++) {
		uint32_t at = weighted(l, next_draw(rng));

		if (wants(w, &w->s->members[l->first + at]))
			return at;
	}
	return weighted_wanted(w, l, next_draw(rng));
}

static uint32_t active(const struct wanted *w, const struct level *l, uint32_t at)
{
	return atomic_load_explicit(&w->s->members[l->first + at].host->pub.active, memory_order_relaxed);
}

/*
 * Equal weights: of two that are drawn the one with fewer requests (Mitzenmacher 2001). Unequal ones: of four that are drawn by weight one in
 * proportion to 1 / (active + 1), which is by weight where nothing is active and tends to Envoy's weight / (active + 1); as in the kernel.
 */
static uint32_t pick_least(const struct wanted *w, const struct level *l, uint64_t *rng)
{
	enum { DRAWS = 4, ONE = 1 << 20 };
	uint32_t at[DRAWS], a, b;
	uint64_t sum = 0, share[DRAWS], left;

	if (!l->sums) {
		a = draw_one(w, l, rng);
		b = draw_one(w, l, rng);
		return active(w, l, b) < active(w, l, a) ? b : a;
	}
	for (int i = 0; i < DRAWS; i++) {
		at[i] = draw_one(w, l, rng);
		share[i] = ONE / (active(w, l, at[i]) + 1ull) + 1;
		sum += share[i];
	}
	left = below(next_draw(rng), sum);
	for (int i = 0; i < DRAWS - 1; i++) {
		if (left < share[i])
			return at[i];
		left -= share[i];
	}
	return at[DRAWS - 1];
}

static uint32_t pick_turn(const struct wanted *w, struct level *l, uint64_t *rng)
{
	uint32_t nr = l->turns ? l->turn_nr : l->nr, at;

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t turn = atomic_fetch_add_explicit(&l->turn, 1, memory_order_relaxed) % nr;

		at = l->turns ? l->turns[turn] : turn;
		if (wants(w, &w->s->members[l->first + at]))
			return at;
	}
	/* Others took the turns in between. */
	return draw_one(w, l, rng);
}

static uint32_t pick_ring(const struct wanted *w, const struct level *l, uint64_t hash)
{
	uint32_t from = 0, to = l->ring_nr;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;

		if (l->ring[middle].hash < hash)
			from = middle + 1;
		else
			to = middle;
	}
	for (uint32_t i = 0; i < l->ring_nr; i++) {
		uint32_t at = l->ring[(from + i) % l->ring_nr].id;

		if (wants(w, &w->s->members[l->first + at]))
			return at;
	}
	return l->ring[from % l->ring_nr].id;
}

/* Whose place is not to be had gives his keys to many: each takes another step through the table. */
static uint32_t pick_maglev(const struct wanted *w, const struct level *l, uint64_t hash)
{
	uint32_t at = (uint32_t)(hash % l->maglev_size), step = (uint32_t)(1 + (hash >> 32) % (l->maglev_size - 1));

	for (uint32_t i = 0; i < l->maglev_size; i++) {
		if (wants(w, &w->s->members[l->first + l->maglev[at]]))
			return l->maglev[at];
		at = (uint32_t)(((uint64_t)at + step) % l->maglev_size);
	}
	return l->maglev[at];
}

/* One of a level in which somebody is wanted. */
static uint32_t pick(const struct wanted *w, struct level *l, const uint64_t *hash, uint64_t *rng)
{
	switch (w->s->lb) {
	case MESH_LB_LEAST_REQUEST:
		return pick_least(w, l, rng);
	case MESH_LB_ROUND_ROBIN:
		return pick_turn(w, l, rng);
	case MESH_LB_RING:
		if (hash && l->ring_nr)
			return pick_ring(w, l, *hash);
		break;
	case MESH_LB_MAGLEV:
		if (hash && l->maglev_size > 1)
			return pick_maglev(w, l, *hash);
		break;
	}
	return draw_one(w, l, rng);
}

/* ---- levels ---- */

/* So many of a hundred requests a level can take: all while five in seven are well, as Envoy's overprovisioning of 1.4 has it. */
static uint32_t health(const struct set *s, const struct level *l, uint64_t now_ms)
{
	struct wanted well = { .s = s, .now_ms = now_ms };
	uint32_t h = count(&well, l->first, l->nr) * 140 / l->nr;

	return h < 100 ? h : 100;
}

/* The level that this draw falls to by the health of each, where somebody is wanted; else the first such level. NULL: there is none. */
static struct level *level_of(const struct wanted *w, uint64_t draw)
{
	uint32_t total = 0, at, i;
	struct level *first = NULL;

	for (i = 0; i < w->s->level_nr && total < 100; i++)
		total += w->ejected ? 100 : health(w->s, &w->s->levels[i], w->now_ms);
	at = (uint32_t)below(draw, total < 100 ? total : 100);
	for (i = 0; i < w->s->level_nr; i++) {
		struct level *l = &w->s->levels[i];
		uint32_t h = w->ejected ? 100 : health(w->s, l, w->now_ms);

		if (!count(w, l->first, l->nr)) {
			at = at > h ? at - h : 0;
			continue;
		}
		if (!first)
			first = l;
		if (at < h)
			return l;
		at -= h;
	}
	return first;
}

/* So few are left that ejections are overlooked. */
static bool overlooked(const struct set *s, uint64_t now_ms)
{
	struct wanted well = { .s = s, .now_ms = now_ms };

	return s->min_health_percent && count(&well, 0, s->nr) * 100ull < (uint64_t)s->nr * s->min_health_percent;
}

bool set_pick(const struct set *s, const uint64_t *hash, const struct lb_tried *tried, uint64_t draw, uint64_t now_ms,
	      uint32_t *ret)
{
	struct wanted w = { .s = s, .tried = tried->nr ? tried : NULL, .now_ms = now_ms };
	struct level *l = s->levels;
	uint64_t rng = draw;

	if (!s->nr)
		return false;
	if (atomic_load_explicit(&s->cluster->ejected_until_ms, memory_order_relaxed) <= now_ms) {
		w.ejected = true; /* nobody is */
		if (w.tried && !(l = level_of(&w, draw))) {
			w.tried = NULL;
			l = s->levels;
		}
	} else {
		w.ejected = overlooked(s, now_ms);
		l = level_of(&w, next_draw(&rng));
		if (!l && w.tried) {
			w.tried = NULL;
			l = level_of(&w, next_draw(&rng));
		}
		if (!l)
			return false;
	}
	*ret = l->first + pick(&w, l, hash, &rng);
	return true;
}
