/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections of the self-test: made, moved past TCP, and read by a thread that sleeps in its call. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "plane/selftest.h"

#define WARM_SIZE 64
#define WARM_FEW 40  /* requests and answers after which it may be taken in */
#define WARM_NR 200  /* after which it is not */
#define WARM_STEP 10 /* of them between looks */

uint64_t trial_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int trial_left_ms(const struct trial *t)
{
	uint64_t now = trial_now_ns();

	return now < t->deadline_ns ? (int)((t->deadline_ns - now) / 1000000) : 0;
}

bool trial_await(const struct trial *t, int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, trial_left_ms(t)) == 1 && (p.revents & events);
}

static void as_tests_have_it(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* Not one that paces. */
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

bool trial_open(struct trial *t)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	t->p.a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	t->p.b = -1;
	if (l >= 0 && t->p.a >= 0 && !bind(l, (struct sockaddr *)&sa, sizeof(sa)) && !listen(l, 1) &&
	    !getsockname(l, (struct sockaddr *)&sa, &len) && !connect(t->p.a, (struct sockaddr *)&sa, sizeof(sa)))
		t->p.b = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	if (l >= 0)
		close(l);
	as_tests_have_it(t->p.a);
	as_tests_have_it(t->p.b);
	return t->p.b >= 0;
}

/* What a pod may have accelerated counts for each semantic anew. */
void trial_close(struct trial *t)
{
	if (t->p.a > 0)
		close(t->p.a);
	if (t->p.b > 0)
		close(t->p.b);
	t->p = (struct pair){ 0 };
	bpf_map_delete_elem(t->job->pod_ends_fd, &t->cookie);
}

void trial_step(struct trial *t)
{
	int fd = bpf_iter_create(t->job->iter_fd);
	char out[256];
	ssize_t n;

	if (fd < 0)
		return;
	do {
		n = read(fd, out, sizeof(out));
	} while (n > 0 || (n < 0 && errno == EAGAIN));
	close(fd);
}

void trial_by_tcp(int fd, bool on)
{
	setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &(int){ on ? 2 : 1 }, sizeof(int));
}

static uint64_t sent_by_tcp(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) ? 0 : info.tcpi_bytes_sent;
}

enum trial_way trial_put(int fd, const void *bytes, uint32_t nr)
{
	uint64_t before = sent_by_tcp(fd);

	if (send(fd, bytes, nr, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)nr)
		return TRIAL_NO_WAY;
	return sent_by_tcp(fd) == before ? TRIAL_PAST : TRIAL_TCP;
}

bool trial_send(struct trial *t, int fd, uint32_t nr, enum trial_way way)
{
	static const char bytes[TRIAL_MOST];

	return trial_left_ms(t) && nr <= TRIAL_MOST && trial_put(fd, bytes, nr) == way;
}

static bool take(const struct trial *t, int fd, uint32_t nr)
{
	char bytes[WARM_SIZE];

	while (nr) {
		ssize_t n = trial_await(t, fd, POLLIN) ? recv(fd, bytes, nr, MSG_DONTWAIT) : 0;

		if (n <= 0)
			return false;
		nr -= (uint32_t)n;
	}
	return true;
}

bool trial_warm(struct trial *t)
{
	if (!trial_open(t))
		return false;
	for (uint32_t i = 0; i < WARM_NR; i++) {
		static const char bytes[WARM_SIZE];
		enum trial_way up = trial_put(t->p.a, bytes, WARM_SIZE), down;

		if (!take(t, t->p.b, WARM_SIZE))
			return false;
		down = trial_put(t->p.b, bytes, WARM_SIZE);
		if (!take(t, t->p.a, WARM_SIZE))
			return false;
		if (up == TRIAL_PAST && down == TRIAL_PAST)
			return true;
		if (i >= WARM_FEW && i % WARM_STEP == 0)
			trial_step(t);
	}
	return false;
}

/* ---- a thread that reads ---- */

struct reader {
	struct trial *t;
	long (*call)(int fd);
	pthread_t thread;
	pid_t tid;
	bool ended;
	long slept; /* how often, when it was last seen asleep in its call */
	long result;
};

