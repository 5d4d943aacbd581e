/* SPDX-License-Identifier: BSD-2-Clause */
/* What is wrong with Gateways of the Gateway API: those that are somebody else's, or not enforced; and routes that attach to none. */
#include "config/route.h"

#define FIELD(b, ...) arena_printf(&(b)->temp, __VA_ARGS__)
#define NO_HINT ((struct str){ 0 })

/* ---- Gateways ---- */

static void gateway_class(struct build *b, const struct doc *doc)
{
	if (doc->gwclass->ours)
		return;
	report_warning(b, doc, doc->gwclass->at, STR("spec.controllerName"), NO_HINT,
		       "another controller's: its Gateways are left alone");
	if (b->batch)
		batch_skip_doc(b->batch, doc);
}

static void gateway(struct build *b, const struct doc *doc)
{
	const struct m_gateway *g = doc->gw;

	if (!gwapi_ours(b->model, doc)) {
		report_warning(b, doc, g->class_at, STR("spec.gatewayClassName"),
			       STR("class `" GATEWAY_CLASS "`, or any whose controllerName is " GATEWAY_CONTROLLER),
			       "class \"%.*s\" is not of this mesh: this Gateway is left alone", STR_ARG(g->class));
		if (b->batch)
			batch_skip_doc(b->batch, doc);
		return;
	}
	for (uint32_t i = 0; i < g->noted_nr; i++)
		report_error(b, doc, g->noted[i].at, g->noted[i].field, NO_HINT, "not enforced yet: %.*s",
			     STR_ARG(g->noted[i].message));
	if (!g->addr_nr)
		report_warning(b, doc, doc->meta.name_at, STR("metadata.name"), NO_HINT,
			       "no address: nobody can dial its listeners");
	for (uint32_t i = 0; i < g->listener_nr; i++)
		if (g->listeners[i].proto && !g->listeners[i].takes)
			report_warning(b, doc, g->listeners[i].at,
				       FIELD(b, "spec.listeners[%u].allowedRoutes.kinds", i), NO_HINT,
				       "none of these kinds can attach to a listener of this protocol");
}

/* ---- routes ---- */

static const char *attachment_text(enum attachment best)
{
	switch (best) {
	case ATTACH_KIND:
		return "that listener takes no routes of this kind";
	case ATTACH_NAMESPACE:
		return "that listener takes no routes of this namespace";
	default:
		return "the Gateway has no such listener";
	}
}

void gwapi_parent_analyze(struct build *b, const struct doc *doc, uint32_t at)
{
	const struct m_parent_ref *p = &doc->route->parents[at];
	struct str field = FIELD(b, "spec.parentRefs[%u]", at);
	const struct doc *g = model_get(b->model, KIND_GATEWAY, STR("Gateway"), p->ns, p->name);
	enum attachment best = ATTACH_ELSEWHERE;

	if (g && !gwapi_ours(b->model, g)) {
		report_warning(b, doc, p->at, field, NO_HINT,
			       "Gateway %.*s/%.*s is not of this mesh: the route has no effect there", STR_ARG(p->ns),
			       STR_ARG(p->name));
		return;
	}
	if (!g) {
		report_warning(b, doc, p->at, field, NO_HINT,
			       "Gateway %.*s/%.*s not found: the route has no effect there", STR_ARG(p->ns),
			       STR_ARG(p->name));
		return;
	}
	for (uint32_t i = 0; i < g->gw->listener_nr; i++) {
		enum attachment here = gwapi_attaches(b->model, g, &g->gw->listeners[i], doc, p);
		const struct doc *first;

		if (here == ATTACH_YES || (best != ATTACH_YES && here > best))
			best = here;
		first = here == ATTACH_YES ? gwapi_route(b->world, b->model, g, &g->gw->listeners[i]) : NULL;
		if (first && first != doc && !g->gw->listeners[i].http)
			report_warning(b, doc, p->at, field, NO_HINT,
				       "%.*s %.*s/%.*s comes first for listener \"%.*s\"; the oldest wins",
				       STR_ARG(first->kind_name), STR_ARG(first->meta.ns), STR_ARG(first->meta.name),
				       STR_ARG(g->gw->listeners[i].name));
	}
	if (best == ATTACH_YES && doc->route->kind == ROUTE_HTTP && !http_route_meets(b->model, g, doc))
		report_warning(
			b, doc, p->at, field, NO_HINT,
			"Gateway %.*s/%.*s: no listener has a host name of the route; the route has no effect there",
			STR_ARG(p->ns), STR_ARG(p->name));
	if (best != ATTACH_YES)
		report_warning(b, doc, p->at, field, NO_HINT, "Gateway %.*s/%.*s: %s; the route has no effect there",
			       STR_ARG(p->ns), STR_ARG(p->name), attachment_text(best));
}

void gwapi_analyze(struct build *b)
{
	uint32_t nr;
	struct doc *const *docs = model_list(b->model, KIND_GATEWAY_CLASS, &nr);

	for (uint32_t i = 0; i < nr; i++)
		gateway_class(b, docs[i]);
	docs = model_list(b->model, KIND_GATEWAY, &nr);
	for (uint32_t i = 0; i < nr; i++)
		gateway(b, docs[i]);
}
