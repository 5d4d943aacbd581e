/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A look into a network namespace. Only a socket is made inside; everything is asked through it from outside, so the thread is in
 * the other namespace for two system calls.
 */
#include "plane/netns.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/netlink.h"

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

int netns_call(int own_fd, int fd, int (*fn)(void *data), void *data)
{
	int rc;

	if (setns(fd, CLONE_NEWNET))
		return -errno;
	rc = fn(data);
	if (setns(own_fd, CLONE_NEWNET)) {
		log_err("cannot return to the own network namespace");
		abort();
	}
	return rc;
}

static int socket_open(void *data)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	(void)data;
	return sock < 0 ? -errno : sock;
}

static struct netns_link *link_find(struct netns_facts *f, uint32_t ifindex)
{
	for (uint32_t i = 0; i < f->link_nr; i++)
		if (f->links[i].ifindex == ifindex)
			return &f->links[i];
	return NULL;
}

static void addr_message(void *data, const struct nlmsghdr *h)
{
	struct netns_facts *f = data;
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	struct netns_link *link;
	struct addr addr;

	if (h->nlmsg_type != RTM_NEWADDR || m->ifa_scope == RT_SCOPE_HOST || !netlink_addr(h, &addr))
		return;
	f->addrs = xrealloc(f->addrs, (f->addr_nr + 1) * sizeof(*f->addrs));
	f->addr_links = xrealloc(f->addr_links, (f->addr_nr + 1) * sizeof(*f->addr_links));
	f->addrs[f->addr_nr] = addr;
	f->addr_links[f->addr_nr++] = m->ifa_index;
	link = m->ifa_family == AF_INET6 && m->ifa_scope == RT_SCOPE_LINK ? link_find(f, m->ifa_index) : NULL;
	if (link && addr_is_zero(&link->link_local))
		link->link_local = addr;
}

/* Links found in a namespace, and by what number that one knows the namespace of each link's other end. */
struct link_look {
	struct netns_facts *f;
	int32_t *nsids;
};

/* Only pairs have another end; IFLA_LINK of a macvlan, say, is the device below it. */
static bool is_pair(const char *kind)
{
	return !strcmp(kind, "veth") || !strcmp(kind, "netkit");
}

static void link_message(void *data, const struct nlmsghdr *h)
{
	struct link_look *l = data;
	struct netns_facts *f = l->f;
	const struct ifinfomsg *m = NLMSG_DATA(h);
	struct netns_link link = { .ifindex = (uint32_t)m->ifi_index };
	size_t len = IFLA_PAYLOAD(h);
	const struct rtattr *info, *kind, *mac, *nsid;

	if (h->nlmsg_type != RTM_NEWLINK || m->ifi_flags & IFF_LOOPBACK)
		return;
	info = netlink_attr(IFLA_RTA(m), len, IFLA_LINKINFO);
	kind = info ? netlink_attr(RTA_DATA(info), RTA_PAYLOAD(info), IFLA_INFO_KIND) : NULL;
	mac = netlink_attr(IFLA_RTA(m), len, IFLA_ADDRESS);
	nsid = netlink_attr(IFLA_RTA(m), len, IFLA_LINK_NETNSID);
	if (kind && RTA_PAYLOAD(kind))
		snprintf(link.kind, sizeof(link.kind), "%.*s", (int)RTA_PAYLOAD(kind), (char *)RTA_DATA(kind));
	if (mac && RTA_PAYLOAD(mac) == sizeof(link.mac))
		memcpy(link.mac, RTA_DATA(mac), sizeof(link.mac));
	if (nsid && is_pair(link.kind))
		link.host = netlink_u32(IFLA_RTA(m), len, IFLA_LINK);
	f->links = xrealloc(f->links, (f->link_nr + 1) * sizeof(*f->links));
	l->nsids = xrealloc(l->nsids, (f->link_nr + 1) * sizeof(*l->nsids));
	f->links[f->link_nr] = link;
	l->nsids[f->link_nr++] = link.host ? (int32_t)netlink_u32(IFLA_RTA(m), len, IFLA_LINK_NETNSID) : -1;
}

/* The number by which the namespace of `sock` knows ours; -1: by none, so no link of it ends here. */
static int own_nsid(int sock, int own_fd)
{
	struct {
		struct nlmsghdr h;
		struct rtgenmsg m __attribute__((aligned(NLMSG_ALIGNTO)));
		struct rtattr a __attribute__((aligned(NLMSG_ALIGNTO)));
		int fd;
	} ask = {
		.h = { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETNSID, .nlmsg_flags = NLM_F_REQUEST },
		.a = { .rta_len = RTA_LENGTH(sizeof(int)), .rta_type = NETNSA_FD },
		.fd = own_fd,
	};
	char buf[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
	const struct nlmsghdr *h = (struct nlmsghdr *)buf;
	const struct rtattr *a;
	ssize_t got;

	if (send(sock, &ask, sizeof(ask), 0) < 0)
		return -1;
	do
		got = recv(sock, buf, sizeof(buf), 0);
	while (got < 0 && errno == EINTR);
	if (got <= 0 || !NLMSG_OK(h, (size_t)got) || h->nlmsg_type != RTM_NEWNSID)
		return -1;
	a = (const struct rtattr *)((const char *)NLMSG_DATA(h) + NLMSG_ALIGN(sizeof(struct rtgenmsg)));
	a = netlink_attr(a, NLMSG_PAYLOAD(h, NLMSG_ALIGN(sizeof(struct rtgenmsg))), NETNSA_NSID);
	return a && RTA_PAYLOAD(a) == sizeof(int) ? *(const int *)RTA_DATA(a) : -1;
}

/* What numbers namespaces is the list of links: our own number is asked for after it. */
static int links_dump(int sock, int own_fd, struct netns_facts *f)
{
	const struct {
		struct ifinfomsg m;
		struct rtattr a;
		uint32_t mask;
	} ask = { .a = { .rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFLA_EXT_MASK },
		  .mask = RTEXT_FILTER_SKIP_STATS };
	struct link_look look = { .f = f };
	int rc = netlink_dump(sock, RTM_GETLINK, &ask, sizeof(ask), link_message, &look), nsid = -1;
	bool any = false;

	for (uint32_t i = 0; i < f->link_nr; i++)
		any |= look.nsids[i] >= 0;
	if (!rc && any)
		nsid = own_nsid(sock, own_fd);
	for (uint32_t i = 0; i < f->link_nr; i++)
		if (nsid < 0 || look.nsids[i] != nsid)
			f->links[i].host = 0;
	free(look.nsids);
	return rc;
}

static int ask_all(int sock, int own_fd, struct netns_facts *f)
{
	const struct ifaddrmsg all = { 0 };
	socklen_t len = sizeof(f->cookie);
	int rc;

	if (getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &f->cookie, &len))
		return -errno;
	rc = links_dump(sock, own_fd, f);
	return rc ? rc : netlink_dump(sock, RTM_GETADDR, &all, sizeof(all), addr_message, f);
}

int netns_query(int own_fd, int fd, struct netns_facts *ret)
{
	int sock = netns_call(own_fd, fd, socket_open, NULL), rc;

	if (sock < 0)
		return sock;
	rc = ask_all(sock, own_fd, ret);
	close(sock);
	return rc;
}

void netns_facts_release(struct netns_facts *f)
{
	free(f->addrs);
	free(f->addr_links);
	free(f->links);
	*f = (struct netns_facts){ 0 };
}
