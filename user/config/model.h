/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The model: every document of the user, decoded, each in an arena of its own with a reference count, and the set of them
 * with its indexes. No names are resolved here. Field lists and meanings: Kubernetes v1 and discovery.k8s.io/v1, Istio
 * networking.istio.io/v1, Gateway API.
 */
#ifndef CONFIG_MODEL_H
#define CONFIG_MODEL_H

#include "base/addr.h"
#include "config/schema.h"

enum kind {
	KIND_SERVICE,
	KIND_SLICE, /* EndpointSlice, and each subset of an Endpoints document */
	KIND_POD,
	KIND_NAMESPACE,
	KIND_NODE,
	KIND_VIRTUAL_SERVICE,
	KIND_DESTINATION_RULE,
	KIND_SERVICE_ENTRY,
	KIND_WORKLOAD_ENTRY,
	KIND_WORKLOAD_GROUP,
	KIND_ISTIO_GATEWAY, /* protocols TCP and HTTP */
	KIND_SIDECAR,
	KIND_GATEWAY_CLASS, /* of the Gateway API, as are the next three */
	KIND_GATEWAY,
	KIND_ROUTE, /* TCPRoute, UDPRoute, HTTPRoute */
	KIND_REFERENCE_GRANT,
	KIND_AUTHORIZATION_POLICY,
	KIND_PEER_AUTHENTICATION,
	KIND_NR
};

#define ACCELERATE_KEY "tulle.dev/accelerate"
#define HTTP_WEIGHTS_KEY "tulle.dev/http-weights" /* "request", "connection" */
#define HTTP_DOWN_KEY "tulle.dev/on-parser-down"  /* "l4", "closed" */
#define SPLICES_KEY "tulle.dev/splices"

/* Whether connections between pods of a node may leave TCP's path. The most careful comes first. */
enum accelerate { ACCELERATE_UNSET, ACCELERATE_OFF, ACCELERATE_AUTO, ACCELERATE_ON, ACCELERATE_NR };
enum accelerate accelerate_parse(struct str s); /* UNSET: none of the words */
const char *accelerate_text(enum accelerate a);

struct meta {
	struct str name, ns; /* ns: "default" when the kind is namespaced and none is given */
	struct kvs labels, annotations;
	struct str uid;
	int64_t created_s; /* creationTimestamp, 0: none */
	bool deleting;	   /* deletionTimestamp is set */
	struct place name_at;
};

/* Labels of nodes, and as failoverPriority has them of endpoints and clients. */
#define LABEL_REGION "topology.kubernetes.io/region"
#define LABEL_ZONE "topology.kubernetes.io/zone"
#define LABEL_SUBZONE "topology.istio.io/subzone"
#define LABEL_NETWORK "topology.istio.io/network"
#define LABEL_HOSTNAME "kubernetes.io/hostname"
/* A pod's own locality, "region.zone.subzone", in place of its node's. */
#define LABEL_LOCALITY "istio-locality"

/* ---- v1 ---- */
enum service_type {
	SERVICE_TYPE_NONE,
	SERVICE_CLUSTER_IP,
	SERVICE_NODE_PORT,
	SERVICE_LOAD_BALANCER,
	SERVICE_EXTERNAL_NAME
};

struct m_port {
	struct str name;
	int64_t port;
	struct int_or_str target; /* not given: same as port */
	uint8_t proto;		  /* MESH_PROTO_TCP, MESH_PROTO_UDP; 132: SCTP (no rows) */
	struct str app_protocol;
	uint16_t node_port; /* 0: none */
	struct place at;
};

/* Which endpoints go first, as trafficDistribution says it. */
enum distribution { DISTRIBUTION_ANY, DISTRIBUTION_SAME_ZONE, DISTRIBUTION_SAME_NODE };

