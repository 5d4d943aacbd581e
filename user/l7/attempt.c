/* SPDX-License-Identifier: BSD-2-Clause */
/* Tries of a request: an endpoint, a connection to it, and what is done when it fails. */
#include <stdio.h>

#include "l7/engine.h"

static const struct mesh_http_retry *policy(const struct exchange *x)
{
	return &x->choice.route->retry;
}

static void choose_hash(struct exchange *x)
{
	const struct mesh_http_cluster *c = x->choice.cluster;

	if (x->hashed || !c->hash || (x->tls && c->hash != MESH_HASH_SOURCE))
		return;
	x->hashed = http_hash(&x->c->place, &x->rq, c, &x->hash) ||
		    http_cookie_make(&x->c->place, c, worker_random(worker_of(x)), &x->cookie, &x->hash);
}

/* The address that the endpoint sees; zero: the process's own. */
static struct mesh_addr source(const struct exchange *x)
{
	return x->c->w->shared->bind_client ? x->c->place.client_addr : (struct mesh_addr){ 0 };
}

static struct str replay(const struct exchange *x)
{
	return (struct str){ x->replay ? x->replay->data + x->replay->at : NULL, iobuf_len(x->replay) };
}

static void send_request(struct exchange *x)
{
	const struct mesh_http_retry *r = policy(x);
	struct worker *w = worker_of(x);
	struct http_forward f = { .request_id = str_of(x->request_id),
				  .keep_alive = true,
				  .upgrade = x->upgrade,
				  .attempt = x->attempts,
				  .timeout_ms = r->attempts && r->try_timeout_ms ? r->try_timeout_ms
										 : x->choice.route->timeout_ms };

	buf_clear(&w->text);
	http_request_head(&x->c->place, &x->rq, &x->choice, &f, &w->text);
	body_frame(&x->rb, replay(x), &w->text);
	head_begin(&x->ah, HEAD_RESPONSE, x->rh.limits);
	x->u->state = UP_BUSY;
	x->phase = X_ACTIVE;
	x->sent_broken = x->half = false;
	exchange_send(x, (struct str){ w->text.data, (uint32_t)w->text.len });
}

static void use(struct exchange *x, struct up *u)
{
	x->u = u;
	u->x = x;
	/* It may be dead already: then the request goes once more, on another one. */
	x->record |= !x->rb.done;
	send_request(x);
}

static void overflow(struct exchange *x)
{
	exchange_own(x, 503, MESH_FLAG_UPSTREAM_OVERFLOW, "overflow",
		     STR("upstream connect error or disconnect/reset before headers. reset reason: overflow"));
}

static void enqueue(struct exchange *x)
{
	struct worker *w = worker_of(x);

	x->next = NULL;
	*w->waiting_end = x;
	w->waiting_end = &x->next;
	x->queued = true;
	x->wait_for = WAIT_PENDING;
	x->phase = X_WAIT;
}

void pending_remove(struct exchange *x)
{
	struct worker *w = worker_of(x);
	struct exchange **at = &w->waiting;

	if (!x->queued)
		return;
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	if (w->waiting_end == &x->next)
		w->waiting_end = at;
	x->queued = false;
}

/* LB_CONNECTIONS is taken. */
static void open_connection(struct exchange *x)
{
	struct mesh_addr from = source(x);
	struct up *u = up_open(worker_of(x), &from, x->cluster, x->choice.cluster, x->host);

	if (!u) {
		lb_give(x->cluster, LB_CONNECTIONS);
		attempt_failed(x, FAIL_CONNECT);
		return;
	}
	x->u = u;
	u->x = x;
	x->wait_for = WAIT_CONNECT;
	x->phase = X_WAIT;
}

static bool may_open(struct exchange *x)
{
	return lb_take(x->cluster, LB_CONNECTIONS) ||
	       (pool_evict(worker_of(x), x->cluster) && lb_take(x->cluster, LB_CONNECTIONS));
}

static void connect_new(struct exchange *x)
{
	if (!x->pending && !lb_take(x->cluster, LB_PENDING)) {
		overflow(x);
		return;
	}
	x->pending = true;
	if (may_open(x))
		open_connection(x);
	else if (x->tls)
		overflow(x);
	else
		enqueue(x);
}

void pending_run(struct worker *w)
{
	const struct lb_cluster *full = NULL; /* looked for room in vain */

	for (struct exchange *x = w->waiting, *next; x; x = next) {
		struct mesh_addr from = source(x);
		struct conn *c = x->c;
		struct up *u = pool_take(w, &from, x->host);

		next = x->next;
		if (!u && (x->cluster == full || !may_open(x))) {
			full = x->cluster;
			continue;
		}
		pending_remove(x);
		if (u) {
			lb_give(x->cluster, LB_PENDING);
			x->pending = false;
			use(x, u);
		} else {
			open_connection(x);
		}
		conn_run(c);
	}
}

