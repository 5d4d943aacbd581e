/* SPDX-License-Identifier: BSD-2-Clause */
/* Ways to connect, to listen and to accept, and ports that are used again. */
#include <fcntl.h>
#include <linux/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "side.h"

/* ---- a server that takes what comes ---- */

static void serves(struct side *s, int nr)
{
	int l = open_listener(s, PORT, 4096);
	char buf[64];

	meet(s);
	for (int i = 0; i < nr; i++) {
		int fd = accept_from(s, l);
		ssize_t n = recv(fd, buf, 64, 0);

		said_bytes(s, "came", n, buf);
		if (n > 0)
			send_all(s, fd, "answer", 6);
		close(fd);
		s->fd = -1;
	}
	meet(s);
}

static void serves_one(struct side *s, int none)
{
	serves(s, 1);
}

static void serves_two(struct side *s, int none)
{
	serves(s, 2);
}

static void asks(struct side *s, int fd)
{
	char buf[64];

	CALL(s, send(fd, "question", 8, MSG_NOSIGNAL));
	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
}

static int dial(struct side *s, int fd)
{
	return connect(fd, (struct sockaddr *)&s->dial, s->len);
}

static void blocking(struct side *s, int none)
{
	int fd = open_socket(s, 0);

	meet(s);
	CALL(s, dial(s, fd));
	CALL(s, dial(s, fd));
	asks(s, fd);
	CALL(s, dial(s, fd));
	meet(s);
}

static void nonblocking(struct side *s, int none)
{
	int fd = open_socket(s, SOCK_NONBLOCK), err = -1;
	socklen_t len = sizeof(err);

	meet(s);
	CALL(s, dial(s, fd));
	say_events(s, "poll", await(s, fd, POLLOUT));
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say(s, "error %d", err);
	CALL(s, dial(s, fd));
	CALL(s, dial(s, fd));
	set_nonblocking(fd, false);
	asks(s, fd);
	meet(s);
}

static void refused(struct side *s, int none)
{
	struct sockaddr_storage to = at_port(&s->dial, SPARE_PORT);
	int fd = open_socket(s, 0), err = -1;
	socklen_t len = sizeof(err);

	meet(s);
	CALL(s, connect(fd, (struct sockaddr *)&to, s->len));
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say(s, "error %d", err);
	/* It can be used again. */
	CALL(s, dial(s, fd));
	asks(s, fd);
	meet(s);
}

static void refused_nonblocking(struct side *s, int none)
{
	struct sockaddr_storage to = at_port(&s->dial, SPARE_PORT);
	int fd = open_socket(s, SOCK_NONBLOCK), err = -1;
	socklen_t len = sizeof(err);
	char buf[8];

	CALL(s, connect(fd, (struct sockaddr *)&to, s->len));
	say_events(s, "poll", await(s, fd, POLLOUT));
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say(s, "error %s", strerrorname_np(err));
	CALL(s, recv(fd, buf, 8, 0));
	CALL(s, connect(fd, (struct sockaddr *)&to, s->len));
	await(s, fd, POLLOUT);
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, connect(fd, (struct sockaddr *)&to, s->len));
}

static void bad_addresses(struct side *s, int none)
{
	struct sockaddr_storage to = s->dial;
	int fd = open_socket(s, 0), l;

	CALL(s, connect(fd, (struct sockaddr *)&to, 1));
	CALL(s, connect(fd, (struct sockaddr *)&to, s->len - 5));
	CALL(s, connect(fd, (struct sockaddr *)&to, 1000));
	CALL(s, connect(fd, (struct sockaddr *)8, s->len));
	to.ss_family = AF_UNIX;
	CALL(s, connect(fd, (struct sockaddr *)&to, s->len));
	to.ss_family = s->family == FOUR ? AF_INET6 : AF_INET;
	CALL(s, connect(fd, (struct sockaddr *)&to, s->family == FOUR ? sizeof(struct sockaddr_in6) : s->len));
	CALL(s, connect(-1, (struct sockaddr *)&to, s->len));
	CALL(s, connect(1, (struct sockaddr *)&s->dial, s->len));
	l = open_listener(s, SPARE_PORT, 1);
	CALL(s, dial(s, l));
}

static void disconnects(struct side *s, int none)
{
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd = open_socket(s, 0);

	CALL(s, connect(fd, &unspec, sizeof(unspec)));
	meet(s);
	CALL(s, dial(s, fd));
	asks(s, fd);
	CALL(s, connect(fd, &unspec, sizeof(unspec)));
	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	CALL(s, dial(s, fd));
	len = sizeof(sa);
	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	say_address(s, "peer", &sa, len);
	asks(s, fd);
	meet(s);
}

