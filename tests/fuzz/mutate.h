/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A mutator that knows lines and YAML documents: it copies, drops, moves and re-indents lines, swaps documents, and replaces
 * words by words of the field tables (the dictionary named by TULLE_FUZZ_DICT, in libFuzzer's format). Deterministic in `seed`.
 * Nothing here knows the code under test.
 */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line of its own that cuts an input: what follows is applied to, or removed from, what stands before. */
#define MUTATE_PUT "#%%put\n"
#define MUTATE_DEL "#%%del\n"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed);

static char *mutate_words[4096];
static uint32_t mutate_word_nr;

static void __attribute__((unused)) mutate_init(void)
{
	const char *path = getenv("TULLE_FUZZ_DICT");
	FILE *f = path ? fopen(path, "r") : NULL;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *begin = strchr(line, '"'), *end = strrchr(line, '"');

		if (line[0] == '#' || !begin || end <= begin || strchr(begin, '\\'))
			continue;
		*end = 0;
		if (mutate_word_nr < sizeof(mutate_words) / sizeof(*mutate_words))
			mutate_words[mutate_word_nr++] = strdup(begin + 1);
	}
	if (f)
		fclose(f);
}

static uint32_t mutate_next(uint64_t *rng)
{
	*rng = *rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*rng >> 33);
}

/* Replaces data[at, at+old) by `new`; the new size, or the old one when it does not fit. */
static size_t mutate_splice(uint8_t *data, size_t size, size_t max, size_t at, size_t old, const void *new, size_t len)
{
	if (size - old + len > max)
		return size;
	memmove(data + at + len, data + at + old, size - at - old);
	memcpy(data + at, new, len);
	return size - old + len;
}

/* A random line: its first byte and length with the newline. */
static size_t mutate_line(const uint8_t *data, size_t size, uint64_t *rng, size_t *ret_len)
{
	size_t at = mutate_next(rng) % size, end = at;

	while (at && data[at - 1] != '\n')
		at--;
	while (end < size && data[end] != '\n')
		end++;
	*ret_len = end + (end < size) - at;
	return at;
}

/* Grows a line to the lines below it that stand deeper: a YAML block. */
static size_t mutate_block(const uint8_t *data, size_t size, size_t at, size_t len)
{
	size_t indent = 0, end = at + len;

	while (at + indent < size && data[at + indent] == ' ')
		indent++;
	while (end < size) {
		size_t deep = 0, eol = end;

		while (end + deep < size && data[end + deep] == ' ')
			deep++;
		while (eol < size && data[eol] != '\n')
			eol++;
		if (deep <= indent)
			break;
		end = eol + (eol < size);
	}
	return end - at;
}

/* A random document: from behind one "---" line to the next. */
static size_t mutate_document(const uint8_t *data, size_t size, uint64_t *rng, size_t *ret_len)
{
	size_t at = mutate_next(rng) % size, end;

	while (at && !(at + 4 <= size && (at == 0 || data[at - 1] == '\n') && !memcmp(data + at, "---", 3)))
		at--;
	for (end = at + 1; end < size; end++)
		if (data[end - 1] == '\n' && size - end >= 3 && !memcmp(data + end, "---", 3))
			break;
	*ret_len = end > size ? size - at : end - at;
	return at;
}

/* Copies [from, from+len) to a line start elsewhere. */
static size_t mutate_copy(uint8_t *data, size_t size, size_t max, size_t from, size_t len, uint64_t *rng)
{
	uint8_t *copy = malloc(len + 1);
	size_t at, unused;

	memcpy(copy, data + from, len);
	copy[len] = '\n';
	at = mutate_line(data, size, rng, &unused);
	size = mutate_splice(data, size, max, at, 0, copy, len && copy[len - 1] == '\n' ? len : len + 1);
	free(copy);
	return size;
}

/* A word: letters, digits and what names are made of. */
static size_t mutate_word(const uint8_t *data, size_t size, uint64_t *rng, size_t *ret_len)
{
	size_t at = mutate_next(rng) % size, end;

	while (at < size && !isalnum(data[at]))
		at++;
	while (at && at < size && (isalnum(data[at - 1]) || strchr("-./_", data[at - 1])))
		at--;
	for (end = at; end < size && data[end] && (isalnum(data[end]) || strchr("-./_", data[end])); end++)
		;
	*ret_len = end - at;
	return at;
}

