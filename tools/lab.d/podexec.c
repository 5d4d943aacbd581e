/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs a command where a pod runs: `podexec [--name LAB] POD [-n NAMESPACE] -- CMD`, which is what `tools/lab exec` is, looks
 * the pod up in the lab's table; `podexec -c CGROUP -N NETNS [-d] -- CMD` names the place itself (-d: detached, in a session of
 * its own). It becomes the command, so exit code, signals and terminal are the command's own. Exit 125: it could not get
 * there, 126 and 127 as a shell has them.
 */
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "enter.h"

#define LAB_STATE "/run/tulle-lab"

struct place {
	char cgroup[PATH_MAX], netns[PATH_MAX];
};

/* One line of the lab's table of pods: namespace, pod, workload, cgroup, netns; tabs between. */
enum { COL_NS, COL_POD, COL_WORKLOAD, COL_CGROUP, COL_NETNS, COL_NR };

static bool line_split(char *line, char *col[COL_NR])
{
	for (int i = 0; i < COL_NR; i++) {
		col[i] = strsep(&line, "\t\n");
		if (!col[i])
			return false;
	}
	return true;
}

/* How well a line answers to the name: 0 not at all; a pod's own name before a workload's, the namespace default before others. */
static int line_rank(char *const col[COL_NR], const char *ns, const char *pod)
{
	int rank;

	if (!strcmp(col[COL_POD], pod))
		rank = 4;
	else if (!strcmp(col[COL_WORKLOAD], pod))
		rank = 2;
	else
		return 0;
	if (ns)
		return strcmp(col[COL_NS], ns) ? 0 : rank;
	return rank + !strcmp(col[COL_NS], "default");
}

static void find_pod(const char *lab, const char *ns, const char *name, struct place *ret)
{
	char path[PATH_MAX], *line = NULL, *copy = strdup(name), *slash = strchr(copy, '/'), *col[COL_NR];
	const char *pod = copy;
	int best = 0, rank;
	size_t cap = 0;
	FILE *f;

	if (slash) {
		*slash = '\0';
		ns = copy;
		pod = slash + 1;
	}
	snprintf(path, sizeof(path), LAB_STATE "/%s/pods", lab);
	f = fopen(path, "re");
	if (!f)
		errx(125, "there is no lab \"%s\" (%s: %s)", lab, path, strerror(errno));
	while (getline(&line, &cap, f) > 0) {
		if (!line_split(line, col))
			continue;
		rank = line_rank(col, ns, pod);
		if (rank <= best)
			continue;
		best = rank;
		snprintf(ret->cgroup, sizeof(ret->cgroup), "%s", col[COL_CGROUP]);
		snprintf(ret->netns, sizeof(ret->netns), "%s", col[COL_NETNS]);
	}
	fclose(f);
	free(line);
	if (!best)
		errx(125, "lab \"%s\" has no pod \"%s\"%s%s (tools/lab ls)", lab, name, ns ? " in namespace " : "",
		     ns ? ns : "");
	free(copy);
}

/* The pod's namespace is known by its holder's pid, which may have become another's: is it still in the pod's cgroup? */
static void check_holder(const struct place *place, const char *name)
{
	const char *pod_dir = strrchr(place->cgroup, '/');
	char path[64], line[PATH_MAX] = "";
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/cgroup", strtol(place->netns + strlen("/proc/"), NULL, 10));
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		found = !strncmp(line, "0::", 3) && strrchr(line, '/') && !strcmp(strrchr(line, '/'), pod_dir);
	}
	if (f)
		fclose(f);
	if (!found)
		errx(125, "pod \"%s\" does not live any more", name);
}

static void usage(void)
{
	fputs("usage: tools/lab exec [--name LAB] POD [-n NAMESPACE] -- COMMAND...\n"
	      "POD is a pod, NAMESPACE/POD, a Deployment (its first pod), @node or @outside.\n",
	      stderr);
	exit(125);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "name", required_argument, NULL, 'l' },
		{ "namespace", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	const char *lab = getenv("TULLE_LAB"), *ns = NULL, *cgroup = NULL, *netns = NULL, *pod = NULL;
	struct place place;
	bool detach = false;
	int c;

	if (!lab || !*lab)
		lab = "lab";
	for (;;) {
		/* '+': what follows POD is either one of our options, "--", or the command itself. */
		c = getopt_long(argc, argv, "+n:c:N:d", options, NULL);
		if (c == 'l')
			lab = optarg;
		else if (c == 'n')
			ns = optarg;
		else if (c == 'c')
			cgroup = optarg;
		else if (c == 'N')
			netns = optarg;
		else if (c == 'd')
			detach = true;
		else if (c != -1)
			usage();
		else if (!pod && !netns && optind < argc && strcmp(argv[optind - 1], "--"))
			pod = argv[optind++];
		else
			break;
	}
	if (optind >= argc || (!pod && !(cgroup && netns)))
		usage();
	if (pod) {
		find_pod(lab, ns, pod, &place);
		check_holder(&place, pod);
		cgroup = place.cgroup;
		netns = place.netns;
	}
	if (detach)
		setsid();
	enter_cgroup(cgroup);
	enter_netns(netns);
	execvp(argv[optind], argv + optind);
	err(errno == ENOENT ? 127 : 126, "%s", argv[optind]);
}
