/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AuthorizationPolicy: what can be decided from addresses, ports, identities and requests of HTTP is decoded. What else there is, is known
 * and never opens anything: an ALLOW rule with it allows nobody, in a DENY rule it counts as if it held always. Sources: Istio
 * security.istio.io/v1 and its webhook's checks.
 */
#include <stdio.h>

#include "config/kind_http.h"
#include "config/kind_local.h"
#include "config/policy.h"

#define ENTRIES_MAX 512
#define ACCOUNTS_MAX 16
#define TESTS_MAX 3 /* of one condition: hosts, methods and paths */

struct raw_source {
	struct strs principals[2], namespaces[2], accounts[2], trust_domains[2], ips[2];
	struct strs request_principals[2], remote_ips[2];
};

struct raw_from {
	struct raw_source source;
};

struct raw_operation {
	struct strs ports[2];
	struct strs hosts[2], methods[2], paths[2];
};

struct raw_to {
	struct raw_operation operation;
};

struct raw_when {
	struct str key;
	struct strs values[2];
};

struct raw_rule {
	struct list from, to, when;
	struct place at;
};

struct raw_policy {
	struct raw_meta meta;
	struct {
		struct {
			struct kvs labels;
		} selector;
		uint32_t action;
		struct list rules;
	} spec;
};

/* ---- fields ---- */

