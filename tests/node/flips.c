/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Flips two rule sets that share no endpoint, no target port and no table size, for all services in one apply, over and over,
 * while clients connect as fast as they can. Through user/plane itself, so that only the flips cost time. Each client reads
 * control.live before and after its connect(), its flow's record in between, and the endpoint's own word for who it is:
 *   no connect() fails; the recorded epoch was live between start and end; the endpoint is the dialled service's in that epoch.
 *
 *   flips [--services N] [--flips N] [--clients N] [--family 4|6] [--path sockets|tc]
 *
 * Full: 10000 services, 1000 flips, 8 clients. Makes its own network and mount namespaces and a cgroup; all go when it ends. With the
 * programs at the sockets, clients and servers share the pod's network; at the links alone (tc), the servers are on the node's.
 */
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#include "config/explain.h"
#include "flips_place.h"
#include "plane/plane.h"

#define PORT_A 7001
#define PORT_B 7102

/* What a client counts; one a client in shared memory. */
struct counts {
	uint64_t connections, failures, outside, foreign, unrecorded, fd_errors;
	uint64_t by_set[2];
	char first[160];
};

struct shared {
	volatile uint32_t stop, pod_ready, linked, server_ready;
	volatile uint64_t first_epoch; /* epoch of set 0's first apply; sets alternate from there */
	struct counts counts[CLIENTS_MAX];
};

/* What a client reads of the data path. conns and nats: not confirmed, then confirmed. */
struct maps {
	const struct mesh_control *control;
	int flows, conns[2], nats[2];
};

static struct shared *shared;
static uint32_t passed, failed;

