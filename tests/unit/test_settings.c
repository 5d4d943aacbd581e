/* SPDX-License-Identifier: BSD-2-Clause */
/* meshd's settings: flags, config file, and how each mistake is reported. */
#include "test.h"

#include <errno.h>
#include <unistd.h>

#include "plane/settings.h"

static struct settings s;
static struct buf err;
static char path[64];

/* Writes a config file and reads it, with --unload so that no cgroup2 is needed, plus `flag`. */
static int read_config(const char *text, const char *flag)
{
	char *argv[] = { "meshd", "--unload", "--config", path, (char *)flag, NULL };
	FILE *f;

	settings_release(&s);
	buf_release(&err);
	snprintf(path, sizeof(path), "/tmp/test_settings.%d.yaml", (int)getpid());
	f = fopen(path, "w");
	if (!f || fputs(text, f) < 0 || fclose(f))
		abort();
	return settings_read(&s, flag ? 5 : 4, argv, &err);
}

static void done(void)
{
	unlink(path);
	settings_release(&s);
	buf_release(&err);
}

static int read_flags(int argc, char **argv)
{
	settings_release(&s);
	buf_release(&err);
	return settings_read(&s, argc, argv, &err);
}

TEST(defaults)
{
	char *argv[] = { "meshd", "--unload", NULL };
	char name[256];

	CHECK_INT(read_flags(2, argv), 0);
	CHECK_STR(s.pin, "/sys/fs/bpf/tulle");
	CHECK_STR(s.rules, "");
	CHECK_STR(s.state, "/var/lib/tulle");
	CHECK_STR(s.socket, "/run/tulle/meshd.sock");
	CHECK_STR(s.cluster_domain, "cluster.local");
	CHECK_INT(s.max_services, 65536);
	CHECK_INT(s.max_pods, 1024);
	CHECK_INT(s.max_workloads, 131072);
	CHECK(!gethostname(name, sizeof(name)));
	CHECK_STR(s.node_name, name);
	CHECK(s.unload && !s.version && !s.help);
	done();
}

TEST(flags_in_both_forms_win_over_the_file)
{
	CHECK_INT(read_config("node-name: from-file\nmax-pods: 64\n", "--node-name=flag"), 0);
	CHECK_STR(s.node_name, "flag");
	CHECK_INT(s.max_pods, 64);
	done();
}

TEST(a_null_value_keeps_the_default)
{
	CHECK_INT(read_config("# nothing here\nrules:\nnode-name: x\n", NULL), 0);
	CHECK_STR(s.rules, "");
	CHECK_INT(read_config("", NULL), 0);
	CHECK_INT(read_config("---\n", NULL), 0);
	done();
}

static void check_refused(const char *text, const char *want)
{
	CHECK_INT(read_config(text, NULL), -EINVAL);
	CHECK_MSG(err.data && strstr(err.data, want), "got \"%s\", want \"%s\"", err.data, want);
	CHECK_MSG(err.data && strstr(err.data, path), "no file name in \"%s\"", err.data);
}

TEST(switches_are_on_unless_turned_off)
{
	CHECK_INT(read_config("node-name: x\n", NULL), 0);
	CHECK(s.socket_hooks && s.tc);
	CHECK_STR(s.node_interfaces, "auto");
	CHECK_INT(read_config("socket-hooks: off\nnode-interfaces: eth1,auto\n", "--tc=off"), 0);
	CHECK(!s.socket_hooks && !s.tc);
	CHECK_STR(s.node_interfaces, "eth1,auto");
	CHECK(!s.registry_only);
	CHECK_INT(read_config("outbound-traffic-policy: REGISTRY_ONLY\n", NULL), 0);
	CHECK(s.registry_only && !s.cut);
	CHECK_INT(s.accelerate, ACCELERATE_OFF);
	CHECK_INT(read_config("accelerate: on\naccelerate-loopback: on\n", "--accelerate=auto"), 0);
	CHECK(s.accelerate == ACCELERATE_AUTO && s.accelerate_loopback);
	CHECK_INT(read_config("on-policy-change: keep\n", "--on-policy-change=cut"), 0);
	CHECK(s.cut);
	done();
}

