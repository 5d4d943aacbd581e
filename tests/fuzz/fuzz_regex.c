/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes regular expressions: an expression, a zero byte, a text. Law: the machine that tells whether the whole text matches and the one that
 * finds matches within it agree, which know nothing of each other.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *cut = memchr(data, 0, size);
	struct str pattern = { (const char *)data, (uint32_t)(cut ? (size_t)(cut - data) : size) }, text = STR("");
	struct buf err = { 0 }, anchored = { 0 }, out = { 0 };
	struct regex *re, *found;

	if (size > 600)
		return 0;
	if (cut)
		text = (struct str){ (const char *)cut + 1, (uint32_t)(data + size - cut - 1) };
	re = regex_new(pattern, false, &err);
	buf_printf(&anchored, "\\A(?:%.*s)\\z", STR_ARG(pattern));
	found = regex_new((struct str){ anchored.data, (uint32_t)anchored.len }, false, &err);
	if (re && found) {
		regex_replace(found, text, STR("\\\\"), &out);
		/* One match is one backslash; a text that is a backslash may be its own. */
		if (!str_eq(text, STR("\\")) && regex_matches(re, text) != (out.len == 1 && out.data[0] == '\\')) {
			fprintf(stderr, "law broken: \"%s\" and \"%.*s\": \"%s\"\n", anchored.data, STR_ARG(text),
				out.data);
			abort();
		}
	}
	regex_free(re);
	regex_free(found);
	buf_release(&err);
	buf_release(&anchored);
	buf_release(&out);
	return 0;
}
