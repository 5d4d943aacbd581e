/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entries of netfilter's connection tracking, by ctnetlink: made to mind neither window nor numbers any more, since some of the
 * connection's packets go where netfilter does not see them. Makes no entries and ends none.
 */
#include "plane/conntrack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mesh_abi.h"

/* Which way a reset's numbers are to be, and that something waits to be acknowledged: what netfilter saw last is no measure for
 * either. */
#ifndef IP_CT_TCP_FLAG_MAXACK_SET
#define IP_CT_TCP_FLAG_MAXACK_SET 0x20
#endif

#define TIMEOUT_FILE "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established"

struct message {
	struct nlmsghdr h;
	struct nfgenmsg g;
	char attrs[256];
};

static struct nlattr *put(struct message *m, uint16_t type, const void *data, size_t len)
{
	struct nlattr *a = (struct nlattr *)((char *)m + NLMSG_ALIGN(m->h.nlmsg_len));

	a->nla_type = type;
	a->nla_len = (uint16_t)(NLA_HDRLEN + len);
	if (len)
		memcpy((char *)a + NLA_HDRLEN, data, len);
	m->h.nlmsg_len = NLMSG_ALIGN(m->h.nlmsg_len) + NLA_ALIGN(a->nla_len);
	return a;
}

static struct nlattr *open_nest(struct message *m, uint16_t type)
{
	return put(m, type | NLA_F_NESTED, NULL, 0);
}

static void close_nest(struct message *m, struct nlattr *nest)
{
	nest->nla_len = (uint16_t)((char *)m + m->h.nlmsg_len - (char *)nest);
}

static void put_tuple(struct message *m, const struct conntrack_tuple *t)
{
	struct nlattr *tuple = open_nest(m, CTA_TUPLE_ORIG), *part = open_nest(m, CTA_TUPLE_IP);
	const uint8_t tcp = MESH_PROTO_TCP;
	bool v4 = addr_is_v4(&t->client);
	size_t skip = v4 ? 12 : 0;

	put(m, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, t->client.b + skip, 16 - skip);
	put(m, v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, t->server.b + skip, 16 - skip);
	close_nest(m, part);
	part = open_nest(m, CTA_TUPLE_PROTO);
	put(m, CTA_PROTO_NUM, &tcp, sizeof(tcp));
	put(m, CTA_PROTO_SRC_PORT, &t->client_port_be, sizeof(t->client_port_be));
	put(m, CTA_PROTO_DST_PORT, &t->server_port_be, sizeof(t->server_port_be));
	close_nest(m, part);
	close_nest(m, tuple);
}

static void put_flags(struct message *m)
{
	const struct nf_ct_tcp_flags flags = {
		.flags = IP_CT_TCP_FLAG_BE_LIBERAL,
		.mask = IP_CT_TCP_FLAG_BE_LIBERAL | IP_CT_TCP_FLAG_MAXACK_SET | IP_CT_TCP_FLAG_DATA_UNACKNOWLEDGED,
	};
	struct nlattr *info = open_nest(m, CTA_PROTOINFO), *tcp = open_nest(m, CTA_PROTOINFO_TCP);

	put(m, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &flags, sizeof(flags));
	put(m, CTA_PROTOINFO_TCP_FLAGS_REPLY, &flags, sizeof(flags));
	close_nest(m, tcp);
	close_nest(m, info);
}

int conntrack_open(void)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	return sock < 0 ? -errno : sock;
}

int conntrack_loosen(int sock, const struct conntrack_tuple *t)
{
	struct message m = {
		.h = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
		       .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.g = { .nfgen_family = addr_is_v4(&t->client) ? AF_INET : AF_INET6, .version = NFNETLINK_V0 },
	};
	char buf[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
	const struct nlmsghdr *h = (struct nlmsghdr *)buf;
	ssize_t got;

	put_tuple(&m, t);
	put_flags(&m);
	if (send(sock, &m, m.h.nlmsg_len, 0) < 0)
		return -errno;
	do
		got = recv(sock, buf, sizeof(buf), 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (!NLMSG_OK(h, (size_t)got) || h->nlmsg_type != NLMSG_ERROR || NLMSG_PAYLOAD(h, 0) < sizeof(struct nlmsgerr))
		return -EIO;
	return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
}

uint32_t conntrack_timeout_s(void)
{
	int fd = open(TIMEOUT_FILE, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;
	char text[32];

	if (fd >= 0) {
		got = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (got <= 0)
		return 0;
	text[got] = 0;
	return (uint32_t)strtoul(text, NULL, 10);
}
