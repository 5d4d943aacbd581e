/* SPDX-License-Identifier: BSD-2-Clause */
/* Shares of levels against the tables of Envoy's documentation (priority levels); who is slow. */
#include "test.h"

#include "plane/shares.h"

/* Healthy endpoints of 100 in each level -> shares. */
static void shares(uint32_t nr, const uint32_t *well, const uint32_t *want)
{
	uint32_t health[8], got[8], sum = 0;

	for (uint32_t i = 0; i < nr; i++)
		health[i] = level_health(well[i], 100);
	level_shares(health, nr, got);
	for (uint32_t i = 0; i < nr; i++) {
		CHECK_INT(got[i], want[i]);
		sum += got[i];
	}
	CHECK_INT(sum, 100);
}

#define V(...) ((const uint32_t[]){ __VA_ARGS__ })

TEST(two_levels)
{
	shares(2, V(100, 100), V(100, 0));
	shares(2, V(72, 72), V(100, 0));
	shares(2, V(71, 71), V(99, 1));
	shares(2, V(50, 50), V(70, 30));
	shares(2, V(25, 100), V(35, 65));
	shares(2, V(25, 25), V(50, 50));
	shares(2, V(0, 100), V(0, 100));
	shares(2, V(5, 65), V(8, 92));
}

TEST(three_levels)
{
	shares(3, V(100, 100, 100), V(100, 0, 0));
	shares(3, V(72, 72, 100), V(100, 0, 0));
	shares(3, V(71, 71, 100), V(99, 1, 0));
	shares(3, V(50, 50, 100), V(70, 30, 0));
	shares(3, V(25, 100, 100), V(35, 65, 0));
	shares(3, V(25, 25, 100), V(35, 35, 30));
	shares(3, V(25, 25, 20), V(37, 35, 28)); /* of 98; what rounding leaves goes to the first */
	shares(3, V(0, 0, 10), V(0, 0, 100));
	shares(3, V(0, 0, 0), V(100, 0, 0));
	shares(1, V(1), V(100));
}

TEST(a_level_without_endpoints)
{
	CHECK_INT(level_health(0, 0), 0);
	CHECK_INT(level_health(5, 7), 100);
	CHECK_INT(level_health(4, 7), 80);
	CHECK_INT(level_health(UINT32_MAX, UINT32_MAX), 100);
}

static void slow(uint32_t nr, const uint32_t *us, uint32_t factor, uint32_t floor_us, const char *want)
{
	char got[16] = "";
	bool is[16];

	latency_judge(us, nr, factor, floor_us, is);
	for (uint32_t i = 0; i < nr; i++)
		got[i] = is[i] ? 's' : '.';
	CHECK_STR(got, want);
}

TEST(who_is_slow)
{
	slow(4, V(100, 110, 90, 200000), 3000, 1000, "...s");
	slow(4, V(200000, 110, 90, 100), 3000, 1000, "s...");
	slow(4, V(100, 110, 90, 301), 3000, 0, "...s");
	slow(4, V(100, 110, 90, 300), 3000, 0, "...."); /* not over three times 100 */
	slow(4, V(100, 110, 90, 900), 3000, 1000, "....");
	slow(3, V(100, 100, 5000), 3000, 1000, "..s");
	slow(2, V(100, 500000), 3000, 1000, "..");
	slow(1, V(500000), 3000, 1000, ".");
	slow(0, V(0), 3000, 1000, "");
	/* Two of four are slow: the lower middle of the others is that of a quick one. */
	slow(4, V(100, 100, 90000, 80000), 3000, 1000, "..ss");
	/* Most are: then they are what is usual. */
	slow(5, V(100, 80000, 90000, 80000, 80000), 3000, 1000, ".....");
	slow(4, V(5000, 5000, 5000, 5000), 1001, 0, "....");
	slow(4, V(0, 0, 0, 1), 3000, 0, "...s");
}
