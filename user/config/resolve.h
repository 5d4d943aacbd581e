/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files that turn a model into a snapshot share; private to them (snapshot.h is the interface). In the order of use:
 *   world.c      indexes over the model: hosts with their ports, workloads by address, name and label, rules by host
 *   dests.c      names: hosts, ports, subsets and DestinationRules as one client sees them
 *   traffic.c    the traffic policy of a destination as one client has it
 *   locality.c   where workloads are, and which endpoints go first because of it
 *   route.c      which rule a client meets at {host, address, port}
 *   view.c       what one client sees of a host: rows with destinations
 *   http_table.c which rules for requests hold at a row
 *   http_image.c those rules as meshl7 reads them
 *   sidecar.c    what a client's Sidecar leaves of that
 *   gateway.c    hosts that stand for the TCP servers of Istio Gateways
 *   gwapi.c      hosts that stand for the listeners of Gateways of the Gateway API
 *   accelerate.c what annotations say of the ways between pods of a node
 *   scope.c      groups of clients, and which of them see the same
 *   endpoints.c  the endpoints of one destination
 *   unit.c       packs one host's rows and endpoints into a unit
 *   access.c     who may reach whom
 *   analyze.c    references that do not exist, conflicts: errors and warnings
 *   analyze_gateway.c   the same of Istio Gateways
 *   analyze_routes.c    the same of routes of the Gateway API
 *   analyze_gwapi.c     the same of Gateways of the Gateway API
 */
#ifndef CONFIG_RESOLVE_H
#define CONFIG_RESOLVE_H

#include <stdio.h>

#include "config/http.h"
#include "config/index.h"
#include "config/snapshot.h"
#include "mesh_abi.h"

struct build;

enum host_kind { HOST_SERVICE, HOST_ENTRY, HOST_GATEWAY };

/* How Istio takes a port: by protocol, appProtocol and name. AUTO: it looks at the bytes. */
enum port_class { PORT_AUTO, PORT_HTTP, PORT_TCP, PORT_TLS, PORT_UDP, PORT_OTHER };
/* What a rule of a VirtualService is for. */
static inline enum port_class rule_class(const struct m_rule *r)
{
	return r->http ? PORT_HTTP : r->tls ? PORT_TLS : PORT_TCP;
}

struct port {
	struct str name;
	struct int_or_str target;
	uint16_t number;
	uint8_t proto;
	uint8_t class;
	bool http2; /* of PORT_HTTP: gRPC or HTTP/2 with prior knowledge */
};

/* Where clients dial a host. */
struct front {
	struct cidr net;
	bool outer;	 /* of a Service, for clients from outside: the Service's own endpoints, no rule of the mesh */
	uint16_t number; /* dialled: the port's, or its node port */
	uint32_t port;	 /* in host->ports */
};

/* A destination, and what a unit is made of. */
struct host {
	enum host_kind kind;
	struct str name,
		ns; /* FQDN; of an Istio Gateway "gateway:<name>:<port>", of a listener "listener:<gateway>:<name>" */
	const struct doc *doc;
	const struct strs *export_to;
	struct port *ports;
	uint32_t port_nr;
	struct front *fronts; /* of ports with rows */
	uint32_t front_nr, front_cap;
	const struct doc **rules; /* VirtualServices and routes that may apply, oldest first */
	uint32_t rule_nr;
	struct str client_ns;		/* gateway: the namespace that its own lookups start in */
	uint32_t position;		/* of its unit */
	const struct host *shadowed_by; /* another document has this name in this namespace; this one has no unit */
	bool contended;			/* another host has one of its {address, port} */
};

static inline const struct port *front_port(const struct host *h, const struct front *f)
{
	return &h->ports[f->port];
}

/* A place. Its text is "region/zone/subzone". */
struct locale {
	struct m_locality l;
	struct str text;
};

struct node {
	struct str name;
	const struct locale *at, *zone; /* NULL: unknown; zone: without the subzone */
};

