/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets destroyed by sock_diag, for kernels that do not let a BPF program do it. A socket is named by its ends and its cookie, so that
 * one which has taken the place of another since is left alone. Knows nothing of policies.
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plane/plane_int.h"

static int socket_open(void *data)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	(void)data;
	return sock < 0 ? -errno : sock;
}

/* One question, of whose answer only the end matters: 0 or -errno. */
static int ask(int sock, uint16_t type, uint16_t flags, const struct inet_diag_req_v2 *req)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 req;
	} q = { .h = { .nlmsg_len = sizeof(q), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags },
		.req = *req };
	char buf[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
	const struct nlmsghdr *h = (struct nlmsghdr *)buf;
	ssize_t got;

	if (send(sock, &q, sizeof(q), 0) < 0)
		return -errno;
	do
		got = recv(sock, buf, sizeof(buf), 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	/* Either begins with the error. */
	if (!NLMSG_OK(h, (size_t)got) || (h->nlmsg_type != NLMSG_ERROR && h->nlmsg_type != NLMSG_DONE) ||
	    NLMSG_PAYLOAD(h, 0) < sizeof(int))
		return -EIO;
	return *(const int *)NLMSG_DATA(h);
}

bool sockdiag_destroys(void)
{
	static const uint8_t protos[] = { MESH_PROTO_TCP, MESH_PROTO_UDP };
	int sock = socket_open(NULL);
	bool able = sock >= 0;

	for (uint32_t i = 0; i < sizeof(protos) && able; i++) {
		/* No state, so no socket: the list is empty where there is a handler. Nobody has port 0. */
		const struct inet_diag_req_v2 req = { .sdiag_family = AF_INET, .sdiag_protocol = protos[i] };

		able = !ask(sock, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &req) &&
		       ask(sock, SOCK_DESTROY, NLM_F_ACK, &req) == -ENOENT;
	}
	if (sock >= 0)
		close(sock);
	return able;
}

static int destroy(int sock, const struct mesh_victim *v)
{
	struct inet_diag_req_v2 req = {
		.sdiag_protocol = v->proto,
		.id = { .idiag_sport = v->local_port_be, .idiag_dport = v->remote_port_be, .idiag_if = v->ifindex },
	};
	struct addr local, remote;
	size_t skip;

	memcpy(&local, &v->local, sizeof(local));
	memcpy(&remote, &v->remote, sizeof(remote));
	req.sdiag_family = addr_is_v4(&local) ? AF_INET : AF_INET6;
	skip = addr_is_v4(&local) ? 12 : 0;
	memcpy(req.id.idiag_src, local.b + skip, sizeof(local.b) - skip);
	memcpy(req.id.idiag_dst, remote.b + skip, sizeof(remote.b) - skip);
	req.id.idiag_cookie[0] = (uint32_t)v->cookie;
	req.id.idiag_cookie[1] = (uint32_t)(v->cookie >> 32);
	return ask(sock, SOCK_DESTROY, NLM_F_ACK, &req);
}

int sockdiag_destroy(int own_netns_fd, int netns_fd, const struct mesh_victim *v, size_t nr)
{
	int sock = netns_call(own_netns_fd, netns_fd, socket_open, NULL), rc = 0;

	if (sock < 0)
		return sock;
	for (size_t i = 0; i < nr; i++) {
		int one = destroy(sock, &v[i]);

		rc = one && one != -ENOENT ? one : rc;
	}
	close(sock);
	return rc;
}
