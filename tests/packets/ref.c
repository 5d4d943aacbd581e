/* SPDX-License-Identifier: BSD-2-Clause */
#include "ref.h"

#include <arpa/inet.h>
#include <string.h>

/* fd74:756c:6c65::1: what a pod is to itself, in IPv6. */
#define loop_v6 wire_addr_v6(0xfd74, 0x756c, 0x6c65, 1)

/* ---- connections ---- */

static uint32_t hash(const struct mesh_tuple *t)
{
	const uint32_t *w = (const uint32_t *)t;
	uint32_t h = 2166136261u;

	for (uint32_t i = 0; i < sizeof(*t) / 4; i++)
		h = (h ^ w[i]) * 16777619u;
	return h ^ h >> 15;
}

static struct mesh_tuple tuple(const struct mesh_addr *client, uint16_t client_port_be, const struct mesh_addr *server,
			       uint16_t server_port_be, uint8_t proto)
{
	return (struct mesh_tuple){ .client = *client,
				    .server = *server,
				    .client_port_be = client_port_be,
				    .server_port_be = server_port_be,
				    .proto = proto };
}

/* Slot of the connection whose tuple is t, or of the free one where it belongs. Dead entries stay and lead to what came after them. */
static uint32_t *slot_of(struct ref *r, uint32_t *table, const struct mesh_tuple *t)
{
	uint32_t at = hash(t) % REF_SLOTS;

	for (; table[at]; at = (at + 1) % REF_SLOTS) {
		const struct ref_conn *c = &r->conns[table[at]];

		const struct mesh_tuple *has = table == r->by_wire   ? &c->wire
					       : table == r->by_away ? &c->away
								     : &c->dialled;

		if (!c->dead && !memcmp(has, t, sizeof(*t)))
			break;
	}
	return &table[at];
}

static struct ref_conn *find(struct ref *r, uint32_t *table, const struct mesh_tuple *t)
{
	uint32_t at = *slot_of(r, table, t);

	return at ? &r->conns[at] : NULL;
}

void ref_forget(struct ref *r)
{
	memset(r->by_dialled, 0, sizeof(r->by_dialled));
	memset(r->by_wire, 0, sizeof(r->by_wire));
	memset(r->by_away, 0, sizeof(r->by_away));
	memset(r->tracks, 0, sizeof(r->tracks));
	r->conn_nr = 1;
	r->frag_nr = 0;
}

static struct ref_conn *conn_add(struct ref *r, const struct mesh_tuple *dialled, const struct mesh_tuple *wire)
{
	uint32_t *at = slot_of(r, r->by_dialled, dialled);
	struct ref_conn *c;

	if (r->conn_nr == REF_CONNS)
		return NULL;
	c = &r->conns[r->conn_nr];
	memset(c, 0, sizeof(*c));
	c->dialled = *dialled;
	c->wire = *wire;
	c->nat = memcmp(dialled, wire, sizeof(*wire)) != 0;
	c->state = wire->proto == MESH_PROTO_TCP ? MESH_CONN_SYN : MESH_CONN_UDP_NEW;
	*at = r->conn_nr;
	*slot_of(r, r->by_wire, wire) = r->conn_nr++;
	return c;
}

static void conn_place(struct ref *r, struct ref_conn *c, const struct link *link)
{
	c->link = link->ifindex;
	if (c->wire.proto == MESH_PROTO_TCP)
		r->tracks[link - r->world->links] = true;
}

/* The connection that a packet belongs to. */
struct found {
	struct ref_conn *conn;
	bool reply;   /* it goes from the server to the client */
	bool dialled; /* it shows the ends as the client sees them, */
	bool away;    /* or as they are beyond the node; else as the server's link does */
};

static struct found find_any(struct ref *r, const struct mesh_tuple *t)
{
	struct mesh_tuple back = tuple(&t->server, t->server_port_be, &t->client, t->client_port_be, t->proto);
	struct found f = { .conn = find(r, r->by_wire, t) };

	if (f.conn)
		return f;
	f.conn = find(r, r->by_wire, &back);
	f.reply = true;
	if (f.conn)
		return f;
	f.dialled = true;
	f.conn = find(r, r->by_dialled, &back);
	if (f.conn)
		return f;
	f.reply = false;
	f.conn = find(r, r->by_dialled, t);
	if (f.conn)
		return f;
	f = (struct found){ .conn = find(r, r->by_away, t), .away = true };
	if (f.conn)
		return f;
	f.conn = find(r, r->by_away, &back);
	f.reply = true;
	return f;
}