#define PAIR(name, not_name, strukt, member, ...) \
	F_STRS(name, strukt, member[0], ##__VA_ARGS__), F_STRS(not_name, strukt, member[1], ##__VA_ARGS__)

static const struct field source_fields[] = {
	PAIR("principals", "notPrincipals", struct raw_source, principals),
	PAIR("namespaces", "notNamespaces", struct raw_source, namespaces),
	PAIR("serviceAccounts", "notServiceAccounts", struct raw_source, accounts, .max = ACCOUNTS_MAX),
	PAIR("trustDomains", "notTrustDomains", struct raw_source, trust_domains),
	PAIR("ipBlocks", "notIpBlocks", struct raw_source, ips),
	PAIR("requestPrincipals", "notRequestPrincipals", struct raw_source, request_principals),
	PAIR("remoteIpBlocks", "notRemoteIpBlocks", struct raw_source, remote_ips),
	F_END,
};
static const struct schema source_schema = {
	.name = "Source",
	.size = sizeof(struct raw_source),
	.fields = source_fields,
};

static const struct field from_fields[] = {
	F_OBJECT("source", struct raw_from, source, source_schema, .flags = FIELD_REQUIRED),
	F_END,
};
static const struct schema from_schema = { .name = "From", .size = sizeof(struct raw_from), .fields = from_fields };

static const struct field operation_fields[] = {
	PAIR("ports", "notPorts", struct raw_operation, ports),
	PAIR("hosts", "notHosts", struct raw_operation, hosts),
	PAIR("methods", "notMethods", struct raw_operation, methods),
	PAIR("paths", "notPaths", struct raw_operation, paths),
	F_END,
};
static const struct schema operation_schema = {
	.name = "Operation",
	.size = sizeof(struct raw_operation),
	.fields = operation_fields,
};

static const struct field to_fields[] = {
	F_OBJECT("operation", struct raw_to, operation, operation_schema, .flags = FIELD_REQUIRED),
	F_END,
};
static const struct schema to_schema = { .name = "To", .size = sizeof(struct raw_to), .fields = to_fields };

static const struct field when_fields[] = {
	F_STR("key", struct raw_when, key, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	PAIR("values", "notValues", struct raw_when, values),
	F_END,
};
static const struct schema when_schema = { .name = "Condition",
					   .size = sizeof(struct raw_when),
					   .fields = when_fields };

static const struct field rule_fields[] = {
	F_LIST("from", struct raw_rule, from, from_schema, .flags = FIELD_NONEMPTY, .max = ENTRIES_MAX),
	F_LIST("to", struct raw_rule, to, to_schema, .flags = FIELD_NONEMPTY, .max = ITEMS_MAX),
	F_LIST("when", struct raw_rule, when, when_schema, .max = ITEMS_MAX),
	F_END,
};
static const struct schema rule_schema = {
	.name = "Rule",
	.size = sizeof(struct raw_rule),
	.fields = rule_fields,
	.place_offset_plus1 = offsetof(struct raw_rule, at) + 1,
};

static const struct field selector_fields[] = {
	F_KVS("matchLabels", struct raw_policy, spec.selector.labels),
	F_END,
};
static const struct schema selector_schema = {
	.name = "WorkloadSelector",
	.size = sizeof(struct raw_policy),
	.fields = selector_fields,
};

enum { ACTION_ALLOW = 1, ACTION_DENY, ACTION_AUDIT, ACTION_CUSTOM };
static const char *const actions[] = { "ALLOW", "DENY", "AUDIT", "CUSTOM", NULL };

#define NO_WAYPOINT "there is no proxy that the policy could be attached to"

static const struct field spec_fields[] = {
	{ .name = "selector", .type = FIELD_OBJECT, .offset = 0, .sub = &selector_schema },
	F_ENUM("action", struct raw_policy, spec.action, actions),
	F_LIST("rules", struct raw_policy, spec.rules, rule_schema, .max = ENTRIES_MAX),
	F_INERT("provider", FIELD_ANY),
	F_REFUSED("targetRefs", NO_WAYPOINT),
	F_REFUSED("targetRef", NO_WAYPOINT),
	F_END,
};
/* Decoded in place, like the selector: offsets count from the beginning of struct raw_policy. */
static const struct schema spec_schema = {
	.name = "AuthorizationPolicy",
	.size = sizeof(struct raw_policy),
	.fields = spec_fields,
};

static const struct field policy_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_policy, meta, meta_schema, .flags = FIELD_REQUIRED),
	{ .name = "spec", .type = FIELD_OBJECT, .offset = 0, .sub = &spec_schema },
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema policy_schema = {
	.name = "AuthorizationPolicy",
	.size = sizeof(struct raw_policy),
	.fields = policy_fields,
};

/* ---- conditions ---- */

/* One rule while it is read. */
struct reading {
	const struct check *c;
	struct m_policy_rule *rule;
	uint32_t index;
	struct buf unknown; /* fields of it that nobody can tell */
};

static void take_unknown(struct reading *r, struct m_condition *m, const char *name)
{
	m->l7 = r->rule->l7 = m->unknown = true;
	if (r->unknown.len)
		buf_str(&r->unknown, STR(", "));
	buf_str(&r->unknown, str_of(name));
}

/* The key in the brackets, as fields are named. */
static struct str header_of(const struct check *c, const char *key)
{
	const char *open = strchr(key, '[');
	struct str name = open ? str_sub(str_of(open), 1, (uint32_t)strlen(open) - 2) : STR("");

	return open ? http_lower(c->d->arena, name) : name;
}

/* The test of the condition that both lists of a pair belong to. */
static struct m_request_test *request_test(struct reading *r, struct m_condition *m, uint8_t subject, const char *name)
{
	struct m_request_test *t;

	m->l7 = r->rule->l7 = true;
	for (uint32_t i = 0; i < m->test_nr; i++)
		if (m->tests[i].subject == subject)
			return &m->tests[i];
	if (!m->tests)
		m->tests = arena_array(r->c->d->arena, TESTS_MAX, sizeof(*m->tests));
	t = &m->tests[m->test_nr++];
	t->subject = subject;
	if (subject == MESH_SUBJECT_HEADER)
		t->header = header_of(r->c, name);
	return t;
}

static void check_texts(const struct check *c, const struct strs *list, bool l7, const char *path)
{
	for (uint32_t i = 0; i < list->nr; i++) {
		struct str s = list->v[i];

		if (!s.len)
			check_fail(c, STR("must not be empty"), NULL, "%s[%u]", path, i);
		for (uint32_t k = 1; k + 1 < s.len && !l7; k++) {
			if (s.p[k] != '*')
				continue;
			check_warn(c, STR("a \"*\" stands for other characters only at one end of the text"), NULL,
				   "%s[%u]", path, i);
			break;
		}
	}
}

static void check_paths(const struct check *c, const struct strs *list, const char *path)
{
	for (uint32_t i = 0; i < list->nr; i++) {
		const char *bad = path_template_bad(list->v[i]);

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(list->v[i]), bad), NULL, "%s[%u]", path, i);
	}
}

