/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reports of checks that run after a document is decoded: they name a field by its path, and the place is
 * looked up in the tree only then. Knows no kind.
 */
#include <stdio.h>
#include <stdlib.h>

#include "config/validate.h"

#define PATH_MAX_LEN 512

/* Istio's fields may be given by their protobuf names: traffic_policy is trafficPolicy. */
static bool same_field(struct str given, struct str name)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < given.len; i++, at++) {
		char c = given.p[i];

		if (c == '_' && i + 1 < given.len) {
			c = given.p[++i];
			c = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
		}
		if (at >= name.len || name.p[at] != c)
			return false;
	}
	return at == name.len;
}

static const struct ynode *map_value(const struct check *c, const struct ynode *map, struct str key,
				     const struct ynode **ret_key)
{
	if (!map || map->kind != YNODE_MAP)
		return NULL;
	for (uint32_t i = 0; i < map->nr; i++) {
		struct str given = map->items[2 * i]->scalar;

		if (!str_eq(given, key) && !(c->d->proto_names && same_field(given, key)))
			continue;
		if (ret_key)
			*ret_key = map->items[2 * i];
		return map->items[2 * i + 1];
	}
	return NULL;
}

struct found {
	const struct ynode *node; /* as far as the path exists */
	const struct ynode *key;  /* the one it stands under; NULL: in a list, or the root */
	bool whole;		  /* the path exists to its end */
};

static struct found find(const struct check *c, const char *path)
{
	struct found f = { .node = c->root };

	while (*path) {
		size_t len = strcspn(path, ".[");
		const struct ynode *next = NULL, *key = NULL;

		if (*path == '[') {
			char *end;
			unsigned long index = strtoul(path + 1, &end, 10);

			if (f.node->kind == YNODE_SEQ && index < f.node->nr)
				next = f.node->items[index];
			path = *end == ']' ? end + 1 : end;
		} else {
			next = map_value(c, f.node, (struct str){ path, (uint32_t)len }, &key);
			path += len;
		}
		if (!next)
			return f;
		f.node = next;
		f.key = key;
		if (*path == '.')
			path++;
	}
	f.whole = true;
	return f;
}

/* A value, but the name of a list or object: its first entry is not what is wrong. */
static struct place place_of(struct found f)
{
	bool large = f.node->kind == YNODE_MAP || f.node->kind == YNODE_SEQ;
	const struct ynode *n = f.whole && f.key && large ? f.key : f.node;

	return (struct place){ n->line, n->column };
}

const struct ynode *check_node(const struct check *c, const char *path)
{
	struct found f = find(c, path);

	return f.whole ? f.node : NULL;
}

bool check_has(const struct check *c, const char *path_fmt, ...)
{
	char path[PATH_MAX_LEN];
	const struct ynode *n;
	va_list ap;

	va_start(ap, path_fmt);
	vsnprintf(path, sizeof(path), path_fmt, ap);
	va_end(ap);
	n = check_node(c, path);
	return n && n->kind != YNODE_NULL;
}

/* The decoder said something about this very field already (missing, mistyped): what follows from that is no news. */
static bool reported(const struct check *c, const char *path)
{
	const struct diags *ds = c->d->diags;

	/* What is being read now was reported last. */
	for (uint32_t i = ds->nr;
	     i-- && ds->items[i].at.document == c->d->document && ds->items[i].at.item == c->d->item;)
		if (ds->items[i].level == DIAG_ERROR && str_is(ds->items[i].field, path) &&
		    str_eq(ds->items[i].at.file, c->d->file))
			return true;
	return false;
}

/* Reports an error at path, and at key if that is one of the map there. */
static void report(const struct check *c, const char *path, struct str key, struct str message, const char *hint)
{
	char whole[PATH_MAX_LEN + 256];
	struct found f;
	int len;

	len = snprintf(whole, sizeof(whole), "%s", path);
	if (key.p)
		snprintf(whole + len, sizeof(whole) - (size_t)len, "[%.*s]", STR_ARG(key));
	if (c->d->errors >= DIAG_PER_DOCUMENT) {
		/* Counted, but not kept: looking for its place would be in vain. */
		decode_error_at(c->d, (struct place){ 0 }, whole, "", "%.*s", STR_ARG(message));
		return;
	}
	if (reported(c, whole))
		return;
	f = find(c, path);
	if (key.p && f.whole)
		map_value(c, f.node, key, &f.key);
	decode_error_at(c->d, place_of(f), whole, hint ? hint : "", "%.*s", STR_ARG(message));
}

void check_fail(const struct check *c, struct str message, const char *hint, const char *path_fmt, ...)
{
	char path[PATH_MAX_LEN];
	va_list ap;

	va_start(ap, path_fmt);
	vsnprintf(path, sizeof(path), path_fmt, ap);
	va_end(ap);
	report(c, path, (struct str){ 0 }, message, hint);
}

void check_warn(const struct check *c, struct str message, const char *hint, const char *path_fmt, ...)
{
	char path[PATH_MAX_LEN];
	va_list ap;

	va_start(ap, path_fmt);
	vsnprintf(path, sizeof(path), path_fmt, ap);
	va_end(ap);
	decode_warn_at(c->d, place_of(find(c, path)), path, hint ? hint : "", "%.*s", STR_ARG(message));
}

