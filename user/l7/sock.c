/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "l7/engine.h"

static bool watch(struct worker *w, struct sock *s, int op)
{
	uint32_t how = s->level ? 0 : EPOLLOUT | EPOLLET;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | how, .data.ptr = s };

	return !epoll_ctl(w->epoll, op, s->fd, &ev);
}

bool sock_watch(struct worker *w, struct sock *s)
{
	return watch(w, s, EPOLL_CTL_ADD);
}

void sock_again(struct worker *w, struct sock *s)
{
	watch(w, s, EPOLL_CTL_MOD);
}

/*
 * Past TCP a read ends where bytes of one way do, so that by edges one has to read until there is nothing. By level that is told, at less
 * than a read costs; for as long as all is read and sent at once.
 */
static void by_level(struct worker *w, struct sock *s)
{
	if (!w->shared->past_tcp || s->level || s->edges || s->rd || !s->wr || s->out || s->hup)
		return;
	s->level = true;
	watch(w, s, EPOLL_CTL_MOD);
}

static void by_edges(struct worker *w, struct sock *s)
{
	s->level = false;
	s->edges = true;
	watch(w, s, EPOLL_CTL_MOD);
}

int sock_read(struct worker *w, struct sock *s)
{
	struct iobuf *b = s->in;
	uint32_t room;
	ssize_t n;

	if (s->eof)
		return SOCK_END;
	if (!b)
		s->in = b = iobuf_get(&w->bufs, s->big ? IOBUF_LARGE_CAP : IOBUF_USUAL_CAP);
	room = b->cap - b->end;
	if (!room)
		return SOCK_NOTHING;
	n = recv(s->fd, b->data + b->end, room, 0);
	if (n > 0) {
		b->end += (uint32_t)n;
		s->big = (uint32_t)n == room;
		/* There was no more at that moment, or it is told of; so is what comes then. */
		if (!s->big && !s->hup && (!w->shared->past_tcp || s->level))
			s->rd = false;
		return (int)n;
	}
	iobuf_consume(&w->bufs, &s->in, 0);
	s->rd = false;
	if (!n) {
		s->eof = true;
		return SOCK_END;
	}
	if (errno == EAGAIN || errno == EINTR) {
		s->rd = errno == EINTR;
		by_level(w, s);
		return SOCK_NOTHING;
	}
	s->bad = true;
	return SOCK_FAILED;
}

/* Bytes that were taken, or -1. */
static ssize_t push(struct worker *w, struct sock *s, struct iovec *v, uint32_t nr, size_t total)
{
	ssize_t n;

	if (!s->wr)
		return 0;
	if (nr == 1)
		n = send(s->fd, v->iov_base, v->iov_len, MSG_NOSIGNAL);
	else
		n = sendmsg(s->fd, &(struct msghdr){ .msg_iov = v, .msg_iovlen = nr }, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -1;
	s->wr = n < 0 ? errno == EINTR : (size_t)n == total;
	if (!s->wr && s->level)
		by_edges(w, s);
	return n < 0 ? 0 : n;
}

bool sock_flush(struct worker *w, struct sock *s)
{
	while (s->out && s->wr) {
		struct iovec v = { s->out->data + s->out->at, iobuf_len(s->out) };
		ssize_t n = push(w, s, &v, 1, v.iov_len);

		if (n < 0)
			return false;
		iobuf_consume(&w->bufs, &s->out, (uint32_t)n);
	}
	return true;
}

bool sock_send(struct worker *w, struct sock *s, struct iovec *v, uint32_t nr)
{
	size_t total = 0, sent = 0;

	for (uint32_t i = 0; i < nr; i++)
		total += v[i].iov_len;
	if (!total)
		return true;
	if (s->out && !sock_flush(w, s))
		return false;
	if (!s->out) {
		ssize_t n = push(w, s, v, nr, total);

		if (n < 0)
			return false;
		sent = (size_t)n;
	}
	if (sent == total)
		return true;
	for (uint32_t i = 0; i < nr; i++) {
		size_t skip = sent < v[i].iov_len ? sent : v[i].iov_len;

		iobuf_add(&w->bufs, &s->out, (char *)v[i].iov_base + skip, v[i].iov_len - skip);
		sent -= skip;
	}
	return true;
}

void sock_end_writing(struct sock *s)
{
	if (!s->shut && !s->out) {
		shutdown(s->fd, SHUT_WR);
		s->shut = true;
	}
}

void sock_events(struct sock *s, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->rd = true;
	if (events & EPOLLOUT)
		s->wr = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->hup = true;
	if (events & EPOLLERR || (events & EPOLLHUP && !s->shut))
		s->bad = true;
}

void sock_seen(struct worker *w, struct sock *s)
{
	if (s->level && s->kind != SOCK_DEAD && (s->rd || s->hup))
		by_edges(w, s);
}

void sock_close(struct worker *w, struct sock *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->kind = SOCK_DEAD;
	iobuf_put(&w->bufs, s->in);
	iobuf_put(&w->bufs, s->out);
	s->in = s->out = NULL;
}