/* ---- TCP ---- */

/* Only as far as it decides about packets: answered, open, ending, reset. */
static void follow(struct ref_conn *c, const struct wire *w, const struct link *link, bool reply)
{
	if (w->later || link->ifindex != c->link || (c->state == MESH_CONN_OPEN && w->flags & FLAG_SYN))
		return;
	if (c->wire.proto == MESH_PROTO_UDP) {
		if (reply)
			c->state = MESH_CONN_UDP;
		return;
	}
	if (w->flags & FLAG_RST)
		c->state = MESH_CONN_CLOSED;
	else if (c->state < MESH_CONN_FIN && w->flags & FLAG_FIN)
		c->state = MESH_CONN_FIN;
	else if (reply && c->state == MESH_CONN_SYN)
		c->state = MESH_CONN_SYN_ACK;
	else if (!reply && c->state == MESH_CONN_SYN_ACK && !(w->flags & FLAG_SYN))
		c->state = MESH_CONN_OPEN;
}

static bool ending(const struct ref_conn *c)
{
	return c->wire.proto == MESH_PROTO_TCP && (c->state == MESH_CONN_FIN || c->state == MESH_CONN_CLOSED);
}

/* ---- outcomes ---- */

static void pass(struct expect *e, uint16_t reason)
{
	e->verdict = VERDICT_NEXT;
	e->reason = reason;
}

static void drop(struct expect *e, uint16_t reason)
{
	e->verdict = VERDICT_DROP;
	e->reason = reason;
}

/* A reset that answers `w`, sent back where it came from (RFC 9293, 3.10.7.1). Only what a host need not know is the kernel's choice:
 * hop limit, type of service, flow label, identification. */
static void reset(struct expect *e, const struct wire *w, const uint8_t *in, const uint8_t *out, uint16_t reason)
{
	struct wire made = *w;
	uint8_t *h = e->data + ETH_LEN, *t;
	uint32_t head = w->kind == WIRE_IP4 ? 20 : 40;

	e->verdict = VERDICT_REDIRECT;
	e->reason = reason;
	e->len = ETH_LEN + head + 20;
	memset(e->data, 0, e->len);
	memcpy(e->data, in + 6, 6);
	memcpy(e->data + 6, in, 6);
	memcpy(e->data + 12, in + 12, 2);
	if (w->kind == WIRE_IP4) {
		h[0] = 0x45;
		put16(h + 2, 40);
		h[1] = out[ETH_LEN + 1];
		memcpy(h + 4, out + ETH_LEN + 4, 2);
		h[6] = out[ETH_LEN + 6] & 0x40;
		h[8] = out[ETH_LEN + 8];
		h[9] = MESH_PROTO_TCP;
		memcpy(h + 12, &w->dst.w_be[3], 4);
		memcpy(h + 16, &w->src.w_be[3], 4);
		put16(h + 10, (uint16_t)~wire_fold(wire_sum(h, 20, 0)));
	} else {
		memcpy(h, out + ETH_LEN, 4);
		h[0] = (uint8_t)(0x60 | (h[0] & 15));
		put16(h + 4, 20);
		h[6] = MESH_PROTO_TCP;
		h[7] = out[ETH_LEN + 7];
		memcpy(h + 8, &w->dst, 16);
		memcpy(h + 24, &w->src, 16);
	}
	if (!h[w->kind == WIRE_IP4 ? 8 : 7])
		e->fault = "a reset without hops to live";
	t = h + head;
	memcpy(t, &w->dport_be, 2);
	memcpy(t + 2, &w->sport_be, 2);
	t[12] = 0x50;
	t[13] = FLAG_RST;
	if (w->flags & FLAG_ACK) {
		put32(t + 4, w->ack);
	} else {
		t[13] = FLAG_RST | FLAG_ACK;
		put32(t + 8, w->seq + w->payload + !!(w->flags & FLAG_SYN) + !!(w->flags & FLAG_FIN));
	}
	made.src = w->dst;
	made.dst = w->src;
	made.l4 = ETH_LEN + head;
	made.end = e->len;
	put16(t + 16, (uint16_t)~wire_l4_sum(e->data, &made));
}

