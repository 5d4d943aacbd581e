/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packs the rules for requests of one unit as meshl7 reads them (mesh_http.h). The same rules and endpoints always make the same bytes.
 * The image's clusters are the unit's.
 */
#include <stdlib.h>

#include "config/resolve.h"
#include "mesh_http.h"

/* nr elements of `size` bytes, on 8 bytes. */
static struct mesh_ref put(struct buf *b, const void *v, size_t nr, size_t size)
{
	static const char zeros[8];
	struct mesh_ref ref = { 0 };

	if (!nr)
		return ref;
	buf_add(b, zeros, -b->len & 7);
	ref = (struct mesh_ref){ (uint32_t)b->len, (uint32_t)nr };
	buf_add(b, v, nr * size);
	return ref;
}

static struct mesh_ref put_text(struct buf *b, struct str s)
{
	struct mesh_ref ref = { (uint32_t)b->len, s.len };

	if (!s.len)
		return (struct mesh_ref){ 0 };
	buf_add(b, s.p, s.len);
	return ref;
}

static struct mesh_addr to_addr(const struct addr *a)
{
	struct mesh_addr out;

	memcpy(&out, a->b, sizeof(out));
	return out;
}

/* ---- matches ---- */

static struct mesh_http_text text_of(struct buf *b, const struct m_http_text *t)
{
	return (struct mesh_http_text){
		.kind = t->kind, .ignore_case = t->ignore_case, .invert = t->invert, .text = put_text(b, t->text)
	};
}

static struct mesh_ref put_named(struct buf *b, const struct m_http_named *v, uint32_t nr)
{
	struct mesh_http_named *out = xcalloc(nr + 1, sizeof(*out));
	struct mesh_ref ref;

	for (uint32_t i = 0; i < nr; i++) {
		out[i].name = put_text(b, v[i].name);
		out[i].value = text_of(b, &v[i].value);
	}
	ref = put(b, out, nr, sizeof(*out));
	free(out);
	return ref;
}

static struct mesh_ref put_match(struct buf *b, const struct m_http_match *m)
{
	struct mesh_http_match out = { 0 };

	if (!m)
		return (struct mesh_ref){ 0 };
	out.path = text_of(b, &m->path);
	out.method = text_of(b, &m->method);
	out.authority = text_of(b, &m->authority);
	out.scheme = text_of(b, &m->scheme);
	out.headers = put_named(b, m->headers, m->header_nr);
	out.queries = put_named(b, m->queries, m->query_nr);
	return put(b, &out, 1, sizeof(out));
}

/* ---- what is done ---- */

static struct mesh_ref put_fields(struct buf *b, const struct kvs *kvs)
{
	struct mesh_http_field *out = xcalloc(kvs->nr + 1, sizeof(*out));
	struct mesh_ref ref;

	for (uint32_t i = 0; i < kvs->nr; i++)
		out[i] = (struct mesh_http_field){ put_text(b, kvs->v[i].key), put_text(b, kvs->v[i].val) };
	ref = put(b, out, kvs->nr, sizeof(*out));
	free(out);
	return ref;
}

static struct mesh_http_fields fields_of(struct buf *b, const struct m_http_fields *f)
{
	struct mesh_ref *names = xcalloc(f->remove.nr + 1, sizeof(*names));
	struct mesh_http_fields out;

	for (uint32_t i = 0; i < f->remove.nr; i++)
		names[i] = put_text(b, f->remove.v[i]);
	out.remove = put(b, names, f->remove.nr, sizeof(*names));
	out.set = put_fields(b, &f->set);
	out.add = put_fields(b, &f->add);
	free(names);
	return out;
}

static struct mesh_http_rewrite rewrite_of(struct buf *b, const struct m_http_rewrite *r)
{
	return (struct mesh_http_rewrite){ .path = put_text(b, r->path),
					   .regex = put_text(b, r->regex),
					   .authority = put_text(b, r->authority),
					   .change = r->change };
}

