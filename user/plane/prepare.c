/* SPDX-License-Identifier: BSD-2-Clause */
/* Directories before the start: see prepare.h. Removes nothing. */
#include "plane/prepare.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/log.h"

#define BPFFS "/sys/fs/bpf"

/* mkdir -p. `path` is changed while it runs. */
static int make_dirs(char *path, mode_t mode)
{
	for (char *at = path + 1;; at++) {
		char c = *at;

		if (c && c != '/')
			continue;
		*at = 0;
		if (!mkdir(path, mode))
			log_info("made directory path=%s", path);
		else if (errno != EEXIST)
			return -errno;
		*at = c;
		if (!c)
			return 0;
	}
}

/* The directory `path`, or with `parent` the one it lies in. */
static int make_dir(const char *path, bool parent, mode_t mode, struct buf *err)
{
	char dir[PATH_MAX];
	int rc;

	if (snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir))
		return -ENAMETOOLONG;
	if (parent)
		*strrchr(dir, '/') = 0;
	if (!dir[0])
		return 0;
	rc = make_dirs(dir, mode);
	if (rc)
		buf_printf(err, "cannot make directory %s: %s", dir, strerror(-rc));
	return rc;
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return !statfs(path, &fs) && fs.f_type == BPF_FS_MAGIC;
}

int prepare(const struct settings *s, struct buf *err)
{
	int rc;

	if (!strncmp(s->pin, BPFFS "/", sizeof(BPFFS)) && !is_bpffs(BPFFS)) {
		if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700")) {
			rc = -errno;
			buf_printf(err, "cannot mount a BPF file system at " BPFFS ": %s", strerror(-rc));
			return rc;
		}
		log_info("mounted a BPF file system path=" BPFFS);
	}
	rc = make_dir(s->pin, true, 0755, err);
	if (!rc)
		rc = make_dir(s->state, false, 0700, err);
	return rc ? rc : make_dir(s->socket, true, 0755, err);
}