struct m_service {
	enum service_type type;
	struct addr *vips; /* clusterIP and clusterIPs, merged; empty when headless or not allocated yet */
	uint32_t vip_nr;
	struct addr *externals; /* externalIPs and those of load balancers, distinct, of its families */
	uint32_t external_nr;
	bool v4, v6;			     /* its families: of clusterIPs, else ipFamilies, else both */
	bool internal_local, external_local; /* internalTrafficPolicy, externalTrafficPolicy */
	bool headless;
	bool has_selector;
	bool publish_not_ready;
	enum distribution distribution;
	uint32_t affinity_s; /* sessionAffinity ClientIP: its timeout; 0: None */
	struct str external_name;
	struct kvs selector;
	struct m_port *ports;
	uint32_t port_nr;
	struct strs export_to; /* annotation networking.istio.io/exportTo */
};

/* discovery.k8s.io/v1 EndpointSlice; v1 Endpoints subsets take the same shape. */
struct m_slice_endpoint {
	struct addr *addrs;
	uint32_t addr_nr;
	bool ready, serving; /* conditions.ready, conditions.serving; nil is true */
	bool terminating;    /* conditions.terminating */
	struct str node, zone;
	struct strs for_zones, for_nodes; /* hints */
	struct str pod, pod_ns;		  /* targetRef of kind Pod; empty otherwise */
	struct place at;
};

struct m_slice_port {
	struct str name;
	int64_t port; /* 0: not given, which means every port */
	uint8_t proto;
	struct str app_protocol;
};

struct m_slice {
	struct str service; /* label kubernetes.io/service-name, or the Endpoints' name; empty: belongs to none */
	bool from_endpoints;
	bool fqdn; /* addressType FQDN: no addresses kept */
	struct m_slice_endpoint *endpoints;
	uint32_t endpoint_nr;
	struct m_slice_port *ports;
	uint32_t port_nr;
};

struct m_container_port {
	struct str name;
	int64_t port;
	uint8_t proto;
};

struct m_pod {
	struct addr *ips; /* podIP and podIPs, merged */
	uint32_t ip_nr;
	struct str node, service_account; /* "default" when not given */
	bool host_network;
	bool ready;			/* condition Ready is True, or no conditions at all are given */
	bool finished;			/* phase Succeeded or Failed */
	struct m_container_port *ports; /* of all containers and restartable init containers, in order */
	uint32_t port_nr;
};

struct m_node {
	struct addr *ips; /* status.addresses of type InternalIP and ExternalIP */
	uint32_t ip_nr;
};

/* ---- networking.istio.io ---- */
struct m_destination {
	struct str host, subset;
	int64_t port; /* 0: not given */
	int64_t weight;
	struct place at, host_at, subset_at, port_at;
};

struct cidr {
	struct addr addr;
	uint8_t prefix_len; /* of 128 */
};

struct m_l4_match {
	struct cidr *subnets; /* destinationSubnets */
	uint32_t subnet_nr;
	int64_t port; /* 0: any */
	struct kvs source_labels;
	struct strs gateways; /* empty: the resource's */
	struct str source_ns;
	struct strs names; /* sniHosts in lower case; of tls alone */
	struct place at, port_at;
};

struct m_http_rule; /* http.h */
/* The VirtualService, without hosts, whose http: rules stand in place of a rule. */
struct m_delegate {
	struct str name, ns; /* ns empty: that of the rule */
	struct place at;
};

struct m_rule {
	struct str name;
	struct m_l4_match *matches; /* none: always */
	uint32_t match_nr;
	struct m_destination *routes;
	uint32_t route_nr;
	bool http;			   /* from spec.http */
	bool tls;			   /* from spec.tls; neither: from spec.tcp */
	uint32_t index;			   /* in its list */
	const struct m_http_rule *more;	   /* of http: what is to be known of requests, and done with them. Else NULL */
	const struct m_delegate *delegate; /* NULL: none. Such a rule has no routes */
	const struct doc *doc;		   /* the delegate that it comes from; NULL: it is the document's own */
	struct place at;
};

static inline const char *rule_list(const struct m_rule *r)
{
	return r->http ? "http" : r->tls ? "tls" : "tcp";
}

