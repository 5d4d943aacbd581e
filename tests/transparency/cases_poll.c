/* SPDX-License-Identifier: BSD-2-Clause */
/* Waiting: poll, select, epoll in all its modes, low-water marks. */
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

#include "side.h"

static void look(struct side *s, int fd, const char *when)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM };

	if (poll(&p, 1, 0) < 0)
		say(s, "poll failed");
	say_events(s, when, (unsigned)p.revents);
}

static void poll_level(struct side *s, int fd)
{
	char buf[64];

	look(s, fd, "before");
	meet(s);
	meet(s);
	look(s, fd, "data");
	look(s, fd, "still");
	GET(s, buf, recv(fd, buf, 5, 0));
	look(s, fd, "half");
	GET(s, buf, recv(fd, buf, 5, 0));
	look(s, fd, "none");
	meet(s);
	meet(s);
	await(s, fd, POLLRDHUP);
	look(s, fd, "end");
	CALL(s, recv(fd, buf, 5, 0));
	look(s, fd, "after the end");
	CALL(s, shutdown(fd, SHUT_WR));
	meet(s);
	await(s, fd, 0);
	look(s, fd, "both ended");
}

static void client_poll_level(struct side *s, int fd)
{
	char buf[8];

	meet(s);
	client_ten(s, fd);
	meet(s);
	CALL(s, shutdown(fd, SHUT_WR));
	meet(s);
	CALL(s, recv(fd, buf, 8, 0));
	await(s, fd, 0);
	look(s, fd, "both ended");
	meet(s);
}

static void poll_asleep(struct side *s, int fd)
{
	struct nurse *n = when_asleep(s, tell_asleep);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[64];

	CALL(s, poll(&p, 1, WAIT_MS));
	rest(s, n);
	say_events(s, "events", (unsigned)p.revents);
	GET(s, buf, recv(fd, buf, 64, MSG_DONTWAIT));
}

static void client_when_asleep(struct side *s, int fd)
{
	hear(s);
	CALL(s, send(fd, "abcdefghij", 10, 0));
	settle(s, fd);
}

static void select_asleep(struct side *s, int fd)
{
	struct nurse *n = when_asleep(s, tell_asleep);
	struct timeval tv = { WAIT_MS / 1000, 0 };
	fd_set in, out;
	char buf[64];

	FD_ZERO(&in);
	FD_SET(fd, &in);
	CALL(s, select(fd + 1, &in, NULL, NULL, &tv));
	rest(s, n);
	FD_ZERO(&out);
	FD_SET(fd, &out);
	tv = (struct timeval){ 0 };
	CALL(s, select(fd + 1, &in, &out, NULL, &tv));
	say(s, "in %d out %d", FD_ISSET(fd, &in), FD_ISSET(fd, &out));
	GET(s, buf, recv(fd, buf, 64, MSG_DONTWAIT));
	FD_ZERO(&in);
	FD_SET(fd, &in);
	CALL(s, select(fd + 1, &in, NULL, NULL, &tv));
}

