/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The programs of the tc path against the reference, packet by packet through BPF_PROG_TEST_RUN: verdict, bytes and counted reason.
 * PACKETS and SEED in the environment: how many, and which. What disagrees is printed with what came before it.
 */
#include "../node/plane_place.h"

#include <bpf/libbpf.h>

#include "make.h"
#include "ref.h"

#define LINKS 4
#define NODE_LINKS 2 /* behind the pods' */
#define LOOPBACK 1
#define ROUND 5000 /* packets until every connection is forgotten: far less time than the shortest timer */
#define HISTORY 12

static struct world world;
static struct ref ref;
static uint64_t seed;

uint32_t below(uint32_t n)
{
	return (uint32_t)(peer_random(&seed) % n);
}

/* ---- the node ---- */

static void put(struct plane *p, uint32_t map, const void *key, const void *value)
{
	if (bpf_map_update_elem(p->map_fd[map], key, value, BPF_ANY))
		die("map");
}

static void device(uint32_t ifindex)
{
	char text[96];

	snprintf(text, sizeof(text), "ip link add dev%u index %u type veth peer name far%u", ifindex, ifindex, ifindex);
	if (system(text))
		die(text);
}

/* The rules know the pods but for the last, which is as if on another node, and two of them have a policy. */
static void workloads_make(struct plane *p)
{
	uint32_t first[2] = { p->map_max[PLANE_MAP_TERMS] - 8, p->map_max[PLANE_MAP_TERMS] - 4 };
	struct mesh_term terms[7] = {
		{ .op = MESH_OP_SOURCE, .addr = world.links[2].addr[0], .nr = 128, .hit = 3, .miss = 1 },
		{ .op = MESH_OP_SOURCE, .addr = world.links[2].addr[1], .nr = 128, .hit = 3, .miss = 2 },
		{ .op = MESH_OP_ALLOW },
		{ .op = MESH_OP_DENY, .arg = 7 },
		{ .op = MESH_OP_PORT, .arg = 8080, .nr = 8080, .hit = 1, .miss = 2 },
		{ .op = MESH_OP_ALLOW },
		{ .op = MESH_OP_DENY, .arg = 8 },
	};

	world.links[1].policy = POLICY_NOT_FROM_2;
	world.links[2].policy = POLICY_ONLY_8080;
	for (uint32_t i = 0; i < 7; i++)
		put(p, PLANE_MAP_TERMS, &(uint32_t){ first[0] + i }, &terms[i]);
	for (uint32_t i = 0; i < 2 * (LINKS - 1); i++) {
		struct link *l = &world.links[i / 2];
		uint32_t row = p->map_max[PLANE_MAP_WORKLOADS] - 1 - i;
		struct mesh_workload w = { .addr = l->addr[i % 2], .workload_id = 2, .flags = MESH_WORKLOAD_LOCAL };

		l->local = true;
		if (l->policy)
			w.policy = first[l->policy == POLICY_ONLY_8080];
		put(p, PLANE_MAP_WORKLOADS, &row, &w);
		put(p, PLANE_MAP_MEMBERS, &w.addr, &row);
	}
}

static void node_links_make(struct plane *p)
{
	for (uint32_t i = LINKS; i < LINKS + NODE_LINKS; i++) {
		struct link *l = &world.links[i];
		struct mesh_iface iface = { .kind = MESH_IFACE_NODE };

		l->kind = LINK_NODE;
		l->ifindex = 100 + i;
		l->addr[0] = wire_addr_v4(0x0a090001 + i);
		l->addr[1] = wire_addr_v6(0xfd00, 9, 0, (uint16_t)(i + 1));
		memcpy(iface.addr, l->addr, sizeof(iface.addr));
		device(l->ifindex);
		put(p, PLANE_MAP_IFACES, &l->ifindex, &iface);
		put(p, PLANE_MAP_LOADS, &l->ifindex, &(struct mesh_load){ 0 });
	}
	world.link_nr = LINKS + NODE_LINKS;
}

