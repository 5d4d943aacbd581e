/* SPDX-License-Identifier: BSD-2-Clause */
/* meshl7 itself in place of its workers: started and told what to do as meshd does it. Whatever goes wrong ends the program with a message. */
#ifndef TESTS_L7_PROCESS_H
#define TESTS_L7_PROCESS_H

#include "base/str.h"
#include "mesh_stats.h"

struct process {
	int link, pidfd;
	struct mesh_l7_stats *stats;
};

/* It serves by these rules when this returns. */
void process_start(struct process *p, const char *path, const int *listeners, uint32_t nr, struct str rules);
/* false: they are refused, and the reason is printed. */
bool process_rules(struct process *p, struct str rules);
void process_drain(struct process *p, uint32_t ms);
/* Ends it at once; its exit status, or 128 and the signal that it died of. */
int process_end(struct process *p);

#endif
