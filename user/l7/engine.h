/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of a worker have in common. One thread owns all of this.
 *
 * A connection of a client (struct conn) has at most one exchange: a request and its answer. An exchange has at most one connection to an
 * endpoint (struct up). Whatever happens to one of the three, conn_run() goes on with as much as is possible; functions below it change states
 * and never free the connection or the exchange they were given: an exchange that is over is in X_END.
 *
 * Bytes are read only when there is room for them on the other side: what a socket does not take at once waits in its `out`, and while there is
 * something in it nothing more is read for it.
 */
#ifndef L7_ENGINE_H
#define L7_ENGINE_H

#include <sys/uio.h>

#include "base/arena.h"
#include "l7/chunk.h"
#include "l7/hello.h"
#include "l7/iobuf.h"
#include "l7/timers.h"
#include "l7/worker.h"

/* A request's body beyond this is neither repeated nor mirrored. */
#define REPLAY_MAX 65536u
#define BACKOFF_DEFAULT_MS 25u
#define CONNECT_DEFAULT_MS 10000u
#define IDLE_DEFAULT_MS 3600000u
#define LINGER_MS 2000u
#define DRAIN_IDLE_MS 1000u /* a drain leaves connections without a request this long for one that is on its way */

/* ---- sockets ---- */

enum sock_kind { SOCK_DEAD = 0, SOCK_LISTENER, SOCK_WAKE, SOCK_CLIENT, SOCK_UP };

/* First member of whatever epoll tells of. */
struct sock {
	int fd;
	uint8_t kind; /* enum sock_kind */
	bool rd, wr;  /* reading, writing may get on */
	bool hup;     /* its end is near: read until it comes */
	bool eof;     /* it came */
	bool bad;     /* reset */
	bool big;     /* the last read filled its buffer */
	bool shut;    /* SHUT_WR was done */
	bool level;   /* what there is to read is told of until it is read */
	bool edges;   /* that was no good: it is watched by edges for good */
	struct iobuf *in, *out;
};

enum timer_kind { TIMER_CONN, TIMER_UP, TIMER_TOTAL, TIMER_WAIT, TIMER_WAKE, TIMER_ACCEPT, TIMER_LOG };

/* Rules as one worker has them, with the endpoints' state. */
struct ruleset {
	struct http_rules *rules; /* a reference */
	struct lb_view *view;
	uint32_t refs;
	uint32_t gen;
};

enum conn_state { CONN_OPEN, CONN_CLOSING };

struct conn {
	struct sock s;
	struct timer timer;
	struct conn *next, **prev; /* of the worker; next alone when dead */
	struct worker *w;
	struct exchange *x;
	struct http_place place; /* as the ruleset `gen` has it */
	uint32_t gen;		 /* 0: not asked yet */
	uint16_t client_port;
	uint8_t state; /* enum conn_state */
	bool served;   /* a request was answered */
	bool again;    /* it is in the worker's list of those that have more to do */
	struct conn *next_again;
};

/* ---- connections to endpoints ---- */

/* Those of one client to one endpoint of one cluster. */
struct pool {
	struct pool *next; /* in its bucket */
	struct mesh_addr client;
	struct lb_host *host;
	struct up *idle; /* the last used first */
	uint32_t nr;	 /* all there are */
};

enum up_state { UP_CONNECTING, UP_BUSY, UP_IDLE, UP_SINK };

struct up {
	struct sock s;
	struct timer timer;	 /* connecting, the try's, idle, by state */
	struct up *next, **prev; /* of its pool's idle ones, or of the worker's mirrors; prev NULL: in neither */
	struct worker *w;
	struct pool *pool;
	struct lb_cluster *cluster;
	struct exchange *x; /* BUSY, or CONNECTING unless it is for a mirror */
	uint32_t served;    /* requests before this one */
	uint32_t idle_ms, max_requests;
	uint8_t state; /* enum up_state */
};

/* ---- exchanges ---- */

/* A body on its way. */
struct body {
	uint8_t kind; /* enum head_body */
	bool done;
	bool framed;	     /* it is sent on chunked */
	uint64_t left;	     /* LENGTH */
	struct iobuf *chunk; /* CHUNKED: holds a struct chunk */
	uint64_t bytes;	     /* that were passed on */
};

enum exchange_phase {
	X_HEAD,	  /* the request's head comes */
	X_HELLO,  /* the first message of TLS comes */
	X_WAIT,	  /* for a timer, a place in the limits or a connection */
	X_ACTIVE, /* with an endpoint */
	X_TUNNEL,
	X_END,
};
enum wait_for { WAIT_FAULT, WAIT_BACKOFF, WAIT_PENDING, WAIT_CONNECT };
enum answer_state { ANSWER_NONE, ANSWER_BODY, ANSWER_DONE };

#define MIRRORS_MAX 4

struct exchange {
	struct conn *c;
	struct up *u;
	struct ruleset *rules; /* a reference */
	struct exchange *next; /* free, or pending */

