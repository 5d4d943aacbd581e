/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is wrong between documents: references to what does not exist, rules for what is not enforced yet, conflicts. Codes in
 * messages are those of istioctl analyze. What it calls errors of missing hosts, subsets and ports are errors here, unless the
 * model holds no Service and no ServiceEntry at all: then a rule file is being checked on its own. A document that was live
 * before this batch is never an error, so that a Service can be deleted before the rules that name it. Conflicts are warnings
 * that say who wins, because upstream's runtime has a rule for them.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "config/delegate.h"
#include "config/route.h"
#include "config/validate.h"

/* ---- reporting ---- */

/* Of a copy, what it is one of. */
static const struct doc *document(const struct doc *doc)
{
	return doc->kind == KIND_VIRTUAL_SERVICE && doc->vs->of ? doc->vs->of : doc;
}

static bool is_refused(const struct build *b, const struct doc *doc)
{
	for (uint32_t i = 0; i < b->refused_nr; i++)
		if (b->refused[i] == doc)
			return true;
	return false;
}

static void report(struct build *b, enum diag_level level, const struct doc *of, struct place at, struct str field,
		   struct str hint, const char *fmt, va_list ap)
{
	const struct doc *doc = document(of);
	struct buf text = { 0 };
	bool own = b->batch && doc->order < b->batch->nr && b->batch->results[doc->order].doc == doc;

	buf_vprintf(&text, fmt, ap);
	if (level == DIAG_ERROR && !own)
		level = DIAG_WARNING;
	doc_diag(b->batch ? &b->batch->diags : &b->spare, level, doc, at, field, hint, "%.*s", (int)text.len,
		 text.data);
	buf_release(&text);
	if (level != DIAG_ERROR)
		return;
	b->errors++;
	if (is_refused(b, doc))
		return;
	GROW(b->refused, b->refused_nr, &b->refused_cap);
	b->refused[b->refused_nr++] = doc;
}

void report_error(struct build *b, const struct doc *doc, struct place at, struct str field, struct str hint,
		  const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(b, DIAG_ERROR, doc, at, field, hint, fmt, ap);
	va_end(ap);
}

void report_warning(struct build *b, const struct doc *doc, struct place at, struct str field, struct str hint,
		    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(b, DIAG_WARNING, doc, at, field, hint, fmt, ap);
	va_end(ap);
}

void report_once(struct build *b, const struct doc *doc, struct place at, struct str field, const char *fmt, ...)
{
	va_list ap;

	if (is_refused(b, document(doc)))
		return;
	va_start(ap, fmt);
	report(b, DIAG_ERROR, doc, at, field, (struct str){ 0 }, fmt, ap);
	va_end(ap);
}

static void __attribute__((format(printf, 6, 7))) missing(struct build *b, const struct doc *doc, struct place at,
							  struct str field, struct str hint, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report(b, b->world->lone ? DIAG_WARNING : DIAG_ERROR, doc, at, field, hint, fmt, ap);
	va_end(ap);
}

#define FIELD(b, ...) arena_printf(&(b)->temp, __VA_ARGS__)
#define NO_HINT ((struct str){ 0 })
#define HINTS_MAX 20

/* ---- hosts ---- */

static const struct who nobody;

const char *host_not_frontend(const struct host *h)
{
	if (h->kind != HOST_SERVICE)
		return NULL;
	if (h->doc->service->type == SERVICE_EXTERNAL_NAME)
		return "rules for ExternalName Services are not enforced yet";
	if (h->doc->service->headless)
		return "rules for headless Services are not enforced yet: clients dial pod addresses";
	return NULL;
}

/* The nearest name: of the same namespace's Services for a short name, else of all hosts; or one whose name goes on behind `host`. */
static struct str host_hint(struct build *b, struct str host, struct str ns)
{
	const struct world *w = b->world;
	bool is_short = str_find(host, '.') < 0;
	struct str *names = arena_array(&b->temp, w->gateway_at, sizeof(*names));
	uint32_t nr = 0;
	int nearest;

