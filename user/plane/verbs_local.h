/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the verbs share. Nobody else includes it. */
#ifndef PLANE_VERBS_LOCAL_H
#define PLANE_VERBS_LOCAL_H

#include "plane/verbs.h"

enum output { OUTPUT_TABLE, OUTPUT_WIDE, OUTPUT_JSON, OUTPUT_YAML, OUTPUT_NAME };

enum exit_code { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_FAILED = 3 };

/* A request taken apart. All texts are borrowed from the frame. */
struct request {
	enum output output;
	bool colour, dry_run, live;
	struct str kind, ns, source, destination, protocol, workload, service, state;
	struct wire_part *files; /* name without "file:"; owned */
	struct str *names;	 /* owned */
	uint32_t file_nr, name_nr;
};

struct reply {
	struct buf out, err;
};

/* Each returns an exit code. */
typedef int (*verb_fn)(struct verbs *v, const struct request *q, struct reply *r);
int verb_apply(struct verbs *v, const struct request *q, struct reply *r);
int verb_delete(struct verbs *v, const struct request *q, struct reply *r);
int verb_diff(struct verbs *v, const struct request *q, struct reply *r);
int verb_get(struct verbs *v, const struct request *q, struct reply *r);
int verb_flows(struct verbs *v, const struct request *q, struct reply *r);
int verb_endpoints(struct verbs *v, const struct request *q, struct reply *r);
int verb_parser(struct verbs *v, const struct request *q, struct reply *r);
int verb_metrics(struct verbs *v, const struct request *q, struct reply *r);
int verb_status(struct verbs *v, const struct request *q, struct reply *r);

/* "error: ..." on standard error; returns `code`. */
int reply_error(struct reply *r, enum exit_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static inline struct str buf_text(const struct buf *b)
{
	return (struct str){ b->data ? b->data : "", (uint32_t)b->len };
}

/* ASCII lower case, as kubectl writes kinds in "kind/name"; appended. */
void add_lower(struct buf *out, struct str s);
/* A resource name of the user's: its entry, or NULL with an error on r. Only kinds that are kept. */
const struct kind_entry *resource_find(struct str text, struct reply *r);

#endif
