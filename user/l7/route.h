/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compiled HTTP rules (mesh_http.h) as meshl7 asks them: which route a request takes, and what of its head changes. Pure functions over
 * immutable rules: no system call, no state, random numbers come from the caller.
 */
#ifndef L7_ROUTE_H
#define L7_ROUTE_H

#include "l7/head.h"
#include "mesh_http.h"

/* Immutable, shared by workers, reference-counted (atomic). */
struct http_rules;

/*
 * Checks every reference and compiles every regular expression of the `size` bytes at `p`, which stay the caller's until `release(data)` is
 * called with the last reference. NULL with a sentence in err.
 */
struct http_rules *http_rules_load(const void *p, size_t size, void (*release)(void *data), void *data,
				   struct buf *err);
struct http_rules *http_rules_ref(struct http_rules *r);
void http_rules_unref(struct http_rules *r); /* NULL is fine */
uint64_t http_rules_epoch(const struct http_rules *r);

/* Who dialled what: once for each connection and rules. */
struct http_place {
	const struct http_rules *rules;	     /* borrowed */
	const struct mesh_http_image *image; /* NULL: nothing is known of this address and port */
	const struct mesh_http_table *table;
	const struct mesh_http_client *client; /* NULL: from outside */
	struct mesh_addr client_addr, dialled;
	uint16_t dialled_port;
};
void http_place_find(const struct http_rules *r, const struct mesh_addr *client, const struct mesh_addr *dialled,
		     uint16_t dialled_port, struct http_place *ret);

static inline const void *http_ref(const struct mesh_http_image *image, struct mesh_ref ref)
{
	return ref.nr ? (const char *)image + ref.at : NULL;
}

static inline struct str http_text(const struct mesh_http_image *image, struct mesh_ref ref)
{
	return (struct str){ (const char *)image + ref.at, ref.nr };
}

/* A request's head, at p. */
struct http_request {
	const struct head *head;
	const char *p;
	struct str scheme; /* "http" */
};

struct http_choice {
	const struct mesh_http_route *route;	   /* NULL: none matches, answer place.table->absent_status */
	const struct mesh_http_match *match;	   /* the one of the route's that held, NULL: it has none */
	const struct mesh_http_dest *dest;	   /* FORWARD: NULL when there is none with a weight */
	const struct mesh_http_cluster *cluster;   /* of dest */
	const struct mesh_http_redirect *redirect; /* REDIRECT, or of dest's own filter */
};

/* Draws are uniform in 64 bits. */
void http_choose(const struct http_place *place, const struct http_request *rq, uint64_t draw, struct http_choice *ret);
/* The same where the table is one of TLS, for the name that is asked for; empty: none. */
void http_choose_name(const struct http_place *place, struct str name, uint64_t draw, struct http_choice *ret);
/* A share of a million holds for this draw. */
bool http_share(uint32_t share, uint64_t draw);

/* What the proxy itself says of a request. */
struct http_forward {
	struct str request_id; /* of X-Request-Id, where the request has none; empty: none is added */
	bool keep_alive;       /* towards the server */
	bool upgrade;	       /* Connection: upgrade and Upgrade are passed on */
	bool mirrored;	       /* authority gets "-shadow", as Envoy has it */
	uint32_t attempt;      /* 1: the first; x-envoy-attempt-count */
	uint32_t timeout_ms;   /* of this try; x-envoy-expected-rq-timeout-ms; 0: none */
};

/*
 * Appends the head of the request as it goes to the server: target and fields as the route and destination change them, without what is
 * for one hop only. The body's framing is the request's. What is added is what Istio's sidecars add: x-forwarded-proto and x-request-id
 * where the request has none, x-envoy-attempt-count, x-envoy-expected-rq-timeout-ms, and x-envoy-original-path when the path was
 * rewritten; X-Forwarded-For ends in the client's address, which the server sees as well. At the edge (MESH_HTTP_EDGE) x-forwarded-for
 * and x-forwarded-proto are set to what is so, whatever came, and fields of x-envoy- that come from outside end here.
 */
void http_request_head(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		       const struct http_forward *f, struct buf *out);

struct http_answer {
	const struct head *head;
	const char *p;
	bool keep_alive; /* towards the client */
	bool http10;	 /* the client spoke HTTP/1.0 */
	bool chunked;	 /* the body is sent chunked whatever its framing was (HEAD_BODY_CLOSE to a client of 1.1) */
	struct str set_cookie; /* of the hash cookie that was made; empty: none */
};

/* Appends the head of an answer as it goes to the client, 1xx ones too. */
void http_answer_head(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		      const struct http_answer *a, struct buf *out);

/*
 * Appends a whole answer of the proxy's own (redirect, direct response, error): head and, but for HEAD, body. Of place, rq
 * and c those are NULL that are not known: of a request whose head was refused all three.
 */
struct http_own {
	uint16_t status;
	struct str body, type; /* type empty: text/plain */
	struct str location;   /* empty: none */
	bool keep_alive, http10, head_only;
	bool overloaded;   /* x-envoy-overloaded: true */
	const char *flags; /* response flags for x-tulle-flags: none are sent when NULL */
};
void http_own_answer(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		     const struct http_own *o, struct buf *out);
/* Location of a redirect. */
void http_location(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		   struct buf *out);

/* It is a preflight that the route's CORS policy answers itself (status 200 with its fields, appended to out). */
bool http_preflight(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		    bool keep_alive, struct buf *out);

/* What a consistent hash is taken of; false: there is nothing, choose at random. */
bool http_hash(const struct http_place *place, const struct http_request *rq, const struct mesh_http_cluster *c,
	       uint64_t *ret);

/*
 * A cookie for who has none, where the cluster hashes by one and says how long it lives: appends the value of its Set-Cookie field, and *ret is
 * the hash of it. false: none is made.
 */
bool http_cookie_make(const struct http_place *place, const struct mesh_http_cluster *c, uint64_t draw, struct buf *out,
		      uint64_t *ret);

/* "namespace/name/serviceaccount" of the client; empty: it is from outside. */
struct str http_client_workload(const struct http_place *place);

/*
 * L7 policies of the server that was chosen, of the request as rules have rewritten it. rq NULL: nobody can look into the connection; then
 * what a policy asks of requests holds where it denies, and does not where it allows.
 */
enum http_verdict { HTTP_ALLOWED, HTTP_DENIED };
enum http_verdict http_authorize(const struct http_place *place, const struct http_request *rq,
				 const struct http_choice *choice, const struct mesh_http_endpoint *to,
				 struct str *ret_policy);

#endif