	/* Hints are for people; nobody reads the thousandth. */
	if (b->hint_nr++ >= HINTS_MAX)
		return NO_HINT;
	for (uint32_t i = 0; i < w->gateway_at; i++) {
		const struct host *h = &w->hosts[i];

		if (!is_short && h->name.len > host.len && str_starts(h->name, host) && h->name.p[host.len] == '.')
			return FIELD(b, "write `%.*s`: only names without a dot are short names", STR_ARG(h->name));
		if (!is_short)
			names[nr++] = h->name;
		else if (h->kind == HOST_SERVICE && str_eq(h->ns, ns))
			names[nr++] = h->doc->meta.name;
	}
	nearest = nr <= 4096 ? str_nearest(host, names, nr) : -1;
	if (nearest < 0)
		return NO_HINT;
	return FIELD(b, "did you mean `%.*s`?", STR_ARG(names[nearest]));
}

static bool in_wild_entry(const struct world *w, struct str host)
{
	for (uint32_t i = 0; i < w->gateway_at; i++)
		if (host_is_wild(w->hosts[i].name) && hosts_overlap(w->hosts[i].name, host))
			return true;
	return false;
}

static bool names_subset(const struct m_destination_rule *dr, struct str subset)
{
	for (uint32_t i = 0; i < dr->subset_nr; i++)
		if (str_eq(dr->subsets[i].name, subset))
			return true;
	return false;
}

static bool has_subset(const struct world *w, struct str host, struct str subset)
{
	for (index_each(&w->dr_exact, str_hash(host), at, i))
		if (str_eq(w->drs[i].host, host) && names_subset(w->drs[i].doc->dr, subset))
			return true;
	for (uint32_t i = 0; i < w->dr_wild_nr; i++)
		if (hosts_overlap(w->drs[w->dr_wild[i]].host, host) &&
		    names_subset(w->drs[w->dr_wild[i]].doc->dr, subset))
			return true;
	return false;
}

/* ---- VirtualService ---- */

static bool names_host(const struct world *w, struct build *b, const struct doc *doc, const struct host *h)
{
	for (uint32_t i = 0; i < doc->vs->hosts.nr; i++)
		if (hosts_overlap(host_full(&b->temp, w, doc->vs->hosts.v[i], doc->meta.ns), h->name))
			return true;
	return false;
}

static void destination_port(struct build *b, const struct doc *doc, const struct m_destination *to, struct str field,
			     const struct host *d)
{
	if (to->port) {
		if (!host_port(d, to->port, false))
			missing(b, doc, to->port_at, FIELD(b, "%.*s.destination.port.number", STR_ARG(field)), NO_HINT,
				"[IST0101] referenced host:port not found: \"%.*s:%lld\"", STR_ARG(to->host),
				(long long)to->port);
	} else if (d->port_nr > 1 && !names_host(b->world, b, doc, d)) {
		report_warning(b, doc, to->host_at, FIELD(b, "%.*s.destination.host", STR_ARG(field)),
			       STR("name the port with destination.port.number"),
			       "[IST0112] \"%.*s\" has several ports and none is named; the dialled port is taken",
			       STR_ARG(to->host));
	}
}

/* Some namespace that the rule is meant for sees the host. */
static bool is_visible(const struct world *w, const struct doc *doc, struct str host)
{
	const struct strs *to = &doc->vs->export_to;

	if (host_find(w, host, &(struct who){ .ns = doc->meta.ns }, false))
		return true;
	for (uint32_t i = 0; i < to->nr; i++)
		if (host_find(w, host, &(struct who){ .ns = to->v[i] }, false))
			return true;
	return false;
}

static void destination(struct build *b, const struct doc *doc, const struct m_destination *to, struct str field)
{
	const struct world *w = b->world;
	struct str full = host_full(&b->temp, w, to->host, doc->meta.ns);
	struct str host_field = FIELD(b, "%.*s.destination.host", STR_ARG(field));
	const struct host *d = host_find(w, full, &nobody, true);

	if (!d && !in_wild_entry(w, full)) {
		missing(b, doc, to->host_at, host_field, host_hint(b, to->host, doc->meta.ns),
			"[IST0101] referenced host not found: \"%.*s\"", STR_ARG(to->host));
	} else if (d && d->kind == HOST_SERVICE && d->doc->service->type == SERVICE_EXTERNAL_NAME) {
		report_error(b, doc, to->host_at, host_field, NO_HINT,
			     "\"%.*s\" is an ExternalName Service; ExternalName destinations are not enforced yet",
			     STR_ARG(to->host));
		return;
	} else if (d) {
		destination_port(b, doc, to, field, d);
		if (!is_visible(w, doc, full))
			report_warning(b, doc, to->host_at, host_field, STR("clients that do not see it are refused"),
				       "[IST0101] \"%.*s\" is not exported to namespace %.*s", STR_ARG(to->host),
				       STR_ARG(doc->meta.ns));
	}
	if (to->subset.len && (d || w->lone) && !has_subset(w, full, to->subset))
		missing(b, doc, to->subset_at, FIELD(b, "%.*s.destination.subset", STR_ARG(field)), NO_HINT,
			"[IST0101] referenced host+subset in destinationrule not found: \"%.*s+%.*s\"",
			STR_ARG(to->host), STR_ARG(to->subset));
}

