/* SPDX-License-Identifier: BSD-2-Clause */
/* completion: the bash script, generated from the tables of verbs, flags and kinds, so that it cannot disagree with them. */
#include "config/kinds.h"
#include "meshctl.h"

static void add_verbs(struct buf *b)
{
	for (const struct verb *v = verbs; v->name; v++)
		buf_printf(b, "%s%s", v == verbs ? "" : " ", v->name);
}

static void add_flags(struct buf *b, uint32_t mask)
{
	for (unsigned int i = 0; i < FLAG_NR; i++) {
		if (!(mask & 1u << i))
			continue;
		if (flags[i].letter)
			buf_printf(b, "-%c ", flags[i].letter);
		buf_printf(b, "--%s ", flags[i].name);
	}
}

static void add_kinds(struct buf *b)
{
	buf_str(b, STR("all"));
	for (unsigned int i = 0; i < kind_entry_nr; i++) {
		if (kind_entries[i].class == KIND_DECODED)
			buf_printf(b, " %s", kind_entries[i].plural);
	}
}

/* "a|b" -> "a b" */
static void add_choices(struct buf *b, const char *choices)
{
	for (const char *p = choices; p && *p; p++)
		buf_add(b, *p == '|' ? " " : p, 1);
}

static const char head[] = "# bash completion of meshctl; printed by `meshctl completion bash`\n"
			   "_meshctl()\n"
			   "{\n"
			   "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb='' flags='' "
			   "outputs='' words='' i\n"
			   "\n"
			   "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
			   "\t\tcase ${COMP_WORDS[i]} in\n"
			   "\t\t--socket) ((i++)) ;;\n"
			   "\t\t-*) ;;\n"
			   "\t\t*)\n"
			   "\t\t\tverb=${COMP_WORDS[i]}\n"
			   "\t\t\tbreak\n"
			   "\t\t\t;;\n"
			   "\t\tesac\n"
			   "\tdone\n";

static const char tail[] =
	"\tesac\n"
	"\tcase $prev in\n"
	"\t-f | --filename | --socket)\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	"\t\treturn\n"
	"\t\t;;\n"
	"\t-o | --output) words=$outputs ;;\n"
	"\t--protocol) words='tcp udp' ;;\n"
	"\t--outbound-traffic-policy) words='ALLOW_ANY REGISTRY_ONLY' ;;\n"
	"\t--state) words=$states ;;\n"
	"\t-n | --namespace | --workload | --service | --cluster-domain | --root-namespace | --node-name) words='' ;;\n"
	"\t*)\n"
	"\t\tif [[ $cur == -* ]]; then\n"
	"\t\t\twords=$flags\n"
	"\t\tfi\n"
	"\t\t;;\n"
	"\tesac\n"
	"\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	"}\n"
	"complete -o filenames -F _meshctl meshctl\n";

static void add_states(struct buf *b)
{
	buf_printf(b, "\tlocal states='");
	for (uint32_t i = 0; flow_state(i); i++)
		buf_printf(b, "%s%s", i ? " " : "", flow_state(i));
	buf_printf(b, "'\n");
}

static void add_verb(struct buf *b, const struct verb *v)
{
	buf_printf(b, "\t%s)\n\t\tflags='", v->name);
	add_flags(b, v->flags | FLAG(SOCKET) | FLAG(HELP));
	buf_printf(b, "'\n\t\toutputs='");
	add_choices(b, v->outputs);
	buf_printf(b, "'\n");
	if (v->run == verb_get || v->run == verb_delete) {
		buf_printf(b, "\t\twords='");
		add_kinds(b);
		buf_printf(b, "'\n");
	} else if (v->run == verb_parser) {
		buf_printf(b, "\t\twords='restart'\n");
	} else if (v->run == verb_completion) {
		buf_printf(b, "\t\twords='bash'\n");
	} else if (v->run == verb_help) {
		buf_printf(b, "\t\twords='");
		add_verbs(b);
		buf_printf(b, "'\n");
	}
	buf_printf(b, "\t\t;;\n");
}

int verb_completion(struct args *a)
{
	struct buf b = { 0 };
	int rc;

	if (a->word_nr != 1 || strcmp(a->words[0], "bash"))
		return usage_error("completion: the one shell it is written for is bash: `meshctl completion bash`");
	buf_add(&b, head, sizeof(head) - 1);
	add_states(&b);
	buf_printf(&b, "\tcase $verb in\n");
	for (const struct verb *v = verbs; v->name; v++)
		add_verb(&b, v);
	buf_printf(&b, "\t*)\n\t\tflags='");
	add_flags(&b, FLAG(SOCKET) | FLAG(HELP));
	buf_printf(&b, "'\n\t\twords='");
	add_verbs(&b);
	buf_printf(&b, "'\n\t\t;;\n");
	buf_add(&b, tail, sizeof(tail) - 1);
	rc = print_out((struct str){ b.data, (uint32_t)b.len });
	buf_release(&b);
	return rc;
}
