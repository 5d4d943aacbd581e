/* SPDX-License-Identifier: BSD-2-Clause */
/* Sealed multimaps, see index.h. Knows nothing of what the values mean. */
#include "config/index.h"

void index_init(struct index *ix, struct arena *a, uint32_t cap)
{
	*ix = (struct index){ .entries = arena_array(a, cap ? cap : 1, sizeof(*ix->entries)), .cap = cap };
}

void index_add(struct index *ix, uint64_t hash, uint32_t value)
{
	if (ix->nr < ix->cap)
		ix->entries[ix->nr++] = (struct index_entry){ .hash = hash, .value = value };
}

void index_seal(struct index *ix, struct arena *a)
{
	uint32_t size = 8;

	while (size < ix->nr * 2)
		size *= 2;
	ix->heads = arena_array(a, size, sizeof(*ix->heads));
	ix->mask = size - 1;
	/* From the last to the first, so that each chain runs in the order of adding. */
	for (uint32_t i = ix->nr; i; i--) {
		struct index_entry *e = &ix->entries[i - 1];
		uint32_t *head = &ix->heads[e->hash & ix->mask];

		e->next = *head;
		*head = i;
	}
}
