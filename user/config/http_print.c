/* SPDX-License-Identifier: BSD-2-Clause */
/* The rules for requests of a unit as text for people, read from its image: what `explain` and `diff` show, and golden tests compare. */
#include "config/http_print.h"

static struct str text_at(const void *image, struct mesh_ref ref)
{
	return (struct str){ (const char *)image + ref.at, ref.nr };
}

#define AT(type, image, ref) ((const type *)((const char *)(image) + (ref).at))

static void add_ms(struct buf *out, uint32_t ms)
{
	buf_printf(out, ms % 1000 ? "%ums" : "%us", ms % 1000 ? ms : ms / 1000);
}

/* ---- matches ---- */

static void add_value(const void *image, const struct mesh_http_text *t, struct buf *out)
{
	static const char *const words[] = {
		[MESH_TEXT_ANY] = "anything",	    [MESH_TEXT_PRESENT] = "given",  [MESH_TEXT_EXACT] = "",
		[MESH_TEXT_PREFIX] = "prefix ",	    [MESH_TEXT_SUFFIX] = "suffix ", [MESH_TEXT_REGEX] = "regex ",
		[MESH_TEXT_PATH_PREFIX] = "below ", [MESH_TEXT_TEMPLATE] = "like ",
	};

	buf_printf(out, "%s%s", t->invert ? "not " : "", words[t->kind]);
	if (t->kind > MESH_TEXT_PRESENT)
		buf_printf(out, "\"%.*s\"", STR_ARG(text_at(image, t->text)));
	if (t->ignore_case)
		buf_printf(out, " in either case");
}

static void add_text(const void *image, const char *what, const struct mesh_http_text *t, const char **sep,
		     struct buf *out)
{
	if (!t->kind)
		return;
	buf_printf(out, "%s%s ", *sep, what);
	add_value(image, t, out);
	*sep = ", ";
}

static void add_named(const void *image, const char *what, struct mesh_ref ref, const char **sep, struct buf *out)
{
	const struct mesh_http_named *v = AT(struct mesh_http_named, image, ref);

	for (uint32_t i = 0; i < ref.nr; i++) {
		buf_printf(out, "%s%s %.*s ", *sep, what, STR_ARG(text_at(image, v[i].name)));
		add_value(image, &v[i].value, out);
		*sep = ", ";
	}
}

void http_match_print(const void *image, const struct mesh_http_route *r, struct buf *out)
{
	const struct mesh_http_match *v = AT(struct mesh_http_match, image, r->matches);

	for (uint32_t i = 0; i < r->matches.nr; i++) {
		const char *sep = i ? " or " : "";
		size_t before = out->len;

		add_text(image, "path", &v[i].path, &sep, out);
		add_text(image, "method", &v[i].method, &sep, out);
		add_text(image, "authority", &v[i].authority, &sep, out);
		add_text(image, "scheme", &v[i].scheme, &sep, out);
		add_named(image, "header", v[i].headers, &sep, out);
		add_named(image, "query", v[i].queries, &sep, out);
		if (out->len == before)
			buf_printf(out, "%severything", sep);
	}
	if (!r->matches.nr)
		buf_printf(out, "everything");
}

/* ---- what is done ---- */

static void add_fields(const void *image, const char *what, const struct mesh_http_fields *f, struct buf *out)
{
	const struct mesh_ref *names = AT(struct mesh_ref, image, f->remove);
	const struct mesh_http_field *set = AT(struct mesh_http_field, image, f->set);
	const struct mesh_http_field *add = AT(struct mesh_http_field, image, f->add);

	for (uint32_t i = 0; i < f->remove.nr; i++)
		buf_printf(out, "; %s without %.*s", what, STR_ARG(text_at(image, names[i])));
	for (uint32_t i = 0; i < f->set.nr; i++)
		buf_printf(out, "; %s with %.*s: %.*s", what, STR_ARG(text_at(image, set[i].name)),
			   STR_ARG(text_at(image, set[i].value)));
	for (uint32_t i = 0; i < f->add.nr; i++)
		buf_printf(out, "; %s with another %.*s: %.*s", what, STR_ARG(text_at(image, add[i].name)),
			   STR_ARG(text_at(image, add[i].value)));
}

static void add_rewrite(const void *image, const struct mesh_http_rewrite *r, struct buf *out)
{
	static const char *const words[] = { [MESH_PATH_FULL] = "path",
					     [MESH_PATH_PREFIX] = "prefix of the path, by elements,",
					     [MESH_PATH_PREFIX_TEXT] = "prefix of the path" };

	if (r->change == MESH_PATH_REGEX)
		buf_printf(out, "; \"%.*s\" in the path becomes \"%.*s\"", STR_ARG(text_at(image, r->regex)),
			   STR_ARG(text_at(image, r->path)));
	else if (r->change)
		buf_printf(out, "; %s becomes \"%.*s\"", words[r->change], STR_ARG(text_at(image, r->path)));
	if (r->authority.nr)
		buf_printf(out, "; host becomes \"%.*s\"", STR_ARG(text_at(image, r->authority)));
}

