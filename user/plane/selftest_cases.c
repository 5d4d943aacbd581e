/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the self-test of acceleration measures, each on a connection of its own that has moved past TCP. A sentence that says what differs is
 * the same as in tests/transparency/known.tsv, where that has a case for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arena.h"
#include "plane/selftest.h"

#define MESSAGE 100
#define WOKEN "a blocked recv() is woken with EAGAIN"
#define NEED(condition)                      \
	do {                                 \
		if (!(condition))            \
			return NOT_MEASURED; \
	} while (0)

static ssize_t get(int fd, uint32_t nr, int flags)
{
	static char bytes[1 << 20];

	return recv(fd, bytes, nr < sizeof(bytes) ? nr : sizeof(bytes), flags | MSG_DONTWAIT);
}

/* ---- order, and what is held ---- */

#define ORDER_ROUNDS 200
#define ORDER_MOST 300

static bool order_read(struct trial *t, uint32_t *taken, uint32_t sent)
{
	uint8_t bytes[ORDER_MOST];
	ssize_t n = recv(t->p.b, bytes, sizeof(bytes), MSG_DONTWAIT);

	for (ssize_t i = 0; i < n; i++)
		if (bytes[i] != (uint8_t)(*taken + (uint32_t)i))
			return false;
	*taken += n > 0 ? (uint32_t)n : 0;
	return n >= 0 || (errno == EAGAIN && (*taken <= sent));
}

/* Messages of both ways, by turns that have no pattern, some read at once and some with those after them. */
static const char *order(struct trial *t)
{
	uint32_t rng = 12345, sent = 0, taken = 0, ways[TRIAL_PAST + 1] = { 0 };

	NEED(trial_warm(t));
	for (uint32_t i = 0; i < ORDER_ROUNDS; i++) {
		uint8_t bytes[ORDER_MOST];
		uint32_t n;

		rng = rng * 1103515245 + 12345;
		n = 1 + (rng >> 16) % ORDER_MOST;
		for (uint32_t k = 0; k < n; k++)
			bytes[k] = (uint8_t)(sent + k);
		trial_by_tcp(t->p.b, rng >> 13 & 1);
		ways[trial_put(t->p.a, bytes, n)]++;
		NEED(trial_left_ms(t) && !ways[TRIAL_NO_WAY]);
		sent += n;
		for (uint32_t k = rng >> 28; k && taken < sent; k--)
			if (!order_read(t, &taken, sent))
				return "bytes come in another order than they were sent in";
	}
	while (taken < sent && trial_await(t, t->p.b, POLLIN))
		if (!order_read(t, &taken, sent))
			return "bytes come in another order than they were sent in";
	if (taken != sent)
		return "bytes do not come";
	NEED(ways[TRIAL_PAST] > ORDER_ROUNDS / 10 && ways[TRIAL_TCP] > ORDER_ROUNDS / 10);
	return NULL;
}

static void *peek_aside(void *data)
{
	get(((struct trial *)data)->p.b, 1, MSG_PEEK);
	return NULL;
}

/* A second thread that reads has it taken out, while bytes wait that went past TCP. */
static const char *drain(struct trial *t)
{
	pthread_t thread;
	int left = 0;

	NEED(trial_warm(t) && trial_send(t, t->p.a, MESSAGE, TRIAL_PAST));
	NEED(!pthread_create(&thread, NULL, peek_aside, t));
	pthread_join(thread, NULL);
	trial_step(t);
	NEED(trial_send(t, t->p.a, MESSAGE, TRIAL_TCP) && trial_await(t, t->p.b, POLLIN));
	for (int got = 0; got < 2 * MESSAGE;) {
		ssize_t n = get(t->p.b, 2 * MESSAGE, 0);

		if (n <= 0 && !trial_await(t, t->p.b, POLLIN))
			return "bytes are lost when a connection is taken out again";
		got += n > 0 ? (int)n : 0;
	}
	trial_step(t);
	NEED(trial_send(t, t->p.a, MESSAGE, TRIAL_TCP) && trial_await(t, t->p.b, POLLIN));
	if (ioctl(t->p.b, FIONREAD, &left) || left != MESSAGE)
		return "a connection that was taken out again is not as others are";
	return NULL;
}

