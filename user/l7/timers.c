/* SPDX-License-Identifier: BSD-2-Clause */
#include "l7/timers.h"

#include <limits.h>
#include <stdlib.h>

#include "base/arena.h"

static void put(struct timers *t, uint32_t place, struct timer *timer)
{
	t->heap[place] = timer;
	timer->place = place;
}

static void up(struct timers *t, struct timer *timer)
{
	uint32_t i = timer->place;

	for (; i > 1 && t->heap[i / 2]->key > timer->key; i /= 2)
		put(t, i, t->heap[i / 2]);
	put(t, i, timer);
}

static void down(struct timers *t, struct timer *timer)
{
	uint32_t i = timer->place;

	for (;;) {
		uint32_t child = 2 * i;

		if (child > t->nr)
			break;
		if (child < t->nr && t->heap[child + 1]->key < t->heap[child]->key)
			child++;
		if (t->heap[child]->key >= timer->key)
			break;
		put(t, i, t->heap[child]);
		i = child;
	}
	put(t, i, timer);
}

static void grow(struct timers *t)
{
	t->cap = t->cap ? t->cap * 2 : 64;
	t->heap = xrealloc(t->heap, (t->cap + 1) * sizeof(*t->heap));
}

void timer_set(struct timers *t, struct timer *timer, uint64_t deadline_ms)
{
	timer->deadline_ms = deadline_ms;
	if (timer->place && timer->key <= deadline_ms)
		return;
	timer->key = deadline_ms;
	if (!timer->place) {
		if (t->nr == t->cap)
			grow(t);
		put(t, ++t->nr, timer);
	}
	up(t, timer);
}

void timer_remove(struct timers *t, struct timer *timer)
{
	struct timer *last;

	if (!timer->place)
		return;
	last = t->heap[t->nr--];
	if (last != timer) {
		put(t, timer->place, last);
		up(t, last);
		down(t, last);
	}
	timer->place = 0;
}

struct timer *timers_due(struct timers *t, uint64_t now_ms)
{
	while (t->nr && t->heap[1]->key <= now_ms) {
		struct timer *first = t->heap[1];

		if (first->deadline_ms == TIMER_NEVER || first->deadline_ms <= now_ms) {
			bool due = first->deadline_ms != TIMER_NEVER;

			timer_remove(t, first);
			first->deadline_ms = TIMER_NEVER;
			if (due)
				return first;
		} else {
			first->key = first->deadline_ms;
			down(t, first);
		}
	}
	return NULL;
}

int timers_wait(const struct timers *t, uint64_t now_ms)
{
	if (!t->nr)
		return -1;
	if (t->heap[1]->key <= now_ms)
		return 0;
	return t->heap[1]->key - now_ms > INT_MAX ? INT_MAX : (int)(t->heap[1]->key - now_ms);
}

void timers_release(struct timers *t)
{
	free(t->heap);
	*t = (struct timers){ 0 };
}