struct m_virtual_service {
	struct strs hosts, gateways, export_to; /* gateways: "mesh" alone when none are given */
	struct m_rule *rules;			/* spec.tcp in order, then spec.tls, then spec.http */
	uint32_t rule_nr;
	bool delegates;	      /* some rule has a delegate */
	const struct doc *of; /* the document, of a copy that has its delegates' rules; else NULL */
};

/* Unset is least request. */
enum lb_policy {
	LB_UNSET,
	LB_LEAST_REQUEST,
	LB_RANDOM,
	LB_ROUND_ROBIN,
	LB_RING, /* consistent hash of the client's address, as is the next */
	LB_MAGLEV,
	LB_PASSTHROUGH,
};

/* "region/zone/subzone", what is not given is empty; of a rule, "*" is any. */
struct m_locality {
	struct str region, zone, subzone;
};

struct m_locality_share {
	struct m_locality to;
	uint32_t percent;
};

struct m_distribute {
	struct m_locality from;
	struct m_locality_share *to;
	uint32_t to_nr;
};

struct m_failover {
	struct str from, to; /* regions */
};

/* Which endpoints go first. */
#define PRIORITIES_MAX 16
struct m_locality_lb {
	bool off; /* enabled: false */
	struct m_distribute *distribute;
	uint32_t distribute_nr;
	struct m_failover *failover;
	uint32_t failover_nr;
	struct kv *
		priority; /* failoverPriority: labels, each with the value that counts as the client's; empty p: its own */
	uint32_t priority_nr;
};

/* A consistent hash of something in a request. */
struct m_http_hash {
	uint8_t kind; /* enum mesh_http_hash */
	bool has_ttl;
	uint32_t ttl_s;
	enum lb_policy policy; /* LB_RING, LB_MAGLEV */
	uint32_t table_size;
	struct str name, path;
};

/* Limits of requests. */
struct m_http_pool {
	uint32_t max_pending, max_requests, max_retries, max_per_connection, idle_timeout_ms;
};

/* What is not given is 0, here and in the next two. */
struct m_lb {
	enum lb_policy policy;
	uint32_t table_size;
	uint32_t warmup_ms, warmup_aggression;
	uint16_t warmup_min;
	const struct m_locality_lb *locality; /* NULL: not given */
	const struct m_http_hash
		*hash; /* NULL: of none; else policy is what holds where requests are not looked into */
};

/* Connections whose endpoint the rules have no more. Unset: as the mesh has it. */
enum removal { REMOVAL_UNSET, REMOVAL_KEEP, REMOVAL_RESET };
#define DRAIN_UNSET UINT32_MAX

struct m_pool {
	uint32_t max_connections, connect_timeout_ms, idle_timeout_ms, max_duration_ms;
	bool keepalive;
	uint32_t keepalive_probes, keepalive_time_s, keepalive_interval_s;
	uint32_t drain_ms; /* this and the next are annotations of the rule; DRAIN_UNSET: not given */
	enum removal removal;
	const struct m_http_pool *http; /* NULL: nothing of it */
};

struct m_outlier {
	uint32_t connect_failures, interval_ms, base_ejection_ms; /* with upstream's defaults */
	uint32_t errors_5xx, gateway_errors,
		local_failures; /* of requests; local_failures is 0 where they are among the 5xx */
	uint8_t max_ejection_percent, min_health_percent;
	uint32_t latency_factor, latency_floor_us, resets; /* annotations of the rule */
};

/* NULL: not given, which for a subset means the rule's. */
struct m_policy {
	const struct m_lb *lb;
	const struct m_pool *pool;
	const struct m_outlier *outlier;
};

struct m_traffic_policy {
	bool given;
	struct m_policy all;
	struct m_port_policy {
		int64_t port;
		struct m_policy policy;
	} * ports; /* in place of the others */
	uint32_t port_nr;
	struct place at; /* none: only annotations say something */
};

struct m_subset {
	struct str name;
	struct kvs labels;
	struct m_traffic_policy policy;
	struct place at;
};

struct m_destination_rule {
	struct str host;
	struct place host_at;
	struct strs export_to;
	struct kvs workload_selector; /* of clients */
	struct m_traffic_policy policy;
	struct m_subset *subsets;
	uint32_t subset_nr;
};

