/* SPDX-License-Identifier: BSD-2-Clause */
/* Two texts compared line by line, printed as a unified diff. */
#ifndef BASE_LINEDIFF_H
#define BASE_LINEDIFF_H

#include "base/str.h"

/* Appends hunks ("@@ -1,3 +1,4 @@", three lines of context) without a file header; nothing when the texts are equal. The shortest
 * edit for texts of usual size; above that, changed stretches are printed as removed and added whole. */
void linediff(struct buf *out, struct str a, struct str b, bool colour);

#endif
