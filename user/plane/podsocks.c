/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Iterators over the sockets of pods. Each sees the network namespace that it was opened in, and walks all of the kernel's table of sockets
 * for it: a millisecond or two, whoever is in there. Knows nothing of what the programs do, or write.
 */
#include <errno.h>
#include <fcntl.h>
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

/* EAGAIN: it has gone over very many sockets, and goes on. The kernel's own buffer is twice as large as ours, or it would run programs
 * again whose output does not fit. */
static int read_all(int fd, struct buf *ret)
{
	char chunk[16384];
	ssize_t n;

	do {
		n = read(fd, chunk, sizeof(chunk));
		if (n > 0)
			buf_add(ret, chunk, (size_t)n);
	} while (n > 0 || (n < 0 && errno == EAGAIN));
	return n ? -errno : 0;
}

static int run(const struct podsocks *s, struct plane *p, int netns_fd, int link_fd)
{
	int fd = netns_call(p->pods.own_netns_fd, netns_fd, open_iterator, &link_fd), rc;
	struct buf out = { 0 };

	if (fd < 0)
		return fd;
	rc = read_all(fd, &out);
	close(fd);
	if (out.len && s->wrote) {
		int one = s->wrote(s->data, netns_fd, out.data, out.len);

		rc = rc ? rc : one;
	}
	buf_release(&out);
	return rc;
}

int podsocks_run(struct plane *p, const struct podsocks *what)
{
	const struct podset *s = &p->pods;
	int *fds = xcalloc((size_t)s->nr + 1, sizeof(*fds)), rc = 0;

	for (uint32_t i = 0; i < s->nr; i++)
		fds[i] = !what->wants || what->wants(what->data, s->items[i].cookie) ? podscan_netns(p, i) : -1;
	fds[s->nr] = what->parser && p->parser.netns_fd >= 0 ? fcntl(p->parser.netns_fd, F_DUPFD_CLOEXEC, 3) : -1;
	for (uint32_t k = 0; k < what->id_nr; k++) {
		for (uint32_t i = 0; i <= s->nr && p->iter_fd[what->ids[k]] >= 0; i++) {
			int one = fds[i] >= 0 ? run(what, p, fds[i], p->iter_fd[what->ids[k]]) : 0;

			rc = one ? one : rc;
		}
	}
	for (uint32_t i = 0; i <= s->nr; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(fds);
	return rc;
}