static void check(const char *name, bool good, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void check(const char *name, bool good, const char *fmt, ...)
{
	va_list ap;

	*(good ? &passed : &failed) += 1;
	printf("%s\t%s\t", name, good ? "pass" : "fail");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

/* ---- the rules ---- */

/*
 * Service i is 10.96.0.0 + i. In set 0 its endpoints are 10.64.0.0 + 8 i + j at PORT_A, 1 to 3 of them; in set 1
 * 10.80.0.0 + 8 i + j at PORT_B, 4 to 7. So an endpoint's address tells set, service and number. Of IPv6 these are the last 32 bits.
 */
static void add_address(struct buf *b, uint32_t a)
{
	if (opt.six)
		buf_printf(b, "\"fd07::%x:%x\"", a >> 16, a & 0xffff);
	else
		buf_printf(b, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

static uint32_t endpoint_nr(uint32_t set, uint32_t service)
{
	return set ? 4 + service % 4 : 1 + service % 3;
}

static void add_service(struct buf *b, uint32_t set, uint32_t i)
{
	uint32_t vip = 0x0a600000 + i + 1, base = (set ? 0x0a500000u : 0x0a400000u) + i * 8;

	buf_printf(b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%u}\nspec: {clusterIP: ", i);
	add_address(b, vip);
	buf_printf(b, ", ports: [{name: tcp, port: 80}]}\n");
	buf_printf(
		b,
		"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%u, labels: "
		"{kubernetes.io/service-name: s%u}}\naddressType: IPv%c\nports: [{name: tcp, port: %u}]\nendpoints:\n",
		i, i, opt.six ? '6' : '4', set ? PORT_B : PORT_A);
	for (uint32_t j = 0; j < endpoint_nr(set, i); j++) {
		buf_printf(b, "- addresses: [");
		add_address(b, base + j);
		buf_printf(b, "]\n");
	}
}

static struct snapshot *compile(uint32_t set)
{
	const struct snapshot_options options = { .cluster_domain = STR("cluster.local"),
						  .root_namespace = STR("istio-system"),
						  .trust_domain = STR("cluster.local") };
	struct model *model = model_new();
	struct snapshot *s = NULL;
	struct batch batch = { 0 };
	struct buf text = { 0 };

	buf_printf(&text, "apiVersion: v1\nkind: Pod\nmetadata: {name: client, uid: flips-client}\nspec: {nodeName: "
			  "flips, containers: []}\n"
			  "status: {podIP: 10.7.0.1, podIPs: [{ip: 10.7.0.1}, {ip: \"fd07::1\"}]}\n");
	for (uint32_t i = 0; i < opt.services; i++)
		add_service(&text, set, i);
	batch_read(&batch, LAYER_RULES, STR("flips"), (struct str){ text.data, (uint32_t)text.len });
	for (uint32_t i = 0; i < batch.nr; i++)
		if (batch.results[i].doc)
			doc_unref(model_put(model, batch.results[i].doc));
	if (batch.refused || snapshot_build(model, &options, NULL, NULL, 0, &batch, &s)) {
		struct buf out = { 0 };

		report_text(&batch, &out, false);
		fprintf(stderr, "flips: the rules do not compile\n%s", out.data ? out.data : "");
		exit(2);
	}
	batch_release(&batch);
	model_free(model);
	buf_release(&text);
	return s;
}

/* ---- servers and clients ---- */

/* Answers every connection with its own local address and port, in 6 bytes, and closes behind the client. */
static _Noreturn void serve(void)
{
	struct epoll_event events[128], e = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), l[2] = { peer_listen(PORT_A), peer_listen(PORT_B) };

	for (int i = 0; i < 2; i++) {
		e.data.fd = l[i];
		epoll_ctl(ep, EPOLL_CTL_ADD, l[i], &e);
	}
	shared->server_ready = 1;
	for (;;) {
		int n = epoll_wait(ep, events, 128, -1);

		for (int i = 0; i < n; i++) {
			struct sockaddr_in6 sa;
			socklen_t len = sizeof(sa);
			int fd = events[i].data.fd, c;
			uint8_t word[6];

			if (fd != l[0] && fd != l[1]) {
				close(fd);
				continue;
			}
			while ((c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
				len = sizeof(sa);
				getsockname(c, (struct sockaddr *)&sa, &len);
				memcpy(word, sa.sin6_addr.s6_addr + 12, 4);
				memcpy(word + 4, &sa.sin6_port, 2);
				send(c, word, sizeof(word), MSG_NOSIGNAL);
				e.data.fd = c;
				epoll_ctl(ep, EPOLL_CTL_ADD, c, &e);
			}
		}
	}
}

static void note(struct counts *n, uint64_t *what, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void note(struct counts *n, uint64_t *what, const char *fmt, ...)
{
	va_list ap;

	(*what)++;
	if (n->first[0])
		return;
	va_start(ap, fmt);
	vsnprintf(n->first, sizeof(n->first), fmt, ap);
	va_end(ap);
}

struct seen {
	uint64_t before, after, epoch;
	uint32_t service, addr, port;
};

/* The endpoint must be the dialled service's in the epoch that the flow says, and that epoch must have been live. */
static void judge(struct counts *n, const struct seen *s)
{
	uint32_t set = (uint32_t)((s->epoch - shared->first_epoch) & 1);
	uint32_t base = (set ? 0x0a500000u : 0x0a400000u) + s->service * 8;

	n->by_set[set]++;
	if (s->epoch < s->before || s->epoch > s->after)
		note(n, &n->outside, "epoch %lu, live was %lu to %lu", s->epoch, s->before, s->after);
	if (s->port != (set ? PORT_B : PORT_A) || s->addr < base || s->addr >= base + endpoint_nr(set, s->service))
		note(n, &n->foreign, "service %u set %u was answered by %08x:%u", s->service, set, s->addr, s->port);
}

static socklen_t service_addr(uint32_t service, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *four = (struct sockaddr_in *)ret;
	uint32_t a = htonl(0x0a600000 + service + 1);

	memset(ret, 0, sizeof(*ret));
	if (!opt.six) {
		four->sin_family = AF_INET;
		four->sin_port = htons(80);
		four->sin_addr.s_addr = a;
		return sizeof(*four);
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(80);
	six->sin6_addr.s6_addr[0] = 0xfd;
	six->sin6_addr.s6_addr[1] = 7;
	memcpy(six->sin6_addr.s6_addr + 12, &a, 4);
	return sizeof(*six);
}

static __be16 end_of(const struct sockaddr_storage *sa, struct mesh_addr *ret)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)sa;
	const struct sockaddr_in *four = (const struct sockaddr_in *)sa;

	if (sa->ss_family == AF_INET)
		*ret = (struct mesh_addr){ { 0, 0, htonl(0xffff), four->sin_addr.s_addr } };
	else
		memcpy(ret, &six->sin6_addr, sizeof(*ret));
	return sa->ss_family == AF_INET ? four->sin_port : six->sin6_port;
}

/* The connection that the links track between the two ends. What is not confirmed yet may become so while it is looked for, never the
 * other way. */
static bool conn_between(const struct maps *m, const struct sockaddr_storage *from, const struct sockaddr_storage *to,
			 struct mesh_flow *ret)
{
	struct mesh_tuple one = { .proto = MESH_PROTO_TCP }, other = { .proto = MESH_PROTO_TCP }, wire;
	uint8_t value[MESH_TIMER_SIZE + sizeof(struct mesh_conn)];

	one.client_port_be = other.server_port_be = end_of(from, &one.client);
	one.server_port_be = other.client_port_be = end_of(to, &one.server);
	other.client = one.server;
	other.server = one.client;
	for (int i = 0; i < 2; i++) {
		if (bpf_map_lookup_elem(m->nats[i], &one, &wire) && bpf_map_lookup_elem(m->nats[i], &other, &wire))
			continue;
		wire.kind = MESH_TUPLE_WIRE;
		if (bpf_map_lookup_elem(m->conns[0], &wire, value) && bpf_map_lookup_elem(m->conns[1], &wire, value))
			continue;
		memcpy(ret, value + MESH_TIMER_SIZE, sizeof(*ret));
		return true;
	}
	return false;
}

static bool flow_of(const struct maps *m, int fd, const struct sockaddr_storage *to, struct mesh_flow *ret)
{
	struct sockaddr_storage from;
	uint64_t cookie = 0;
	socklen_t len = opt.tc ? sizeof(from) : sizeof(cookie);

	if (opt.tc)
		return !getsockname(fd, (struct sockaddr *)&from, &len) && conn_between(m, &from, to, ret);
	return !getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) && !bpf_map_lookup_elem(m->flows, &cookie, ret);
}

static void connect_once(struct counts *n, const struct maps *m, uint32_t service)
{
	struct sockaddr_storage to;
	socklen_t len = service_addr(service, &to);
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct seen s = { .service = service };
	struct mesh_flow flow;
	uint8_t word[6];
	int err;

	if (fd < 0)
		die("socket");
	peer_linger0(fd);
	n->connections++;
	s.before = *(volatile const __u64 *)&m->control->live;
	__sync_synchronize();
	err = connect(fd, (struct sockaddr *)&to, len);
	__sync_synchronize();
	s.after = *(volatile const __u64 *)&m->control->live;
	if (err) {
		note(n, &n->failures, "connect to service %u: %s", service, strerror(errno));
	} else if (!flow_of(m, fd, &to, &flow)) {
		note(n, &n->unrecorded, "no flow of service %u", service);
	} else if (recv(fd, word, sizeof(word), MSG_WAITALL) != sizeof(word)) {
		note(n, &n->failures, "recv from service %u: %s", service, strerror(errno));
	} else {
		s.epoch = flow.epoch;
		s.addr = (uint32_t)word[0] << 24 | (uint32_t)word[1] << 16 | (uint32_t)word[2] << 8 | word[3];
		s.port = (uint32_t)word[4] << 8 | word[5];
		judge(n, &s);
	}
	close(fd);
}

static _Noreturn void client(uint32_t id)
{
	int control_fd = pinned("mesh_control");
	struct maps m = { .flows = pinned("mesh_flows"),
			  .conns = { pinned("mesh_conns_new"), pinned("mesh_conns") },
			  .nats = { pinned("mesh_nats_new"), pinned("mesh_nats") } };
	uint64_t rng = id + 1;

	enter_netns();
	enter_pod();
	m.control = mmap(NULL, (size_t)getpagesize(), PROT_READ, MAP_SHARED, control_fd, 0);
	if (m.control == MAP_FAILED)
		die("pinned maps");
	while (!shared->stop)
		connect_once(&shared->counts[id], &m, (uint32_t)(peer_random(&rng) % opt.services));
	_exit(0);
}

static void spawn(void (*fn)(uint32_t), uint32_t arg)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGTERM, SIG_DFL);
		fn(arg);
		_exit(0);
	}
	children[child_nr++] = pid;
}

static void server(uint32_t unused)
{
	if (!opt.tc)
		enter_netns();
	serve();
}

/* This process keeps the pod's network namespace, and by its cgroup it is known as the pod's. */
static void pod(uint32_t unused)
{
	if (unshare(CLONE_NEWNET))
		die("unshare");
	if (!opt.tc)
		endpoints_network();
	shared->pod_ready = 1;
	while (!shared->linked)
		usleep(1000);
	pod_network();
	enter_pod();
	shared->pod_ready = 2;
	for (;;)
		pause();
}

/* ---- the test ---- */

static void report_closed(void)
{
	int control_fd = pinned("mesh_control"), closed_fd = pinned("mesh_closed");
	uint64_t whole = 0, wrong = 0;
	struct bpf_map_info info = { 0 };
	struct mesh_control control;
	uint32_t len = sizeof(info), zero = 0;
	struct mesh_flow f;

	if (bpf_obj_get_info_by_fd(closed_fd, &info, &len) || bpf_map_lookup_elem(control_fd, &zero, &control))
		die("mesh_closed");
	for (uint32_t i = 0; i < info.max_entries; i++) {
		uint32_t set;

		if (bpf_map_lookup_elem(closed_fd, &i, &f) || !f.seq || f.seq != f.seq_end)
			continue;
		set = (uint32_t)((f.epoch - shared->first_epoch) & 1);
		whole++;
		if (ntohs(f.chosen_port_be) != (set ? PORT_B : PORT_A) || !f.closed_ns || f.epoch > control.live)
			wrong++;
	}
	check("closed-records", whole && !wrong, "%lu records of the ring, %lu whose endpoint is not of their epoch",
	      whole, wrong);
	close(control_fd);
	close(closed_fd);
}

static uint64_t connections(void)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < opt.clients; i++)
		sum += shared->counts[i].connections;
	return sum;
}

