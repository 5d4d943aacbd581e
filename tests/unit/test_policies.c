/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Istio's oracle of L4 policy: a folder of X-in.yaml (policies) and X.yaml (what ztunnel is given for the last of them). Ours are
 * compiled, and both are asked about every identity, address and port that either text mentions, and their neighbours. Verdicts must
 * be equal, but for what is stricter by design:
 *   - what needs bytes never fires in ztunnel's DENY; here it counts as if it held. Such verdicts are those of the translation in
 *     which an empty match holds.
 *   - a port whose mode is STRICT, where the translation lost it (istio/istio convertPeerAuthentication leaves a STRICT port out
 *     below a mesh-wide STRICT, whatever stands between; and all of it where UNSET stands between).
 * An empty translation of a PeerAuthentication means that ztunnel uses its own policy, "deny who has no identity", if the mode that
 * is in effect is STRICT. Trust domains, and service accounts as a condition, have no list in the translation, which takes them for
 * what needs bytes: so do ours here.
 * `test_policies [DIR]` prints a row a case: name, outcome, why; and the closing line. As a unit test it takes tests/policies, whose
 * translations are written by hand, and the given corpus.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/snapshot.h"
#include "mentions.h"
#include "mesh_abi.h"

#define OWN "tests/policies"
#define GIVEN "../shared/corpora/istio-validation/istio/pilot/pkg/serviceregistry/ambient/testdata"
#define ROOT "istio-system"
#define PROBES_RANDOM 50000

struct one_case {
	struct arena arena;
	struct buf in, want;
	const struct ynode *oracle; /* NULL: nothing is given to ztunnel */
	struct batch batch;
	const struct doc *subject; /* the policy that was translated; NULL: refused here */
	struct mentions m;
	uint64_t asked, stricter;
	bool beyond; /* has trust domains */
	char why[512];
};

/* ---- reading ---- */

static bool read_file(const char *path, struct buf *ret)
{
	char bytes[65536];
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return false;
	while ((n = fread(bytes, 1, sizeof(bytes), f)))
		buf_add(ret, bytes, n);
	fclose(f);
	if (!ret->data)
		buf_str(ret, STR(""));
	return true;
}

/* Every document's tree; *ret_last: the last that is there. */
static bool read_trees(struct one_case *c, const struct buf *text, const struct ynode **ret_last)
{
	struct yaml *y = yaml_open(STR("t.yaml"), (struct str){ text->data, (uint32_t)text->len });
	struct diags diags = { 0 };
	struct ynode *root;
	uint32_t document;
	struct str whole;
	int rc;

	while ((rc = yaml_next(y, &c->arena, &diags, &root, &document, &whole)) > 0) {
		if (!root)
			continue;
		*ret_last = root;
		mention_tree(&c->m, root);
	}
	yaml_close(y);
	diags_release(&diags);
	return !rc;
}

/* What the translation has no list for counts as what needs bytes. */
static void drop_beyond(struct one_case *c, struct doc *doc, const struct ynode *root)
{
	const struct ynode *rules = ynode_get(ynode_get(root, "spec"), "rules");
	struct m_authorization_policy *p = doc->policy;

	for (uint32_t i = 0; i < p->rule_nr; i++) {
		struct m_policy_rule *rule = &p->rules[i];
		const struct ynode *from = ynode_get(rules->items[i], "from"), *to = ynode_get(rules->items[i], "to");
		uint32_t when = !!from + !!to;

		for (uint32_t k = 0; k < rule->clause_nr; k++) {
			for (uint32_t n = 0; n < 2 * rule->clauses[k].nr; n++) {
				struct m_condition *m = &rule->clauses[k].any[n / 2];
				bool account = k >= when && m->accounts[n % 2].nr;

				if (!m->trust_domains[n % 2].nr && !account)
					continue;
				m->trust_domains[n % 2].nr = 0;
				if (account)
					m->accounts[n % 2].nr = 0;
				m->l7 = rule->l7 = c->beyond = true;
			}
		}
	}
}

/* ---- PeerAuthentication, in its own words ---- */

