/* SPDX-License-Identifier: BSD-2-Clause */
/* Loading: every reference is followed once, and whatever does not hold together is refused before anybody trusts it. */
#include "l7/rules.h"

#include <stdlib.h>

#include "l7/check.h"

/* As rules may have them: each worker's memory depends on it. */
#define RING_SIZE_MAX 8388608u
#define MAGLEV_SIZE_MAX 5000011u

uint64_t http_rules_epoch(const struct http_rules *r)
{
	return r->http->epoch;
}

struct http_rules *http_rules_ref(struct http_rules *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

static void regexes_free(struct offset_map *m)
{
	for (uint32_t i = 0; m->slots && i <= m->mask; i++)
		regex_free(m->slots[i].value);
	free(m->slots);
}

void http_rules_unref(struct http_rules *r)
{
	if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) > 1)
		return;
	if (r->release)
		r->release(r->data);
	regexes_free(&r->regexes);
	free(r->tables.slots);
	free(r->routes.slots);
	free(r->images.slots);
	arena_release(&r->arena);
	free(r);
}

/* ---- clusters ---- */

/* The walks that fill a table of another size may never end. */
static bool prime(uint32_t n)
{
	for (uint32_t d = 2; d * d <= n; d++)
		if (n % d == 0)
			return false;
	return n > 1;
}

static bool check_cluster(struct check *k, const struct mesh_http_cluster *c)
{
	const struct mesh_http_endpoint *e = check_array(k, c->endpoints, sizeof(*e), 8, "endpoints");

	if (k->failed || !check_text(k, c->name, CHECK_ANY, "cluster") || !check_text(k, c->host, CHECK_HOST, "host"))
		return false;
	if (c->lb > MESH_LB_MAGLEV || c->hash > MESH_HASH_QUERY || c->hash_has_ttl > 1 || c->outlier > 1 ||
	    c->max_ejection_percent > 100 || c->min_health_percent > 100 || c->broken > 1)
		return check_refuse(k, "cluster", c->name.at);
	if ((c->lb == MESH_LB_RING && c->table_size > RING_SIZE_MAX) ||
	    (c->lb == MESH_LB_MAGLEV && (c->table_size > MAGLEV_SIZE_MAX || !prime(c->table_size))))
		return check_refuse(k, "size of a table", c->name.at);
	if (c->broken && (c->broken_status < 400 || c->broken_status > 599))
		return check_refuse(k, "status of a cluster", c->name.at);
	if (!check_text(k, c->hash_name,
			c->hash == MESH_HASH_HEADER || c->hash == MESH_HASH_COOKIE ? CHECK_TOKEN : CHECK_ANY,
			"what is hashed") ||
	    !check_text(k, c->hash_path, CHECK_VALUE, "cookie's path"))
		return false;
	for (uint32_t i = 0; i < c->endpoints.nr; i++)
		if (!e[i].port || !e[i].weight || (i && e[i].level < e[i - 1].level) ||
		    !check_text(k, e[i].workload, CHECK_ANY, "workload"))
			return check_refuse(k, "endpoint", c->endpoints.at);
	return true;
}

/* ---- routes ---- */

static bool check_fields(struct check *k, const struct mesh_http_fields *f)
{
	const struct mesh_http_field *sets[] = { check_array(k, f->set, sizeof(**sets), 4, "fields"),
						 check_array(k, f->add, sizeof(**sets), 4, "fields") };
	const uint32_t nrs[] = { f->set.nr, f->add.nr };

	if (!check_texts(k, f->remove, CHECK_FIELD, "field's name"))
		return false;
	for (uint32_t s = 0; s < 2; s++)
		for (uint32_t i = 0; i < nrs[s]; i++)
			if (!check_text(k, sets[s][i].name, CHECK_FIELD, "field's name") ||
			    !check_text(k, sets[s][i].value, CHECK_VALUE, "field's value"))
				return false;
	return true;
}

