/* SPDX-License-Identifier: BSD-2-Clause */
#include "rules.h"

#include <stdio.h>

#include "http_image.h"

#define LIST_MAX 64
#define CLUSTERS_MAX 64
#define ROUTES_MAX 2048
#define HOSTS_MAX 32

struct making {
	struct image im;
	struct mesh_http_cluster clusters[CLUSTERS_MAX];
	char names[CLUSTERS_MAX][256];
	uint32_t cluster_nr;
	struct mesh_http_route routes[ROUTES_MAX];
	char hosts[ROUTES_MAX][256]; /* of each route */
	uint32_t route_nr;
	char denied[256]; /* port, or what paths begin with */
	bool denied_path;
	uint16_t flags; /* enum mesh_http_table_flag */
	struct buf *err;
};

/* The value of `key=` in a line of words, or NULL; `out` has room for 256 bytes. */
static char *value(struct str line, const char *key, char *out)
{
	uint32_t key_len = (uint32_t)strlen(key);

	for (uint32_t i = 0; i + key_len < line.len; i++) {
		uint32_t end = i + key_len + 1;

		if ((i && line.p[i - 1] != ' ') || memcmp(line.p + i, key, key_len) || line.p[i + key_len] != '=')
			continue;
		while (end < line.len && line.p[end] != ' ')
			end++;
		snprintf(out, 256, "%.*s", (int)(end - i - key_len - 1), line.p + i + key_len + 1);
		return out;
	}
	return NULL;
}

