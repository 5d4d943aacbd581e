/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Both ends of connections whose every message is answered with itself, by programs that never sleep in a call on a socket; and what
 * attackers do with them.
 *
 *   pair serve PORT                   says "ready"; a message is MESSAGE bytes, whose first says what is wanted: an echo; a reset of the
 *                                     connection, whose socket is kept; how many bytes came to sockets that were reset; that the next
 *                                     recv() of this connection stalls in a page fault, says "stalled", until a line on standard input
 *   pair hold TARGET [SOURCE:PORT]    connects and says its port; for each line on standard input: "NR": exchanges so many messages, and says
 *                                     "ok"; "stall": asks for it and sends a message; "push NR": sends so many without waiting for
 *                                     answers; "collect": reads all answers. Each line is answered; other bytes than expected end it
 *   pair reuse ROUNDS TARGET          connects, is reset by the server or resets, and connects anew from the same port while the old
 *                                     sockets of both ends are kept and read; prints {"rounds","stolen"}
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "peer.h"
#include "stream.h"

#define MESSAGE 64
#define WARM 400 /* messages after which a connection is moved past TCP, if ever */
#define CONNS 1024

enum want { ECHO = 'e', RESET = 'r', STOLEN = 's', STALL = 'p' };

struct conn {
	int fd;
	size_t have, stale; /* bytes of the message; of an old socket, that came when it was over */
	bool over, stalls;
	uint8_t message[MESSAGE];
};

static void must(bool good, const char *what)
{
	if (!good)
		die(what);
}

static void say(const char *text)
{
	puts(text);
	fflush(stdout);
}

/* ---- a page that nobody gives ---- */

static uint8_t *missing_page;
static int missing_fd;

static void *give_page(void *unused)
{
	struct uffd_msg msg;
	struct uffdio_zeropage zero = { 0 };
	char line[16];

	must(read(missing_fd, &msg, sizeof(msg)) == sizeof(msg) && msg.event == UFFD_EVENT_PAGEFAULT, "page fault");
	say("stalled");
	must(read(0, line, sizeof(line)) > 0, "end of standard input");
	zero.range.start = (uintptr_t)missing_page;
	zero.range.len = (uint64_t)sysconf(_SC_PAGESIZE);
	must(!ioctl(missing_fd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE");
	return NULL;
}

static void take_page_away(void)
{
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t giver;

	missing_page = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	missing_fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	reg.range.start = (uintptr_t)missing_page;
	reg.range.len = len;
	must(missing_fd >= 0 && !ioctl(missing_fd, UFFDIO_API, &api) && !ioctl(missing_fd, UFFDIO_REGISTER, &reg),
	     "userfaultfd");
	must(!pthread_create(&giver, NULL, give_page, NULL), "pthread_create");
}

/* ---- serve ---- */

static struct conn conns[CONNS];
static uint32_t conn_nr;

/* What may be read from sockets whose connections are over is nobody's business any more. */
static size_t stolen(void)
{
	uint8_t in[MESSAGE];
	size_t sum = 0;

	for (uint32_t i = 0; i < conn_nr; i++) {
		ssize_t n = conns[i].over && conns[i].fd ? recv(conns[i].fd, in, sizeof(in), MSG_DONTWAIT) : 0;

		conns[i].stale += n > 0 ? (size_t)n : 0;
		sum += conns[i].stale;
	}
	return sum;
}

static void reset(struct conn *c)
{
	int copy = fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	/* Resets, and leaves the socket with whoever has it. */
	peer_linger0(c->fd);
	must(copy >= 0 && !connect(c->fd, &none, sizeof(none)), "disconnect");
	close(c->fd);
	c->fd = copy;
	c->over = true;
}

/* False: the connection is over. */
static bool answer(struct conn *c)
{
	size_t sum;

	if (c->message[0] == RESET) {
		reset(c);
		return false;
	}
	if (c->message[0] == STOLEN) {
		sum = stolen();
		memcpy(c->message + 8, &sum, sizeof(sum));
	}
	if (c->message[0] == STALL) {
		take_page_away();
		c->stalls = true;
	}
	must(send(c->fd, c->message, MESSAGE, MSG_DONTWAIT | MSG_NOSIGNAL) == MESSAGE, "answer");
	return true;
}

static bool serve_conn(struct conn *c)
{
	for (;;) {
		uint8_t *to = c->stalls ? missing_page : c->message + c->have;
		ssize_t n = recv(c->fd, to, MESSAGE - c->have, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		if (c->stalls)
			memcpy(c->message + c->have, missing_page, (size_t)n);
		c->stalls = false;
		c->have += (size_t)n;
		if (c->have < MESSAGE)
			continue;
		c->have = 0;
		if (!answer(c))
			return false;
	}
}

static void add(int ep, int fd, struct conn *c)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };

	must(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), "epoll_ctl");
}

static _Noreturn void serve(uint16_t port)
{
	int l = peer_listen(port), ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e;

	add(ep, l, NULL);
	say("ready");
	for (;;) {
		struct conn *c;

		if (epoll_wait(ep, &e, 1, -1) != 1)
			continue;
		c = e.data.ptr;
		if (!c) {
			must(conn_nr < CONNS, "too many connections");
			c = &conns[conn_nr++];
			c->fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
			must(c->fd >= 0, "accept");
			add(ep, c->fd, c);
		} else if (!serve_conn(c)) {
			c->over = true; /* the socket is kept */
			epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
		}
	}
}