static bool check_named(struct check *k, struct mesh_ref ref, enum check_class names)
{
	const struct mesh_http_named *v = check_array(k, ref, sizeof(*v), 8, "matches of fields");

	for (uint32_t i = 0; !k->failed && i < ref.nr; i++)
		if (!check_text(k, v[i].name, names, "name") || !check_match_text(k, &v[i].value))
			return false;
	return !k->failed;
}

static bool check_match(struct check *k, const struct mesh_http_match *m)
{
	return check_match_text(k, &m->path) && check_match_text(k, &m->method) && check_match_text(k, &m->authority) &&
	       check_match_text(k, &m->scheme) && check_named(k, m->headers, CHECK_LOWER_TOKEN) &&
	       check_named(k, m->queries, CHECK_BYTES);
}

static bool check_rewrite(struct check *k, const struct mesh_http_rewrite *w)
{
	struct regex *re;

	if (w->change > MESH_PATH_REGEX)
		return check_refuse(k, "rewriting", w->path.at);
	if (!check_text(k, w->path, w->change == MESH_PATH_REGEX ? CHECK_REPLACEMENT : CHECK_TARGET, "path") ||
	    !check_text(k, w->regex, CHECK_ANY, "expression") || !check_text(k, w->authority, CHECK_HOST, "authority"))
		return false;
	if (w->change != MESH_PATH_REGEX)
		return true;
	re = check_regex(k, w, http_check_text(k, w->regex), false);
	if (!re)
		return false;
	if (!regex_replacement_ok(re, http_check_text(k, w->path), k->err))
		return check_refuse(k, "replacement", w->path.at);
	return true;
}

static bool check_redirect(struct check *k, const struct mesh_http_redirect *d)
{
	if (d->status < 300 || d->status > 399 || d->port_kind > MESH_PORT_REQUEST ||
	    (d->port_kind == MESH_PORT_GIVEN && !d->port))
		return check_refuse(k, "redirect", d->scheme.at);
	return check_rewrite(k, &d->to) && check_text(k, d->scheme, CHECK_SCHEME, "scheme");
}

static bool check_mirrors(struct check *k, struct mesh_ref ref)
{
	const struct mesh_http_mirror *m = check_array(k, ref, sizeof(*m), 4, "mirrors");

	for (uint32_t i = 0; !k->failed && i < ref.nr; i++)
		if (m[i].cluster >= k->image->clusters.nr || m[i].share > MESH_HTTP_WHOLE)
			return check_refuse(k, "mirror", ref.at);
	return !k->failed;
}

static bool check_dests(struct check *k, const struct mesh_http_route *r)
{
	const struct mesh_http_dest *d = check_array(k, r->dests, sizeof(*d), 8, "destinations");
	uint64_t sum = 0;

	for (uint32_t i = 0; !k->failed && i < r->dests.nr; i++) {
		const struct mesh_http_redirect *own =
			check_array(k, d[i].redirect, sizeof(*own), 8, "destination's redirect");

		sum += d[i].weight;
		if (!d[i].weight || d[i].cluster >= k->image->clusters.nr || d[i].redirect.nr > 1)
			return check_refuse(k, "destination", r->dests.at);
		if (!check_fields(k, &d[i].request) || !check_fields(k, &d[i].response) ||
		    !check_rewrite(k, &d[i].rewrite) || !check_mirrors(k, d[i].mirrors) ||
		    (d[i].redirect.nr && !check_redirect(k, own)))
			return false;
	}
	if (!k->failed && sum != r->weight_sum)
		return check_refuse(k, "sum of weights", r->dests.at);
	return !k->failed;
}

static bool check_cors(struct check *k, const struct mesh_http_cors *c)
{
	const struct mesh_http_text *o = check_array(k, c->origins, sizeof(*o), 4, "origins");

	if (k->failed || c->given > 1 || c->credentials > 1 || c->forward_unmatched > 1 || c->has_max_age > 1)
		return check_refuse(k, "CORS policy", c->origins.at);
	for (uint32_t i = 0; i < c->origins.nr; i++)
		if (!check_match_text(k, &o[i]))
			return false;
	return check_texts(k, c->methods, CHECK_VALUE, "methods") &&
	       check_texts(k, c->headers, CHECK_VALUE, "headers") &&
	       check_texts(k, c->exposed, CHECK_VALUE, "exposed headers");
}

