/* SPDX-License-Identifier: BSD-2-Clause */
/* Istio DestinationRule: its subsets, and whose rule it is. Traffic policies are in kind_traffic.c. */
#include <stdio.h>

#include "config/kind_traffic.h"

struct raw_port_number {
	int64_t number;
};

struct raw_port_policy {
	struct raw_port_number *port;
	struct raw_policy policy;
};

struct raw_traffic_policy {
	struct raw_policy all;
	struct list ports;
	struct place at;
};

struct raw_subset {
	struct str name;
	struct kvs labels;
	struct raw_traffic_policy policy;
	struct place at;
};

struct raw_selector {
	struct kvs labels;
};

struct raw_dr_spec {
	struct str host;
	struct strs export_to;
	struct raw_selector *selector;
	struct raw_traffic_policy policy;
	struct list subsets;
	struct place host_at;
};

struct raw_dr {
	struct raw_meta meta;
	struct raw_dr_spec spec;
};

static const char *const tls_modes[] = { "DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL", NULL };

static const struct field tls_fields[] = {
	F_ENUM("mode", struct raw_tls, mode, tls_modes),
	/* Without a mode that starts TLS these have no meaning, and every other mode is refused. */
	F_INERT("clientCertificate", FIELD_STR),
	F_INERT("privateKey", FIELD_STR),
	F_INERT("caCertificates", FIELD_STR),
	F_INERT("credentialName", FIELD_STR),
	F_INERT("subjectAltNames", FIELD_STRS),
	F_INERT("sni", FIELD_STR),
	F_INERT("insecureSkipVerify", FIELD_BOOL),
	F_INERT("caCrl", FIELD_STR),
	F_END,
};
static const struct schema tls_schema = { .name = "ClientTLSSettings",
					  .size = sizeof(struct raw_tls),
					  .fields = tls_fields };

static const struct field port_number_fields[] = {
	F_INT("number", struct raw_port_number, number, 0, U32_MAX_INT),
	F_END,
};
static const struct schema port_number_schema = {
	.name = "PortSelector",
	.size = sizeof(struct raw_port_number),
	.fields = port_number_fields,
};

static const struct field port_policy_fields[] = {
	F_OBJECT_PTR("port", struct raw_port_policy, port, port_number_schema, .flags = FIELD_REQUIRED),
	F_OBJECT_PTR("loadBalancer", struct raw_port_policy, policy.lb, lb_schema),
	F_OBJECT_PTR("connectionPool", struct raw_port_policy, policy.pool, pool_schema),
	F_OBJECT_PTR("outlierDetection", struct raw_port_policy, policy.outlier, outlier_schema),
	F_OBJECT("tls", struct raw_port_policy, policy.tls, tls_schema),
	F_END,
};
static const struct schema port_policy_schema = {
	.name = "PortTrafficPolicy",
	.size = sizeof(struct raw_port_policy),
	.fields = port_policy_fields,
};

static const struct field policy_fields[] = {
	F_OBJECT_PTR("loadBalancer", struct raw_traffic_policy, all.lb, lb_schema),
	F_OBJECT_PTR("connectionPool", struct raw_traffic_policy, all.pool, pool_schema),
	F_OBJECT_PTR("outlierDetection", struct raw_traffic_policy, all.outlier, outlier_schema),
	F_OBJECT("tls", struct raw_traffic_policy, all.tls, tls_schema),
	F_LIST("portLevelSettings", struct raw_traffic_policy, ports, port_policy_schema, .max = 4096),
	F_REFUSED("tunnel", "tunnels"),
	F_REFUSED("proxyProtocol", "the PROXY protocol"),
	F_REFUSED("retryBudget", "retries of requests need their bytes"),
	F_END,
};
static const struct schema policy_schema = {
	.name = "TrafficPolicy",
	.size = sizeof(struct raw_traffic_policy),
	.fields = policy_fields,
	.place_offset_plus1 = offsetof(struct raw_traffic_policy, at) + 1,
};

static const struct field subset_fields[] = {
	F_STR("name", struct raw_subset, name, .flags = FIELD_REQUIRED),
	F_KVS("labels", struct raw_subset, labels),
	F_OBJECT("trafficPolicy", struct raw_subset, policy, policy_schema),
	F_END,
};
static const struct schema subset_schema = {
	.name = "Subset",
	.size = sizeof(struct raw_subset),
	.fields = subset_fields,
	.place_offset_plus1 = offsetof(struct raw_subset, at) + 1,
};

static const struct field selector_fields[] = {
	F_KVS("matchLabels", struct raw_selector, labels),
	F_END,
};
static const struct schema selector_schema = {
	.name = "WorkloadSelector",
	.size = sizeof(struct raw_selector),
	.fields = selector_fields,
};

static const struct field spec_fields[] = {
	F_STR("host", struct raw_dr_spec, host, .flags = FIELD_REQUIRED,
	      .place_offset = offsetof(struct raw_dr_spec, host_at)),
	F_OBJECT("trafficPolicy", struct raw_dr_spec, policy, policy_schema),
	F_LIST("subsets", struct raw_dr_spec, subsets, subset_schema, .max = ITEMS_MAX),
	F_STRS("exportTo", struct raw_dr_spec, export_to, .max = ITEMS_MAX),
	F_OBJECT_PTR("workloadSelector", struct raw_dr_spec, selector, selector_schema),
	F_END,
};
static const struct schema spec_schema = {
	.name = "DestinationRule",
	.size = sizeof(struct raw_dr_spec),
	.fields = spec_fields,
};

