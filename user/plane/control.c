/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: see control.h. */
#include "plane/control.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"

/* A client has this long, and a second more for each RATE bytes it moves: slow is fine, stalled is not. */
#define PATIENCE_MS 10000
#define RATE (1u << 20)
/* After an early answer, how long and how much of the rest of a request is read away, so that the answer is not lost to a reset. */
#define LINGER_MS 1000
#define LINGER_MAX (1u << 20)
/* Bodies above this are taken one at a time. */
#define BIG (4u << 20)
/* Replies that wait to be read, in sum; above it big ones are refused. */
#define REPLIES_MAX (256u << 20)
#define CHUNK (64u << 10)
#define RETRY_MS 100

enum phase { READ_HEAD, WAIT_TURN, READ_BODY, WRITE_REPLY, LINGER };

struct client {
	struct control *control;
	struct client *next;
	int fd;
	struct loop_io *io;
	struct loop_timer *timer;
	enum phase phase;
	uint64_t since_ms, moved; /* for the deadline; while waiting for its turn a client's clock stands still */
	struct wire_header header;
	uint8_t head[WIRE_HEADER_LEN];
	struct buf body, reply;
	size_t done; /* bytes of the head, or of the reply */
};

struct control {
	struct loop *loop;
	int fd;
	struct loop_io *io;
	struct client *clients; /* oldest first */
	uint32_t client_nr;
	struct client *big; /* whose turn it is */
	size_t reply_bytes;
	control_fn fn;
	void *data;
	char *path;
	gid_t group;
	dev_t dev; /* of the socket's name, so that another's is never removed */
	ino_t ino;
	bool paused;		  /* no room for more clients */
	struct loop_timer *retry; /* ends a pause that no client's end would */
};

static void on_deadline(void *data);

static void accept_resume(struct control *c)
{
	if (!c->paused || c->client_nr >= CONTROL_CLIENTS_MAX)
		return;
	c->paused = false;
	loop_io_set(c->io, EPOLLIN);
}

static void begin_body(struct client *cl)
{
	cl->phase = READ_BODY;
	cl->since_ms = loop_now_ms();
	loop_io_set(cl->io, EPOLLIN);
	if (cl->timer)
		loop_timer_del(cl->timer);
	cl->timer = loop_timer_add(cl->control->loop, PATIENCE_MS, on_deadline, cl);
}

/* The one big body is done: the next client's turn. */
static void big_done(struct control *c)
{
	c->big = NULL;
	for (struct client *cl = c->clients; cl; cl = cl->next) {
		if (cl->phase != WAIT_TURN)
			continue;
		c->big = cl;
		begin_body(cl);
		return;
	}
}

static void client_free(struct client *cl)
{
	struct control *c = cl->control;
	struct client **at = &c->clients;

	while (*at != cl)
		at = &(*at)->next;
	*at = cl->next;
	c->client_nr--;
	c->reply_bytes -= cl->reply.len;
	if (c->big == cl)
		big_done(c);
	if (cl->timer)
		loop_timer_del(cl->timer);
	loop_io_del(cl->io);
	close(cl->fd);
	buf_release(&cl->body);
	buf_release(&cl->reply);
	free(cl);
	accept_resume(c);
}

static void on_deadline(void *data)
{
	struct client *cl = data;
	uint64_t allowed = cl->phase == LINGER ? LINGER_MS : PATIENCE_MS + cl->moved / RATE * 1000;
	uint64_t spent = loop_now_ms() - cl->since_ms;

	cl->timer = NULL;
	if (spent >= allowed) {
		log_info("control client gave no sign of life, closed phase=%d moved=%llu", (int)cl->phase,
			 (unsigned long long)cl->moved);
		client_free(cl);
		return;
	}
	cl->timer = loop_timer_add(cl->control->loop, allowed - spent, on_deadline, cl);
}

/* ---- replies ---- */

static void linger(struct client *cl)
{
	shutdown(cl->fd, SHUT_WR);
	cl->phase = LINGER;
	cl->moved = 0;
	cl->since_ms = loop_now_ms();
	loop_io_set(cl->io, EPOLLIN);
	if (cl->timer)
		loop_timer_del(cl->timer);
	cl->timer = loop_timer_add(cl->control->loop, LINGER_MS, on_deadline, cl);
}

static void write_reply(struct client *cl)
{
	while (cl->done < cl->reply.len) {
		ssize_t n =
			send(cl->fd, cl->reply.data + cl->done, cl->reply.len - cl->done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			loop_io_set(cl->io, EPOLLOUT);
			return;
		}
		if (n < 0) {
			client_free(cl);
			return;
		}
		cl->done += (size_t)n;
		cl->moved += (size_t)n;
	}
	linger(cl);
}

