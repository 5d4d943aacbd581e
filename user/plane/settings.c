/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * meshd's settings. One table gives the keys of the config file, the flags, the help text, the defaults and the bounds, so that
 * they cannot drift apart. Reads files; changes nothing on the system.
 */
#include "plane/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/log.h"
#include "config/yaml.h"
#include "mesh_l7.h"

#define CONFIG_DEFAULT "/etc/tulle/meshd.yaml"
#define CONFIG_MAX (1u << 20)

enum option_type {
	OPTION_TEXT,
	OPTION_PATH, /* absolute; may be empty where `min` is 0 */
	OPTION_NUMBER,
	OPTION_LEVEL,
	OPTION_SWITCH,
	OPTION_OUTBOUND,
	OPTION_CHANGE,
	OPTION_REMOVAL,
	OPTION_LOG_FORMAT,
	OPTION_DOWN,
	OPTION_WEIGHTS,
	OPTION_ACCELERATE, /* enum accelerate */
	OPTION_FLAG,	   /* takes no value; command line only */
	OPTION_TYPE_NR,
};

/* Of settings that are one of two words: what they are when true, and when false. */
static const char *const words_of[OPTION_TYPE_NR][2] = {
	[OPTION_SWITCH] = { "on", "off" },
	[OPTION_OUTBOUND] = { "REGISTRY_ONLY", "ALLOW_ANY" },
	[OPTION_CHANGE] = { "cut", "keep" },
	[OPTION_REMOVAL] = { "reset", "keep" },
	[OPTION_LOG_FORMAT] = { "json", "text" },
	[OPTION_DOWN] = { "l4", "closed" },
	[OPTION_WEIGHTS] = { "request", "connection" },
};

struct option_row {
	const char *name;
	enum option_type type;
	size_t offset;
	const char *value; /* default; NULL: worked out, see `help` */
	const char *help;
	uint32_t min, max;
	bool flag_only;
};

#define AT(field) offsetof(struct settings, field)

