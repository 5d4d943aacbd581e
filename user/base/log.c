/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Log lines to stderr. One write(2) a line, so that lines of several processes do not mix; control characters of values become
 * spaces, so that text from outside cannot forge a line. Must not allocate: it is called when memory has run out.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum log_level max_level = LOG_LEVEL_INFO;

static const struct {
	const char *name;
	char priority; /* of syslog, as systemd reads it from a stream */
} levels[] = {
	[LOG_LEVEL_ERR] = { "err", '3' },
	[LOG_LEVEL_WARN] = { "warn", '4' },
	[LOG_LEVEL_INFO] = { "info", '6' },
	[LOG_LEVEL_DEBUG] = { "debug", '7' },
};

void log_set_level(enum log_level level)
{
	max_level = level;
}

bool log_level_parse(const char *text, enum log_level *ret)
{
	for (unsigned int i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
		if (strcmp(text, levels[i].name))
			continue;
		*ret = (enum log_level)i;
		return true;
	}
	return false;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char line[4096];
	int saved = errno;
	size_t len;
	va_list ap;
	int n;

	if (level > max_level)
		return;
	if (getenv("JOURNAL_STREAM"))
		n = snprintf(line, sizeof(line), "<%c>", levels[level].priority);
	else
		n = snprintf(line, sizeof(line), "%s: %s: ", program_invocation_short_name, levels[level].name);
	len = (size_t)n;
	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	len += (size_t)n;
	if (len > sizeof(line) - 1)
		len = sizeof(line) - 1;
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = ' ';
	}
	line[len++] = '\n';
	while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		;
	errno = saved;
}
