/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes a whole worker of meshl7 between clients and servers in memory. An input is what these do, and when: say bytes, end, reset, take
 * no more, answer a connection or not, let time pass; and rules that change, and a drain. Laws:
 *   - nobody uses, or leaves open, what was closed; what was taken of limits and counters is given back;
 *   - every connection to a server carries requests that llhttp (strict) reads, one behind the other, and every one to a client answers:
 *     not more of them than it asked for, and nothing behind one that is the last; what begins with TLS goes to servers as it came, and only
 *     once its first message is whole;
 *   - when nobody says anything any more, all connections of clients end by themselves.
 * build: -include tests/fuzz/fake_sockets.h tests/fuzz/fake_sockets.c tests/l7/rules.c -Itests/unit
 * build: user/l7/access_log.c user/l7/answer.c user/l7/attempt.c user/l7/authorize.c user/l7/balance.c user/l7/balance_outlier.c
 * build: user/l7/balance_pick.c user/l7/check.c user/l7/chunk.c user/l7/conn.c user/l7/exchange.c user/l7/fields.c
 * build: user/l7/hash.c user/l7/head.c user/l7/hello.c user/l7/index.c user/l7/iobuf.c user/l7/match.c user/l7/mirror.c
 * build: user/l7/passthrough.c user/l7/pool.c
 * build: user/l7/relay.c user/l7/reply.c user/l7/report.c user/l7/rewrite.c user/l7/route.c user/l7/rules.c user/l7/sock.c
 * build: user/l7/splice.c user/l7/stats.c user/l7/timers.c user/l7/tunnel.c user/l7/upstream.c user/l7/worker.c
 * llhttp: 1
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "l7/balance_int.h"
#include "l7/engine.h"
#include "../l7/rules.h"
#include "hello_bytes.h"
#include "must.h"
#ifdef LLHTTP
#include <llhttp.h>
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* clang-format off */
static const char *const texts[] = {
	"cluster name=a to=127.0.0.1:1,127.0.0.1:2 max_connections=3 max_pending=2 per_connection=3\n"
	"cluster name=b to=127.0.0.1:3 max_requests=3 max_retries=1\n"
	"cluster name=c to=127.0.0.1:4,127.0.0.1:5 connect_ms=500 idle_ms=1000 cookie=k lb=4 table=7\n"
	"route path=/m to=a mirror=b\n"
	"route path=/r to=b:9,a:1 retries=2 on=13 timeout_ms=700 try_ms=300\n"
	"route path=/s to=a retries=3 on=64 statuses=503 mirror=c\n"
	"route path=/d to=b delay_ms=30\n"
	"route path=/x direct=200 body=hello\n"
	"route path=/y redirect=301 to_host=b\n"
	"route path=/f to=a abort=500\n"
	"route path=/c to=c\n"
	"route to=a\n"
	"deny path=/z\n",
	"cluster name=a to=127.0.0.1:1 max_connections=1\n"
	"cluster name=c to=127.0.0.1:5,127.0.0.1:6\n"
	"route path=/m to=c mirror=a timeout_ms=50\n"
	"route path=/r to=c retries=9 on=1 backoff_ms=200\n"
	"route to=a timeout_ms=3000\n",
	"cluster name=a to=127.0.0.1:1,127.0.0.1:2 max_connections=2 connect_ms=500 tcp_idle_ms=2000\n"
	"cluster name=b to=127.0.0.1:3 duration_ms=3000\n"
	"route host=a.test to=a\n"
	"route to=b\n"
	"tls\n"
	"deny port=4\n",
};

static const char *const requests[] = {
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /m HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /r HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	"POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n",
	"POST /r HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
	"GET /d HTTP/1.0\r\n\r\n",
	"GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\nGET /f HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n",
	"POST /z HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
	"\x16\x03\x01",
};