struct named_port {
	struct str name;
	int64_t port;
};

struct m_workload_entry {
	struct str address_text;
	struct addr address; /* zero when address_text is not an IP literal (unix://, DNS) */
	struct named_port *ports;
	uint32_t port_nr;
	struct kvs labels;
	struct str network, locality, service_account;
	int64_t weight;	  /* 0: not given, counts as 1 */
	struct str group; /* the WorkloadGroup that it was registered by; empty: none */
	bool unhealthy;	  /* by its status */
	struct place at;
};

/* As struct u_probe. */
struct m_probe {
	bool http;
	struct addr host;
	uint16_t port;
	struct str path, headers;
	uint32_t delay_ms, timeout_ms, period_ms, success_min, failure_max;
};

struct m_workload_group {
	struct m_probe *probe; /* NULL: none */
};

struct m_se_port {
	int64_t number, target;	   /* target 0: number */
	struct str name, protocol; /* protocol upper case; empty: TCP */
	struct place at;
};

enum resolution { RESOLUTION_NONE, RESOLUTION_STATIC };

struct m_service_entry {
	struct strs hosts, export_to;
	struct cidr *addresses; /* prefix_len 128: a VIP; with status.addresses when spec.addresses is empty */
	uint32_t address_nr;
	struct m_se_port *ports;
	uint32_t port_nr;
	bool internal;			/* MESH_INTERNAL */
	enum distribution distribution; /* annotation */
	enum resolution resolution;
	struct m_workload_entry *endpoints;
	uint32_t endpoint_nr;
	bool has_selector;
	struct kvs selector; /* workloadSelector.labels: WorkloadEntries and Pods of the namespace */
};

struct m_gateway_server {
	int64_t port;
	struct str port_name;
	struct strs hosts;
	struct place at;
	bool http, tls;		       /* protocol HTTP, or TLS that is passed on unopened; else TCP */
	const struct m_rule *redirect; /* what all its requests get; NULL: what the rules say */
};

struct m_istio_gateway {
	struct kvs selector;
	struct place selector_at;
	struct m_gateway_server *servers;
	uint32_t server_nr;
};

/* ---- gateway.networking.k8s.io ---- */
#define GATEWAY_GROUP "gateway.networking.k8s.io"
#define GATEWAY_CONTROLLER "tulle.dev/gateway-controller"
#define GATEWAY_CLASS "tulle" /* is of that controller, unless a document says otherwise */

struct m_gateway_class {
	bool ours;
	struct place at; /* of controllerName */
};

enum label_op { LABEL_IN, LABEL_NOT_IN, LABEL_EXISTS, LABEL_ABSENT };

struct m_label_term {
	struct str key;
	enum label_op op;
	struct strs values;
};

/* Labels that carry all of it. */
struct m_selector {
	struct kvs labels;
	struct m_label_term *terms;
	uint32_t term_nr;
};

enum route_from { ROUTES_SAME, ROUTES_ALL, ROUTES_SELECTED };

struct m_listener {
	struct str name;
	uint16_t port;
	uint8_t proto;	     /* 0: a protocol that is not enforced */
	bool http;	     /* protocol HTTP */
	struct str hostname; /* of http; empty: every one */
	bool takes;	     /* routes of its protocol's kind */
	bool has_selector;
	enum route_from from;
	struct m_selector selector; /* of namespaces */
	struct place at;
};

/* Something of a document that is refused when the document turns out to be for us. */
struct m_noted {
	struct str field, message;
	struct place at;
};

struct m_gateway {
	struct str class;
	struct m_listener *listeners;
	uint32_t listener_nr;
	struct addr *addrs; /* spec.addresses, else status.addresses */
	uint32_t addr_nr;
	struct m_noted *noted;
	uint32_t noted_nr;
	struct place class_at;
};

struct m_parent_ref {
	struct str name, ns; /* ns: the route's when not given */
	struct str section;  /* of a Gateway: its listener; empty: every one */
	int64_t port;	     /* 0: every port */
	bool gateway;	     /* kind is Gateway, else Service; others are refused */
	struct place at;
};

