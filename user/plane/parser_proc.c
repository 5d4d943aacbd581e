/* SPDX-License-Identifier: BSD-2-Clause */
/* One process of meshl7: started in its network namespace, told what it needs, listened to. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/l7link.h"
#include "base/log.h"
#include "plane/parser_int.h"
#include "plane/parser_rules.h"
#include "plane/plane_int.h"

/* From the start until it serves. */
#define READY_MS 10000
/* Lines of the log for what one process says: it may have been taken over. */
#define LINES_MAX 20
#define LINES_MS 10000

/* ---- what is said ---- */

void proc_kill(struct parser_proc *c)
{
	kill(c->pid, SIGKILL);
}

static void close_link(struct parser_proc *c)
{
	loop_io_del(c->io);
	close(c->link);
	c->link = -1;
}

static int say(struct parser_proc *c, enum mesh_l7_type type, uint64_t arg, const int *fds, uint32_t nr)
{
	int rc = c->link < 0 ? -EPIPE : l7link_send(c->link, type, arg, STR(""), fds, nr);

	if (rc && rc != -EPIPE)
		log_warn("meshl7 does not listen pid=%d: %s", c->pid, strerror(-rc));
	return rc;
}

int proc_send_rules(struct parser_proc *c, const struct buf *rules, uint64_t epoch)
{
	int fd = parser_rules_memfd(rules), rc;

	if (fd < 0)
		return fd;
	c->refused = false;
	rc = say(c, MESH_L7_RULES, epoch, &fd, 1);
	close(fd);
	return rc;
}

void proc_send_log(struct parser_proc *c)
{
	const struct parser *p = c->parser;

	say(c, MESH_L7_LOG, p->settings->access_log_json ? MESH_L7_LOG_JSON : MESH_L7_LOG_TEXT, &p->log_fd,
	    p->log_fd >= 0);
}

void proc_drain(struct parser_proc *c)
{
	c->state = PROC_DRAINING;
	say(c, MESH_L7_DRAIN, MESH_L7_DRAIN_MS, NULL, 0);
}

/* ---- what is heard ---- */

/* There is a line of the log for it. */
static bool may_log(struct parser_proc *c)
{
	uint64_t now = loop_now_ms();

	if (now - c->lines_ms >= LINES_MS) {
		if (c->lines_more)
			log_warn("meshl7 said more than is logged pid=%d lines=%u", c->pid, c->lines_more);
		c->lines_ms = now;
		c->lines = c->lines_more = 0;
	}
	if (c->lines == LINES_MAX) {
		c->lines_more++;
		return false;
	}
	c->lines++;
	return true;
}

static void on_message(struct parser_proc *c, const struct mesh_l7_msg *m)
{
	switch (m->type) {
	case MESH_L7_READY:
		if (c->state == PROC_STARTING)
			parser_ready(c);
		break;
	case MESH_L7_APPLIED:
		c->epoch = m->arg;
		break;
	case MESH_L7_REFUSED:
		c->refused = true;
		buf_clear(&c->why);
		buf_add(&c->why, m->text, m->len);
		if (may_log(c))
			log_err("meshl7 refuses rules pid=%d: %s", c->pid, c->why.data);
		break;
	case MESH_L7_EJECTED:
		c->ejected++;
		if (may_log(c))
			log_info("meshl7 ejects an endpoint for ms=%llu: %.*s", (unsigned long long)m->arg, (int)m->len,
				 m->text);
		break;
	default:
		if (may_log(c))
			log_warn("meshl7 says what is not understood pid=%d type=%u", c->pid, m->type);
	}
}

static void on_link(void *data, int fd, uint32_t events)
{
	int fds[MESH_L7_WORKERS_MAX], rc;
	struct parser_proc *c = data;
	struct mesh_l7_msg m;
	uint32_t nr;

	/* A share of the loop, not all of it. */
	for (int i = 0; i < 64; i++) {
		rc = l7link_recv(fd, &m, fds, &nr);
		if (rc == -EAGAIN || rc == -EINTR)
			return;
		while (rc >= 0 && nr)
			close(fds[--nr]);
		if (rc == 1) {
			on_message(c, &m);
			continue;
		}
		/* Who cannot be spoken to cannot be given rules either. */
		close_link(c);
		if (c->state != PROC_DRAINING)
			proc_kill(c);
		return;
	}
}

bool proc_wait(struct parser_proc *c, bool (*done)(const struct parser_proc *c), uint64_t ms)
{
	uint64_t end = loop_now_ms() + ms, now;

	while (!done(c) && c->link >= 0 && (now = loop_now_ms()) < end) {
		struct pollfd p = { .fd = c->link, .events = POLLIN };

		if (poll(&p, 1, (int)(end - now)) > 0)
			on_link(c, c->link, 0);
	}
	return done(c);
}