static void links_make(struct plane *p)
{
	if (unshare(CLONE_NEWNET))
		die("unshare");
	for (uint32_t i = 0; i < LINKS; i++) {
		struct link *l = &world.links[i];
		struct mesh_pod pod = { .netns_cookie = 1000 + i, .workload_id = 1 };
		struct mesh_iface iface = { .netns_cookie = 1000 + i, .kind = MESH_IFACE_POD };
		uint32_t row = p->map_max[PLANE_MAP_PODS] - 1 - i;

		device(100 + i);
		l->kind = LINK_POD;
		l->ifindex = 100 + i;
		l->addr[0] = wire_addr_v4(0x0a010001 + i);
		l->addr[1] = wire_addr_v6(0xfd00, 1, 0, (uint16_t)(i + 1));
		l->link_local = wire_addr_v6(0xfe80, 0, 0, (uint16_t)(i + 1));
		memcpy(l->mac, (uint8_t[]){ 2, 0, 0, 0, 1, (uint8_t)i }, 6);
		memcpy(iface.mac, l->mac, 6);
		memcpy(pod.addr, l->addr, sizeof(pod.addr));
		iface.link_local = l->link_local;
		pod.ifindex = l->ifindex;
		put(p, PLANE_MAP_PODS, &row, &pod);
		put(p, PLANE_MAP_NETNS, &pod.netns_cookie, &row);
		put(p, PLANE_MAP_IFACES, &l->ifindex, &iface);
		put(p, PLANE_MAP_LOADS, &l->ifindex, &(struct mesh_load){ 0 });
	}
	node_links_make(p);
	workloads_make(p);
}

/* A service of both protocols with `nr` pods as endpoints, and a server on another node, in one family. */
static void service_add(struct buf *b, uint32_t at, bool v6, uint32_t nr, bool remote)
{
	buf_printf(b,
		   "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%u}\nspec: {clusterIP: \"%s%u\", ports: ", at,
		   v6 ? "fd00:96::" : "10.96.0.", at);
	buf_printf(b, "[{name: t, port: 80}, {name: u, port: 53, protocol: UDP}]}\n");
	buf_printf(b,
		   "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%u, labels: "
		   "{kubernetes.io/service-name: s%u}}\naddressType: %s\nports: [{name: t, port: 8080}, {name: u, "
		   "port: 5353, "
		   "protocol: UDP}]\nendpoints: [",
		   at, at, v6 ? "IPv6" : "IPv4");
	for (uint32_t i = 0; i < nr; i++)
		buf_printf(b, "%s{addresses: [\"%s%u\"]}", i ? ", " : "", v6 ? "fd00:1::" : "10.1.0.", i + 1);
	if (remote)
		buf_printf(b, ", {addresses: [\"%s\"]}", v6 ? "fd00:2::9" : "10.2.0.9");
	buf_printf(b, "]\n");
	for (uint32_t udp = 0; udp < 2; udp++) {
		struct row *row = &world.rows[world.row_nr++];

		*row = (struct row){ .prefix_len = 128,
				     .action = !udp && at % 3 ? MESH_L7 : MESH_ROUTE,
				     .fail_open = at % 3 == 2,
				     .proto = udp ? MESH_PROTO_UDP : MESH_PROTO_TCP,
				     .port = udp ? 53 : 80,
				     .endpoint_nr = nr };
		row->addr = v6 ? wire_addr_v6(0xfd00, 0x96, 0, (uint16_t)at) : wire_addr_v4(0x0a600000 + at);
		for (uint32_t i = 0; i < nr; i++)
			row->endpoints[i] = (struct endpoint){ v6 ? wire_addr_v6(0xfd00, 1, 0, (uint16_t)(i + 1))
								  : wire_addr_v4(0x0a010001 + i),
							       udp ? 5353 : 8080 };
		if (remote)
			row->endpoints[row->endpoint_nr++] =
				(struct endpoint){ v6 ? wire_addr_v6(0xfd00, 2, 0, 9) : wire_addr_v4(0x0a020009),
						   udp ? 5353 : 8080 };
	}
}

/* What world.rows have for the parser, in the rules before they are applied. */
static void parser_rows(struct snapshot *s)
{
	for (uint32_t i = 0; i < s->unit_nr; i++) {
		struct u_row *rows = (struct u_row *)s->units[i]->rows;

		for (uint32_t k = 0; k < s->units[i]->row_nr; k++) {
			struct mesh_addr addr;
			const struct row *row;

			memcpy(&addr, &rows[k].addr, sizeof(addr));
			row = world_row(&world, &addr, rows[k].port, rows[k].proto);
			rows[k].l7 = row && row->action == MESH_L7;
			rows[k].fail_open = row && row->fail_open;
		}
	}
}

