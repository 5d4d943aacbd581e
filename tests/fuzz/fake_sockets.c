/* SPDX-License-Identifier: BSD-2-Clause */
/* See fake_sockets.h. What epoll tells of, and when, is as Linux does it for TCP, edge by edge; the listener and events are told by level. */
#include "fake_sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fake fakes[FAKE_MAX];
uint64_t fake_now_ms;
uint32_t fake_room, fake_no_file;
bool fake_connects, fake_backwards;
void (*fake_hook)(int timeout);
void (*fake_closed)(struct fake *f);
void *(*fake_thread)(void *arg);
void *fake_thread_arg;

static struct fake *of(int fd)
{
	if (fd < FAKE_FIRST || fd >= FAKE_FIRST + FAKE_MAX || fakes[fd - FAKE_FIRST].kind == FAKE_FREE)
		abort(); /* nobody may use what was closed */
	return &fakes[fd - FAKE_FIRST];
}

static int made(enum fake_kind kind)
{
	if (fake_no_file && (kind == FAKE_CLIENT || kind == FAKE_SERVER)) {
		fake_no_file--;
		errno = EMFILE;
		return -1;
	}
	for (int i = 0; i < FAKE_MAX; i++)
		if (fakes[i].kind == FAKE_FREE) {
			struct fake_bytes in = fakes[i].in, out = fakes[i].out;

			in.len = out.len = 0;
			fakes[i] = (struct fake){ .kind = (uint8_t)kind, .room = fake_room, .in = in, .out = out };
			return FAKE_FIRST + i;
		}
	errno = EMFILE;
	return -1;
}

static void add(struct fake_bytes *b, const void *p, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = 2 * (b->len + len);
		b->p = realloc(b->p, b->cap);
		if (!b->p)
			abort();
	}
	if (len)
		memcpy(b->p + b->len, p, len);
	b->len += len;
}

/* ---- the far end ---- */

void fake_begin(void)
{
	for (int i = 0; i < FAKE_MAX; i++)
		fakes[i].kind = FAKE_FREE;
	fake_now_ms = 1000000;
	fake_no_file = 0;
	made(FAKE_LISTENS);
}

uint32_t fake_open(void)
{
	uint32_t nr = 0;

	for (int i = 0; i < FAKE_MAX; i++)
		nr += fakes[i].kind != FAKE_FREE;
	return nr;
}

void fake_say(struct fake *f, const void *p, size_t len)
{
	if (!f->up || f->ended || f->reset || !len)
		return;
	add(&f->in, p, len);
	f->fresh = true;
}

void fake_end(struct fake *f)
{
	if (!f->up || f->ended || f->reset)
		return;
	f->ended = f->fresh = true;
}

void fake_reset(struct fake *f)
{
	if (!f->up || f->reset)
		return;
	f->ended = f->reset = f->fresh = true;
	f->error = ECONNRESET;
}

void fake_more_room(struct fake *f, uint32_t n)
{
	f->room += n;
	if (f->full && n) {
		f->full = false;
		f->fresh = true;
	}
}

void fake_answer(struct fake *f, int error)
{
	if (!f->asked)
		return;
	f->asked = false;
	f->fresh = true;
	if (!error) {
		f->up = true;
		return;
	}
	f->ended = f->reset = true;
	f->error = error;
}

/* ---- sockets ---- */

int fake_socket(int family, int type, int protocol)
{
	return made(FAKE_SERVER);
}

int fake_connect(int fd, const struct sockaddr *to, socklen_t len)
{
	struct fake *f = of(fd);

	f->asked = true;
	if (fake_connects)
		fake_answer(f, 0);
	errno = EINPROGRESS;
	return -1;
}

int fake_bind(int fd, const struct sockaddr *at, socklen_t len)
{
	of(fd);
	return 0;
}

static void put_addr(struct sockaddr *at, socklen_t *len, uint32_t addr, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(addr) };

	memcpy(at, &in, sizeof(in));
	*len = sizeof(in);
}

int fake_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
	struct fake *l = of(fd);
	int made_fd;

	if (!l->count) {
		errno = EAGAIN;
		return -1;
	}
	made_fd = made(FAKE_CLIENT);
	if (made_fd < 0)
		return -1;
	l->count--;
	of(made_fd)->up = true;
	put_addr(from, len, 0x0a010001, (uint16_t)made_fd);
	return made_fd;
}

int fake_getsockname(int fd, struct sockaddr *at, socklen_t *len)
{
	of(fd);
	put_addr(at, len, 0x0a000001, 80);
	return 0;
}

int fake_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	memcpy(value, &of(fd)->error, sizeof(int));
	of(fd)->error = 0;
	return 0;
}

int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	of(fd);
	return 0;
}

int fake_shutdown(int fd, int how)
{
	struct fake *f = of(fd);

	f->shut = true;
	f->fresh |= f->ended;
	return 0;
}

int fake_close(int fd)
{
	struct fake *f = of(fd);

	if (fake_closed)
		fake_closed(f);
	f->kind = FAKE_FREE;
	return 0;
}

static bool failed(struct fake *f)
{
	errno = f->error;
	f->error = 0;
	return errno;
}

ssize_t fake_recv(int fd, void *p, size_t len, int flags)
{
	struct fake *f = of(fd);
	size_t n = f->in.len - f->at;

	if (!n && failed(f))
		return -1;
	if (!n && f->ended)
		return 0;
	if (!n) {
		errno = f->up ? EAGAIN : ENOTCONN;
		return -1;
	}
	if (n > len)
		n = len;
	memcpy(p, f->in.p + f->at, n);
	f->at += n;
	return (ssize_t)n;
}

