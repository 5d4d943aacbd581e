/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names as one client sees them: hosts (exportTo, several of one name), ports, subsets and traffic policies. Pure lookups in a
 * world. Follows Istio's push context: a DestinationRule is looked for in the client's namespace, then in the host's, then in
 * the root namespace; in the first that has one, the most specific host counts, and rules of one host are merged.
 */
#include "config/resolve.h"

#include "config/validate.h"

struct str host_full(struct arena *a, const struct world *w, struct str host, struct str ns)
{
	if (!host.len || host_is_wild(host) || str_find(host, '.') >= 0 || str_find(host, ':') >= 0)
		return host;
	return arena_printf(a, "%.*s.%.*s%.*s", STR_ARG(host), STR_ARG(ns), STR_ARG(w->suffix));
}

bool exported_to_all(const struct strs *export_to)
{
	for (uint32_t i = 0; i < export_to->nr; i++)
		if (str_is(export_to->v[i], "*"))
			return true;
	return !export_to->nr;
}

bool exported(const struct strs *export_to, struct str owner, struct str ns)
{
	if (exported_to_all(export_to))
		return true;
	for (uint32_t i = 0; i < export_to->nr && ns.len; i++) {
		struct str s = export_to->v[i];

		if (str_eq(s, ns) || (str_is(s, ".") && str_eq(owner, ns)))
			return true;
	}
	return false;
}

const struct host *host_find(const struct world *w, struct str name, const struct who *who, bool any)
{
	const struct host *best = NULL;

	for (index_each(&w->by_name, str_hash(name), at, i)) {
		const struct host *h = &w->hosts[i];

		if (h->shadowed_by || !str_eq(h->name, name) || (!any && !exported(h->export_to, h->ns, who->ns)))
			continue;
		if (who->ns.len && str_eq(h->ns, who->ns))
			return h;
		if (!best || (best->kind == HOST_ENTRY && h->kind == HOST_SERVICE))
			best = h;
	}
	return best;
}

const struct host *host_service(const struct world *w, struct str ns, struct str name)
{
	char text[600];
	struct str full = { text, 0 };
	int len = snprintf(text, sizeof(text), "%.*s.%.*s%.*s", STR_ARG(name), STR_ARG(ns), STR_ARG(w->suffix));

	if (len < 0 || (size_t)len >= sizeof(text))
		return NULL;
	full.len = (uint32_t)len;
	for (index_each(&w->by_name, str_hash(full), at, i)) {
		const struct host *h = &w->hosts[i];

		if (h->kind == HOST_SERVICE && str_eq(h->name, full) && str_eq(h->ns, ns))
			return h;
	}
	return NULL;
}

const struct port *host_port(const struct host *h, int64_t number, bool udp)
{
	for (uint32_t i = 0; i < h->port_nr; i++)
		if (h->ports[i].number == number && h->ports[i].class != PORT_OTHER &&
		    (h->ports[i].class == PORT_UDP) == udp)
			return &h->ports[i];
	return NULL;
}

/* A DestinationRule for some clients of its namespace never leaves it. */
static bool dr_private(const struct doc *doc)
{
	const struct strs *to = &doc->dr->export_to;

	if (doc->dr->workload_selector.nr)
		return true;
	if (to->nr != 1)
		return false;
	return str_is(to->v[0], ".") || str_eq(to->v[0], doc->meta.ns);
}

enum dr_index { DR_LOCAL, DR_ROOT_LOCAL, DR_EXPORTED };

static bool dr_in(const struct doc *doc, enum dr_index which, struct str ns, const struct who *who)
{
	if (!str_eq(doc->meta.ns, ns))
		return false;
	switch (which) {
	case DR_LOCAL:
		return dr_private(doc) || exported(&doc->dr->export_to, ns, ns);
	case DR_ROOT_LOCAL:
		return dr_private(doc);
	default:
		return !dr_private(doc) && exported(&doc->dr->export_to, ns, who->ns);
	}
}

static void drs_push(struct drs *drs, const struct doc *doc)
{
	if (drs->nr < sizeof(drs->v) / sizeof(*drs->v))
		drs->v[drs->nr++] = doc;
}