#define FILL_SIZE 4096
#define FILL_MOST (64 << 20)

/* Bytes that a writer gets rid of, whose reader sleeps. */
static uint64_t fill(struct trial *t)
{
	uint64_t total = 0;

	while (total < FILL_MOST) {
		static const char bytes[FILL_SIZE];
		ssize_t n = send(t->p.a, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);

		/* What is on its way to the other end makes room when it is there, at once here. */
		if (n <= 0 && poll(&(struct pollfd){ .fd = t->p.a, .events = POLLOUT }, 1, 2) != 1)
			break;
		total += n > 0 ? (uint64_t)n : 0;
	}
	return total;
}

static const char *back_pressure(struct trial *t)
{
	uint64_t plain, past;

	NEED(trial_open(t));
	plain = fill(t);
	trial_close(t);
	NEED(trial_warm(t));
	past = fill(t);
	return past > 2 * plain || past > 8 << 20 ? "a writer whose reader sleeps is not held back" : NULL;
}

/* ---- how bytes are read ---- */

static const char *fionread_as(struct trial *t, enum trial_way way)
{
	int n = -1;

	NEED(trial_warm(t));
	trial_by_tcp(t->p.b, way == TRIAL_TCP);
	NEED(trial_send(t, t->p.a, MESSAGE, way) && trial_await(t, t->p.b, POLLIN) && !ioctl(t->p.b, FIONREAD, &n));
	return n == MESSAGE ? NULL : n ? "FIONREAD is wrong" : "FIONREAD gives 0 for bytes that are there";
}

static const char *fionread_by_tcp(struct trial *t)
{
	return fionread_as(t, TRIAL_TCP);
}

static const char *fionread_past(struct trial *t)
{
	return fionread_as(t, TRIAL_PAST);
}

static const char *splice_read(struct trial *t)
{
	int fds[2];
	ssize_t n;

	NEED(trial_warm(t) && trial_send(t, t->p.a, MESSAGE, TRIAL_PAST) && trial_await(t, t->p.b, POLLIN));
	/* splice() sleeps for bytes as the socket's file says. */
	NEED(!fcntl(t->p.b, F_SETFL, O_NONBLOCK) && !pipe(fds));
	n = splice(t->p.b, NULL, fds[1], NULL, MESSAGE, SPLICE_F_NONBLOCK);
	close(fds[0]);
	close(fds[1]);
	return n == MESSAGE ? NULL : "splice() does not see what went past TCP";
}

static const char *rcvlowat(struct trial *t)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	NEED(trial_warm(t) && !setsockopt(t->p.b, SOL_SOCKET, SO_RCVLOWAT, &(int){ 2 * MESSAGE }, sizeof(int)));
	p.fd = t->p.b;
	NEED(send(t->p.a, &(char[MESSAGE]){ 0 }, MESSAGE, MSG_DONTWAIT) == MESSAGE);
	if (poll(&p, 1, 1))
		return "SO_RCVLOWAT does not count";
	NEED(send(t->p.a, &(char[MESSAGE]){ 0 }, MESSAGE, MSG_DONTWAIT) == MESSAGE);
	return trial_await(t, t->p.b, POLLIN) ? NULL : "SO_RCVLOWAT is never reached";
}

static long recv_waitall(int fd)
{
	char bytes[2 * MESSAGE];

	return recv(fd, bytes, sizeof(bytes), MSG_WAITALL);
}

static const char *waitall(struct trial *t)
{
	struct reader *r = reader_start(t, recv_waitall);
	bool sent;
	long n;

	NEED(r);
	sent = reader_sleeps(t, r) && trial_send(t, t->p.a, MESSAGE, TRIAL_PAST);
	reader_woken(t, r);
	sent = sent && send(t->p.a, &(char[MESSAGE]){ 0 }, MESSAGE, MSG_DONTWAIT) == MESSAGE;
	n = reader_result(t, r);
	NEED(sent);
	return n == 2 * MESSAGE ? NULL
	       : n == MESSAGE	? "MSG_WAITALL is answered short"
				: "MSG_WAITALL is never answered";
}

