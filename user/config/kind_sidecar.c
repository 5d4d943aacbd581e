/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sidecar: which services the selected pods see, and whether they may reach anything else. What configures the proxy's own listeners is
 * refused by name.
 */
#include "config/kind_local.h"

#define LISTENERS "there is no proxy with listeners of its own"

struct raw_egress {
	struct strs hosts;
	uint32_t capture;
	struct place at;
};

struct raw_outbound {
	uint32_t mode;
	struct place mode_at;
};

struct raw_selector {
	struct kvs labels;
};

struct raw_spec {
	struct raw_selector selector;
	struct list egress;
	struct raw_outbound *outbound;
};

struct raw_sidecar {
	struct raw_meta meta;
	struct raw_spec spec;
};

static const char *const capture_names[] = { "DEFAULT", "IPTABLES", "NONE", NULL };
#define CAPTURE_NONE 3
static const char *const mode_names[] = { "REGISTRY_ONLY", "ALLOW_ANY", NULL };
#define MODE_ALLOW_ANY 2

static const struct field egress_fields[] = {
	F_STRS("hosts", struct raw_egress, hosts, .flags = FIELD_REQUIRED | FIELD_NONEMPTY, .max = ITEMS_MAX),
	F_ENUM("captureMode", struct raw_egress, capture, capture_names),
	F_REFUSED("port", "hosts that are seen at one port only"),
	F_REFUSED("bind", LISTENERS),
	F_END,
};
static const struct schema egress_schema = {
	.name = "IstioEgressListener",
	.size = sizeof(struct raw_egress),
	.fields = egress_fields,
	.place_offset_plus1 = offsetof(struct raw_egress, at) + 1,
};

static const struct field outbound_fields[] = {
	F_ENUM("mode", struct raw_outbound, mode, mode_names, .place_offset = offsetof(struct raw_outbound, mode_at)),
	F_REFUSED("egressProxy", "traffic is not sent through a proxy for what the rules do not know"),
	F_END,
};
static const struct schema outbound_schema = {
	.name = "OutboundTrafficPolicy",
	.size = sizeof(struct raw_outbound),
	.fields = outbound_fields,
};

static const struct field selector_fields[] = {
	F_KVS("labels", struct raw_selector, labels),
	F_END,
};
static const struct schema selector_schema = {
	.name = "WorkloadSelector",
	.size = sizeof(struct raw_selector),
	.fields = selector_fields,
};

static const struct field spec_fields[] = {
	F_OBJECT("workloadSelector", struct raw_spec, selector, selector_schema),
	F_LIST("egress", struct raw_spec, egress, egress_schema, .max = ITEMS_MAX),
	F_OBJECT_PTR("outboundTrafficPolicy", struct raw_spec, outbound, outbound_schema),
	F_REFUSED("ingress", LISTENERS),
	F_REFUSED("inboundConnectionPool", "limits of a server's connections"),
	F_END,
};
static const struct schema spec_schema = { .name = "Sidecar", .size = sizeof(struct raw_spec), .fields = spec_fields };

static const struct field sidecar_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_sidecar, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_sidecar, spec, spec_schema),
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema sidecar_schema = {
	.name = "Sidecar",
	.size = sizeof(struct raw_sidecar),
	.fields = sidecar_fields,
};

static const char *import_bad(struct str s, struct m_import *ret)
{
	int slash = str_find(s, '/');

	if (slash < 0)
		return "must be <namespace>/<host>";
	ret->ns = str_sub(s, 0, (uint32_t)slash);
	ret->host = str_sub(s, (uint32_t)slash + 1, s.len);
	if (!ret->ns.len || !ret->host.len)
		return "must have a namespace and a host";
	if (!str_is(ret->ns, "*") && !str_is(ret->ns, ".") && !str_is(ret->ns, "~") && istio_label_bad(ret->ns))
		return "must have \"*\", \".\", \"~\" or a namespace before the \"/\"";
	if (host_is_partial_wildcard(ret->host))
		return "must not have a wildcard that is only a part of a label";
	if (!str_is(ret->host, "*") && str_find(ret->host, '.') < 0)
		return "must be a full domain name, not a short one";
	return wildcard_domain_bad(ret->host);
}