/* Answers until it is told, by the last byte of a request, that it was the last. */
static bool answer(struct reader *r)
{
	char bytes[WARM_SIZE] = { 0 };

	do {
		uint32_t got = 0;

		while (got < sizeof(bytes)) {
			ssize_t n = trial_await(r->t, r->t->p.b, POLLIN)
					    ? recv(r->t->p.b, bytes + got, sizeof(bytes) - got, MSG_DONTWAIT)
					    : 0;

			if (n <= 0)
				return false;
			got += (uint32_t)n;
		}
		if (send(r->t->p.b, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(bytes))
			return false;
	} while (!bytes[WARM_SIZE - 1]);
	return true;
}

static void *read_as_told(void *data)
{
	struct reader *r = data;

	__atomic_store_n(&r->tid, gettid(), __ATOMIC_RELEASE);
	r->result = -ENODATA;
	if (answer(r)) {
		r->result = r->call(r->t->p.b);
		if (r->result < 0)
			r->result = -errno;
	}
	return NULL;
}

/* The other side of answer(). */
static bool ask(struct trial *t)
{
	char bytes[WARM_SIZE] = { 0 };

	for (uint32_t i = 0; i < WARM_NR && !bytes[WARM_SIZE - 1]; i++) {
		uint64_t up = sent_by_tcp(t->p.a), down = sent_by_tcp(t->p.b);

		if (send(t->p.a, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(bytes) ||
		    !take(t, t->p.a, WARM_SIZE))
			return false;
		if (i >= WARM_FEW && i % WARM_STEP == 0)
			trial_step(t);
		/* One more, which is the last. */
		bytes[WARM_SIZE - 1] = up == sent_by_tcp(t->p.a) && down == sent_by_tcp(t->p.b);
	}
	return bytes[WARM_SIZE - 1] &&
	       send(t->p.a, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(bytes) &&
	       take(t, t->p.a, WARM_SIZE);
}

struct reader *reader_start(struct trial *t, long (*call)(int fd))
{
	struct reader *r = xcalloc(1, sizeof(*r));

	r->t = t;
	r->call = call;
	if (trial_open(t) && !pthread_create(&r->thread, NULL, read_as_told, r)) {
		if (ask(t))
			return r;
		reader_result(t, r);
		return NULL;
	}
	free(r);
	return NULL;
}

bool trial_sleeps(pid_t tid, long call)
{
	char path[64], text[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	f = tid ? fopen(path, "r") : NULL;
	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		text[0] = 0;
	fclose(f);
	/* "running", or the number of the system call and its arguments. */
	return text[0] >= '0' && text[0] <= '9' && atol(text) == call;
}

/* How often it went to sleep. */
static long slept(const struct reader *r)
{
	char path[64], line[128];
	long nr = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", r->tid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &nr) == 1)
			break;
	if (f)
		fclose(f);
	return nr;
}

/* It sleeps in its call, and not since before it had slept so often. */
static bool sleeps_since(struct trial *t, struct reader *r, long times)
{
	while (!r->ended && trial_left_ms(t)) {
		if (trial_sleeps(r->tid, SYS_recvfrom) && slept(r) > times) {
			r->slept = slept(r);
			return true;
		}
		if (!pthread_tryjoin_np(r->thread, NULL))
			r->ended = true;
		else
			usleep(50);
	}
	return false;
}

bool reader_sleeps(struct trial *t, struct reader *r)
{
	return sleeps_since(t, r, 0);
}

void reader_woken(struct trial *t, struct reader *r)
{
	sleeps_since(t, r, r->slept);
}

void reader_signal(struct reader *r)
{
	if (!r->ended)
		pthread_kill(r->thread, SIGUSR1);
}

long reader_result(struct trial *t, struct reader *r)
{
	struct timespec until;
	long result;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)trial_left_ms(t) * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	if (!r->ended && pthread_timedjoin_np(r->thread, NULL, &until)) {
		shutdown(t->p.a, SHUT_RDWR);
		shutdown(t->p.b, SHUT_RDWR);
		pthread_join(r->thread, NULL);
		r->result = -ETIMEDOUT;
	}
	result = r->result;
	free(r);
	return result;
}
