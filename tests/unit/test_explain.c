/* SPDX-License-Identifier: BSD-2-Clause */
/* explain and the reports: what people read, and that the JSON says the same. */
#include "compiled.h"

#include "config/explain.h"

static const char documents[] = SERVICE("echo", "default", "10.96.0.4", "http", "80") SUBSETS("echo", "default") POD(
	"echo-v1", "default", "10.1.0.1",
	"app: echo, version: v1") POD("echo-v2", "default", "10.1.0.2",
				      "app: echo, version: v2") POD("cli", "a", "10.1.1.1", "x: z")
	POD("cli.two", "b", "10.1.1.2",
	    "x: z") "apiVersion: v1\nkind: Pod\nmetadata: {name: host, namespace: a}\nspec: {hostNetwork: true, "
		    "containers: [{name: c, image: i}]}\n"
		    "status: {podIP: 192.168.0.1}\n---\n" ISTIO(
			    "VirtualService", "echo", "default",
			    "  hosts: [echo]\n  http:\n  - match: [{sourceNamespace: b}]\n    route: [{destination: "
			    "{host: echo, subset: v1}}]\n"
			    "  - route: [{destination: {host: echo, subset: v1}, weight: 3}, {destination: {host: "
			    "echo, subset: v9}, weight: 1}]\n") "apiVersion: networking.istio.io/v1\nkind: "
								"DestinationRule\nmetadata: {name: more, namespace: "
								"default}\nspec:\n  host: echo\n"
								"  subsets: [{name: v9, labels: {version: "
								"v9}}]\n---\n" ISTIO(
									"ServiceEntry", "ext", "default",
									"  hosts: ['*.example.org']\n  addresses: "
									"[10.50.0.0/24]\n  ports: [{number: 443, name: "
									"tls, protocol: TLS}]\n  resolution: NONE\n")
									SERVICE("headless", "default", "None", "http",
										"80");

static const struct explain_node *asked_node; /* NULL: nobody's */

static char *ask(const struct compiled *c, const char *src, const char *dst, uint16_t port, int want, bool as_json)
{
	static struct buf text, json_text;
	struct json json;

	buf_clear(&text);
	buf_clear(&json_text);
	json_init(&json, &json_text);
	CHECK_INT(explain(c->snapshot, &compiled_options, asked_node, str_of(src), str_of(dst), port, MESH_PROTO_TCP,
			  &text, &json),
		  want);
	return as_json ? json_text.data : text.data;
}

#define CHECK_HAS(text, part) CHECK_MSG(strstr((text), (part)), "\"%s\" is not in:\n%s", (part), (text))

TEST(which_rule_and_which_share)
{
	struct compiled c = compiled_from(documents);
	const char *text;

	CHECK_INT(c.rc, 0);
	text = ask(&c, "cli", "echo.default", 80, 0, false);
	CHECK_HAS(text, "a/cli -> 10.96.0.4:80/tcp");
	CHECK_HAS(text, "balanced in the kernel");
	CHECK_HAS(text, "rule: VirtualService default/echo, spec.http[1], t.yaml:");
	CHECK_HAS(text, " 75.00%  outbound|80|v1|echo.default.svc.cluster.local");
	CHECK_HAS(text, " 75.00%  10.1.0.1:80  default/echo-v1/default");
	CHECK_HAS(text, " 25.00%  outbound|80|v9|");
	CHECK_HAS(text, "no endpoint: this share is refused");
	CHECK_HAS(text, "per connection for now");
	text = ask(&c, "a/cli", "echo.default.svc.cluster.local", 80, 0, true);
	CHECK_HAS(text, "\"path\":\"kernel\"");
	CHECK_HAS(text, "\"per_connection\":true");
	CHECK_HAS(text, "\"field\":\"spec.http[1]\"");
	CHECK_HAS(text, "\"share\":75");
	compiled_release(&c);
}