/* None of its rules needs the bytes of requests, so that weights stay in the kernel. */
static bool per_connection(const struct build *b, const struct doc *doc)
{
	const struct str *weights = kvs_get(&doc->meta.annotations, STR(HTTP_WEIGHTS_KEY));

	if (weights ? str_is(*weights, "request") : b->http_per_request)
		return false;
	for (uint32_t i = 0; i < doc->vs->rule_nr; i++) {
		const struct m_http_rule *more = doc->vs->rules[i].more;

		if (more && more->acts)
			return false;
		for (uint32_t k = 0; more && k < more->match_nr; k++)
			if (!http_match_any(&more->matches[k]))
				return false;
	}
	return true;
}

static void vs_rules(struct build *b, const struct doc *doc)
{
	for (uint32_t i = 0; i < doc->vs->rule_nr; i++) {
		const struct m_rule *r = &doc->vs->rules[i];
		const char *kind = rule_list(r);
		uint64_t sum = 0;

		for (uint32_t k = 0; k < r->route_nr; k++) {
			sum += (uint64_t)r->routes[k].weight;
			destination(b, doc, &r->routes[k], FIELD(b, "spec.%s[%u].route[%u]", kind, r->index, k));
		}
		if (sum > UINT32_MAX)
			report_error(b, doc, r->at, FIELD(b, "spec.%s[%u].route", kind, r->index), NO_HINT,
				     "total weight is %llu; a proxy refuses more than %u, and so do we",
				     (unsigned long long)sum, UINT32_MAX);
		for (uint32_t k = 0; r->more && k < r->more->mirrors.nr; k++)
			destination(b, doc, &r->more->mirrors.v[k].to, FIELD(b, "spec.http[%u].mirror", r->index));
	}
}

/* Of a delegate they are known only together with who delegates to it. */
static void vs_weights(struct build *b, const struct doc *doc)
{
	bool all = per_connection(b, doc);

	for (uint32_t i = 0; i < doc->vs->rule_nr && all && doc->vs->hosts.nr; i++) {
		const struct m_rule *r = &doc->vs->rules[i];
		uint32_t weighted = 0;

		for (uint32_t k = 0; k < r->route_nr; k++)
			weighted += r->routes[k].weight > 0;
		if (r->http && weighted > 1)
			report_warning(b, r->doc ? r->doc : doc, r->at, FIELD(b, "spec.http[%u]", r->index), NO_HINT,
				       "weights of an http route are balanced per connection for now, not per request");
	}
}

/* Rules of a kind that no server of the gateway takes. */
static void vs_servers(struct build *b, const struct doc *doc, const struct host *gateway, uint32_t i)
{
	static const struct {
		enum port_class class;
		const char *servers, *rules;
	} kinds[] = { { PORT_HTTP, "HTTP", "http" }, { PORT_TLS, "TLS", "tls" }, { PORT_TCP, "TCP", "tcp" } };
	const struct strs *list = &doc->vs->gateways;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		bool some = false;

		for (uint32_t r = 0; r < doc->vs->rule_nr; r++)
			some |= rule_class(&doc->vs->rules[r]) == kinds[k].class;
		if (some && !gateway_takes(b->world, gateway, doc, kinds[k].class))
			report_warning(
				b, doc, list->at ? list->at[i] : (struct place){ 0 }, FIELD(b, "spec.gateways[%u]", i),
				NO_HINT,
				"gateway \"%.*s\" has no server of %s for these hosts: %s rules have no effect there",
				STR_ARG(list->v[i]), kinds[k].servers, kinds[k].rules);
	}
}

