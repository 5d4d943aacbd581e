/* SPDX-License-Identifier: BSD-2-Clause */
/* Signals that meet a blocked call; a reader and a writer of one socket in two threads; a reader that a page fault holds. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "side.h"

static volatile sig_atomic_t signals;

static void on_signal(int signo)
{
	signals++;
}

static void handle(struct side *s, int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };

	MUST(s, !sigaction(SIGUSR1, &sa, NULL));
}

/* A signal; when the sleeper has handled it and sleeps again, or has come back, the other side hears. */
static void signal_once(struct side *s, struct nurse *n)
{
	wake(n, SIGUSR1);
	while (!signals && !s->awake)
		usleep(100);
	sleeps_again(n);
	tell(s, 0);
}

static void signalled_recv(struct side *s, int fd, int flags)
{
	struct nurse *n;
	char buf[64];

	handle(s, flags);
	n = when_asleep(s, signal_once);
	GET(s, buf, recv(fd, buf, 64, 0));
	rest(s, n);
	say(s, "signals %d", signals);
	meet(s);
	GET(s, buf, recv(fd, buf, 64, MSG_DONTWAIT));
}

static void recv_restarts(struct side *s, int fd)
{
	signalled_recv(s, fd, SA_RESTART);
}

static void recv_interrupted(struct side *s, int fd)
{
	signalled_recv(s, fd, 0);
}

static void client_signalled(struct side *s, int fd)
{
	hear(s);
	CALL(s, send(fd, "abcdefghij", 10, 0));
	sent(s, fd);
}

static void recv_timeout_signal(struct side *s, int fd)
{
	struct timeval tv = { .tv_sec = 5 };

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	signalled_recv(s, fd, SA_RESTART);
}

/* Part of what it waits for is there when the signal comes. */
static void waitall_signal(struct side *s, int fd)
{
	struct nurse *n;
	char buf[64];

	handle(s, 0);
	meet(s);
	n = when_asleep(s, signal_once);
	GET(s, buf, recv(fd, buf, 20, MSG_WAITALL));
	rest(s, n);
	hear(s);
	say(s, "signals %d", signals);
}

static void client_waitall_signal(struct side *s, int fd)
{
	client_ten(s, fd);
	meet(s);
}

static void poll_interrupted(struct side *s, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct nurse *n;
	char buf[64];

	handle(s, SA_RESTART);
	n = when_asleep(s, signal_once);
	CALL(s, poll(&p, 1, WAIT_MS));
	rest(s, n);
	meet(s);
	GET(s, buf, recv(fd, buf, 64, 0));
}

/* A writer that is blocked in the middle has written some. */
static void send_interrupted(struct side *s, int fd)
{
	size_t len = 64u << 20;
	uint8_t *data = malloc(len);
	struct nurse *n;
	ssize_t put;

	handle(s, 0);
	stream_fill(data, len, 0);
	n = when_asleep(s, signal_once);
	put = send(fd, data, len, 0);
	rest(s, n);
	say(s, "a part: %s, signals %d", put > 0 && (size_t)put < len ? "yes" : "no", signals);
	tell(s, put > 0 ? (uint32_t)put : 0);
	CALL(s, shutdown(fd, SHUT_WR));
	free(data);
}

static void server_reads_part(struct side *s, int fd)
{
	uint64_t put, got = 0;
	static uint8_t data[65536], want[65536];
	bool same = true;
	size_t n;

	hear(s);
	put = hear(s);
	while ((n = recv_all(s, fd, data, sizeof(data))) > 0) {
		stream_fill(want, n, got);
		same &= !memcmp(data, want, n);
		got += n;
	}
	say(s, "all that was taken: %s, %s", got == put ? "yes" : "no", same ? "same" : "other");
}

/* Signals all the time, as from a profiler: nothing may be lost, and no call may fail but with EINTR. */
static void profiled(struct side *s, int fd)
{
	struct itimerspec every = { { 0, 1000000 }, { 0, 1000000 } };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	timer_t timer;

	handle(s, SA_RESTART);
	MUST(s, !timer_create(CLOCK_MONOTONIC, &ev, &timer) && !timer_settime(timer, 0, &every, NULL));
	stream_check(s, fd, 4u << 20, 10007);
	timer_delete(timer);
}

