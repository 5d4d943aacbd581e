/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A look into a network namespace. Only a socket is made inside; everything is asked through it from outside, so the thread is in
 * the other namespace for two system calls.
 */
#include "plane/netns.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

int netns_id(int fd, struct netns_id *ret)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*ret = (struct netns_id){ st.st_dev, st.st_ino };
	return 0;
}

bool netns_is_ours(int fd, uint64_t userns_dev, uint64_t userns_ino)
{
	int owner = ioctl(fd, NS_GET_USERNS);
	struct stat st;
	bool ours;

	if (owner < 0)
		return false;
	ours = !fstat(owner, &st) && st.st_dev == userns_dev && st.st_ino == userns_ino;
	close(owner);
	return ours;
}

static int socket_in(int own_fd, int fd)
{
	int sock, err;

	if (setns(fd, CLONE_NEWNET))
		return -errno;
	sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	err = errno;
	if (setns(own_fd, CLONE_NEWNET)) {
		log_err("cannot return to the own network namespace");
		abort();
	}
	return sock < 0 ? -err : sock;
}

static void addr_add(struct netns_facts *f, const struct rtattr *a, int family)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct addr *out;

	f->addrs = xrealloc(f->addrs, (f->addr_nr + 1) * sizeof(*f->addrs));
	out = &f->addrs[f->addr_nr++];
	if (family == AF_INET) {
		memcpy(out->b, mapped, sizeof(mapped));
		memcpy(out->b + sizeof(mapped), RTA_DATA(a), 4);
	} else {
		memcpy(out->b, RTA_DATA(a), 16);
	}
}

/* IFA_LOCAL is the own address of an IPv4 interface; IPv6 has it in IFA_ADDRESS unless it is a peer's. */
static void addr_message(struct netns_facts *f, struct nlmsghdr *h)
{
	struct ifaddrmsg *m = NLMSG_DATA(h);
	const struct rtattr *local = NULL, *address = NULL;
	uint32_t want = m->ifa_family == AF_INET ? 4 : 16;
	int len = (int)IFA_PAYLOAD(h);

	if ((m->ifa_family != AF_INET && m->ifa_family != AF_INET6) || m->ifa_scope == RT_SCOPE_HOST)
		return;
	for (struct rtattr *a = IFA_RTA(m); RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		if (a->rta_type == IFA_LOCAL && RTA_PAYLOAD(a) == want)
			local = a;
		else if (a->rta_type == IFA_ADDRESS && RTA_PAYLOAD(a) == want)
			address = a;
	}
	if (local || address)
		addr_add(f, local ? local : address, m->ifa_family);
}

static int addrs_dump(int sock, struct netns_facts *f)
{
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg m;
	} ask = {
		.h = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP }
	};
	char buf[16384] __attribute__((aligned(NLMSG_ALIGNTO)));

	if (send(sock, &ask, sizeof(ask), 0) < 0)
		return -errno;
	for (;;) {
		ssize_t got = recv(sock, buf, sizeof(buf), 0);
		int len = (int)got;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -EIO;
		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, (uint32_t)len); h = NLMSG_NEXT(h, len)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return -EIO;
			if (h->nlmsg_type == RTM_NEWADDR)
				addr_message(f, h);
		}
	}
}

int netns_query(int own_fd, int fd, struct netns_facts *ret)
{
	int sock = socket_in(own_fd, fd), rc;
	socklen_t len = sizeof(ret->cookie);

	if (sock < 0)
		return sock;
	rc = getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &ret->cookie, &len) ? -errno : addrs_dump(sock, ret);
	close(sock);
	return rc;
}

void netns_facts_release(struct netns_facts *f)
{
	free(f->addrs);
	*f = (struct netns_facts){ 0 };
}
