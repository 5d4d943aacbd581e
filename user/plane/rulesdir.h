/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rules directory as it is on disk: which files there are below it, and what was read of them. Names that begin with '.' are
 * not looked at; symbolic links are followed, so that a mounted ConfigMap (files -> ..data/ -> ..<timestamp>/) reads as one
 * set of files that changes at once.
 */
#ifndef PLANE_RULESDIR_H
#define PLANE_RULESDIR_H

#include <sys/stat.h>
#include <time.h>

#include "config/model.h"

#define RULES_FILES_MAX 100000
#define RULES_FILE_MAX (256u << 20)

/* What must be equal for a file to count as unchanged. */
struct file_id {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

struct rules_file {
	char *path; /* owned: directory and all, as diags name it */
	struct file_id id;
	bool racy;	   /* written so shortly before it was read that an equal id proves nothing */
	struct doc **docs; /* owned, with references; in the order of the file */
	uint32_t doc_nr;
};

struct rules_files {
	struct rules_file *v; /* sorted by path */
	uint32_t nr, cap;
};

void rules_files_release(struct rules_files *f);

enum walk_what { WALK_DIR, WALK_FILE };

/* Called for the directory itself, each directory below it and each rules file (*.yaml, *.yml, *.json); link: the last part of
 * the path is a symbolic link. False stops the walk. */
typedef bool (*walk_fn)(void *data, enum walk_what what, const char *path, bool link, const struct stat *st);
/* 0; -errno of the first thing that is there and cannot be read; -E2BIG: fn stopped the walk. What vanishes meanwhile is left out. */
int rules_walk(const char *dir, walk_fn fn, void *data);

/* The files there are, without documents. 0, -errno, -E2BIG: more than RULES_FILES_MAX. */
int rules_files_scan(const char *dir, struct rules_files *ret);
/* Equal ids, and the id can be trusted. */
bool rules_file_same(const struct rules_file *a, const struct rules_file *b);
/* Reads the text of one file and brings f->id and f->racy up to it. 0 or -errno; -EFBIG: over RULES_FILE_MAX. */
int rules_file_read(struct rules_file *f, struct buf *ret);

#endif
