/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meshl7: the parser of HTTP. meshd starts it with a socket as descriptor 3 and hands it everything over that: listening sockets, rules, where to
 * count and log. The main thread listens to meshd; workers (user/l7) do the rest. When meshd is gone it goes on by the last rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/l7link.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/version.h"
#include "l7/sandbox.h"
#include "l7/worker.h"

#define NOBODY 64999 /* who it is when nobody says: an id that is nobody else's */

struct meshl7 {
	struct loop *loop;
	struct loop_io *link_io, *ended_io; /* link_io NULL: meshd is gone */
	int listeners[MESH_L7_WORKERS_MAX];
	uint32_t listener_nr; /* once workers run they have them */
	int log_fd;	      /* -1: there was none yet */
	struct worker_shared shared;
	struct workers *workers;
	size_t stats_len;
	int rc;
};

/* ---- what meshd hands over ---- */

static void *map(int fd, int prot, size_t *ret_len)
{
	off_t len = lseek(fd, 0, SEEK_END);
	void *p = MAP_FAILED;

	if (len > 0)
		p = mmap(NULL, (size_t)len, prot, MAP_SHARED, fd, 0);
	*ret_len = (size_t)len;
	return p == MAP_FAILED ? NULL : p;
}

struct mapping {
	void *p;
	size_t len;
};

static void mapping_release(void *data)
{
	struct mapping *m = data;

	munmap(m->p, m->len);
	free(m);
}

/* Rules out of a memfd that nobody can change any more. NULL with a sentence. */
static struct http_rules *rules_take(int fd, struct buf *err)
{
	const int sealed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	struct mapping *m = xcalloc(1, sizeof(*m));
	int seals = fcntl(fd, F_GET_SEALS);
	struct http_rules *r;

	if (seals < 0 || (seals & sealed) != sealed)
		buf_printf(err, "rules that can still be changed");
	else if (!(m->p = map(fd, PROT_READ, &m->len)))
		buf_printf(err, "rules that cannot be mapped: %s", strerror(errno));
	if (!m->p) {
		free(m);
		return NULL;
	}
	r = http_rules_load(m->p, m->len, mapping_release, m, err);
	if (!r)
		mapping_release(m);
	return r;
}

static void on_ended(void *data, int fd, uint32_t events)
{
	loop_stop(((struct meshl7 *)data)->loop);
}

static void say(struct meshl7 *m, enum mesh_l7_type type, uint64_t arg, struct str text)
{
	int rc = m->link_io ? l7link_send(MESH_L7_FD, type, arg, text, NULL, 0) : 0;

	if (rc)
		log_warn("meshd does not hear type=%u: %s", type, strerror(-rc));
}

/* Called by workers. A message is one write, and meshd may miss one. */
static void ejected(void *data, struct str cluster, const struct lb_host *host, uint64_t ms)
{
	char address[ADDR_TEXT_MAX];
	struct buf text = { 0 };
	struct addr addr;

	memcpy(addr.b, &host->addr, sizeof(addr.b));
	addr_text(&addr, address);
	buf_printf(&text, addr_is_v4(&addr) ? "%.*s %s:%u" : "%.*s [%s]:%u", STR_ARG(cluster), address, host->port);
	l7link_send(MESH_L7_FD, MESH_L7_EJECTED, ms, (struct str){ text.data, (uint32_t)text.len }, NULL, 0);
	buf_release(&text);
}

static int start(struct meshl7 *m, struct http_rules *rules)
{
	int rc = workers_start(m->listeners, m->listener_nr, &m->shared, rules, &m->workers);

	if (rc) {
		log_err("cannot start workers: %s", strerror(-rc));
		return rc;
	}
	m->ended_io = loop_io_add(m->loop, workers_ended_fd(m->workers), EPOLLIN, on_ended, m);
	if (!m->ended_io)
		return -errno;
	say(m, MESH_L7_READY, m->listener_nr, STR(""));
	return 0;
}