/* clang-format off */
static const struct option_row options[] = {
	{ "config", OPTION_PATH, AT(config), CONFIG_DEFAULT, "file of settings in YAML; may be absent unless this flag is given",
	  1, 0, true },
	{ "cgroup", OPTION_PATH, AT(cgroup), NULL, "cgroup2 directory whose sockets are the mesh's (default: where cgroup2 is mounted)",
	  1, 0, false },
	{ "pin", OPTION_PATH, AT(pin), "/sys/fs/bpf/tulle", "directory of the data path's pins, on a BPF file system", 1, 0, false },
	{ "rules", OPTION_PATH, AT(rules), "", "directory of rules in YAML or JSON, watched; empty: none", 0, 0, false },
	{ "state", OPTION_PATH, AT(state), "/var/lib/tulle", "directory that keeps what `meshctl apply` was given", 1, 0, false },
	{ "socket", OPTION_PATH, AT(socket), "/run/tulle/meshd.sock", "control socket", 1, 96, false },
	{ "socket-group", OPTION_TEXT, AT(socket_group), "", "group that may use the control socket; empty: root alone", 0, 0, false },
	{ "node-name", OPTION_TEXT, AT(node_name), NULL, "name of this node in the rules (default: the host name)", 1, 253, false },
	{ "cluster-domain", OPTION_TEXT, AT(cluster_domain), "cluster.local", "DNS domain of the cluster", 1, 253, false },
	{ "root-namespace", OPTION_TEXT, AT(root_namespace), "istio-system", "namespace whose rules hold for all others", 1, 63, false },
	{ "outbound-traffic-policy", OPTION_OUTBOUND, AT(registry_only), "ALLOW_ANY",
	  "ALLOW_ANY or REGISTRY_ONLY: what pods may reach whose Sidecar does not say", 0, 0, false },
	{ "max-services", OPTION_NUMBER, AT(max_services), "65536", "rows, i.e. address x port x client scope", 16, 16777216, false },
	{ "max-endpoints", OPTION_NUMBER, AT(max_endpoints), "131072", "endpoints, counted for each destination that has them", 16, 16777216, false },
	{ "max-pods", OPTION_NUMBER, AT(max_pods), "1024", "pods on this node", 8, 65536, false },
	{ "max-flows", OPTION_NUMBER, AT(max_flows), "65536", "live flows", 64, 16777216, false },
	{ "max-closed-flows", OPTION_NUMBER, AT(max_closed_flows), "65536", "closed flows remembered, rounded up to a power of two",
	  64, 16777216, false },
	{ "max-connections", OPTION_NUMBER, AT(max_connections), "65536", "live connections that are tracked at the links of pods and node",
	  64, 16777216, false },
	{ "max-pod-connections", OPTION_NUMBER, AT(max_pod_connections), "0", "of these, what one pod may have; 0: a quarter", 0, 16777216,
	  false },
	{ "max-workloads", OPTION_NUMBER, AT(max_workloads), "131072", "addresses of workloads, in the whole cluster", 16, 16777216,
	  false },
	{ "max-policy-terms", OPTION_NUMBER, AT(max_policy_terms), "262144", "steps of policies, old and new ones together", 64,
	  16777216, false },
	{ "max-table-entries", OPTION_NUMBER, AT(max_table_entries), "1048576",
	  "entries of hash rings, Maglev tables and turns by weight, old and new ones together", 64, 67108864, false },
	{ "on-policy-change", OPTION_CHANGE, AT(cut), "keep",
	  "keep or cut the established connections that a change of policies forbids", 0, 0, false },
	{ "drain-timeout", OPTION_NUMBER, AT(drain_timeout_s), "0",
	  "seconds that connections of an endpoint which is draining or gone may last; 0: as long as they do", 0, 31536000, false },
	{ "on-endpoint-removal", OPTION_REMOVAL, AT(reset_removed), "keep",
	  "keep or reset the connections of an endpoint that the rules have no more", 0, 0, false },
	{ "sock-diag", OPTION_SWITCH, AT(sock_diag), "off",
	  "on or off: cut connections through sock_diag even where the kernel has bpf_sock_destroy", 0, 0, false },
	{ "socket-hooks", OPTION_SWITCH, AT(socket_hooks), "on", "on or off: decide at connect(); off leaves it all to tc", 0, 0, false },
	{ "tc", OPTION_SWITCH, AT(tc), "on", "on or off: programs at the links of pods and node", 0, 0, false },
	{ "accelerate", OPTION_ACCELERATE, AT(accelerate), "off",
	  "auto, on or off: whether bytes between two pods of this node may go from socket to socket, past TCP", 0, 0, false },
	{ "accelerate-loopback", OPTION_SWITCH, AT(accelerate_loopback), "off", "on or off: the same inside a pod, over its loopback", 0, 0,
	  false },
	{ "accelerate-parser", OPTION_SWITCH, AT(accelerate_parser), "off", "on or off: the same with meshl7, of pods with accelerate: on", 0, 0,
	  false },
	{ "accelerate-message", OPTION_NUMBER, AT(accelerate_message), "65536",
	  "bytes that may go one way before the other side answers; more is bulk, which TCP moves better", 1024, 1048576, false },
	{ "accelerate-flow-bytes", OPTION_NUMBER, AT(accelerate_flow), "131072",
	  "bytes of one direction that may wait for their reader past TCP; more go by TCP", 4096, 1048576, false },
	{ "accelerate-pod-bytes", OPTION_NUMBER, AT(accelerate_pod), "67108864", "the same of all connections of a pod", 65536,
	  2147483647, false },
	{ "max-accelerated", OPTION_NUMBER, AT(max_accelerated), "16384", "sockets of this node that are accelerated", 16, 1048576, false },
	{ "shortcut", OPTION_SWITCH, AT(shortcut), "on",
	  "on or off: packets of established connections between pods of the node go straight from link to link", 0, 0, false },
	{ "node-interfaces", OPTION_TEXT, AT(node_interfaces), "auto",
	  "the node's links to the outside: names with commas between them; auto: those of default routes; none", 1, 1024, false },
	{ "parser", OPTION_SWITCH, AT(parser), "on",
	  "on or off: meshl7, which routes HTTP request by request and runs once a rule needs it; off refuses such rules", 0, 0, false },
	{ "parser-user", OPTION_TEXT, AT(parser_user), PARSER_USER, "who meshl7 is, by name or number; 64999 where there is no tulle-l7",
	  1, 256, false },
	{ "parser-workers", OPTION_NUMBER, AT(parser_workers), "0", "threads of meshl7; 0: one for each CPU", 0, MESH_L7_WORKERS_MAX,
	  false },
	{ "parser-memory", OPTION_NUMBER, AT(parser_memory), "1024", "MiB of memory that meshl7 may have; 0: any", 0, 1048576, false },
	{ "on-parser-down", OPTION_DOWN, AT(parser_fail_open), "closed",
	  "closed or l4: connections that are meshl7's are refused while it is down, or balanced without a look at requests", 0, 0, false },
	{ "http-weights", OPTION_WEIGHTS, AT(http_per_request), "connection",
	  "connection or request: what weights of http routes are of, where nothing else needs the bytes of requests", 0, 0, false },
	{ "access-log", OPTION_PATH, AT(access_log), "", "file or FIFO that meshl7 logs requests to; empty: none", 0, 0, false },
	{ "access-log-format", OPTION_LOG_FORMAT, AT(access_log_json), "text", "text, as Istio has it by default, or json", 0, 0, false },
	{ "log-level", OPTION_LEVEL, AT(log_level), "info", "err, warn, info or debug", 1, 0, false },
	{ "unload", OPTION_FLAG, AT(unload), NULL, "remove the data path and everything else meshd made in the kernel, and exit",
	  0, 0, true },
	{ "version", OPTION_FLAG, AT(version), NULL, "print the version and exit", 0, 0, true },
	{ "help", OPTION_FLAG, AT(help), NULL, "print this text and exit", 0, 0, true },
};
/* clang-format on */

