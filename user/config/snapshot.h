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

/* More levels of priority than this are refused. */
#define U_LEVELS_MAX 8

/* One endpoint of a cluster. */
struct u_endpoint {
	struct addr addr;
	uint16_t port;
	uint8_t level;	   /* of priority: 0 is asked first, the next while it has nobody available; < U_LEVELS_MAX */
	bool draining;	   /* not ready or terminating: keeps its connections, gets no new ones */
	uint32_t weight;   /* >= 1; shares between localities are in it */
	uint32_t workload; /* index + 1 into unit->workloads, 0: unknown */
	uint32_t locality; /* index + 1 into unit->localities, 0: unknown */
	uint32_t probe;	   /* index + 1 into unit->probes, 0: nobody checks it */
};

/* "namespace/pod/serviceaccount" of endpoints, as mesh_names has it. */
struct u_workload {
	struct str text;
};

/*
 * An active check of endpoints, from a WorkloadGroup. The same endpoint address under the same group is one workload, whichever units and
 * ports it serves: it is checked once, and all its endpoints fail together.
 */
struct u_probe {
	struct str group; /* "namespace/name" of the WorkloadGroup */
	bool http;	  /* GET, healthy is any status of 200 to 399; else it is enough that it connects */
	struct addr host; /* where to connect to; zero: the endpoint's own address */
	uint16_t port;	  /* of the workload, not the endpoint's */
	struct str path;  /* http: "/health" */
	struct str
		headers; /* http: lines "Name: value\r\n", without the empty one; Host is among them where it was given */
	uint32_t delay_ms;    /* from when the workload appeared to the first check */
	uint32_t timeout_ms;  /* >= 1; of one check */
	uint32_t period_ms;   /* >= 1 */
	uint32_t success_min; /* >= 1; in a row, then it is healthy again */
	uint32_t failure_max; /* >= 1; in a row, then it is not. A workload begins healthy */
};

/*
 * The traffic policy of a cluster, defaults filled in; compared as bytes, so without padding. Times are milliseconds. What the documents do not give does not act: 0 is "none"
 * wherever it is not said otherwise.
 */
struct u_traffic {
	uint8_t lb;		      /* enum lb_policy; neither LB_UNSET nor LB_PASSTHROUGH */
	bool outlier;		      /* outlierDetection is given; without it nothing is ejected */
	bool keepalive;		      /* probes of idle connections are asked for */
	uint8_t max_ejection_percent; /* of the cluster's endpoints, 0..100; one may always be ejected */
	uint8_t min_health_percent;   /* with fewer available than this, ejection is overlooked (panic); 0: never */
	uint8_t removal;	      /* enum removal, of connections whose endpoint is gone */
	uint16_t warmup_min;	      /* in 1/1000 of its weight, from the beginning of the warm-up */

	uint32_t table_size; /* LB_RING: least number of positions; LB_MAGLEV: size of the table, a prime */
	/*
	 * Service sessionAffinity ClientIP: a client address goes back to its endpoint of this cluster until so long after its last
	 * connection. Goes before lb.
	 */
	uint32_t affinity_s;
	/* Slow start as in Envoy: weight * max(min, (age / warmup) ^ (1 / aggression)). */
	uint32_t warmup_ms;
	uint32_t warmup_aggression; /* in 1/1000, >= 1 */

	uint32_t max_connections; /* UINT32_MAX: any number */
	uint32_t connect_timeout_ms;
	uint32_t keepalive_probes; /* this and the next two, 0: as the system has it */
	uint32_t keepalive_time_s, keepalive_interval_s;
	uint32_t idle_timeout_ms, max_duration_ms;
	uint32_t
		drain_ms; /* of connections whose endpoint drains or is gone; 0: never, DRAIN_UNSET: as the mesh has it */

	/* Endpoints that fail. Thresholds count in a row, 0: off. */
	uint32_t connect_failures; /* refused, timed out, unreachable */
	uint32_t resets; /* by the endpoint, of established connections on which it has sent nothing; beyond upstream */
	uint32_t interval_ms;	   /* >= 1 with outlier */
	uint32_t base_ejection_ms; /* >= 1 with outlier; times the number of ejections, at most max_ejection_ms */
	uint32_t max_ejection_ms;
	/* Beyond upstream: an endpoint that takes longer than latency_factor times the middle of its peers, and longer than the floor. */
	uint32_t latency_factor; /* in 1/1000, > 1000; 0: off */
	uint32_t latency_floor_us;