static int watch(struct side *s, int fd, uint32_t events)
{
	struct epoll_event e = { .events = events };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	MUST(s, ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	return ep;
}

static void epoll_look(struct side *s, int ep, int timeout, const char *when)
{
	struct epoll_event e = { 0 };
	int n = epoll_wait(ep, &e, 1, timeout);

	if (n > 0)
		say_events(s, when, e.events);
	else
		said(s, when, n);
}

static void epoll_level(struct side *s, int fd)
{
	int ep = watch(s, fd, EPOLLIN | EPOLLRDHUP);
	struct nurse *n = when_asleep(s, tell_asleep);
	char buf[64];

	epoll_look(s, ep, WAIT_MS, "asleep");
	rest(s, n);
	epoll_look(s, ep, 0, "again");
	GET(s, buf, recv(fd, buf, 5, 0));
	epoll_look(s, ep, 0, "half");
	GET(s, buf, recv(fd, buf, 64, 0));
	epoll_look(s, ep, 0, "none");
	meet(s);
	epoll_look(s, ep, WAIT_MS, "end");
	epoll_look(s, ep, 0, "end again");
}

static void client_epoll(struct side *s, int fd)
{
	client_when_asleep(s, fd);
	meet(s);
	CALL(s, shutdown(fd, SHUT_WR));
}

static void epoll_edge(struct side *s, int fd)
{
	int ep = watch(s, fd, EPOLLIN | EPOLLET | EPOLLRDHUP);
	struct nurse *n = when_asleep(s, tell_asleep);
	char buf[64];

	epoll_look(s, ep, WAIT_MS, "asleep");
	rest(s, n);
	epoll_look(s, ep, 0, "no edge");
	GET(s, buf, recv(fd, buf, 5, 0));
	epoll_look(s, ep, 0, "no edge with half left");
	meet(s);
	meet(s);
	epoll_look(s, ep, 0, "more came");
	GET(s, buf, recv(fd, buf, 64, 0));
	epoll_look(s, ep, 0, "none");
	meet(s);
	meet(s);
	epoll_look(s, ep, WAIT_MS, "end");
	epoll_look(s, ep, 0, "end, no edge");
}

static void client_epoll_edge(struct side *s, int fd)
{
	client_when_asleep(s, fd);
	meet(s);
	client_ten(s, fd);
	meet(s);
	CALL(s, shutdown(fd, SHUT_WR));
	meet(s);
}

/* 2000 messages, read until there is nothing more at each edge: an edge that is missed would stop it. */
static void epoll_edge_many(struct side *s, int fd)
{
	int ep = watch(s, fd, EPOLLIN | EPOLLET);
	struct epoll_event e;
	char buf[64];
	size_t got = 0;
	ssize_t n;

	set_nonblocking(fd, true);
	while (got < 2000 * 10 && epoll_wait(ep, &e, 1, WAIT_MS) == 1)
		while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
			got += (size_t)n;
	say(s, "got %zu", got);
	set_nonblocking(fd, false);
	CALL(s, send(fd, "x", 1, 0));
}

static void client_many(struct side *s, int fd)
{
	char buf[8];

	for (int i = 0; i < 2000; i++) {
		send_all(s, fd, "abcdefghij", 10);
		if (i % 50 == 0)
			sched_yield();
	}
	CALL(s, recv(fd, buf, 8, 0));
}

static void epoll_oneshot(struct side *s, int fd)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLONESHOT };
	int ep = watch(s, fd, EPOLLIN | EPOLLONESHOT);
	char buf[64];

	meet(s);
	epoll_look(s, ep, WAIT_MS, "data");
	epoll_look(s, ep, 0, "disarmed");
	CALL(s, epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
	epoll_look(s, ep, 0, "armed");
	GET(s, buf, recv(fd, buf, 64, 0));
	CALL(s, epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
	epoll_look(s, ep, 0, "none");
}

static void epoll_exclusive(struct side *s, int fd)
{
	int one = watch(s, fd, EPOLLIN | EPOLLEXCLUSIVE), two = watch(s, fd, EPOLLIN | EPOLLEXCLUSIVE);
	char buf[64];

	meet(s);
	epoll_look(s, one, WAIT_MS, "one");
	epoll_look(s, two, 0, "two");
	GET(s, buf, recv(fd, buf, 64, 0));
	epoll_look(s, one, 0, "one");
}

/* An epoll in an epoll. */
static void epoll_nested(struct side *s, int fd)
{
	int inner = watch(s, fd, EPOLLIN), outer = watch(s, inner, EPOLLIN);
	struct nurse *n = when_asleep(s, tell_asleep);
	char buf[64];

	epoll_look(s, outer, WAIT_MS, "asleep");
	rest(s, n);
	epoll_look(s, inner, 0, "inner");
	GET(s, buf, recv(fd, buf, 64, 0));
	epoll_look(s, outer, 0, "outer, none");
}

static void epoll_out(struct side *s, int fd)
{
	static char data[65536];
	int ep = watch(s, fd, EPOLLOUT | EPOLLET);
	uint32_t put = 0;
	ssize_t n;

	epoll_look(s, ep, 0, "room");
	epoll_look(s, ep, 0, "no edge");
	set_nonblocking(fd, true);
	while ((n = send(fd, data, sizeof(data), 0)) > 0 && put < 64u << 20)
		put += (uint32_t)n;
	said(s, "full", n < 0 ? n : 0);
	tell(s, put);
	epoll_look(s, ep, WAIT_MS, "room again");
}

static void server_reads(struct side *s, int fd)
{
	uint32_t put = hear(s);
	char *data = malloc(put);

	say(s, "all %s", recv_all(s, fd, data, put) == put ? "came" : "did not come");
	free(data);
}

static void lowat_poll(struct side *s, int fd)
{
	int lowat = 15;
	char buf[64];

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat)));
	meet(s);
	meet(s);
	look(s, fd, "below the mark");
	GET(s, buf, recv(fd, buf, 5, MSG_DONTWAIT | MSG_PEEK));
	meet(s);
	meet(s);
	look(s, fd, "above the mark");
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void client_lowat(struct side *s, int fd)
{
	meet(s);
	client_ten(s, fd);
	meet(s);
	client_ten(s, fd);
}