static void vs_gateways(struct build *b, const struct doc *doc)
{
	const struct strs *list = &doc->vs->gateways;

	for (uint32_t i = 0; i < list->nr; i++) {
		struct str s = list->v[i], field = FIELD(b, "spec.gateways[%u]", i);
		int slash = str_find(s, '/');
		struct str ns = slash < 0 ? doc->meta.ns : str_sub(s, 0, (uint32_t)slash);
		struct str name = slash < 0 ? s : str_sub(s, (uint32_t)slash + 1, s.len);
		const struct doc *gateway;
		struct host h = { .kind = HOST_GATEWAY, .ns = ns };
		struct place at = list->at ? list->at[i] : (struct place){ 0 };

		if (str_is(s, "mesh"))
			continue;
		gateway = model_get(b->model, KIND_ISTIO_GATEWAY, STR("Gateway"), ns, name);
		h.doc = gateway;
		if (!gateway)
			report_warning(b, doc, at, field, NO_HINT, "[IST0101] referenced gateway not found: \"%.*s\"",
				       STR_ARG(s));
		else if (!gateway_bound(b->world, &h, doc))
			report_warning(b, doc, at, field, NO_HINT,
				       "[IST0132] no host of this VirtualService is a host of gateway \"%.*s\"",
				       STR_ARG(s));
		else
			vs_servers(b, doc, &h, i);
	}
}

static bool may_meet(const struct doc *x, const struct doc *y)
{
	const struct strs *a = &x->vs->export_to, *b = &y->vs->export_to;

	if (exported_to_all(a) || exported_to_all(b))
		return true;
	for (uint32_t i = 0; i < a->nr; i++)
		if (exported(b, y->meta.ns, str_is(a->v[i], ".") ? x->meta.ns : a->v[i]))
			return true;
	return false;
}

static bool takes_port(const struct m_rule *r, const struct port *port)
{
	if (port->class != rule_class(r) && (port->class != PORT_AUTO || r->tls))
		return false;
	for (uint32_t i = 0; i < r->match_nr; i++)
		if (!r->matches[i].port || r->matches[i].port == port->number)
			return true;
	return !r->match_nr;
}

/* Rules that no port of the host can take. */
static void vs_ports(struct build *b, const struct doc *doc, const struct host *h)
{
	for (uint32_t i = 0; i < doc->vs->rule_nr; i++) {
		const struct m_rule *r = &doc->vs->rules[i];
		const char *kind = rule_list(r);
		bool any = false, mesh = !r->match_nr;

		for (uint32_t k = 0; k < r->match_nr; k++) {
			mesh |= !r->matches[k].gateways.nr;
			for (uint32_t g = 0; g < r->matches[k].gateways.nr; g++)
				mesh |= str_is(r->matches[k].gateways.v[g], "mesh");
		}
		for (uint32_t k = 0; k < h->port_nr; k++)
			any |= takes_port(r, &h->ports[k]);
		if (mesh && !any)
			report_warning(b, r->doc ? r->doc : doc, r->at, FIELD(b, "spec.%s[%u]", kind, r->index),
				       STR("a port's protocol is its appProtocol, or its name up to the first `-`"),
				       "\"%.*s\" has no port that this rule can take: %s rules are for ports whose "
				       "protocol is %s",
				       STR_ARG(h->name), kind,
				       r->http	? "HTTP or not declared"
				       : r->tls ? "TLS or HTTPS"
						: "TCP or not declared");
	}
}

static bool has_host(const struct doc *doc, struct str host)
{
	for (uint32_t i = 0; i < doc->vs->hosts.nr; i++)
		if (str_eq(doc->vs->hosts.v[i], host))
			return true;
	return false;
}

static bool on_mesh(const struct doc *doc)
{
	for (uint32_t i = 0; i < doc->vs->gateways.nr; i++)
		if (str_is(doc->vs->gateways.v[i], "mesh"))
			return true;
	return false;
}

/* Warns when some client sees both; what Istio's analyzer says of each of the two. */
static bool conflicts(struct build *b, const struct doc *other, bool other_first, const struct doc *doc,
		      struct place at, struct str field, struct str host)
{
	if (!on_mesh(other) || !may_meet(other, doc))
		return false;
	report_warning(b, doc, at, field, STR("put the rules into one VirtualService"),
		       other_first
			       ? "[IST0109] VirtualService %.*s/%.*s comes first for host \"%.*s\": its http rules "
				 "hold where one can match, its tcp rules are tried before these"
			       : "[IST0109] VirtualService %.*s/%.*s comes second for host \"%.*s\": its http rules do "
				 "not hold where one of these can match, its tcp rules are tried after these",
		       STR_ARG(other->meta.ns), STR_ARG(other->meta.name), STR_ARG(host));
	return true;
}

