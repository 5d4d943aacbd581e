/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model -> who may reach whom: AuthorizationPolicy and PeerAuthentication compiled into programs of tests (struct u_term, the
 * same steps as struct mesh_term), and every address of the mesh with its identity and the programs that guard it. Immutable and
 * reference-counted; snapshots that only endpoints tell apart share one.
 *
 * Where rules ask something of requests, an address has two programs. `program` is for who dials it: what only a request would tell
 * counts as the worse. `relayed` is for connections of meshl7, which asks the rest of each request: what that decides counts there as
 * allowed.
 *
 * An identity is a service account {namespace, name} of a workload whose address the mesh vouches for; its principal is
 * "<trust domain>/ns/<namespace>/sa/<name>". Number 0 is everybody else: outside clients, the node, pods on the node's network.
 * Sources: Istio security.istio.io/v1 AuthorizationPolicy and PeerAuthentication; ztunnel's L4 translation of them.
 */
#ifndef CONFIG_ACCESS_H
#define CONFIG_ACCESS_H

#include "config/policy.h"
#include "mesh_abi.h"

struct u_policy {
	struct str kind, ns, name; /* AuthorizationPolicy ... */
	struct str file;
	uint32_t line;
	bool deny, dry_run;
	bool needs_l7; /* a DENY, part of which needs bytes: in `program` that part is taken as if it held always */
	/* What meshl7 is told: all of its rules, where it guards a workload with a program for relayed connections. */
	const struct m_policy_rule *rules;
	uint32_t rule_nr;
};

/* struct mesh_term with what is numbered by the plane left relative: IDENTITY: arg is a word of the program's own bits; ALLOW and
 * DENY: arg is index + 1 in access->policies, 0: none. What no rule allows is denied without a policy, but in the program of dry-run
 * policies in the name of the first of them, so that it is counted. */
struct u_term {
	struct addr addr;
	uint32_t arg, nr;
	uint16_t hit, miss, op;
	uint32_t
		rule; /* ALLOW and DENY with a policy: index of the rule in it, for explain; UINT32_MAX: none of them */
};

struct u_program {
	uint32_t term, term_nr;	  /* in access->terms */
	uint32_t bit, bit_nr;	  /* words, in access->bits */
	uint32_t guard, guard_nr; /* in access->guards */
	uint64_t hash;		  /* of all that the kernel sees, with the policies' names in place of numbers */
};

struct u_identity {
	struct str ns, account;
};

/* One address of a workload. */
struct u_member {
	struct addr addr;
	struct str workload;	  /* "namespace/name/serviceaccount" */
	struct str node;	  /* empty: not known */
	uint32_t identity;	  /* index in access->identities, 0: none */
	uint32_t program, shadow; /* index + 1 in access->programs, 0: none */
	uint32_t relayed; /* the same; 0: `program` holds for relayed connections too, nothing is asked of requests */
};

struct access {
	uint32_t refs;
	struct arena arena;
	uint64_t hash; /* of everything below */
	struct u_policy *policies;
	uint32_t policy_nr;
	struct u_program *programs;
	uint32_t program_nr;
	uint32_t *
		guards; /* of each program the policies (index) that it is made of, those without any rule too, ascending */
	uint32_t guard_nr;
	struct u_term *terms;
	uint32_t term_nr;
	uint64_t *bits;
	uint32_t bit_nr;
	struct u_identity *identities; /* [0] is nobody; numbers stay from one access to the next */
	uint32_t identity_nr;
	struct u_member *members; /* sorted by addr, unique; pods on the node's network are not among them */
	uint32_t member_nr;
	struct str trust_domain;
	bool asks_requests; /* some member has `relayed` */
};

struct access *access_ref(struct access *a);
void access_unref(struct access *a); /* NULL is fine */

/* The member that has this address; NULL: none. */
const struct u_member *access_member(const struct access *a, const struct addr *addr);

struct u_endpoint;
/* One of these endpoints has a program for relayed connections. */
bool access_guards(const struct access *a, const struct u_endpoint *endpoints, uint32_t nr);

/* A verdict and where it comes from. */
struct access_verdict {
	bool allowed;
	const struct u_policy
		*policy; /* NULL: no policy says so (nothing selects the server, or policies allow others only) */
	uint32_t rule;	 /* of the policy */
};

/* What the kernel would say of a connection from `source` to server:port (host order, the workload's port). `program`: index + 1. */
struct access_verdict access_ask(const struct access *a, uint32_t program, uint32_t identity, const struct addr *source,
				 const struct addr *server, uint16_t port);

/* The programs as text, stable: for golden tests and people. */
void access_print(const struct access *a, struct buf *out);

#endif
