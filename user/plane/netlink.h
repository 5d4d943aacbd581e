/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions to rtnetlink that are answered by a list. */
#ifndef PLANE_NETLINK_H
#define PLANE_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>

#include "base/addr.h"

typedef void (*netlink_fn)(void *data, const struct nlmsghdr *h);

/* Asks `sock` with a message of that type and body, and calls fn for each message of the answer. 0 or -errno. */
int netlink_dump(int sock, uint16_t type, const void *body, size_t len, netlink_fn fn, void *data);
/* The attribute of that type, or NULL. */
const struct rtattr *netlink_attr(const struct rtattr *first, size_t len, uint16_t type);
/* A number of 32 bits in the attribute of that type; 0: there is none. */
uint32_t netlink_u32(const struct rtattr *first, size_t len, uint16_t type);
/* The own address that an RTM_NEWADDR tells of; false: none of IPv4 or IPv6. */
bool netlink_addr(const struct nlmsghdr *h, struct addr *ret);

#endif
