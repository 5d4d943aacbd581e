/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Symbols of ELF files that could splice. A program linked to libc imports the function. One that is linked to nothing, and Go's programs
 * always, call the kernel themselves: their symbols tell, or nothing does. What a program calls by number through syscall() is not seen.
 */
#include "plane/imports.h"

#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"

#define SECTIONS_MAX 4096
#define TABLE_MAX (64u << 20)
#define STRINGS_MAX (64u << 20)
#define CHUNK 1024 /* symbols read at a time */

static const char *const names[] = { "splice", "tee", "vmsplice" };
static const char *const own_names[] = {
	"splice", "__splice", "tee", "vmsplice", "syscall.splice", "internal/poll.splice", "internal/poll.Splice"
};

struct elf {
	int fd;
	Elf64_Ehdr head;
	Elf64_Shdr *sections;
	char *section_names;
	size_t section_names_len;
};

static bool read_at(int fd, void *ret, size_t len, uint64_t at)
{
	return at <= INT64_MAX && pread(fd, ret, len, (off_t)at) == (ssize_t)len;
}

/* The contents of a section with a zero behind them; NULL: it is not there, or too large. */
static char *load(const struct elf *e, const Elf64_Shdr *s, size_t *ret_len)
{
	char *text;

	if (s->sh_type == SHT_NOBITS || s->sh_size > STRINGS_MAX)
		return NULL;
	text = xcalloc((size_t)s->sh_size + 1, 1);
	if (!read_at(e->fd, text, (size_t)s->sh_size, s->sh_offset)) {
		free(text);
		return NULL;
	}
	*ret_len = (size_t)s->sh_size;
	return text;
}

static bool elf_open(struct elf *e, int fd)
{
	*e = (struct elf){ .fd = fd };
	if (!read_at(fd, &e->head, sizeof(e->head), 0) || memcmp(e->head.e_ident, ELFMAG, SELFMAG) ||
	    e->head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    e->head.e_ident[EI_DATA] != (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB) ||
	    e->head.e_shentsize != sizeof(Elf64_Shdr) || !e->head.e_shnum || e->head.e_shnum > SECTIONS_MAX ||
	    e->head.e_shstrndx >= e->head.e_shnum)
		return false;
	e->sections = xcalloc(e->head.e_shnum, sizeof(Elf64_Shdr));
	if (!read_at(fd, e->sections, e->head.e_shnum * sizeof(Elf64_Shdr), e->head.e_shoff))
		return false;
	e->section_names = load(e, &e->sections[e->head.e_shstrndx], &e->section_names_len);
	return e->section_names;
}

static void elf_close(struct elf *e)
{
	free(e->sections);
	free(e->section_names);
}

static const Elf64_Shdr *section_of(const struct elf *e, uint32_t type, const char *name)
{
	for (uint32_t i = 0; i < e->head.e_shnum; i++) {
		const Elf64_Shdr *s = &e->sections[i];

		if (type ? s->sh_type == type
			 : s->sh_name < e->section_names_len && !strcmp(e->section_names + s->sh_name, name))
			return s;
	}
	return NULL;
}

static const char *match(const char *name, const char *const *of, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (!strcmp(name, of[i]))
			return of[i];
	return NULL;
}

/* Looks for the names in a table of symbols, among those that it takes from others, or among all. False: the table cannot be read. */
static bool table_find(const struct elf *e, const Elf64_Shdr *table, bool imported, const char *const *of, size_t nr,
		       const char **ret_name)
{
	static Elf64_Sym chunk[CHUNK];
	uint64_t left = table->sh_size / sizeof(Elf64_Sym), at = table->sh_offset;
	char *strings;
	size_t len;
	bool ok = true;

	*ret_name = NULL;
	if (table->sh_size > TABLE_MAX || table->sh_link >= e->head.e_shnum)
		return false;
	strings = load(e, &e->sections[table->sh_link], &len);
	if (!strings)
		return false;
	while (left && ok && !*ret_name) {
		size_t some = left < CHUNK ? (size_t)left : CHUNK;

		ok = read_at(e->fd, chunk, some * sizeof(*chunk), at);
		for (size_t i = 0; ok && i < some && !*ret_name; i++)
			if ((!imported || chunk[i].st_shndx == SHN_UNDEF) && chunk[i].st_name < len)
				*ret_name = match(strings + chunk[i].st_name, of, nr);
		left -= some;
		at += some * sizeof(*chunk);
	}
	free(strings);
	return ok;
}

static enum imports unknown(const char **ret_name, const char *why)
{
	*ret_name = why;
	return IMPORTS_UNKNOWN;
}

static enum imports judge(const struct elf *e, bool library, const char **ret_name)
{
	const Elf64_Shdr *dynamic = section_of(e, SHT_DYNSYM, NULL), *all = section_of(e, SHT_SYMTAB, NULL);
	bool go = section_of(e, 0, ".go.buildinfo") || section_of(e, 0, ".note.go.buildid");

	if (dynamic && !table_find(e, dynamic, true, names, sizeof(names) / sizeof(*names), ret_name))
		return unknown(ret_name, "symbols that cannot be read");
	if (dynamic && *ret_name)
		return IMPORTS_SPLICE;
	/* Dynamic symbols of a program that is linked statically are a few of the linker's own. */
	if (!go && (library || section_of(e, 0, ".interp")))
		return IMPORTS_NONE;
	if (!all)
		return unknown(ret_name, go ? "a Go program without symbols" : "linked statically, without symbols");
	if (!table_find(e, all, false, own_names, sizeof(own_names) / sizeof(*own_names), ret_name))
		return unknown(ret_name, "symbols that cannot be read");
	return *ret_name ? IMPORTS_SPLICE : IMPORTS_NONE;
}

enum imports imports_of(int fd, bool library, const char **ret_name)
{
	enum imports found;
	struct elf e;

	*ret_name = NULL;
	found = elf_open(&e, fd) ? judge(&e, library, ret_name) : unknown(ret_name, "no ELF file that can be read");
	elf_close(&e);
	return found;
}
