/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * connect + request + answer + close, as often as it goes.
 *
 *   rr serve PORT                 answers 64 bytes to 64 bytes and closes; says "ready"
 *   rr client TARGET THREADS      for each line "MILLISECONDS" on standard input: prints
 *                               "<connections> <nanoseconds> <failures> <nanoseconds of CPU>"
 *
 *   rr sink PORT                  reads all there is to read, and closes behind the client; says "ready"
 *   rr bulk TARGET                for each line "MILLISECONDS": sends for so long over one connection; prints the same, with bytes for
 *                               connections, once the server has read them all
 *
 * The server closes first, so that the client's ports are free at once and no TIME_WAIT stays on its side.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#include "../node/peer.h"

#define REQUEST 64
#define CHUNK (128 << 10)

struct worker {
	pthread_t thread;
	struct sockaddr_storage to;
	socklen_t len;
	uint64_t until_ns, connections, failures;
};

/* 0: the connection is over. */
static int answer(int fd)
{
	char word[REQUEST];

	if (recv(fd, word, sizeof(word), MSG_DONTWAIT) > 0)
		send(fd, word, sizeof(word), MSG_NOSIGNAL);
	return 0;
}

static int swallow(int fd)
{
	static char chunk[CHUNK];

	return recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT) > 0;
}

static _Noreturn void serve(uint16_t port, int (*take)(int fd))
{
	struct epoll_event events[128], e = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), l = peer_listen(port);

	e.data.fd = l;
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &e);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, events, 128, -1);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd, c;

			if (fd != l) {
				if (!take(fd))
					close(fd);
				continue;
			}
			while ((c = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
				e.data.fd = c;
				epoll_ctl(ep, EPOLL_CTL_ADD, c, &e);
			}
		}
	}
}

/* A socket that would rather fail than wait for long. */
static int patient(int family)
{
	struct timeval tv = { .tv_sec = 5 };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

static bool once(const struct worker *w)
{
	int fd = patient(w->to.ss_family);
	char word[REQUEST] = { 0 };
	bool good;

	good = !connect(fd, (const struct sockaddr *)&w->to, w->len) &&
	       send(fd, word, sizeof(word), MSG_NOSIGNAL) == sizeof(word) &&
	       recv(fd, word, sizeof(word), MSG_WAITALL) == sizeof(word) && recv(fd, word, 1, 0) == 0;
	close(fd);
	return good;
}

static void *work(void *data)
{
	struct worker *w = data;

	while (peer_now_ns() < w->until_ns) {
		w->connections++;
		w->failures += !once(w);
	}
	return NULL;
}

/* CPU time of this process, which another program's load disturbs less than the clock. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int client(const char *target, uint32_t threads)
{
	struct worker *workers = calloc(threads, sizeof(*workers));
	char line[32];

	while (fgets(line, sizeof(line), stdin)) {
		uint64_t start = peer_now_ns(), cpu = cpu_ns(), connections = 0, failures = 0;

		for (uint32_t i = 0; i < threads; i++) {
			workers[i] = (struct worker){ .until_ns = start + strtoull(line, NULL, 10) * 1000000u };
			workers[i].len = peer_parse(target, &workers[i].to);
			if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
				die("pthread_create");
		}
		for (uint32_t i = 0; i < threads; i++) {
			pthread_join(workers[i].thread, NULL);
			connections += workers[i].connections;
			failures += workers[i].failures;
		}
		printf("%lu %lu %lu %lu\n", connections, peer_now_ns() - start, failures, cpu_ns() - cpu);
		fflush(stdout);
	}
	return 0;
}

static int bulk(const char *target)
{
	static char chunk[CHUNK];
	struct sockaddr_storage to;
	socklen_t len = peer_parse(target, &to);
	char line[32];

	while (fgets(line, sizeof(line), stdin)) {
		uint64_t start = peer_now_ns(), cpu = cpu_ns(), until = start + strtoull(line, NULL, 10) * 1000000u,
			 sent = 0;
		int fd = patient(to.ss_family);
		bool good = !connect(fd, (const struct sockaddr *)&to, len);

		while (good && peer_now_ns() < until) {
			ssize_t n = send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL);

			good = n > 0;
			sent += good ? (uint64_t)n : 0;
		}
		good = good && !shutdown(fd, SHUT_WR) && recv(fd, chunk, 1, 0) == 0;
		close(fd);
		printf("%lu %lu %d %lu\n", sent, peer_now_ns() - start, !good, cpu_ns() - cpu);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve((uint16_t)atoi(argv[2]), answer);
	if (argc == 3 && !strcmp(argv[1], "sink"))
		serve((uint16_t)atoi(argv[2]), swallow);
	if (argc == 3 && !strcmp(argv[1], "bulk"))
		return bulk(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "client"))
		return client(argv[2], (uint32_t)atoi(argv[3]));
	fprintf(stderr, "usage: rr serve PORT | rr client TARGET THREADS | rr sink PORT | rr bulk TARGET\n");
	return 2;
}
