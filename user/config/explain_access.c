/* SPDX-License-Identifier: BSD-2-Clause */
/* The part of explain that answers "may it?": which policy, which rule of it, in which file; servers that get one answer together. */
#include <stdlib.h>

#include "base/arena.h"
#include "config/explain_local.h"

#define SHOWN_MAX 4u

#define X(name, label, ...) label,
static const char *const reason_labels[] = { MESH_REASONS(X) };
#undef X

/* ---- asking ---- */

static bool is_known(const struct u_row *r)
{
	return r && (r->action == MESH_ROUTE || r->action == MESH_PASS);
}

bool access_unknown(const struct asking *q, const struct addr *addr, const struct u_row *r)
{
	return q->client->registry_only && !is_known(r) && !access_member(q->s->access, addr);
}

/* The address that the client would come from; NULL: it has none of this family. */
static const struct addr *source_for(const struct client *c, const struct addr *server)
{
	for (uint32_t i = 0; i < c->ip_nr; i++)
		if (addr_is_v4(&c->ips[i]) == addr_is_v4(server))
			return &c->ips[i];
	return NULL;
}

static uint32_t identity_at(const struct asking *q, const struct addr *source)
{
	const struct u_member *m = source && !q->client->host_network ? access_member(q->s->access, source) : NULL;

	return m ? m->identity : 0;
}

static uint32_t identity_of(const struct asking *q)
{
	return q->client && q->client->ip_nr ? identity_at(q, &q->client->ips[0]) : 0;
}

static const struct u_program *program_at(const struct access *a, uint32_t index)
{
	return index ? &a->programs[index - 1] : NULL;
}

/* `relayed`: meshl7 makes the connection. */
static struct finding find_verdict(const struct asking *q, const struct server *s, bool relayed)
{
	const struct addr *source = source_for(q->client, &s->addr), none = { 0 };
	const struct access *a = q->s->access;
	const struct u_member *m = access_member(a, &s->addr);
	uint32_t identity = identity_at(q, source), program;
	struct finding f = { .says.allowed = true };

	if (!m)
		return f;
	f.requests = relayed && m->relayed;
	program = f.requests ? m->relayed : m->program;
	f.program = program_at(a, program);
	f.shadow = program_at(a, m->shadow);
	if (f.program)
		f.says = access_ask(a, program, identity, source ? source : &none, &s->addr, s->port);
	if (f.shadow)
		f.would = access_ask(a, m->shadow, identity, source ? source : &none, &s->addr, s->port);
	if (!f.says.allowed)
		f.reason = f.says.policy ? MESH_REASON_DENIED : MESH_REASON_DENIED_DEFAULT;
	return f;
}

static bool same_verdict(const struct access_verdict *a, const struct access_verdict *b)
{
	return a->allowed == b->allowed && a->policy == b->policy && (!a->policy || a->rule == b->rule);
}

static bool same_finding(const struct finding *a, const struct finding *b)
{
	return a->reason == b->reason && a->requests == b->requests && a->program == b->program &&
	       a->shadow == b->shadow && same_verdict(&a->says, &b->says) &&
	       (!a->shadow || same_verdict(&a->would, &b->would));
}

static void count(struct asking *q, const struct finding *f)
{
	if (!q->allowed && !q->denied)
		q->first = *f;
	else if (!same_finding(&q->first, f))
		q->differ = true;
	if (f->says.allowed)
		q->allowed++;
	else
		q->denied++;
}

/* ---- saying ---- */

static void say_policy(struct buf *out, const struct u_policy *p)
{
	buf_printf(out, "%.*s %.*s/%.*s", STR_ARG(p->kind), STR_ARG(p->ns), STR_ARG(p->name));
}

/* The policy, its rule and where it stands. */
static void say_rule_of(struct buf *out, const struct access_verdict *v, bool relayed)
{
	const struct u_policy *p = v->policy;

	say_policy(out, p);
	if (str_is(p->kind, "AuthorizationPolicy"))
		buf_printf(out, ", spec.rules[%u]", v->rule);
	buf_printf(out, ", %.*s:%u", STR_ARG(p->file), p->line);
	if (p->deny && p->needs_l7 && !relayed)
		buf_printf(out, " (a part of it needs the bytes of requests; it is taken to hold for all of them)");
}

