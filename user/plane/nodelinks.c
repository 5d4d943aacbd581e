/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the node itself has, in the network namespace that meshd runs in: addresses (mesh_locals), and the links to the outside that
 * the setting node-interfaces names. Follows changes by rtnetlink's events.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/ifaces.h"
#include "plane/netlink.h"
#include "plane/plane_int.h"

/* A link of the node. */
struct node_link {
	uint32_t ifindex;
	bool named, outward; /* the setting names it; a default route leaves by it */
	struct addr addr[2]; /* IPv4, IPv6: what the node is on it */
};

struct node_look {
	const char *names; /* the setting */
	struct node_link *links;
	uint32_t nr, cap;
	struct mesh_addr *locals;
	uint32_t local_nr, local_cap;
};

static bool named(const char *list, struct str name)
{
	struct str all = str_of(list);

	for (uint32_t i = 0, from = 0; i <= all.len; i++) {
		if (i < all.len && all.p[i] != ',')
			continue;
		if (str_eq(str_sub(all, from, i - from), name))
			return true;
		from = i + 1;
	}
	return false;
}

static struct node_link *link_at(struct node_look *l, uint32_t ifindex)
{
	for (uint32_t i = 0; i < l->nr; i++)
		if (l->links[i].ifindex == ifindex)
			return &l->links[i];
	return NULL;
}

static void link_message(void *data, const struct nlmsghdr *h)
{
	struct node_look *l = data;
	const struct ifinfomsg *m = NLMSG_DATA(h);
	const struct rtattr *name;

	if (h->nlmsg_type != RTM_NEWLINK || m->ifi_flags & IFF_LOOPBACK)
		return;
	name = netlink_attr(IFLA_RTA(m), IFLA_PAYLOAD(h), IFLA_IFNAME);
	l->links = plane_grow(l->links, l->nr, &l->cap, sizeof(*l->links));
	l->links[l->nr++] = (struct node_link){
		.ifindex = (uint32_t)m->ifi_index,
		.named = name && named(l->names, str_of(RTA_DATA(name))),
	};
}

static void leaves_by(struct node_look *l, uint32_t ifindex)
{
	struct node_link *link = link_at(l, ifindex);

	if (link)
		link->outward = true;
}

static void route_message(void *data, const struct nlmsghdr *h)
{
	const struct rtmsg *m = NLMSG_DATA(h);
	const struct rtattr *hops;
	size_t len = RTM_PAYLOAD(h);

	if (h->nlmsg_type != RTM_NEWROUTE || m->rtm_dst_len || m->rtm_type != RTN_UNICAST)
		return;
	leaves_by(data, netlink_u32(RTM_RTA(m), len, RTA_OIF));
	hops = netlink_attr(RTM_RTA(m), len, RTA_MULTIPATH);
	if (!hops)
		return;
	len = RTA_PAYLOAD(hops);
	for (const struct rtnexthop *n = RTA_DATA(hops); len >= sizeof(*n) && RTNH_OK(n, (int)len);) {
		size_t step = RTNH_ALIGN(n->rtnh_len);

		leaves_by(data, (uint32_t)n->rtnh_ifindex);
		if (step >= len)
			break;
		len -= step;
		n = (const struct rtnexthop *)((const char *)n + step);
	}
}

/* Loopback and link-local addresses mean another node to each who dials them. */
static bool is_local_only(const struct addr *a)
{
	static const struct addr one = { .b = { [15] = 1 } };

	if (addr_is_v4(a))
		return a->b[12] == 127 || (a->b[12] == 169 && a->b[13] == 254);
	return !addr_cmp(a, &one) || (a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80);
}

