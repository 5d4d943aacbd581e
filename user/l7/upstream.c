/* SPDX-License-Identifier: BSD-2-Clause */
/* Connections to endpoints. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "l7/engine.h"

static bool is_v4(const struct mesh_addr *a)
{
	return !a->w_be[0] && !a->w_be[1] && a->w_be[2] == htonl(0xffff);
}

static socklen_t put_addr(const struct mesh_addr *a, uint16_t port, struct sockaddr_storage *ret)
{
	*ret = (struct sockaddr_storage){ 0 };
	if (is_v4(a)) {
		*(struct sockaddr_in *)ret = (struct sockaddr_in){ .sin_family = AF_INET,
								   .sin_port = htons(port),
								   .sin_addr.s_addr = a->w_be[3] };
		return sizeof(struct sockaddr_in);
	}
	((struct sockaddr_in6 *)ret)->sin6_family = AF_INET6;
	((struct sockaddr_in6 *)ret)->sin6_port = htons(port);
	memcpy(&((struct sockaddr_in6 *)ret)->sin6_addr, a, sizeof(*a));
	return sizeof(struct sockaddr_in6);
}

/* A socket that is being connected, or -1. */
static int dial(const struct mesh_addr *client, const struct lb_host *host)
{
	static const struct mesh_addr any;
	struct sockaddr_storage to, from;
	socklen_t to_len = put_addr(&host->addr, host->port, &to), from_len;
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* A client of the other family cannot be shown. */
	if (memcmp(client, &any, sizeof(any)) && is_v4(client) == is_v4(&host->addr)) {
		from_len = put_addr(client, 0, &from);
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
		if (bind(fd, (struct sockaddr *)&from, from_len)) {
			close(fd);
			return -1;
		}
	}
	if (connect(fd, (struct sockaddr *)&to, to_len) && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

struct up *up_open(struct worker *w, const struct mesh_addr *client, struct lb_cluster *cluster,
		   const struct mesh_http_cluster *rules, struct lb_host *host)
{
	int fd = dial(client, host);
	struct up *u = w->free_ups;

	if (fd < 0)
		return NULL;
	if (u)
		w->free_ups = u->next;
	else
		u = arena_new(&w->memory, struct up);
	*u = (struct up){ .s = { .fd = fd, .kind = SOCK_UP },
			  .timer = { .deadline_ms = TIMER_NEVER, .kind = TIMER_UP },
			  .w = w,
			  .cluster = cluster,
			  .idle_ms = rules->idle_timeout_ms ? rules->idle_timeout_ms : IDLE_DEFAULT_MS,
			  .max_requests = rules->max_requests_per_connection,
			  .state = UP_CONNECTING };
	if (!sock_watch(w, &u->s)) {
		sock_close(w, &u->s);
		u->next = w->dead_ups;
		w->dead_ups = u;
		return NULL;
	}
	u->pool = pool_of(w, client, host);
	atomic_fetch_add_explicit(&host->conns, 1, memory_order_relaxed);
	stats_add(&w->counts->upstream_open, 1);
	wait_timer(w, &u->timer, rules->connect_timeout_ms ? rules->connect_timeout_ms : CONNECT_DEFAULT_MS);
	return u;
}

void up_close(struct up *u)
{
	struct worker *w = u->w;
	struct lb_host *host = u->pool->host;

	if (u->state == UP_IDLE)
		w->idle_nr--;
	if (u->prev) {
		*u->prev = u->next;
		if (u->next)
			u->next->prev = u->prev;
	}
	sock_close(w, &u->s);
	timer_remove(&w->timers, &u->timer);
	pool_unref(w, u->pool);
	lb_give(u->cluster, LB_CONNECTIONS);
	stats_add(&w->counts->upstream_open, -1);
	atomic_fetch_sub_explicit(&host->conns, 1, memory_order_relaxed);
	u->next = w->dead_ups;
	w->dead_ups = u;
}

static void connecting(struct up *u)
{
	struct exchange *x = u->x;
	struct conn *c = x ? x->c : NULL;
	socklen_t len = sizeof(int);
	int error = 0;

	if (!u->s.wr && !u->s.bad)
		return;
	if (getsockopt(u->s.fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (!x && error)
		up_close(u);
	else if (!x)
		mirror_connected(u);
	else if (error)
		attempt_failed(x, FAIL_CONNECT);
	else
		attempt_connected(x);
	if (c)
		conn_run(c);
}

void up_event(struct up *u)
{
	switch ((enum up_state)u->state) {
	case UP_CONNECTING:
		connecting(u);
		break;
	case UP_BUSY:
		conn_run(u->x->c);
		break;
	case UP_IDLE:
		/* Nothing was asked: whatever comes ends it. */
		if (u->s.rd)
			up_close(u);
		break;
	case UP_SINK:
		mirror_run(u);
		break;
	}
}

void up_timeout(struct up *u)
{
	struct exchange *x = u->x;
	struct conn *c = x ? x->c : NULL;

	if (!x) {
		up_close(u);
		return;
	}
	if (u->state == UP_CONNECTING)
		attempt_failed(x, FAIL_CONNECT_TIMEOUT);
	else if (x->answer == ANSWER_NONE)
		attempt_failed(x, FAIL_TIMEOUT);
	conn_run(c);
}