static void on_patience(void *data)
{
	struct parser_proc *c = data;

	c->patience = NULL;
	if (c->state != PROC_STARTING)
		return;
	parser_failed(c->parser, "meshl7 did not begin to serve within %u s", READY_MS / 1000);
	proc_kill(c);
}

/* ---- start ---- */

static int make_stats(struct parser_proc *c, int *ret_fd)
{
	uint32_t nr = c->parser->worker_nr;
	int fd = memfd_create("mesh_stats", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;
	void *p;

	if (fd < 0)
		return -errno;
	c->stats_len = sizeof(*c->stats) + nr * sizeof(*c->stats->workers);
	/* Who could shorten it could end meshd. */
	if (ftruncate(fd, (off_t)c->stats_len) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		goto out_fail;
	p = mmap(NULL, c->stats_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		goto out_fail;
	c->stats = p;
	c->stats->magic = MESH_STATS_MAGIC;
	c->stats->worker_nr = nr;
	*ret_fd = fd;
	return 0;

out_fail:
	rc = -errno;
	close(fd);
	return rc;
}

struct spawning {
	const char *program;
	posix_spawn_file_actions_t *files;
	posix_spawnattr_t *attr;
	char *const *argv, *const *env;
	pid_t pid;
};

static int spawn_inside(void *data)
{
	struct spawning *s = data;

	return -posix_spawn(&s->pid, s->program, s->files, s->attr, s->argv, s->env);
}

/* With `link` as its descriptor 3, in a session of its own, so that no terminal and nobody who ends meshd's group ends it too. */
static int spawn(struct parser *p, int link, pid_t *ret)
{
	char user[64], memory[64], journal[128];
	char *argv[] = { (char *)"meshl7", user, memory, NULL }, *env[] = { NULL, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	struct spawning s = { p->program, &files, &attr, argv, env, 0 };
	sigset_t none, all;
	int rc;

	snprintf(user, sizeof(user), "--user=%u:%u", p->uid, p->gid);
	snprintf(memory, sizeof(memory), "--memory=%u", p->settings->parser_memory);
	if (getenv("JOURNAL_STREAM") &&
	    snprintf(journal, sizeof(journal), "JOURNAL_STREAM=%s", getenv("JOURNAL_STREAM")) < (int)sizeof(journal))
		env[0] = journal;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&files, link, MESH_L7_FD);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	rc = netns_call(p->plane->pods.own_netns_fd, p->netns_fd, spawn_inside, &s);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	*ret = s.pid;
	return rc;
}

static int tell_all(struct parser_proc *c, int stats_fd)
{
	struct parser *p = c->parser;
	uint64_t how = MESH_L7_PROTOCOL | MESH_L7_BIND_CLIENT | (p->settings->accelerate_parser ? MESH_L7_PAST_TCP : 0);
	int rc = say(c, MESH_L7_LISTENERS, how, p->listeners, p->worker_nr);

	if (!rc)
		rc = say(c, MESH_L7_STATS, 0, &stats_fd, 1);
	if (!rc && p->log_fd >= 0)
		proc_send_log(c);
	return rc ? rc : proc_send_rules(c, &p->rules, p->epoch);
}

struct parser_proc *proc_start(struct parser *p, struct buf *err)
{
	struct parser_proc *c = xcalloc(1, sizeof(*c));
	int pair[2] = { -1, -1 }, stats_fd = -1, rc;

	*c = (struct parser_proc){ .parser = p, .link = -1, .started_ms = loop_now_ms() };
	rc = make_stats(c, &stats_fd);
	if (!rc && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		rc = -errno;
	if (!rc)
		rc = spawn(p, pair[1], &c->pid);
	if (pair[1] >= 0)
		close(pair[1]);
	c->link = pair[0];
	c->next = p->procs;
	p->procs = c;
	if (!rc) {
		c->ticks = proc_ticks(c->pid);
		c->io = loop_io_add(p->loop, c->link, EPOLLIN, on_link, c);
		c->patience = loop_timer_add(p->loop, READY_MS, on_patience, c);
		rc = tell_all(c, stats_fd);
		/* It is a child by now: whoever collects children frees it. */
		if (rc)
			proc_kill(c);
		log_info("meshl7 started pid=%d workers=%u", c->pid, p->worker_nr);
		left_note(p);
	} else {
		buf_printf(err, "cannot start %s: %s", p->program, strerror(-rc));
		proc_free(c);
		c = NULL;
	}
	if (stats_fd >= 0)
		close(stats_fd);
	return c;
}

void proc_free(struct parser_proc *c)
{
	struct parser_proc **at = &c->parser->procs;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (c->patience)
		loop_timer_del(c->patience);
	if (c->link >= 0 && c->io)
		loop_io_del(c->io);
	if (c->link >= 0)
		close(c->link);
	if (c->stats) {
		metrics_add(&c->parser->past, c->stats, c->parser->worker_nr, false);
		munmap(c->stats, c->stats_len);
	}
	buf_release(&c->why);
	free(c);
}