/* "namespace/name", or "name" of the policy's own namespace; all of it is exact. */
static struct strs accounts_of(const struct check *c, const struct strs *list, const char *path)
{
	struct strs full = { .v = arena_array(c->d->arena, list->nr, sizeof(*full.v)), .at = list->at, .nr = list->nr };

	for (uint32_t i = 0; i < list->nr; i++) {
		struct str s = list->v[i];
		int slash = str_find(s, '/');
		struct str name = slash < 0 ? s : str_sub(s, (uint32_t)slash + 1, s.len);

		if (!s.len || !slash || !name.len || str_find(name, '/') >= 0 || s.len > 320)
			check_fail(c, STR("must be a service account: <name> or <namespace>/<name>"), NULL, "%s[%u]",
				   path, i);
		else if (str_find(s, '*') >= 0)
			check_warn(c, STR("a service account has no wildcards: nobody has this name"), NULL, "%s[%u]",
				   path, i);
		full.v[i] = slash < 0 ? CHECK_TEXT(c, "%.*s/%.*s", STR_ARG(c->ns), STR_ARG(s)) : s;
	}
	return full;
}

static struct m_cidrs cidrs_of(const struct check *c, const struct strs *list, const char *path)
{
	struct m_cidrs out = { .v = arena_array(c->d->arena, list->nr, sizeof(*out.v)) };

	for (uint32_t i = 0; i < list->nr; i++)
		if (check_cidr(c, list->v[i], &out.v[out.nr], "%s[%u]", path, i))
			out.nr++;
	return out;
}

static struct m_numbers ports_of(const struct check *c, const struct strs *list, const char *path)
{
	struct m_numbers out = { .v = arena_array(c->d->arena, list->nr, sizeof(*out.v)) };

	for (uint32_t i = 0; i < list->nr; i++) {
		uint64_t port;

		if (str_to_u64(list->v[i], 65535, &port))
			out.v[out.nr++] = (uint16_t)port;
		else
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" is not a port", STR_ARG(list->v[i])), "0 to 65535",
				   "%s[%u]", path, i);
	}
	return out;
}

enum list_form {
	FORM_TEXT,
	FORM_ACCOUNT,
	FORM_SOURCE,
	FORM_DESTINATION,
	FORM_PORT,
	FORM_REQUEST,
	FORM_REMOTE_IP,
	FORM_UNKNOWN,
};

/* Where a list of one condition goes. */
struct list_target {
	enum list_form form;
	size_t at; /* FORM_TEXT: offset of the struct strs [2] in struct m_condition. FORM_REQUEST: enum mesh_http_subject */
};

/* Decodes one list: `negative` 0 or 1, at `path`; `name` is what people call it. */
static void take(struct reading *r, struct m_condition *m, struct list_target to, int negative, const struct strs *list,
		 const char *path, const char *name)
{
	if (!list->nr)
		return;
	switch (to.form) {
	case FORM_TEXT:
		check_texts(r->c, list, false, path);
		((struct strs *)((char *)m + to.at))[negative] = *list;
		break;
	case FORM_ACCOUNT:
		m->accounts[negative] = accounts_of(r->c, list, path);
		break;
	case FORM_SOURCE:
		m->sources[negative] = cidrs_of(r->c, list, path);
		break;
	case FORM_DESTINATION:
		m->destinations[negative] = cidrs_of(r->c, list, path);
		break;
	case FORM_PORT:
		m->ports[negative] = ports_of(r->c, list, path);
		break;
	case FORM_REMOTE_IP:
		request_test(r, m, MESH_SUBJECT_REMOTE_IP, name)->nets[negative] = cidrs_of(r->c, list, path);
		break;
	case FORM_REQUEST:
		if (to.at == MESH_SUBJECT_HEADER && http_name_bad(header_of(r->c, name))) {
			take_unknown(r, m, name);
			break;
		}
		if (to.at == MESH_SUBJECT_PATH)
			check_paths(r->c, list, path);
		check_texts(r->c, list, true, path);
		request_test(r, m, (uint8_t)to.at, name)->texts[negative] = *list;
		break;
	case FORM_UNKNOWN:
		check_texts(r->c, list, true, path);
		take_unknown(r, m, name);
		break;
	}
}

