/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interfaces that the tc programs are at: mesh_ifaces, mesh_loads and the programs themselves, in step. An element is written before
 * the first program is put on and deleted after the last is taken off; of a pair, the program that translates answers is on first and
 * off last. So a kill leaves at most an interface that the next start completes or gives up.
 */
#include "plane/ifaces.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/netlink.h"
#include "plane/plane_int.h"

static bool tc_egress(enum plane_tc_id id)
{
	return id == PLANE_TC_TO_POD || id == PLANE_TC_TO_NODE;
}

static bool tc_is_for(enum plane_tc_id id, uint8_t kind)
{
	switch (id) {
	case PLANE_TC_TO_POD:
	case PLANE_TC_FROM_POD:
		return kind == MESH_IFACE_POD;
	case PLANE_TC_FROM_PARSER:
		return kind == MESH_IFACE_PARSER;
	default:
		return kind == MESH_IFACE_NODE;
	}
}

static struct tc_place place(const char *pin, enum plane_tc_id id, uint32_t ifindex)
{
	return (struct tc_place){ .pin = pin, .name = plane_tc_names[id], .ifindex = ifindex, .egress = tc_egress(id) };
}

struct iface *iface_find(struct plane *p, uint32_t ifindex)
{
	for (uint32_t i = 0; i < p->ifaces.nr; i++)
		if (p->ifaces.items[i].ifindex == ifindex)
			return &p->ifaces.items[i];
	return NULL;
}

uint32_t iface_of(const struct plane *p, uint64_t netns_cookie)
{
	for (uint32_t i = 0; i < p->ifaces.nr; i++)
		if (p->ifaces.items[i].row.kind == MESH_IFACE_POD &&
		    p->ifaces.items[i].row.netns_cookie == netns_cookie)
			return p->ifaces.items[i].ifindex;
	return 0;
}

/* ---- one interface ---- */

static void take_off(const char *pin, uint32_t ifindex)
{
	for (uint32_t id = PLANE_TC_NR; id-- > 0;) {
		struct tc_place at = place(pin, id, ifindex);

		tc_detach(&at);
	}
	tc_release(pin, ifindex);
}

static void forget(struct plane *p, struct iface *f)
{
	uint32_t ifindex = f->ifindex;

	if (f->row.kind == MESH_IFACE_PARSER)
		parser_net_gone(p);
	take_off(p->pin, ifindex);
	bpf_map_delete_elem(p->map_fd[PLANE_MAP_LOADS], &ifindex);
	bpf_map_delete_elem(p->map_fd[PLANE_MAP_IFACES], &ifindex);
	*f = p->ifaces.items[--p->ifaces.nr];
}

void iface_gone(struct plane *p, uint32_t ifindex)
{
	struct iface *f = iface_find(p, ifindex);

	if (f)
		forget(p, f);
}

static int put_on(struct plane *p, struct iface *f)
{
	for (uint32_t id = 0; id < PLANE_TC_NR; id++) {
		struct tc_place at = place(p->pin, id, f->ifindex);
		int rc;

		if (!tc_is_for(id, f->row.kind))
			continue;
		rc = tc_attach(&at, p->tc_fd[id], p->ifaces.how, &f->how);
		if (rc)
			return rc;
	}
	return 0;
}

static int write_row(struct plane *p, const struct iface *f)
{
	struct mesh_load none = { 0 };

	if (bpf_map_update_elem(p->map_fd[PLANE_MAP_LOADS], &f->ifindex, &none, BPF_NOEXIST) && errno != EEXIST)
		return -errno;
	return bpf_map_update_elem(p->map_fd[PLANE_MAP_IFACES], &f->ifindex, &f->row, BPF_ANY) ? -errno : 0;
}

/* A link's own address by RFC 4291, appendix A: what a pod has unless its kernel was told otherwise. */
static struct mesh_addr from_mac(const uint8_t mac[6])
{
	const uint8_t b[16] = { 0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5] };
	struct mesh_addr a;

	memcpy(&a, b, sizeof(a));
	return a;
}

/*
 * What a pod's link may claim is fixed when it is first seen: a pod that may change its link cannot take its neighbour's addresses
 * by doing so. Only the link-local address may come later, once.
 */
