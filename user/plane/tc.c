/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One program at one interface. A pin comes before the filter that it tells of, and a new link takes the old one's name in one step,
 * so that a kill leaves nothing that a later call does not find.
 */
#include "plane/tc.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plane/netlink.h"
#include "plane/plane_int.h"

/* Headers may be older than the kernel. */
#define LINK_TYPE_TCX 11
#define TCX_INGRESS 46
#define TCX_EGRESS 47

/* Of our filters: before those that the kernel numbers itself (from 49152 down). */
#define FILTER_PRIORITY 1000
#define FILTER_HANDLE 0x7e55

static enum bpf_attach_type tcx_type(bool egress)
{
	return (enum bpf_attach_type)(egress ? TCX_EGRESS : TCX_INGRESS);
}

static const char *pin_path(const struct tc_place *at, const char *prefix, const char *suffix, char *out)
{
	char number[32];

	snprintf(number, sizeof(number), "_%u%s", at->ifindex, suffix);
	return plane_pin_path(at->pin, prefix, at->name, number, out);
}

/* ---- tcx ---- */

/* The link is at this very interface and direction; that of an interface that is gone is nowhere. */
static bool link_here(const struct tc_place *at, int link_fd)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);
	struct {
		uint32_t ifindex, attach_type;
	} tcx;

	if (bpf_obj_get_info_by_fd(link_fd, &info, &len) || info.type != LINK_TYPE_TCX)
		return false;
	/* Laid out as the part of a netns link, which older headers know. */
	memcpy(&tcx, &info.netns, sizeof(tcx));
	return tcx.ifindex == at->ifindex && tcx.attach_type == (uint32_t)tcx_type(at->egress);
}

static int attach_link(const struct tc_place *at, int prog_fd)
{
	char path[PLANE_PATH_LEN], fresh[PLANE_PATH_LEN];
	int fd, rc = -ENOLINK;

	pin_path(at, "link_", "", path);
	unlink(pin_path(at, "link_", "_new", fresh));
	fd = bpf_obj_get(path);
	if (fd >= 0 && link_here(at, fd))
		rc = plane_errno(bpf_link_update(fd, prog_fd, NULL));
	if (fd >= 0)
		close(fd);
	if (rc != -ENOLINK)
		return rc;
	fd = bpf_link_create(prog_fd, (int)at->ifindex, tcx_type(at->egress), NULL);
	if (fd < 0)
		return -errno;
	rc = bpf_obj_pin(fd, fresh) || rename(fresh, path) ? -errno : 0;
	if (rc)
		unlink(fresh);
	close(fd);
	return rc;
}

static void detach_link(const struct tc_place *at)
{
	static const char *const suffixes[] = { "", "_new" };
	char path[PLANE_PATH_LEN];

	for (uint32_t i = 0; i < 2; i++) {
		int fd = bpf_obj_get(pin_path(at, "link_", suffixes[i], path));

		if (fd < 0)
			continue;
		bpf_link_detach(fd);
		unlink(path);
		close(fd);
	}
}

/* ---- clsact ---- */

/* Calls back for what one message tells. */
struct clsact_look {
	uint32_t ifindex, filters;
	bool qdisc, queues;
	uint32_t priority, handle, at_place; /* at_place: program of the filter there, ~0: not a program */
	tc_prog_fn fn;
	void *data;
};

static bool is_kind(const struct rtattr *a, const char *kind)
{
	return RTA_PAYLOAD(a) == strlen(kind) + 1 && !memcmp(RTA_DATA(a), kind, strlen(kind));
}

static void qdisc_message(void *data, const struct nlmsghdr *h)
{
	struct clsact_look *l = data;
	const struct tcmsg *t = NLMSG_DATA(h);
	const struct rtattr *kind;

	if (h->nlmsg_type != RTM_NEWQDISC || (uint32_t)t->tcm_ifindex != l->ifindex)
		return;
	kind = netlink_attr(TCA_RTA(t), TCA_PAYLOAD(h), TCA_KIND);
	if (!kind)
		return;
	l->qdisc |= is_kind(kind, "clsact");
	l->queues |= !is_kind(kind, "clsact") && !is_kind(kind, "ingress") && !is_kind(kind, "noqueue");
}

