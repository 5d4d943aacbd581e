/* SPDX-License-Identifier: BSD-2-Clause */
#include "make.h"

#include <arpa/inet.h>
#include <string.h>

#include "world.h"

uint32_t frame(uint8_t *out, const uint8_t *mac, const struct mesh_tuple *t, uint8_t flags, uint32_t seq, uint32_t ack,
	       uint32_t data)
{
	bool v4 = wire_is_v4(&t->client), tcp = t->proto == MESH_PROTO_TCP;
	uint32_t head = v4 ? 20 : 40, l4 = (tcp ? 20 : 8) + data, len = ETH_LEN + head + l4;
	uint8_t *h = out + ETH_LEN, *b = h + head;
	struct wire w;

	memset(out, 0, len);
	memcpy(out, gateway_mac, 6);
	memcpy(out + 6, mac, 6);
	put16(out + 12, v4 ? 0x0800 : 0x86dd);
	if (v4) {
		h[0] = 0x45;
		put16(h + 2, head + l4);
		put16(h + 4, below(65536));
		h[8] = 64;
		h[9] = t->proto;
		memcpy(h + 12, &t->client.w_be[3], 4);
		memcpy(h + 16, &t->server.w_be[3], 4);
		put16(h + 10, (uint16_t)~wire_fold(wire_sum(h, 20, 0)));
	} else {
		h[0] = 0x60;
		put16(h + 4, l4);
		h[6] = t->proto;
		h[7] = 64;
		memcpy(h + 8, &t->client, 16);
		memcpy(h + 24, &t->server, 16);
	}
	memcpy(b, &t->client_port_be, 2);
	memcpy(b + 2, &t->server_port_be, 2);
	put32(b + 4, tcp ? seq : l4 << 16);
	if (tcp) {
		put32(b + 8, ack);
		b[12] = 0x50;
		b[13] = flags;
		put16(b + 14, 65535);
	}
	for (uint32_t i = len - data; i < len; i++)
		out[i] = (uint8_t)below(256);
	wire_read(out, len, &w);
	put16(out + wire_sum_at(&w, len), (uint16_t)~wire_l4_sum(out, &w));
	if (!tcp && v4 && !below(10))
		put16(b + 6, 0); /* IPv4 goes without, too */
	/* Some are wrong already, and must stay wrong by as much. */
	if (!below(50))
		out[len - 1] ^= (uint8_t)(1 + below(255));
	return len;
}

void seal(uint8_t *data, uint32_t len)
{
	struct wire w;

	if (get16(data + 12) == 0x0800) {
		put16(data + ETH_LEN + 10, 0);
		put16(data + ETH_LEN + 10,
		      (uint16_t)~wire_fold(wire_sum(data + ETH_LEN, (data[ETH_LEN] & 15u) * 4, 0)));
	}
	wire_read(data, len, &w);
	if (w.bad || !wire_sum_at(&w, len))
		return;
	put16(data + wire_sum_at(&w, len), 0);
	put16(data + wire_sum_at(&w, len), (uint16_t)~wire_l4_sum(data, &w));
}

void set_length(uint8_t *data, uint32_t len)
{
	bool v4 = get16(data + 12) == 0x0800;

	put16(data + ETH_LEN + (v4 ? 2 : 4), len - ETH_LEN - (v4 ? 0 : 40));
}

uint32_t stuff(uint8_t *data, uint32_t len, uint8_t next, uint32_t size)
{
	bool v4 = get16(data + 12) == 0x0800;
	uint8_t *at = data + ETH_LEN + (v4 ? 20 : 40);

	memmove(at + size, at, len - (uint32_t)(at - data));
	memset(at, v4 ? 1 : 0, size);
	if (v4) {
		data[ETH_LEN] = (uint8_t)(0x45 + size / 4);
	} else {
		at[0] = data[ETH_LEN + 6];
		at[1] = next == PROTO_FRAGMENT ? 0 : (uint8_t)(next == PROTO_AUTH ? size / 4 - 2 : size / 8 - 1);
		data[ETH_LEN + 6] = next;
	}
	set_length(data, len + size);
	seal(data, len + size);
	return len + size;
}

uint32_t wrap(uint8_t *data, uint32_t len)
{
	static const uint8_t kinds[] = { PROTO_DEST, PROTO_HOP, PROTO_ROUTING, PROTO_AUTH };
	uint32_t nr = get16(data + 12) == 0x0800 || below(2) ? 1 : 1 + below(EXTENSIONS_READ + 2);

	for (uint32_t i = 0; i < nr; i++) {
		uint8_t kind = kinds[below(sizeof(kinds))];

		len = stuff(data, len, kind, 8 * (1 + below(3)));
	}
	return len;
}

uint32_t error_frame(uint8_t *out, const uint8_t *mac, const uint8_t *about, uint32_t len)
{
	static const uint8_t types[] = { 3, 11, 12 };
	bool v4 = get16(about + 12) == 0x0800;
	uint32_t head = v4 ? 20 : 40, least = (v4 ? (about[ETH_LEN] & 15u) * 4 : 40) + 20, quote = len - ETH_LEN;
	uint8_t *h = out + ETH_LEN;

	if (quote > least)
		quote = least + below(quote - least + 1);
	memset(out, 0, ETH_LEN + head + 8);
	memcpy(out, gateway_mac, 6);
	memcpy(out + 6, mac, 6);
	memcpy(out + 12, about + 12, 2);
	h[0] = v4 ? 0x45 : 0x60;
	h[v4 ? 8 : 7] = 64;
	h[v4 ? 9 : 6] = v4 ? PROTO_ICMP : PROTO_ICMP6;
	memcpy(h + (v4 ? 12 : 8), about + ETH_LEN + (v4 ? 16 : 24), v4 ? 4 : 16);
	memcpy(h + (v4 ? 16 : 24), about + ETH_LEN + (v4 ? 12 : 8), v4 ? 4 : 16);
	h[head] = v4 ? types[below(sizeof(types))] : (uint8_t)(1 + below(4));
	if (v4 && !below(50))
		h[head] = (uint8_t)(4 + below(2));
	memcpy(h + head + 8, about + ETH_LEN, quote);
	if (!below(50))
		h[head + 8 + (v4 ? 16 : 24) + below(4)] ^= 1; /* about a packet that was for somebody else */
	len = ETH_LEN + head + 8 + quote;
	set_length(out, len);
	seal(out, len);
	return len;
}
