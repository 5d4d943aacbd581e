/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The holder of a network namespace, as a kubelet's pause container is: `pause CGROUP new|NETNS [node]` enters the cgroup, makes
 * a network namespace (or joins one, for pods on the host network), brings lo up, sets what the lab expects of a pod's (or the
 * node's) network, closes standard output to say so, and sleeps until it is killed. It never touches the namespace it was
 * started in.
 */
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "enter.h"

struct setting {
	const char *path, *value;
	bool node_only;
};

static const struct setting settings[] = {
	/* Addresses must be usable at once; the lab gives each only once. */
	{ "net/ipv6/conf/default/accept_dad", "0", false },
	{ "net/ipv6/conf/default/dad_transmits", "0", false },
	{ "net/ipv6/conf/default/accept_ra", "0", false },
	{ "net/ipv6/conf/default/router_solicitations", "0", false },
	/* A client that dials one endpoint more often than it has ports in a minute. */
	{ "net/ipv4/tcp_tw_reuse", "1", false },
	{ "net/ipv4/ip_forward", "1", true },
	{ "net/ipv6/conf/all/forwarding", "1", true },
	{ "net/ipv4/conf/all/rp_filter", "0", true },
	{ "net/ipv4/neigh/default/gc_thresh1", "4096", true },
	{ "net/ipv4/neigh/default/gc_thresh2", "8192", true },
	{ "net/ipv4/neigh/default/gc_thresh3", "16384", true },
	{ "net/ipv6/neigh/default/gc_thresh1", "4096", true },
	{ "net/ipv6/neigh/default/gc_thresh2", "8192", true },
	{ "net/ipv6/neigh/default/gc_thresh3", "16384", true },
};

static void set(const char *name, const char *value)
{
	char path[256];
	int fd;

	/* /proc/sys/net shows the namespace of the caller. A kernel that lacks a setting does without it. */
	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		warn("%s", path);
	close(fd);
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr))
		err(1, "lo up");
	close(fd);
}

int main(int argc, char **argv)
{
	bool node = argc == 4 && !strcmp(argv[3], "node");
	sigset_t none;
	int null;

	if (argc != 3 && !node)
		errx(2, "usage: pause CGROUP new|NETNS [node]");
	enter_cgroup(argv[1]);
	if (strcmp(argv[2], "new")) {
		enter_netns(argv[2]);
	} else {
		if (unshare(CLONE_NEWNET))
			err(1, "network namespace");
		for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
			if (node || !settings[i].node_only)
				set(settings[i].path, settings[i].value);
		loopback_up();
	}
	setsid();
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 2) < 0 || dup2(null, 1) < 0)
		err(1, "/dev/null");
	sigemptyset(&none);
	for (;;)
		sigsuspend(&none);
}
