/* SPDX-License-Identifier: BSD-2-Clause */
/* sd_notify(3) by hand: see notify.h. */
#include "plane/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/str.h"

void notify(const char *fmt, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char text[512];
	size_t len;
	va_list ap;
	int fd, n;

	if (!path || (path[0] != '/' && path[0] != '@'))
		return;
	len = strlen(path);
	if (len < 2 || len >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, len);
	/* '@' stands for the zero byte of an abstract address. */
	if (path[0] == '@')
		to.sun_path[0] = 0;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || n < 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if ((size_t)n >= sizeof(text))
		n = sizeof(text) - 1;
	if (sendto(fd, text, (size_t)n, MSG_NOSIGNAL, (const struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
		/* See notify.h. */
	}
	close(fd);
}

uint64_t notify_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t us, owner;

	if (!usec || !str_to_u64(str_of(usec), UINT64_MAX / 2, &us) || us < 2000)
		return 0;
	if (pid && (!str_to_u64(str_of(pid), UINT32_MAX, &owner) || (pid_t)owner != getpid()))
		return 0;
	return us / 2000;
}
