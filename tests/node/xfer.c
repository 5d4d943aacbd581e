/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Flows of known size. Client and server meet in a file (--plan) that both map: the client writes what each of its connections is
 * to carry under its own port before the first byte, the server reads it there, so that a flow may carry a single byte.
 *
 *   xfer serve PLAN PORT               says "ready"; until killed
 *   xfer run PLAN FLOWS SEED TARGET... opens FLOWS connections in turn, each to a random target with random sizes both ways, and
 *                                      keeps them; prints a JSON line for each, then "open"; at a line on standard input closes
 *                                      all (some by FIN, some by the server's FIN first, some by reset); prints "closed"; waits
 *                                      for the end of standard input
 * A JSON line: {"ip","port","dialled","sent","received","how"}: what this end wrote and the other read, and back.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "peer.h"

#define SIZE_MAX_LOG2 20
#define SLOTS (2 * 65536)
#define FIRST_PORT 20000

/* What a connection is to carry; the slot is v6 << 16 | client port. */
struct plan {
	volatile uint32_t up,
		down; /* down: sent by the server when it has all of `up`, or from the first byte on (duplex) */
	volatile uint32_t duplex, used;
};

/* How a connection ends: by both, first half at once; by the client; by the server first; by a reset. */
enum how { HALF, CLIENT, SERVER, RESET, HOW_NR };
static const char *const how_text[HOW_NR] = { "half", "client", "server", "reset" };

static struct plan *plan_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct plan *p;

	if (fd < 0 || ftruncate(fd, SLOTS * sizeof(struct plan)))
		die(path);
	p = mmap(NULL, SLOTS * sizeof(struct plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die(path);
	close(fd);
	return p;
}

static uint32_t slot_of(const struct sockaddr_storage *client)
{
	bool v6 = client->ss_family == AF_INET6 &&
		  !IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)client)->sin6_addr);

	return (uint32_t)v6 << 16 | peer_port(client);
}

static void raise_files(void)
{
	struct rlimit r = { 65536, 65536 };

	setrlimit(RLIMIT_NOFILE, &r);
}

/* ---- serve ---- */

struct conn {
	int fd;		   /* 0: closed */
	struct conn *next; /* of all that were ever accepted */
	struct plan *plan;
	uint32_t got, put;
	bool ended; /* the client sent its FIN */
};

static uint8_t zeros[1 << 16];

/* Reads what is there, writes what is due. False: closed. */
static bool conn_step(struct conn *c)
{
	static uint8_t sink[1 << 16];
	ssize_t n;

	while (!c->ended) {
		n = recv(c->fd, sink, sizeof(sink), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return false;
		if (!n)
			c->ended = true;
		c->got += (uint32_t)n;
	}
	while (c->got && c->put < c->plan->down && (c->got >= c->plan->up || c->plan->duplex)) {
		uint32_t left = c->plan->down - c->put;

		/* The last byte waits for all of the other direction, so that it acknowledges it. */
		if (c->got < c->plan->up && --left == 0)
			break;
		n = send(c->fd, zeros, left < sizeof(zeros) ? left : sizeof(zeros), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0)
			return false;
		c->put += (uint32_t)n;
	}
	return true;
}

static void conn_close(struct conn *c)
{
	close(c->fd);
	c->fd = 0;
}

static void conn_accept(int ep, int l, struct plan *plans, struct conn **all)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP };
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct conn *c;
	int fd;

	while ((fd = accept4(l, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC)) >= 0) {
		c = calloc(1, sizeof(*c));
		*c = (struct conn){ .fd = fd, .plan = &plans[slot_of(&sa)], .next = *all };
		*all = c;
		e.data.ptr = c;
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
		len = sizeof(sa);
	}
}

static _Noreturn void serve(struct plan *plans, uint16_t port)
{
	struct epoll_event events[256], e = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), l = peer_listen(port);
	struct conn *all = NULL;

	e.data.ptr = NULL;
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &e);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, events, 256, 100);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (!c)
				conn_accept(ep, l, plans, &all);
			else if (c->fd && !conn_step(c))
				conn_close(c);
		}
		/* Ends that the client asked for through the plan. */
		for (struct conn *c = n ? NULL : all; c; c = c->next)
			if (c->fd && c->plan->used == 2 && c->put >= c->plan->down)
				conn_close(c);
	}
}

/* ---- run ---- */

struct flow {
	int fd;
	uint32_t slot;
	enum how how;
};

/* 1 byte to 1 MB, uniform in the logarithm. */
static uint32_t random_size(uint64_t *rng)
{
	uint32_t base = 1u << peer_random(rng) % (SIZE_MAX_LOG2 + 1), size = base + (uint32_t)(peer_random(rng) % base);

	return size < 1u << SIZE_MAX_LOG2 ? size : 1u << SIZE_MAX_LOG2;
}