static void keep_claims(const struct iface *was, struct mesh_iface *row)
{
	struct mesh_addr derived = from_mac(was->row.mac);

	memcpy(row->mac, was->row.mac, sizeof(row->mac));
	if (memcmp(&was->row.link_local, &derived, sizeof(derived)))
		row->link_local = was->row.link_local;
}

void iface_want(struct plane *p, uint32_t ifindex, const struct mesh_iface *row)
{
	struct ifaces *s = &p->ifaces;
	struct iface *f = iface_find(p, ifindex);
	struct mesh_iface want = *row;
	int rc = 0;

	/* The number was used again. */
	if (f && (f->row.kind != row->kind || f->row.netns_cookie != row->netns_cookie)) {
		forget(p, f);
		f = NULL;
	}
	if (f && row->kind == MESH_IFACE_POD)
		keep_claims(f, &want);
	if (!f) {
		s->items = plane_grow(s->items, s->nr, &s->cap, sizeof(*s->items));
		f = &s->items[s->nr++];
		*f = (struct iface){ .ifindex = ifindex, .row = want };
		rc = write_row(p, f);
	} else if (memcmp(&f->row, &want, sizeof(want))) {
		f->row = want;
		rc = write_row(p, f);
	}
	f->wanted = true;
	if (!rc && f->how == TC_NONE)
		rc = put_on(p, f);
	if (rc) {
		log_warn("cannot attach to an interface ifindex=%u error=%s", ifindex, strerror(-rc));
		forget(p, f);
	}
}

void ifaces_begin(struct plane *p, enum mesh_iface_kind kind)
{
	for (uint32_t i = 0; i < p->ifaces.nr; i++)
		if (p->ifaces.items[i].row.kind == kind)
			p->ifaces.items[i].wanted = false;
}

void ifaces_end(struct plane *p, enum mesh_iface_kind kind)
{
	for (uint32_t i = p->ifaces.nr; i-- > 0;)
		if (p->ifaces.items[i].row.kind == kind && !p->ifaces.items[i].wanted)
			forget(p, &p->ifaces.items[i]);
}

/* ---- pods ---- */

/* Two link addresses of the node's: a link's, and those of what it is a port of. */
struct gateway {
	uint8_t mac[6];
	uint32_t master;
};

static void gateway_message(void *data, const struct nlmsghdr *h)
{
	struct gateway *g = data;
	const struct rtattr *mac;

	if (h->nlmsg_type != RTM_NEWLINK)
		return;
	mac = netlink_attr(IFLA_RTA(NLMSG_DATA(h)), IFLA_PAYLOAD(h), IFLA_ADDRESS);
	g->master = netlink_u32(IFLA_RTA(NLMSG_DATA(h)), IFLA_PAYLOAD(h), IFLA_MASTER);
	if (mac && RTA_PAYLOAD(mac) == sizeof(g->mac))
		memcpy(g->mac, RTA_DATA(mac), sizeof(g->mac));
}

/* Whom a pod at this link takes for its router: the bridge, where the link is one's port, else the link itself. */
static void gateway_of(uint32_t ifindex, uint8_t ret[6])
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc = sock < 0 ? -errno : 0;
	struct gateway g = { .master = ifindex };

	for (uint32_t i = 0; i < 2 && !rc && g.master; i++) {
		struct netlink_msg m;

		netlink_begin(&m, RTM_GETLINK, 0, &(struct ifinfomsg){ .ifi_index = (int)g.master },
			      sizeof(struct ifinfomsg));
		rc = netlink_ask(sock, &m, gateway_message, &g);
	}
	if (sock >= 0)
		close(sock);
	if (!rc)
		memcpy(ret, g.mac, sizeof(g.mac));
}

static void pod_want(struct plane *p, const struct pod *pod)
{
	struct mesh_iface row = { .netns_cookie = pod->cookie, .kind = MESH_IFACE_POD };

	row.flags = shortcut_alone(p, pod->link.host) ? MESH_IFACE_ALONE : 0;
	memcpy(row.mac, pod->link.mac, sizeof(row.mac));
	memcpy(&row.link_local, &pod->link.link_local, sizeof(row.link_local));
	if (addr_is_zero(&pod->link.link_local))
		row.link_local = from_mac(row.mac);
	gateway_of(pod->link.host, row.gateway);
	iface_want(p, pod->link.host, &row);
}

