/* SPDX-License-Identifier: BSD-2-Clause */
/* What -f names: files, directories with everything below them, standard input. Each is read once. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/yaml.h"
#include "meshctl.h"

#define DEPTH_MAX 64 /* of directories below a path */

static int read_all(int fd, const char *name, struct buf *ret)
{
	char chunk[1 << 16];
	ssize_t n;

	for (;;) {
		n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return usage_error("%s: %m", name);
		if (!n)
			return EXIT_DONE;
		buf_add(ret, chunk, (size_t)n);
		if (ret->len > YAML_TEXT_MAX)
			return usage_error("%s: larger than %u MiB", name, YAML_TEXT_MAX >> 20);
	}
}

/* fd is taken over. */
static int add_file(struct inputs *in, const char *name, int fd)
{
	struct input *i;
	int rc;

	if (in->nr == in->cap) {
		in->cap = in->cap ? in->cap * 2 : 16;
		in->v = xrealloc(in->v, in->cap * sizeof(*in->v));
	}
	i = &in->v[in->nr++];
	*i = (struct input){ .name = arena_str(&in->arena, str_of(name)) };
	rc = read_all(fd, name, &i->text);
	if (fd != STDIN_FILENO)
		close(fd);
	return rc;
}

static bool has_rules_suffix(struct str name)
{
	return str_ends(name, STR(".yaml")) || str_ends(name, STR(".yml")) || str_ends(name, STR(".json"));
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a directory that count, sorted; hidden ones do not (editors' and ConfigMap volumes' own). An exit code. */
static int list_names(struct arena *arena, const char *path, char ***ret, size_t *ret_nr)
{
	char **names = NULL;
	size_t nr = 0, cap = 0;
	struct dirent *e;
	DIR *d;

	d = opendir(path);
	if (!d)
		return usage_error("%s: %m", path);
	while ((errno = 0, e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (nr == cap) {
			cap = cap ? cap * 2 : 16;
			names = xrealloc(names, cap * sizeof(*names));
		}
		names[nr++] = (char *)arena_str(arena, str_of(e->d_name)).p;
	}
	if (errno) {
		int rc = usage_error("%s: %m", path);

		closedir(d);
		free(names);
		return rc;
	}
	closedir(d);
	if (nr)
		qsort(names, nr, sizeof(*names), by_name);
	*ret = names;
	*ret_nr = nr;
	return EXIT_DONE;
}

/* Links to files are followed, links to directories are not: they could lead in circles. */
static int add_directory(struct inputs *in, const char *path, int depth)
{
	struct str dir = str_of(path);
	char **names = NULL;
	size_t nr = 0;
	int rc;

	if (depth > DEPTH_MAX)
		return usage_error("%s: more than %d directories deep", path, DEPTH_MAX);
	while (dir.len > 1 && dir.p[dir.len - 1] == '/')
		dir.len--;
	rc = list_names(&in->arena, path, &names, &nr);
	for (size_t i = 0; !rc && i < nr; i++) {
		const char *sub =
			arena_printf(&in->arena, "%.*s%s%s", STR_ARG(dir), str_is(dir, "/") ? "" : "/", names[i]).p;
		struct stat st;
		int fd;

		if (lstat(sub, &st)) {
			rc = usage_error("%s: %m", sub);
		} else if (S_ISDIR(st.st_mode)) {
			rc = add_directory(in, sub, depth + 1);
		} else if (has_rules_suffix(str_of(sub)) && S_ISLNK(st.st_mode) && stat(sub, &st)) {
			/* Rules that somebody means to be there. */
			rc = usage_error("%s: %m", sub);
		} else if (has_rules_suffix(str_of(sub)) && S_ISREG(st.st_mode)) {
			fd = open(sub, O_RDONLY | O_CLOEXEC);
			rc = fd < 0 ? usage_error("%s: %m", sub) : add_file(in, sub, fd);
		}
	}
	free(names);
	return rc;
}

static int add_path(struct inputs *in, const char *path, bool *stdin_taken)
{
	uint32_t before = in->nr;
	struct stat st;
	int fd, rc;

	if (!strcmp(path, "-")) {
		if (*stdin_taken)
			return usage_error("standard input (-) can be read only once");
		*stdin_taken = true;
		return add_file(in, path, STDIN_FILENO);
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return usage_error("%s: %m", path);
	if (fstat(fd, &st) || !S_ISDIR(st.st_mode))
		return add_file(in, path, fd);
	close(fd);
	rc = add_directory(in, path, 0);
	if (!rc && in->nr == before)
		return usage_error("%s: no file named *.yaml, *.yml or *.json below it", path);
	return rc;
}

int inputs_read(struct inputs *in, const struct args *a)
{
	bool stdin_taken = false;
	int rc = EXIT_DONE;

	if (!a->path_nr)
		return usage_error("no rules given: -f FILE, -f DIRECTORY or -f -");
	for (uint32_t i = 0; !rc && i < a->path_nr; i++)
		rc = add_path(in, a->paths[i], &stdin_taken);
	return rc;
}

void inputs_release(struct inputs *in)
{
	for (uint32_t i = 0; i < in->nr; i++)
		buf_release(&in->v[i].text);
	free(in->v);
	arena_release(&in->arena);
	*in = (struct inputs){ 0 };
}
