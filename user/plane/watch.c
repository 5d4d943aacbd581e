/* SPDX-License-Identifier: BSD-2-Clause */
/* inotify on the rules directory: see watch.h. */
#include "plane/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/rulesdir.h"

/* How long it must be quiet before a change counts as whole: shortly after something complete (a rename, a close), longer
 * while a file is being written. */
#define QUIET_MS 20
#define WRITING_MS 250
/* A directory that never rests is read this often all the same. */
#define RESTLESS_MS 2000
/* How often what cannot be watched is asked. */
#define POLL_MS 1000

#define DIR_EVENTS                                                                                      \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | \
	 IN_DELETE_SELF | IN_MOVE_SELF)
#define FILE_EVENTS (IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF)
#define WRITING_EVENTS (IN_MODIFY | IN_CREATE)

struct watch {
	struct loop *loop;
	char *dir;
	loop_fn fn;
	void *data;
	int fd;
	struct loop_io *io;
	struct loop_timer *timer; /* until quiet, or until the next poll */
	uint64_t first_ms;	  /* of the events that wait; 0: none do */
	bool blind;		  /* something is not watched */
	bool told;		  /* that it is */
};

static void arm(struct watch *w);

static bool add_one(void *data, enum walk_what what, const char *path, bool link, const struct stat *st)
{
	struct watch *w = data;

	/* Files need a watch of their own only where they live elsewhere. */
	if (what == WALK_FILE && !link)
		return true;
	if (inotify_add_watch(w->fd, path, what == WALK_DIR ? DIR_EVENTS : FILE_EVENTS) < 0 && errno != ENOENT) {
		if (!w->told)
			log_warn("rules cannot be watched, asking every %d ms instead path=%s: %s", POLL_MS, path,
				 strerror(errno));
		w->told = true;
		w->blind = true;
	}
	return true;
}

/* New directories get a watch, known ones keep theirs (inotify tells by the inode), gone ones lose it by themselves. */
static void add_all(struct watch *w)
{
	w->blind = false;
	if (rules_walk(w->dir, add_one, w))
		w->blind = true;
	else if (!w->blind)
		w->told = false;
}

static void on_timer(void *data)
{
	struct watch *w = data;

	w->timer = NULL;
	w->first_ms = 0;
	/* Watches first: what changes behind the scan is then an event. */
	add_all(w);
	w->fn(w->data);
	arm(w);
}

/* With nothing waiting, a timer runs only while something is not watched. */
static void arm(struct watch *w)
{
	if (!w->timer && w->blind)
		w->timer = loop_timer_add(w->loop, POLL_MS, on_timer, w);
}

static void wait_for_quiet(struct watch *w, uint64_t quiet_ms)
{
	uint64_t now = loop_now_ms(), left;

	if (!w->first_ms)
		w->first_ms = now;
	left = w->first_ms + RESTLESS_MS > now ? w->first_ms + RESTLESS_MS - now : 0;
	if (w->timer)
		loop_timer_del(w->timer);
	w->timer = loop_timer_add(w->loop, quiet_ms < left ? quiet_ms : left, on_timer, w);
}

static void on_events(void *data, int fd, uint32_t epoll_events)
{
	char space[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct watch *w = data;
	bool some = false, writing = false;
	ssize_t n;

	while ((n = read(fd, space, sizeof(space))) > 0) {
		const char *p = space;

		while (p < space + n) {
			const struct inotify_event *e = (const struct inotify_event *)p;

			p += sizeof(*e) + e->len;
			if (e->mask & IN_IGNORED)
				continue;
			some = true;
			/* The last event decides: a close ends what a modify began. */
			writing = e->mask & WRITING_EVENTS && !(e->mask & IN_ISDIR);
		}
	}
	if (some)
		wait_for_quiet(w, writing ? WRITING_MS : QUIET_MS);
}

struct watch *watch_new(struct loop *l, const char *dir, loop_fn fn, void *data)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	*w = (struct watch){ .loop = l, .fn = fn, .data = data, .dir = xstrdup(dir) };
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd >= 0)
		w->io = loop_io_add(l, w->fd, EPOLLIN, on_events, w);
	if (!w->io) {
		int saved = errno;

		watch_free(w);
		errno = saved;
		return NULL;
	}
	add_all(w);
	arm(w);
	return w;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	if (w->timer)
		loop_timer_del(w->timer);
	if (w->io)
		loop_io_del(w->io);
	if (w->fd >= 0)
		close(w->fd);
	free(w->dir);
	free(w);
}
