/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files share that put the rules for meshl7 together. */
#ifndef PLANE_PARSER_RULES_INT_H
#define PLANE_PARSER_RULES_INT_H

#include "plane/parser_rules.h"

struct mesh_http;
struct mesh_ref;

/* nr items, aligned, and a text behind what is there. */
struct mesh_ref rules_array(struct buf *out, const void *items, uint32_t nr, size_t size);
struct mesh_ref rules_text(struct buf *out, struct str s);
/* parser_guards.c: sets h->policies and h->guards. */
void rules_add_guards(struct buf *out, const struct access *a, struct mesh_http *h);

#endif
