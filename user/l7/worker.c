/* SPDX-License-Identifier: BSD-2-Clause */
#include "l7/worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "l7/engine.h"

#define EVENTS_MAX 256
#define HEAD_DEFAULT_MS 60000u
#define BODY_DEFAULT_MS 300000u
#define PENDING_MS 5u
#define LOG_FLUSH_MS 1000u

struct workers {
	struct worker_shared *shared;
	uint32_t nr;
	pthread_mutex_t lock;	  /* of `rules` */
	struct http_rules *rules; /* a reference; NULL: none yet */
	_Atomic uint32_t gen;	  /* of `rules` */
	_Atomic uint64_t drain_until_ms;
	_Atomic uint32_t running;
	int ended;
	pthread_t *threads;
	struct worker *v;
};

/* ---- time and chance ---- */

uint64_t worker_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

/* xoroshiro128+ (Blackman, Vigna). */
uint64_t worker_random(struct worker *w)
{
	uint64_t a = w->random[0], b = w->random[1], ret = a + b;

	b ^= a;
	w->random[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
	w->random[1] = b << 37 | b >> 27;
	return ret;
}

void worker_pause(struct worker *w, uint32_t ms)
{
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->listener.fd, NULL);
	wait_timer(w, &w->accept, ms);
}

/* ---- rules ---- */

void ruleset_unref(struct ruleset *r)
{
	if (!r || --r->refs)
		return;
	lb_detach(r->view);
	http_rules_unref(r->rules);
	free(r);
}

/* Takes the rules that hold now, if they are others. */
static void renew(struct worker *w)
{
	struct workers *ws = w->ws;
	struct ruleset *r;

	if (w->gen == atomic_load_explicit(&ws->gen, memory_order_acquire))
		return;
	r = xcalloc(1, sizeof(*r));
	pthread_mutex_lock(&ws->lock);
	r->rules = http_rules_ref(ws->rules);
	r->gen = w->gen = atomic_load_explicit(&ws->gen, memory_order_relaxed);
	pthread_mutex_unlock(&ws->lock);
	r->refs = 1;
	r->view = lb_attach(w->shared->lb, r->rules);
	ruleset_unref(w->rules);
	w->rules = r;
}

struct ruleset *ruleset_now(struct worker *w)
{
	renew(w);
	if (w->rules)
		w->rules->refs++;
	return w->rules;
}

void workers_rules(struct workers *ws, struct http_rules *rules)
{
	struct http_rules *old;

	pthread_mutex_lock(&ws->lock);
	old = ws->rules;
	ws->rules = http_rules_ref(rules);
	atomic_fetch_add_explicit(&ws->gen, 1, memory_order_release);
	pthread_mutex_unlock(&ws->lock);
	http_rules_unref(old);
	for (uint32_t i = 0; i < ws->nr; i++)
		eventfd_write(ws->v[i].wake.fd, 1);
}

/* ---- a worker's thread ---- */

static void drain(struct worker *w, uint64_t until_ms)
{
	struct conn *next;

	timer_set(&w->timers, &w->end, until_ms);
	if (!w->draining) {
		/* Whoever waits there was told that there is somebody. */
		for (uint32_t before = w->conn_nr - 1; before != w->conn_nr;) {
			before = w->conn_nr;
			conn_accept(w);
		}
		epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->listener.fd, NULL);
		sock_close(w, &w->listener);
		w->draining = true;
	}
	for (struct conn *c = w->conns; c; c = next) {
		next = c->next;
		conn_drain(c);
	}
	pool_drain(w);
}

static void event(struct worker *w, struct sock *s, uint32_t events)
{
	uint64_t count, until;

	if (s->kind == SOCK_LISTENER) {
		conn_accept(w);
	} else if (s->kind == SOCK_WAKE) {
		eventfd_read(s->fd, &count);
		renew(w);
		until = atomic_load(&w->ws->drain_until_ms);
		if (until != TIMER_NEVER)
			drain(w, until);
	} else if (s->kind == SOCK_CLIENT) {
		sock_events(s, events);
		conn_run((struct conn *)s);
		sock_seen(w, s);
	} else if (s->kind == SOCK_UP) {
		sock_events(s, events);
		up_event((struct up *)s);
		sock_seen(w, s);
	}
}

