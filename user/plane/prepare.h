/* SPDX-License-Identifier: BSD-2-Clause */
/* The directories that meshd needs, made where they are missing. */
#ifndef PLANE_PREPARE_H
#define PLANE_PREPARE_H

#include "base/str.h"
#include "plane/settings.h"

/* Makes the parent directories of the socket and the pins, the state directory, and mounts a BPF file system at /sys/fs/bpf where the pins
 * belong there and none is mounted; each is logged. 0 or -errno with a sentence in err. */
int prepare(const struct settings *s, struct buf *err);

#endif