static void add_redirect(const void *image, const struct mesh_http_redirect *r, struct buf *out)
{
	buf_printf(out, "; redirect %u", r->status);
	if (r->scheme.nr)
		buf_printf(out, " to %.*s", STR_ARG(text_at(image, r->scheme)));
	if (r->port_kind == MESH_PORT_GIVEN)
		buf_printf(out, " to port %u", r->port);
	else if (r->port_kind)
		buf_printf(out, r->port_kind == MESH_PORT_DEFAULT ? " to the scheme's port" : " to the request's port");
	add_rewrite(image, &r->to, out);
}

static void add_share(struct buf *out, uint32_t share)
{
	if (share % (MESH_HTTP_WHOLE / 100))
		buf_printf(out, "%u of a million", share);
	else
		buf_printf(out, "%u%%", share / (MESH_HTTP_WHOLE / 100));
}

static void add_mirrors(const void *image, struct mesh_ref ref, struct buf *out)
{
	const struct mesh_http_cluster *clusters =
		AT(struct mesh_http_cluster, image, ((const struct mesh_http_image *)image)->clusters);
	const struct mesh_http_mirror *v = AT(struct mesh_http_mirror, image, ref);

	for (uint32_t i = 0; i < ref.nr; i++) {
		buf_printf(out, "; mirror ");
		add_share(out, v[i].share);
		buf_printf(out, " to %.*s", STR_ARG(text_at(image, clusters[v[i].cluster].name)));
	}
}

static void add_fault(const struct mesh_http_fault *f, struct buf *out)
{
	if (f->delay_share) {
		buf_printf(out, "; delay ");
		add_share(out, f->delay_share);
		buf_printf(out, " by ");
		add_ms(out, f->delay_ms);
	}
	if (f->abort_share) {
		buf_printf(out, "; abort ");
		add_share(out, f->abort_share);
		buf_printf(out, " with %u", f->abort_status);
	}
}

static void add_retry(const void *image, const struct mesh_http_retry *r, struct buf *out)
{
	static const char *const words[] = { "connect-failure", "refused-stream", "reset",  "5xx",
					     "gateway-error",	"retriable-4xx",  "status", "reset-before-request" };
	const __u16 *statuses = AT(__u16, image, r->statuses);
	const char *sep = " on ";

	if (!r->attempts)
		return;
	buf_printf(out, "; %u retries", r->attempts);
	for (uint32_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (!(r->on & 1u << i))
			continue;
		buf_printf(out, "%s%s", sep, words[i]);
		sep = ",";
	}
	for (uint32_t i = 0; i < r->statuses.nr; i++)
		buf_printf(out, " %u", statuses[i]);
	if (r->try_timeout_ms) {
		buf_printf(out, " within ");
		add_ms(out, r->try_timeout_ms);
	}
	buf_printf(out, " after ");
	add_ms(out, r->backoff_ms);
	if (!r->other_endpoints)
		buf_printf(out, " anywhere");
}