TEST(mistakes_in_the_file_have_a_place)
{
	check_refused("node-name: a\nmax_pods: 5\n", ":2:1: error: max_pods: unknown setting");
	check_refused("max_pods: 5\n", "did you mean `max-pods`?");
	check_refused("max-pods: 5\n", ":1:11: error: max-pods: must be a number from 8 to 65536");
	check_refused("max-pods: many\n", "must be a number");
	check_refused("max-pods: [8]\n", "must be a single value");
	check_refused("pin: relative/path\n", ":1:6: error: pin: must be an absolute path");
	check_refused("state: ''\n", "must not be empty");
	check_refused("log-level: loud\n", "must be err, warn, info or debug");
	check_refused("tc: maybe\n", ":1:5: error: tc: must be on or off");
	check_refused("accelerate: maybe\n", ":1:13: error: accelerate: must be auto, on or off");
	check_refused("on-policy-change: close\n", "must be cut or keep");
	check_refused("outbound-traffic-policy: any\n", "must be REGISTRY_ONLY or ALLOW_ANY");
	check_refused("node-interfaces: ''\n", "must not be empty");
	check_refused("unload: true\n", "can only be given as a flag");
	check_refused("config: /x\n", "can only be given as a flag");
	check_refused("- a\n", "must be a map of settings");
	check_refused("node-name: a\n---\nnode-name: b\n", "one document only");
	check_refused("node-name: a\nnode-name: b\n", ":2:1:");
	check_refused("node-name: \"a\n", ":");
	done();
}

static void check_flag(char *flag, char *value, const char *want)
{
	char *argv[] = { "meshd", flag, value, NULL };

	CHECK_INT(read_flags(value ? 3 : 2, argv), -EINVAL);
	CHECK_MSG(err.data && strstr(err.data, want), "got \"%s\", want \"%s\"", err.data, want);
}

TEST(mistakes_on_the_command_line)
{
	check_flag("--max-pod", "5", "unknown flag --max-pod, did you mean --max-pods?");
	check_flag("--max-pods", NULL, "--max-pods needs a value");
	check_flag("--max-pods", "x", "--max-pods must be a number");
	check_flag("--max-pods=", NULL, "--max-pods must be a number");
	check_flag("--unload=1", NULL, "takes no value");
	check_flag("stray", NULL, "unexpected argument `stray`");
	check_flag("--", NULL, "unexpected argument");
	check_flag("--socket", "relative", "must be an absolute path");
	check_flag("--cgroup", "/proc", "not a directory of a cgroup2 file system");
	check_flag("--cgroup", "/does/not/exist", "No such file");
	done();
}

TEST(a_named_file_must_exist)
{
	char *argv[] = { "meshd", "--config", "/does/not/exist.yaml", NULL };

	CHECK_INT(read_flags(3, argv), -ENOENT);
	CHECK(strstr(err.data, "/does/not/exist.yaml") != NULL);
	done();
}

TEST(help_names_every_flag)
{
	static const char *const flags[] = { "--config",
					     "--cgroup",
					     "--pin",
					     "--rules",
					     "--state",
					     "--socket",
					     "--socket-group",
					     "--node-name",
					     "--cluster-domain",
					     "--root-namespace",
					     "--max-services",
					     "--max-endpoints",
					     "--max-pods",
					     "--max-flows",
					     "--max-closed-flows",
					     "--log-level",
					     "--unload",
					     "--version",
					     "--help" };
	struct buf out = { 0 };

	settings_help(&out);
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
		CHECK_MSG(strstr(out.data, flags[i]), "%s is missing", flags[i]);
	buf_release(&out);
}