static const char *peek(struct trial *t)
{
	NEED(trial_warm(t) && trial_send(t, t->p.a, MESSAGE, TRIAL_PAST) && trial_await(t, t->p.b, POLLIN));
	if (get(t->p.b, MESSAGE / 2, MSG_PEEK) != MESSAGE / 2 || get(t->p.b, 2 * MESSAGE, MSG_PEEK) != MESSAGE)
		return "MSG_PEEK does not see what went past TCP";
	return get(t->p.b, 2 * MESSAGE, 0) == MESSAGE ? NULL : "MSG_PEEK takes bytes";
}

static const char *zerocopy(struct trial *t)
{
	static char bytes[16384];
	char control[128];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };

	NEED(trial_warm(t) && !setsockopt(t->p.a, SOL_SOCKET, SO_ZEROCOPY, &(int){ 1 }, sizeof(int)));
	NEED(send(t->p.a, bytes, sizeof(bytes), MSG_ZEROCOPY | MSG_DONTWAIT) == sizeof(bytes));
	for (uint32_t got = 0; got < sizeof(bytes);) {
		ssize_t n = trial_await(t, t->p.b, POLLIN) ? get(t->p.b, sizeof(bytes), 0) : 0;

		NEED(n > 0);
		got += (uint32_t)n;
	}
	if (!trial_await(t, t->p.a, POLLERR) || recvmsg(t->p.a, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return "zero-copy sends are never said to be over";
	return NULL;
}

/* ---- waiting for bytes ---- */

/* What epoll_wait() has for the socket within a time. */
static uint32_t events_in(int epfd, int ms)
{
	struct epoll_event e = { 0 };

	return epoll_wait(epfd, &e, 1, ms) == 1 ? e.events : 0;
}

static int epoll_on(const struct trial *t, uint32_t events)
{
	int epfd = epoll_create1(EPOLL_CLOEXEC);

	if (epfd >= 0)
		epoll_ctl(epfd, EPOLL_CTL_ADD, t->p.b, &(struct epoll_event){ .events = events });
	return epfd;
}

static const char *level(struct trial *t, int epfd)
{
	NEED(trial_send(t, t->p.a, MESSAGE, TRIAL_PAST));
	if (!(events_in(epfd, trial_left_ms(t)) & EPOLLIN) || get(t->p.b, MESSAGE / 2, 0) != MESSAGE / 2 ||
	    !(events_in(epfd, 0) & EPOLLIN) || get(t->p.b, MESSAGE, 0) != MESSAGE / 2)
		return "epoll does not tell of what went past TCP";
	return events_in(epfd, 0) & EPOLLIN ? "epoll tells of bytes that are not there" : NULL;
}

/* Two messages, one of each way: who is told once, and reads into room for both, has them both of TCP. */
static const char *edge(struct trial *t, int epfd)
{
	NEED(trial_send(t, t->p.a, MESSAGE, TRIAL_PAST));
	if (!(events_in(epfd, trial_left_ms(t)) & EPOLLIN))
		return "epoll does not tell of what went past TCP";
	trial_by_tcp(t->p.b, true);
	NEED(trial_send(t, t->p.a, MESSAGE, TRIAL_TCP));
	if (!(events_in(epfd, trial_left_ms(t)) & EPOLLIN))
		return "epoll does not tell of what went by TCP";
	if (get(t->p.b, 4 * MESSAGE, 0) != 2 * MESSAGE)
		return "recv() stops where bytes of one way end and those of the other begin";
	return NULL;
}

static const char *with_epoll(struct trial *t, uint32_t events, const char *(*fn)(struct trial *t, int epfd))
{
	const char *differs;
	int epfd;

	NEED(trial_warm(t));
	epfd = epoll_on(t, events);
	NEED(epfd >= 0);
	events_in(epfd, 0);
	differs = fn(t, epfd);
	close(epfd);
	return differs;
}

static const char *epoll_level(struct trial *t)
{
	return with_epoll(t, EPOLLIN, level);
}

static const char *epoll_edge(struct trial *t)
{
	return with_epoll(t, EPOLLIN | EPOLLET, edge);
}

/* ---- a thread that sleeps in recv() ---- */

static long recv_blocking(int fd)
{
	char bytes[4 * MESSAGE];

	return recv(fd, bytes, sizeof(bytes), 0);
}

static volatile sig_atomic_t signals;

static void on_signal(int signo)
{
	signals++;
}

static const char *signalled(struct trial *t)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct reader *r;
	bool sent;
	long n;

	NEED(!sigaction(SIGUSR1, &sa, NULL));
	r = reader_start(t, recv_blocking);
	NEED(r);
	sent = reader_sleeps(t, r);
	reader_signal(r);
	while (!signals && trial_left_ms(t))
		usleep(50);
	reader_woken(t, r);
	sent = sent && trial_send(t, t->p.a, MESSAGE, TRIAL_PAST);
	n = reader_result(t, r);
	NEED(sent && signals);
	return n == MESSAGE ? NULL : n == -EAGAIN ? WOKEN : "a blocked recv() does not survive a signal";
}

