/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The indexes over one model, see struct world. Only collects: no name of a rule is resolved for a client here, and nothing
 * is reported. Protocol selection follows Istio (pilot serviceregistry/kube: appProtocol, then the port's name up to '-',
 * then well-known ports, else the bytes decide).
 */
#include <stdlib.h>

#include "config/delegate.h"
#include "config/route.h"
#include "config/validate.h"

static bool starts_nocase(struct str s, const char *z)
{
	uint32_t len = (uint32_t)strlen(z);

	return s.len >= len && !strncasecmp(s.p, z, len);
}

static uint8_t class_of(struct str text)
{
	switch (app_protocol_parse(text)) {
	case APP_HTTP:
		return PORT_HTTP;
	case APP_TLS:
		return PORT_TLS;
	case APP_TCP:
	case APP_OTHER_TCP:
		return PORT_TCP;
	default:
		return PORT_AUTO;
	}
}

/* Both sides begin with HTTP/2. */
static bool is_http2(struct str text)
{
	int dash = str_find(text, '-');
	struct str word = dash < 0 ? text : str_sub(text, 0, (uint32_t)dash);

	if (starts_nocase(text, "grpc-web"))
		return false;
	return str_is(text, "kubernetes.io/h2c") || (word.len == 5 && starts_nocase(word, "http2")) ||
	       (word.len == 4 && starts_nocase(word, "grpc"));
}

static uint8_t service_port_class(const struct m_port *p)
{
	struct str text = p->app_protocol.len ? p->app_protocol : p->name;
	uint8_t class;
	int dash;

	if (p->proto == MESH_PROTO_UDP)
		return PORT_UDP;
	if (p->proto != MESH_PROTO_TCP)
		return PORT_OTHER;
	if (p->app_protocol.len) {
		if (str_is(text, "kubernetes.io/h2c") || str_is(text, "kubernetes.io/ws"))
			return PORT_HTTP;
		if (str_is(text, "kubernetes.io/wss"))
			return PORT_TLS;
	}
	if (starts_nocase(text, "grpc-web"))
		return PORT_HTTP;
	dash = str_find(text, '-');
	class = class_of(dash < 0 ? text : str_sub(text, 0, (uint32_t)dash));
	if (class == PORT_AUTO && (p->port == 25 || p->port == 53 || p->port == 3306 || p->port == 27017))
		return PORT_TCP;
	return class;
}

/* ---- fronts ---- */

static void fronts_reserve(struct world *w, struct host *h, uint32_t nr)
{
	struct front *old = h->fronts;

	if (nr <= h->front_cap)
		return;
	h->fronts = arena_array(&w->arena, nr, sizeof(*h->fronts));
	if (h->front_nr)
		memcpy(h->fronts, old, h->front_nr * sizeof(*h->fronts));
	h->front_cap = nr;
}

static void front_put(struct world *w, struct host *h, const struct front *f)
{
	if (h->front_nr == h->front_cap)
		fronts_reserve(w, h, h->front_cap ? h->front_cap * 2 : 4);
	h->fronts[h->front_nr++] = *f;
}

void front_add(struct world *w, struct host *h, const struct front *f)
{
	for (uint32_t i = 0; i < h->front_nr; i++) {
		const struct front *other = &h->fronts[i];

		if (other->port == f->port && other->number == f->number &&
		    other->net.prefix_len == f->net.prefix_len && !addr_cmp(&other->net.addr, &f->net.addr))
			return;
	}
	front_put(w, h, f);
}

/* Cluster IPs; for clients from outside external addresses, and at any address of the node the node ports. */
static void service_fronts(struct world *w, struct host *h)
{
	static const struct addr any[2] = { { { 0 } }, { { [10] = 0xff, [11] = 0xff } } };
	const struct m_service *s = h->doc->service;

	fronts_reserve(w, h, (s->vip_nr + s->external_nr) * s->port_nr);
	for (uint32_t p = 0; p < s->port_nr; p++) {
		struct front f = { .net.prefix_len = 128, .number = h->ports[p].number, .port = p };

		if (h->ports[p].class == PORT_OTHER)
			continue;
		for (uint32_t i = 0; i < s->vip_nr; i++) {
			f.net.addr = s->vips[i];
			front_put(w, h, &f);
		}
		f.outer = true;
		for (uint32_t i = 0; i < s->external_nr; i++) {
			f.net.addr = s->externals[i];
			front_put(w, h, &f);
		}
		f.number = s->ports[p].node_port;
		for (uint32_t v4 = 0; v4 < 2 && f.number; v4++) {
			f.net.addr = any[v4];
			if (v4 ? s->v4 : s->v6)
				front_put(w, h, &f);
		}
	}
}