static void flip(struct plane *plane, struct snapshot *sets[2])
{
	uint64_t worst = 0, began = peer_now_ns(), before = connections();
	struct plane_applied applied;
	struct buf err = { 0 };
	uint32_t done = 0;

	for (uint32_t i = 0; i < opt.flips; i++) {
		uint64_t start = peer_now_ns();

		buf_clear(&err);
		if (plane_apply(plane, sets[(i + 1) & 1], &applied, &err)) {
			fprintf(stderr, "flips: apply %u: %s\n", i, err.data ? err.data : "");
			break;
		}
		if (applied.epoch != shared->first_epoch + i + 1) {
			fprintf(stderr, "flips: epoch %lu, expected %lu\n", applied.epoch, shared->first_epoch + i + 1);
			break;
		}
		done++;
		plane_idle(plane);
		if (peer_now_ns() - start > worst)
			worst = peer_now_ns() - start;
	}
	buf_release(&err);
	check("flips", done == opt.flips,
	      "%u of %u flips of %u services, %.1f ms each, worst %.1f ms, %lu connections meanwhile", done, opt.flips,
	      opt.services, (double)(peer_now_ns() - began) / 1e6 / (done ? done : 1), (double)worst / 1e6,
	      connections() - before);
}

static void sum_up(void)
{
	struct counts sum = { 0 };

	for (uint32_t i = 0; i < opt.clients; i++) {
		const struct counts *c = &shared->counts[i];

		sum.connections += c->connections;
		sum.failures += c->failures;
		sum.outside += c->outside;
		sum.foreign += c->foreign;
		sum.unrecorded += c->unrecorded;
		sum.by_set[0] += c->by_set[0];
		sum.by_set[1] += c->by_set[1];
		if (c->first[0])
			fprintf(stderr, "client %u: %s\n", i, c->first);
	}
	check("no-failed-connection", sum.connections && !sum.failures, "%lu connections, %lu failed", sum.connections,
	      sum.failures);
	check("epoch-was-live", sum.connections && !sum.outside, "%lu outside what was live during their connect()",
	      sum.outside);
	check("endpoint-of-epoch", !sum.foreign && sum.by_set[0] && sum.by_set[1],
	      "%lu answered by another set or service; sets %lu and %lu", sum.foreign, sum.by_set[0], sum.by_set[1]);
	check("every-flow-recorded", !sum.unrecorded, "%lu without a record", sum.unrecorded);
}

