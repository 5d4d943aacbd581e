/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's verdicts against the evaluator of tests/unit/random_policies.h: random policies made live, then the first packets of
 * connections to guarded pods through the program at their link, and the next packets of those that it let in once other policies
 * are live. CASES and SEED in the environment: how many, and which.
 */
#include "../unit/random_policies.h"
#include "plane_place.h"

#define ASKED 100 /* connections a rule set */
#define FRAME_MAX 128
enum { SYN = 2, ACK = 16 };
enum { PASS = -1, SHOT = 2, REDIRECT = 7 }; /* TCX_NEXT, TC_ACT_ */

/* A connection that was let in. */
struct open {
	struct question q;
	uint16_t port; /* of the client */
};

static uint64_t cases, denied, cut, wrong;
static uint16_t next_port;

static void links_make(struct plane *p)
{
	if (unshare(CLONE_NEWNET))
		die("unshare");
	for (uint32_t i = 0; i < NR(pods); i++) {
		struct mesh_pod pod = { .netns_cookie = 1000 + i, .workload_id = 1, .ifindex = 100 + i };
		struct mesh_iface iface = { .netns_cookie = 1000 + i, .kind = MESH_IFACE_POD, .mac = { 2 } };
		uint32_t row = p->map_max[PLANE_MAP_PODS] - 1 - i, none = 0;
		struct addr addr;
		char text[96];

		snprintf(text, sizeof(text), "ip link add pod%u index %u type veth peer name far%u", i, pod.ifindex, i);
		if (system(text) || !addr_parse(str_of(pods[i].ip), &addr))
			die(text);
		memcpy(&pod.addr[0], &addr, sizeof(addr));
		if (bpf_map_update_elem(p->map_fd[PLANE_MAP_PODS], &row, &pod, BPF_ANY) ||
		    bpf_map_update_elem(p->map_fd[PLANE_MAP_NETNS], &pod.netns_cookie, &row, BPF_ANY) ||
		    bpf_map_update_elem(p->map_fd[PLANE_MAP_IFACES], &pod.ifindex, &iface, BPF_ANY) ||
		    bpf_map_update_elem(p->map_fd[PLANE_MAP_LOADS], &pod.ifindex, &none, BPF_ANY))
			die("map");
	}
}

/* A segment without data; its sums are nobody's business here. */
static uint32_t segment(uint8_t *out, const struct question *q, uint16_t port, uint8_t flags)
{
	struct addr from, to;
	uint8_t *tcp;
	bool v4;

	CHECK(addr_parse(str_of(q->source), &from) && addr_parse(str_of(q->server->ip), &to));
	v4 = addr_is_v4(&to);
	memset(out, 0, FRAME_MAX);
	out[0] = 2;
	memcpy(out + 12, v4 ? "\x08\x00\x45" : "\x86\xdd\x60", 3);
	tcp = out + 14 + (v4 ? 20 : 40);
	if (v4) {
		out[14 + 3] = 40;
		memcpy(out + 14 + 8, "\x40\x06", 2);
		memcpy(out + 14 + 12, from.b + 12, 4);
		memcpy(out + 14 + 16, to.b + 12, 4);
	} else {
		out[14 + 5] = 20;
		memcpy(out + 14 + 6, "\x06\x40", 2);
		memcpy(out + 14 + 8, from.b, 16);
		memcpy(out + 14 + 24, to.b, 16);
	}
	memcpy(tcp, (uint16_t[]){ htons(port), htons(q->port) }, 4);
	tcp[7] = flags == SYN ? 1 : 2;
	tcp[12] = 0x50;
	tcp[13] = flags;
	return (uint32_t)(tcp + 20 - out);
}

/* What the program at the server's link says of the packet, and the packet then. */
static int run(struct plane *p, const struct question *q, uint16_t port, uint8_t flags, uint8_t *out)
{
	uint8_t in[FRAME_MAX];
	uint32_t len = segment(in, q, port, flags);
	struct __sk_buff ctx = { .ifindex = 100 + (uint32_t)(q->server - pods), .ingress_ifindex = 1 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in, .data_size_in = len, .data_out = out,
		    .data_size_out = FRAME_MAX, .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);

	if (bpf_prog_test_run_opts(p->tc_fd[PLANE_TC_TO_POD], &opts))
		die("BPF_PROG_TEST_RUN");
	if (opts.retval == REDIRECT)
		CHECK_MSG(opts.data_size_out == len && (out[len - 20 + 13] & 4), "a refused packet is no reset: %#x",
			  out[len - 20 + 13]);
	return (int)opts.retval;
}

/* Whether it lets the packet pass; otherwise it is a reset. */
static bool passes(struct plane *p, const struct question *q, uint16_t port, uint8_t flags)
{
	uint8_t out[FRAME_MAX];
	int verdict = run(p, q, port, flags, out);

	CHECK_MSG(verdict == PASS || verdict == REDIRECT, "verdict %d", verdict);
	return verdict == PASS;
}

static void check_verdict(struct plane *p, const struct world_of_words *w, struct question *q, uint16_t port,
			  uint8_t flags, bool want, const char *text)
{
	bool got = passes(p, q, port, flags);

	cases++;
	denied += !want;
	if (got == want || ++wrong > 3)
		return;
	CHECK_MSG(false, "%s -> %s:%u%s: got %d, want %d (%u policies)\n%s", q->source, q->server->ip, q->port,
		  flags == SYN ? "" : " (open)", got, want, w->policy_nr, text);
}

