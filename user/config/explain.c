/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What happens when a client dials a host or address, and which rule says so. Reads a snapshot as the kernel reads its maps; knows no
 * documents.
 */
#include <errno.h>
#include <stdlib.h>

#include "config/explain_local.h"

#define NAMES_MAX 4096 /* among which a name that was mistyped is looked for */

/* Where the row of a NodePort is, by "is IPv4": :: and 0.0.0.0 stand for the node's own addresses of the family. */
static const struct addr node_any[2] = { { { 0 } }, { { [10] = 0xff, [11] = 0xff } } };

static bool is_any(const struct addr *a)
{
	return !addr_cmp(a, &node_any[addr_is_v4(a)]);
}

static const char *proto_text(uint8_t proto)
{
	return proto == MESH_PROTO_UDP ? "udp" : "tcp";
}

void add_socket(struct buf *out, const struct addr *addr, uint16_t port)
{
	char text[ADDR_TEXT_MAX];

	buf_printf(out, addr_is_v4(addr) ? "%s:%u" : "[%s]:%u", addr_text(addr, text), port);
}

/* ---- source ---- */

static bool has_ip(const struct client *c, const struct addr *addr)
{
	for (uint32_t i = 0; i < c->ip_nr; i++)
		if (!addr_cmp(&c->ips[i], addr))
			return true;
	return false;
}

const struct client *client_at(const struct snapshot *s, const struct addr *addr)
{
	for (uint32_t i = 0; i < s->client_nr; i++)
		if (!s->clients[i].host_network && has_ip(&s->clients[i], addr))
			return &s->clients[i];
	return NULL;
}

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

static const struct client *find_pod(struct asking *q, struct str src)
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

static const struct client *find_source(struct asking *q, struct str src)
{
	const struct client *c;

	if (!addr_parse(src, &q->outside_ip))
		return find_pod(q, src);
	c = client_at(q->s, &q->outside_ip);
	if (c)
		return c;
	q->outside = (struct client){ .name = src, .ips = &q->outside_ip, .ip_nr = 1, .scope = MESH_SCOPE_OUTSIDE };
	return &q->outside;
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

static const char *path_of(const struct asking *q, const struct addr *addr, const struct u_row *r)
{
	if (access_unknown(q, addr, r))
		return "refused";
	if (q->client->host_network || !r || r->action == MESH_ABSENT)
		return "direct";
	if (r->l7)
		return "l7";
	return r->action == MESH_PASS ? "pass" : "kernel";
}

static const char *reason_of(const struct asking *q, const struct addr *addr, const struct u_row *r)
{
	if (access_unknown(q, addr, r))
		return "no service, and this client may reach only what the rules know: refused";
	if (q->client->host_network)
		return "sockets on the node's own network are not touched";
	if (!r && q->client->sidecar && q->client->scope & MESH_SCOPE_CLOSED)
		return "no service that the client's Sidecar shows: dialled directly, not touched";
	if (!r)
		return "no service: dialled directly, not touched";
	if (r->action == MESH_ABSENT)
		return q->client->sidecar ? "the service is not visible to this client, by its Sidecar or by exportTo: "
					    "dialled directly, not touched"
					  : "the service is not visible to this client: dialled directly, not touched";
	if (r->action == MESH_PASS)
		return "known service, passes through to the dialled address";
	if (r->l7)
		return "routed per request by meshl7";
	if (is_outside(q))
		return r->dest_nr ? "balanced in the kernel, where it enters the node"
				  : "the rule has no destination: refused in the kernel, where it enters the node";
	if (!r->dest_nr)
		return "the rule has no destination: refused in the kernel, at connect()";
	return "balanced in the kernel, at connect()";
}

static const char *scope_of(const struct asking *q, const struct u_row *r)
{
	if (!q->client->scope)
		return "the view of clients without special visibility";
	if (is_outside(q))
		return "the view of clients that come in by the node's links";
	if (r && r->scope)
		return "what namespace or labels of this client make it see";
	return "this client sees other rules elsewhere, here it sees what all see";
}

static double share(uint64_t weight, uint64_t sum)
{
	return sum ? 100.0 * (double)weight / (double)sum : 0;
}

/* Of those that go first. */
static uint64_t endpoint_sum(const struct unit *u, const struct u_cluster *c)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < c->endpoint_nr && !u->endpoints[c->endpoint + i].level; i++)
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
	json_kstr(q->json, "locality", e->locality ? u->localities[e->locality - 1] : STR(""));
	json_kuint(q->json, "level", e->level);
	json_kbool(q->json, "draining", e->draining);
	json_kstr(q->json, "checked_by", e->probe ? u->probes[e->probe - 1].group : STR(""));
	json_object_end(q->json);
}