ssize_t fake_send(int fd, const void *p, size_t len, int flags)
{
	struct fake *f = of(fd);

	if (failed(f))
		return -1;
	if (f->shut || f->reset || !f->up) {
		errno = EPIPE;
		return -1;
	}
	if (len > f->room) {
		len = f->room;
		f->full = true;
	}
	if (!len) {
		errno = EAGAIN;
		return -1;
	}
	f->room -= (uint32_t)len;
	add(&f->out, p, len);
	return (ssize_t)len;
}

ssize_t fake_sendmsg(int fd, const struct msghdr *m, int flags)
{
	ssize_t sent = 0;

	for (size_t i = 0; i < m->msg_iovlen; i++) {
		ssize_t n = fake_send(fd, m->msg_iov[i].iov_base, m->msg_iov[i].iov_len, flags);

		if (n < 0)
			return sent ? sent : -1;
		sent += n;
		if ((size_t)n < m->msg_iov[i].iov_len)
			break;
	}
	return sent;
}

/* ---- pipes ---- */

#define PIPE_ROOM 65536u

int fake_pipe2(int *ret, int flags)
{
	int end = made(FAKE_PIPE), other = made(FAKE_PIPE);

	if (other < 0) {
		if (end >= 0)
			fake_close(end);
		return -1;
	}
	of(end)->up = true;
	of(other)->count = (uint64_t)end;
	ret[0] = end;
	ret[1] = other;
	return 0;
}

ssize_t fake_read(int fd, void *p, size_t len)
{
	struct fake *f = of(fd);
	ssize_t n = fake_recv(fd, p, len, 0);

	if (f->at == f->in.len)
		f->at = f->in.len = 0;
	return n;
}

/* From a socket into a pipe, or out of it into a socket. */
ssize_t fake_splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned int flags)
{
	static char moved[PIPE_ROOM];
	struct fake *f = of(from), *pipe = f;
	size_t there = f->in.len - f->at, room;
	ssize_t n;

	if (of(to)->kind == FAKE_PIPE) {
		pipe = of((int)of(to)->count);
		room = PIPE_ROOM - (pipe->in.len - pipe->at);
		n = fake_recv(from, moved, len < room ? len : room, flags);
		if (n > 0)
			add(&pipe->in, moved, (size_t)n);
		return n;
	}
	n = fake_send(to, pipe->in.p + pipe->at, len < there ? len : there, flags);
	if (n > 0)
		fake_read(from, moved, (size_t)n);
	return n;
}

/* The access log: anywhere. */
ssize_t fake_write(int fd, const void *p, size_t len)
{
	return (ssize_t)len;
}

/* ---- events ---- */

int fake_epoll_create1(int flags)
{
	return made(FAKE_EPOLL);
}

int fake_epoll_ctl(int epoll, int op, int fd, struct epoll_event *ev)
{
	struct fake *f = of(fd);

	f->watched = op != EPOLL_CTL_DEL;
	f->fresh = f->watched;
	if (ev) {
		f->mask = ev->events;
		f->data = ev->data.ptr;
	}
	return 0;
}

static uint32_t ready(const struct fake *f)
{
	uint32_t events = 0;

	if (f->kind == FAKE_EVENT || f->kind == FAKE_LISTENS)
		return f->count ? EPOLLIN : 0;
	if (f->in.len > f->at || f->ended)
		events |= EPOLLIN;
	if (f->ended)
		events |= EPOLLRDHUP;
	if (f->error)
		events |= EPOLLERR;
	if (f->reset || (f->ended && f->shut))
		events |= EPOLLHUP;
	if ((f->up && f->room) || f->shut || f->reset)
		events |= EPOLLOUT;
	return events;
}

static int tell(struct epoll_event *v, int max)
{
	int nr = 0;

	for (int i = 0; i < FAKE_MAX && nr < max; i++) {
		struct fake *f = &fakes[fake_backwards ? FAKE_MAX - 1 - i : i];
		uint32_t events = f->kind != FAKE_FREE && f->watched ? ready(f) : 0;

		if (!(f->mask & EPOLLET ? f->fresh : true))
			continue;
		f->fresh = false;
		events &= f->mask | EPOLLERR | EPOLLHUP;
		if (events)
			v[nr++] = (struct epoll_event){ .events = events, .data.ptr = f->data };
	}
	return nr;
}

int fake_epoll_wait(int epoll, struct epoll_event *v, int max, int timeout)
{
	fake_hook(timeout);
	return tell(v, max);
}

int fake_eventfd(unsigned int count, int flags)
{
	int fd = made(FAKE_EVENT);

	if (fd >= 0)
		of(fd)->count = count;
	return fd;
}

int fake_eventfd_read(int fd, eventfd_t *count)
{
	*count = of(fd)->count;
	of(fd)->count = 0;
	return 0;
}

int fake_eventfd_write(int fd, eventfd_t count)
{
	of(fd)->count += count;
	return 0;
}

/* ---- time, chance and threads ---- */

int fake_clock_gettime(clockid_t clock, struct timespec *t)
{
	*t = (struct timespec){ .tv_sec = (time_t)(fake_now_ms / 1000),
				.tv_nsec = (long)(fake_now_ms % 1000) * 1000000 };
	return 0;
}

ssize_t fake_getrandom(void *p, size_t len, unsigned int flags)
{
	memset(p, 0x5a, len);
	return (ssize_t)len;
}

/* It runs when it is called, and has ended when somebody waits for that. */
int fake_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	*t = 1;
	fake_thread = run;
	fake_thread_arg = arg;
	return 0;
}

int fake_pthread_join(pthread_t t, void **ret)
{
	return 0;
}
