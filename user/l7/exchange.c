/* SPDX-License-Identifier: BSD-2-Clause */
/* A request from its first byte to what is decided of it: an answer of the proxy's own, or to whom it is passed on. */
#include <stdlib.h>
#include <sys/socket.h>

#include "l7/engine.h"

/* Exchanges that are kept for the next: some 400 KiB. */
#define EXCHANGES_KEPT 64
#define TLS_HANDSHAKE 0x16

static const struct head_limits limits = HEAD_LIMITS_DEFAULT;

static struct timer timer_of(enum timer_kind kind)
{
	return (struct timer){ .deadline_ms = TIMER_NEVER, .kind = kind };
}

void exchange_begin(struct conn *c)
{
	struct worker *w = c->w;
	struct exchange *x = w->free_exchanges;

	if (x) {
		w->free_exchanges = x->next;
		w->free_exchange_nr--;
	} else {
		x = xmalloc(sizeof(*x));
	}
	/* Heads are large, and are set up by head_begin(). */
	memset(x, 0, offsetof(struct exchange, request_id));
	x->request_id[0] = 0;
	x->c = c;
	c->x = x;
	x->total = timer_of(TIMER_TOTAL);
	x->wait = timer_of(TIMER_WAIT);
	x->detail = "-";
	head_begin(&x->rh, HEAD_REQUEST, &limits);
	x->rb.done = true;
	if (w->logged || w->counted)
		x->begin_us = w->now_us;
	stats_add(&w->counts->active, 1);
}

void exchange_free(struct exchange *x)
{
	struct conn *c = x->c;
	struct worker *w = c->w;

	attempt_end(x, false);
	if (x->head || x->status || x->tls)
		report(x);
	timer_remove(&w->timers, &x->total);
	timer_remove(&w->timers, &x->wait);
	iobuf_put(&w->bufs, x->head);
	iobuf_put(&w->bufs, x->replay);
	buf_release(&x->cookie);
	body_end(w, &x->rb);
	body_end(w, &x->ab);
	ruleset_unref(x->rules);
	stats_add(&w->counts->active, -1);
	c->x = NULL;
	if (w->free_exchange_nr == EXCHANGES_KEPT) {
		free(x);
		return;
	}
	x->next = w->free_exchanges;
	w->free_exchanges = x;
	w->free_exchange_nr++;
}