/* Named as in a DestinationRule, so that scripts can compare. */
TEST(policies_are_objects)
{
	struct compiled c = compiled_from(SERVICE("shop", "default", "10.96.0.9", "tcp", "80") POD(
		"shop-1", "default", "10.1.0.1",
		"app: shop") "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: shop, "
			     "namespace: "
			     "default, annotations: {tulle.dev/latency-ejection: \"2.5\", tulle.dev/drain-timeout: "
			     "1500ms}}\nspec:\n  host: shop\n  trafficPolicy:\n"
			     "    loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 1m, minimumPercent: 12.5}}\n"
			     "    connectionPool: {tcp: {maxConnections: 7, idleTimeout: 5m, tcpKeepalive: {probes: "
			     "3}}}\n"
			     "    outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 50}\n"
			     "---\n");
	const char *text;

	CHECK_INT(c.rc, 0);
	text = ask(&c, "shop-1", "shop", 80, 0, true);
	CHECK_HAS(text, "\"policy\":{\"loadBalancer\":{\"simple\":\"ROUND_ROBIN\",\"warmup\":{\"duration\":\"60s\","
			"\"minimumPercent\":12.5,\"aggression\":1}},\"connectionPool\":{\"tcp\":{\"maxConnections\":7,"
			"\"idleTimeout\":\"300s\",\"tcpKeepalive\":{\"probes\":3}}},\"outlierDetection\":{"
			"\"consecutiveLocalOriginFailures\":3,\"interval\":\"10s\",\"baseEjectionTime\":\"30s\","
			"\"maxEjectionPercent\":50,\"minHealthPercent\":0,\"latencyEjection\":{\"factor\":2.5,\"floor_"
			"us\":10000}},"
			"\"drainTimeout\":\"1500ms\"}");
	CHECK_HAS(text, "\"policy_rule\":{\"kind\":\"DestinationRule\",\"namespace\":\"default\",\"name\":\"shop\","
			"\"field\":\"spec.trafficPolicy\"");
	compiled_release(&c);
	c = compiled_from(documents);
	text = ask(&c, "cli", "echo.default", 80, 0, true);
	CHECK_HAS(text, "\"policy\":{\"loadBalancer\":{\"simple\":\"LEAST_REQUEST\"},\"connectionPool\":{\"tcp\":{}},"
			"\"outlierDetection\":null},\"policy_rule\":null");
	compiled_release(&c);
}

TEST(scopes_are_said)
{
	struct compiled c = compiled_from(documents);
	const char *text = ask(&c, "b/cli.two", "echo.default.svc", 80, 0, false);

	CHECK_HAS(text, "spec.http[0]");
	CHECK_HAS(text, "100.00%  10.1.0.1:80");
	CHECK_HAS(text, "namespace or labels of this client");
	CHECK_HAS(ask(&c, "cli.two.b", "10.96.0.4", 80, 0, false), "spec.http[0]");
	compiled_release(&c);
}

TEST(not_balanced_at_all)
{
	struct compiled c = compiled_from(documents);

	CHECK_HAS(ask(&c, "cli", "10.1.0.1", 80, 0, false), "no service: dialled directly");
	CHECK_HAS(ask(&c, "cli", "10.50.0.7", 443, 0, false), "passes through");
	CHECK_HAS(ask(&c, "cli", "www.example.org", 443, 0, false), "passes through");
	CHECK_HAS(ask(&c, "host.a", "echo.default", 80, 0, false), "node's own network");
	CHECK_HAS(ask(&c, "host", "10.96.0.4", 80, 0, true), "\"path\":\"direct\"");
	compiled_release(&c);
}

