/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection in which every bit depends on all. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Of an endpoint's address and port; `salt` makes another one of it. */
static uint64_t entry_hash(const struct table_entry *e, uint64_t salt)
{
	uint64_t w[2];

	memcpy(w, &e->addr, sizeof(w));
	return mix(mix(mix(w[0] + 0x9e3779b97f4a7c15ull) ^ w[1]) ^ ((uint64_t)e->port << 32 | salt));
}

/* What does not depend on the order in which the endpoints were given. */
static int by_address(const void *a, const void *b)
{
	const struct table_entry *const *x = a, *const *y = b;
	int c = memcmp(&(*x)->addr, &(*y)->addr, sizeof((*x)->addr));

	return c ? c : (int)(*x)->port - (int)(*y)->port;
}

static const struct table_entry **sorted(const struct table_entry *entries, uint32_t nr)
{
	const struct table_entry **s = xcalloc(nr, sizeof(*s));

	for (uint32_t i = 0; i < nr; i++)
		s[i] = &entries[i];
	qsort(s, nr, sizeof(*s), by_address);
	return s;
}

static uint64_t weight_sum(const struct table_entry *entries, uint32_t nr)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < nr; i++)
		sum += entries[i].weight;
	return sum;
}

/* ---- round robin ---- */

struct turn {
	uint64_t at; /* when it is due: (2k + 1) / (2 share), as a fraction of the whole in 2^-63 */
	uint32_t rank, id;
};