/* All rules of the most specific host in one namespace. */
static bool drs_in(const struct world *w, const struct host *h, enum dr_index which, struct str ns,
		   const struct who *who, struct drs *ret)
{
	struct str best = { 0 };

	ret->nr = 0;
	for (index_each(&w->dr_exact, str_hash(h->name), at, i))
		if (str_eq(w->drs[i].host, h->name) && dr_in(w->drs[i].doc, which, ns, who))
			drs_push(ret, w->drs[i].doc);
	if (ret->nr)
		return true;
	for (index_each(&w->dr_wild_by, str_hash(ns), at, i)) {
		const struct dr *dr = &w->drs[i];

		if (dr->host.len <= h->name.len + 1 && dr->host.len > best.len && hosts_overlap(dr->host, h->name) &&
		    dr_in(dr->doc, which, ns, who))
			best = dr->host;
	}
	if (!best.len)
		return false;
	for (index_each(&w->dr_wild_by, str_hash(ns), at, i))
		if (str_eq(w->drs[i].host, best) && dr_in(w->drs[i].doc, which, ns, who))
			drs_push(ret, w->drs[i].doc);
	return ret->nr;
}

/* Those with the first selector that takes the client, else those without a selector. */
static void drs_of_client(struct drs *drs, const struct who *who)
{
	static const struct kvs none;
	const struct kvs *want = &none;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < drs->nr && !want->nr; i++) {
		const struct kvs *selector = &drs->v[i]->dr->workload_selector;

		if (selector->nr && who->labels && str_eq(drs->v[i]->meta.ns, who->ns) &&
		    kvs_match(selector, who->labels))
			want = selector;
	}
	for (uint32_t i = 0; i < drs->nr; i++) {
		const struct kvs *selector = &drs->v[i]->dr->workload_selector;

		if (selector->nr == want->nr && kvs_match(selector, want))
			drs->v[nr++] = drs->v[i];
	}
	drs->nr = nr;
}

void drs_find(const struct world *w, const struct host *h, const struct who *who, struct drs *ret)
{
	bool root = str_eq(who->ns, w->root_ns);

	ret->nr = 0;
	if (!w->dr_nr)
		return;
	if ((who->ns.len && drs_in(w, h, root ? DR_ROOT_LOCAL : DR_LOCAL, who->ns, who, ret)) ||
	    drs_in(w, h, DR_EXPORTED, h->ns, who, ret) || drs_in(w, h, DR_EXPORTED, w->root_ns, who, ret))
		drs_of_client(ret, who);
}

const struct m_subset *drs_subset(const struct drs *drs, struct str name, const struct doc **ret_by)
{
	for (uint32_t i = 0; i < drs->nr; i++) {
		for (uint32_t k = 0; k < drs->v[i]->dr->subset_nr; k++) {
			if (!str_eq(drs->v[i]->dr->subsets[k].name, name))
				continue;
			*ret_by = drs->v[i];
			return &drs->v[i]->dr->subsets[k];
		}
	}
	return NULL;
}

/* Settings of a port replace the policy's: what they leave out is the default. */
static bool policy_at(const struct m_traffic_policy *p, int64_t port, const struct doc *doc, struct policy *ret)
{
	*ret = (struct policy){ .parts = p->all, .by = doc, .from = p };
	for (uint32_t i = 0; i < p->port_nr; i++) {
		if (p->ports[i].port != port)
			continue;
		ret->parts = p->ports[i].policy;
		ret->port = &p->ports[i];
		return true;
	}
	return false;
}

static const struct doc *subset_doc(const struct drs *drs, const struct m_subset *subset)
{
	for (uint32_t i = 0; i < drs->nr; i++) {
		const struct m_destination_rule *dr = drs->v[i]->dr;

		if (subset >= dr->subsets && subset < dr->subsets + dr->subset_nr)
			return drs->v[i];
	}
	return NULL;
}

void drs_policy(const struct drs *drs, const struct m_subset *subset, int64_t port, struct policy *ret)
{
	struct policy own;
	bool at_port;

	*ret = (struct policy){ 0 };
	for (uint32_t i = 0; i < drs->nr && !ret->by; i++)
		if (drs->v[i]->dr->policy.given)
			policy_at(&drs->v[i]->dr->policy, port, drs->v[i], ret);
	if (!subset || !subset->policy.given)
		return;
	at_port = policy_at(&subset->policy, port, subset_doc(drs, subset), &own);
	if (!at_port && !own.parts.lb && !own.parts.pool && !own.parts.outlier)
		return;
	/* A part that the subset gives goes before the rule's; the settings of its port before all of the rule's. */
	if (!at_port && !own.parts.lb)
		own.parts.lb = ret->parts.lb;
	if (!at_port && !own.parts.pool)
		own.parts.pool = ret->parts.pool;
	if (!at_port && !own.parts.outlier)
		own.parts.outlier = ret->parts.outlier;
	*ret = own;
}
