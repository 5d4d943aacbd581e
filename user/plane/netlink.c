/* SPDX-License-Identifier: BSD-2-Clause */
/* Lists from rtnetlink, and requests to it. Knows the form of its messages, not what they are asked for. */
#include "plane/netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_MAX 32768 /* the most that the kernel puts into one answer */

/* One datagram, of ANSWER_MAX bytes at most: its length, or -errno. */
static ssize_t receive(int sock, char *buf)
{
	ssize_t got;

	do
		got = recv(sock, buf, ANSWER_MAX, MSG_TRUNC);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return got ? -errno : -EIO;
	return got > ANSWER_MAX ? -EMSGSIZE : got;
}

/* One datagram of the answer: 1 more follow, 0 it was the last, or -errno. */
static int answer(int sock, netlink_fn fn, void *data)
{
	char buf[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	ssize_t got = receive(sock, buf);
	size_t len = (size_t)got;

	if (got < 0)
		return (int)got;
	for (const struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, len);) {
		size_t step = NLMSG_ALIGN(h->nlmsg_len);

		if (h->nlmsg_type == NLMSG_DONE)
			return 0;
		if (h->nlmsg_type == NLMSG_ERROR)
			return ((const struct nlmsgerr *)NLMSG_DATA(h))->error ?: -EIO;
		fn(data, h);
		if (step >= len)
			break;
		len -= step;
		h = (const struct nlmsghdr *)((const char *)h + step);
	}
	return 1;
}

int netlink_dump(int sock, uint16_t type, const void *body, size_t len, netlink_fn fn, void *data)
{
	struct {
		struct nlmsghdr h;
		char body[64];
	} ask = { .h = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(len),
			 .nlmsg_type = type,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
	int rc;

	memcpy(ask.body, body, len);
	if (send(sock, &ask, ask.h.nlmsg_len, 0) < 0)
		return -errno;
	do
		rc = answer(sock, fn, data);
	while (rc > 0);
	return rc;
}

void netlink_begin(struct netlink_msg *m, uint16_t type, uint16_t flags, const void *body, size_t len)
{
	memset(m, 0, sizeof(*m));
	m->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(len);
	m->h.nlmsg_type = type;
	m->h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	memcpy(NLMSG_DATA(&m->h), body, len);
}

void netlink_put(struct netlink_msg *m, uint16_t type, const void *value, size_t len)
{
	size_t at = NLMSG_ALIGN(m->h.nlmsg_len);
	struct rtattr *a = (struct rtattr *)(m->b + at);

	if (at + RTA_SPACE(len) > sizeof(m->b)) {
		m->full = true;
		return;
	}
	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	if (len)
		memcpy((char *)m + at + RTA_LENGTH(0), value, len);
	m->h.nlmsg_len = (uint32_t)(at + RTA_LENGTH(len));
}

void netlink_put_u32(struct netlink_msg *m, uint16_t type, uint32_t value)
{
	netlink_put(m, type, &value, sizeof(value));
}

size_t netlink_nest(struct netlink_msg *m, uint16_t type, const void *header, size_t len)
{
	size_t at = NLMSG_ALIGN(m->h.nlmsg_len);

	netlink_put(m, type | NLA_F_NESTED, header, len);
	return at;
}

void netlink_nest_end(struct netlink_msg *m, size_t at)
{
	struct rtattr *a = (struct rtattr *)(m->b + at);

	if (!m->full)
		a->rta_len = (uint16_t)(m->h.nlmsg_len - at);
}

/* One datagram of what comes back: 1 more follow, else what the acknowledgement says. */
static int reply(int sock, netlink_fn fn, void *data)
{
	char buf[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	int len = (int)receive(sock, buf);

	if (len < 0)
		return len;
	for (const struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, (uint32_t)len); h = NLMSG_NEXT(h, len)) {
		if (h->nlmsg_type == NLMSG_ERROR)
			return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
		if (fn)
			fn(data, h);
	}
	return 1;
}

int netlink_ask(int sock, struct netlink_msg *m, netlink_fn fn, void *data)
{
	int rc;

	if (m->full)
		return -EMSGSIZE;
	if (send(sock, m, m->h.nlmsg_len, 0) < 0)
		return -errno;
	do
		rc = reply(sock, fn, data);
	while (rc > 0);
	return rc;
}

static void link_number(void *data, const struct nlmsghdr *h)
{
	if (h->nlmsg_type == RTM_NEWLINK)
		*(uint32_t *)data = (uint32_t)((const struct ifinfomsg *)NLMSG_DATA(h))->ifi_index;
}

int netlink_link_find(int sock, const char *name, uint32_t *ret_ifindex)
{
	const struct ifinfomsg any = { 0 };
	struct netlink_msg m;
	uint32_t found = 0;
	int rc;

	netlink_begin(&m, RTM_GETLINK, 0, &any, sizeof(any));
	netlink_put(&m, IFLA_IFNAME, name, strlen(name) + 1);
	rc = netlink_ask(sock, &m, link_number, &found);
	if (rc)
		return rc;
	*ret_ifindex = found;
	return found ? 0 : -ENODEV;
}

const struct rtattr *netlink_attr(const struct rtattr *first, size_t len, uint16_t type)
{
	for (const struct rtattr *a = first; RTA_OK(a, len); a = RTA_NEXT(a, len))
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	return NULL;
}

uint32_t netlink_u32(const struct rtattr *first, size_t len, uint16_t type)
{
	const struct rtattr *a = netlink_attr(first, len, type);
	uint32_t n = 0;

	if (a && RTA_PAYLOAD(a) == sizeof(n))
		memcpy(&n, RTA_DATA(a), sizeof(n));
	return n;
}

/* IFA_LOCAL is the own address of an IPv4 interface; IPv6 has it in IFA_ADDRESS unless it is a peer's. */
bool netlink_addr(const struct nlmsghdr *h, struct addr *ret)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	size_t want = m->ifa_family == AF_INET ? 4 : 16, len = IFA_PAYLOAD(h);
	const struct rtattr *a = netlink_attr(IFA_RTA(m), len, IFA_LOCAL);

	if (m->ifa_family != AF_INET && m->ifa_family != AF_INET6)
		return false;
	if (!a)
		a = netlink_attr(IFA_RTA(m), len, IFA_ADDRESS);
	if (!a || RTA_PAYLOAD(a) != want)
		return false;
	memcpy(ret->b, mapped, sizeof(mapped));
	memcpy(ret->b + 16 - want, RTA_DATA(a), want);
	return true;
}
