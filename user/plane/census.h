/* SPDX-License-Identifier: BSD-2-Clause */
/* The census of programs that pods run: which may splice what their sockets get, and are left to TCP. See census.c. */
#ifndef PLANE_CENSUS_H
#define PLANE_CENSUS_H

#include <stdint.h>

#include "base/json.h"

struct plane;
struct explain_pod;

/* From now on asks are answered, as plane_pods_fd() becomes readable. What earlier ones answered is asked again. 0 or -errno. */
int census_init(struct plane *p);
void census_release(struct plane *p);
void census_event(struct plane *p);
/* Pods that are gone have no programs any more. */
void census_forget(struct plane *p);
/* What is known of the programs of the pod with this network namespace: an array of objects. */
void census_json(struct json *j, const struct plane *p, uint64_t netns_cookie);
/* How many those are, how many could splice, and one that could. */
void census_count(const struct plane *p, uint64_t netns_cookie, struct explain_pod *ret);

#endif