static int by_time(const void *a, const void *b)
{
	const struct turn *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

struct remainder {
	uint64_t rest;
	uint32_t rank;
};

static int by_rest(const void *a, const void *b)
{
	const struct remainder *x = a, *y = b;

	if (x->rest != y->rest)
		return x->rest > y->rest ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Shares of `total` turns, largest remainders first, nobody with less than one. */
static void apportion(const struct table_entry **s, uint32_t nr, uint64_t sum, uint32_t total, uint32_t *shares)
{
	struct remainder *rests = xcalloc(nr, sizeof(*rests));
	uint32_t left = total - nr;

	/* One turn each, the others in proportion: no share is more than one turn off. */
	for (uint32_t i = 0; i < nr; i++) {
		unsigned __int128 part = (unsigned __int128)(total - nr) * s[i]->weight;

		shares[i] = 1 + (uint32_t)(part / sum);
		rests[i] = (struct remainder){ (uint64_t)(part % sum), i };
		left -= shares[i] - 1;
	}
	qsort(rests, nr, sizeof(*rests), by_rest);
	for (uint32_t i = 0; i < left; i++)
		shares[rests[i].rank]++;
	free(rests);
}

static uint32_t shares_of(const struct table_entry **s, uint32_t nr, uint32_t max, uint64_t sum, uint32_t *shares)
{
	uint64_t divisor = 0;

	for (uint32_t i = 0; i < nr; i++) {
		uint64_t a = divisor, b = s[i]->weight;

		while (b) {
			uint64_t rest = a % b;

			a = b;
			b = rest;
		}
		divisor = a;
	}
	if (sum / divisor > max) {
		uint32_t total = max > nr ? max : nr;

		apportion(s, nr, sum, total, shares);
		return total;
	}
	for (uint32_t i = 0; i < nr; i++)
		shares[i] = (uint32_t)(s[i]->weight / divisor);
	return (uint32_t)(sum / divisor);
}

uint32_t table_turns(const struct table_entry *entries, uint32_t nr, uint32_t max, uint32_t **ret)
{
	const struct table_entry **s;
	uint32_t *shares, total, n = 0;
	struct turn *turns;

	*ret = NULL;
	if (!nr)
		return 0;
	s = sorted(entries, nr);
	shares = xcalloc(nr, sizeof(*shares));
	total = shares_of(s, nr, max, weight_sum(entries, nr), shares);
	turns = xcalloc(total, sizeof(*turns));
	*ret = xcalloc(total, sizeof(**ret));
	for (uint32_t i = 0; i < nr; i++)
		for (uint64_t k = 0; k < shares[i]; k++) {
			unsigned __int128 middle = (unsigned __int128)(2 * k + 1) << 63;

			turns[n++] = (struct turn){ (uint64_t)(middle / (2 * (uint64_t)shares[i])), i, s[i]->id };
		}
	qsort(turns, total, sizeof(*turns), by_time);
	for (uint32_t i = 0; i < total; i++)
		(*ret)[i] = turns[i].id;
	free(turns);
	free(shares);
	free(s);
	return total;
}

/* ---- ring ---- */

static int by_hash(const void *a, const void *b)
{
	const struct table_position *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Positions of each unit of weight: `some` in `of`. */
struct ring_part {
	uint64_t some, of;
};

static uint32_t ring_share(uint32_t weight, struct ring_part part)
{
	uint64_t n = (uint64_t)(((unsigned __int128)weight * part.some + part.of / 2) / part.of);

	return n ? (uint32_t)n : 1;
}

/* A power of two for the least weight, so that others have the positions that they had when a few come or go. */
static struct ring_part ring_part(const struct table_entry *entries, uint32_t nr, uint32_t min)
{
	uint64_t sum = weight_sum(entries, nr);
	struct ring_part part = { 1, UINT32_MAX };

	for (uint32_t i = 0; i < nr; i++)
		if (entries[i].weight < part.of)
			part.of = entries[i].weight;
	while ((unsigned __int128)part.some * sum < (unsigned __int128)part.of * min)
		part.some *= 2;
	while (part.some > 1 && (unsigned __int128)part.some * sum > (unsigned __int128)part.of * TABLE_RING_MAX)
		part.some /= 2;
	if (sum > part.of * TABLE_RING_MAX)
		part = (struct ring_part){ TABLE_RING_MAX, sum };
	return part;
}

uint32_t table_ring(const struct table_entry *entries, uint32_t nr, uint32_t min, struct table_position **ret)
{
	struct ring_part part;
	uint64_t n = 0;

	*ret = NULL;
	if (!nr)
		return 0;
	part = ring_part(entries, nr, min);
	for (uint32_t i = 0; i < nr; i++)
		n += ring_share(entries[i].weight, part);
	*ret = xcalloc(n, sizeof(**ret));
	n = 0;
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t share = ring_share(entries[i].weight, part);

		for (uint32_t k = 0; k < share; k++)
			(*ret)[n++] = (struct table_position){ entry_hash(&entries[i], k), entries[i].id };
	}
	qsort(*ret, n, sizeof(**ret), by_hash);
	return (uint32_t)n;
}

/* ---- Maglev ---- */

struct walk {
	uint32_t at, skip; /* the next place that it would like, and the step to the one after */
	uint64_t behind;   /* it takes a place when round * weight has reached this */
};

int table_maglev(const struct table_entry *entries, uint32_t nr, uint32_t size, uint32_t *table)
{
	const struct table_entry **s;
	struct walk *walks;
	uint8_t *taken;
	uint32_t most = 0, filled = 0;

	if (!nr || nr > size || size < 2)
		return -EINVAL;
	s = sorted(entries, nr);
	walks = xcalloc(nr, sizeof(*walks));
	taken = xcalloc(size, 1);
	for (uint32_t i = 0; i < nr; i++) {
		walks[i].at = (uint32_t)(entry_hash(s[i], 1ull << 48) % size);
		walks[i].skip = (uint32_t)(entry_hash(s[i], 2ull << 48) % (size - 1)) + 1;
		walks[i].behind = 0;
		if (s[i]->weight > most)
			most = s[i]->weight;
	}
	for (uint64_t round = 1; filled < size; round++) {
		for (uint32_t i = 0; i < nr && filled < size; i++) {
			struct walk *w = &walks[i];

			if (round * s[i]->weight < w->behind)
				continue;
			w->behind += most;
			while (taken[w->at])
				w->at = (uint32_t)(((uint64_t)w->at + w->skip) % size);
			taken[w->at] = 1;
			table[w->at] = s[i]->id;
			filled++;
		}
	}
	free(taken);
	free(walks);
	free(s);
	return 0;
}
