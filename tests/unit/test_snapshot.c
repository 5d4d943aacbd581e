/* SPDX-License-Identifier: BSD-2-Clause */
/* Resolving: what rows clients meet, how snapshots share units, and what is reported. Golden texts are in tests/cases/image. */
#include "compiled.h"

#define TCP MESH_PROTO_TCP
#define UDP MESH_PROTO_UDP
#define ECHO SERVICE("echo", "default", "10.96.0.4", "tcp", "9000")
#define ECHO_PODS                                                       \
	POD("echo-v1", "default", "10.1.0.1", "app: echo, version: v1") \
	POD("echo-v2", "default", "10.1.0.2", "app: echo, version: v2")
#define TO(subset) "{destination: {host: echo, subset: " subset "}, weight: 1}"

TEST(service_defaults)
{
	struct compiled c = compiled_from(ECHO ECHO_PODS);

	CHECK_INT(c.rc, 0);
	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, UDP), "none");
	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9001, TCP), "none");
	CHECK_STR(dial(&c, NULL, "10.1.0.1", 9000, TCP), "none");
	CHECK_INT(c.snapshot->scope_nr, 1);
	CHECK_INT(c.snapshot->row_nr, 1);
	CHECK_INT(c.snapshot->endpoint_nr, 2);
	CHECK_INT(c.snapshot->client_nr, 2);
	compiled_release(&c);
}

TEST(no_endpoints_is_a_row)
{
	struct compiled c = compiled_from(ECHO);

	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "1>");
	compiled_release(&c);
}

TEST(first_matching_tcp_rule_wins)
{
	struct compiled c = compiled_from(ECHO ECHO_PODS SUBSETS("echo", "default") ISTIO(
		"VirtualService", "echo", "default",
		"  hosts: [echo]\n  tcp:\n"
		"  - match: [{port: 1}, {destinationSubnets: [10.0.0.0/16]}]\n    route: [" TO(
			"v1") "]\n"
			      "  - match: [{port: 1}, {destinationSubnets: [10.96.0.0/16]}]\n    route: [" TO(
				      "v2") "]\n"
					    "  - route: [" TO("v1") "]\n"));

	CHECK_INT(c.rc, 0);
	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "1>10.1.0.2:9000");
	compiled_release(&c);
}

TEST(no_match_falls_to_the_service)
{
	struct compiled c = compiled_from(ECHO ECHO_PODS SUBSETS("echo", "default") ISTIO(
		"VirtualService", "echo", "default",
		"  hosts: [echo]\n  tcp:\n  - match: [{sourceNamespace: nowhere}]\n    route: [" TO("v1") "]\n"));

	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	compiled_release(&c);
}