/* What happens to a connection that is not to be: TCP learns of it. */
static void refuse(struct expect *e, const struct wire *w, const uint8_t *in, const uint8_t *out, uint16_t reason)
{
	if (w->proto == MESH_PROTO_TCP && !(w->flags & FLAG_RST) && !w->later &&
	    w->l4 == w->l3 + (w->kind == WIRE_IP4 ? 20u : 40u))
		reset(e, w, in, out, reason);
	else
		drop(e, reason);
}

static struct ends ends_of(const struct mesh_tuple *t, bool reply)
{
	if (reply)
		return (struct ends){ t->server, t->client, t->server_port_be, t->client_port_be };
	return (struct ends){ t->client, t->server, t->client_port_be, t->server_port_be };
}

/* What a pod's own service leads back to it goes out where it came in. */
static void turn(struct expect *e, const uint8_t *in)
{
	memcpy(e->data, in + 6, 6);
	memcpy(e->data + 6, in, 6);
	e->verdict = VERDICT_REDIRECT;
}

/* Where a packet of the connection is translated, and to what it shows of the ends there. */
static bool translated(const struct found *f, enum prog prog, const struct link *link, struct ends *to)
{
	const struct ref_conn *c = f->conn;
	bool wire = !f->dialled && !f->away, here = c->link == link->ifindex;

	*to = ends_of(&c->dialled, f->reply);
	switch (prog) {
	case FROM_POD:
		if (!f->reply)
			*to = ends_of(&c->wire, false);
		return c->nat && (f->reply ? wire && c->hairpin : f->dialled);
	case TO_POD:
		return c->nat && f->reply && wire && !c->hairpin;
	case FROM_NODE:
		*to = ends_of(&c->wire, f->reply);
		return f->reply ? f->away : f->dialled;
	default:
		if (f->reply || !wire || !c->masq)
			return wire && f->reply && here && c->nat;
		*to = ends_of(&c->away, false);
		return true;
	}
}

/* A packet of a connection: it shows the ends as the other side has to see them. */
static void translate(struct expect *e, const struct wire *w, const struct found *f, enum prog prog,
		      const struct link *link, const uint8_t *in)
{
	struct ends to;

	pass(e, MESH_REASON_TRACKED);
	if (!translated(f, prog, link, &to))
		return;
	wire_rewrite(e->data, e->len, w, &to);
	e->reason = MESH_REASON_TRANSLATED;
	if (f->conn->hairpin && prog == FROM_POD)
		turn(e, in);
}

/* ---- fragments ---- */

static struct mesh_frag_key frag_key(const struct wire *w)
{
	return (struct mesh_frag_key){ .source = w->src, .destination = w->dst, .id = w->id, .proto = w->proto };
}

static void frag_note(struct ref *r, const struct wire *w)
{
	struct mesh_frag_key key = frag_key(w);
	uint32_t i = 0;

	while (i < r->frag_nr && memcmp(&r->frags[i].key, &key, sizeof(key)))
		i++;
	if (i == REF_FRAGS)
		return;
	r->frags[i].key = key;
	r->frags[i].ports = (struct mesh_frag){ w->sport_be, w->dport_be };
	r->frag_nr += i == r->frag_nr;
}

static const struct mesh_frag *frag_ports(const struct ref *r, const struct wire *w)
{
	struct mesh_frag_key key = frag_key(w);

	for (uint32_t i = 0; i < r->frag_nr; i++)
		if (!memcmp(&r->frags[i].key, &key, sizeof(key)))
			return &r->frags[i].ports;
	return NULL;
}

/* ---- ICMP errors ---- */

/* The packet inside went the other way: its source is this packet's destination's business. */
static void icmp_error(struct ref *r, struct expect *e, const struct wire *w, enum prog prog, const struct link *link)
{
	struct wire in;
	struct mesh_tuple t;
	struct found f;
	struct ends to;
	struct mesh_addr src = w->src, dst = w->dst;

	pass(e, MESH_REASON_NOT_HANDLED);
	wire_read_embedded(e->data, w->l4 + 8, w->end, w->kind == WIRE_IP6, &in);
	if (in.bad || in.later || !in.ports || (in.proto != MESH_PROTO_TCP && in.proto != MESH_PROTO_UDP))
		return;
	t = tuple(&in.src, in.sport_be, &in.dst, in.dport_be, in.proto);
	f = find_any(r, &t);
	if (!f.conn || !f.conn->nat || f.conn->hairpin)
		return;
	if ((prog == TO_POD || prog == TO_NODE) && !f.reply && !f.dialled && !f.away && f.conn->link == link->ifindex)
		to = ends_of(&f.conn->dialled, false);
	else if ((prog == FROM_POD || prog == FROM_NODE) && f.reply && f.dialled)
		to = ends_of(&f.conn->wire, true);
	else if (prog == FROM_NODE && !f.reply && f.away)
		to = ends_of(&f.conn->wire, false);
	else
		return;
	if (wire_addr_eq(&src, &in.dst))
		src = to.dst;
	if (wire_addr_eq(&dst, &in.src))
		dst = to.src;
	wire_rewrite_error(e->data, e->len, w, &in, &to, &src, &dst);
	e->reason = MESH_REASON_ICMP_TRANSLATED;
}

