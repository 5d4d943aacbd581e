/* SPDX-License-Identifier: BSD-2-Clause */
/* Metrics of meshl7: see parser_metrics.h. Names and labels are Istio's; a workload is a pod. */
#include "plane/parser_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

struct metric {
	char *texts; /* source, server and service; owned */
	uint16_t source_len, server_len, service_len, status;
	uint32_t flags, hash;
	uint64_t requests, duration_us, request_bytes, response_bytes;
	uint64_t buckets[MESH_STATS_BUCKETS];
};

static struct str source_of(const struct metric *m)
{
	return (struct str){ m->texts, m->source_len };
}

static struct str server_of(const struct metric *m)
{
	return (struct str){ m->texts + m->source_len, m->server_len };
}

static struct str service_of(const struct metric *m)
{
	return (struct str){ m->texts + m->source_len + m->server_len, m->service_len };
}

/* ---- sums ---- */

static bool same(const struct metric *a, const struct metric *b)
{
	return a->hash == b->hash && a->status == b->status && a->flags == b->flags && a->source_len == b->source_len &&
	       a->server_len == b->server_len && a->service_len == b->service_len &&
	       !memcmp(a->texts, b->texts, (size_t)a->source_len + a->server_len + a->service_len);
}

static void index_put(struct metrics *m, uint32_t item)
{
	uint32_t i = m->items[item].hash & (m->index_len - 1);

	while (m->index[i])
		i = (i + 1) & (m->index_len - 1);
	m->index[i] = item + 1;
}

static void grow(struct metrics *m)
{
	m->cap = m->cap ? m->cap * 2 : 64;
	m->items = xrealloc(m->items, m->cap * sizeof(*m->items));
	free(m->index);
	m->index_len = m->cap * 2;
	m->index = xcalloc(m->index_len, sizeof(*m->index));
	for (uint32_t i = 0; i < m->nr; i++)
		index_put(m, i);
}

/* The item of this key, which is complete but for its numbers; it is copied where it is new. */
static struct metric *find(struct metrics *m, const struct metric *key)
{
	size_t len = (size_t)key->source_len + key->server_len + key->service_len;
	struct metric *n;

	for (uint32_t i = key->hash; m->index_len; i++) {
		uint32_t at = m->index[i & (m->index_len - 1)];

		if (!at)
			break;
		if (same(&m->items[at - 1], key))
			return &m->items[at - 1];
	}
	if (m->nr == METRICS_MAX)
		return NULL;
	if (m->nr == m->cap)
		grow(m);
	n = &m->items[m->nr];
	*n = *key;
	n->texts = xmalloc(len + 1);
	memcpy(n->texts, key->texts, len);
	n->requests = n->duration_us = n->request_bytes = n->response_bytes = 0;
	memset(n->buckets, 0, sizeof(n->buckets));
	index_put(m, m->nr++);
	return n;
}

static void sum(struct metrics *m, const struct metric *from)
{
	struct metric nobody = { .texts = from->texts, .hash = 1 };
	struct metric *n = find(m, from);

	if (!n) {
		m->series_dropped += from->requests;
		/* Whoever came first has the place. */
		n = find(m, &nobody);
		if (!n)
			n = m->items;
	}
	n->requests += from->requests;
	n->duration_us += from->duration_us;
	n->request_bytes += from->request_bytes;
	n->response_bytes += from->response_bytes;
	for (uint32_t i = 0; i < MESH_STATS_BUCKETS; i++)
		n->buckets[i] += from->buckets[i];
}

static uint16_t put(char *to, uint32_t at, const char *text, uint16_t len)
{
	if (len > MESH_STATS_TEXT)
		len = MESH_STATS_TEXT;
	memcpy(to + at, text, len);
	return len;
}

/* `s` may change while it is read. */
static void add_series(struct metrics *m, const struct mesh_series *s)
{
	struct mesh_series copy = *(const volatile struct mesh_series *)s;
	char texts[3 * MESH_STATS_TEXT];
	struct metric n = { .texts = texts,
			    .status = copy.status,
			    .flags = copy.flags & ((1u << MESH_FLAG_NR) - 1),
			    .requests = copy.requests,
			    .duration_us = copy.duration_us,
			    .request_bytes = copy.request_bytes,
			    .response_bytes = copy.response_bytes };
	uint32_t len;

	if (!n.requests)
		return;
	memcpy(n.buckets, copy.buckets, sizeof(n.buckets));
	len = n.source_len = put(texts, 0, copy.source, copy.source_len);
	len += n.server_len = put(texts, len, copy.server, copy.server_len);
	len += n.service_len = put(texts, len, copy.service, copy.service_len);
	n.hash = (uint32_t)str_hash((struct str){ texts, len }) ^ (n.flags << 10 | n.status);
	sum(m, &n);
}