/* ---- hosts ---- */

static void service_host(struct world *w, struct host *h, const struct doc *doc)
{
	const struct m_service *s = doc->service;

	*h = (struct host){
		.kind = HOST_SERVICE, .ns = doc->meta.ns, .doc = doc, .export_to = &s->export_to, .port_nr = s->port_nr
	};
	h->name = arena_printf(&w->arena, "%.*s.%.*s%.*s", STR_ARG(doc->meta.name), STR_ARG(doc->meta.ns),
			       STR_ARG(w->suffix));
	h->ports = arena_array(&w->arena, s->port_nr, sizeof(*h->ports));
	for (uint32_t i = 0; i < s->port_nr; i++) {
		const struct m_port *p = &s->ports[i];

		h->ports[i] = (struct port){ .name = p->name,
					     .target = p->target,
					     .number = (uint16_t)p->port,
					     .proto = p->proto,
					     .class = service_port_class(p),
					     .http2 = is_http2(p->app_protocol.len ? p->app_protocol : p->name) };
		if (!p->target.given)
			h->ports[i].target.number = (int32_t)p->port;
	}
	if (s->type != SERVICE_EXTERNAL_NAME && !s->headless)
		service_fronts(w, h);
}

static void entry_host(struct world *w, struct host *h, const struct doc *doc, uint32_t at)
{
	const struct m_service_entry *se = doc->se;

	*h = (struct host){ .kind = HOST_ENTRY,
			    .name = se->hosts.v[at],
			    .ns = doc->meta.ns,
			    .doc = doc,
			    .export_to = &se->export_to,
			    .port_nr = se->port_nr };
	h->ports = arena_array(&w->arena, se->port_nr, sizeof(*h->ports));
	for (uint32_t i = 0; i < se->port_nr; i++) {
		const struct m_se_port *p = &se->ports[i];
		bool udp = app_protocol_parse(p->protocol) == APP_UDP;

		h->ports[i] = (struct port){ .name = p->name,
					     .number = (uint16_t)p->number,
					     .proto = udp ? MESH_PROTO_UDP : MESH_PROTO_TCP,
					     .class = udp ? PORT_UDP : class_of(p->protocol),
					     .http2 = is_http2(p->protocol) };
		h->ports[i].target.number = (int32_t)(p->target ? p->target : p->number);
	}
	fronts_reserve(w, h, se->address_nr * se->port_nr);
	for (uint32_t a = 0; a < se->address_nr; a++)
		for (uint32_t i = 0; i < se->port_nr; i++)
			front_put(w, h,
				  &(struct front){ .net = se->addresses[a], .number = h->ports[i].number, .port = i });
}

/* Across kinds; within one, model_list has the order. */
static bool older(const struct doc *a, const struct doc *b)
{
	if (a->meta.created_s != b->meta.created_s)
		return a->meta.created_s < b->meta.created_s;
	return a->kind < b->kind;
}

/* Of equal hosts in one namespace a Service counts, else the oldest. */
static void shadow(struct world *w, uint32_t host)
{
	struct host *h = &w->hosts[host];

	for (index_each(&w->by_name, str_hash(h->name), at, i)) {
		struct host *other = &w->hosts[i];

		if (i == host || h->shadowed_by || other->shadowed_by || !str_eq(other->name, h->name) ||
		    !str_eq(other->ns, h->ns) || h->kind == HOST_SERVICE)
			continue;
		if (other->kind == HOST_SERVICE || i < host) {
			h->shadowed_by = other;
			h->front_nr = 0;
		}
	}
}

