/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reference translator: what each program must do with a packet, from the contract (mesh_abi.h) and its own list of connections.
 * What the kernel is free to choose, the endpoint of a new connection, it takes from the packet that came out, after it checked that
 * the choice was one of those that the rules allow.
 */
#ifndef TESTS_PACKETS_REF_H
#define TESTS_PACKETS_REF_H

#include "wire.h"
#include "world.h"

enum { VERDICT_NEXT = -1, VERDICT_DROP = 2, VERDICT_REDIRECT = 7 };

struct ref_conn {
	struct mesh_tuple dialled, wire;
	bool nat, hairpin;
	bool asked;		/* the server's policy has allowed it */
	bool masq;		/* leaves the node under its address: */
	struct mesh_tuple away; /* so, once it has */
	bool dead;		/* its tuple is used again */
	uint8_t state;		/* enum mesh_conn_state */
	uint32_t link;		/* where it came in, which is where it is translated and followed */
};

#define REF_CONNS 16384
#define REF_SLOTS (4 * REF_CONNS)
#define REF_FRAGS 4096
struct ref {
	const struct world *world;
	struct ref_conn conns[REF_CONNS]; /* [0] is not used */
	uint32_t conn_nr;
	bool tracks[LINKS_MAX]; /* a TCP connection has been tracked at this link */
	uint32_t by_dialled[REF_SLOTS], by_wire[REF_SLOTS], by_away[REF_SLOTS];
	struct {
		struct mesh_frag_key key;
		struct mesh_frag ports;
	} frags[REF_FRAGS];
	uint32_t frag_nr;
};

struct expect {
	int verdict;
	uint16_t reason;
	const char *fault; /* the kernel chose what it may not choose; NULL: none */
	uint32_t len;
	uint8_t data[WIRE_MAX];
};

/* guard.c: MESH_REASON_NONE when the pod may send this, otherwise why not. */
uint16_t ref_guard(const struct link *link, const struct wire *w, const uint8_t *in, uint32_t len);
/* The address is the pod's. */
bool ref_owns(const struct link *link, const struct mesh_addr *a);

void ref_forget(struct ref *r);
/* `out` is what the program made of `in`, of which only free choices are taken. */
void ref_run(struct ref *r, enum prog prog, const struct link *link, const uint8_t *in, uint32_t len,
	     const uint8_t *out, uint32_t out_len, struct expect *ret);

#endif
