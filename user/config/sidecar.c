/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sidecars: which one a pod has, and what it leaves visible of a host and its rules. Follows Istio's sidecar scope: the oldest whose
 * selector the pod has, else the oldest of its namespace without one, else that of the root namespace. A VirtualService is imported
 * whole when one of its hosts is, a Gateway API route when its Service is. Where routes of what is imported lead to is always known.
 */
#include "config/resolve.h"
#include "config/validate.h"

void sidecars_add(struct world *w, const struct model *m)
{
	w->sidecars = model_list(m, KIND_SIDECAR, &w->sidecar_nr);
	index_init(&w->sidecar_by_ns, &w->arena, w->sidecar_nr);
	for (uint32_t i = 0; i < w->sidecar_nr; i++)
		index_add(&w->sidecar_by_ns, str_hash(w->sidecars[i]->meta.ns), i);
	index_seal(&w->sidecar_by_ns, &w->arena);
}

/* The one of a namespace without a selector. */
static const struct doc *of_namespace(const struct world *w, struct str ns)
{
	for (index_each(&w->sidecar_by_ns, str_hash(ns), at, i))
		if (str_eq(w->sidecars[i]->meta.ns, ns) && !w->sidecars[i]->sidecar->selector.nr)
			return w->sidecars[i];
	return NULL;
}

static const struct doc *next_selecting(const struct world *w, const struct doc *pod, const struct doc *after)
{
	bool found = !after;

	for (index_each(&w->sidecar_by_ns, str_hash(pod->meta.ns), at, i)) {
		const struct doc *doc = w->sidecars[i];

		if (found && doc->sidecar->selector.nr && str_eq(doc->meta.ns, pod->meta.ns) &&
		    kvs_match(&doc->sidecar->selector, &pod->meta.labels))
			return doc;
		found |= doc == after;
	}
	return NULL;
}

const struct doc *sidecar_of(const struct world *w, const struct doc *pod)
{
	const struct doc *doc;

	if (!w->sidecar_nr)
		return NULL;
	doc = next_selecting(w, pod, NULL);
	if (!doc)
		doc = of_namespace(w, pod->meta.ns);
	return doc ? doc : of_namespace(w, w->root_ns);
}

bool sidecar_names_own(const struct doc *doc)
{
	for (uint32_t i = 0; i < doc->sidecar->import_nr; i++)
		if (str_is(doc->sidecar->imports[i].ns, "."))
			return true;
	return false;
}

/* ---- what it sees ---- */

static bool from_ns(const struct m_import *import, struct str ns, struct str own)
{
	return str_is(import->ns, "*") || str_eq(str_is(import->ns, ".") ? own : import->ns, ns);
}

/* Every name of `host` is one of `import`. */
static bool covers(struct str import, struct str host)
{
	return host_is_wild(import) ? hosts_overlap(import, host) && host.len >= import.len : str_eq(import, host);
}

bool sidecar_sees(const struct who *who, const struct host *h)
{
	const struct m_sidecar *s = who->sidecar ? who->sidecar->sidecar : NULL;

	if (!s || s->sees_all)
		return true;
	for (uint32_t i = 0; i < s->import_nr; i++)
		if (from_ns(&s->imports[i], h->ns, who->ns) && covers(s->imports[i].host, h->name))
			return true;
	return false;
}

/* One of the hosts of a VirtualService is, or covers, or is covered by, what is imported. */
static bool imports_vs(const struct world *w, struct str import, const struct doc *doc)
{
	char text[600];

	for (uint32_t i = 0; i < doc->vs->hosts.nr; i++) {
		struct str host = doc->vs->hosts.v[i];
		int len;

		if (str_find(host, '.') < 0 && !host_is_wild(host)) {
			len = snprintf(text, sizeof(text), "%.*s.%.*s%.*s", STR_ARG(host), STR_ARG(doc->meta.ns),
				       STR_ARG(w->suffix));
			host = (struct str){ text, len > 0 && (size_t)len < sizeof(text) ? (uint32_t)len : 0 };
		}
		if (hosts_overlap(import, host))
			return true;
	}
	return false;
}

