/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The census of programs: what a pod runs whose sockets are about to be accelerated, and whether that could take their bytes with
 * splice(), which sees nothing of what went past TCP. The kernel asks by a row without an answer (bpf/census.bpf.h), once for each program
 * of a pod; the answer holds as long as the pod does. Files of pods are theirs: they are read, never run, and none is waited for that a
 * program of the pod itself may have to serve.
 */
#include "plane/census.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "config/explain.h"
#include "plane/imports.h"
#include "plane/plane_int.h"

#define FILES_MAX 4096
#define PROC_TEXT_MAX (4u << 20)
#define CLOCK_NS (1000000000ull / 100) /* of a tick as /proc has them */
#define TEXT_LEN 160

/* A file that has been read, as it was then. */
struct census_file {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime;
	enum imports imports;
	const char *name;
};

struct census_program {
	struct mesh_exe_key key;
	uint32_t verdict; /* enum mesh_census */
	char name[64], evidence[TEXT_LEN];
};

struct census {
	struct ring_buffer *asks;
	struct census_file *files;
	struct census_program *programs;
	uint32_t file_nr, file_cap, program_nr, program_cap;
};

/* ---- one process ---- */

static int proc_open(uint32_t pid, const char *what)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, what);
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

static bool proc_text(uint32_t pid, const char *what, struct buf *ret)
{
	int fd = proc_open(pid, what);
	char chunk[4096];
	ssize_t n = -1;

	ret->len = 0;
	while (fd >= 0 && ret->len < PROC_TEXT_MAX && (n = read(fd, chunk, sizeof(chunk))) > 0)
		buf_add(ret, chunk, (size_t)n);
	if (fd >= 0)
		close(fd);
	buf_add(ret, "", 1);
	return !n;
}

/* It is still the one that the kernel asked about: a number of a process is used again. */
static bool same_process(uint32_t pid, uint64_t started_ns)
{
	struct buf text = { 0 };
	unsigned long long ticks = 0;
	bool same = false;
	const char *at;

	/* The 22nd word; the second, in brackets, may hold any bytes. */
	if (proc_text(pid, "stat", &text) && (at = strrchr(text.data, ')')))
		same = sscanf(at + 1,
			      " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
			      &ticks) == 1 &&
		       ticks == started_ns / CLOCK_NS;
	buf_release(&text);
	return same;
}

/* Whether the device is a file system that the process has mounted, and that no program serves. */
static bool served_by_kernel(const char *mounts, const char *device)
{
	char start[32];

	snprintf(start, sizeof(start), " %s ", device);
	for (const char *line = mounts; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		const char *end = strchrnul(line, '\n'), *at = strstr(line, start), *type;

		if (!at || at > end)
			continue;
		type = strstr(at, " - ");
		return type && type < end && strncmp(type + 3, "fuse", 4) != 0;
	}
	return false;
}

static enum imports file_imports(struct census *c, int fd, bool library, const char **ret_name)
{
	struct census_file f;
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		*ret_name = "no file that can be read";
		return IMPORTS_UNKNOWN;
	}
	for (uint32_t i = 0; i < c->file_nr; i++) {
		const struct census_file *o = &c->files[i];

		if (o->dev == st.st_dev && o->ino == st.st_ino && o->size == st.st_size &&
		    o->mtime.tv_sec == st.st_mtim.tv_sec && o->mtime.tv_nsec == st.st_mtim.tv_nsec) {
			*ret_name = o->name;
			return o->imports;
		}
	}
	f = (struct census_file){ .dev = st.st_dev, .ino = st.st_ino, .size = st.st_size, .mtime = st.st_mtim };
	f.imports = imports_of(fd, library, &f.name);
	if (c->file_nr == FILES_MAX)
		c->file_nr = 0;
	c->files = plane_grow(c->files, c->file_nr, &c->file_cap, sizeof(*c->files));
	c->files[c->file_nr++] = f;
	*ret_name = f.name;
	return f.imports;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Judges one file that the process runs code of. False: it speaks against the program; one->evidence says how. */
static bool judge_file(struct census *c, uint32_t pid, const char *link, bool library, const char *name,
		       struct census_program *one)
{
	int fd = proc_open(pid, link);
	const char *what = strerror(errno);
	enum imports imports = IMPORTS_UNKNOWN;

	if (fd >= 0) {
		imports = file_imports(c, fd, library, &what);
		close(fd);
	}
	if (imports == IMPORTS_NONE)
		return true;
	snprintf(one->evidence, sizeof(one->evidence), imports == IMPORTS_SPLICE ? "%.80s uses %s" : "%.80s: %s", name,
		 what);
	return false;
}