/* The policies that guard a server, with their places. */
static void say_guards(struct buf *out, const struct access *a, const struct u_program *p)
{
	for (uint32_t i = 0; i < p->guard_nr; i++) {
		const struct u_policy *policy = &a->policies[a->guards[p->guard + i]];

		if (i == SHOWN_MAX) {
			buf_printf(out, " and %u more", p->guard_nr - i);
			break;
		}
		buf_printf(out, "%s", i ? ", " : "");
		say_policy(out, policy);
		buf_printf(out, " (%.*s:%u)", STR_ARG(policy->file), policy->line);
	}
}

static void say_says(struct buf *out, const struct access *a, const struct u_program *p, const struct access_verdict *v,
		     bool relayed, const char *allowed, const char *denied)
{
	buf_printf(out, "%s", v->allowed ? allowed : denied);
	if (v->policy) {
		buf_printf(out, " by ");
		say_rule_of(out, v, relayed);
	} else if (v->allowed) {
		buf_printf(out, ": no policy denies it");
		if (p->guard_nr)
			buf_printf(out, "; asked: ");
		say_guards(out, a, p);
	} else {
		buf_printf(out, " by default: policies allow others only");
		if (p->guard_nr)
			buf_printf(out, ": ");
		say_guards(out, a, p);
	}
	buf_add(out, "\n", 1);
}

/* `sidecar`: NULL: the mesh's own setting. */
static void say_unknown(struct buf *out, const struct u_policy *sidecar)
{
	buf_printf(out,
		   "denied: this client sees no rule for the address, and may reach nothing else (REGISTRY_ONLY of ");
	if (sidecar) {
		say_policy(out, sidecar);
		buf_printf(out, ", %.*s:%u)\n", STR_ARG(sidecar->file), sidecar->line);
	} else {
		buf_printf(out, "the mesh: outbound-traffic-policy)\n");
	}
}

void say_servers(struct buf *out, const struct server *v, uint32_t nr, bool all)
{
	uint32_t shown = 0, left = 0;

	buf_str(out, all ? STR("") : STR(" to "));
	for (uint32_t i = 0; !all && i < nr; i++) {
		if (!v[i].said)
			continue;
		if (shown == SHOWN_MAX) {
			left++;
			continue;
		}
		buf_printf(out, "%s", shown++ ? ", " : "");
		add_socket(out, &v[i].addr, v[i].port);
	}
	if (left)
		buf_printf(out, " and %u more", left);
	buf_printf(out, ": ");
}

static void say_group(struct asking *q, const struct finding *f, const struct server *v, uint32_t nr, bool all)
{
	struct buf *out = q->text;

	buf_printf(out, "  access");
	say_servers(out, v, nr, all);
	if (f->reason == MESH_REASON_REGISTRY_ONLY)
		say_unknown(out, f->says.policy);
	else if (!f->program)
		buf_printf(out, "allowed: no policy selects %s\n", all && nr == 1 ? "the server" : "these servers");
	else
		say_says(out, q->s->access, f->program, &f->says, f->requests,
			 f->requests ? "allowed, and asked again for each request," : "allowed", "denied");
	if (f->shadow) {
		buf_printf(out, "    dry run: ");
		say_says(out, q->s->access, f->shadow, &f->would, false, "would be allowed", "would be denied");
	}
}

/* ---- JSON ---- */

static void json_policy_name(struct json *j, const struct u_policy *p)
{
	struct arena arena = { 0 };

	json_str(j, arena_printf(&arena, "%.*s/%.*s", STR_ARG(p->ns), STR_ARG(p->name)));
	arena_release(&arena);
}

static void json_text(struct json *j, const char *key, const char *text)
{
	json_key(j, key);
	if (text)
		json_str(j, str_of(text));
	else
		json_null(j);
}