/* Services and ServiceEntries come by age each: one merge. */
static void add_hosts(struct world *w, const struct model *m)
{
	uint32_t service_nr, entry_nr, nr, s = 0, e = 0;
	struct doc *const *services = model_list(m, KIND_SERVICE, &service_nr);
	struct doc *const *entries = model_list(m, KIND_SERVICE_ENTRY, &entry_nr);

	nr = service_nr;
	for (uint32_t i = 0; i < entry_nr; i++)
		nr += entries[i]->se->hosts.nr;
	w->lone = !nr;
	w->hosts = arena_array(&w->arena, nr + gateways_count(m), sizeof(*w->hosts));
	index_init(&w->by_name, &w->arena, nr);
	while (s < service_nr || e < entry_nr) {
		if (e == entry_nr || (s < service_nr && older(services[s], entries[e]))) {
			service_host(w, &w->hosts[w->host_nr++], services[s++]);
			continue;
		}
		for (uint32_t i = 0; i < entries[e]->se->hosts.nr; i++)
			entry_host(w, &w->hosts[w->host_nr++], entries[e], i);
		e++;
	}
	w->gateway_at = w->host_nr;
	for (uint32_t i = 0; i < w->host_nr; i++)
		index_add(&w->by_name, str_hash(w->hosts[i].name), i);
	index_seal(&w->by_name, &w->arena);
	for (uint32_t i = 0; i < w->host_nr; i++)
		shadow(w, i);
}

static uint64_t addr_hash(const struct addr *a)
{
	return str_hash((struct str){ (const char *)a->b, sizeof(a->b) });
}

struct str workload_text(struct arena *a, struct str ns, struct str name, struct str account)
{
	struct str text = { arena_array(a, ns.len + name.len + account.len + 2, 1), 0 };
	char *at = (char *)text.p;

	at = (char *)mempcpy(at, ns.p, ns.len);
	*at++ = '/';
	at = (char *)mempcpy(at, name.p, name.len);
	*at++ = '/';
	if (account.len)
		at = (char *)mempcpy(at, account.p, account.len);
	text.len = (uint32_t)(at - text.p);
	return text;
}

static void add_workloads(struct world *w, const struct model *m)
{
	uint32_t pod_nr, entry_nr, ip_nr = 0;
	struct doc *const *pods = model_list(m, KIND_POD, &pod_nr);
	struct doc *const *entries = model_list(m, KIND_WORKLOAD_ENTRY, &entry_nr);

	w->workload_nr = pod_nr + entry_nr;
	w->pod_nr = pod_nr;
	w->workloads = arena_array(&w->arena, w->workload_nr, sizeof(*w->workloads));
	for (uint32_t i = 0; i < w->workload_nr; i++) {
		const struct doc *d = i < pod_nr ? pods[i] : entries[i - pod_nr];
		struct str sa = i < pod_nr ? d->pod->service_account : d->we->service_account;

		w->workloads[i].doc = d;
		if (i >= pod_nr && d->we->group.len)
			w->workloads[i].group =
				model_get(m, KIND_WORKLOAD_GROUP, (struct str){ 0 }, d->meta.ns, d->we->group);
		w->workloads[i].labels = i < pod_nr ? &d->meta.labels : &d->we->labels;
		w->workloads[i].text = workload_text(&w->arena, d->meta.ns, d->meta.name, sa);
		ip_nr += i < pod_nr ? d->pod->ip_nr : 1;
	}
	index_init(&w->by_ip, &w->arena, ip_nr);
	index_init(&w->by_pod, &w->arena, pod_nr);
	for (uint32_t i = 0; i < w->workload_nr; i++) {
		const struct doc *d = w->workloads[i].doc;

		if (i >= pod_nr) {
			index_add(&w->by_ip, addr_hash(&d->we->address), i);
			continue;
		}
		index_add(&w->by_pod, index_hash2(d->meta.ns, d->meta.name), i);
		/* A pod on its node's network shares its address with others. */
		for (uint32_t k = 0; k < d->pod->ip_nr && !d->pod->host_network; k++)
			index_add(&w->by_ip, addr_hash(&d->pod->ips[k]), i);
	}
	index_seal(&w->by_ip, &w->arena);
	index_seal(&w->by_pod, &w->arena);
}