static void accept_on(struct worker *w)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &w->listener };

	if (w->listener.kind == SOCK_LISTENER)
		epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->listener.fd, &ev);
}

#define OWNER(timer, type, member) ((type *)((char *)(timer)-offsetof(type, member)))

static void expire(struct worker *w, struct timer *t)
{
	switch ((enum timer_kind)t->kind) {
	case TIMER_CONN:
		conn_timeout(OWNER(t, struct conn, timer));
		break;
	case TIMER_UP:
		up_timeout(OWNER(t, struct up, timer));
		break;
	case TIMER_TOTAL:
		exchange_expired(OWNER(t, struct exchange, total));
		break;
	case TIMER_WAIT:
		exchange_waited(OWNER(t, struct exchange, wait));
		break;
	case TIMER_WAKE:
		break;
	case TIMER_ACCEPT:
		accept_on(w);
		break;
	case TIMER_LOG:
		if (access_log_flush(w->log))
			wait_timer(w, t, LOG_FLUSH_MS);
		break;
	}
}

static void reap(struct worker *w)
{
	struct conn *still = NULL;

	for (struct conn *c; (c = w->dead_conns);) {
		struct conn **list = c->again ? &still : &w->free_conns;

		w->dead_conns = c->next;
		c->next = *list;
		*list = c;
	}
	w->dead_conns = still;
	for (struct up *u; (u = w->dead_ups);) {
		w->dead_ups = u->next;
		u->next = w->free_ups;
		w->free_ups = u;
	}
}

static void turn(struct worker *w)
{
	struct epoll_event events[EVENTS_MAX];
	int wait = w->again ? 0 : timers_wait(&w->timers, worker_us() / 1000);
	int n = epoll_wait(w->epoll, events, EVENTS_MAX, wait);

	w->now_us = worker_us();
	w->now_ms = w->now_us / 1000;
	w->logged = access_log_wanted(&w->shared->log);
	for (int i = 0; i < n; i++)
		event(w, events[i].data.ptr, events[i].events);
	conns_again(w);
	for (struct timer *t; (t = timers_due(&w->timers, w->now_ms));)
		expire(w, t);
	if (w->waiting)
		pending_run(w);
	if (w->waiting)
		wait_timer(w, &w->pending, PENDING_MS);
	if (w->logged && w->flush.deadline_ms == TIMER_NEVER)
		wait_timer(w, &w->flush, LOG_FLUSH_MS);
	reap(w);
}

static void *run(void *arg)
{
	struct worker *w = arg;
	struct workers *ws = w->ws;

	renew(w);
	for (;;) {
		uint64_t until;

		turn(w);
		until = atomic_load_explicit(&ws->drain_until_ms, memory_order_relaxed);
		if (until <= w->now_ms || (w->draining && !w->conns))
			break;
	}
	while (w->conns)
		conn_close(w->conns);
	while (w->mirrors)
		up_close(w->mirrors);
	pool_drain(w);
	ruleset_unref(w->rules);
	w->rules = NULL;
	if (w->listener.kind == SOCK_LISTENER)
		sock_close(w, &w->listener);
	if (access_log_wanted(&w->shared->log))
		access_log_flush(w->log);
	if (atomic_fetch_sub(&ws->running, 1) == 1)
		eventfd_write(ws->ended, 1);
	return NULL;
}

/* ---- all of them ---- */