static void map_empty(int fd)
{
	struct mesh_tuple key; /* all these maps have keys of this size */

	while (!bpf_map_get_next_key(fd, NULL, &key))
		bpf_map_delete_elem(fd, &key);
}

static void forget(struct plane *p)
{
	_Static_assert(sizeof(struct mesh_tuple) == sizeof(struct mesh_frag_key), "map_empty");
	struct mesh_load none = { 0 };

	map_empty(p->map_fd[PLANE_MAP_CONNS]);
	map_empty(p->map_fd[PLANE_MAP_CONNS_NEW]);
	map_empty(p->map_fd[PLANE_MAP_NATS]);
	map_empty(p->map_fd[PLANE_MAP_NATS_NEW]);
	map_empty(p->map_fd[PLANE_MAP_FRAGS]);
	for (uint32_t i = 0; i < world.link_nr; i++)
		bpf_map_update_elem(p->map_fd[PLANE_MAP_LOADS], &world.links[i].ifindex, &none, BPF_ANY);
	ref_forget(&ref);
}

/* ---- running ---- */

struct run {
	enum prog prog;
	uint32_t link, len, out_len;
	int verdict;
	uint8_t in[WIRE_MAX], out[WIRE_MAX];
};

/* As from a device that has summed the whole packet up (6.16+): the kernel then says EBADMSG when its own sum of it has not kept up with
 * the packet. A sum that is left to a device to make cannot be given here; the node tests have those. */
#define TEST_CHECKSUM_COMPLETE (1u << 2)
static bool device_sums;
static uint64_t sums_lost;

static struct run history[HISTORY];
static uint64_t runs, wrong, counted[PROG_NR][MESH_REASON_NR];

static void dump(const char *what, const uint8_t *data, uint32_t len)
{
	fprintf(stderr, "  %s ", what);
	for (uint32_t i = 0; i < len; i++)
		fprintf(stderr, "%02x", data[i]);
	fputc('\n', stderr);
}

static void complain(const struct run *r, const struct expect *e)
{
	if (++wrong > 3)
		return;
	fprintf(stderr, "packet %llu: verdict %d, want %d (reason %u)%s%s\n", (unsigned long long)runs, r->verdict,
		e->verdict, e->reason, e->fault ? ": " : "", e->fault ? e->fault : "");
	dump("want", e->data, e->len);
	for (uint64_t i = runs >= HISTORY ? runs - HISTORY + 1 : 0; i <= runs; i++) {
		const struct run *h = &history[i % HISTORY];

		fprintf(stderr, " %s link%u verdict %d\n", prog_names[h->prog], h->link, h->verdict);
		dump("in  ", h->in, h->len);
		dump("out ", h->out, h->out_len);
	}
}

/* Not of a segment that a reset may answer with another sum, a wrong one or a SYN with data: the kernel drops its own then, where this
 * test still looks for it. */
static bool sums_hold(const uint8_t *in, uint32_t len)
{
	struct wire w;

	wire_read(in, len, &w);
	return w.bad || w.later || w.proto != MESH_PROTO_TCP ||
	       (wire_l4_sum(in, &w) == 0xffff && !(w.flags & FLAG_SYN && w.payload));
}

static bool takes_device_sums(struct plane *p)
{
	uint8_t in[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in, .data_size_in = sizeof(in), .repeat = 1,
		    .flags = TEST_CHECKSUM_COMPLETE);

	/* At an interface of no known kind, which only counts. */
	counted[TO_NODE][MESH_REASON_NOT_ENROLLED]++;
	return !bpf_prog_test_run_opts(p->tc_fd[PLANE_TC_TO_NODE], &opts);
}

