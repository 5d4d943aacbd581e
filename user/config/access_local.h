/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of access share:
 *   access.c          members and their identities; the whole
 *   access_select.c   which policies guard which workload
 *   access_node.c     what they say of pods on their node's network
 *   access_compile.c  those of one workload -> a program
 *   access_request.c  what of them is for meshl7
 *   access_ask.c      programs run, and shown
 */
#ifndef CONFIG_ACCESS_LOCAL_H
#define CONFIG_ACCESS_LOCAL_H

#include "config/resolve.h"

/* `rule` of a denial that none of a policy's rules says: the policy allows others only. */
#define NO_RULE UINT32_MAX

/* What guards a workload. Policies are counted as in access->policies. */
struct guards {
	const uint32_t *policies; /* ascending */
	uint32_t nr;
	/* PeerAuthentications, index + 1, 0: none. What says STRICT for ports without a mode of their own, and what has modes of ports
	 * that differ from that. */
	uint32_t strict, strict_ports;
	bool shadow, relayed;
};

struct node_group;

/* An access in the making. */
struct access_making {
	struct build *b;
	struct access *access;
	struct arena temp;
	const struct doc **docs;	/* of access->policies */
	struct str *principals;		/* of identities */
	uint64_t *live;			/* bits of identities: 0, and those that a member has */
	struct index by_account, by_ns; /* of identities but 0 */
	struct str trust_domain;
	struct node_group *on_node; /* pods on their node's network, by account */
	uint32_t on_node_nr, on_node_cap;
	uint32_t program_cap, guard_cap, term_cap, bit_cap;
};

/* Compiles; returns index + 1 of the program, an equal one's if there is one. More steps than a program may have: reports it at the
 * policy that is too much, and the program denies everything. */
uint32_t access_compile(struct access_making *mk, const struct guards *g);

/* Where the programs of a workload go. */
struct guarded {
	uint32_t program, shadow, relayed;
};

/* Fills access->policies, compiles what the workloads need, and reports selectors that select nothing. `members`: workload_nr flags;
 * ret: workload_nr. */
void access_select(struct access_making *mk, const bool *members, struct guarded *ret);

void on_node_find(struct access_making *mk);
void on_node_release(struct access_making *mk);
/* The rule with what follows from it for addresses that such pods share. */
struct m_policy_rule on_node_closed(struct access_making *mk, const struct m_policy_rule *rule, bool deny);
/* Warns, once, when the policy names such a pod. */
void on_node_warn(struct access_making *mk, const struct doc *doc);

/* ---- access_request.c ---- */

/* What holds of a rule whatever the request is (DENY), or may hold for one (ALLOW); false: nothing. In mk's temporary arena. */
bool access_rule_relayed(struct access_making *mk, const struct m_policy_rule *rule, bool deny,
			 struct m_policy_rule *ret);
/* Some rule asks something of requests that meshl7 can tell. */
bool access_asks_requests(const struct m_authorization_policy *p);
/* Gives policy->rules to a policy. */
void access_keep_rules(struct access_making *mk, uint32_t policy);
/* All of a policy's rules for requests as text. */
void access_rules_print(const struct u_policy *p, struct buf *out);

/* "<trust domain>/ns/<namespace>/sa/<account>" */
bool access_principal_parse(struct str text, struct str trust_domain, struct str *ret_ns, struct str *ret_account);
/* "x", "x*", "*x" or "*" (something is there) against a text; an empty one is no text at all. */
bool access_text_is(struct str form, struct str text);

#endif
