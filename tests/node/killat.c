/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kills a program at its n-th bpf() call (--changes: that changes what outlives the program; --any: at its n-th system call of any
 * kind), before the kernel carries that call out, or counts the calls.
 *
 *   killat [--changes|--any] [--at N] -- CMD ARG...    from exec until CMD says READY=1 on NOTIFY_SOCKET, or exits; then lets it run
 *   killat [--changes|--any] [--at N] --attach PID -- CMD ...    of the running PID, while CMD (not traced) runs
 *
 * --at 0 neither kills nor counts, so it costs nothing: it starts CMD and waits until it is ready.
 * The last line of standard output: "bpf <calls> ready|exited|killed|done <pid> <exit status of CMD>". Exit status 0 unless killat
 * itself failed. All threads count. It never touches another process.
 */
#include <errno.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/ptrace.h>

struct run {
	unsigned long at, calls; /* at 0: only count */
	pid_t traced, command;	 /* traced: thread group that is counted; command: our child */
	bool any;		 /* every system call counts */
	bool changes;		 /* of bpf(), loading and asking do not count */
	bool untraced;		 /* --at 0 */
	bool attached;		 /* traced is not our child */
	bool killed, ready, command_over;
	int command_status;
	int notify;
	char notify_name[100];
};

static void die(const char *what)
{
	fprintf(stderr, "killat: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* A socket for sd_notify, in the directory KILLAT_DIR (/run). It has a path: abstract names are per network namespace, and CMD may
 * enter another. */
static void notify_open(struct run *r)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *dir = getenv("KILLAT_DIR");

	snprintf(r->notify_name, sizeof(r->notify_name), "%s/tulle-killat-%d", dir ? dir : "/run", getpid());
	memcpy(sa.sun_path, r->notify_name, strlen(r->notify_name) + 1);
	unlink(r->notify_name);
	r->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->notify < 0 || bind(r->notify, (struct sockaddr *)&sa, sizeof(sa)))
		die("notify socket");
}

static void notify_read(struct run *r)
{
	char text[512];
	ssize_t n;

	while ((n = recv(r->notify, text, sizeof(text) - 1, 0)) > 0) {
		text[n] = 0;
		if (strstr(text, "READY=1"))
			r->ready = true;
	}
}

#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK)

static void spawn(struct run *r, char **argv)
{
	bool traced = !r->attached && !r->untraced;
	sigset_t none;

	r->command = fork();
	if (r->command < 0)
		die("fork");
	if (!r->command) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		if (!r->attached)
			setenv("NOTIFY_SOCKET", r->notify_name, 1);
		if (traced)
			raise(SIGSTOP);
		execvp(argv[0], argv);
		die(argv[0]);
	}
	if (!r->attached)
		r->traced = r->command;
	if (!traced)
		return;
	if (waitpid(r->command, NULL, WUNTRACED) != r->command)
		die("waitpid");
	if (ptrace(PTRACE_SEIZE, r->command, 0, OPTIONS))
		die("PTRACE_SEIZE");
	kill(r->command, SIGCONT);
}

/* Every thread of PID; interrupted, so that each is resumed with PTRACE_SYSCALL. */
static void attach(struct run *r)
{
	struct dirent *e;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", r->traced);
	d = opendir(path);
	if (!d)
		die(path);
	while ((e = readdir(d))) {
		pid_t tid = (pid_t)atoi(e->d_name);

		if (tid <= 0)
			continue;
		if (ptrace(PTRACE_SEIZE, tid, 0, OPTIONS) || ptrace(PTRACE_INTERRUPT, tid, 0, 0))
			die("PTRACE_SEIZE");
		/* Only once it is stopped and resumed are its system calls seen. */
		if (waitpid(tid, NULL, __WALL) != tid || ptrace(PTRACE_SYSCALL, tid, 0, 0))
			die("PTRACE_SYSCALL");
	}
	closedir(d);
}

/* Carried out or not, this command leaves the same pins, links and contents of maps. */
static bool leaves_no_trace(uint64_t command)
{
	switch (command) {
	case BPF_MAP_UPDATE_ELEM:
	case BPF_MAP_DELETE_ELEM:
	case BPF_MAP_UPDATE_BATCH:
	case BPF_MAP_DELETE_BATCH:
	case BPF_OBJ_PIN:
	case BPF_PROG_ATTACH:
	case BPF_PROG_DETACH:
	case BPF_LINK_CREATE:
	case BPF_LINK_UPDATE:
	case BPF_LINK_DETACH:
		return false;
	default:
		return true;
	}
}

static bool counts(const struct run *r, const struct ptrace_syscall_info *info)
{
	if (r->any)
		return true;
	return info->entry.nr == SYS_bpf && !(r->changes && leaves_no_trace(info->entry.args[0]));
}

/* A stop of a traced thread. */
static void on_stop(struct run *r, pid_t tid, int status)
{
	struct ptrace_syscall_info info = { 0 };
	int sig = WSTOPSIG(status), event = status >> 16, deliver = 0;

	if (sig == (SIGTRAP | 0x80)) {
		if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) > 0 &&
		    info.op == PTRACE_SYSCALL_INFO_ENTRY && counts(r, &info) && !r->ready) {
			r->calls++;
			if (r->at && r->calls == r->at) {
				kill(r->traced, SIGKILL);
				r->killed = true;
			}
		}
	} else if (event == PTRACE_EVENT_STOP) {
		deliver = 0;
	} else if (!event) {
		deliver = sig;
	}
	ptrace(PTRACE_SYSCALL, tid, 0, deliver);
}

static void reap(struct run *r, bool *ret_traced_over)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		if (WIFSTOPPED(status)) {
			on_stop(r, tid, status);
			continue;
		}
		if (tid == r->command) {
			r->command_over = true;
			r->command_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		if (tid == r->traced)
			*ret_traced_over = true;
	}
}

int main(int argc, char **argv)
{
	struct run r = { .notify = -1 };
	bool traced_over = false;
	const char *how;
	sigset_t set;
	int signals, i;

	for (i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], "--at") && i + 1 < argc)
			r.at = strtoul(argv[++i], NULL, 10), r.untraced = !r.at;
		else if (!strcmp(argv[i], "--any"))
			r.any = true;
		else if (!strcmp(argv[i], "--changes"))
			r.changes = true;
		else if (!strcmp(argv[i], "--attach") && i + 1 < argc)
			r.traced = (pid_t)atoi(argv[++i]);
		else
			break;
	}
	if (i + 1 >= argc || strcmp(argv[i], "--")) {
		fprintf(stderr, "usage: killat [--changes|--any] [--at N] [--attach PID] -- CMD ARG...\n");
		return 2;
	}
	r.attached = r.traced > 0;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		die("signalfd");
	notify_open(&r);
	if (r.attached)
		attach(&r);
	spawn(&r, argv + i + 1);
	for (;;) {
		struct pollfd fds[2] = { { .fd = signals, .events = POLLIN }, { .fd = r.notify, .events = POLLIN } };
		struct signalfd_siginfo si;

		reap(&r, &traced_over);
		if (r.attached ? r.command_over && (!r.killed || traced_over) : r.ready || traced_over)
			break;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			die("poll");
		while (read(signals, &si, sizeof(si)) > 0)
			;
		notify_read(&r);
	}
	unlink(r.notify_name);
	how = r.killed ? "killed" : r.attached ? "done" : r.ready ? "ready" : "exited";
	printf("bpf %lu %s %d %d\n", r.calls, how, r.traced, r.command_status);
	return 0;
}