/* "kind", "policy", "rule", "file", "line" of what said so; p is NULL: no policy did. */
static void json_says(struct json *j, const struct u_policy *p, uint32_t rule)
{
	static const char *const keys[] = { "kind", "policy", "rule", "file", "line" };

	for (size_t i = 0; !p && i < sizeof(keys) / sizeof(*keys); i++)
		json_text(j, keys[i], NULL);
	if (!p)
		return;
	json_kstr(j, "kind", p->kind);
	json_key(j, "policy");
	json_policy_name(j, p);
	json_kuint(j, "rule", rule);
	json_kstr(j, "file", p->file);
	json_kuint(j, "line", p->line);
}

static void json_verdict(struct json *j, const struct access_verdict *v)
{
	json_text(j, "verdict", v->allowed ? "allowed" : "denied");
	json_says(j, v->policy, v->rule);
}

static void json_guards(struct json *j, const struct access *a, const struct finding *f)
{
	const struct u_program *programs[] = { f->program, f->shadow };

	json_key(j, "guards");
	json_array(j);
	for (size_t k = 0; k < sizeof(programs) / sizeof(*programs); k++) {
		for (uint32_t i = 0; programs[k] && i < programs[k]->guard_nr; i++) {
			const struct u_policy *p = &a->policies[a->guards[programs[k]->guard + i]];

			json_object(j);
			json_kstr(j, "kind", p->kind);
			json_key(j, "policy");
			json_policy_name(j, p);
			json_kstr(j, "action", p->deny ? STR("DENY") : STR("ALLOW"));
			json_kbool(j, "dry_run", p->dry_run);
			json_kbool(j, "needs_l7", p->needs_l7);
			json_kstr(j, "file", p->file);
			json_kuint(j, "line", p->line);
			json_object_end(j);
		}
	}
	json_array_end(j);
}

void json_servers(struct json *j, const struct server *v, uint32_t nr)
{
	char text[ADDR_TEXT_MAX];

	json_key(j, "servers");
	json_array(j);
	for (uint32_t i = 0; i < nr; i++) {
		if (!v[i].said)
			continue;
		json_object(j);
		json_kstr(j, "ip", str_of(addr_text(&v[i].addr, text)));
		json_kuint(j, "port", v[i].port);
		json_kstr(j, "workload", v[i].workload);
		json_object_end(j);
	}
	json_array_end(j);
}

static void json_group(struct asking *q, const struct finding *f, const struct server *v, uint32_t nr)
{
	struct json *j = q->json;

	json_object(j);
	json_verdict(j, &f->says);
	json_text(j, "reason", f->reason ? reason_labels[f->reason] : NULL);
	json_kbool(j, "per_request", f->requests && f->says.allowed);
	json_guards(j, q->s->access, f);
	json_key(j, "dry_run");
	if (f->shadow) {
		json_object(j);
		json_verdict(j, &f->would);
		json_object_end(j);
	} else {
		json_null(j);
	}
	json_servers(j, v, nr);
	json_object_end(j);
}

void json_identity(const struct asking *q)
{
	uint32_t identity = identity_of(q);
	const struct u_identity *id = &q->s->access->identities[identity];
	struct arena arena = { 0 };

	json_key(q->json, "source_identity");
	if (identity)
		json_str(q->json, arena_printf(&arena, "%.*s/ns/%.*s/sa/%.*s", STR_ARG(q->trust_domain),
					       STR_ARG(id->ns), STR_ARG(id->account)));
	else
		json_null(q->json);
	arena_release(&arena);
}

/* ---- one address ---- */