/* With what it says and how it is bound, from port `port`. */
static int bound(struct side *s, uint16_t port, bool late)
{
	struct sockaddr_storage from = at_port(&s->own, port);
	int fd = open_socket(s, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (late)
		CALL(s, setsockopt(fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &on, sizeof(on)));
	CALL(s, bind(fd, (struct sockaddr *)&from, s->len));
	return fd;
}

static void from_bound(struct side *s, int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	meet(s);
	CALL(s, dial(s, fd));
	CALL(s, getsockname(fd, (struct sockaddr *)&sa, &len));
	say_address(s, "name", &sa, len);
	asks(s, fd);
	meet(s);
}

static void bind_address(struct side *s, int none)
{
	from_bound(s, bound(s, 0, false));
}

static void bind_late(struct side *s, int none)
{
	from_bound(s, bound(s, 0, true));
}

static void bind_port(struct side *s, int none)
{
	from_bound(s, bound(s, SPARE_PORT, false));
}

/* ---- data with the SYN ---- */

static void fast_open(struct side *s, int none)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd = open_socket(s, 0);
	char buf[64];

	meet(s);
	CALL(s, sendto(fd, "question", 8, MSG_FASTOPEN, (struct sockaddr *)&s->dial, s->len));
	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	say_address(s, "peer", &sa, len);
	meet(s);
}

static void fast_open_connect(struct side *s, int none)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd = open_socket(s, 0), on = 1;

	meet(s);
	CALL(s, setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)));
	CALL(s, dial(s, fd));
	asks(s, fd);
	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	say_address(s, "peer", &sa, len);
	meet(s);
}

/* ---- accept ---- */

static void accepts(struct side *s, int none)
{
	int l = open_listener(s, PORT, 4), fd;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	set_nonblocking(l, true);
	CALL(s, accept(l, NULL, NULL));
	meet(s);
	say_events(s, "poll", await(s, l, POLLIN));
	fd = accept4(l, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	MUST(s, fd >= 0);
	say_address(s, "from", &sa, len);
	say(s, "nonblocking %d cloexec %d", fcntl(fd, F_GETFL) & O_NONBLOCK, fcntl(fd, F_GETFD));
	len = 3;
	await(s, l, POLLIN);
	fd = accept(l, (struct sockaddr *)&sa, &len);
	MUST(s, fd >= 0);
	say(s, "length %u, nonblocking %d", len, fcntl(fd, F_GETFL) & O_NONBLOCK);
	CALL(s, accept(l, NULL, NULL));
	CALL(s, accept4(l, NULL, NULL, 0x1234567));
	CALL(s, accept(fd, NULL, NULL));
}

static void connects_twice(struct side *s, int none)
{
	int one = open_socket(s, 0), two = open_socket(s, 0);

	meet(s);
	CALL(s, dial(s, one));
	CALL(s, dial(s, two));
}

static void accept_asleep(struct side *s, int none)
{
	int l = open_listener(s, PORT, 4), fd;
	struct nurse *n = when_asleep(s, tell_asleep);

	fd = accept(l, NULL, NULL);
	rest(s, n);
	say(s, "accepted %d", fd >= 0);
	meet(s);
}

static void connects_when_asleep(struct side *s, int none)
{
	int fd = open_socket(s, 0);

	hear(s);
	CALL(s, dial(s, fd));
	meet(s);
}

/* Opened and closed before anybody looks. */
static void connect_and_go(struct side *s, int none)
{
	meet(s);
	for (int i = 0; i < 20; i++) {
		int fd = open_socket(s, 0);

		must(s, !dial(s, fd), "connect");
		close(fd);
	}
	meet(s);
}

static void accepts_gone(struct side *s, int none)
{
	int l = open_listener(s, PORT, 64);
	char buf[8];

	meet(s);
	meet(s);
	for (int i = 0; i < 20; i++) {
		int fd = accept(l, NULL, NULL);

		if (fd < 0 || recv(fd, buf, 8, 0) != 0)
			say(s, "%d: no clean end", i);
		close(fd);
	}
}

/* Neither waits for the other: nonblocking connects that are given up at once. */
static void give_up(struct side *s, int none)
{
	int fd;

	meet(s);
	for (int i = 0; i < 20; i++) {
		fd = open_socket(s, SOCK_NONBLOCK);
		must(s, dial(s, fd) && errno == EINPROGRESS, "EINPROGRESS");
		close(fd);
	}
	fd = open_socket(s, 0);
	CALL(s, dial(s, fd));
	asks(s, fd);
	meet(s);
}

static void serves_those_who_ask(struct side *s, int none)
{
	int l = open_listener(s, PORT, 64), fd;
	char buf[64];
	ssize_t n;

	meet(s);
	do {
		fd = accept(l, NULL, NULL);
		MUST(s, fd >= 0);
		n = recv(fd, buf, 64, 0);
		if (n <= 0)
			close(fd);
	} while (n <= 0);
	said_bytes(s, "came", n, buf);
	send_all(s, fd, "answer", 6);
	close(fd);
	meet(s);
}

/* ---- families ---- */

static void other_family(struct side *s, int none)
{
	int l = open_listener(s, PORT, 4);

	meet(s);
	meet(s);
	close(l);
}

/* To a listener of IPv6 alone there is no way by IPv4, and the other way round. */
static void dials_other_family(struct side *s, int none)
{
	int fd = socket(s->family == SIX ? AF_INET : AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };

	meet(s);
	CALL(s, connect(fd, (struct sockaddr *)&six, sizeof(six)));
	CALL(s, dial(s, fd));
	meet(s);
}

/* A socket that takes both families sees IPv4 as mapped, and says so. */
static void two_families(struct side *s, int none)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	int l = socket(AF_INET6, SOCK_STREAM, 0), off = 0, on = 1, fd;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	MUST(s, !setsockopt(l, IPPROTO_IPV6, 26 /* IPV6_V6ONLY */, &off, sizeof(off)));
	MUST(s, !bind(l, (struct sockaddr *)&any, sizeof(any)) && !listen(l, 4));
	meet(s);
	fd = accept(l, (struct sockaddr *)&sa, &len);
	MUST(s, fd >= 0);
	say_address(s, "from", &sa, len);
	len = sizeof(sa);
	CALL(s, getsockname(fd, (struct sockaddr *)&sa, &len));
	say_address(s, "name", &sa, len);
	meet(s);
}