/* ---- the programs ---- */

static bool is_endpoint(const struct row *row, const struct wire *o)
{
	for (uint32_t i = 0; i < row->endpoint_nr; i++)
		if (wire_addr_eq(&row->endpoints[i].addr, &o->dst) && htons(row->endpoints[i].port) == o->dport_be)
			return true;
	return false;
}

/* What may stand in the way of a tuple on the wire: nothing, or a connection that is over. */
static bool make_room(struct ref *r, const struct mesh_tuple *wire)
{
	struct ref_conn *c = find(r, r->by_wire, wire);

	if (c && !ending(c))
		return false;
	if (c)
		c->dead = true;
	return true;
}

/* What a refused packet came out as: nothing else than it came in, or turned around. */
static bool refused(const struct wire *w, const struct wire *o, const uint8_t *in, const uint8_t *out, uint32_t out_len)
{
	if (w->proto == MESH_PROTO_TCP && o->flags & FLAG_RST)
		return wire_addr_eq(&o->src, &w->dst) && wire_addr_eq(&o->dst, &w->src);
	return !memcmp(in, out, out_len);
}

/* One of the endpoints would not have this client. */
static bool denies(const struct ref *r, const struct row *row, const struct mesh_addr *source)
{
	for (uint32_t i = 0; i < row->endpoint_nr; i++)
		if (world_policy(r->world, source, &row->endpoints[i].addr, row->endpoints[i].port))
			return true;
	return false;
}

/* Takes the endpoint, and the source port when the client has its own in use with that endpoint, from the packet that came out. */
static void begin_routed(struct ref *r, struct expect *e, enum prog prog, const struct link *link,
			 const struct row *row, const struct wire *w, const struct mesh_tuple *t, const uint8_t *in,
			 const uint8_t *out, uint32_t out_len)
{
	struct mesh_tuple made, kept;
	struct mesh_addr client = w->src;
	struct ref_conn *c;
	struct found f;
	struct wire o;
	bool hairpin;

	pass(e, MESH_REASON_TRANSLATED);
	wire_read(out, out_len, &o);
	if (!o.addrs || !o.ports || o.proto != w->proto) {
		e->fault = "what came out is no packet";
		return;
	}
	if (denies(r, row, &w->src) && refused(w, &o, in, out, out_len)) {
		refuse(e, w, in, out, MESH_REASON_DENIED);
		return;
	}
	if (is_endpoint(row, &o) && world_policy(r->world, &w->src, &o.dst, ntohs(o.dport_be))) {
		e->fault = "the endpoint's policy forbids it";
		return;
	}
	if (!is_endpoint(row, &o)) {
		e->fault = "not an endpoint of the service";
		return;
	}
	hairpin = prog == FROM_POD && ref_owns(link, &o.dst);
	if (hairpin)
		client = w->kind == WIRE_IP4 ? wire_addr_v4(0xa9fe7475) : loop_v6;
	kept = tuple(&client, w->sport_be, &o.dst, o.dport_be, o.proto);
	made = tuple(&o.src, o.sport_be, &o.dst, o.dport_be, o.proto);
	if (!wire_addr_eq(&o.src, &client) || (o.sport_be != w->sport_be && !find(r, r->by_wire, &kept))) {
		e->fault = "the client's end";
		return;
	}
	if (!make_room(r, &made)) {
		e->fault = "another connection has this tuple on the wire";
		return;
	}
	c = conn_add(r, t, &made);
	if (!c) {
		e->fault = "the reference is full";
		return;
	}
	c->hairpin = hairpin;
	c->asked = true;
	c->masq = prog == FROM_NODE && !world_local(r->world, &o.dst);
	conn_place(r, c, link);
	f = (struct found){ .conn = c, .dialled = true };
	translate(e, w, &f, prog, link, in);
}