static int take_rules(struct meshl7 *m, int fd)
{
	struct buf err = { 0 };
	struct http_rules *r = rules_take(fd, &err);
	int rc = 0;

	if (!r) {
		log_err("rules refused: %s", err.data);
		say(m, MESH_L7_REFUSED, 0, (struct str){ err.data, (uint32_t)err.len });
		buf_release(&err);
		return 0;
	}
	if (m->workers)
		workers_rules(m->workers, r);
	else
		rc = start(m, r);
	if (!rc)
		say(m, MESH_L7_APPLIED, http_rules_epoch(r), STR(""));
	http_rules_unref(r);
	return rc;
}

/* A new file takes the place of the old one under the number that workers write to. */
static int take_log(struct meshl7 *m, int fd, uint64_t format)
{
	if (fd < 0) {
		atomic_store(&m->shared.log.fd, -1);
		return 0;
	}
	if (m->log_fd < 0)
		m->log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	else if (dup3(fd, m->log_fd, O_CLOEXEC) < 0)
		return -errno;
	atomic_store(&m->shared.log.format, (int)format);
	atomic_store(&m->shared.log.fd, m->log_fd);
	return 0;
}

static int take_stats(struct meshl7 *m, int fd)
{
	struct mesh_l7_stats *s = m->workers || m->shared.stats ? NULL : map(fd, PROT_READ | PROT_WRITE, &m->stats_len);

	if (!s)
		return -EPROTO;
	m->shared.stats = s;
	if (m->stats_len < sizeof(*s) || s->magic != MESH_STATS_MAGIC ||
	    m->stats_len < sizeof(*s) + m->listener_nr * sizeof(*s->workers) || s->worker_nr < m->listener_nr)
		return -EPROTO;
	return 0;
}

