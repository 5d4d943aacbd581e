/* SPDX-License-Identifier: BSD-2-Clause */
/* Access log: see access_log.h. Quotes, backslashes and what is not printable ASCII are written as \xHH in the text format. */
#include "l7/access_log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/json.h"

#define ROOM (64u << 10)
#define FULL (16u << 10) /* from here on it is flushed */

struct access_log {
	struct access_sink *sink;
	struct stats *counts;
	struct buf lines; /* whole ones, oldest first */
	time_t second;	  /* of `date` */
	char date[32];	  /* "2026-01-02T03:04:05" */
};

struct access_log *access_log_new(struct access_sink *sink, struct stats *counts)
{
	struct access_log *l = xcalloc(1, sizeof(*l));

	l->sink = sink;
	l->counts = counts;
	l->second = -1;
	return l;
}

void access_log_free(struct access_log *l)
{
	if (!l)
		return;
	access_log_flush(l);
	buf_release(&l->lines);
	free(l);
}

/* ---- writing ---- */

static uint64_t count_lines(const char *p, size_t len)
{
	uint64_t nr = 0;

	for (const char *end = p + len; (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
		nr++;
	return nr;
}

/* Whole lines that a pipe takes at once or not at all, so that those of several workers do not mix; one line at least. */
static size_t portion(const char *p, size_t len)
{
	const char *end;

	if (len <= PIPE_BUF || !p)
		return len;
	end = memrchr(p, '\n', PIPE_BUF);
	if (!end)
		end = memchr(p, '\n', len);
	return (size_t)(end - p) + 1;
}

bool access_log_flush(struct access_log *l)
{
	int fd = atomic_load_explicit(&l->sink->fd, memory_order_relaxed);
	size_t done = 0;

	while (fd >= 0 && done < l->lines.len) {
		size_t len = portion(l->lines.data + done, l->lines.len - done);
		ssize_t n = write(fd, l->lines.data + done, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		/* A full disk, or a reader that is gone, is no reason to keep what will be old by the time it ends. */
		if (n < (ssize_t)len)
			stats_add(&stats_worker(l->counts)->log_dropped,
				  (int64_t)count_lines(l->lines.data + done, len));
		done += len;
	}
	if (fd < 0)
		done = l->lines.len;
	if (done < l->lines.len)
		memmove(l->lines.data, l->lines.data + done, l->lines.len - done);
	l->lines.len -= done;
	if (!l->lines.len)
		buf_release(&l->lines);
	return l->lines.len;
}

/* ---- an entry's texts ---- */

static struct str or_dash(struct str s)
{
	return s.len ? s : STR("-");
}

static bool is_plain(char c)
{
	return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

static void escaped(struct buf *out, struct str s)
{
	uint32_t from = 0;

	s = or_dash(s);
	for (uint32_t i = 0; i < s.len; i++) {
		if (is_plain(s.p[i]))
			continue;
		buf_add(out, s.p + from, i - from);
		buf_printf(out, "\\x%02X", (unsigned char)s.p[i]);
		from = i + 1;
	}
	buf_add(out, s.p + from, s.len - from);
}

static void quoted(struct buf *out, struct str s)
{
	buf_add(out, " \"", 2);
	escaped(out, s);
	buf_add(out, "\"", 1);
}

/* "2026-01-02T03:04:05.678Z" in out, which has 40 bytes. */
static struct str start_text(struct access_log *l, uint64_t ns, char *out)
{
	time_t second = (time_t)(ns / 1000000000);
	struct tm tm;

	if (second != l->second) {
		gmtime_r(&second, &tm);
		strftime(l->date, sizeof(l->date), "%Y-%m-%dT%H:%M:%S", &tm);
		l->second = second;
	}
	return (struct str){ out, (uint32_t)snprintf(out, 40, "%s.%03uZ", l->date, (unsigned)(ns / 1000000 % 1000)) };
}

#define PEER_MAX (ADDR_TEXT_MAX + 9)

static struct str peer_text(const struct mesh_addr *a, uint16_t port, char *out)
{
	char text[ADDR_TEXT_MAX];
	struct addr addr;
	int n;

	if (!port)
		return (struct str){ 0 };
	memcpy(addr.b, a, sizeof(addr.b));
	addr_text(&addr, text);
	n = snprintf(out, PEER_MAX, addr_is_v4(&addr) ? "%s:%u" : "[%s]:%u", text, port);
	return (struct str){ out, (uint32_t)n };
}

#define FLAGS_MAX 128

static struct str flags_text(uint32_t flags, char *out)
{
#define X(name, text) text,
	static const char *const texts[] = { MESH_FLAGS(X) };
#undef X
	uint32_t n = 0;

	for (uint32_t i = 0; i < MESH_FLAG_NR; i++) {
		if (!(flags & 1u << i))
			continue;
		n += (uint32_t)snprintf(out + n, FLAGS_MAX - n, "%s%s", n ? "," : "", texts[i]);
	}
	return (struct str){ out, n };
}

static struct str number_text(int64_t v, char *out)
{
	return (struct str){ out, v < 0 ? 0 : (uint32_t)snprintf(out, 24, "%lld", (long long)v) };
}

/* What is worked out of an entry for both formats. */
struct texts {
	struct str start, flags, upstream_ms, server, server_local, dialled, client;
	char start_p[40], flags_p[FLAGS_MAX], upstream_p[24], peer_p[4][PEER_MAX];
};

static void texts_make(struct access_log *l, const struct access_entry *e, struct texts *t)
{
	t->start = start_text(l, e->start_ns, t->start_p);
	t->flags = flags_text(e->flags, t->flags_p);
	t->upstream_ms = number_text(e->upstream_ms, t->upstream_p);
	t->server = peer_text(&e->server, e->server_port, t->peer_p[0]);
	t->server_local = peer_text(&e->server_local, e->server_local_port, t->peer_p[1]);
	t->dialled = peer_text(&e->dialled, e->dialled_port, t->peer_p[2]);
	t->client = peer_text(&e->client, e->client_port, t->peer_p[3]);
}

static void plain(struct buf *out, struct str s)
{
	buf_add(out, " ", 1);
	buf_str(out, or_dash(s));
}

/* The order is Istio's; what is always "-" is the connection's termination. */
static void as_text(struct buf *out, const struct access_entry *e, const struct texts *t)
{
	const struct str fields[] = { e->forwarded_for, e->user_agent, e->request_id, e->authority, t->server };
	const struct str ends[] = { e->cluster, t->server_local, t->dialled, t->client, e->server_name, e->route };

	buf_printf(out, "[%.*s] \"", STR_ARG(t->start));
	escaped(out, e->method);
	buf_add(out, " ", 1);
	escaped(out, e->path);
	if (e->tls)
		buf_printf(out, " -\" %u", e->status);
	else
		buf_printf(out, " HTTP/1.%u\" %u", e->minor, e->status);
	plain(out, t->flags);
	plain(out, e->details);
	plain(out, STR("-"));
	quoted(out, e->failure);
	buf_printf(out, " %llu %llu %llu", (unsigned long long)e->bytes_received, (unsigned long long)e->bytes_sent,
		   (unsigned long long)e->duration_ms);
	plain(out, t->upstream_ms);
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		quoted(out, fields[i]);
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		plain(out, ends[i]);
}

static void text_or_null(struct json *j, const char *key, struct str s)
{
	json_key(j, key);
	if (s.len)
		json_str(j, s);
	else
		json_null(j);
}

static void as_json(struct buf *out, const struct access_entry *e, const struct texts *t)
{
	char protocol[] = { 'H', 'T', 'T', 'P', '/', '1', '.', (char)('0' + e->minor % 10) };
	struct json j;

	json_init(&j, out);
	json_object(&j);
	json_kstr(&j, "start_time", t->start);
	text_or_null(&j, "method", e->method);
	text_or_null(&j, "path", e->path);
	text_or_null(&j, "protocol", e->tls ? STR("") : (struct str){ protocol, sizeof(protocol) });
	json_kuint(&j, "response_code", e->status);
	json_kstr(&j, "response_flags", or_dash(t->flags));
	text_or_null(&j, "response_code_details", e->details);
	text_or_null(&j, "connection_termination_details", STR(""));
	text_or_null(&j, "upstream_transport_failure_reason", e->failure);
	json_kuint(&j, "bytes_received", e->bytes_received);
	json_kuint(&j, "bytes_sent", e->bytes_sent);
	json_kuint(&j, "duration", e->duration_ms);
	text_or_null(&j, "upstream_service_time", t->upstream_ms);
	text_or_null(&j, "x_forwarded_for", e->forwarded_for);
	text_or_null(&j, "user_agent", e->user_agent);
	text_or_null(&j, "request_id", e->request_id);
	text_or_null(&j, "authority", e->authority);
	text_or_null(&j, "upstream_host", t->server);
	text_or_null(&j, "upstream_cluster", e->cluster);
	text_or_null(&j, "upstream_local_address", t->server_local);
	text_or_null(&j, "downstream_local_address", t->dialled);
	text_or_null(&j, "downstream_remote_address", t->client);
	text_or_null(&j, "requested_server_name", e->server_name);
	text_or_null(&j, "route_name", e->route);
	json_object_end(&j);
}

void access_log(struct access_log *l, const struct access_entry *e)
{
	struct texts t;
	size_t at;

	if (!access_log_wanted(l->sink))
		return;
	if (l->lines.len >= FULL)
		access_log_flush(l);
	at = l->lines.len;
	texts_make(l, e, &t);
	if (atomic_load_explicit(&l->sink->format, memory_order_relaxed) == MESH_L7_LOG_JSON)
		as_json(&l->lines, e, &t);
	else
		as_text(&l->lines, e, &t);
	buf_add(&l->lines, "\n", 1);
	if (l->lines.len <= ROOM)
		return;
	l->lines.len = at;
	stats_add(&stats_worker(l->counts)->log_dropped, 1);
}
