/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel counts of endpoints and clusters, read past the daemon: `active PINS` prints one JSON object,
 *   {"backends": {INDEX: {...}}, "pools": {INDEX: {...}}}
 * with the elements of mesh_backends and mesh_pools that are not all zero.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "mesh_abi.h"

static int fail(const char *what)
{
	fprintf(stderr, "active: %s: %s\n", what, strerror(errno));
	return 2;
}

static void show_backend(const void *value)
{
	const struct mesh_backend *b = value;

	printf("{\"active\":%u,\"connect_failures\":%u,\"resets\":%u,\"ejected_until_ns\":%llu,\"flags\":%u}",
	       b->active, b->connect_failures, b->resets, b->ejected_until_ns, b->flags);
}

static void show_pool(const void *value)
{
	const struct mesh_pool *p = value;

	printf("{\"active\":%u,\"ejected\":%u,\"endpoint_nr\":%u,\"max_connections\":%u,\"overflow\":%llu}", p->active,
	       p->ejected, p->endpoint_nr, p->max_connections, p->overflow);
}

/* All elements of a pinned array that hold anything. */
static int show(const char *pins, const char *name, size_t size, void (*one)(const void *))
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);
	const char *comma = "";
	char path[512];
	char *value;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", pins, name);
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
		return fail(path);
	value = calloc(2, size);
	if (!value || info.value_size != size) {
		errno = EINVAL;
		return fail(path);
	}
	printf("{");
	for (__u32 i = 0; i < info.max_entries; i++) {
		if (bpf_map_lookup_elem(fd, &i, value))
			return fail(path);
		if (!memcmp(value, value + size, size))
			continue;
		printf("%s\"%u\":", comma, i);
		one(value);
		comma = ",";
	}
	printf("}");
	return 0;
}

int main(int argc, char **argv)
{
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: active PINS\n");
		return 2;
	}
	printf("{\"backends\":");
	rc = show(argv[1], "mesh_backends", sizeof(struct mesh_backend), show_backend);
	if (rc)
		return rc;
	printf(",\"pools\":");
	rc = show(argv[1], "mesh_pools", sizeof(struct mesh_pool), show_pool);
	printf("}\n");
	return rc;
}
