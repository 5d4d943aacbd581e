/* SPDX-License-Identifier: BSD-2-Clause */
/* VirtualServices whose http: rules are in other VirtualServices, see delegate.c. */
#ifndef CONFIG_DELEGATE_H
#define CONFIG_DELEGATE_H

#include "config/resolve.h"

enum delegation_kind {
	DELEGATION_ABSENT,   /* there is no such VirtualService */
	DELEGATION_HOSTS,    /* it has hosts, so it is none that others delegate to */
	DELEGATION_HIDDEN,   /* it is not exported to the namespace of the rule */
	DELEGATION_CONFLICT, /* its rule is for requests that are not this rule's */
	DELEGATION_TOO_MANY, /* the rules, or the matches, are more than is kept */
};

/* What of a delegation does not hold. */
struct delegation {
	struct delegation *next;
	enum delegation_kind kind;
	const struct doc *doc;	    /* that delegates, */
	const struct m_rule *rule;  /* with this rule */
	const struct doc *delegate; /* of CONFLICT and TOO_MANY, and its rule */
	const struct m_rule *own;
};

/* Puts the rules of delegates in the places of those that delegate, in copies of the documents: makes w->vss of the model's list. */
void delegates_merge(struct world *w, const struct model *m);
/* Says what does not hold, and which delegates are nobody's. */
void delegates_analyze(struct build *b);

#endif
