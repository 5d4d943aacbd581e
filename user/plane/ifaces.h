/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside of user/plane: the interfaces that the tc programs are at, and the node's own addresses. ifaces.c puts programs on and takes
 * them off, nodelinks.c says which links and addresses are the node's.
 */
#ifndef PLANE_IFACES_H
#define PLANE_IFACES_H

#include "mesh_abi.h"
#include "plane/plane.h"
#include "plane/tc.h"

/* An interface that is in mesh_ifaces. */
struct iface {
	uint32_t ifindex;
	struct mesh_iface row;
	enum tc_how how;
	bool wanted; /* in the look that is going on */
};

struct ifaces {
	struct iface *items;
	uint32_t nr, cap;
	enum tc_how how;	  /* TC_NONE: whatever the kernel has */
	struct mesh_addr *locals; /* what mesh_locals holds, sorted */
	uint32_t local_nr;
	char *node_links; /* setting node-interfaces, owned */
	int event_fd;	  /* rtnetlink: links, addresses, routes, queues and filters */
	bool pods_due;	  /* pods or their links changed since programs were last put on */
};

struct snapshot;

/* ---- ifaces.c ---- */
/* Takes over what an earlier meshd attached, with this one's programs, and attaches to the node's links. 0 or -errno. */
int ifaces_init(struct plane *p, struct buf *err);
void ifaces_release(struct plane *p);
/* Puts programs on the links of the pods that `s` enrolls. What fails is logged, left out, and tried again with the next scan. */
void ifaces_pods(struct plane *p, const struct snapshot *s);
/* Takes programs off links whose pods are not enrolled any more. */
void ifaces_prune(struct plane *p);
/* Marks the interface as wanted and brings it in line. */
void iface_want(struct plane *p, uint32_t ifindex, const struct mesh_iface *row);
/* Starts and ends a look at all interfaces of a kind: those not wanted in between go. */
void ifaces_begin(struct plane *p, enum mesh_iface_kind kind);
void ifaces_end(struct plane *p, enum mesh_iface_kind kind);
/* The interface does not exist any more. */
void iface_gone(struct plane *p, uint32_t ifindex);
/* Programs or queues at the interface may be others than before. */
void iface_company(struct plane *p, uint32_t ifindex);
struct iface *iface_find(struct plane *p, uint32_t ifindex);
/* The interface that the pod of this namespace is at; 0: none is known. */
uint32_t iface_of(const struct plane *p, uint64_t netns_cookie);
/* Takes every program off that pins tell of. */
void ifaces_remove(const char *pin);

/* ---- ifaces_status.c ---- */
struct json;
/* Members of the status object. */
void ifaces_json(struct json *j, struct plane *p);

/* ---- nodelinks.c ---- */
int nodelinks_init(struct plane *p); /* 0 or -errno */
/* Looks at the node's links and addresses again. 0 or -errno. */
int nodelinks_sync(struct plane *p);
/* Drains event_fd and follows what it says; true: pods must be looked at again. */
bool nodelinks_event(struct plane *p);

#endif