static uint32_t number(struct str line, const char *key, uint32_t otherwise)
{
	char text[256];

	return value(line, key, text) ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

static struct mesh_ref text_of(struct making *m, struct str line, const char *key)
{
	char text[256];

	return value(line, key, text) ? image_text(&m->im, text) : (struct mesh_ref){ 0 };
}

static int find_cluster(struct making *m, const char *name)
{
	for (uint32_t i = 0; i < m->cluster_nr; i++)
		if (!strcmp(m->names[i], name))
			return (int)i;
	buf_printf(m->err, "no cluster %s", name);
	return -1;
}

static bool add_cluster(struct making *m, struct str line)
{
	struct mesh_http_endpoint endpoints[LIST_MAX] = { 0 };
	struct mesh_http_cluster *c = &m->clusters[m->cluster_nr];
	char name[256], to[256], *rest = value(line, "to", to), *one;
	uint32_t nr = 0;

	if (!value(line, "name", name) || m->cluster_nr == CLUSTERS_MAX)
		return false;
	snprintf(m->names[m->cluster_nr], sizeof(m->names[0]), "%s", name);
	while (nr < LIST_MAX && (one = strsep(&rest, ","))) {
		struct str host;

		if (!addr_split_port(str_of(one), &host, &endpoints[nr].port))
			return false;
		one[host.p + host.len - one] = 0;
		endpoints[nr].addr = image_addr(host.p);
		endpoints[nr++].weight = 1;
	}
	*c = (struct mesh_http_cluster){ .name = image_text(&m->im, name),
					 .host = image_text(&m->im, name),
					 .lb = number(line, "lb", MESH_LB_LEAST_REQUEST),
					 .table_size = number(line, "table", 65537),
					 .max_connections = number(line, "max_connections", UINT32_MAX),
					 .max_pending = number(line, "max_pending", UINT32_MAX),
					 .max_requests = number(line, "max_requests", UINT32_MAX),
					 .max_retries = number(line, "max_retries", UINT32_MAX),
					 .max_requests_per_connection = number(line, "per_connection", 0),
					 .connect_timeout_ms = number(line, "connect_ms", 0),
					 .idle_timeout_ms = number(line, "idle_ms", 0),
					 .tcp_idle_ms = number(line, "tcp_idle_ms", 0),
					 .max_duration_ms = number(line, "duration_ms", 0) };
	if (value(line, "cookie", to)) {
		c->hash = MESH_HASH_COOKIE;
		c->hash_has_ttl = 1;
		c->hash_name = image_text(&m->im, to);
		c->hash_path = image_text(&m->im, "/");
	}
	c->endpoints = image_array(&m->im, endpoints, nr, sizeof(*endpoints));
	m->cluster_nr++;
	return true;
}

static bool add_dests(struct making *m, struct str line, struct mesh_http_route *r)
{
	struct mesh_http_dest dests[LIST_MAX] = { 0 };
	char to[256], *rest = value(line, "to", to), *one;
	uint32_t nr = 0;

	while (nr < LIST_MAX && (one = strsep(&rest, ","))) {
		char *colon = strchr(one, ':');
		int at;

		if (colon)
			*colon = 0;
		at = find_cluster(m, one);
		if (at < 0)
			return false;
		dests[nr].cluster = (uint32_t)at;
		dests[nr].weight = colon ? (uint32_t)atoi(colon + 1) : 1;
		r->weight_sum += dests[nr++].weight;
	}
	r->dests = image_array(&m->im, dests, nr, sizeof(*dests));
	return true;
}

static void add_retry(struct making *m, struct str line, struct mesh_http_route *r)
{
	uint16_t statuses[] = { (uint16_t)number(line, "statuses", 0) };

	r->retry = (struct mesh_http_retry){ .on = number(line, "on", 0),
					     .attempts = number(line, "retries", 0),
					     .try_timeout_ms = number(line, "try_ms", 0),
					     .backoff_ms = number(line, "backoff_ms", 1),
					     .other_endpoints = 1 };
	if (statuses[0])
		r->retry.statuses = IMAGE_ARRAY(&m->im, statuses);
}

static bool add_route(struct making *m, struct str line)
{
	struct mesh_http_route *r = &m->routes[m->route_nr];
	char text[256];

	if (m->route_nr == ROUTES_MAX)
		return false;
	snprintf(m->hosts[m->route_nr], sizeof(m->hosts[0]), "%s", value(line, "host", text) ? text : "*");
	*r = (struct mesh_http_route){ .timeout_ms = number(line, "timeout_ms", 0),
				       .direct_status = (uint16_t)number(line, "direct", 0) };
	r->name = text_of(m, line, "name");
	if (value(line, "path", text)) {
		struct mesh_http_match match = { .path = image_match(&m->im, MESH_TEXT_PREFIX, text) };

		r->matches = IMAGE_ONE(&m->im, &match);
	}
	if (value(line, "path_to", text)) {
		r->rewrite.change = MESH_PATH_PREFIX_TEXT;
		r->rewrite.path = image_text(&m->im, text);
	}
	if (r->direct_status) {
		r->action = MESH_HTTP_DIRECT;
		r->body = text_of(m, line, "body");
	} else if (number(line, "redirect", 0)) {
		r->action = MESH_HTTP_REDIRECT;
		r->redirect.status = (uint16_t)number(line, "redirect", 0);
		r->redirect.to.authority = text_of(m, line, "to_host");
	} else if (!add_dests(m, line, r)) {
		return false;
	}
	add_retry(m, line, r);
	if (number(line, "delay_ms", 0))
		r->fault = (struct mesh_http_fault){ .delay_ms = number(line, "delay_ms", 0),
						     .delay_share = MESH_HTTP_WHOLE };
	if (number(line, "abort", 0)) {
		r->fault.abort_share = MESH_HTTP_WHOLE;
		r->fault.abort_status = (uint16_t)number(line, "abort", 0);
	}
	if (value(line, "mirror", text)) {
		int at = find_cluster(m, text);
		struct mesh_http_mirror mirror = { .cluster = (uint32_t)at, .share = MESH_HTTP_WHOLE };

		if (at < 0)
			return false;
		r->mirrors = IMAGE_ONE(&m->im, &mirror);
	}
	m->route_nr++;
	return true;
}

/* Hosts in the order in which they are first named; "*" is the last of all. */
static struct mesh_ref hosts(struct making *m)
{
	struct mesh_http_host v[HOSTS_MAX] = { 0 };
	uint32_t nr = 0;

	for (int any = 0; any < 2; any++)
		for (uint32_t i = 0; i < m->route_nr && nr < HOSTS_MAX; i++) {
			const char *name = m->hosts[i];
			struct mesh_http_route *routes = calloc(m->route_nr, sizeof(*routes));
			uint32_t route_nr = 0;
			bool first = true;

			for (uint32_t k = 0; k < m->route_nr; k++) {
				if (strcmp(m->hosts[k], name))
					continue;
				first &= k >= i;
				routes[route_nr++] = m->routes[k];
			}
			if (first && any == !strcmp(name, "*")) {
				v[nr].name = image_text(&m->im, name);
				v[nr++].routes = image_array(&m->im, routes, route_nr, sizeof(*routes));
			}
			free(routes);
		}
	return image_array(&m->im, v, nr, sizeof(*v));
}

/* A policy of 127.0.0.1 that denies what is for the port or the paths. */
static void deny(const struct making *m, struct image *whole, struct mesh_http *h)
{
	struct mesh_http_text text = image_match(whole, m->denied_path ? MESH_TEXT_PREFIX : MESH_TEXT_EXACT, m->denied);
	struct mesh_http_test test = { .subject = m->denied_path ? MESH_SUBJECT_PATH : MESH_SUBJECT_PORT,
				       .any = IMAGE_ONE(whole, &text) };
	struct mesh_http_cond cond = { .tests = IMAGE_ONE(whole, &test) };
	struct mesh_http_clause clause = { .any = IMAGE_ONE(whole, &cond) };
	struct mesh_http_rule rule = { .clauses = IMAGE_ONE(whole, &clause) };
	struct mesh_http_policy policy = { .deny = 1, .name = image_text(whole, "ns/denied") };
	struct mesh_http_guard guard = { .addr = image_addr("127.0.0.1") };
	uint32_t first = 0;

	policy.rules = IMAGE_ONE(whole, &rule);
	guard.policies = IMAGE_ONE(whole, &first);
	h->policies = IMAGE_ONE(whole, &policy);
	h->guards = IMAGE_ONE(whole, &guard);
}

static void finish(struct making *m, uint16_t port, struct buf *out)
{
	struct mesh_http_table table = { .absent_status = 404, .hosts = hosts(m), .flags = m->flags };
	struct mesh_ref clusters = image_array(&m->im, m->clusters, m->cluster_nr, sizeof(*m->clusters));
	struct mesh_ref tables = IMAGE_ONE(&m->im, &table);
	struct mesh_http_row row = { .port = port };
	struct mesh_http h = { .epoch = 1 };
	struct image whole;

	image_end(&m->im, tables, clusters);
	image_whole_begin(&whole);
	row.image = image_array(&whole, m->im.b.data, (uint32_t)m->im.b.len, 1).at;
	h.rows = IMAGE_ONE(&whole, &row);
	if (*m->denied)
		deny(m, &whole, &h);
	image_whole_end(&whole, &m->im, h);
	buf_add(out, whole.b.data, whole.b.len);
	buf_release(&whole.b);
}

bool rules_build(struct str text, uint16_t port, struct buf *out, struct buf *err)
{
	struct making *m = calloc(1, sizeof(*m));
	bool ok = true;

	m->err = err;
	image_begin(&m->im);
	while (ok && text.len) {
		int end = str_find(text, '\n');
		struct str line = str_sub(text, 0, end < 0 ? text.len : (uint32_t)end);

		text = str_sub(text, line.len + 1, text.len);
		if (str_starts(line, STR("cluster ")))
			ok = add_cluster(m, line);
		else if (str_starts(line, STR("route ")))
			ok = add_route(m, line);
		else if (str_starts(line, STR("deny ")))
			ok = value(line, "port", m->denied) || (m->denied_path = value(line, "path", m->denied));
		else if (str_is(line, "tls"))
			m->flags = MESH_HTTP_TLS;
		else
			ok = !line.len;
		if (!ok)
			buf_printf(err, " in: %.*s", STR_ARG(line));
	}
	if (ok)
		finish(m, port, out);
	buf_release(&m->im.b);
	free(m);
	return ok;
}
