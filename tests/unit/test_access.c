/* SPDX-License-Identifier: BSD-2-Clause */
/* Who an address is, which policies guard it, and what each kind of condition says. Whole programs are in tests/cases/image. */
#include "compiled.h"

#define POD_OF(name, ns, account, ip, labels, more, status)                                                    \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: " ns ", labels: {" labels "}}\n"     \
	"spec: {serviceAccountName: " account ", " more "containers: [{name: c, image: i}]}\nstatus: {podIP: " \
	"'" ip "'" status "}\n---\n"
#define CLIENT(name, ns, ip) POD_OF(name, ns, name, ip, "app: " name, "", "")
#define POLICY_AS(name, ns, more, spec)                                                                               \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " name ", namespace: " ns more \
	"}\nspec: " spec "\n---\n"
#define POLICY(name, ns, spec) POLICY_AS(name, ns, "", spec)
#define PEERS(name, ns, spec)                                                                                   \
	"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " name ", namespace: " ns \
	"}\nspec: " spec "\n---\n"
/* Clients a and b in namespace one, c in two; the server in one. */
#define MESH                           \
	CLIENT("a", "one", "10.0.0.1") \
	CLIENT("b", "one", "10.0.0.2") CLIENT("c", "two", "10.0.1.1") CLIENT("server", "one", "10.0.9.9")
#define NOBODY "192.0.2.1"

static const struct u_member *member(const struct compiled *c, const char *ip)
{
	struct addr addr;

	CHECK(addr_parse(str_of(ip), &addr));
	return access_member(c->snapshot->access, &addr);
}

static struct access_verdict ask(const struct compiled *c, const char *from, const char *to, uint16_t port, bool shadow)
{
	static const struct u_member none;
	const struct u_member *client = member(c, from), *server = member(c, to);
	struct addr source;

	CHECK(server && addr_parse(str_of(from), &source));
	if (!server)
		server = &none;
	return access_ask(c->snapshot->access, shadow ? server->shadow : server->program, client ? client->identity : 0,
			  &source, &server->addr, port);
}

/* Which of a, b, c and an unknown source reach the server: "ab.." */
static const char *reach(const struct compiled *c, uint16_t port)
{
	static const char *const sources[] = { "10.0.0.1", "10.0.0.2", "10.0.1.1", NOBODY };
	static char out[8];

	for (int i = 0; i < 4; i++)
		out[i] = ask(c, sources[i], "10.0.9.9", port, false).allowed ? "abc?"[i] : '.';
	return out;
}

/* The same for one policy in namespace one, at port 80; *denying: the rule's verdict is DENY. */
static const char *reach_with(const char *policy)
{
	static char out[8];
	struct buf text = { 0 };
	struct compiled c;

	buf_printf(&text, "%s%s", MESH, policy);
	c = compiled_from(text.data);
	CHECK_MSG(!c.rc && !c.batch.refused, "refused: %s\n%s",
		  c.batch.diags.nr ? c.batch.diags.items[0].message.p : "", policy);
	snprintf(out, sizeof(out), "%s", c.rc ? "-" : reach(&c, 80));
	compiled_release(&c);
	buf_release(&text);
	return out;
}

#define ALLOW(rule) reach_with(POLICY("p", "one", "{rules: [" rule "]}"))
#define DENY(rule) reach_with(POLICY("p", "one", "{action: DENY, rules: [" rule "]}"))
#define FROM(source) "{from: [{source: {" source "}}]}"
#define WHEN(key, values) "{when: [{key: " key ", " values "}]}"

/* ---- members ---- */

