/* SPDX-License-Identifier: BSD-2-Clause */
/* What is worked out of how endpoints fare: pure. */
#ifndef PLANE_SHARES_H
#define PLANE_SHARES_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Health of a level of priority, in percent: as Envoy, a level that lacks up to two of seven endpoints still counts as whole
 * (overprovisioning factor 1.4).
 */
uint32_t level_health(uint32_t available, uint32_t all);
/* Shares of the levels in percent, by their health: each takes what it can, the next what is left. They sum to 100. */
void level_shares(const uint32_t *health, uint32_t nr, uint32_t *ret_shares);

/*
 * Who is slow among `nr` endpoints that were measured: by over factor/1000 times the middle of the others, and over the floor. One of less
 * than three is never slow. Sets slow[i] of each.
 */
void latency_judge(const uint32_t *us, uint32_t nr, uint32_t factor, uint32_t floor_us, bool *slow);

#endif
