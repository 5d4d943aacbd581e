/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs on their hooks, held by pinned links. What ends flows is attached before what opens them, and taken off after. Knows the
 * programs as fds only.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plane/plane_int.h"

int plane_fail(struct buf *err, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(err, fmt, ap);
	va_end(ap);
	return rc;
}

const char *plane_pin_path(const char *pin, const char *prefix, const char *name, const char *suffix, char *out)
{
	snprintf(out, PLANE_PATH_LEN, "%s/%s%s%s", pin, prefix, name, suffix);
	return out;
}

bool links_pinned(const char *pin)
{
	DIR *dir = opendir(pin);
	bool found = false;
	struct dirent *e;

	while (!found && dir && (e = readdir(dir)))
		found = !strncmp(e->d_name, "link_", 5) || !strncmp(e->d_name, "filter_", 7);
	if (dir)
		closedir(dir);
	return found;
}

/* The link is attached to this very cgroup. */
static bool link_here(const struct plane *p, int link_fd)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);
	struct stat st;

	return !bpf_obj_get_info_by_fd(link_fd, &info, &len) && info.type == BPF_LINK_TYPE_CGROUP &&
	       !fstat(p->cgroup_fd, &st) && info.cgroup.cgroup_id == st.st_ino;
}

/*
 * A pinned link on our cgroup gets the new program in place. Where an old pin leads to another cgroup, or to a tracepoint (whose
 * links cannot change their program), a new link is pinned under another name first, and then takes the name in one step.
 */
static int attach_one(struct plane *p, uint32_t i, struct buf *err)
{
	const char *name = plane_prog_names[i];
	char path[PLANE_PATH_LEN], fresh[PLANE_PATH_LEN];
	int fd, rc = 0;

	plane_pin_path(p->pin, "link_", name, "", path);
	plane_pin_path(p->pin, "link_", name, "_new", fresh);
	unlink(fresh);
	fd = bpf_obj_get(path);
	if (fd >= 0 && link_here(p, fd)) {
		rc = plane_errno(bpf_link_update(fd, p->prog_fd[i], NULL));
		close(fd);
		return rc ? plane_fail(err, rc, "cannot replace %s: %s", name, strerror(-rc)) : 0;
	}
	if (fd >= 0)
		close(fd);
	fd = bpf_link_create(p->prog_fd[i], p->attach_type[i] == BPF_TRACE_RAW_TP ? 0 : p->cgroup_fd, p->attach_type[i],
			     NULL);
	if (fd < 0)
		return plane_fail(err, -errno, "cannot attach %s to %s: %s", name, p->cgroup, strerror(errno));
	if (bpf_obj_pin(fd, fresh) || rename(fresh, path)) {
		rc = plane_fail(err, -errno, "cannot pin %s: %s", path, strerror(errno));
		unlink(fresh);
	}
	close(fd);
	return rc;
}

/* A pin of this meshd: of a program at the sockets, or at an interface. */
static bool pin_known(const char *file, const char *name)
{
	const char *at;
	uint32_t len, ifindex;

	for (uint32_t i = 0; i < PLANE_PROG_NR; i++)
		if (!strcmp(name, plane_prog_names[i]))
			return true;
	if (!strcmp(name, PARSER_NET_PROG))
		return true;
	for (uint32_t i = 0; tc_pin_parse(file, &at, &len, &ifindex) && i < PLANE_TC_NR; i++)
		if (str_is((struct str){ at, len }, plane_tc_names[i]))
			return true;
	return false;
}

/* Takes off what another version of meshd attached and this one does not have. */
static void links_prune(const char *pin)
{
	static const char prefix[] = "link_";
	DIR *dir = opendir(pin);
	struct dirent *e;
	char path[PLANE_PATH_LEN];

	while (dir && (e = readdir(dir))) {
		int fd;

		if (strncmp(e->d_name, prefix, sizeof(prefix) - 1) ||
		    pin_known(e->d_name, e->d_name + sizeof(prefix) - 1))
			continue;
		fd = bpf_obj_get(plane_pin_path(pin, "", e->d_name, "", path));
		if (fd < 0)
			continue;
		bpf_link_detach(fd);
		unlink(path);
		close(fd);
	}
	if (dir)
		closedir(dir);
}

static bool traces(const struct plane *p, uint32_t i)
{
	return p->attach_type[i] == BPF_TRACE_RAW_TP;
}

/* Connect hooks first, each taken off its cgroup even if somebody else holds it too. */
static void take_off(const char *pin)
{
	static const char *const suffixes[] = { "", "_new" };
	char path[PLANE_PATH_LEN];

	for (uint32_t i = PLANE_PROG_NR; i-- > 0;) {
		for (uint32_t k = 0; k < 2; k++) {
			int fd = bpf_obj_get(plane_pin_path(pin, "link_", plane_prog_names[i], suffixes[k], path));

			if (fd < 0)
				continue;
			bpf_link_detach(fd);
			unlink(path);
			close(fd);
		}
	}
}

/* While both decide, tc finds the connection's endpoint in the packets already: so the sockets may begin early and end late. */
static void say_sockets(struct plane *p, bool on)
{
	uint32_t flags = p->control->flags & ~(uint32_t)(MESH_CONTROL_SOCKETS | MESH_CONTROL_SHORTCUTS);

	flags |= on ? MESH_CONTROL_SOCKETS : 0;
	flags |= on && p->shortcut ? MESH_CONTROL_SHORTCUTS : 0;
	__atomic_store_n(&p->control->flags, flags, __ATOMIC_RELEASE);
}

int links_attach(struct plane *p, struct buf *err)
{
	char path[PLANE_PATH_LEN];

	p->traced = true;
	if (!p->sockets) {
		say_sockets(p, false);
		take_off(p->pin);
		links_prune(p->pin);
		return 0;
	}
	for (uint32_t i = 0; i < PLANE_PROG_NR; i++) {
		int rc;

		if (p->prog_fd[i] < 0)
			continue;
		if (traces(p, i) && access(plane_pin_path(p->pin, "link_", plane_prog_names[i], "", path), F_OK)) {
			p->traced = false;
			continue;
		}
		rc = attach_one(p, i, err);
		if (rc)
			return rc;
	}
	links_prune(p->pin);
	say_sockets(p, true);
	return 0;
}

int links_trace(struct plane *p, struct buf *err)
{
	if (p->traced)
		return 0;
	for (uint32_t i = 0; i < PLANE_PROG_NR; i++) {
		int rc = p->prog_fd[i] >= 0 && traces(p, i) ? attach_one(p, i, err) : 0;

		if (rc)
			return rc;
	}
	p->traced = true;
	return 0;
}

void links_remove(const char *pin)
{
	take_off(pin);
	links_prune(pin);
}

int links_foreign(struct plane *p)
{
	static const enum bpf_attach_type types[] = { BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT };
	int others = 0;

	for (uint32_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		uint32_t ids[64], nr = sizeof(ids) / sizeof(*ids);

		if (bpf_prog_query(p->cgroup_fd, types[i], BPF_F_QUERY_EFFECTIVE, NULL, ids, &nr) && errno != ENOSPC)
			return -errno;
		others += nr ? (int)nr - 1 : 0;
	}
	return others;
}
