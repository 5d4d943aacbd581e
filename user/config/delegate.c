/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A rule of a VirtualService may delegate: the http: rules of another one, which has no hosts, stand in its place, as pilot merges them
 * (pilot/pkg/model, mergeVirtualServicesIfNeeded). Each is for the requests that both matches are for, and what it does not say itself it
 * takes over. A rule of which no match lies within one of the delegating rule's is left out, and so is a delegation that leads nowhere:
 * requests go on to the next rule. Names are resolved in the namespace of the document that says them. Everything made here is the
 * world's; nothing is reported before delegates_analyze().
 */
#include "config/delegate.h"

#include "config/kind_http.h"
#include "config/validate.h"

/* Rules and matches of one VirtualService with those of its delegates; what is beyond is refused. */
#define MERGED_MAX 65536
/* Pairs of matches that two rules may have. */
#define PAIRS_MAX 65536

struct merging {
	struct world *w;
	const struct doc *doc, *delegate;
	uint32_t left; /* of MERGED_MAX */
};

/* ---- matches ---- */

static bool text_conflicts(const struct m_http_text *root, const struct m_http_text *own)
{
	if (root->kind == MESH_TEXT_ANY || own->kind == MESH_TEXT_ANY)
		return false;
	if (root->kind == MESH_TEXT_EXACT)
		return own->kind != MESH_TEXT_EXACT || !str_eq(own->text, root->text);
	if (root->kind == MESH_TEXT_PREFIX && (own->kind == MESH_TEXT_EXACT || own->kind == MESH_TEXT_PREFIX))
		return !str_starts(own->text, root->text);
	return true;
}

static const struct m_http_named *named_get(const struct m_http_named *v, uint32_t nr, const struct m_http_named *like)
{
	for (uint32_t i = 0; i < nr; i++)
		if (str_eq(v[i].name, like->name) && v[i].value.invert == like->value.invert)
			return &v[i];
	return NULL;
}

static bool named_conflict(const struct m_http_named *root, uint32_t root_nr, const struct m_http_named *own,
			   uint32_t own_nr)
{
	for (uint32_t i = 0; i < own_nr; i++) {
		const struct m_http_named *r = named_get(root, root_nr, &own[i]);

		if (r && text_conflicts(&r->value, &own[i].value))
			return true;
	}
	return false;
}

static bool labels_conflict(const struct kvs *root, const struct kvs *own)
{
	for (uint32_t i = 0; i < own->nr; i++) {
		const struct str *value = kvs_get(root, own->v[i].key);

		if (value && !str_eq(*value, own->v[i].val))
			return true;
	}
	return false;
}

static bool has(const struct strs *list, struct str s)
{
	for (uint32_t i = 0; i < list->nr; i++)
		if (str_eq(list->v[i], s))
			return true;
	return false;
}

/* Both lists have full names. */
static bool gateways_conflict(const struct strs *root, const struct strs *own)
{
	for (uint32_t i = 0; i < own->nr && root->nr; i++)
		if (!has(root, own->v[i]))
			return true;
	return false;
}

static bool l4_conflicts(const struct m_l4_match *root, const struct m_l4_match *own)
{
	return (root->port && own->port && root->port != own->port) ||
	       (root->source_ns.len && !str_eq(root->source_ns, own->source_ns)) ||
	       labels_conflict(&root->source_labels, &own->source_labels) ||
	       gateways_conflict(&root->gateways, &own->gateways);
}

static bool http_conflicts(const struct m_http_match *root, const struct m_http_match *own)
{
	return text_conflicts(&root->path, &own->path) || root->path.ignore_case != own->path.ignore_case ||
	       text_conflicts(&root->scheme, &own->scheme) || text_conflicts(&root->method, &own->method) ||
	       text_conflicts(&root->authority, &own->authority) ||
	       named_conflict(root->headers, root->header_nr, own->headers, own->header_nr) ||
	       named_conflict(root->queries, root->query_nr, own->queries, own->query_nr);
}

