/* SPDX-License-Identifier: BSD-2-Clause */
/* What ELF files say of splice(): small ones made here, and what is left of them when they are cut short or changed. */
#include "test.h"

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plane/imports.h"

enum { NO_DYNAMIC = 1, INTERPRETED = 2, SYMBOLS = 4, GO = 8 };

#define STRINGS_LEN 64
#define NAMES "\0.interp\0.go.buildinfo"

static uint8_t image[2048];
static size_t image_len;

static void put(const void *data, size_t len)
{
	memcpy(image + image_len, data, len);
	image_len += len;
}

/* A file with one symbol in each of its tables. */
static void build(unsigned flags, const char *dynamic, bool defined, const char *symbol)
{
	Elf64_Ehdr head = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB },
			    .e_shentsize = sizeof(Elf64_Shdr),
			    .e_shnum = 7,
			    .e_shstrndx = 1 };
	Elf64_Sym own = { .st_name = 1, .st_shndx = 1 }, used = { .st_name = 1, .st_shndx = defined ? 1 : SHN_UNDEF };
	Elf64_Shdr s[7] = { { 0 } };
	char strings[STRINGS_LEN] = "", others[STRINGS_LEN] = "";

	strcpy(strings + 1, dynamic ? dynamic : "read");
	strcpy(others + 1, symbol ? symbol : "main");
	image_len = 0;
	head.e_shoff = sizeof(head) + sizeof(NAMES) + 2 * STRINGS_LEN + 2 * sizeof(own);
	put(&head, sizeof(head));
	s[1] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = image_len, .sh_size = sizeof(NAMES) };
	put(NAMES, sizeof(NAMES));
	s[2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = image_len, .sh_size = STRINGS_LEN };
	put(strings, STRINGS_LEN);
	s[3] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = image_len, .sh_size = STRINGS_LEN };
	put(others, STRINGS_LEN);
	s[4] = (Elf64_Shdr){ .sh_type = SHT_DYNSYM, .sh_offset = image_len, .sh_size = sizeof(used), .sh_link = 2 };
	put(&used, sizeof(used));
	s[5] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB, .sh_offset = image_len, .sh_size = sizeof(own), .sh_link = 3 };
	put(&own, sizeof(own));
	s[4].sh_type = flags & NO_DYNAMIC ? SHT_PROGBITS : SHT_DYNSYM;
	s[5].sh_type = flags & SYMBOLS ? SHT_SYMTAB : SHT_PROGBITS;
	s[6] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_name = flags & INTERPRETED ? 1 : flags & GO ? 9 : 0 };
	put(s, sizeof(s));
}

static enum imports look(size_t len, bool library, const char **ret_name)
{
	int fd = memfd_create("elf", 0);
	enum imports found;

	CHECK_INT(write(fd, image, len), (long)len);
	found = imports_of(fd, library, ret_name);
	close(fd);
	return found;
}

TEST(linked_to_libc)
{
	const char *name;

	build(INTERPRETED, "recv", false, NULL);
	CHECK_INT(look(image_len, false, &name), IMPORTS_NONE);
	for (uint32_t i = 0; i < 3; i++) {
		static const char *const all[] = { "splice", "tee", "vmsplice" };

		build(INTERPRETED, all[i], false, NULL);
		CHECK_INT(look(image_len, false, &name), IMPORTS_SPLICE);
		CHECK(!strcmp(name, all[i]));
	}
	/* libc itself */
	build(0, "splice", true, NULL);
	CHECK_INT(look(image_len, true, &name), IMPORTS_NONE);
	build(0, "splice", false, NULL);
	CHECK_INT(look(image_len, true, &name), IMPORTS_SPLICE);
	build(INTERPRETED, "splice_data", false, NULL);
	CHECK_INT(look(image_len, false, &name), IMPORTS_NONE);
}

TEST(linked_to_nothing)
{
	const char *name;

	build(NO_DYNAMIC, NULL, false, NULL);
	CHECK_INT(look(image_len, false, &name), IMPORTS_UNKNOWN);
	CHECK(strstr(name, "statically"));
	build(NO_DYNAMIC | SYMBOLS, NULL, false, "main");
	CHECK_INT(look(image_len, false, &name), IMPORTS_NONE);
	build(NO_DYNAMIC | SYMBOLS, NULL, false, "__splice");
	CHECK_INT(look(image_len, false, &name), IMPORTS_SPLICE);
	build(GO | SYMBOLS, "write", false, "internal/poll.Splice");
	CHECK_INT(look(image_len, false, &name), IMPORTS_SPLICE);
	build(GO | SYMBOLS, "write", false, "main.main");
	CHECK_INT(look(image_len, false, &name), IMPORTS_NONE);
	/* libc does not call the kernel for Go */
	build(GO, "write", false, NULL);
	CHECK_INT(look(image_len, false, &name), IMPORTS_UNKNOWN);
	CHECK(strstr(name, "Go"));
}

TEST(spoilt)
{
	uint64_t rng = 7;
	const char *name;

	build(INTERPRETED, "recv", false, NULL);
	for (size_t len = 0; len < image_len; len++)
		CHECK_INT(look(len, false, &name), IMPORTS_UNKNOWN);
	for (uint32_t i = 0; i < 3000; i++) {
		build(i % 2 ? INTERPRETED : SYMBOLS, "splice", i % 3, "splice");
		for (uint32_t k = 0; k < 3; k++) {
			rng = rng * 6364136223846793005ull + 1442695040888963407ull;
			image[(rng >> 33) % image_len] = (uint8_t)(rng >> 24);
		}
		CHECK(look(image_len, i % 5 == 0, &name) <= IMPORTS_UNKNOWN);
	}
	memcpy(image, "#!/bin/sh\n", 10);
	CHECK_INT(look(10, false, &name), IMPORTS_UNKNOWN);
}