static struct mesh_http_redirect redirect_of(struct buf *b, const struct m_http_redirect *r)
{
	return (struct mesh_http_redirect){ .to = rewrite_of(b, &r->to),
					    .scheme = put_text(b, r->scheme),
					    .status = r->status,
					    .port = r->port,
					    .port_kind = r->port_kind };
}

static struct mesh_ref put_mirrors(struct buf *b, const struct h_mirror *v, uint32_t nr)
{
	struct mesh_http_mirror *out = xcalloc(nr + 1, sizeof(*out));
	struct mesh_ref ref;

	for (uint32_t i = 0; i < nr; i++)
		out[i] = (struct mesh_http_mirror){ v[i].spec, v[i].share };
	ref = put(b, out, nr, sizeof(*out));
	free(out);
	return ref;
}

static struct mesh_http_retry retry_of(struct buf *b, const struct m_http_retry *r)
{
	return (struct mesh_http_retry){ .on = r->on,
					 .attempts = r->attempts,
					 .try_timeout_ms = r->try_timeout_ms,
					 .backoff_ms = r->backoff_ms,
					 .other_endpoints = r->other_endpoints,
					 .statuses = put(b, r->statuses, r->status_nr, sizeof(*r->statuses)) };
}

static struct mesh_http_cors cors_of(struct buf *b, const struct m_http_cors *c)
{
	struct mesh_http_text *origins = xcalloc(c->origin_nr + 1, sizeof(*origins));
	struct mesh_http_cors out = { .given = 1,
				      .credentials = c->credentials,
				      .forward_unmatched = c->forward_unmatched,
				      .has_max_age = c->has_max_age,
				      .max_age_s = c->max_age_s };
	struct mesh_ref texts[3];

	for (uint32_t i = 0; i < c->origin_nr; i++)
		origins[i] = text_of(b, &c->origins[i]);
	out.origins = put(b, origins, c->origin_nr, sizeof(*origins));
	free(origins);
	texts[0] = put_text(b, c->methods);
	texts[1] = put_text(b, c->headers);
	texts[2] = put_text(b, c->exposed);
	out.methods = put(b, &texts[0], texts[0].nr != 0, sizeof(*texts));
	out.headers = put(b, &texts[1], texts[1].nr != 0, sizeof(*texts));
	out.exposed = put(b, &texts[2], texts[2].nr != 0, sizeof(*texts));
	return out;
}

/* ---- routes ---- */

/* It stands in place of the route's: what it leaves alone is taken over. */
static struct mesh_http_rewrite dest_rewrite(struct buf *b, const struct h_route *r, const struct m_http_rewrite *own)
{
	struct m_http_rewrite w = *own;

	if (!r->rule || (!w.change && !w.authority.len))
		return rewrite_of(b, &w);
	if (!w.authority.len)
		w.authority = r->rule->rewrite.authority;
	if (!w.change) {
		w.change = r->rule->rewrite.change;
		w.path = r->rule->rewrite.path;
		w.regex = r->rule->rewrite.regex;
	}
	return rewrite_of(b, &w);
}

static struct mesh_ref put_dests(struct buf *b, const struct h_route *r, __u64 *ret_sum)
{
	struct mesh_http_dest *out = xcalloc(r->dest_nr + 1, sizeof(*out));
	struct mesh_ref ref;

	*ret_sum = 0;
	for (uint32_t i = 0; i < r->dest_nr; i++) {
		const struct h_dest *d = &r->dests[i];

		out[i].cluster = d->spec;
		out[i].weight = d->weight;
		*ret_sum += d->weight;
		out[i].mirrors = put_mirrors(b, d->mirrors, d->mirror_nr);
		if (!d->more)
			continue;
		out[i].request = fields_of(b, &d->more->request);
		out[i].response = fields_of(b, &d->more->response);
		out[i].rewrite = dest_rewrite(b, r, &d->more->rewrite);
		if (d->more->redirect) {
			struct mesh_http_redirect to = redirect_of(b, d->more->redirect);

			out[i].redirect = put(b, &to, 1, sizeof(to));
		}
	}
	ref = put(b, out, r->dest_nr, sizeof(*out));
	free(out);
	return ref;
}