static const struct m_peer_authentication *peers_at(const struct one_case *c, bool root, bool own)
{
	for (uint32_t i = 0; i < c->batch.nr; i++) {
		const struct doc *d = c->batch.results[i].doc;

		if (!d || d->kind != KIND_PEER_AUTHENTICATION || str_is(d->meta.ns, ROOT) != root ||
		    !!d->peers->selector.nr != own)
			continue;
		return d->peers;
	}
	return NULL;
}

/* The mode in effect; port 0: of ports without one. */
static enum mtls_mode mode_of(const struct one_case *c, uint16_t port)
{
	const struct m_peer_authentication *own = peers_at(c, false, true);
	const struct m_peer_authentication *levels[] = { peers_at(c, true, false), peers_at(c, false, false), own };
	enum mtls_mode mode = MTLS_PERMISSIVE;

	for (int i = 0; i < 3; i++)
		if (levels[i] && levels[i]->mode != MTLS_UNSET)
			mode = levels[i]->mode;
	for (uint32_t i = 0; own && port && i < own->port_nr; i++)
		if (own->ports[i].port == port && own->ports[i].mode != MTLS_UNSET)
			mode = own->ports[i].mode;
	return mode;
}

/* ztunnel's own policy for STRICT is attached: nothing was translated, and no port asks for anything else. */
static bool own_strict(const struct one_case *c)
{
	const struct m_peer_authentication *own = peers_at(c, false, true);

	if (c->oracle || mode_of(c, 0) != MTLS_STRICT)
		return false;
	for (uint32_t i = 0; own && i < own->port_nr; i++)
		if (own->ports[i].mode == MTLS_PERMISSIVE || (own->mode && own->ports[i].mode == MTLS_DISABLE))
			return false;
	return true;
}

/* ---- the two verdicts ---- */

static bool is_peers(const struct one_case *c)
{
	return c->subject->kind == KIND_PEER_AUTHENTICATION;
}

static bool is_deny(const struct one_case *c)
{
	return str_is(oracle_str(c->oracle, "action"), "DENY");
}

static bool oracle_allows(const struct one_case *c, const struct oracle_question *q)
{
	if (is_peers(c) && own_strict(c) && !q->source.known)
		return false;
	if (!c->oracle)
		return true;
	return oracle_holds(c->oracle, q) != is_deny(c);
}

static bool agree(struct one_case *c, struct oracle_question *q, bool ours)
{
	char source[ADDR_TEXT_MAX], server[ADDR_TEXT_MAX];
	bool theirs = oracle_allows(c, q), written;

	q->empty_holds = c->oracle && is_deny(c);
	written = oracle_allows(c, q);
	c->asked++;
	if (written == ours) {
		c->stricter += written != theirs;
		return true;
	}
	if (!ours && is_peers(c) && !q->source.known && mode_of(c, q->port) == MTLS_STRICT) {
		c->stricter++;
		return true;
	}
	snprintf(c->why, sizeof(c->why), "%.*s (%s) to [%s]:%u is %s here", STR_ARG(q->principal),
		 addr_text(&q->source.addr, source), addr_text(&q->server, server), q->port,
		 ours ? "allowed" : "denied");
	return false;
}

/* ---- a mesh to ask ---- */

struct mesh {
	struct model *model;
	struct snapshot *snapshot;
	struct str domain;
	const struct u_member *server;
	bool shadow;
	uint32_t *identities; /* of source i; 0: none */
	struct oracle_source *sources;
	uint32_t source_nr;
};

static void write_pod(struct buf *out, const char *name, struct str ns, struct str account, const char *ip,
		      const struct kvs *labels)
{
	buf_printf(out, "apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: '%.*s', labels: {", name,
		   STR_ARG(ns));
	for (uint32_t i = 0; labels && i < labels->nr; i++)
		buf_printf(out, "'%.*s': '%.*s', ", STR_ARG(labels->v[i].key), STR_ARG(labels->v[i].val));
	buf_printf(out, "}}\nspec: {serviceAccountName: '%.*s', containers: [{name: c}]}\nstatus: {podIP: %s}\n---\n",
		   STR_ARG(account), ip);
}

