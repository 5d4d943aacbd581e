/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stands in for meshd in a lab, for parser_path.py: rows of the services that are named are the parser's, and the parser is a script in its
 * network namespace, as an unprivileged user, with the listeners from descriptor 3 on. Commands on standard input, an answer for each:
 *   apply l4|closed|open   the rules as they are, as rows for the parser that fail closed or open
 *   up LISTENERS WORD...   starts the script with these words; a parser before it keeps what it has
 *   down                   kills the last one
 *   count HOOK REASON      a counter
 *   relays                 clients that the parser may speak for
 *   flows                  records of connections that were the parser's
 *   adopt, close, exit     of the namespace; the data path stays
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "peer.h"
#include "plane/plane_int.h"

#define NOBODY 65534
#define WORDS_MAX 16

static struct settings settings;
static struct plane *plane;
static const char *service; /* "namespace/host" begins with this */
static int netns_fd = -1;
static pid_t last;

static void read_rules(struct batch *batch)
{
	DIR *dir = opendir(settings.rules);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char path[4096];
		struct buf text = { 0 };
		size_t got;
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s", settings.rules, e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "re");
		while (f) {
			char block[65536];

			got = fread(block, 1, sizeof(block), f);
			if (!got)
				break;
			buf_add(&text, block, got);
		}
		if (f)
			fclose(f);
		batch_read(batch, LAYER_RULES, str_of(path), (struct str){ text.data, (uint32_t)text.len });
		buf_release(&text);
	}
	if (dir)
		closedir(dir);
}

/* Its units are this program's own: nobody else has seen them yet. */
static void mark(struct snapshot *s, bool open)
{
	for (uint32_t i = 0; i < s->unit_nr; i++) {
		struct unit *u = s->units[i];
		struct u_row *rows = (struct u_row *)u->rows;

		if (strncmp(u->host.p, service, strlen(service)))
			continue;
		u->hash ^= open ? 2 : 1;
		for (uint32_t k = 0; k < u->row_nr; k++) {
			rows[k].l7 = rows[k].proto == MESH_PROTO_TCP && rows[k].action == MESH_ROUTE;
			rows[k].fail_open = open;
		}
	}
}

static void apply(const char *how)
{
	const struct snapshot_options options = { .cluster_domain = str_of(settings.cluster_domain),
						  .root_namespace = str_of(settings.root_namespace),
						  .trust_domain = str_of(settings.cluster_domain),
						  .node_name = str_of(settings.node_name) };
	struct model *model = model_new();
	struct plane_applied done = { 0 };
	struct snapshot *s = NULL;
	struct batch batch = { 0 };
	struct buf err = { 0 };

	read_rules(&batch);
	for (uint32_t i = 0; i < batch.nr; i++)
		if (batch.results[i].doc)
			doc_unref(model_put(model, batch.results[i].doc));
	if (snapshot_build(model, &options, NULL, NULL, 0, &batch, &s))
		die("rules");
	if (strcmp(how, "l4"))
		mark(s, !strcmp(how, "open"));
	if (plane_apply(plane, s, &done, &err))
		die(err.data);
	plane_rescan(plane);
	snapshot_unref(s);
	batch_release(&batch);
	model_free(model);
	printf("ok %llu\n", (unsigned long long)done.epoch);
}

static void child(char **words, const int *fds, int nr)
{
	if (setns(netns_fd, CLONE_NEWNET))
		die("setns");
	for (int i = 0; i < nr; i++) /* they are above 3 + nr: maps and programs were there first */
		if (dup2(fds[i], 3 + i) < 0)
			die("dup2");
	if (setgid(NOBODY) || setuid(NOBODY))
		die("setuid");
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* another user's would be forgotten */
	execvp(words[0], words);
	die("exec");
}

