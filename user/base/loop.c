/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Event loop over epoll. Removed sources are freed only after the round that may still name them. Timers stand in a sorted
 * list: there are a few dozen at most (one a control client).
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
	uint64_t due_ms;
	loop_fn fn;
	void *data;
	struct loop_timer *next;
};

struct loop {
	int epoll;
	int signal_fd; /* -1: none */
	bool stop;
	struct loop_io *signal_io;
	loop_signal_fn signal_fn;
	void *signal_data;
	struct loop_timer *timers; /* soonest first */
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
	while (l->timers)
		loop_timer_del(l->timers);
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

struct loop_timer *loop_timer_add(struct loop *l, uint64_t after_ms, loop_fn fn, void *data)
{
	struct loop_timer *t = malloc(sizeof(*t));
	struct loop_timer **at = &l->timers;

	if (!t)
		return NULL;
	*t = (struct loop_timer){ .loop = l, .due_ms = loop_now_ms() + after_ms, .fn = fn, .data = data };
	while (*at && (*at)->due_ms <= t->due_ms)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
	return t;
}

void loop_timer_del(struct loop_timer *t)
{
	struct loop_timer **at = &t->loop->timers;

	while (*at && *at != t)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = t->next;
	free(t);
}

/* Runs what was due when the round began: a callback that adds a timer of 0 ms must not keep the others waiting. */
static void run_timers(struct loop *l)
{
	uint64_t now = loop_now_ms();

	while (!l->stop && l->timers && l->timers->due_ms <= now) {
		struct loop_timer *t = l->timers;
		loop_fn fn = t->fn;
		void *data = t->data;

		l->timers = t->next;
		free(t);
		fn(data);
	}
}

static int timeout_ms(const struct loop *l)
{
	uint64_t now;

	if (!l->timers)
		return -1;
	now = loop_now_ms();
	if (l->timers->due_ms <= now)
		return 0;
	return l->timers->due_ms - now > 60000 ? 60000 : (int)(l->timers->due_ms - now);
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