struct workload {
	const struct doc *doc; /* Pod or WorkloadEntry */
	const struct kvs *labels;
	const struct locale *at; /* NULL: unknown */
	const struct doc *group; /* its WorkloadGroup, or NULL */
	struct str text;	 /* "namespace/name/serviceaccount" */
};

/* One DestinationRule under its full host name. */
struct dr {
	const struct doc *doc;
	struct str host;
};

/* Everything about a model that does not depend on EndpointSlices. Keeps the documents it points to alive; reference-counted, shared
 * by the snapshots that only endpoints tell apart. */
struct world {
	uint32_t refs;
	struct arena arena;
	struct doc **docs; /* references held */
	uint32_t doc_nr;
	struct str domain, root_ns, suffix; /* suffix: ".svc.<domain>" */
	struct str node;		    /* whose endpoints are local; empty: nobody's */

	struct host *hosts; /* Services and ServiceEntry hosts by age, then gateways */
	uint32_t host_nr, gateway_at;
	struct index by_name; /* host name -> hosts */
	struct index claims;  /* {address, number, proto} -> hosts, gateways first, then by age */
	bool lone;	      /* neither a Service nor a ServiceEntry: rules are checked on their own */

	struct workload *workloads; /* pods, then WorkloadEntries */
	uint32_t workload_nr, pod_nr;
	struct index by_ip, by_pod, by_label; /* by_label: {namespace, key, value}; built on demand */
	bool labelled;

	struct node *nodes;
	uint32_t node_nr;
	struct index by_node, by_zone; /* names -> nodes */
	const struct locale *here;     /* of `node`; NULL: unknown */

	struct doc *const *vss; /* those that delegate are copies that have their delegates' rules */
	uint32_t vs_nr;
	struct delegation *delegations, **delegations_end; /* what of delegating does not hold */
	struct index delegated;				   /* {namespace, name} that some rule delegates to -> vss */
	struct index vs_exact;				   /* full host name -> vss */
	uint32_t *vs_wild;				   /* vss with a wildcard host */
	uint32_t vs_wild_nr;
	struct doc *const *routes;
	uint32_t route_nr;
	struct index route_by; /* {namespace, service} of a parent -> routes */
	struct dr *drs;
	uint32_t dr_nr;
	struct index dr_exact;	 /* full host name -> drs */
	struct index dr_wild_by; /* namespace -> drs with a wildcard host */
	uint32_t *dr_wild;
	uint32_t dr_wild_nr;
	struct doc *const *grants;
	uint32_t grant_nr;
	struct doc *const *sidecars; /* by age */
	uint32_t sidecar_nr;
	struct index sidecar_by_ns;
	bool registry_only; /* of clients whose Sidecar does not say */
};

/* "namespace/name/serviceaccount". There are a hundred thousand, so no printf. */
struct str workload_text(struct arena *a, struct str ns, struct str name, struct str account);
struct world *world_new(const struct model *m, const struct snapshot_options *opts);
void world_unref(struct world *w); /* NULL is fine */
/* Builds by_label, once. */
void world_label(struct world *w);
uint64_t claim_hash(const struct host *h, const struct front *f);
/* Appends a front, unless the host has it already. */
void front_add(struct world *w, struct host *h, const struct front *f);
/* `s`, a host of a VirtualService without a wildcard, is `host`. */
bool vs_names(const struct world *w, const struct doc *doc, struct str s, struct str host);
/* Finds each host's rules, and who else has its addresses; after gateways_add(). */
void world_link(struct world *w);
/* Adds the hosts of Gateways, at most gateways_count() of them. */
uint32_t gateways_count(const struct model *m);
void gateways_add(struct world *w, const struct model *m);

/* ---- names (dests.c) ---- */

/* Who asks. ns empty: a client without special visibility. labels and sidecar may be NULL. */
struct who {
	struct str ns;
	const struct kvs *labels;
	bool outside; /* no pod of this node */
	const struct doc *sidecar;
};

/* "*" first: a wildcard host. */
static inline bool host_is_wild(struct str s)
{
	return s.len && s.p[0] == '*';
}

