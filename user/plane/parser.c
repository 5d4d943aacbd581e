/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who of meshl7 runs: see parser.h. One process serves; another one is there only while it takes over. Both accept from the same listeners,
 * which are open here too, so that neither an end nor a change of process loses what waits in them.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/parser_int.h"
#include "plane/parser_net.h"
#include "plane/parser_rules.h"
#include "plane/plane_int.h"

/* CRASHES_MAX ends within this time are too many: then it is tried again this seldom. */
#define CRASH_MS 10000
#define RETRY_MS 30000
/* An apply waits this long for rules to hold; a restart for the new process. */
#define APPLIED_MS 1000
#define TAKE_OVER_MS 5000
#define NOBODY 64999 /* where there is no user of the name */

void parser_failed(struct parser *p, const char *fmt, ...)
{
	va_list ap;

	buf_clear(&p->why);
	va_start(ap, fmt);
	buf_vprintf(&p->why, fmt, ap);
	va_end(ap);
	log_err("%s", p->why.data);
}

static struct parser_proc *proc_in(const struct parser *p, enum proc_state state)
{
	struct parser_proc *c = p->procs;

	while (c && c->state != state)
		c = c->next;
	return c;
}

/* ---- namespace and listeners ---- */

static int open_netns(struct parser *p, struct buf *err)
{
	int fd = left_netns(p), rc;

	if (p->netns_fd >= 0) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	if (fd >= 0) {
		rc = parser_net_adopt(p->plane, fd);
		if (!rc) {
			p->netns_fd = fd;
			return 0;
		}
		close(fd);
		log_warn("the network of the meshl7 that runs cannot be used, connections that it has end: %s",
			 strerror(-rc));
	}
	rc = parser_net_open(p->plane, &fd);
	if (!rc) {
		p->netns_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		rc = p->netns_fd < 0 ? -errno : 0;
	}
	if (rc)
		buf_printf(err, "cannot make the network of meshl7: %s", strerror(-rc));
	return rc;
}

static int publish(struct parser *p)
{
	int rc = p->published ? 0 : parser_net_publish(p->plane, p->listeners, p->worker_nr);

	if (rc)
		parser_failed(p, "connections cannot be led to meshl7: %s", strerror(-rc));
	else
		p->published = true;
	return rc;
}

/* A listener that nobody has open is published no more. */
static void close_listeners(struct parser *p)
{
	for (uint32_t i = 0; p->listening && i < p->worker_nr; i++)
		close(p->listeners[i]);
	p->listening = p->published = false;
}

/* Clients may come before anybody accepts, but for one that serves still. */
static int open_net(struct parser *p, struct buf *err)
{
	int rc = open_netns(p, err);

	if (rc || p->listening)
		return rc;
	rc = parser_net_listen(p->plane, p->worker_nr, p->listeners);
	if (rc) {
		buf_printf(err, "cannot listen in the network of meshl7: %s", strerror(-rc));
		return rc;
	}
	p->listening = true;
	return p->left ? 0 : publish(p);
}

/* ---- processes ---- */

static void start_next(struct parser *p);

static void on_retry(void *data)
{
	struct parser *p = data;

	p->retry = NULL;
	start_next(p);
}

/* At once for the first time, then later and later, but what waits notices little of it: how often, CRASHES_MAX bounds. */
static void retry_later(struct parser *p)
{
	uint64_t now = loop_now_ms(), recent = 0, ms;

	p->crashes_ms[p->crash_nr++ % CRASHES_MAX] = now;
	for (uint32_t i = 0; i < CRASHES_MAX && i < p->crash_nr; i++)
		recent += now - p->crashes_ms[i] < CRASH_MS;
	if (recent == CRASHES_MAX && !p->given_up) {
		log_err("meshl7 has ended %u times within %u s: no connection is led to it, next try in %u s",
			CRASHES_MAX, CRASH_MS / 1000, RETRY_MS / 1000);
		p->given_up = true;
		close_listeners(p);
	}
	ms = p->given_up ? RETRY_MS : recent <= 1 ? 0 : 5ull << recent;
	if (!p->retry)
		p->retry = loop_timer_add(p->loop, ms, on_retry, p);
}

static void start_next(struct parser *p)
{
	struct buf err = { 0 };

	if (open_net(p, &err) || !proc_start(p, &err)) {
		parser_failed(p, "%s", err.data);
		retry_later(p);
	}
	buf_release(&err);
}

void parser_ready(struct parser_proc *c)
{
	struct parser *p = c->parser;

	if (publish(p))
		return;
	log_info("meshl7 serves pid=%d ms=%llu", c->pid, (unsigned long long)(loop_now_ms() - c->started_ms));
	for (struct parser_proc *o = p->procs; o; o = o->next)
		if (o->state == PROC_SERVING)
			proc_drain(o);
	left_drain(p);
	c->state = PROC_SERVING;
	p->given_up = false;
	accel_sync(p->plane);
}

