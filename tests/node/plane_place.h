/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The place of plane_test.c: a cgroup, a bpffs in a mount namespace of its own, pods that are processes in network namespaces of
 * their own, and small rule sets. Everything goes when the program ends.
 */
#ifndef TESTS_NODE_PLANE_PLACE_H
#define TESTS_NODE_PLANE_PLACE_H

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#include "../unit/test.h"
#include "base/arena.h"
#include "peer.h"
#include "plane/plane_int.h"

#define PORTS 4
#define PORT 8000 /* servers listen on PORT .. PORT + PORTS - 1 */
#define PODS 3

/* What a pod's process is asked to do, and what it answers. */
struct ask {
	uint32_t ip, count;
	uint16_t port;
};

struct answer {
	uint32_t ok, failed, peer_wrong;
	uint32_t by_port[PORTS];
	int first_errno;
};

struct pod_proc {
	pid_t pid;
	int sock;
	char cgroup[700];
};

static char root[512], cgroup[600], mount_dir[64], pin[80];
static struct pod_proc procs[PODS];
static pid_t owner;

static void pod_stop(struct pod_proc *pod)
{
	char path[720];
	int fd;

	if (!pod->pid)
		return;
	/* With its servers; SIGKILL alone where the kernel is too old for it (before 5.14). */
	snprintf(path, sizeof(path), "%s/cgroup.kill", pod->cgroup);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) != 1)
		kill(pod->pid, SIGKILL);
	close(fd);
	waitpid(pod->pid, NULL, 0);
	close(pod->sock);
	pod->pid = 0;
	for (int i = 0; i < 100 && rmdir(pod->cgroup) && errno == EBUSY; i++)
		usleep(10000);
}

static void clean_up(void)
{
	if (getpid() != owner)
		return;
	for (uint32_t i = 0; i < PODS; i++)
		pod_stop(&procs[i]);
	umount2(mount_dir, MNT_DETACH);
	rmdir(mount_dir);
	rmdir(cgroup);
}

static void on_signal(int signo)
{
	exit(128 + signo);
}

static void __attribute__((constructor)) place_make(void)
{
	char line[1024];
	FILE *f = fopen("/proc/self/mounts", "re");

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, " cgroup2 ") && sscanf(line, "%*s %511s", root) == 1)
			break;
	if (f)
		fclose(f);
	if (!*root || geteuid())
		die("needs root and cgroup2");
	owner = getpid();
	snprintf(cgroup, sizeof(cgroup), "%s/tulle-plane-%d", root, owner);
	snprintf(mount_dir, sizeof(mount_dir), "/run/tulle-plane-%d", owner);
	snprintf(pin, sizeof(pin), "%s/tulle", mount_dir);
	atexit(clean_up);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	if (mkdir(cgroup, 0755) || mkdir(mount_dir, 0700) || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("bpf", mount_dir, "bpf", 0, "mode=0700"))
		die("place");
}

/* ---- pods ---- */

static void answer_port(int listener, uint16_t port)
{
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			continue;
		if (write(fd, &port, sizeof(port)) < 0 && errno != EPIPE && errno != ECONNRESET)
			die("write");
		close(fd);
	}
}

static void servers_start(void)
{
	for (uint16_t i = 0; i < PORTS; i++) {
		int fd = peer_listen((uint16_t)(PORT + i));

		fcntl(fd, F_SETFL, 0);
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			answer_port(fd, i);
		}
		close(fd);
	}
}

static void connect_once(const struct ask *a, struct answer *out)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(a->port), .sin_addr.s_addr = htonl(a->ip) },
			   peer;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(peer);
	uint16_t port;

	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		out->failed++;
		out->first_errno = out->first_errno ? out->first_errno : errno;
		close(fd);
		return;
	}
	out->peer_wrong += getpeername(fd, (struct sockaddr *)&peer, &len) ||
			   peer.sin_addr.s_addr != sa.sin_addr.s_addr || peer.sin_port != sa.sin_port;
	if (read(fd, &port, sizeof(port)) == sizeof(port) && port < PORTS) {
		out->by_port[port]++;
		out->ok++;
	} else {
		out->failed++;
	}
	close(fd);
}