TEST(members)
{
	struct compiled c = compiled_from(
		POD_OF("p", "one", "sa", "10.0.0.1", "a: b", "nodeName: n1, ",
		       ", podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]") POD_OF("host", "one", "sa", "10.0.0.2", "a: b",
									     "hostNetwork: true, ", "")
			POD_OF("done", "one", "sa", "10.0.0.3", "a: b", "", ", phase: Succeeded")
				ISTIO("WorkloadEntry", "vm", "one", "  address: 192.0.2.7\n  serviceAccount: vm\n")
					ISTIO("WorkloadEntry", "plain", "one", "  address: 192.0.2.8\n"));
	const struct access *a = c.snapshot->access;
	const struct u_member *m = member(&c, "10.0.0.1");

	CHECK_INT(a->member_nr, 4);
	CHECK(m && str_is(m->workload, "one/p/sa") && str_is(m->node, "n1") && m->identity && !m->program &&
	      !m->shadow);
	CHECK(m && member(&c, "fd00::1") && member(&c, "fd00::1")->identity == m->identity);
	CHECK(m && str_is(a->identities[m->identity].ns, "one") && str_is(a->identities[m->identity].account, "sa"));
	CHECK(!member(&c, "10.0.0.2"));
	CHECK(!member(&c, "10.0.0.3"));
	CHECK(member(&c, "192.0.2.7") && str_is(member(&c, "192.0.2.7")->workload, "one/vm/vm"));
	CHECK(member(&c, "192.0.2.7") && member(&c, "192.0.2.7")->identity);
	/* Nobody said which service account that is. */
	CHECK(member(&c, "192.0.2.8") && !member(&c, "192.0.2.8")->identity);
	compiled_release(&c);
}

#define BORN(at)                                                                                                 \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: p" at ", creationTimestamp: '2026-01-01T00:00:0" at "Z'}\n" \
	"spec: {containers: [{name: c}]}\nstatus: {podIP: 10.0.0.1"

TEST(one_address_twice)
{
	struct compiled c = compiled_from(BORN("2") "}\n---\n" BORN("1") "}\n---\n");

	CHECK(member(&c, "10.0.0.1") && str_is(member(&c, "10.0.0.1")->workload, "default/p2/default"));
	compiled_release(&c);
	c = compiled_from(BORN("2") ", phase: Failed}\n---\n" BORN("1") "}\n---\n" ISTIO(
		"WorkloadEntry", "vm", "default", "  address: 10.0.0.1\n  serviceAccount: vm\n"));
	CHECK(member(&c, "10.0.0.1") && str_is(member(&c, "10.0.0.1")->workload, "default/p1/default"));
	compiled_release(&c);
}

TEST(identities_keep_their_numbers)
{
	struct compiled c = compiled_from(CLIENT("m", "one", "10.0.0.1") CLIENT("z", "one", "10.0.0.2"));
	uint32_t m = member(&c, "10.0.0.1")->identity, z = member(&c, "10.0.0.2")->identity;
	struct access *before = access_ref(c.snapshot->access);

	CHECK(m && z && m != z);
	compiled_apply(&c, CLIENT("a", "aaa", "10.0.0.0") CLIENT("k", "one", "10.0.0.3"), false);
	CHECK_INT(member(&c, "10.0.0.1")->identity, m);
	CHECK_INT(member(&c, "10.0.0.2")->identity, z);
	CHECK_INT(c.snapshot->access->identity_nr, 5);
	CHECK(c.snapshot->access->hash != before->hash);
	access_unref(before);
	compiled_release(&c);
}

TEST(numbers_of_nobody_are_given_away)
{
	struct compiled c = compiled_from(CLIENT("m", "one", "10.0.0.1") CLIENT("z", "one", "10.0.0.2"));
	uint32_t m = member(&c, "10.0.0.1")->identity;

	compiled_apply(&c, POD_OF("m", "one", "other", "10.0.0.1", "app: m", "", ""), false);
	CHECK(member(&c, "10.0.0.1")->identity != m);
	CHECK_INT(c.snapshot->access->identity_nr, 4);
	compiled_apply(&c, CLIENT("k", "one", "10.0.0.3"), false);
	CHECK_INT(member(&c, "10.0.0.3")->identity, m);
	CHECK_INT(c.snapshot->access->identity_nr, 4);
	compiled_release(&c);
}

TEST(slices_share_the_access)
{
	struct compiled c = compiled_from(MESH SERVICE("s", "one", "10.96.0.1", "tcp", "80"));
	struct access *a = access_ref(c.snapshot->access);

	compiled_apply(&c, SLICE("s1", "s", "one", "10.0.9.9", "80"), true);
	CHECK(c.snapshot->access == a);
	access_unref(a);
	compiled_release(&c);
}

/* ---- conditions ---- */

