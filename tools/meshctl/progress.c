/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "checking ... 3 s" on a terminal, for what takes longer than two seconds. Driven by a timer signal, so that work need not
 * call it.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "meshctl.h"

#define CLEAR_LINE "\r\033[K"

static const char *work;
static time_t started;
static volatile sig_atomic_t shown;

/* Only async-signal-safe calls. */
static void tick(int signo)
{
	char line[128], digits[24];
	size_t len = 0, nr = 0, work_len = strlen(work);
	struct timespec now;
	int saved = errno;
	long s;

	clock_gettime(CLOCK_MONOTONIC, &now);
	s = (long)(now.tv_sec - started);
	memcpy(line, CLEAR_LINE, sizeof(CLEAR_LINE) - 1);
	len = sizeof(CLEAR_LINE) - 1;
	memcpy(line + len, work, work_len);
	len += work_len;
	memcpy(line + len, " ... ", 5);
	len += 5;
	do {
		digits[nr++] = (char)('0' + s % 10);
		s /= 10;
	} while (s && nr < sizeof(digits));
	while (nr)
		line[len++] = digits[--nr];
	memcpy(line + len, " s", 2);
	len += 2;
	if (write(STDERR_FILENO, line, len) > 0)
		shown = 1;
	errno = saved;
}

void progress_start(const char *what)
{
	struct itimerval every = { .it_value.tv_sec = 2, .it_interval.tv_sec = 1 };
	struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART };
	const char *term = getenv("TERM");
	struct timespec now;

	if (!isatty(STDERR_FILENO) || !term || !strcmp(term, "dumb") || strlen(what) > 64)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	work = what;
	started = now.tv_sec;
	shown = 0;
	sigemptyset(&action.sa_mask);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

void progress_stop(void)
{
	struct itimerval never = { 0 };

	if (!work)
		return;
	setitimer(ITIMER_REAL, &never, NULL);
	if (shown && write(STDERR_FILENO, CLEAR_LINE, sizeof(CLEAR_LINE) - 1) < 0)
		shown = 0;
	work = NULL;
}