static void reply_begin(struct client *cl)
{
	struct control *c = cl->control;

	buf_release(&cl->body);
	cl->phase = WRITE_REPLY;
	cl->done = 0;
	cl->moved = 0;
	cl->since_ms = loop_now_ms();
	c->reply_bytes += cl->reply.len;
	if (c->big == cl)
		big_done(c);
	write_reply(cl);
}

static void reply_error(struct client *cl, const char *text)
{
	buf_clear(&cl->reply);
	wire_begin(&cl->reply, WIRE_REPLY);
	wire_add(&cl->reply, STR("exit"), STR("2"));
	wire_add(&cl->reply, STR("err"), str_of(text));
	wire_end(&cl->reply);
	reply_begin(cl);
}

static void answer(struct client *cl)
{
	struct control *c = cl->control;
	size_t len;

	c->fn(c->data, &cl->header, (struct str){ cl->body.data, (uint32_t)cl->body.len }, &cl->reply);
	len = cl->reply.len;
	if (len - WIRE_HEADER_LEN > WIRE_BODY_MAX) {
		buf_release(&cl->reply);
		reply_error(cl, "the answer is too large: ask for less\n");
	} else if (len > CHUNK && c->reply_bytes + len > REPLIES_MAX) {
		buf_release(&cl->reply);
		reply_error(cl, "too many large answers wait to be read: try again\n");
	} else {
		reply_begin(cl);
	}
}

/* ---- requests ---- */

/* The file system's permissions have let the peer in; this holds also where the socket was handed on or its mode was changed. */
static bool peer_allowed(const struct control *c, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	gid_t groups[256];

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return false;
	if (cred.uid == 0 || cred.uid == geteuid() || cred.gid == c->group)
		return true;
	len = sizeof(groups);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
		return false;
	for (socklen_t i = 0; i < len / sizeof(*groups); i++) {
		if (groups[i] == c->group)
			return true;
	}
	return false;
}

/* 1: the body is next; 0: it is not, and the client may be gone. */
static int head_done(struct client *cl)
{
	struct control *c = cl->control;
	int rc = wire_header_decode(cl->head, &cl->header);

	if (rc == -EPROTONOSUPPORT) {
		reply_error(cl, "meshd speaks another version of the control protocol: meshctl and "
				"meshd must be of one release\n");
		return 0;
	}
	if (rc) {
		reply_error(cl, "not a request of the control protocol\n");
		return 0;
	}
	if (!peer_allowed(c, cl->fd)) {
		reply_error(cl, "only root and members of the socket's group may do that\n");
		return 0;
	}
	if (cl->header.body_len > BIG && c->big) {
		cl->phase = WAIT_TURN;
		loop_timer_del(cl->timer);
		cl->timer = NULL;
		loop_io_set(cl->io, 0);
		return 0;
	}
	if (cl->header.body_len > BIG)
		c->big = cl;
	cl->phase = READ_BODY;
	return 1;
}

/* The body's memory grows with what came, not with what was promised. 1: go on; 0: not now, and the client may be gone. */
static int read_some(struct client *cl)
{
	static char chunk[CHUNK];
	bool head = cl->phase == READ_HEAD;
	size_t want = head ? sizeof(cl->head) - cl->done : cl->header.body_len - cl->body.len;
	ssize_t n = recv(cl->fd, chunk, want < sizeof(chunk) ? want : sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) {
		if (!n && cl->moved)
			reply_error(cl, "the request ends early\n");
		else
			client_free(cl);
		return 0;
	}
	cl->moved += (size_t)n;
	if (head) {
		memcpy(cl->head + cl->done, chunk, (size_t)n);
		cl->done += (size_t)n;
		if (cl->done < sizeof(cl->head))
			return 1;
		if (!head_done(cl))
			return 0;
	} else {
		buf_add(&cl->body, chunk, (size_t)n);
	}
	if (cl->body.len < cl->header.body_len)
		return 1;
	answer(cl);
	return 0;
}