static const char *const answers[] = {
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.1 200 OK\r\n\r\nuntil the end",
	"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
	"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbytes",
	"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 500 No\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
};
/* clang-format on */

#define NR(array) (sizeof(array) / sizeof(*(array)))
/* What a script does next; those with an argument say which. */
enum step {
	STEP_ACCEPT,	     /* a client comes */
	STEP_CLIENT_SAYS,    /* who, length, bytes */
	STEP_SERVER_SAYS,    /* who, length, bytes */
	STEP_CLIENT_ASKS,    /* who, one of `requests`, or behind these: of `hellos` */
	STEP_SERVER_ANSWERS, /* who, one of `answers` */
	STEP_CLIENT_FILLS,   /* who; 128: eight times, root of a length */
	STEP_SERVER_FILLS,   /* who; 128: eight times, root of a length */
	STEP_CLIENT_ENDS,    /* who; 128: by a reset */
	STEP_SERVER_ENDS,    /* who; 128: by a reset */
	STEP_CLIENT_TAKES,   /* who, root of a length */
	STEP_SERVER_TAKES,   /* who, root of a length */
	STEP_CONNECTED,	     /* who; 128: refused */
	STEP_TIME,	     /* root of milliseconds */
	STEP_RULES,	     /* which */
	STEP_DRAIN,	     /* root of milliseconds */
	STEP_NO_FILE,	     /* how often */
	STEP_NR
};
#define STEP_MORE 0x80u /* the next one as well, before anybody looks */

static struct {
	const uint8_t *at, *end;
	uint32_t idle; /* times that the worker waited since the script was over */
	bool ends_itself, over;
} script;

static struct http_rules *rules[NR(texts)];
static struct buf hellos[2]; /* with a name, and with none */
static struct workers *workers;

/* ---- what was written ---- */

#ifdef LLHTTP
static uint32_t finals; /* answers that are no interim ones */

static int on_head(llhttp_t *parser)
{
	finals += parser->status_code >= 200;
	/* 1: no body, whatever the fields say. */
	return parser->status_code == 304;
}

static uint32_t count(const struct fake_bytes *b, size_t len, const char *what)
{
	const char *at = b->p, *end = b->p + len;
	uint32_t nr = 0;

	while (at < end && (at = memmem(at, (size_t)(end - at), what, strlen(what)))) {
		at += strlen(what);
		nr++;
	}
	return nr;
}

static void hold_against_oracle(const struct fake *f)
{
	static llhttp_settings_t settings;
	static llhttp_t parser;
	bool client = f->kind == FAKE_CLIENT;
	llhttp_errno_t rc;

	/* How an answer to these ends llhttp cannot know. */
	if (!f->out.len || (client && (count(&f->in, f->at, "HEAD ") || count(&f->in, f->at, "CONNECT "))))
		return;
	llhttp_settings_init(&settings);
	settings.on_headers_complete = on_head;
	finals = 0;
	llhttp_init(&parser, client ? HTTP_RESPONSE : HTTP_REQUEST, &settings);
	rc = llhttp_execute(&parser, f->out.p, f->out.len);
	/* It knows a list of methods, and what comes behind an upgrade is not its own. */
	if (rc == HPE_PAUSED_UPGRADE || (!client && rc == HPE_INVALID_METHOD))
		return;
	if (rc != HPE_OK)
		fprintf(stderr, "%s at %td of %.*s\n", llhttp_errno_name(rc), llhttp_get_error_pos(&parser) - f->out.p,
			(int)f->out.len, f->out.p);
	MUST(rc == HPE_OK);
	/* One more is for what was no request. */
	if (client)
		MUST(finals <= count(&f->in, f->at, "HTTP/1.") + 1);
}
#endif

static bool is_tls(const struct fake *f)
{
	const struct fake_bytes *b = f->kind == FAKE_CLIENT ? &f->in : &f->out;

	return b->len && b->p[0] == TLS_HANDSHAKE;
}

