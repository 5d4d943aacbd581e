/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compiled HTTP rules: what meshd gives to meshl7 in a sealed memfd. One flat piece of memory without pointers; every struct is 8-byte
 * aligned. Whoever reads it checks it once (http_rules_load()) and then trusts it.
 *
 * The memfd is a struct mesh_http, its arrays, and one image for each unit of the snapshot that has HTTP rows. An image is made where the
 * unit is made (user/config) and never changes; all references inside it count from its own first byte, so that it is copied as it is.
 */
#ifndef MESH_HTTP_H
#define MESH_HTTP_H

#include "mesh_abi.h"

#define MESH_HTTP_MAGIC 0x314c5448u /* "HTL1" */
#define MESH_HTTP_VERSION 2

/* `nr` elements (of text: bytes, no NUL) at `at`. {0, 0}: none. */
struct mesh_ref {
	__u32 at, nr;
};

/* References count from this struct. */
struct mesh_http {
	__u32 magic, version;
	__u64 size; /* of the whole memfd */
	__u64 epoch;
	struct mesh_ref
		rows; /* struct mesh_http_row, sorted by scope, addr, port, each as memcmp() and number have it */
	struct mesh_ref clients;  /* struct mesh_http_client, sorted by addr */
	struct mesh_ref guards;	  /* struct mesh_http_guard, sorted by addr: servers that L7 policies are about */
	struct mesh_ref policies; /* struct mesh_http_policy */
	struct mesh_ref domain;	  /* text: "cluster.local", trust domain for principals */
};

/* What {scope, address, port} that a client dialled means. Addresses of IPv4 are mapped. No networks: prefixes are refused for HTTP. */
struct mesh_http_row {
	struct mesh_addr addr; /* any-address: every address of the node that has no row of its own */
	__u32 scope;
	__u16 port; /* host order */
	__u16 pad;
	__u32 image; /* offset of a struct mesh_http_image from the struct mesh_http */
	__u32 table; /* index in its tables */
};

/* A pod: who dials, and in which scope. Who is not listed is outside: MESH_SCOPE_OUTSIDE. */
struct mesh_http_client {
	struct mesh_addr addr;
	__u32 scope; /* as struct client has it, MESH_SCOPE_CLOSED included */
	__u32 pad;
	struct mesh_ref workload; /* text "namespace/name/serviceaccount" */
};

/* ---- images. References count from the struct mesh_http_image ---- */

struct mesh_http_image {
	__u32 size; /* multiple of 8 */
	__u32 pad;
	struct mesh_ref service;  /* text "namespace/host" */
	struct mesh_ref tables;	  /* struct mesh_http_table */
	struct mesh_ref clusters; /* struct mesh_http_cluster */
};

/* What one row says. The most specific host that has the authority's name decides, and of it the first route that matches. */
struct mesh_http_table {
	struct mesh_ref hosts; /* struct mesh_http_host: full names first, then "*.x" longest first, then "*" */
	__u16 absent_status;   /* what is answered when nothing matches: 404; 0: does not happen */
	__u16 flags;	       /* enum mesh_http_table_flag */
	__u32 pad;
};
enum mesh_http_table_flag {
	MESH_HTTP_EDGE = 1, /* a gateway: clients from outside, X-Forwarded-For of theirs is not believed */
	/* Connections of TLS, which nobody opens: hosts are the names that clients ask for in their first message, each with one route that
	 * has destinations and nothing else. Who asks for no name means "*"; where no host fits, the connection ends. */
	MESH_HTTP_TLS = 2,
};

struct mesh_http_host {
	struct mesh_ref name;	/* text, lower case, without port: "a.b", "*.b" (one label or more in its place), "*" */
	struct mesh_ref routes; /* struct mesh_http_route in order of precedence: all that may hold for this name */
};

enum mesh_http_text_kind {
	MESH_TEXT_ANY = 0, /* whatever it is, also none at all */
	MESH_TEXT_PRESENT, /* there is one, also an empty one */
	MESH_TEXT_EXACT,
	MESH_TEXT_PREFIX,
	MESH_TEXT_SUFFIX,
	MESH_TEXT_REGEX,       /* the whole text; RE2's syntax without what is no regular language */
	MESH_TEXT_PATH_PREFIX, /* paths: by elements, "/a" has "/a" and "/a/b" and not "/ab" (Gateway API) */
	MESH_TEXT_TEMPLATE,    /* paths: {*} is one element, {**} any number (Istio's AuthorizationPolicy) */
};

struct mesh_http_text {
	__u8 kind; /* enum mesh_http_text_kind */
	__u8 ignore_case;
	__u8 invert; /* must not match; what is not there does not match anything but ANY */
	__u8 pad[5];
	struct mesh_ref text;
};

/* Of a field (name in lower case; several of one name are one, joined by ",") or a query parameter (the first of its name). */
struct mesh_http_named {
	struct mesh_ref name;
	struct mesh_http_text value;
};