static void add_rule(struct buf *b, const struct h_route *r, struct mesh_http_route *out)
{
	const struct m_http_rule *rule = r->rule;

	out->action = rule->action;
	out->rewrite = rewrite_of(b, &rule->rewrite);
	out->request = fields_of(b, &rule->request);
	out->response = fields_of(b, &rule->response);
	out->timeout_ms = rule->timeout_ms;
	out->fault = (struct mesh_http_fault){ .delay_ms = rule->fault.delay_ms,
					       .delay_share = rule->fault.delay_share,
					       .abort_share = rule->fault.abort_share,
					       .abort_status = rule->fault.abort_status };
	out->mirrors = put_mirrors(b, r->mirrors, r->mirror_nr);
	if (rule->cors)
		out->cors = cors_of(b, rule->cors);
	if (rule->action == MESH_HTTP_REDIRECT)
		out->redirect = redirect_of(b, &rule->redirect);
	out->direct_status = rule->direct_status;
	out->body = put_text(b, rule->body);
	out->body_type = put_text(b, rule->body_type);
}

static bool same_but_match(const struct h_route *a, const struct h_route *b)
{
	return a->rule == b->rule && str_eq(a->origin, b->origin) && str_eq(a->name, b->name);
}

/* Matches of one rule stand behind each other, and share everything else. A connection of TLS is not tried again. */
static struct mesh_ref put_routes(struct buf *b, const struct h_host *h, bool tls)
{
	struct mesh_http_route *out = xcalloc(h->route_nr + 1, sizeof(*out));
	struct mesh_ref ref;

	for (uint32_t i = 0; i < h->route_nr; i++) {
		const struct h_route *r = &h->routes[i];

		if (i && same_but_match(r, r - 1)) {
			out[i] = out[i - 1];
			out[i].matches = put_match(b, r->match);
			continue;
		}
		out[i].name = put_text(b, r->name);
		out[i].origin = put_text(b, r->origin);
		out[i].matches = put_match(b, r->match);
		out[i].dests = put_dests(b, r, &out[i].weight_sum);
		if (!tls)
			out[i].retry = retry_of(b, r->rule && r->rule->retry ? r->rule->retry : &http_retry_default);
		if (r->rule)
			add_rule(b, r, &out[i]);
	}
	ref = put(b, out, h->route_nr, sizeof(*out));
	free(out);
	return ref;
}

static struct mesh_ref put_tables(struct buf *b, const struct parts *p)
{
	struct mesh_http_table *out = xcalloc(p->table_nr + 1, sizeof(*out));
	struct mesh_ref ref;

	for (uint32_t i = 0; i < p->table_nr; i++) {
		const struct h_table *t = &p->tables[i];
		struct mesh_http_host *hosts = xcalloc(t->host_nr + 1, sizeof(*hosts));

		for (uint32_t k = 0; k < t->host_nr; k++) {
			hosts[k].name = put_text(b, t->hosts[k].name);
			hosts[k].routes = put_routes(b, &t->hosts[k], t->flags & MESH_HTTP_TLS);
		}
		out[i].hosts = put(b, hosts, t->host_nr, sizeof(*hosts));
		out[i].absent_status = 404;
		out[i].flags = t->flags;
		free(hosts);
	}
	ref = put(b, out, p->table_nr, sizeof(*out));
	free(out);
	return ref;
}

/* ---- clusters ---- */

static struct mesh_ref put_endpoints(struct buf *b, const struct unit *u, const struct u_cluster *c)
{
	struct mesh_http_endpoint *out = xcalloc(c->endpoint_nr + 1, sizeof(*out));
	struct mesh_ref ref;

	for (uint32_t i = 0; i < c->endpoint_nr; i++) {
		const struct u_endpoint *e = &u->endpoints[c->endpoint + i];

		out[i] = (struct mesh_http_endpoint){
			.addr = to_addr(&e->addr), .port = e->port, .level = e->level, .weight = e->weight
		};
		if (e->workload)
			out[i].workload = put_text(b, u->workloads[e->workload - 1].text);
	}
	ref = put(b, out, c->endpoint_nr, sizeof(*out));
	free(out);
	return ref;
}

