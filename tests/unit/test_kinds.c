/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kinds: decoding and checks, on documents as text. What is reported is compared as lines of "line:column:
 * field: message".
 */
#include "test.h"

#include "config/kinds.h"

struct result {
	struct doc doc;
	struct diags diags;
	struct buf lines; /* errors, then "warning: " lines, in order */
	bool ok;
	const struct kind_entry *kind;
};

static struct str scalar_at(const struct ynode *root, const char *key)
{
	const struct ynode *n = ynode_get(root, key);

	return n && n->kind == YNODE_SCALAR ? n->scalar : (struct str){ 0 };
}

static void result_read(struct result *r, const char *text)
{
	struct str file = STR("f.yaml"), slice, hint;
	struct yaml *y = yaml_open(file, str_of(text));
	struct ynode *root = NULL;
	struct decode d = { 0 };
	uint32_t number;

	memset(r, 0, sizeof(*r));
	CHECK_INT(yaml_next(y, &r->doc.arena, &r->diags, &root, &number, &slice), 1);
	r->doc.api_version = scalar_at(root, "apiVersion");
	r->doc.kind_name = scalar_at(root, "kind");
	r->kind = kind_find(&r->doc.arena, r->doc.api_version, r->doc.kind_name, &hint);
	if (r->kind && r->kind->class == KIND_DECODED) {
		d = (struct decode){ .arena = &r->doc.arena, .diags = &r->diags, .file = file, .document = number };
		r->ok = r->kind->decode(&d, root, &r->doc);
	}
	for (uint32_t i = 0; i < r->diags.nr; i++) {
		const struct diag *g = &r->diags.items[i];

		buf_printf(&r->lines, "%s%u:%u: %.*s: %.*s\n", g->level == DIAG_ERROR ? "" : "warning: ", g->at.line,
			   g->at.column, STR_ARG(g->field), STR_ARG(g->message));
	}
	if (!r->lines.data)
		buf_str(&r->lines, STR(""));
	yaml_close(y);
}

static void result_release(struct result *r)
{
	arena_release(&r->doc.arena);
	diags_release(&r->diags);
	buf_release(&r->lines);
}

/* Document is decoded and reports exactly these lines. */
static void expect(const char *text, const char *want)
{
	struct result r;

	result_read(&r, text);
	CHECK_STR(r.lines.data, want);
	CHECK_MSG(r.ok == !r.diags.errors, "outcome of %s", text);
	result_release(&r);
}

TEST(kind_lookup)
{
	struct arena a = { 0 };
	struct str hint = { 0 };
	const struct kind_entry *e;

	e = kind_find(&a, STR("networking.istio.io/v1beta1"), STR("VirtualService"), &hint);
	CHECK(e && e->id == KIND_VIRTUAL_SERVICE && e->class == KIND_DECODED);
	e = kind_find(&a, STR("apps/v1"), STR("Deployment"), &hint);
	CHECK(e && e->class == KIND_SKIPPED);
	e = kind_find(&a, STR("cert-manager.io/v1"), STR("Certificate"), &hint);
	CHECK(e && e->class == KIND_SKIPPED);
	e = kind_find(&a, STR("security.istio.io/v1"), STR("RequestAuthentication"), &hint);
	CHECK(e && e->class == KIND_REFUSED && *e->note);
	CHECK(!kind_find(&a, STR("networking.istio.io/v2"), STR("VirtualService"), &hint));
	CHECK_STR(hint.p, "served versions of VirtualService: v1 v1beta1 v1alpha3");
	CHECK(!kind_find(&a, STR("discovery.k8s.io/v1beta1"), STR("EndpointSlice"), &hint));
	CHECK_STR(hint.p, "served versions of EndpointSlice: v1");
	CHECK(!kind_find(&a, STR("v1"), STR("VirtualService"), &hint));
	CHECK_STR(hint.p, "apiVersion of kind VirtualService is networking.istio.io/v1");
	CHECK(!kind_find(&a, STR("v1"), STR("Servce"), &hint));
	CHECK_STR(hint.p, "did you mean Service?");
	CHECK(!kind_find(&a, STR("example.org/v1"), STR("Xyzzyplugh"), &hint));
	CHECK_INT(hint.len, 0);
	CHECK(!kind_find(&a, STR(""), STR(""), &hint));
	arena_release(&a);
}

TEST(kind_resources)
{
	static const char *const texts[] = { "vs",
					     "virtualservice",
					     "virtualservices",
					     "VirtualService",
					     "virtualservices.networking.istio.io",
					     "vs.v1.networking.istio.io" };
	enum kind kind;
	struct str name;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		CHECK_MSG(kind_parse(str_of(texts[i]), &kind, &name), "%s", texts[i]);
		CHECK_INT(kind, KIND_VIRTUAL_SERVICE);
		CHECK_INT(name.len, 0);
	}
	CHECK(kind_parse(STR("endpoints"), &kind, &name) && kind == KIND_SLICE && str_is(name, "Endpoints"));
	CHECK(kind_parse(STR("tcproute"), &kind, &name) && kind == KIND_ROUTE && str_is(name, "TCPRoute"));
	CHECK(kind_parse(STR("gw"), &kind, &name) && kind == KIND_ISTIO_GATEWAY);
	CHECK(kind_parse(STR("gateways.gateway.networking.k8s.io"), &kind, &name) && kind == KIND_GATEWAY);
	CHECK(!kind_parse(STR("listenersets"), &kind, &name));
	CHECK(!kind_parse(STR("deployments"), &kind, &name));
	CHECK(!kind_parse(STR("virtualservices.example.org"), &kind, &name));
	CHECK(!kind_parse(STR(""), &kind, &name));
	CHECK(kind_by_resource(STR("deploy")) == NULL);
	CHECK(kind_by_resource(STR("Deployments"))->class == KIND_SKIPPED);
	for (int k = 0; k < KIND_NR; k++)
		CHECK(*kind_text((enum kind)k));
}

