/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Both ends of the connections that the node tests make: what Python would be too slow for. It knows nothing of the mesh.
 *
 *   peer serve NAME PORT...            answers each line with "NAME PORT"; says "ready" when it listens; until it is killed
 *   peer load ADDR:PORT... [--count N] [--allow NAME,...] [--period-us N]
 *                                      connects in turn, sends a line, reads the answer, closes; N times, or until SIGTERM.
 *                                      Prints JSON: {"connections","failures","foreign","first_error","answers":{"NAME PORT":n}}.
 *                                      SIGUSR1 prints the same so far, on one line, and goes on
 *   peer fail KIND ADDR:PORT           one connect that fails: connect | close | deferred | hold. See below.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#include "peer.h"

#define ANSWERS_MAX 512

/* ---- serve ---- */

struct listener {
	int fd;
	char text[80];
	int text_len;
};

/* One readable connection: each line gets the listener's text; the end closes. data.u64 is listener << 32 | fd. */
static void serve_one(const struct listener *l, int fd)
{
	char line[4096];
	ssize_t n = recv(fd, line, sizeof(line), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		close(fd);
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		if (line[i] == '\n' && send(fd, l->text, (size_t)l->text_len, MSG_NOSIGNAL) < 0)
			break;
}

static _Noreturn void serve(const char *name, char **ports, int nr)
{
	struct listener *listeners = calloc((size_t)nr, sizeof(*listeners));
	struct epoll_event events[256], e = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), one = 1;

	for (int i = 0; i < nr; i++) {
		struct listener *l = &listeners[i];

		l->fd = peer_listen((uint16_t)atoi(ports[i]));
		l->text_len = snprintf(l->text, sizeof(l->text), "%s %s\n", name, ports[i]);
		e.data.u64 = (uint64_t)(uint32_t)i << 32 | 0xffffffffu;
		epoll_ctl(ep, EPOLL_CTL_ADD, l->fd, &e);
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, events, 256, -1);

		for (int i = 0; i < n; i++) {
			uint32_t at = (uint32_t)(events[i].data.u64 >> 32), fd = (uint32_t)events[i].data.u64;
			int c;

			if (fd != 0xffffffffu) {
				serve_one(&listeners[at], (int)fd);
				continue;
			}
			while ((c = accept4(listeners[at].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
				setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				e.data.u64 = (uint64_t)at << 32 | (uint32_t)c;
				epoll_ctl(ep, EPOLL_CTL_ADD, c, &e);
			}
		}
	}
}

/* ---- load ---- */

struct load {
	uint64_t connections, failures, foreign;
	char first_error[160];
	struct {
		char text[80];
		uint64_t nr;
	} answers[ANSWERS_MAX];
	uint32_t answer_nr;
	const char *allow; /* comma-separated names; NULL: all */
};

static void load_print(const struct load *l)
{
	printf("{\"connections\":%lu,\"failures\":%lu,\"foreign\":%lu,\"first_error\":\"%s\",\"answers\":{",
	       l->connections, l->failures, l->foreign, l->first_error);
	for (uint32_t i = 0; i < l->answer_nr; i++)
		printf("%s\"%s\":%lu", i ? "," : "", l->answers[i].text, l->answers[i].nr);
	printf("}}\n");
	fflush(stdout);
}

static bool load_allowed(const struct load *l, const char *answer)
{
	size_t len = strcspn(answer, " ");
	const char *p = l->allow;

	if (!p)
		return true;
	while (*p) {
		size_t n = strcspn(p, ",");

		if (n == len && !strncmp(p, answer, n))
			return true;
		p += n + (p[n] == ',');
	}
	return false;
}

static void load_answer(struct load *l, const char *answer)
{
	uint32_t i;

	if (!load_allowed(l, answer)) {
		if (!l->foreign++)
			snprintf(l->first_error, sizeof(l->first_error), "foreign answer %s", answer);
	}
	for (i = 0; i < l->answer_nr; i++) {
		if (!strcmp(l->answers[i].text, answer)) {
			l->answers[i].nr++;
			return;
		}
	}
	if (i == ANSWERS_MAX)
		return;
	snprintf(l->answers[i].text, sizeof(l->answers[i].text), "%s", answer);
	l->answers[i].nr = 1;
	l->answer_nr++;
}

static void load_failed(struct load *l, const char *what)
{
	if (!l->failures++)
		snprintf(l->first_error, sizeof(l->first_error), "%s: %s after %lu connections", what, strerror(errno),
			 l->connections);
}

static void load_once(struct load *l, const struct sockaddr_storage *sa, socklen_t len)
{
	struct timeval wait = { .tv_sec = 10 };
	int fd = socket(sa->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[80];
	ssize_t n;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	peer_linger0(fd);
	l->connections++;
	if (connect(fd, (const struct sockaddr *)sa, len)) {
		load_failed(l, "connect");
	} else if (send(fd, "?\n", 2, MSG_NOSIGNAL) != 2) {
		load_failed(l, "send");
	} else {
		n = recv(fd, answer, sizeof(answer) - 1, 0);
		if (n <= 0 || answer[n - 1] != '\n') {
			errno = n == 0 ? EPIPE : errno;
			load_failed(l, "recv");
		} else {
			answer[n - 1] = 0;
			load_answer(l, answer);
		}
	}
	close(fd);
}

static int load(char **args, int nr)
{
	struct sockaddr_storage sa[64];
	const struct timespec at_once = { 0 };
	bool stop = false;
	sigset_t set;
	struct load *l = calloc(1, sizeof(*l));
	uint64_t count = 0, period_us = 0, i = 0, next;
	socklen_t len[64];
	uint32_t sa_nr = 0;

	for (int a = 0; a < nr; a++) {
		if (!strcmp(args[a], "--count") && a + 1 < nr)
			count = strtoull(args[++a], NULL, 10);
		else if (!strcmp(args[a], "--allow") && a + 1 < nr)
			l->allow = args[++a];
		else if (!strcmp(args[a], "--period-us") && a + 1 < nr)
			period_us = strtoull(args[++a], NULL, 10);
		else if (sa_nr < 64)
			len[sa_nr] = peer_parse(args[a], &sa[sa_nr]), sa_nr++;
	}
	if (!sa_nr)
		return 2;
	/* Asked for, not delivered: a signal would end a recv() with a timeout early. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	next = peer_now_ns();
	while (!stop && (!count || i < count)) {
		load_once(l, &sa[i % sa_nr], len[i % sa_nr]);
		i++;
		switch (sigtimedwait(&set, NULL, &at_once)) {
		case SIGUSR1:
			load_print(l);
			break;
		case SIGTERM:
			stop = true;
			break;
		}
		if (period_us) {
			struct timespec ts;
			uint64_t now = peer_now_ns();

			next = next + period_us * 1000 > now ? next + period_us * 1000 : now;
			ts = (struct timespec){ (time_t)(next / 1000000000u), (long)(next % 1000000000u) };
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		}
	}
	load_print(l);
	return l->failures || l->foreign ? 1 : 0;
}

/* ---- fail ---- */

/*
 * connect:  a plain connect(); prints the name of its errno ("0" when it worked), then closes.
 * close:    a non-blocking connect(), closed at once, in SYN_SENT.
 * deferred: TCP_FASTOPEN_CONNECT: connect() succeeds without a SYN; then the process kills itself.
 * hold:     a connection that stays open until standard input ends; then a reset, so that its port is free again.
 */
static int fail(const char *kind, const char *target)
{
	struct sockaddr_storage sa;
	socklen_t len = peer_parse(target, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (strcmp(kind, "close") ? 0 : SOCK_NONBLOCK), 0),
	    on = 1, err;
	char c;

	if (fd < 0)
		die("socket");
	if (!strcmp(kind, "deferred") && setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)))
		die("TCP_FASTOPEN_CONNECT");
	err = connect(fd, (struct sockaddr *)&sa, len) ? errno : 0;
	printf("%s\n", err ? strerrorname_np(err) : "0");
	fflush(stdout);
	if (!strcmp(kind, "deferred"))
		kill(getpid(), SIGKILL);
	if (!strcmp(kind, "hold")) {
		peer_linger0(fd);
		while (read(0, &c, 1) > 0)
			;
	}
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (argc > 3 && !strcmp(argv[1], "serve"))
		serve(argv[2], argv + 3, argc - 3);
	if (argc > 2 && !strcmp(argv[1], "load"))
		return load(argv + 2, argc - 2);
	if (argc > 3 && !strcmp(argv[1], "fail"))
		return fail(argv[2], argv[3]);
	fprintf(stderr,
		"usage: peer serve NAME PORT... | load ADDR:PORT... [--count N] [--allow NAME,...] [--period-us N] | "
		"fail KIND ADDR:PORT\n");
	return 2;
}
