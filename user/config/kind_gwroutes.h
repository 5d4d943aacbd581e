/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of routes of the Gateway API share. */
#ifndef CONFIG_KIND_GWROUTES_H
#define CONFIG_KIND_GWROUTES_H

#include "config/kind_http.h"

struct raw_backend {
	struct str group, kind, name, ns;
	int64_t port, weight;
	struct list filters; /* of an HTTPRoute */
	struct place at, weight_at;
};

#define BACKEND_FIELDS                                                                                               \
	F_STR("group", struct raw_backend, group), F_STR("kind", struct raw_backend, kind, .flags = FIELD_NONEMPTY), \
		F_STR("name", struct raw_backend, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),                   \
		F_STR("namespace", struct raw_backend, ns, .flags = FIELD_NONEMPTY),                                 \
		F_INT("port", struct raw_backend, port, 1, 65535)
#define BACKEND_WEIGHT \
	F_INT("weight", struct raw_backend, weight, 0, 1000000, .place_offset = offsetof(struct raw_backend, weight_at))

struct raw_rule {
	struct str name;
	struct list backends;
	struct place at, name_at;
};

extern const struct schema http_rule_schema;

void gwroute_backend_fill(const struct check *c, const struct raw_backend *raw, const char *path,
			  struct m_backend_ref *to);
/* A rule of an HTTPRoute, which begins with a struct raw_rule; its backends are filled. Returns the number of its matches. */
uint32_t httproute_rule_fill(const struct check *c, const struct raw_rule *raw, const char *base,
			     struct m_route_rule *rule);
/* The rule of a route without rules: it takes every request, and has no backend. */
void httproute_default(struct arena *a, struct m_route *route, struct place at);

#endif
