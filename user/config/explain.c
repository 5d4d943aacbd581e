/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What happens when a pod dials a host or address, and which rule says so. Reads a snapshot as the kernel reads its maps; knows no
 * documents.
 */
#include <errno.h>

#include "config/explain.h"
#include "mesh_abi.h"

struct asking {
	const struct snapshot *s;
	const struct client *client;
	struct str domain;
	uint16_t port;
	uint8_t proto;
	struct buf *text; /* never NULL */
	struct json *json;
};

static const char *proto_text(uint8_t proto)
{
	return proto == MESH_PROTO_UDP ? "udp" : "tcp";
}

/* ---- source ---- */

static const struct client *client_named(const struct snapshot *s, struct str ns, struct str name, uint32_t *ret_nr)
{
	const struct client *found = NULL;

	*ret_nr = 0;
	for (uint32_t i = 0; i < s->client_nr; i++) {
		const struct client *c = &s->clients[i];

		if (!str_eq(c->name, name) || (ns.len && !str_eq(c->ns, ns)))
			continue;
		++*ret_nr;
		if (!found || str_is(c->ns, "default"))
			found = c;
	}
	return found;
}

static const struct client *find_source(struct asking *q, struct str src)
{
	int slash = str_find(src, '/');
	const struct client *c;
	uint32_t nr, dot;

	if (slash >= 0)
		return client_named(q->s, str_sub(src, 0, (uint32_t)slash), str_sub(src, (uint32_t)slash + 1, src.len),
				    &nr);
	c = client_named(q->s, (struct str){ 0 }, src, &nr);
	if (c && nr > 1 && !str_is(c->ns, "default")) {
		buf_printf(q->text, "%u pods are named %.*s; write namespace/%.*s\n", nr, STR_ARG(src), STR_ARG(src));
		return NULL;
	}
	if (c)
		return c;
	for (dot = src.len; dot && src.p[dot - 1] != '.'; dot--)
		;
	return dot ? client_named(q->s, str_sub(src, dot, src.len), str_sub(src, 0, dot - 1), &nr) : NULL;
}

/* ---- destination ---- */

static const struct unit *unit_named(const struct asking *q, struct str host)
{
	const struct unit *best = NULL;

	for (uint32_t i = 0; i < q->s->unit_nr; i++) {
		const struct unit *u = q->s->units[i];
		bool wild = u->host.len && u->host.p[0] == '*';

		if (!str_eq(u->host, host) && !(wild && str_ends(host, str_sub(u->host, 1, u->host.len))))
			continue;
		if (str_eq(u->ns, q->client->ns) && str_eq(u->host, host))
			return u;
		if (!best || best->host.p[0] == '*')
			best = u;
	}
	return best;
}

/* "a", "a.ns", "a.ns.svc" and full names. */
static const struct unit *find_host(const struct asking *q, struct str dst)
{
	const struct unit *u = unit_named(q, dst);
	struct arena a = { 0 };

	if (!u && str_find(dst, '.') < 0)
		u = unit_named(q, arena_printf(&a, "%.*s.%.*s.svc.%.*s", STR_ARG(dst), STR_ARG(q->client->ns),
					       STR_ARG(q->domain)));
	if (!u)
		u = unit_named(q, arena_printf(&a, "%.*s.svc.%.*s", STR_ARG(dst), STR_ARG(q->domain)));
	if (!u)
		u = unit_named(q, arena_printf(&a, "%.*s.%.*s", STR_ARG(dst), STR_ARG(q->domain)));
	arena_release(&a);
	return u;
}

/* ---- one address ---- */

static const char *path_of(const struct asking *q, const struct u_row *r)
{
	if (q->client->host_network || !r || r->action == MESH_ABSENT)
		return "direct";
	return r->action == MESH_PASS ? "pass" : "kernel";
}

