/* SPDX-License-Identifier: BSD-2-Clause */
/* The answer on its way from the endpoint to the client. */
#include "l7/engine.h"

/* Heads of one answer in one go: all but the last are interim. */
#define HEADS_MAX 32

static enum head_asked asked(const struct exchange *x)
{
	struct str method = head_str(x->rq.p, x->rh.method);

	return str_is(method, "HEAD")	   ? HEAD_ASKED_HEAD
	       : str_is(method, "CONNECT") ? HEAD_ASKED_CONNECT
					   : HEAD_ASKED_OTHER;
}

/* The endpoint's connection may serve others: nothing of it is left over, nor where nobody has looked yet, since splice() ends with the body. */
static bool reusable(struct exchange *x)
{
	struct sock *s = &x->u->s;

	if (!x->ah.persistent || !request_whole(x) || x->sent_broken || x->ab.kind == HEAD_BODY_CLOSE || s->in ||
	    s->out || s->hup || s->shut || x->c->w->draining)
		return false;
	return !s->rd || (sock_read(x->c->w, s) == SOCK_NOTHING && !s->rd);
}

static void went_on(struct exchange *x, enum relay r)
{
	switch (r) {
	case RELAY_DONE:
		x->answer = ANSWER_DONE;
		x->phase = X_END;
		attempt_end(x, reusable(x));
		break;
	case RELAY_BAD:
		exchange_abort(x, MESH_FLAG_UPSTREAM_PROTOCOL_ERROR,
			       "upstream_reset_after_response_started{protocol_error}");
		break;
	case RELAY_FROM_LOST:
		exchange_abort(x, MESH_FLAG_UPSTREAM_TERMINATION,
			       "upstream_reset_after_response_started{connection_termination}");
		break;
	case RELAY_TO_LOST:
		exchange_abort(x, MESH_FLAG_DOWNSTREAM_TERMINATION, "downstream_remote_disconnect");
		break;
	case RELAY_AGAIN:
		conn_again(x->c);
		break;
	case RELAY_MORE:
	case RELAY_BLOCKED:
		break;
	}
}

static void write_head(struct exchange *x, bool chunked)
{
	struct worker *w = worker_of(x);
	struct http_answer a = { .head = &x->ah,
				 .p = x->u->s.in->data + x->u->s.in->at,
				 .keep_alive = x->keep,
				 .http10 = !x->rh.minor,
				 .chunked = chunked,
				 .set_cookie = { x->cookie.data, (uint32_t)x->cookie.len } };

	buf_clear(&w->text);
	http_answer_head(&x->c->place, &x->rq, &x->choice, &a, &w->text);
}

static struct str written(const struct worker *w)
{
	return (struct str){ w->text.data, (uint32_t)w->text.len };
}

/* 1xx but 101: passed on to those who know of them. */
static void interim(struct exchange *x, uint32_t len)
{
	struct worker *w = worker_of(x);
	struct iovec v;

	if (x->rh.minor) {
		x->keep = true;
		write_head(x, false);
		v = (struct iovec){ w->text.data, w->text.len };
		if (!sock_send(w, &x->c->s, &v, 1))
			exchange_abort(x, MESH_FLAG_DOWNSTREAM_TERMINATION, "downstream_remote_disconnect");
	}
	iobuf_consume(&w->bufs, &x->u->s.in, len);
	head_begin(&x->ah, HEAD_RESPONSE, x->ah.limits);
}

/* The head of the answer is in w->text. */
static void begin_tunnel(struct exchange *x)
{
	struct worker *w = worker_of(x);
	struct iovec v = { w->text.data, w->text.len };

	timer_stop(&x->total);
	body_begin(w, &x->rb, HEAD_BODY_CLOSE, 0);
	x->phase = X_TUNNEL;
	if (!sock_send(w, &x->c->s, &v, 1))
		exchange_abort(x, MESH_FLAG_DOWNSTREAM_TERMINATION, "downstream_remote_disconnect");
}

static void final(struct exchange *x, uint32_t len)
{
	struct worker *w = worker_of(x);
	enum head_body kind = (enum head_body)x->ah.body;
	bool unknown = kind == HEAD_BODY_CLOSE || kind == HEAD_BODY_CHUNKED;
	bool tunnel = kind == HEAD_BODY_TUNNEL;

	attempt_result(x, x->ah.status, false);
	x->status = x->ah.status;
	x->detail = "via_upstream";
	x->answer_us = w->now_us;
	x->keep = exchange_may_keep(x) && !tunnel && !(unknown && !x->rh.minor);
	write_head(x, unknown && x->rh.minor);
	iobuf_consume(&w->bufs, &x->u->s.in, len);
	body_begin(w, &x->ab, tunnel ? HEAD_BODY_CLOSE : kind, x->ah.length);
	x->ab.framed = unknown && x->rh.minor;
	x->answer = ANSWER_BODY;
	timer_stop(&x->u->timer);
	if (tunnel) {
		begin_tunnel(x);
		return;
	}
	went_on(x, relay(w, &x->u->s, &x->ab, &x->c->s, written(w), NULL));
}

static void took_head(struct exchange *x, uint32_t len)
{
	uint16_t status = x->ah.status;

	head_answers(&x->ah, asked(x));
	if (status < 200 && status != 101)
		interim(x, len);
	else if (status == 101 && !(x->upgrade && request_whole(x)))
		attempt_failed(x, FAIL_PROTOCOL);
	else if (!attempt_again(x, status))
		final(x, len);
}

/* false: there is nothing to go on with. */
static bool head_run(struct exchange *x)
{
	struct worker *w = worker_of(x);
	struct sock *s = &x->u->s;
	int n;

	if (s->in) {
		n = head_scan(&x->ah, s->in->data + s->in->at, iobuf_len(s->in));
		if (n) {
			if (n > 0)
				took_head(x, (uint32_t)n);
			else
				attempt_failed(x, FAIL_PROTOCOL);
			return true;
		}
		if (s->in->end == s->in->cap)
			iobuf_reserve(&w->bufs, &s->in, IOBUF_LARGE_CAP);
	}
	if (!s->rd && !s->eof)
		return false;
	n = sock_read(w, s);
	if (n < 0)
		attempt_failed(x, FAIL_RESET);
	return n != SOCK_NOTHING;
}

void reply_run(struct exchange *x)
{
	uint32_t heads = 0;

	while (x->phase == X_ACTIVE && x->answer == ANSWER_NONE && !x->c->s.out) {
		if (heads++ == HEADS_MAX) {
			conn_again(x->c);
			return;
		}
		if (!head_run(x))
			return;
	}
	if (x->phase == X_ACTIVE && x->answer == ANSWER_BODY && !x->c->s.out)
		went_on(x, relay(worker_of(x), &x->u->s, &x->ab, &x->c->s, (struct str){ NULL, 0 }, NULL));
}
