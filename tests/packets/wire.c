/* SPDX-License-Identifier: BSD-2-Clause */
#include "wire.h"

#include <arpa/inet.h>
#include <string.h>

bool wire_is_v4(const struct mesh_addr *a)
{
	return !a->w_be[0] && !a->w_be[1] && a->w_be[2] == htonl(0xffff);
}

bool wire_addr_eq(const struct mesh_addr *a, const struct mesh_addr *b)
{
	return !memcmp(a, b, sizeof(*a));
}

struct mesh_addr wire_addr_v4(uint32_t host)
{
	return (struct mesh_addr){ { 0, 0, htonl(0xffff), htonl(host) } };
}

struct mesh_addr wire_addr_v6(uint16_t a, uint16_t b, uint16_t c, uint16_t last)
{
	return (struct mesh_addr){ { htonl((uint32_t)a << 16 | b), htonl((uint32_t)c << 16), 0, htonl(last) } };
}

/* ---- sums (RFC 1071) ---- */

uint32_t wire_sum(const uint8_t *p, uint32_t len, uint32_t sum)
{
	for (; len > 1; p += 2, len -= 2)
		sum += get16(p);
	return len ? sum + (uint32_t)(p[0] << 8) : sum;
}

uint16_t wire_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static uint32_t addr_sum(const struct mesh_addr *a)
{
	bool v4 = wire_is_v4(a);

	return wire_sum((const uint8_t *)a->w_be + (v4 ? 12 : 0), v4 ? 4 : 16, 0);
}

static bool has_pseudo(const struct wire *w)
{
	return w->proto != PROTO_ICMP;
}

uint16_t wire_l4_sum(const uint8_t *data, const struct wire *w)
{
	uint32_t sum = wire_sum(data + w->l4, w->end - w->l4, 0);

	if (has_pseudo(w))
		sum += addr_sum(&w->src) + addr_sum(&w->dst) + w->proto + (w->end - w->l4);
	return wire_fold(sum);
}

uint32_t wire_sum_at(const struct wire *w, uint32_t len)
{
	uint32_t at = 0;

	if (w->proto == MESH_PROTO_TCP)
		at = w->l4 + 16;
	else if (w->proto == MESH_PROTO_UDP)
		at = w->l4 + 6;
	else if (w->proto == PROTO_ICMP || w->proto == PROTO_ICMP6)
		at = w->l4 + 2;
	return at && !w->later && at + 2 <= len ? at : 0;
}

/* RFC 1624, equation 3, over `len` bytes that change from `was` to `now`. */
static uint16_t sum_change(uint16_t sum, const uint8_t *was, const uint8_t *now, uint32_t len)
{
	uint32_t s = (uint16_t)~sum;

	for (uint32_t i = 0; i < len; i += 2)
		s += (uint16_t)~get16(was + i) + get16(now + i);
	return (uint16_t)~wire_fold(s);
}

/* ---- reading ---- */

static void read_l4(const uint8_t *data, uint32_t len, bool embedded, struct wire *w)
{
	uint32_t left = w->end - w->l4;

	if (len < w->end)
		left = len > w->l4 ? len - w->l4 : 0;
	if (w->later)
		return;
	if (w->proto == MESH_PROTO_TCP || w->proto == MESH_PROTO_UDP) {
		uint32_t whole = w->proto == MESH_PROTO_TCP ? 20 : 8;

		if (left < whole && !embedded) {
			w->bad = true;
			return;
		}
		w->cut = left < whole;
		/* RFC 792: an error quotes 8 bytes of it. */
		if (left < 8)
			return;
		w->ports = true;
		w->sport_be = htons(get16(data + w->l4));
		w->dport_be = htons(get16(data + w->l4 + 2));
		if (w->proto == MESH_PROTO_UDP || left < 20)
			return;
		w->seq = get32(data + w->l4 + 4);
		w->ack = get32(data + w->l4 + 8);
		w->flags = data[w->l4 + 13];
		w->payload = left;
		if (data[w->l4 + 12] >> 4 < 5 || (uint32_t)(data[w->l4 + 12] >> 4) * 4 > left) {
			w->bad = w->bad || !embedded;
			return;
		}
		w->payload = left - (uint32_t)(data[w->l4 + 12] >> 4) * 4;
	} else if (w->proto == (w->kind == WIRE_IP4 ? PROTO_ICMP : PROTO_ICMP6)) {
		if (left < 8) {
			w->bad = w->bad || !embedded;
			return;
		}
		w->ports = true;
		w->type = data[w->l4];
		w->code = data[w->l4 + 1];
	}
}