/* The route's timeout counts from the end of the request on, waiting for a connection included. */
static void begin_timeout(struct exchange *x)
{
	uint32_t timeout = x->choice.route->timeout_ms;

	if (timeout && !x->timed)
		wait_timer(worker_of(x), &x->total, timeout);
	x->timed = true;
}

void attempt_start(struct exchange *x)
{
	struct worker *w = worker_of(x);
	struct mesh_addr from = source(x);
	struct str denied;
	struct up *u;

	if (!x->tls && !lb_take(x->cluster, LB_REQUESTS)) {
		overflow(x);
		return;
	}
	x->requested = !x->tls;
	x->attempts++;
	x->fresh = false;
	if (request_whole(x))
		begin_timeout(x);
	choose_hash(x);
	x->host = lb_pick(x->rules->view, x->c->place.image, x->choice.cluster, x->hashed ? &x->hash : NULL, &x->tried,
			  worker_random(w), w->now_ms, &x->to);
	if (!x->host) {
		exchange_own(x, 503, MESH_FLAG_NO_HEALTHY_UPSTREAM, "no_healthy_upstream", STR("no healthy upstream"));
		return;
	}
	atomic_fetch_add_explicit(&x->host->active, 1, memory_order_relaxed);
	if (http_authorize(&x->c->place, x->tls ? NULL : &x->rq, &x->choice, x->to, &denied) == HTTP_DENIED) {
		exchange_own(x, 403, MESH_FLAG_UNAUTHORIZED, "rbac_access_denied", STR("RBAC: access denied"));
		return;
	}
	u = x->tls ? NULL : pool_take(w, &from, x->host);
	if (u)
		use(x, u);
	else
		connect_new(x);
}

void attempt_connected(struct exchange *x)
{
	if (x->pending)
		lb_give(x->cluster, LB_PENDING);
	x->pending = false;
	timer_stop(&x->u->timer);
	if (x->tls)
		tls_connected(x);
	else
		send_request(x);
}

void attempt_sent(struct exchange *x)
{
	const struct mesh_http_retry *r = policy(x);
	struct worker *w = worker_of(x);

	begin_timeout(x);
	if (!x->mirrored) {
		x->mirrored = true;
		mirrors_send(x);
	}
	if (r->attempts && r->try_timeout_ms && x->answer == ANSWER_NONE)
		wait_timer(w, &x->u->timer, r->try_timeout_ms);
}

void attempt_end(struct exchange *x, bool reuse)
{
	struct up *u = x->u;

	pending_remove(x);
	if (u) {
		x->u = NULL;
		u->x = NULL;
		if (reuse)
			pool_put(u);
		else
			up_close(u);
	}
	if (x->pending)
		lb_give(x->cluster, LB_PENDING);
	if (x->requested)
		lb_give(x->cluster, LB_REQUESTS);
	if (x->retrying)
		lb_give(x->cluster, LB_RETRIES);
	x->pending = x->requested = x->retrying = false;
	if (x->host)
		atomic_fetch_sub_explicit(&x->host->active, 1, memory_order_relaxed);
	x->host = NULL;
}

void attempt_result(struct exchange *x, uint16_t status, bool local)
{
	struct worker *w = worker_of(x);
	const struct mesh_http_cluster *c = x->choice.cluster;
	uint64_t ms;

	if (!x->host)
		return;
	ms = lb_result(x->cluster, x->host, status, local, w->now_ms);
	if (ms && w->shared->ejected)
		w->shared->ejected(w->shared->data, http_text(x->c->place.image, c->name), x->host, ms);
}

/* ---- failures ---- */

static bool idempotent(const struct exchange *x)
{
	struct str m = head_str(x->rq.p, x->rh.method);

	return str_is(m, "GET") || str_is(m, "HEAD") || str_is(m, "PUT") || str_is(m, "DELETE") ||
	       str_is(m, "OPTIONS") || str_is(m, "TRACE");
}

/* All that was sent of the request is there to be sent again. */
static bool repeatable(const struct exchange *x)
{
	return !x->replay_lost && x->rh.body != HEAD_BODY_TUNNEL && (x->record || x->rh.body == HEAD_BODY_NONE);
}

/* A connection that was kept ended when it was used again: the endpoint closed it when the request was on its way. */
static bool stale(const struct exchange *x)
{
	return x->u && x->u->served && x->answer == ANSWER_NONE && !x->u->s.in && !x->fresh && !x->c->s.eof &&
	       repeatable(x) && idempotent(x);
}