/* Short names belong to `ns`, as Istio has it: anything with a dot is a full name. */
struct str host_full(struct arena *a, const struct world *w, struct str host, struct str ns);
/* Is what `owner` exports to `export_to` visible in ns? */
bool exported(const struct strs *export_to, struct str owner, struct str ns);
/* Visible to everybody. */
bool exported_to_all(const struct strs *export_to);
/* The host that a name means to a client: of its own namespace, else a Service, else the oldest; NULL: none is visible. `any`: whoever
 * sees it. */
const struct host *host_find(const struct world *w, struct str name, const struct who *who, bool any);
/* The Service of a namespace by its short name. */
const struct host *host_service(const struct world *w, struct str ns, struct str name);
const struct port *host_port(const struct host *h, int64_t number, bool udp);

/* More rules than this for one host in one namespace are refused. */
#define DRS_MAX 64

/* DestinationRules of a host as one client sees them, merged: the first that has a subset or a policy counts. */
struct drs {
	const struct doc *v[DRS_MAX];
	uint32_t nr;
};

void drs_find(const struct world *w, const struct host *h, const struct who *who, struct drs *ret);
/* *ret_by: the rule that has it. */
const struct m_subset *drs_subset(const struct drs *drs, struct str name, const struct doc **ret_by);

/* The parts of the policy of {rule, subset, port}, and who says so. */
struct policy {
	struct m_policy parts;
	const struct doc *by; /* NULL: nobody */
	const struct m_traffic_policy *from;
	const struct m_port_policy *port; /* of `from`, NULL: its own parts */
};

void drs_policy(const struct drs *drs, const struct m_subset *subset, int64_t port, struct policy *ret);

/* ---- traffic policies (traffic.c) ---- */

/* Which endpoints go first for one client. */
struct ranking {
	const struct m_locality_lb *lb;	   /* NULL: all are alike */
	const struct m_distribute *shares; /* in place of it: shares of localities */
	bool no_hints;			   /* hints of slices do not count */
	struct m_locality client;
	struct str values[PRIORITIES_MAX]; /* of the labels in lb->priority, which an endpoint must have */
};

/* How the endpoints of a destination are balanced for one client. */
struct balance {
	struct u_traffic traffic; /* but for its origin */
	struct ranking ranking;
	/* What holds for requests only; NULL: nothing. */
	const struct m_http_hash *hash;
	const struct m_http_pool *requests;
	const struct m_outlier *outlier;
	const struct doc *by; /* NULL: no rule says anything */
	const struct m_traffic_policy *from;
	const struct m_port_policy *port;
};

/* A destination as one client has it. */
struct target {
	const struct m_subset *subset; /* NULL: the whole host, or there is no such subset */
	const struct doc *subset_by;
	struct balance balance;
	bool pass;		   /* the dialled address is kept instead */
	const struct doc *pass_by; /* by this rule, NULL: the host is such */
	uint32_t variant; /* 0: as clients without special visibility have it; else a hash of what is different */
};

/* subset: its name, empty for the whole host. */
void target_find(struct world *w, const struct host *h, const struct port *port, struct str subset,
		 const struct who *who, struct target *ret);
/* What clients from outside have, for whom no rule of the mesh holds. */
void target_outer(struct world *w, const struct host *h, const struct port *port, struct target *ret);
/* A copy that lives as long as the world. */
const struct balance *balance_keep(struct world *w, const struct balance *b);
bool balance_same(const struct balance *a, const struct balance *b);
/* The path of its policy in its document. */
struct str balance_field(struct arena *a, const struct balance *b);

/* ---- localities (locality.c) ---- */