static uint32_t limit(uint32_t n)
{
	return n ? n : UINT32_MAX;
}

static void fill_requests(struct buf *b, const struct balance *own, struct mesh_http_cluster *out)
{
	const struct m_http_hash *h = own->hash;
	const struct m_http_pool *p = own->requests;

	if (h) {
		out->lb = h->policy == LB_RING ? MESH_LB_RING : MESH_LB_MAGLEV;
		out->table_size = h->table_size;
		out->hash = h->kind;
		out->hash_name = put_text(b, h->name);
		out->hash_path = put_text(b, h->path);
		out->hash_has_ttl = h->has_ttl;
		out->hash_ttl_s = h->ttl_s;
	}
	if (!p)
		return;
	out->max_pending = limit(p->max_pending);
	out->max_requests = limit(p->max_requests);
	out->max_retries = limit(p->max_retries);
	out->max_requests_per_connection = p->max_per_connection;
	out->idle_timeout_ms = p->idle_timeout_ms;
}

static void fill_cluster(struct buf *b, const struct unit *u, const struct u_cluster *c, const struct spec *s,
			 struct mesh_http_cluster *out)
{
	static const uint8_t lbs[] = { [LB_LEAST_REQUEST] = MESH_LB_LEAST_REQUEST,
				       [LB_RANDOM] = MESH_LB_RANDOM,
				       [LB_ROUND_ROBIN] = MESH_LB_ROUND_ROBIN,
				       [LB_RING] = MESH_LB_RING,
				       [LB_MAGLEV] = MESH_LB_MAGLEV };
	const struct u_traffic *t = &c->traffic;

	out->name = put_text(b, c->name);
	out->host = put_text(b, s->host ? s->host->name : (struct str){ 0 });
	out->endpoints = put_endpoints(b, u, c);
	out->lb = lbs[t->lb];
	out->table_size = t->table_size;
	out->hash = t->table_size ? MESH_HASH_SOURCE : MESH_HASH_NONE;
	out->broken = !s->host;
	out->broken_status = s->host ? 0 : s->broken ? s->broken : 503;
	out->max_connections = t->max_connections;
	out->max_pending = out->max_requests = out->max_retries = UINT32_MAX;
	out->connect_timeout_ms = t->connect_timeout_ms;
	out->tcp_idle_ms = t->idle_timeout_ms;
	out->max_duration_ms = t->max_duration_ms;
	if (s->balance)
		fill_requests(b, s->balance, out);
	if (!t->outlier)
		return;
	out->outlier = 1;
	out->max_ejection_percent = t->max_ejection_percent;
	out->min_health_percent = t->min_health_percent;
	if (s->balance && s->balance->outlier) {
		out->consecutive_5xx = s->balance->outlier->errors_5xx;
		out->consecutive_gateway = s->balance->outlier->gateway_errors;
		out->consecutive_local = s->balance->outlier->local_failures;
	}
	out->interval_ms = t->interval_ms;
	out->base_ejection_ms = t->base_ejection_ms;
	out->max_ejection_ms = t->max_ejection_ms;
}

void http_image(const struct unit *u, const struct parts *p, struct buf *out)
{
	struct mesh_http_image head = { 0 };
	struct mesh_http_cluster *clusters = xcalloc(u->cluster_nr + 1, sizeof(*clusters));
	struct buf service = { 0 };

	buf_add(out, &head, sizeof(head));
	buf_printf(&service, "%.*s/%.*s", STR_ARG(u->ns), STR_ARG(u->host));
	head.service = put_text(out, (struct str){ service.data, (uint32_t)service.len });
	buf_release(&service);
	head.tables = put_tables(out, p);
	for (uint32_t i = 0; i < u->cluster_nr; i++)
		fill_cluster(out, u, &u->clusters[i], &p->specs[i], &clusters[i]);
	head.clusters = put(out, clusters, u->cluster_nr, sizeof(*clusters));
	free(clusters);
	buf_add(out, "\0\0\0\0\0\0\0", -out->len & 7);
	head.size = (uint32_t)out->len;
	memcpy(out->data, &head, sizeof(head));
}