static void addr_message(void *data, const struct nlmsghdr *h)
{
	const uint32_t passing = IFA_F_SECONDARY | IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED;
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	struct node_look *l = data;
	struct node_link *link;
	uint32_t flags;
	struct addr a;

	if (h->nlmsg_type != RTM_NEWADDR || !netlink_addr(h, &a) || is_local_only(&a))
		return;
	l->locals = plane_grow(l->locals, l->local_nr, &l->local_cap, sizeof(*l->locals));
	memcpy(&l->locals[l->local_nr++], &a, sizeof(a));
	link = m->ifa_scope == RT_SCOPE_UNIVERSE ? link_at(l, m->ifa_index) : NULL;
	flags = netlink_u32(IFA_RTA(m), IFA_PAYLOAD(h), IFA_FLAGS);
	if (link && !(flags & passing) && addr_is_zero(&link->addr[!addr_is_v4(&a)]))
		link->addr[!addr_is_v4(&a)] = a;
}

static int look(struct node_look *l)
{
	const struct ifinfomsg links = { 0 };
	const struct ifaddrmsg addrs = { 0 };
	const struct rtmsg routes = { 0 };
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc;

	if (sock < 0)
		return -errno;
	rc = netlink_dump(sock, RTM_GETLINK, &links, sizeof(links), link_message, l);
	if (!rc)
		rc = netlink_dump(sock, RTM_GETADDR, &addrs, sizeof(addrs), addr_message, l);
	if (!rc && named(l->names, STR("auto")))
		rc = netlink_dump(sock, RTM_GETROUTE, &routes, sizeof(routes), route_message, l);
	close(sock);
	return rc;
}

/* ---- mesh_locals ---- */

static int addr_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct mesh_addr));
}

static uint32_t sort_unique(struct mesh_addr *a, uint32_t nr)
{
	uint32_t left = 0;

	if (nr)
		qsort(a, nr, sizeof(*a), addr_order);
	for (uint32_t i = 0; i < nr; i++)
		if (!left || memcmp(&a[left - 1], &a[i], sizeof(*a)))
			a[left++] = a[i];
	return left;
}

/* Walks both sorted lists. Takes over l->locals. */
static void locals_write(struct plane *p, struct node_look *l)
{
	struct ifaces *s = &p->ifaces;
	int fd = p->map_fd[PLANE_MAP_LOCALS];
	uint32_t i = 0, j = 0, one = 1;

	l->local_nr = sort_unique(l->locals, l->local_nr);
	while (i < s->local_nr || j < l->local_nr) {
		int d = i == s->local_nr ? 1 : j == l->local_nr ? -1 : addr_order(&s->locals[i], &l->locals[j]);

		if (d < 0)
			bpf_map_delete_elem(fd, &s->locals[i]);
		else if (d > 0 && bpf_map_update_elem(fd, &l->locals[j], &one, BPF_ANY))
			log_warn("cannot write mesh_locals error=%s", strerror(errno));
		i += d <= 0;
		j += d >= 0;
	}
	free(s->locals);
	s->locals = l->locals;
	s->local_nr = l->local_nr;
	l->locals = NULL;
}

static void locals_read(struct plane *p)
{
	struct ifaces *s = &p->ifaces;
	struct mesh_addr key, *at = NULL;
	uint32_t cap = 0;

	while (!bpf_map_get_next_key(p->map_fd[PLANE_MAP_LOCALS], at, &key)) {
		at = &key;
		s->locals = plane_grow(s->locals, s->local_nr, &cap, sizeof(*s->locals));
		s->locals[s->local_nr++] = key;
	}
	s->local_nr = sort_unique(s->locals, s->local_nr);
}

/* ---- links ---- */

static void link_want(struct plane *p, const struct node_link *link)
{
	struct mesh_iface row = { .kind = MESH_IFACE_NODE };
	const struct iface *f = iface_find(p, link->ifindex);

	/* A default route through a pod does not make it the outside. */
	if (f && f->row.kind == MESH_IFACE_POD)
		return;
	memcpy(row.addr, link->addr, sizeof(row.addr));
	iface_want(p, link->ifindex, &row);
}

