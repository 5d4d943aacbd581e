/* SPDX-License-Identifier: BSD-2-Clause */
/* Paths as rewriting makes them, and where redirects lead to. */
#include "l7/rules.h"

static struct str without_slashes(struct str s)
{
	while (s.len && s.p[s.len - 1] == '/')
		s.len--;
	return s;
}

/* Length of the part of the path that the match is about. */
static uint32_t matched_len(const struct http_place *place, const struct mesh_http_match *m, struct str path)
{
	struct str text = m ? http_text(place->image, m->path.text) : STR("");

	switch (m && !m->path.invert ? m->path.kind : MESH_TEXT_ANY) {
	case MESH_TEXT_PATH_PREFIX:
		text = without_slashes(text);
		/* fall through */
	case MESH_TEXT_PREFIX:
		return text.len;
	case MESH_TEXT_ANY:
	case MESH_TEXT_PRESENT:
		return path.len && path.p[0] == '/'; /* as the prefix "/" */
	default:
		return path.len;
	}
}

/* The table of Gateway API's HTTPPathModifier: one "/" between the new prefix and what is left of the path. */
static void replace_prefix(struct str with, struct str rest, struct buf *out)
{
	buf_str(out, without_slashes(with));
	if (rest.len && rest.p[0] != '/')
		buf_add(out, "/", 1);
	buf_str(out, rest);
}

void rewrite_path(const struct http_place *place, const struct mesh_http_rewrite *w, const struct mesh_http_match *m,
		  struct str path, struct buf *out)
{
	struct str with = http_text(place->image, w->path);
	struct buf made = { 0 };
	uint32_t matched;

	switch (w->change) {
	case MESH_PATH_KEEP:
		buf_str(out, path);
		return;
	case MESH_PATH_FULL:
		buf_str(&made, with);
		break;
	case MESH_PATH_REGEX:
		regex_replace(offset_map_get(&place->rules->regexes, offset_key(rules_offset(place->rules, w), 0)),
			      path, with, &made);
		break;
	default:
		matched = matched_len(place, m, path);
		if (w->change == MESH_PATH_PREFIX) {
			replace_prefix(with, str_sub(path, matched, path.len), &made);
		} else {
			buf_str(&made, with);
			buf_str(&made, str_sub(path, matched, path.len));
		}
	}
	/* A target begins with "/". */
	if (!made.len || made.data[0] != '/')
		buf_add(out, "/", 1);
	buf_add(out, made.data, made.len);
	buf_release(&made);
}

static uint16_t default_port(struct str scheme)
{
	return str_is(scheme, "https") ? 443 : 80;
}

/* The name with the brackets of an address, without its port. */
static struct str host_of(struct str authority)
{
	for (uint32_t i = authority.len; i && authority.p[i - 1] != ']'; i--)
		if (authority.p[i - 1] == ':')
			return str_sub(authority, 0, i - 1);
	return authority;
}

static bool port_is(struct str authority, uint16_t port)
{
	struct str host = host_of(authority);
	uint64_t given;

	return host.len < authority.len &&
	       str_to_u64(str_sub(authority, host.len + 1, authority.len), UINT16_MAX, &given) && given == port;
}

static void location_authority(const struct http_place *place, const struct mesh_http_redirect *d, struct str asked,
			       struct str from_scheme, struct str scheme, struct buf *out)
{
	struct str authority = d->to.authority.nr ? http_text(place->image, d->to.authority) : asked;
	uint16_t port = d->port_kind == MESH_PORT_GIVEN ? d->port : place->dialled_port;

	switch (d->port_kind) {
	case MESH_PORT_KEEP:
		/* The port that the old scheme has by default says nothing under the new one. */
		if (!d->to.authority.nr && !str_eq(scheme, from_scheme) &&
		    port_is(authority, default_port(from_scheme)))
			authority = host_of(authority);
		buf_str(out, authority);
		return;
	case MESH_PORT_DEFAULT:
		buf_str(out, host_of(authority));
		return;
	default:
		buf_str(out, host_of(authority));
		if (port != default_port(scheme))
			buf_printf(out, ":%u", port);
	}
}

void http_location(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		   struct buf *out)
{
	const struct mesh_http_redirect *d = c->redirect;
	struct str scheme = d->scheme.nr ? http_text(place->image, d->scheme) : rq->scheme, query;
	struct str path = request_path(rq, &query), target;
	size_t begin;

	buf_str(out, scheme);
	buf_str(out, STR("://"));
	location_authority(place, d, head_str(rq->p, rq->head->authority), rq->scheme, scheme, out);
	begin = out->len;
	rewrite_path(place, &d->to, c->match, path.len && path.p[0] == '/' ? path : STR("/"), out);
	/* A path that brings a query of its own takes the place of both. */
	target = (struct str){ out->data + begin, (uint32_t)(out->len - begin) };
	if (query.p && str_find(target, '?') < 0) {
		buf_add(out, "?", 1);
		buf_str(out, query);
	}
}