static struct question question(void)
{
	struct question q = { .server = &pods[below(NR(pods))], .port = probes[below(NR(probes))] };

	do {
		q.client = below(3) ? &pods[below(NR(pods))] : NULL;
		q.source = q.client ? q.client->ip : strangers[below(NR(strangers))];
	} while (q.client == q.server || !strchr(q.source, ':') != !strchr(q.server->ip, ':'));
	return q;
}

/* One rule set: the connections that are open meet it, then new ones do. */
static uint32_t round_of(struct plane *p, struct open *open, uint32_t open_nr, struct buf *text)
{
	struct world_of_words w;
	struct buf copy = { 0 };
	struct snapshot *s;
	uint32_t nr = 0;

	make_words(&w, text);
	buf_add(&copy, text->data, text->len);
	s = compile(&copy, p->snapshot);
	apply(p, s);
	for (uint32_t i = 0; i < open_nr; i++) {
		bool want = allowed(&w, &open[i].q, false);

		check_verdict(p, &w, &open[i].q, open[i].port, ACK, want, text->data);
		cut += !want;
	}
	for (uint32_t i = 0; i < ASKED; i++) {
		struct question q = question();
		bool want = allowed(&w, &q, false);
		uint16_t port = next_port = next_port < 1024 ? 1024 : next_port + 1;

		check_verdict(p, &w, &q, port, SYN, want, text->data);
		if (want)
			open[nr++] = (struct open){ q, port };
	}
	snapshot_unref(s);
	plane_idle(p);
	return nr;
}

TEST(kernel_verdicts_are_those_of_the_words)
{
	uint64_t wanted = getenv("CASES") ? strtoull(getenv("CASES"), NULL, 0) : 100000;
	struct plane *p = plane_start();
	struct buf text = { 0 };
	struct open open[ASKED];
	uint32_t nr = 0;

	words_state = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 0x9e3779b97f4a7c15ull;
	links_make(p);
	/* No socket is behind these pods: what is open is asked about at the links. */
	p->cut = true;
	cut_init(p);
	while (cases < wanted && wrong <= 3 && !test_bad)
		nr = round_of(p, open, nr, &text);
	CHECK_INT(wrong, 0);
	/* No answer is rare. */
	CHECK_MSG(denied * 10 > cases && denied * 2 < cases && cut * 20 > cases,
		  "%llu of %llu denied, %llu of them open", (unsigned long long)denied, (unsigned long long)cases,
		  (unsigned long long)cut);
	printf("%llu cases, %llu denied, %llu of these when they were open\n", (unsigned long long)cases,
	       (unsigned long long)denied, (unsigned long long)cut);
	buf_release(&text);
	unload(p);
}

/* As a reader finds it that has been overtaken, when what it holds has become another's: nobody may pass without being asked about. */
TEST(whoever_finds_the_workload_of_another_address_is_dropped)
{
	struct plane *p = plane_start();
	struct question q = { .server = &pods[0], .port = probes[0] };
	uint32_t own, other = p->map_max[PLANE_MAP_WORKLOADS] - 1, dropped = 0;
	struct mesh_workload wrong_one = { .workload_id = 1, .epoch = 1 };
	struct addr addr, elsewhere;
	uint8_t out[FRAME_MAX];
	struct buf text = { 0 };
	struct snapshot *s;

	for (uint32_t i = 0; i < NR(pods); i++)
		if (&pods[i] != q.server && !strchr(pods[i].ip, ':') == !strchr(q.server->ip, ':'))
			q.client = &pods[i];
	q.source = q.client->ip;
	links_make(p);
	make_words(&(struct world_of_words){ 0 }, &text);
	s = compile(&text, p->snapshot);
	apply(p, s);
	CHECK(run(p, &q, 1024, SYN, out) != SHOT);
	CHECK(addr_parse(str_of(q.server->ip), &addr) && addr_parse(STR("198.51.100.1"), &elsewhere));
	memcpy(&wrong_one.addr, &elsewhere, sizeof(elsewhere));
	CHECK(!bpf_map_lookup_elem(p->map_fd[PLANE_MAP_MEMBERS], &addr, &own));
	CHECK(!bpf_map_update_elem(p->map_fd[PLANE_MAP_WORKLOADS], &other, &wrong_one, BPF_ANY));
	CHECK(!bpf_map_update_elem(p->map_fd[PLANE_MAP_MEMBERS], &addr, &other, BPF_ANY));
	CHECK_INT(run(p, &q, 1025, SYN, out), SHOT);
	CHECK(!bpf_map_update_elem(p->map_fd[PLANE_MAP_MEMBERS], &addr, &own, BPF_ANY));
	CHECK(run(p, &q, 1026, SYN, out) != SHOT);
	/* The client's: who has a policy drops it. */
	CHECK(addr_parse(str_of(q.source), &addr));
	CHECK(!bpf_map_lookup_elem(p->map_fd[PLANE_MAP_MEMBERS], &addr, &own));
	CHECK(!bpf_map_update_elem(p->map_fd[PLANE_MAP_MEMBERS], &addr, &other, BPF_ANY));
	for (uint32_t i = 0; i < NR(pods); i++) {
		q.server = &pods[i];
		if (q.server != q.client && !strchr(q.source, ':') == !strchr(q.server->ip, ':'))
			dropped += run(p, &q, (uint16_t)(1030 + i), SYN, out) == SHOT;
	}
	CHECK_MSG(dropped, "nobody with a policy minds");
	snapshot_unref(s);
	buf_release(&text);
	unload(p);
}
