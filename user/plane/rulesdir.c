/* SPDX-License-Identifier: BSD-2-Clause */
/* Finding and reading the files of the rules directory: see rulesdir.h. Knows nothing of what they say. */
#include "plane/rulesdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"

#define DEPTH_MAX 16
/* Coarser than the time stamps of any file system that rules are kept on. */
#define RACY_NS 50000000ll

void rules_files_release(struct rules_files *f)
{
	for (uint32_t i = 0; i < f->nr; i++) {
		for (uint32_t k = 0; k < f->v[i].doc_nr; k++)
			doc_unref(f->v[i].docs[k]);
		free(f->v[i].docs);
		free(f->v[i].path);
	}
	free(f->v);
	*f = (struct rules_files){ 0 };
}

struct walk {
	walk_fn fn;
	void *data;
	struct {
		dev_t dev;
		ino_t ino;
	} above[DEPTH_MAX]; /* directories that lead here: a link back to one of them ends there */
	bool stopped;
	int rc; /* the first thing that is there and cannot be read */
};

static bool is_rules_name(const char *name)
{
	struct str s = str_of(name);

	return str_ends(s, STR(".yaml")) || str_ends(s, STR(".yml")) || str_ends(s, STR(".json"));
}

static int walk_dir(struct walk *w, const char *path, bool link, unsigned int depth);

static void walk_entry(struct walk *w, const char *dir, const char *name, unsigned int depth)
{
	struct stat st, own;
	struct buf b = { 0 };
	const char *path;
	int rc = 0;

	if (name[0] == '.')
		return;
	buf_printf(&b, "%s/%s", dir, name);
	path = b.data;
	if (lstat(path, &own) || stat(path, &st))
		rc = -errno;
	else if (S_ISDIR(st.st_mode))
		rc = walk_dir(w, path, S_ISLNK(own.st_mode), depth + 1);
	else if (S_ISREG(st.st_mode) && is_rules_name(name))
		w->stopped |= !w->fn(w->data, WALK_FILE, path, S_ISLNK(own.st_mode), &st);
	if (rc && rc != -ENOENT && !w->rc)
		w->rc = rc;
	buf_release(&b);
}

static int walk_dir(struct walk *w, const char *path, bool link, unsigned int depth)
{
	struct dirent *entry;
	struct stat st;
	DIR *d;

	if (depth >= DEPTH_MAX)
		return -ELOOP;
	d = opendir(path);
	if (!d || fstat(dirfd(d), &st)) {
		int rc = -errno;

		if (d)
			closedir(d);
		return rc;
	}
	for (unsigned int i = 0; i < depth; i++) {
		if (w->above[i].dev != st.st_dev || w->above[i].ino != st.st_ino)
			continue;
		closedir(d);
		return 0;
	}
	w->above[depth].dev = st.st_dev;
	w->above[depth].ino = st.st_ino;
	w->stopped |= !w->fn(w->data, WALK_DIR, path, link, &st);
	while (!w->stopped && (entry = readdir(d)))
		walk_entry(w, path, entry->d_name, depth);
	closedir(d);
	return 0;
}

int rules_walk(const char *dir, walk_fn fn, void *data)
{
	struct walk w = { .fn = fn, .data = data };
	int rc = walk_dir(&w, dir, false, 0);

	if (!rc)
		rc = w.rc;
	return rc ? rc : w.stopped ? -E2BIG : 0;
}

static struct file_id id_of(const struct stat *st)
{
	return (struct file_id){ st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim };
}

static bool scan_file(void *data, enum walk_what what, const char *path, bool link, const struct stat *st)
{
	struct rules_files *f = data;

	if (what != WALK_FILE)
		return true;
	if (f->nr == RULES_FILES_MAX)
		return false;
	if (f->nr == f->cap) {
		f->cap = f->cap ? f->cap * 2 : 16;
		f->v = xrealloc(f->v, f->cap * sizeof(*f->v));
	}
	f->v[f->nr++] = (struct rules_file){ .path = xstrdup(path), .id = id_of(st) };
	return true;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct rules_file *)a)->path, ((const struct rules_file *)b)->path);
}

int rules_files_scan(const char *dir, struct rules_files *ret)
{
	int rc;

	*ret = (struct rules_files){ 0 };
	rc = rules_walk(dir, scan_file, ret);
	if (rc) {
		rules_files_release(ret);
		return rc;
	}
	if (ret->nr)
		qsort(ret->v, ret->nr, sizeof(*ret->v), by_path);
	return 0;
}

static bool time_same(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool rules_file_same(const struct rules_file *a, const struct rules_file *b)
{
	return !a->racy && !b->racy && a->id.dev == b->id.dev && a->id.ino == b->id.ino && a->id.size == b->id.size &&
	       time_same(&a->id.mtime, &b->id.mtime) && time_same(&a->id.ctime, &b->id.ctime);
}

/* Read, not mapped: a file that somebody shortens meanwhile must not end the daemon with SIGBUS. */
int rules_file_read(struct rules_file *f, struct buf *ret)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct timespec now;
	int64_t age_ns;
	struct stat st;
	char *chunk;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	age_ns = (now.tv_sec - st.st_ctim.tv_sec) * 1000000000ll + now.tv_nsec - st.st_ctim.tv_nsec;
	f->id = id_of(&st);
	f->racy = age_ns < RACY_NS;
	chunk = xmalloc(1u << 16);
	while ((n = read(fd, chunk, 1u << 16)) > 0 && ret->len <= RULES_FILE_MAX)
		buf_add(ret, chunk, (size_t)n);
	n = n < 0 ? -errno : ret->len > RULES_FILE_MAX ? -EFBIG : 0;
	free(chunk);
	close(fd);
	return (int)n;
}
