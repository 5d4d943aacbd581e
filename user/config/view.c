/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One host as one client sees it: a row for each of its addresses and ports, with destinations. Knows nothing of endpoints, so that
 * their coming and going never changes what a scope is.
 */
#include <stdlib.h>

#include "config/route.h"
#include "mesh_http.h"

void *grow(void *v, uint32_t nr, uint32_t *cap, size_t size)
{
	if (nr < *cap)
		return v;
	*cap = *cap ? *cap * 2 : 8;
	return xrealloc(v, *cap * size);
}

void making_clear(struct making *mk)
{
	mk->row_nr = mk->view_nr = mk->dest_nr = mk->spec_nr = mk->origin_nr = mk->note_nr = mk->table_nr = 0;
	mk->scoped_nr = 0;
}

void making_free(struct making *mk)
{
	free(mk->rows);
	free(mk->dests);
	free(mk->specs);
	free(mk->origins);
	free(mk->tables);
	free(mk->notes);
	free(mk->scoped);
}

void making_note(struct build *b, struct making *mk, const char *fmt, ...)
{
	struct buf text = { 0 };
	struct str s;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	s = (struct str){ text.data, (uint32_t)text.len };
	for (uint32_t i = 0; i < mk->note_nr; i++) {
		if (str_eq(mk->notes[i], s)) {
			buf_release(&text);
			return;
		}
	}
	GROW(mk->notes, mk->note_nr, &mk->note_cap);
	mk->notes[mk->note_nr++] = arena_str(&b->temp, s);
	buf_release(&text);
}

static uint32_t origin_of(struct making *mk, const struct doc *doc, struct str field, struct place at)
{
	for (uint32_t i = 0; i < mk->origin_nr; i++)
		if (mk->origins[i].doc == doc && str_eq(mk->origins[i].field, field))
			return i + 1;
	GROW(mk->origins, mk->origin_nr, &mk->origin_cap);
	mk->origins[mk->origin_nr++] = (struct origin){ doc, field, at };
	return mk->origin_nr;
}

static void spec_name(struct build *b, struct spec *s, struct str host, int64_t port, struct str subset)
{
	struct buf text = { 0 };

	buf_printf(&text, "outbound|%u|%.*s|%.*s", (unsigned int)port, STR_ARG(subset), STR_ARG(host));
	if (s->variant)
		buf_printf(&text, "|%08x", s->variant);
	s->name = arena_str(&b->temp, (struct str){ text.data, (uint32_t)text.len });
	buf_release(&text);
}

static bool same_balance(const struct spec *a, const struct spec *b)
{
	return a->balance == b->balance || balance_same(a->balance, b->balance);
}

/* The destination's number; its name is made when it is new. Only what is nowhere is told apart by its name. */
static uint32_t spec_of(struct build *b, struct making *mk, struct str host, int64_t port, struct str subset_name,
			struct spec *want)
{
	if (!want->host)
		spec_name(b, want, host, port, subset_name);
	for (uint32_t i = 0; i < mk->spec_nr; i++) {
		const struct spec *s = &mk->specs[i];

		if (s->host == want->host && s->port == want->port && s->subset == want->subset && s->v6 == want->v6 &&
		    s->local == want->local && s->variant == want->variant && s->broken == want->broken &&
		    (want->host ? same_balance(s, want) : str_eq(s->name, want->name)))
			return i;
	}
	if (want->host)
		spec_name(b, want, host, port, subset_name);
	if (want->host && want->balance->by)
		want->origin = origin_of(mk, want->balance->by, balance_field(&b->temp, want->balance),
					 want->balance->from->at);
	if (want->host)
		want->balance = balance_keep(b->world, want->balance);
	GROW(mk->specs, mk->spec_nr, &mk->spec_cap);
	mk->specs[mk->spec_nr] = *want;
	return mk->spec_nr++;
}

static void dest_add(struct making *mk, struct view_row *row, uint32_t spec, uint64_t weight)
{
	GROW(mk->dests, mk->dest_nr, &mk->dest_cap);
	mk->dests[mk->dest_nr++] = (struct view_dest){ spec, weight };
	row->dest_nr++;
}

static bool external(const struct host *h)
{
	return h->kind == HOST_SERVICE && h->doc->service->type == SERVICE_EXTERNAL_NAME;
}

/* What leads to this host may use endpoints of this node only. */
static bool internal_local(const struct host *h)
{
	return h->kind == HOST_SERVICE && h->doc->service->internal_local;
}

static void spec_aim(struct spec *s, const struct host *h, const struct port *port, const struct target *t)
{
	s->host = h;
	s->port = port;
	s->subset = t->subset;
	s->balance = &t->balance;
	s->variant = t->variant;
	s->local = internal_local(h);
}

