/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Says when the rules directory has changed and come to rest. It does not read rules; a call too many costs a scan, a call too few
 * would leave old rules live, so whatever cannot be watched is asked again on a timer.
 */
#ifndef PLANE_WATCH_H
#define PLANE_WATCH_H

#include "base/loop.h"

struct watch;

/* Watches `dir` (which may not exist yet) and everything below it; fn is called after each change, never from within watch_new(). NULL
 * with errno. */
struct watch *watch_new(struct loop *l, const char *dir, loop_fn fn, void *data);
void watch_free(struct watch *w); /* NULL is fine */

#endif
