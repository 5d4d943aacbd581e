/* SPDX-License-Identifier: BSD-2-Clause */
/* Facts about a network namespace that is given as an fd. Enters it for a moment; the caller's thread is always back after. */
#ifndef PLANE_NETNS_H
#define PLANE_NETNS_H

#include "base/addr.h"

struct netns_id {
	uint64_t dev, ino;
};

/* An interface in there. */
struct netns_link {
	uint32_t ifindex;
	uint32_t host; /* ifindex of its other end in the own namespace; 0: it is no such pair */
	uint8_t mac[6];
	char kind[16];		/* as the kernel calls it: "veth", "macvlan" */
	struct addr link_local; /* its IPv6 link-local address, zero: none */
};

struct netns_facts {
	uint64_t cookie;
	struct addr *addrs;   /* of all interfaces but loopback scope, owned */
	uint32_t *addr_links; /* ifindex that carries each, owned */
	uint32_t addr_nr;
	struct netns_link *links; /* owned */
	uint32_t link_nr;
};

int netns_id(int fd, struct netns_id *ret); /* 0 or -errno */
/* The namespace belongs to the user namespace {dev, ino}, so whoever made it was as privileged as we are. */
bool netns_is_ours(int fd, uint64_t userns_dev, uint64_t userns_ino);
/* own_fd: the calling thread's network namespace. 0 or -errno. Ends the process should the way back be barred. */
int netns_query(int own_fd, int fd, struct netns_facts *ret);
/* Calls fn inside of the namespace, and returns what it does, or -errno where there is no way in. fn must be short; what it starts stays in there. */
int netns_call(int own_fd, int fd, int (*fn)(void *data), void *data);
void netns_facts_release(struct netns_facts *f);

#endif
