/* SPDX-License-Identifier: BSD-2-Clause */
/* An AuthorizationPolicy as its document gives it. */
#ifndef CONFIG_POLICY_H
#define CONFIG_POLICY_H

#include "config/model.h"

/* Of a request: one of what is named, and none of what is left out. Texts as in struct m_condition, paths may be templates. */
struct m_request_test {
	uint8_t subject;   /* enum mesh_http_subject: HOST, METHOD, PATH, HEADER; REMOTE_IP by networks */
	struct str header; /* lower case */
	struct strs texts[2];
	struct m_cidrs nets[2];
};

/* All that is given must hold. Texts: "x", "x*", "*x", or "*" for any that is there; accounts: "namespace/name". */
struct m_condition {
	struct strs principals[2], namespaces[2], accounts[2], trust_domains[2];
	struct m_cidrs sources[2], destinations[2];
	struct m_numbers ports[2];
	struct m_request_test *tests;
	uint32_t test_nr;
	bool l7;      /* there is more to it, which needs bytes: `tests`, and what is unknown */
	bool unknown; /* some of that is what nobody here can tell */
};

/* One of them must hold: `from`, `to`, or one entry of `when`. */
struct m_clause {
	struct m_condition *any;
	uint32_t nr;
};

/* All clauses must hold. */
struct m_policy_rule {
	struct m_clause *clauses;
	uint32_t clause_nr;
	bool l7; /* one of its conditions is */
	struct place at;
};

struct m_authorization_policy {
	bool deny, dry_run;
	struct kvs selector;	  /* empty: the namespace, or of the root namespace the mesh */
	struct place selector_at; /* of the name, where there is none */
	struct m_policy_rule *rules;
	uint32_t rule_nr;
};

#endif