TEST(clients_of_labels_and_namespaces)
{
	struct compiled c = compiled_from(
		ECHO ECHO_PODS SUBSETS("echo", "default") POD("blue", "a", "10.1.1.1", "colour: blue")
			POD("red", "a", "10.1.1.2", "colour: red") POD("blue-b", "b", "10.1.1.3", "colour: blue") ISTIO(
				"VirtualService", "echo", "default",
				"  hosts: [echo]\n  tcp:\n"
				"  - match: [{sourceLabels: {colour: blue}, sourceNamespace: a}]\n    route: [" TO(
					"v1") "]\n"
					      "  - match: [{sourceNamespace: a}]\n    route: [" TO("v2") "]\n"));

	CHECK_INT(c.snapshot->scope_nr, 3);
	CHECK_STR(dial(&c, "blue", "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000");
	CHECK_STR(dial(&c, "red", "10.96.0.4", 9000, TCP), "1>10.1.0.2:9000");
	CHECK_STR(dial(&c, "blue-b", "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	CHECK_INT(scope_of(&c, "blue-b"), 0);
	compiled_release(&c);
}

TEST(hidden_service_is_absent_elsewhere)
{
	static const char hidden[] =
		"apiVersion: v1\nkind: Service\nmetadata:\n  name: echo\n  namespace: default\n  annotations: "
		"{networking.istio.io/exportTo: 'a,b'}\nspec:\n  clusterIP: 10.96.0.4\n  selector: {app: echo}\n  "
		"ports: [{name: tcp, port: 9000}]\n---\n" POD("p", "a", "10.1.1.1", "x: z")
			POD("q", "c", "10.1.1.2", "x: z") ECHO_PODS;
	struct compiled c = compiled_from(hidden);

	CHECK_INT(c.rc, 0);
	CHECK_STR(dial(&c, "p", "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	CHECK_STR(dial(&c, "q", "10.96.0.4", 9000, TCP), "none");
	CHECK_STR(dial(&c, "echo-v1", "10.96.0.4", 9000, TCP), "none");
	compiled_release(&c);
}

TEST(client_may_lose_what_others_see)
{
	/* In scope 0 the younger holds the address; the older one is only seen from its own namespace. */
	struct compiled c = compiled_from(ECHO ECHO_PODS POD("p", "a", "10.1.1.1", "x: z") ISTIO(
		"ServiceEntry", "own", "a",
		"  hosts: [own.example.org]\n  exportTo: ['.']\n  addresses: [10.96.0.4]\n  ports: [{number: 9000, "
		"name: tcp, protocol: TCP}]\n"
		"  resolution: NONE\n"));

	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	CHECK_STR(dial(&c, "p", "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	CHECK(says(&c, DIAG_WARNING, "older and wins"));
	compiled_release(&c);
}

TEST(networks_and_addresses)
{
	struct compiled c = compiled_from(
		ISTIO("ServiceEntry", "net", "default",
		      "  hosts: [net.example.org]\n  addresses: [10.50.0.0/16, 10.50.7.7, '2001:db8::/32']\n"
		      "  ports: [{number: 80, name: tcp, protocol: TCP}, {number: 53, name: dns, protocol: UDP}]\n  "
		      "resolution: STATIC\n"
		      "  endpoints: [{address: 10.9.0.1}, {address: '2001:db9::1'}]\n"));

	CHECK_INT(c.rc, 0);
	CHECK_STR(dial(&c, NULL, "10.50.1.1", 80, TCP), "1>10.9.0.1:80");
	CHECK_STR(dial(&c, NULL, "10.50.7.7", 80, TCP), "1>10.9.0.1:80");
	CHECK_STR(dial(&c, NULL, "10.50.7.7", 53, UDP), "1>10.9.0.1:53");
	CHECK_STR(dial(&c, NULL, "2001:db8::5", 80, TCP), "1>2001:db9::1:80");
	CHECK_STR(dial(&c, NULL, "10.51.0.0", 80, TCP), "none");
	compiled_release(&c);
}

#define SLICED \
	ECHO SLICE("s1", "echo", "default", "10.2.0.1", "9000") SERVICE("other", "default", "10.96.0.5", "tcp", "1")

TEST(slices_change_only_their_units)
{
	struct compiled c = compiled_from(SLICED);
	struct snapshot *before = snapshot_ref(c.snapshot);
	const struct unit *other;

	CHECK_INT(before->unit_nr, 2);
	other = before->units[1];
	compiled_apply(&c, SLICE("s1", "echo", "default", "10.2.0.9", "9001"), true);
	CHECK_INT(c.rc, 0);
	CHECK(c.snapshot != before);
	CHECK(c.snapshot->units[1] == other);
	CHECK(c.snapshot->units[0] != before->units[0]);
	CHECK(c.snapshot->units[0]->hash != before->units[0]->hash);
	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "1>10.2.0.9:9001");
	/* Back again: as it was, though not the same memory. */
	compiled_apply(&c, SLICE("s1", "echo", "default", "10.2.0.1", "9000"), true);
	CHECK(c.snapshot->units[0]->hash == before->units[0]->hash);
	CHECK_INT(c.snapshot->endpoint_nr, before->endpoint_nr);
	snapshot_unref(before);
	compiled_release(&c);
}

static struct str *image_of(const struct snapshot *s)
{
	static struct buf out;
	static struct str text;

	buf_clear(&out);
	snapshot_print(s, &out);
	text = (struct str){ out.data, (uint32_t)out.len };
	return &text;
}

#define STATE_SLICE(first, second)                                                                                \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s1, namespace: default, "    \
	"labels: {kubernetes.io/service-name: echo}}\naddressType: IPv4\nports: [{name: tcp, port: 9000}]\n"      \
	"endpoints:\n- {addresses: [10.2.0.1], zone: z1, " first "}\n- {addresses: [10.2.0.2], zone: z2, " second \
	"}\n"
#define READY(zone) "hints: {forZones: [{name: " zone "}]}"
#define LEAVING "conditions: {ready: false, serving: true, terminating: true}"
#define GONE "conditions: {ready: false, serving: false}"

/* Endpoints that drain, come back, and change places, each time as a whole build has them. */
TEST(states_of_endpoints_change)
{
	static const char *const states[] = {
		STATE_SLICE(READY("z1"), READY("z2")),
		STATE_SLICE(READY("z2"), READY("z1")),
		STATE_SLICE(LEAVING, READY("z2")),
		STATE_SLICE(LEAVING, LEAVING),
		STATE_SLICE(GONE, LEAVING),
		STATE_SLICE(GONE, GONE),
		STATE_SLICE(READY("z1"), READY("z2")),
	};
	static const char *const dials[] = { "1>10.2.0.1:9000,10.2.0.2:9000",
					     "1>10.2.0.2:9000,10.2.0.1:9000",
					     "1>10.2.0.2:9000",
					     "1>10.2.0.1:9000,10.2.0.2:9000",
					     "1>10.2.0.2:9000",
					     "1>",
					     "1>10.2.0.1:9000,10.2.0.2:9000" };
	static const uint32_t draining[] = { 0, 0, 1, 0, 1, 2, 0 };
	struct compiled c = compiled_from(
		ECHO
		"---\napiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}\n");

	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		struct compiled whole = { 0 };
		char want[2048];

		compiled_apply(&c, states[i], true);
		CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), dials[i]);
		CHECK_INT(c.snapshot->units[0]->draining_nr, draining[i]);
		CHECK_INT(c.snapshot->endpoint_nr, 2 - draining[i]);
		whole.model = model_clone(c.model);
		compiled_apply(&whole, "", false);
		snprintf(want, sizeof(want), "%.*s", STR_ARG(*image_of(whole.snapshot)));
		CHECK_STR(image_of(c.snapshot)->p, want);
		CHECK(whole.snapshot->units[0]->hash == c.snapshot->units[0]->hash);
		compiled_release(&whole);
	}
	compiled_release(&c);
}

TEST(slice_of_nobody_shares_everything)
{
	struct compiled c = compiled_from(SLICED);
	struct snapshot *before = snapshot_ref(c.snapshot);

	compiled_apply(&c, SLICE("s9", "nobody", "default", "10.2.0.9", "9001"), true);
	CHECK_INT(c.rc, 0);
	for (uint32_t i = 0; i < before->unit_nr; i++)
		CHECK(c.snapshot->units[i] == before->units[i]);
	snapshot_unref(before);
	compiled_release(&c);
}

TEST(whole_build_shares_equal_units)
{
	struct compiled c = compiled_from(SLICED);
	struct snapshot *before = snapshot_ref(c.snapshot);

	compiled_apply(&c, SERVICE("third", "default", "10.96.0.6", "tcp", "1"), true);
	CHECK_INT(c.snapshot->unit_nr, 3);
	CHECK(c.snapshot->units[0] == before->units[0]);
	CHECK(c.snapshot->units[1] == before->units[1]);
	snapshot_unref(before);
	compiled_release(&c);
}

TEST(moved_rule_keeps_the_hash_and_shows_its_new_line)
{
	static const char rule[] =
		ISTIO("VirtualService", "echo", "default", "  hosts: [echo]\n  tcp:\n  - route: [" TO("v1") "]\n");
	struct compiled c = compiled_from(SLICED SUBSETS("echo", "default") ISTIO(
		"VirtualService", "echo", "default", "  hosts: [echo]\n  tcp:\n  - route: [" TO("v1") "]\n"));
	struct snapshot *before = snapshot_ref(c.snapshot);
	char moved[1024];

	snprintf(moved, sizeof(moved), "\n\n\n%s", rule);
	compiled_apply(&c, moved, true);
	CHECK_INT(c.rc, 0);
	CHECK(c.snapshot->units[0]->hash == before->units[0]->hash);
	CHECK_INT(c.snapshot->units[0]->origins[0].line, 10);
	snapshot_unref(before);
	compiled_release(&c);
}

/* Many changes in a row give what one whole build gives, and old snapshots live as long as they are held. */
TEST(changes_equal_a_whole_build)
{
	static struct compiled c;
	struct snapshot *kept[8];
	struct buf whole = { 0 }, changed = { 0 };
	struct snapshot *again = NULL;

	compiled_apply(&c, "", false);
	for (int i = 0; i < 300; i++) {
		char text[512];

		snprintf(text, sizeof(text), SERVICE("s%d", "default", "10.96.%d.%d", "tcp", "80"), i, i / 250,
			 i % 250 + 1, i);
		compiled_apply(&c, text, false);
	}
	for (uint32_t i = 0; i < 2500; i++) {
		char text[512];

		snprintf(text, sizeof(text), SLICE("e%u", "s%u", "default", "10.2.%u.%u", "%u"), i % 700, i % 300,
			 i / 256, i % 256, i % 3 + 1);
		compiled_apply(&c, text, true);
		if (i % 320 == 0)
			kept[i / 320] = snapshot_ref(c.snapshot);
	}
	CHECK_INT(c.rc, 0);
	CHECK_INT(snapshot_build(c.model, &compiled_options, NULL, NULL, 0, NULL, &again), 0);
	snapshot_print(c.snapshot, &changed);
	snapshot_print(again, &whole);
	CHECK(whole.len == changed.len && !memcmp(whole.data, changed.data, whole.len));
	CHECK_INT(c.snapshot->endpoint_nr, again->endpoint_nr);
	CHECK_INT(c.snapshot->row_nr, again->row_nr);
	for (uint32_t i = 0; i < again->unit_nr; i++)
		CHECK(again->units[i]->hash == c.snapshot->units[i]->hash);
	for (int i = 0; i < 8; i++)
		snapshot_unref(kept[i]);
	snapshot_unref(again);
	buf_release(&whole);
	buf_release(&changed);
	compiled_release(&c);
}

/* More units replaced than a snapshot keeps count of. */
TEST(very_many_changes)
{
	static struct compiled c;
	static struct buf text;
	struct snapshot *first;
	const struct unit *last;

	for (int i = 0; i < 1200; i++)
		buf_printf(&text, SERVICE("s%d", "default", "10.96.%d.%d", "tcp", "80"), i, i / 250, i % 250 + 1, i);
	compiled_apply(&c, text.data, false);
	CHECK_INT(c.rc, 0);
	first = snapshot_ref(c.snapshot);
	last = first->units[first->unit_nr - 1];
	for (int i = 0; i < 1190; i++) {
		char one[512];

		snprintf(one, sizeof(one), SLICE("e%d", "s%d", "default", "10.2.%d.%d", "80"), i, i, i / 250,
			 i % 250 + 1);
		compiled_apply(&c, one, true);
	}
	CHECK_STR(dial(&c, NULL, "10.96.4.1", 80, TCP), "1>10.2.4.1:80");
	CHECK_INT(c.snapshot->endpoint_nr, 1190);
	CHECK(first->units[0] != c.snapshot->units[0]);
	CHECK(last == c.snapshot->units[c.snapshot->unit_nr - 1] || last->endpoint_nr == 0);
	snapshot_unref(first);
	CHECK_STR(dial(&c, NULL, "10.96.0.1", 80, TCP), "1>10.2.0.1:80");
	buf_release(&text);
	compiled_release(&c);
}

TEST(clients_carry_who_they_are)
{
	struct compiled c =
		compiled_from("apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: z, uid: u-1, annotations: "
			      "{tulle.dev/cgroup: pods/b}}\n"
			      "spec: {nodeName: n1, serviceAccountName: acc, containers: [{name: c, image: i}]}\n"
			      "status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}\n---\n"
			      "apiVersion: v1\nkind: Pod\nmetadata: {name: done, namespace: z}\nspec: {containers: "
			      "[{name: c, image: i}]}\n"
			      "status: {podIP: 10.0.0.2, phase: Succeeded}\n---\n" POD("a", "z", "10.0.0.3", "k: v"));
	const struct client *b;

	CHECK_INT(c.snapshot->client_nr, 2);
	CHECK(str_is(c.snapshot->clients[0].name, "a"));
	b = &c.snapshot->clients[1];
	CHECK(str_is(b->name, "b") && str_is(b->uid, "u-1") && str_is(b->node, "n1") &&
	      str_is(b->service_account, "acc"));
	CHECK(str_is(b->cgroup, "pods/b"));
	CHECK_INT(b->ip_nr, 2);
	compiled_release(&c);
}

#define ACCELERATED(value) "annotations: {tulle.dev/accelerate: " value "}"
#define LABELLED(name, meta)                                                                                     \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: z, labels: {app: " name "}" meta "}\n" \
	"spec: {containers: [{name: c, image: i}]}\nstatus: {podIP: 10.0.0.1}\n---\n"
#define SELECTING(name, sel, value)                             \
	"apiVersion: v1\nkind: Service\nmetadata: {name: " name \
	", namespace: z, " ACCELERATED(value) "}\n"             \
					      "spec: {selector: {app: " sel "}, ports: [{port: 80}]}\n---\n"

TEST(the_nearest_says_what_is_accelerated)
{
	struct compiled c = compiled_from(
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: z, " ACCELERATED("auto") "}\n---\n" LABELLED(
			"a", ", " ACCELERATED("'on'")) LABELLED("b", "") LABELLED("c", "") SELECTING("s1", "a", "'off'")
			SELECTING("s2", "b", "'on'") SELECTING("s3", "b", "'off'") POD("d", "a", "10.0.0.4", "k: v"));
	const struct client *v = c.snapshot->clients;

	CHECK_INT(c.snapshot->client_nr, 4);
	CHECK(str_is(v[0].name, "d") && v[0].accelerate == ACCELERATE_UNSET && !v[0].accelerate_by.len);
	CHECK(v[1].accelerate == ACCELERATE_ON && str_is(v[1].accelerate_by, "pod"));
	CHECK(v[2].accelerate == ACCELERATE_OFF && str_is(v[2].accelerate_by, "service z/s3"));
	CHECK(v[3].accelerate == ACCELERATE_AUTO && str_is(v[3].accelerate_by, "namespace"));
	compiled_release(&c);
}

TEST(endpoints_never_change_scopes)
{
	static const char rules[] = ECHO ECHO_PODS SUBSETS("echo", "default") POD("a", "a", "10.1.1.1", "x: z")
		POD("b", "b", "10.1.1.2", "x: z")
			ISTIO("VirtualService", "echo", "default",
			      "  hosts: [echo]\n  tcp:\n  - match: [{sourceNamespace: b}]\n    route: [" TO(
				      "v1") "]\n"
					    "  - match: [{sourceNamespace: a}]\n    route: [" TO("v2") "]\n");
	struct compiled c = compiled_from(rules);
	uint32_t a = scope_of(&c, "a"), b = scope_of(&c, "b");

	CHECK(a && b && a != b);
	compiled_apply(&c, SLICE("s", "echo", "default", "10.2.0.1", "9000"), true);
	CHECK_INT(scope_of(&c, "a"), a);
	CHECK_INT(scope_of(&c, "b"), b);
	/* No endpoint for either: both meet equal rows, and still different ones. */
	CHECK_STR(dial(&c, "a", "10.96.0.4", 9000, TCP), "1>");
	compiled_apply(&c, POD("c", "a", "10.1.1.9", "x: z"), true);
	CHECK_INT(scope_of(&c, "a"), a);
	CHECK_INT(scope_of(&c, "c"), a);
	compiled_release(&c);
}

TEST(errors_refuse_and_keep_the_old)
{
	struct compiled c = compiled_from(ECHO);

	compiled_apply(&c,
		       ISTIO("VirtualService", "echo", "default",
			     "  hosts: [echo]\n  tcp:\n  - route: [{destination: {host: ecco}}]\n"),
		       true);
	CHECK_INT(c.rc, -EINVAL);
	CHECK_INT(c.batch.refused, 1);
	CHECK(says(&c, DIAG_ERROR, "[IST0101] referenced host not found"));
	CHECK(c.snapshot);
	compiled_release(&c);
}

TEST(live_documents_are_never_errors)
{
	struct compiled c = compiled_from(ECHO SERVICE("web", "default", "10.96.0.7", "tcp", "80") ISTIO(
		"VirtualService", "echo", "default",
		"  hosts: [echo]\n  tcp:\n  - route: [{destination: {host: web}}]\n"));
	struct doc *gone;

	CHECK_INT(c.rc, 0);
	gone = model_remove(c.model, LAYER_RULES, KIND_SERVICE, STR("Service"), STR("default"), STR("web"));
	CHECK(gone);
	doc_unref(gone);
	compiled_apply(&c, "", false);
	CHECK_INT(c.rc, 0);
	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "1>");
	CHECK(says(&c, DIAG_WARNING, "[IST0101]"));
	compiled_release(&c);
}

