/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The place of flips.c: a cgroup, a bpffs in a mount namespace of its own, and the networks of the pod and, with the programs at the links
 * alone, of the node. Everything goes when the program ends.
 */
#ifndef TESTS_NODE_FLIPS_PLACE_H
#define TESTS_NODE_FLIPS_PLACE_H

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#include "mesh_abi.h"
#include "peer.h"

#define CLIENTS_MAX 64

static struct {
	uint32_t services, flips, clients;
	char root[512];	  /* where cgroup2 is mounted */
	char cgroup[600]; /* of the test */
	char pod[640];
	char mount[64]; /* a bpffs of our own */
	bool six, tc;
} opt = { .services = 500, .flips = 200, .clients = 8 };

static pid_t children[CLIENTS_MAX + 1];
static uint32_t child_nr;
static pid_t owner;

static void clean_up(void)
{
	if (getpid() != owner)
		return;
	for (uint32_t i = 0; i < child_nr; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	/* The namespace of the mount goes with us; the directory is the machine's. */
	umount2(opt.mount, MNT_DETACH);
	rmdir(opt.mount);
	rmdir(opt.pod);
	rmdir(opt.cgroup);
}

static void on_end(int signo)
{
	exit(128 + signo);
}

static void command(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void command(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (system(text)) {
		fprintf(stderr, "flips: %s failed\n", text);
		exit(2);
	}
}

static void find_cgroup2(void)
{
	char line[1024];
	FILE *f = fopen("/proc/self/mounts", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %511s", opt.root) == 1 && strstr(line, " cgroup2 ")) {
			fclose(f);
			return;
		}
	}
	fprintf(stderr, "flips: no cgroup2 is mounted\n");
	exit(2);
}

static void make_dir(const char *path)
{
	if (mkdir(path, 0755) && errno != EEXIST)
		die(path);
}

static void make_place(void)
{
	find_cgroup2();
	owner = getpid();
	snprintf(opt.cgroup, sizeof(opt.cgroup), "%s/tulle-flips-%d", opt.root, getpid());
	snprintf(opt.mount, sizeof(opt.mount), "/run/tulle-flips-%d", getpid());
	snprintf(opt.pod, sizeof(opt.pod), "%s/podflips-client", opt.cgroup);
	atexit(clean_up);
	signal(SIGTERM, on_end);
	signal(SIGINT, on_end);
	make_dir(opt.cgroup);
	make_dir(opt.pod);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("unshare");
	make_dir(opt.mount);
	if (mount("bpf", opt.mount, "bpf", 0, "mode=0700"))
		die("mount bpf");
}

static const char *pin_dir(void)
{
	static char path[80];

	snprintf(path, sizeof(path), "%s/tulle", opt.mount);
	return path;
}

static int pinned(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", pin_dir(), name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		die(path);
	return fd;
}

/* ---- networks ---- */

/* The network namespace of the first child, the pod. */
static void enter_netns(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", children[0]);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(path);
	close(fd);
}

static void enter_pod(void)
{
	char path[700];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", opt.pod);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		die(path);
	close(fd);
}

/* The pod's address, and where every endpoint's is local: with it, or on the node, which it has a link to. */
static void pod_network(void)
{
	command("ip addr add 10.7.0.1/32 dev %s && ip addr add fd07::1/128 dev %s nodad && sysctl -qw "
		"net.ipv4.tcp_congestion_control=reno net.ipv4.ip_local_port_range='10000 65000'",
		opt.tc ? "eth0" : "lo", opt.tc ? "eth0" : "lo");
	if (opt.tc)
		command("ip route add default via 169.254.1.1 dev eth0 onlink && ip route add default via fe80::1 dev "
			"eth0");
}

static void endpoints_network(void)
{
	command("ip link set lo up && ip route add local 10.64.0.0/10 dev lo && ip route add local fd07::a40:0/106 dev "
		"lo");
}

static void node_network(void)
{
	if (unshare(CLONE_NEWNET))
		die("unshare");
	endpoints_network();
}

/* The host's end of the pod's link. */
static void link_network(void)
{
	command("ip link add flips0 type veth peer name eth0 netns %d && ip link set flips0 up && "
		"ip addr add 169.254.1.1/32 dev flips0 && ip addr add fe80::1/64 dev flips0 nodad && "
		"ip route add 10.7.0.1 dev flips0 && ip route add fd07::1 dev flips0 && nsenter --net=/proc/%d/ns/net "
		"ip link set eth0 up",
		children[0], children[0]);
}

#endif