static _Noreturn void pod_main(const char *dir, const char *ip, bool userns, int sock)
{
	char text[700];
	struct ask ask;
	int fd;

	/* The lock and the maps are the parent's alone. */
	if (dup2(sock, 3) < 0 || syscall(SYS_close_range, 4, ~0u, 0))
		die("pod");
	sock = 3;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	snprintf(text, sizeof(text), "%s/cgroup.procs", dir);
	fd = open(text, O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) != 1 || unshare(userns ? CLONE_NEWNET | CLONE_NEWUSER : CLONE_NEWNET))
		die("pod");
	close(fd);
	if (userns) {
		fd = open("/proc/self/uid_map", O_WRONLY);
		if (fd < 0 || write(fd, "0 0 1", 5) != 5)
			die("uid_map");
		close(fd);
	}
	snprintf(text, sizeof(text), "ip link set lo up && ip addr add %s/32 dev lo", ip);
	if (system(text))
		die(text);
	servers_start();
	if (write(sock, "", 1) != 1)
		die("pod");
	while (read(sock, &ask, sizeof(ask)) == sizeof(ask)) {
		struct answer out = { 0 };

		for (uint32_t i = 0; i < ask.count; i++)
			connect_once(&ask, &out);
		if (write(sock, &out, sizeof(out)) != sizeof(out))
			break;
	}
	_exit(0);
}

static void pod_start_as(uint32_t i, const char *dir_name, const char *ip, bool userns)
{
	struct pod_proc *pod = &procs[i];
	int pair[2];
	char ready;

	pod_stop(pod);
	snprintf(pod->cgroup, sizeof(pod->cgroup), "%s/%s", cgroup, dir_name);
	if ((mkdir(pod->cgroup, 0755) && errno != EEXIST) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		die("pod");
	pod->pid = fork();
	if (!pod->pid)
		pod_main(pod->cgroup, ip, userns, pair[1]);
	close(pair[1]);
	pod->sock = pair[0];
	if (read(pod->sock, &ready, 1) != 1)
		die("pod did not start");
}

static void pod_start(uint32_t i)
{
	char dir[64], ip[32];

	snprintf(dir, sizeof(dir), "poduid-%u", i);
	snprintf(ip, sizeof(ip), "10.1.0.%u", i + 1);
	pod_start_as(i, dir, ip, false);
}

static void dial_begin(uint32_t i, uint32_t ip, uint16_t port, uint32_t count)
{
	struct ask ask = { .ip = ip, .port = port, .count = count };

	if (write(procs[i].sock, &ask, sizeof(ask)) != sizeof(ask))
		die("ask");
}

/* The answer of dial_begin() is there. */
static inline bool dial_ended(uint32_t i)
{
	struct pollfd fd = { .fd = procs[i].sock, .events = POLLIN };

	return poll(&fd, 1, 0) != 0;
}

static struct answer dial_end(uint32_t i)
{
	struct answer out;

	if (read(procs[i].sock, &out, sizeof(out)) != sizeof(out))
		die("answer");
	return out;
}

static inline struct answer dial(uint32_t i, uint32_t ip, uint16_t port, uint32_t count)
{
	dial_begin(i, ip, port, count);
	return dial_end(i);
}

/* ---- rules ---- */

static struct settings settings(void)
{
	return (struct settings){
		.cgroup = cgroup,
		.pin = pin,
		.node_name = (char *)"node",
		.max_services = 1024,
		.max_endpoints = 2048,
		.max_pods = 16,
		.max_flows = 1024,
		.max_closed_flows = 1000,
		.max_connections = 1024,
		.socket_hooks = true,
		.tc = true,
		.node_interfaces = (char *)"none",
		.max_workloads = 256,
		.max_policy_terms = 1024,
		.accelerate = ACCELERATE_OFF,
		.accelerate_message = 65536,
		.accelerate_flow = 131072,
		.accelerate_pod = 1 << 26,
		.max_accelerated = 1024,
		.max_table_entries = 65536,
	};
}

static void add_pods(struct buf *b)
{
	for (uint32_t i = 0; i < PODS; i++)
		buf_printf(b,
			   "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p%u, uid: uid-%u}\nspec: {nodeName: node, "
			   "containers: []}\n"
			   "status: {podIP: 10.1.0.%u}\n",
			   i, i, i + 1);
}

/* Service `name` at 10.96.0.`vip`:80 with `nr` endpoints at 10.1.0.1, ports from PORT + first on. */
static void add_service(struct buf *b, const char *name, uint32_t vip, uint32_t first, uint32_t nr)
{
	buf_printf(b,
		   "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: 10.96.%u.%u, ports: "
		   "[{name: a, port: 80}]}\n",
		   name, vip >> 8, vip & 255);
	for (uint32_t i = 0; i < nr; i++)
		buf_printf(b,
			   "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-%u, labels: "
			   "{kubernetes.io/service-name: %s}}\n"
			   "addressType: IPv4\nports: [{name: a, port: %u}]\nendpoints: [{addresses: [10.1.0.1]}]\n",
			   name, i, name, PORT + first + i);
}

static struct snapshot *compile(struct buf *text, const struct snapshot *prev)
{
	const struct snapshot_options options = { .cluster_domain = STR("cluster.local"),
						  .root_namespace = STR("istio-system"),
						  .trust_domain = STR("cluster.local"),
						  .node_name = STR("node") };
	struct model *model = model_new();
	struct snapshot *s = NULL;
	struct batch batch = { 0 };

	batch_read(&batch, LAYER_RULES, STR("test"), (struct str){ text->data, (uint32_t)text->len });
	for (uint32_t i = 0; i < batch.nr; i++)
		if (batch.results[i].doc)
			doc_unref(model_put(model, batch.results[i].doc));
	if (snapshot_build(model, &options, prev, NULL, 0, &batch, &s) || batch.refused) {
		for (uint32_t i = 0; i < batch.diags.nr; i++)
			fprintf(stderr, "%u: %.*s: %.*s\n", batch.diags.items[i].at.line,
				STR_ARG(batch.diags.items[i].field), STR_ARG(batch.diags.items[i].message));
		exit(2);
	}
	batch_release(&batch);
	model_free(model);
	buf_release(text);
	return s;
}

/* Two services, a at .1 on ports 0 and 1, b at .2 on port 2 (or port 3). */
static struct snapshot *two_services(bool other)
{
	struct buf b = { 0 };

	add_pods(&b);
	add_service(&b, "a", 1, 0, 2);
	add_service(&b, "b", 2, other ? 3 : 2, 1);
	return compile(&b, NULL);
}

#define VIP(n) (0x0a600000u + (n))

static struct plane *plane_new_with(const struct settings *s)
{
	struct plane *p = NULL;
	struct buf err = { 0 };

	CHECK_MSG(!plane_open(s, &p, &err), "%s", err.data ? err.data : "");
	buf_release(&err);
	if (!p)
		exit(2);
	return p;
}

static struct plane *plane_start(void)
{
	struct settings s = settings();

	return plane_new_with(&s);
}

static struct plane_applied apply(struct plane *p, struct snapshot *s)
{
	struct plane_applied ret = { 0 };
	struct buf err = { 0 };

	CHECK_MSG(!plane_apply(p, s, &ret, &err), "%s", err.data ? err.data : "");
	buf_release(&err);
	return ret;
}

static void unload(struct plane *p)
{
	struct settings s = settings();
	struct buf err = { 0 };
	struct stat st;

	plane_close(p);
	CHECK_MSG(!plane_unload(&s, &err), "%s", err.data ? err.data : "");
	CHECK(lstat(pin, &st) && errno == ENOENT);
	buf_release(&err);
}

/* Kernel ids of everything a plane made. */
struct made {
	uint32_t progs[PLANE_PROG_NR], maps[PLANE_MAP_NR], links[PLANE_PROG_NR];
};

static uint32_t link_id(const char *name)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/link_%s", pin, name);
	fd = bpf_obj_get(path);
	CHECK(fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len));
	close(fd);
	return info.id;
}