static void up(char **words)
{
	int nr = atoi(words[0]), fds[MESH_PARSERS_MAX], rc, ready[2];
	char byte;

	if (netns_fd < 0) {
		rc = parser_net_open(plane, &netns_fd);
		if (rc) {
			printf("cannot open: %s\n", strerror(-rc));
			return;
		}
	}
	rc = parser_net_listen(plane, (uint32_t)nr, fds);
	if (rc || pipe2(ready, O_CLOEXEC)) {
		printf("cannot listen: %s\n", strerror(-rc));
		return;
	}
	last = fork();
	if (!last)
		child(words + 1, fds, nr);
	/* Closed by its exec. */
	close(ready[1]);
	if (read(ready[0], &byte, 1) < 0)
		die("read");
	close(ready[0]);
	rc = parser_net_publish(plane, fds, (uint32_t)nr);
	for (int i = 0; i < nr; i++)
		close(fds[i]);
	printf("%s\n", rc ? strerror(-rc) : "ok");
}

static void down(void)
{
	kill(last, SIGKILL);
	waitpid(last, NULL, 0);
	printf("ok\n");
}

static void count(const char *hook, const char *reason)
{
#define X(name, label, ...) label,
	static const char *const hooks[] = { MESH_HOOKS(X) }, *const reasons[] = { MESH_REASONS(X) };
#undef X
	uint64_t per_cpu[1024] = { 0 }, sum = 0;
	uint32_t at = UINT32_MAX;

	for (uint32_t h = 0; h < MESH_HOOK_NR; h++)
		for (uint32_t r = 0; r < MESH_REASON_NR; r++)
			if (!strcmp(hook, hooks[h]) && !strcmp(reason, reasons[r]))
				at = h * MESH_REASON_MAX + r;
	if (bpf_map_lookup_elem(plane->map_fd[PLANE_MAP_COUNTERS], &at, per_cpu))
		die("no such counter");
	for (uint32_t i = 0; i < sizeof(per_cpu) / sizeof(*per_cpu); i++)
		sum += per_cpu[i];
	printf("%llu\n", (unsigned long long)sum);
}

static void relays(void)
{
	struct mesh_addr key, *at = NULL;
	uint32_t nr = 0;

	for (; !bpf_map_get_next_key(plane->map_fd[PLANE_MAP_RELAYS], at, &key); at = &key)
		nr++;
	printf("%u\n", nr);
}

static bool is_parsed(void *data, const struct flow_view *v)
{
	const struct mesh_flow *f = v->flow;

	*(uint32_t *)data += f->path == MESH_PATH_L7 && f->bytes_sent && f->bytes_received && v->service.len &&
			     !memcmp(&f->dialled, &f->chosen, sizeof(f->dialled));
	return true;
}

static void flows(void)
{
	const struct flow_filter all = { 0 };
	uint32_t nr = 0;

	if (plane_flows(plane, &all, is_parsed, &nr) < 0)
		die("flows");
	printf("%u\n", nr);
}

/* As a meshd that was started anew would. */
static void adopt_again(void)
{
	int other = dup(netns_fd), rc = parser_net_adopt(plane, other);

	close(other);
	netns_fd = plane->parser.netns_fd;
	printf("%s\n", rc ? strerror(-rc) : "ok");
}

static bool obey(char *line)
{
	char *words[WORDS_MAX + 1] = { 0 };
	uint32_t nr = 0;

	for (char *word; nr < WORDS_MAX && (word = strsep(&line, " \n"));)
		if (*word)
			words[nr++] = word;
	if (!nr || !strcmp(words[0], "exit"))
		return false;
	if (!strcmp(words[0], "apply"))
		apply(words[1]);
	else if (!strcmp(words[0], "up"))
		up(words + 1);
	else if (!strcmp(words[0], "down"))
		down();
	else if (!strcmp(words[0], "count"))
		count(words[1], words[2]);
	else if (!strcmp(words[0], "relays"))
		relays();
	else if (!strcmp(words[0], "flows"))
		flows();
	else if (!strcmp(words[0], "adopt"))
		adopt_again();
	else if (!strcmp(words[0], "close"))
		parser_net_close(plane), netns_fd = -1, printf("ok\n");
	else
		die("what?");
	return true;
}

int main(int argc, char **argv)
{
	struct buf err = { 0 };
	char line[4096];

	service = argv[1];
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (settings_read(&settings, argc - 1, argv + 1, &err) || plane_open(&settings, &plane, &err))
		die(err.data);
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin) && obey(line))
		;
	plane_close(plane);
	settings_release(&settings);
	return 0;
}