void check_fail_key(const struct check *c, struct str message, const char *hint, struct str key, const char *path_fmt,
		    ...)
{
	char path[PATH_MAX_LEN];
	va_list ap;

	va_start(ap, path_fmt);
	vsnprintf(path, sizeof(path), path_fmt, ap);
	va_end(ap);
	report(c, path, key, message, hint);
}

void check_labels(const struct check *c, const struct kvs *labels, const char *path)
{
	for (uint32_t i = 0; i < labels->nr; i++) {
		const struct kv *kv = &labels->v[i];
		const char *bad = label_key_bad(kv->key);

		if (bad)
			check_fail_key(c, CHECK_TEXT(c, "the key of a label %s", bad), NULL, kv->key, "%s", path);
		bad = label_value_bad(kv->val);
		if (bad)
			check_fail_key(c, CHECK_TEXT(c, "the value \"%.*s\" of a label %s", STR_ARG(kv->val), bad),
				       NULL, kv->key, "%s", path);
	}
}

void check_selector(const struct check *c, const struct kvs *labels, uint32_t max, const char *path)
{
	if (!labels->nr)
		check_warn(c, STR("a selector without labels selects everything in its namespace"), NULL, "%s", path);
	if (labels->nr > max)
		check_fail(c, CHECK_TEXT(c, "must have at most %u entries", max), NULL, "%s", path);
	for (uint32_t i = 0; i < labels->nr; i++) {
		const struct kv *kv = &labels->v[i];

		if (!kv->key.len)
			check_fail_key(c, STR("the key of a label must not be empty"), NULL, kv->key, "%s", path);
		if (str_find(kv->key, '*') >= 0 || str_find(kv->val, '*') >= 0)
			check_fail_key(c, STR("a selector has no wildcards"), NULL, kv->key, "%s", path);
		if (kv->val.len > 63)
			check_fail_key(c, STR("the value of a label must have at most 63 characters"), NULL, kv->key,
				       "%s", path);
	}
}

static const char *export_bad(struct str s, bool none_ok)
{
	if (str_is(s, "*") || str_is(s, "."))
		return NULL;
	if (str_is(s, "~"))
		return none_ok ? NULL : "\"~\" (to no one) is not allowed for this kind";
	return istio_label_bad(s) ? "must be \"*\", \".\" or the name of a namespace" : NULL;
}

void check_export_to(const struct check *c, const struct strs *export_to, bool none_ok)
{
	for (uint32_t i = 0; i < export_to->nr; i++) {
		struct str s = export_to->v[i], key = str_is(s, ".") ? c->ns : s;
		const char *bad = export_bad(s, none_ok);

		if (bad)
			check_fail(c, str_of(bad), NULL, "spec.exportTo[%u]", i);
		else if (export_to->nr > 1 && (str_is(s, "*") || str_is(s, "~")))
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" cannot stand beside other values", STR_ARG(s)), NULL,
				   "spec.exportTo[%u]", i);
		for (uint32_t j = 0; !bad && j < i; j++) {
			struct str other = str_is(export_to->v[j], ".") ? c->ns : export_to->v[j];

			if (str_eq(key, other)) {
				check_fail(c, CHECK_TEXT(c, "duplicate value \"%.*s\"", STR_ARG(s)), NULL,
					   "spec.exportTo[%u]", i);
				break;
			}
		}
	}
}

void check_gateway_names(const struct check *c, const struct strs *gateways, const char *path)
{
	for (uint32_t i = 0; i < gateways->nr; i++) {
		struct str s = gateways->v[i];
		int slash = str_find(s, '/');
		const char *bad;

		if (slash < 0) {
			bad = fqdn_bad(s);
			if (bad)
				check_fail(c, CHECK_TEXT(c, "the name of a gateway %s", bad), NULL, "%s[%u]", path, i);
			else if (str_find(s, '.') >= 0)
				check_warn(c, STR("old form of a gateway's name"), "write <namespace>/<name>", "%s[%u]",
					   path, i);
			continue;
		}
		bad = istio_label_bad(str_sub(s, 0, (uint32_t)slash));
		if (bad)
			check_fail(c, CHECK_TEXT(c, "the namespace of a gateway %s", bad), NULL, "%s[%u]", path, i);
		bad = istio_label_bad(str_sub(s, (uint32_t)slash + 1, s.len));
		if (bad)
			check_fail(c, CHECK_TEXT(c, "the name of a gateway %s", bad), NULL, "%s[%u]", path, i);
	}
}

bool check_cidr(const struct check *c, struct str text, struct cidr *ret, const char *path_fmt, ...)
{
	char path[PATH_MAX_LEN];
	va_list ap;

	if (addr_parse_cidr(text, true, &ret->addr, &ret->prefix_len))
		return true;
	va_start(ap, path_fmt);
	vsnprintf(path, sizeof(path), path_fmt, ap);
	va_end(ap);
	check_fail(c, CHECK_TEXT(c, "\"%.*s\" is neither an IP address nor a CIDR block", STR_ARG(text)), NULL, "%s",
		   path);
	return false;
}
