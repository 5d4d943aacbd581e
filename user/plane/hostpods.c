/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mesh_host_pods: cgroups of the pods that are on the node's own network. What they send to a pod looks like the node's own business
 * but for this, and that is not asked about at the pod's link.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/plane_int.h"

static bool has(const uint64_t *ids, uint32_t nr, uint64_t id)
{
	for (uint32_t i = 0; i < nr; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static void forget_others(int fd, const uint64_t *ids, uint32_t nr)
{
	uint64_t key, next;
	int rc = bpf_map_get_next_key(fd, NULL, &next);

	while (!rc) {
		key = next;
		rc = bpf_map_get_next_key(fd, &key, &next);
		if (!has(ids, nr, key))
			bpf_map_delete_elem(fd, &key);
	}
}

void hostpods_sync(struct plane *p, const struct snapshot *s)
{
	int fd = p->map_fd[PLANE_MAP_HOST_PODS];
	uint64_t *ids = NULL;
	uint32_t nr = 0, cap = 0, one = 1;

	/* Before the first apply nobody knows which pods there are. */
	if (!s)
		return;
	for (uint32_t i = 0; i < s->client_nr; i++) {
		const struct client *c = &s->clients[i];
		uint64_t id;

		if (!c->host_network || (c->node.len && !str_is(c->node, p->node_name)))
			continue;
		id = podscan_cgroup(p, c);
		if (!id)
			continue;
		ids = plane_grow(ids, nr, &cap, sizeof(*ids));
		ids[nr++] = id;
		if (bpf_map_update_elem(fd, &id, &one, BPF_ANY))
			log_warn("cannot write mesh_host_pods error=%s", strerror(errno));
	}
	forget_others(fd, ids, nr);
	free(ids);
}