/* All of it must hold. */
struct mesh_http_match {
	struct mesh_http_text path; /* without the query, as it was sent */
	struct mesh_http_text method, authority, scheme;
	struct mesh_ref headers; /* struct mesh_http_named */
	struct mesh_ref queries; /* struct mesh_http_named */
};

/* Changes of fields, in this order: removed, set, added. None of the fields that the framing and the connection depend on (head.h). */
struct mesh_http_field {
	struct mesh_ref name, value; /* name in lower case */
};
struct mesh_http_fields {
	struct mesh_ref remove;	  /* struct mesh_ref, texts in lower case */
	struct mesh_ref set, add; /* struct mesh_http_field */
};

enum mesh_http_path_change {
	MESH_PATH_KEEP = 0,
	MESH_PATH_FULL, /* `path` in place of it, without its query (the request's is kept) */
	MESH_PATH_PREFIX, /* `path` in place of the prefix that the match has; between path and rest there is one "/" (Gateway API) */
	MESH_PATH_PREFIX_TEXT, /* the same by characters, nothing added or taken away (Istio's rewrite.uri of a prefix match) */
	MESH_PATH_REGEX, /* every match of `regex` replaced by `path`, where \1 to \9 are its groups */
};

/* Rewriting, and where a redirect leads to. */
struct mesh_http_rewrite {
	struct mesh_ref path, regex;
	struct mesh_ref authority; /* {0, 0}: as it is. Also the host of a redirect */
	__u8 change;		   /* enum mesh_http_path_change */
	__u8 pad[7];
};

enum mesh_http_port {
	MESH_PORT_KEEP = 0,
	MESH_PORT_GIVEN,
	MESH_PORT_DEFAULT /* of the scheme: none is written */,
	MESH_PORT_REQUEST
};
struct mesh_http_redirect {
	struct mesh_http_rewrite to;
	struct mesh_ref scheme; /* {0, 0}: as it is */
	__u16 status;		/* 301 ... */
	__u16 port;
	__u8 port_kind; /* enum mesh_http_port */
	__u8 pad[3];
};

/* Shares are of a million. */
#define MESH_HTTP_WHOLE 1000000u

struct mesh_http_fault {
	__u32 delay_ms, delay_share; /* share 0: none */
	__u32 abort_share;
	__u16 abort_status;
	__u16 pad;
};

struct mesh_http_mirror {
	__u32 cluster; /* index in the image's clusters */
	__u32 share;
};

enum mesh_http_retry_on {
	MESH_RETRY_CONNECT_FAILURE = 1,
	MESH_RETRY_REFUSED_STREAM = 2, /* HTTP/2 alone */
	MESH_RETRY_RESET = 4,	       /* also before a whole answer's head came, and when the try timed out */
	MESH_RETRY_5XX = 8,	       /* with the next and RESET and CONNECT_FAILURE in it */
	MESH_RETRY_GATEWAY_ERROR = 16, /* 502, 503, 504 */
	MESH_RETRY_4XX = 32,	       /* retriable-4xx: 409 */
	MESH_RETRY_STATUS = 64,	       /* one of `statuses` */
	MESH_RETRY_RESET_BEFORE_REQUEST = 128,
};
struct mesh_http_retry {
	__u32 on;	      /* enum mesh_http_retry_on */
	__u32 attempts;	      /* beyond the first; 0: none */
	__u32 try_timeout_ms; /* 0: what is left of the request's */
	__u32 backoff_ms;     /* base; fully jittered, doubles, at most ten times */
	__u8 other_endpoints; /* those that failed are passed over */
	__u8 pad[7];
	struct mesh_ref statuses; /* __u16 */
};

struct mesh_http_cors {
	__u8 given;
	__u8 credentials;
	__u8 forward_unmatched; /* a preflight from elsewhere is passed on, else it is answered without the fields */
	__u8 has_max_age;
	__u32 max_age_s;
	struct mesh_ref origins;		   /* struct mesh_http_text */
	struct mesh_ref methods, headers, exposed; /* struct mesh_ref, texts: each is a field of its own */
};

struct mesh_http_dest {
	__u32 cluster; /* index in the image's clusters */
	__u32 weight;  /* >= 1, or 1 when it is alone */
	struct mesh_http_fields request, response;
	struct mesh_http_rewrite rewrite; /* in place of the route's where it changes anything */
	struct mesh_ref redirect;	  /* struct mesh_http_redirect, 0 or 1: of a backend's own filter */
	struct mesh_ref mirrors;	  /* struct mesh_http_mirror */
};

enum mesh_http_action { MESH_HTTP_FORWARD = 0, MESH_HTTP_REDIRECT, MESH_HTTP_DIRECT };