/* One packet through one program and the reference. What came out is in the run that is returned. */
static const struct run *run(struct plane *p, enum prog prog, uint32_t link, const uint8_t *in, uint32_t len)
{
	static const uint32_t fds[PROG_NR] = { PLANE_TC_FROM_POD, PLANE_TC_TO_POD, PLANE_TC_FROM_NODE,
					       PLANE_TC_TO_NODE };
	static struct expect e;
	struct run *r = &history[runs % HISTORY];
	struct __sk_buff ctx = { .ifindex = world.links[link].ifindex,
				 /* Routed, not sent by the node itself. */
				 .ingress_ifindex = prog == TO_POD ? LOOPBACK : 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = r->in, .data_size_in = len, .data_out = r->out,
		    .data_size_out = sizeof(r->out), .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);

	*r = (struct run){ .prog = prog, .link = link, .len = len };
	memcpy(r->in, in, len);
	opts.flags = device_sums && below(2) && sums_hold(in, len) ? TEST_CHECKSUM_COMPLETE : 0;
	if (bpf_prog_test_run_opts(p->tc_fd[fds[prog]], &opts)) {
		if (errno != EBADMSG)
			die("BPF_PROG_TEST_RUN");
		sums_lost++;
	}
	r->verdict = (int)opts.retval;
	r->out_len = opts.data_size_out;
	ref_run(&ref, prog, &world.links[link], r->in, len, r->out, r->out_len, &e);
	counted[prog][e.reason]++;
	if (e.fault || r->verdict != e.verdict ||
	    (e.verdict != VERDICT_DROP && (r->out_len != e.len || memcmp(r->out, e.data, e.len))))
		complain(r, &e);
	runs++;
	return r;
}

/* Every exit was counted, under the reason that the reference gives. */
static void check_counters(struct plane *p)
{
	static const uint32_t hooks[PROG_NR] = { MESH_HOOK_FROM_POD, MESH_HOOK_TO_POD, MESH_HOOK_FROM_NODE,
						 MESH_HOOK_TO_NODE };
	int cpus = libbpf_num_possible_cpus();
	uint64_t *values = xcalloc((uint32_t)cpus, sizeof(*values));

	for (uint32_t prog = 0; prog < PROG_NR; prog++) {
		for (uint32_t reason = 0; reason < MESH_REASON_NR; reason++) {
			uint32_t at = hooks[prog] * MESH_REASON_MAX + reason;
			uint64_t sum = 0;

			CHECK(!bpf_map_lookup_elem(p->map_fd[PLANE_MAP_COUNTERS], &at, values));
			for (int i = 0; i < cpus; i++)
				sum += values[i];
			CHECK_MSG(sum == counted[prog][reason], "%s, reason %u: counted %llu, want %llu",
				  prog_names[prog], reason, (unsigned long long)sum,
				  (unsigned long long)counted[prog][reason]);
		}
	}
	free(values);
}

/* What the packets met: a run of some length that never came upon one of these has lost its way. */
static void check_reach(void)
{
	static const char *const labels[] = {
#define X(name, label, ...) label,
		MESH_REASONS(X)
#undef X
	};
	static const uint8_t pod[] = { MESH_REASON_TRACKED,	MESH_REASON_TRANSLATED,	 MESH_REASON_ICMP_TRANSLATED,
				       MESH_REASON_DENIED,	MESH_REASON_NO_ENDPOINT, MESH_REASON_MALFORMED,
				       MESH_REASON_FRAGMENT,	MESH_REASON_SPOOFED_IP,	 MESH_REASON_SPOOFED_MAC,
				       MESH_REASON_SPOOFED_ARP, MESH_REASON_SPOOFED_NDP, MESH_REASON_SPOOFED_ICMP,
				       MESH_REASON_NOT_TRACKED, MESH_REASON_NOT_SERVICE, MESH_REASON_NOT_HANDLED,
				       MESH_REASON_NO_PARSER },
			     served[] = { MESH_REASON_TRACKED,	   MESH_REASON_TRANSLATED, MESH_REASON_ICMP_TRANSLATED,
					  MESH_REASON_DENIED,	   MESH_REASON_FLOODED,	   MESH_REASON_NOT_TRACKED,
					  MESH_REASON_NOT_HANDLED, MESH_REASON_FRAGMENT },
			     outside[] = { MESH_REASON_TRACKED,		MESH_REASON_TRANSLATED,
					   MESH_REASON_ICMP_TRANSLATED, MESH_REASON_DENIED,
					   MESH_REASON_NO_ENDPOINT,	MESH_REASON_MALFORMED,
					   MESH_REASON_SPOOFED_IP,	MESH_REASON_NOT_TRACKED,
					   MESH_REASON_NOT_SERVICE,	MESH_REASON_NOT_HANDLED,
					   MESH_REASON_FRAGMENT,	MESH_REASON_NO_PARSER },
			     away[] = { MESH_REASON_TRACKED,	 MESH_REASON_TRANSLATED,  MESH_REASON_ICMP_TRANSLATED,
					MESH_REASON_NOT_TRACKED, MESH_REASON_NOT_HANDLED, MESH_REASON_FRAGMENT };
	static const struct {
		const uint8_t *reasons;
		uint32_t nr;
	} want[PROG_NR] = {
		{ pod, sizeof(pod) }, { served, sizeof(served) }, { outside, sizeof(outside) }, { away, sizeof(away) }
	};

	for (uint32_t prog = 0; prog < PROG_NR; prog++) {
		printf("%-9s", prog_names[prog]);
		for (uint32_t reason = 0; reason < MESH_REASON_NR; reason++)
			if (counted[prog][reason])
				printf(" %s %llu", labels[reason], (unsigned long long)counted[prog][reason]);
		printf("\n");
		for (uint32_t i = 0; i < want[prog].nr && runs >= 500000; i++)
			CHECK_MSG(counted[prog][want[prog].reasons[i]], "%s never met %s", prog_names[prog],
				  labels[want[prog].reasons[i]]);
	}
}

