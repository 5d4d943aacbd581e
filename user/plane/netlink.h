/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions to rtnetlink that are answered by a list, and requests. */
#ifndef PLANE_NETLINK_H
#define PLANE_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"

typedef void (*netlink_fn)(void *data, const struct nlmsghdr *h);

/* Asks `sock` with a message of that type and body, and calls fn for each message of the answer. 0 or -errno. */
int netlink_dump(int sock, uint16_t type, const void *body, size_t len, netlink_fn fn, void *data);

/* A message in the making. What does not fit is left out, and netlink_ask() fails with -EMSGSIZE. */
struct netlink_msg {
	union {
		struct nlmsghdr h;
		char b[512];
	};
	bool full;
};
void netlink_begin(struct netlink_msg *m, uint16_t type, uint16_t flags, const void *body, size_t len);
void netlink_put(struct netlink_msg *m, uint16_t type, const void *value, size_t len);
void netlink_put_u32(struct netlink_msg *m, uint16_t type, uint32_t value);
/* An attribute that holds others, behind a header of its own; its place, for netlink_nest_end(). */
size_t netlink_nest(struct netlink_msg *m, uint16_t type, const void *header, size_t len);
void netlink_nest_end(struct netlink_msg *m, size_t at);
/* Sends it, calls fn (NULL: none) for what comes back, and waits until it is done. 0 or -errno. */
int netlink_ask(int sock, struct netlink_msg *m, netlink_fn fn, void *data);
/* Number of the link of that name. 0 or -errno. */
int netlink_link_find(int sock, const char *name, uint32_t *ret_ifindex);

/* The attribute of that type, or NULL. */
const struct rtattr *netlink_attr(const struct rtattr *first, size_t len, uint16_t type);
/* A number of 32 bits in the attribute of that type; 0: there is none. */
uint32_t netlink_u32(const struct rtattr *first, size_t len, uint16_t type);
/* The own address that an RTM_NEWADDR tells of; false: none of IPv4 or IPv6. */
bool netlink_addr(const struct nlmsghdr *h, struct addr *ret);

#endif