uint32_t view_destination(struct build *b, struct making *mk, const struct view_row *row,
			  const struct m_destination *to, const struct doc *doc, const struct who *who, uint32_t *pass)
{
	struct str full = host_full(&b->temp, b->world, to->host, doc->meta.ns);
	const struct host *d = host_find(b->world, full, who, false);
	struct spec spec = { .v6 = !addr_is_v4(&row->net.addr) };
	int64_t number = to->port ? to->port : row->port;
	const struct port *port = NULL;
	struct target t;

	if (d && !external(d)) {
		if (!to->port && d->port_nr == 1)
			number = d->ports[0].number;
		port = host_port(d, number, false);
	}
	if (port) {
		target_find(b->world, d, port, to->subset, who, &t);
		*pass += t.pass;
		if (!to->subset.len || t.subset)
			spec_aim(&spec, d, port, &t);
	}
	return spec_of(b, mk, full, number, to->subset, &spec);
}

struct str rule_field(struct build *b, const struct chosen *c)
{
	if (!c->rule)
		return arena_printf(&b->temp, "spec.rules[%u]", c->route_rule);
	if (c->doc->kind == KIND_ISTIO_GATEWAY)
		return arena_printf(&b->temp, "spec.servers[%u]", c->rule->index);
	return arena_printf(&b->temp, "spec.%s[%u]", rule_list(c->rule), c->rule->index);
}

const struct doc *rule_doc(const struct chosen *c)
{
	return c->rule && c->rule->doc ? c->rule->doc : c->doc;
}

struct place rule_place(const struct chosen *c)
{
	return c->rule ? c->rule->at : c->doc->route->rules[c->route_rule].at;
}

static void virtual_service(struct build *b, struct making *mk, struct view_row *row, const struct chosen *c,
			    const struct who *who)
{
	const struct m_rule *r = c->rule;
	uint32_t pass = 0;
	struct str field = rule_field(b, c);

	row->origin = origin_of(mk, rule_doc(c), field, r->at);
	for (uint32_t i = 0; i < r->route_nr; i++) {
		uint64_t weight = r->route_nr == 1 ? 1 : (uint64_t)r->routes[i].weight;

		if (weight)
			dest_add(mk, row, view_destination(b, mk, row, &r->routes[i], c->doc, who, &pass), weight);
	}
	if (pass && pass == row->dest_nr) {
		row->state = VIEW_PASS;
	} else if (pass) {
		report_once(b, rule_doc(c), r->at, field,
			    "some of the weighted destinations keep the original address "
			    "(PASSTHROUGH or resolution NONE) and others do not; that is not enforced yet");
	}
}

static bool granted(const struct world *w, const struct doc *route, const struct m_backend_ref *to)
{
	if (str_eq(route->meta.ns, to->ns))
		return true;
	for (uint32_t i = 0; i < w->grant_nr; i++) {
		const struct m_reference_grant *g = w->grants[i]->grant;
		bool from = false, dest = false;

		if (!str_eq(w->grants[i]->meta.ns, to->ns))
			continue;
		for (uint32_t k = 0; k < g->from_nr; k++)
			from |= str_is(g->from[k].group, GATEWAY_GROUP) && str_eq(g->from[k].kind, route->kind_name) &&
				str_eq(g->from[k].ns, route->meta.ns);
		for (uint32_t k = 0; k < g->to_nr; k++)
			dest |= !g->to[k].group.len && str_is(g->to[k].kind, "Service") &&
				(!g->to[k].name.len || str_eq(g->to[k].name, to->name));
		if (from && dest)
			return true;
	}
	return false;
}

const char *backend_bad(const struct world *w, const struct doc *route, const struct m_backend_ref *to,
			const struct host **ret_host, const struct port **ret_port)
{
	const struct host *d = host_service(w, to->ns, to->name);

	if (!granted(w, route, to))
		return "no ReferenceGrant of its namespace allows this reference";
	if (!d)
		return "there is no such Service";
	if (external(d))
		return "ExternalName Services are not enforced yet";
	*ret_port = host_port(d, to->port, route->route->kind == ROUTE_UDP);
	if (!*ret_port)
		return "the Service has no such port";
	*ret_host = d;
	return NULL;
}

uint32_t view_backend(struct build *b, struct making *mk, const struct view_row *row, const struct m_backend_ref *to,
		      const struct doc *doc, const struct who *who, uint32_t *pass)
{
	struct str full =
		arena_printf(&b->temp, "%.*s.%.*s%.*s", STR_ARG(to->name), STR_ARG(to->ns), STR_ARG(b->world->suffix));
	struct spec spec = { .v6 = !addr_is_v4(&row->net.addr) };
	const struct port *port;
	const struct host *d;
	struct target t;

	if (!backend_bad(b->world, doc, to, &d, &port)) {
		target_find(b->world, d, port, (struct str){ 0 }, who, &t);
		*pass += t.pass;
		spec_aim(&spec, d, port, &t);
	} else {
		spec.broken = 500;
	}
	return spec_of(b, mk, full, to->port, (struct str){ 0 }, &spec);
}

