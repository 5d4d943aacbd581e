/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packets as bytes, for the packet tests: read, rewritten, made. Written from the RFCs alone and sharing nothing with bpf/, since it is
 * what the programs there are held against.
 */
#ifndef TESTS_PACKETS_WIRE_H
#define TESTS_PACKETS_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh_abi.h"

#define WIRE_MAX 2048
#define ETH_LEN 14

enum {
	PROTO_HOP = 0,
	PROTO_ICMP = 1,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AUTH = 51,
	PROTO_ICMP6 = 58,
	PROTO_NONE = 59,
	PROTO_DEST = 60
};
#define EXTENSIONS_READ 6 /* a packet with more of them is not let through */
enum { FLAG_FIN = 1, FLAG_SYN = 2, FLAG_RST = 4, FLAG_PSH = 8, FLAG_ACK = 16 };
enum wire_kind { WIRE_OTHER, WIRE_ARP, WIRE_IP4, WIRE_IP6 };

/* Offsets count from the frame's first byte. */
struct wire {
	enum wire_kind kind;
	bool bad;      /* cut short, or lengths contradict each other */
	bool addrs;    /* src and dst are there */
	bool fragment; /* part of a datagram; later: not its first part */
	bool later;
	bool ports;    /* sport and dport are there, or for ICMP type and code */
	bool cut;      /* embedded: the transport header is not whole */
	uint8_t proto; /* after IPv6 extension headers */
	uint8_t flags; /* TCP */
	uint8_t type, code;
	uint16_t sport_be, dport_be;
	uint32_t seq, ack;
	uint32_t l3, l4, end; /* end: as the IP header says */
	uint32_t payload;     /* TCP: bytes of data */
	uint32_t id;	      /* of the datagram, network order */
	struct mesh_addr src, dst;
};

/* A frame. */
void wire_read(const uint8_t *data, uint32_t len, struct wire *ret);
/* The packet that an ICMP error holds: it may be cut short anywhere. */
void wire_read_embedded(const uint8_t *data, uint32_t l3, uint32_t len, bool v6, struct wire *ret);
/* One that a host acts on; a redirect is about routes. */
bool wire_is_icmp_error(const struct wire *w);

/* New ends of a packet. */
struct ends {
	struct mesh_addr src, dst;
	uint16_t sport_be, dport_be;
};

/* Rewrites both ends. Sums that were right are made anew; wrong ones keep their error (RFC 1624). */
void wire_rewrite(uint8_t *data, uint32_t len, const struct wire *w, const struct ends *to);
/* The same with the packet inside of an ICMP error; `addrs`: what becomes of the outer addresses. */
void wire_rewrite_error(uint8_t *data, uint32_t len, const struct wire *outer, const struct wire *inner,
			const struct ends *to, const struct mesh_addr *src, const struct mesh_addr *dst);

uint32_t wire_sum(const uint8_t *p, uint32_t len, uint32_t sum);
uint16_t wire_fold(uint32_t sum); /* not inverted, network order */
/* Sum over pseudo header and bytes, folded: 0xffff in a packet that is right. */
uint16_t wire_l4_sum(const uint8_t *data, const struct wire *w);
/* Where the transport checksum is; 0: there is none, or not here. */
uint32_t wire_sum_at(const struct wire *w, uint32_t len);

bool wire_is_v4(const struct mesh_addr *a);
bool wire_addr_eq(const struct mesh_addr *a, const struct mesh_addr *b);
struct mesh_addr wire_addr_v4(uint32_t host);
struct mesh_addr wire_addr_v6(uint16_t a, uint16_t b, uint16_t c, uint16_t last);

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

#endif
