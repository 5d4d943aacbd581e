/* SPDX-License-Identifier: BSD-2-Clause */
/* What an ELF file says of whether its code can take bytes out of a socket with splice(). Reads only; needs no privilege. */
#ifndef PLANE_IMPORTS_H
#define PLANE_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>

enum imports {
	IMPORTS_NONE,	/* none of what splices */
	IMPORTS_SPLICE, /* splice(), tee() or vmsplice() */
	IMPORTS_UNKNOWN /* not to be told: no ELF file, or one that calls the kernel itself and has no symbols */
};

/*
 * Reads the file at fd. `library`: it is mapped by a program, and defines for others what it does not import. ret_name: what was found, or
 * why nothing could be; a literal. The file may be whatever its owner made it: all of it is bounded, none is believed.
 */
enum imports imports_of(int fd, bool library, const char **ret_name);

#endif