void exchange_abort(struct exchange *x, uint32_t flags, const char *detail)
{
	struct linger now = { .l_onoff = 1 };

	if (x->phase == X_END)
		return;
	x->flags |= flags;
	x->detail = detail;
	x->phase = X_END;
	x->keep = false;
	/* The end of a connection may not be taken for that of an answer. */
	if (x->answer == ANSWER_BODY && x->c->s.fd >= 0)
		setsockopt(x->c->s.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	x->c->s.bad = true;
}

bool exchange_may_keep(const struct exchange *x)
{
	/* What comes behind a CONNECT is for the tunnel, also when there is none. */
	return x->head && x->rh.persistent && x->rh.body != HEAD_BODY_TUNNEL && request_whole(x) &&
	       !x->c->w->draining && !x->c->s.eof;
}

/* The answer is in w->text. */
static void own_sent(struct exchange *x, uint16_t status)
{
	struct worker *w = worker_of(x);
	struct iovec v = { w->text.data, w->text.len };

	x->status = status;
	attempt_end(x, false);
	if (!sock_send(w, &x->c->s, &v, 1))
		x->c->s.bad = true;
	x->answer = ANSWER_DONE;
	x->phase = X_END;
}

static void own(struct exchange *x, const struct http_own *o)
{
	struct worker *w = worker_of(x);
	const struct http_place *place = x->rules ? &x->c->place : NULL;

	buf_clear(&w->text);
	http_own_answer(place, x->head ? &x->rq : NULL, x->choice.route ? &x->choice : NULL, o, &w->text);
	own_sent(x, o->status);
	x->ab.bytes = x->ab.bytes + o->body.len;
}

void exchange_own(struct exchange *x, uint16_t status, uint32_t flags, const char *detail, struct str body)
{
	struct http_own o = { .status = status, .body = body };

	x->flags |= flags;
	x->detail = detail;
	if (x->tls) {
		attempt_end(x, false);
		x->phase = X_END;
		x->keep = false;
		return;
	}
	body_skip(worker_of(x), &x->c->s, &x->rb);
	x->keep = exchange_may_keep(x);
	o.keep_alive = x->keep;
	o.http10 = x->head && !x->rh.minor;
	o.head_only = x->head && str_is(head_str(x->rq.p, x->rh.method), "HEAD");
	o.overloaded = flags & MESH_FLAG_UPSTREAM_OVERFLOW;
	own(x, &o);
}

/* ---- decisions ---- */

static void redirect(struct exchange *x)
{
	const struct mesh_http_redirect *r = x->choice.redirect;
	struct worker *w = worker_of(x);
	struct buf location = { 0 };
	struct http_own o = { .status = r->status, .http10 = !x->rh.minor };

	http_location(&x->c->place, &x->rq, &x->choice, &location);
	body_skip(w, &x->c->s, &x->rb);
	x->keep = o.keep_alive = exchange_may_keep(x);
	o.location = (struct str){ location.data, (uint32_t)location.len };
	x->detail = "direct_response";
	own(x, &o);
	buf_release(&location);
}

static void direct(struct exchange *x)
{
	const struct mesh_http_route *r = x->choice.route;
	const struct mesh_http_image *image = x->c->place.image;
	struct http_own o = { .status = r->direct_status,
			      .body = http_text(image, r->body),
			      .type = http_text(image, r->body_type),
			      .http10 = !x->rh.minor,
			      .head_only = str_is(head_str(x->rq.p, x->rh.method), "HEAD") };

	body_skip(worker_of(x), &x->c->s, &x->rb);
	x->keep = o.keep_alive = exchange_may_keep(x);
	x->detail = "direct_response";
	own(x, &o);
}

static void forward(struct exchange *x)
{
	const struct mesh_http_route *route = x->choice.route;
	struct worker *w = worker_of(x);

	if (route->fault.abort_share && http_share(route->fault.abort_share, worker_random(w))) {
		exchange_own(x, route->fault.abort_status, MESH_FLAG_FAULT_INJECTED, "fault_filter_abort",
			     STR("fault filter abort"));
		return;
	}
	if (x->choice.redirect) {
		redirect(x);
	} else if (route->action == MESH_HTTP_DIRECT) {
		direct(x);
	} else if (!x->choice.cluster) {
		exchange_own(x, 500, MESH_FLAG_NO_CLUSTER, "cluster_not_found", STR(""));
	} else if (x->choice.cluster->broken) {
		exchange_own(x, x->choice.cluster->broken_status, MESH_FLAG_NO_CLUSTER, "cluster_not_found", STR(""));
	} else {
		x->cluster = lb_of(x->rules->view, x->c->place.image, x->choice.cluster);
		mirrors_choose(x);
		x->record = x->mirror_nr || route->retry.attempts;
		attempt_start(x);
	}
}

static void decide(struct exchange *x)
{
	struct conn *c = x->c;
	struct worker *w = c->w;
	const struct mesh_http_route *route;

	if (!c->place.image || !c->place.table || c->place.table->flags & MESH_HTTP_TLS) {
		exchange_own(x, 404, MESH_FLAG_NO_ROUTE, "route_not_found", STR(""));
		return;
	}
	http_choose(&c->place, &x->rq, worker_random(w), &x->choice);
	route = x->choice.route;
	if (!route) {
		uint16_t status = c->place.table->absent_status;

		exchange_own(x, status ? status : 404, MESH_FLAG_NO_ROUTE, "route_not_found", STR(""));
		return;
	}
	buf_clear(&w->text);
	x->keep = exchange_may_keep(x);
	if (http_preflight(&c->place, &x->rq, &x->choice, x->keep, &w->text)) {
		own_sent(x, 200);
		return;
	}
	if (route->fault.delay_share && http_share(route->fault.delay_share, worker_random(w))) {
		x->flags |= MESH_FLAG_DELAY_INJECTED;
		x->phase = X_WAIT;
		x->wait_for = WAIT_FAULT;
		wait_timer(w, &x->wait, route->fault.delay_ms);
		return;
	}
	forward(x);
}

/* ---- the head ---- */

struct ruleset *conn_place(struct conn *c)
{
	struct ruleset *r = ruleset_now(c->w);
	struct http_place *p = &c->place;

	if (r && c->gen != r->gen) {
		struct mesh_addr client = p->client_addr, dialled = p->dialled;

		http_place_find(r->rules, &client, &dialled, p->dialled_port, p);
		c->gen = r->gen;
	}
	return r;
}

/* It came to a port of TLS, as rules are now. */
static bool is_tls_port(struct conn *c)
{
	struct ruleset *r = conn_place(c);
	bool tls = r && c->place.table && c->place.table->flags & MESH_HTTP_TLS;

	ruleset_unref(r);
	return tls;
}

/* The `len` bytes of the head out of what came: a copy that is small, or the buffer itself when there is nothing else in it. */
static void keep_head(struct exchange *x, uint32_t len)
{
	struct worker *w = worker_of(x);
	struct sock *s = &x->c->s;

	if (iobuf_len(s->in) == len && len > IOBUF_SMALL_CAP) {
		x->head = s->in;
		s->in = NULL;
	} else {
		iobuf_add(&w->bufs, &x->head, s->in->data + s->in->at, len);
		iobuf_consume(&w->bufs, &s->in, len);
	}
	x->rq = (struct http_request){ .head = &x->rh, .p = x->head->data + x->head->at, .scheme = STR("http") };
}

/* A random UUID of version 4, as Envoy makes them. By hand, since every request has one. */
static void make_id(struct exchange *x)
{
	static const char form[] = "xxxxxxxx-xxxx-4xxx-vxxx-xxxxxxxxxxxx", digits[] = "0123456789abcdef";
	uint64_t bits = 0;

	_Static_assert(sizeof(form) <= sizeof(x->request_id), "its room");
	for (uint32_t i = 0, used = 16; i < sizeof(form); i++) {
		if (form[i] != 'x' && form[i] != 'v') {
			x->request_id[i] = form[i];
			continue;
		}
		if (used++ == 16) {
			bits = worker_random(worker_of(x));
			used = 1;
		}
		x->request_id[i] = digits[form[i] == 'v' ? 8 | (bits & 3) : bits & 15];
		bits >>= 4;
	}
}

/*
 * Protocols that would carry further requests past the rules and policies are not asked for: the request is served as if it had not asked,
 * which is what a server may do with any.
 */
static bool may_upgrade(const struct exchange *x)
{
	for (uint32_t i = 0; i < x->rh.field_nr; i++) {
		const struct head_field *f = &x->rh.fields[i];
		struct str list = head_str(x->rq.p, f->value), one;

		while (f->known == HEAD_UPGRADE && head_list_next(&list, &one))
			if (head_same(one, STR("h2c")) || head_same(str_sub(one, 0, 5), STR("http/")) ||
			    head_same(str_sub(one, 0, 4), STR("tls/")))
				return false;
	}
	return x->rh.upgrade;
}

static void started(struct exchange *x, uint32_t len)
{
	keep_head(x, len);
	body_begin(worker_of(x), &x->rb, (enum head_body)x->rh.body, x->rh.length);
	if (x->rh.body == HEAD_BODY_TUNNEL)
		x->rb.done = true;
	x->upgrade = may_upgrade(x);
	make_id(x);
	wait_timer(worker_of(x), &x->c->timer, worker_of(x)->idle_ms);
	x->rules = conn_place(x->c);
	if (x->rules)
		decide(x);
	else
		exchange_own(x, 503, MESH_FLAG_NO_CLUSTER, "no_rules", STR("no rules yet"));
}

static void refuse(struct exchange *x, uint16_t status)
{
	stats_add(&worker_of(x)->counts->refused, 1);
	exchange_own(x, status, MESH_FLAG_DOWNSTREAM_PROTOCOL_ERROR, "http1.codec_error", STR(""));
}

static void refuse_tls(struct exchange *x)
{
	stats_add(&worker_of(x)->counts->refused, 1);
	stats_add(&worker_of(x)->counts->refused_tls, 1);
	x->status = 0;
	exchange_abort(x, MESH_FLAG_DOWNSTREAM_PROTOCOL_ERROR, "tls_on_http_port");
	report(x);
}

static void head_run(struct exchange *x)
{
	struct conn *c = x->c;
	struct worker *w = c->w;
	struct sock *s = &c->s;

	if (!c->served && !x->head_timed && is_tls_port(c)) {
		tls_begin(x);
		return;
	}
	for (;;) {
		int n;

		if (s->in) {
			if (s->in->data[s->in->at] == TLS_HANDSHAKE) {
				refuse_tls(x);
				return;
			}
			n = head_scan(&x->rh, s->in->data + s->in->at, iobuf_len(s->in));
			if (n > 0) {
				started(x, (uint32_t)n);
				return;
			}
			if (n < 0) {
				refuse(x, (uint16_t)-n);
				return;
			}
			if (s->in->end == s->in->cap)
				iobuf_reserve(&w->bufs, &s->in, IOBUF_LARGE_CAP);
		}
		n = s->rd || s->eof ? sock_read(w, s) : SOCK_NOTHING;
		if (n < 0) {
			exchange_abort(x, MESH_FLAG_DOWNSTREAM_TERMINATION, "downstream_remote_disconnect");
			return;
		}
		if (!n)
			break;
	}
	if (!x->head_timed) {
		x->head_timed = true;
		wait_timer(w, &c->timer, w->head_ms);
	}
}

/* ---- going on ---- */

/* The client says no more: so is the server told, who decides what it makes of that. */
static void pass_end(struct exchange *x)
{
	struct sock *s = &x->c->s;

	if (!request_whole(x) || s->in)
		return;
	if (s->hup && !s->eof && sock_read(worker_of(x), s) > 0)
		return;
	if (s->eof && !x->half && x->u && !x->u->s.out) {
		x->half = true;
		sock_end_writing(&x->u->s);
	}
}

void exchange_send(struct exchange *x, struct str prefix)
{
	struct relay_copy copy = { &x->replay, &x->replay_lost };

	switch (relay(worker_of(x), &x->c->s, &x->rb, &x->u->s, prefix, x->record ? &copy : NULL)) {
	case RELAY_DONE:
		attempt_sent(x);
		break;
	case RELAY_TO_LOST:
		/* It may have answered before it went. */
		x->sent_broken = true;
		x->u->s.rd = true;
		break;
	case RELAY_BAD:
		if (x->answer == ANSWER_NONE)
			refuse(x, 400);
		else
			exchange_abort(x, MESH_FLAG_DOWNSTREAM_PROTOCOL_ERROR, "http1.codec_error");
		break;
	case RELAY_FROM_LOST:
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

/* How long it may be silent, by whose turn it is. */
static void watch(struct exchange *x)
{
	struct conn *c = x->c;
	bool client = c->s.out || (!request_whole(x) && !x->u->s.out);

	wait_timer(c->w, &c->timer, client ? c->w->body_ms : c->w->idle_ms);
}

static void request_run(struct exchange *x)
{
	struct sock *s = &x->u->s;

	if (!x->sent_broken && !sock_flush(worker_of(x), s)) {
		x->sent_broken = true;
		s->rd = true;
	}
	if (!request_whole(x) && !x->sent_broken && !s->out)
		exchange_send(x, (struct str){ NULL, 0 });
}

bool exchange_run(struct exchange *x)
{
	if (x->phase == X_HEAD)
		head_run(x);
	if (x->phase == X_HELLO)
		tls_run(x);
	if (x->phase == X_ACTIVE)
		request_run(x);
	if (x->phase == X_ACTIVE)
		reply_run(x);
	if (x->phase == X_TUNNEL)
		tunnel_run(x);
	if (x->phase == X_ACTIVE)
		pass_end(x);
	if (x->phase == X_ACTIVE)
		watch(x);
	return x->phase == X_END;
}

void exchange_waited(struct exchange *x)
{
	if (x->phase != X_WAIT)
		return;
	if (x->wait_for == WAIT_FAULT)
		forward(x);
	else if (x->wait_for == WAIT_BACKOFF)
		attempt_start(x);
	conn_run(x->c);
}

void exchange_expired(struct exchange *x)
{
	if (x->tls)
		exchange_abort(x, MESH_FLAG_DURATION_TIMEOUT, "max_duration_timeout");
	else if (x->answer == ANSWER_NONE)
		exchange_own(x, 504, MESH_FLAG_UPSTREAM_TIMEOUT, "response_timeout", STR("upstream request timeout"));
	else
		exchange_abort(x, MESH_FLAG_UPSTREAM_TIMEOUT, "response_timeout");
	conn_run(x->c);
}