static bool status_ok(uint16_t status)
{
	return status >= 200 && status <= 599;
}

static bool check_action(struct check *k, const struct mesh_http_route *r)
{
	const uint16_t *statuses = check_array(k, r->retry.statuses, sizeof(*statuses), 2, "statuses");

	if (k->failed || r->action > MESH_HTTP_DIRECT ||
	    (r->action == MESH_HTTP_DIRECT && !status_ok(r->direct_status)) || r->fault.delay_share > MESH_HTTP_WHOLE ||
	    r->fault.abort_share > MESH_HTTP_WHOLE || (r->fault.abort_share && !status_ok(r->fault.abort_status)))
		return check_refuse(k, "route", r->name.at);
	return r->action != MESH_HTTP_REDIRECT || check_redirect(k, &r->redirect);
}

static bool check_route(struct check *k, const struct mesh_http_route *r)
{
	const struct mesh_http_match *m = check_array(k, r->matches, sizeof(*m), 8, "matches");

	if (k->failed || !check_text(k, r->name, CHECK_BYTES, "route") ||
	    !check_text(k, r->origin, CHECK_ANY, "origin"))
		return false;
	for (uint32_t i = 0; i < r->matches.nr; i++)
		if (!check_match(k, &m[i]))
			return false;
	/* Nobody looks at its bytes: it costs nothing of the budget. */
	if (r->body.nr && (r->body.at > k->size || r->body.nr > k->size - r->body.at))
		return check_refuse(k, "body", r->body.at);
	return check_action(k, r) && check_dests(k, r) && check_rewrite(k, &r->rewrite) &&
	       check_text(k, r->body_type, CHECK_VALUE, "body's type") && check_fields(k, &r->request) &&
	       check_fields(k, &r->response) && check_mirrors(k, r->mirrors) && check_cors(k, &r->cors);
}

static bool check_routes(struct check *k, struct mesh_ref ref)
{
	const struct mesh_http_route *routes = check_array(k, ref, sizeof(*routes), 8, "routes");
	uint64_t key;

	if (k->failed || !ref.nr)
		return !k->failed;
	key = offset_key(rules_offset(k->rules, routes), ref.nr);
	if (offset_map_get(&k->rules->routes, key))
		return true;
	for (uint32_t i = 0; i < ref.nr; i++)
		if (!check_route(k, &routes[i]))
			return false;
	offset_map_put(&k->rules->routes, key, route_index_new(&k->rules->arena, k->image, ref));
	return true;
}

/* ---- images ---- */

/* A route of connections that nobody looks into. */
static bool only_sends(const struct check *k, struct mesh_ref routes)
{
	const struct mesh_http_route *r = (const void *)(k->base + routes.at);

	return routes.nr == 1 && !r->matches.nr && r->action == MESH_HTTP_FORWARD && !r->retry.attempts &&
	       !r->mirrors.nr && !r->fault.delay_share && !r->fault.abort_share && !r->timeout_ms;
}

static bool check_table(struct check *k, const struct mesh_http_table *t)
{
	const struct mesh_http_host *hosts = check_array(k, t->hosts, sizeof(*hosts), 4, "hosts");

	if (k->failed || (t->absent_status && !status_ok(t->absent_status)) ||
	    t->flags & ~(MESH_HTTP_EDGE | MESH_HTTP_TLS))
		return check_refuse(k, "table", t->hosts.at);
	for (uint32_t i = 0; i < t->hosts.nr; i++)
		if (!hosts[i].name.nr || !check_text(k, hosts[i].name, CHECK_LOWER, "host") ||
		    !check_routes(k, hosts[i].routes) || (t->flags & MESH_HTTP_TLS && !only_sends(k, hosts[i].routes)))
			return check_refuse(k, "host", t->hosts.at);
	offset_map_put(&k->rules->tables, offset_key(rules_offset(k->rules, t), 0),
		       host_index_new(&k->rules->arena, k->image, t));
	return true;
}