/* ---- packets ---- */

struct flow {
	struct mesh_tuple dialled, wire; /* wire: what reached the server, learned; proto 0: not yet */
	uint32_t link, at, phase;	 /* where client and server are */
};

/* The router, or bridge, puts its own link addresses on; now and then the bridge does not know better than to send it everywhere. */
static void forward(uint8_t *data, uint32_t to)
{
	memcpy(data, world.links[below(100) ? to : below(LINKS)].mac, 6); /* on the node's links no matter */
	memcpy(data + 6, gateway_mac, 6);
}

/* Where a packet for this address leaves the node: a pod's link, or the outside, where the last bit says over which link. -1: nowhere. */
static int way_out(const struct mesh_addr *addr)
{
	int pod = world_pod(&world, addr);

	for (uint32_t i = 0; i < world.row_nr; i++)
		if (wire_addr_eq(&world.rows[i].addr, addr))
			return -1;
	for (uint32_t i = LINKS; i < world.link_nr; i++)
		if (wire_addr_eq(&world.links[i].addr[0], addr) || wire_addr_eq(&world.links[i].addr[1], addr))
			return -1;
	return pod >= 0 ? pod : (int)(LINKS + (ntohl(addr->w_be[3]) & 1));
}

static bool is_pod(uint32_t link)
{
	return world.links[link].kind == LINK_POD;
}

/* A packet on its way: in at one link, out at that of whom it is for, who may have something against it. */
static void journey(struct plane *p, uint32_t link, const uint8_t *in, uint32_t len, struct flow *f)
{
	const struct run *r = run(p, is_pod(link) ? FROM_POD : FROM_NODE, link, in, len);
	uint8_t bytes[WIRE_MAX];
	struct wire w;
	int to;

	if (r->verdict == VERDICT_DROP)
		return;
	wire_read(r->out, r->out_len, &w);
	to = w.addrs ? way_out(&w.dst) : -1;
	if (to < 0)
		return;
	memcpy(bytes, r->out, r->out_len);
	len = r->out_len;
	forward(bytes, (uint32_t)to);
	r = run(p, is_pod((uint32_t)to) ? TO_POD : TO_NODE, (uint32_t)to, bytes, len);
	if (r->verdict != VERDICT_NEXT)
		return;
	wire_read(r->out, r->out_len, &w);
	if (f && w.ports)
		*f = (struct flow){ .dialled = f->dialled,
				    .link = f->link,
				    .phase = f->phase,
				    .at = (uint32_t)to,
				    .wire = { w.src, w.dst, w.sport_be, w.dport_be, w.proto, 0, 0 } };
	if (w.proto == PROTO_ICMP || w.proto == PROTO_ICMP6 || w.fragment || below(20))
		return;
	len = error_frame(bytes, is_pod((uint32_t)to) ? world.links[to].mac : gateway_mac, r->out, r->out_len);
	journey(p, (uint32_t)to, bytes, len, NULL);
}

