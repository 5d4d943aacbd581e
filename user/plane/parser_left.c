/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes of meshl7 that outlive their meshd. A file beside the control socket has a line "pid ticks" for each, so that nobody else is ever
 * taken for one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/parser_int.h"
#include "plane/plane_int.h"

#define UNLOAD_MS 5000

static void note_path(const struct settings *s, const char *suffix, struct buf *ret)
{
	buf_printf(ret, "%s.meshl7%s", s->socket, suffix);
}

uint64_t proc_ticks(pid_t pid)
{
	unsigned long long ticks = 0;
	char path[64], text[1024], *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	/* The name in parentheses may have anything in it. Of a zombie nothing is left that could serve. */
	end = strrchr(text, ')');
	if (!end || end[2] == 'Z' || end[2] == 'X' ||
	    sscanf(end + 2, "%*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
		   &ticks) != 1)
		return 0;
	return ticks;
}

void left_note(const struct parser *p)
{
	struct buf made = { 0 }, path = { 0 };
	FILE *f;

	note_path(p->settings, "", &path);
	note_path(p->settings, ".new", &made);
	f = fopen(made.data, "we");
	for (const struct parser_proc *c = f ? p->procs : NULL; c; c = c->next)
		fprintf(f, "%d %llu\n", c->pid, (unsigned long long)c->ticks);
	for (const struct parser_left *l = f ? p->left : NULL; l; l = l->next)
		fprintf(f, "%d %llu\n", l->pid, (unsigned long long)l->ticks);
	if (!f || fclose(f) || rename(made.data, path.data))
		log_warn("cannot note who runs path=%s: %s", path.data, strerror(errno));
	buf_release(&made);
	buf_release(&path);
}

static void remove_left(struct parser_left *l)
{
	struct parser_left **at = &l->parser->left;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	if (l->io)
		loop_io_del(l->io);
	close(l->pidfd);
	free(l);
}

static void on_end(void *data, int fd, uint32_t events)
{
	struct parser_left *l = data;
	struct parser *p = l->parser;

	log_info("meshl7 of an earlier meshd has ended pid=%d", l->pid);
	remove_left(l);
	left_note(p);
	accel_sync(p->plane);
}

/* Calls fn for each that lives, with a pidfd that is fn's. */
static void each_noted(const struct settings *s, void (*fn)(void *data, pid_t pid, uint64_t ticks, int pidfd),
		       void *data)
{
	struct buf path = { 0 };
	unsigned long long ticks;
	int pid;
	FILE *f;

	note_path(s, "", &path);
	f = fopen(path.data, "re");
	while (f && fscanf(f, "%d %llu", &pid, &ticks) == 2) {
		/* Opened first: from then on the pid is nobody else's. */
		int fd = pid > 1 ? pidfd_open(pid, 0) : -1;

		if (fd < 0)
			continue;
		if (proc_ticks(pid) == ticks)
			fn(data, pid, ticks, fd);
		else
			close(fd);
	}
	if (f)
		fclose(f);
	buf_release(&path);
}

static void take_left(void *data, pid_t pid, uint64_t ticks, int pidfd)
{
	struct parser *p = data;
	struct parser_left *l = xcalloc(1, sizeof(*l));

	*l = (struct parser_left){ .parser = p, .next = p->left, .pid = pid, .ticks = ticks, .pidfd = pidfd };
	p->left = l;
	l->io = loop_io_add(p->loop, pidfd, EPOLLIN, on_end, l);
	log_info("meshl7 of an earlier meshd serves on pid=%d", pid);
}

void left_kill(const struct parser *p)
{
	for (const struct parser_left *l = p->left; l; l = l->next)
		pidfd_send_signal(l->pidfd, SIGKILL, NULL, 0);
}

void left_find(struct parser *p)
{
	each_noted(p->settings, take_left, p);
}

int left_netns(const struct parser *p)
{
	char path[64];

	for (const struct parser_left *l = p->left; l; l = l->next) {
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/ns/net", l->pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			return fd;
	}
	return -1;
}

void left_drain(struct parser *p)
{
	for (struct parser_left *l = p->left; l; l = l->next) {
		if (l->draining)
			continue;
		l->draining = true;
		if (pidfd_send_signal(l->pidfd, SIGTERM, NULL, 0))
			log_warn("meshl7 of an earlier meshd cannot be told to drain pid=%d: %s", l->pid,
				 strerror(errno));
		else
			log_info("meshl7 of an earlier meshd drains pid=%d", l->pid);
	}
}

void left_free(struct parser *p)
{
	while (p->left)
		remove_left(p->left);
}

static void end_left(void *data, pid_t pid, uint64_t ticks, int pidfd)
{
	struct pollfd end = { .fd = pidfd, .events = POLLIN };

	if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) || poll(&end, 1, UNLOAD_MS) != 1)
		log_warn("meshl7 cannot be ended pid=%d", pid);
	close(pidfd);
}

void parser_unload(const struct settings *s)
{
	struct buf path = { 0 };

	each_noted(s, end_left, NULL);
	note_path(s, "", &path);
	unlink(path.data);
	buf_release(&path);
}
