/* SPDX-License-Identifier: BSD-2-Clause */
/* The event loop: order of timers, sources removed from within callbacks, signals. */
#include "test.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/loop.h"

struct state {
	struct loop *loop;
	char order[16];
	unsigned int nr, fired;
	struct loop_io *io[2];
	struct loop_timer *other;
	int signo;
};

static struct state st;

static void note(char c)
{
	if (st.nr < sizeof(st.order) - 1)
		st.order[st.nr++] = c;
}

static void on_a(void *data)
{
	note('a');
}

static void on_b(void *data)
{
	note('b');
}

static void on_stop(void *data)
{
	loop_stop(st.loop);
}

static void begin(void)
{
	memset(&st, 0, sizeof(st));
	st.loop = loop_new();
}

TEST(timers_fire_in_order)
{
	begin();
	loop_timer_add(st.loop, 20, on_b, NULL);
	loop_timer_add(st.loop, 30, on_stop, NULL);
	loop_timer_add(st.loop, 10, on_a, NULL);
	loop_timer_add(st.loop, 20, on_a, NULL);
	CHECK_INT(loop_run(st.loop), 0);
	CHECK_STR(st.order, "aba");
	loop_free(st.loop);
}

static void on_delete_other(void *data)
{
	note('d');
	loop_timer_del(st.other);
}

TEST(a_timer_may_remove_another)
{
	begin();
	loop_timer_add(st.loop, 0, on_delete_other, NULL);
	st.other = loop_timer_add(st.loop, 0, on_a, NULL);
	loop_timer_add(st.loop, 5, on_stop, NULL);
	CHECK_INT(loop_run(st.loop), 0);
	CHECK_STR(st.order, "d");
	loop_free(st.loop);
}

static void on_again(void *data)
{
	note('x');
	if (++st.fired < 3)
		loop_timer_add(st.loop, 0, on_again, NULL);
	else
		loop_stop(st.loop);
}

TEST(a_timer_may_add_itself_again)
{
	begin();
	loop_timer_add(st.loop, 0, on_again, NULL);
	CHECK_INT(loop_run(st.loop), 0);
	CHECK_STR(st.order, "xxx");
	loop_free(st.loop);
}

/* Whichever of two ready sources comes first removes both: the other must not run, nor be read after free. */
static void on_remove_both(void *data, int fd, uint32_t events)
{
	note('r');
	loop_io_del(st.io[0]);
	loop_io_del(st.io[1]);
}

TEST(a_callback_may_remove_sources_of_its_round)
{
	int fds[2];

	begin();
	for (int i = 0; i < 2; i++) {
		fds[i] = eventfd(1, EFD_NONBLOCK);
		st.io[i] = loop_io_add(st.loop, fds[i], EPOLLIN, on_remove_both, NULL);
		CHECK(st.io[i] != NULL);
	}
	loop_timer_add(st.loop, 5, on_stop, NULL);
	CHECK_INT(loop_run(st.loop), 0);
	CHECK_STR(st.order, "r");
	close(fds[0]);
	close(fds[1]);
	loop_free(st.loop);
}

static void on_ready(void *data, int fd, uint32_t events)
{
	note(events & EPOLLOUT ? 'w' : 'r');
	if (events & EPOLLOUT)
		loop_io_set(st.io[0], EPOLLIN);
	else
		loop_stop(st.loop);
}

TEST(events_can_be_changed)
{
	int fd;

	begin();
	fd = eventfd(1, EFD_NONBLOCK);
	st.io[0] = loop_io_add(st.loop, fd, EPOLLOUT, on_ready, NULL);
	CHECK_INT(loop_run(st.loop), 0);
	CHECK_STR(st.order, "wr");
	loop_io_del(st.io[0]);
	close(fd);
	loop_free(st.loop);
}

static void on_signal(void *data, int signo)
{
	st.signo = signo;
	loop_stop(st.loop);
}

TEST(signals)
{
	sigset_t set;

	begin();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK_INT(loop_signals(st.loop, &set, on_signal, NULL), 0);
	CHECK_INT(loop_signals(st.loop, &set, on_signal, NULL), -EBUSY);
	kill(getpid(), SIGUSR1);
	CHECK_INT(loop_run(st.loop), 0);
	CHECK_INT(st.signo, SIGUSR1);
	loop_free(st.loop);
}

TEST(a_source_without_epoll_is_refused)
{
	begin();
	CHECK(loop_io_add(st.loop, -1, EPOLLIN, on_ready, NULL) == NULL);
	CHECK_INT(errno, EBADF);
	loop_free(st.loop);
}

static struct {
	uint32_t due_ms, fired; /* fired: its place in the order, from 1 */
	struct loop_timer *timer;
} many[2000];
static uint32_t many_fired;

static void on_many(void *data)
{
	many[(uintptr_t)data].fired = ++many_fired;
}

/* In the order of their times, those of one time in the order of adding, and none that was removed. */
TEST(thousands_of_timers)
{
	enum { NR = sizeof(many) / sizeof(*many) };
	uint32_t seed = 1, left = 0;

	begin();
	for (uintptr_t i = 0; i < NR; i++) {
		seed = seed * 1664525 + 1013904223;
		many[i].due_ms = 100 + 25 * ((seed >> 16) % 8);
		many[i].timer = loop_timer_add(st.loop, many[i].due_ms, on_many, (void *)i);
	}
	for (uint32_t i = 0; i < NR; i += 3)
		loop_timer_del(many[i].timer);
	loop_timer_add(st.loop, 400, on_stop, NULL);
	CHECK_INT(loop_run(st.loop), 0);
	for (uint32_t i = 0; i < NR; i++) {
		left += i % 3 != 0;
		CHECK_INT(many[i].fired != 0, i % 3 != 0);
	}
	CHECK_INT(many_fired, left);
	/* They were added within a few milliseconds, so that times which are further apart tell the order. */
	for (uint32_t i = 1; i < NR; i++) {
		for (uint32_t k = i + 1; k < NR; k++) {
			if (!(i % 3) || !(k % 3))
				continue;
			CHECK(many[i].due_ms != many[k].due_ms || many[i].fired < many[k].fired);
			CHECK(many[i].due_ms <= many[k].due_ms + 20 || many[i].fired > many[k].fired);
		}
	}
	loop_free(st.loop);
}