/* One of the two, of the same namespace, imports what the other does. */
static bool repeats(const struct m_import *a, const struct m_import *b)
{
	return str_eq(a->ns, b->ns) && (str_eq(a->host, b->host) || str_is(a->host, "*") || str_is(b->host, "*"));
}

static void check_imports(const struct check *c, const struct m_sidecar *s, uint32_t egress)
{
	for (uint32_t i = 0; i < s->import_nr; i++) {
		const struct m_import *import = &s->imports[i];

		if (str_is(import->ns, "*") && str_is(import->host, "*") && s->import_nr > 1)
			check_warn(c, STR("imports everything: the other hosts say nothing more"), NULL,
				   "spec.egress[%u].hosts[%u]", egress, i);
		for (uint32_t k = 0; k < i; k++) {
			if (!repeats(&s->imports[k], import))
				continue;
			check_warn(c,
				   CHECK_TEXT(c, "another host of the list covers some of it: \"%.*s/%.*s\"",
					      STR_ARG(s->imports[k].ns), STR_ARG(s->imports[k].host)),
				   NULL, "spec.egress[%u].hosts[%u]", egress, i);
			break;
		}
	}
}

static void egress_fill(const struct check *c, const struct raw_egress *raw, uint32_t at, struct m_sidecar *s)
{
	bool good = true;

	s->imports = arena_array(c->d->arena, raw->hosts.nr, sizeof(*s->imports));
	s->import_nr = raw->hosts.nr;
	for (uint32_t i = 0; i < raw->hosts.nr; i++) {
		const char *bad = import_bad(raw->hosts.v[i], &s->imports[i]);

		good &= !bad;
		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->hosts.v[i]), bad),
				   "for instance ./*, istio-system/* or */*.example.com", "spec.egress[%u].hosts[%u]",
				   at, i);
	}
	if (good)
		check_imports(c, s, at);
	if (raw->capture == CAPTURE_NONE)
		check_fail(c, STR("not enforced yet: " LISTENERS ", so traffic is always captured"),
			   "DEFAULT or IPTABLES", "spec.egress[%u].captureMode", at);
}

static void check_selector_labels(const struct check *c, const struct kvs *labels)
{
	if (!check_has(c, "spec.workloadSelector"))
		return;
	if (labels->nr)
		check_selector(c, labels, 256, "spec.workloadSelector.labels");
	else
		check_warn(c, STR("a selector without labels selects everything in its namespace"), NULL,
			   "spec.workloadSelector");
}

bool decode_sidecar(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_sidecar raw = { 0 };
	struct m_sidecar *s = arena_new(d->arena, struct m_sidecar);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &sidecar_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_ISTIO, doc, &c);
	doc->sidecar = s;
	s->selector = raw.spec.selector.labels;
	s->selector_at = place_of_selector(&c, &doc->meta, "spec.workloadSelector");
	check_selector_labels(&c, &s->selector);
	if (!raw.spec.egress.nr && !raw.spec.outbound && !check_has(&c, "spec.ingress") &&
	    !check_has(&c, "spec.inboundConnectionPool"))
		check_fail(&c, STR("says nothing: neither egress nor outboundTrafficPolicy is there"), NULL, "spec");
	for (uint32_t i = 0; i < raw.spec.egress.nr; i++) {
		const struct raw_egress *e = LIST_AT(raw.spec.egress, struct raw_egress, i);

		if (i + 1 < raw.spec.egress.nr && !check_has(&c, "spec.egress[%u].port", i))
			check_fail(&c, STR("only the last entry may be without a port"), NULL, "spec.egress[%u]", i);
		egress_fill(&c, e, i, s);
	}
	s->sees_all = !raw.spec.egress.nr;
	s->outbound_at = doc->meta.name_at;
	if (!raw.spec.outbound)
		return d->errors == before;
	/* The mode that stands first is the one of an object without it. */
	s->outbound = raw.spec.outbound->mode == MODE_ALLOW_ANY ? OUTBOUND_ALLOW_ANY : OUTBOUND_REGISTRY_ONLY;
	if (raw.spec.outbound->mode_at.line)
		s->outbound_at = raw.spec.outbound->mode_at;
	if (!check_has(&c, "spec.outboundTrafficPolicy.mode"))
		check_warn(&c, STR("without a mode this means REGISTRY_ONLY"),
			   "write mode: REGISTRY_ONLY or mode: ALLOW_ANY", "spec.outboundTrafficPolicy");
	return d->errors == before;
}