struct server *servers_of(const struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r,
			  uint32_t *ret_nr)
{
	const struct u_member *m = access_member(q->s->access, addr);
	struct server *v;
	uint32_t nr = 0;

	if (!r || r->action != MESH_ROUTE) {
		v = xcalloc(1, sizeof(*v));
		*v = (struct server){ .addr = *addr, .port = q->port };
		if (m)
			v->workload = m->workload;
		*ret_nr = 1;
		return v;
	}
	for (uint32_t i = 0; i < r->dest_nr; i++)
		nr += u->clusters[u->dests[r->dest + i].cluster].endpoint_nr;
	v = xcalloc((size_t)nr + 1, sizeof(*v));
	*ret_nr = 0;
	for (uint32_t i = 0; i < r->dest_nr; i++) {
		const struct u_cluster *c = &u->clusters[u->dests[r->dest + i].cluster];

		for (uint32_t k = 0; k < c->endpoint_nr; k++) {
			const struct u_endpoint *e = &u->endpoints[c->endpoint + k];

			v[*ret_nr] = (struct server){ .addr = e->addr, .port = e->port };
			if (e->workload)
				v[*ret_nr].workload = u->workloads[e->workload - 1].text;
			++*ret_nr;
		}
	}
	return v;
}

static void say_source(struct asking *q, const struct finding *findings, uint32_t nr)
{
	uint32_t identity = identity_of(q);
	const struct u_identity *id = &q->s->access->identities[identity];
	bool guarded = false;

	for (uint32_t i = 0; i < nr && !guarded; i++)
		guarded = findings[i].program || findings[i].shadow;
	if (!guarded)
		return;
	if (identity)
		buf_printf(q->text, "  identity: %.*s/ns/%.*s/sa/%.*s\n", STR_ARG(q->trust_domain), STR_ARG(id->ns),
			   STR_ARG(id->account));
	else
		buf_printf(q->text, "  identity: none%s\n",
			   is_outside(q)	     ? "; it is no workload of the mesh"
			   : q->client->host_network ? "; the node's address is shared by all that runs on it"
						     : "");
}

void say_access(struct asking *q, const struct unit *u, const struct addr *addr, const struct u_row *r)
{
	uint32_t nr;
	struct server *v = servers_of(q, u, addr, r, &nr);
	struct finding *findings = xcalloc((size_t)nr + 1, sizeof(*findings));
	bool *done = xcalloc((size_t)nr + 1, sizeof(*done));
	bool unknown = access_unknown(q, addr, r);

	for (uint32_t i = 0; i < nr; i++) {
		findings[i] = unknown ? (struct finding){ .reason = MESH_REASON_REGISTRY_ONLY,
							  .says.policy = q->client->sidecar }
				      : find_verdict(q, &v[i], r && r->l7 && !q->client->host_network);
		count(q, &findings[i]);
	}
	if (q->json) {
		json_key(q->json, "access");
		json_array(q->json);
	}
	say_source(q, findings, nr);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t same = 0;

		if (done[i])
			continue;
		for (uint32_t k = 0; k < nr; k++) {
			v[k].said = same_finding(&findings[i], &findings[k]);
			done[k] |= v[k].said;
			same += v[k].said;
		}
		say_group(q, &findings[i], v, nr, same == nr);
		if (q->json)
			json_group(q, &findings[i], v, nr);
	}
	if (q->json)
		json_array_end(q->json);
	free(v);
	free(findings);
	free(done);
}

void say_verdict(struct asking *q)
{
	uint32_t sum = q->allowed + q->denied;
	bool mixed = q->allowed && q->denied;
	const struct access_verdict *v = q->differ ? &(struct access_verdict){ 0 } : &q->first.says;

	if (!sum)
		buf_printf(q->text, "verdict: there is no server to reach");
	else if (mixed)
		buf_printf(q->text, "verdict: %u of %u servers allowed, %u denied", q->allowed, sum, q->denied);
	else
		buf_printf(q->text, "verdict: %s", q->denied ? "denied" : "allowed");
	if (sum && v->policy) {
		buf_printf(q->text, " by ");
		say_rule_of(q->text, v, q->first.requests);
	}
	buf_add(q->text, "\n", 1);
	if (!q->json)
		return;
	json_text(q->json, "verdict", !sum ? NULL : mixed ? "mixed" : q->denied ? "denied" : "allowed");
	json_says(q->json, sum ? v->policy : NULL, v->rule);
}
