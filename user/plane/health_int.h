/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside of health: what its files share. Nobody else includes it.
 *
 *   health.c   what the live rules ask for, and when something is due    outlier.c  intervals, ejection by latency, levels
 *   checks.c   active checks                                            lapse.c    connections that have lasted too long
 */
#ifndef PLANE_HEALTH_INT_H
#define PLANE_HEALTH_INT_H

#include "plane/health.h"
#include "plane/plane_int.h"
#include "plane/probe.h"

/* A pool whose traffic policy asks for something here. */
struct watched {
	uint32_t pool;
	struct u_traffic traffic;
	uint32_t first, nr;   /* in health->members */
	uint64_t interval_ms; /* when its next interval ends, CLOCK_MONOTONIC */
};

/* A workload that is checked, by group and address. */
struct check {
	struct health *health;
	char *group; /* owned */
	struct addr addr;
	struct probe *probe;
	uint32_t *backends; /* that it speaks for, owned */
	uint32_t backend_nr, backend_cap;
};

/* Which check speaks for a backend. */
struct checked {
	uint32_t backend;
	const struct check *check;
};

/* When a connection was last seen to carry something. */
struct activity {
	uint64_t cookie, bytes, since_ns;
};

struct health {
	struct plane *p;
	struct loop *loop;
	struct loop_timer *timer;
	uint64_t applied; /* of the plane, when the rules were last looked at */
	bool looked;

	struct watched *watched; /* by pool; owned, as the rest is */
	uint32_t watched_nr;
	uint32_t *members;    /* backends, in runs of one pool */
	uint32_t *latency_nr; /* of each backend: samples at the end of its last interval; NULL: nobody asks */
	uint32_t *heads;      /* clusters with levels: the first of each */
	uint32_t head_nr, head_cap;

	struct probes probes;
	struct check **checks; /* by group and address */
	uint32_t check_nr;
	struct checked *checked; /* by backend */
	uint32_t checked_nr;

	uint32_t *
		draining; /* backends that the rules have and that get no new connections, sorted; only where some are reset when removed */
	uint32_t draining_nr, draining_cap;
	uint64_t drain_ms; /* this and the next, of the mesh; 0: never */
	bool reset_removed;
	uint32_t lapse_ms; /* between two looks at connections, 0: no policy asks for one */
	uint64_t lapse_due_ms;
	struct activity *activity; /* by cookie */
	uint32_t activity_nr;
};

uint64_t health_now_ns(void); /* CLOCK_BOOTTIME, as the kernel's side counts */
/* NULL: nothing is watched in it. */
struct watched *watched_find(const struct health *h, uint32_t pool);
bool is_draining(const struct health *h, uint32_t backend);
/* The next slot in use behind `at`; 0: there is none. */
uint32_t backend_next(const struct plane *p, uint32_t at);

/* ---- outlier.c ---- */
/* Ends ejections whose time is up, and takes one off the count of ejections of who was well; ejects who is slow. */
void outlier_interval(struct health *h, const struct watched *w);
/* Shares of levels by how many of their endpoints are available. */
void levels_update(struct health *h);

/* ---- checks.c ---- */
/* The live rules may ask for other checks than before. */
void checks_update(struct health *h);
void checks_release(struct health *h);

/* ---- lapse.c ---- */
/* Ends connections that have been idle or open for too long, or whose endpoint drains or is gone. */
void lapse_look(struct health *h);
/* Connections are left that draining may end. *ret_ms: the shortest time that one of their endpoints allows, 0: no time at all. */
bool lapse_drains(const struct health *h, uint64_t *ret_ms);

#endif