TEST(lone_rules_are_only_warned)
{
	struct compiled c =
		compiled_from(ISTIO("VirtualService", "echo", "default",
				    "  hosts: [echo]\n  gateways: [edge]\n  tcp:\n  - route: [" TO("v1") "]\n"));

	CHECK_INT(c.rc, 0);
	CHECK(says(&c, DIAG_WARNING, "gateway not found"));
	CHECK(says(&c, DIAG_WARNING, "host not found"));
	CHECK(!says(&c, DIAG_ERROR, ""));
	compiled_release(&c);
}

TEST(weights_of_one_and_of_none)
{
	struct compiled c = compiled_from(ECHO ECHO_PODS SUBSETS("echo", "default") ISTIO(
		"VirtualService", "echo", "default",
		"  hosts: [echo]\n  tcp:\n  - route: [{destination: {host: echo, subset: v1}, weight: 0}]\n"));

	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000");
	compiled_apply(&c,
		       ISTIO("VirtualService", "echo", "default",
			     "  hosts: [echo]\n  tcp:\n  - route: [{destination: {host: echo, subset: v1}, weight: 0}, "
			     "{destination: {host: echo, subset: v2}, weight: 2147483647}, {destination: {host: echo}, "
			     "weight: 1}]\n"),
		       true);
	CHECK_STR(dial(&c, NULL, "10.96.0.4", 9000, TCP), "2147483647>10.1.0.2:9000+1>10.1.0.1:9000,10.1.0.2:9000");
	compiled_release(&c);
}

