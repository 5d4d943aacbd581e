/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Iterators over the sockets of pods. Each sees the network namespace that it was opened in, and walks all of the kernel's table of sockets
 * for it: a millisecond or two, whoever is in there. Knows nothing of what the programs do.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "plane/plane_int.h"

static int open_iterator(void *data)
{
	int fd = bpf_iter_create(*(const int *)data);

	return fd < 0 ? -errno : fd;
}

static int run(struct plane *p, int netns_fd, int link_fd)
{
	int fd = netns_call(p->pods.own_netns_fd, netns_fd, open_iterator, &link_fd), rc = 0;
	char buf[256];

	if (fd < 0)
		return fd;
	/* The programs print nothing: one read goes over all sockets, unless there are very many. */
	do {
		errno = 0;
		if (read(fd, buf, sizeof(buf)) < 0)
			rc = -errno;
	} while (errno == EAGAIN);
	close(fd);
	return rc == -EAGAIN ? 0 : rc;
}

int podsocks_run(struct plane *p, const enum plane_iter_id *ids, uint32_t nr,
		 bool (*wants)(void *data, uint64_t netns_cookie), void *data)
{
	const struct podset *s = &p->pods;
	int *fds = xcalloc((size_t)s->nr + 1, sizeof(*fds)), rc = 0;

	for (uint32_t i = 0; i < s->nr; i++)
		fds[i] = !wants || wants(data, s->items[i].cookie) ? podscan_netns(p, i) : -1;
	for (uint32_t k = 0; k < nr; k++) {
		for (uint32_t i = 0; i < s->nr && p->iter_fd[ids[k]] >= 0; i++) {
			int one = fds[i] >= 0 ? run(p, fds[i], p->iter_fd[ids[k]]) : 0;

			rc = one ? one : rc;
		}
	}
	for (uint32_t i = 0; i < s->nr; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(fds);
	return rc;
}