static void closed(struct fake *f)
{
	struct hello hello;

	if (f->kind == FAKE_SERVER && is_tls(f)) {
		hello_begin(&hello);
		/* It may have taken a part only. */
		MUST(hello_scan(&hello, f->out.p, (uint32_t)f->out.len) != HELLO_BAD);
	}
#ifdef LLHTTP
	if ((f->kind == FAKE_CLIENT || f->kind == FAKE_SERVER) && !is_tls(f))
		hold_against_oracle(f);
#endif
}

/* ---- what is done ---- */

static uint32_t take(void)
{
	return script.at < script.end ? *script.at++ : 0;
}

/* One of those that are open, by a byte; NULL: nobody is. */
static struct fake *who(enum fake_kind kind, uint32_t *ret_flag)
{
	uint32_t byte = take(), nr = 0, at;

	*ret_flag = byte & 128;
	for (int i = 0; i < FAKE_MAX; i++)
		nr += fakes[i].kind == kind;
	if (!nr)
		return NULL;
	at = (byte & 127) % nr;
	for (int i = 0;; i++)
		if (fakes[i].kind == kind && !at--)
			return &fakes[i];
}

static void say(struct fake *f)
{
	uint32_t len = take();

	if (len > (size_t)(script.end - script.at))
		len = (uint32_t)(script.end - script.at);
	if (f)
		fake_say(f, script.at, len);
	script.at += len;
}

static void fill(struct fake *f, bool long_one)
{
	static char filler[8 * 256 * 256];
	uint32_t root = take();

	if (!filler[0])
		memset(filler, 'x', sizeof(filler));
	if (f)
		fake_say(f, filler, (long_one ? 8 : 1) * root * root);
}

static void by_far_end(enum step what, enum fake_kind kind)
{
	uint32_t flag, n;
	struct fake *f = who(kind, &flag);

	switch (what) {
	case STEP_CLIENT_SAYS:
	case STEP_SERVER_SAYS:
		say(f);
		break;
	case STEP_CLIENT_ASKS:
		n = take() % (NR(requests) + NR(hellos));
		if (f && n < NR(requests))
			fake_say(f, requests[n], strlen(requests[n]));
		else if (f)
			fake_say(f, hellos[n - NR(requests)].data, hellos[n - NR(requests)].len);
		break;
	case STEP_SERVER_ANSWERS:
		n = take() % NR(answers);
		if (f)
			fake_say(f, answers[n], strlen(answers[n]));
		break;
	case STEP_CLIENT_FILLS:
	case STEP_SERVER_FILLS:
		fill(f, flag);
		break;
	case STEP_CLIENT_ENDS:
	case STEP_SERVER_ENDS:
		if (f && flag)
			fake_reset(f);
		else if (f)
			fake_end(f);
		break;
	case STEP_CLIENT_TAKES:
	case STEP_SERVER_TAKES:
		n = take();
		if (f)
			fake_more_room(f, n * n);
		break;
	default:
		if (f)
			fake_answer(f, flag ? ECONNREFUSED : 0);
	}
}

static void step(enum step what)
{
	uint32_t n;

	switch (what) {
	case STEP_ACCEPT:
		fakes[FAKE_LISTENER - FAKE_FIRST].count++;
		break;
	case STEP_TIME:
		n = take();
		fake_now_ms += n * n;
		break;
	case STEP_RULES:
		workers_rules(workers, rules[take() % NR(rules)]);
		break;
	case STEP_DRAIN:
		n = take();
		workers_drain(workers, n * n);
		break;
	case STEP_NO_FILE:
		fake_no_file = take() % 8;
		break;
	case STEP_CLIENT_SAYS:
	case STEP_CLIENT_ASKS:
	case STEP_CLIENT_FILLS:
	case STEP_CLIENT_ENDS:
	case STEP_CLIENT_TAKES:
		by_far_end(what, FAKE_CLIENT);
		break;
	default:
		by_far_end(what, FAKE_SERVER);
	}
}