bool sidecar_imports(const struct world *w, const struct who *who, const struct host *h, const struct doc *rule)
{
	const struct m_sidecar *s = who->sidecar ? who->sidecar->sidecar : NULL;

	if (!s || s->sees_all)
		return true;
	for (uint32_t i = 0; i < s->import_nr; i++) {
		const struct m_import *import = &s->imports[i];

		if (!from_ns(import, rule->meta.ns, who->ns))
			continue;
		if (rule->kind == KIND_VIRTUAL_SERVICE ? imports_vs(w, import->host, rule)
						       : covers(import->host, h->name))
			return true;
	}
	return false;
}

enum sidecar_view sidecar_view(const struct world *w, const struct who *who, const struct host *h)
{
	if (!who->sidecar || who->sidecar->sidecar->sees_all)
		return SIDECAR_SEES_ALL;
	/* Whoever has the address for this client depends on what it sees of others. */
	if (h->contended)
		return SIDECAR_SEES_PART;
	if (!sidecar_sees(who, h))
		return SIDECAR_SEES_NOTHING;
	for (uint32_t i = 0; i < h->rule_nr && h->kind != HOST_GATEWAY; i++)
		if (!sidecar_imports(w, who, h, h->rules[i]))
			return SIDECAR_SEES_PART;
	return SIDECAR_SEES_ALL;
}

/* ---- what people should know ---- */

static void warn_pair(struct build *b, const struct doc *older, const struct doc *younger, const struct doc *pod)
{
	report_warning(b, younger, younger->sidecar->selector_at, STR("spec.workloadSelector"), (struct str){ 0 },
		       "[IST0110] Sidecar %.*s/%.*s is older and selects pod %.*s too: it wins there",
		       STR_ARG(older->meta.ns), STR_ARG(older->meta.name), STR_ARG(pod->meta.name));
	report_warning(b, older, older->sidecar->selector_at, STR("spec.workloadSelector"), (struct str){ 0 },
		       "[IST0110] Sidecar %.*s/%.*s selects pod %.*s too; this one is older and wins there",
		       STR_ARG(younger->meta.ns), STR_ARG(younger->meta.name), STR_ARG(pod->meta.name));
}

static void warn_selector(struct build *b, const struct doc *doc)
{
	const struct world *w = b->world;
	const struct doc *other = NULL;
	bool selects = false;

	for (uint32_t i = 0; i < w->pod_nr; i++) {
		const struct doc *pod = w->workloads[i].doc, *first;

		if (!str_eq(pod->meta.ns, doc->meta.ns) || !kvs_match(&doc->sidecar->selector, &pod->meta.labels))
			continue;
		selects = true;
		first = next_selecting(w, pod, NULL);
		if (first != doc && first != other) {
			warn_pair(b, first, doc, pod);
			other = first;
		}
	}
	if (!selects && w->pod_nr)
		report_warning(b, doc, doc->sidecar->selector_at, STR("spec.workloadSelector"), (struct str){ 0 },
			       "[IST0101] no pod of namespace %.*s has these labels", STR_ARG(doc->meta.ns));
}

/* Sockets on the node's network are nobody's in particular. */
static void warn_on_node(struct build *b)
{
	const struct world *w = b->world;
	bool *said = arena_array(&b->temp, w->sidecar_nr, sizeof(*said));

	for (uint32_t i = 0; i < w->pod_nr; i++) {
		const struct doc *pod = w->workloads[i].doc, *doc;

		if (!pod->pod->host_network || pod->pod->finished)
			continue;
		doc = sidecar_of(w, pod);
		for (uint32_t k = 0; k < w->sidecar_nr; k++) {
			if (w->sidecars[k] != doc || said[k])
				continue;
			said[k] = true;
			report_warning(b, doc, doc->meta.name_at, STR("metadata.name"), (struct str){ 0 },
				       "not enforced for pod %.*s/%.*s: it is on its node's network",
				       STR_ARG(pod->meta.ns), STR_ARG(pod->meta.name));
		}
	}
}

void sidecars_analyze(struct build *b)
{
	const struct world *w = b->world;

	for (uint32_t i = 0; i < w->sidecar_nr; i++) {
		const struct doc *doc = w->sidecars[i], *first = of_namespace(w, doc->meta.ns);

		if (doc->sidecar->selector.nr)
			warn_selector(b, doc);
		else if (first != doc)
			report_warning(b, doc, doc->meta.name_at, STR("metadata.name"), (struct str){ 0 },
				       "[IST0111] not used: Sidecar %.*s of the same namespace has no selector either "
				       "and is older",
				       STR_ARG(first->meta.name));
	}
	if (w->sidecar_nr)
		warn_on_node(b);
}
