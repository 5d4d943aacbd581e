/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AuthorizationPolicies that need a request: those that deny first; then, where any allows, one of them must. Paths are looked at with what
 * need not be escaped as it is, and without dot segments; the server gets these, so that a path that has some must be allowed with them too.
 */
#include "l7/fields.h"

#include "base/addr.h"

/* Of the whole: policies are outside of images. */
static struct str whole_text(const struct http_rules *r, struct mesh_ref ref)
{
	return (struct str){ r->base + ref.at, ref.nr };
}

struct str http_client_workload(const struct http_place *place)
{
	return place->client ? whole_text(place->rules, place->client->workload) : (struct str){ 0 };
}

static const void *whole_ref(const struct http_rules *r, struct mesh_ref ref)
{
	return r->base + ref.at;
}

struct subject {
	const struct http_place *place;
	const struct http_request *rq; /* NULL: nobody can look into the connection */
	bool deny;		       /* the policy at hand does */
	const struct http_choice *choice;
	const struct mesh_http_endpoint *to;
	struct str ns, account; /* of the client; empty: it is not known */
	struct buf path, joined, made;
};

/* ---- paths ---- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Escaped letters, digits, "-", ".", "_" and "~" are what they stand for (RFC 3986, section 6.2.2.2). */
static void unescape(struct str path, struct buf *out)
{
	buf_clear(out);
	for (uint32_t i = 0; i < path.len; i++) {
		char c = path.p[i];

		if (c == '%' && path.len - i > 2 && hex(path.p[i + 1]) >= 0 && hex(path.p[i + 2]) >= 0) {
			char meant = (char)(hex(path.p[i + 1]) * 16 + hex(path.p[i + 2]));

			if ((meant >= '0' && meant <= '9') || (meant >= 'A' && meant <= 'Z') ||
			    (meant >= 'a' && meant <= 'z') || (meant && strchr("-._~", meant))) {
				c = meant;
				i += 2;
			}
		}
		buf_add(out, &c, 1);
	}
}

/* RFC 3986, section 5.2.4. */
static void resolve_dots(struct str path, struct buf *out)
{
	buf_clear(out);
	while (path.len) {
		int slash = str_find(str_sub(path, 1, path.len), '/');
		uint32_t len = slash < 0 ? path.len : (uint32_t)slash + 1;
		struct str segment = str_sub(path, 0, len);
		bool up = str_is(segment, "/.."), here = str_is(segment, "/.");

		while (up && out->len && out->data[--out->len] != '/')
			;
		if (!up && !here)
			buf_str(out, segment);
		else if (len == path.len)
			buf_add(out, "/", 1);
		path = str_sub(path, len, path.len);
	}
}

/* The path that the server gets; what a rule put behind a "?" is none of it. false: it has no dot segments, or they were left in it. */
static bool take_path(struct subject *s, bool resolve)
{
	struct str path;
	int question;

	buf_clear(&s->joined);
	path_sent(s->place, s->rq, s->choice, &s->joined);
	path = (struct str){ s->joined.data, (uint32_t)s->joined.len };
	question = str_find(path, '?');
	if (question >= 0)
		path.len = (uint32_t)question;
	unescape(path, &s->made);
	path = (struct str){ s->made.data, (uint32_t)s->made.len };
	if (resolve) {
		resolve_dots(path, &s->path);
	} else {
		buf_clear(&s->path);
		buf_str(&s->path, path);
	}
	return s->path.len != path.len;
}

/* ---- subjects ---- */

static struct str principal(struct subject *s, bool with_domain)
{
	const struct http_rules *r = s->place->rules;

	if (!s->account.len)
		return STR("");
	buf_clear(&s->made);
	if (with_domain)
		buf_printf(&s->made, "%.*s/ns/%.*s/sa/%.*s", STR_ARG(whole_text(r, r->http->domain)), STR_ARG(s->ns),
			   STR_ARG(s->account));
	else
		buf_printf(&s->made, "%.*s/%.*s", STR_ARG(s->ns), STR_ARG(s->account));
	return (struct str){ s->made.data, (uint32_t)s->made.len };
}

