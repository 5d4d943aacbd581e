/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes and takes away the parser's network namespace. What is inside is set up before the link is: a kill at any call leaves at most an empty
 * namespace that goes with the process, or a link that the next start finds in mesh_ifaces.
 */
#include "plane/parser_net.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "plane/netlink.h"
#include "plane/plane_int.h"

#define INSIDE "l7" /* the link's name in there */
#define LOOPBACK 1  /* its number in every namespace */
#define BACKLOG 4096
#define MTU_MAX 65535
#define MTU_MIN 1280 /* of IPv6 */

/* ---- inside ---- */

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* What of the kernel's own is to be another way in there. Where IPv6 is off, its files are missing. */
static int settings_write(void)
{
	static const char *const settings[][2] = {
		{ "ipv4/ip_nonlocal_bind", "1" },
		{ "ipv4/ip_local_port_range", "10000 32767" }, /* apart from those of pods */
		{ "ipv4/conf/all/rp_filter", "0" },
		{ "ipv4/conf/default/rp_filter", "0" },
		{ "ipv6/ip_nonlocal_bind", "1" },
		{ "ipv6/conf/default/accept_ra", "0" },
		{ "ipv6/conf/default/addr_gen_mode", "1" }, /* no address of its own */
	};
	char path[128];

	for (uint32_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		int rc;

		snprintf(path, sizeof(path), "/proc/sys/net/%s", settings[i][0]);
		rc = write_text(path, settings[i][1]);
		if (rc && (rc != -ENOENT || strncmp(settings[i][0], "ipv6", 4) != 0))
			return rc;
	}
	return 0;
}

static int link_up(int sock, uint32_t ifindex, unsigned flags)
{
	struct netlink_msg m;

	netlink_begin(&m, RTM_NEWLINK, 0,
		      &(struct ifinfomsg){ .ifi_index = (int)ifindex, .ifi_flags = flags, .ifi_change = flags },
		      sizeof(struct ifinfomsg));
	return netlink_ask(sock, &m, NULL, NULL);
}

/* The table of local addresses holds for what comes in alone; it is asked first by default, for everything. */
static int rule_replace(int sock, uint8_t family)
{
	const struct fib_rule_hdr rule = { .family = family, .table = RT_TABLE_LOCAL, .action = FR_ACT_TO_TBL };
	struct netlink_msg m;
	int rc;

	netlink_begin(&m, RTM_DELRULE, 0, &rule, sizeof(rule));
	netlink_put_u32(&m, FRA_TABLE, RT_TABLE_LOCAL);
	rc = netlink_ask(sock, &m, NULL, NULL);
	if (rc)
		return rc;
	netlink_begin(&m, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, &rule, sizeof(rule));
	netlink_put_u32(&m, FRA_TABLE, RT_TABLE_LOCAL);
	netlink_put_u32(&m, FRA_PRIORITY, 0);
	netlink_put(&m, FRA_IIFNAME, INSIDE, sizeof(INSIDE));
	return netlink_ask(sock, &m, NULL, NULL);
}

static int route_add(int sock, uint8_t family, uint8_t type, uint32_t ifindex)
{
	const struct rtmsg route = { .rtm_family = family,
				     .rtm_table = type == RTN_LOCAL ? RT_TABLE_LOCAL : RT_TABLE_MAIN,
				     .rtm_protocol = RTPROT_STATIC,
				     .rtm_scope = type == RTN_LOCAL ? RT_SCOPE_HOST : RT_SCOPE_LINK,
				     .rtm_type = type };
	struct netlink_msg m;

	netlink_begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, sizeof(route));
	netlink_put_u32(&m, RTA_OIF, ifindex);
	return netlink_ask(sock, &m, NULL, NULL);
}

/* Everything that comes in is local, and everything leaves by the link; nobody is asked for link addresses. */
static int routes_make(int sock)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	uint32_t ifindex = 0;
	int rc = netlink_link_find(sock, INSIDE, &ifindex);

	if (!rc)
		rc = link_up(sock, LOOPBACK, IFF_UP);
	if (!rc)
		rc = link_up(sock, ifindex, IFF_UP | IFF_NOARP);
	for (uint32_t i = 0; i < sizeof(families) && !rc; i++) {
		rc = rule_replace(sock, families[i]);
		if (!rc)
			rc = route_add(sock, families[i], RTN_LOCAL, LOOPBACK);
		if (!rc)
			rc = route_add(sock, families[i], RTN_UNICAST, ifindex);
		if (families[i] == AF_INET6 && (rc == -EAFNOSUPPORT || rc == -EOPNOTSUPP))
			rc = 0; /* a kernel without IPv6 */
	}
	return rc;
}