static uint64_t read_counter(const __u64 *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

void metrics_add(struct metrics *m, const struct mesh_l7_stats *s, uint32_t worker_nr, bool live)
{
	for (uint32_t i = 0; i < worker_nr; i++) {
		const struct mesh_l7_worker *w = &s->workers[i];
		uint32_t nr = __atomic_load_n(&w->series_nr, __ATOMIC_ACQUIRE);

		for (uint32_t k = 0; k < nr && k < MESH_STATS_SERIES; k++)
			add_series(m, &w->series[k]);
		m->accepted += read_counter(&w->accepted);
		m->refused += read_counter(&w->refused);
		m->refused_tls += read_counter(&w->refused_tls);
		m->tls += read_counter(&w->tls);
		m->tls_unrouted += read_counter(&w->tls_unrouted);
		m->log_dropped += read_counter(&w->log_dropped);
		m->series_dropped += read_counter(&w->series_dropped);
		if (!live)
			continue;
		m->open += read_counter(&w->open);
		m->upstream_open += read_counter(&w->upstream_open);
		m->active += read_counter(&w->active);
	}
}

void metrics_merge(struct metrics *m, const struct metrics *from)
{
	for (uint32_t i = 0; i < from->nr; i++)
		sum(m, &from->items[i]);
	m->accepted += from->accepted;
	m->refused += from->refused;
	m->refused_tls += from->refused_tls;
	m->tls += from->tls;
	m->tls_unrouted += from->tls_unrouted;
	m->log_dropped += from->log_dropped;
	m->series_dropped += from->series_dropped;
}

void metrics_release(struct metrics *m)
{
	for (uint32_t i = 0; i < m->nr; i++)
		free(m->items[i].texts);
	free(m->items);
	free(m->index);
	*m = (struct metrics){ 0 };
}

/* ---- text ---- */

static void add_label(struct buf *out, const char *name, struct str value)
{
	buf_printf(out, ",%s=\"", name);
	if (!value.len)
		value = STR("unknown");
	for (uint32_t i = 0; i < value.len; i++) {
		char c = value.p[i];

		if (c == '"' || c == '\\')
			buf_add(out, "\\", 1);
		else if (c < ' ' || c > '~')
			c = '?';
		buf_add(out, &c, 1);
	}
	buf_add(out, "\"", 1);
}

/* "namespace/name/serviceaccount" taken apart. */
struct workload {
	struct str ns, name, account;
};

static struct workload workload_of(struct str text)
{
	struct workload w = { 0 };
	int at = str_find(text, '/');

	if (at < 0)
		return w;
	w.ns = str_sub(text, 0, (uint32_t)at);
	text = str_sub(text, (uint32_t)at + 1, text.len);
	at = str_find(text, '/');
	if (at < 0)
		at = (int)text.len;
	w.name = str_sub(text, 0, (uint32_t)at);
	w.account = str_sub(text, (uint32_t)at + 1, text.len);
	return w;
}

static void add_workload(struct buf *out, const char *side, struct str text, struct str trust_domain)
{
	struct workload w = workload_of(text);
	struct buf value = { 0 };
	char name[64];

	snprintf(name, sizeof(name), "%s_workload", side);
	add_label(out, name, w.name);
	snprintf(name, sizeof(name), "%s_workload_namespace", side);
	add_label(out, name, w.ns);
	snprintf(name, sizeof(name), "%s_principal", side);
	if (w.account.len)
		buf_printf(&value, "spiffe://%.*s/ns/%.*s/sa/%.*s", STR_ARG(trust_domain), STR_ARG(w.ns),
			   STR_ARG(w.account));
	add_label(out, name, (struct str){ value.data, (uint32_t)value.len });
	buf_release(&value);
}

static void add_flags(struct buf *out, uint32_t flags)
{
#define X(name, text) text,
	static const char *const texts[] = { MESH_FLAGS(X) };
#undef X
	const char *between = "";

	buf_printf(out, ",response_flags=\"%s", flags ? "" : "-");
	for (uint32_t i = 0; i < MESH_FLAG_NR; i++) {
		if (!(flags & 1u << i))
			continue;
		buf_printf(out, "%s%s", between, texts[i]);
		between = ",";
	}
	buf_printf(out, "\"");
}

/* All labels of one, without braces. */
static void add_labels(struct buf *out, const struct metric *n, struct str trust_domain)
{
	struct str service = service_of(n), ns = { 0 }, host = service;
	int at = str_find(service, '/');

	if (at >= 0) {
		ns = str_sub(service, 0, (uint32_t)at);
		host = str_sub(service, (uint32_t)at + 1, service.len);
	}
	at = str_find(host, '.');
	buf_printf(out, "reporter=\"source\"");
	add_workload(out, "source", source_of(n), trust_domain);
	add_workload(out, "destination", server_of(n), trust_domain);
	add_label(out, "destination_service", host);
	add_label(out, "destination_service_name", at < 0 ? host : str_sub(host, 0, (uint32_t)at));
	add_label(out, "destination_service_namespace", ns);
	buf_printf(out, ",request_protocol=\"http\",response_code=\"%u\"", n->status);
	add_flags(out, n->flags);
	buf_printf(out, ",connection_security_policy=\"none\"");
}

static void add_histogram(struct buf *out, const struct metric *n, struct str labels)
{
#define X(label, us) label,
	static const char *const bounds[] = { MESH_STATS_BOUNDS(X) "+Inf" };
#undef X
	static const char name[] = "istio_request_duration_milliseconds";
	uint64_t below = 0;

	for (uint32_t i = 0; i < MESH_STATS_BUCKETS; i++) {
		below += n->buckets[i];
		buf_printf(out, "%s_bucket{%.*s,le=\"%s\"} %llu\n", name, STR_ARG(labels), bounds[i],
			   (unsigned long long)below);
	}
	buf_printf(out, "%s_sum{%.*s} %.3f\n", name, STR_ARG(labels), (double)n->duration_us / 1000);
	buf_printf(out, "%s_count{%.*s} %llu\n", name, STR_ARG(labels), (unsigned long long)below);
}

enum family { REQUESTS, DURATION, REQUEST_BYTES, RESPONSE_BYTES, FAMILY_NR };

static void add_family(const struct metrics *m, enum family f, struct str trust_domain, struct buf *out)
{
	static const char *const heads[FAMILY_NR] = {
		[REQUESTS] = "# HELP istio_requests_total Requests that are over.\n"
			     "# TYPE istio_requests_total counter\n",
		[DURATION] =
			"# HELP istio_request_duration_milliseconds From a request's first byte to its answer's last.\n"
			"# TYPE istio_request_duration_milliseconds histogram\n",
		[REQUEST_BYTES] = "# HELP istio_request_bytes Bytes of requests' bodies.\n"
				  "# TYPE istio_request_bytes summary\n",
		[RESPONSE_BYTES] = "# HELP istio_response_bytes Bytes of answers' bodies.\n"
				   "# TYPE istio_response_bytes summary\n",
	};
	struct buf labels = { 0 };

	buf_printf(out, "%s", heads[f]);
	for (uint32_t i = 0; i < m->nr; i++) {
		const struct metric *n = &m->items[i];
		const char *name = f == REQUEST_BYTES ? "istio_request_bytes" : "istio_response_bytes";
		struct str text;

		buf_clear(&labels);
		add_labels(&labels, n, trust_domain);
		text = (struct str){ labels.data, (uint32_t)labels.len };
		if (f == REQUESTS)
			buf_printf(out, "istio_requests_total{%.*s} %llu\n", STR_ARG(text),
				   (unsigned long long)n->requests);
		else if (f == DURATION)
			add_histogram(out, n, text);
		else
			buf_printf(out, "%s_sum{%.*s} %llu\n%s_count{%.*s} %llu\n", name, STR_ARG(text),
				   (unsigned long long)(f == REQUEST_BYTES ? n->request_bytes : n->response_bytes),
				   name, STR_ARG(text), (unsigned long long)n->requests);
	}
	buf_release(&labels);
}

static void add_single(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, type, name,
		   (unsigned long long)value);
}