static void wait_for(const volatile uint32_t *flag, uint32_t value)
{
	while (*flag != value) {
		if (waitpid(children[child_nr - 1], NULL, WNOHANG))
			exit(2);
		usleep(1000);
	}
}

static struct plane *open_plane(void)
{
	static char text_services[16], text_endpoints[16];
	char *argv[] = { "meshd",
			 "--cgroup",
			 opt.cgroup,
			 "--pin",
			 (char *)pin_dir(),
			 "--node-name",
			 "flips",
			 "--max-services",
			 text_services,
			 "--max-endpoints",
			 text_endpoints,
			 "--log-level",
			 "warn",
			 "--socket-hooks",
			 opt.tc ? "off" : "on",
			 "--max-connections",
			 "262144",
			 "--max-pod-connections",
			 "262144",
			 NULL };
	struct settings settings;
	struct plane *plane;
	struct buf err = { 0 };

	snprintf(text_services, sizeof(text_services), "%u", opt.services * 4 + 64);
	snprintf(text_endpoints, sizeof(text_endpoints), "%u", opt.services * 32 + 64);
	if (settings_read(&settings, (int)(sizeof(argv) / sizeof(*argv)) - 1, argv, &err) ||
	    plane_open(&settings, &plane, &err)) {
		fprintf(stderr, "flips: %s\n", err.data ? err.data : "");
		exit(2);
	}
	settings_release(&settings);
	return plane;
}