#define TEXT_TO(member)                                         \
	{                                                       \
		FORM_TEXT, offsetof(struct m_condition, member) \
	}
#define REQUEST_TO(subject)                          \
	{                                            \
		FORM_REQUEST, MESH_SUBJECT_##subject \
	}
#define TO(form)        \
	{               \
		form, 0 \
	}

/* The lists of `fields` (pairs, as PAIR has them) in `raw`. */
static void take_all(struct reading *r, struct m_condition *m, const struct field *fields, const void *raw,
		     const struct list_target *targets, const char *base)
{
	uint32_t given = 0;

	for (uint32_t i = 0; fields[i].name; i++) {
		const struct strs *list = (const struct strs *)((const char *)raw + fields[i].offset);
		char path[128];

		snprintf(path, sizeof(path), "%s.%s", base, fields[i].name);
		given += list->nr;
		take(r, m, targets[i / 2], i % 2, list, path, fields[i].name);
	}
	if (!given)
		check_fail(r->c, STR("must have at least one condition"), NULL, "%s", base);
}

/* An empty list counts: the API server asks only whether the field is there. */
static void check_accounts_alone(const struct check *c, const char *base)
{
	static const char *const accounts[] = { "serviceAccounts", "notServiceAccounts" };
	static const char *const others[] = { "principals", "notPrincipals", "namespaces", "notNamespaces" };

	for (size_t i = 0; i < sizeof(accounts) / sizeof(*accounts); i++) {
		for (size_t j = 0; j < sizeof(others) / sizeof(*others); j++) {
			if (!check_has(c, "%s.%s", base, accounts[i]) || !check_has(c, "%s.%s", base, others[j]))
				continue;
			check_fail(c, STR("service accounts cannot stand beside principals or namespaces"),
				   "write two entries of `from`", "%s.%s", base, accounts[i]);
			return;
		}
	}
}

static void read_from(struct reading *r, const struct list *from)
{
	static const struct list_target targets[] = {
		TEXT_TO(principals), TEXT_TO(namespaces), TO(FORM_ACCOUNT),   TEXT_TO(trust_domains),
		TO(FORM_SOURCE),     TO(FORM_UNKNOWN),	  TO(FORM_REMOTE_IP),
	};
	struct m_clause *clause;

	if (!from->nr)
		return;
	clause = &r->rule->clauses[r->rule->clause_nr++];
	clause->any = arena_array(r->c->d->arena, from->nr, sizeof(*clause->any));
	clause->nr = from->nr;
	for (uint32_t i = 0; i < from->nr; i++) {
		const struct raw_source *raw = &LIST_AT(*from, struct raw_from, i)->source;
		char base[96];

		snprintf(base, sizeof(base), "spec.rules[%u].from[%u].source", r->index, i);
		take_all(r, &clause->any[i], source_fields, raw, targets, base);
		check_accounts_alone(r->c, base);
	}
}

static void read_to(struct reading *r, const struct list *to)
{
	static const struct list_target targets[] = { TO(FORM_PORT), REQUEST_TO(HOST), REQUEST_TO(METHOD),
						      REQUEST_TO(PATH) };
	struct m_clause *clause;

	if (!to->nr)
		return;
	clause = &r->rule->clauses[r->rule->clause_nr++];
	clause->any = arena_array(r->c->d->arena, to->nr, sizeof(*clause->any));
	clause->nr = to->nr;
	for (uint32_t i = 0; i < to->nr; i++) {
		char base[96];

		snprintf(base, sizeof(base), "spec.rules[%u].to[%u].operation", r->index, i);
		take_all(r, &clause->any[i], operation_fields, &LIST_AT(*to, struct raw_to, i)->operation, targets,
			 base);
	}
}