TEST(principals)
{
	CHECK_STR(ALLOW(FROM("principals: [cluster.local/ns/one/sa/a]")), "a...");
	CHECK_STR(ALLOW(FROM("principals: [cluster.local/ns/one/*]")), "ab..");
	CHECK_STR(ALLOW(FROM("principals: ['*/sa/c', '*/sa/a']")), "a.c.");
	CHECK_STR(ALLOW(FROM("principals: ['*']")), "abc.");
	CHECK_STR(ALLOW(FROM("principals: [other/ns/one/sa/a]")), "....");
	CHECK_STR(ALLOW(FROM("notPrincipals: [cluster.local/ns/one/sa/a]")), ".bc?");
	CHECK_STR(DENY(FROM("notPrincipals: ['*']")), "abc.");
	CHECK_STR(ALLOW(FROM("principals: ['*'], notPrincipals: ['*/sa/b']")), "a.c.");
	CHECK_STR(ALLOW(WHEN("source.principal", "values: ['*/sa/b'], notValues: ['*/ns/two/*']")), ".b..");
}

TEST(namespaces)
{
	CHECK_STR(ALLOW(FROM("namespaces: [two]")), "..c.");
	CHECK_STR(ALLOW(FROM("namespaces: ['*o']")), "..c.");
	CHECK_STR(ALLOW(FROM("namespaces: ['o*', nowhere]")), "ab..");
	CHECK_STR(ALLOW(FROM("notNamespaces: [one]")), "..c?");
	CHECK_STR(DENY(FROM("notNamespaces: [one]")), "ab..");
	CHECK_STR(ALLOW(WHEN("source.namespace", "notValues: [two]")), "ab.?");
}

TEST(service_accounts)
{
	CHECK_STR(ALLOW(FROM("serviceAccounts: [a, two/c]")), "a.c.");
	CHECK_STR(ALLOW(FROM("serviceAccounts: [c, two/a]")), "....");
	CHECK_STR(ALLOW(FROM("notServiceAccounts: [a]")), ".bc?");
	CHECK_STR(ALLOW(WHEN("source.serviceAccount", "values: [one/b]")), ".b..");
	/* Nothing but a whole name is one. */
	CHECK_STR(ALLOW(FROM("serviceAccounts: ['*', 'one/*']")), "....");
}

TEST(trust_domains)
{
	CHECK_STR(ALLOW(FROM("trustDomains: [cluster.local]")), "abc.");
	CHECK_STR(ALLOW(FROM("trustDomains: [other]")), "....");
	CHECK_STR(ALLOW(FROM("notTrustDomains: [cluster.local]")), "...?");
	CHECK_STR(ALLOW(WHEN("source.trustDomain", "values: ['cluster*']")), "abc.");
}

TEST(addresses)
{
	CHECK_STR(ALLOW(FROM("ipBlocks: [10.0.0.0/24]")), "ab..");
	CHECK_STR(ALLOW(FROM("ipBlocks: [10.0.0.0/16], notIpBlocks: [10.0.0.2]")), "a.c.");
	CHECK_STR(ALLOW(FROM("ipBlocks: ['::/0']")), "....");
	CHECK_STR(ALLOW(FROM("notIpBlocks: ['::/0']")), "abc?");
	CHECK_STR(ALLOW(WHEN("source.ip", "values: [192.0.2.0/24]")), "...?");
	CHECK_STR(ALLOW(WHEN("destination.ip", "values: [10.0.9.9]")), "abc?");
	CHECK_STR(ALLOW(WHEN("destination.ip", "notValues: [10.0.9.0/24]")), "....");
}

TEST(ports)
{
	CHECK_STR(ALLOW("{to: [{operation: {ports: ['80']}}]}"), "abc?");
	CHECK_STR(ALLOW("{to: [{operation: {ports: ['79', '81']}}]}"), "....");
	CHECK_STR(ALLOW("{to: [{operation: {notPorts: ['81', '80', '79']}}]}"), "....");
	CHECK_STR(ALLOW("{to: [{operation: {notPorts: ['79']}}]}"), "abc?");
	CHECK_STR(ALLOW(WHEN("destination.port", "values: ['80']")), "abc?");
}

