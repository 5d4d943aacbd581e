/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the packet test's node looks like: links, pods, services, who may reach whom. Plain description, which packets.c makes true in
 * the kernel and ref.c reads.
 */
#ifndef TESTS_PACKETS_WORLD_H
#define TESTS_PACKETS_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh_abi.h"

enum prog { FROM_POD, TO_POD, FROM_NODE, TO_NODE, PROG_NR };
extern const char *const prog_names[PROG_NR];

/* A link of the node. */
struct link {
	enum {
		LINK_POD,
		LINK_STRANGER,
		LINK_UNKNOWN,
		LINK_NODE
	} kind; /* STRANGER: known, its namespace is no pod; UNKNOWN: no row */
	uint32_t ifindex;
	uint8_t mac[6];
	struct mesh_addr addr[2], link_local;
	bool registry_only;
	bool local; /* the rules know the pod as one of this node */
	enum { POLICY_NONE, POLICY_NOT_FROM_2, POLICY_ONLY_8080 } policy; /* all but pod 2; nothing but port 8080 */
};

struct endpoint {
	struct mesh_addr addr;
	uint16_t port;
};

#define ENDPOINTS_MAX 6
struct row {
	struct mesh_addr addr;
	uint8_t prefix_len; /* as in struct mesh_key */
	uint8_t proto;
	uint8_t action; /* enum mesh_action */
	bool fail_open; /* of MESH_L7: nobody ever listens here */
	uint16_t port;
	uint32_t endpoint_nr;
	struct endpoint endpoints[ENDPOINTS_MAX];
};

#define LINKS_MAX 8
#define ROWS_MAX 64
struct world {
	struct link links[LINKS_MAX];
	uint32_t link_nr;
	struct row rows[ROWS_MAX];
	uint32_t row_nr;
};

extern const uint8_t gateway_mac[6];

/* Link whose pod has this address; -1: none. */
int world_pod(const struct world *w, const struct mesh_addr *addr);
/* What the rules say of an address and port; NULL: nothing. */
const struct row *world_row(const struct world *w, const struct mesh_addr *addr, uint16_t port, uint8_t proto);
/* The pod of this address is known as one of this node. */
bool world_local(const struct world *w, const struct mesh_addr *addr);
/* MESH_REASON_NONE: may connect. */
uint16_t world_policy(const struct world *w, const struct mesh_addr *source, const struct mesh_addr *server,
		      uint16_t port);

#endif
