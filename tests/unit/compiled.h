/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of resolving: YAML text to a snapshot, as meshd has it. Everything in one struct, released at once. */
#ifndef TESTS_UNIT_COMPILED_H
#define TESTS_UNIT_COMPILED_H

#include <errno.h>

#include "config/snapshot.h"
#include "mesh_abi.h"
#include "test.h"

struct compiled {
	struct model *model;
	struct batch batch; /* of the last text */
	struct snapshot *snapshot;
	int rc; /* of the last build */
};

static const struct snapshot_options compiled_options = { .cluster_domain = STR("cluster.local"),
							  .root_namespace = STR("istio-system"),
							  .trust_domain = STR("cluster.local"),
							  .node_name = STR("n1") };

/* Puts the documents of `text` into the model and builds: with the documents that changed, when `changes`, else whole. The snapshot is
 * replaced only when that works. */
static void __attribute__((unused)) compiled_apply(struct compiled *c, const char *text, bool changes)
{
	struct doc **changed;
	struct snapshot *next = NULL;
	uint32_t nr = 0;

	if (!c->model)
		c->model = model_new();
	batch_release(&c->batch);
	c->batch = (struct batch){ 0 };
	batch_read(&c->batch, LAYER_RULES, STR("t.yaml"), str_of(text));
	changed = xcalloc(c->batch.nr * 2 + 1, sizeof(*changed));
	for (uint32_t i = 0; i < c->batch.nr; i++) {
		struct doc *old;

		if (!c->batch.results[i].doc)
			continue;
		changed[nr++] = doc_ref(c->batch.results[i].doc);
		old = model_put(c->model, c->batch.results[i].doc);
		if (old)
			changed[nr++] = old;
	}
	c->rc = snapshot_build(c->model, &compiled_options, c->snapshot, changes ? changed : NULL, changes ? nr : 0,
			       &c->batch, &next);
	while (nr)
		doc_unref(changed[--nr]);
	free(changed);
	if (c->rc)
		return;
	snapshot_unref(c->snapshot);
	c->snapshot = next;
}

static void __attribute__((unused)) compiled_release(struct compiled *c)
{
	snapshot_unref(c->snapshot);
	if (c->model)
		model_free(c->model);
	batch_release(&c->batch);
}

static struct compiled __attribute__((unused)) compiled_from(const char *text)
{
	struct compiled c = { 0 };

	compiled_apply(&c, text, false);
	return c;
}

static uint32_t __attribute__((unused)) scope_of(const struct compiled *c, const char *pod)
{
	for (uint32_t i = 0; i < c->snapshot->client_nr; i++)
		if (str_is(c->snapshot->clients[i].name, pod))
			return c->snapshot->clients[i].scope;
	CHECK_MSG(false, "no client %s", pod);
	return 0;
}

#define OUTSIDE "@outside" /* who is no pod of this node */

/*
 * What a pod meets at ip:port, as text: "none", "absent", "pass", "refuse", or destinations "weight>ip:port,ip:port" joined by '+'.
 */
static const char __attribute__((unused)) *
	dial(const struct compiled *c, const char *pod, const char *ip, uint16_t port, uint8_t proto)
{
	static char out[4096];
	const struct unit *u = NULL;
	const struct u_row *r;
	struct addr addr;
	size_t len = 0;

	if (!c->snapshot)
		return "not built";
	CHECK(addr_parse(str_of(ip), &addr));
	r = snapshot_find(c->snapshot,
			  !pod			  ? 0
			  : !strcmp(pod, OUTSIDE) ? MESH_SCOPE_OUTSIDE
						  : scope_of(c, pod),
			  &addr, port, proto, &u);
	if (!r)
		return "none";
	if (r->action != MESH_ROUTE)
		return r->action == MESH_PASS ? "pass" : "absent";
	if (!r->dest_nr)
		return "refuse";
	for (uint32_t i = 0; i < r->dest_nr; i++) {
		const struct u_dest *d = &u->dests[r->dest + i];
		const struct u_cluster *cl = &u->clusters[d->cluster];

		len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%llu>", i ? "+" : "",
					(unsigned long long)d->weight);
		for (uint32_t k = 0; k < cl->endpoint_nr; k++) {
			const struct u_endpoint *e = &u->endpoints[cl->endpoint + k];
			char text[ADDR_TEXT_MAX];

			len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%s:%u", k ? "," : "",
						addr_text(&e->addr, text), e->port);
		}
	}
	return out;
}

/* The text of some diag of this level contains `part`. */
static bool __attribute__((unused)) says(const struct compiled *c, enum diag_level level, const char *part)
{
	for (uint32_t i = 0; i < c->batch.diags.nr; i++) {
		const struct diag *d = &c->batch.diags.items[i];

		if (d->level == level && memmem(d->message.p, d->message.len, part, strlen(part)))
			return true;
	}
	return false;
}

/* ---- documents ---- */

#define SERVICE(name, ns, ip, port_name, port)                                                  \
	"apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns "}\nspec:\n" \
	"  clusterIP: " ip "\n  selector: {app: " name "}\n  ports: [{name: " port_name ", port: " port "}]\n---\n"
#define POD(name, ns, ip, labels)                                                                          \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: " ns ", labels: {" labels "}}\n" \
	"spec: {containers: [{name: c, image: i}]}\nstatus: {podIP: " ip "}\n---\n"
#define ISTIO(kind, name, ns, spec)                                                                     \
	"apiVersion: networking.istio.io/v1\nkind: " kind "\nmetadata: {name: " name ", namespace: " ns \
	"}\nspec:\n" spec "---\n"
#define SUBSETS(host, ns)                  \
	ISTIO("DestinationRule", host, ns, \
	      "  host: " host              \
	      "\n  subsets:\n  - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}\n")
#define SLICE(name, service, ns, addresses, port)                                                                      \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " name ", namespace: " ns ", labels: " \
	"{kubernetes.io/service-name: " service "}}\naddressType: IPv4\nendpoints: [{addresses: [" addresses "]}]\n"   \
	"ports: [{name: tcp, port: " port "}]\n---\n"

#endif
