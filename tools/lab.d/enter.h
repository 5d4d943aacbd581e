/* SPDX-License-Identifier: BSD-2-Clause */
/* How a process of the lab gets into a pod: cgroup first, so that whatever it makes later is already counted there, then netns. */
#ifndef LAB_ENTER_H
#define LAB_ENTER_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

/* Moves the calling process into the cgroup2 directory `dir`. Ends the process when it cannot. */
static inline void enter_cgroup(const char *dir)
{
	char path[4200];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		err(125, "%s", path);
	close(fd);
}

/* Joins the network namespace at `path`; only the network changes, files and /proc stay shared. */
static inline void enter_netns(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err(125, "%s", path);
	close(fd);
}

#endif
