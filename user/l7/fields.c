/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Heads as they are passed on: written anew from what was read, never copied as a whole. Fields for one hop end here. Changes by rules: those
 * of the destination first, then the route's, so that of two that set one field the route's holds, as with Envoy.
 */
#include "l7/fields.h"

#include "base/addr.h"

void field_write(struct buf *out, struct str name, struct str value)
{
	char *at = buf_extend(out, name.len + value.len + 4ul);

	memcpy(at, name.p, name.len);
	at += name.len;
	*at++ = ':';
	*at++ = ' ';
	if (value.len)
		memcpy(at, value.p, value.len);
	at += value.len;
	*at++ = '\r';
	*at = '\n';
}

bool changes_drop(const struct changes *c, struct str name)
{
	for (int s = 0; s < 2; s++) {
		const struct mesh_http_fields *f = c->v[s];
		const struct mesh_ref *remove;
		const struct mesh_http_field *set;

		if (!f || (!f->remove.nr && !f->set.nr))
			continue;
		remove = http_ref(c->image, f->remove);
		for (uint32_t i = 0; i < f->remove.nr; i++)
			if (head_same(http_text(c->image, remove[i]), name))
				return true;
		set = http_ref(c->image, f->set);
		for (uint32_t i = 0; i < f->set.nr; i++)
			if (head_same(http_text(c->image, set[i].name), name))
				return true;
	}
	return false;
}

/* A later side removes or sets what an earlier one has set or added. */
static bool overruled(const struct changes *c, int side, struct str name)
{
	struct changes later = { .image = c->image, .v = { side ? NULL : c->v[1], NULL } };

	return changes_drop(&later, name);
}

void changes_write(const struct changes *c, struct buf *out)
{
	for (int s = 0; s < 2; s++) {
		const struct mesh_http_fields *f = c->v[s];
		const struct mesh_ref *lists[2];

		if (!f)
			continue;
		lists[0] = &f->set;
		lists[1] = &f->add;
		for (int l = 0; l < 2; l++) {
			const struct mesh_http_field *v = http_ref(c->image, *lists[l]);

			for (uint32_t i = 0; i < lists[l]->nr; i++) {
				struct str name = http_text(c->image, v[i].name);

				/* Of one list that sets a field twice the last holds. */
				for (uint32_t k = i + 1; l == 0 && k < f->set.nr && name.len; k++)
					if (str_eq(http_text(c->image, v[k].name), name))
						name.len = 0;
				if (name.len && !overruled(c, s, name))
					field_write(out, name, http_text(c->image, v[i].value));
			}
		}
	}
}

/* Fields that the proxy sets itself: what comes in their place is not passed on. */
static bool own_field(const struct http_place *place, struct str name)
{
	bool edge = place->table && place->table->flags & MESH_HTTP_EDGE;

	if (name.len < 8 || (name.p[0] | 0x20) != 'x')
		return false;
	if (head_same(name, STR("x-envoy-attempt-count")) || head_same(name, STR("x-envoy-expected-rq-timeout-ms")) ||
	    head_same(name, STR("x-envoy-original-path")) || head_same(name, STR("x-forwarded-for")))
		return true;
	/* Nobody outside may speak to the proxies inside. */
	return edge && (head_same(name, STR("x-forwarded-proto")) || head_same(str_sub(name, 0, 8), STR("x-envoy-")));
}

/* The rewriting that holds: the destination's where it changes anything. */
static const struct mesh_http_rewrite *rewriting(const struct http_choice *c)
{
	if (c->dest && (c->dest->rewrite.change != MESH_PATH_KEEP || c->dest->rewrite.authority.nr))
		return &c->dest->rewrite;
	return c->route ? &c->route->rewrite : NULL;
}

struct str authority_sent(const struct http_place *place, const struct http_request *rq, const struct http_choice *c)
{
	const struct mesh_http_rewrite *w = rewriting(c);
	struct str a = head_str(rq->p, rq->head->authority);

	if (w && w->authority.nr)
		return http_text(place->image, w->authority);
	/* HTTP/1.0 without one */
	return !a.len && c->cluster ? http_text(place->image, c->cluster->host) : a;
}

static void write_authority(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
			    bool mirrored, struct buf *out)
{
	struct str a = authority_sent(place, rq, c), name, rest;

	buf_add(out, "Host: ", 6);
	name = mirrored ? authority_name(a) : a;
	rest = str_sub(a, name.len, a.len);
	buf_str(out, name);
	/* An address in brackets is no name that could end otherwise. */
	if (mirrored && name.len && name.p[0] != '[') {
		buf_str(out, STR("-shadow"));
		rest = rest.len && rest.p[0] == '.' ? str_sub(rest, 1, rest.len) : rest;
	}
	buf_str(out, rest);
	buf_add(out, "\r\n", 2);
}