static void print_end(struct buf *out, int status)
{
	if (WIFSIGNALED(status))
		buf_printf(out, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		buf_printf(out, "ended with exit code %d", WEXITSTATUS(status));
}

void parser_child(struct parser *p, pid_t pid, int status)
{
	struct parser_proc *c = p ? p->procs : NULL;
	struct buf how = { 0 };
	enum proc_state state;

	while (c && c->pid != pid)
		c = c->next;
	if (!c)
		return;
	state = c->state;
	print_end(&how, status);
	if (state == PROC_DRAINING)
		log_info("meshl7 has drained pid=%d and %s", pid, how.data);
	else if (!c->refused)
		parser_failed(p, "meshl7 (pid %d) %s", pid, how.data);
	proc_free(c);
	left_note(p);
	buf_release(&how);
	/* One that was to take over leaves the one that serves where it is. */
	if (state == PROC_DRAINING || proc_in(p, PROC_SERVING) || proc_in(p, PROC_STARTING))
		return;
	p->restart_nr++;
	retry_later(p);
}

static bool is_settled(const struct parser_proc *c)
{
	return c->state == PROC_SERVING || c->refused;
}

int parser_restart(struct parser *p, struct buf *err)
{
	struct parser_proc *c;
	int rc;

	if (!p->rules.len) {
		buf_printf(err, "no rule needs meshl7");
		return -EAGAIN;
	}
	if (proc_in(p, PROC_STARTING)) {
		buf_printf(err, "a process is about to take over already");
		return -EBUSY;
	}
	if (p->retry)
		loop_timer_del(p->retry);
	p->retry = NULL;
	rc = open_net(p, err);
	c = rc ? NULL : proc_start(p, err);
	if (!c)
		return rc ? rc : -EIO;
	if (!proc_wait(c, is_settled, TAKE_OVER_MS) || c->refused) {
		buf_printf(err, "the new process (pid %d) does not serve: %s", c->pid,
			   c->refused ? c->why.data : "meshd's log says why");
		proc_kill(c);
		return -EIO;
	}
	p->restart_nr++;
	return 0;
}

bool parser_is_own(const struct parser *p)
{
	return p && !p->left;
}

/* ---- rules ---- */

static bool has_answered(const struct parser_proc *c)
{
	return c->refused || c->epoch == c->parser->epoch;
}

int parser_rules(struct parser *p, const struct snapshot *s, uint64_t epoch, struct buf *err)
{
	struct parser_proc *serving = proc_in(p, PROC_SERVING);
	struct buf next = { 0 }, was = p->rules;
	uint64_t epoch_was = p->epoch;
	int rc = 0;

	parser_rules_make(s, epoch, &next);
	if (!was.len && !parser_rules_needed(&next)) {
		/* What an earlier meshd had one for is gone. */
		left_drain(p);
		buf_release(&next);
		return 0;
	}
	if (parser_rules_equal(&next, &was)) {
		buf_release(&next);
		return 0;
	}
	p->rules = next;
	p->epoch = epoch;
	/* One of an earlier meshd hears of no policy any more. */
	if (s->access->asks_requests)
		left_kill(p);
	for (struct parser_proc *c = p->procs; c; c = c->next) {
		if (!proc_send_rules(c, &next, epoch))
			continue;
		log_warn("rules do not reach meshl7, which is ended for that pid=%d", c->pid);
		proc_kill(c);
	}
	if (!p->procs && !p->retry)
		start_next(p);
	if (serving && !proc_wait(serving, has_answered, APPLIED_MS)) {
		log_warn("meshl7 is slow to take rules pid=%d epoch=%llu", serving->pid, (unsigned long long)epoch);
		/* What policies deny from now on at requests alone it would let through. */
		if (s->access->asks_requests)
			proc_kill(serving);
	}
	if (serving && serving->refused) {
		buf_printf(err, "meshl7 refuses the rules: %s", serving->why.data);
		p->rules = was;
		p->epoch = epoch_was;
		was = next;
		rc = -EINVAL;
	}
	buf_release(&was);
	return rc;
}

/* ---- start and end ---- */

static int find_user(struct parser *p, struct buf *err)
{
	const char *name = p->settings->parser_user;
	struct passwd *user = getpwnam(name);
	uint64_t number;

	if (user) {
		p->uid = user->pw_uid;
		p->gid = user->pw_gid;
	} else if (str_to_u64(str_of(name), UINT32_MAX - 1, &number)) {
		p->uid = p->gid = (uid_t)number;
	} else if (!strcmp(name, PARSER_USER)) {
		p->uid = p->gid = NOBODY;
	} else {
		buf_printf(err, "there is no user \"%s\" for meshl7", name);
		return -ENOENT;
	}
	if (p->uid && p->gid)
		return 0;
	buf_printf(err, "meshl7 cannot be root: give another parser-user than \"%s\"", name);
	return -EINVAL;
}

/* Beside the own program. */
static char *find_program(void)
{
	char own[PLANE_PATH_LEN], path[PLANE_PATH_LEN + 16];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

	own[n > 0 ? n : 0] = 0;
	if (!strrchr(own, '/'))
		return xstrdup("/usr/local/sbin/meshl7");
	*strrchr(own, '/') = 0;
	snprintf(path, sizeof(path), "%s/meshl7", own);
	return xstrdup(path);
}

static uint32_t count_workers(const struct settings *s)
{
	long nr = s->parser_workers;
	cpu_set_t cpus;

	if (!nr)
		nr = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);
	return nr < MESH_L7_WORKERS_MAX ? (uint32_t)nr : MESH_L7_WORKERS_MAX;
}