/* Those of the root that the delegate does not name, then the delegate's. */
static struct m_http_named *named_merge(struct arena *a, const struct m_http_named *root, uint32_t root_nr,
					const struct m_http_named *own, uint32_t own_nr, uint32_t *ret_nr)
{
	struct m_http_named *v = arena_array(a, (size_t)root_nr + own_nr, sizeof(*v));
	uint32_t nr = 0;

	for (uint32_t i = 0; i < root_nr; i++)
		if (!named_get(own, own_nr, &root[i]))
			v[nr++] = root[i];
	for (uint32_t i = 0; i < own_nr; i++)
		v[nr++] = own[i];
	*ret_nr = nr;
	return v;
}

static void text_merge(struct m_http_text *text, const struct m_http_text *root)
{
	if (text->kind == MESH_TEXT_ANY)
		*text = *root;
}

static void http_merge(struct arena *a, const struct m_http_match *root, const struct m_http_match *own,
		       struct m_http_match *ret)
{
	*ret = *own;
	text_merge(&ret->path, &root->path);
	text_merge(&ret->scheme, &root->scheme);
	text_merge(&ret->method, &root->method);
	text_merge(&ret->authority, &root->authority);
	ret->headers = named_merge(a, root->headers, root->header_nr, own->headers, own->header_nr, &ret->header_nr);
	ret->queries = named_merge(a, root->queries, root->query_nr, own->queries, own->query_nr, &ret->query_nr);
}

/* In order, as they are looked up. What both have is the same. */
static void labels_merge(struct arena *a, const struct kvs *x, const struct kvs *y, struct kvs *ret)
{
	uint32_t i = 0, k = 0;

	*ret = (struct kvs){ .v = arena_array(a, (size_t)x->nr + y->nr, sizeof(*ret->v)) };
	while (i < x->nr || k < y->nr) {
		int c = i == x->nr ? 1 : k == y->nr ? -1 : str_cmp(x->v[i].key, y->v[k].key);

		ret->v[ret->nr++] = c <= 0 ? x->v[i] : y->v[k];
		i += c <= 0;
		k += c >= 0;
	}
}

static void l4_merge(struct arena *a, const struct m_l4_match *root, const struct m_l4_match *own,
		     struct m_l4_match *ret)
{
	*ret = *own;
	if (!ret->port)
		ret->port = root->port;
	if (!ret->source_ns.len)
		ret->source_ns = root->source_ns;
	if (!ret->gateways.nr)
		ret->gateways = root->gateways;
	labels_merge(a, &root->source_labels, &own->source_labels, &ret->source_labels);
}

/* ---- names ---- */

static struct strs gateways_full(struct world *w, const struct strs *list, struct str ns)
{
	struct strs full = { .v = arena_array(&w->arena, list->nr, sizeof(struct str)),
			     .nr = list->nr,
			     .at = list->at };

	for (uint32_t i = 0; i < list->nr; i++) {
		full.v[i] = list->v[i];
		if (!str_is(full.v[i], "mesh") && str_find(full.v[i], '/') < 0)
			full.v[i] = arena_printf(&w->arena, "%.*s/%.*s", STR_ARG(ns), STR_ARG(list->v[i]));
	}
	return full;
}

static struct m_l4_match *l4_full(struct world *w, const struct m_rule *r, struct str ns)
{
	struct m_l4_match *v = arena_array(&w->arena, r->match_nr, sizeof(*v));

	for (uint32_t i = 0; i < r->match_nr; i++) {
		v[i] = r->matches[i];
		v[i].gateways = gateways_full(w, &v[i].gateways, ns);
	}
	return v;
}

static struct m_destination *routes_full(struct world *w, const struct m_rule *r, struct str ns)
{
	struct m_destination *v = arena_array(&w->arena, r->route_nr, sizeof(*v));

	for (uint32_t i = 0; i < r->route_nr; i++) {
		v[i] = r->routes[i];
		v[i].host = host_full(&w->arena, w, v[i].host, ns);
	}
	return v;
}

/* ---- rules ---- */

/* The matches that hold where one of each rule does; false: there is none. */
static bool matches_merge(struct world *w, const struct m_rule *root, struct str root_ns, const struct m_rule *own,
			  struct str ns, struct m_rule *ret, struct m_http_rule *more)
{
	const struct m_l4_match *outer = l4_full(w, root, root_ns), *inner = l4_full(w, own, ns);
	struct m_l4_match *l4;
	struct m_http_match *http;
	uint32_t nr = 0;

