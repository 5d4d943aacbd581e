/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers of the proxy's own, and CORS. */
#include "l7/fields.h"

struct reason {
	uint16_t status;
	const char *text;
};

static const struct reason reasons[] = {
	{ 100, "Continue" },
	{ 101, "Switching Protocols" },
	{ 103, "Early Hints" },
	{ 200, "OK" },
	{ 201, "Created" },
	{ 202, "Accepted" },
	{ 204, "No Content" },
	{ 301, "Moved Permanently" },
	{ 302, "Found" },
	{ 303, "See Other" },
	{ 304, "Not Modified" },
	{ 307, "Temporary Redirect" },
	{ 308, "Permanent Redirect" },
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 410, "Gone" },
	{ 411, "Length Required" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 417, "Expectation Failed" },
	{ 418, "I'm a teapot" },
	{ 421, "Misdirected Request" },
	{ 426, "Upgrade Required" },
	{ 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 502, "Bad Gateway" },
	{ 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
};

void status_write(struct buf *out, uint16_t status, struct str reason)
{
	char digits[4] = { (char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10), (char)('0' + status % 10),
			   ' ' };

	for (size_t i = 0; !reason.p && i < sizeof(reasons) / sizeof(*reasons); i++)
		if (reasons[i].status == status)
			reason = str_of(reasons[i].text);
	buf_str(out, STR("HTTP/1.1 "));
	buf_add(out, digits, sizeof(digits));
	buf_str(out, reason);
	buf_add(out, "\r\n", 2);
}

/* ---- CORS (Fetch standard, section 3.2) ---- */

static bool origin_field(const struct http_request *rq, struct str *ret)
{
	const struct head_field *f = head_find(rq->head, rq->p, STR("origin"));

	if (!f || !f->value.len)
		return false;
	*ret = head_str(rq->p, f->value);
	return true;
}

bool cors_origin(const struct http_place *place, const struct http_request *rq, const struct mesh_http_route *r,
		 struct str *ret_origin)
{
	const struct mesh_http_text *o = http_ref(place->image, r->cors.origins);

	if (!r->cors.given || !origin_field(rq, ret_origin))
		return false;
	for (uint32_t i = 0; i < r->cors.origins.nr; i++) {
		struct str text = http_text(place->image, o[i].text);

		if ((o[i].kind == MESH_TEXT_EXACT && str_is(text, "*")) ||
		    text_matches(place->rules, &o[i], text, *ret_origin, true))
			return true;
	}
	return false;
}

bool cors_field(struct str name)
{
	return head_same(name, STR("access-control-allow-origin")) ||
	       head_same(name, STR("access-control-allow-credentials")) ||
	       head_same(name, STR("access-control-expose-headers"));
}

static void origin_write(const struct mesh_http_cors *c, struct str origin, struct buf *out)
{
	field_write(out, STR("access-control-allow-origin"), origin);
	if (c->credentials)
		field_write(out, STR("access-control-allow-credentials"), STR("true"));
}

static void texts_write(const struct http_place *place, struct str name, struct mesh_ref ref, struct buf *out)
{
	const struct mesh_ref *texts = http_ref(place->image, ref);

	for (uint32_t i = 0; i < ref.nr; i++)
		field_write(out, name, http_text(place->image, texts[i]));
}

void cors_write(const struct http_place *place, const struct http_request *rq, const struct mesh_http_route *r,
		struct buf *out)
{
	struct str origin;

	if (!cors_origin(place, rq, r, &origin))
		return;
	origin_write(&r->cors, origin, out);
	texts_write(place, STR("access-control-expose-headers"), r->cors.exposed, out);
}

bool http_preflight(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		    bool keep_alive, struct buf *out)
{
	const struct mesh_http_cors *cors = c->route ? &c->route->cors : NULL;
	const struct head_field *method;
	struct str origin;
	bool known;

	if (!cors || !cors->given || !str_is(head_str(rq->p, rq->head->method), "OPTIONS") ||
	    !origin_field(rq, &origin))
		return false;
	method = head_find(rq->head, rq->p, STR("access-control-request-method"));
	if (!method || !method->value.len)
		return false;
	known = cors_origin(place, rq, c->route, &origin);
	if (!known && cors->forward_unmatched)
		return false;
	status_write(out, 200, (struct str){ 0 });
	if (known) {
		origin_write(cors, origin, out);
		texts_write(place, STR("access-control-allow-methods"), cors->methods, out);
		texts_write(place, STR("access-control-allow-headers"), cors->headers, out);
		if (cors->has_max_age)
			buf_printf(out, "access-control-max-age: %u\r\n", cors->max_age_s);
	}
	buf_str(out, STR("content-length: 0\r\n"));
	connection_write(out, keep_alive, !rq->head->minor);
	buf_add(out, "\r\n", 2);
	return true;
}

/* ---- answers ---- */

void http_own_answer(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		     const struct http_own *o, struct buf *out)
{
	const struct mesh_http_route *r = c ? c->route : NULL;
	/* What the route has for answers is for those that it gives itself or passes on, not for what goes wrong. */
	bool of_route = r && (r->action != MESH_HTTP_FORWARD || c->redirect);
	struct changes ch = { place ? place->image : NULL,
			      { of_route && c->dest ? &c->dest->response : NULL, of_route ? &r->response : NULL } };
	bool bodiless = o->status / 100 == 1 || o->status == 204 || o->status == 304;

	status_write(out, o->status, (struct str){ 0 });
	if (o->location.len)
		field_write(out, STR("location"), o->location);
	if (!bodiless) {
		buf_printf(out, "content-length: %u\r\n", o->body.len);
		if (o->body.len && !changes_drop(&ch, STR("content-type")))
			field_write(out, STR("content-type"), o->type.len ? o->type : STR("text/plain"));
	}
	if (place && r && rq)
		cors_write(place, rq, r, out);
	changes_write(&ch, out);
	if (o->overloaded)
		field_write(out, STR("x-envoy-overloaded"), STR("true"));
	if (o->flags)
		field_write(out, STR("x-tulle-flags"), str_of(o->flags));
	connection_write(out, o->keep_alive, o->http10);
	buf_add(out, "\r\n", 2);
	if (!o->head_only && !bodiless)
		buf_str(out, o->body);
}
