/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests and answers of one size over a connection that is kept, and writes of one size in one direction, by programs that sleep in
 * epoll_wait() only, and are told of levels: a socket that is watched by edges is not accelerated.
 *
 *   rtt serve PORT|PATH       answers each message with itself; a message begins with its size. PATH, which begins with '/': AF_UNIX
 *   rtt sink PORT             reads all there is to read, and closes behind the client
 *   rtt ask TARGET|PATH       for each line "SIZE MILLISECONDS" on standard input: exchanges messages for so long, after some to warm
 *                             up; prints "<messages> <nanoseconds> <p50> <p99>"
 *   rtt alone                 as `ask`, of a server of its own, past TCP by a program that asks nothing: what a redirect takes at least. Says
 *                             the server's process first
 *   rtt pour TARGET           for each line "SIZE MILLISECONDS": writes for so long over a new connection; prints "<bytes> <nanoseconds>"
 * Servers say "ready".
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/un.h>

#include <bpf/bpf.h>

#include "../node/peer.h"

#define SIZE_MOST (1 << 20)
#define WARM 500
#define SAMPLES (1 << 20)

struct conn {
	int fd;
	uint32_t events;	  /* that it is watched for */
	uint32_t size, have, put; /* of the message, which is not known before it has begun; read; sent back */
	uint8_t *data;
};

static uint8_t data[SIZE_MOST];

static void must(bool good, const char *what)
{
	if (!good)
		die(what);
}

static socklen_t parse(const char *text, struct sockaddr_storage *ret)
{
	struct sockaddr_un *un = (struct sockaddr_un *)ret;

	if (text[0] != '/')
		return peer_parse(text, ret);
	memset(ret, 0, sizeof(*ret));
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof(un->sun_path), "%s", text);
	return sizeof(*un);
}

static int listen_at(const char *where)
{
	struct sockaddr_storage sa;
	socklen_t len;
	int fd;

	if (where[0] != '/')
		return peer_listen((uint16_t)atoi(where));
	len = parse(where, &sa);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	must(fd >= 0 && !bind(fd, (struct sockaddr *)&sa, len) && !listen(fd, 128), where);
	return fd;
}

