/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Takes everything off the way past TCP before the data path is removed. Bytes that wait there would be lost with mesh_sockets, so this
 * waits for their readers: by counters that the kernel compares, in the pinned iterator, not by time. Knows the pins only.
 */
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "plane/plane_int.h"

#define PATIENCE_MS 5000
#define PAUSE_NS 20000000

/* Network namespaces of the pods that have sockets past TCP. */
struct spaces {
	int own_fd, pod_ends_fd;
	struct netns_id *seen; /* of any process, once each */
	uint32_t seen_nr, seen_cap;
	int *fds;
	uint32_t nr, cap;
};

static bool has_ends(const struct spaces *s, int fd)
{
	struct netns_facts facts = { 0 };
	bool found = false;
	uint32_t nr;

	if (!netns_query(s->own_fd, fd, &facts))
		found = !bpf_map_lookup_elem(s->pod_ends_fd, &facts.cookie, &nr);
	netns_facts_release(&facts);
	return found;
}

static void add_space(struct spaces *s, const char *pid)
{
	struct netns_id id;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%.20s/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (netns_id(fd, &id))
		goto out;
	for (uint32_t i = 0; i < s->seen_nr; i++)
		if (s->seen[i].dev == id.dev && s->seen[i].ino == id.ino)
			goto out;
	s->seen = plane_grow(s->seen, s->seen_nr, &s->seen_cap, sizeof(*s->seen));
	s->seen[s->seen_nr++] = id;
	if (has_ends(s, fd)) {
		s->fds = plane_grow(s->fds, s->nr, &s->cap, sizeof(*s->fds));
		s->fds[s->nr++] = fd;
		return;
	}
out:
	close(fd);
}

static void find_spaces(struct spaces *s)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
			add_space(s, e->d_name);
	if (dir)
		closedir(dir);
}

static int open_path(void *data)
{
	int fd = open(data, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* One step of every end that is in one of the namespaces. */
static void step(const struct spaces *s, char *path)
{
	char chunk[4096];

	for (uint32_t i = 0; i < s->nr; i++) {
		int fd = netns_call(s->own_fd, s->fds[i], open_path, path);
		ssize_t n;

		if (fd < 0)
			continue;
		do
			n = read(fd, chunk, sizeof(chunk));
		while (n > 0 || (n < 0 && errno == EAGAIN));
		close(fd);
	}
}

static uint32_t sockets(int fd)
{
	uint64_t key, next;
	uint32_t nr = 0;
	int rc = bpf_map_get_next_key(fd, NULL, &next);

	while (!rc) {
		nr++;
		key = next;
		rc = bpf_map_get_next_key(fd, &key, &next);
	}
	return nr;
}

static int switch_off(const char *pin)
{
	char path[PLANE_PATH_LEN];
	int fd = bpf_obj_get(plane_pin_path(pin, "", plane_map_names[PLANE_MAP_CONTROL], "", path));
	struct mesh_control *c;

	if (fd < 0)
		return -errno;
	c = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (c == MAP_FAILED)
		return -errno;
	__atomic_and_fetch(&c->flags, ~(uint32_t)MESH_CONTROL_ACCELERATE, __ATOMIC_SEQ_CST);
	munmap(c, (size_t)sysconf(_SC_PAGESIZE));
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int accel_drain(const char *pin, struct buf *err)
{
	char path[PLANE_PATH_LEN];
	int fd = bpf_obj_get(plane_pin_path(pin, "", plane_map_names[PLANE_MAP_SOCKETS], "", path));
	struct spaces s = {
		.own_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC),
		.pod_ends_fd = bpf_obj_get(plane_pin_path(pin, "", plane_map_names[PLANE_MAP_POD_ENDS], "", path)),
	};
	uint64_t until = now_ms() + PATIENCE_MS;
	uint32_t nr = 0;

	/* What has no map, or no layout that is known, has nothing under way either. */
	if (fd >= 0 && s.own_fd >= 0 && s.pod_ends_fd >= 0 && !switch_off(pin))
		nr = sockets(fd);
	if (nr)
		find_spaces(&s);
	plane_pin_path(pin, ACCEL_ITER_PIN, "", "", path);
	while (nr && now_ms() < until) {
		step(&s, path);
		nr = sockets(fd);
		if (nr)
			nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
	}
	for (uint32_t i = 0; i < s.nr; i++)
		close(s.fds[i]);
	free(s.seen);
	free(s.fds);
	close(s.own_fd);
	close(s.pod_ends_fd);
	close(fd);
	if (nr)
		return plane_fail(
			err, -EBUSY,
			"%u sockets hold bytes past TCP that their programs have not read yet; nothing is removed, so "
			"that nothing is lost: try again, or end these programs",
			nr);
	return 0;
}

int accel_pin(struct plane *p, struct buf *err)
{
	char path[PLANE_PATH_LEN];

	plane_pin_path(p->pin, ACCEL_ITER_PIN, "", "", path);
	unlink(path);
	if (p->iter_fd[PLANE_ITER_STEP_ENDS] >= 0 && bpf_obj_pin(p->iter_fd[PLANE_ITER_STEP_ENDS], path))
		return plane_fail(err, -errno, "cannot pin %s: %s", path, strerror(errno));
	return 0;
}