static void dials(struct side *s, int none)
{
	int fd = open_socket(s, 0);

	meet(s);
	CALL(s, dial(s, fd));
	meet(s);
}

/* ---- ports that are used again ---- */

/* The old descriptor of a connection that was reset is kept, while the same port carries a new one: each sees its own. */
static void old_descriptor(struct side *s, int none)
{
	int old = bound(s, SPARE_PORT, false), now;
	char buf[64];

	meet(s);
	CALL(s, dial(s, old));
	if (s->warm)
		warm_up(s, old);
	s->fd = old;
	meet(s);
	await(s, old, POLLHUP);
	now = bound(s, SPARE_PORT, false);
	CALL(s, dial(s, now));
	if (s->warm)
		warm_up(s, now);
	s->fd = now;
	meet(s);
	CALL(s, recv(old, buf, 64, MSG_DONTWAIT));
	CALL(s, recv(old, buf, 64, MSG_DONTWAIT));
	CALL(s, send(old, "wrong", 5, MSG_NOSIGNAL));
	GET(s, buf, recv(now, buf, 64, 0));
	CALL(s, close(old));
	CALL(s, send(now, "right", 5, 0));
	sent(s, now);
}

static void old_descriptor_server(struct side *s, int none)
{
	struct linger lg = { .l_onoff = 1 };
	int l = open_listener(s, PORT, 4), fd;
	char buf[64];

	meet(s);
	fd = accept_from(s, l);
	meet(s);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
	CALL(s, close(fd));
	s->fd = -1;
	fd = accept_from(s, l);
	CALL(s, send(fd, "for the new one", 15, 0));
	sent(s, fd);
	meet(s);
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void port_in_use(struct side *s, int none)
{
	int one = open_listener(s, SPARE_PORT, 4), two = open_socket(s, 0), on = 1;
	struct sockaddr_storage at = at_port(&s->own, SPARE_PORT);

	CALL(s, bind(two, (struct sockaddr *)&at, s->len));
	setsockopt(two, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	CALL(s, bind(two, (struct sockaddr *)&at, s->len));
	close(one);
	CALL(s, bind(two, (struct sockaddr *)&at, s->len));
	CALL(s, listen(two, 1));
	CALL(s, listen(two, 5));
	CALL(s, bind(two, (struct sockaddr *)&at, s->len));
}

/* ---- many ---- */

#define CROWD 1000

static void crowd(struct side *s, int none)
{
	static int fds[CROWD];
	int answered = 0;
	char buf[8];

	meet(s);
	for (int i = 0; i < CROWD; i++) {
		fds[i] = open_socket(s, SOCK_NONBLOCK);
		must(s, !dial(s, fds[i]) || errno == EINPROGRESS, "connect");
	}
	for (int i = 0; i < CROWD; i++) {
		await(s, fds[i], POLLOUT);
		must(s, send(fds[i], "q", 1, MSG_NOSIGNAL) == 1, "send");
	}
	for (int i = 0; i < CROWD; i++) {
		await(s, fds[i], POLLIN);
		answered += recv(fds[i], buf, 8, 0) == 1;
	}
	say(s, "answered %d", answered);
}

static void crowd_server(struct side *s, int none)
{
	static int fds[CROWD];
	int l = open_listener(s, PORT, 4096), got = 0;
	char buf[8];

	meet(s);
	for (int i = 0; i < CROWD; i++) {
		fds[i] = accept(l, NULL, NULL);
		MUST(s, fds[i] >= 0);
	}
	for (int i = 0; i < CROWD; i++) {
		got += recv(fds[i], buf, 8, 0) == 1;
		send_all(s, fds[i], "a", 1);
	}
	say(s, "asked %d", got);
}

/* Four threads connect at the same time. */
static void *races(void *data)
{
	struct side *s = data;
	char buf[8];

	for (int i = 0; i < 50; i++) {
		int fd = open_socket(s, 0);

		must(s, !dial(s, fd) && send(fd, "q", 1, MSG_NOSIGNAL) == 1 && recv(fd, buf, 8, 0) == 1,
		     "a question is answered");
		close(fd);
	}
	return NULL;
}

static void race(struct side *s, int none)
{
	pthread_t t[4];

	meet(s);
	for (int i = 0; i < 4; i++)
		MUST(s, !pthread_create(&t[i], NULL, races, s));
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	say(s, "200 answers");
}

static void race_server(struct side *s, int none)
{
	int l = open_listener(s, PORT, 256);
	char buf[8];

	meet(s);
	for (int i = 0; i < 200; i++) {
		int fd = accept(l, NULL, NULL);

		if (recv(fd, buf, 8, 0) == 1)
			send_all(s, fd, "a", 1);
		close(fd);
	}
	say(s, "200 served");
}

const struct transparency_case cases_connect[] = {
	{ "connect", blocking, serves_one, RAW | COLD_ONLY },
	{ "connect_nonblocking", nonblocking, serves_one, RAW | COLD_ONLY },
	{ "connect_refused", refused, serves_one, RAW | COLD_ONLY },
	{ "connect_refused_nonblocking", refused_nonblocking, nothing, RAW | COLD_ONLY },
	{ "connect_bad_addresses", bad_addresses, nothing, RAW | COLD_ONLY },
	{ "connect_disconnects", disconnects, serves_two, RAW | COLD_ONLY },
	{ "connect_bind_address", bind_address, serves_one, RAW | COLD_ONLY },
	{ "connect_bind_late", bind_late, serves_one, RAW | COLD_ONLY },
	{ "connect_bind_port", bind_port, serves_one, RAW | COLD_ONLY },
	{ "connect_fast_open", fast_open, serves_one, RAW | COLD_ONLY },
	{ "connect_fast_open_option", fast_open_connect, serves_one, RAW | COLD_ONLY },
	{ "connect_and_go", connect_and_go, accepts_gone, RAW | COLD_ONLY },
	{ "connect_given_up", give_up, serves_those_who_ask, RAW | COLD_ONLY },
	{ "connect_other_family", dials_other_family, other_family, RAW | COLD_ONLY },
	{ "accept", connects_twice, accepts, RAW | COLD_ONLY },
	{ "accept_asleep", connects_when_asleep, accept_asleep, RAW | COLD_ONLY },
	{ "accept_two_families", dials, two_families, RAW | COLD_ONLY },
	{ "port_old_descriptor", old_descriptor, old_descriptor_server, RAW },
	{ "port_in_use", port_in_use, nothing, RAW | COLD_ONLY },
	{ "sockets_thousand", crowd, crowd_server, RAW | COLD_ONLY | SLOW | FOUR_ONLY },
	{ "connect_race", race, race_server, RAW | COLD_ONLY | SLOW },
	{ NULL, NULL, NULL, 0 },
};
