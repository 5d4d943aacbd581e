/* SPDX-License-Identifier: BSD-2-Clause */
/* The version of this build: `git describe`, or VERSION of a release archive. One object knows it, so that programs agree. */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#include "base/str.h"

extern const struct str tulle_version; /* static, NUL-terminated */

#endif