static int dial(const char *target)
{
	struct sockaddr_storage sa;
	socklen_t len = parse(target, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	must(fd >= 0 && !connect(fd, (struct sockaddr *)&sa, len), target);
	if (sa.ss_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	must(!fcntl(fd, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
	return fd;
}

/* Watches a connection for one of EPOLLIN and EPOLLOUT, which changes where a large message has to wait for room. */
static void watch(int ep, struct conn *c, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = c };

	if (c->events != events)
		must(!epoll_ctl(ep, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e), "epoll_ctl");
	c->events = events;
}

/* ---- servers ---- */

/* What of the message is there goes back when it is whole. False: the connection is over. */
static bool echo(struct conn *c)
{
	for (;;) {
		uint32_t most = c->size ? c->size : SIZE_MOST;
		ssize_t n;

		if (!c->size || c->have < c->size) {
			n = recv(c->fd, c->data + c->have, most - c->have, 0);
			if (n <= 0)
				return n < 0 && errno == EAGAIN;
			c->have += (uint32_t)n;
			if (c->have >= sizeof(c->size))
				memcpy(&c->size, c->data, sizeof(c->size));
			if (!c->size || c->have < c->size)
				continue;
		}
		n = send(c->fd, c->data + c->put, c->size - c->put, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN;
		c->put += (uint32_t)n;
		if (c->put < c->size)
			continue;
		c->size = c->have = c->put = 0;
		return true; /* there is one message at a time */
	}
}

static bool swallow(struct conn *c)
{
	return recv(c->fd, data, sizeof(data), 0) > 0;
}

static void take_in(int ep, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	int on = 1;

	c->data = malloc(SIZE_MOST);
	c->fd = fd;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	watch(ep, c, EPOLLIN);
}

static _Noreturn void serve(int l, int ep, bool (*take)(struct conn *c))
{
	struct epoll_event events[64];

	for (;;) {
		int n = epoll_wait(ep, events, 64, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			int fd;

			if (c && take(c)) {
				watch(ep, c, c->size && c->have == c->size ? EPOLLOUT : EPOLLIN);
				continue;
			}
			if (c) {
				close(c->fd);
				free(c->data);
				free(c);
				continue;
			}
			must((fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0, "accept");
			take_in(ep, fd);
		}
	}
}

static _Noreturn void serve_at(const char *where, bool (*take)(struct conn *c))
{
	int l = listen_at(where), ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN };

	must(!epoll_ctl(ep, EPOLL_CTL_ADD, l, &e), "epoll_ctl");
	puts("ready");
	fflush(stdout);
	serve(l, ep, take);
}

/* ---- clients ---- */

static void exchange(int ep, struct conn *c, uint32_t size)
{
	uint32_t put = 0, got = 0;
	struct epoll_event e;

	memcpy(data, &size, sizeof(size));
	while (put < size) {
		ssize_t n = send(c->fd, data + put, size - put, MSG_NOSIGNAL);

		must(n > 0 || errno == EAGAIN, "send");
		put += n > 0 ? (uint32_t)n : 0;
		if (n > 0)
			continue;
		watch(ep, c, EPOLLOUT);
		must(epoll_wait(ep, &e, 1, 20000) == 1, "no room");
	}
	watch(ep, c, EPOLLIN);
	while (got < size) {
		ssize_t n;

		must(epoll_wait(ep, &e, 1, 20000) == 1, "no answer");
		do {
			n = recv(c->fd, data, sizeof(data), 0);
			got += n > 0 ? (uint32_t)n : 0;
		} while (n > 0 && got < size);
		must(n > 0 || (n < 0 && errno == EAGAIN), "recv");
	}
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int ask(int fd)
{
	static uint32_t took[SAMPLES];
	struct conn c = { .fd = fd };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	uint32_t size, ms;

	while (scanf("%u %u", &size, &ms) == 2) {
		uint64_t start, now, until;
		uint32_t nr = 0;

		must(size >= sizeof(size) && size <= SIZE_MOST, "SIZE");
		for (uint32_t i = 0; i < WARM; i++)
			exchange(ep, &c, size);
		start = now = peer_now_ns();
		for (until = start + ms * 1000000ull; now < until && nr < SAMPLES; nr++) {
			uint64_t begin = now;

			exchange(ep, &c, size);
			now = peer_now_ns();
			took[nr] = (uint32_t)(now - begin);
		}
		qsort(took, nr, sizeof(*took), by_value);
		printf("%u %lu %u %u\n", nr, now - start, took[nr / 2], took[(uint64_t)nr * 99 / 100]);
		fflush(stdout);
	}
	return 0;
}

/* ---- a redirect alone ---- */

#define INSN(op, dst, src, o, k) \
	((struct bpf_insn){ .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (o), .imm = (k) })

/* A map of sockets, each under the port of the other end as a program sees it, and the program that has what one sends go to the other. */
static int sockets(void)
{
	int map = bpf_map_create(BPF_MAP_TYPE_SOCKHASH, "alone", sizeof(uint32_t), sizeof(uint64_t), 2, NULL), prog;
	struct bpf_insn insns[] = {
		INSN(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, offsetof(struct sk_msg_md, remote_port), 0),
		INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, BPF_REG_2, -4, 0),
		INSN(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_2, BPF_PSEUDO_MAP_FD, 0, map),
		INSN(0, 0, 0, 0, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_3, 0, 0, -4),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, BPF_F_INGRESS),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_msg_redirect_hash),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};

	must(map >= 0, "BPF_MAP_CREATE");
	prog = bpf_prog_load(BPF_PROG_TYPE_SK_MSG, "alone", "GPL", insns, sizeof(insns) / sizeof(*insns), NULL);
	must(prog >= 0 && !bpf_prog_attach(prog, map, BPF_SK_MSG_VERDICT, 0), "a program for sk_msg");
	return map;
}

static void put_in(int map, int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	uint64_t value = (uint64_t)fd;
	uint32_t key;

	must(!getsockname(fd, (struct sockaddr *)&sa, &len), "getsockname");
	key = htonl(peer_port(&sa));
	must(!bpf_map_update_elem(map, &key, &value, BPF_NOEXIST), "a socket of the map");
}

static int alone(void)
{
	int l = peer_listen(0), ep = epoll_create1(EPOLL_CLOEXEC), map = sockets(), here, there;
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char target[32];
	pid_t pid;

	must(!getsockname(l, (struct sockaddr *)&sa, &len), "getsockname");
	snprintf(target, sizeof(target), "127.0.0.1:%u", peer_port(&sa));
	here = dial(target);
	there = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	must(there >= 0, "accept");
	put_in(map, here);
	put_in(map, there);
	pid = fork();
	must(pid >= 0, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(here);
		take_in(ep, there);
		serve(l, ep, echo);
	}
	close(there);
	printf("%d\n", pid);
	fflush(stdout);
	return ask(here);
}

static int pour(const char *target)
{
	uint32_t size, ms;

	while (scanf("%u %u", &size, &ms) == 2) {
		uint64_t start = peer_now_ns(), until = start + ms * 1000000ull, sent = 0;
		int fd = dial(target), ep = epoll_create1(EPOLL_CLOEXEC);
		struct epoll_event e = { .events = EPOLLOUT };

		must(size <= SIZE_MOST && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), "epoll_ctl");
		while (peer_now_ns() < until) {
			ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

			must(n > 0 || errno == EAGAIN, "send");
			sent += n > 0 ? (uint64_t)n : 0;
			if (n < 0)
				must(epoll_wait(ep, &e, 1, 20000) == 1, "no room");
		}
		/* The other end closes when it has read all. */
		e.events = EPOLLIN;
		must(!epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e) && !shutdown(fd, SHUT_WR), "shutdown");
		must(epoll_wait(ep, &e, 1, 20000) == 1 && recv(fd, data, 1, 0) == 0, "the other end's close");
		close(fd);
		close(ep);
		printf("%lu %lu\n", sent, peer_now_ns() - start);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve_at(argv[2], echo);
	if (argc == 3 && !strcmp(argv[1], "sink"))
		serve_at(argv[2], swallow);
	if (argc == 3 && !strcmp(argv[1], "ask"))
		return ask(dial(argv[2]));
	if (argc == 2 && !strcmp(argv[1], "alone"))
		return alone();
	if (argc == 3 && !strcmp(argv[1], "pour"))
		return pour(argv[2]);
	fprintf(stderr,
		"usage: rtt serve PORT|PATH | rtt sink PORT | rtt ask TARGET|PATH | rtt alone | rtt pour TARGET\n");
	return 2;
}