/* Finds the places of nodes and workloads. */
void localities_add(struct world *w, const struct model *m);
struct m_locality locality_parse(struct str text);
/* In `a`; NULL: it says nothing. */
const struct locale *locale_new(struct arena *a, struct m_locality l);
/* NULL: unknown. */
const struct locale *locale_of_node(const struct world *w, struct str node);
/* Nodes say in which region a zone is; one that no node is in is made in `a`. */
const struct locale *locale_of_zone(const struct world *w, struct arena *a, struct str zone);
/* What the host's own trafficDistribution stands for, or NULL. */
const struct m_locality_lb *host_distribution(const struct host *h);
/* policy NULL: no rule holds. */
void ranking_find(struct world *w, const struct host *h, const struct policy *policy, const struct who *who,
		  struct ranking *ret);
bool ranking_same(const struct ranking *a, const struct ranking *b);
uint64_t ranking_hash(const struct ranking *r);

/* ---- Sidecars (sidecar.c) ---- */

void sidecars_add(struct world *w, const struct model *m);
/* The Sidecar of a pod; NULL: it has none. */
const struct doc *sidecar_of(const struct world *w, const struct doc *pod);
/* It speaks of its clients' own namespace. */
bool sidecar_names_own(const struct doc *doc);
/* The client may see this host, as far as its Sidecar goes. */
bool sidecar_sees(const struct who *who, const struct host *h);
/* The client takes this rule, which h->rules holds, as far as its Sidecar goes. */
bool sidecar_imports(const struct world *w, const struct who *who, const struct host *h, const struct doc *rule);
/* Of a host and its rules. PART: which depends on the Sidecar. */
enum sidecar_view { SIDECAR_SEES_ALL, SIDECAR_SEES_NOTHING, SIDECAR_SEES_PART };
enum sidecar_view sidecar_view(const struct world *w, const struct who *who, const struct host *h);
/* Warns of those that are not used, and of pods that have several. */
void sidecars_analyze(struct build *b);

/* ---- one unit in the making (view.c, unit.c) ---- */

/* A destination: what its cluster is named, and where its endpoints come from. */
struct spec {
	struct str name;
	const struct host *host; /* NULL: nowhere, connections are refused */
	const struct port *port;
	const struct m_subset *subset; /* NULL: all */
	const struct balance *balance; /* as long as the world */
	uint32_t origin;	       /* of its policy, as in struct u_traffic */
	uint32_t variant;	       /* as in struct target */
	uint16_t broken;	       /* of nowhere: the status that requests are answered with */
	bool v6;
	bool local; /* endpoints of this node only */
};

struct origin {
	const struct doc *doc;
	struct str field;
	struct place at;
};

struct view_dest {
	uint32_t spec;
	uint64_t weight;
};

/* ---- rules for requests, in order of precedence; everything in the build's temporary arena until it is packed ---- */

struct h_mirror {
	uint32_t spec, share;
};

struct h_dest {
	uint32_t spec, weight;
	const struct m_http_dest *more; /* NULL: nothing */
	struct h_mirror *mirrors;
	uint32_t mirror_nr;
};

struct h_route {
	const struct m_http_rule *rule;	  /* NULL: it says nothing but the destinations */
	const struct m_http_match *match; /* NULL: every request */
	struct str name, origin;
	struct h_dest *dests;
	struct h_mirror *mirrors;
	uint32_t dest_nr, mirror_nr;
};

struct h_host {
	struct str name;
	struct h_route *routes;
	uint32_t route_nr;
};

struct h_table {
	struct h_host *hosts;
	uint32_t host_nr;
	uint16_t flags; /* enum mesh_http_table_flag */
};

enum view_state {
	VIEW_NONE,  /* not there for this client */
	VIEW_LOST,  /* another host has this address and port for this client */
	VIEW_ROUTE, /* to dests; none: refused */
	VIEW_PASS,
};

/* What one client sees at one address and port of a host. Rows of every view of a unit stand in the same order. */
struct view_row {
	struct cidr net;
	uint16_t port;
	uint8_t proto, state;
	bool per_connection;
	bool fail_open;
	uint32_t
		http; /* index + 1 in the making's tables, 0: not routed by request. Else dests are for want of meshl7 */
	uint32_t origin; /* index + 1 */
	uint32_t dest, dest_nr;
};