TEST(service)
{
	struct result r;
	char ip[ADDR_TEXT_MAX];

	result_read(&r, "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: ns, labels: {x: \"1\"},\n"
			"  annotations: {networking.istio.io/exportTo: \"., b\"}}\n"
			"spec:\n  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.1, \"fd00::1\"]\n  selector: {app: a}\n"
			"  sessionAffinity: None\n  internalTrafficPolicy: Cluster\n  ipFamilyPolicy: PreferDualStack\n"
			"  ports:\n  - {name: http, port: 80, targetPort: web}\n  - {name: dns, port: 53, protocol: "
			"UDP, targetPort: 5353}\n");
	CHECK_STR(r.lines.data, "");
	CHECK(r.ok);
	CHECK_INT(r.doc.service->vip_nr, 2);
	CHECK_STR(addr_text(&r.doc.service->vips[1], ip), "fd00::1");
	CHECK_INT(r.doc.service->port_nr, 2);
	CHECK(str_is(r.doc.service->ports[0].target.name, "web"));
	CHECK_INT(r.doc.service->ports[1].proto, 17);
	CHECK_INT(r.doc.service->ports[1].target.number, 5353);
	CHECK_INT(r.doc.service->export_to.nr, 2);
	CHECK(str_is(r.doc.service->export_to.v[1], "b"));
	CHECK(str_is(r.doc.meta.ns, "ns") && str_is(r.doc.meta.name, "a"));
	result_release(&r);
}

#define SERVICE "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n"

TEST(service_refusals)
{
	expect(SERVICE "  clusterIP: None\n", "");
	expect(SERVICE "  type: NodePort\n  ports: [{port: 80, nodePort: 30080}]\n", "");
	expect(SERVICE "  type: ExternalName\n  externalName: a.example.com\n", "");
	expect(SERVICE "  type: ExternalName\n", "5:3: spec.externalName: is required when the type is ExternalName\n");
	expect(SERVICE "  ports: []\n", "5:3: spec.ports: at least one port is required\n");
	expect(SERVICE "  ports: [{port: 80}, {port: 81}]\n",
	       "5:11: spec.ports[0].name: is required when a Service has several ports\n"
	       "5:23: spec.ports[1].name: is required when a Service has several ports\n");
	expect(SERVICE "  sessionAffinity: ClientIP\n  ports: [{port: 80}]\n", "");
	expect(SERVICE "  internalTrafficPolicy: Local\n  ports: [{port: 80}]\n", "");
	expect(SERVICE "  clusterIP: 10.0.0\n  ports: [{port: 80}]\n",
	       "5:14: spec.clusterIP: \"10.0.0\" is neither an IP address nor None\n");
	expect(SERVICE "  clusterIPs: [10.0.0.1]\n  ports: [{port: 80}]\n",
	       "5:3: spec.clusterIPs: must be empty when clusterIP is not given\n");
	expect(SERVICE "  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.1, 10.0.0.2]\n  ports: [{port: 80}]\n",
	       "6:26: spec.clusterIPs[1]: two addresses must be one IPv4 and one IPv6\n");
	expect(SERVICE "  ports: [{port: 80, protocol: SCTP}]\n",
	       "warning: 5:32: spec.ports[0].protocol: SCTP is not handled: the mesh leaves this port alone\n");
}