/* Replaces a word by a word of the dictionary, or by another word of the same input. */
static size_t mutate_replace(uint8_t *data, size_t size, size_t max, uint64_t *rng)
{
	size_t len, other_len, at = mutate_word(data, size, rng, &len), other;
	char text[256];

	if (mutate_word_nr && mutate_next(rng) % 2) {
		const char *word = mutate_words[mutate_next(rng) % mutate_word_nr];

		return mutate_splice(data, size, max, at, len, word, strlen(word));
	}
	other = mutate_word(data, size, rng, &other_len);
	if (!other_len || other_len > sizeof(text))
		return size;
	memcpy(text, data + other, other_len);
	return mutate_splice(data, size, max, at, len, text, other_len);
}

static size_t mutate_number(uint8_t *data, size_t size, size_t max, uint64_t *rng)
{
	static const char *const numbers[] = {
		"0",   "1",	"-1",	 "2",	       "99",	     "100",	   "101",
		"80",  "65535", "65536", "2147483647", "2147483648", "4294967296", "9223372036854775807",
		"1.5", "1e3",	"0x10",	 "007"
	};
	size_t at = mutate_next(rng) % size, end;
	const char *number = numbers[mutate_next(rng) % (sizeof(numbers) / sizeof(*numbers))];

	while (at < size && !isdigit(data[at]))
		at++;
	for (end = at; end < size && isdigit(data[end]); end++)
		;
	return end > at ? mutate_splice(data, size, max, at, end - at, number, strlen(number)) : size;
}

/* One structural change. */
static size_t mutate_once(uint8_t *data, size_t size, size_t max, uint64_t *rng)
{
	size_t len, at;

	if (!size)
		return LLVMFuzzerMutate(data, size, max);
	at = mutate_line(data, size, rng, &len);
	switch (mutate_next(rng) % 12) {
	case 0: /* drop a line */
		return mutate_splice(data, size, max, at, len, "", 0);
	case 1: /* drop a block */
		return mutate_splice(data, size, max, at, mutate_block(data, size, at, len), "", 0);
	case 2:
		return mutate_copy(data, size, max, at, len, rng);
	case 3:
		return mutate_copy(data, size, max, at, mutate_block(data, size, at, len), rng);
	case 4: /* a block twice, which makes a second item of a list item */
		len = mutate_block(data, size, at, len);
		if (size + len > max)
			return size;
		memmove(data + at + len, data + at, size - at);
		return size + len;
	case 5:
		return mutate_splice(data, size, max, at, 0, "  ", 2);
	case 6:
		return data[at] == ' ' && len > 2 ? mutate_splice(data, size, max, at, 2, "", 0) : size;
	case 7: /* a document moves to the end */
		at = mutate_document(data, size, rng, &len);
		size = mutate_copy(data, size, max, at, len, rng);
		return size;
	case 8:
		return mutate_number(data, size, max, rng);
	case 9: /* what follows is a change of what stands before */
		if (mutate_next(rng) % 2)
			return mutate_splice(data, size, max, at, 0, MUTATE_PUT, sizeof(MUTATE_PUT) - 1);
		return mutate_splice(data, size, max, at, 0, MUTATE_DEL, sizeof(MUTATE_DEL) - 1);
	default:
		return mutate_replace(data, size, max, rng);
	}
}

/* Half of the time libFuzzer's own mutations, else one to four of ours. */
static size_t __attribute__((unused)) mutate(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	uint64_t rng = seed * 0x9e3779b97f4a7c15ull + 1;
	uint32_t nr;

	mutate_next(&rng);
	nr = mutate_next(&rng) % 8;
	if (nr > 3)
		return LLVMFuzzerMutate(data, size, max);
	for (uint32_t i = 0; i <= nr; i++)
		size = mutate_once(data, size, max, &rng);
	return size;
}

#endif