static void add_cors(const void *image, const struct mesh_http_cors *c, struct buf *out)
{
	const struct mesh_http_text *origins = AT(struct mesh_http_text, image, c->origins);
	const struct {
		const char *what;
		struct mesh_ref ref;
	} lists[] = { { "methods", c->methods }, { "headers", c->headers }, { "exposed", c->exposed } };

	if (!c->given)
		return;
	buf_printf(out, "; CORS");
	for (uint32_t i = 0; i < c->origins.nr; i++) {
		buf_printf(out, "%s", i ? " or " : " of ");
		add_value(image, &origins[i], out);
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		if (lists[i].ref.nr)
			buf_printf(out, " %s %.*s", lists[i].what,
				   STR_ARG(text_at(image, *AT(struct mesh_ref, image, lists[i].ref))));
	if (c->credentials)
		buf_printf(out, " with credentials");
	if (c->has_max_age)
		buf_printf(out, " for %us", c->max_age_s);
	if (!c->forward_unmatched)
		buf_printf(out, " answering others");
}

void http_action_print(const void *image, const struct mesh_http_route *r, struct buf *out)
{
	add_fault(&r->fault, out);
	add_cors(image, &r->cors, out);
	if (r->action == MESH_HTTP_REDIRECT)
		add_redirect(image, &r->redirect, out);
	if (r->action == MESH_HTTP_DIRECT)
		buf_printf(out, "; answer %u with %u bytes", r->direct_status, r->body.nr);
	add_rewrite(image, &r->rewrite, out);
	add_fields(image, "request", &r->request, out);
	add_fields(image, "answer", &r->response, out);
	add_mirrors(image, r->mirrors, out);
	if (r->timeout_ms) {
		buf_printf(out, "; timeout ");
		add_ms(out, r->timeout_ms);
	}
	if (r->action == MESH_HTTP_FORWARD)
		add_retry(image, &r->retry, out);
}

void http_dest_print(const void *image, const struct mesh_http_dest *d, struct buf *out)
{
	const struct mesh_http_cluster *clusters =
		AT(struct mesh_http_cluster, image, ((const struct mesh_http_image *)image)->clusters);
	const struct mesh_http_cluster *c = &clusters[d->cluster];

	buf_printf(out, "%u %.*s", d->weight, STR_ARG(text_at(image, c->name)));
	if (c->broken)
		buf_printf(out, "; answer %u", c->broken_status);
	if (d->redirect.nr)
		add_redirect(image, AT(struct mesh_http_redirect, image, d->redirect), out);
	add_rewrite(image, &d->rewrite, out);
	add_fields(image, "request", &d->request, out);
	add_fields(image, "answer", &d->response, out);
	add_mirrors(image, d->mirrors, out);
}

static void print_route(const void *image, const struct mesh_http_route *r, const char *indent, struct buf *out)
{
	const struct mesh_http_dest *dests = AT(struct mesh_http_dest, image, r->dests);

	buf_printf(out, "%s  ", indent);
	http_match_print(image, r, out);
	http_action_print(image, r, out);
	if (r->name.nr)
		buf_printf(out, " (%.*s)", STR_ARG(text_at(image, r->name)));
	buf_printf(out, "\n%s    by %.*s\n", indent, STR_ARG(text_at(image, r->origin)));
	for (uint32_t i = 0; i < r->dests.nr; i++) {
		buf_printf(out, "%s    ", indent);
		http_dest_print(image, &dests[i], out);
		buf_printf(out, "\n");
	}
	if (!r->dests.nr && r->action == MESH_HTTP_FORWARD)
		buf_printf(out, "%s    no destination: answer 500\n", indent);
}

void http_table_print(const void *image, uint32_t table, const char *indent, struct buf *out)
{
	const struct mesh_http_table *t = http_table_at(image, table);
	const struct mesh_http_host *hosts = AT(struct mesh_http_host, image, t->hosts);

	for (uint32_t i = 0; i < t->hosts.nr; i++) {
		const struct mesh_http_route *routes = AT(struct mesh_http_route, image, hosts[i].routes);

		buf_printf(out, "%s%s %.*s\n", indent, t->flags & MESH_HTTP_TLS ? "TLS name" : "host",
			   STR_ARG(text_at(image, hosts[i].name)));
		for (uint32_t k = 0; k < hosts[i].routes.nr; k++)
			print_route(image, &routes[k], indent, out);
	}
}

const struct mesh_http_table *http_table_at(const void *image, uint32_t table)
{
	return AT(struct mesh_http_table, image, ((const struct mesh_http_image *)image)->tables) + table;
}

void http_cluster_print(const void *image, uint32_t cluster, struct buf *out)
{
	const struct mesh_http_cluster *c =
		AT(struct mesh_http_cluster, image, ((const struct mesh_http_image *)image)->clusters) + cluster;
	static const char *const keys[] = {
		[MESH_HASH_HEADER] = "header", [MESH_HASH_COOKIE] = "cookie", [MESH_HASH_QUERY] = "query parameter"
	};

	if (c->hash > MESH_HASH_SOURCE) {
		buf_printf(out, "; %s of %u, by %s %.*s", c->lb == MESH_LB_RING ? "hash ring" : "Maglev", c->table_size,
			   keys[c->hash], STR_ARG(text_at(image, c->hash_name)));
		if (c->hash_has_ttl)
			buf_printf(out, " for %us", c->hash_ttl_s);
		if (c->hash_path.nr)
			buf_printf(out, " at %.*s", STR_ARG(text_at(image, c->hash_path)));
	}
	if (c->max_pending != UINT32_MAX)
		buf_printf(out, "; at most %u requests waiting", c->max_pending);
	if (c->max_requests != UINT32_MAX)
		buf_printf(out, "; at most %u requests", c->max_requests);
	if (c->max_retries != UINT32_MAX)
		buf_printf(out, "; at most %u retries at a time", c->max_retries);
	if (c->max_requests_per_connection)
		buf_printf(out, "; at most %u requests a connection", c->max_requests_per_connection);
	if (c->idle_timeout_ms) {
		buf_printf(out, "; idle between requests for ");
		add_ms(out, c->idle_timeout_ms);
	}
	if (c->outlier && c->consecutive_5xx)
		buf_printf(out, "; ejected after %u answers of 5xx", c->consecutive_5xx);
	if (c->outlier && c->consecutive_gateway)
		buf_printf(out, "; ejected after %u answers of 502, 503, 504", c->consecutive_gateway);
	if (c->outlier && c->consecutive_local)
		buf_printf(out, "; ejected after %u failures to connect", c->consecutive_local);
}
