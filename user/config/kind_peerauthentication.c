/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PeerAuthentication. Traffic is not encrypted here, so STRICT can only mean what it is used for: that the source is known. Sources
 * without an identity are denied, and each check says so.
 */
#include <stdio.h>
#include <stdlib.h>

#include "config/kind_local.h"

struct raw_mtls {
	uint32_t mode;
};

struct raw_peers {
	struct raw_meta meta;
	struct {
		struct {
			struct kvs labels;
		} selector;
		struct raw_mtls mtls;
	} spec;
};

/* In the order of enum mtls_mode, from its first on. */
static const char *const modes[] = { "UNSET", "DISABLE", "PERMISSIVE", "STRICT", NULL };

static const struct field mtls_fields[] = {
	F_ENUM("mode", struct raw_mtls, mode, modes),
	F_END,
};
static const struct schema mtls_schema = { .name = "MutualTLS",
					   .size = sizeof(struct raw_mtls),
					   .fields = mtls_fields };

static const struct field selector_fields[] = {
	F_KVS("matchLabels", struct raw_peers, spec.selector.labels),
	F_END,
};
static const struct schema selector_schema = {
	.name = "WorkloadSelector",
	.size = sizeof(struct raw_peers),
	.fields = selector_fields,
};

static const struct field spec_fields[] = {
	{ .name = "selector", .type = FIELD_OBJECT, .offset = 0, .sub = &selector_schema },
	F_OBJECT("mtls", struct raw_peers, spec.mtls, mtls_schema),
	/* Its keys are ports: ports_fill() reads it. */
	F_INERT("portLevelMtls", FIELD_ANY),
	F_END,
};
/* Decoded in place, like the selector: offsets count from the beginning of struct raw_peers. */
static const struct schema spec_schema = {
	.name = "PeerAuthentication",
	.size = sizeof(struct raw_peers),
	.fields = spec_fields,
};

static const struct field peers_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_peers, meta, meta_schema, .flags = FIELD_REQUIRED),
	{ .name = "spec", .type = FIELD_OBJECT, .offset = 0, .sub = &spec_schema },
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema peers_schema = {
	.name = "PeerAuthentication",
	.size = sizeof(struct raw_peers),
	.fields = peers_fields,
};

static enum mtls_mode mode_of(const struct raw_mtls *raw)
{
	return raw->mode ? (enum mtls_mode)(raw->mode - 1) : MTLS_UNSET;
}

static int by_port(const void *a, const void *b)
{
	return (int)((const struct m_port_mtls *)a)->port - (int)((const struct m_port_mtls *)b)->port;
}

static void ports_fill(const struct check *c, const struct ynode *map, struct m_peer_authentication *p)
{
	static const char field[] = "spec.portLevelMtls";
	struct decode *d = c->d;

	if (map->kind != YNODE_MAP) {
		check_fail(c, STR("must be an object"), NULL, field);
		return;
	}
	if (!map->nr)
		check_fail(c, STR("must have at least one port"), NULL, field);
	if (!p->selector.nr)
		check_fail(c, STR("needs a selector with labels"), "modes of ports are for workloads", field);
	p->ports = arena_array(d->arena, map->nr, sizeof(*p->ports));
	for (uint32_t i = 0; i < map->nr; i++) {
		struct str key = map->items[2 * i]->scalar;
		struct raw_mtls raw = { 0 };
		uint64_t port;
		int len;

		if (!str_to_u64(key, 65535, &port) || !port) {
			check_fail_key(c, CHECK_TEXT(c, "\"%.*s\" is not a port", STR_ARG(key)), "1 to 65535", key,
				       field);
			continue;
		}
		len = snprintf(d->path, sizeof(d->path), "%s[%u]", field, (uint32_t)port);
		d->path_len = (uint32_t)len;
		if (map->items[2 * i + 1]->kind != YNODE_NULL)
			schema_decode(d, &mtls_schema, map->items[2 * i + 1], &raw);
		d->path_len = 0;
		d->path[0] = 0;
		p->ports[p->port_nr++] = (struct m_port_mtls){ (uint16_t)port, mode_of(&raw) };
	}
	if (p->port_nr)
		qsort(p->ports, p->port_nr, sizeof(*p->ports), by_port);
}

bool decode_peer_authentication(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_peers raw = { 0 };
	struct m_peer_authentication *p = arena_new(d->arena, struct m_peer_authentication);
	uint32_t before = d->errors;
	struct check c;
	bool strict;

	schema_decode(d, &peers_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_ISTIO, doc, &c);
	doc->peers = p;
	p->selector = raw.spec.selector.labels;
	p->mode = mode_of(&raw.spec.mtls);
	p->selector_at = place_of_selector(&c, &doc->meta, "spec.selector");
	if (check_has(&c, "spec.selector"))
		check_selector(&c, &p->selector, SELECTOR_MAX, "spec.selector.matchLabels");
	if (check_has(&c, "spec.portLevelMtls"))
		ports_fill(&c, check_node(&c, "spec.portLevelMtls"), p);
	strict = p->mode == MTLS_STRICT;
	for (uint32_t i = 0; i < p->port_nr; i++)
		strict |= p->ports[i].mode == MTLS_STRICT;
	if (strict)
		check_warn(&c, STR("STRICT denies sources without an identity here; traffic is not encrypted"),
			   "encrypt below the mesh (WireGuard, IPsec) where that is what it is for",
			   p->mode == MTLS_STRICT ? "spec.mtls.mode" : "spec.portLevelMtls");
	return d->errors == before;
}