int nodelinks_sync(struct plane *p)
{
	struct node_look l = { .names = p->ifaces.node_links };
	int rc = look(&l);

	if (!rc) {
		locals_write(p, &l);
		ifaces_begin(p, MESH_IFACE_NODE);
		for (uint32_t i = 0; i < l.nr && p->tc; i++)
			if (l.links[i].named || l.links[i].outward)
				link_want(p, &l.links[i]);
		ifaces_end(p, MESH_IFACE_NODE);
	}
	free(l.links);
	free(l.locals);
	return rc;
}

/* ---- events ---- */

int nodelinks_init(struct plane *p)
{
	static const uint32_t groups[] = { RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
					   RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,  RTNLGRP_TC };
	struct ifaces *s = &p->ifaces;
	const struct sockaddr_nl any = { .nl_family = AF_NETLINK };
	struct epoll_event e = { .events = EPOLLIN };

	locals_read(p);
	s->event_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	/* Without a number of its own a socket passes for the kernel, and is left out. */
	if (s->event_fd < 0 || bind(s->event_fd, (const struct sockaddr *)&any, sizeof(any)))
		return -errno;
	for (uint32_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
		const int group = (int)groups[i];

		if (setsockopt(s->event_fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)))
			return -errno;
	}
	e.data.fd = s->event_fd;
	return epoll_ctl(p->pods.poll_fd, EPOLL_CTL_ADD, s->event_fd, &e) ? -errno : 0;
}

/* What follows from one event. */
struct due {
	bool node, pods;
};

static bool is_bridge(const struct nlmsghdr *h)
{
	const struct rtattr *info = netlink_attr(IFLA_RTA(NLMSG_DATA(h)), IFLA_PAYLOAD(h), IFLA_LINKINFO), *kind;

	kind = info ? netlink_attr(RTA_DATA(info), RTA_PAYLOAD(info), IFLA_INFO_KIND) : NULL;
	return kind && RTA_PAYLOAD(kind) >= 6 && !memcmp(RTA_DATA(kind), "bridge", 6);
}

static void link_event(struct plane *p, const struct nlmsghdr *h, struct due *due)
{
	const struct ifinfomsg *m = NLMSG_DATA(h);
	const struct iface *f = iface_find(p, (uint32_t)m->ifi_index);

	/* A bridge tells of its ports in the same way. */
	if (m->ifi_family != AF_UNSPEC)
		return;
	due->node |= !f || f->row.kind == MESH_IFACE_NODE;
	/* A bridge may have another link address, which pods' legs go by. */
	if (!f && is_bridge(h))
		due->pods = p->ifaces.pods_due = true;
	if (!f || h->nlmsg_type != RTM_DELLINK)
		return;
	due->pods |= f->row.kind == MESH_IFACE_POD;
	p->ifaces.pods_due |= due->pods;
	iface_gone(p, f->ifindex);
}

static void event(struct plane *p, const struct nlmsghdr *h, struct due *due)
{
	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		link_event(p, h, due);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		due->node = true;
		break;
	case RTM_NEWQDISC:
	case RTM_DELQDISC:
	case RTM_NEWTFILTER:
	case RTM_DELTFILTER:
		iface_company(p, (uint32_t)((const struct tcmsg *)NLMSG_DATA(h))->tcm_ifindex);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		due->node |= !((const struct rtmsg *)NLMSG_DATA(h))->rtm_dst_len;
		break;
	default:
		break;
	}
}

bool nodelinks_event(struct plane *p)
{
	char buf[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct due due = { 0 };
	int rc = 0;

	for (;;) {
		ssize_t got = recv(p->ifaces.event_fd, buf, sizeof(buf), 0);
		int len = (int)got;

		if (got < 0 && errno == EINTR)
			continue;
		/* Events were lost: everything may have changed. */
		if (got < 0 && errno == ENOBUFS) {
			due.node = due.pods = true;
			continue;
		}
		if (got <= 0)
			break;
		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, (uint32_t)len); h = NLMSG_NEXT(h, len))
			event(p, h, &due);
	}
	if (due.node)
		rc = nodelinks_sync(p);
	if (rc)
		log_warn("cannot look at the node's interfaces error=%s", strerror(-rc));
	return due.pods;
}