static int prepare(struct workers *ws, uint32_t index, int listener)
{
	struct worker *w = &ws->v[index];
	struct worker_shared *shared = ws->shared;
	struct epoll_event ev = { .events = EPOLLIN };
	int on = 1;

	*w = (struct worker){ .ws = ws,
			      .shared = shared,
			      .index = index,
			      .listener = { .fd = listener, .kind = SOCK_LISTENER },
			      .pipe = { -1, -1 },
			      .head_ms = shared->head_ms ? shared->head_ms : HEAD_DEFAULT_MS,
			      .body_ms = shared->body_ms ? shared->body_ms : BODY_DEFAULT_MS,
			      .idle_ms = shared->idle_ms ? shared->idle_ms : IDLE_DEFAULT_MS,
			      .counted = shared->stats };
	w->waiting_end = &w->waiting;
	w->again_end = &w->again;
	w->accept = (struct timer){ .deadline_ms = TIMER_NEVER, .kind = TIMER_ACCEPT };
	w->pending = (struct timer){ .deadline_ms = TIMER_NEVER, .kind = TIMER_WAKE };
	w->end = (struct timer){ .deadline_ms = TIMER_NEVER, .kind = TIMER_WAKE };
	w->flush = (struct timer){ .deadline_ms = TIMER_NEVER, .kind = TIMER_LOG };
	w->stats = stats_new(shared->stats ? &shared->stats->workers[index] : NULL);
	w->counts = stats_worker(w->stats);
	w->log = access_log_new(&shared->log, w->stats);
	w->now_us = worker_us();
	w->now_ms = w->now_us / 1000;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->wake = (struct sock){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .kind = SOCK_WAKE };
	if (w->epoll < 0 || w->wake.fd < 0 || getrandom(w->random, sizeof(w->random), 0) != sizeof(w->random))
		return -errno;
	/* Sockets that are accepted have it from there. */
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	ev.data.ptr = &w->listener;
	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, listener, &ev))
		return -errno;
	ev.data.ptr = &w->wake;
	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake.fd, &ev) ? -errno : 0;
}

static void release(struct worker *w)
{
	reap(w);
	for (struct exchange *x; (x = w->free_exchanges);) {
		w->free_exchanges = x->next;
		free(x);
	}
	if (w->epoll >= 0)
		close(w->epoll);
	if (w->wake.fd >= 0)
		close(w->wake.fd);
	splice_release(w);
	timers_release(&w->timers);
	iobuf_pool_release(&w->bufs);
	buf_release(&w->text);
	access_log_free(w->log);
	stats_free(w->stats);
	arena_release(&w->memory);
}

int workers_start(const int *listeners, uint32_t nr, struct worker_shared *shared, struct http_rules *rules,
		  struct workers **ret)
{
	struct workers *ws = xcalloc(1, sizeof(*ws));
	int err = 0;

	ws->shared = shared;
	ws->v = xcalloc(nr, sizeof(*ws->v));
	ws->threads = xcalloc(nr, sizeof(*ws->threads));
	pthread_mutex_init(&ws->lock, NULL);
	ws->rules = rules ? http_rules_ref(rules) : NULL;
	ws->gen = rules ? 1 : 0;
	ws->drain_until_ms = TIMER_NEVER;
	ws->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ws->ended < 0)
		err = -errno;
	while (!err && ws->nr < nr) {
		err = prepare(ws, ws->nr, listeners[ws->nr]);
		ws->nr++;
	}
	for (uint32_t i = 0; !err && i < nr; i++) {
		ws->running++;
		err = -pthread_create(&ws->threads[i], NULL, run, &ws->v[i]);
		if (err)
			ws->running--;
	}
	if (err) {
		workers_free(ws);
		return err;
	}
	*ret = ws;
	return 0;
}

static void drain_until(struct workers *ws, uint64_t until)
{
	uint64_t before = atomic_load(&ws->drain_until_ms);

	while (until < before && !atomic_compare_exchange_weak(&ws->drain_until_ms, &before, until))
		;
	for (uint32_t i = 0; i < ws->nr; i++)
		eventfd_write(ws->v[i].wake.fd, 1);
}

void workers_drain(struct workers *ws, uint32_t ms)
{
	drain_until(ws, worker_us() / 1000 + ms);
}

int workers_ended_fd(const struct workers *ws)
{
	return ws->ended;
}

void workers_free(struct workers *ws)
{
	if (!ws)
		return;
	drain_until(ws, 0);
	for (uint32_t i = 0; i < ws->nr; i++) {
		if (ws->threads[i])
			pthread_join(ws->threads[i], NULL);
		release(&ws->v[i]);
	}
	http_rules_unref(ws->rules);
	pthread_mutex_destroy(&ws->lock);
	if (ws->ended >= 0)
		close(ws->ended);
	free(ws->threads);
	free(ws->v);
	free(ws);
}