/* What a condition may be about; a name that ends in "[" or "." goes on, to a key in brackets. */
static const struct {
	const char *name;
	struct list_target to;
} when_keys[] = {
	{ "source.ip", TO(FORM_SOURCE) },
	{ "source.namespace", TEXT_TO(namespaces) },
	{ "source.principal", TEXT_TO(principals) },
	{ "source.serviceAccount", TO(FORM_ACCOUNT) },
	{ "source.trustDomain", TEXT_TO(trust_domains) },
	{ "destination.ip", TO(FORM_DESTINATION) },
	{ "destination.port", TO(FORM_PORT) },
	{ "remote.ip", TO(FORM_REMOTE_IP) },
	{ "request.headers[", REQUEST_TO(HEADER) },
	{ "connection.sni", TO(FORM_UNKNOWN) },
	{ "request.auth.principal", TO(FORM_UNKNOWN) },
	{ "request.auth.audiences", TO(FORM_UNKNOWN) },
	{ "request.auth.presenter", TO(FORM_UNKNOWN) },
	{ "request.auth.claims[", TO(FORM_UNKNOWN) },
	{ "experimental.envoy.filters.", TO(FORM_UNKNOWN) },
};
#define WHEN_KEY_NR (sizeof(when_keys) / sizeof(*when_keys))

static char last_of(struct str s)
{
	return s.p[s.len - 1];
}

/* "a[b]" */
static bool in_brackets(struct str key)
{
	int open = str_find(key, '[');

	return open > 0 && (uint32_t)open + 2 < key.len && str_ends(key, STR("]"));
}

static const struct list_target *when_target(struct str key)
{
	for (size_t i = 0; i < WHEN_KEY_NR; i++) {
		struct str name = str_of(when_keys[i].name);
		char last = last_of(name);

		if (last == '[' || last == '.' ? str_starts(key, name) && in_brackets(key) : str_eq(key, name))
			return &when_keys[i].to;
	}
	return NULL;
}

static void unknown_key(const struct check *c, struct str key, const char *path)
{
	struct str names[WHEN_KEY_NR], hint;
	int nearest;

	for (size_t i = 0; i < WHEN_KEY_NR; i++)
		names[i] = str_of(when_keys[i].name);
	nearest = str_nearest(key, names, WHEN_KEY_NR);
	hint = nearest < 0 ? STR("")
			   : CHECK_TEXT(c, "did you mean `%s%s`?", when_keys[nearest].name,
					last_of(names[nearest]) == '['	 ? "...]"
					: last_of(names[nearest]) == '.' ? "...[...]"
									 : "");
	check_fail(c, CHECK_TEXT(c, "unknown key \"%.*s\" of a condition", STR_ARG(key)), hint.p, "%s.key", path);
}

static void read_when(struct reading *r, const struct list *when)
{
	for (uint32_t i = 0; i < when->nr; i++) {
		const struct raw_when *raw = LIST_AT(*when, struct raw_when, i);
		const struct list_target *to = when_target(raw->key);
		struct m_clause *clause = &r->rule->clauses[r->rule->clause_nr++];
		char base[64], path[80], name[256];

		clause->any = arena_new(r->c->d->arena, struct m_condition);
		clause->nr = 1;
		snprintf(base, sizeof(base), "spec.rules[%u].when[%u]", r->index, i);
		if (!raw->key.len)
			continue;
		if (!to) {
			unknown_key(r->c, raw->key, base);
			continue;
		}
		if (raw->key.len >= sizeof(name)) {
			check_fail(r->c, STR("must have at most 255 characters"), NULL, "%s.key", base);
			continue;
		}
		if (!raw->values[0].nr && !raw->values[1].nr)
			check_fail(r->c, STR("must have values or notValues"), NULL, "%s", base);
		snprintf(name, sizeof(name), "%.*s", STR_ARG(raw->key));
		for (int n = 0; n < 2; n++) {
			snprintf(path, sizeof(path), "%s.%s", base, n ? "notValues" : "values");
			take(r, clause->any, *to, n, &raw->values[n], path, name);
		}
	}
}

