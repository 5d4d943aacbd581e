/* SPDX-License-Identifier: BSD-2-Clause */
/* Which table a connection meets, and which route and destination a request. */
#include "l7/check.h"

static const struct mesh_http_row *find_row(const struct http_rules *r, uint32_t scope, const struct mesh_addr *addr,
					    uint16_t port)
{
	const struct mesh_http_row *rows = (const void *)(r->base + r->http->rows.at);
	uint32_t from = 0, to = r->http->rows.nr;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;
		int rc = http_row_cmp(&rows[middle], scope, addr, port);

		if (!rc)
			return &rows[middle];
		if (rc < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return NULL;
}

static const struct mesh_http_client *find_client(const struct http_rules *r, const struct mesh_addr *addr)
{
	const struct mesh_http_client *clients = (const void *)(r->base + r->http->clients.at);
	uint32_t from = 0, to = r->http->clients.nr;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;
		int rc = memcmp(&clients[middle].addr, addr, sizeof(*addr));

		if (!rc)
			return &clients[middle];
		if (rc < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return NULL;
}

void http_place_find(const struct http_rules *r, const struct mesh_addr *client, const struct mesh_addr *dialled,
		     uint16_t dialled_port, struct http_place *ret)
{
	static const struct mesh_addr any;
	const struct mesh_addr *addrs[] = { dialled, &any };
	const struct mesh_http_row *row = NULL;
	uint32_t scope;

	*ret = (struct http_place){ .rules = r,
				    .client = find_client(r, client),
				    .client_addr = *client,
				    .dialled = *dialled,
				    .dialled_port = dialled_port };
	scope = ret->client ? ret->client->scope : MESH_SCOPE_OUTSIDE;
	for (int i = 0; i < 2 && !row; i++) {
		row = find_row(r, scope, addrs[i], dialled_port);
		if (!row && scope && !(scope & MESH_SCOPE_CLOSED))
			row = find_row(r, 0, addrs[i], dialled_port);
	}
	if (!row)
		return;
	ret->image = (const void *)(r->base + row->image);
	ret->table = (const struct mesh_http_table *)http_ref(ret->image, ret->image->tables) + row->table;
}

bool http_share(uint32_t share, uint64_t draw)
{
	return (uint64_t)((unsigned __int128)draw * MESH_HTTP_WHOLE >> 64) < share;
}

/* What matches ask of a request, found once. */
struct asked {
	const struct http_place *place;
	const struct http_request *rq;
	struct str path, query, method, authority;
	struct buf joined;
};

static bool holds(const struct asked *a, const struct mesh_http_text *t, struct str s)
{
	return t->kind == MESH_TEXT_ANY ||
	       text_matches(a->place->rules, t, http_text(a->place->image, t->text), s, s.len > 0);
}

static bool headers_hold(struct asked *a, struct mesh_ref ref)
{
	const struct mesh_http_named *n = http_ref(a->place->image, ref);

	for (uint32_t i = 0; i < ref.nr; i++) {
		struct str value = STR("");
		bool there = field_find(a->rq, http_text(a->place->image, n[i].name), &a->joined, &value);

		if (!text_matches(a->place->rules, &n[i].value, http_text(a->place->image, n[i].value.text), value,
				  there))
			return false;
	}
	return true;
}

static bool queries_hold(const struct asked *a, struct mesh_ref ref)
{
	const struct mesh_http_named *n = http_ref(a->place->image, ref);

	for (uint32_t i = 0; i < ref.nr; i++) {
		struct str value = STR("");
		bool there = query_find(a->query, http_text(a->place->image, n[i].name), &value);

		if (!text_matches(a->place->rules, &n[i].value, http_text(a->place->image, n[i].value.text), value,
				  there))
			return false;
	}
	return true;
}

/* Of an authority, with its port or without: a rule that names none means any. */
static bool authority_holds(const struct asked *a, const struct mesh_http_text *t)
{
	struct mesh_http_text plain = *t;
	bool either;

	if (t->kind == MESH_TEXT_ANY)
		return true;
	if (t->kind == MESH_TEXT_REGEX)
		return holds(a, t, a->authority);
	plain.invert = 0;
	either = holds(a, &plain, a->authority) || holds(a, &plain, authority_name(a->authority));
	return either != t->invert;
}

static bool match_holds(struct asked *a, const struct mesh_http_match *m)
{
	return holds(a, &m->path, a->path) && holds(a, &m->method, a->method) && authority_holds(a, &m->authority) &&
	       holds(a, &m->scheme, a->rq->scheme) && headers_hold(a, m->headers) && queries_hold(a, m->queries);
}

static void choose_dest(const struct http_place *place, uint64_t draw, struct http_choice *ret)
{
	const struct mesh_http_route *r = ret->route;
	const struct mesh_http_dest *d = http_ref(place->image, r->dests);
	uint64_t at;

	if (r->action == MESH_HTTP_REDIRECT)
		ret->redirect = &r->redirect;
	if (r->action != MESH_HTTP_FORWARD || !r->weight_sum)
		return;
	at = (uint64_t)((unsigned __int128)draw * r->weight_sum >> 64);
	while (at >= d->weight)
		at -= d++->weight;
	ret->dest = d;
	ret->cluster = (const struct mesh_http_cluster *)http_ref(place->image, place->image->clusters) + d->cluster;
	if (d->redirect.nr)
		ret->redirect = http_ref(place->image, d->redirect);
}

static const struct mesh_http_host *find_host(const struct http_place *place, struct str name)
{
	const struct http_rules *r = place->rules;

	return host_index_find(offset_map_get(&r->tables, offset_key(rules_offset(r, place->table), 0)), place->image,
			       place->table, name);
}

void http_choose_name(const struct http_place *place, struct str name, uint64_t draw, struct http_choice *ret)
{
	const struct mesh_http_host *host = find_host(place, name);

	*ret = (struct http_choice){ 0 };
	if (!host)
		return;
	ret->route = http_ref(place->image, host->routes);
	choose_dest(place, draw, ret);
}

void http_choose(const struct http_place *place, const struct http_request *rq, uint64_t draw, struct http_choice *ret)
{
	struct asked a = { .place = place, .rq = rq };
	const struct http_rules *r = place->rules;
	const struct route_entry *e;
	const struct mesh_http_host *host;
	struct candidates c;

	*ret = (struct http_choice){ 0 };
	if (!place->table)
		return;
	a.path = request_path(rq, &a.query);
	a.method = head_str(rq->p, rq->head->method);
	a.authority = head_str(rq->p, rq->head->authority);
	host = find_host(place, authority_name(a.authority));
	if (!host || !host->routes.nr)
		return;
	candidates_begin(&c,
			 offset_map_get(&r->routes, offset_key(rules_offset(r, http_ref(place->image, host->routes)),
							       host->routes.nr)),
			 a.path);
	while ((e = candidates_next(&c)))
		if (!e->match || match_holds(&a, e->match)) {
			ret->route = e->route;
			ret->match = e->match;
			choose_dest(place, draw, ret);
			break;
		}
	buf_release(&a.joined);
}