/* A classifier is listed by itself, with handle 0, and then each of its filters. */
static void filter_message(void *data, const struct nlmsghdr *h)
{
	struct clsact_look *l = data;
	const struct tcmsg *t = NLMSG_DATA(h);
	const struct rtattr *options;
	uint32_t id = 0;

	if (h->nlmsg_type != RTM_NEWTFILTER || (uint32_t)t->tcm_ifindex != l->ifindex)
		return;
	l->filters++;
	if (!t->tcm_handle)
		return;
	options = netlink_attr(TCA_RTA(t), TCA_PAYLOAD(h), TCA_OPTIONS);
	if (options)
		id = netlink_u32(RTA_DATA(options), RTA_PAYLOAD(options), TCA_BPF_ID);
	if (TC_H_MAJ(t->tcm_info) >> 16 == FILTER_PRIORITY && t->tcm_handle == FILTER_HANDLE)
		l->at_place = id ? id : ~0u;
	if (l->fn)
		l->fn(l->data, TC_CLSACT, id);
}

static int ask(struct clsact_look *l, uint16_t type, uint32_t parent, netlink_fn fn)
{
	const struct tcmsg t = { .tcm_family = AF_UNSPEC, .tcm_ifindex = (int)l->ifindex, .tcm_parent = parent };
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc;

	if (sock < 0)
		return -errno;
	rc = netlink_dump(sock, type, &t, sizeof(t), fn, l);
	close(sock);
	return rc;
}

static int look_filters(struct clsact_look *l, bool egress)
{
	return ask(l, RTM_GETTFILTER, TC_H_MAKE(TC_H_CLSACT, egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS),
		   filter_message);
}

/* Id of a pinned program; 0: there is none. */
static uint32_t pinned_id(const char *path)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		info.id = 0;
	close(fd);
	return info.id;
}

/* What runs at our place of the interface: 1 a program that our pins name, 0 nothing, or -errno. */
static int filter_state(const struct tc_place *at)
{
	struct clsact_look l = { .ifindex = at->ifindex };
	char path[PLANE_PATH_LEN], fresh[PLANE_PATH_LEN];
	int rc = look_filters(&l, at->egress);

	if (rc)
		return rc;
	if (!l.at_place)
		return 0;
	if (l.at_place == pinned_id(pin_path(at, "filter_", "_new", fresh)))
		return rename(fresh, pin_path(at, "filter_", "", path)) ? -errno : 1;
	return l.at_place == pinned_id(pin_path(at, "filter_", "", path)) ? 1 : -EEXIST;
}

static const char *qdisc_path(const char *pin, uint32_t ifindex, char *out)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", ifindex);
	return plane_pin_path(pin, "qdisc_", number, "", out);
}

static int qdisc_make(const struct tc_place *at, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)at->ifindex, .attach_point = BPF_TC_INGRESS);
	struct clsact_look l = { .ifindex = at->ifindex };
	int rc = ask(&l, RTM_GETQDISC, 0, qdisc_message);
	char path[PLANE_PATH_LEN];

	if (rc || l.qdisc)
		return rc;
	qdisc_path(at->pin, at->ifindex, path);
	unlink(path);
	if (bpf_obj_pin(prog_fd, path))
		return -errno;
	rc = bpf_tc_hook_create(&hook);
	if (rc)
		unlink(path);
	return rc == -EEXIST ? 0 : rc;
}

