/* SPDX-License-Identifier: BSD-2-Clause */
/* The questions that the reference asks of the description. The kernel's side of it is made in packets.c. */
#include "world.h"

#include <arpa/inet.h>
#include <stddef.h>

#include "wire.h"

const char *const prog_names[PROG_NR] = { "from_pod", "to_pod", "from_node", "to_node" };
const uint8_t gateway_mac[6] = { 2, 0, 0, 0, 0, 0xfe };

int world_pod(const struct world *w, const struct mesh_addr *addr)
{
	for (uint32_t i = 0; i < w->link_nr; i++)
		if (w->links[i].kind == LINK_POD &&
		    (wire_addr_eq(&w->links[i].addr[0], addr) || wire_addr_eq(&w->links[i].addr[1], addr)))
			return (int)i;
	return -1;
}

static bool in_network(const struct row *row, const struct mesh_addr *addr)
{
	for (uint32_t bit = 0; bit < row->prefix_len; bit++)
		if ((ntohl(row->addr.w_be[bit / 32]) ^ ntohl(addr->w_be[bit / 32])) >> (31 - bit % 32) & 1)
			return false;
	return true;
}

const struct row *world_row(const struct world *w, const struct mesh_addr *addr, uint16_t port, uint8_t proto)
{
	const struct row *best = NULL;

	for (uint32_t i = 0; i < w->row_nr; i++) {
		const struct row *row = &w->rows[i];

		if (row->port == port && row->proto == proto && in_network(row, addr) &&
		    (!best || row->prefix_len > best->prefix_len))
			best = row;
	}
	return best;
}

bool world_local(const struct world *w, const struct mesh_addr *addr)
{
	int pod = world_pod(w, addr);

	return pod >= 0 && w->links[pod].local;
}

uint16_t world_policy(const struct world *w, const struct mesh_addr *source, const struct mesh_addr *server,
		      uint16_t port)
{
	int pod = world_pod(w, server);

	if (pod < 0)
		return MESH_REASON_NONE;
	if (w->links[pod].policy == POLICY_NOT_FROM_2 && world_pod(w, source) == 2)
		return MESH_REASON_DENIED;
	if (w->links[pod].policy == POLICY_ONLY_8080 && port != 8080)
		return MESH_REASON_DENIED;
	return MESH_REASON_NONE;
}
