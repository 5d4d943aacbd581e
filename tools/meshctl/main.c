/* SPDX-License-Identifier: BSD-2-Clause */
/* meshctl: one table of verbs, which also prints the usage. Parses the command line; knows nothing of what the verbs do. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "meshctl.h"

#define X(id, letter_, name_, value_, help_) { .letter = letter_, .name = name_, .value = value_, .help = help_ },
const struct flag flags[FLAG_NR] = { FLAGS(X) };
#undef X

#define COMPILE_FLAGS (FLAG(FILENAME) | FLAG(CLUSTER_DOMAIN) | FLAG(ROOT_NAMESPACE) | FLAG(NODE_NAME) | FLAG(OUTBOUND))

const struct verb verbs[] = {
	{ "check", "-f PATH...", "say whether rules would be accepted; needs no daemon and no root",
	  COMPILE_FLAGS | FLAG(OUTPUT), "json", 0, verb_check },
	{ "apply", "-f PATH...", "make rules live, all of them or none", FLAG(FILENAME) | FLAG(DRY_RUN) | FLAG(OUTPUT),
	  "json", 0, verb_apply },
	{ "delete", "-f PATH... | KIND NAME...", "remove rules that were applied", FLAG(FILENAME) | FLAG(NAMESPACE),
	  NULL, 0, verb_delete },
	{ "get", "KIND [NAME...]", "list rules, or print them", FLAG(NAMESPACE) | FLAG(ALL_NAMESPACES) | FLAG(OUTPUT),
	  "wide|json|yaml|name", 0, verb_get },
	{ "diff", "-f PATH...", "what apply would change", FLAG(FILENAME), NULL, 0, verb_diff },
	{ "explain", "SRC DST:PORT [-f PATH...]", "which rule decides a connection, and what it decides",
	  COMPILE_FLAGS | FLAG(OUTPUT) | FLAG(PROTOCOL), "json", 2, verb_explain },
	{ "flows", "", "connections, open and closed, with their counters",
	  FLAG(WORKLOAD) | FLAG(SERVICE) | FLAG(STATE) | FLAG(LIVE) | FLAG(OUTPUT), "wide|json", 0, verb_flows },
	{ "endpoints", "[HOST]", "how the endpoints of services fare, and why", FLAG(OUTPUT), "wide|json", 0,
	  verb_endpoints },
	{ "status", "", "state of meshd and of the data path", FLAG(OUTPUT), "wide|json", 0, verb_status },
	{ "metrics", "", "what meshl7 has counted, as Prometheus reads it", 0, NULL, 0, verb_metrics },
	{ "parser", "restart", "let a new process of meshl7 take over", 0, NULL, 0, verb_parser },
	{ "version", "", "versions of meshctl and of meshd", FLAG(OUTPUT), "json", 0, verb_version },
	{ "completion", "bash", "print the completion script of a shell", 0, NULL, 0, verb_completion },
	{ "help", "[VERB]", "print help", 0, NULL, 0, verb_help },
	{ 0 },
};

int usage_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("error: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return EXIT_USAGE;
}

int print_out(struct str text)
{
	if ((text.len && fwrite(text.p, 1, text.len, stdout) != text.len) || fflush(stdout))
		return usage_error("standard output: %m");
	return EXIT_DONE;
}

static const struct verb *verb_find(const char *name)
{
	for (const struct verb *v = verbs; v->name; v++) {
		if (!strcmp(v->name, name))
			return v;
	}
	return NULL;
}

static int unknown_verb(const char *name)
{
	struct str names[sizeof(verbs) / sizeof(*verbs)];
	uint32_t nr = 0;
	int nearest;

	for (const struct verb *v = verbs; v->name; v++)
		names[nr++] = str_of(v->name);
	nearest = str_nearest(str_of(name), names, nr);
	if (nearest >= 0)
		return usage_error("unknown verb `%s`, did you mean `%s`?", name, verbs[nearest].name);
	return usage_error("unknown verb `%s`; `meshctl help` lists them", name);
}

static void print_flag(struct buf *b, const struct flag *f, const char *value)
{
	char left[64];

	snprintf(left, sizeof(left), "%c%c%s--%s%s%s", f->letter ? '-' : ' ', f->letter ? f->letter : ' ',
		 f->letter ? ", " : "  ", f->name, value ? " " : "", value ? value : "");
	buf_printf(b, "  %-34s %s\n", left, f->help);
}

static void print_flags(struct buf *b, uint32_t mask, const char *outputs)
{
	buf_printf(b, "\nFlags:\n");
	for (unsigned int i = 0; i < FLAG_NR; i++) {
		if (mask & 1u << i)
			print_flag(b, &flags[i], i == FLAG_OUTPUT ? outputs : flags[i].value);
	}
}

static void usage_verb(struct buf *b, const struct verb *v)
{
	buf_printf(b, "Usage: meshctl %s%s%s [FLAGS]\n\n%s\n", v->name, *v->synopsis ? " " : "", v->synopsis, v->help);
	print_flags(b, v->flags | FLAG(SOCKET) | FLAG(HELP), v->outputs);
}

static void usage(struct buf *b)
{
	buf_printf(b, "Usage: meshctl [--socket PATH] VERB [FLAGS]\n\nVerbs:\n");
	for (const struct verb *v = verbs; v->name; v++)
		buf_printf(b, "  %-11s %-26s %s\n", v->name, v->synopsis, v->help);
	print_flags(b, FLAG(SOCKET) | FLAG(HELP), NULL);
	buf_printf(b, "\n`meshctl VERB --help` lists the flags of a verb; meshctl(8) says more.\n");
}

int verb_help(struct args *a)
{
	const struct verb *v = NULL;
	struct buf b = { 0 };
	int rc;

	if (a->word_nr > 1)
		return usage_error("help: at most one VERB");
	if (a->word_nr) {
		v = verb_find(a->words[0]);
		if (!v)
			return unknown_verb(a->words[0]);
		usage_verb(&b, v);
	} else {
		usage(&b);
	}
	rc = print_out((struct str){ b.data, (uint32_t)b.len });
	buf_release(&b);
	return rc;
}

static bool in_list(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; p && len; p = strchr(p, '|'), p = p ? p + 1 : NULL) {
		if (!strncmp(p, word, len) && (p[len] == '|' || !p[len]))
			return true;
	}
	return false;
}

/* The flag that `arg` names, with the value that hangs on it ("--output=json", "-ojson"); FLAG_NR: none. */
static unsigned int flag_find(const char *arg, const char **ret_value)
{
	bool is_long = arg[1] == '-';
	size_t len = is_long ? strcspn(arg + 2, "=") : 1;
	const char *end = is_long ? arg + 2 + len : arg + 2;

	*ret_value = *end == '=' ? end + 1 : *end ? end : NULL;
	for (unsigned int i = 0; i < FLAG_NR; i++) {
		if (is_long ? strlen(flags[i].name) == len && !strncmp(flags[i].name, arg + 2, len)
			    : flags[i].letter == arg[1])
			return i;
	}
	return FLAG_NR;
}