struct mesh_http_route {
	struct mesh_ref name;	 /* text, of the rule; may be empty */
	struct mesh_ref origin;	 /* text "VirtualService ns/name spec.http[0]" */
	struct mesh_ref matches; /* struct mesh_http_match: one of them; none: every request */
	__u64 weight_sum;	 /* of dests; 0: nobody, FORWARD answers 500 */
	struct mesh_ref dests;	 /* struct mesh_http_dest */
	struct mesh_http_rewrite rewrite;
	struct mesh_http_redirect redirect;
	struct mesh_ref body;	   /* bytes, DIRECT */
	struct mesh_ref body_type; /* text: its Content-Type, {0, 0}: text/plain */
	struct mesh_http_fields request, response;
	struct mesh_http_fault fault;
	struct mesh_ref mirrors; /* struct mesh_http_mirror */
	struct mesh_http_retry retry;
	struct mesh_http_cors cors;
	__u32 timeout_ms; /* of the whole request, retries included; 0: none */
	__u16 direct_status;
	__u8 action; /* enum mesh_http_action */
	__u8 pad;
};

enum mesh_http_hash {
	MESH_HASH_NONE = 0,
	MESH_HASH_SOURCE,
	MESH_HASH_HEADER,
	MESH_HASH_COOKIE, /* made when there is none and has_ttl */
	MESH_HASH_QUERY,
};

struct mesh_http_cluster {
	struct mesh_ref name; /* text "outbound|port|subset|host" */
	struct mesh_ref host; /* text: FQDN */
	struct mesh_ref
		endpoints; /* struct mesh_http_endpoint by level, address, port; draining ones are not among them */
	__u32 lb;	   /* enum mesh_lb */
	__u32 table_size;  /* MESH_LB_RING, MESH_LB_MAGLEV */
	__u32 hash;	   /* enum mesh_http_hash; NONE: choose at random where lb asks for one */
	__u32 hash_ttl_s;
	struct mesh_ref hash_name, hash_path; /* of the header, cookie or parameter; cookie's path */
	__u8 hash_has_ttl;
	__u8 broken; /* a reference that is not allowed or leads nowhere: requests are answered with 500 (Gateway API), or 503 */
	__u16 broken_status;
	__u8 max_ejection_percent, min_health_percent;
	__u8 outlier; /* outlierDetection is given */
	__u8 pad;
	__u32 max_connections, max_pending, max_requests, max_retries; /* UINT32_MAX: any number */
	__u32 max_requests_per_connection;			       /* 0: any number */
	__u32 connect_timeout_ms;				       /* 0: 10 s */
	__u32 idle_timeout_ms;					       /* 0: 1 h */
	__u32 consecutive_5xx, consecutive_gateway;		       /* 0: off */
	__u32 consecutive_local; /* connect failures counted apart; 0: they are among the 5xx */
	__u32 interval_ms, base_ejection_ms, max_ejection_ms;
	__u32 tcp_idle_ms, max_duration_ms; /* of connections of TLS; 0: 1 h, any time */
	__u32 pad2;
};

struct mesh_http_endpoint {
	struct mesh_addr addr;
	__u16 port; /* host order */
	__u8 level; /* 0 first */
	__u8 pad;
	__u32 weight;
	struct mesh_ref workload; /* text "namespace/name/serviceaccount", {0, 0}: unknown */
};

/* ---- L7 parts of AuthorizationPolicies. References count from the struct mesh_http ---- */

struct mesh_http_guard {
	struct mesh_addr addr;	  /* of the server */
	struct mesh_ref policies; /* __u32, indexes in policies: DENY ones first */
};

struct mesh_http_policy {
	struct mesh_ref name;  /* text "namespace/name" */
	struct mesh_ref rules; /* struct mesh_http_rule: one of them */
	__u8 deny, dry_run;
	__u8 pad[6];
};

struct mesh_http_rule {
	struct mesh_ref clauses; /* struct mesh_http_clause: all of them (from, to, each of when) */
};

struct mesh_http_clause {
	struct mesh_ref any; /* struct mesh_http_cond: one of them */
};

enum mesh_http_subject {
	MESH_SUBJECT_PRINCIPAL, /* "td/ns/x/sa/y" of the client */
	MESH_SUBJECT_NAMESPACE,
	MESH_SUBJECT_ACCOUNT, /* "ns/sa" */
	MESH_SUBJECT_TRUST_DOMAIN,
	MESH_SUBJECT_SOURCE_IP, /* tests are struct mesh_http_net */
	MESH_SUBJECT_REMOTE_IP, /* the same of X-Forwarded-For where that is believed, else the source */
	MESH_SUBJECT_DESTINATION_IP,
	MESH_SUBJECT_PORT, /* of the server; tests are decimal texts */
	MESH_SUBJECT_HOST, /* authority, without case */
	MESH_SUBJECT_METHOD,
	MESH_SUBJECT_PATH,
	MESH_SUBJECT_HEADER,
};
struct mesh_http_net {
	struct mesh_addr addr;
	__u32 prefix_len; /* of 128 */
	__u32 pad;
};
/* All tests of a condition must hold: of each, one of `any` (none given: holds), and none of `none`. */
struct mesh_http_test {
	__u32 subject; /* enum mesh_http_subject */
	__u32 pad;
	struct mesh_ref name;	   /* of a header, lower case */
	struct mesh_ref any, none; /* struct mesh_http_text, or struct mesh_http_net */
};
struct mesh_http_cond {
	struct mesh_ref tests; /* struct mesh_http_test */
};

#endif