TEST(parts_of_a_rule)
{
	/* All of from, to and when; one of each list. */
	CHECK_STR(ALLOW("{from: [{source: {namespaces: [one]}}], to: [{operation: {ports: ['81']}}]}"), "....");
	CHECK_STR(ALLOW("{from: [{source: {namespaces: [one]}}], when: [{key: source.principal, values: ['*/sa/b']}]}"),
		  ".b..");
	CHECK_STR(ALLOW("{from: [{source: {namespaces: [one], ipBlocks: [10.0.0.1]}}, {source: {namespaces: [two]}}]}"),
		  "a.c.");
	CHECK_STR(ALLOW("{from: [{source: {ipBlocks: [10.0.0.1]}}, {source: {ipBlocks: [10.0.1.1]}}]}"), "a.c.");
	CHECK_STR(ALLOW("{when: [{key: source.namespace, values: [one]}, {key: source.namespace, notValues: [two]}]}"),
		  "ab..");
	CHECK_STR(ALLOW("{from: [{source: {namespaces: [one]}}]}, {from: [{source: {namespaces: [two]}}]}"), "abc.");
}

/* ---- policies together ---- */

TEST(nothing_and_everything)
{
	CHECK_STR(reach_with(""), "abc?");
	CHECK_STR(reach_with(POLICY("p", "one", "{}")), "....");
	CHECK_STR(ALLOW("{}"), "abc?");
	CHECK_STR(DENY("{}"), "....");
}

TEST(deny_before_allow)
{
	CHECK_STR(reach_with(POLICY("allow", "one", "{rules: [" FROM("namespaces: [one]") "]}") POLICY(
			  "deny", "one", "{action: DENY, rules: [" FROM("principals: ['*/sa/a']") "]}")),
		  ".b..");
}

TEST(selectors)
{
	CHECK_STR(reach_with(POLICY("p", "one", "{selector: {matchLabels: {app: server}}}")), "....");
	CHECK_STR(reach_with(POLICY("p", "one", "{selector: {matchLabels: {app: a}}}")), "abc?");
	CHECK_STR(reach_with(POLICY("p", "one", "{selector: {matchLabels: {app: server, x: z}}}")), "abc?");
	CHECK_STR(reach_with(POLICY("p", "two", "{selector: {matchLabels: {app: server}}}")), "abc?");
	CHECK_STR(reach_with(POLICY("p", "two", "{}")), "abc?");
	CHECK_STR(reach_with(POLICY("p", "istio-system", "{}")), "....");
	CHECK_STR(reach_with(POLICY("p", "istio-system", "{selector: {matchLabels: {app: server}}}")), "....");
	CHECK_STR(reach_with(POLICY("p", "istio-system", "{selector: {matchLabels: {app: a}}}")), "abc?");
}

TEST(dry_runs_are_apart)
{
	struct compiled c = compiled_from(MESH POLICY_AS("try", "one", ", annotations: {istio.io/dry-run: 'true'}",
							 "{rules: [" FROM("namespaces: [two]") "]}"));
	const struct access *a = c.snapshot->access;
	const struct u_member *server = member(&c, "10.0.9.9");

	CHECK_STR(reach(&c, 80), "abc?");
	CHECK(!server->program && server->shadow);
	CHECK(ask(&c, "10.0.1.1", "10.0.9.9", 80, true).allowed);
	CHECK(!ask(&c, "10.0.0.1", "10.0.9.9", 80, true).allowed);
	/* So that what it would deny is counted. */
	CHECK_INT(a->terms[a->programs[server->shadow - 1].term + 2].op, MESH_OP_DENY);
	CHECK_INT(a->terms[a->programs[server->shadow - 1].term + 2].arg, 1);
	CHECK(!ask(&c, "10.0.0.1", "10.0.9.9", 80, true).policy);
	compiled_release(&c);
}