static void read_away(struct client *cl)
{
	char chunk[4096];
	ssize_t n = recv(cl->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		cl->moved += (size_t)n;
	if (n <= 0 || cl->moved > LINGER_MAX)
		client_free(cl);
}

static void on_client(void *data, int fd, uint32_t events)
{
	struct client *cl = data;

	if (cl->phase == LINGER) {
		read_away(cl);
		return;
	}
	if (cl->phase == WRITE_REPLY) {
		write_reply(cl);
		return;
	}
	if (cl->phase == WAIT_TURN) {
		/* Only an error or a hang-up is told now. */
		client_free(cl);
		return;
	}
	/* One client gets a share of the loop, not all of it. */
	for (int i = 0; i < 16 && read_some(cl); i++)
		;
}

static void accept_pause(struct control *c)
{
	c->paused = true;
	loop_io_set(c->io, 0);
}

static void on_retry(void *data)
{
	struct control *c = data;

	c->retry = NULL;
	accept_resume(c);
}

static void on_accept(void *data, int listen_fd, uint32_t events)
{
	struct control *c = data;
	struct client *cl, **at = &c->clients;
	int fd;

	if (c->client_nr >= CONTROL_CLIENTS_MAX) {
		accept_pause(c);
		return;
	}
	fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* No file descriptor left: the connection would wake us again at once. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			accept_pause(c);
			if (!c->retry)
				c->retry = loop_timer_add(c->loop, RETRY_MS, on_retry, c);
		}
		return;
	}
	cl = xcalloc(1, sizeof(*cl));
	*cl = (struct client){ .control = c, .fd = fd, .since_ms = loop_now_ms() };
	cl->io = loop_io_add(c->loop, fd, EPOLLIN, on_client, cl);
	if (!cl->io) {
		close(fd);
		free(cl);
		return;
	}
	cl->timer = loop_timer_add(c->loop, PATIENCE_MS, on_deadline, cl);
	while (*at)
		at = &(*at)->next;
	*at = cl;
	c->client_nr++;
}

/* ---- the socket ---- */

static int group_find(const char *name, gid_t *ret)
{
	struct group *g;

	*ret = 0;
	if (!name[0])
		return 0;
	errno = 0;
	g = getgrnam(name);
	if (!g)
		return -ENOENT;
	*ret = g->gr_gid;
	return 0;
}

static bool somebody_listens(const struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes;

	if (fd < 0)
		return false;
	/* EAGAIN: its backlog is full, so it lives. */
	yes = !connect(fd, (const struct sockaddr *)at, sizeof(*at)) || errno == EAGAIN;
	close(fd);
	return yes;
}

/* Made under another name and moved into place when it is whole, so that nobody ever meets it with the wrong permissions. */
static int listen_at(struct control *c, const char **ret_step)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX }, made = at;
	struct stat st;
	int rc;

	*ret_step = "make";
	if (snprintf(made.sun_path, sizeof(made.sun_path), "%s.new", c->path) >= (int)sizeof(made.sun_path))
		return -ENAMETOOLONG;
	strcpy(at.sun_path, c->path);
	if (!lstat(c->path, &st)) {
		if (!S_ISSOCK(st.st_mode))
			return -EEXIST;
		if (somebody_listens(&at))
			return -EADDRINUSE;
	}
	unlink(made.sun_path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0 || bind(c->fd, (const struct sockaddr *)&made, sizeof(made)))
		return -errno;
	*ret_step = "hand over";
	if (chmod(made.sun_path, 0600) || chown(made.sun_path, geteuid(), c->group) || chmod(made.sun_path, 0660) ||
	    listen(c->fd, CONTROL_CLIENTS_MAX) || lstat(made.sun_path, &st) || rename(made.sun_path, c->path)) {
		rc = -errno;
		unlink(made.sun_path);
		return rc;
	}
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	return 0;
}

int control_new(struct loop *l, const char *path, const char *group, control_fn fn, void *data, struct control **ret,
		struct buf *err)
{
	struct control *c = xcalloc(1, sizeof(*c));
	const char *step = "make";
	int rc;

	*c = (struct control){ .loop = l, .fd = -1, .fn = fn, .data = data, .path = xstrdup(path) };
	rc = group_find(group, &c->group);
	if (rc) {
		buf_printf(err, "there is no group \"%s\" for the control socket", group);
		goto out_free;
	}
	rc = listen_at(c, &step);
	if (!rc) {
		c->io = loop_io_add(l, c->fd, EPOLLIN, on_accept, c);
		rc = c->io ? 0 : -errno;
	}
	if (rc) {
		buf_printf(err, "cannot %s the control socket %s: %s", step, path,
			   rc == -EADDRINUSE ? "another meshd listens there"
			   : rc == -EEXIST   ? "something else has that name"
					     : strerror(-rc));
		goto out_free;
	}
	*ret = c;
	return 0;

out_free:
	control_free(c);
	return rc;
}

void control_free(struct control *c)
{
	struct stat st;

	if (!c)
		return;
	while (c->clients)
		client_free(c->clients);
	if (c->retry)
		loop_timer_del(c->retry);
	if (c->io)
		loop_io_del(c->io);
	if (c->fd >= 0)
		close(c->fd);
	if (c->ino && !lstat(c->path, &st) && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
	free(c->path);
	free(c);
}