static void read_v4(const uint8_t *data, uint32_t len, bool embedded, struct wire *w)
{
	const uint8_t *h = data + w->l3;
	uint32_t left = len - w->l3, head, total;

	w->bad = true;
	if (left < 20 || h[0] >> 4 != 4)
		return;
	head = (h[0] & 15u) * 4;
	total = get16(h + 2);
	if (head < 20 || total < head || (!embedded && total > left) || head > left)
		return;
	w->bad = false;
	memcpy(&w->src.w_be[3], h + 12, 4);
	memcpy(&w->dst.w_be[3], h + 16, 4);
	w->src.w_be[2] = w->dst.w_be[2] = htonl(0xffff);
	w->addrs = true;
	w->proto = h[9];
	w->l4 = w->l3 + head;
	w->end = w->l3 + total;
	w->fragment = get16(h + 6) & 0x3fff;
	w->later = get16(h + 6) & 0x1fff;
	w->id = htonl(get16(h + 4)) >> 16;
	read_l4(data, len, embedded, w);
}

static bool is_extension(uint8_t next)
{
	return next == PROTO_HOP || next == PROTO_ROUTING || next == PROTO_DEST || next == PROTO_FRAGMENT ||
	       next == PROTO_AUTH;
}

/* RFC 8200: what stands before the transport header. False: cut short, or without end. */
static bool skip_extensions(const uint8_t *data, uint32_t len, struct wire *w)
{
	uint8_t next = data[w->l3 + 6];
	uint32_t at = w->l3 + 40, limit = len < w->end ? len : w->end, nr = 0;

	while (is_extension(next)) {
		uint32_t size = 8;

		if (at + 8 > limit || nr++ == EXTENSIONS_READ)
			return false;
		if (next == PROTO_FRAGMENT) {
			w->fragment = get16(data + at + 2) & 0xfff9;
			w->later = get16(data + at + 2) & 0xfff8;
			memcpy(&w->id, data + at + 4, 4);
		} else if (next == PROTO_AUTH) {
			size = (data[at + 1] + 2u) * 4; /* RFC 4302 2.2 */
		} else {
			size = (data[at + 1] + 1u) * 8;
		}
		next = data[at];
		at += size;
		if (at > limit)
			return false;
		if (w->later)
			break;
	}
	w->proto = next;
	w->l4 = at;
	return true;
}

static void read_v6(const uint8_t *data, uint32_t len, bool embedded, struct wire *w)
{
	const uint8_t *h = data + w->l3;
	uint32_t left = len - w->l3;

	w->bad = true;
	if (left < 40 || h[0] >> 4 != 6)
		return;
	memcpy(&w->src, h + 8, 16);
	memcpy(&w->dst, h + 24, 16);
	w->end = w->l3 + 40 + get16(h + 4);
	if (!embedded && w->end > len)
		return;
	w->addrs = true;
	/* An IPv4 address in the clothes of the other family is on no wire. */
	w->bad = wire_is_v4(&w->src) || wire_is_v4(&w->dst) || !skip_extensions(data, len, w);
	if (!w->bad)
		read_l4(data, len, embedded, w);
}

void wire_read(const uint8_t *data, uint32_t len, struct wire *ret)
{
	uint16_t type = get16(data + 12);

	memset(ret, 0, sizeof(*ret));
	ret->l3 = ETH_LEN;
	if (type == 0x0800) {
		ret->kind = WIRE_IP4;
		read_v4(data, len, false, ret);
	} else if (type == 0x86dd) {
		ret->kind = WIRE_IP6;
		read_v6(data, len, false, ret);
	} else if (type == 0x0806) {
		ret->kind = WIRE_ARP;
	}
}

void wire_read_embedded(const uint8_t *data, uint32_t l3, uint32_t len, bool v6, struct wire *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->l3 = l3;
	ret->kind = v6 ? WIRE_IP6 : WIRE_IP4;
	if (v6)
		read_v6(data, len, true, ret);
	else
		read_v4(data, len, true, ret);
}

bool wire_is_icmp_error(const struct wire *w)
{
	if (!w->ports || w->later)
		return false;
	if (w->proto == PROTO_ICMP)
		return w->type == 3 || w->type == 11 || w->type == 12;
	return w->proto == PROTO_ICMP6 && w->type >= 1 && w->type <= 4;
}

