/* SPDX-License-Identifier: BSD-2-Clause */
/* Many elements of a hash at once. Knows nothing of what they mean. */
#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "plane/plane_int.h"

#define READ_BATCH 512u

int batch_write(const struct plane *p, enum plane_map_id map, const void *keys, const void *values, uint32_t nr,
		uint32_t *ret_written)
{
	uint32_t done = nr;
	int rc = nr ? plane_errno(bpf_map_update_batch(p->map_fd[map], keys, values, &done, NULL)) : 0;

	/* What is above `done` is unknown only when the call did not begin; then nothing was written. */
	*ret_written = rc && done >= nr ? 0 : done;
	return rc;
}

void batch_delete(const struct plane *p, enum plane_map_id map, const void *keys, size_t key_size, uint32_t nr)
{
	const char *key = keys;

	for (uint32_t at = 0; at < nr;) {
		uint32_t done = nr - at;

		if (!bpf_map_delete_batch(p->map_fd[map], key + at * key_size, &done, NULL))
			break;
		/* Stopped at one: it is not there, or the kernel deletes no batches. */
		at += done < nr - at ? done : 0;
		bpf_map_delete_elem(p->map_fd[map], key + at++ * key_size);
	}
}

int batch_each(const struct plane *p, enum plane_map_id map, size_t key_size, size_t value_size, batch_fn fn,
	       void *data)
{
	uint32_t cap = READ_BATCH, in = 0, out = 0;
	char *keys = xmalloc(cap * key_size), *values = xmalloc(cap * value_size);
	bool first = true;
	int rc;

	for (;;) {
		uint32_t nr = cap;

		rc = plane_errno(
			bpf_map_lookup_batch(p->map_fd[map], first ? NULL : &in, &out, keys, values, &nr, NULL));
		if (rc == -ENOSPC) { /* a bucket holds more than the batch */
			cap *= 2;
			keys = xrealloc(keys, cap * key_size);
			values = xrealloc(values, cap * value_size);
			continue;
		}
		if (rc && rc != -ENOENT)
			break;
		for (uint32_t i = 0; i < nr; i++)
			fn(data, keys + i * key_size, values + i * value_size);
		if (rc)
			break;
		in = out;
		first = false;
	}
	free(keys);
	free(values);
	return rc == -ENOENT ? 0 : rc;
}