#define OPTION_NR (sizeof(options) / sizeof(*options))

static char **text_of(struct settings *s, const struct option_row *o)
{
	return (char **)((char *)s + o->offset);
}

static const struct option_row *option_find(struct str name, struct str *ret_hint)
{
	struct str names[OPTION_NR];
	int near;

	for (size_t i = 0; i < OPTION_NR; i++) {
		names[i] = str_of(options[i].name);
		if (str_eq(names[i], name))
			return &options[i];
	}
	near = str_nearest(name, names, OPTION_NR);
	*ret_hint = near < 0 ? (struct str){ 0 } : names[near];
	return NULL;
}

/* Stores one value. False with a sentence in `why`. */
static bool option_set(struct settings *s, const struct option_row *o, struct str v, struct buf *why)
{
	char **text = text_of(s, o);
	enum log_level level;
	uint64_t number;

	if (o->type == OPTION_NUMBER) {
		if (!str_to_u64(v, o->max, &number) || number < o->min) {
			buf_printf(why, "must be a number from %u to %u", o->min, o->max);
			return false;
		}
		*(uint32_t *)((char *)s + o->offset) = (uint32_t)number;
		return true;
	}
	if (o->type == OPTION_ACCELERATE) {
		enum accelerate mode = accelerate_parse(v);

		if (!mode)
			buf_printf(why, "must be auto, on or off");
		else
			*(enum accelerate *)((char *)s + o->offset) = mode;
		return mode;
	}
	if (words_of[o->type][0]) {
		if (!str_is(v, words_of[o->type][0]) && !str_is(v, words_of[o->type][1])) {
			buf_printf(why, "must be %s or %s", words_of[o->type][0], words_of[o->type][1]);
			return false;
		}
		*(bool *)((char *)s + o->offset) = str_is(v, words_of[o->type][0]);
		return true;
	}
	if (v.len && memchr(v.p, 0, v.len)) {
		buf_printf(why, "must not hold a zero byte");
		return false;
	}
	if (!v.len && o->min) {
		buf_printf(why, "must not be empty");
		return false;
	}
	if (o->max && v.len > o->max) {
		buf_printf(why, "must be at most %u bytes long", o->max);
		return false;
	}
	if (o->type == OPTION_PATH && v.len && v.p[0] != '/') {
		buf_printf(why, "must be an absolute path");
		return false;
	}
	free(*text);
	*text = xmalloc((size_t)v.len + 1);
	if (v.len)
		memcpy(*text, v.p, v.len);
	(*text)[v.len] = 0;
	if (o->type == OPTION_LEVEL && !log_level_parse(*text, &level)) {
		buf_printf(why, "must be err, warn, info or debug");
		return false;
	}
	return true;
}

/* One key of the config file. `given` marks what the command line has set already. */
static void config_key(struct settings *s, bool *given, const struct ynode *key, const struct ynode *value,
		       struct diags *diags, struct str file)
{
	struct where at = { .file = file, .document = 1, .line = key->line, .column = key->column };
	const struct option_row *o;
	struct buf why = { 0 };
	struct str near = { 0 };