/* Called inside: a socket to ask rtnetlink by, or -errno. */
static int settle(void *data)
{
	int sock, rc = settings_write();

	(void)data;
	if (rc)
		return rc;
	sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	return sock < 0 ? -errno : sock;
}

/* A new network namespace, or -errno. */
static int netns_new(int own_fd)
{
	int fd, rc = 0;

	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		rc = -errno;
	if (setns(own_fd, CLONE_NEWNET)) {
		log_err("cannot return to the own network namespace");
		abort();
	}
	return rc ? rc : fd;
}

/* ---- the link ---- */

static void put_mtu(struct netlink_msg *m, uint32_t mtu)
{
	netlink_put_u32(m, IFLA_MTU, mtu);
}

static int pair_make(int sock, int netns_fd, uint32_t mtu)
{
	static const uint8_t mac[6] = MESH_PARSER_MAC;
	const struct ifinfomsg any = { 0 };
	struct netlink_msg m;
	size_t info, data, peer;

	netlink_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &any, sizeof(any));
	netlink_put(&m, IFLA_IFNAME, MESH_PARSER_LINK, sizeof(MESH_PARSER_LINK));
	put_mtu(&m, mtu);
	info = netlink_nest(&m, IFLA_LINKINFO, NULL, 0);
	netlink_put(&m, IFLA_INFO_KIND, "veth", 4);
	data = netlink_nest(&m, IFLA_INFO_DATA, NULL, 0);
	peer = netlink_nest(&m, VETH_INFO_PEER, &any, sizeof(any));
	netlink_put(&m, IFLA_IFNAME, INSIDE, sizeof(INSIDE));
	netlink_put(&m, IFLA_ADDRESS, mac, sizeof(mac));
	put_mtu(&m, mtu);
	netlink_put_u32(&m, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	netlink_nest_end(&m, peer);
	netlink_nest_end(&m, data);
	netlink_nest_end(&m, info);
	return netlink_ask(sock, &m, NULL, NULL);
}

static int link_delete(int sock, uint32_t ifindex)
{
	struct netlink_msg m;

	netlink_begin(&m, RTM_DELLINK, 0, &(struct ifinfomsg){ .ifi_index = (int)ifindex }, sizeof(struct ifinfomsg));
	return netlink_ask(sock, &m, NULL, NULL);
}

static int mtu_set(int sock, uint32_t ifindex, uint32_t mtu)
{
	struct netlink_msg m;

	netlink_begin(&m, RTM_NEWLINK, 0, &(struct ifinfomsg){ .ifi_index = (int)ifindex }, sizeof(struct ifinfomsg));
	put_mtu(&m, mtu);
	return netlink_ask(sock, &m, NULL, NULL);
}

static int rtnetlink(void)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return sock < 0 ? -errno : sock;
}

/* The least that a link of a pod or of the node takes. */
static uint32_t mtu_least(const struct plane *p)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint32_t least = MTU_MAX;

	for (uint32_t i = 0; i < p->ifaces.nr && sock >= 0; i++) {
		struct ifreq r = { .ifr_ifindex = (int)p->ifaces.items[i].ifindex };

		if (p->ifaces.items[i].row.kind == MESH_IFACE_PARSER || ioctl(sock, SIOCGIFNAME, &r) ||
		    ioctl(sock, SIOCGIFMTU, &r))
			continue;
		if ((uint32_t)r.ifr_mtu < least)
			least = (uint32_t)r.ifr_mtu;
	}
	if (sock >= 0)
		close(sock);
	return least < MTU_MIN ? MTU_MIN : least;
}

/* The node's own stack gets nothing from the link, and so needs no address and no route there. */
static int link_make(struct plane *p, int netns_fd, uint32_t *ret_ifindex)
{
	int sock = rtnetlink(), rc;

	if (sock < 0)
		return sock;
	p->parser.mtu = mtu_least(p);
	rc = pair_make(sock, netns_fd, p->parser.mtu);
	if (!rc)
		rc = netlink_link_find(sock, MESH_PARSER_LINK, ret_ifindex);
	if (!rc)
		rc = write_text("/proc/sys/net/ipv6/conf/" MESH_PARSER_LINK "/disable_ipv6", "1");
	if (rc == -ENOENT)
		rc = 0;
	if (!rc)
		rc = link_up(sock, *ret_ifindex, IFF_UP);
	close(sock);
	return rc;
}

/* ---- the program that finds sockets ---- */