/* The nurse has the second half sent when the first has arrived and the reader sleeps on. */
static void after_first(struct side *s, struct nurse *n)
{
	tell(s, 0);
	hear(s);
	sleeps_again(n);
	tell(s, 0);
}

static void lowat_recv(struct side *s, int fd)
{
	struct nurse *n;
	int lowat = 15;
	char buf[64];

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat)));
	n = when_asleep(s, after_first);
	GET(s, buf, recv(fd, buf, 64, 0));
	rest(s, n);
	meet(s);
}

static void client_lowat_recv(struct side *s, int fd)
{
	hear(s);
	CALL(s, send(fd, "abcdefghij", 10, 0));
	settle(s, fd);
	tell(s, 0);
	hear(s);
	CALL(s, send(fd, "KLMNOPQRST", 10, 0));
	sent(s, fd);
}

static void timeouts(struct side *s, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timeval tv = { .tv_usec = 20000 };
	char buf[8];

	CALL(s, poll(&p, 1, 20));
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	CALL(s, recv(fd, buf, 8, 0));
	CALL(s, read(fd, buf, 8));
	CALL(s, recv(fd, buf, 8, MSG_PEEK));
}

static void notsent_lowat(struct side *s, int fd)
{
	int mark = 16384, got = 0;
	socklen_t len = sizeof(got);

	CALL(s, setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &mark, sizeof(mark)));
	CALL(s, getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &got, &len));
	say(s, "mark %d", got);
	look(s, fd, "room");
	client_ten(s, fd);
	look(s, fd, "room again");
}

static void server_ten(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	GET(s, buf, recv(fd, buf, 64, 0));
}

const struct transparency_case cases_poll[] = {
	{ "poll_level", client_poll_level, poll_level, 0 },
	{ "poll_asleep", client_when_asleep, poll_asleep, 0 },
	{ "select_asleep", client_when_asleep, select_asleep, 0 },
	{ "epoll_level", client_epoll, epoll_level, 0 },
	{ "epoll_edge", client_epoll_edge, epoll_edge, 0 },
	{ "epoll_edge_many", client_many, epoll_edge_many, 0 },
	{ "epoll_oneshot", client_ten, epoll_oneshot, 0 },
	{ "epoll_exclusive", client_ten, epoll_exclusive, 0 },
	{ "epoll_nested", client_when_asleep, epoll_nested, 0 },
	{ "epoll_out", epoll_out, server_reads, SLOW | FOUR_ONLY },
	{ "rcvlowat_poll", client_lowat, lowat_poll, 0 },
	{ "rcvlowat_recv", client_lowat_recv, lowat_recv, 0 },
	{ "recv_timeouts", nothing, timeouts, 0 },
	{ "notsent_lowat", notsent_lowat, server_ten, 0 },
	{ NULL, NULL, NULL, 0 },
};