TEST(what_is_not_there)
{
	struct compiled c = compiled_from(documents);

	CHECK_HAS(ask(&c, "nobody", "echo.default", 80, -ENOENT, false), "no pod nobody with an address\n");
	CHECK_HAS(ask(&c, "echo", "echo.default", 80, -ENOENT, false),
		  "no pod echo with an address; did you mean echo-v1?");
	CHECK_HAS(ask(&c, "clj", "echo.default", 80, -ENOENT, false), "; did you mean cli?");
	CHECK_HAS(ask(&c, "cli", "ecoh", 80, -ENOENT, false), "; did you mean echo?");
	CHECK_HAS(ask(&c, "cli", "echo.defalt.svc.cluster.local", 80, -ENOENT, false),
		  "; did you mean echo.default.svc.cluster.local?");
	CHECK_HAS(ask(&c, "cli", "echo", 80, -ENOENT, false), "no Service or ServiceEntry has host echo");
	CHECK_HAS(ask(&c, "cli", "echo.default", 81, -ENOENT, false), "has no address with port 81/tcp; it has 80/tcp");
	CHECK_HAS(ask(&c, "cli", "headless.default", 80, -ENOENT, false), "headless");
	CHECK_INT(explain(c.snapshot, &compiled_options, NULL, STR("cli"), STR("echo.default"), 80, MESH_PROTO_TCP,
			  NULL, NULL),
		  0);
	compiled_release(&c);
}

/* Of the pods below: "away" is elsewhere, "haproxy" splices, "mixed" runs several programs. */
static void pod_at(void *data, const struct client *c, struct explain_pod *ret)
{
	(void)data;
	*ret = (struct explain_pod){ .here = !str_is(c->name, "away"), .programs = 1 };
	if (str_is(c->name, "haproxy"))
		ret->splices = 1;
	if (str_is(c->name, "mixed"))
		*ret = (struct explain_pod){ true, "a queue is there", 2, 1, { 0 } };
	snprintf(ret->splicer, sizeof(ret->splicer), "haproxy uses splice");
}

static const char ways_documents[] = POD("cli", "default", "10.1.0.1", "app: cli") POD("echo", "default", "10.1.0.2",
										       "app: echo")
	POD("away", "default", "10.1.0.3", "app: echo") POD("haproxy", "default", "10.1.0.4", "app: proxy")
		POD("mixed", "default", "10.1.0.5", "app: mixed") POD("far", "b", "10.1.0.6", "app: far") SERVICE(
			"echo", "default", "10.96.0.4", "http",
			"80") "apiVersion: v1\nkind: Service\nmetadata: {name: quiet, namespace: b, annotations: "
			      "{tulle.dev/accelerate: \"off\"}}\nspec: {clusterIP: 10.96.0.6, selector: {app: far}, "
			      "ports: [{port: 80}]}\n---\n";

TEST(how_pods_of_a_node_may_talk)
{
	struct explain_node node = { .accelerate = ACCELERATE_AUTO, .pod = pod_at };
	struct compiled c = compiled_from(ways_documents);
	const char *text;

	CHECK_INT(c.rc, 0);
	CHECK_HAS(ask(&c, "cli", "10.1.0.2", 80, 0, true), "\"ways\":[]");
	CHECK(!strstr(ask(&c, "cli", "10.1.0.2", 80, 0, false), "past TCP"));
	asked_node = &node;
	text = ask(&c, "cli", "echo", 80, 0, false);
	CHECK_HAS(text, "  past TCP to 10.1.0.2:80: possible (accelerate: auto, by mesh)\n"
			"  shortcut to 10.1.0.2:80: possible\n");
	CHECK_HAS(text, "  past TCP to 10.1.0.3:80: no: the server is no pod of this node (accelerate: auto, by mesh)\n"
			"  shortcut to 10.1.0.3:80: no: the server is no pod of this node\n");
	CHECK_HAS(ask(&c, "cli", "10.1.0.2", 80, 0, true),
		  "\"ways\":[{\"acceleration\":{\"mode\":\"auto\",\"by\":\"mesh\",\"eligible\":true,\"why\":null},"
		  "\"shortcut\":{\"on\":true,\"why\":null},\"servers\":[{\"ip\":\"10.1.0.2\",\"port\":80,");
	CHECK_HAS(ask(&c, "cli", "10.1.0.4", 80, 0, false),
		  "past TCP: no: default/haproxy may splice: haproxy uses splice");
	CHECK_HAS(ask(&c, "cli", "10.1.0.5", 80, 0, false),
		  "past TCP: possible: not by all programs: one of default/mixed may splice: haproxy uses splice");
	CHECK_HAS(ask(&c, "cli", "10.1.0.5", 80, 0, false), "shortcut: no: a queue is there");
	CHECK_HAS(ask(&c, "far", "10.1.0.2", 80, 0, false),
		  "past TCP: no: accelerate is off (accelerate: off, by service b/quiet)");
	CHECK_HAS(ask(&c, "cli", "10.1.0.1", 80, 0, false), "no: inside one pod, and accelerate-loopback is off");
	CHECK_HAS(ask(&c, "away", "10.1.0.2", 80, 0, false), "no: the client is no pod of this node");
	node.no_acceleration = "the self-test failed";
	node.no_shortcut = "shortcut is off";
	text = ask(&c, "cli", "10.1.0.2", 80, 0, false);
	CHECK_HAS(text, "past TCP: no: the self-test failed (accelerate");
	CHECK_HAS(text, "shortcut: no: shortcut is off\n");
	asked_node = NULL;
	compiled_release(&c);
}

