/* SPDX-License-Identifier: BSD-2-Clause */
/* What a pod may put on its link: the part of the reference that knows nothing of connections. */
#include <arpa/inet.h>
#include <string.h>

#include "ref.h"

bool ref_owns(const struct link *link, const struct mesh_addr *a)
{
	static const struct mesh_addr none;

	return !wire_addr_eq(a, &none) && (wire_addr_eq(a, &link->addr[0]) || wire_addr_eq(a, &link->addr[1]));
}

static uint16_t spoofed_arp(const struct link *link, const uint8_t *in, uint32_t len)
{
	static const uint8_t head[6] = { 0, 1, 8, 0, 6, 4 };
	static const struct mesh_addr any4 = { { 0, 0, 0xffff0000u, 0 } };
	struct mesh_addr sender = wire_addr_v4(0);

	if (len < ETH_LEN + 28 || memcmp(in + ETH_LEN, head, 6))
		return MESH_REASON_MALFORMED;
	memcpy(&sender.w_be[3], in + ETH_LEN + 14, 4);
	if (memcmp(in + ETH_LEN + 8, link->mac, 6) || (!ref_owns(link, &sender) && !wire_addr_eq(&sender, &any4)))
		return MESH_REASON_SPOOFED_ARP;
	return MESH_REASON_NONE;
}

static bool may_claim(const struct link *link, const struct wire *w)
{
	static const struct mesh_addr any6;

	if (ref_owns(link, &w->src))
		return true;
	if (w->kind == WIRE_IP4)
		return !w->src.w_be[3] && w->proto == MESH_PROTO_UDP && w->ports && w->sport_be == htons(68) &&
		       w->dport_be == htons(67);
	return w->proto == PROTO_ICMP6 && (wire_addr_eq(&w->src, &any6) || wire_addr_eq(&w->src, &link->link_local));
}

static uint16_t spoofed_ndp(const struct link *link, const struct wire *w, const uint8_t *in)
{
	static const struct mesh_addr none;
	struct mesh_addr target;

	if (w->proto != PROTO_ICMP6 || !w->ports || w->later)
		return MESH_REASON_NONE;
	if (w->type == 134 || w->type == 137 || w->type == 130)
		return MESH_REASON_SPOOFED_NDP;
	if (w->type != 136 && (w->type != 135 || !wire_addr_eq(&w->src, &none)))
		return MESH_REASON_NONE;
	if (w->end < w->l4 + 24)
		return MESH_REASON_MALFORMED;
	memcpy(&target, in + w->l4 + 8, 16);
	return ref_owns(link, &target) || wire_addr_eq(&target, &link->link_local) ? MESH_REASON_NONE
										   : MESH_REASON_SPOOFED_NDP;
}

/* Only about what it got itself does a pod complain; nor is it a router. */
static uint16_t spoofed_icmp(const struct link *link, const struct wire *w, const uint8_t *in)
{
	struct wire about;

	if (!w->ports || w->later)
		return MESH_REASON_NONE;
	if (w->proto == PROTO_ICMP && (w->type == 4 || w->type == 5))
		return MESH_REASON_SPOOFED_ICMP;
	if (!wire_is_icmp_error(w))
		return MESH_REASON_NONE;
	wire_read_embedded(in, w->l4 + 8, w->end, w->kind == WIRE_IP6, &about);
	return about.addrs && ref_owns(link, &about.dst) ? MESH_REASON_NONE : MESH_REASON_SPOOFED_ICMP;
}

uint16_t ref_guard(const struct link *link, const struct wire *w, const uint8_t *in, uint32_t len)
{
	uint16_t reason = MESH_REASON_NONE;

	if (memcmp(in + 6, link->mac, 6))
		reason = MESH_REASON_SPOOFED_MAC;
	else if (w->kind == WIRE_ARP)
		reason = spoofed_arp(link, in, len);
	else if (w->kind == WIRE_OTHER)
		reason = MESH_REASON_NONE;
	else if (w->bad && !w->addrs)
		reason = MESH_REASON_MALFORMED;
	else if (!may_claim(link, w))
		reason = w->bad ? MESH_REASON_MALFORMED : MESH_REASON_SPOOFED_IP;
	else if (!w->bad && !(reason = spoofed_ndp(link, w, in)))
		reason = spoofed_icmp(link, w, in);
	return reason;
}
