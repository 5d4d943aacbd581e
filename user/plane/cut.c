/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ends connections that the live policies forbid. Those that are tracked at links are asked about again when their next packet comes, by
 * the epoch in mesh_control; sockets of pods are found and destroyed at once, by iterators of which each sees the network namespace
 * that it was opened in. Decides nothing: the verdicts are the kernel's.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/plane_int.h"

void cut_init(struct plane *p)
{
	uint32_t flags = p->control->flags & ~(uint32_t)MESH_CONTROL_CUT;

	__atomic_store_n(&p->control->cut_epoch, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&p->control->flags, flags | (p->cut ? MESH_CONTROL_CUT : 0), __ATOMIC_RELAXED);
}

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

static void cut_sockets(struct plane *p)
{
	const struct podset *s = &p->pods;
	int *fds = xcalloc((size_t)s->nr + 1, sizeof(*fds)), rc = 0;

	/* Whoever asked the policies before they changed has answered by now. */
	barrier_wait(p);
	for (uint32_t i = 0; i < s->nr; i++)
		fds[i] = podscan_netns(p, i);
	for (uint32_t k = 0; k < PLANE_CUT_NR; k++) {
		for (uint32_t i = 0; i < s->nr; i++) {
			int one = fds[i] >= 0 ? run(p, fds[i], p->cut_fd[k]) : 0;

			rc = one ? one : rc;
		}
	}
	for (uint32_t i = 0; i < s->nr; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(fds);
	if (rc)
		log_warn("cannot look through the sockets of a pod for connections to be cut error=%s", strerror(-rc));
}

void cut_forbidden(struct plane *p, uint64_t epoch)
{
	if (!p->cut)
		return;
	__atomic_store_n(&p->control->cut_epoch, epoch, __ATOMIC_RELEASE);
	if (p->cut_fd[0] >= 0)
		cut_sockets(p);
}
