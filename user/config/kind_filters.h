/* SPDX-License-Identifier: BSD-2-Clause */
/* Filters of HTTPRoutes: see kind_filters.c. */
#ifndef CONFIG_KIND_FILTERS_H
#define CONFIG_KIND_FILTERS_H

#include "config/kind_gwroutes.h"

extern const struct schema filter_schema;

/* Of a rule, or where that is NULL of one backend. */
void filters_fill(const struct check *c, const struct list *raw, const char *base, struct m_http_rule *rule,
		  struct m_http_dest *dest);
/* Why a header of a match or filter cannot have this value. */
const char *header_value_bad(struct str s);

#endif