static const char *reason_of(const struct asking *q, const struct u_row *r)
{
	if (q->client->host_network)
		return "sockets on the node's own network are not touched";
	if (!r)
		return "no service: dialled directly, not touched";
	if (r->action == MESH_ABSENT)
		return "the service is not visible to this client: dialled directly, not touched";
	if (r->action == MESH_PASS)
		return "known service, passes through to the dialled address";
	if (!r->dest_nr)
		return "the rule has no destination: refused in the kernel, at connect()";
	return "balanced in the kernel, at connect()";
}

static const char *scope_of(const struct asking *q, const struct u_row *r)
{
	if (!q->client->scope)
		return "the view of clients without special visibility";
	if (r && r->scope)
		return "what namespace or labels of this client make it see";
	return "this client sees other rules elsewhere, here it sees what all see";
}

static double share(uint64_t weight, uint64_t sum)
{
	return sum ? 100.0 * (double)weight / (double)sum : 0;
}

static uint64_t endpoint_sum(const struct unit *u, const struct u_cluster *c)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < c->endpoint_nr; i++)
		sum += u->endpoints[c->endpoint + i].weight;
	return sum;
}

static void json_endpoint(struct asking *q, const struct unit *u, const struct u_endpoint *e, double part)
{
	char text[ADDR_TEXT_MAX];

	json_object(q->json);
	json_kstr(q->json, "ip", str_of(addr_text(&e->addr, text)));
	json_kuint(q->json, "port", e->port);
	json_kuint(q->json, "weight", e->weight);
	json_key(q->json, "share");
	json_double(q->json, part);
	json_kstr(q->json, "workload", e->workload ? u->workloads[e->workload - 1].text : STR(""));
	json_object_end(q->json);
}

static void say_dest(struct asking *q, const struct unit *u, const struct u_dest *d, uint64_t sum)
{
	const struct u_cluster *c = &u->clusters[d->cluster];
	uint64_t own = endpoint_sum(u, c);
	double part = share(d->weight, sum);
	char text[ADDR_TEXT_MAX];

	buf_printf(q->text, "  %6.2f%%  %.*s\n", part, STR_ARG(c->name));
	if (!c->endpoint_nr)
		buf_printf(q->text, "           no endpoint: this share is refused\n");
	if (q->json) {
		json_object(q->json);
		json_kstr(q->json, "cluster", c->name);
		json_kuint(q->json, "weight", d->weight);
		json_key(q->json, "share");
		json_double(q->json, part);
		json_key(q->json, "endpoints");
		json_array(q->json);
	}
	for (uint32_t i = 0; i < c->endpoint_nr; i++) {
		const struct u_endpoint *e = &u->endpoints[c->endpoint + i];
		double effective = part * share(e->weight, own) / 100;

		buf_printf(q->text, addr_is_v4(&e->addr) ? "           %6.2f%%  %s:%u" : "           %6.2f%%  [%s]:%u",
			   effective, addr_text(&e->addr, text), e->port);
		if (e->workload)
			buf_printf(q->text, "  %.*s", STR_ARG(u->workloads[e->workload - 1].text));
		buf_printf(q->text, "\n");
		if (q->json)
			json_endpoint(q, u, e, effective);
	}
	if (q->json) {
		json_array_end(q->json);
		json_object_end(q->json);
	}
}