/* A datagram in two parts, or only its second one. */
static void parts(struct plane *p, uint32_t link, uint8_t *data, uint32_t len, struct flow *f)
{
	bool v4 = get16(data + 12) == 0x0800;
	uint32_t head = ETH_LEN + (v4 ? 20 : 48), id = below(65536);

	if (v4)
		put16(data + ETH_LEN + 4, id);
	else
		len = stuff(data, len, PROTO_FRAGMENT, 8);
	if (!v4)
		put32(data + ETH_LEN + 44, id);
	put16(data + ETH_LEN + (v4 ? 6 : 42), v4 ? 0x2000 : 1);
	seal(data, len);
	if (below(5))
		journey(p, link, data, len, f);
	put16(data + ETH_LEN + (v4 ? 6 : 42), v4 ? 100 : 800);
	len = head + below(len - head + 1);
	set_length(data, len);
	seal(data, len);
	journey(p, link, data, len, NULL);
}

/* One of the addresses that a pod might claim. */
static struct mesh_addr claim(uint32_t link, bool v6)
{
	static const struct mesh_addr any6;

	switch (below(4)) {
	case 0:
		return v6 ? any6 : wire_addr_v4(0);
	case 1:
		return v6 ? world.links[link].link_local : wire_addr_v4(0x0a0100fe);
	case 2:
		return world.links[below(LINKS)].addr[v6];
	default:
		return world.links[link].addr[v6];
	}
}

/* What a pod says to its neighbours, true or not. */
static void neighbours(struct plane *p)
{
	uint32_t link = below(LINKS), len = ETH_LEN + 28;
	struct mesh_addr source = claim(link, below(2)), target = claim(link, true);
	uint8_t data[WIRE_MAX] = { 0 }, *h = data + ETH_LEN;

	memcpy(data, gateway_mac, 6);
	memcpy(data + 6, world.links[below(10) ? link : below(LINKS)].mac, 6);
	if (wire_is_v4(&source)) {
		put16(data + 12, 0x0806);
		memcpy(h, (uint8_t[]){ 0, 1, 8, 0, 6, 4, 0, (uint8_t)(1 + below(2)) }, 8);
		if (!below(20))
			h[below(6)] ^= 1;
		memcpy(h + 8, world.links[below(5) ? link : below(LINKS)].mac, 6);
		memcpy(h + 14, &source.w_be[3], 4);
	} else {
		put16(data + 12, 0x86dd);
		h[0] = 0x60;
		h[6] = PROTO_ICMP6;
		h[7] = 255;
		memcpy(h + 8, &source, 16);
		memcpy(h + 24, &world.links[below(LINKS)].addr[1], 16);
		h[40] = (uint8_t)(128 + below(10));
		if (!below(20))
			memcpy(h + 8 + 16 * below(2), &world.links[below(LINKS)].addr[0], 16); /* an IPv4 address */
		memcpy(h + 48, &target, 16);
		len = ETH_LEN + 64;
		set_length(data, len);
		seal(data, len);
	}
	run(p, FROM_POD, link, data, len);
}

/* From a pod or from outside, to a service or to a pod. Who dials a pod has other ports: two flows between the same ends would be one. */
static void flow_begin(struct flow *f)
{
	const struct row *row = &world.rows[below(world.row_nr)];
	bool v6 = !wire_is_v4(&row->addr), direct = !below(8);
	uint32_t out, n;

	memset(f, 0, sizeof(*f));
	f->dialled.server = direct ? world.links[below(LINKS)].addr[v6] : row->addr;
	f->dialled.server_port_be = htons(direct ? (row->port == 80 ? 8080 : 5353) : row->port);
	f->dialled.client_port_be = htons((uint16_t)(direct ? 10000 + below(9000) : 20000 + below(40000)));
	f->dialled.proto = row->proto;
	if (below(4)) {
		f->link = below(LINKS);
		f->dialled.client = world.links[f->link].addr[v6];
		return;
	}
	out = below(NODE_LINKS);
	n = 2 * below(100) + out;
	f->link = LINKS + out;
	f->dialled.client = v6 ? wire_addr_v6(0xfd00, 0x77, 0, (uint16_t)n) : wire_addr_v4(0xc6336400 + n);
}