/* More than there is room for. */
#define DUPLEX_BYTES (16 << 20)

struct writer {
	int fd;
	pid_t tid; /* 0: it has not begun */
};

static void *send_blocking(void *data)
{
	struct writer *w = data;
	char *bytes = xcalloc(1, DUPLEX_BYTES);
	ssize_t n;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	n = send(w->fd, bytes, DUPLEX_BYTES, MSG_NOSIGNAL);
	free(bytes);
	return (void *)n;
}

/* Whether the writer of b sleeps for room, and then has some; that wakes whoever sleeps there. */
static bool make_room(struct trial *t, const struct writer *w)
{
	struct pollfd room = { .fd = t->p.b, .events = POLLOUT };

	while (!trial_sleeps(__atomic_load_n(&w->tid, __ATOMIC_ACQUIRE), SYS_sendto) && trial_left_ms(t))
		usleep(50);
	while (poll(&room, 1, 0) == 0 && trial_left_ms(t))
		if (get(t->p.a, DUPLEX_BYTES, 0) <= 0)
			trial_await(t, t->p.a, POLLIN);
	return trial_left_ms(t);
}

/* A writer sleeps for room beside a reader that sleeps for bytes, who is none of those that are woken by it. */
static const char *duplex(struct trial *t)
{
	struct reader *r = reader_start(t, recv_blocking);
	struct writer w = { .fd = t->p.b };
	pthread_t writer;
	bool good;
	long n;

	NEED(r);
	good = reader_sleeps(t, r);
	if (!good || pthread_create(&writer, NULL, send_blocking, &w)) {
		reader_result(t, r);
		return NOT_MEASURED;
	}
	good = make_room(t, &w);
	reader_woken(t, r);
	good = good && send(t->p.a, &(char[MESSAGE]){ 0 }, MESSAGE, MSG_DONTWAIT | MSG_NOSIGNAL) == MESSAGE;
	n = reader_result(t, r);
	shutdown(t->p.b, SHUT_RDWR);
	pthread_join(writer, NULL);
	NEED(good);
	return n == MESSAGE ? NULL : n == -EAGAIN ? WOKEN : "a blocked recv() does not survive a writer beside it";
}

/* ---- ends of connections ---- */