TEST(pod)
{
	struct result r;

	result_read(&r,
		    "apiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: u-1, deletionTimestamp: "
		    "\"2026-01-01T00:00:00Z\"}\n"
		    "spec:\n  serviceAccountName: sa\n  nodeName: n1\n  hostNetwork: true\n"
		    "  containers:\n  - {name: a, image: x, ports: [{name: http, containerPort: 80}]}\n"
		    "  initContainers:\n  - {name: once, ports: [{name: other, containerPort: 1}]}\n"
		    "  - {name: side, restartPolicy: Always, ports: [{name: dns, containerPort: 53, protocol: UDP}]}\n"
		    "status:\n  phase: Running\n  podIP: 10.1.0.1\n  podIPs: [{ip: 10.1.0.1}, {ip: \"fd00::2\"}]\n"
		    "  conditions: [{type: Initialized, status: \"True\"}, {type: Ready, status: \"False\"}]\n");
	CHECK_STR(r.lines.data, "");
	CHECK(r.ok);
	CHECK_INT(r.doc.pod->ip_nr, 2);
	CHECK_INT(r.doc.pod->port_nr, 2);
	CHECK(str_is(r.doc.pod->ports[1].name, "dns"));
	CHECK_INT(r.doc.pod->ports[1].proto, 17);
	CHECK(!r.doc.pod->ready && !r.doc.pod->finished && r.doc.pod->host_network && r.doc.meta.deleting);
	CHECK(str_is(r.doc.pod->service_account, "sa") && str_is(r.doc.meta.uid, "u-1"));
	CHECK(str_is(r.doc.meta.ns, "default"));
	result_release(&r);
	result_read(&r, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {phase: Succeeded}\n");
	CHECK(r.ok && r.doc.pod->ready && r.doc.pod->finished && str_is(r.doc.pod->service_account, "default"));
	result_release(&r);
}

TEST(slices)
{
	struct result r;

	result_read(&r, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
			"metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}\naddressType: IPv4\n"
			"ports: [{name: http, port: 8080}]\nendpoints:\n"
			"- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}, nodeName: n1, zone: z}\n"
			"- {addresses: [10.0.0.2], conditions: {ready: false, terminating: true, serving: true}}\n");
	CHECK_STR(r.lines.data, "");
	CHECK(r.ok);
	CHECK_INT(r.doc.slice_nr, 1);
	CHECK(str_is(r.doc.slices->service, "s"));
	CHECK(r.doc.slices->endpoints[0].ready && !r.doc.slices->endpoints[1].ready);
	CHECK(r.doc.slices->endpoints[1].terminating);
	CHECK(str_is(r.doc.slices->endpoints[0].pod, "p") && str_is(r.doc.slices->endpoints[0].pod_ns, "default"));
	result_release(&r);
	result_read(&r,
		    "apiVersion: v1\nkind: Endpoints\nmetadata: {name: s}\nsubsets:\n"
		    "- addresses: [{ip: 10.0.0.1}]\n  notReadyAddresses: [{ip: \"fd00::1\"}]\n  ports: [{port: 80}]\n");
	CHECK(r.ok);
	CHECK_INT(r.doc.slices[0].endpoint_nr, 2);
	CHECK(!r.doc.slices[0].endpoints[1].ready && r.doc.slices[0].from_endpoints);
	result_release(&r);
	expect("apiVersion: v1\nkind: Endpoints\nmetadata: {name: s}\nsubsets:\n- addresses: [{ip: 127.0.0.1}]\n",
	       "5:20: subsets[0].addresses[0].ip: \"127.0.0.1\" is a loopback address\n");
}

#define VS "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n"

TEST(virtual_service)
{
	struct result r;

	result_read(&r, VS "  hosts: [reviews]\n  exportTo: [.]\n"
			   "  tcp:\n  - match: [{port: 80, sourceLabels: {app: x}, destinationSubnets: [10.0.0.0/8]}]\n"
			   "    route: [{destination: {host: reviews, subset: v1, port: {number: 9080}}, weight: 1},\n"
			   "            {destination: {host: reviews, subset: v2}, weight: 2147483647}]\n"
			   "  http:\n  - name: one\n    match: [{sourceNamespace: b, gateways: [mesh], name: m}]\n"
			   "    route: [{destination: {host: reviews}}]\n");
	CHECK_STR(r.lines.data, "");
	CHECK(r.ok);
	CHECK_INT(r.doc.vs->rule_nr, 2);
	CHECK(!r.doc.vs->rules[0].http && r.doc.vs->rules[1].http);
	CHECK_INT(r.doc.vs->rules[0].routes[0].port, 9080);
	CHECK_INT(r.doc.vs->rules[0].routes[1].weight, 2147483647);
	CHECK_INT(r.doc.vs->rules[0].matches[0].subnet_nr, 1);
	CHECK_INT(r.doc.vs->rules[0].matches[0].subnets[0].prefix_len, 104);
	CHECK(str_is(r.doc.vs->gateways.v[0], "mesh"));
	CHECK_INT(r.doc.vs->rules[0].routes[1].at.line, 10);
	result_release(&r);
}

TEST(virtual_service_refusals)
{
	expect(VS
	       "  hosts: [a]\n  http:\n  - match:\n    - uri:\n        prefix: \"\"\n    route: [{destination: {host: "
	       "a}}]\n",
	       "9:17: spec.http[0].match[0].uri.prefix: must not be empty\n");
	expect(VS "  hosts: [a]\n  http:\n  - redirect: {uri: /x, redirectCode: 304}\n",
	       "7:39: spec.http[0].redirect.redirectCode: must be 301, 302, 303, 307 or 308\n");
	expect(VS "  hosts: [a]\n", "4:1: spec: http, tcp or tls rules are required\n");
	expect(VS "  hosts: [a, a]\n  tcp: [{route: [{destination: {host: a}}]}]\n",
	       "5:14: spec.hosts[1]: duplicate host: \"a\" is covered by \"a\"\n");
	expect(VS "  hosts: [\"*.com\", \"*.foo.com\"]\n  tcp: [{route: [{destination: {host: a}}]}]\n",
	       "5:20: spec.hosts[1]: duplicate host: \"*.foo.com\" is covered by \"*.com\"\n");
	expect(VS "  hosts: [\"*\"]\n  tcp: [{route: [{destination: {host: a}}]}]\n",
	       "5:11: spec.hosts[0]: the host \"*\" is not allowed on the mesh gateway\n");
	expect(VS "  hosts: [\"*\"]\n  gateways: [g]\n  tcp: [{route: [{destination: {host: a}}]}]\n", "");
	expect(VS "  hosts: [a]\n  tcp: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]\n",
	       "6:10: spec.tcp[0].route: the weights of several destinations must not all be 0\n");
	expect(VS "  hosts: [a]\n  tcp: [{route: [{destination: {host: a, subset: a_b}, weight: -1}]}]\n",
	       "6:64: spec.tcp[0].route[0].weight: -1 is out of range, want 0 to 2147483647\n"
	       "6:50: spec.tcp[0].route[0].destination.subset: \"a_b\" must be a DNS label: letters, digits and \"-\", "
	       "with a letter or "
	       "digit at both ends\n");
	expect(VS "  hosts: [a]\n  exportTo: [\"*\", b]\n  tcp: [{route: [{destination: {host: a}}]}]\n",
	       "6:14: spec.exportTo[0]: \"*\" cannot stand beside other values\n");
	expect(VS "  hosts: [a]\n  tcp: [{route: [{destination: {host: a}}]}, {route: [{destination: {host: b}}]}]\n",
	       "warning: 6:46: spec.tcp[1]: [IST0130] this rule is never reached: an earlier one takes everything\n");
	expect(VS "  hosts: [a]\n  tcp:\n  - {match: [{port: 0}], route: [{destination: {host: a}}]}\n"
		  "  - {match: [{port: 70000}], route: [{destination: {host: a}}]}\n",
	       "8:21: spec.tcp[1].match[0].port: port 70000 is not in 1..65535\n");
}

#define DR "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n"

TEST(destination_rule)
{
	struct result r;

	result_read(&r, DR "  trafficPolicy: {loadBalancer: {simple: RANDOM}, tls: {mode: DISABLE}}\n"
			   "  subsets:\n  - {name: v1, labels: {version: v1}}\n"
			   "  - {name: v2, labels: {version: v2}, trafficPolicy: {portLevelSettings: [{port: {number: "
			   "80}, loadBalancer: "
			   "{simple: PASSTHROUGH}}]}}\n"
			   "  workloadSelector: {matchLabels: {app: c}}\n");
	CHECK_STR(r.lines.data, "");
	CHECK(r.ok);
	CHECK_INT(r.doc.dr->policy.all.lb->policy, LB_RANDOM);
	CHECK_INT(r.doc.dr->subset_nr, 2);
	CHECK_INT(r.doc.dr->subsets[1].policy.ports[0].policy.lb->policy, LB_PASSTHROUGH);
	CHECK_INT(r.doc.dr->workload_selector.nr, 1);
	result_release(&r);
	expect(DR "  trafficPolicy: {}\n", "6:3: spec.trafficPolicy: a traffic policy must have at least one field\n");
	expect(DR "  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x y}}}\n",
	       "6:67: spec.trafficPolicy.loadBalancer.consistentHash.httpHeaderName: \"x y\" is not a name of a "
	       "header\n");
	expect(DR "  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n",
	       "6:31: spec.trafficPolicy.tls.mode: TLS (mode ISTIO_MUTUAL) is not enforced yet\n");
	expect(DR "  trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true}}}\n", "");
	expect(DR "  subsets: [{name: a}, {name: a}]\n", "6:31: spec.subsets[1].name: duplicate subset name \"a\"\n");
	expect(DR "  exportTo: [b]\n  workloadSelector: {matchLabels: {app: c}}\n",
	       "6:14: spec.exportTo[0]: a rule with a workloadSelector cannot be exported beyond its own namespace\n");
	expect(DR "  subsets: [{name: a, labels: {\"a b\": c}}]\n",
	       "6:32: spec.subsets[0].labels[a b]: the key of a label must be letters, digits, \"-\", \"_\" and \".\", "
	       "with a letter or "
	       "digit at both ends\n");
}

#define SE "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec:\n"

TEST(service_entry)
{
	struct result r;

	result_read(&r, SE "  hosts: [a.example.com]\n  addresses: [240.0.0.1, 10.0.0.0/8]\n"
			   "  ports: [{number: 80, name: http, protocol: tcp, targetPort: 8080}]\n"
			   "  location: MESH_INTERNAL\n  resolution: STATIC\n"
			   "  endpoints: [{address: 10.0.0.1, ports: {http: 81}, labels: {v: \"1\"}, weight: 3, "
			   "locality: r/z}]\n");
	CHECK_STR(r.lines.data, "");
	CHECK(r.ok);
	CHECK_INT(r.doc.se->address_nr, 2);
	CHECK_INT(r.doc.se->addresses[0].prefix_len, 128);
	CHECK_INT(r.doc.se->ports[0].target, 8080);
	CHECK(str_is(r.doc.se->ports[0].protocol, "TCP"));
	CHECK_INT(r.doc.se->endpoints[0].ports[0].port, 81);
	CHECK_INT(r.doc.se->endpoints[0].weight, 3);
	CHECK(r.doc.se->internal && r.doc.se->resolution == RESOLUTION_STATIC);
	result_release(&r);
	result_read(&r, SE "  hosts: [a.example.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n"
			   "status: {addresses: [{value: 240.240.0.1, host: a.example.com}], conditions: []}\n");
	CHECK(r.ok && r.doc.se->address_nr == 1 && r.doc.se->resolution == RESOLUTION_NONE);
	result_release(&r);
}

TEST(service_entry_refusals)
{
#define PORTS "  addresses: [240.0.0.1]\n  ports: [{number: 80, name: http, protocol: TCP}]\n"
	expect(SE "  hosts: [\"*\"]\n" PORTS, "5:11: spec.hosts[0]: \"*\" must be a host\n");
	expect(SE "  hosts: [a.b]\n" PORTS "  resolution: DNS\n",
	       "8:15: spec.resolution: resolving names is not enforced yet\n");
	expect(SE "  hosts: [a.b]\n" PORTS "  endpoints: []\n",
	       "8:3: spec.endpoints: resolution NONE has no endpoints\n");
	expect(SE "  hosts: [a.b]\n" PORTS "  resolution: STATIC\n  endpoints: [{address: b.c}]\n",
	       "9:25: spec.endpoints[0].address: \"b.c\" is not an IP address\n");
	expect(SE "  hosts: [a.b]\n" PORTS
		  "  resolution: STATIC\n  endpoints: [{address: 10.0.0.1, ports: {x: 1, http: \"2\"}}]\n",
	       "9:43: spec.endpoints[0].ports[x]: the ServiceEntry has no port \"x\"\n"
	       "9:49: spec.endpoints[0].ports[http]: must be a number\n");
	expect(SE "  hosts: [a.b]\n" PORTS "  resolution: STATIC\n  endpoints: [{address: \"unix:///a\"}]\n",
	       "9:25: spec.endpoints[0].address: unix sockets are not enforced yet\n");
	expect(SE "  hosts: [a.b, c.d]\n" PORTS "  resolution: STATIC\n",
	       "7:11: spec.ports[0]: several hosts need ports of HTTP or TLS: TCP has no host in it\n");
	expect(SE "  hosts: [a.b]\n" PORTS
		  "  resolution: STATIC\n  endpoints: []\n  workloadSelector: {labels: {a: b}}\n",
	       "9:3: spec.endpoints: only one of endpoints and workloadSelector may be given\n");
	expect(SE "  hosts: [a.b]\n  ports: [{number: 80, name: a, protocol: TCP}]\n",
	       "warning: 4:1: spec: [IST0134] addresses are required for TCP: without them no connection can be told "
	       "to be for this host\n");
	expect("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a}\nspec: {address: "
	       "10.0.0.1, network: net}\n",
	       "4:36: spec.network: several networks are not enforced yet\n");
}

#define GATEWAY "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n"

TEST(istio_gateway)
{
	expect(GATEWAY "  servers: [{port: {number: 80, name: t, protocol: TCP}, hosts: [\"*\", ns/a.b]}]\n", "");
	expect(GATEWAY "  servers: [{port: {number: 80, name: t, protocol: GRPC}, hosts: [\"*\"]}]\n",
	       "5:52: spec.servers[0].port.protocol: not enforced yet: a server of protocol GRPC needs a proxy that "
	       "reads the bytes\n");
	expect(GATEWAY "  servers: [{port: {number: 80, name: t, protocol: QUIC}, hosts: [short]}]\n",
	       "5:52: spec.servers[0].port.protocol: unknown protocol \"QUIC\"\n"
	       "5:67: spec.servers[0].hosts[0]: \"short\" must be a full domain name, not a short one\n");
	expect(GATEWAY "  selector: {a: b}\n", "5:3: spec.servers: required field is missing\n");
}

#define TCP_ROUTE "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: a}\nspec:\n"
#define HTTP_ROUTE "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec:\n"
#define PARENT "  parentRefs: [{group: \"\", kind: Service, name: s}]\n"

TEST(routes)
{
	struct result r;

	result_read(&r, TCP_ROUTE
		    "  parentRefs: [{group: \"\", kind: Service, name: s, port: 80}]\n"
		    "  rules: [{backendRefs: [{name: a, port: 1}, {name: b, port: 2, weight: 0, namespace: ns}]}]\n");
	CHECK_STR(r.lines.data, "");
	CHECK(r.ok && r.doc.route->kind == ROUTE_TCP);
	CHECK_INT(r.doc.route->rules[0].backends[0].weight, 1);
	CHECK_INT(r.doc.route->rules[0].backends[1].weight, 0);
	CHECK(str_is(r.doc.route->parents[0].ns, "default") && r.doc.route->parents[0].port == 80);
	result_release(&r);
	expect(HTTP_ROUTE PARENT
	       "  rules: [{matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: a, port: 1}]}]\n",
	       "");
	expect(HTTP_ROUTE PARENT "  rules: [{matches: [{path: {value: /x//y}}], backendRefs: [{name: a, port: 1}]}]\n",
	       "6:37: spec.rules[0].matches[0].path.value: must not have \"//\", \"/./\", \"/../\", \"%2f\" or "
	       "\"#\"\n");
	expect(HTTP_ROUTE "  parentRefs: [{kind: Mesh, name: g}]\n  rules: [{backendRefs: [{name: a, port: 1}]}]\n",
	       "5:23: spec.parentRefs[0].kind: a parent of kind Mesh.gateway.networking.k8s.io is not enforced yet\n");
	expect(TCP_ROUTE PARENT "  rules: [{backendRefs: [{name: a}, {kind: Bucket, group: x.y, name: b}]}]\n",
	       "6:26: spec.rules[0].backendRefs[0].port: is required for a Service\n"
	       "6:44: spec.rules[0].backendRefs[1].kind: a backend of kind Bucket.x.y is not enforced yet\n");
	expect(TCP_ROUTE PARENT "  rules: [{backendRefs: [{name: a, port: 1, weight: 1000001}]}]\n",
	       "6:53: spec.rules[0].backendRefs[0].weight: 1000001 is out of range, want 0 to 1000000\n");
	expect(HTTP_ROUTE
	       "  parentRefs: [{group: \"\", kind: Service, name: s}, {group: \"\", kind: Service, name: s, port: 1}]\n"
	       "  rules: [{backendRefs: [{name: a, port: 1}]}]\n",
	       "5:16: spec.parentRefs[0]: several references to the same parent must each have a port\n");
	expect("apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: a}\nspec:\n"
	       "  from: [{group: gateway.networking.k8s.io, kind: TCPRoute}]\n  to: [{group: \"\", kind: Service}]\n",
	       "5:10: spec.from[0].namespace: required field is missing\n");
}

TEST(metadata)
{
	expect("apiVersion: v1\nkind: Namespace\nmetadata: {name: A_b}\n",
	       "3:18: metadata.name: \"A_b\" must be a DNS label: a-z, 0-9 and \"-\", with a letter or digit at both "
	       "ends\n");
	expect("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, nam: b}\n",
	       "3:21: metadata.nam: unknown field `nam`\n");
	expect("apiVersion: v1\nkind: Namespace\n", "1:1: metadata: required field is missing\n");
	expect("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, annotations: "
	       "{istio.io/dry-run: \"true\"}}\n"
	       "spec: {host: a}\n",
	       "3:35: metadata.annotations[istio.io/dry-run]: only an AuthorizationPolicy can be a dry run\n");
}

TEST(service_more_refusals)
{
	expect(SERVICE "  ports:\n  - {name: A_b, port: 80, targetPort: -1, appProtocol: \"a b\"}\n  - {name: c, port: "
		       "81}\n  - {name: c, port: "
		       "82}\n",
	       "6:12: spec.ports[0].name: \"A_b\" must be a DNS label: a-z, 0-9 and \"-\", with a letter or digit at "
	       "both ends\n"
	       "6:56: spec.ports[0].appProtocol: \"a b\" must be letters, digits, \"-\", \"_\" and \".\", with a "
	       "letter or digit at "
	       "both ends\n"
	       "6:39: spec.ports[0].targetPort: port -1 is not in 1..65535\n"
	       "8:12: spec.ports[2].name: duplicate port name \"c\"\n");
	expect(SERVICE "  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.2, x]\n  ports: [{port: 80}]\n",
	       "6:16: spec.clusterIPs[0]: the first of clusterIPs must equal clusterIP\n"
	       "6:26: spec.clusterIPs[1]: \"x\" is neither an IP address nor None\n");
	expect(SERVICE "  type: ExternalName\n  externalName: a.b.\n  clusterIP: None\n",
	       "7:14: spec.clusterIP: may not be set when the type is ExternalName\n");
	expect(SERVICE "  type: LoadBalancer\n  clusterIP: None\n  ports: [{port: 80}]\n",
	       "6:14: spec.clusterIP: may not be None when the type is LoadBalancer\n");
	expect(SERVICE "  ipFamilies: [IPv4, IPv4]\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}\n  ports: "
		       "[{port: 80}]\n",
	       "6:3: spec.sessionAffinityConfig: must not be set when the session affinity is None\n"
	       "5:22: spec.ipFamilies[1]: duplicate value\n");
	expect(SERVICE "  ipFamilies: [IPv5]\n  ports: [{port: 80, nodePort: 30000}]\n",
	       "6:32: spec.ports[0].nodePort: may not be used when the type is ClusterIP\n"
	       "5:16: spec.ipFamilies[0]: \"IPv5\" is neither IPv4 nor IPv6\n");
	expect("apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: "
	       "{networking.istio.io/traffic-distribution: PreferClose,\n"
	       "  service.kubernetes.io/topology-mode: Auto, networking.istio.io/exportTo: \". , , b \"}}\nspec: "
	       "{ports: [{port: 80}]}\n",
	       "");
	expect("apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: "
	       "{networking.istio.io/traffic-distribution: x}}\nspec: {ports: [{port: 80}]}\n",
	       "warning: 3:21: metadata.annotations: networking.istio.io/traffic-distribution is none of "
	       "PreferSameZone, "
	       "PreferSameNode and PreferClose: endpoints are chosen wherever they are\n");
}

TEST(endpoint_refusals)
{
#define SLICE "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\n"
	expect(SLICE "addressType: FQDN\nendpoints: [{addresses: [A_b]}]\nports: [{port: 1}, {port: 2}]\n",
	       "warning: 3:1: metadata: without the label kubernetes.io/service-name this slice belongs to no Service\n"
	       "warning: 4:14: addressType: endpoints by name are not resolved: this slice adds no endpoint\n"
	       "6:20: ports[1].name: is required when there are several ports\n"
	       "5:26: endpoints[0].addresses[0]: \"A_b\" must be a DNS name: labels of a-z, 0-9 and \"-\" with dots "
	       "between\n");
#define ENDPOINTS "apiVersion: v1\nkind: Endpoints\nmetadata: {name: s}\nsubsets:\n"
	expect(ENDPOINTS "- addresses: [{ip: a}, {ip: 0.0.0.0}, {ip: 169.254.1.1}, {ip: \"fe80::1\"}, {ip: 224.0.0.1}, "
			 "{ip: \"ff02::1\"}, "
			 "{ip: \"::1\"}]\n",
	       "5:20: subsets[0].addresses[0].ip: \"a\" is not an IP address\n"
	       "5:29: subsets[0].addresses[1].ip: \"0.0.0.0\" is the unspecified address\n"
	       "5:44: subsets[0].addresses[2].ip: \"169.254.1.1\" is a link-local address\n"
	       "5:63: subsets[0].addresses[3].ip: \"fe80::1\" is a link-local address\n"
	       "5:80: subsets[0].addresses[4].ip: \"224.0.0.1\" is a multicast address\n"
	       "5:97: subsets[0].addresses[5].ip: \"ff02::1\" is a multicast address\n"
	       "5:114: subsets[0].addresses[6].ip: \"::1\" is a loopback address\n");
	expect(ENDPOINTS "- ports: [{name: a}, {name: a, port: 1}, {name: B, port: 2}]\n",
	       "5:3: subsets[0]: must have addresses or notReadyAddresses\n"
	       "5:11: subsets[0].ports[0].port: is required\n"
	       "5:29: subsets[0].ports[1].name: duplicate port name \"a\"\n"
	       "5:49: subsets[0].ports[2].name: \"B\" must be a DNS label: a-z, 0-9 and \"-\", with a letter or digit "
	       "at both ends\n");
}

TEST(pod_and_node)
{
	struct result r;

	expect("apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {istio.io/dataplane-mode: none},\n"
	       "  annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: \"80\"}}\n"
	       "spec:\n  containers: [{name: c, ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}, "
	       "{name: \"1\", "
	       "containerPort: 3}]}]\n",
	       "6:70: spec.containers[0].ports[1].name: duplicate port name \"a\"\n"
	       "6:99: spec.containers[0].ports[2].name: \"1\" must have at least one letter\n"
	       "warning: 3:1: metadata: opting out of the mesh is not enforced: the pod is in it if its cgroup is\n"
	       "warning: 4:3: metadata.annotations: traffic.sidecar.istio.io/excludeOutboundPorts is not enforced: it "
	       "is for a sidecar\n");
	result_read(
		&r,
		"apiVersion: v1\nkind: Node\nmetadata: {name: n1, namespace: ignored}\nspec: {podCIDR: 10.0.0.0/24}\n"
		"status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: Hostname, address: n1}, {type: "
		"ExternalIP, "
		"address: \"fd00::1\"}, {type: InternalIP, address: 10.0.0.1}]}\n");
	CHECK(r.ok);
	CHECK_INT(r.doc.node->ip_nr, 2);
	CHECK_INT(r.doc.meta.ns.len, 0);
	result_release(&r);
}

TEST(istio_more_refusals)
{
	expect(VS "  hosts: [10.0.0.1]\n  tcp:\n  - match: [{sourceNamespace: a, destinationSubnets: [10.0.0.1]}]\n"
		  "    route: [{destination: {host: \"*\"}}]\n"
		  "  - {match: [{sourceNamespace: a, destinationSubnets: [10.0.0.1]}], route: [{destination: {host: "
		  "a}}]}\n"
		  "  - {match: [{destinationSubnets: [10.0.0.2], sourceNamespace: a}], route: [{destination: {host: "
		  "a}}]}\n"
		  "  http: [{match: [{sourceNamespace: a_b, gateways: [a.b]}], route: [{destination: {host: a}}]},\n"
		  "    {match: [{gateways: [c.d]}], route: [{destination: {host: a}}]}]\n",
	       "8:34: spec.tcp[0].route[0].destination.host: \"*\" must be a host\n"
	       "warning: 11:53: spec.http[0].match[0].gateways[0]: old form of a gateway's name\n"
	       "11:37: spec.http[0].match[0].sourceNamespace: \"a_b\" must be a DNS label: letters, digits and \"-\", "
	       "with a letter or "
	       "digit at both ends\n"
	       "warning: 12:26: spec.http[1].match[0].gateways[0]: old form of a gateway's name\n");
	expect(DR "  subsets: [{name: \"\"}]\n  trafficPolicy: {portLevelSettings: [{port: {number: 0}}]}\n",
	       "7:55: spec.trafficPolicy.portLevelSettings[0].port.number: port 0 is not in 1..65535\n"
	       "7:39: spec.trafficPolicy.portLevelSettings[0]: the traffic policy of a port must have at least one "
	       "field\n"
	       "6:20: spec.subsets[0].name: \"\" must be a DNS label: letters, digits and \"-\", with a letter or "
	       "digit at both ends\n");
	expect(GATEWAY "  servers:\n  - {port: {number: 80, name: t, protocol: TCP, targetPort: 1}, hosts: [10.0.0.1, "
		       "a_b/c.d, \"*a.b\"]}\n"
		       "  - {port: {number: 81, name: t, protocol: TCP}, hosts: [\"*\"]}\n",
	       "6:61: spec.servers[0].port.targetPort: has no effect on a Gateway\n"
	       "6:83: spec.servers[0].hosts[1]: \"a_b/c.d\" must have \"*\", \".\" or a namespace before the \"/\"\n"
	       "6:92: spec.servers[0].hosts[2]: \"*a.b\" must not have a wildcard that is only a part of a label\n"
	       "7:31: spec.servers[1].port.name: duplicate port name \"t\"\n");
	expect("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a.b, namespace: A}\n"
	       "spec: {servers: [{port: {number: 80, name: t, protocol: TCP}, hosts: [\"*\"]}]}\n",
	       "3:34: metadata.namespace: \"A\" must be a DNS label: a-z, 0-9 and \"-\", with a letter or digit at "
	       "both ends\n"
	       "3:18: metadata.name: \"a.b\" must be a DNS label: letters, digits and \"-\", with a letter or digit at "
	       "both ends\n");
	expect("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a}\nspec: {address: a_b, "
	       "ports: [1]}\n",
	       "4:17: spec.address: \"a_b\" is neither an IP address nor a domain name\n"
	       "4:22: spec.ports: must be a map of port names to numbers\n");
	expect(SE "  hosts: [a.b]\n  addresses: [240.0.0.1]\n  ports: [{number: 80, name: a_b}]\n",
	       "7:30: spec.ports[0].name: \"a_b\" must be a DNS label: letters, digits and \"-\", with a letter or "
	       "digit at both ends\n");
}

TEST(unreachable_rules)
{
	expect(VS "  hosts: [a]\n  tcp:\n"
		  "  - {match: [{port: 1}, {port: 2}, {port: 2}], route: [{destination: {host: a}}]}\n"
		  "  - {match: [{port: 1}, {port: 3}], route: [{destination: {host: a}}]}\n"
		  "  - {match: [{port: 3, sourceLabels: {a: b}}], route: [{destination: {host: a}}]}\n"
		  "  - {match: [{port: 3, sourceLabels: {a: c}, gateways: [g]}], route: [{destination: {host: a}}]}\n"
		  "  - {match: [{port: 3, sourceLabels: {a: c}, gateways: [h]}], route: [{destination: {host: a}}]}\n"
		  "  - {match: [{destinationSubnets: [10.0.0.1]}], route: [{destination: {host: a}}]}\n"
		  "  - {match: [{destinationSubnets: [10.0.0.2]}], route: [{destination: {host: a}}]}\n"
		  "  - {match: [{destinationSubnets: [10.0.0.1]}], route: [{destination: {host: a}}]}\n",
	       "warning: 7:36: spec.tcp[0].match[2]: [IST0131] this match is not used: an earlier one is the same\n"
	       "warning: 8:14: spec.tcp[1].match[0]: [IST0131] this match is not used: an earlier one is the same\n"
	       "warning: 14:14: spec.tcp[7].match[0]: [IST0131] this match is not used: an earlier one is the same\n"
	       "warning: 14:5: spec.tcp[7]: [IST0130] this rule is never reached: its matches are used already\n");
}

TEST(route_more_refusals)
{
	expect(HTTP_ROUTE "  parentRefs: [{group: \"\", kind: Service, name: s, sectionName: http}]\n  hostnames: "
			  "[A_b]\n  useDefaultGateways: "
			  "All\n  rules: [{name: a, backendRefs: [{name: a, port: 1, namespace: B, group: C}]},\n"
			  "    {name: a, matches: [{path: {value: x}}], backendRefs: [{name: a, port: 1}]}, {name: B, "
			  "backendRefs: [{name: a, "
			  "port: 1}]}]\n",
	       "5:65: spec.parentRefs[0].sectionName: choosing the port of a Service by name is not enforced yet\n"
	       "7:23: spec.useDefaultGateways: default gateways are not enforced yet\n"
	       "8:75: spec.rules[0].backendRefs[0].group: \"C\" must be a DNS name: labels of a-z, 0-9 and \"-\" with "
	       "dots between\n"
	       "8:65: spec.rules[0].backendRefs[0].namespace: \"B\" must be a DNS label: a-z, 0-9 and \"-\", with a "
	       "letter or digit at both "
	       "ends\n"
	       "8:35: spec.rules[0].backendRefs[0]: a backend of kind Service.C is not enforced yet\n"
	       "9:12: spec.rules[1].name: duplicate rule name \"a\"\n"
	       "9:40: spec.rules[1].matches[0].path.value: must begin with \"/\"\n"
	       "9:89: spec.rules[2].name: \"B\" must be a DNS name: labels of a-z, 0-9 and \"-\" with dots between\n"
	       "6:15: spec.hostnames[0]: \"A_b\" must be a DNS name: labels of a-z, 0-9 and \"-\" with dots between\n"
	       "warning: 6:3: spec.hostnames: host names have no effect when the parents are Services\n");
	/* Requests are answered with 500. */
	expect(HTTP_ROUTE PARENT "  rules: [{}]\n", "");
	expect(HTTP_ROUTE PARENT, "");
	expect(TCP_ROUTE "  rules: [{backendRefs: [{name: a, port: 1}]}]\n",
	       "warning: 4:1: spec: a route without a parent changes nothing\n");
}

/* Beyond the errors that are kept only the count goes on. */
TEST(many_errors)
{
	struct buf text = { 0 };
	struct result r;

	buf_str(&text, STR(SERVICE "  ports:\n"));
	for (int i = 0; i < 1000; i++)
		buf_printf(&text, "  - {name: A, port: %d}\n", i + 1);
	result_read(&r, text.data);
	CHECK(!r.ok);
	CHECK_INT(r.diags.nr, DIAG_PER_DOCUMENT);
	CHECK(r.diags.errors > 1000);
	result_release(&r);
	buf_release(&text);
}
