/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What user space does for the health of endpoints: the interval work of outlier detection, levels of priority, active checks, and the ends
 * of connections that have lasted too long. Choosing, counting and ejecting go on without it.
 */
#ifndef PLANE_HEALTH_H
#define PLANE_HEALTH_H

#include "base/loop.h"
#include "plane/plane.h"

struct health;
/* Watches the plane's endpoints from now on, whatever rules are live. Never NULL. */
struct health *health_new(struct loop *l, const struct settings *s, struct plane *p);
void health_free(struct health *h); /* before the plane closes; NULL is fine */

#endif
