/* SPDX-License-Identifier: BSD-2-Clause */
/* What meshd answers: one function a request of the control socket (base/wire.h). Text in, text out; no sockets. */
#ifndef PLANE_VERBS_H
#define PLANE_VERBS_H

#include "base/wire.h"
#include "plane/parser.h"
#include "plane/plane.h"
#include "plane/rules.h"

struct verbs {
	const struct settings *settings; /* all borrowed */
	struct plane *plane;
	struct rules *rules;
	struct parser *parser; /* NULL: there is none */
	uint64_t started_ms;   /* CLOCK_MONOTONIC */
};

/* Takes any bytes for a body; `reply` is empty and gets a whole frame. A control_fn (plane/control.h), with a struct verbs. */
void verbs_answer(void *data, const struct wire_header *h, struct str body, struct buf *reply);

#endif
