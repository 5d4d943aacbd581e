/* SPDX-License-Identifier: BSD-2-Clause */
/* Alias tables are exact: the shares are counted in the table itself, not sampled. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/alias.h"
#include "decide.bpf.h"

#define NR_MAX 4096

/* Columns hold n * W in all; target i must hold w_i * n of it (weights over their gcd). */
static bool exact(const uint64_t *weights, uint32_t nr)
{
	static struct mesh_choice columns[NR_MAX];
	static uint64_t scratch[NR_MAX * 2], share[NR_MAX];
	static uint32_t ids[NR_MAX];
	uint64_t sum, total = 0;

	for (uint32_t i = 0; i < nr; i++) {
		ids[i] = i;
		share[i] = 0;
		total += weights[i];
	}
	if (alias_build(weights, ids, nr, columns, &sum, scratch))
		return false;
	for (uint32_t i = 0; i < nr; i++) {
		if (columns[i].threshold > sum)
			return false;
		share[columns[i].primary] += columns[i].threshold;
		share[columns[i].alias] += sum - columns[i].threshold;
	}
	for (uint32_t i = 0; i < nr; i++)
		if ((__uint128_t)share[i] * total != (__uint128_t)weights[i] * nr * sum)
			return false;
	return true;
}

TEST(shares_are_exact)
{
	CHECK(exact((uint64_t[]){ 1 }, 1));
	CHECK(exact((uint64_t[]){ 1, 1 }, 2));
	CHECK(exact((uint64_t[]){ 1, 2, 3 }, 3));
	CHECK(exact((uint64_t[]){ 0, 1 }, 2));
	CHECK(exact((uint64_t[]){ 7, 993 }, 2));
	CHECK(exact((uint64_t[]){ 2147483647, 1 }, 2));
	CHECK(exact((uint64_t[]){ 80, 20 }, 2));
	CHECK(exact((uint64_t[]){ 0, 0, 5, 0 }, 4));
	CHECK(exact((uint64_t[]){ 1ull << 41, 1, (1ull << 41) - 1 }, 3));
}

TEST(hundred_endpoints)
{
	uint64_t weights[100];

	for (unsigned int i = 0; i < 100; i++)
		weights[i] = i + 1;
	CHECK(exact(weights, 100));
	for (unsigned int i = 0; i < 100; i++)
		weights[i] = (i * 7919 + 13) % 104729;
	CHECK(exact(weights, 100));
}

TEST(random_tables)
{
	static uint64_t weights[NR_MAX];
	__u64 rng = 1;

	for (unsigned int round = 0; round < 2000; round++) {
		uint32_t nr = (uint32_t)(mesh_random(&rng) % 40) + 1;
		uint64_t bits = mesh_random(&rng) % 31;

		for (uint32_t i = 0; i < nr; i++)
			weights[i] = mesh_random(&rng) & ((2ull << bits) - 1);
		weights[mesh_random(&rng) % nr] |= 1;
		if (!exact(weights, nr)) {
			CHECK_MSG(0, "round %u", round);
			return;
		}
	}
	for (uint32_t i = 0; i < NR_MAX; i++)
		weights[i] = mesh_random(&rng) & 0xffffff;
	CHECK(exact(weights, NR_MAX));
}

TEST(out_of_range)
{
	struct mesh_choice columns[2];
	uint64_t scratch[4], sum;
	uint32_t ids[2] = { 0, 1 };

	CHECK_INT(alias_build((uint64_t[]){ 0, 0 }, ids, 2, columns, &sum, scratch), -ERANGE);
	CHECK_INT(alias_build((uint64_t[]){ 1 }, ids, 0, columns, &sum, scratch), -ERANGE);
	CHECK_INT(alias_build((uint64_t[]){ ALIAS_SUM_MAX, 1 }, ids, 2, columns, &sum, scratch), -ERANGE);
	CHECK_INT(alias_build((uint64_t[]){ UINT64_MAX, UINT64_MAX }, ids, 2, columns, &sum, scratch), -ERANGE);
	CHECK_INT(alias_build((uint64_t[]){ ALIAS_SUM_MAX }, ids, 1, columns, &sum, scratch), 0);
}

/* How many numbers of a sorted set are in [first, first + nr). */
static uint32_t inside(const uint32_t *sorted, uint32_t nr, uint32_t first)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < nr; i++)
		count += sorted[i] - first < nr;
	return count;
}

static int number_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The numbers are the same ones after it, all that can be are in place, and no other `first` has more. */
static bool aligned(const uint32_t *ids, uint32_t nr)
{
	uint32_t after[40], sorted[40], scratch[40], in_place, first, count = 0;

	memcpy(after, ids, nr * sizeof(*ids));
	memcpy(sorted, ids, nr * sizeof(*ids));
	qsort(sorted, nr, sizeof(*sorted), number_cmp);
	first = alias_align(after, nr, scratch, &in_place);
	for (uint32_t i = 0; i < nr; i++) {
		count += after[i] == first + i;
		if (inside(sorted, nr, sorted[i]) > in_place)
			return false;
	}
	qsort(after, nr, sizeof(*after), number_cmp);
	return !memcmp(after, sorted, nr * sizeof(*after)) && count == in_place &&
	       inside(sorted, nr, first) == in_place;
}

TEST(numbers_in_place)
{
	uint32_t ids[40] = { 0 }, scratch[40], in_place;
	__u64 rng = 2;

	CHECK(aligned((uint32_t[]){ 7 }, 1));
	CHECK(aligned((uint32_t[]){ 5, 4, 3, 2, 1 }, 5));
	CHECK(aligned((uint32_t[]){ 100, 7, 9, 2, 8 }, 5));
	CHECK_INT(alias_align((uint32_t[]){ 12, 10, 11 }, 3, scratch, &in_place), 10);
	CHECK_INT(in_place, 3);
	/* One that is there twice is in place once. */
	alias_align((uint32_t[]){ 1, 1, 3 }, 3, scratch, &in_place);
	CHECK_INT(in_place, 2);
	for (unsigned int round = 0; round < 5000; round++) {
		uint32_t nr = (uint32_t)(mesh_random(&rng) % 40) + 1, at = 1,
			 gap = (uint32_t)(mesh_random(&rng) % 4) + 1;

		for (uint32_t i = 0; i < nr; i++) {
			uint32_t other = (uint32_t)(mesh_random(&rng) % (i + 1));

			at += 1 + (mesh_random(&rng) % 8 < gap ? (uint32_t)(mesh_random(&rng) % gap) : 0);
			ids[i] = ids[other];
			ids[other] = at;
		}
		if (!aligned(ids, nr)) {
			CHECK_MSG(0, "round %u", round);
			return;
		}
	}
}