static const struct kvs *selector_of(const struct doc *d)
{
	return d->kind == KIND_PEER_AUTHENTICATION ? &d->peers->selector : &d->policy->selector;
}

static void add_source(struct mesh *mesh, struct buf *pods, struct str ns, struct str account)
{
	char name[32], ip[32];
	uint32_t nr = mesh->source_nr;

	snprintf(name, sizeof(name), "source-%u", nr);
	snprintf(ip, sizeof(ip), "198.18.%u.%u", nr / 250, nr % 250);
	write_pod(pods, name, ns, account, ip, NULL);
	mesh->sources[mesh->source_nr++] =
		(struct oracle_source){ .known = true, .trust_domain = mesh->domain, .ns = ns, .account = account };
}

/* Every pair that a text names, each namespace with some service accounts, and the other way round. */
static void add_sources(const struct one_case *c, struct mesh *mesh, struct buf *pods, uint32_t some)
{
	const struct mentions *m = &c->m;

	mesh->sources = xcalloc((size_t)some * (m->space_nr + m->account_nr) + m->pair_nr + 1, sizeof(*mesh->sources));
	mesh->source_nr = 1;
	for (uint32_t i = 0; i < m->pair_nr; i++)
		add_source(mesh, pods, m->pairs[i].ns, m->pairs[i].account);
	for (uint32_t i = 0; i < m->space_nr; i++)
		for (uint32_t k = 0; k < m->account_nr; k++)
			if (i < some || k < some)
				add_source(mesh, pods, m->spaces[i], m->accounts[k]);
}

static bool mesh_make(struct one_case *c, struct mesh *mesh, struct str domain, bool whole)
{
	const struct snapshot_options opts = { .cluster_domain = STR("cluster.local"),
					       .root_namespace = STR(ROOT),
					       .trust_domain = domain };
	struct batch b = { 0 };
	struct buf pods = { 0 };
	struct addr at;
	const struct access *a;

	*mesh = (struct mesh){ .model = model_new(), .domain = domain };
	for (uint32_t i = 0; i < c->batch.nr; i++)
		if (c->batch.results[i].doc)
			doc_unref(model_put(mesh->model, c->batch.results[i].doc));
	add_sources(c, mesh, &pods, whole ? 3 : 1);
	write_pod(&pods, "server", c->subject->meta.ns, STR("server"), "198.51.100.1", selector_of(c->subject));
	write_pod(&pods, "plain", c->subject->meta.ns, STR("server"), "198.51.100.2", NULL);
	write_pod(&pods, "other", STR("far-away"), STR("server"), "198.51.100.3", NULL);
	batch_read(&b, LAYER_RULES, STR("pods.yaml"), (struct str){ pods.data, (uint32_t)pods.len });
	for (uint32_t i = 0; i < b.nr; i++)
		if (b.results[i].doc)
			doc_unref(model_put(mesh->model, b.results[i].doc));
	buf_release(&pods);
	if (!b.refused)
		snapshot_build(mesh->model, &opts, NULL, NULL, 0, &b, &mesh->snapshot);
	if (!mesh->snapshot)
		snprintf(c->why, sizeof(c->why), "does not compile: %.*s", STR_ARG(b.diags.items[0].message));
	batch_release(&b);
	if (!mesh->snapshot)
		return false;
	a = mesh->snapshot->access;
	mesh->identities = xcalloc(mesh->source_nr, sizeof(*mesh->identities));
	for (uint32_t i = 1; i < mesh->source_nr; i++)
		for (uint32_t k = 1; k < a->identity_nr; k++)
			if (str_eq(a->identities[k].ns, mesh->sources[i].ns) &&
			    str_eq(a->identities[k].account, mesh->sources[i].account))
				mesh->identities[i] = k;
	addr_parse(STR("198.51.100.1"), &at);
	mesh->server = access_member(a, &at);
	mesh->shadow = c->subject->kind == KIND_AUTHORIZATION_POLICY && c->subject->policy->dry_run && c->oracle;
	return true;
}

static void mesh_free(struct mesh *mesh)
{
	snapshot_unref(mesh->snapshot);
	model_free(mesh->model);
	free(mesh->sources);
	free(mesh->identities);
}

