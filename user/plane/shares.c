/* SPDX-License-Identifier: BSD-2-Clause */
/* Levels of priority after Envoy's load balancer (priority levels, overprovisioning); latency by medians, which a few slow ones do not move. */
#include "plane/shares.h"

#include <stdlib.h>

#include "base/arena.h"

#define OVERPROVISIONING 140u
#define MEASURED_MIN 3u

uint32_t level_health(uint32_t available, uint32_t all)
{
	uint64_t percent = all ? (uint64_t)OVERPROVISIONING * available / all : 0;

	return percent > 100 ? 100 : (uint32_t)percent;
}

void level_shares(const uint32_t *health, uint32_t nr, uint32_t *ret_shares)
{
	uint32_t sum = 0, left = 100, first = nr;

	for (uint32_t i = 0; i < nr; i++) {
		sum += health[i];
		first = first == nr && health[i] ? i : first;
	}
	sum = sum > 100 ? 100 : sum;
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t share = sum ? health[i] * 100 / sum : 0;

		ret_shares[i] = share > left ? left : share;
		left -= ret_shares[i];
	}
	/* What rounding left; with nobody available, all begin where they are refused. */
	if (nr)
		ret_shares[first == nr ? 0 : first] += left;
}

static int by_value(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The middle of sorted values without one of value `own`; of two middle ones the lower, so that a slow peer excuses nobody. */
static uint32_t median_of_others(const uint32_t *sorted, uint32_t nr, uint32_t own)
{
	uint32_t at = (nr - 2) / 2;

	return sorted[at] < own ? sorted[at] : sorted[at + 1];
}

void latency_judge(const uint32_t *us, uint32_t nr, uint32_t factor, uint32_t floor_us, bool *slow)
{
	uint32_t *sorted = xcalloc((size_t)nr + 1, sizeof(*sorted));

	for (uint32_t i = 0; i < nr; i++)
		sorted[i] = us[i];
	if (nr)
		qsort(sorted, nr, sizeof(*sorted), by_value);
	for (uint32_t i = 0; i < nr; i++)
		slow[i] = nr >= MEASURED_MIN && us[i] > floor_us &&
			  (uint64_t)us[i] * 1000 > (uint64_t)factor * median_of_others(sorted, nr, us[i]);
	free(sorted);
}
