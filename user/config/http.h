/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules for requests as documents give them: one model for http: of VirtualServices and for HTTPRoutes. Where they send to stands
 * beside them, in struct m_rule and struct m_route_rule. Kinds of texts, changes and reasons to retry are those of mesh_http.h, where
 * their meaning is written.
 */
#ifndef CONFIG_HTTP_H
#define CONFIG_HTTP_H

#include "config/model.h"

/* MESH_TEXT_ANY: not given. */
struct m_http_text {
	uint8_t kind; /* enum mesh_http_text_kind */
	bool ignore_case, invert;
	struct str text;
};

struct m_http_named {
	struct str name; /* of a header in lower case */
	struct m_http_text value;
};

struct m_http_match {
	struct m_http_text path, method, authority, scheme;
	struct m_http_named *headers, *queries;
	uint32_t header_nr, query_nr;
};

/* Names in lower case, each once in `set` and `add`. */
struct m_http_fields {
	struct kvs set, add;
	struct strs remove;
};

struct m_http_rewrite {
	struct str path, regex, authority;
	uint8_t change; /* enum mesh_http_path_change */
};

struct m_http_redirect {
	struct m_http_rewrite to;
	struct str scheme;
	uint16_t status, port;
	uint8_t port_kind; /* enum mesh_http_port */
};

struct m_http_fault {
	uint32_t delay_ms, delay_share, abort_share; /* of MESH_HTTP_WHOLE */
	uint16_t abort_status;
};

/* One of the two. */
struct m_http_mirror {
	struct m_destination to;
	struct m_backend_ref backend;
	uint32_t share; /* of MESH_HTTP_WHOLE */
};

struct m_http_mirrors {
	struct m_http_mirror *v;
	uint32_t nr;
};

struct m_http_retry {
	uint32_t on; /* enum mesh_http_retry_on */
	uint32_t attempts, try_timeout_ms, backoff_ms;
	bool other_endpoints;
	uint16_t *statuses;
	uint32_t status_nr;
};

struct m_http_cors {
	bool credentials, forward_unmatched, has_max_age;
	uint32_t max_age_s;
	struct m_http_text *origins;
	uint32_t origin_nr;
	struct str methods, headers, exposed; /* as they are sent; empty: not at all */
};

/* What one destination of a rule has of its own. */
struct m_http_dest {
	struct m_http_fields request, response;
	struct m_http_rewrite rewrite;
	const struct m_http_redirect *redirect; /* NULL: none */
	struct m_http_mirrors mirrors;
};

/* What a rule says itself, and does not take over from one that delegates to it; an own retry or cors says so by itself. */
struct m_http_own {
	bool rewrite, timeout, headers, fault, mirror, mirrors, share;
	struct str authority, host; /* of rewrite, and what headers set Host to, which comes before it */
	uint32_t mirror_share;
};

struct m_http_rule {
	struct m_http_match
		*matches; /* one of them; of a VirtualService each beside its m_l4_match. None: every request */
	uint32_t match_nr;
	uint8_t action;		   /* enum mesh_http_action */
	struct m_http_dest *dests; /* of each destination; NULL: none has anything of its own */
	struct m_http_rewrite rewrite;
	struct m_http_redirect redirect;
	uint16_t direct_status;
	struct str body, body_type;
	struct m_http_fields request, response;
	struct m_http_fault fault;
	struct m_http_mirrors mirrors;
	const struct m_http_retry *retry; /* NULL: the default */
	const struct m_http_cors *cors;
	uint32_t timeout_ms;
	struct m_http_own own; /* of a VirtualService */
	bool acts;	       /* does more than to choose destinations */
};

/* Of a rule that says nothing: what nobody can have seen yet is tried twice more. */
extern const struct m_http_retry http_retry_default;

/* It holds for every request. */
bool http_match_any(const struct m_http_match *m);

bool http_match_same(const struct m_http_match *a, const struct m_http_match *b); /* NULL is like NULL */

#endif
