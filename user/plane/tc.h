/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs at interfaces of the calling thread's network namespace: tcx links where the kernel has them (6.6), filters of a clsact
 * qdisc otherwise. What is there is told by pins, so that a later meshd finds it, and nothing of others is touched:
 *   link_<program>_<ifindex>     the link
 *   filter_<program>_<ifindex>   the program that a filter runs
 *   qdisc_<ifindex>              any program: the qdisc is our own
 */
#ifndef PLANE_TC_H
#define PLANE_TC_H

#include <stdbool.h>
#include <stdint.h>

enum tc_how { TC_NONE, TC_TCX, TC_CLSACT };

struct tc_place {
	const char *pin;  /* directory */
	const char *name; /* of the program, which says the direction too */
	uint32_t ifindex;
	bool egress;
};

/*
 * Puts a program there, or in place of the one that an earlier call put there. `how`: TC_NONE chooses. 0 or -errno: -ENODEV there is
 * no such interface, -EEXIST somebody else's filter has our priority and handle.
 */
int tc_attach(const struct tc_place *at, int prog_fd, enum tc_how how, enum tc_how *ret_how);
/* Takes off what tc_attach put there, and its pins. Nothing there, or no interface, is fine. */
void tc_detach(const struct tc_place *at);
/* After the last tc_detach of an interface: removes the qdisc that tc_attach made, unless others have filters in it by now. */
void tc_release(const char *pin, uint32_t ifindex);
/* "link_" or "filter_" <program>_<ifindex>, also with "_new" behind it: the index, and the length of "<program>" with its start. */
bool tc_pin_parse(const char *file, const char **ret_name, uint32_t *ret_name_len, uint32_t *ret_ifindex);

/* Calls fn for each program of that direction, whoever put it there. 0 or -errno. */
typedef void (*tc_prog_fn)(void *data, enum tc_how how, uint32_t prog_id);
int tc_list(uint32_t ifindex, bool egress, tc_prog_fn fn, void *data);

/* The interface has a queue discipline that may hold packets back, or drop them. */
bool tc_queues(uint32_t ifindex);

#endif