static bool check_image(struct check *whole, uint32_t at)
{
	const struct mesh_http_image *image = (const void *)(whole->base + at);
	struct check k = *whole;
	const struct mesh_http_table *tables;
	const struct mesh_http_cluster *clusters;

	if (at % 8 || at < sizeof(struct mesh_http) || whole->size < sizeof(*image) ||
	    at > whole->size - sizeof(*image) || image->size % 8 || image->size < sizeof(*image) ||
	    image->size > whole->size - at)
		return check_refuse(whole, "image", at);
	if (offset_map_get(&whole->rules->images, offset_key(at, 0)))
		return true;
	offset_map_put(&whole->rules->images, offset_key(at, 0), whole->rules);
	k.image = image;
	k.base = (const char *)image;
	k.size = image->size;
	tables = check_array(&k, image->tables, sizeof(*tables), 8, "tables");
	clusters = check_array(&k, image->clusters, sizeof(*clusters), 8, "clusters");
	check_text(&k, image->service, CHECK_ANY, "service");
	for (uint32_t i = 0; !k.failed && i < image->clusters.nr; i++)
		check_cluster(&k, &clusters[i]);
	for (uint32_t i = 0; !k.failed && i < image->tables.nr; i++)
		check_table(&k, &tables[i]);
	whole->budget = k.budget;
	whole->failed = k.failed;
	return !k.failed;
}

/* ---- the whole ---- */

static bool check_rows(struct check *k)
{
	const struct mesh_http *h = k->rules->http;
	const struct mesh_http_row *rows = check_array(k, h->rows, sizeof(*rows), 8, "rows");
	const struct mesh_http_client *clients = check_array(k, h->clients, sizeof(*clients), 8, "clients");

	for (uint32_t i = 0; !k->failed && i < h->rows.nr; i++) {
		if (i && http_row_cmp(&rows[i - 1], rows[i].scope, &rows[i].addr, rows[i].port) >= 0)
			return check_refuse(k, "order of rows", h->rows.at);
		if (!check_image(k, rows[i].image))
			return false;
		if (rows[i].table >= ((const struct mesh_http_image *)(k->base + rows[i].image))->tables.nr)
			return check_refuse(k, "table of a row", h->rows.at);
	}
	for (uint32_t i = 0; !k->failed && i < h->clients.nr; i++)
		if ((i && memcmp(&clients[i - 1].addr, &clients[i].addr, sizeof(clients->addr)) >= 0) ||
		    !check_text(k, clients[i].workload, CHECK_ANY, "workload"))
			return check_refuse(k, "client", h->clients.at);
	return !k->failed && check_text(k, h->domain, CHECK_ANY, "trust domain");
}

struct http_rules *http_rules_load(const void *p, size_t size, void (*release)(void *data), void *data, struct buf *err)
{
	const struct mesh_http *h = p;
	struct http_rules *r;
	struct check k;

	if ((uintptr_t)p % 8 || size < sizeof(*h) || size > UINT32_MAX || h->magic != MESH_HTTP_MAGIC ||
	    h->version != MESH_HTTP_VERSION || h->size != size) {
		buf_printf(err, "these are no compiled HTTP rules of this version");
		return NULL;
	}
	r = xcalloc(1, sizeof(*r));
	atomic_init(&r->refs, 1);
	r->base = p;
	r->http = h;
	k = (struct check){ .rules = r, .base = p, .size = size, .err = err, .budget = 1024 * (uint64_t)size };
	if (check_rows(&k) && check_policies(&k)) {
		r->release = release;
		r->data = data;
		return r;
	}
	http_rules_unref(r);
	return NULL;
}
