/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses in the one form of the mesh: 16 bytes, IPv4 as ::ffff:a.b.c.d, network order. */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct addr {
	uint8_t b[16];
};

#define ADDR_TEXT_MAX 46

/* Whole string is an IPv4 or IPv6 literal (no zone). */
bool addr_parse(struct str s, struct addr *ret);
/* "a.b.c.d/n" or "x::y/n", or a plain address (full length). prefix_len counts in 128 bits: 96+n for IPv4. Host bits must be 0
 * unless `host_bits`; they are cleared in ret. */
bool addr_parse_cidr(struct str s, bool host_bits, struct addr *ret, uint8_t *ret_prefix_len);
bool addr_is_v4(const struct addr *a);
bool addr_is_zero(const struct addr *a);
int addr_cmp(const struct addr *a, const struct addr *b);
bool addr_in(const struct addr *a, const struct addr *net, uint8_t prefix_len);
/* "host:port", "1.2.3.4:port" or "[v6]:port" with a port from 1 to 65535; *ret_host is without brackets. */
bool addr_split_port(struct str s, struct str *ret_host, uint16_t *ret_port);
/* Text without brackets, IPv4 dotted; out has ADDR_TEXT_MAX bytes; returns out. */
const char *addr_text(const struct addr *a, char *out);

#endif
