/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Event loop over epoll. Removed sources are freed only after the round that may still name them. Timers stand in a binary heap:
 * there may be thousands (one a workload that is checked).
 */
#include "base/loop.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 64

struct loop_io {
	struct loop *loop;
	int fd;
	bool dead;
	loop_io_fn fn;
	void *data;
	struct loop_io *next_dead;
};

struct loop_timer {
	struct loop *loop;
	uint64_t due_ms, serial; /* of those due at once, who came first */
	loop_fn fn;
	void *data;
	uint32_t at; /* in the heap */
};

struct loop {
	int epoll;
	int signal_fd; /* -1: none */
	bool stop;
	struct loop_io *signal_io;
	loop_signal_fn signal_fn;
	void *signal_data;
	struct loop_timer **timers; /* heap, soonest first; owned */
	uint32_t timer_nr, timer_cap;
	uint64_t timer_serial;
	struct loop_io *dead;
};

uint64_t loop_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->signal_fd = -1;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0) {
		free(l);
		return NULL;
	}
	return l;
}

static void bury(struct loop *l)
{
	while (l->dead) {
		struct loop_io *io = l->dead;

		l->dead = io->next_dead;
		free(io);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	if (l->signal_io)
		loop_io_del(l->signal_io);
	if (l->signal_fd >= 0)
		close(l->signal_fd);
	while (l->timer_nr)
		loop_timer_del(l->timers[0]);
	free(l->timers);
	bury(l);
	close(l->epoll);
	free(l);
}

struct loop_io *loop_io_add(struct loop *l, int fd, uint32_t epoll_events, loop_io_fn fn, void *data)
{
	struct loop_io *io = malloc(sizeof(*io));
	struct epoll_event ev = { .events = epoll_events, .data.ptr = io };

	if (!io)
		return NULL;
	*io = (struct loop_io){ .loop = l, .fd = fd, .fn = fn, .data = data };
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev)) {
		free(io);
		return NULL;
	}
	return io;
}

int loop_io_set(struct loop_io *io, uint32_t epoll_events)
{
	struct epoll_event ev = { .events = epoll_events, .data.ptr = io };

	return epoll_ctl(io->loop->epoll, EPOLL_CTL_MOD, io->fd, &ev) ? -errno : 0;
}

void loop_io_del(struct loop_io *io)
{
	struct loop *l = io->loop;

	if (io->dead)
		return;
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, io->fd, NULL);
	io->dead = true;
	io->next_dead = l->dead;
	l->dead = io;
}

static bool sooner(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->serial < b->serial;
}

static void heap_put(struct loop *l, uint32_t at, struct loop_timer *t)
{
	l->timers[at] = t;
	t->at = at;
}

/* Finds the place of `t`, from the free one at `at` on. */
static void heap_settle(struct loop *l, uint32_t at, struct loop_timer *t)
{
	while (at && sooner(t, l->timers[(at - 1) / 2])) {
		heap_put(l, at, l->timers[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	for (uint32_t child = 2 * at + 1; child < l->timer_nr; child = 2 * at + 1) {
		if (child + 1 < l->timer_nr && sooner(l->timers[child + 1], l->timers[child]))
			child++;
		if (!sooner(l->timers[child], t))
			break;
		heap_put(l, at, l->timers[child]);
		at = child;
	}
	heap_put(l, at, t);
}

struct loop_timer *loop_timer_add(struct loop *l, uint64_t after_ms, loop_fn fn, void *data)
{
	struct loop_timer *t = malloc(sizeof(*t));

	if (t && l->timer_nr == l->timer_cap) {
		uint32_t cap = l->timer_cap ? l->timer_cap * 2 : 16;
		struct loop_timer **timers = realloc(l->timers, cap * sizeof(*timers));

		if (!timers) {
			free(t);
			return NULL;
		}
		l->timers = timers;
		l->timer_cap = cap;
	}
	if (!t)
		return NULL;
	*t = (struct loop_timer){
		.loop = l, .due_ms = loop_now_ms() + after_ms, .serial = l->timer_serial++, .fn = fn, .data = data
	};
	heap_settle(l, l->timer_nr++, t);
	return t;
}

void loop_timer_del(struct loop_timer *t)
{
	struct loop *l = t->loop;
	struct loop_timer *last = l->timers[--l->timer_nr];

	if (last != t)
		heap_settle(l, t->at, last);
	free(t);
}

/* Runs what was due when the round began: a callback that adds a timer of 0 ms must not keep the others waiting. */
static void run_timers(struct loop *l)
{
	uint64_t now = loop_now_ms(), serial = l->timer_serial;

	while (!l->stop && l->timer_nr && l->timers[0]->due_ms <= now && l->timers[0]->serial < serial) {
		loop_fn fn = l->timers[0]->fn;
		void *data = l->timers[0]->data;

		loop_timer_del(l->timers[0]);
		fn(data);
	}
}

static int timeout_ms(const struct loop *l)
{
	uint64_t now, due;

	if (!l->timer_nr)
		return -1;
	now = loop_now_ms();
	due = l->timers[0]->due_ms;
	if (due <= now)
		return 0;
	return due - now > 60000 ? 60000 : (int)(due - now);
}

int loop_run(struct loop *l)
{
	struct epoll_event evs[EVENTS_MAX];

	l->stop = false;
	while (!l->stop) {
		int n = epoll_wait(l->epoll, evs, EVENTS_MAX, timeout_ms(l));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n && !l->stop; i++) {
			struct loop_io *io = evs[i].data.ptr;

			if (!io->dead)
				io->fn(io->data, io->fd, evs[i].events);
		}
		bury(l);
		run_timers(l);
		bury(l);
	}
	return 0;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

static void on_signal(void *data, int fd, uint32_t events)
{
	struct loop *l = data;
	struct signalfd_siginfo si;

	while (!l->stop && read(fd, &si, sizeof(si)) == sizeof(si))
		l->signal_fn(l->signal_data, (int)si.ssi_signo);
}

int loop_signals(struct loop *l, const sigset_t *set, loop_signal_fn fn, void *data)
{
	if (l->signal_fd >= 0)
		return -EBUSY;
	if (sigprocmask(SIG_BLOCK, set, NULL))
		return -errno;
	l->signal_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->signal_fd < 0)
		return -errno;
	l->signal_fn = fn;
	l->signal_data = data;
	l->signal_io = loop_io_add(l, l->signal_fd, EPOLLIN, on_signal, l);
	return l->signal_io ? 0 : -errno;
}
