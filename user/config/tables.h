/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tables that endpoints are chosen by, other than at random: the turns of a weighted round robin, the ring of a consistent hash, and
 * Maglev's. Pure, in integers; the same endpoints with the same weights give the same table on every node, in whatever order they come.
 */
#ifndef CONFIG_TABLES_H
#define CONFIG_TABLES_H

#include <stdint.h>

#include "base/addr.h"

/* A ring's hash of an endpoint takes this many positions at most, all together. */
#define TABLE_RING_MAX (1u << 20)

/* An endpoint of a table: `id` is what the table is to hold. */
struct table_entry {
	struct addr addr;
	uint16_t port;
	uint32_t weight; /* >= 1 */
	uint32_t id;
};

struct table_position {
	uint64_t hash;
	uint32_t id;
};

/*
 * Turns of a round robin: each endpoint as often as its weight says, and spread evenly: the k-th of its n turns is due in the middle of
 * the k-th n-th of the round (stride scheduling: Waldspurger, Weihl 1995; Envoy's weighted round robin is of that kind). The number
 * of turns is the sum of the weights over their greatest common divisor when that is at most `max`, else the larger of `max` and nr, with
 * shares rounded by largest remainders, and at least one turn for everybody. *ret: turns, to be freed. Returns their number; 0: no entry.
 */
uint32_t table_turns(const struct table_entry *entries, uint32_t nr, uint32_t max, uint32_t **ret);

/*
 * A ring (Karger et al. 1997; ketama): positions, ascending; whoever's is the first at or after a key's hash has it, the first of all
 * behind the last. The endpoint with the least weight has as many as make the whole ring at least `min` long, and that a power of two: another
 * number of endpoints seldom changes it, and then nobody's keys move but those of who came or went. The others have theirs in proportion; no
 * more than TABLE_RING_MAX in all. *ret: to be freed. Returns their number; 0: no entry.
 */
uint32_t table_ring(const struct table_entry *entries, uint32_t nr, uint32_t min, struct table_position **ret);

/*
 * Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4; weights as in
 * Envoy: whoever is behind its share does not let its turn pass). size: a prime, at least nr. Fills table[0..size) with ids. 0, or -EINVAL.
 */
int table_maglev(const struct table_entry *entries, uint32_t nr, uint32_t size, uint32_t *table);

#endif