void ifaces_pods(struct plane *p, const struct snapshot *s)
{
	if (!p->tc || !p->ifaces.pods_due)
		return;
	ifaces_begin(p, MESH_IFACE_POD);
	for (uint32_t i = 0; s && i < p->pods.nr; i++)
		if (p->pods.items[i].link.host && pod_enrols(&p->pods, i, s))
			pod_want(p, &p->pods.items[i]);
	parser_net_fit(p);
}

void ifaces_prune(struct plane *p)
{
	/* Before the first apply nobody knows which pods there are. */
	if (!p->tc || !p->ifaces.pods_due || !p->snapshot)
		return;
	p->ifaces.pods_due = false;
	ifaces_end(p, MESH_IFACE_POD);
}

void iface_company(struct plane *p, uint32_t ifindex)
{
	struct iface *f = iface_find(p, ifindex);
	uint8_t flags;

	if (!f || f->row.kind != MESH_IFACE_POD)
		return;
	flags = shortcut_alone(p, ifindex) ? MESH_IFACE_ALONE : 0;
	if (flags == f->row.flags)
		return;
	f->row.flags = flags;
	if (write_row(p, f))
		log_warn("cannot write mesh_ifaces ifindex=%u error=%s", ifindex, strerror(errno));
}

/* ---- start and end ---- */

static bool holds(const struct plane *p, uint32_t ifindex)
{
	for (uint32_t i = 0; p && i < p->ifaces.nr; i++)
		if (p->ifaces.items[i].ifindex == ifindex)
			return true;
	return false;
}

/* Takes off everything that pins tell of, but at the interfaces of `keep`. */
static void sweep(const char *pin, const struct plane *keep)
{
	uint32_t *found = NULL, nr = 0, cap = 0;
	DIR *dir = opendir(pin);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		uint32_t ifindex, len;
		const char *name;

		if (!tc_pin_parse(e->d_name, &name, &len, &ifindex) && sscanf(e->d_name, "qdisc_%u", &ifindex) != 1)
			continue;
		if (holds(keep, ifindex))
			continue;
		found = plane_grow(found, nr, &cap, sizeof(*found));
		found[nr++] = ifindex;
	}
	if (dir)
		closedir(dir);
	for (uint32_t i = 0; i < nr; i++)
		take_off(pin, found[i]);
	free(found);
}

void ifaces_remove(const char *pin)
{
	sweep(pin, NULL);
}

/* What mesh_ifaces says is there: it is given this meshd's programs at once. */
static int take_over(struct plane *p)
{
	struct ifaces *s = &p->ifaces;
	uint32_t key, *at = NULL;

	while (!bpf_map_get_next_key(p->map_fd[PLANE_MAP_IFACES], at, &key)) {
		struct iface f = { .ifindex = key };

		at = &key;
		if (bpf_map_lookup_elem(p->map_fd[PLANE_MAP_IFACES], &key, &f.row))
			return -errno;
		s->items = plane_grow(s->items, s->nr, &s->cap, sizeof(*s->items));
		s->items[s->nr++] = f;
	}
	sweep(p->pin, p->tc ? p : NULL);
	for (uint32_t i = s->nr; i-- > 0;) {
		int rc = p->tc ? put_on(p, &s->items[i]) : -ENODEV;

		if (rc && rc != -ENODEV)
			log_warn("cannot attach to an interface again ifindex=%u error=%s", s->items[i].ifindex,
				 strerror(-rc));
		if (rc)
			forget(p, &s->items[i]);
	}
	return 0;
}

int ifaces_init(struct plane *p, struct buf *err)
{
	int rc = take_over(p);

	p->ifaces.pods_due = true;
	if (rc)
		return plane_fail(err, rc, "cannot take over the programs at interfaces: %s", strerror(-rc));
	rc = nodelinks_init(p);
	if (!rc)
		rc = nodelinks_sync(p);
	return rc ? plane_fail(err, rc, "cannot look at the node's interfaces: %s", strerror(-rc)) : 0;
}

void ifaces_release(struct plane *p)
{
	if (p->ifaces.event_fd >= 0)
		close(p->ifaces.event_fd);
	free(p->ifaces.items);
	free(p->ifaces.locals);
	free(p->ifaces.node_links);
}
