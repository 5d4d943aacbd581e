/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meshl7, the parser of HTTP: started, watched, given rules, and relieved by a new one without a connection refused. It goes on when meshd ends;
 * the next meshd starts one of its own and lets the old one drain.
 */
#ifndef PLANE_PARSER_H
#define PLANE_PARSER_H

#include <sys/types.h>

#include "base/json.h"
#include "base/loop.h"
#include "plane/plane.h"

struct parser;

/* *ret NULL: the settings want none. The first process starts with the first rules that need one. 0; or -errno with a sentence. */
int parser_new(struct loop *l, const struct settings *s, struct plane *p, struct parser **ret, struct buf *err);
/* Forgets it; what runs goes on. NULL is fine, here and below. */
void parser_free(struct parser *p);

/* Every process of it that there is was started by this meshd. */
bool parser_is_own(const struct parser *p);
/* A child of meshd has ended, maybe one of these. */
void parser_child(struct parser *p, pid_t pid, int wait_status);
/* A new process takes over, and the old one drains. 0; or -errno with a sentence, and all stays as it was. */
int parser_restart(struct parser *p, struct buf *err);
/* The file of the access log is opened again. */
void parser_reopen(struct parser *p);

/* Member of the status object. */
void parser_json(const struct parser *p, struct json *j);
/* What all processes have counted, in Prometheus' text format 0.0.4. */
void parser_metrics(const struct parser *p, struct buf *out);

/* Ends what an earlier meshd has left, for whoever unloads. */
void parser_unload(const struct settings *s);

#endif