static void say_endpoint(struct asking *q, const struct unit *u, const struct u_endpoint *e, double part)
{
	if (e->draining)
		buf_printf(q->text, "           draining ");
	else if (e->level)
		buf_printf(q->text, "           level %u  ", e->level);
	else
		buf_printf(q->text, "           %6.2f%%  ", part);
	add_socket(q->text, &e->addr, e->port);
	if (e->workload)
		buf_printf(q->text, "  %.*s", STR_ARG(u->workloads[e->workload - 1].text));
	if (e->locality)
		buf_printf(q->text, "  %.*s", STR_ARG(u->localities[e->locality - 1]));
	if (e->probe)
		buf_printf(q->text, "  checked by WorkloadGroup %.*s", STR_ARG(u->probes[e->probe - 1].group));
	buf_printf(q->text, "\n");
	if (q->json)
		json_endpoint(q, u, e, part);
}

/* The rule that something comes from; NULL: no rule. */
static void json_origin(struct json *j, const char *key, const struct u_origin *o)
{
	json_key(j, key);
	if (!o) {
		json_null(j);
		return;
	}
	json_object(j);
	json_kstr(j, "kind", o->kind);
	json_kstr(j, "namespace", o->ns);
	json_kstr(j, "name", o->name);
	json_kstr(j, "field", o->field);
	json_kstr(j, "file", o->file);
	json_kuint(j, "line", o->line);
	json_kuint(j, "column", o->column);
	json_object_end(j);
}

/* How its connections are balanced, where somebody says so. JSON: the keys "policy" and "policy_rule", in any case. */
static void say_traffic(struct asking *q, const struct unit *u, const struct u_traffic *t)
{
	const struct u_origin *o = t->origin ? &u->origins[t->origin - 1] : NULL;

	if (!traffic_is_default(t)) {
		buf_printf(q->text, "           ");
		traffic_print(t, q->text);
		if (o)
			buf_printf(q->text, "\n           by %.*s %.*s/%.*s, %.*s, %.*s:%u", STR_ARG(o->kind),
				   STR_ARG(o->ns), STR_ARG(o->name), STR_ARG(o->field), STR_ARG(o->file), o->line);
		buf_printf(q->text, "\n");
	}
	if (!q->json)
		return;
	json_key(q->json, "policy");
	traffic_json(t, q->json);
	json_origin(q->json, "policy_rule", o);
}

void say_dest(struct asking *q, const struct unit *u, const struct u_dest *d, uint64_t sum)
{
	const struct u_cluster *c = &u->clusters[d->cluster];
	uint64_t own = endpoint_sum(u, c);
	double part = share(d->weight, sum);

	buf_printf(q->text, "  %6.2f%%  %.*s\n", part, STR_ARG(c->name));
	if (c->elsewhere)
		buf_printf(q->text,
			   "           no endpoint on this node, and its traffic policy is Local: this share is %s\n",
			   is_outside(q) ? "dropped" : "refused");
	else if (!c->endpoint_nr)
		buf_printf(q->text, "           no endpoint: this share is refused\n");
	if (q->json) {
		json_object(q->json);
		json_kstr(q->json, "cluster", c->name);
		json_kuint(q->json, "weight", d->weight);
		json_key(q->json, "share");
		json_double(q->json, part);
	}
	say_traffic(q, u, &c->traffic);
	if (q->json) {
		json_key(q->json, "endpoints");
		json_array(q->json);
	}
	for (uint32_t i = 0; i < c->endpoint_nr + c->draining_nr; i++) {
		const struct u_endpoint *e = &u->endpoints[c->endpoint + i];

		say_endpoint(q, u, e, e->level || e->draining ? 0 : part * share(e->weight, own) / 100);
	}
	if (q->json) {
		json_array_end(q->json);
		json_object_end(q->json);
	}
}

/* The Sidecar that says what the client sees. */
static void say_sidecar(struct asking *q)
{
	const struct u_policy *s = q->client->sidecar;

	if (s)
		buf_printf(q->text, "  Sidecar of the client: %.*s/%.*s, %.*s:%u\n", STR_ARG(s->ns), STR_ARG(s->name),
			   STR_ARG(s->file), s->line);
	if (!q->json)
		return;
	json_key(q->json, "sidecar");
	if (!s) {
		json_null(q->json);
		return;
	}
	json_object(q->json);
	json_kstr(q->json, "namespace", s->ns);
	json_kstr(q->json, "name", s->name);
	json_kstr(q->json, "file", s->file);
	json_kuint(q->json, "line", s->line);
	json_object_end(q->json);
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
	if (q->json)
		json_origin(q->json, "rule", o);
}