static bool begins(const struct wire *w)
{
	return w->proto == MESH_PROTO_UDP || (w->flags & (FLAG_SYN | FLAG_ACK | FLAG_RST)) == FLAG_SYN;
}

/* A packet from a pod or from outside that belongs to no connection. */
static void from_new(struct ref *r, struct expect *e, enum prog prog, const struct link *link, const struct wire *w,
		     const struct mesh_tuple *t, const uint8_t *in, const uint8_t *out, uint32_t out_len)
{
	const struct row *row = world_row(r->world, &w->dst, ntohs(w->dport_be), w->proto);
	struct ref_conn *c;

	pass(e, w->later || !begins(w) ? MESH_REASON_NOT_TRACKED : MESH_REASON_NOT_SERVICE);
	if (e->reason == MESH_REASON_NOT_TRACKED)
		return;
	if (row && row->action == MESH_L7 && !row->fail_open) {
		refuse(e, w, in, out, MESH_REASON_NO_PARSER);
	} else if (row && !row->endpoint_nr) {
		refuse(e, w, in, out, MESH_REASON_NO_ENDPOINT);
	} else if (row) {
		begin_routed(r, e, prog, link, row, w, t, in, out, out_len);
	} else if (prog == FROM_POD && w->proto == MESH_PROTO_UDP && link->policy) {
		/* So that what comes back is known as an answer; the server's policy has not been asked yet. */
		c = conn_add(r, t, t);
		if (c)
			conn_place(r, c, link);
		else
			e->fault = "the reference is full";
	}
}

/* A packet to a pod that belongs to no connection: kept for its record when it comes from nobody that this node keeps one for. */
static void to_pod_new(struct ref *r, struct expect *e, const struct link *link, const struct wire *w,
		       const struct mesh_tuple *t, const uint8_t *in, const uint8_t *out)
{
	bool foreign = !world_local(r->world, &w->src);
	struct ref_conn *c;
	uint16_t reason;

	pass(e, MESH_REASON_NOT_TRACKED);
	if (w->later || !begins(w))
		return;
	reason = world_policy(r->world, &w->src, &w->dst, ntohs(w->dport_be));
	if (reason) {
		refuse(e, w, in, out, reason);
		return;
	}
	if (!foreign && (w->proto == MESH_PROTO_TCP || !link->policy))
		return;
	pass(e, MESH_REASON_TRACKED);
	c = conn_add(r, t, t);
	if (c) {
		conn_place(r, c, link);
		c->asked = true;
	} else {
		e->fault = "the reference is full";
	}
}

/* The node's own end of a connection that leaves it again is the kernel's choice, once: one of its address, with a port of its range. */
static void go_away(struct ref *r, struct expect *e, const struct link *link, struct ref_conn *c, const uint8_t *out,
		    uint32_t out_len)
{
	const struct mesh_addr *own = &link->addr[!wire_is_v4(&c->wire.client)];
	struct wire o;

	wire_read(out, out_len, &o);
	if (c->away.proto)
		return;
	if (!o.addrs || !o.ports || !wire_addr_eq(&o.src, own) || ntohs(o.sport_be) < 61000 ||
	    find(r, r->by_away, &(struct mesh_tuple){ o.src, o.dst, o.sport_be, o.dport_be, o.proto, 0, 0 })) {
		e->fault = "the node's end";
		return;
	}
	c->away = c->wire;
	c->away.client = o.src;
	c->away.client_port_be = o.sport_be;
	*slot_of(r, r->by_away, &c->away) = (uint32_t)(c - r->conns);
}

/* Where the packets of a connection are counted. */
static bool followed(const struct found *f, enum prog prog)
{
	if (prog == FROM_NODE)
		return f->dialled && !f->reply;
	if (prog == TO_NODE)
		return !f->dialled && !f->away && f->reply && f->conn->nat;
	return !(prog == TO_POD && f->conn->hairpin);
}