	struct http_request rq;
	struct iobuf *head; /* has the request's head; NULL until it is whole */
	struct http_choice choice;
	const struct mesh_http_endpoint *to;
	struct lb_cluster *cluster;
	struct lb_host *host; /* this try's: it counts in `active` */
	struct lb_tried tried;
	struct timer total, wait;

	uint8_t phase;	  /* enum exchange_phase */
	uint8_t wait_for; /* enum wait_for */
	uint8_t answer;	  /* enum answer_state */
	bool keep;	  /* the client's connection is used on */
	bool fresh;	  /* a connection that was kept turned out to be dead: use a new one */
	bool requested;	  /* LB_REQUESTS is taken */
	bool pending;	  /* LB_PENDING is taken */
	bool queued;	  /* it is in the worker's list of those that wait for LB_CONNECTIONS */
	bool retrying;	  /* LB_RETRIES is taken */
	bool half;	  /* the client's end was passed on */
	bool head_timed, timed, mirrored;
	bool sent_broken; /* the endpoint takes no more of the request */
	bool hashed;
	bool upgrade; /* the request asks for another protocol, which it may have */
	bool tls;     /* no request: a connection of TLS, from its first byte to its last */
	uint64_t hash;

	struct body rb, ab;
	struct iobuf *replay; /* what of the request's body was passed on */
	bool record, replay_lost;
	struct mesh_http_mirror mirrors[MIRRORS_MAX];
	uint32_t mirror_nr;

	struct buf cookie; /* Set-Cookie of the hash that was made; mostly none */
	uint32_t retries;  /* by policy */
	uint32_t attempts;
	uint32_t flags; /* enum mesh_flag */
	uint16_t status;
	const char *detail;
	uint64_t begin_us, answer_us; /* CLOCK_MONOTONIC; 0: nobody asks */
	char request_id[40];
	struct head rh, ah;
	struct hello hello;
};

/* ---- the worker ---- */

#define POOL_BUCKETS 1024u

struct worker {
	struct workers *ws;
	struct worker_shared *shared;
	struct sock listener, wake;
	int epoll;
	uint32_t index;
	struct timers timers;
	struct iobuf_pool bufs;
	int pipe[2];	 /* of splice.c; -1: not made yet */
	struct buf text; /* where heads are written */
	struct ruleset *rules;
	uint32_t gen;		 /* of `rules` */
	uint64_t now_us, now_ms; /* when the events at hand were there */
	uint64_t random[2];
	uint32_t head_ms, body_ms, idle_ms;
	bool draining, counted, logged;

	struct conn *conns;
	uint32_t conn_nr;
	struct pool *pools[POOL_BUCKETS];
	uint32_t idle_nr;			 /* connections in them that are idle */
	struct up *mirrors;			 /* connections of no exchange */
	struct conn *again, **again_end;	 /* have more to do than was done in one go */
	struct exchange *waiting, **waiting_end; /* for LB_CONNECTIONS, the longest first */
	struct timer flush;			 /* of the access log */
	struct timer pending;			 /* while somebody waits: room may have come elsewhere */
	struct timer end;			 /* of a drain */
	struct timer accept;			 /* when it accepts again */

	/* Memory that is used again; the dead are freed once the events at hand are done with. */
	struct arena memory;
	struct conn *free_conns, *dead_conns;
	struct up *free_ups, *dead_ups;
	struct exchange *free_exchanges;
	uint32_t free_exchange_nr;

	struct stats *stats;
	struct mesh_l7_worker *counts;
	struct access_log *log;
};

/* sock.c */
enum { SOCK_NOTHING = 0, SOCK_END = -1, SOCK_FAILED = -2 };
/* Bytes that came, or one of those above. */
int sock_read(struct worker *w, struct sock *s);
/* What is not taken at once waits in `out`. false: the socket is broken. At most IOV_SEND_MAX pieces. */
#define IOV_SEND_MAX 64
bool sock_send(struct worker *w, struct sock *s, struct iovec *v, uint32_t nr);
bool sock_flush(struct worker *w, struct sock *s);
void sock_end_writing(struct sock *s);
void sock_events(struct sock *s, uint32_t events);
/* What events have led to is done. */
void sock_seen(struct worker *w, struct sock *s);
bool sock_watch(struct worker *w, struct sock *s);
/* What there is to read is told of once more when others had their turn. */
void sock_again(struct worker *w, struct sock *s);
/* Closes and gives back buffers. */
void sock_close(struct worker *w, struct sock *s);

/* worker.c */
/* Accepts nothing for so long. */
void worker_pause(struct worker *w, uint32_t ms);
uint64_t worker_random(struct worker *w);
uint64_t worker_us(void); /* CLOCK_MONOTONIC */
/* The rules that hold now; a reference. NULL: none yet. */
struct ruleset *ruleset_now(struct worker *w);
void ruleset_unref(struct ruleset *r);

/* conn.c */
void conn_accept(struct worker *w);
void conn_run(struct conn *c);
/* It is run once more when others had their turn. */
void conn_again(struct conn *c);
void conns_again(struct worker *w);
void conn_timeout(struct conn *c);
void conn_close(struct conn *c);
/* Worker drains: the next answer is its last, and one without a request ends soon. */
void conn_drain(struct conn *c);