static struct made made_by(const struct plane *p)
{
	struct made m = { 0 };

	for (uint32_t i = 0; i < PLANE_PROG_NR; i++) {
		struct bpf_prog_info info = { 0 };
		uint32_t len = sizeof(info);

		CHECK(!bpf_obj_get_info_by_fd(p->prog_fd[i], &info, &len));
		m.progs[i] = info.id;
		if (p->traced || p->attach_type[i] != BPF_TRACE_RAW_TP)
			m.links[i] = link_id(plane_prog_names[i]);
	}
	for (uint32_t i = 0; i < PLANE_MAP_NR; i++) {
		struct bpf_map_info info = { 0 };
		uint32_t len = sizeof(info);

		CHECK(!bpf_obj_get_info_by_fd(p->map_fd[i], &info, &len));
		m.maps[i] = info.id;
	}
	return m;
}

static uint32_t count_left(const uint32_t *ids, uint32_t nr, int (*get)(uint32_t))
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < nr; i++) {
		int fd = get(ids[i]);

		left += fd >= 0;
		if (fd >= 0)
			close(fd);
	}
	return left;
}

static void check_nothing_left(const struct made *m)
{
	uint32_t left = 1;

	/* Objects go after a grace period. */
	for (uint32_t i = 0; i < 200 && left; i++) {
		usleep(10000);
		left = count_left(m->progs, PLANE_PROG_NR, bpf_prog_get_fd_by_id) +
		       count_left(m->links, PLANE_PROG_NR, bpf_link_get_fd_by_id) +
		       count_left(m->maps, PLANE_MAP_NR, bpf_map_get_fd_by_id);
	}
	CHECK_INT(left, 0);
}

static inline void settle(struct plane *p)
{
	for (uint32_t i = 0; i < 4; i++) {
		plane_idle(p);
		barrier_wait(p);
	}
	plane_idle(p);
}

#endif
