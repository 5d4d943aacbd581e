/* SPDX-License-Identifier: BSD-2-Clause */
/* What consistent hashes are taken of. */
#include <stdio.h>

#include "l7/rules.h"

/* Fibonacci's finish spreads FNV's upper bits (which decide on a ring) over all of a short text. */
static uint64_t mixed(uint64_t h)
{
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ull;
	h = (h ^ h >> 27) * 0x94d049bb133111ebull;
	return h ^ h >> 31;
}

/* The value of the first cookie of that name (RFC 6265, section 5.4), without quotes around it. */
static bool cookie_find(const struct http_request *rq, struct str name, struct str *ret)
{
	for (uint32_t i = 0; i < rq->head->field_nr; i++) {
		struct str list = head_str(rq->p, rq->head->fields[i].value);

		if (!head_same(head_str(rq->p, rq->head->fields[i].name), STR("cookie")))
			continue;
		while (list.len) {
			int end = str_find(list, ';'), eq;
			struct str one = str_sub(list, 0, end < 0 ? list.len : (uint32_t)end);

			while (one.len && (*one.p == ' ' || *one.p == '\t'))
				one = str_sub(one, 1, one.len);
			while (one.len && (one.p[one.len - 1] == ' ' || one.p[one.len - 1] == '\t'))
				one.len--;
			eq = str_find(one, '=');
			if (eq >= 0 && str_eq(str_sub(one, 0, (uint32_t)eq), name)) {
				*ret = str_sub(one, (uint32_t)eq + 1, one.len);
				if (ret->len > 1 && ret->p[0] == '"' && ret->p[ret->len - 1] == '"')
					*ret = str_sub(*ret, 1, ret->len - 2);
				return true;
			}
			list = str_sub(list, end < 0 ? list.len : (uint32_t)end + 1, list.len);
		}
	}
	return false;
}

bool http_hash(const struct http_place *place, const struct http_request *rq, const struct mesh_http_cluster *c,
	       uint64_t *ret)
{
	struct str name = http_text(place->image, c->hash_name), value = STR(""), query;
	struct buf joined = { 0 };
	bool there = false;

	switch (c->hash) {
	case MESH_HASH_SOURCE:
		value = (struct str){ (const char *)&place->client_addr, sizeof(place->client_addr) };
		there = true;
		break;
	case MESH_HASH_HEADER:
		there = field_find(rq, name, &joined, &value);
		break;
	case MESH_HASH_COOKIE:
		there = cookie_find(rq, name, &value);
		break;
	case MESH_HASH_QUERY:
		request_path(rq, &query);
		there = query_find(query, name, &value);
		break;
	}
	if (there)
		*ret = mixed(str_hash(value));
	buf_release(&joined);
	return there;
}

bool http_cookie_make(const struct http_place *place, const struct mesh_http_cluster *c, uint64_t draw, struct buf *out,
		      uint64_t *ret)
{
	struct str path = http_text(place->image, c->hash_path);
	char value[17];

	if (c->hash != MESH_HASH_COOKIE || !c->hash_has_ttl)
		return false;
	snprintf(value, sizeof(value), "%016llx", (unsigned long long)draw);
	buf_str(out, http_text(place->image, c->hash_name));
	buf_printf(out, "=\"%s\"", value);
	if (c->hash_ttl_s)
		buf_printf(out, "; Max-Age=%u", c->hash_ttl_s);
	if (path.len)
		buf_printf(out, "; Path=%.*s", STR_ARG(path));
	buf_str(out, STR("; HttpOnly"));
	*ret = mixed(str_hash(str_of(value)));
	return true;
}