static void client_stops_and_goes(struct side *s, int fd)
{
	uint8_t data[16384];

	for (uint64_t at = 0; at < 4u << 20; at += sizeof(data)) {
		stream_fill(data, sizeof(data), at);
		send_all(s, fd, data, sizeof(data));
		if (at % (1u << 18) == 0)
			usleep(2000); /* so that the reader sleeps now and then */
	}
}

/* ---- two threads ---- */

struct half {
	struct side *s;
	int fd;
	uint64_t total;
};

static void *sends(void *data)
{
	struct half *h = data;

	stream_send(h->s, h->fd, h->total, 30000);
	return NULL;
}

static void duplex(struct side *s, int fd)
{
	struct half h = { s, fd, 16u << 20 };
	pthread_t t;

	MUST(s, !pthread_create(&t, NULL, sends, &h));
	stream_check(s, fd, h.total, 20000);
	pthread_join(t, NULL);
}

/* One thread is blocked in recv() while room comes for another that is blocked in send(): recv() must sleep on. */
static void *drowns(void *data)
{
	struct half *h = data;

	stream_send(h->s, h->fd, h->total, 1u << 20);
	tell(h->s, 0);
	return NULL;
}

static void recv_beside_send(struct side *s, int fd)
{
	struct half h = { s, fd, 32u << 20 };
	pthread_t t;
	char buf[64];

	MUST(s, !pthread_create(&t, NULL, drowns, &h));
	GET(s, buf, recv(fd, buf, 64, 0));
	pthread_join(t, NULL);
	meet(s);
}

static void server_beside(struct side *s, int fd)
{
	stream_check(s, fd, 32u << 20, 65536);
	hear(s);
	CALL(s, send(fd, "abcdefghij", 10, 0));
	sent(s, fd);
}

/* ---- a reader held by a page fault ---- */

static int fault_fd(struct side *s, void *page)
{
	struct uffdio_register reg = { { (uintptr_t)page, 4096 }, UFFDIO_REGISTER_MODE_MISSING, 0 };
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	MUST(s, fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg));
	return fd;
}

struct stall {
	struct side *s;
	int uffd;
	void *page;
};

/* The fault is served when the other side's send has come back, or has not for too long. */
static void *serve_fault(void *data)
{
	static char zeros[4096] __attribute__((aligned(4096)));
	struct stall *st = data;
	struct uffdio_copy copy = { .dst = (uintptr_t)st->page, .src = (uintptr_t)zeros, .len = 4096 };
	struct pollfd p = { .fd = st->s->meet_fd, .events = POLLIN };
	struct uffd_msg msg;

	if (read(st->uffd, &msg, sizeof(msg)) != sizeof(msg))
		return NULL;
	tell(st->s, 0);
	say(st->s, "the other side sends on while the reader is held: %s", poll(&p, 1, 3000) > 0 ? "yes" : "no");
	ioctl(st->uffd, UFFDIO_COPY, &copy);
	hear(st->s);
	return NULL;
}

static void held_reader(struct side *s, int fd)
{
	struct stall st = { s, -1, mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
	pthread_t t;
	char buf[64];

	st.uffd = fault_fd(s, st.page);
	meet(s);
	MUST(s, !pthread_create(&t, NULL, serve_fault, &st));
	GET(s, st.page, recv(fd, st.page, 10, MSG_DONTWAIT));
	pthread_join(t, NULL);
	meet(s);
	GET(s, buf, recv(fd, buf, 64, MSG_DONTWAIT));
}

static void client_held_reader(struct side *s, int fd)
{
	client_ten(s, fd);
	hear(s);
	CALL(s, send(fd, "KLMNOPQRST", 10, MSG_DONTWAIT));
	tell(s, 0);
	sent(s, fd);
}

const struct transparency_case cases_signal[] = {
	{ "signal_recv_restarts", client_signalled, recv_restarts, 0 },
	{ "signal_recv_interrupted", client_signalled, recv_interrupted, 0 },
	{ "signal_recv_timeout", client_signalled, recv_timeout_signal, 0 },
	{ "signal_waitall", client_waitall_signal, waitall_signal, 0 },
	{ "signal_poll", client_signalled, poll_interrupted, 0 },
	{ "signal_send", send_interrupted, server_reads_part, SLOW | FOUR_ONLY },
	{ "signal_profiled", client_stops_and_goes, profiled, SLOW },
	{ "duplex_threads", duplex, duplex, SLOW },
	{ "recv_beside_send", recv_beside_send, server_beside, SLOW },
	{ "reader_held", client_held_reader, held_reader, 0 },
	{ NULL, NULL, NULL, 0 },
};