/* relay.c */
enum relay {
	RELAY_MORE,
	RELAY_BLOCKED,
	RELAY_AGAIN /* enough for one go */,
	RELAY_DONE,
	RELAY_BAD,
	RELAY_FROM_LOST,
	RELAY_TO_LOST
};
struct relay_copy {
	struct iobuf **to;
	bool *lost;
};
void body_begin(struct worker *w, struct body *b, enum head_body kind, uint64_t length);
void body_end(struct worker *w, struct body *b);
/* `prefix` goes out first, in any case. copy NULL: nobody keeps it. */
enum relay relay(struct worker *w, struct sock *from, struct body *b, struct sock *to, struct str prefix,
		 const struct relay_copy *copy);
/* Reads what there is of a body that nobody wants, within limits. */
void body_skip(struct worker *w, struct sock *from, struct body *b);
/* Appends a piece of the body as it is sent on, and what ends it. */
void body_frame(const struct body *b, struct str piece, struct buf *out);
void body_close(const struct body *b, struct buf *out);

/* splice.c */
/* More of the body may be moved without being looked at: it is long, or there is much of it. */
bool splice_fits(const struct worker *w, const struct sock *from, const struct body *b);
/* Moves some, to a socket that has nothing waiting. false: nothing was moved, and reading tells why. */
bool splice_some(struct worker *w, struct sock *from, struct body *b, struct sock *to, enum relay *ret);
void splice_release(struct worker *w);

/* exchange.c */
/* Where it came to, in the rules as they are now. NULL: there are none; else the caller has a reference. */
struct ruleset *conn_place(struct conn *c);
void exchange_begin(struct conn *c);
/* Goes on. true: it is over. */
bool exchange_run(struct exchange *x);
void exchange_free(struct exchange *x);
/* Of a connection of TLS, it is closed. */
void exchange_own(struct exchange *x, uint16_t status, uint32_t flags, const char *detail, struct str body);
/* Its connection may be used on once it is answered. */
bool exchange_may_keep(const struct exchange *x);
/* `prefix`, and what has come of the request's body. */
void exchange_send(struct exchange *x, struct str prefix);
/* It ends without more of an answer than was sent. */
void exchange_abort(struct exchange *x, uint32_t flags, const char *detail);
void exchange_waited(struct exchange *x);  /* timer */
void exchange_expired(struct exchange *x); /* timer */

/* reply.c */
void reply_run(struct exchange *x);

/* passthrough.c: connections of TLS by the name that they ask for */
void tls_begin(struct exchange *x);
void tls_run(struct exchange *x);
/* There is a connection to the server. */
void tls_connected(struct exchange *x);

/* tunnel.c */
void tunnel_run(struct exchange *x);

/* attempt.c */
enum failure { FAIL_CONNECT, FAIL_CONNECT_TIMEOUT, FAIL_RESET, FAIL_TIMEOUT, FAIL_PROTOCOL };
void attempt_start(struct exchange *x);
void attempt_connected(struct exchange *x);
void attempt_failed(struct exchange *x, enum failure why);
/* It answers with this status and may be asked again: true: it will. */
bool attempt_again(struct exchange *x, uint16_t status);
void attempt_result(struct exchange *x, uint16_t status, bool local);
/* Gives back what it took; the connection is kept where it may be. */
void attempt_end(struct exchange *x, bool reuse);
/* The request was sent as a whole: waits begin. */
void attempt_sent(struct exchange *x);
void pending_run(struct worker *w);
void pending_remove(struct exchange *x);

/* pool.c */
/* An idle connection, or NULL. */
struct up *pool_take(struct worker *w, const struct mesh_addr *client, struct lb_host *host);
void pool_put(struct up *u);
/* One that is idle towards this cluster is closed: true. */
bool pool_evict(struct worker *w, const struct lb_cluster *cluster);
void pool_drain(struct worker *w);
struct pool *pool_of(struct worker *w, const struct mesh_addr *client, struct lb_host *host);
void pool_unref(struct worker *w, struct pool *p);

/* upstream.c */
/* LB_CONNECTIONS is taken by the caller and given back by it when this fails: NULL. */
struct up *up_open(struct worker *w, const struct mesh_addr *client, struct lb_cluster *cluster,
		   const struct mesh_http_cluster *rules, struct lb_host *host);
void up_close(struct up *u);
void up_event(struct up *u);
void up_timeout(struct up *u);

/* mirror.c */
void mirrors_choose(struct exchange *x);
void mirrors_send(struct exchange *x);
void mirror_connected(struct up *u);
void mirror_run(struct up *u);

/* report.c */
void report(struct exchange *x);

static inline struct worker *worker_of(const struct exchange *x)
{
	return x->c->w;
}
static inline void wait_timer(struct worker *w, struct timer *t, uint32_t ms)
{
	timer_set(&w->timers, t, w->now_ms + ms);
}
/* The request's last byte was read. */
static inline bool request_whole(const struct exchange *x)
{
	return x->rb.done;
}

#endif
