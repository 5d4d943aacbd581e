/* SPDX-License-Identifier: BSD-2-Clause */
/* get: the documents that meshd has. */
#include "meshctl.h"

int request_resources(struct buf *b, const struct args *a, const char *verb, uint32_t names_min)
{
	const char *ns = a->value[FLAG_NAMESPACE];
	struct str first, kind;
	int slash;

	if (!a->word_nr)
		return usage_error("%s: KIND is missing; `%s all` or for instance `%s virtualservices`", verb, verb,
				   verb);
	first = str_of(a->words[0]);
	slash = str_find(first, '/');
	kind = slash < 0 ? first : str_sub(first, 0, (uint32_t)slash);
	wire_add(b, STR("kind"), kind);
	wire_add(b, STR("namespace"), str_of(a->given & FLAG(ALL_NAMESPACES) ? "" : ns ? ns : "default"));
	for (uint32_t i = slash < 0 ? 1 : 0; i < a->word_nr; i++) {
		struct str name = str_of(a->words[i]);

		if (slash >= 0) {
			if (str_find(name, '/') != slash || !str_eq(str_sub(name, 0, (uint32_t)slash), kind))
				return usage_error("%s: `%s`: in the form KIND/NAME all names are of one kind", verb,
						   a->words[i]);
			name = str_sub(name, (uint32_t)slash + 1, name.len);
		}
		if (!name.len)
			return usage_error("%s: a NAME is empty", verb);
		wire_add(b, STR("name"), name);
	}
	if (slash < 0 && a->word_nr - 1 < names_min)
		return usage_error("%s: NAME is missing: %s %s NAME...", verb, verb, a->words[0]);
	return EXIT_DONE;
}

int verb_get(struct args *a)
{
	struct buf request = { 0 };
	int rc;

	if ((a->given & FLAG(ALL_NAMESPACES)) && (a->given & FLAG(NAMESPACE)))
		return usage_error("get: choose one of --namespace and --all-namespaces");
	request_begin(&request, a, WIRE_GET);
	rc = request_resources(&request, a, "get", 0);
	if (rc) {
		buf_release(&request);
		return rc;
	}
	return request_run(a, &request);
}