static void gateway_route(struct build *b, struct making *mk, struct view_row *row, const struct chosen *c,
			  const struct who *who)
{
	const struct m_route_rule *r = &c->doc->route->rules[c->route_rule];
	struct str field = rule_field(b, c);
	uint32_t pass = 0;

	row->origin = origin_of(mk, c->doc, field, r->at);
	for (uint32_t i = 0; i < r->backend_nr; i++) {
		const struct m_backend_ref *to = &r->backends[i];

		if (to->weight)
			dest_add(mk, row, view_backend(b, mk, row, to, c->doc, who, &pass), (uint64_t)to->weight);
	}
	if (pass && pass == row->dest_nr)
		row->state = VIEW_PASS;
	else if (pass)
		report_once(b, c->doc, r->at, field,
			    "some of the weighted backends keep the original address (PASSTHROUGH) "
			    "and others do not; that is not enforced yet");
	if (!row->dest_nr && !row->http)
		making_note(b, mk, "port %u: %.*s %.*s/%.*s has no backend with a weight, connections are refused",
			    row->port, STR_ARG(c->doc->kind_name), STR_ARG(c->doc->meta.ns),
			    STR_ARG(c->doc->meta.name));
}

/* No rule: the service itself. */
static void own_default(struct build *b, struct making *mk, struct view_row *row, const struct port *port,
			const struct who *who)
{
	const struct host *h = mk->host;
	struct spec spec = { .v6 = !addr_is_v4(&row->net.addr) };
	struct target t;

	target_find(b->world, h, port, (struct str){ 0 }, who, &t);
	if (t.pass) {
		row->state = VIEW_PASS;
		if (t.pass_by)
			row->origin = origin_of(mk, t.pass_by, STR("spec.trafficPolicy.loadBalancer"),
						(struct place){ t.pass_by->at.line, t.pass_by->at.column });
		return;
	}
	spec_aim(&spec, h, port, &t);
	dest_add(mk, row, spec_of(b, mk, h->name, port->number, (struct str){ 0 }, &spec), 1);
}

/* An address of the outside: Kubernetes sends what comes there to the Service's endpoints, whatever the mesh's rules are. */
static void outer_default(struct build *b, struct making *mk, struct view_row *row, const struct port *port,
			  const struct who *who)
{
	const struct host *h = mk->host;
	struct spec spec = { .v6 = !addr_is_v4(&row->net.addr) };
	struct target t;

	target_outer(b->world, h, port, &t);
	spec_aim(&spec, h, port, &t);
	spec.local = who->outside && h->doc->service->external_local;
	dest_add(mk, row, spec_of(b, mk, h->name, port->number, (struct str){ 0 }, &spec), 1);
}

/* Who sees a host's address: everybody who can send there, where it is for the outside. A Sidecar hides
 * all of them. */
static bool seen(const struct host *h, const struct front *f, const struct who *who)
{
	return sidecar_sees(who, h) && (f->outer || exported(h->export_to, h->ns, who->ns));
}

/* Who has this address and port for this client: gateways first, then the oldest; NULL: nobody that it sees. */
static const struct host *holder(const struct build *b, const struct host *asked, const struct front *f,
				 const struct who *who)
{
	const struct world *w = b->world;

	for (index_each(&w->claims, claim_hash(asked, f), at, i)) {
		const struct host *h = &w->hosts[i];

		for (uint32_t k = 0; k < h->front_nr; k++) {
			const struct front *own = &h->fronts[k];

			if (own->number == f->number && own->net.prefix_len == f->net.prefix_len &&
			    front_port(h, own)->proto == front_port(asked, f)->proto &&
			    !addr_cmp(&own->net.addr, &f->net.addr) && seen(h, own, who))
				return h;
		}
	}
	return NULL;
}

/*
 * Where connections go to that nobody can look into: as the rule says that has no condition, else to the service itself. A rule that
 * answers by itself leads nowhere.
 */
static void without_parser(struct build *b, struct making *mk, struct view_row *row, const struct chosen *first,
			   const struct chosen *open, const struct port *port, const struct who *who)
{
	if (open->rule)
		virtual_service(b, mk, row, open, who);
	else if (open->doc)
		gateway_route(b, mk, row, open, who);
	else if (mk->host->kind != HOST_GATEWAY)
		own_default(b, mk, row, port, who);
	if (row->state == VIEW_PASS) {
		row->state = VIEW_ROUTE;
		mk->dest_nr = row->dest;
		row->dest_nr = 0;
	}
	row->origin = first->doc ? origin_of(mk, rule_doc(first), rule_field(b, first), rule_place(first)) : 0;
}