static void json_head(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r)
{
	char text[ADDR_TEXT_MAX];

	json_object(q->json);
	json_kstr(q->json, "ip", str_of(addr_text(addr, text)));
	json_kstr(q->json, "host", u ? u->host : STR(""));
	json_kstr(q->json, "namespace", u ? u->ns : STR(""));
	json_kstr(q->json, "kind", u ? u->source_kind : STR(""));
	json_kstr(q->json, "path", str_of(path_of(q, addr, r)));
	json_kstr(q->json, "reason", str_of(reason_of(q, addr, r)));
	json_kbool(q->json, "per_connection", r && r->http_per_connection);
	json_key(q->json, "scope");
	json_object(q->json);
	json_kuint(q->json, "client", q->client->scope & ~MESH_SCOPE_CLOSED);
	json_kuint(q->json, "row", r ? r->scope & ~MESH_SCOPE_CLOSED : 0);
	json_kstr(q->json, "reason", str_of(scope_of(q, r)));
	json_object_end(q->json);
}

/* "namespace/pod -> address:port/protocol" */
static void say_head(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r)
{
	if (is_outside(q))
		buf_printf(q->text, "%.*s (outside) -> ", STR_ARG(q->client->name));
	else
		buf_printf(q->text, "%.*s/%.*s -> ", STR_ARG(q->client->ns), STR_ARG(q->client->name));
	if (is_any(addr))
		buf_printf(q->text, "node (IPv%d):%u", addr_is_v4(addr) ? 4 : 6, q->port);
	else
		add_socket(q->text, addr, q->port);
	buf_printf(q->text, "/%s", proto_text(q->proto));
	if (u)
		buf_printf(q->text, " (%.*s %.*s/%.*s)", STR_ARG(u->source_kind), STR_ARG(u->ns), STR_ARG(u->host));
	buf_printf(q->text, "\n  %s\n", reason_of(q, addr, r));
	if (q->json)
		json_head(q, u, addr, r);
}