static void vs_conflict(struct build *b, uint32_t number, struct place at, struct str field, struct str host,
			struct str full)
{
	const struct world *w = b->world;
	const struct doc *doc = w->vss[number];

	if (host_is_wild(host)) {
		for (uint32_t i = 0; i < w->vs_wild_nr; i++)
			if (w->vs_wild[i] != number && has_host(w->vss[w->vs_wild[i]], host) &&
			    conflicts(b, w->vss[w->vs_wild[i]], w->vs_wild[i] < number, doc, at, field, host))
				return;
		return;
	}
	for (index_each(&w->vs_exact, str_hash(full), k, i))
		if (i != number && conflicts(b, w->vss[i], i < number, doc, at, field, full))
			return;
}

static void vs_host(struct build *b, uint32_t number, uint32_t at)
{
	const struct world *w = b->world;
	const struct doc *doc = w->vss[number];
	struct str host = doc->vs->hosts.v[at], field = FIELD(b, "spec.hosts[%u]", at);
	struct str full = host_full(&b->temp, w, host, doc->meta.ns);
	struct place place = doc->vs->hosts.at ? doc->vs->hosts.at[at] : (struct place){ 0 };
	const struct host *h = host_find(w, full, &nobody, true);

	vs_conflict(b, number, place, field, host, full);
	if (host_is_wild(host))
		return;
	if (h && host_not_frontend(h)) {
		report_error(b, doc, place, field, NO_HINT, "%s", host_not_frontend(h));
		return;
	}
	if (!h && !w->lone && !in_wild_entry(w, full))
		report_warning(b, doc, place, field, host_hint(b, host, doc->meta.ns),
			       "no Service or ServiceEntry has host \"%.*s\": the rules have no effect inside the mesh",
			       STR_ARG(host));
	/* Rules of a VirtualService that is bound to gateways too may be theirs. */
	if (h && doc->vs->gateways.nr == 1)
		vs_ports(b, doc, h);
}

static void virtual_services(struct build *b)
{
	for (uint32_t i = 0; i < b->world->vs_nr; i++) {
		const struct doc *doc = b->world->vss[i];
		bool mesh = on_mesh(doc);

		for (uint32_t k = 0; k < doc->vs->hosts.nr && mesh; k++)
			vs_host(b, i, k);
		vs_gateways(b, doc);
		vs_rules(b, document(doc));
		vs_weights(b, doc);
	}
}

/* ---- DestinationRule ---- */

struct counting {
	const struct kvs *labels;
	bool found;
};

static void selects(void *data, const struct workload *wl)
{
	struct counting *c = data;

	c->found |= kvs_match(c->labels, wl->labels);
}

static bool about_topology(const struct kvs *labels)
{
	for (uint32_t i = 0; i < labels->nr; i++)
		if (str_starts(labels->v[i].key, STR("topology.")))
			return true;
	return false;
}

static void dr_subsets(struct build *b, const struct doc *doc, const struct host *h)
{
	struct world *w = b->world;

	uint32_t slice_nr;

	if (h->kind != HOST_SERVICE || !h->doc->service->has_selector)
		return;
	/* With neither Pods nor slices the rules are being checked without a cluster. */
	model_slices_of(b->model, h->ns, h->doc->meta.name, &slice_nr);
	if (!w->pod_nr && !slice_nr)
		return;
	world_label(w);
	for (uint32_t i = 0; i < doc->dr->subset_nr; i++) {
		const struct m_subset *s = &doc->dr->subsets[i];
		struct counting c = { .labels = &s->labels };

		if (about_topology(&s->labels))
			continue;
		workloads_each(w, h->ns, &h->doc->service->selector, selects, &c);
		if (!c.found)
			report_warning(b, doc, s->at, FIELD(b, "spec.subsets[%u]", i), NO_HINT,
				       "[IST0173] subset \"%.*s\" selects no Pod of %.*s", STR_ARG(s->name),
				       STR_ARG(h->name));
	}
}