	if (!root->match_nr || !own->match_nr) {
		const struct m_rule *r = root->match_nr ? root : own;

		ret->matches = (struct m_l4_match *)(root->match_nr ? outer : inner);
		more->matches = r->more->matches;
		ret->match_nr = more->match_nr = r->match_nr;
		return true;
	}
	l4 = arena_array(&w->arena, (size_t)root->match_nr * own->match_nr, sizeof(*l4));
	http = arena_array(&w->arena, (size_t)root->match_nr * own->match_nr, sizeof(*http));
	for (uint32_t i = 0; i < own->match_nr; i++) {
		uint32_t before = nr;

		for (uint32_t k = 0; k < root->match_nr; k++) {
			if (l4_conflicts(&outer[k], &inner[i]) ||
			    http_conflicts(&root->more->matches[k], &own->more->matches[i]))
				continue;
			l4_merge(&w->arena, &outer[k], &inner[i], &l4[nr]);
			http_merge(&w->arena, &root->more->matches[k], &own->more->matches[i], &http[nr++]);
		}
		/* Each must be a part of one of the root's. */
		if (nr == before)
			return false;
	}
	ret->matches = l4;
	more->matches = http;
	ret->match_nr = more->match_nr = nr;
	return true;
}

static void mirror_put(struct world *w, struct m_http_mirrors *out, const struct m_http_mirror *m, struct str ns)
{
	struct m_http_mirror *to = &out->v[out->nr++];

	*to = *m;
	to->to.host = host_full(&w->arena, w, to->to.host, ns);
}

/* mirror, its share, and mirrors come from the one or the other each; a rule itself has only one of the first and the last. */
static void mirrors_merge(struct world *w, const struct m_http_rule *root, struct str root_ns,
			  const struct m_http_rule *own, struct str ns, struct m_http_mirrors *out)
{
	const struct m_http_rule *one = own->own.mirror ? own : root, *list = own->own.mirrors ? own : root;
	const struct m_http_rule *share = own->own.share ? own : root;

	*out = (struct m_http_mirrors){ 0 };
	out->v = arena_array(&w->arena, (size_t)one->mirrors.nr + list->mirrors.nr, sizeof(*out->v));
	if (one->own.mirror) {
		mirror_put(w, out, one->mirrors.v, one == own ? ns : root_ns);
		out->v->share = share->own.mirror_share;
	}
	for (uint32_t i = 0; i < list->mirrors.nr && list->own.mirrors; i++)
		mirror_put(w, out, &list->mirrors.v[i], list == own ? ns : root_ns);
}

/* What the delegate's rule does not say is as the root's says. */
static void actions_merge(const struct m_http_rule *root, struct m_http_rule *more)
{
	const struct m_http_rule *rewrite = more->own.rewrite ? more : root;
	struct str authority = rewrite->own.authority;
	struct str host = more->own.headers ? more->own.host : root->own.host;

	/* Where it redirects to is its own. */
	if (more->action != MESH_HTTP_REDIRECT) {
		more->rewrite = rewrite->rewrite;
		more->rewrite.authority = host.len ? host : authority;
	}
	if (!more->own.headers) {
		more->request = root->request;
		more->response = root->response;
	}
	if (more->action == MESH_HTTP_FORWARD && root->action == MESH_HTTP_DIRECT) {
		more->action = root->action;
		more->direct_status = root->direct_status;
		more->body = root->body;
		more->body_type = root->body_type;
	}
	if (!more->own.timeout)
		more->timeout_ms = root->timeout_ms;
	if (!more->own.fault)
		more->fault = root->fault;
	if (!more->retry)
		more->retry = root->retry;
	if (!more->cors)
		more->cors = root->cors;
}

static struct str name_merge(struct arena *a, struct str root, struct str own)
{
	if (!root.len || !own.len)
		return root.len ? root : own;
	return arena_printf(a, "%.*s-%.*s", STR_ARG(root), STR_ARG(own));
}

