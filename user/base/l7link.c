/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages between meshd and meshl7: see l7link.h. */
#include "base/l7link.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_LEN offsetof(struct mesh_l7_msg, text)

union control {
	char p[CMSG_SPACE(MESH_L7_WORKERS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int l7link_send(int fd, enum mesh_l7_type type, uint64_t arg, struct str text, const int *fds, uint32_t nr)
{
	struct mesh_l7_msg m = { .type = type, .arg = arg };
	struct iovec iov = { .iov_base = &m };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control = { 0 };
	struct cmsghdr *c;

	if (nr > MESH_L7_WORKERS_MAX)
		return -E2BIG;
	m.len = text.len < sizeof(m.text) ? text.len : (uint32_t)sizeof(m.text);
	if (m.len)
		memcpy(m.text, text.p, m.len);
	iov.iov_len = HEAD_LEN + m.len;
	if (nr) {
		h.msg_control = control.p;
		h.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nr * sizeof(int));
	}
	return sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void take_fds(struct msghdr *h, int *ret_fds, uint32_t *ret_nr)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		uint32_t nr = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(ret_fds + *ret_nr, CMSG_DATA(c), nr * sizeof(int));
		*ret_nr += nr;
	}
}

int l7link_recv(int fd, struct mesh_l7_msg *ret, int *ret_fds, uint32_t *ret_nr)
{
	struct iovec iov = { .iov_base = ret, .iov_len = sizeof(*ret) };
	union control control;
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.p, .msg_controllen = sizeof(control.p)
	};
	ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*ret_nr = 0;
	/* Who ends without having read all is reset, and gone as well. */
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	take_fds(&h, ret_fds, ret_nr);
	if (!n)
		return 0;
	if (n >= (ssize_t)HEAD_LEN && ret->len == (size_t)n - HEAD_LEN && !(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return 1;
	while (*ret_nr)
		close(ret_fds[--*ret_nr]);
	return -EPROTO;
}