TEST(verdicts_name_their_rule)
{
	struct compiled c = compiled_from(
		MESH POLICY("first", "one",
			    "{action: DENY, rules: [" FROM("namespaces: [nowhere]") ", " FROM("namespaces: [two]") "]}")
			POLICY("second", "one", "{rules: [" FROM("namespaces: ['*']") "]}"));
	struct access_verdict v = ask(&c, "10.0.1.1", "10.0.9.9", 80, false);

	CHECK(!v.allowed && v.policy && str_is(v.policy->name, "first") && v.rule == 1 && v.policy->line);
	v = ask(&c, "10.0.0.1", "10.0.9.9", 80, false);
	CHECK(v.allowed && v.policy && str_is(v.policy->name, "second") && v.rule == 0);
	v = ask(&c, NOBODY, "10.0.9.9", 80, false);
	CHECK(!v.allowed && !v.policy);
	compiled_release(&c);
}

TEST(equal_sets_share_a_program)
{
	struct compiled c = compiled_from(MESH POLICY("p", "istio-system", "{rules: [" FROM("namespaces: [one]") "]}"));

	CHECK_INT(c.snapshot->access->program_nr, 1);
	CHECK_INT(member(&c, "10.0.0.1")->program, member(&c, "10.0.9.9")->program);
	compiled_release(&c);
}

/* A program that names nobody new stays the same when a service account comes. */
TEST(programs_outlive_new_identities)
{
	static const char *const policies[] = {
		POLICY("p", "one", "{action: DENY, rules: [" FROM("notPrincipals: ['*']") "]}"),
		POLICY("p", "one", "{rules: [" FROM("namespaces: [two]") "]}"),
		POLICY("p", "one", "{rules: [" FROM("notServiceAccounts: [a]") "]}"),
	};

	for (size_t i = 0; i < sizeof(policies) / sizeof(*policies); i++) {
		struct compiled c = compiled_from(policies[i]);
		uint64_t hash;

		compiled_apply(&c, MESH, false);
		hash = c.snapshot->access->programs[0].hash;
		compiled_apply(&c, CLIENT("d", "three", "10.0.2.1"), false);
		CHECK_INT(c.snapshot->access->programs[0].hash, hash);
		compiled_release(&c);
	}
}

/* ---- what needs bytes ---- */

TEST(bytes_never_open)
{
	CHECK_STR(ALLOW("{from: [{source: {namespaces: [one]}}], to: [{operation: {methods: [GET]}}]}"), "....");
	CHECK_STR(ALLOW("{from: [{source: {namespaces: [one]}}]}, {to: [{operation: {paths: [/x]}}]}"), "ab..");
	CHECK_STR(DENY("{from: [{source: {namespaces: [one]}}], to: [{operation: {methods: [GET]}}]}"), "..c?");
	CHECK_STR(DENY("{from: [{source: {requestPrincipals: ['*']}}]}"), "....");
	CHECK_STR(DENY("{from: [{source: {requestPrincipals: ['*']}}, {source: {namespaces: [one]}}]}"), "....");
	CHECK_STR(DENY("{from: [{source: {namespaces: [two]}}], when: [{key: 'request.headers[x]', values: [z]}]}"),
		  "ab.?");
	CHECK_STR(DENY("{when: [{key: connection.sni, values: [x]}]}"), "....");
}

TEST(bytes_are_said)
{
	struct compiled c = compiled_from(MESH POLICY(
		"p", "one", "{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]}"));

	CHECK_INT(c.batch.applied, 5);
	CHECK(!says(&c, DIAG_WARNING, "not enforced"));
	CHECK(c.snapshot->access->policies[0].needs_l7);
	CHECK(c.snapshot->access->asks_requests);
	compiled_release(&c);
}

/* ---- PeerAuthentication ---- */

TEST(strict_denies_the_unknown)
{
	CHECK_STR(reach_with(PEERS("p", "istio-system", "{mtls: {mode: STRICT}}")), "abc.");
	CHECK_STR(reach_with(PEERS("p", "one", "{mtls: {mode: STRICT}}")), "abc.");
	CHECK_STR(reach_with(PEERS("p", "two", "{mtls: {mode: STRICT}}")), "abc?");
	CHECK_STR(reach_with(PEERS("p", "one", "{mtls: {mode: PERMISSIVE}}")), "abc?");
	CHECK_STR(reach_with(PEERS("p", "istio-system", "{mtls: {mode: STRICT}}")
				     PEERS("q", "one", "{mtls: {mode: DISABLE}}")),
		  "abc?");
	CHECK_STR(reach_with(PEERS("p", "istio-system", "{mtls: {mode: STRICT}}")
				     PEERS("q", "one", "{mtls: {mode: UNSET}}")),
		  "abc.");
	CHECK_STR(reach_with(PEERS("p", "one", "{mtls: {mode: PERMISSIVE}}") PEERS(
			  "q", "one", "{selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}}")),
		  "abc.");
}

