/* SPDX-License-Identifier: BSD-2-Clause */
/* Integer alias tables; see alias.h. Nothing here rounds, so nothing here may use floating point. */
#include "config/alias.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* Sum and greatest common divisor; false when the sum is 0 or too large. */
static bool measure(const uint64_t *weights, uint32_t nr, uint64_t *ret_sum, uint64_t *ret_gcd)
{
	uint64_t sum = 0, divisor = 0;

	for (uint32_t i = 0; i < nr; i++) {
		if (weights[i] > ALIAS_SUM_MAX)
			return false;
		sum += weights[i];
		if (sum > ALIAS_SUM_MAX)
			return false;
		divisor = gcd(weights[i], divisor);
	}
	if (!sum)
		return false;
	*ret_sum = sum / divisor;
	*ret_gcd = divisor;
	return true;
}

/*
 * Column i starts with w_i * n of the n * W that all columns hold together; each column has room for W. One that holds less
 * is filled up from one that holds more, which then counts as the one or the other. The last ones are exactly full.
 */
int alias_build(const uint64_t *weights, const uint32_t *ids, uint32_t nr, struct mesh_choice *columns,
		uint64_t *ret_sum, void *scratch)
{
	uint64_t *held = scratch, sum, divisor;
	uint32_t *small = (uint32_t *)(held + nr), *large = small + nr;
	uint32_t small_nr = 0, large_nr = 0;

	if (!nr || nr > ALIAS_NR_MAX || !measure(weights, nr, &sum, &divisor))
		return -ERANGE;
	for (uint32_t i = 0; i < nr; i++) {
		held[i] = weights[i] / divisor * nr;
		columns[i] = (struct mesh_choice){ .threshold = sum, .primary = ids[i], .alias = ids[i] };
		if (held[i] < sum)
			small[small_nr++] = i;
		else if (held[i] > sum)
			large[large_nr++] = i;
	}
	while (small_nr) {
		uint32_t s = small[--small_nr], l = large[large_nr - 1];

		columns[s].threshold = held[s];
		columns[s].alias = ids[l];
		held[l] -= sum - held[s];
		if (held[l] > sum)
			continue;
		large_nr--;
		if (held[l] < sum)
			small[small_nr++] = l;
	}
	*ret_sum = sum;
	return 0;
}

static int number_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

uint32_t alias_align(uint32_t *ids, uint32_t nr, uint32_t *scratch, uint32_t *ret_nr)
{
	uint32_t first = nr ? ids[0] : 0, best = 0;

	memcpy(scratch, ids, nr * sizeof(*ids));
	qsort(scratch, nr, sizeof(*scratch), number_cmp);
	for (uint32_t from = 0, to = 0; to < nr; to++) {
		while (scratch[to] - scratch[from] >= nr)
			from++;
		if (to - from + 1 > best) {
			best = to - from + 1;
			first = scratch[from];
		}
	}
	/* Each exchange takes one number to its place for good. */
	for (uint32_t i = 0; i < nr; i++) {
		for (uint32_t home = ids[i] - first; home < nr && ids[home] != ids[i]; home = ids[i] - first) {
			uint32_t other = ids[home];

			ids[home] = ids[i];
			ids[i] = other;
		}
	}
	*ret_nr = 0;
	for (uint32_t i = 0; i < nr; i++)
		*ret_nr += ids[i] == first + i;
	return first;
}
