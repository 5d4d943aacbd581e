/* SPDX-License-Identifier: BSD-2-Clause */
/* Makes the frames of the packet test, as hosts would and as they would not. What is random comes from below(), which whoever runs the
 * packets has. */
#ifndef TESTS_PACKETS_MAKE_H
#define TESTS_PACKETS_MAKE_H

#include "wire.h"

uint32_t below(uint32_t n);

/* A frame from one end to the other with sums that are right. */
uint32_t frame(uint8_t *out, const uint8_t *mac, const struct mesh_tuple *t, uint8_t flags, uint32_t seq, uint32_t ack,
	       uint32_t data);
/* Makes the sums of a frame right. */
void seal(uint8_t *data, uint32_t len);
void set_length(uint8_t *data, uint32_t len);
/* IPv4 options, or an IPv6 extension header of type `next`, behind the first header. Returns the new length. */
uint32_t stuff(uint8_t *data, uint32_t len, uint8_t next, uint32_t size);
/* Options, or IPv6 extension headers: up to two more than are read. */
uint32_t wrap(uint8_t *data, uint32_t len);
/* An ICMP error of a pod about a frame that it got, of which it quotes a part. */
uint32_t error_frame(uint8_t *out, const uint8_t *mac, const uint8_t *about, uint32_t len);

#endif