/* The text that a test is about; false: there is none. */
static bool subject_text(struct subject *s, const struct mesh_http_test *t, struct str *ret)
{
	const struct http_rules *r = s->place->rules;

	*ret = STR("");
	switch (t->subject) {
	case MESH_SUBJECT_PRINCIPAL:
	case MESH_SUBJECT_ACCOUNT:
		*ret = principal(s, t->subject == MESH_SUBJECT_PRINCIPAL);
		break;
	case MESH_SUBJECT_NAMESPACE:
		*ret = s->ns;
		break;
	case MESH_SUBJECT_TRUST_DOMAIN:
		if (s->account.len)
			*ret = whole_text(r, r->http->domain);
		break;
	case MESH_SUBJECT_PORT:
		buf_clear(&s->made);
		buf_printf(&s->made, "%u", s->to->port);
		*ret = (struct str){ s->made.data, (uint32_t)s->made.len };
		break;
	case MESH_SUBJECT_HOST:
		*ret = authority_sent(s->place, s->rq, s->choice);
		break;
	case MESH_SUBJECT_METHOD:
		*ret = head_str(s->rq->p, s->rq->head->method);
		break;
	case MESH_SUBJECT_PATH:
		*ret = (struct str){ s->path.data, (uint32_t)s->path.len };
		break;
	case MESH_SUBJECT_HEADER:
		return field_sent(s->place, s->rq, s->choice, whole_text(r, t->name), &s->joined, ret);
	}
	return ret->len > 0;
}

/* The last of X-Forwarded-For, which the nearest proxy wrote; at the edge nothing of it is believed. */
static void remote_addr(struct subject *s, struct addr *ret)
{
	struct str list, one, last = STR("");
	struct addr a;

	memcpy(ret, &s->place->client_addr, sizeof(*ret));
	if (!s->rq || (s->place->table && s->place->table->flags & MESH_HTTP_EDGE) ||
	    !field_find(s->rq, STR("x-forwarded-for"), &s->joined, &list))
		return;
	while (head_list_next(&list, &one))
		last = one;
	if (addr_parse(last, &a))
		*ret = a;
}

static bool in_nets(const struct http_rules *r, struct mesh_ref ref, const struct addr *a)
{
	const struct mesh_http_net *nets = whole_ref(r, ref);

	for (uint32_t i = 0; i < ref.nr; i++) {
		struct addr net;

		memcpy(&net, &nets[i].addr, sizeof(net));
		/* An address of IPv4 is ::ffff:a.b.c.d here, but in no network of IPv6. */
		if ((nets[i].prefix_len >= 96 || !addr_is_v4(a)) && addr_in(a, &net, (uint8_t)nets[i].prefix_len))
			return true;
	}
	return false;
}

static bool one_of(struct subject *s, struct mesh_ref ref, struct str value, bool there, bool host)
{
	const struct http_rules *r = s->place->rules;
	const struct mesh_http_text *texts = whole_ref(r, ref);

	for (uint32_t i = 0; i < ref.nr; i++) {
		struct str pattern = whole_text(r, texts[i].text);

		if (text_matches(r, &texts[i], pattern, value, there) ||
		    (host && text_matches(r, &texts[i], pattern, authority_name(value), there)))
			return true;
	}
	return false;
}

static bool test_holds(struct subject *s, const struct mesh_http_test *t)
{
	const struct http_rules *r = s->place->rules;
	struct addr a;
	struct str value;
	bool there, host = t->subject == MESH_SUBJECT_HOST;

	if (!s->rq && t->subject >= MESH_SUBJECT_HOST)
		return s->deny;
	switch (t->subject) {
	case MESH_SUBJECT_SOURCE_IP:
		memcpy(&a, &s->place->client_addr, sizeof(a));
		break;
	case MESH_SUBJECT_REMOTE_IP:
		remote_addr(s, &a);
		break;
	case MESH_SUBJECT_DESTINATION_IP:
		memcpy(&a, &s->to->addr, sizeof(a));
		break;
	default:
		there = subject_text(s, t, &value);
		return (!t->any.nr || one_of(s, t->any, value, there, host)) && !one_of(s, t->none, value, there, host);
	}
	return (!t->any.nr || in_nets(r, t->any, &a)) && !in_nets(r, t->none, &a);
}

/* ---- policies ---- */

