/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Turns, rings and Maglev tables: shares, smoothness, and how few keys move when an endpoint leaves. Nothing here is random: hashes
 * are fixed, so that each bound holds always or never.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "config/tables.h"

/* nr endpoints 10.0.x.y:80 with these weights (NULL: 1 each); ids are 100 + index. */
static struct table_entry *entries_of(uint32_t nr, const uint32_t *weights)
{
	struct table_entry *e = calloc(nr, sizeof(*e));

	for (uint32_t i = 0; e && i < nr; i++) {
		uint8_t v4[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, (uint8_t)(i >> 8), (uint8_t)i };

		memcpy(&e[i].addr, v4, sizeof(v4));
		e[i].port = 80;
		e[i].weight = weights ? weights[i] : 1;
		e[i].id = 100 + i;
	}
	return e;
}

static void counts(const uint32_t *ids, uint32_t len, uint32_t nr, uint32_t *ret)
{
	memset(ret, 0, nr * sizeof(*ret));
	for (uint32_t i = 0; i < len; i++) {
		CHECK(ids[i] >= 100 && ids[i] < 100 + nr);
		ret[ids[i] - 100]++;
	}
}

TEST(turns_are_exact)
{
	static const uint32_t weights[] = { 50, 30, 20 };
	struct table_entry *e = entries_of(3, weights);
	uint32_t *turns, n = table_turns(e, 3, 4096, &turns), got[3];

	CHECK_INT(n, 10);
	counts(turns, n, 3, got);
	CHECK_INT(got[0], 5);
	CHECK_INT(got[1], 3);
	CHECK_INT(got[2], 2);
	free(turns);
	n = table_turns(e, 1, 4096, &turns);
	CHECK_INT(n, 1);
	free(turns);
	CHECK_INT(table_turns(e, 0, 4096, &turns), 0);
	free(e);
}

/* After any number of turns nobody is two turns away from its share. */
TEST(turns_are_smooth)
{
	static const uint32_t weights[] = { 7, 1, 1, 13, 5, 5, 64, 2 };
	const uint32_t nr = 8, sum = 98;
	struct table_entry *e = entries_of(nr, weights);
	uint32_t *turns, n = table_turns(e, nr, 4096, &turns), had[8] = { 0 };
	uint32_t worst = 0;

	CHECK_INT(n, sum);
	for (uint32_t i = 0; i < n; i++) {
		had[turns[i] - 100]++;
		for (uint32_t k = 0; k < nr; k++) {
			int64_t off = (int64_t)had[k] * sum - (int64_t)(i + 1) * weights[k];
			uint32_t size = (uint32_t)(off < 0 ? -off : off);

			if (size > worst)
				worst = size;
		}
	}
	CHECK_MSG(worst < 2 * sum, "somebody is %u/%u turns away from its share", worst, sum);
	free(turns);
	free(e);
}

TEST(turns_are_bounded)
{
	static const uint32_t weights[] = { 1000003, 999983, 1 };
	struct table_entry *e = entries_of(3, weights);
	uint32_t *turns, n = table_turns(e, 3, 1000, &turns), got[3];

	CHECK_INT(n, 1000);
	counts(turns, n, 3, got);
	CHECK(got[0] >= 498 && got[0] <= 501);
	CHECK(got[1] >= 498 && got[1] <= 501);
	CHECK_INT(got[2], 1);
	free(turns);
	free(e);
	e = entries_of(2000, NULL);
	e[0].weight = 2;
	n = table_turns(e, 2000, 1000, &turns);
	CHECK_INT(n, 2000);
	free(turns);
	free(e);
}