/* Something is not as it should be: who sends it, or a reset, or another beginning. */
static void disturb(uint8_t *data, uint32_t len, uint32_t link)
{
	static const uint8_t flags[] = { FLAG_RST, FLAG_RST | FLAG_ACK, FLAG_SYN, FLAG_FIN | FLAG_ACK, 0 };
	uint32_t head = ETH_LEN + (get16(data + 12) == 0x0800 ? 20 : 40);
	struct mesh_addr source = claim(link, head != ETH_LEN + 20);

	switch (below(3)) {
	case 0:
		data[6 + below(6)] ^= 1;
		break;
	case 1:
		memcpy(data + ETH_LEN + (head == ETH_LEN + 20 ? 12 : 8),
		       (uint8_t *)&source + (head == ETH_LEN + 20 ? 12 : 0), head == ETH_LEN + 20 ? 4 : 16);
		break;
	default:
		if (data[ETH_LEN + (head == ETH_LEN + 20 ? 9 : 6)] != MESH_PROTO_TCP)
			break;
		data[head + 13] = flags[below(sizeof(flags))];
		put32(data + head + 4, 5000); /* what a reset must not be before */
	}
	seal(data, len);
}

/* The next packet of a conversation: SYN, SYN ACK, ACK, data both ways, FIN, FIN, ACK; of UDP the same ways without flags. */
static void flow_step(struct plane *p, struct flow *f)
{
	static const uint8_t flags[] = { FLAG_SYN,
					 FLAG_SYN | FLAG_ACK,
					 FLAG_ACK,
					 FLAG_ACK | FLAG_PSH,
					 FLAG_ACK | FLAG_PSH,
					 FLAG_ACK | FLAG_FIN,
					 FLAG_ACK | FLAG_FIN,
					 FLAG_ACK };
	bool reply = f->phase == 1 || f->phase == 4 || f->phase == 6;
	uint32_t data = f->phase == 3 || f->phase == 4 ? below(200) : 0;
	uint8_t bytes[WIRE_MAX];
	struct mesh_tuple t = f->dialled;
	/* The kernel runs no program on less than the IP header. */
	uint32_t link = f->link, least = ETH_LEN + (wire_is_v4(&t.server) ? 20 : 40), len;

	if (reply) {
		if (!f->wire.proto) {
			flow_begin(f);
			return;
		}
		link = f->at;
		t = (struct mesh_tuple){ .client = f->wire.server,
					 .server = f->wire.client,
					 .client_port_be = f->wire.server_port_be,
					 .server_port_be = f->wire.client_port_be,
					 .proto = f->wire.proto };
	}
	len = frame(bytes, is_pod(link) ? world.links[link].mac : gateway_mac, &t, flags[f->phase], 1000 + f->phase,
		    1000 + f->phase, data);
	if (below(40))
		f->phase++;
	else if (!below(3))
		len = least + below(len - least); /* cut short; it is sent again */
	else if (!below(2))
		disturb(bytes, len, link);
	if (t.proto == MESH_PROTO_UDP && data && !below(5)) {
		parts(p, link, bytes, len, reply ? NULL : f);
	} else {
		if (!below(20))
			len = wrap(bytes, len);
		journey(p, link, bytes, len, reply ? NULL : f);
	}
	if (f->phase == sizeof(flags))
		flow_begin(f);
}

TEST(programs_agree_with_the_reference)
{
	enum { FLOWS = 300 };
	static struct flow flows[FLOWS];
	uint64_t packets = getenv("PACKETS") ? strtoull(getenv("PACKETS"), NULL, 0) : 1000000;
	struct plane *p = plane_start();
	struct buf text = { 0 };
	struct snapshot *s;

	seed = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 1;
	for (uint32_t i = 1; i <= 6; i++)
		service_add(&text, i, i & 1, i % 4, i > 4);
	s = compile(&text, NULL);
	parser_rows(s);
	apply(p, s);
	ref.world = &world;
	links_make(p);
	device_sums = takes_device_sums(p);
	printf("sums of a receiving device: %s\n", device_sums ? "for every other packet" : "not on this kernel");
	while (runs < packets && wrong < 3) {
		uint64_t end = runs + ROUND;

		forget(p);
		for (uint32_t i = 0; i < FLOWS; i++)
			flow_begin(&flows[i]);
		while (runs < end && wrong < 3)
			if (below(20))
				flow_step(p, &flows[below(FLOWS)]);
			else
				neighbours(p);
	}
	CHECK_INT(wrong, 0);
	CHECK_INT(sums_lost, 0);
	check_counters(p);
	check_reach();
	printf("%llu packets\n", (unsigned long long)runs);
	unload(p);
	snapshot_unref(s);
}