void metrics_print(const struct metrics *m, struct str trust_domain, struct buf *out)
{
	for (enum family f = 0; f < FAMILY_NR; f++)
		add_family(m, f, trust_domain, out);
	add_single(out, "tulle_parser_accepted_total", "counter", "Connections that clients have opened.", m->accepted);
	add_single(out, "tulle_parser_refused_total", "counter",
		   "Connections that were closed since what came was no request, or no TLS where that is expected.",
		   m->refused);
	add_single(out, "tulle_parser_refused_tls_total", "counter",
		   "Of these, such as began with TLS at a port of HTTP.", m->refused_tls);
	add_single(out, "tulle_parser_tls_total", "counter",
		   "Connections of TLS that were passed on by the name that they ask for.", m->tls);
	add_single(out, "tulle_parser_tls_unrouted_total", "counter",
		   "Connections of TLS that were closed since no rule has the name that they ask for.",
		   m->tls_unrouted);
	add_single(out, "tulle_parser_connections", "gauge", "Connections of clients that are open.", m->open);
	add_single(out, "tulle_parser_upstream_connections", "gauge", "Connections to endpoints that are open.",
		   m->upstream_open);
	add_single(out, "tulle_parser_requests", "gauge", "Requests that are under way.", m->active);
	add_single(out, "tulle_parser_access_log_dropped_total", "counter",
		   "Lines of the access log that found no room.", m->log_dropped);
	add_single(out, "tulle_parser_series_dropped_total", "counter",
		   "Requests that are counted without their labels, because there are too many kinds.",
		   m->series_dropped);
}