bool path_sent(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
	       struct buf *out)
{
	const struct mesh_http_rewrite *w = rewriting(c);
	struct str query, path = request_path(rq, &query);
	bool changed = w && w->change != MESH_PATH_KEEP && path.len && path.p[0] == '/';

	if (changed)
		rewrite_path(place, w, c->match, path, out);
	else
		buf_str(out, path);
	return changed;
}

/* The first line; true when the path is not the one that was asked for. */
static bool write_target(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
			 struct buf *out)
{
	struct str query;
	bool changed = false;

	request_path(rq, &query);
	buf_str(out, head_str(rq->p, rq->head->method));
	buf_add(out, " ", 1);
	if (rq->head->form == HEAD_AUTHORITY)
		buf_str(out, head_str(rq->p, rq->head->target));
	else
		changed = path_sent(place, rq, c, out);
	if (query.p) {
		buf_add(out, "?", 1);
		buf_str(out, query);
	}
	buf_str(out, STR(" HTTP/1.1\r\n"));
	return changed;
}

/* A field of the proxy's own, unless rules remove it or set it. */
static void write_own(const struct changes *ch, struct str name, struct str value, struct buf *out)
{
	if (!changes_drop(ch, name))
		field_write(out, name, value);
}

static void write_number(const struct changes *ch, struct str name, uint32_t value, struct buf *out)
{
	char text[10];
	uint32_t at = sizeof(text);

	do {
		text[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	write_own(ch, name, (struct str){ text + at, (uint32_t)sizeof(text) - at }, out);
}

/* The client behind those that the request names already, whom nobody at the edge believes. */
static void write_forwarded_for(const struct http_place *place, const struct http_request *rq, bool edge,
				const struct changes *ch, struct buf *out)
{
	static const struct str name = { "x-forwarded-for", 15 };
	char text[ADDR_TEXT_MAX];
	struct addr client;

	if (changes_drop(ch, name))
		return;
	buf_str(out, name);
	buf_add(out, ": ", 2);
	for (uint32_t i = 0; i < rq->head->field_nr && !edge; i++) {
		const struct head_field *field = &rq->head->fields[i];

		if (!field->value.len || head_hop_by_hop(field) || !head_same(head_str(rq->p, field->name), name))
			continue;
		buf_str(out, head_str(rq->p, field->value));
		buf_add(out, ", ", 2);
	}
	memcpy(&client, &place->client_addr, sizeof(client));
	buf_str(out, str_of(addr_text(&client, text)));
	buf_add(out, "\r\n", 2);
}

/* Of the client: what x-forwarded-for and x-forwarded-proto become. has_proto: the request has the latter. */
static void write_forwarded(const struct http_place *place, const struct http_request *rq, const struct changes *ch,
			    bool has_proto, struct buf *out)
{
	bool edge = place->table && place->table->flags & MESH_HTTP_EDGE;

	write_forwarded_for(place, rq, edge, ch, out);
	if (edge || !has_proto)
		write_own(ch, STR("x-forwarded-proto"), rq->scheme, out);
}

bool field_sent(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		struct str name, struct buf *joined, struct str *ret)
{
	struct changes ch = { place->image,
			      { c->dest ? &c->dest->request : NULL, c->route ? &c->route->request : NULL } };
	struct buf lines = { 0 }, all = { 0 };
	struct str rest;
	bool there;

	if (head_same(name, STR("host"))) {
		*ret = authority_sent(place, rq, c);
		return ret->len > 0;
	}
	there = !changes_drop(&ch, name) && !own_field(place, name) && field_find(rq, name, joined, ret);
	if (head_same(str_sub(name, 0, 12), STR("x-forwarded-")))
		write_forwarded(place, rq, &ch, there, &lines);
	changes_write(&ch, &lines);
	rest = (struct str){ lines.data, (uint32_t)lines.len };
	if (there && rest.len)
		buf_str(&all, *ret);
	while (rest.len) {
		struct str line = str_sub(rest, 0, (uint32_t)str_find(rest, '\r'));
		uint32_t colon = (uint32_t)str_find(line, ':');

		rest = str_sub(rest, line.len + 2, rest.len);
		if (!head_same(str_sub(line, 0, colon), name))
			continue;
		if (there)
			buf_add(&all, ",", 1);
		buf_str(&all, str_sub(line, colon + 2, line.len));
		there = true;
	}
	if (there && lines.len) {
		buf_clear(joined);
		buf_add(joined, all.data, all.len);
		*ret = (struct str){ joined->data, (uint32_t)joined->len };
	}
	buf_release(&lines);
	buf_release(&all);
	return there;
}

static void write_forwarding(const struct http_place *place, const struct http_request *rq,
			     const struct http_forward *f, const struct changes *ch, const bool *has, struct buf *out)
{
	write_forwarded(place, rq, ch, has[0], out);
	if (!has[1] && f->request_id.len)
		write_own(ch, STR("x-request-id"), f->request_id, out);
	if (f->attempt)
		write_number(ch, STR("x-envoy-attempt-count"), f->attempt, out);
	if (f->timeout_ms)
		write_number(ch, STR("x-envoy-expected-rq-timeout-ms"), f->timeout_ms, out);
}

void http_request_head(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		       const struct http_forward *f, struct buf *out)
{
	struct changes ch = { place->image,
			      { c->dest ? &c->dest->request : NULL, c->route ? &c->route->request : NULL } };
	bool changed = write_target(place, rq, c, out), upgrade = f->upgrade && rq->head->upgrade;
	bool has[2] = { false, false };

	write_authority(place, rq, c, f->mirrored, out);
	for (uint32_t i = 0; i < rq->head->field_nr; i++) {
		const struct head_field *field = &rq->head->fields[i];
		struct str name = head_str(rq->p, field->name);

		if (field->known == HEAD_UPGRADE && upgrade)
			field_write(out, STR("Upgrade"), head_str(rq->p, field->value));
		if (field->known == HEAD_HOST || head_hop_by_hop(field) || own_field(place, name))
			continue;
		has[0] |= head_same(name, STR("x-forwarded-proto"));
		has[1] |= head_same(name, STR("x-request-id"));
		if ((f->mirrored && field->known == HEAD_EXPECT) || changes_drop(&ch, name))
			continue;
		field_write(out, name, head_str(rq->p, field->value));
	}
	if (changed)
		write_own(&ch, STR("x-envoy-original-path"), head_str(rq->p, rq->head->path), out);
	write_forwarding(place, rq, f, &ch, has, out);
	changes_write(&ch, out);
	if (rq->head->body == HEAD_BODY_CHUNKED)
		buf_str(out, STR("Transfer-Encoding: chunked\r\n"));
	if (upgrade)
		buf_str(out, STR("Connection: upgrade\r\n"));
	else if (!f->keep_alive)
		buf_str(out, STR("Connection: close\r\n"));
	buf_add(out, "\r\n", 2);
}

/* ---- answers ---- */

void connection_write(struct buf *out, bool keep_alive, bool http10)
{
	if (!keep_alive)
		buf_str(out, STR("Connection: close\r\n"));
	else if (http10)
		buf_str(out, STR("Connection: keep-alive\r\n"));
}

void http_answer_head(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		      const struct http_answer *a, struct buf *out)
{
	const struct head *h = a->head;
	struct changes ch = { place->image,
			      { c->dest ? &c->dest->response : NULL, c->route ? &c->route->response : NULL } };
	bool interim = h->status / 100 == 1, upgrade = h->status == 101;
	bool chunked = !interim && (a->chunked || (h->body == HEAD_BODY_CHUNKED && !a->http10));
	struct str origin;
	bool cors = !interim && c->route && cors_origin(place, rq, c->route, &origin);

	if (interim && !upgrade)
		ch.v[0] = ch.v[1] = NULL;
	status_write(out, h->status, head_str(a->p, h->reason));
	for (uint32_t i = 0; i < h->field_nr; i++) {
		const struct head_field *field = &h->fields[i];
		struct str name = head_str(a->p, field->name);

		if (field->known == HEAD_UPGRADE && upgrade)
			field_write(out, STR("Upgrade"), head_str(a->p, field->value));
		if (head_hop_by_hop(field) || (chunked && field->known == HEAD_CONTENT_LENGTH) ||
		    (cors && cors_field(name)) || changes_drop(&ch, name))
			continue;
		field_write(out, name, head_str(a->p, field->value));
	}
	if (cors)
		cors_write(place, rq, c->route, out);
	if (!interim && a->set_cookie.len)
		field_write(out, STR("set-cookie"), a->set_cookie);
	changes_write(&ch, out);
	if (chunked)
		buf_str(out, STR("Transfer-Encoding: chunked\r\n"));
	if (upgrade)
		buf_str(out, STR("Connection: upgrade\r\n"));
	else if (!interim)
		connection_write(out, a->keep_alive, a->http10);
	buf_add(out, "\r\n", 2);
}