static int send_error(int fd)
{
	return send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

static void reset_by_a(struct trial *t)
{
	setsockopt(t->p.a, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
	close(t->p.a);
	t->p.a = 0;
}

static const char *reset_errno(struct trial *t)
{
	int first, second;

	NEED(trial_warm(t));
	reset_by_a(t);
	NEED(trial_await(t, t->p.b, POLLERR | POLLHUP));
	first = send_error(t->p.b);
	second = send_error(t->p.b);
	if (first != ECONNRESET)
		return "after a reset send() does not fail with ECONNRESET";
	return second == EPIPE ? NULL : "after a reset send() fails with ECONNRESET again, not with EPIPE";
}

static const char *send_after_shutdown(struct trial *t)
{
	NEED(trial_warm(t) && !shutdown(t->p.a, SHUT_WR));
	if (send_error(t->p.a) != EPIPE)
		return "send() after shutdown() does not fail";
	NEED(trial_await(t, t->p.b, POLLIN));
	return get(t->p.b, MESSAGE, 0) ? "bytes come after the end" : NULL;
}

static const char *urgent(struct trial *t)
{
	char c = 0;

	NEED(trial_warm(t) && send(t->p.a, "!", 1, MSG_OOB | MSG_DONTWAIT) == 1);
	NEED(trial_await(t, t->p.b, POLLIN | POLLPRI));
	if (recv(t->p.b, &c, 1, MSG_DONTWAIT) == 1 && c == '!')
		return "urgent bytes come among the others";
	return recv(t->p.b, &c, 1, MSG_OOB | MSG_DONTWAIT) == 1 && c == '!' ? NULL : "urgent bytes do not come";
}

static const char *half_close(struct trial *t)
{
	NEED(trial_warm(t) && trial_send(t, t->p.a, MESSAGE, TRIAL_PAST) && !shutdown(t->p.a, SHUT_WR));
	if (!trial_await(t, t->p.b, POLLIN) || get(t->p.b, 2 * MESSAGE, 0) != MESSAGE ||
	    !trial_await(t, t->p.b, POLLIN) || get(t->p.b, MESSAGE, 0))
		return "not all that was sent before shutdown() comes, or no end after it";
	if (send(t->p.b, &(char[MESSAGE]){ 0 }, MESSAGE, MSG_DONTWAIT | MSG_NOSIGNAL) != MESSAGE ||
	    !trial_await(t, t->p.a, POLLIN) || get(t->p.a, 2 * MESSAGE, 0) != MESSAGE)
		return "who has shut down hears nothing any more";
	return NULL;
}

static const char *reset(struct trial *t)
{
	NEED(trial_warm(t) && trial_send(t, t->p.a, MESSAGE, TRIAL_PAST));
	reset_by_a(t);
	if (!trial_await(t, t->p.b, POLLIN) || get(t->p.b, 2 * MESSAGE, 0) != MESSAGE)
		return "what was sent before a reset does not come";
	return get(t->p.b, MESSAGE, 0) < 0 && errno == ECONNRESET ? NULL : "a reset does not show";
}

static const char *close_unread(struct trial *t)
{
	NEED(trial_warm(t) && trial_send(t, t->p.b, MESSAGE, TRIAL_PAST));
	close(t->p.a);
	t->p.a = 0;
	NEED(trial_await(t, t->p.b, POLLIN | POLLERR | POLLHUP));
	return get(t->p.b, MESSAGE, 0) < 0 && errno == ECONNRESET ? NULL : "a close with bytes unread is no reset";
}

semantic_fn *const semantic_fns[SEMANTIC_NR] = {
	[SEMANTIC_ORDER] = order,
	[SEMANTIC_DRAIN] = drain,
	[SEMANTIC_BACK_PRESSURE] = back_pressure,
	[SEMANTIC_FIONREAD_TCP] = fionread_by_tcp,
	[SEMANTIC_FIONREAD_PAST] = fionread_past,
	[SEMANTIC_SPLICE] = splice_read,
	[SEMANTIC_RCVLOWAT] = rcvlowat,
	[SEMANTIC_WAITALL] = waitall,
	[SEMANTIC_PEEK] = peek,
	[SEMANTIC_ZEROCOPY] = zerocopy,
	[SEMANTIC_EPOLL_LEVEL] = epoll_level,
	[SEMANTIC_EPOLL_EDGE] = epoll_edge,
	[SEMANTIC_SIGNAL] = signalled,
	[SEMANTIC_DUPLEX] = duplex,
	[SEMANTIC_RESET_ERRNO] = reset_errno,
	[SEMANTIC_SHUTDOWN] = send_after_shutdown,
	[SEMANTIC_URGENT] = urgent,
	[SEMANTIC_HALF_CLOSE] = half_close,
	[SEMANTIC_RESET] = reset,
	[SEMANTIC_CLOSE_UNREAD] = close_unread,
};