static int attach_filter(const struct tc_place *at, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)at->ifindex,
		    .attach_point = at->egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog_fd, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY);
	char path[PLANE_PATH_LEN], fresh[PLANE_PATH_LEN];
	int rc = qdisc_make(at, prog_fd), was;

	if (rc)
		return rc;
	was = filter_state(at);
	if (was < 0)
		return was;
	pin_path(at, "filter_", "", path);
	unlink(pin_path(at, "filter_", "_new", fresh));
	if (bpf_obj_pin(prog_fd, fresh))
		return -errno;
	opts.flags = was ? BPF_TC_F_REPLACE : 0;
	rc = bpf_tc_attach(&hook, &opts);
	if (!rc && rename(fresh, path))
		rc = -errno;
	if (rc)
		unlink(fresh);
	return rc;
}

static void detach_filter(const struct tc_place *at)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)at->ifindex,
		    .attach_point = at->egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY);
	char path[PLANE_PATH_LEN], fresh[PLANE_PATH_LEN];

	pin_path(at, "filter_", "", path);
	pin_path(at, "filter_", "_new", fresh);
	if (access(path, F_OK) && access(fresh, F_OK))
		return;
	if (filter_state(at) == 1)
		bpf_tc_detach(&hook, &opts);
	unlink(path);
	unlink(fresh);
}

void tc_release(const char *pin, uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	struct clsact_look l = { .ifindex = ifindex };
	char path[PLANE_PATH_LEN];

	if (access(qdisc_path(pin, ifindex, path), F_OK))
		return;
	if (!look_filters(&l, false) && !look_filters(&l, true) && !l.filters)
		bpf_tc_hook_destroy(&hook);
	unlink(path);
}

bool tc_queues(uint32_t ifindex)
{
	struct clsact_look l = { .ifindex = ifindex };

	return ask(&l, RTM_GETQDISC, 0, qdisc_message) || l.queues;
}

/* ---- either ---- */

int tc_attach(const struct tc_place *at, int prog_fd, enum tc_how how, enum tc_how *ret_how)
{
	char path[PLANE_PATH_LEN];
	int rc = -EINVAL;

	if (how == TC_NONE && !access(pin_path(at, "filter_", "", path), F_OK))
		how = TC_CLSACT;
	if (how != TC_CLSACT)
		rc = attach_link(at, prog_fd);
	*ret_how = TC_TCX;
	if (rc != -EINVAL || how == TC_TCX)
		return rc;
	*ret_how = TC_CLSACT;
	return attach_filter(at, prog_fd);
}

void tc_detach(const struct tc_place *at)
{
	detach_link(at);
	detach_filter(at);
}

bool tc_pin_parse(const char *file, const char **ret_name, uint32_t *ret_name_len, uint32_t *ret_ifindex)
{
	const char *name = !strncmp(file, "link_", 5) ? file + 5 : !strncmp(file, "filter_", 7) ? file + 7 : NULL;
	const char *number = NULL;
	unsigned long index;
	char *end;

	for (const char *c = name; c && *c; c++)
		if (c[0] == '_' && c[1] >= '1' && c[1] <= '9')
			number = c + 1;
	if (!number)
		return false;
	errno = 0;
	index = strtoul(number, &end, 10);
	if (errno || index > INT32_MAX || (*end && strcmp(end, "_new")))
		return false;
	*ret_name = name;
	*ret_name_len = (uint32_t)(number - 1 - name);
	*ret_ifindex = (uint32_t)index;
	return true;
}

int tc_list(uint32_t ifindex, bool egress, tc_prog_fn fn, void *data)
{
	struct clsact_look l = { .ifindex = ifindex, .fn = fn, .data = data };
	uint32_t ids[64], nr = sizeof(ids) / sizeof(*ids);

	/* A kernel without tcx refuses the question. */
	if (!bpf_prog_query((int)ifindex, tcx_type(egress), 0, NULL, ids, &nr))
		for (uint32_t i = 0; i < nr; i++)
			fn(data, TC_TCX, ids[i]);
	return look_filters(&l, egress);
}
