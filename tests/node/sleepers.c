/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Readers that fall asleep: how much is taken from their writers then, and what that costs the system, the caller measures.
 *
 *   sleepers serve PORT                 says "ready"; answers requests of 64 bytes with as many, until one says that it is the last: from
 *                                       then on it leaves that connection alone. At a line on standard input it wakes up, reads all to the
 *                                       end, checks every byte, prints how many there were, and ends
 *   sleepers fill NR SIZE TARGET        opens NR connections, exchanges requests over each; prints "warm"; at a line on standard input
 *                                       sends messages of SIZE over all until none is taken any more; prints {"accepted","most"}, of all
 *                                       and of the connection that took most; at a line closes them
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "peer.h"
#include "stream.h"

#define REQUEST 64
#define REQUESTS 300
#define LAST 1
#define SEED 42
#define QUIET_MS 400 /* nothing was taken for so long: all are full */

struct conn {
	int fd;
	uint8_t request[REQUEST];
	size_t have;
	uint64_t got;
};

static uint8_t buf[1 << 20];

static void must(bool good, const char *what)
{
	if (!good)
		die(what);
}

/* False: it sleeps now. */
static bool answer(struct conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, c->request + c->have, REQUEST - c->have, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return true;
		must(n > 0, "recv of a request");
		c->have += (size_t)n;
		if (c->have < REQUEST)
			continue;
		c->have = 0;
		must(send(c->fd, c->request, REQUEST, MSG_DONTWAIT | MSG_NOSIGNAL) == REQUEST, "answer");
		if (c->request[0] == LAST)
			return false;
	}
}

/* False: it has ended. */
static bool drain(struct conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return true;
		must(n >= 0, "recv");
		must(stream_check(SEED, c->got, buf, (size_t)n) == (size_t)n, "a byte that does not belong there");
		c->got += (uint64_t)n;
		if (!n)
			return false;
	}
}

static void add(int ep, struct conn *c)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };

	must(!epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e), "epoll_ctl");
}

static int serve(uint16_t port)
{
	static struct conn conns[4096];
	struct conn listener = { .fd = peer_listen(port) }, input = { .fd = 0 };
	uint32_t nr = 0, ended = 0;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e;
	bool awake = false;
	uint64_t total = 0;

	add(ep, &listener);
	add(ep, &input);
	printf("ready\n");
	fflush(stdout);
	while (!awake || ended < nr) {
		struct conn *c;

		if (epoll_wait(ep, &e, 1, -1) != 1)
			continue;
		c = e.data.ptr;
		if (c == &listener) {
			must(nr < 4096, "too many connections");
			c = &conns[nr++];
			c->fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
			must(c->fd >= 0, "accept");
			add(ep, c);
		} else if (c == &input) {
			must(read(0, buf, sizeof(buf)) > 0, "end of standard input");
			awake = true;
			for (uint32_t i = 0; i < nr; i++)
				add(ep, &conns[i]);
			epoll_ctl(ep, EPOLL_CTL_DEL, 0, NULL);
		} else if (awake ? !drain(c) : !answer(c)) {
			epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
			total += c->got;
			ended += awake;
		}
	}
	printf("%lu\n", total);
	return 0;
}

static void exchange(int fd, uint32_t nr)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	uint8_t request[REQUEST] = { 0 };

	for (uint32_t i = 0; i < nr; i++) {
		size_t have = 0;

		request[0] = i + 1 == nr ? LAST : 0;
		must(send(fd, request, REQUEST, MSG_DONTWAIT | MSG_NOSIGNAL) == REQUEST, "request");
		while (have < REQUEST) {
			ssize_t n;

			must(poll(&pfd, 1, 30000) == 1, "no answer");
			n = recv(fd, request + have, REQUEST - have, MSG_DONTWAIT);
			must(n > 0 || (n < 0 && errno == EAGAIN), "recv of an answer");
			have += n > 0 ? (size_t)n : 0;
		}
	}
}

static int dial(const char *target)
{
	struct sockaddr_storage to;
	socklen_t len = peer_parse(target, &to);
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	must(fd >= 0 && !connect(fd, (struct sockaddr *)&to, len), "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	must(!fcntl(fd, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
	return fd;
}

static void fill(struct pollfd *fds, uint64_t *put, uint32_t nr, size_t size)
{
	while (poll(fds, nr, QUIET_MS) > 0)
		for (uint32_t i = 0; i < nr; i++) {
			ssize_t n;

			if (!fds[i].revents)
				continue;
			stream_fill(SEED, put[i], buf, size);
			n = send(fds[i].fd, buf, size, MSG_DONTWAIT | MSG_NOSIGNAL);
			must(n > 0 || (n < 0 && errno == EAGAIN), "send");
			put[i] += n > 0 ? (uint64_t)n : 0;
		}
}

static int run_fill(uint32_t nr, size_t size, const char *target)
{
	struct pollfd *fds = calloc(nr, sizeof(*fds));
	uint64_t *put = calloc(nr, sizeof(*put)), total = 0, most = 0;
	char line[16];

	must(size <= sizeof(buf), "SIZE");
	for (uint32_t i = 0; i < nr; i++) {
		fds[i] = (struct pollfd){ .fd = dial(target), .events = POLLOUT };
		exchange(fds[i].fd, REQUESTS);
	}
	printf("warm\n");
	fflush(stdout);
	must(fgets(line, sizeof(line), stdin), "end of standard input");
	fill(fds, put, nr, size);
	for (uint32_t i = 0; i < nr; i++) {
		total += put[i];
		most = most > put[i] ? most : put[i];
	}
	printf("{\"accepted\":%lu,\"most\":%lu}\n", total, most);
	fflush(stdout);
	must(fgets(line, sizeof(line), stdin), "end of standard input");
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit r = { 65536, 65536 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &r);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve((uint16_t)atoi(argv[2]));
	if (argc == 5 && !strcmp(argv[1], "fill"))
		return run_fill((uint32_t)atoi(argv[2]), strtoul(argv[3], NULL, 10), argv[4]);
	fprintf(stderr, "usage: sleepers serve PORT | sleepers fill NR SIZE TARGET\n");
	return 2;
}
