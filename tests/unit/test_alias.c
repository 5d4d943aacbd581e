/* SPDX-License-Identifier: BSD-2-Clause */
/* Alias tables are exact: the shares are counted in the table itself, not sampled. */
#include "test.h"

#include <errno.h>

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