TEST(rows_are_sorted_and_unique)
{
	struct compiled c = compiled_from(
		ISTIO("ServiceEntry", "a", "default",
		      "  hosts: [a.example.org, b.example.org]\n  addresses: [10.0.0.9, 10.0.0.1]\n"
		      "  ports: [{number: 90, name: tcp, protocol: TCP}, {number: 80, name: web, protocol: TCP}]\n"
		      "  resolution: NONE\n"));
	const struct unit *u = c.snapshot->units[0];

	CHECK_INT(c.snapshot->row_nr, 4);
	for (uint32_t i = 1; i < u->row_nr; i++) {
		int order = addr_cmp(&u->rows[i - 1].addr, &u->rows[i].addr);

		CHECK(order < 0 || (!order && u->rows[i - 1].port < u->rows[i].port));
	}
	compiled_release(&c);
}

TEST(many_scopes_at_once)
{
	/* Every namespace has a rule of its own for the one service. */
	static struct buf text;
	struct compiled c;

	buf_printf(&text, "%s", ECHO ECHO_PODS);
	for (int i = 0; i < 40; i++) {
		buf_printf(&text, POD("p%d", "n%d", "10.3.0.%d", "x: z"), i, i, i + 1);
		buf_printf(&text,
			   ISTIO("DestinationRule", "echo", "n%d",
				 "  host: echo.default.svc.cluster.local\n  exportTo: ['.']\n"
				 "  trafficPolicy: {loadBalancer: {simple: %s}}\n"),
			   i, i % 2 ? "PASSTHROUGH" : "LEAST_REQUEST");
	}
	c = compiled_from(text.data);
	CHECK_INT(c.rc, 0);
	/* Each names the rule that it is due to, so the scopes differ; LEAST_REQUEST is what all have. */
	CHECK_INT(c.snapshot->scope_nr, 21);
	CHECK_STR(dial(&c, "p0", "10.96.0.4", 9000, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	CHECK_STR(dial(&c, "p1", "10.96.0.4", 9000, TCP), "pass");
	CHECK_INT(scope_of(&c, "p2"), 0);
	CHECK(scope_of(&c, "p3") != scope_of(&c, "p1"));
	buf_release(&text);
	compiled_release(&c);
}

#define NODED(name, service, address, node)                                                             \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " name                  \
	", namespace: default, labels: {kubernetes.io/service-name: " service "}}\naddressType: IPv4\n" \
	"endpoints: [{addresses: [" address "], nodeName: " node "}]\nports: [{name: tcp, port: 8080}]\n---\n"
#define OUTER(policy)                                                                                                  \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec:\n  type: NodePort\n"          \
	"  clusterIP: 10.96.0.4\n  externalIPs: [192.0.2.1]\n  " policy "\n  ports: [{name: tcp, port: 80, nodePort: " \
	"30080}]\n---\n"

TEST(local_policies_follow_endpoints)
{
	struct compiled c = compiled_from(OUTER("externalTrafficPolicy: Local") NODED("a", "web", "10.1.0.1", "n1")
						  NODED("b", "web", "10.2.0.1", "n2"));
	const struct unit *u = NULL;
	const struct u_row *r;
	struct addr any = { { [10] = 0xff, [11] = 0xff } };

	CHECK_INT(c.rc, 0);
	CHECK_STR(dial(&c, NULL, "0.0.0.0", 30080, TCP), "1>10.1.0.1:8080,10.2.0.1:8080");
	CHECK_STR(dial(&c, OUTSIDE, "0.0.0.0", 30080, TCP), "1>10.1.0.1:8080");
	CHECK_STR(dial(&c, OUTSIDE, "192.0.2.1", 80, TCP), "1>10.1.0.1:8080");
	CHECK_STR(dial(&c, OUTSIDE, "10.96.0.4", 80, TCP), "1>10.1.0.1:8080,10.2.0.1:8080");
	/* Of the slices alone. */
	compiled_apply(&c, NODED("a", "web", "10.1.0.1", "n3"), true);
	CHECK_STR(dial(&c, OUTSIDE, "192.0.2.1", 80, TCP), "1>");
	r = snapshot_find(c.snapshot, MESH_SCOPE_OUTSIDE, &any, 30080, TCP, &u);
	CHECK(r && r->scope == MESH_SCOPE_OUTSIDE && u->clusters[u->dests[r->dest].cluster].elsewhere);
	compiled_apply(&c, NODED("b", "web", "10.2.0.1", "n1"), true);
	CHECK_STR(dial(&c, OUTSIDE, "192.0.2.1", 80, TCP), "1>10.2.0.1:8080");
	compiled_apply(&c, OUTER("internalTrafficPolicy: Local"), false);
	CHECK_STR(dial(&c, OUTSIDE, "192.0.2.1", 80, TCP), "1>10.1.0.1:8080,10.2.0.1:8080");
	CHECK_STR(dial(&c, NULL, "10.96.0.4", 80, TCP), "1>10.2.0.1:8080");
	compiled_release(&c);
}

#define GATEWAY_API(kind, name, spec) \
	"apiVersion: gateway.networking.k8s.io/v1\nkind: " kind "\nmetadata: {name: " name "}\nspec: " spec "\n---\n"
#define EDGE                                                                                                           \
	GATEWAY_API("Gateway", "edge",                                                                                 \
		    "{gatewayClassName: tulle, addresses: [{value: 192.0.2.9}], listeners: [{name: a, protocol: TCP, " \
		    "port: 81}]}")

TEST(gateways_of_classes)
{
	struct compiled c = compiled_from(ECHO ECHO_PODS EDGE GATEWAY_API(
		"TCPRoute", "edge",
		"{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: echo, port: 9000}]}]}"));
	struct doc *gone;

	CHECK_INT(c.rc, 0);
	CHECK_STR(dial(&c, NULL, "192.0.2.9", 81, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	CHECK_INT(c.batch.skipped, 0);
	/* Somebody says that the class is his, then takes it back; the Gateway stays what it is. */
	compiled_apply(&c, GATEWAY_API("GatewayClass", "tulle", "{controllerName: example.com/x}"), false);
	CHECK_INT(c.rc, 0);
	CHECK(c.batch.results[0].outcome == OUTCOME_SKIPPED && c.batch.skipped == 1);
	CHECK_STR(dial(&c, NULL, "192.0.2.9", 81, TCP), "none");
	compiled_apply(&c, EDGE, false);
	CHECK(c.batch.results[0].outcome == OUTCOME_SKIPPED && says(&c, DIAG_WARNING, "is not of this mesh"));
	gone = model_remove(c.model, LAYER_RULES, KIND_GATEWAY_CLASS, STR("GatewayClass"), STR(""), STR("tulle"));
	CHECK(gone);
	doc_unref(gone);
	compiled_apply(&c, EDGE, false);
	CHECK_STR(dial(&c, NULL, "192.0.2.9", 81, TCP), "1>10.1.0.1:9000,10.1.0.2:9000");
	/* One of Istio's has the same name and is another. */
	compiled_apply(&c,
		       EDGE ISTIO("Gateway", "edge", "default",
				  "  servers: [{port: {number: 81, name: a, protocol: TCP}, hosts: ['*']}]\n"),
		       false);
	CHECK_INT(c.batch.refused, 0);
	CHECK_INT(c.batch.applied, 2);
	compiled_release(&c);
}

/* The usual default of a mesh, where each namespace sees itself: rows are for what is shown, not for what is hidden. */
TEST(sidecars_of_many_namespaces)
{
	enum { SPACES = 40, SERVICES = 25 };
	const struct unit *u;
	struct buf b = { 0 };
	struct compiled c;

	buf_printf(&b, ISTIO("Sidecar", "default", "istio-system", "  egress: [{hosts: [./*]}]\n"));
	for (uint32_t i = 0; i < SPACES; i++) {
		buf_printf(&b,
			   "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: n%u}\nspec: {containers: [{name: "
			   "c}]}\n"
			   "status: {podIP: 10.0.0.%u}\n---\n",
			   i, i + 1);
		for (uint32_t k = 0; k < SERVICES; k++)
			buf_printf(&b,
				   "apiVersion: v1\nkind: Service\nmetadata: {name: s%u, namespace: n%u}\nspec: "
				   "{clusterIP: "
				   "10.96.%u.%u, ports: [{port: 80}]}\n---\n",
				   k, i, i, k + 1);
	}
	c = compiled_from(b.data);
	CHECK_INT(c.rc, 0);
	CHECK_INT(c.snapshot->scope_nr, SPACES + 1);
	CHECK_INT(c.snapshot->row_nr, 2 * SPACES * SERVICES);
	for (uint32_t i = 0; i < c.snapshot->client_nr; i++) {
		for (uint32_t k = 0; k < SPACES; k++) {
			const struct client *cl = &c.snapshot->clients[i];
			char text[32];
			struct addr a;

			snprintf(text, sizeof(text), "10.96.%u.3", k);
			CHECK(addr_parse(str_of(text), &a));
			CHECK_MSG(!!snapshot_find(c.snapshot, cl->scope, &a, 80, 6, &u) == (cl->ips[0].b[15] == k + 1),
				  "client 10.0.0.%u, service %s", cl->ips[0].b[15], text);
		}
	}
	buf_release(&b);
	compiled_release(&c);
}