/* One flag at argv[*i]. An exit code; advances over a value that is an argument of its own. */
static int parse_flag(struct args *a, const struct verb *v, int argc, char **argv, int *i)
{
	uint32_t allowed = FLAG(SOCKET) | FLAG(HELP) | (v ? v->flags : 0);
	const char *arg = argv[*i], *value;
	unsigned int id = flag_find(arg, &value);
	const char *verb_name = v ? v->name : "meshctl";

	if (id == FLAG_NR || !(allowed & 1u << id))
		return usage_error("%s: unknown flag %s; `meshctl %s--help` lists them", verb_name, arg,
				   v ? "VERB " : "");
	if (!flags[id].value && value)
		return usage_error("%s: --%s takes no value", verb_name, flags[id].name);
	if (flags[id].value && !value) {
		if (*i + 1 == argc)
			return usage_error("%s: --%s needs a value: %s", verb_name, flags[id].name, flags[id].value);
		value = argv[++*i];
	}
	if (id == FLAG_OUTPUT && !in_list(v->outputs, value))
		return usage_error("%s: unknown output format `%s`; choose from %s", verb_name, value, v->outputs);
	if (id == FLAG_PROTOCOL && !in_list(flags[id].value, value))
		return usage_error("%s: unknown protocol `%s`; choose from %s", verb_name, value, flags[id].value);
	if (id == FLAG_OUTBOUND && !in_list(flags[id].value, value))
		return usage_error("%s: unknown policy `%s`; choose from %s", verb_name, value, flags[id].value);
	if (id == FLAG_FILENAME)
		a->paths[a->path_nr++] = value;
	a->given |= 1u << id;
	a->value[id] = value;
	return EXIT_DONE;
}

/* Words behind the verb's own are paths when there is a -f: `check -f a.yaml b.yaml`, as a shell expands `check -f *.yaml`. */
static void take_paths(struct args *a, const struct verb *v)
{
	if (!(a->given & FLAG(FILENAME)) || a->word_nr <= v->words_before_paths)
		return;
	for (uint32_t i = v->words_before_paths; i < a->word_nr; i++)
		a->paths[a->path_nr++] = a->words[i];
	a->word_nr = v->words_before_paths;
}

static bool wants_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb");
}

/* Fills `a`, and *ret_verb when a verb was given. An exit code. */
static int parse(struct args *a, int argc, char **argv, const struct verb **ret_verb)
{
	const struct verb *v = NULL;
	bool flags_end = false;

	a->words = arena_array(&a->arena, (size_t)argc, sizeof(*a->words));
	a->paths = arena_array(&a->arena, (size_t)argc, sizeof(*a->paths));
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		int rc;

		if (!flags_end && !strcmp(arg, "--")) {
			flags_end = true;
		} else if (!flags_end && arg[0] == '-' && arg[1]) {
			rc = parse_flag(a, v, argc, argv, &i);
			if (rc)
				return rc;
		} else if (!v) {
			v = verb_find(arg);
			if (!v)
				return unknown_verb(arg);
		} else {
			a->words[a->word_nr++] = arg;
		}
	}
	*ret_verb = v;
	if (v)
		take_paths(a, v);
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	struct args a = { .colour = wants_colour() };
	const struct verb *v = NULL;
	int rc;

	rc = parse(&a, argc, argv, &v);
	if (rc)
		goto out;
	if (a.given & FLAG(HELP)) {
		a.word_nr = v ? 1 : 0;
		if (v)
			a.words[0] = v->name;
		rc = verb_help(&a);
	} else if (!v) {
		struct buf b = { 0 };

		usage(&b);
		fwrite(b.data, 1, b.len, stderr);
		buf_release(&b);
		rc = EXIT_USAGE;
	} else {
		rc = v->run(&a);
	}
out:
	arena_release(&a.arena);
	return rc;
}
