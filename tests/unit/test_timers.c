/* SPDX-License-Identifier: BSD-2-Clause */
#include "l7/timers.h"

#include "test.h"

#define NR 500

static uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

TEST(due_in_time_whatever_moves)
{
	struct timer v[NR];
	uint64_t deadline[NR], state = 88172645463325252ull, now = 0;
	struct timers t = { 0 };

	for (int i = 0; i < NR; i++) {
		v[i] = (struct timer){ .deadline_ms = TIMER_NEVER, .kind = (uint32_t)i };
		deadline[i] = TIMER_NEVER;
	}
	for (int step = 0; step < 20000; step++) {
		uint32_t i = (uint32_t)(rnd(&state) % NR);
		uint64_t next = TIMER_NEVER;
		int wait;

		if (rnd(&state) % 8 == 0) {
			timer_stop(&v[i]);
			deadline[i] = TIMER_NEVER;
		} else if (rnd(&state) % 8 == 0) {
			timer_remove(&t, &v[i]);
			v[i].deadline_ms = deadline[i] = TIMER_NEVER;
		} else {
			deadline[i] = now + rnd(&state) % 1000;
			timer_set(&t, &v[i], deadline[i]);
		}
		now += rnd(&state) % 3;
		for (struct timer *due; (due = timers_due(&t, now));) {
			CHECK_MSG(deadline[due->kind] <= now, "timer %u is early", due->kind);
			deadline[due->kind] = TIMER_NEVER;
		}
		for (int k = 0; k < NR; k++)
			next = deadline[k] < next ? deadline[k] : next;
		CHECK_MSG(next > now, "one of %llu is left at %llu", (unsigned long long)next, (unsigned long long)now);
		wait = timers_wait(&t, now);
		CHECK_MSG(next == TIMER_NEVER || (wait >= 0 && now + (uint64_t)wait <= next), "would sleep past it");
	}
	timers_release(&t);
}

TEST(later_costs_no_place)
{
	struct timer a = { .deadline_ms = TIMER_NEVER }, b = { .deadline_ms = TIMER_NEVER };
	struct timers t = { 0 };

	timer_set(&t, &a, 10);
	timer_set(&t, &b, 20);
	timer_set(&t, &a, 30);
	CHECK_INT(t.nr, 2);
	CHECK(!timers_due(&t, 19));
	CHECK(timers_due(&t, 25) == &b);
	CHECK(!timers_due(&t, 29));
	CHECK(timers_due(&t, 30) == &a);
	CHECK_INT(timers_wait(&t, 30), -1);
	timers_release(&t);
}