static void read_rule(const struct check *c, const struct raw_rule *raw, bool deny, struct m_policy_rule *rule,
		      uint32_t index)
{
	struct reading r = { .c = c, .rule = rule, .index = index };

	rule->at = raw->at;
	rule->clauses = arena_array(c->d->arena, 2 + raw->when.nr, sizeof(*rule->clauses));
	read_from(&r, &raw->from);
	read_to(&r, &raw->to);
	read_when(&r, &raw->when);
	if (r.unknown.len)
		check_warn(c,
			   CHECK_TEXT(c, "not enforced yet, so that this %s: %.*s",
				      deny ? "counts as if it held" : "allows nobody", (int)r.unknown.len,
				      r.unknown.data),
			   "tokens, TLS and pseudo-headers are not looked into", "spec.rules[%u]", index);
	buf_release(&r.unknown);
}

/* ---- the policy ---- */

static bool dry_run(const struct check *c, const struct kvs *annotations)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };
	const struct str *value = kvs_get(annotations, STR("istio.io/dry-run"));

	for (size_t i = 0; value && i < sizeof(yes) / sizeof(*yes); i++) {
		if (str_is(*value, yes[i]))
			return true;
		if (str_is(*value, no[i]))
			return false;
	}
	if (value)
		check_fail_key(c, CHECK_TEXT(c, "\"%.*s\" is neither true nor false", STR_ARG(*value)), NULL,
			       STR("istio.io/dry-run"), "metadata.annotations");
	return false;
}

static void check_action(const struct check *c, uint32_t action, bool rules)
{
	if (action == ACTION_AUDIT || action == ACTION_CUSTOM)
		check_fail(c, CHECK_TEXT(c, "not enforced yet: action %s", actions[action - 1]),
			   "ALLOW and DENY are enforced", "spec.action");
	else if (check_has(c, "spec.provider"))
		check_fail(c, STR("belongs to the action CUSTOM"), NULL, "spec.provider");
	else if (!rules && action == ACTION_DENY)
		check_fail(c, STR("a DENY policy without rules is meaningless: it never applies"),
			   "a rule `{}` applies to everything", "spec");
	else if (!rules)
		check_warn(c, STR("an ALLOW policy without rules denies all traffic"), NULL, "spec");
}

struct place place_of_selector(const struct check *c, const struct meta *meta, const char *path)
{
	const struct ynode *n = check_node(c, path);

	return n ? (struct place){ n->line, n->column } : meta->name_at;
}

bool decode_authorization_policy(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_policy raw = { 0 };
	struct m_authorization_policy *p = arena_new(d->arena, struct m_authorization_policy);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &policy_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_POLICY, doc, &c);
	doc->policy = p;
	p->deny = raw.spec.action == ACTION_DENY;
	p->dry_run = dry_run(&c, &raw.meta.annotations);
	p->selector = raw.spec.selector.labels;
	p->selector_at = place_of_selector(&c, &doc->meta, "spec.selector");
	if (check_has(&c, "spec.selector"))
		check_selector(&c, &p->selector, SELECTOR_MAX, "spec.selector.matchLabels");
	check_action(&c, raw.spec.action, raw.spec.rules.nr);
	p->rules = arena_array(d->arena, raw.spec.rules.nr, sizeof(*p->rules));
	p->rule_nr = raw.spec.rules.nr;
	for (uint32_t i = 0; i < p->rule_nr; i++)
		read_rule(&c, LIST_AT(raw.spec.rules, struct raw_rule, i), p->deny, &p->rules[i], i);
	return d->errors == before;
}