static bool judge_maps(struct census *c, uint32_t pid, char *maps, const char *mounts, struct census_program *one)
{
	char *rest = NULL, mode[8], device[24], link[64];
	bool first = true;

	for (char *line = strtok_r(maps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		unsigned long long start, end, ino;
		unsigned int major_nr, minor_nr;
		int path = 0;

		if (sscanf(line, "%llx-%llx %7s %*x %x:%x %llu %n", &start, &end, mode, &major_nr, &minor_nr, &ino,
			   &path) < 6 ||
		    mode[2] != 'x' || !ino)
			continue;
		snprintf(device, sizeof(device), "%u:%u", major_nr, minor_nr); /* as mountinfo has it */
		if (!served_by_kernel(mounts, device)) {
			snprintf(one->evidence, sizeof(one->evidence), "%.80s is on no file system of the kernel's",
				 base_name(line + path));
			return false;
		}
		if (first && !judge_file(c, pid, "exe", false, one->name, one))
			return false;
		first = false;
		snprintf(link, sizeof(link), "map_files/%llx-%llx", start, end);
		if (strcmp(base_name(line + path), one->name) != 0 &&
		    !judge_file(c, pid, link, true, base_name(line + path), one))
			return false;
	}
	return !first;
}

/* Looks at the process that runs the program. False: it is gone, and the next one will be asked about. */
static bool look(struct census *c, const struct mesh_ask *ask, struct census_program *one)
{
	struct buf maps = { 0 }, mounts = { 0 };
	char path[64], exe[4096];
	ssize_t n;
	bool fine, same;

	snprintf(path, sizeof(path), "/proc/%u/exe", ask->pid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = 0;
	snprintf(one->name, sizeof(one->name), "%.60s", base_name(exe));
	snprintf(one->evidence, sizeof(one->evidence), "its files cannot be read");
	fine = proc_text(ask->pid, "maps", &maps) && proc_text(ask->pid, "mountinfo", &mounts) &&
	       judge_maps(c, ask->pid, maps.data, mounts.data, one);
	if (fine)
		snprintf(one->evidence, sizeof(one->evidence), "neither it nor its libraries use splice()");
	one->verdict = fine ? MESH_CENSUS_CLEAR : MESH_CENSUS_SPLICES;
	same = n > 0 && same_process(ask->pid, ask->started_ns);
	buf_release(&maps);
	buf_release(&mounts);
	return same;
}

/* ---- what the kernel asks ---- */

static int on_ask(void *data, void *record, size_t len)
{
	struct plane *p = data;
	struct census *c = p->census;
	struct census_program one;
	struct mesh_ask ask;

	if (len < sizeof(ask))
		return 0;
	memcpy(&ask, record, sizeof(ask));
	one = (struct census_program){ .key = ask.key };
	if (!look(c, &ask, &one)) {
		bpf_map_delete_elem(p->map_fd[PLANE_MAP_EXES], &ask.key);
		return 0;
	}
	if (bpf_map_update_elem(p->map_fd[PLANE_MAP_EXES], &ask.key, &one.verdict, BPF_EXIST))
		return 0;
	log_debug("looked at a program name=%s evidence=%s", one.name, one.evidence);
	c->programs = plane_grow(c->programs, c->program_nr, &c->program_cap, sizeof(*c->programs));
	c->programs[c->program_nr++] = one;
	return 0;
}

static void forget_all(int fd)
{
	struct mesh_exe_key key;

	while (!bpf_map_get_next_key(fd, NULL, &key) && !bpf_map_delete_elem(fd, &key))
		;
}

int census_init(struct plane *p)
{
	struct epoll_event e = { .events = EPOLLIN };

	p->census = xcalloc(1, sizeof(*p->census));
	forget_all(p->map_fd[PLANE_MAP_EXES]);
	p->census->asks = ring_buffer__new(p->map_fd[PLANE_MAP_ASKS], on_ask, p, NULL);
	if (!p->census->asks)
		return -errno;
	e.data.fd = ring_buffer__epoll_fd(p->census->asks);
	return epoll_ctl(p->pods.poll_fd, EPOLL_CTL_ADD, e.data.fd, &e) ? -errno : 0;
}

void census_release(struct plane *p)
{
	if (!p->census)
		return;
	ring_buffer__free(p->census->asks);
	free(p->census->files);
	free(p->census->programs);
	free(p->census);
}

void census_event(struct plane *p)
{
	if (p->census)
		ring_buffer__consume(p->census->asks);
}

void census_forget(struct plane *p)
{
	struct census *c = p->census;
	uint32_t kept = 0, slot;

	for (uint32_t i = 0; c && i < c->program_nr; i++) {
		if (!bpf_map_lookup_elem(p->map_fd[PLANE_MAP_NETNS], &c->programs[i].key.netns_cookie, &slot))
			c->programs[kept++] = c->programs[i];
		else
			bpf_map_delete_elem(p->map_fd[PLANE_MAP_EXES], &c->programs[i].key);
	}
	if (c)
		c->program_nr = kept;
}

void census_json(struct json *j, const struct plane *p, uint64_t netns_cookie)
{
	const struct census *c = p->census;

	json_array(j);
	for (uint32_t i = 0; c && i < c->program_nr; i++) {
		const struct census_program *one = &c->programs[i];

		if (one->key.netns_cookie != netns_cookie)
			continue;
		json_object(j);
		json_kstr(j, "program", str_of(one->name));
		json_kbool(j, "splices", one->verdict == MESH_CENSUS_SPLICES);
		json_kstr(j, "evidence", str_of(one->evidence));
		json_object_end(j);
	}
	json_array_end(j);
}

void census_count(const struct plane *p, uint64_t netns_cookie, struct explain_pod *ret)
{
	const struct census *c = p->census;

	for (uint32_t i = 0; c && i < c->program_nr; i++) {
		const struct census_program *one = &c->programs[i];

		if (one->key.netns_cookie != netns_cookie)
			continue;
		ret->programs++;
		if (one->verdict != MESH_CENSUS_SPLICES)
			continue;
		ret->splices++;
		snprintf(ret->splicer, sizeof(ret->splicer), "%s: %s", one->name, one->evidence);
	}
}