	uint32_t origin; /* of the policy: index + 1 into unit->origins, 0: defaults. Only people see it */
};

/*
 * One destination {host, subset, port} in one address family. The name is the identity: clusters of one name have one traffic policy and
 * share counts and the state of endpoints. They differ in `v6`, in `local`, and an endpoint's level may differ with `local`.
 */
struct u_cluster {
	/*
	 * outbound|port|subset|host; where some clients have another policy or other priorities than all, with |why behind, which is short and
	 * stays the same while that does.
	 */
	struct str name;
	bool v6, local; /* local: endpoints of this node only */
	bool elsewhere; /* there are some, but none of this node */
	/*
	 * First in unit->endpoints. From there endpoint_nr that take connections, sorted by level, address and port, their levels without
	 * gaps; then draining_nr that are draining, sorted by address and port.
	 */
	uint32_t endpoint;
	uint32_t endpoint_nr, draining_nr;
	struct u_traffic traffic;
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
	bool l7;		  /* of MESH_ROUTE: each request is routed by meshl7, by its table in unit->http */
	bool fail_open;		  /* of l7: while there is no meshl7 connections go to `dests`; else they are refused */
	uint32_t http_table;	  /* of l7: index in the image's tables */
	uint32_t dest;		  /* first in unit->dests; of l7: the destinations without a look at the request */
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
	uint32_t endpoint_nr, draining_nr; /* draining_nr: of these */
	struct u_workload *workloads;
	uint32_t workload_nr;
	struct str *localities; /* "region/zone/subzone" */
	uint32_t locality_nr;
	struct u_probe *probes;
	uint32_t probe_nr;
	struct u_origin *origins;
	uint32_t origin_nr;
	struct str *services; /* "ns/name" of the Services whose endpoints it uses, sorted */
	uint32_t service_nr;
	const void *
		http; /* struct mesh_http_image for rows of l7, 8-byte aligned; its clusters are `clusters`. NULL: none */
	uint32_t http_len;
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
	enum accelerate accelerate;	/* UNSET: the mesh's */
	bool no_splice;			/* annotation tulle.dev/splices: its programs are known not to */
	struct str accelerate_by;	/* "pod", "service ns/name", "namespace"; empty: the mesh */
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
	uint32_t row_nr, endpoint_nr; /* sums; endpoints that take connections */
};

struct snapshot_options {
	struct str cluster_domain; /* "cluster.local" */
	struct str root_namespace; /* "istio-system" */
	struct str trust_domain;   /* "cluster.local" */
	struct str node_name;	   /* whose node this is, for policies that keep traffic local; empty: none is local */
	bool registry_only;	   /* outboundTrafficPolicy of the mesh; a Sidecar overrides it */
	bool no_parser;		   /* rules that need the bytes of requests are refused */
	bool http_fail_open; /* while meshl7 is down its connections are balanced without it; annotations override it */
	bool http_per_request; /* http weights are balanced by request where nothing else needs its bytes; as the one before */
};

/* The traffic policy where no document says anything: least request, nothing limited, nothing ejected. */
extern const struct u_traffic traffic_default;

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
struct json;
bool traffic_is_default(const struct u_traffic *t);
/* For people, on a line: "ROUND_ROBIN; at most 100 connections; ...", what is not the default, and how an endpoint is chosen. */
void traffic_print(const struct u_traffic *t, struct buf *out);
/* All of it that acts, as an object: loadBalancer, connectionPool and outlierDetection with the fields of a DestinationRule. */
void traffic_json(const struct u_traffic *t, struct json *j);

/* The row a client with `scope` meets when it dials addr:port, as the kernel decides (exact row of the scope, then of scope
 * 0, then CIDR rows of the scope, then of scope 0); NULL: none. *ret_unit is its unit. */
const struct u_row *snapshot_find(const struct snapshot *s, uint32_t scope, const struct addr *addr, uint16_t port,
				  uint8_t proto, const struct unit **ret_unit);

#endif
