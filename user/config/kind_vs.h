/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of VirtualServices share. */
#ifndef CONFIG_KIND_VS_H
#define CONFIG_KIND_VS_H

#include "config/kind_http.h"

struct raw_port_selector {
	int64_t number;
	struct place at;
};

struct raw_destination {
	struct str host, subset;
	struct raw_port_selector *port;
	struct place host_at, subset_at;
};

struct raw_match {
	struct strs subnets, gateways, names; /* names: sniHosts */
	struct str source_ns;
	struct kvs source_labels;
	int64_t port;
	struct place at, port_at;
};

extern const struct schema vs_destination_schema, vs_http_schema;

/* base: path of the destination; its weight and place are the caller's. */
void vs_destination_fill(const struct check *c, const struct raw_destination *raw, const char *base,
			 struct m_destination *to);
/* base: path of the rule. */
void vs_weights_check(const struct check *c, const struct m_rule *rule, const char *base);
void vs_match_fill(const struct check *c, const struct raw_match *raw, const char *base, struct m_l4_match *m);
/* Rules that can never be reached, which Istio's analyzer warns of too; nothing after an error. */
void vs_warn_unreachable(const struct check *c, const struct m_rule *rules, uint32_t nr, const char *list);
/* Appends to vs->rules, which has room. */
void vs_http_fill(const struct check *c, const struct list *raw, struct m_virtual_service *vs);

#endif
