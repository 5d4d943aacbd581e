/* SPDX-License-Identifier: BSD-2-Clause */
/* GatewayClass of the Gateway API: whose the Gateways of a class are. */
#include <ctype.h>
#include <string.h>

#include "config/kind_local.h"

struct raw_parameters {
	struct str group, kind, name, ns;
};

struct raw_class_spec {
	struct str controller, description;
	struct raw_parameters parameters;
	struct place controller_at;
};

struct raw_class {
	struct raw_meta meta;
	struct raw_class_spec spec;
};

static const struct field parameters_fields[] = {
	F_STR("group", struct raw_parameters, group, .flags = FIELD_REQUIRED),
	F_STR("kind", struct raw_parameters, kind, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("name", struct raw_parameters, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("namespace", struct raw_parameters, ns, .flags = FIELD_NONEMPTY),
	F_END,
};
static const struct schema parameters_schema = { .name = "ParametersReference",
						 .size = sizeof(struct raw_parameters),
						 .fields = parameters_fields };

static const struct field class_spec_fields[] = {
	F_STR("controllerName", struct raw_class_spec, controller, .flags = FIELD_REQUIRED | FIELD_NONEMPTY,
	      .place_offset = offsetof(struct raw_class_spec, controller_at)),
	F_STR("description", struct raw_class_spec, description),
	F_OBJECT("parametersRef", struct raw_class_spec, parameters, parameters_schema),
	F_END,
};
static const struct schema class_spec_schema = { .name = "GatewayClassSpec",
						 .size = sizeof(struct raw_class_spec),
						 .fields = class_spec_fields };
static const struct field class_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_class, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_class, spec, class_spec_schema, .flags = FIELD_REQUIRED),
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema class_schema = { .name = "GatewayClass",
					    .size = sizeof(struct raw_class),
					    .fields = class_fields };

/* "domain/path" */
static bool is_controller(struct str s)
{
	int slash = str_find(s, '/');

	if (slash < 0 || dns_subdomain_bad(str_sub(s, 0, (uint32_t)slash)) || s.len > 253)
		return false;
	for (uint32_t i = (uint32_t)slash + 1; i < s.len; i++)
		if (!isalnum((unsigned char)s.p[i]) && !strchr("/-._~%!$&'()*+,;=:", s.p[i]))
			return false;
	return (uint32_t)slash + 1 < s.len;
}

bool decode_gateway_class(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_class raw = { 0 };
	struct m_gateway_class *g = arena_new(d->arena, struct m_gateway_class);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &class_schema, root, &raw);
	meta_fill(d, root, &raw.meta, true, NAME_SUBDOMAIN, doc, &c);
	doc->gwclass = g;
	g->at = raw.spec.controller_at;
	g->ours = str_is(raw.spec.controller, GATEWAY_CONTROLLER);
	if (raw.spec.controller.len && !is_controller(raw.spec.controller))
		check_fail(&c,
			   CHECK_TEXT(&c, "\"%.*s\" must be a domain and a path, as in example.com/controller",
				      STR_ARG(raw.spec.controller)),
			   NULL, "spec.controllerName");
	if (raw.spec.description.len > 64)
		check_fail(&c, STR("must have at most 64 characters"), NULL, "spec.description");
	if (g->ours && raw.spec.parameters.name.len)
		check_fail(&c, STR("there are no parameters of a gateway"), NULL, "spec.parametersRef");
	return d->errors == before;
}
