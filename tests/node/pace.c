/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections at a steady pace, whatever becomes of the ones before:
 *
 *   pace ADDR:PORT RATE SECONDS TIMEOUT_MS [HOLD_MS]
 *
 * Each connects, sends a line, reads the answer, and is held for HOLD_MS. A line for each, in the order in which they ended:
 *   <when it began, ms> <from connect() to the answer, us> <0 or the name of an errno> <answer, or ->
 * An end of the stream before the answer is EPIPE, no answer within TIMEOUT_MS is ETIME.
 */
#include <math.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "peer.h"

#define OPEN_MAX 4096

struct attempt {
	int fd; /* -1: free */
	bool sent, answered;
	uint64_t began_ns, until_ns;
};

static struct attempt attempts[OPEN_MAX];
static uint64_t start_ns, timeout_ns, hold_ns;
static int ep;

static void report(const struct attempt *a, uint64_t now, int error, const char *answer)
{
	printf("%lu %lu %s %s\n", (unsigned long)((a->began_ns - start_ns) / 1000000u),
	       (unsigned long)((now - a->began_ns) / 1000u), error ? strerrorname_np(error) : "0", answer);
}

static void end(struct attempt *a)
{
	peer_linger0(a->fd);
	close(a->fd);
	a->fd = -1;
}

static void fail(struct attempt *a, int error)
{
	report(a, peer_now_ns(), error, "-");
	end(a);
}

static void begin(const struct sockaddr_storage *sa, socklen_t len)
{
	struct epoll_event e = { .events = EPOLLOUT };
	struct attempt *a = attempts;

	while (a->fd >= 0)
		if (++a == attempts + OPEN_MAX) {
			errno = EMFILE;
			die("too many at a time");
		}
	*a = (struct attempt){ .began_ns = peer_now_ns() };
	a->until_ns = a->began_ns + timeout_ns;
	a->fd = socket(sa->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0)
		die("socket");
	if (connect(a->fd, (const struct sockaddr *)sa, len) && errno != EINPROGRESS) {
		fail(a, errno);
		return;
	}
	e.data.ptr = a;
	epoll_ctl(ep, EPOLL_CTL_ADD, a->fd, &e);
}

static void go_on(struct attempt *a)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = a };
	socklen_t len = sizeof(int);
	char answer[80];
	int error = 0;
	ssize_t n;

	if (!a->sent) {
		getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error || send(a->fd, "?\n", 2, MSG_NOSIGNAL) != 2) {
			fail(a, error ? error : errno);
			return;
		}
		a->sent = true;
		epoll_ctl(ep, EPOLL_CTL_MOD, a->fd, &e);
		return;
	}
	n = recv(a->fd, answer, sizeof(answer) - 1, 0);
	if (a->answered) { /* what comes while it is held is of no interest */
		end(a);
	} else if (n <= 0) {
		fail(a, n ? errno : EPIPE);
	} else {
		answer[strcspn(answer, "\n") < (size_t)n ? strcspn(answer, "\n") : (size_t)n] = 0;
		a->answered = true;
		a->until_ns = peer_now_ns() + hold_ns;
		report(a, peer_now_ns(), 0, answer);
		if (!hold_ns)
			end(a);
	}
}

/* Returns whether any is left. */
static bool expire(void)
{
	uint64_t now = peer_now_ns();
	bool any = false;

	for (struct attempt *a = attempts; a < attempts + OPEN_MAX; a++) {
		if (a->fd >= 0 && a->until_ns <= now) {
			if (a->answered)
				end(a);
			else
				fail(a, ETIME);
		}
		any |= a->fd >= 0;
	}
	return any;
}

int main(int argc, char **argv)
{
	struct epoll_event events[256];
	struct sockaddr_storage sa;
	uint64_t next, gap, left;
	struct rlimit files;
	socklen_t len;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (argc < 5) {
		fprintf(stderr, "usage: pace ADDR:PORT RATE SECONDS TIMEOUT_MS [HOLD_MS]\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	len = peer_parse(argv[1], &sa);
	gap = (uint64_t)(1e9 / atof(argv[2]));
	timeout_ns = strtoull(argv[4], NULL, 10) * 1000000u;
	hold_ns = argc > 5 ? strtoull(argv[5], NULL, 10) * 1000000u : 0;
	for (int i = 0; i < OPEN_MAX; i++)
		attempts[i].fd = -1;
	ep = epoll_create1(EPOLL_CLOEXEC);
	start_ns = next = peer_now_ns();
	left = (uint64_t)lround(atof(argv[2]) * atof(argv[3]));
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("begun\n");
	while (left || expire()) {
		int n;

		expire();
		for (; left && peer_now_ns() >= next; left--, next += gap)
			begin(&sa, len);
		n = epoll_wait(ep, events, 256, 1);
		for (int i = 0; i < n; i++) {
			struct attempt *a = events[i].data.ptr;

			if (a->fd >= 0)
				go_on(a);
		}
	}
	return 0;
}
