/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Alias tables (Vose, "A linear algorithm for generating random numbers with a given distribution", 1991) in integers:
 * exact for any weights. n entries of weights w with sum W give n columns; a column holds a threshold t in 0..W, and a
 * uniform draw below t takes its primary, else its alias.
 */
#ifndef CONFIG_ALIAS_H
#define CONFIG_ALIAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mesh_abi.h"

/* Largest weight sum: n * W must fit in 64 bits for any n an image can hold. */
#define ALIAS_SUM_MAX (1ull << 42)
#define ALIAS_NR_MAX (1u << 20)

/*
 * Fills columns[0..nr) for `weights`, whose targets are the numbers ids[0..nr) (backend or cluster indexes). Weights are
 * divided by their greatest common divisor first. *ret_sum is W. scratch is 8-byte aligned and has ALIAS_SCRATCH(nr) bytes.
 * Returns 0; -ERANGE: the sum is 0 or over ALIAS_SUM_MAX, or nr is 0 or over ALIAS_NR_MAX.
 */
#define ALIAS_SCRATCH(nr) ((size_t)(nr)*16)
int alias_build(const uint64_t *weights, const uint32_t *ids, uint32_t nr, struct mesh_choice *columns,
		uint64_t *ret_sum, void *scratch);

/*
 * Orders numbers so that ids[i] is first + i for as many i as it can be for any `first`, which is returned; *ret_nr is how many.
 * scratch has room for nr numbers. For entries of equal weights, whose order is nobody's business.
 */
uint32_t alias_align(uint32_t *ids, uint32_t nr, uint32_t *scratch, uint32_t *ret_nr);

#endif
