/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Timers of one worker: a heap that is lazy. A deadline that moves to later is only noted, since almost every one does before it is
 * reached; the heap is put right when its old place comes up.
 */
#ifndef L7_TIMERS_H
#define L7_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#define TIMER_NEVER UINT64_MAX

struct timer {
	uint64_t deadline_ms; /* CLOCK_MONOTONIC, or TIMER_NEVER */
	uint64_t key;	      /* what it has in the heap: never later than the deadline */
	uint32_t place;	      /* in the heap, from 1; 0: in none */
	uint32_t kind;	      /* the owner's: says what it is part of */
};

struct timers {
	struct timer **heap; /* heap[1 .. nr] */
	uint32_t nr, cap;
};

/* A timer is {.deadline_ms = TIMER_NEVER, .kind = ...} before its first use. */
void timer_set(struct timers *t, struct timer *timer, uint64_t deadline_ms);
static inline void timer_stop(struct timer *timer)
{
	timer->deadline_ms = TIMER_NEVER;
}
/* Before its memory goes. */
void timer_remove(struct timers *t, struct timer *timer);
/* The next one that is due, which is stopped; NULL: none is. */
struct timer *timers_due(struct timers *t, uint64_t now_ms);
/* Milliseconds until one may be due, -1: none is set. */
int timers_wait(const struct timers *t, uint64_t now_ms);
void timers_release(struct timers *t);

#endif
