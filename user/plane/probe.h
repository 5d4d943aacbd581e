/* SPDX-License-Identifier: BSD-2-Clause */
/* Active checks: one TCP connection, or one HTTP request, every so often, on the event loop. Knows nothing of maps. */
#ifndef PLANE_PROBE_H
#define PLANE_PROBE_H

#include "base/loop.h"
#include "config/snapshot.h"

/* What the checks of one daemon share. */
struct probes {
	struct loop *loop;
	uint32_t running; /* at this moment */
};

struct probe;
/* The workload has become healthy, or ceased to be. */
typedef void (*probe_fn)(void *data, bool healthy);

/*
 * Checks `what` at `where` (at its own host where it has one) from its delay on. `healthy`: what it is until checks say otherwise. Texts
 * are copied. Never NULL.
 */
struct probe *probe_new(struct probes *all, const struct u_probe *what, const struct addr *where, bool healthy,
			probe_fn fn, void *data);
void probe_free(struct probe *p); /* also while it is checking; NULL is fine */
/* It would be the same if it were made new. */
bool probe_is(const struct probe *p, const struct u_probe *what, const struct addr *where);
bool probe_healthy(const struct probe *p);
/* Of the last check, in a few words: "connected", "status 503", "Connection refused"; "not checked yet". */
const char *probe_result(const struct probe *p);

#endif
