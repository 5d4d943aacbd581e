/* SPDX-License-Identifier: BSD-2-Clause */
/* "What happens when SRC dials DST:PORT, may it, and which line of which file says so." Pure: snapshot in, text or JSON out. */
#ifndef CONFIG_EXPLAIN_H
#define CONFIG_EXPLAIN_H

#include "base/json.h"
#include "config/snapshot.h"

/* What a node knows of one of the rules' pods. */
struct explain_pod {
	bool here;		    /* it runs on this node, as the mesh sees it */
	const char *no_shortcut;    /* why its link takes none; NULL: it does */
	uint32_t programs, splices; /* that were looked at, and how many of them could splice */
	char splicer[256];	    /* one of these, and what of it says so */
};

/* What a node knows that no rule says: how its settings and its kernel have connections between its pods carried. */
struct explain_node {
	enum accelerate accelerate;  /* of pods that nothing else is said of */
	bool loopback, parser;	     /* inside of pods, and with meshl7, too */
	const char *no_acceleration; /* why nothing is accelerated here, or not yet; NULL: it is */
	const char *no_shortcut;     /* the same of shortcuts */
	void (*pod)(void *data, const struct client *c, struct explain_pod *ret);
	void *data;
};

/*
 * src: "pod", "pod.namespace", "namespace/pod", or an IP literal, which is a client outside of the cluster unless a pod has it. dst: a
 * Service or ServiceEntry host ("reviews", "reviews.default", "reviews.default.svc.cluster.local", resolved from the source's
 * namespace), a pod as in src, an IP literal, or "node" or the node's name for a NodePort; port != 0; proto of the ABI.
 * node: NULL: it is not known which pods are whose, and nothing is said of what goes past TCP or straight.
 * Writes what check's users read to `text` and the same facts to `json` (either may be NULL). Returns 0; -ENOENT: no such source,
 * host or port, with a sentence in `text`.
 */
int explain(const struct snapshot *s, const struct snapshot_options *opts, const struct explain_node *node,
	    struct str src, struct str dst, uint16_t port, uint8_t proto, struct buf *text, struct json *json);

/* What `check` and `apply` print: the per-document results, as text (with diags, source and caret) or as JSON (DESIGN §8). */
void report_text(const struct batch *b, struct buf *out, bool colour);
void report_json(const struct batch *b, struct buf *out);

#endif
