/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of kinds share: rows of field tables, metadata, and the decoders that kinds.c puts into its
 * table.
 */
#ifndef CONFIG_KIND_LOCAL_H
#define CONFIG_KIND_LOCAL_H

#include <stddef.h>

#include "config/kinds.h"
#include "config/validate.h"

/* One row of a field table each. The trailing arguments are more designated initializers. */
#define F(field_name, field_type, strukt, member, ...)                                                        \
	{                                                                                                     \
		.name = (field_name), .type = (field_type), .offset = offsetof(strukt, member), ##__VA_ARGS__ \
	}
#define F_STR(name, strukt, member, ...) F(name, FIELD_STR, strukt, member, ##__VA_ARGS__)
#define F_BOOL(name, strukt, member, ...) F(name, FIELD_BOOL, strukt, member, ##__VA_ARGS__)
#define F_INT(name, strukt, member, lo, hi, ...) \
	F(name, FIELD_INT, strukt, member, .min = (lo), .max = (hi), ##__VA_ARGS__)
#define F_STRS(name, strukt, member, ...) F(name, FIELD_STRS, strukt, member, ##__VA_ARGS__)
#define F_KVS(name, strukt, member, ...) F(name, FIELD_KVS, strukt, member, ##__VA_ARGS__)
#define F_ENUM(name, strukt, member, values, ...) F(name, FIELD_ENUM, strukt, member, .names = (values), ##__VA_ARGS__)
#define F_OBJECT(name, strukt, member, schema, ...) \
	F(name, FIELD_OBJECT, strukt, member, .sub = &(schema), ##__VA_ARGS__)
#define F_OBJECT_PTR(name, strukt, member, schema, ...) \
	F(name, FIELD_OBJECT_PTR, strukt, member, .sub = &(schema), ##__VA_ARGS__)
#define F_LIST(name, strukt, member, schema, ...) F(name, FIELD_LIST, strukt, member, .sub = &(schema), ##__VA_ARGS__)
#define F_MAP(name, strukt, member, schema, ...) F(name, FIELD_MAP, strukt, member, .sub = &(schema), ##__VA_ARGS__)
#define F_INERT(field_name, field_type)                                          \
	{                                                                        \
		.name = (field_name), .type = (field_type), .flags = FIELD_INERT \
	}
#define F_REFUSED(field_name, why)                                                             \
	{                                                                                      \
		.name = (field_name), .type = FIELD_ANY, .flags = FIELD_REFUSED, .note = (why) \
	}
#define F_END                \
	{                    \
		.name = NULL \
	}
/* What every document begins with. */
#define F_HEADER F_INERT("apiVersion", FIELD_STR), F_INERT("kind", FIELD_STR)

/* Entries of a list whose entries are compared with each other, where upstream sets no limit. */
#define ITEMS_MAX 4096
#define U32_MAX_INT 4294967295ll
#define I32_MAX_INT 2147483647ll

struct raw_meta {
	struct str name, ns, uid;
	struct kvs labels, annotations;
	int64_t created_s, deleted_s;
	struct place name_at, ns_at, deleted_at;
};

extern const struct schema meta_schema;

/* Which rule a kind's name follows. */
enum name_rule { NAME_SUBDOMAIN, NAME_LABEL, NAME_ISTIO, NAME_POLICY };

/*
 * Fills doc->meta and *c, and checks the metadata. NAME_ISTIO: a subdomain, and Istio's own annotations are
 * checked too; NAME_POLICY: the same of a kind that can be a dry run.
 */
void meta_fill(struct decode *d, const struct ynode *root, const struct raw_meta *raw, bool cluster_scoped,
	       enum name_rule rule, struct doc *doc, struct check *c);

/* Protocol of a port from an enum of protocol_names: MESH_PROTO_TCP when 0. */
extern const char *const protocol_names[];
uint8_t protocol_of(uint32_t choice);
#define PROTO_SCTP 132

/* Of the annotation networking.istio.io/traffic-distribution; a warning when Istio does not know the value. */
enum distribution distribution_of(const struct check *c, const struct kvs *annotations);

/* list -> array of another struct */
#define LIST_AT(list, type, i) (&((type *)(list).v)[i])

/* spec of a WorkloadEntry, also the shape of ServiceEntry.spec.endpoints. */
struct raw_workload {
	struct m_workload_entry entry; /* ports and address are filled by workload_fill */
	struct place at;
};

extern const struct schema workload_schema;
/*
 * Checks an entry and completes it. base: its path. ports, port_nr: names of the ServiceEntry's ports, NULL
 * when it stands alone.
 */
struct m_se_port;
void workload_fill(const struct check *c, const char *base, struct raw_workload *raw, const struct m_se_port *ports,
		   uint32_t port_nr);

/* Checks what is a template for entries: it needs no address. */
void workload_check(const struct check *c, const char *base, struct raw_workload *raw);

/* The selector at `path`, or the document's name where there is none. */
struct place place_of_selector(const struct check *c, const struct meta *meta, const char *path);

bool decode_service(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_endpoints(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_slice(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_pod(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_namespace(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_node(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_virtual_service(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_destination_rule(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_service_entry(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_workload_entry(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_workload_group(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_istio_gateway(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_gateway(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_gateway_class(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_tcp_route(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_udp_route(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_http_route(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_reference_grant(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_sidecar(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_authorization_policy(struct decode *d, const struct ynode *root, struct doc *doc);
bool decode_peer_authentication(struct decode *d, const struct ynode *root, struct doc *doc);

#endif