struct m_backend_ref {
	struct str name, ns; /* ns: the route's when not given; kind is Service */
	int64_t port;	     /* required for a Service */
	int64_t weight;	     /* default 1 */
	struct place at;
};

struct m_route_rule {
	struct str name;
	struct m_backend_ref *backends;
	uint32_t backend_nr;
	const struct m_http_rule *more; /* of an HTTPRoute, whose matches are in it; NULL: of another kind */
	struct place at;
};

enum route_kind { ROUTE_TCP, ROUTE_UDP, ROUTE_HTTP };

struct m_route {
	enum route_kind kind;
	struct m_parent_ref *parents;
	uint32_t parent_nr;
	struct m_route_rule *rules;
	uint32_t rule_nr;
	struct strs hostnames;
};

struct m_grant_from {
	struct str group, kind, ns;
};

struct m_grant_to {
	struct str group, kind, name; /* name empty: all */
};

struct m_reference_grant {
	struct m_grant_from *from;
	uint32_t from_nr;
	struct m_grant_to *to;
	uint32_t to_nr;
};

/* ---- security.istio.io ---- */

/* Lists of one kind of condition: [0] one of them must hold (empty: no matter), [1] none of them may. */
struct m_cidrs {
	struct cidr *v;
	uint32_t nr;
};

struct m_numbers {
	uint16_t *v;
	uint32_t nr;
};

/* "namespace/host" of a Sidecar: namespace "*" is any, "." the client's, "~" none; hosts may begin with "*". */
struct m_import {
	struct str ns, host;
};

enum outbound_mode { OUTBOUND_UNSET, OUTBOUND_REGISTRY_ONLY, OUTBOUND_ALLOW_ANY };

struct m_sidecar {
	struct kvs selector; /* empty: the namespace, or of the root namespace every one without a Sidecar */
	struct place selector_at;
	struct m_import *imports;
	uint32_t import_nr;
	bool sees_all; /* says nothing of what is seen */
	enum outbound_mode outbound;
	struct place outbound_at; /* of the name, where no mode is given */
};

enum mtls_mode { MTLS_UNSET, MTLS_DISABLE, MTLS_PERMISSIVE, MTLS_STRICT };

struct m_port_mtls {
	uint16_t port;
	enum mtls_mode mode;
};

struct m_peer_authentication {
	struct kvs selector; /* as in struct m_authorization_policy */
	struct place selector_at;
	enum mtls_mode mode;
	struct m_port_mtls *ports; /* by number */
	uint32_t port_nr;
};

/* ---- documents ---- */
enum layer { LAYER_RULES, LAYER_APPLIED }; /* from the rules directory; by `meshctl apply`, which wins over the first */

/* One decoded document. Immutable once read. */
struct doc {
	uint32_t refs;
	enum kind kind;
	enum layer layer;
	struct arena arena;		   /* owns everything below */
	struct str api_version, kind_name; /* as the user wrote them */
	struct where at;		   /* first line of the document (List items: of the item) */
	/*
	 * The document's own text, for `get` and the journal: it reads alone, also when the document is an item of a List. Its first
	 * line is number text_line of the file (0: not known), its lines were cut by text_indent columns.
	 */
	struct str text;
	uint32_t text_line, text_indent;
	uint32_t order; /* of reading, within its batch */
	struct meta meta;
	union {
		struct m_service *service;
		struct m_slice *slices; /* EndpointSlice: one; Endpoints: one a subset */
		struct m_pod *pod;
		struct m_node *node;
		struct m_virtual_service *vs;
		struct m_destination_rule *dr;
		struct m_service_entry *se;
		struct m_workload_entry *we;
		struct m_workload_group *group;
		struct m_istio_gateway *gateway;
		struct m_gateway_class *gwclass;
		struct m_gateway *gw;
		struct m_route *route;
		struct m_reference_grant *grant;
		struct m_authorization_policy *policy;
		struct m_peer_authentication *peers;
		struct m_sidecar *sidecar;
	};
	uint32_t slice_nr;
};