/* Whose a key of this hash is. */
static uint32_t ring_owner(const struct table_position *ring, uint32_t n, uint64_t hash)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (ring[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return ring[low == n ? 0 : low].id;
}

static uint64_t key_hash(uint64_t i)
{
	uint64_t z = i * 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	return z ^ (z >> 27);
}

TEST(ring_sizes)
{
	static const uint32_t weights[] = { 1, 3 };
	struct table_entry *e = entries_of(2, weights);
	struct table_position *ring;
	uint32_t n = table_ring(e, 2, 1024, &ring), first = 0;

	CHECK_INT(n, 1024);
	for (uint32_t i = 0; i < n; i++) {
		first += ring[i].id == 100;
		CHECK(!i || ring[i - 1].hash <= ring[i].hash);
	}
	CHECK_INT(first, 256);
	free(ring);
	n = table_ring(e, 2, 1, &ring);
	CHECK_INT(n, 4);
	free(ring);
	e[1].weight = 4000000000u;
	n = table_ring(e, 2, 1024, &ring);
	CHECK(n >= 1024 && n <= TABLE_RING_MAX + 2);
	free(ring);
	CHECK_INT(table_ring(e, 0, 1024, &ring), 0);
	free(e);
}

/* When an endpoint leaves, only its own keys move: that is what the ring is for. */
TEST(ring_disruption)
{
	const uint32_t nr = 10, keys = 100000;
	struct table_entry *e = entries_of(nr, NULL);
	struct table_position *ring, *less;
	uint32_t n = table_ring(e, nr, 8000, &ring), n_less = table_ring(e, nr - 1, 8000, &less), moved = 0, others = 0;

	/* 1024 positions each, before and after: the power of two that makes it long enough. */
	CHECK_INT(n, 10240);
	CHECK_INT(n_less, 9216);
	for (uint32_t k = 0; k < keys; k++) {
		uint32_t was = ring_owner(ring, n, key_hash(k)), is = ring_owner(less, n_less, key_hash(k));

		moved += was != is;
		others += was != is && was != 100 + nr - 1;
	}
	CHECK_INT(others, 0);
	/* Its share is a tenth, give or take what 1024 positions leave to chance (3 % of it, five times over). */
	CHECK_MSG(moved > keys / 10 * 85 / 100 && moved < keys / 10 * 115 / 100, "%u of %u moved", moved, keys);
	free(ring);
	free(less);
	free(e);
}

#define MAGLEV 65537

TEST(maglev_shares)
{
	static const uint32_t weights[] = { 1, 2, 5, 1, 1 };
	static uint32_t table[MAGLEV];
	struct table_entry *e = entries_of(1000, NULL);
	uint32_t got[1000], least = MAGLEV, most = 0;

	CHECK_INT(table_maglev(e, 1000, MAGLEV, table), 0);
	counts(table, MAGLEV, 1000, got);
	for (uint32_t i = 0; i < 1000; i++) {
		least = got[i] < least ? got[i] : least;
		most = got[i] > most ? got[i] : most;
	}
	CHECK_INT(least, 65);
	CHECK_INT(most, 66);
	free(e);
	e = entries_of(5, weights);
	CHECK_INT(table_maglev(e, 5, MAGLEV, table), 0);
	counts(table, MAGLEV, 5, got);
	for (uint32_t i = 0; i < 5; i++) {
		double share = (double)MAGLEV * weights[i] / 10;

		CHECK_MSG(got[i] > share - 5 && got[i] < share + 5, "%u: %u places, share %f", i, got[i], share);
	}
	CHECK_INT(table_maglev(e, 5, 3, table), -EINVAL);
	CHECK_INT(table_maglev(e, 0, MAGLEV, table), -EINVAL);
	free(e);
}

/* The paper's figure 12: of 1000 endpoints with a table of 65537 places, the leaving of one moves a small part of other keys. */
TEST(maglev_disruption)
{
	static uint32_t table[MAGLEV], less[MAGLEV];
	const uint32_t nr = 1000;
	struct table_entry *e = entries_of(nr, NULL);
	uint32_t others = 0;

	CHECK_INT(table_maglev(e, nr, MAGLEV, table), 0);
	CHECK_INT(table_maglev(e, nr - 1, MAGLEV, less), 0);
	for (uint32_t i = 0; i < MAGLEV; i++)
		others += table[i] != less[i] && table[i] != 100 + nr - 1;
	CHECK_MSG(others < MAGLEV / 50, "%u of %u places of others moved", others, MAGLEV);
	free(e);
}

/* The order of the documents is not the order of the table. */
TEST(order_does_not_matter)
{
	static uint32_t table[MAGLEV], other[MAGLEV];
	static const uint32_t weights[] = { 3, 1, 4, 1, 5 };
	struct table_entry *e = entries_of(5, weights), turned[5];
	uint32_t *a, *b, n;

	for (int i = 0; i < 5; i++)
		turned[i] = e[4 - i];
	CHECK_INT(table_maglev(e, 5, MAGLEV, table), 0);
	CHECK_INT(table_maglev(turned, 5, MAGLEV, other), 0);
	CHECK(!memcmp(table, other, sizeof(table)));
	n = table_turns(e, 5, 4096, &a);
	CHECK_INT(table_turns(turned, 5, 4096, &b), n);
	CHECK(n && !memcmp(a, b, n * sizeof(*a)));
	free(a);
	free(b);
	free(e);
}
