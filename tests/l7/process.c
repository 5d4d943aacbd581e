/* SPDX-License-Identifier: BSD-2-Clause */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/l7link.h"

#define WAIT_MS 10000

static int started = -1; /* pidfd */

static void fail(const char *what)
{
	fprintf(stderr, "hand: %s: %s\n", what, strerror(errno));
	if (started >= 0)
		syscall(SYS_pidfd_send_signal, started, SIGKILL, NULL, 0);
	exit(2);
}

static void say(struct process *p, enum mesh_l7_type type, uint64_t arg, const int *fds, uint32_t nr)
{
	errno = -l7link_send(p->link, type, arg, STR(""), fds, nr);
	if (errno)
		fail("say something to meshl7");
}

/* The next message, whatever it is about, but for those about ejected endpoints. */
static void hear(struct process *p, struct mesh_l7_msg *ret)
{
	int fds[MESH_L7_WORKERS_MAX], rc;
	uint32_t nr;

	do {
		struct pollfd at = { .fd = p->link, .events = POLLIN };

		if (poll(&at, 1, WAIT_MS) != 1)
			fail("meshl7 says nothing");
		rc = l7link_recv(p->link, ret, fds, &nr);
		errno = -rc;
		if (rc != 1 && rc != -EAGAIN)
			fail("hear meshl7");
	} while (rc != 1 || ret->type == MESH_L7_EJECTED);
}

static int sealed(struct str rules)
{
	int fd = memfd_create("rules", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || write(fd, rules.p, rules.len) != rules.len ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		fail("rules");
	return fd;
}

static void start(struct process *p, const char *path)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
		fail("socketpair");
	pid = fork();
	if (!pid) {
		if (ends[1] == MESH_L7_FD)
			fcntl(MESH_L7_FD, F_SETFD, 0);
		else
			dup2(ends[1], MESH_L7_FD);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execl(path, path, (char *)NULL);
		fail(path);
	}
	p->pidfd = started = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pid < 0 || p->pidfd < 0)
		fail("start meshl7");
	close(ends[1]);
	p->link = ends[0];
	/* Who measures it must know which process it is. */
	printf("meshl7 %d\n", pid);
}

static int shared_stats(struct process *p, uint32_t nr)
{
	size_t size = sizeof(*p->stats) + nr * sizeof(p->stats->workers[0]);
	int fd = memfd_create("stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)size))
		fail("stats");
	p->stats = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p->stats == MAP_FAILED)
		fail("stats");
	p->stats->magic = MESH_STATS_MAGIC;
	p->stats->worker_nr = nr;
	return fd;
}

void process_start(struct process *p, const char *path, const int *listeners, uint32_t nr, struct str rules)
{
	struct mesh_l7_msg msg;
	int stats = shared_stats(p, nr), fd;

	start(p, path);
	say(p, MESH_L7_LISTENERS, MESH_L7_PROTOCOL, listeners, nr);
	say(p, MESH_L7_STATS, 0, &stats, 1);
	close(stats);
	fd = sealed(rules);
	say(p, MESH_L7_RULES, 1, &fd, 1);
	close(fd);
	hear(p, &msg);
	if (msg.type != MESH_L7_READY)
		fail("it is not ready");
	hear(p, &msg);
	if (msg.type != MESH_L7_APPLIED)
		fail("it does not take its first rules");
}

bool process_rules(struct process *p, struct str rules)
{
	struct mesh_l7_msg msg;
	int fd = sealed(rules);

	say(p, MESH_L7_RULES, 1, &fd, 1);
	close(fd);
	hear(p, &msg);
	if (msg.type == MESH_L7_REFUSED)
		fprintf(stderr, "hand: refused: %.*s\n", (int)msg.len, msg.text);
	return msg.type == MESH_L7_APPLIED;
}

void process_drain(struct process *p, uint32_t ms)
{
	say(p, MESH_L7_DRAIN, ms, NULL, 0);
}

int process_end(struct process *p)
{
	siginfo_t how = { 0 };

	/* Gone it may be already. */
	l7link_send(p->link, MESH_L7_DRAIN, 0, STR(""), NULL, 0);
	if (waitid(P_PIDFD, (id_t)p->pidfd, &how, WEXITED))
		fail("wait for meshl7");
	return how.si_code == CLD_EXITED ? how.si_status : 128 + how.si_status;
}