static void destination_rules(struct build *b)
{
	const struct world *w = b->world;

	for (uint32_t i = 0; i < w->dr_nr; i++) {
		const struct doc *doc = w->drs[i].doc;
		const struct host *h = host_find(w, w->drs[i].host, &(struct who){ .ns = doc->meta.ns }, true);
		uint32_t same = 0;

		if (!h && !w->lone && !in_wild_entry(w, w->drs[i].host) && !host_is_wild(w->drs[i].host))
			report_warning(b, doc, doc->dr->host_at, STR("spec.host"),
				       host_hint(b, doc->dr->host, doc->meta.ns),
				       "[IST0174] host \"%.*s\" is not known", STR_ARG(doc->dr->host));
		if (h)
			dr_subsets(b, doc, h);
		for (index_each(&w->dr_exact, str_hash(w->drs[i].host), k, d))
			same += d < i && str_eq(w->drs[d].doc->meta.ns, doc->meta.ns);
		if (same >= DRS_MAX)
			report_error(b, doc, doc->dr->host_at, STR("spec.host"), NO_HINT,
				     "more than %u DestinationRules for one host in one namespace", DRS_MAX);
	}
}

/* ---- Service and ServiceEntry ---- */

static void entry(struct build *b, const struct host *h)
{
	const struct host *other = h->shadowed_by;
	const struct strs *hosts = &h->doc->se->hosts;
	uint32_t i = 0;

	while (i + 1 < hosts->nr && !str_eq(hosts->v[i], h->name))
		i++;
	if (other && other->kind == HOST_SERVICE)
		report_warning(b, h->doc, hosts->at[i], FIELD(b, "spec.hosts[%u]", i), NO_HINT,
			       "Service %.*s/%.*s has host \"%.*s\" already and wins; this entry of it is not used",
			       STR_ARG(other->ns), STR_ARG(other->doc->meta.name), STR_ARG(h->name));
	else if (other)
		report_error(b, h->doc, hosts->at[i], FIELD(b, "spec.hosts[%u]", i),
			     STR("put the endpoints into one ServiceEntry"),
			     "ServiceEntry %.*s/%.*s has host \"%.*s\" in this namespace already; merging them is not "
			     "enforced yet",
			     STR_ARG(other->ns), STR_ARG(other->doc->meta.name), STR_ARG(h->name));
}

/* One warning a document: the first address and port that somebody else has. */
static void conflict(struct build *b, const struct host *h)
{
	const struct world *w = b->world;

	for (uint32_t i = 0; i < h->front_nr; i++) {
		const struct front *f = &h->fronts[i];
		uint32_t at = index_first(&w->claims, claim_hash(h, f));
		const struct host *first = at ? &w->hosts[w->claims.entries[at - 1].value] : h;
		char text[ADDR_TEXT_MAX];

		/* A Service in front of a gateway is no rival of it; Istio Gateways have a word of their own. */
		if (first == h || first->doc == h->doc ||
		    (first->kind == HOST_GATEWAY && h->doc->kind != KIND_GATEWAY) ||
		    (!f->outer && !exported_to_all(first->export_to) && !exported_to_all(h->export_to) &&
		     !str_eq(first->ns, h->ns)))
			continue;
		report_warning(b, h->doc, h->doc->meta.name_at, STR("metadata.name"), NO_HINT,
			       "%s port %u belongs to %.*s %.*s/%.*s, which is older and wins where both are seen",
			       addr_text(&f->net.addr, text), f->number, STR_ARG(first->doc->kind_name),
			       STR_ARG(first->ns), STR_ARG(first->doc->meta.name));
		return;
	}
}

static void hosts(struct build *b)
{
	const struct world *w = b->world;

	for (uint32_t i = 0; i < w->host_nr; i++) {
		const struct host *h = &w->hosts[i];

		if (h->kind == HOST_ENTRY)
			entry(b, h);
		if (h->contended)
			conflict(b, h);
		if (h->kind == HOST_GATEWAY && h->doc->kind == KIND_ISTIO_GATEWAY &&
		    (h->rule_nr || gateway_redirect(h)) && !h->front_nr)
			report_warning(b, h->doc, h->doc->gateway->selector_at, STR("spec.selector"), NO_HINT,
				       "[IST0101] no Service, Pod or Node gives this gateway an address; its rules "
				       "have no effect");
	}
}

void analyze(struct build *b)
{
	virtual_services(b);
	delegates_analyze(b);
	destination_rules(b);
	hosts(b);
	gateways_analyze(b);
	sidecars_analyze(b);
	gwapi_analyze(b);
	routes_analyze(b);
}
