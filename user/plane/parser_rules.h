/* SPDX-License-Identifier: BSD-2-Clause */
/* What meshl7 is given of a snapshot: a struct mesh_http. Pure functions but for the memfd. */
#ifndef PLANE_PARSER_RULES_H
#define PLANE_PARSER_RULES_H

#include "config/snapshot.h"

/* Appends the whole of it to `out`, which is empty. Equal snapshots and epochs give equal bytes. */
void parser_rules_make(const struct snapshot *s, uint64_t epoch, struct buf *out);
/* A row of theirs leads to meshl7. */
bool parser_rules_needed(const struct buf *rules);
/* They say the same, whatever their epochs. */
bool parser_rules_equal(const struct buf *a, const struct buf *b);
/* A sealed memfd with that in it, or -errno. */
int parser_rules_memfd(const struct buf *rules);

#endif