/* ---- the other end ---- */

struct client {
	int fd;
	uint64_t seed, asked, answered;
};

static int dial(const char *target, const struct sockaddr_storage *source)
{
	struct sockaddr_storage to;
	socklen_t len = peer_parse(target, &to);
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	must(fd >= 0, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	must(!source || !bind(fd, (const struct sockaddr *)source, len), "bind");
	must(!connect(fd, (struct sockaddr *)&to, len), "connect");
	must(!fcntl(fd, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
	return fd;
}

static void message_of(const struct client *c, uint64_t nr, enum want want, uint8_t *out)
{
	stream_fill(c->seed, nr * MESSAGE, out, MESSAGE);
	out[0] = (uint8_t)want;
}

static void ask(struct client *c, enum want want)
{
	uint8_t out[MESSAGE];

	message_of(c, c->asked++, want, out);
	must(send(c->fd, out, MESSAGE, MSG_DONTWAIT | MSG_NOSIGNAL) == MESSAGE, "send");
}

/* -errno of recv(), which is not waited for where nothing comes in so long. */
static int read_message(int fd, uint8_t *in)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t have = 0;

	while (have < MESSAGE) {
		ssize_t n;

		if (poll(&pfd, 1, 20000) != 1)
			return -ETIMEDOUT;
		n = recv(fd, in + have, MESSAGE - have, MSG_DONTWAIT);
		if (n == 0)
			return -EPIPE;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		have += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static void collect(struct client *c, enum want want, uint8_t *in)
{
	uint8_t expected[MESSAGE];
	int err = read_message(c->fd, in);

	if (err) {
		errno = -err;
		die("answer");
	}
	message_of(c, c->answered++, want, expected);
	if (want != STOLEN && memcmp(in, expected, MESSAGE)) {
		fprintf(stderr, "pair: answer %lu is not what was asked\n", c->answered);
		exit(1);
	}
}

static void exchange(struct client *c, uint32_t nr, enum want want, uint8_t *in)
{
	for (uint32_t i = 0; i < nr; i++) {
		ask(c, want);
		collect(c, want, in);
	}
}

static uint64_t seed_of(int fd)
{
	return peer_now_ns() ^ (uint64_t)fd << 56 ^ (uint64_t)getpid() << 32;
}

static int hold(const char *target, const char *from)
{
	struct sockaddr_storage source, own;
	struct client c = { 0 };
	socklen_t len = sizeof(own);
	uint8_t in[MESSAGE];
	char line[64];

	if (from)
		peer_parse(from, &source);
	c.fd = dial(target, from ? &source : NULL);
	c.seed = seed_of(c.fd);
	must(!getsockname(c.fd, (struct sockaddr *)&own, &len), "getsockname");
	printf("%u\n", peer_port(&own));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "stall", 5)) {
			exchange(&c, 1, STALL, in);
			ask(&c, ECHO);
		} else if (!strncmp(line, "push ", 5)) {
			for (int i = atoi(line + 5); i > 0; i--)
				ask(&c, ECHO);
		} else if (!strncmp(line, "collect", 7)) {
			while (c.answered < c.asked)
				collect(&c, ECHO, in);
		} else {
			exchange(&c, (uint32_t)atoi(line), ECHO, in);
		}
		say("ok");
	}
	return 0;
}

/* ---- ports that are used again ---- */

/* Ends the connection by a reset of either side; its socket is still there. */
static void end_by_reset(struct client *c, bool by_server)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	uint8_t in[MESSAGE];

	if (by_server) {
		ask(c, RESET);
		must(read_message(c->fd, in) == -ECONNRESET, "a reset");
		return;
	}
	peer_linger0(c->fd);
	must(!connect(c->fd, &none, sizeof(none)), "disconnect");
}

static int reuse(uint32_t rounds, const char *target)
{
	struct sockaddr_storage source;
	socklen_t len = sizeof(source);
	struct client c = { 0 }, old = { .fd = -1 };
	uint64_t sum = 0, servers = 0;
	uint8_t in[MESSAGE];

	for (uint32_t i = 0; i < rounds; i++) {
		c = (struct client){ .fd = dial(target, i ? &source : NULL) };
		c.seed = seed_of(c.fd);
		must(!getsockname(c.fd, (struct sockaddr *)&source, &len), "getsockname");
		for (uint32_t j = 0; j < WARM; j++) {
			exchange(&c, 1, ECHO, in);
			if (old.fd >= 0 && recv(old.fd, in, sizeof(in), MSG_DONTWAIT) > 0)
				sum++;
		}
		exchange(&c, 1, STOLEN, in);
		memcpy(&servers, in + 8, sizeof(servers));
		if (old.fd >= 0)
			close(old.fd);
		end_by_reset(&c, i % 2 == 0);
		old = c;
	}
	printf("{\"rounds\":%u,\"stolen\":%lu}\n", rounds, sum + servers);
	return 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve((uint16_t)atoi(argv[2]));
	if (argc >= 3 && !strcmp(argv[1], "hold"))
		return hold(argv[2], argc > 3 ? argv[3] : NULL);
	if (argc == 4 && !strcmp(argv[1], "reuse"))
		return reuse((uint32_t)atoi(argv[2]), argv[3]);
	fprintf(stderr, "usage: pair serve PORT | pair hold TARGET [SOURCE:PORT] | pair reuse ROUNDS TARGET\n");
	return 2;
}