/* The pinned link is at this namespace. */
static bool link_there(int link_fd, int netns_fd)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);
	struct stat st;

	return !bpf_obj_get_info_by_fd(link_fd, &info, &len) && info.type == BPF_LINK_TYPE_NETNS &&
	       !fstat(netns_fd, &st) && info.netns.netns_ino == st.st_ino;
}

/* A new link takes the old one's name in one step. */
static int lookup_attach(struct plane *p, int netns_fd)
{
	char path[PLANE_PATH_LEN], fresh[PLANE_PATH_LEN];
	int fd, rc;

	plane_pin_path(p->pin, "link_", PARSER_NET_PROG, "", path);
	unlink(plane_pin_path(p->pin, "link_", PARSER_NET_PROG, "_new", fresh));
	fd = bpf_obj_get(path);
	if (fd >= 0 && link_there(fd, netns_fd)) {
		rc = plane_errno(bpf_link_update(fd, p->parser_fd, NULL));
		close(fd);
		return rc;
	}
	if (fd >= 0)
		close(fd);
	fd = bpf_link_create(p->parser_fd, netns_fd, BPF_SK_LOOKUP, NULL);
	if (fd < 0)
		return -errno;
	rc = bpf_obj_pin(fd, fresh) || rename(fresh, path) ? -errno : 0;
	if (rc)
		unlink(fresh);
	close(fd);
	return rc;
}

static void lookup_detach(const char *pin)
{
	static const char *const suffixes[] = { "", "_new" };
	char path[PLANE_PATH_LEN];

	for (uint32_t i = 0; i < 2; i++) {
		int fd = bpf_obj_get(plane_pin_path(pin, "link_", PARSER_NET_PROG, suffixes[i], path));

		if (fd < 0)
			continue;
		bpf_link_detach(fd);
		unlink(path);
		close(fd);
	}
}

/* ---- all of it ---- */

/* The node's end that mesh_ifaces tells of; 0: none. */
static uint32_t link_known(const struct plane *p)
{
	for (uint32_t i = 0; i < p->ifaces.nr; i++)
		if (p->ifaces.items[i].row.kind == MESH_IFACE_PARSER)
			return p->ifaces.items[i].ifindex;
	return 0;
}

/* Programs first, and then packets. */
static int link_use(struct plane *p, uint32_t ifindex)
{
	const struct mesh_iface row = { .kind = MESH_IFACE_PARSER };

	iface_want(p, ifindex, &row);
	if (!iface_find(p, ifindex))
		return -EIO;
	p->parser.ifindex = ifindex;
	__atomic_store_n(&p->control->parser_ifindex, ifindex, __ATOMIC_RELEASE);
	return 0;
}

static int make(struct plane *p, int netns_fd)
{
	int sock = netns_call(p->pods.own_netns_fd, netns_fd, settle, NULL), rc;
	socklen_t len = sizeof(p->parser.cookie);
	uint32_t ifindex = 0;

	if (sock < 0)
		return sock;
	rc = getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &p->parser.cookie, &len) ? -errno : 0;
	if (!rc)
		rc = link_make(p, netns_fd, &ifindex);
	p->parser.ifindex = ifindex;
	if (!rc)
		rc = routes_make(sock);
	close(sock);
	if (!rc)
		rc = lookup_attach(p, netns_fd);
	return rc ? rc : link_use(p, ifindex);
}

int parser_net_open(struct plane *p, int *ret_netns_fd)
{
	int rc;

	if (!p->tc)
		return -EOPNOTSUPP;
	parser_net_close(p);
	p->parser.netns_fd = netns_new(p->pods.own_netns_fd);
	if (p->parser.netns_fd < 0)
		return p->parser.netns_fd;
	rc = make(p, p->parser.netns_fd);
	if (rc)
		parser_net_close(p);
	else
		*ret_netns_fd = p->parser.netns_fd;
	return rc;
}

