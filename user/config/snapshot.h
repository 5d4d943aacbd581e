/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model -> snapshot: names resolved, defaults filled, per client scope where clients differ. A snapshot is immutable and
 * reference-counted; it is a list of units. A unit is one host (a Service, or one host of a ServiceEntry) with everything
 * that the kernel needs for it: self-contained plain arrays, so that an unchanged unit is the same pointer in the next
 * snapshot, and a change costs what it touches. The unit is also the image: user/plane writes it row by row.
 */
#ifndef CONFIG_SNAPSHOT_H
#define CONFIG_SNAPSHOT_H

#include "config/access.h"
#include "config/model.h"

/* One endpoint of a cluster. */
struct u_endpoint {
	struct addr addr;
	uint16_t port;
	uint32_t weight;   /* >= 1 */
	uint32_t workload; /* index + 1 into unit->workloads, 0: unknown */
};

/* "namespace/pod/serviceaccount" of endpoints, as mesh_names has it. */
struct u_workload {
	struct str text;
};

/* One destination {host, subset, port} in one address family. */
struct u_cluster {
	struct str name;   /* outbound|port|subset|host */
	bool v6, local;	   /* local: endpoints of this node only */
	bool elsewhere;	   /* there are some, but none of this node */
	uint32_t endpoint; /* first in unit->endpoints */
	uint32_t endpoint_nr;
};

/* A weighted destination of a row. */
struct u_dest {
	uint32_t cluster; /* index in unit->clusters */
	uint64_t weight;  /* >= 1; zero weights are dropped here */
};

/* What {scope, address, port} means. Same fields as struct mesh_row, but by value and with its origin. */
struct u_row {
	uint32_t scope;	  /* MESH_SCOPE_OUTSIDE: clients that are no pods of this node */
	struct addr addr; /* the any-address of its family: every address of the node that has no row of its own */
	uint16_t port;	  /* host order, never 0 */
	uint8_t proto, prefix_len; /* prefix_len < 128: a CIDR row */
	uint8_t action;		   /* enum mesh_action */
	bool http_per_connection; /* several weighted destinations of an http: route, balanced per connection for now */
	uint32_t dest;		  /* first in unit->dests */
	uint32_t dest_nr;
	uint32_t origin; /* index + 1 into unit->origins, 0: the service's own default */
};

/* The rule a row comes from. */
struct u_origin {
	struct str kind, ns, name; /* VirtualService ... */
	struct str file;
	uint32_t line, column;
	struct str field; /* "spec.tcp[0]" */
};

struct unit {
	uint32_t refs;
	struct arena arena;
	uint64_t hash;		/* of everything the kernel sees */
	struct str ns, host;	/* FQDN; unique in a snapshot together with ns */
	struct str source_kind; /* "Service", "ServiceEntry", "Gateway" */
	struct str file;
	uint32_t line;
	struct u_row *rows; /* sorted by scope, addr, prefix_len, port, proto; unique in a snapshot */
	uint32_t row_nr;
	struct u_dest *dests;
	uint32_t dest_nr;
	struct u_cluster *clusters;
	uint32_t cluster_nr;
	struct u_endpoint *endpoints;
	uint32_t endpoint_nr;
	struct u_workload *workloads;
	uint32_t workload_nr;
	struct u_origin *origins;
	uint32_t origin_nr;
	struct str *services; /* "ns/name" of the Services whose endpoints it uses, sorted */
	uint32_t service_nr;
	struct str
		*notes; /* for check, apply and explain: what is balanced per connection, what is not reachable ... */
	uint32_t note_nr;
};

/* A pod as a client: every pod with an address, in the whole model. */
struct client {
	struct str ns, name, service_account, uid, node;
	struct str
		cgroup; /* annotation tulle.dev/cgroup: path below the mesh cgroup, for hosts without a kubelet; may be empty */
	struct addr *ips;
	uint32_t ip_nr;
	uint32_t scope; /* 0: the common view; with MESH_SCOPE_CLOSED: all that it sees is in rows of its own */
	bool host_network;
	bool registry_only;		/* outboundTrafficPolicy of its Sidecar, or of the mesh */
	const struct u_policy *sidecar; /* NULL: it has none */
};

struct snapshot {
	uint32_t refs;
	struct arena arena;  /* clients and the arrays themselves; units own their own memory */
	struct unit **units; /* sorted by host, then ns */
	uint32_t unit_nr;
	struct client *clients; /* sorted by ns, name */
	uint32_t client_nr;
	struct addr *node_ips; /* of the Node that node_name names; without a name, of all */
	uint32_t node_ip_nr;
	struct access *access;	      /* a reference; never NULL */
	uint32_t scope_nr;	      /* scopes are 0 .. scope_nr-1, but for the flag MESH_SCOPE_CLOSED */
	uint32_t row_nr, endpoint_nr; /* sums */
};

struct snapshot_options {
	struct str cluster_domain; /* "cluster.local" */
	struct str root_namespace; /* "istio-system" */
	struct str trust_domain;   /* "cluster.local" */
	struct str node_name;	   /* whose node this is, for policies that keep traffic local; empty: none is local */
	bool registry_only;	   /* outboundTrafficPolicy of the mesh; a Sidecar overrides it */
};

/*
 * Resolves a model. `prev` (may be NULL) is the snapshot of an earlier model: units with equal hash are shared with it.
 * `changed` (may be NULL) are the documents that differ from prev's model, old and new versions alike; when all of them are
 * EndpointSlices or Endpoints only units that use their services are resolved again.
 * Errors and warnings (references that do not exist, conflicts) go to b->diags with the place of the document that is to
 * blame, and refuse its row in `b` where the document came from there. Returns 0; -EINVAL: errors, *ret is not set.
 * Sources: Istio pilot (push context, route building, analyzers), Kubernetes EndpointSlice and Service semantics, GAMMA.
 */
int snapshot_build(const struct model *m, const struct snapshot_options *opts, const struct snapshot *prev,
		   struct doc *const *changed, uint32_t changed_nr, struct batch *b, struct snapshot **ret);

struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s); /* NULL is fine */
struct unit *unit_ref(struct unit *u);
void unit_unref(struct unit *u);

/* The snapshot as text, sorted and stable: what golden tests compare, and `meshctl diff` prints. */
void snapshot_print(const struct snapshot *s, struct buf *out);
void unit_print(const struct unit *u, struct buf *out);

/* The row a client with `scope` meets when it dials addr:port, as the kernel decides (exact row of the scope, then of scope
 * 0, then CIDR rows of the scope, then of scope 0); NULL: none. *ret_unit is its unit. */
const struct u_row *snapshot_find(const struct snapshot *s, uint32_t scope, const struct addr *addr, uint16_t port,
				  uint8_t proto, const struct unit **ret_unit);

#endif