static bool ask(struct one_case *c, const struct mesh *mesh, uint32_t source, uint32_t addr, uint32_t server,
		uint32_t port)
{
	struct oracle_question q = { .source = mesh->sources[source], .server = c->m.addrs[server] };
	uint32_t program = mesh->shadow ? mesh->server->shadow : mesh->server->program;
	char principal[512] = "nobody";

	q.port = c->m.ports[port];
	q.source.addr = c->m.addrs[addr];
	if (q.source.known)
		snprintf(principal, sizeof(principal), "%.*s/ns/%.*s/sa/%.*s", STR_ARG(q.source.trust_domain),
			 STR_ARG(q.source.ns), STR_ARG(q.source.account));
	q.principal = str_of(principal);
	return agree(
		c, &q,
		access_ask(mesh->snapshot->access, program, mesh->identities[source], &q.source.addr, &q.server, q.port)
			.allowed);
}

/* Every pair of what differs, the rest being one thing; then all of it at random. */
static bool ask_all(struct one_case *c, const struct mesh *mesh, bool whole)
{
	const struct mentions *m = &c->m;
	uint64_t state = 0x9e3779b97f4a7c15ull;

	/* In another trust domain only principals differ. */
	for (uint32_t s = 0; s < mesh->source_nr; s++)
		for (uint32_t p = 0; p < (whole ? m->port_nr : 1); p++)
			if (!ask(c, mesh, s, 0, 1 % m->addr_nr, p))
				return false;
	for (uint32_t s = 0; s < mesh->source_nr && whole; s++)
		for (uint32_t a = 0; a < m->addr_nr; a++)
			if (!ask(c, mesh, s, a, 0, 0) || !ask(c, mesh, s, 0, a, 0))
				return false;
	for (uint32_t a = 0; a < m->addr_nr && whole; a++)
		for (uint32_t p = 0; p < m->port_nr; p++)
			for (uint32_t d = 0; d < m->addr_nr; d += 1 + m->addr_nr / 16)
				if (!ask(c, mesh, a % 3, a, (d + a) % m->addr_nr, p))
					return false;
	for (uint32_t i = 0; i < PROBES_RANDOM && whole; i++) {
		uint32_t at[4];

		for (int k = 0; k < 4; k++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			at[k] = (uint32_t)(state >> 33);
		}
		if (!ask(c, mesh, at[0] % mesh->source_nr, at[1] % m->addr_nr, at[2] % m->addr_nr, at[3] % m->port_nr))
			return false;
	}
	return true;
}

/* Whom the policy guards is what the translation's scope says. */
static bool same_scope(struct one_case *c, const struct mesh *mesh)
{
	struct str scope = oracle_str(c->oracle, "scope");
	bool want[] = { true, !str_is(scope, "WORKLOAD_SELECTOR") || !selector_of(c->subject)->nr,
			str_is(scope, "GLOBAL") };

	for (int i = 0; i < 3 && c->oracle && !is_peers(c); i++) {
		char ip[32];
		struct addr at;
		const struct u_member *m;
		bool guarded;

		snprintf(ip, sizeof(ip), "198.51.100.%d", i + 1);
		addr_parse(str_of(ip), &at);
		m = access_member(mesh->snapshot->access, &at);
		guarded = m->program || m->shadow;
		if (guarded == want[i])
			continue;
		snprintf(c->why, sizeof(c->why), "scope is %.*s, and %.*s is %s", STR_ARG(scope), STR_ARG(m->workload),
			 guarded ? "guarded" : "not guarded");
		return false;
	}
	return true;
}

/* ---- a case ---- */

/* The policy that was translated: the one for workloads, else the last. */
static void find_subject(struct one_case *c, const struct ynode *last)
{
	for (uint32_t i = 0; i < c->batch.nr; i++) {
		struct doc *d = c->batch.results[i].doc;
		bool peers = d && d->kind == KIND_PEER_AUTHENTICATION;

		if (!peers && !(d && d->kind == KIND_AUTHORIZATION_POLICY))
			continue;
		if (!c->subject || !peers || d->peers->selector.nr || !selector_of(c->subject)->nr)
			c->subject = d;
		if (!peers && i + 1 == c->batch.nr && last)
			drop_beyond(c, d, last);
	}
}