static bool wants_failure(const struct mesh_http_retry *r, enum failure why)
{
	if (r->on & (MESH_RETRY_5XX | MESH_RETRY_GATEWAY_ERROR | MESH_RETRY_RESET))
		return true;
	return (why == FAIL_CONNECT || why == FAIL_CONNECT_TIMEOUT) &&
	       r->on & (MESH_RETRY_CONNECT_FAILURE | MESH_RETRY_RESET_BEFORE_REQUEST);
}

static bool wants_status(const struct exchange *x, uint16_t status)
{
	const struct mesh_http_retry *r = policy(x);
	const uint16_t *v = http_ref(x->c->place.image, r->statuses);

	if (status >= 500 && r->on & MESH_RETRY_5XX)
		return true;
	if (status >= 502 && status <= 504 && r->on & MESH_RETRY_GATEWAY_ERROR)
		return true;
	if (status == 409 && r->on & MESH_RETRY_4XX)
		return true;
	for (uint32_t i = 0; r->on & MESH_RETRY_STATUS && i < r->statuses.nr; i++)
		if (v[i] == status)
			return true;
	return false;
}

/* Fully jittered: anything up to the base, doubled with each retry, at most ten times the base. */
static uint32_t backoff(struct exchange *x)
{
	uint32_t base = policy(x)->backoff_ms ? policy(x)->backoff_ms : BACKOFF_DEFAULT_MS;
	uint64_t most = (uint64_t)base << (x->retries < 5 ? x->retries : 5);

	if (most > 10ull * base)
		most = 10ull * base;
	return (uint32_t)(worker_random(worker_of(x)) % most);
}

/* It is wanted by policy. `status` is what the endpoint answered; 0: nothing. true: there will be another try. */
static bool retry(struct exchange *x, uint16_t status)
{
	const struct mesh_http_retry *r = policy(x);
	struct worker *w = worker_of(x);

	if (!r->attempts || !repeatable(x) || x->c->s.eof)
		return false;
	if (x->retries >= r->attempts) {
		x->flags |= MESH_FLAG_RETRY_LIMIT;
		return false;
	}
	if (!lb_take(x->cluster, LB_RETRIES)) {
		x->flags |= MESH_FLAG_UPSTREAM_OVERFLOW;
		return false;
	}
	if (r->other_endpoints && x->host && x->tried.nr < LB_TRIED_MAX)
		x->tried.v[x->tried.nr++] = x->host;
	if (status)
		attempt_result(x, status, false);
	attempt_end(x, false);
	x->retrying = true;
	x->phase = X_WAIT;
	x->wait_for = WAIT_BACKOFF;
	wait_timer(w, &x->wait, backoff(x));
	x->retries++;
	return true;
}

bool attempt_again(struct exchange *x, uint16_t status)
{
	return wants_status(x, status) && retry(x, status);
}

/* clang-format off */
static const struct {
	uint16_t status;
	uint32_t flag;
	const char *detail, *body;
} told[] = {
#define RESET "upstream connect error or disconnect/reset before headers. reset reason: "
	[FAIL_CONNECT] = { 503, MESH_FLAG_UPSTREAM_CONNECT_FAILURE,
		"upstream_reset_before_response_started{remote_connection_failure}", RESET "remote connection failure" },
	[FAIL_CONNECT_TIMEOUT] = { 503, MESH_FLAG_UPSTREAM_CONNECT_FAILURE,
		"upstream_reset_before_response_started{connection_timeout}", RESET "connection timeout" },
	[FAIL_RESET] = { 503, MESH_FLAG_UPSTREAM_TERMINATION,
		"upstream_reset_before_response_started{connection_termination}", RESET "connection termination" },
	[FAIL_TIMEOUT] = { 504, MESH_FLAG_UPSTREAM_TIMEOUT, "upstream_per_try_timeout", "upstream request timeout" },
	[FAIL_PROTOCOL] = { 502, MESH_FLAG_UPSTREAM_PROTOCOL_ERROR,
		"upstream_reset_before_response_started{protocol_error}", RESET "protocol error" },
};
/* clang-format on */

void attempt_failed(struct exchange *x, enum failure why)
{
	if (why == FAIL_RESET && stale(x)) {
		struct up *u = x->u;

		x->fresh = true;
		x->u = NULL;
		u->x = NULL;
		up_close(u);
		connect_new(x);
		return;
	}
	if (why == FAIL_RESET && x->c->s.eof) {
		exchange_abort(x, MESH_FLAG_DOWNSTREAM_TERMINATION, "downstream_remote_disconnect");
		return;
	}
	attempt_result(x, 0, why == FAIL_CONNECT || why == FAIL_CONNECT_TIMEOUT || why == FAIL_TIMEOUT);
	if (wants_failure(policy(x), why) && retry(x, 0))
		return;
	exchange_own(x, told[why].status, told[why].flag, told[why].detail, str_of(told[why].body));
}