static bool rule_merge(struct merging *mg, const struct m_rule *root, const struct m_rule *own, struct m_rule *ret)
{
	struct str root_ns = mg->doc->meta.ns, ns = mg->delegate->meta.ns;
	struct m_http_rule *more = arena_new(&mg->w->arena, struct m_http_rule);

	*ret = *own;
	*more = *own->more;
	if (!matches_merge(mg->w, root, root_ns, own, ns, ret, more))
		return false;
	actions_merge(root->more, more);
	mirrors_merge(mg->w, root->more, root_ns, own->more, ns, &more->mirrors);
	more->acts = http_rule_acts(more, own->route_nr);
	ret->more = more;
	ret->name = name_merge(&mg->w->arena, root->name, own->name);
	ret->routes = routes_full(mg->w, own, ns);
	ret->doc = mg->delegate;
	return true;
}

/* ---- documents ---- */

static void note(struct merging *mg, enum delegation_kind kind, const struct m_rule *rule, const struct m_rule *own)
{
	struct delegation *d = arena_new(&mg->w->arena, struct delegation);

	*d = (struct delegation){ .kind = kind, .doc = mg->doc, .rule = rule, .delegate = mg->delegate, .own = own };
	*mg->w->delegations_end = d;
	mg->w->delegations_end = &d->next;
}

static struct str delegate_ns(const struct doc *doc, const struct m_delegate *d)
{
	return d->ns.len ? d->ns : doc->meta.ns;
}

/* NULL, and said so: the rule has none that holds. */
static const struct doc *delegate_find(struct merging *mg, const struct model *m, const struct m_rule *rule)
{
	struct str ns = delegate_ns(mg->doc, rule->delegate);
	const struct doc *d = model_get(m, KIND_VIRTUAL_SERVICE, (struct str){ 0 }, ns, rule->delegate->name);

	if (d && !d->vs->hosts.nr && exported(&d->vs->export_to, ns, mg->doc->meta.ns))
		return d;
	note(mg, !d ? DELEGATION_ABSENT : d->vs->hosts.nr ? DELEGATION_HOSTS : DELEGATION_HIDDEN, rule, NULL);
	return NULL;
}

static uint32_t rules_max(const struct doc *doc, const struct model *m)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < doc->vs->rule_nr && nr <= MERGED_MAX; i++) {
		const struct m_delegate *d = doc->vs->rules[i].delegate;
		const struct doc *to =
			d ? model_get(m, KIND_VIRTUAL_SERVICE, (struct str){ 0 }, delegate_ns(doc, d), d->name) : NULL;

		nr += to ? to->vs->rule_nr : 1;
	}
	return nr;
}

static void rule_delegated(struct merging *mg, const struct m_rule *rule, struct m_virtual_service *vs)
{
	const struct m_virtual_service *from = mg->delegate->vs;

	for (uint32_t i = 0; i < from->rule_nr; i++) {
		const struct m_rule *own = &from->rules[i];
		uint64_t pairs = (uint64_t)rule->match_nr * own->match_nr;
		uint64_t cost = 1 + (pairs ? pairs : rule->match_nr + own->match_nr);

		if (pairs > PAIRS_MAX || cost > mg->left) {
			note(mg, DELEGATION_TOO_MANY, rule, own);
			return;
		}
		mg->left -= (uint32_t)cost;
		if (rule_merge(mg, rule, own, &vs->rules[vs->rule_nr]))
			vs->rule_nr++;
		else
			note(mg, DELEGATION_CONFLICT, rule, own);
	}
}

static struct doc *doc_merged(struct world *w, const struct model *m, const struct doc *doc)
{
	struct merging mg = { .w = w, .doc = doc, .left = MERGED_MAX };
	struct m_virtual_service *vs = arena_new(&w->arena, struct m_virtual_service);
	struct doc *copy = arena_new(&w->arena, struct doc);

	*copy = *doc;
	*vs = *doc->vs;
	vs->of = doc;
	vs->rule_nr = 0;
	vs->rules = arena_array(&w->arena, (size_t)rules_max(doc, m) + doc->vs->rule_nr, sizeof(*vs->rules));
	for (uint32_t i = 0; i < doc->vs->rule_nr; i++) {
		const struct m_rule *rule = &doc->vs->rules[i];

		mg.delegate = NULL;
		if (!rule->delegate) {
			vs->rules[vs->rule_nr++] = *rule;
			continue;
		}
		mg.delegate = delegate_find(&mg, m, rule);
		if (mg.delegate)
			rule_delegated(&mg, rule, vs);
	}
	copy->vs = vs;
	return copy;
}