void world_label(struct world *w)
{
	uint32_t nr = 0;

	if (w->labelled)
		return;
	w->labelled = true;
	for (uint32_t i = 0; i < w->workload_nr; i++)
		nr += w->workloads[i].labels->nr;
	index_init(&w->by_label, &w->arena, nr);
	for (uint32_t i = 0; i < w->workload_nr; i++) {
		const struct workload *wl = &w->workloads[i];

		for (uint32_t k = 0; k < wl->labels->nr; k++)
			index_add(&w->by_label,
				  index_hash2(wl->doc->meta.ns, wl->labels->v[k].key) * 31 +
					  str_hash(wl->labels->v[k].val),
				  i);
	}
	index_seal(&w->by_label, &w->arena);
}

static void add_virtual_services(struct world *w, const struct model *m)
{
	uint32_t host_nr = 0;

	delegates_merge(w, m);
	for (uint32_t i = 0; i < w->vs_nr; i++)
		host_nr += w->vss[i]->vs->hosts.nr;
	index_init(&w->vs_exact, &w->arena, host_nr);
	w->vs_wild = arena_array(&w->arena, host_nr, sizeof(*w->vs_wild));
	for (uint32_t i = 0; i < w->vs_nr; i++) {
		const struct m_virtual_service *vs = w->vss[i]->vs;
		bool mesh = false, wild = false;

		for (uint32_t k = 0; k < vs->gateways.nr; k++)
			mesh |= str_is(vs->gateways.v[k], "mesh");
		for (uint32_t k = 0; k < vs->hosts.nr && mesh; k++) {
			if (host_is_wild(vs->hosts.v[k])) {
				wild = true;
				continue;
			}
			index_add(&w->vs_exact, str_hash(host_full(&w->arena, w, vs->hosts.v[k], w->vss[i]->meta.ns)),
				  i);
		}
		if (wild)
			w->vs_wild[w->vs_wild_nr++] = i;
	}
	index_seal(&w->vs_exact, &w->arena);
}

static void add_destination_rules(struct world *w, const struct model *m)
{
	struct doc *const *docs = model_list(m, KIND_DESTINATION_RULE, &w->dr_nr);

	w->drs = arena_array(&w->arena, w->dr_nr, sizeof(*w->drs));
	w->dr_wild = arena_array(&w->arena, w->dr_nr, sizeof(*w->dr_wild));
	index_init(&w->dr_exact, &w->arena, w->dr_nr);
	for (uint32_t i = 0; i < w->dr_nr; i++) {
		w->drs[i].doc = docs[i];
		w->drs[i].host = host_full(&w->arena, w, docs[i]->dr->host, docs[i]->meta.ns);
		if (host_is_wild(w->drs[i].host))
			w->dr_wild[w->dr_wild_nr++] = i;
		else
			index_add(&w->dr_exact, str_hash(w->drs[i].host), i);
	}
	index_seal(&w->dr_exact, &w->arena);
	index_init(&w->dr_wild_by, &w->arena, w->dr_wild_nr);
	for (uint32_t i = 0; i < w->dr_wild_nr; i++)
		index_add(&w->dr_wild_by, str_hash(docs[w->dr_wild[i]]->meta.ns), w->dr_wild[i]);
	index_seal(&w->dr_wild_by, &w->arena);
}

static void add_routes(struct world *w, const struct model *m)
{
	uint32_t parent_nr = 0;

	w->routes = model_list(m, KIND_ROUTE, &w->route_nr);
	for (uint32_t i = 0; i < w->route_nr; i++)
		parent_nr += w->routes[i]->route->parent_nr;
	index_init(&w->route_by, &w->arena, parent_nr);
	for (uint32_t i = 0; i < w->route_nr; i++) {
		const struct m_route *r = w->routes[i]->route;

		for (uint32_t k = 0; k < r->parent_nr; k++)
			index_add(&w->route_by, index_hash2(r->parents[k].ns, r->parents[k].name), i);
	}
	index_seal(&w->route_by, &w->arena);
	w->grants = model_list(m, KIND_REFERENCE_GRANT, &w->grant_nr);
}

