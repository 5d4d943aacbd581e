/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections of TLS: the client's first message says whose name it asks for, which decides where the connection goes to; from then on bytes
 * are passed both ways and nobody looks into them. Whatever fails before that ends the connection without a word of ours, but for a name that
 * no rule has.
 */
#include "l7/engine.h"

/* Of a first message, the heads of its records included: clients need two to four KiB. */
#define BYTES_MAX IOBUF_USUAL_CAP

/* A fatal unrecognized_name (RFC 6066 section 3). */
static const char unrecognized_name[] = { 0x15, 3, 3, 0, 2, 2, 112 };

void tls_begin(struct exchange *x)
{
	x->tls = true;
	x->phase = X_HELLO;
	hello_begin(&x->hello);
	wait_timer(worker_of(x), &x->c->timer, worker_of(x)->head_ms);
}

static void end(struct exchange *x, uint32_t flags, const char *detail)
{
	exchange_own(x, 0, flags, detail, STR(""));
}

static void no_route(struct exchange *x)
{
	struct worker *w = worker_of(x);
	struct iovec v = { (void *)unrecognized_name, sizeof(unrecognized_name) };

	stats_add(&w->counts->tls_unrouted, 1);
	if (!sock_send(w, &x->c->s, &v, 1))
		x->c->s.bad = true;
	end(x, MESH_FLAG_NO_ROUTE, "filter_chain_not_found");
}

/* The whole message is there. */
static void decide(struct exchange *x)
{
	struct conn *c = x->c;
	struct worker *w = c->w;

	wait_timer(w, &c->timer, w->idle_ms);
	x->rules = conn_place(c);
	if (!x->rules || !c->place.table || !(c->place.table->flags & MESH_HTTP_TLS)) {
		end(x, MESH_FLAG_NO_ROUTE, "route_not_found");
		return;
	}
	http_choose_name(&c->place, hello_name(&x->hello), worker_random(w), &x->choice);
	if (!x->choice.route) {
		no_route(x);
	} else if (!x->choice.cluster || x->choice.cluster->broken) {
		end(x, MESH_FLAG_NO_CLUSTER, "cluster_not_found");
	} else {
		x->cluster = lb_of(x->rules->view, c->place.image, x->choice.cluster);
		attempt_start(x);
	}
}

static void refuse(struct exchange *x)
{
	stats_add(&worker_of(x)->counts->refused, 1);
	end(x, MESH_FLAG_DOWNSTREAM_PROTOCOL_ERROR, "no_tls_on_tls_port");
}

void tls_run(struct exchange *x)
{
	struct worker *w = worker_of(x);
	struct sock *s = &x->c->s;

	for (;;) {
		int n;

		switch (hello_scan(&x->hello, s->in ? s->in->data + s->in->at : NULL, iobuf_len(s->in))) {
		case HELLO_WHOLE:
			decide(x);
			return;
		case HELLO_BAD:
			refuse(x);
			return;
		case HELLO_MORE:
			break;
		}
		if (iobuf_len(s->in) >= BYTES_MAX) {
			refuse(x);
			return;
		}
		if (s->in && s->in->end == s->in->cap)
			iobuf_reserve(&w->bufs, &s->in, BYTES_MAX);
		n = s->rd || s->eof ? sock_read(w, s) : SOCK_NOTHING;
		if (n < 0) {
			exchange_abort(x, MESH_FLAG_DOWNSTREAM_TERMINATION, "downstream_remote_disconnect");
			return;
		}
		if (!n)
			return;
	}
}

void tls_connected(struct exchange *x)
{
	struct worker *w = worker_of(x);

	if (x->choice.cluster->max_duration_ms)
		wait_timer(w, &x->total, x->choice.cluster->max_duration_ms);
	attempt_result(x, 200, false);
	stats_add(&w->counts->tls, 1);
	x->detail = "via_upstream";
	x->u->state = UP_BUSY;
	body_begin(w, &x->rb, HEAD_BODY_CLOSE, 0);
	body_begin(w, &x->ab, HEAD_BODY_CLOSE, 0);
	x->answer = ANSWER_BODY;
	x->phase = X_TUNNEL;
}