static const struct field dr_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_dr, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_dr, spec, spec_schema, .flags = FIELD_REQUIRED),
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema dr_schema = { .name = "DestinationRule",
					 .size = sizeof(struct raw_dr),
					 .fields = dr_fields };

/* One of these is given under base. */
static bool has_any(const struct check *c, const char *base, const char *const *names)
{
	for (; *names; names++)
		if (check_has(c, "%s.%s", base, *names))
			return true;
	return false;
}

/* takes_over: from the rule's, what it does not give. */
static void fill_traffic(struct filling *f, const struct raw_traffic_policy *raw, bool takes_over, const char *base,
			 struct m_traffic_policy *p)
{
	static const char *const some[] = { "loadBalancer",
					    "tls",
					    "portLevelSettings",
					    "connectionPool",
					    "outlierDetection",
					    "tunnel",
					    "proxyProtocol",
					    "retryBudget",
					    NULL };
	static const char *const port_some[] = { "loadBalancer", "tls", "connectionPool", "outlierDetection", NULL };
	const struct check *c = f->c;

	if (!check_has(c, "%s", base))
		return;
	if (!has_any(c, base, some))
		check_fail(c, STR("a traffic policy must have at least one field"), NULL, "%s", base);
	p->given = true;
	p->at = raw->at;
	policy_fill(f, &raw->all, takes_over, base, &p->all);
	p->ports = arena_array(c->d->arena, raw->ports.nr, sizeof(*p->ports));
	p->port_nr = raw->ports.nr;
	for (uint32_t i = 0; i < raw->ports.nr; i++) {
		const struct raw_port_policy *r = LIST_AT(raw->ports, struct raw_port_policy, i);
		char path[128];

		snprintf(path, sizeof(path), "%s.portLevelSettings[%u]", base, i);
		if (r->port && !port_ok(r->port->number))
			check_fail(c, CHECK_TEXT(c, "port %lld is not in 1..65535", (long long)r->port->number), NULL,
				   "%s.port.number", path);
		if (!has_any(c, path, port_some))
			check_fail(c, STR("the traffic policy of a port must have at least one field"), NULL, "%s",
				   path);
		p->ports[i].port = r->port ? r->port->number : 0;
		policy_fill(f, &r->policy, false, path, &p->ports[i].policy);
	}
}

static void fill_subsets(struct filling *f, const struct list *raw, struct m_destination_rule *dr)
{
	const struct check *c = f->c;

	dr->subsets = arena_array(c->d->arena, raw->nr, sizeof(*dr->subsets));
	dr->subset_nr = raw->nr;
	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_subset *r = LIST_AT(*raw, struct raw_subset, i);
		const char *bad = istio_label_bad(r->name);
		char path[64];

		dr->subsets[i] = (struct m_subset){ .name = r->name, .labels = r->labels, .at = r->at };
		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->name), bad), NULL,
				   "spec.subsets[%u].name", i);
		for (uint32_t j = 0; j < i; j++) {
			if (!str_eq(r->name, dr->subsets[j].name))
				continue;
			check_fail(c, CHECK_TEXT(c, "duplicate subset name \"%.*s\"", STR_ARG(r->name)), NULL,
				   "spec.subsets[%u].name", i);
			break;
		}
		snprintf(path, sizeof(path), "spec.subsets[%u].labels", i);
		check_labels(c, &r->labels, path);
		snprintf(path, sizeof(path), "spec.subsets[%u].trafficPolicy", i);
		fill_traffic(f, &r->policy, true, path, &dr->subsets[i].policy);
	}
}

/* A rule for some clients only may not leave its namespace. */
static void check_selector_export(const struct check *c, const struct strs *export_to)
{
	for (uint32_t i = 0; i < export_to->nr; i++)
		if (!str_is(export_to->v[i], ".") && !str_eq(export_to->v[i], c->ns))
			check_fail(c, STR("a rule with a workloadSelector cannot be exported beyond its own namespace"),
				   NULL, "spec.exportTo[%u]", i);
}

bool decode_destination_rule(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_dr raw = { 0 };
	struct m_destination_rule *dr = arena_new(d->arena, struct m_destination_rule);
	uint32_t before = d->errors;
	struct filling f = { 0 };
	const char *bad;
	struct check c;

	schema_decode(d, &dr_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_ISTIO, doc, &c);
	doc->dr = dr;
	dr->host = raw.spec.host;
	dr->host_at = raw.spec.host_at;
	dr->export_to = raw.spec.export_to;
	bad = wildcard_domain_bad(dr->host);
	if (bad)
		check_fail(&c, CHECK_TEXT(&c, "\"%.*s\" %s", STR_ARG(dr->host), bad), NULL, "spec.host");
	f.c = &c;
	annotations_fill(&f, &raw.meta.annotations);
	fill_traffic(&f, &raw.spec.policy, false, "spec.trafficPolicy", &dr->policy);
	if (!dr->policy.given && annotations_drain(&f)) {
		dr->policy.given = true;
		dr->policy.all.pool = pool_fill(&f, NULL, NULL);
	}
	fill_subsets(&f, &raw.spec.subsets, dr);
	annotations_check(&f);
	check_export_to(&c, &dr->export_to, false);
	if (raw.spec.selector) {
		dr->workload_selector = raw.spec.selector->labels;
		check_selector(&c, &dr->workload_selector, SELECTOR_MAX, "spec.workloadSelector.matchLabels");
		check_selector_export(&c, &dr->export_to);
	}
	return d->errors == before;
}