/* Times that the worker waits while nobody says anything any more, by when hours are over: time passes faster and faster. */
#define SILENCE 288

static void silence(int timeout)
{
	uint64_t more = 50ull << (script.idle / 16 < 17 ? script.idle / 16 : 17);

	if (timeout < 0 || !script.ends_itself || ++script.idle == SILENCE) {
		script.over = true;
		workers_drain(workers, 0);
	} else {
		fake_now_ms += (uint64_t)timeout > more ? (uint64_t)timeout : more;
	}
}

static void hook(int timeout)
{
	uint32_t byte = STEP_MORE;

	if (script.at == script.end && timeout)
		silence(timeout);
	while (script.at < script.end && byte & STEP_MORE) {
		byte = take();
		step((enum step)((byte & ~STEP_MORE) % STEP_NR));
	}
}

/* ---- the laws when all is over ---- */

static void nothing_is_taken(const struct lb *lb)
{
	for (uint32_t i = 0; i <= lb->cluster_mask; i++)
		for (const struct lb_cluster *c = lb->clusters[i]; c; c = c->next) {
			for (int k = 0; k < LB_LIMIT_NR; k++)
				MUST(!c->taken[k]);
			for (uint32_t k = 0; k <= c->host_mask; k++)
				for (const struct host *h = c->hosts[k]; h; h = h->next)
					MUST(!h->pub.active && !h->pub.conns);
		}
}

static void make_hellos(void)
{
	struct buf extensions = { 0 }, message = { 0 };

	hello_server_name(&extensions, STR("a.test"));
	for (size_t i = 0; i < NR(hellos) && !hellos[i].len; i++) {
		buf_clear(&message);
		hello_message(&message, i ? NULL : &extensions);
		hello_records(&hellos[i], &message, 100);
	}
	buf_release(&extensions);
	buf_release(&message);
}

static void load_rules(void)
{
	for (size_t i = 0; i < NR(texts) && !rules[i]; i++) {
		struct buf image = { 0 }, err = { 0 };

		if (rules_build(str_of(texts[i]), 80, &image, &err))
			rules[i] = http_rules_load(image.data, image.len, NULL, NULL, &err);
		if (!rules[i])
			fprintf(stderr, "%s\n", err.data);
		MUST(rules[i]);
	}
}

/* [settings] steps */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mesh_l7_stats *stats;
	struct worker_shared shared = { .log = { .fd = -1 } };
	int listener = FAKE_LISTENER;
	struct mesh_l7_worker *counts;

	if (size < 2)
		return 0;
	load_rules();
	make_hellos();
	if (!stats)
		stats = xcalloc(1, sizeof(*stats) + sizeof(stats->workers[0]));
	counts = &stats->workers[0];
	memset(counts, 0, offsetof(struct mesh_l7_worker, series));
	fake_begin();
	fake_hook = hook;
	fake_closed = closed;
	fake_room = data[0] & 1 ? 0 : 1 << 20;
	fake_connects = data[0] & 2;
	fake_backwards = data[0] & 4;
	shared.log.fd = data[0] & 8 ? 1 : -1;
	shared.bind_client = data[0] & 16;
	shared.stats = stats;
	shared.lb = lb_new();
	memset(&script, 0, sizeof(script));
	script.at = data + 1;
	script.end = data + size;
	script.ends_itself = data[0] & 32;
	MUST(!workers_start(&listener, 1, &shared, data[0] & 64 ? NULL : rules[0], &workers));
	fake_thread(fake_thread_arg);
	if (script.over && script.ends_itself)
		MUST(!counts->open);
	workers_free(workers);
	MUST(!counts->active && !counts->open && !counts->upstream_open && !fake_open());
	nothing_is_taken(shared.lb);
	lb_free(shared.lb);
	return 0;
}