TEST(acceleration_across_namespaces_takes_on)
{
	struct explain_node node = { .accelerate = ACCELERATE_AUTO, .pod = pod_at };
	struct compiled c =
		compiled_from(POD("cli", "a", "10.1.0.1", "app: cli") POD("haproxy", "b", "10.1.0.2", "app: x"));

	asked_node = &node;
	CHECK_HAS(ask(&c, "cli", "10.1.0.2", 80, 0, false),
		  "no: between namespaces, which takes accelerate: on at both ends");
	node.accelerate = ACCELERATE_ON;
	CHECK_HAS(ask(&c, "cli", "10.1.0.2", 80, 0, false), "past TCP: possible (accelerate: on, by mesh)");
	asked_node = NULL;
	compiled_release(&c);
}

TEST(acceleration_with_the_parser_takes_on)
{
	struct explain_node node = { .accelerate = ACCELERATE_AUTO, .pod = pod_at };
	struct compiled c = compiled_from(POD("cli", "default", "10.1.0.1", "app: cli") POD(
		"echo", "default", "10.1.0.2", "app: echo") POD("away", "default", "10.1.0.3", "app: echo")
						  SERVICE("echo", "default", "10.96.0.4", "http",
							  "80") "apiVersion: networking.istio.io/v1\nkind: "
								"VirtualService\nmetadata: {name: echo}\n"
								"spec: {hosts: [echo], http: [{route: [{destination: "
								"{host: echo}}], timeout: 1s}]}\n");
	const char *text;

	CHECK_INT(c.rc, 0);
	asked_node = &node;
	CHECK_HAS(ask(&c, "cli", "echo", 80, 0, false), "past TCP: no: meshl7 is between the client and the server");
	node.parser = true;
	CHECK_HAS(ask(&c, "cli", "echo", 80, 0, false), "past TCP: no: with meshl7, which takes accelerate: on");
	node.accelerate = ACCELERATE_ON;
	text = ask(&c, "cli", "echo", 80, 0, false);
	CHECK_HAS(text, "to 10.1.0.2:80: possible: between the client and meshl7, and from there to the server");
	CHECK_HAS(text, "to 10.1.0.3:80: possible: between the client and meshl7 (");
	CHECK_HAS(ask(&c, "away", "10.96.0.4", 80, 0, false),
		  "to 10.1.0.2:80: possible: between meshl7 and the server (");
	node.no_acceleration = "the self-test failed";
	CHECK_HAS(ask(&c, "cli", "echo", 80, 0, false), "past TCP: no: the self-test failed");
	asked_node = NULL;
	compiled_release(&c);
}

