/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pinned maps, programs and the lock of the pin directory. The only file that sees the skeleton. Order is everything here: maps are
 * pinned before the first link (links.c), so that whatever is left after a kill at any system call is either nothing that runs, or
 * a data path that is whole and that the next start adopts.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "mesh.skel.h"
#include "plane/census.h"
#include "plane/plane_int.h"

#ifndef BPF_FS_MAGIC
#define BPF_FS_MAGIC 0xcafe4a11
#endif
#define CGROUP2_MAGIC 0x63677270

#define X(id, name) [PLANE_MAP_##id] = #name,
const char *const plane_map_names[] = { PLANE_MAPS(X) };
#undef X
#define X(id, name) [PLANE_PROG_##id] = #name,
const char *const plane_prog_names[] = { PLANE_PROGS(X) };
#undef X

#define X(id, name) [PLANE_TC_##id] = #name,
const char *const plane_tc_names[] = { PLANE_TC_PROGS(X) };
#undef X

/* libbpf's own words, kept to explain a failed load. */
static struct buf libbpf_said;

static int keep_warning(enum libbpf_print_level level, const char *fmt, va_list args)
{
	if (level == LIBBPF_WARN)
		buf_vprintf(&libbpf_said, fmt, args);
	return 0;
}

/* The end of it: what the verifier objected to stands in its last lines. */
static const char *libbpf_last_words(void)
{
	const size_t most = 600;

	if (!libbpf_said.data)
		return "";
	return libbpf_said.data + (libbpf_said.len > most ? libbpf_said.len - most : 0);
}

/* ---- the pin directory ---- */

static int pin_dir_open(const char *pin, bool create, struct buf *err)
{
	struct statfs fs;
	bool made = false;
	int fd;

	if (strlen(pin) > PLANE_PATH_LEN - 64)
		return plane_fail(err, -ENAMETOOLONG, "%.64s...: path is too long", pin);
	if (create)
		made = !mkdir(pin, 0700);
	if (create && !made && errno != EEXIST)
		return plane_fail(
			err, -errno,
			"cannot create %s: %s; is a bpf file system mounted there? (mount -t bpf bpf /sys/fs/bpf)", pin,
			strerror(errno));
	fd = open(pin, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return plane_fail(err, -errno, "cannot open %s: %s", pin, strerror(errno));
	if (fstatfs(fd, &fs) || (uint32_t)fs.f_type != BPF_FS_MAGIC) {
		close(fd);
		if (made)
			rmdir(pin);
		return plane_fail(err, -EINVAL,
				  "%s is not in a bpf file system; mount one: mount -t bpf bpf /sys/fs/bpf", pin);
	}
	return fd;
}

/* The directory can be removed by an --unload that held the lock before us: then what we locked is nobody's. */
static int pin_dir_lock(const char *pin, int fd, struct buf *err)
{
	struct stat locked, now;

	if (flock(fd, LOCK_EX | LOCK_NB))
		return plane_fail(err, errno == EWOULDBLOCK ? -EBUSY : -errno, "another meshd uses %s: %s", pin,
				  strerror(errno));
	if (fstat(fd, &locked) || stat(pin, &now) || locked.st_ino != now.st_ino)
		return plane_fail(err, -EBUSY, "another meshd has just removed %s; start again", pin);
	return 0;
}

/* ---- maps ---- */

static void skel_maps(struct mesh *skel, struct bpf_map **out)
{
#define X(id, name) out[PLANE_MAP_##id] = skel->maps.name;
	PLANE_MAPS(X)
#undef X
}

static void skel_progs(struct mesh *skel, struct bpf_program **out)
{
#define X(id, name) out[PLANE_PROG_##id] = skel->progs.name;
	PLANE_PROGS(X)
#undef X
}

static void skel_tc(struct mesh *skel, struct bpf_program **out)
{
#define X(id, name) out[PLANE_TC_##id] = skel->progs.name;
	PLANE_TC_PROGS(X)
#undef X
}

static void skel_iters(struct mesh *skel, struct bpf_program **out)
{
#define X(id, name) out[PLANE_ITER_##id] = skel->progs.name;
	PLANE_ITERS(X)
#undef X
}

/* The pinned map is what this meshd would have made. */
static int map_matches(int fd, const struct bpf_map *map, const char *name, struct buf *err)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return plane_fail(err, -errno, "cannot read the pinned %s: %s", name, strerror(errno));
	if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
	    info.value_size != bpf_map__value_size(map) || info.map_flags != bpf_map__map_flags(map))
		return plane_fail(
			err, -EEXIST,
			"the pinned %s has another layout than this meshd uses; run meshd --unload, then start again",
			name);
	if (info.max_entries != bpf_map__max_entries(map))
		return plane_fail(err, -EEXIST,
				  "the pinned %s has room for %u entries, the settings ask for %u; restore the max-* "
				  "settings it was "
				  "made with, or run meshd --unload, then start again",
				  name, info.max_entries, bpf_map__max_entries(map));
	return 0;
}