enum outcome { OUTCOME_APPLIED, OUTCOME_SKIPPED, OUTCOME_REFUSED };

/* What became of one document of the input, in input order; one row for each item of a List. */
struct doc_result {
	struct where at;
	struct str api_version, kind, ns, name;
	enum outcome outcome;
	struct doc *doc; /* owned by the batch; NULL when refused, or when its kind is skipped */
};

/* The documents of one input. */
struct batch {
	struct arena arena;
	struct doc_result *results;
	uint32_t nr, cap;
	uint32_t applied, skipped, refused;
	struct diags diags; /* of reading; later stages add to it */
	uint32_t *seen;	    /* rows by kind, namespace and name, to find duplicates; private */
	uint32_t seen_nr, seen_cap;
};

/*
 * Reads every document of `text` (borrowed only during the call) into `b`, behind what is there. Never stops at a bad document.
 * A List gives a row for each of its items. The same kind, namespace and name twice in one batch is an error of the later one.
 */
void batch_read(struct batch *b, enum layer layer, struct str file, struct str text);
void batch_release(struct batch *b);
/* A later stage found an error in this document: its outcome becomes REFUSED. */
void batch_refuse(struct batch *b, struct str file, uint32_t document, uint32_t line);
/* The same for exactly this document, item and all. */
void batch_refuse_doc(struct batch *b, const struct doc *doc);

/* It is in order, and for somebody else: its outcome becomes SKIPPED. It stays in the model, where it may come to mean something. */
void batch_skip_doc(struct batch *b, const struct doc *doc);

/* A diag at a place in a document that was read before, with its line of text. */
void doc_diag(struct diags *d, enum diag_level level, const struct doc *doc, struct place at, struct str field,
	      struct str hint, const char *fmt, ...) __attribute__((format(printf, 7, 8)));
void doc_unref(struct doc *d); /* NULL is fine */
struct doc *doc_ref(struct doc *d);

/* Singular upstream name ("Service", "EndpointSlice" ...), resource names and short names, for `get` and messages. */
const char *kind_text(enum kind k);
/* Takes what kubectl takes: "vs", "virtualservice", "virtualservices", "VirtualService", "virtualservices.networking.istio.io",
 * "endpoints", "tcproute" ... *ret_kind_name: exact kind_name that must match, empty for any (KIND_ROUTE and KIND_SLICE have
 * several). */
bool kind_parse(struct str text, enum kind *ret, struct str *ret_kind_name);

/* All documents that are to be live together. A value: copying the struct's pointers needs model_clone. */
struct model;

struct model *model_new(void);
void model_free(struct model *m); /* NULL is fine */
/* A second model with the same documents; what does not change later is shared between the two. */
struct model *model_clone(const struct model *m);

/* Adds or replaces by {layer, kind_name group, namespace, name}; takes a reference. Returns the doc it replaced, or NULL, with a
 * reference that the caller drops. */
struct doc *model_put(struct model *m, struct doc *d);
/* Removes exactly this document of this layer. Returns it with a reference, or NULL. */
struct doc *model_remove(struct model *m, enum layer layer, enum kind kind, struct str kind_name, struct str ns,
			 struct str name);
/* The visible document (LAYER_APPLIED before LAYER_RULES), or NULL; borrowed. */
struct doc *model_get(const struct model *m, enum kind kind, struct str kind_name, struct str ns, struct str name);
/*
 * Visible documents of one kind in creation order: created_s, then for Istio's kinds name and namespace, for others namespace and
 * name (as upstream breaks ties; the order of reading would not survive a restart). Borrowed, valid until the next change.
 */
struct doc *const *model_list(const struct model *m, enum kind kind, uint32_t *ret_nr);
/* Visible slice documents that belong to service ns/name, each once, ordered by kind and name. Borrowed until the next change. */
struct doc *const *model_slices_of(const struct model *m, struct str ns, struct str service, uint32_t *ret_nr);
/* Documents of both layers, hidden ones too. */
uint32_t model_count(const struct model *m);

#endif