struct making {
	const struct host *host;
	struct view_row *rows; /* row_nr a view, view after view; view 0: a client without special visibility */
	uint32_t row_nr, rows_cap, view_nr;
	struct view_dest *dests;
	uint32_t dest_nr, dest_cap;
	struct spec *specs;
	uint32_t spec_nr, spec_cap;
	struct origin *origins;
	uint32_t origin_nr, origin_cap;
	struct h_table *tables;
	uint32_t table_nr, table_cap;
	struct str *notes;
	uint32_t note_nr, note_cap;
	struct scope_view {
		uint32_t scope, view;
	} * scoped; /* scopes that see another view than 0 */
	uint32_t scoped_nr, scoped_cap;
};

/* What all of a build shares. */
struct build {
	struct world *world;
	const struct model *model;
	struct arena temp; /* lives as long as the build */
	struct batch *batch;
	const struct access *access;			  /* before any unit is made */
	bool no_parser, http_fail_open, http_per_request; /* of the settings */
	struct diags spare;				  /* takes diags when there is no batch */
	const struct doc **refused;			  /* documents with errors, once each */
	uint32_t refused_nr, refused_cap;
	uint32_t errors, hint_nr;
};

/* Grows an array of `size`-byte items so that one more fits. */
void *grow(void *v, uint32_t nr, uint32_t *cap, size_t size);
#define GROW(v, nr, cap) ((v) = grow((v), (nr), (cap), sizeof(*(v))))

/* Appends one more view to mk->rows, as `who` sees the host; returns its number, or that of an equal one. */
uint32_t view_add(struct build *b, struct making *mk, const struct who *who);
/* Adds what clients from outside see, where that is something else than what all see. */
void view_outside(struct build *b, struct making *mk);
/* Means the same to a client, and for the same reason. */
bool view_row_equal(const struct making *mk, const struct view_row *x, const struct view_row *y);
/* The spec of a VirtualService's destination, of `doc`; *pass counts those that keep the dialled address. */
uint32_t view_destination(struct build *b, struct making *mk, const struct view_row *row,
			  const struct m_destination *to, const struct doc *doc, const struct who *who, uint32_t *pass);
/* The same of a backend of a route. */
uint32_t view_backend(struct build *b, struct making *mk, const struct view_row *row, const struct m_backend_ref *to,
		      const struct doc *doc, const struct who *who, uint32_t *pass);
/* Why a backend of a route is not served; NULL: it is, and *ret_host and *ret_port are set. */
const char *backend_bad(const struct world *w, const struct doc *route, const struct m_backend_ref *to,
			const struct host **ret_host, const struct port **ret_port);