static void row_resolve(struct build *b, struct making *mk, struct view_row *row, const struct front *f,
			const struct who *who)
{
	const struct host *h = mk->host;
	const struct port *port = front_port(h, f);
	struct who asks = h->kind == HOST_GATEWAY ? (struct who){ .ns = h->client_ns } : *who;
	const struct host *first;
	struct chosen c, open;
	uint32_t nonzero;

	row->dest = mk->dest_nr;
	first = seen(h, f, who) ? h : NULL;
	if (h->contended)
		first = holder(b, h, f, who);
	if (!first) {
		row->state = VIEW_NONE;
		return;
	}
	if (first != h) {
		char text[ADDR_TEXT_MAX];

		row->state = VIEW_LOST;
		if (seen(h, f, who))
			making_note(b, mk, "%s port %u belongs to %.*s/%.*s for clients that see both",
				    addr_text(&row->net.addr, text), row->port, STR_ARG(first->ns),
				    STR_ARG(first->name));
		return;
	}
	row->state = VIEW_ROUTE;
	if (f->outer) {
		outer_default(b, mk, row, port, who);
		http_table_limits(b, mk, row, port, MESH_HTTP_EDGE);
		return;
	}
	if (!rule_find(b->world, h, &row->net, port, &asks, &c)) {
		if (h->kind == HOST_GATEWAY)
			row->state = VIEW_NONE;
		else
			own_default(b, mk, row, port, &asks);
		if (row->state == VIEW_ROUTE)
			http_table_limits(b, mk, row, port, 0);
		return;
	}
	if ((c.http || c.tls) && http_table_find(b, mk, row, &c, port, &asks, &open)) {
		without_parser(b, mk, row, &c, &open, port, &asks);
		return;
	}
	if (c.rule)
		virtual_service(b, mk, row, &c, &asks);
	else
		gateway_route(b, mk, row, &c, &asks);
	nonzero = row->dest_nr;
	if (row->state == VIEW_PASS) {
		mk->dest_nr = row->dest;
		row->dest_nr = 0;
	}
	row->per_connection = c.http && nonzero > 1 && row->state == VIEW_ROUTE;
	if (row->state == VIEW_ROUTE && port->proto == MESH_PROTO_TCP)
		http_table_limits(b, mk, row, port, 0);
	if (row->per_connection)
		making_note(b, mk, "port %u: http weights are balanced per connection for now, not per request",
			    row->port);
	if (c.hides_http)
		making_note(b, mk, "port %u: protocol is not declared, tcp: rules are preferred to http: rules",
			    row->port);
}

bool view_row_equal(const struct making *mk, const struct view_row *x, const struct view_row *y)
{
	if (x->state != y->state || x->origin != y->origin || x->dest_nr != y->dest_nr ||
	    x->per_connection != y->per_connection || x->http != y->http || x->fail_open != y->fail_open)
		return false;
	for (uint32_t i = 0; i < x->dest_nr; i++) {
		const struct view_dest *p = &mk->dests[x->dest + i], *q = &mk->dests[y->dest + i];

		if (p->spec != q->spec || p->weight != q->weight)
			return false;
	}
	return true;
}

uint32_t view_add(struct build *b, struct making *mk, const struct who *who)
{
	const struct host *h = mk->host;
	uint32_t at = mk->view_nr * mk->row_nr, dest = mk->dest_nr, nr = h->front_nr;

	for (uint32_t i = 0; i < nr; i++) {
		const struct front *f = &h->fronts[i];
		struct view_row row = { .net = f->net, .port = f->number, .proto = front_port(h, f)->proto };

		row_resolve(b, mk, &row, f, who);
		GROW(mk->rows, at + i, &mk->rows_cap);
		mk->rows[at + i] = row;
	}
	mk->row_nr = nr;
	for (uint32_t v = 0; v < mk->view_nr; v++) {
		uint32_t i = 0;

		while (i < nr && view_row_equal(mk, &mk->rows[v * nr + i], &mk->rows[at + i]))
			i++;
		if (i == nr) {
			mk->dest_nr = dest;
			return v;
		}
	}
	return mk->view_nr++;
}

void view_outside(struct build *b, struct making *mk)
{
	const struct host *h = mk->host;
	uint32_t view;

	if (h->kind != HOST_SERVICE || !h->doc->service->external_local || !h->front_nr)
		return;
	view = view_add(b, mk, &(struct who){ .outside = true });
	if (!view)
		return;
	GROW(mk->scoped, mk->scoped_nr, &mk->scoped_cap);
	mk->scoped[mk->scoped_nr++] = (struct scope_view){ MESH_SCOPE_OUTSIDE, view };
}