static int control_layout(int fd, struct buf *err)
{
	struct mesh_control control = { 0 };
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(fd, &zero, &control))
		return plane_fail(err, -errno, "cannot read the pinned mesh_control: %s", strerror(errno));
	if (control.layout != MESH_LAYOUT)
		return plane_fail(
			err, -EEXIST,
			"the pinned maps have layout %u, this meshd uses %u; run meshd --unload, then start again",
			control.layout, MESH_LAYOUT);
	return 0;
}

/* Maps of earlier layouts, which are only taken away. */
static const char *const former_maps[] = { "mesh_states" };

static void maps_unpin(const char *pin)
{
	char path[PLANE_PATH_LEN];

	unlink(plane_pin_path(pin, ACCEL_ITER_PIN, "", "", path));
	for (uint32_t i = PLANE_MAP_NR; i-- > 0;)
		unlink(plane_pin_path(pin, "", plane_map_names[i], "", path));
	for (size_t i = 0; i < sizeof(former_maps) / sizeof(*former_maps); i++)
		unlink(plane_pin_path(pin, "", former_maps[i], "", path));
}

/* Opens every pinned map into fds (-1: not pinned) and checks it. 0: all are there and fit; -ENOENT: some are missing. */
static int maps_find(struct plane *p, struct bpf_map **maps, int *fds, struct buf *err)
{
	const char *missing = NULL;
	char path[PLANE_PATH_LEN];
	int rc = 0;

	for (uint32_t i = 0; i < PLANE_MAP_NR; i++) {
		fds[i] = bpf_obj_get(plane_pin_path(p->pin, "", plane_map_names[i], "", path));
		if (fds[i] < 0)
			missing = plane_map_names[i];
		else if (!rc)
			rc = map_matches(fds[i], maps[i], plane_map_names[i], err);
	}
	if (!rc && missing)
		rc = plane_fail(err, -ENOENT, "%s is not pinned any more; run meshd --unload, then start again",
				missing);
	if (!rc)
		rc = control_layout(fds[PLANE_MAP_CONTROL], err);
	return rc;
}

/*
 * Decides between adopting and starting afresh. Without a pinned link nothing runs, so pins that do not fit, or are not all there
 * (a start or an unload that was killed), are of no use to anyone and go.
 */