void making_note(struct build *b, struct making *mk, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void making_clear(struct making *mk);
void making_free(struct making *mk);

/* Errors (warnings, when the document does not come from this batch) and warnings at a place of a document. */
void report_error(struct build *b, const struct doc *doc, struct place at, struct str field, struct str hint,
		  const char *fmt, ...) __attribute__((format(printf, 6, 7)));
void report_warning(struct build *b, const struct doc *doc, struct place at, struct str field, struct str hint,
		    const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* An error, unless the document has one already: however many clients and ports meet it. */
void report_once(struct build *b, const struct doc *doc, struct place at, struct str field, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
void analyze(struct build *b);
/* Gateways of Istio: whom they select, and which get into each other's way. */
void gateways_analyze(struct build *b);
/* Routes of the Gateway API. */
void routes_analyze(struct build *b);
/* analyze_gwapi.c: of Gateways of the Gateway API and their classes; and of a route whose parent is one. */
void gwapi_analyze(struct build *b);
void gwapi_parent_analyze(struct build *b, const struct doc *doc, uint32_t at);
/* Why clients do not dial this host at addresses of its own, or NULL. */
const char *host_not_frontend(const struct host *h);

/* ---- clients (scope.c) ---- */

/* Who says that connections are to be accelerated, besides the pods themselves. In the build's temporary arena. */
struct accelerations {
	const struct model *model;
	const struct doc **services; /* with the annotation */
	uint32_t service_nr;
};
void accelerate_index(struct build *b, struct accelerations *ret);
/* What the nearest to the pod says: itself, the Services that select it (the most careful of them), its Namespace. */
void accelerate_find(const struct accelerations *acc, const struct doc *pod, struct arena *a, struct client *ret);

struct scopes {
	struct client *clients; /* in `arena` */
	uint32_t client_nr, scope_nr;
	struct making **conditional; /* by unit position, NULL: everybody sees the same; owned */
};

/* Classes of clients, their views of each host that they may see differently, and a scope for each distinct set of views. Clients are
 * allocated in `arena`, which outlives the documents. hosts: in the order of units. */
void scopes_find(struct build *b, struct arena *arena, struct host **hosts, uint32_t nr, struct scopes *ret);

/* ---- endpoints ---- */

/* What is known of an endpoint until it is packed. */
struct candidate {
	const struct str *who; /* workload text, NULL: unknown */
	const struct locale *at;
	const struct kvs *labels;	   /* NULL: unknown */
	const struct doc *group;	   /* its WorkloadGroup, or NULL */
	const struct m_slice_endpoint *ep; /* NULL: not of a slice */
	struct str node;
	bool serving; /* draining, but still there for clients that find nobody else */
};

struct endpoints {
	struct u_endpoint *v;
	struct candidate *more; /* of each */
	uint32_t nr, cap;
	uint32_t draining_nr; /* of the last endpoints_add() */
	bool elsewhere;	      /* the last endpoints_add() left out endpoints of other nodes */
	struct arena texts;   /* of workloads and zones that have no document */
};

/* Appends the endpoints of a destination as struct u_cluster has them, without duplicates. */
void endpoints_add(struct endpoints *e, const struct world *w, const struct model *m, const struct spec *spec);
/* Sets the levels of the endpoints behind `from`, or weighs them by shares of their localities and drops those without one. */
void levels_find(struct endpoints *e, uint32_t from, const struct world *w, const struct spec *spec);
/* Pods and WorkloadEntries of a namespace that carry all of `selector`: calls fn for each. */
void workloads_each(const struct world *w, struct str ns, const struct kvs *selector,
		    void (*fn)(void *data, const struct workload *wl), void *data);

/* ---- access (access.c) ---- */

/* Never NULL. `prev` (may be NULL): whose identities keep their numbers. */
struct access *access_build(struct build *b, const struct snapshot_options *opts, const struct access *prev);

/* ---- units ---- */

/* Everything a unit says apart from its endpoints, before it is packed into one block. */
struct parts {
	struct str ns, host, source_kind, file;
	uint32_t line;
	const struct u_row *rows;
	uint32_t row_nr;
	const struct u_dest *dests;
	uint32_t dest_nr;
	const struct spec *specs; /* one a cluster */
	uint32_t spec_nr;
	const struct h_table *tables; /* their specs are those of `specs` */
	uint32_t table_nr;
	const struct u_origin *origins;
	uint32_t origin_nr;
	const struct str *notes;
	uint32_t note_nr;
};

/* The unit's struct mesh_http_image, appended to `out`; its endpoints are packed already. */
void http_image(const struct unit *u, const struct parts *p, struct buf *out);
/* A copy whose specs are numbered anew: cluster[old] - 1. */
void http_table_copy(struct arena *keep, const struct h_table *from, const uint32_t *cluster, struct h_table *to);

/* Finds the endpoints and packs. `e` is scratch. */
struct unit *unit_pack(const struct parts *p, const struct world *w, const struct model *m, struct endpoints *e);
/* What a unit is packed from again when its endpoints change; in an arena that outlives the build. */
struct unit_plan {
	struct spec *specs; /* of its clusters */
	struct h_table *tables;
	uint32_t table_nr;
};

/* Rows of all scopes of one host. */
struct unit *unit_make(struct build *b, struct making *mk, struct endpoints *e, struct arena *keep,
		       struct unit_plan *ret_plan);
/* Same content, also that which only people see. */
bool unit_same(const struct unit *a, const struct unit *b);

#endif