static bool cond_holds(struct subject *s, const struct mesh_http_cond *c)
{
	const struct mesh_http_test *tests = whole_ref(s->place->rules, c->tests);

	for (uint32_t i = 0; i < c->tests.nr; i++)
		if (!test_holds(s, &tests[i]))
			return false;
	return true;
}

static bool clause_holds(struct subject *s, const struct mesh_http_clause *c)
{
	const struct mesh_http_cond *conds = whole_ref(s->place->rules, c->any);

	for (uint32_t i = 0; i < c->any.nr; i++)
		if (cond_holds(s, &conds[i]))
			return true;
	return false;
}

static bool rule_holds(struct subject *s, const struct mesh_http_rule *rule)
{
	const struct mesh_http_clause *clauses = whole_ref(s->place->rules, rule->clauses);

	for (uint32_t i = 0; i < rule->clauses.nr; i++)
		if (!clause_holds(s, &clauses[i]))
			return false;
	return true;
}

static bool policy_holds(struct subject *s, const struct mesh_http_policy *p)
{
	const struct mesh_http_rule *rules = whole_ref(s->place->rules, p->rules);

	for (uint32_t i = 0; i < p->rules.nr; i++)
		if (rule_holds(s, &rules[i]))
			return true;
	return false;
}

static enum http_verdict judge(struct subject *s, const struct mesh_http_guard *g, struct str *ret_policy)
{
	const struct http_rules *r = s->place->rules;
	const struct mesh_http_policy *policies = whole_ref(r, r->http->policies);
	const uint32_t *v = whole_ref(r, g->policies);
	bool must = false, may = false;

	for (uint32_t i = 0; i < g->policies.nr; i++) {
		const struct mesh_http_policy *p = &policies[v[i]];
		bool holds;

		if (p->dry_run || (may && !p->deny))
			continue;
		s->deny = p->deny;
		holds = policy_holds(s, p);
		must |= !p->deny;
		may |= holds && !p->deny;
		if (holds && p->deny) {
			*ret_policy = whole_text(r, p->name);
			return HTTP_DENIED;
		}
	}
	return must && !may ? HTTP_DENIED : HTTP_ALLOWED;
}

static const struct mesh_http_guard *find_guard(const struct http_rules *r, const struct mesh_addr *addr)
{
	const struct mesh_http_guard *guards = whole_ref(r, r->http->guards);
	uint32_t from = 0, to = r->http->guards.nr;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;
		int rc = memcmp(&guards[middle].addr, addr, sizeof(*addr));

		if (!rc)
			return &guards[middle];
		if (rc < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return NULL;
}

enum http_verdict http_authorize(const struct http_place *place, const struct http_request *rq,
				 const struct http_choice *choice, const struct mesh_http_endpoint *to,
				 struct str *ret_policy)
{
	const struct mesh_http_guard *g = find_guard(place->rules, &to->addr);
	struct subject s = { .place = place, .rq = rq, .choice = choice, .to = to };
	enum http_verdict verdict;
	struct str workload = http_client_workload(place);
	bool dots;
	int slash;

	*ret_policy = STR("");
	if (!g)
		return HTTP_ALLOWED;
	/* What comes behind a 2xx to CONNECT would not be asked about. */
	if (rq && rq->head->form == HEAD_AUTHORITY)
		return HTTP_DENIED;
	if (place->client) {
		/* "namespace/name/serviceaccount" */
		slash = str_find(workload, '/');
		s.ns = str_sub(workload, 0, slash < 0 ? workload.len : (uint32_t)slash);
		workload = str_sub(workload, slash < 0 ? workload.len : (uint32_t)slash + 1, workload.len);
		slash = str_find(workload, '/');
		s.account = str_sub(workload, slash < 0 ? workload.len : (uint32_t)slash + 1, workload.len);
		/* Without an account it is nobody. */
		s.ns.len = s.account.len ? s.ns.len : 0;
	}
	dots = rq && take_path(&s, true);
	verdict = judge(&s, g, ret_policy);
	if (verdict == HTTP_ALLOWED && dots) {
		take_path(&s, false);
		verdict = judge(&s, g, ret_policy);
	}
	buf_release(&s.path);
	buf_release(&s.joined);
	buf_release(&s.made);
	return verdict;
}