/* The world may outlive the model that it was made of. */
static void hold_docs(struct world *w, const struct model *m)
{
	static const enum kind kinds[] = {
		KIND_SERVICE,	       KIND_SERVICE_ENTRY,   KIND_POD,	   KIND_WORKLOAD_ENTRY,
		KIND_DESTINATION_RULE, KIND_ISTIO_GATEWAY,   KIND_GATEWAY, KIND_NODE,
		KIND_WORKLOAD_GROUP,   KIND_VIRTUAL_SERVICE, KIND_ROUTE
	};
	uint32_t nr, total = 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		model_list(m, kinds[i], &nr);
		total += nr;
	}
	w->docs = arena_array(&w->arena, total, sizeof(struct doc *));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct doc *const *docs = model_list(m, kinds[i], &nr);

		for (uint32_t k = 0; k < nr; k++)
			w->docs[w->doc_nr++] = doc_ref(docs[k]);
	}
}

struct world *world_new(const struct model *m, const struct snapshot_options *opts)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->refs = 1;
	w->domain = arena_str(&w->arena, opts->cluster_domain.len ? opts->cluster_domain : STR("cluster.local"));
	w->root_ns = arena_str(&w->arena, opts->root_namespace.len ? opts->root_namespace : STR("istio-system"));
	w->suffix = arena_printf(&w->arena, ".svc.%.*s", STR_ARG(w->domain));
	w->node = arena_str(&w->arena, opts->node_name);
	hold_docs(w, m);
	add_hosts(w, m);
	add_workloads(w, m);
	localities_add(w, m);
	add_virtual_services(w, m);
	add_destination_rules(w, m);
	add_routes(w, m);
	sidecars_add(w, m);
	w->registry_only = opts->registry_only;
	return w;
}

void world_unref(struct world *w)
{
	if (!w || --w->refs)
		return;
	for (uint32_t i = 0; i < w->doc_nr; i++)
		doc_unref(w->docs[i]);
	arena_release(&w->arena);
	free(w);
}

/* ---- rules and rivals of each host ---- */

bool vs_names(const struct world *w, const struct doc *doc, struct str s, struct str host)
{
	if (str_find(s, '.') >= 0)
		return str_eq(s, host);
	return host.len == s.len + 1 + doc->meta.ns.len + w->suffix.len && str_starts(host, s) &&
	       host.p[s.len] == '.' && str_eq(str_sub(host, s.len + 1, doc->meta.ns.len), doc->meta.ns) &&
	       str_ends(host, w->suffix);
}

static bool vs_has_host(const struct world *w, const struct doc *doc, struct str host)
{
	for (uint32_t i = 0; i < doc->vs->hosts.nr; i++)
		if (hosts_overlap(doc->vs->hosts.v[i], host) || vs_names(w, doc, doc->vs->hosts.v[i], host))
			return true;
	return false;
}

static bool route_has_host(const struct doc *doc, const struct host *h)
{
	for (uint32_t i = 0; i < doc->route->parent_nr; i++) {
		const struct m_parent_ref *p = &doc->route->parents[i];

		if (!p->gateway && str_eq(p->ns, h->ns) && str_eq(p->name, h->doc->meta.name))
			return true;
	}
	return false;
}

/* A rule of a host, with its place in the list of its kind. */
struct found {
	const struct doc *doc;
	uint32_t position;
};

static int by_age(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->doc->kind == y->doc->kind)
		return x->position < y->position ? -1 : 1;
	return older(x->doc, y->doc) ? -1 : 1;
}

static void add_rule(struct host *h, struct found *found, const struct doc *doc, uint32_t position)
{
	for (uint32_t i = 0; i < h->rule_nr; i++)
		if (found[i].doc == doc)
			return;
	found[h->rule_nr++] = (struct found){ doc, position };
}