static void unload(void)
{
	char *argv[] = { "meshd", "--cgroup", opt.cgroup, "--pin", (char *)pin_dir(), NULL };
	struct settings settings;
	struct buf err = { 0 };

	if (settings_read(&settings, 5, argv, &err) || plane_unload(&settings, &err))
		check("unload", false, "%s", err.data ? err.data : "");
	settings_release(&settings);
	buf_release(&err);
}

int main(int argc, char **argv)
{
	struct snapshot *sets[2];
	struct plane_applied applied;
	struct plane *plane;
	struct buf err = { 0 };

	for (int i = 1; i + 1 < argc; i += 2) {
		uint32_t n = (uint32_t)atoi(argv[i + 1]);

		if (!strcmp(argv[i], "--services"))
			opt.services = n;
		else if (!strcmp(argv[i], "--flips"))
			opt.flips = n;
		else if (!strcmp(argv[i], "--clients"))
			opt.clients = n < CLIENTS_MAX ? n : CLIENTS_MAX;
		else if (!strcmp(argv[i], "--family"))
			opt.six = n == 6;
		else if (!strcmp(argv[i], "--path"))
			opt.tc = !strcmp(argv[i + 1], "tc");
	}
	signal(SIGPIPE, SIG_IGN);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	make_place();
	sets[0] = compile(0);
	sets[1] = compile(1);
	if (opt.tc)
		node_network();
	spawn(pod, 0);
	wait_for(&shared->pod_ready, 1);
	if (opt.tc)
		link_network();
	shared->linked = 1;
	wait_for(&shared->pod_ready, 2);
	spawn(server, 0);
	wait_for(&shared->server_ready, 1);
	plane = open_plane();
	if (plane_apply(plane, sets[0], &applied, &err)) {
		fprintf(stderr, "flips: %s\n", err.data ? err.data : "");
		return 2;
	}
	if (plane_rescan(plane) != 1) {
		fprintf(stderr, "flips: the client's pod was not found\n");
		return 2;
	}
	/* A scan has an epoch of its own; from here on only flips do. */
	for (uint32_t i = 1; i <= 2; i++) {
		if (plane_apply(plane, sets[i & 1], &applied, &err)) {
			fprintf(stderr, "flips: %s\n", err.data ? err.data : "");
			return 2;
		}
	}
	shared->first_epoch = applied.epoch;
	for (uint32_t i = 0; i < opt.clients; i++)
		spawn(client, i);
	while (connections() < opt.clients * 10)
		usleep(1000);
	flip(plane, sets);
	shared->stop = 1;
	for (uint32_t i = 2; i < child_nr; i++)
		waitpid(children[i], NULL, 0);
	child_nr = 2;
	sum_up();
	report_closed();
	plane_close(plane);
	unload();
	snapshot_unref(sets[0]);
	snapshot_unref(sets[1]);
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed ? 1 : 0;
}