int parser_net_adopt(struct plane *p, int netns_fd)
{
	struct netns_facts facts = { 0 };
	uint32_t known = link_known(p);
	bool there = false;
	int rc, own;

	if (!p->tc || !known)
		return -ENODEV;
	rc = netns_query(p->pods.own_netns_fd, netns_fd, &facts);
	for (uint32_t i = 0; i < facts.link_nr && !rc; i++)
		there |= facts.links[i].host == known;
	p->parser.cookie = facts.cookie;
	netns_facts_release(&facts);
	if (!rc && !there)
		rc = -ENODEV;
	if (!rc)
		rc = lookup_attach(p, netns_fd);
	if (rc)
		return rc;
	own = fcntl(netns_fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return -errno;
	if (p->parser.netns_fd >= 0)
		close(p->parser.netns_fd);
	p->parser.netns_fd = own;
	rc = link_use(p, known);
	parser_net_fit(p);
	return rc;
}

void parser_net_gone(struct plane *p)
{
	p->parser.ifindex = 0;
	__atomic_store_n(&p->control->parser_ifindex, 0, __ATOMIC_RELEASE);
}

void parser_net_close(struct plane *p)
{
	uint32_t known = link_known(p), ifindex = known ? known : p->parser.ifindex;
	int sock = rtnetlink();

	iface_gone(p, known);
	parser_net_gone(p);
	/* Whoever listens there still is in no other namespace. */
	for (uint32_t i = 0; i < MESH_PARSERS_MAX; i++)
		bpf_map_delete_elem(p->map_fd[PLANE_MAP_PARSERS], &i);
	if (sock >= 0 && ifindex)
		link_delete(sock, ifindex);
	if (sock >= 0)
		close(sock);
	lookup_detach(p->pin);
	if (p->parser.netns_fd >= 0)
		close(p->parser.netns_fd);
	p->parser.netns_fd = -1;
}

void parser_net_remove(const char *pin)
{
	DIR *dir = opendir(pin);
	struct dirent *e;
	int sock = rtnetlink();

	while (dir && (e = readdir(dir))) {
		uint32_t ifindex, len, found = 0;
		const char *name;

		if (!tc_pin_parse(e->d_name, &name, &len, &ifindex) ||
		    !str_is((struct str){ name, len }, plane_tc_names[PLANE_TC_FROM_PARSER]))
			continue;
		if (sock >= 0 && !netlink_link_find(sock, MESH_PARSER_LINK, &found) && found == ifindex)
			link_delete(sock, ifindex);
	}
	if (dir)
		closedir(dir);
	if (sock >= 0)
		close(sock);
	lookup_detach(pin);
}

/* ---- size of packets ---- */

static int fit_inside(void *data)
{
	const uint32_t *mtu = data;
	uint32_t ifindex = 0;
	int sock = rtnetlink(), rc;

	if (sock < 0)
		return sock;
	rc = netlink_link_find(sock, INSIDE, &ifindex);
	if (!rc)
		rc = mtu_set(sock, ifindex, *mtu);
	close(sock);
	return rc;
}

void parser_net_fit(struct plane *p)
{
	uint32_t mtu = mtu_least(p);
	int sock, rc;

	if (!p->parser.ifindex || p->parser.netns_fd < 0 || mtu == p->parser.mtu)
		return;
	sock = rtnetlink();
	rc = sock < 0 ? sock : mtu_set(sock, p->parser.ifindex, mtu);
	if (sock >= 0)
		close(sock);
	if (!rc)
		rc = netns_call(p->pods.own_netns_fd, p->parser.netns_fd, fit_inside, &mtu);
	if (rc)
		log_warn("cannot set the MTU of the parser's link error=%s", strerror(-rc));
	else
		p->parser.mtu = mtu;
}

/* ---- listeners ---- */

struct listening {
	uint32_t nr;
	int *fds;
};

static int listener_make(void)
{
	const struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	const struct sockaddr_in any4 = { .sin_family = AF_INET };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), zero = 0, rc;
	bool v6 = fd >= 0 || errno != EAFNOSUPPORT;

	if (!v6)
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	rc = v6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) : 0;
	if (!rc)
		rc = v6 ? bind(fd, (const struct sockaddr *)&any, sizeof(any))
			: bind(fd, (const struct sockaddr *)&any4, sizeof(any4));
	if (!rc)
		rc = listen(fd, BACKLOG);
	if (!rc)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

static int listeners_make(void *data)
{
	const struct listening *l = data;

	for (uint32_t i = 0; i < l->nr; i++) {
		l->fds[i] = listener_make();
		if (l->fds[i] >= 0)
			continue;
		for (uint32_t k = 0; k < i; k++)
			close(l->fds[k]);
		return l->fds[i];
	}
	return 0;
}

int parser_net_listen(struct plane *p, uint32_t nr, int *ret_fds)
{
	struct listening l = { nr, ret_fds };

	if (p->parser.netns_fd < 0)
		return -ENODEV;
	return netns_call(p->pods.own_netns_fd, p->parser.netns_fd, listeners_make, &l);
}

int parser_net_publish(struct plane *p, const int *fds, uint32_t nr)
{
	if (!nr)
		return -EINVAL;
	for (uint32_t i = 0; i < MESH_PARSERS_MAX; i++) {
		const uint64_t fd = (uint64_t)fds[i % nr];

		if (bpf_map_update_elem(p->map_fd[PLANE_MAP_PARSERS], &i, &fd, BPF_ANY))
			return -errno;
	}
	return 0;
}