static void link_rules(struct world *w, struct host *h, struct found *found)
{
	for (index_each(&w->vs_exact, str_hash(h->name), at, i))
		if (vs_has_host(w, w->vss[i], h->name))
			add_rule(h, found, w->vss[i], i);
	for (uint32_t i = 0; i < w->vs_wild_nr; i++)
		if (vs_has_host(w, w->vss[w->vs_wild[i]], h->name))
			add_rule(h, found, w->vss[w->vs_wild[i]], w->vs_wild[i]);
	/* A ServiceEntry for "*.x" takes the rules of every "y.x". */
	for (uint32_t i = 0; i < w->vs_nr && host_is_wild(h->name); i++)
		for (uint32_t k = 0; k < w->vss[i]->vs->gateways.nr; k++)
			if (str_is(w->vss[i]->vs->gateways.v[k], "mesh") && vs_has_host(w, w->vss[i], h->name))
				add_rule(h, found, w->vss[i], i);
	if (h->kind == HOST_SERVICE) {
		for (index_each(&w->route_by, index_hash2(h->ns, h->doc->meta.name), at, i))
			if (route_has_host(w->routes[i], h))
				add_rule(h, found, w->routes[i], i);
	}
	if (!h->rule_nr)
		return;
	qsort(found, h->rule_nr, sizeof(*found), by_age);
	h->rules = arena_array(&w->arena, h->rule_nr, sizeof(struct doc *));
	for (uint32_t i = 0; i < h->rule_nr; i++)
		h->rules[i] = found[i].doc;
}

/* Fronts for the parts of its networks that this match names. */
static void split_by(struct world *w, struct host *h, const struct m_l4_match *match)
{
	uint32_t own = h->front_nr;

	for (uint32_t n = 0; n < match->subnet_nr; n++) {
		const struct cidr *net = &match->subnets[n];

		for (uint32_t i = 0; i < own; i++) {
			struct front f = h->fronts[i];

			if (f.net.prefix_len >= net->prefix_len || !addr_in(&net->addr, &f.net.addr, f.net.prefix_len))
				continue;
			f.net = *net;
			front_add(w, h, &f);
		}
	}
}

/* A rule for part of a network needs a row for that part. */
static void split_networks(struct world *w, struct host *h)
{
	for (uint32_t r = 0; r < h->rule_nr; r++) {
		const struct m_virtual_service *vs = h->rules[r]->vs;

		for (uint32_t i = 0; h->rules[r]->kind == KIND_VIRTUAL_SERVICE && i < vs->rule_nr; i++)
			for (uint32_t k = 0; k < vs->rules[i].match_nr; k++)
				split_by(w, h, &vs->rules[i].matches[k]);
	}
}

uint64_t claim_hash(const struct host *h, const struct front *f)
{
	return addr_hash(&f->net.addr) * 0x9e3779b97f4a7c15ull + f->number + ((uint64_t)front_port(h, f)->proto << 16) +
	       ((uint64_t)f->net.prefix_len << 24);
}

static void claim(struct world *w, uint32_t host)
{
	struct host *h = &w->hosts[host];
	struct chosen c;

	if (h->kind == HOST_GATEWAY && !gateway_serves(w, h, &c))
		return;
	for (uint32_t i = 0; i < h->front_nr; i++)
		index_add(&w->claims, claim_hash(h, &h->fronts[i]), host);
}

void world_link(struct world *w)
{
	struct found *found = xcalloc(w->vs_nr + w->route_nr + 1, sizeof(*found));
	uint32_t claim_nr = 0;

	for (uint32_t i = 0; i < w->host_nr; i++) {
		struct host *h = &w->hosts[i];

		if (h->kind != HOST_GATEWAY) {
			link_rules(w, h, found);
			if (h->front_nr && h->rule_nr)
				split_networks(w, h);
		}
		claim_nr += h->front_nr;
	}
	free(found);
	index_init(&w->claims, &w->arena, claim_nr);
	for (uint32_t i = w->gateway_at; i < w->host_nr; i++)
		claim(w, i);
	for (uint32_t i = 0; i < w->gateway_at; i++)
		claim(w, i);
	index_seal(&w->claims, &w->arena);
	/* Equal hashes of different hosts are rare apart from real conflicts; a false alarm only costs a look. */
	for (uint32_t i = 0; i < w->claims.nr; i++) {
		uint32_t other = index_first(&w->claims, w->claims.entries[i].hash);

		if (w->claims.entries[other - 1].value != w->claims.entries[i].value) {
			w->hosts[w->claims.entries[i].value].contended = true;
			w->hosts[w->claims.entries[other - 1].value].contended = true;
		}
	}
}
