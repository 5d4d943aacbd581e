/* SPDX-License-Identifier: BSD-2-Clause */
/* The only file that the Makefile compiles with TULLE_VERSION, anew whenever that changes. */
#include "base/version.h"

const struct str tulle_version = STR(TULLE_VERSION);