	if (key->kind != YNODE_SCALAR) {
		diag_add(diags, DIAG_ERROR, at, STR(""), STR(""), "a setting's name must be a text");
		return;
	}
	o = option_find(key->scalar, &near);
	if (!o || o->flag_only) {
		if (near.len)
			buf_printf(&why, "did you mean `%.*s`?", STR_ARG(near));
		diag_add(diags, DIAG_ERROR, at, key->scalar, (struct str){ why.data, (uint32_t)why.len },
			 o ? "can only be given as a flag" : "unknown setting");
		goto out;
	}
	at.line = value->line;
	at.column = value->column;
	if (value->kind != YNODE_SCALAR && value->kind != YNODE_NULL) {
		diag_add(diags, DIAG_ERROR, at, key->scalar, STR(""), "must be a single value");
		goto out;
	}
	/* A key without a value keeps its default. */
	if (value->kind == YNODE_NULL || given[o - options])
		goto out;
	given[o - options] = true;
	if (!option_set(s, o, value->scalar, &why))
		diag_add(diags, DIAG_ERROR, at, key->scalar, STR(""), "%s", why.data);
out:
	buf_release(&why);
}

/* The whole file, at most CONFIG_MAX bytes. 0 or -errno. */
static int read_file(const char *path, struct buf *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char chunk[16384];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, chunk, sizeof(chunk))) > 0 && ret->len <= CONFIG_MAX)
		buf_add(ret, chunk, (size_t)n);
	n = n < 0 ? -errno : ret->len > CONFIG_MAX ? -EFBIG : 0;
	close(fd);
	return (int)n;
}

static void config_parse(struct settings *s, bool *given, struct str file, struct str text, struct diags *diags)
{
	struct arena arena = { 0 };
	struct yaml *y = yaml_open(file, text);
	struct ynode *root = NULL;
	struct str slice;
	uint32_t document;
	int rc;

	while ((rc = yaml_next(y, &arena, diags, &root, &document, &slice)) > 0) {
		struct where at = { .file = file, .document = document };

		if (!root || root->kind == YNODE_NULL)
			continue;
		at.line = root->line;
		at.column = root->column;
		if (root->kind != YNODE_MAP || document > 1) {
			diag_add(diags, DIAG_ERROR, at, STR(""), STR(""),
				 document > 1 ? "one document only" : "must be a map of settings");
			continue;
		}
		for (uint32_t i = 0; i < root->nr; i++)
			config_key(s, given, root->items[2 * i], root->items[2 * i + 1], diags, file);
	}
	yaml_close(y);
	arena_release(&arena);
}

static int config_read(struct settings *s, bool *given, bool wanted, struct buf *err)
{
	struct str file = str_of(s->config);
	struct diags diags = { 0 };
	struct buf text = { 0 };
	int rc = read_file(s->config, &text);

	if (rc == -ENOENT && !wanted)
		rc = 0;
	if (rc) {
		buf_printf(err, "meshd: %s: %s\n", s->config, strerror(-rc));
		rc = rc == -ENOENT ? rc : -EINVAL;
		goto out;
	}
	diags_source(&diags, (struct str){ text.data, (uint32_t)text.len }, 1, 0);
	config_parse(s, given, file, (struct str){ text.data, (uint32_t)text.len }, &diags);
	for (uint32_t i = 0; i < diags.nr; i++)
		diag_print(err, &diags.items[i], false);
	rc = diags.errors ? -EINVAL : 0;
out:
	diags_release(&diags);
	buf_release(&text);
	return rc;
}

/* One argument, and the next where it is its value. Number of arguments taken, or -EINVAL. */
static int flag_read(struct settings *s, bool *given, char **argv, struct buf *err)
{
	struct str arg = str_of(argv[0]), name, near = { 0 };
	const struct option_row *o;
	struct buf why = { 0 };
	int eq, used = 1;
	struct str value;

	if (str_is(arg, "-h"))
		arg = STR("--help");
	if (!str_starts(arg, STR("--")) || arg.len == 2) {
		buf_printf(err, "meshd: unexpected argument `%s`; see --help\n", argv[0]);
		return -EINVAL;
	}
	name = str_sub(arg, 2, arg.len);
	eq = str_find(name, '=');
	value = eq < 0 ? str_of(argv[1]) : str_sub(name, (uint32_t)eq + 1, name.len);
	if (eq >= 0)
		name.len = (uint32_t)eq;
	o = option_find(name, &near);
	if (!o) {
		buf_printf(err, "meshd: unknown flag --%.*s", STR_ARG(name));
		if (near.len)
			buf_printf(err, ", did you mean --%.*s?", STR_ARG(near));
		buf_printf(err, "\n");
		return -EINVAL;
	}
	given[o - options] = true;
	if (o->type == OPTION_FLAG) {
		if (eq >= 0) {
			buf_printf(err, "meshd: --%s takes no value\n", o->name);
			return -EINVAL;
		}
		*(bool *)((char *)s + o->offset) = true;
		return 1;
	}
	if (eq < 0) {
		if (!argv[1]) {
			buf_printf(err, "meshd: --%s needs a value\n", o->name);
			return -EINVAL;
		}
		used = 2;
	}
	if (!option_set(s, o, value, &why)) {
		buf_printf(err, "meshd: --%s %s\n", o->name, why.data);
		used = -EINVAL;
	}
	buf_release(&why);
	return used;
}