/* ---- rewriting ---- */

static void put_addrs(uint8_t *data, uint32_t len, const struct wire *w, const struct mesh_addr *src,
		      const struct mesh_addr *dst)
{
	uint8_t was[8], *h = data + w->l3;

	if (w->kind == WIRE_IP6) {
		memcpy(h + 8, src, 16);
		memcpy(h + 24, dst, 16);
		return;
	}
	(void)len;
	memcpy(was, h + 12, 8);
	memcpy(h + 12, &src->w_be[3], 4);
	memcpy(h + 16, &dst->w_be[3], 4);
	put16(h + 10, sum_change(get16(h + 10), was, h + 12, 8));
}

/* What the pseudo header and the ports were and are: 36 bytes in the order of their sum. */
static void ends_bytes(const struct mesh_addr *src, const struct mesh_addr *dst, uint16_t sport_be, uint16_t dport_be,
		       uint8_t *out)
{
	memcpy(out, src, 16);
	memcpy(out + 16, dst, 16);
	memcpy(out + 32, &sport_be, 2);
	memcpy(out + 34, &dport_be, 2);
}

/* The new transport sum of a packet whose sum was `old`. */
static uint16_t l4_sum_change(const struct wire *w, const struct ends *to, uint16_t old)
{
	uint8_t was[36], now[36];

	ends_bytes(&w->src, &w->dst, w->sport_be, w->dport_be, was);
	ends_bytes(&to->src, &to->dst, to->sport_be, to->dport_be, now);
	return sum_change(old, was, now, sizeof(was));
}

static void put_l4_sum(uint8_t *p, uint8_t proto, uint16_t sum)
{
	put16(p, proto == MESH_PROTO_UDP && !sum ? 0xffff : sum);
}

void wire_rewrite(uint8_t *data, uint32_t len, const struct wire *w, const struct ends *to)
{
	uint32_t at = wire_sum_at(w, len);
	bool whole = !w->fragment && w->end <= len, none = at && w->proto == MESH_PROTO_UDP && !get16(data + at);
	bool right = at && whole && wire_l4_sum(data, w) == 0xffff;
	struct wire after = *w;

	put_addrs(data, len, w, &to->src, &to->dst);
	if (w->ports) {
		memcpy(data + w->l4, &to->sport_be, 2);
		memcpy(data + w->l4 + 2, &to->dport_be, 2);
	}
	if (!at || none)
		return;
	if (!right) {
		put_l4_sum(data + at, w->proto, l4_sum_change(w, to, get16(data + at)));
		return;
	}
	after.src = to->src;
	after.dst = to->dst;
	put16(data + at, 0);
	put_l4_sum(data + at, w->proto, (uint16_t)~wire_l4_sum(data, &after));
}

void wire_rewrite_error(uint8_t *data, uint32_t len, const struct wire *outer, const struct wire *inner,
			const struct ends *to, const struct mesh_addr *src, const struct mesh_addr *dst)
{
	uint8_t was[WIRE_MAX], addrs_was[32], addrs_now[32];
	uint32_t at = wire_sum_at(outer, len), end = outer->end;
	bool right = wire_l4_sum(data, outer) == 0xffff;
	struct wire after = *outer;

	memcpy(was, data, end);
	wire_rewrite(data, end, inner, to);
	put_addrs(data, len, outer, src, dst);
	after.src = *src;
	after.dst = *dst;
	if (right) {
		put16(data + at, 0);
		put16(data + at, (uint16_t)~wire_l4_sum(data, &after));
		return;
	}
	if (has_pseudo(outer)) {
		memcpy(addrs_was, &outer->src, 16);
		memcpy(addrs_was + 16, &outer->dst, 16);
		memcpy(addrs_now, src, 16);
		memcpy(addrs_now + 16, dst, 16);
		put16(data + at, sum_change(get16(data + at), addrs_was, addrs_now, 32));
	}
	/* The part behind the ICMP header starts at an even offset of it; an odd last byte counts with a zero behind it. */
	was[end] = 0;
	put16(data + at,
	      sum_change(get16(data + at), was + outer->l4 + 8, data + outer->l4 + 8, (end - outer->l4 - 8) & ~1u));
	if (end & 1) {
		uint8_t old[2] = { was[end - 1], 0 }, new[2] = { data[end - 1], 0 };

		put16(data + at, sum_change(get16(data + at), old, new, 2));
	}
}
