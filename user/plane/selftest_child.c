/* SPDX-License-Identifier: BSD-2-Clause */
/* The child of the self-test: a network namespace of its own, one semantic after the other, and what came of it. Lets go of all that is the
 * daemon's but what it is given. */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "plane/selftest.h"

#define SEMANTIC_MS 100
#define TRIES 3 /* a thread that sleeps sees some differences only now and then */
#define ALL_S 2
#define SLOW_ENOUGH 2 /* times that it was given more time: what does not come then never comes */

/* Closes what it was not given, the lock of the pin directory among it. */
static void let_go(const struct selftest_job *job)
{
	unsigned int next = 3;

	for (;;) {
		unsigned int keep = ~0u;
		const int fds[] = { job->iter_fd, job->pod_ends_fd, job->fd };

		for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
			if ((unsigned int)fds[i] >= next && (unsigned int)fds[i] < keep)
				keep = (unsigned int)fds[i];
		if (keep > next)
			close_range(next, keep - 1, 0);
		if (keep == ~0u)
			return;
		next = keep + 1;
	}
}

/* As a program begins; ends with the daemon, and by itself. */
static void become_a_program(uint32_t slow)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "meshd-selftest");
	sigemptyset(&none);
	signal(SIGALRM, SIG_DFL);
	alarm(ALL_S << slow);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Up, with loopback alone; its cookie, 0 with errno. */
static uint64_t make_namespace(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	int fd;

	if (unshare(CLONE_NEWNET))
		return 0;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len))
		cookie = 0;
	close(fd);
	return cookie;
}

_Noreturn void selftest_child(const struct selftest_job *job)
{
	struct trial t = { .job = job };
	char c;

	become_a_program(job->slow);
	let_go(job);
	t.cookie = make_namespace();
	if (!t.cookie || send(job->fd, &t.cookie, sizeof(t.cookie), MSG_NOSIGNAL) < 0 || recv(job->fd, &c, 1, 0) != 1)
		_exit(1);
	for (uint32_t i = 0; i < SEMANTIC_NR; i++) {
		struct selftest_report report = { .semantic = i };
		uint32_t tries = i < SEMANTIC_DECIDING_NR ? 1 : TRIES;
		const char *differs;

		do {
			t.deadline_ns = trial_now_ns() + (SEMANTIC_MS * 1000000ull << job->slow);
			differs = semantic_fns[i](&t);
			/* What decides is not held against a kernel that was only too busy. */
			if (i < SEMANTIC_DECIDING_NR && !trial_left_ms(&t) && job->slow < SLOW_ENOUGH)
				differs = NOT_MEASURED;
			trial_close(&t);
		} while (!differs && --tries);
		snprintf(report.text, sizeof(report.text), "%s", differs ? differs : "same");
		if (send(job->fd, &report, sizeof(report), MSG_NOSIGNAL) < 0)
			_exit(1);
	}
	_exit(0);
}