/* What the kernel finds at one address; u is NULL when it finds nothing. */
static void say_address(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r)
{
	bool balanced = r && r->action == MESH_ROUTE && !q->client->host_network && (!r->l7 || r->fail_open);
	uint64_t sum = 0;

	say_head(q, u, addr, r);
	say_rule(q, u, r);
	say_sidecar(q);
	if (balanced && r->http_per_connection)
		buf_printf(q->text, "  http weights are balanced per connection for now, not per request\n");
	if (r && is_outside(q))
		buf_printf(q->text, "  scope outside: %s\n", scope_of(q, r));
	else if (r)
		buf_printf(q->text, "  scope %u of %u: %s\n", q->client->scope & ~MESH_SCOPE_CLOSED, q->s->scope_nr,
			   scope_of(q, r));
	say_requests(q, u, r);
	if (q->json) {
		json_key(q->json, "destinations");
		json_array(q->json);
	}
	for (uint32_t i = 0; balanced && i < r->dest_nr; i++)
		sum += u->dests[r->dest + i].weight;
	for (uint32_t i = 0; balanced && i < r->dest_nr; i++)
		say_dest(q, u, &u->dests[r->dest + i], sum);
	if (q->json)
		json_array_end(q->json);
	say_access(q, u, addr, r);
	say_ways(q, u, addr, r);
	if (q->json) {
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

/* The row at an address; at one of the node's, also what NodePorts mean there. */
static void explain_address(struct asking *q, const struct addr *addr)
{
	const struct unit *u = NULL;
	const struct u_row *r = snapshot_find(q->s, q->client->scope, addr, q->port, q->proto, &u);

	for (uint32_t i = 0; !r && i < q->s->node_ip_nr; i++)
		if (!addr_cmp(&q->s->node_ips[i], addr))
			r = snapshot_find(q->s, q->client->scope, &node_any[addr_is_v4(addr)], q->port, q->proto, &u);
	say_address(q, u, addr, r);
}

/* A NodePort, by the word "node" or the node's name. */
static bool explain_node(struct asking *q, struct str dst)
{
	bool found = false;

	if (!str_is(dst, "node") && !(q->node_name.len && str_eq(dst, q->node_name)))
		return false;
	for (uint32_t i = 2; i--;) {
		const struct unit *u = NULL;
		const struct u_row *r = snapshot_find(q->s, q->client->scope, &node_any[i], q->port, q->proto, &u);

		if (r)
			say_address(q, u, &node_any[i], r);
		found |= r != NULL;
	}
	return found;
}

static bool explain_pod(struct asking *q, struct str dst)
{
	const struct client *server = NULL;
	uint32_t nr;

	if (str_find(dst, '/') < 0)
		server = client_named(q->s, q->client->ns, dst, &nr);
	if (!server)
		server = find_pod(q, dst);
	for (uint32_t i = 0; server && i < server->ip_nr; i++)
		explain_address(q, &server->ips[i]);
	return server;
}

/* What was meant instead of the name of a pod or a Service: the pods of a Deployment begin with its name. */
static void say_hint(struct asking *q, struct str name, bool hosts)
{
	uint32_t room = q->s->client_nr + (hosts ? q->s->unit_nr : 0), nr = 0;
	struct str *names = xcalloc(room + 1, sizeof(*names));
	int nearest = -1;

	for (uint32_t i = 0; i < q->s->client_nr; i++) {
		names[nr] = q->s->clients[i].name;
		if (nearest < 0 && str_starts(names[nr], name) && str_starts(str_sub(names[nr], name.len, 1), STR("-")))
			nearest = (int)nr;
		nr++;
	}
	for (uint32_t i = 0; hosts && i < q->s->unit_nr; i++) {
		struct str host = q->s->units[i]->host;
		int dot = str_is(q->s->units[i]->source_kind, "Service") ? str_find(host, '.') : -1;

		names[nr++] = dot < 0 || str_find(name, '.') >= 0 ? host : str_sub(host, 0, (uint32_t)dot);
	}
	if (nearest < 0)
		nearest = str_nearest(name, names, nr < NAMES_MAX ? nr : NAMES_MAX);
	if (nearest >= 0)
		buf_printf(q->text, "; did you mean %.*s?", STR_ARG(names[nearest]));
	buf_str(q->text, STR("\n"));
	free(names);
}

static int explain_to(struct asking *q, struct str dst)
{
	size_t before = q->text->len;
	const struct unit *u;
	struct addr addr;

	if (addr_parse(dst, &addr)) {
		explain_address(q, &addr);
		return 0;
	}
	u = find_host(q, dst);
	if (u)
		return explain_host(q, u);
	if (explain_node(q, dst) || explain_pod(q, dst))
		return 0;
	if (q->text->len == before) {
		buf_printf(q->text,
			   "no Service or ServiceEntry has host %.*s, and no pod its name, seen from namespace %.*s",
			   STR_ARG(dst), STR_ARG(q->client->ns));
		say_hint(q, dst, true);
	}
	return -ENOENT;
}

static struct str or_default(struct str s, struct str otherwise)
{
	return s.len ? s : otherwise;
}

static void json_begin(struct asking *q, struct str src, struct str dst)
{
	struct json *j = q->json;
	bool pod = !q->client || !is_outside(q);

	json_object(j);
	json_kstr(j, "source_namespace", q->client ? q->client->ns : STR(""));
	json_kstr(j, "source_pod", !pod ? STR("") : q->client ? q->client->name : src);
	json_kstr(j, "source_service_account", q->client ? q->client->service_account : STR(""));
	json_identity(q);
	json_kstr(j, "destination", dst);
	json_kuint(j, "port", q->port);
	json_kstr(j, "protocol", str_of(proto_text(q->proto)));
	json_key(j, "addresses");
	json_array(j);
}

int explain(const struct snapshot *s, const struct snapshot_options *opts, const struct explain_node *node,
	    struct str src, struct str dst, uint16_t port, uint8_t proto, struct buf *text, struct json *json)
{
	struct buf own = { 0 };
	struct asking q = { .s = s,
			    .node = node,
			    .domain = or_default(opts->cluster_domain, STR("cluster.local")),
			    .trust_domain = or_default(opts->trust_domain, STR("cluster.local")),
			    .node_name = opts->node_name,
			    .port = port,
			    .proto = proto,
			    .text = text ? text : &own,
			    .json = json };
	size_t before = q.text->len;
	int err = -ENOENT;

	q.client = find_source(&q, src);
	if (!q.client && q.text->len == before) {
		buf_printf(q.text, "no pod %.*s with an address", STR_ARG(src));
		say_hint(&q, src, false);
	}
	if (json)
		json_begin(&q, src, dst);
	if (q.client)
		err = explain_to(&q, dst);
	if (json)
		json_array_end(json);
	if (!err)
		say_verdict(&q);
	if (json)
		json_object_end(json);
	buf_release(&own);
	return err;
}