static void say_rule(struct asking *q, const struct unit *u, const struct u_row *r)
{
	const struct u_origin *o = r && r->origin ? &u->origins[r->origin - 1] : NULL;

	if (o)
		buf_printf(q->text, "  rule: %.*s %.*s/%.*s, %.*s, %.*s:%u\n", STR_ARG(o->kind), STR_ARG(o->ns),
			   STR_ARG(o->name), STR_ARG(o->field), STR_ARG(o->file), o->line);
	else if (r && r->action != MESH_ABSENT)
		buf_printf(q->text, "  rule: none; the default of %.*s %.*s/%.*s, %.*s:%u\n", STR_ARG(u->source_kind),
			   STR_ARG(u->ns), STR_ARG(u->host), STR_ARG(u->file), u->line);
	if (!q->json)
		return;
	json_key(q->json, "rule");
	if (!o) {
		json_null(q->json);
		return;
	}
	json_object(q->json);
	json_kstr(q->json, "kind", o->kind);
	json_kstr(q->json, "namespace", o->ns);
	json_kstr(q->json, "name", o->name);
	json_kstr(q->json, "field", o->field);
	json_kstr(q->json, "file", o->file);
	json_kuint(q->json, "line", o->line);
	json_kuint(q->json, "column", o->column);
	json_object_end(q->json);
}

static void json_head(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r)
{
	char text[ADDR_TEXT_MAX];

	json_object(q->json);
	json_kstr(q->json, "ip", str_of(addr_text(addr, text)));
	json_kstr(q->json, "host", u ? u->host : STR(""));
	json_kstr(q->json, "namespace", u ? u->ns : STR(""));
	json_kstr(q->json, "kind", u ? u->source_kind : STR(""));
	json_kstr(q->json, "path", str_of(path_of(q, r)));
	json_kstr(q->json, "reason", str_of(reason_of(q, r)));
	json_kbool(q->json, "per_connection", r && r->http_per_connection);
	json_key(q->json, "scope");
	json_object(q->json);
	json_kuint(q->json, "client", q->client->scope);
	json_kuint(q->json, "row", r ? r->scope : 0);
	json_kstr(q->json, "reason", str_of(scope_of(q, r)));
	json_object_end(q->json);
}

/* What the kernel finds at one address; u is NULL when it finds nothing. */
static void say_address(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r)
{
	bool balanced = r && r->action == MESH_ROUTE && !q->client->host_network;
	char text[ADDR_TEXT_MAX];
	uint64_t sum = 0;

	buf_printf(q->text, addr_is_v4(addr) ? "%.*s/%.*s -> %s:%u/%s" : "%.*s/%.*s -> [%s]:%u/%s",
		   STR_ARG(q->client->ns), STR_ARG(q->client->name), addr_text(addr, text), q->port,
		   proto_text(q->proto));
	if (u)
		buf_printf(q->text, " (%.*s %.*s/%.*s)", STR_ARG(u->source_kind), STR_ARG(u->ns), STR_ARG(u->host));
	buf_printf(q->text, "\n  %s\n", reason_of(q, r));
	if (q->json)
		json_head(q, u, addr, r);
	say_rule(q, u, r);
	if (balanced && r->http_per_connection)
		buf_printf(q->text, "  http weights are balanced per connection for now, not per request\n");
	if (r)
		buf_printf(q->text, "  scope %u of %u: %s\n", q->client->scope, q->s->scope_nr, scope_of(q, r));
	if (q->json) {
		json_key(q->json, "destinations");
		json_array(q->json);
	}
	for (uint32_t i = 0; balanced && i < r->dest_nr; i++)
		sum += u->dests[r->dest + i].weight;
	for (uint32_t i = 0; balanced && i < r->dest_nr; i++)
		say_dest(q, u, &u->dests[r->dest + i], sum);
	if (q->json) {
		json_array_end(q->json);
		json_key(q->json, "notes");
		json_array(q->json);
	}
	for (uint32_t i = 0; u && i < u->note_nr; i++) {
		buf_printf(q->text, "  note: %.*s\n", STR_ARG(u->notes[i]));
		if (q->json)
			json_str(q->json, u->notes[i]);
	}
	if (q->json) {
		json_array_end(q->json);
		json_object_end(q->json);
	}
}

/* ---- all addresses of a host ---- */