static int maps_reuse(struct plane *p, struct bpf_map **maps, struct buf *err)
{
	int fds[PLANE_MAP_NR], rc = maps_find(p, maps, fds, err);

	for (uint32_t i = 0; i < PLANE_MAP_NR && !rc; i++)
		rc = plane_errno(bpf_map__reuse_fd(maps[i], fds[i]));
	p->adopted_pins = !rc;
	for (uint32_t i = 0; i < PLANE_MAP_NR; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (!rc)
		return 0;
	if (links_pinned(p->pin))
		return rc == -ENOENT ? -EEXIST : rc;
	buf_clear(err);
	maps_unpin(p->pin);
	return 0;
}

static int maps_pin(struct plane *p, struct buf *err)
{
	struct mesh_control control = { .layout = MESH_LAYOUT };
	char path[PLANE_PATH_LEN];
	uint32_t zero = 0;

	if (p->adopted_pins)
		return 0;
	if (bpf_map_update_elem(p->map_fd[PLANE_MAP_CONTROL], &zero, &control, BPF_ANY))
		return plane_fail(err, -errno, "cannot write mesh_control: %s", strerror(errno));
	for (uint32_t i = 0; i < PLANE_MAP_NR; i++)
		if (bpf_obj_pin(p->map_fd[i], plane_pin_path(p->pin, "", plane_map_names[i], "", path)))
			return plane_fail(err, -errno, "cannot pin %s: %s", path, strerror(errno));
	return 0;
}

static int arrays_map(struct plane *p, struct buf *err)
{
	const struct {
		struct marray *array;
		enum plane_map_id id;
		uint32_t value_size;
	} arrays[] = {
		{ &p->rows, PLANE_MAP_ROWS, sizeof(struct mesh_row) },
		{ &p->choices, PLANE_MAP_CHOICES, sizeof(struct mesh_choice) },
		{ &p->clusters, PLANE_MAP_CLUSTERS, sizeof(struct mesh_cluster) },
		{ &p->backends, PLANE_MAP_BACKENDS, sizeof(struct mesh_backend) },
		{ &p->tables, PLANE_MAP_TABLES, sizeof(uint64_t) },
		{ &p->tallies, PLANE_MAP_TALLIES, sizeof(struct mesh_tally) },
		{ &p->pools, PLANE_MAP_POOLS, sizeof(struct mesh_pool) },
		{ &p->pods_rows, PLANE_MAP_PODS, sizeof(struct mesh_pod) },
		{ &p->workload_rows, PLANE_MAP_WORKLOADS, sizeof(struct mesh_workload) },
		{ &p->terms, PLANE_MAP_TERMS, sizeof(struct mesh_term) },
		{ &p->bits, PLANE_MAP_BITS, sizeof(uint64_t) },
		{ &p->control_array, PLANE_MAP_CONTROL, sizeof(struct mesh_control) },
	};

	for (uint32_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++) {
		int rc = marray_init(arrays[i].array, p->map_fd[arrays[i].id], arrays[i].value_size,
				     p->map_max[arrays[i].id]);

		if (rc)
			return plane_fail(err, rc, "no address space for %s: %s", plane_map_names[arrays[i].id],
					  strerror(-rc));
	}
	p->control = marray_at(&p->control_array, 0, 1);
	p->control->pod_conns = p->max_pod_conns;
	cut_init(p);
	accel_init(p);
	slots_init(&p->row_slots, p->map_max[PLANE_MAP_ROWS]);
	slots_init(&p->cluster_slots, p->map_max[PLANE_MAP_CLUSTERS]);
	slots_init(&p->pod_slots, p->map_max[PLANE_MAP_PODS]);
	slots_init(&p->workload_slots, p->map_max[PLANE_MAP_WORKLOADS]);
	programs_init(p);
	runs_init(&p->runs, p->map_max[PLANE_MAP_CHOICES]);
	runs_init(&p->table_runs, p->map_max[PLANE_MAP_TABLES]);
	backends_init(p);
	names_init(p);
	return 0;
}

/* ---- programs ---- */

static uint32_t prog_id(int fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.id;
}

/* Takes the fds out of the skeleton, so that libbpf's copy of the object can go. */
static int keep_fds(struct plane *p, struct mesh *skel, struct bpf_map **maps, struct bpf_program **progs)
{
	struct bpf_program *tc[PLANE_TC_NR], *iters[PLANE_ITER_NR];

	skel_tc(skel, tc);
	for (uint32_t i = 0; i < PLANE_MAP_NR; i++) {
		p->map_fd[i] = fcntl(bpf_map__fd(maps[i]), F_DUPFD_CLOEXEC, 3);
		if (p->map_fd[i] < 0)
			return -errno;
	}
	for (uint32_t i = 0; i < PLANE_PROG_NR; i++) {
		if (!bpf_program__autoload(progs[i]))
			continue;
		p->prog_fd[i] = fcntl(bpf_program__fd(progs[i]), F_DUPFD_CLOEXEC, 3);
		p->attach_type[i] = bpf_program__expected_attach_type(progs[i]);
		if (p->prog_fd[i] < 0)
			return -errno;
	}
	for (uint32_t i = 0; i < PLANE_TC_NR && p->tc; i++) {
		p->tc_fd[i] = fcntl(bpf_program__fd(tc[i]), F_DUPFD_CLOEXEC, 3);
		if (p->tc_fd[i] < 0)
			return -errno;
		p->tc_id[i] = prog_id(p->tc_fd[i]);
	}
	/* Sockets that are accelerated already keep the program that they came in with. */
	if (bpf_prog_attach(bpf_program__fd(skel->progs.mesh_redirect), p->map_fd[PLANE_MAP_SOCKETS],
			    BPF_SK_MSG_VERDICT, 0))
		return -errno;
	if (p->tc) {
		p->lapse_conn_fd = fcntl(bpf_program__fd(skel->progs.mesh_lapse_conn), F_DUPFD_CLOEXEC, 3);
		p->parser_fd = fcntl(bpf_program__fd(skel->progs.mesh_parser), F_DUPFD_CLOEXEC, 3);
		if (p->lapse_conn_fd < 0 || p->parser_fd < 0)
			return -errno;
	}
	skel_iters(skel, iters);
	for (uint32_t i = 0; i < PLANE_ITER_NR; i++)
		if (bpf_program__autoload(iters[i]))
			p->iter_fd[i] = bpf_link_create(bpf_program__fd(iters[i]), 0, BPF_TRACE_ITER, NULL);
	return 0;
}

/*
 * Programs at tracepoints that this kernel does not have stay out, and plane_status says what is missing then; so do those that the
 * settings leave out.
 */
static void skip_absent(const struct plane *p, struct mesh *skel)
{
	struct bpf_program *tc[PLANE_TC_NR], *iters[PLANE_ITER_NR];

	skel_tc(skel, tc);
	for (uint32_t i = 0; i < PLANE_TC_NR && !p->tc; i++)
		bpf_program__set_autoload(tc[i], false);
	bpf_program__set_autoload(skel->progs.mesh_lapse_conn, p->tc);
	bpf_program__set_autoload(skel->progs.mesh_parser, p->tc);
	skel_iters(skel, iters);
	for (uint32_t i = PLANE_ITER_CUT_CLIENT; i <= PLANE_ITER_CUT_SERVER; i++)
		bpf_program__set_autoload(iters[i], p->cut && p->cut_by != CUT_BY_LINKS);
	bpf_program__set_autoload(iters[PLANE_ITER_LAPSE_TCP], p->cut_by != CUT_BY_LINKS);
	/* Before Linux 6.5, which has this function too, an iterator may hold the very lock that taking its socket in needs. */
	if (libbpf_find_vmlinux_btf_id("bpf_sock_destroy", BPF_TRACE_FENTRY) <= 0)
		bpf_program__set_autoload(iters[PLANE_ITER_STEP_ENDS], false);
	if (libbpf_find_vmlinux_btf_id("sock_send_length", BPF_TRACE_RAW_TP) > 0)
		return;
	bpf_program__set_autoload(skel->progs.mesh_send, false);
	bpf_program__set_autoload(skel->progs.mesh_recv, false);
}

/* The coarse clocks go by the kernel's ticks. */
static uint32_t tick_ns(void)
{
	struct timespec tick;

	return clock_getres(CLOCK_MONOTONIC_COARSE, &tick) || tick.tv_sec || !tick.tv_nsec ? 1000000
											   : (uint32_t)tick.tv_nsec;
}

static int load(struct plane *p, struct buf *err)
{
	struct bpf_program *progs[PLANE_PROG_NR];
	struct bpf_map *maps[PLANE_MAP_NR];
	struct mesh *skel = mesh__open();
	int rc = 0;

	if (!skel)
		return plane_fail(err, -errno, "cannot read the BPF object: %s", strerror(errno));
	skel_maps(skel, maps);
	skel_progs(skel, progs);
	for (uint32_t i = 0; i < PLANE_MAP_NR && !rc; i++)
		if (p->map_max[i] != bpf_map__max_entries(maps[i]))
			rc = bpf_map__set_max_entries(maps[i], p->map_max[i]);
	skel->rodata->closed_mask = p->closed_nr - 1;
	skel->rodata->tick_ns = tick_ns();
	cut_choose(p);
	skel->rodata->cut_names = p->cut_by == CUT_BY_SOCK_DIAG;
	skip_absent(p, skel);
	if (rc)
		plane_fail(err, rc, "cannot size the maps: %s", strerror(-rc));
	else
		rc = maps_reuse(p, maps, err);
	if (!rc) {
		rc = mesh__load(skel);
		if (rc)
			plane_fail(err, rc, "the kernel does not load the programs: %s\n%s", strerror(-rc),
				   libbpf_last_words());
	}
	if (!rc) {
		rc = keep_fds(p, skel, maps, progs);
		if (rc)
			plane_fail(err, rc, "cannot keep the programs: %s", strerror(-rc));
	}
	mesh__destroy(skel);
	libbpf_set_print(NULL);
	buf_release(&libbpf_said);
	malloc_trim(0);
	return rc;
}

static int cgroup_open(struct plane *p, struct buf *err)
{
	struct statfs fs;

	p->cgroup_fd = open(p->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->cgroup_fd < 0)
		return plane_fail(err, -errno, "cannot open the cgroup %s: %s", p->cgroup, strerror(errno));
	if (fstatfs(p->cgroup_fd, &fs) || fs.f_type != CGROUP2_MAGIC)
		return plane_fail(err, -EINVAL,
				  "%s is not in a cgroup2 file system; on a hybrid host it is /sys/fs/cgroup/unified",
				  p->cgroup);
	return 0;
}

static struct plane *plane_new(const struct settings *s)
{
	struct plane *p = xcalloc(1, sizeof(*p));

	p->cgroup = xstrdup(s->cgroup);
	p->pin = xstrdup(s->pin);
	p->node_name = xstrdup(s->node_name ? s->node_name : "");
	p->max_services = s->max_services;
	p->max_endpoints = s->max_endpoints;
	p->max_pods = s->max_pods;
	p->max_flows = s->max_flows;
	p->max_conns = s->max_connections;
	p->sockets = s->socket_hooks;
	p->tc = s->tc;
	p->max_pod_conns = s->max_pod_connections ? s->max_pod_connections : (s->max_connections + 3) / 4;
	p->max_workloads = s->max_workloads;
	p->ifaces.node_links = xstrdup(s->node_interfaces ? s->node_interfaces : "none");
	p->ifaces.event_fd = -1;
	p->cut = s->cut;
	p->shortcut = s->shortcut && s->tc && s->socket_hooks;
	p->sock_diag = s->sock_diag;
	p->accel.mode = s->accelerate;
	p->accel.loopback = s->accelerate_loopback;
	p->accel.parser = s->accelerate_parser;
	p->accel.message = s->accelerate_message;
	p->accel.flow = s->accelerate_flow;
	p->accel.pod = s->accelerate_pod;
	p->accel.max = s->max_accelerated;
	p->lock_fd = p->cgroup_fd = p->conntrack_fd = p->lapse_conn_fd = p->selftest.fd = -1;
	p->parser_fd = p->parser.netns_fd = -1;
	for (uint32_t i = 0; i < PLANE_ITER_NR; i++)
		p->iter_fd[i] = -1;
	p->barrier.inner_fd = p->barrier.event_fd = -1;
	p->pods.inotify_fd = p->pods.timer_fd = p->pods.poll_fd = p->pods.own_netns_fd = -1;
	for (uint32_t i = 0; i < PLANE_MAP_NR; i++)
		p->map_fd[i] = -1;
	for (uint32_t i = 0; i < PLANE_PROG_NR; i++)
		p->prog_fd[i] = -1;
	for (uint32_t i = 0; i < PLANE_TC_NR; i++)
		p->tc_fd[i] = -1;
	plane_sizes(p, s);
	return p;
}

static int open_all(struct plane *p, struct buf *err)
{
	int rc = cgroup_open(p, err);

	if (rc)
		return rc;
	p->lock_fd = pin_dir_open(p->pin, true, err);
	if (p->lock_fd < 0)
		return p->lock_fd;
	rc = pin_dir_lock(p->pin, p->lock_fd, err);
	if (rc)
		return rc;
	rc = load(p, err);
	if (!rc)
		rc = maps_pin(p, err);
	if (!rc)
		rc = arrays_map(p, err);
	if (!rc) {
		rc = barrier_init(p);
		if (rc)
			plane_fail(err, rc, "cannot start the grace period thread: %s", strerror(-rc));
	}
	if (!rc)
		rc = adopt(p, err);
	if (!rc) {
		rc = podscan_init(p);
		if (rc)
			plane_fail(err, rc, "cannot watch the cgroup %s: %s", p->cgroup, strerror(-rc));
	}
	if (!rc) {
		rc = shortcuts_init(p);
		if (rc)
			plane_fail(err, rc, "cannot talk to netfilter: %s", strerror(-rc));
	}
	if (!rc) {
		rc = census_init(p);
		if (rc)
			plane_fail(err, rc, "cannot hear what the kernel asks about programs: %s", strerror(-rc));
	}
	if (!rc)
		rc = ifaces_init(p, err);
	if (!rc)
		rc = links_attach(p, err);
	if (!rc)
		rc = accel_pin(p, err);
	/* A first start that failed before anything ran leaves nothing behind. */
	if (rc && !links_pinned(p->pin)) {
		maps_unpin(p->pin);
		rmdir(p->pin);
	}
	return rc;
}

int plane_open(const struct settings *s, struct plane **ret, struct buf *err)
{
	struct plane *p;
	int rc = plane_check_settings(s, err);

	if (rc)
		return rc;
	libbpf_set_print(keep_warning);
	p = plane_new(s);
	rc = open_all(p, err);
	if (rc) {
		plane_close(p);
		return rc;
	}
	*ret = p;
	return 0;
}

void plane_close(struct plane *p)
{
	if (!p)
		return;
	barrier_release(p);
	selftest_release(p);
	shortcuts_release(p);
	census_release(p);
	podscan_release(p);
	ifaces_release(p);
	for (uint32_t i = p->retired_head; i < p->retired_nr; i++)
		free(p->retired[i].unit);
	for (uint32_t i = 0; p->snapshot && i < p->snapshot->unit_nr; i++)
		free(p->lowered[i]);
	snapshot_unref(p->snapshot);
	snapshot_unref(p->old_snapshot);
	free(p->lowered);
	free(p->adopted);
	free(p->retired);
	free(p->gone);
	free(p->cidrs);
	names_release(p);
	backends_release(p);
	slots_release(&p->row_slots);
	slots_release(&p->cluster_slots);
	slots_release(&p->pod_slots);
	slots_release(&p->workload_slots);
	programs_release(p);
	free(p->members);
	access_unref(p->access);
	runs_release(&p->runs);
	runs_release(&p->table_runs);
	marray_release(&p->rows);
	marray_release(&p->choices);
	marray_release(&p->clusters);
	marray_release(&p->backends);
	marray_release(&p->tables);
	marray_release(&p->tallies);
	marray_release(&p->pools);
	marray_release(&p->pods_rows);
	marray_release(&p->workload_rows);
	marray_release(&p->terms);
	marray_release(&p->bits);
	marray_release(&p->control_array);
	for (uint32_t i = 0; i < PLANE_MAP_NR; i++)
		if (p->map_fd[i] >= 0)
			close(p->map_fd[i]);
	for (uint32_t i = 0; i < PLANE_PROG_NR; i++)
		if (p->prog_fd[i] >= 0)
			close(p->prog_fd[i]);
	for (uint32_t i = 0; i < PLANE_TC_NR; i++)
		if (p->tc_fd[i] >= 0)
			close(p->tc_fd[i]);
	for (uint32_t i = 0; i < PLANE_ITER_NR; i++)
		if (p->iter_fd[i] >= 0)
			close(p->iter_fd[i]);
	if (p->lapse_conn_fd >= 0)
		close(p->lapse_conn_fd);
	if (p->parser_fd >= 0)
		close(p->parser_fd);
	if (p->parser.netns_fd >= 0)
		close(p->parser.netns_fd);
	if (p->cgroup_fd >= 0)
		close(p->cgroup_fd);
	if (p->lock_fd >= 0)
		close(p->lock_fd);
	free(p->cgroup);
	free(p->pin);
	free(p->node_name);
	free(p);
}

int plane_unload(const struct settings *s, struct buf *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(s->pin, &st) && errno == ENOENT)
		return 0;
	libbpf_set_print(NULL);
	fd = pin_dir_open(s->pin, false, err);
	if (fd < 0)
		return fd;
	rc = pin_dir_lock(s->pin, fd, err);
	if (!rc)
		rc = accel_drain(s->pin, err);
	if (!rc) {
		/* What the sockets no longer choose, tc would, and break when it goes. */
		parser_net_remove(s->pin);
		ifaces_remove(s->pin);
		links_remove(s->pin);
		maps_unpin(s->pin);
		if (rmdir(s->pin))
			rc = plane_fail(err, -errno, "%s holds pins that meshd did not make, and stays: %s", s->pin,
					strerror(errno));
	}
	close(fd);
	return rc;
}