static int take_listeners(struct meshl7 *m, const int *fds, uint32_t nr, uint64_t arg)
{
	if (m->listener_nr || !nr || (arg & 0xffff) != MESH_L7_PROTOCOL)
		return -EPROTO;
	m->listener_nr = nr;
	m->shared.bind_client = arg & MESH_L7_BIND_CLIENT;
	m->shared.past_tcp = arg & MESH_L7_PAST_TCP;
	for (uint32_t i = 0; i < nr; i++)
		m->listeners[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
	return 0;
}

static void drain(struct meshl7 *m, uint64_t ms)
{
	if (m->workers)
		workers_drain(m->workers, ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX);
	else
		loop_stop(m->loop);
}

/* 0; or -errno, then meshd and this are not of one kind. */
static int take(struct meshl7 *m, const struct mesh_l7_msg *msg, const int *fds, uint32_t nr)
{
	if (msg->type == MESH_L7_LISTENERS)
		return take_listeners(m, fds, nr, msg->arg);
	if (msg->type == MESH_L7_DRAIN && !nr) {
		drain(m, msg->arg);
		return 0;
	}
	if (msg->type == MESH_L7_LOG && nr <= 1)
		return take_log(m, nr ? fds[0] : -1, msg->arg);
	if (nr != 1 || !m->listener_nr)
		return -EPROTO;
	if (msg->type == MESH_L7_RULES)
		return take_rules(m, fds[0]);
	return msg->type == MESH_L7_STATS ? take_stats(m, fds[0]) : -EPROTO;
}

static void on_link(void *data, int fd, uint32_t events)
{
	struct meshl7 *m = data;
	int fds[MESH_L7_WORKERS_MAX], rc;
	struct mesh_l7_msg msg;
	uint32_t nr;

	while ((rc = l7link_recv(fd, &msg, fds, &nr)) > 0) {
		rc = take(m, &msg, fds, nr);
		while (nr)
			close(fds[--nr]);
		if (rc) {
			log_err("message not understood type=%u: %s", msg.type, strerror(-rc));
			m->rc = 1;
			loop_stop(m->loop);
			return;
		}
	}
	if (rc == -EAGAIN || rc == -EINTR)
		return;
	loop_io_del(m->link_io);
	m->link_io = NULL;
	if (m->workers)
		log_info("meshd is gone, serving goes on by the last rules");
	else
		loop_stop(m->loop);
}

static void on_signal(void *data, int signo)
{
	log_info("draining signal=%d", signo);
	drain(data, MESH_L7_DRAIN_MS);
}

/* ---- start ---- */

static const char usage[] =
	"usage: meshl7 [--user=UID:GID] [--memory=MIB]\n"
	"\n"
	"Routes HTTP requests for meshd, which starts it and hands it everything over file descriptor 3.\n"
	"\n"
	"  --user=UID:GID    who to be after the start as root (default: 64999:64999)\n"
	"  --memory=MIB      memory of its own that it may have; 0: any (default: 0)\n"
	"  --version         print the version and exit\n"
	"  --help            print this text and exit\n"
	"\n"
	"Signals: SIGTERM lets it end after the requests that it has.\n";

static bool parse_user(struct str s, struct sandbox *ret)
{
	int colon = str_find(s, ':');
	uint64_t uid, gid;

	if (colon < 0 || !str_to_u64(str_sub(s, 0, (uint32_t)colon), UINT32_MAX - 1, &uid) ||
	    !str_to_u64(str_sub(s, (uint32_t)colon + 1, s.len), UINT32_MAX - 1, &gid) || !uid || !gid)
		return false;
	ret->uid = (uid_t)uid;
	ret->gid = (gid_t)gid;
	return true;
}

static bool parse_flag(const char *text, struct sandbox *ret)
{
	struct str s = str_of(text), value = str_sub(s, (uint32_t)str_find(s, '=') + 1, s.len);
	uint64_t mib;

	if (str_starts(s, STR("--user=")))
		return parse_user(value, ret);
	if (!str_starts(s, STR("--memory=")) || !str_to_u64(value, 1 << 20, &mib))
		return false;
	ret->memory = mib << 20;
	return true;
}

static bool is_link(int fd)
{
	socklen_t len = sizeof(int);
	int type;

	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_SEQPACKET;
}

static int run(struct meshl7 *m)
{
	sigset_t set;
	int rc;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	m->loop = loop_new();
	rc = m->loop ? loop_signals(m->loop, &set, on_signal, m) : -errno;
	if (!rc) {
		m->link_io = loop_io_add(m->loop, MESH_L7_FD, EPOLLIN, on_link, m);
		rc = m->link_io ? loop_run(m->loop) : -errno;
	}
	if (rc) {
		log_err("event loop: %s", strerror(-rc));
		m->rc = 1;
	}
	workers_free(m->workers);
	lb_free(m->shared.lb);
	loop_free(m->loop);
	return m->rc;
}

int main(int argc, char **argv)
{
	struct meshl7 m = { .log_fd = -1, .shared = { .ejected = ejected } };
	struct sandbox sandbox = { .uid = NOBODY, .gid = NOBODY };
	struct buf err = { 0 };
	bool partly;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return fputs(usage, stdout) < 0 || fflush(stdout);
		if (!strcmp(argv[i], "--version"))
			return printf("meshl7 %s\n", tulle_version.p) < 0 || fflush(stdout);
		if (!parse_flag(argv[i], &sandbox)) {
			fprintf(stderr, "meshl7: unexpected argument `%s`; see --help\n", argv[i]);
			return 2;
		}
	}
	if (!is_link(MESH_L7_FD)) {
		fprintf(stderr,
			"meshl7: meshd starts it, and gives it its work over file descriptor 3; see meshl7(8)\n");
		return 2;
	}
	atomic_init(&m.shared.log.fd, -1);
	m.shared.data = &m;
	m.shared.lb = lb_new();
	if (sandbox_enter(&sandbox, &partly, &err)) {
		log_err("no sandbox, so nothing is served: %s", err.data);
		buf_release(&err);
		return 1;
	}
	if (partly)
		log_warn("not started by root: it keeps its root directory and its user");
	return run(&m);
}