static bool run_whole(struct one_case *c, const char *in, const char *out)
{
	const struct ynode *last = NULL;

	if (!read_file(in, &c->in) || !read_file(out, &c->want)) {
		snprintf(c->why, sizeof(c->why), "%s", strerror(errno));
		return false;
	}
	mention_always(&c->m);
	if (!read_trees(c, &c->want, &c->oracle) || !read_trees(c, &c->in, &last)) {
		snprintf(c->why, sizeof(c->why), "is no YAML");
		return false;
	}
	batch_read(&c->batch, LAYER_RULES, STR("in.yaml"), (struct str){ c->in.data, (uint32_t)c->in.len });
	if (c->batch.refused) {
		snprintf(c->why, sizeof(c->why), "%srefused: %.*s",
			 c->oracle ? "" : "nothing is translated, and it is ",
			 STR_ARG(c->batch.diags.items[0].message));
		return !c->oracle;
	}
	if (c->m.lost) {
		snprintf(c->why, sizeof(c->why), "names more than %u names", NAMES_MAX);
		return false;
	}
	find_subject(c, last);
	if (!c->subject) {
		snprintf(c->why, sizeof(c->why), "no policy in it");
		return false;
	}
	for (uint32_t i = 0; i < c->m.domain_nr; i++) {
		struct mesh mesh;
		bool fine = mesh_make(c, &mesh, c->m.domains[i], !i) && same_scope(c, &mesh) && ask_all(c, &mesh, !i);

		mesh_free(&mesh);
		if (!fine)
			return false;
	}
	snprintf(c->why, sizeof(c->why), "%llu connections", (unsigned long long)c->asked);
	if (c->stricter)
		snprintf(c->why + strlen(c->why), sizeof(c->why) - strlen(c->why), "; %llu stricter by design",
			 (unsigned long long)c->stricter);
	if (c->beyond)
		snprintf(c->why + strlen(c->why), sizeof(c->why) - strlen(c->why),
			 "; trust domains and conditions on service accounts taken as the translation does");
	return true;
}

static bool run_case(const char *folder, const char *name, int len)
{
	struct one_case *c = xcalloc(1, sizeof(*c));
	char in[4096], out[4096];
	bool passed;

	snprintf(in, sizeof(in), "%s/%.*s-in.yaml", folder, len, name);
	snprintf(out, sizeof(out), "%s/%.*s.yaml", folder, len, name);
	passed = run_whole(c, in, out);
	printf("%.*s\t%s\t%s\n", len, name, passed ? "pass" : "fail", c->why);
	batch_release(&c->batch);
	buf_release(&c->in);
	buf_release(&c->want);
	arena_release(&c->m.arena);
	arena_release(&c->arena);
	free(c);
	return passed;
}

static int is_input(const struct dirent *d)
{
	return str_ends(str_of(d->d_name), STR("-in.yaml"));
}

static void run_folder(const char *folder, unsigned int *passed, unsigned int *failed)
{
	struct dirent **cases = NULL;
	int nr = scandir(folder, &cases, is_input, alphasort);

	for (int i = 0; i < nr; i++) {
		++*(run_case(folder, cases[i]->d_name, (int)strlen(cases[i]->d_name) - 8) ? passed : failed);
		free(cases[i]);
	}
	free(cases);
	if (nr > 0)
		return;
	printf("%s\tfail\t%s\n", folder, nr ? strerror(errno) : "no case there");
	++*failed;
}

int main(int argc, char **argv)
{
	unsigned int passed = 0, failed = 0, skipped = 0;

	if (argc > 1) {
		run_folder(argv[1], &passed, &failed);
	} else {
		run_folder(OWN, &passed, &failed);
		if (!access(GIVEN, R_OK)) {
			run_folder(GIVEN, &passed, &failed);
		} else {
			printf(GIVEN "\tskip\tis not here\n");
			skipped++;
		}
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