TEST(modes_of_ports)
{
	struct compiled c = compiled_from(MESH PEERS("p", "one",
						     "{selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}, "
						     "portLevelMtls: {8080: {mode: DISABLE}, 9090: {mode: UNSET}}}"));

	CHECK_STR(reach(&c, 80), "abc.");
	CHECK_STR(reach(&c, 8080), "abc?");
	CHECK_STR(reach(&c, 9090), "abc.");
	CHECK(says(&c, DIAG_WARNING, "not encrypted"));
	compiled_release(&c);
	c = compiled_from(MESH PEERS(
		"p", "one", "{selector: {matchLabels: {app: server}}, portLevelMtls: {8080: {mode: STRICT}}}"));
	CHECK_STR(reach(&c, 80), "abc?");
	CHECK_STR(reach(&c, 8080), "abc.");
	CHECK(str_is(ask(&c, NOBODY, "10.0.9.9", 8080, false).policy->name, "p"));
	compiled_release(&c);
}

/* ---- what is said ---- */

TEST(selectors_that_select_nothing)
{
	struct compiled c = compiled_from(MESH POLICY("p", "one", "{selector: {matchLabels: {app: nothing}}}"));

	CHECK(says(&c, DIAG_WARNING, "[IST0127]"));
	compiled_release(&c);
	/* A file of policies alone. */
	c = compiled_from(POLICY("p", "one", "{selector: {matchLabels: {app: nothing}}}"));
	CHECK(!says(&c, DIAG_WARNING, "[IST0127]"));
	compiled_release(&c);
	c = compiled_from(POD_OF("h", "one", "h", "10.0.0.5", "app: h", "hostNetwork: true, ", "")
				  POLICY("p", "one", "{selector: {matchLabels: {app: h}}}"));
	CHECK(says(&c, DIAG_WARNING, "not enforced for pod one/h"));
	compiled_release(&c);
}

TEST(accounts_of_pods_on_the_node)
{
	static const char *const sources[] = { "principals: [cluster.local/ns/one/sa/h]", "serviceAccounts: [h]",
					       "notNamespaces: [one]" };

	for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++) {
		struct buf text = { 0 };
		struct compiled c;

		buf_printf(&text, "%s" POLICY("p", "one", "{rules: [" FROM("%s") "]}"),
			   POD_OF("h", "one", "h", "10.0.0.5", "app: h", "hostNetwork: true, ", ""), sources[i]);
		c = compiled_from(text.data);
		CHECK_MSG(says(&c, DIAG_WARNING, "on its node's network and has no identity"), "%s", sources[i]);
		compiled_release(&c);
		buf_release(&text);
	}
}

TEST(too_many_tests_deny)
{
	struct buf text = { 0 };
	struct compiled c;

	buf_printf(&text, "%s",
		   MESH "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
			"metadata: {name: huge, namespace: one}\nspec:\n  action: DENY\n  rules:\n");
	for (uint32_t i = 0; i < 70; i++) {
		buf_printf(&text, "  - from: [{source: {ipBlocks: [");
		for (uint32_t k = 0; k < 1000; k++)
			buf_printf(&text, "%s198.%u.%u.%u", k ? ", " : "", i, k / 250, k % 250);
		buf_printf(&text, "]}}]\n");
	}
	c = compiled_from(text.data);
	CHECK_INT(c.rc, -EINVAL);
	CHECK(says(&c, DIAG_ERROR, "more than 65535 tests"));
	compiled_release(&c);
	/* The policy was live already, and guarded nobody: then the pods come. */
	c = compiled_from(text.data + strlen(MESH));
	CHECK_INT(c.rc, 0);
	compiled_apply(&c, MESH, false);
	CHECK_INT(c.rc, 0);
	CHECK_STR(reach(&c, 80), "....");
	compiled_release(&c);
	buf_release(&text);
}