void parser_reopen(struct parser *p)
{
	const char *path = p ? p->settings->access_log : "";

	if (!path[0])
		return;
	if (p->log_fd >= 0)
		close(p->log_fd);
	p->log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0640);
	if (p->log_fd < 0)
		log_err("no access log path=%s: %s", path, strerror(errno));
	for (struct parser_proc *c = p->procs; c; c = c->next)
		proc_send_log(c);
}

int parser_new(struct loop *l, const struct settings *s, struct plane *plane, struct parser **ret, struct buf *err)
{
	struct parser *p = xcalloc(1, sizeof(*p));
	int rc;

	*p = (struct parser){ .loop = l, .settings = s, .plane = plane, .netns_fd = -1, .log_fd = -1 };
	left_find(p);
	if (!s->parser) {
		left_drain(p);
		parser_free(p);
		*ret = NULL;
		return 0;
	}
	rc = find_user(p, err);
	if (rc) {
		parser_free(p);
		return rc;
	}
	p->program = find_program();
	p->worker_nr = count_workers(s);
	p->listeners = xcalloc(p->worker_nr, sizeof(*p->listeners));
	parser_reopen(p);
	plane->meshl7 = p;
	*ret = p;
	return 0;
}

void parser_free(struct parser *p)
{
	if (!p)
		return;
	p->plane->meshl7 = NULL;
	while (p->procs)
		proc_free(p->procs);
	left_free(p);
	if (p->retry)
		loop_timer_del(p->retry);
	close_listeners(p);
	if (p->netns_fd >= 0)
		close(p->netns_fd);
	if (p->log_fd >= 0)
		close(p->log_fd);
	metrics_release(&p->past);
	buf_release(&p->rules);
	buf_release(&p->why);
	free(p->listeners);
	free(p->program);
	free(p);
}

/* ---- what people ask ---- */

static void gather(const struct parser *p, struct metrics *m)
{
	metrics_merge(m, &p->past);
	for (const struct parser_proc *c = p->procs; c; c = c->next)
		metrics_add(m, c->stats, p->worker_nr, true);
}

void parser_metrics(const struct parser *p, struct buf *out)
{
	struct metrics m = { 0 };

	if (!p)
		return;
	gather(p, &m);
	metrics_print(&m, str_of(p->settings->cluster_domain), out);
	metrics_release(&m);
}

static const char *state_text(const struct parser *p)
{
	if (!p->rules.len)
		return "not needed by the rules";
	if (proc_in(p, PROC_SERVING))
		return "serves";
	if (p->given_up)
		return "down: it ends again and again";
	if (p->left && !p->published)
		return "one of an earlier meshd serves";
	return proc_in(p, PROC_STARTING) ? "starts" : "down";
}

void parser_json(const struct parser *p, struct json *j)
{
	const struct parser_proc *c = p ? proc_in(p, PROC_SERVING) : NULL;
	struct metrics m = { 0 };
	uint32_t draining = 0;

	if (!p) {
		json_null(j);
		return;
	}
	gather(p, &m);
	for (const struct parser_proc *o = p->procs; o; o = o->next)
		draining += o->state == PROC_DRAINING;
	for (const struct parser_left *l = p->left; l; l = l->next)
		draining++;
	json_object(j);
	json_kstr(j, "state", str_of(state_text(p)));
	json_kuint(j, "pid", c ? (uint64_t)c->pid : 0);
	json_kuint(j, "uptime_s", c ? (loop_now_ms() - c->started_ms) / 1000 : 0);
	json_kuint(j, "workers", p->worker_nr);
	json_kuint(j, "rules_epoch", c ? c->epoch : 0);
	json_kuint(j, "rules_bytes", p->rules.len);
	json_kuint(j, "connections", m.open);
	json_kuint(j, "upstream_connections", m.upstream_open);
	json_kuint(j, "requests", m.active);
	json_kuint(j, "accepted", m.accepted);
	json_kuint(j, "restarts", p->restart_nr);
	json_kuint(j, "draining", draining);
	json_kuint(j, "log_dropped", m.log_dropped);
	json_kstr(j, "failure", (struct str){ p->why.data, (uint32_t)p->why.len });
	json_object_end(j);
	metrics_release(&m);
}