/* Who is delegated to. */
static void delegated_index(struct world *w)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < w->vs_nr; i++)
		nr += w->vss[i]->vs->delegates ? w->vss[i]->vs->rule_nr : 0;
	index_init(&w->delegated, &w->arena, nr);
	for (uint32_t i = 0; i < w->vs_nr; i++) {
		const struct m_virtual_service *vs = w->vss[i]->vs;

		for (uint32_t k = 0; k < vs->rule_nr && vs->delegates; k++)
			if (vs->rules[k].delegate)
				index_add(&w->delegated,
					  index_hash2(delegate_ns(w->vss[i], vs->rules[k].delegate),
						      vs->rules[k].delegate->name),
					  i);
	}
	index_seal(&w->delegated, &w->arena);
}

void delegates_merge(struct world *w, const struct model *m)
{
	struct doc **merged;
	bool any = false;

	w->vss = model_list(m, KIND_VIRTUAL_SERVICE, &w->vs_nr);
	w->delegations_end = &w->delegations;
	delegated_index(w);
	for (uint32_t i = 0; i < w->vs_nr; i++)
		any |= w->vss[i]->vs->delegates;
	if (!any)
		return;
	merged = arena_array(&w->arena, w->vs_nr, sizeof(struct doc *));
	for (uint32_t i = 0; i < w->vs_nr; i++)
		merged[i] = w->vss[i]->vs->delegates ? doc_merged(w, m, w->vss[i]) : w->vss[i];
	w->vss = merged;
}

/* ---- reports ---- */

static void report(struct build *b, const struct delegation *d)
{
	const struct m_delegate *to = d->rule->delegate;
	struct str field = arena_printf(&b->temp, "spec.http[%u].delegate", d->rule->index);
	struct str ns = delegate_ns(d->doc, to);
	const struct str on = STR("its requests go on to the next rule");

	switch (d->kind) {
	case DELEGATION_ABSENT:
		report_warning(b, d->doc, to->at, field, on,
			       "[IST0101] referenced VirtualService not found: \"%.*s/%.*s\"", STR_ARG(ns),
			       STR_ARG(to->name));
		return;
	case DELEGATION_HOSTS:
		report_warning(b, d->doc, to->at, field, on,
			       "VirtualService \"%.*s/%.*s\" has hosts: only one without can be delegated to",
			       STR_ARG(ns), STR_ARG(to->name));
		return;
	case DELEGATION_HIDDEN:
		report_warning(b, d->doc, to->at, field, on,
			       "VirtualService \"%.*s/%.*s\" is not exported to namespace %.*s", STR_ARG(ns),
			       STR_ARG(to->name), STR_ARG(d->doc->meta.ns));
		return;
	case DELEGATION_CONFLICT:
		report_warning(b, d->delegate, d->own->at, arena_printf(&b->temp, "spec.http[%u]", d->own->index),
			       STR("each of its matches must be a part of one of those"),
			       "this rule does not hold for VirtualService %.*s/%.*s: it conflicts with the match of "
			       "spec.http[%u], which delegates to it",
			       STR_ARG(d->doc->meta.ns), STR_ARG(d->doc->meta.name), d->rule->index);
		return;
	case DELEGATION_TOO_MANY:
		report_error(b, d->doc, to->at, field, (struct str){ 0 },
			     "with its delegates it has more than %u rules and matches", MERGED_MAX);
	}
}

void delegates_analyze(struct build *b)
{
	const struct world *w = b->world;

	for (const struct delegation *d = w->delegations; d; d = d->next)
		report(b, d);
	for (uint32_t i = 0; i < w->vs_nr; i++) {
		const struct doc *doc = w->vss[i];

		if (!doc->vs->hosts.nr && !index_first(&w->delegated, index_hash2(doc->meta.ns, doc->meta.name)))
			report_warning(b, doc, doc->meta.name_at, STR("metadata.name"), (struct str){ 0 },
				       "no VirtualService delegates to this one, which has no hosts: its rules have no "
				       "effect");
	}
}