static void move(int fd, const struct plan *p)
{
	static uint8_t sink[1 << 16];
	uint32_t put = 0, got = 0;

	while (put < p->up || got < p->down) {
		struct pollfd pfd = { .fd = fd,
				      .events = (short)((put < p->up ? POLLOUT : 0) | (got < p->down ? POLLIN : 0)) };
		uint32_t left = p->up - put;
		ssize_t n;

		if (poll(&pfd, 1, 30000) <= 0)
			die("poll");
		if (pfd.revents & POLLOUT) {
			n = send(fd, zeros, left < sizeof(zeros) ? left : sizeof(zeros), MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n < 0 && errno != EAGAIN)
				die("send");
			put += n > 0 ? (uint32_t)n : 0;
		}
		if (pfd.revents & (POLLIN | POLLHUP | POLLERR)) {
			n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);
			if (n == 0 || (n < 0 && errno != EAGAIN))
				die("recv");
			got += n > 0 ? (uint32_t)n : 0;
		}
	}
}

/* A port of our own for each flow: left to the kernel, flows to different endpoints may share one, and the plan goes by port. */
static void bind_port(int fd, sa_family_t family, uint16_t port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	bool v6 = family == AF_INET6;

	if (bind(fd, v6 ? (struct sockaddr *)&six : (struct sockaddr *)&four, v6 ? sizeof(six) : sizeof(four)))
		die("bind");
}

static struct flow open_flow(struct plan *plans, const char *target, uint16_t port, uint64_t *rng)
{
	struct sockaddr_storage to, own;
	socklen_t len = peer_parse(target, &to), own_len = sizeof(own);
	struct flow f = { .how = (enum how)(peer_random(rng) % HOW_NR) };
	char text[64];
	struct plan *p;

	f.fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f.fd < 0)
		die("socket");
	bind_port(f.fd, to.ss_family, port);
	if (connect(f.fd, (struct sockaddr *)&to, len))
		die("connect");
	if (getsockname(f.fd, (struct sockaddr *)&own, &own_len))
		die("getsockname");
	f.slot = slot_of(&own);
	p = &plans[f.slot];
	p->up = random_size(rng);
	p->down = random_size(rng);
	p->duplex = (uint32_t)(peer_random(rng) % 2);
	__sync_synchronize();
	p->used = 1;
	move(f.fd, p);
	if (f.how == HALF)
		shutdown(f.fd, SHUT_WR);
	printf("{\"ip\":\"%s\",\"port\":%u,\"dialled\":\"%s\",\"sent\":%u,\"received\":%u,\"how\":\"%s\"}\n",
	       peer_text(&own, text, sizeof(text)), peer_port(&own), target, p->up, p->down, how_text[f.how]);
	return f;
}

/* Whoever is to go first goes; the server learns of its part by used == 2. */
static void close_begin(struct plan *plans, struct flow *f)
{
	if (f->how == RESET)
		peer_linger0(f->fd);
	if (f->how == RESET || f->how == CLIENT)
		close(f->fd);
	if (f->how != RESET)
		plans[f->slot].used = 2;
}

static void close_end(struct flow *f)
{
	char c;

	if (f->how == RESET || f->how == CLIENT)
		return;
	if (recv(f->fd, &c, 1, 0) != 0)
		die("server's end");
	close(f->fd);
}

static int run(struct plan *plans, char **args, int nr)
{
	uint32_t flow_nr = (uint32_t)atoi(args[0]);
	struct flow *flows = calloc(flow_nr, sizeof(*flows));
	uint64_t rng = strtoull(args[1], NULL, 10);
	char line[16];

	for (uint32_t i = 0; i < flow_nr; i++)
		flows[i] = open_flow(plans, args[2 + peer_random(&rng) % (uint32_t)(nr - 2)],
				     (uint16_t)(FIRST_PORT + i), &rng);
	printf("open\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	for (uint32_t i = 0; i < flow_nr; i++)
		close_begin(plans, &flows[i]);
	for (uint32_t i = 0; i < flow_nr; i++)
		close_end(&flows[i]);
	printf("closed\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		;
	return 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	raise_files();
	if (argc == 4 && !strcmp(argv[1], "serve"))
		serve(plan_open(argv[2]), (uint16_t)atoi(argv[3]));
	if (argc > 5 && !strcmp(argv[1], "run"))
		return run(plan_open(argv[2]), argv + 3, argc - 3);
	fprintf(stderr, "usage: xfer serve PLAN PORT | xfer run PLAN FLOWS SEED TARGET...\n");
	return 2;
}