/* TCP and UDP. */
static void flow(struct ref *r, enum prog prog, const struct link *link, struct wire *w, const uint8_t *in,
		 const uint8_t *out, uint32_t out_len, struct expect *e)
{
	const struct mesh_frag *ports = w->later ? frag_ports(r, w) : NULL;
	struct mesh_tuple t;
	struct found f;

	if (w->later && !ports) {
		pass(e, MESH_REASON_FRAGMENT);
		return;
	}
	/* Where no connection was ever begun, a plain segment in the middle of one is not looked for. */
	if (link->kind == LINK_POD && w->proto == MESH_PROTO_TCP && !begins(w) && !w->fragment &&
	    w->l4 == w->l3 + (w->kind == WIRE_IP4 ? 20u : 40u) && !r->tracks[link - r->world->links]) {
		pass(e, MESH_REASON_NOT_TRACKED);
		return;
	}
	if (ports) {
		w->sport_be = ports->source_port_be;
		w->dport_be = ports->destination_port_be;
	} else if (w->fragment) {
		frag_note(r, w);
	}
	t = tuple(&w->src, w->sport_be, &w->dst, w->dport_be, w->proto);
	f = find_any(r, &t);
	/* A tuple that is used again after its connection ended is another connection. */
	if (f.conn && ending(f.conn) && !f.reply && !f.away && begins(w) && !w->later && prog != TO_NODE &&
	    (prog != TO_POD || f.conn->link == link->ifindex)) {
		f.conn->dead = true;
		f.conn = NULL;
	}
	if (prog == TO_NODE && (!f.conn || f.dialled || f.away)) {
		pass(e, MESH_REASON_NOT_TRACKED);
		return;
	}
	if (!f.conn) {
		if (prog == TO_POD)
			to_pod_new(r, e, link, w, &t, in, out);
		else
			from_new(r, e, prog, link, w, &t, in, out, out_len);
		return;
	}
	if (prog == TO_POD && !f.reply && !f.conn->asked) {
		if (world_policy(r->world, &w->src, &f.conn->wire.server, ntohs(f.conn->wire.server_port_be))) {
			drop(e, MESH_REASON_DENIED);
			return;
		}
		f.conn->asked = true;
	}
	if (prog == TO_NODE && !f.reply && f.conn->masq)
		go_away(r, e, link, f.conn, out, out_len);
	translate(e, w, &f, prog, link, in);
	if (followed(&f, prog))
		follow(f.conn, w, link, f.reply);
}

/* Of other protocols the policy is asked each time. */
static void other(struct ref *r, struct expect *e, const struct link *link, const struct wire *w)
{
	uint16_t reason = world_policy(r->world, &w->src, &link->addr[w->kind == WIRE_IP6], 0);

	if (reason)
		drop(e, reason);
	else
		pass(e, MESH_REASON_NOT_TRACKED);
}

void ref_run(struct ref *r, enum prog prog, const struct link *link, const uint8_t *in, uint32_t len,
	     const uint8_t *out, uint32_t out_len, struct expect *ret)
{
	struct wire w;
	uint16_t reason;

	ret->fault = NULL;
	ret->len = len;
	memcpy(ret->data, in, len);
	wire_read(in, len, &w);
	if (link->kind != (prog == FROM_POD || prog == TO_POD ? LINK_POD : LINK_NODE)) {
		pass(ret, MESH_REASON_NOT_ENROLLED);
		return;
	}
	reason = prog == FROM_POD ? ref_guard(link, &w, in, len) : MESH_REASON_NONE;
	if (reason) {
		drop(ret, reason);
		return;
	}
	if (prog == TO_POD && !(in[0] & 1) && memcmp(in, link->mac, 6))
		drop(ret, MESH_REASON_FLOODED);
	else if (w.kind == WIRE_OTHER || w.kind == WIRE_ARP)
		pass(ret, MESH_REASON_NOT_HANDLED);
	else if (w.bad)
		drop(ret, MESH_REASON_MALFORMED);
	else if (prog == FROM_NODE && world_local(r->world, &w.src))
		drop(ret, MESH_REASON_SPOOFED_IP);
	else if (w.proto == MESH_PROTO_TCP || w.proto == MESH_PROTO_UDP)
		flow(r, prog, link, &w, in, out, out_len, ret);
	else if (wire_is_icmp_error(&w))
		icmp_error(r, ret, &w, prog, link);
	else if (prog == TO_POD && (w.later || w.proto != (w.kind == WIRE_IP4 ? PROTO_ICMP : PROTO_ICMP6)))
		other(r, ret, link, &w);
	else
		pass(ret, MESH_REASON_NOT_HANDLED);
}
