/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections of clients: accepted, between requests, and closed so that what was sent last still arrives. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "l7/engine.h"

/* Connections that are taken in one go, so that those that are there get their turn. */
#define ACCEPT_MAX 32
/* Requests of one connection in one go, and reads of what nobody wants. */
#define TURNS_MAX 32
#define ACCEPT_PAUSE_MS 50u

static void take_addr(const struct sockaddr_storage *from, struct mesh_addr *ret, uint16_t *ret_port)
{
	*ret = (struct mesh_addr){ 0 };
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)from;

		ret->w_be[2] = htonl(0xffff);
		ret->w_be[3] = in->sin_addr.s_addr;
		*ret_port = ntohs(in->sin_port);
	} else {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;

		memcpy(ret, &in6->sin6_addr, sizeof(*ret));
		*ret_port = ntohs(in6->sin6_port);
	}
}

static struct conn *conn_new(struct worker *w)
{
	struct conn *c = w->free_conns;

	if (c) {
		w->free_conns = c->next;
		memset(c, 0, sizeof(*c));
	} else {
		c = arena_new(&w->memory, struct conn);
	}
	c->w = w;
	c->timer = (struct timer){ .deadline_ms = TIMER_NEVER, .kind = TIMER_CONN };
	c->next = w->conns;
	c->prev = &w->conns;
	if (c->next)
		c->next->prev = &c->next;
	w->conns = c;
	w->conn_nr++;
	return c;
}

void conn_accept(struct worker *w)
{
	for (int i = 0; i < ACCEPT_MAX && w->listener.kind == SOCK_LISTENER; i++) {
		struct sockaddr_storage from, to;
		socklen_t from_len = sizeof(from), to_len = sizeof(to);
		int fd = accept4(w->listener.fd, (struct sockaddr *)&from, &from_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;

		if (fd < 0) {
			if (errno == ECONNABORTED || errno == EINTR)
				continue;
			/* No descriptor or memory for it: it waits, and nobody spins meanwhile. */
			if (errno != EAGAIN)
				worker_pause(w, ACCEPT_PAUSE_MS);
			break;
		}
		c = conn_new(w);
		c->s = (struct sock){ .fd = fd, .kind = SOCK_CLIENT, .wr = true };
		stats_add(&w->counts->accepted, 1);
		stats_add(&w->counts->open, 1);
		take_addr(&from, &c->place.client_addr, &c->client_port);
		if (getsockname(fd, (struct sockaddr *)&to, &to_len) || !sock_watch(w, &c->s)) {
			conn_close(c);
			continue;
		}
		take_addr(&to, &c->place.dialled, &c->place.dialled_port);
		wait_timer(w, &c->timer, w->head_ms);
	}
}

void conn_close(struct conn *c)
{
	struct worker *w = c->w;

	if (c->s.kind == SOCK_DEAD)
		return;
	if (c->x) {
		exchange_abort(c->x, MESH_FLAG_DOWNSTREAM_TERMINATION, "downstream_remote_disconnect");
		exchange_free(c->x);
	}
	sock_close(w, &c->s);
	timer_remove(&w->timers, &c->timer);
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	w->conn_nr--;
	stats_add(&w->counts->open, -1);
	c->next = w->dead_conns;
	w->dead_conns = c;
}

/* What was sent last must arrive: a close with unread bytes would take it back from the client. */
static void linger(struct conn *c)
{
	struct worker *w = c->w;
	uint32_t turns = 0;

	if (!c->s.shut) {
		sock_end_writing(&c->s);
		wait_timer(w, &c->timer, LINGER_MS);
	}
	iobuf_put(&w->bufs, c->s.in);
	c->s.in = NULL;
	while (c->s.rd && !c->s.eof && !c->s.bad) {
		if (turns++ == TURNS_MAX) {
			conn_again(c);
			return;
		}
		if (sock_read(w, &c->s) > 0) {
			iobuf_put(&w->bufs, c->s.in);
			c->s.in = NULL;
		}
	}
	if (c->s.eof || c->s.bad)
		conn_close(c);
}

/* Between requests. false: there is nothing to go on with. */
static bool next_request(struct conn *c)
{
	struct worker *w = c->w;
	int n;

	if (!c->s.in) {
		n = c->s.rd || c->s.eof ? sock_read(w, &c->s) : SOCK_NOTHING;
		if (n < 0) {
			conn_close(c);
			return false;
		}
		if (n == SOCK_NOTHING) {
			if (c->served)
				wait_timer(w, &c->timer, w->draining ? DRAIN_IDLE_MS : w->idle_ms);
			return false;
		}
	}
	exchange_begin(c);
	return true;
}

void conn_again(struct conn *c)
{
	struct worker *w = c->w;

	if (c->again)
		return;
	c->again = true;
	c->next_again = NULL;
	*w->again_end = c;
	w->again_end = &c->next_again;
}

void conns_again(struct worker *w)
{
	struct conn *c = w->again;

	w->again = NULL;
	w->again_end = &w->again;
	for (struct conn *next; c; c = next) {
		next = c->next_again;
		c->again = false;
		conn_run(c);
	}
}

void conn_run(struct conn *c)
{
	struct worker *w = c->w;
	uint32_t turns = 0;

	while (c->s.kind != SOCK_DEAD) {
		if (c->s.bad || !sock_flush(w, &c->s)) {
			conn_close(c);
		} else if (c->x) {
			if (!exchange_run(c->x))
				return;
			c->state = c->x->keep ? CONN_OPEN : CONN_CLOSING;
			c->served = true;
			exchange_free(c->x);
		} else if (c->s.out) {
			wait_timer(w, &c->timer, w->body_ms);
			return;
		} else if (c->state == CONN_CLOSING) {
			linger(c);
			return;
		} else if (turns++ == TURNS_MAX) {
			conn_again(c);
			return;
		} else if (!next_request(c)) {
			return;
		}
	}
}

void conn_timeout(struct conn *c)
{
	struct exchange *x = c->x;

	if (!x) {
		conn_close(c);
		return;
	}
	if (x->phase == X_HEAD || x->phase == X_HELLO) {
		exchange_own(x, 408, MESH_FLAG_DOWNSTREAM_PROTOCOL_ERROR, "request_head_timeout", STR(""));
	} else if (x->answer == ANSWER_NONE) {
		bool client = !request_whole(x);

		exchange_own(x, client ? 408 : 504, MESH_FLAG_IDLE_TIMEOUT, "stream_idle_timeout",
			     STR("stream timeout"));
	} else {
		exchange_abort(x, MESH_FLAG_IDLE_TIMEOUT, "stream_idle_timeout");
	}
	conn_run(c);
}

void conn_drain(struct conn *c)
{
	if (!c->x && c->served && c->state == CONN_OPEN)
		conn_run(c);
}
