/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of explain share. Nobody else includes it. */
#ifndef CONFIG_EXPLAIN_LOCAL_H
#define CONFIG_EXPLAIN_LOCAL_H

#include "config/explain.h"
#include "mesh_abi.h"

/* What the policies say of one server, and why. */
struct finding {
	struct access_verdict says;
	uint16_t reason;		 /* enum mesh_reason: why not; MESH_REASON_NONE: allowed */
	const struct u_program *program; /* NULL: no policy selects the server */
	const struct u_program *shadow;	 /* of dry-run policies; NULL: none */
	struct access_verdict would;
	bool requests; /* each request is asked as well, by meshl7 */
};

/* What a client may reach by one dial: an endpoint, or the dialled address itself. */
struct server {
	struct addr addr;
	uint16_t port;
	struct str workload; /* empty: none that is known */
	bool said;	     /* it is among those that are spoken of */
};

struct asking {
	const struct snapshot *s;
	const struct explain_node *node; /* NULL: it is not known */
	const struct client *client;
	struct client outside; /* what `client` points to when the source is an address of nobody's */
	struct addr outside_ip;
	struct str domain, trust_domain, node_name;
	uint16_t port;
	uint8_t proto;
	struct buf *text; /* never NULL */
	struct json *json;
	uint32_t allowed, denied; /* servers found so far */
	struct finding first;	  /* of the first of them */
	bool differ;		  /* not all of them found the same */
};

static inline bool is_outside(const struct asking *q)
{
	return q->client == &q->outside;
}

/* "1.2.3.4:80", "[fd00::1]:80", appended. */
void add_socket(struct buf *out, const struct addr *addr, uint16_t port);

/* The client that has this address; of several, which share their node's, none speaks for it. */
const struct client *client_at(const struct snapshot *s, const struct addr *addr);

/* ---- explain_access.c ---- */
/* All servers behind an address; owned by the caller. r may be NULL. */
struct server *servers_of(const struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r,
			  uint32_t *ret_nr);
/* " to ADDRESS:PORT, ..." of those that are said, unless that is all of them. JSON: the key "servers". */
void say_servers(struct buf *out, const struct server *v, uint32_t nr, bool all);
void json_servers(struct json *j, const struct server *v, uint32_t nr);
/* A client that may reach only what the rules know dials what they do not. */
bool access_unknown(const struct asking *q, const struct addr *addr, const struct u_row *r);
/* A destination with its endpoints; sum: of the weights. JSON: an object. */
void say_dest(struct asking *q, const struct unit *u, const struct u_dest *d, uint64_t sum);
/* Rules for requests, where the row has some. JSON: the key "http". */
void say_requests(struct asking *q, const struct unit *u, const struct u_row *r);
/* Whether the client may reach what it meets at this address; r may be NULL. JSON: the key "access". */
void say_access(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r);
/* Whether it may reach all of it. JSON: the keys "verdict", "policy", "rule", "file", "line". */
void say_verdict(struct asking *q);
/* JSON: the key "source_identity". */
void json_identity(const struct asking *q);

/* ---- explain_ways.c ---- */
/* Whether bytes between the client and the servers may go past TCP, and straight from pod to pod. JSON: the key "ways". */
void say_ways(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r);

#endif