static void list_ports(struct asking *q, const struct unit *u)
{
	uint32_t said = 0;

	for (uint32_t i = 0; i < u->row_nr; i++) {
		const struct u_row *r = &u->rows[i];
		bool again = false;

		for (uint32_t k = 0; k < i && !again; k++)
			again = u->rows[k].port == r->port && u->rows[k].proto == r->proto;
		if (!again)
			buf_printf(q->text, "%s%u/%s", said++ ? ", " : "; it has ", r->port, proto_text(r->proto));
	}
	buf_printf(q->text, "\n");
	for (uint32_t i = 0; i < u->note_nr; i++)
		buf_printf(q->text, "  note: %.*s\n", STR_ARG(u->notes[i]));
}

static bool has_port(const struct asking *q, const struct unit *u)
{
	for (uint32_t i = 0; i < u->row_nr; i++)
		if (u->rows[i].port == q->port && u->rows[i].proto == q->proto)
			return true;
	return false;
}

static int explain_host(struct asking *q, const struct unit *u)
{
	if (!has_port(q, u)) {
		buf_printf(q->text, "%.*s %.*s/%.*s has no address with port %u/%s", STR_ARG(u->source_kind),
			   STR_ARG(u->ns), STR_ARG(u->host), q->port, proto_text(q->proto));
		list_ports(q, u);
		return -ENOENT;
	}
	for (uint32_t i = 0; i < u->row_nr; i++) {
		const struct u_row *r = &u->rows[i];
		const struct unit *other = u;
		bool again = false;

		if (r->port != q->port || r->proto != q->proto)
			continue;
		for (uint32_t k = 0; k < i && !again; k++)
			again = u->rows[k].port == r->port && u->rows[k].proto == r->proto &&
				!addr_cmp(&u->rows[k].addr, &r->addr);
		if (again)
			continue;
		r = snapshot_find(q->s, q->client->scope, &r->addr, q->port, q->proto, &other);
		say_address(q, r ? other : NULL, &u->rows[i].addr, r);
	}
	return 0;
}

static int explain_to(struct asking *q, struct str dst)
{
	const struct unit *u = NULL;
	const struct u_row *r;
	struct addr addr;

	if (addr_parse(dst, &addr)) {
		r = snapshot_find(q->s, q->client->scope, &addr, q->port, q->proto, &u);
		say_address(q, u, &addr, r);
		return 0;
	}
	u = find_host(q, dst);
	if (u)
		return explain_host(q, u);
	buf_printf(q->text, "no Service or ServiceEntry has host %.*s, seen from namespace %.*s\n", STR_ARG(dst),
		   STR_ARG(q->client->ns));
	return -ENOENT;
}

int explain(const struct snapshot *s, const struct snapshot_options *opts, struct str src, struct str dst,
	    uint16_t port, uint8_t proto, struct buf *text, struct json *json)
{
	struct buf own = { 0 };
	struct asking q = { .s = s,
			    .domain = opts->cluster_domain.len ? opts->cluster_domain : STR("cluster.local"),
			    .port = port,
			    .proto = proto,
			    .text = text ? text : &own,
			    .json = json };
	size_t before = q.text->len;
	int err = -ENOENT;

	q.client = find_source(&q, src);
	if (!q.client) {
		if (q.text->len == before)
			buf_printf(q.text, "no pod %.*s with an address\n", STR_ARG(src));
	}
	if (json) {
		json_object(json);
		json_kstr(json, "source_namespace", q.client ? q.client->ns : STR(""));
		json_kstr(json, "source_pod", q.client ? q.client->name : src);
		json_kstr(json, "source_service_account", q.client ? q.client->service_account : STR(""));
		json_kstr(json, "destination", dst);
		json_kuint(json, "port", port);
		json_kstr(json, "protocol", str_of(proto_text(proto)));
		json_key(json, "addresses");
		json_array(json);
	}
	if (q.client)
		err = explain_to(&q, dst);
	if (json) {
		json_array_end(json);
		json_object_end(json);
	}
	buf_release(&own);
	return err;
}