TEST(from_outside)
{
	struct compiled c = compiled_from(
		"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  type: NodePort\n  clusterIP: "
		"10.96.0.9\n"
		"  externalTrafficPolicy: Local\n  externalIPs: [192.0.2.1]\n  selector: {app: web}\n"
		"  ports: [{name: tcp, port: 80, nodePort: 30080}]\n---\n" POD(
			"web", "default", "10.1.0.9",
			"app: web") "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"
				    "status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}\n---\n"
				    "apiVersion: v1\nkind: Node\nmetadata: {name: n2}\n"
				    "status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}\n---\n");
	const char *text;

	CHECK_INT(c.rc, 0);
	text = ask(&c, "198.51.100.7", "192.168.0.1", 30080, 0, false);
	CHECK_HAS(text, "balanced in the kernel, where it enters the node");
	CHECK_HAS(text, "no endpoint on this node, and its traffic policy is Local: this share is dropped");
	CHECK_HAS(text, "scope outside");
	CHECK_HAS(ask(&c, "198.51.100.7", "192.0.2.1", 80, 0, false), "this share is dropped");
	CHECK_HAS(ask(&c, "web", "n1", 30080, 0, false), "100.00%  10.1.0.9:80");
	/* Another node's port is dialled there. */
	CHECK_HAS(ask(&c, "web", "192.168.0.2", 30080, 0, false), "no service: dialled directly");
	compiled_release(&c);
}

TEST(a_sidecar_is_named)
{
	struct compiled c = compiled_from(SERVICE("echo", "b", "10.96.0.4", "http", "80") POD(
		"cli", "a", "10.1.1.1", "x: z") ISTIO("Sidecar", "own", "a",
						      "  egress: [{hosts: [./*]}]\n  outboundTrafficPolicy:\n    mode: "
						      "REGISTRY_ONLY\n"));
	const char *text;

	CHECK_INT(c.rc, 0);
	text = ask(&c, "cli", "echo.b", 80, 0, false);
	CHECK_HAS(text, "refused");
	CHECK_HAS(text, "Sidecar of the client: a/own, t.yaml:");
	CHECK_HAS(text, "REGISTRY_ONLY of Sidecar a/own, t.yaml:");
	CHECK_HAS(text, "verdict: denied by Sidecar a/own, t.yaml:");
	text = ask(&c, "cli", "192.0.2.1", 80, 0, true);
	CHECK_HAS(text, "\"reason\":\"registry_only\"");
	CHECK_HAS(text, "\"kind\":\"Sidecar\",\"policy\":\"a/own\"");
	CHECK_HAS(text, "\"sidecar\":{\"namespace\":\"a\",\"name\":\"own\",");
	CHECK_HAS(ask(&c, "cli", "10.1.1.1", 80, 0, false), "verdict: allowed");
	compiled_release(&c);
}

TEST(reports_say_what_became_of_each)
{
	struct compiled c = compiled_from(ISTIO(
		"VirtualService", "a", "default",
		"  hosts: [a]\n  tcp:\n  - route: [{destination: {host: b}}]\n") "apiVersion: apps/v1\nkind: "
										 "Deployment\nmetadata: {name: "
										 "d}\n---\n" SERVICE("x", "default",
												     "10.0.0.1", "tcp",
												     "80") "apiVersion:"
													   " v1\nkind: "
													   "Nonsense\nm"
													   "etadata: "
													   "{name: "
													   "n}\n");
	struct buf text = { 0 }, json = { 0 };

	CHECK_INT(c.rc, -EINVAL);
	report_text(&c.batch, &text, false);
	report_json(&c.batch, &json);
	CHECK_HAS(text.data, "VirtualService default/a refused");
	CHECK_HAS(text.data, " skipped\n");
	CHECK_HAS(text.data, "Service default/x applied");
	CHECK_HAS(text.data, "1 applied, 1 skipped, 2 refused");
	CHECK_HAS(text.data, "t.yaml:7:");
	CHECK_HAS(json.data, "{\"summary\":{\"applied\":1,\"skipped\":1,\"refused\":2},\"documents\":[{\"file\":\"t."
			     "yaml\",\"document\":1,");
	CHECK_HAS(json.data, "\"outcome\":\"refused\",\"errors\":[{\"line\":");
	CHECK_HAS(json.data, "\"field\":\"spec.tcp[0].route[0].destination.host\"");
	buf_release(&text);
	buf_release(&json);
	compiled_release(&c);
}