/* Mount point of cgroup2: the first mount of the whole hierarchy, else (in a container) of a part. Owned, or NULL. */
static char *cgroup_find(void)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *ret = NULL;
	bool whole = false;
	size_t cap = 0;

	while (f && !whole && getline(&line, &cap, f) > 0) {
		char *sep = strstr(line, " - "), root[256], *point;

		if (!sep || strncmp(sep, " - cgroup2 ", 11))
			continue;
		point = xmalloc(strlen(line) + 1);
		if (sscanf(line, "%*s %*s %*s %255s %s", root, point) == 2 && (!ret || !strcmp(root, "/"))) {
			whole = !strcmp(root, "/");
			free(ret);
			ret = point;
		} else {
			free(point);
		}
	}
	free(line);
	if (f)
		fclose(f);
	return ret;
}

/* What the table cannot say: the values that come from the system, and what the cgroup must be. */
static int settings_finish(struct settings *s, struct buf *err)
{
	struct statfs fs;
	char name[256];

	if (!s->node_name) {
		if (gethostname(name, sizeof(name)) || !name[0]) {
			buf_printf(err, "meshd: this host has no name: give --node-name\n");
			return -EINVAL;
		}
		name[sizeof(name) - 1] = 0;
		s->node_name = xstrdup(name);
	}
	if (s->unload || s->version || s->help)
		return 0;
	if (!s->cgroup) {
		s->cgroup = cgroup_find();
		if (!s->cgroup) {
			buf_printf(err, "meshd: no cgroup2 file system is mounted: mount one "
					"(mount -t cgroup2 none /sys/fs/cgroup), or give --cgroup\n");
			return -EINVAL;
		}
	}
	if (statfs(s->cgroup, &fs)) {
		buf_printf(err, "meshd: cgroup %s: %s\n", s->cgroup, strerror(errno));
		return -EINVAL;
	}
	if (fs.f_type != CGROUP2_SUPER_MAGIC) {
		buf_printf(err,
			   "meshd: cgroup %s: not a directory of a cgroup2 file system "
			   "(hosts with both versions have it at /sys/fs/cgroup/unified)\n",
			   s->cgroup);
		return -EINVAL;
	}
	return 0;
}

int settings_read(struct settings *s, int argc, char **argv, struct buf *err)
{
	bool given[OPTION_NR] = { false };
	int rc;

	*s = (struct settings){ 0 };
	for (size_t i = 0; i < OPTION_NR; i++) {
		if (options[i].value)
			option_set(s, &options[i], str_of(options[i].value), err);
	}
	for (int i = 1; i < argc; i += rc) {
		rc = flag_read(s, given, argv + i, err);
		if (rc < 0)
			return rc;
	}
	if (s->help || s->version)
		return 0;
	rc = config_read(s, given, given[0], err);
	return rc ? rc : settings_finish(s, err);
}

void settings_release(struct settings *s)
{
	for (size_t i = 0; i < OPTION_NR; i++) {
		if (options[i].type <= OPTION_PATH || options[i].type == OPTION_LEVEL)
			free(*text_of(s, &options[i]));
	}
	*s = (struct settings){ 0 };
}

void settings_help(struct buf *out)
{
	buf_printf(out, "usage: meshd [--SETTING VALUE]...\n\n"
			"Loads the mesh's data path into the kernel and keeps it in step with the rules.\n"
			"Each setting is a flag and a key of the config file; flags win.\n\n");
	for (size_t i = 0; i < OPTION_NR; i++) {
		const struct option_row *o = &options[i];

		buf_printf(out, "  --%-18s%s", o->name, o->help);
		if (o->value && o->value[0])
			buf_printf(out, " (default: %s)", o->value);
		buf_printf(out, "\n");
	}
	buf_printf(out, "\nSignals: SIGTERM and SIGINT end meshd, and the data path goes on; SIGHUP "
			"reads the rules directory again.\n");
}
