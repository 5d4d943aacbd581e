/* SPDX-License-Identifier: BSD-2-Clause */
/* meshd: settings, data path, rules and control socket, put together in order of start. What they do is in user/plane. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/version.h"
#include "plane/control.h"
#include "plane/health.h"
#include "plane/notify.h"
#include "plane/parser.h"
#include "plane/plane.h"
#include "plane/prepare.h"
#include "plane/rules.h"
#include "plane/verbs.h"
#include "plane/watch.h"

#define IDLE_MS 1000

struct meshd {
	struct settings settings;
	struct loop *loop;
	struct plane *plane;
	struct health *health;
	struct parser *parser;
	struct rules *rules;
	struct watch *watch;
	struct control *control;
	struct loop_io *pods;
	struct verbs verbs;
	bool told_live; /* what systemd shows as our status */
};

static void tell_status(struct meshd *m)
{
	m->told_live = rules_live(m->rules);
	notify("STATUS=%s", m->told_live ? "rules are live" : "rules do not compile, what was pinned stays live");
}

static void on_signal(void *data, int signo)
{
	struct meshd *m = data;
	int status;
	pid_t pid;

	if (signo == SIGCHLD) {
		/* As process 1 of a container, orphans are ours too. */
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			parser_child(m->parser, pid, status);
	} else if (signo == SIGHUP) {
		log_info("reading the rules directory again");
		rules_reread(m->rules);
		parser_reopen(m->parser);
	} else {
		log_info("ending, the data path goes on signal=%d", signo);
		loop_stop(m->loop);
	}
}

static void on_rules(void *data)
{
	rules_reread(((struct meshd *)data)->rules);
}

static void on_pods(void *data, int fd, uint32_t events)
{
	plane_pods_event(((struct meshd *)data)->plane);
}

static void on_idle(void *data)
{
	struct meshd *m = data;

	plane_idle(m->plane);
	rules_idle(m->rules);
	if (m->told_live != (rules_live(m->rules) != NULL))
		tell_status(m);
	if (!loop_timer_add(m->loop, IDLE_MS, on_idle, m))
		log_err("no memory for the idle timer");
}

static void on_watchdog(void *data)
{
	struct meshd *m = data;

	notify("WATCHDOG=1");
	loop_timer_add(m->loop, notify_watchdog_ms(), on_watchdog, m);
}

/* Signals are held back from here on, so that one during the start is not lost and, as process 1, none is ignored. */
static int start_loop(struct meshd *m)
{
	sigset_t set;

	m->loop = loop_new();
	if (!m->loop)
		return -errno;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	signal(SIGPIPE, SIG_IGN);
	return loop_signals(m->loop, &set, on_signal, m);
}

static int start(struct meshd *m, struct buf *err)
{
	const struct settings *s = &m->settings;
	int rc;

	rc = start_loop(m);
	if (!rc)
		rc = prepare(s, err);
	if (!rc)
		rc = plane_open(s, &m->plane, err);
	if (!rc)
		rc = rules_new(s, m->plane, &m->rules, err);
	if (!rc)
		rc = parser_new(m->loop, s, m->plane, &m->parser, err);
	if (rc)
		return rc;
	m->health = health_new(m->loop, s, m->plane);
	/* Watched before it is read: what changes in between is then an event. */
	if (s->rules[0]) {
		m->watch = watch_new(m->loop, s->rules, on_rules, m);
		if (!m->watch)
			return -errno;
	}
	rules_start(m->rules);
	m->verbs = (struct verbs){ s, m->plane, m->rules, m->parser, loop_now_ms() };
	rc = control_new(m->loop, s->socket, s->socket_group, verbs_answer, &m->verbs, &m->control, err);
	if (rc)
		return rc;
	if (plane_pods_fd(m->plane) >= 0) {
		m->pods = loop_io_add(m->loop, plane_pods_fd(m->plane), EPOLLIN, on_pods, m);
		if (!m->pods)
			return -errno;
	}
	on_idle(m);
	if (notify_watchdog_ms())
		on_watchdog(m);
	return 0;
}

static void stop(struct meshd *m)
{
	control_free(m->control);
	watch_free(m->watch);
	if (m->pods)
		loop_io_del(m->pods);
	rules_free(m->rules);
	health_free(m->health);
	parser_free(m->parser);
	if (m->plane)
		plane_close(m->plane);
	loop_free(m->loop);
	settings_release(&m->settings);
}

static int run(struct meshd *m)
{
	struct buf err = { 0 };
	int rc = start(m, &err);

	if (rc) {
		log_err("cannot start: %s", err.len ? err.data : strerror(-rc));
		goto out;
	}
	log_info("ready version=%s socket=%s", tulle_version.p, m->settings.socket);
	tell_status(m);
	notify("READY=1");
	rc = loop_run(m->loop);
	notify("STOPPING=1");
	if (rc)
		log_err("event loop: %s", strerror(-rc));
out:
	buf_release(&err);
	return rc;
}

int main(int argc, char **argv)
{
	struct meshd m = { 0 };
	struct buf text = { 0 };
	enum log_level level;
	int rc;

	/* Big buffers come from the system and go back to it at once. */
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	rc = settings_read(&m.settings, argc, argv, &text);
	if (rc) {
		fputs(text.data, stderr);
		rc = 2;
		goto out;
	}
	if (m.settings.help || m.settings.version) {
		if (m.settings.help)
			settings_help(&text);
		else
			buf_printf(&text, "meshd %s\n", tulle_version.p);
		rc = fputs(text.data, stdout) < 0 || fflush(stdout) ? 1 : 0;
		goto out;
	}
	if (log_level_parse(m.settings.log_level, &level))
		log_set_level(level);
	if (m.settings.unload) {
		rc = plane_unload(&m.settings, &text) ? 1 : 0;
		if (!rc)
			parser_unload(&m.settings);
		if (rc)
			log_err("cannot unload: %s", text.len ? text.data : "unknown error");
		else
			log_info("unloaded pin=%s", m.settings.pin);
		goto out;
	}
	rc = run(&m) ? 1 : 0;
out:
	buf_release(&text);
	stop(&m);
	return rc;
}
