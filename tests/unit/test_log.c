/* SPDX-License-Identifier: BSD-2-Clause */
/* Log lines: levels, journald's priorities, and that a value cannot forge a line. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"

static char captured[8192];

/* What fn writes to standard error. */
static const char *capture(void (*fn)(void))
{
	int saved = dup(STDERR_FILENO), pipe_fds[2];
	ssize_t n;

	if (saved < 0 || pipe(pipe_fds))
		abort();
	fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	dup2(pipe_fds[1], STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	n = read(pipe_fds[0], captured, sizeof(captured) - 1);
	captured[n > 0 ? n : 0] = 0;
	close(saved);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return captured;
}

static void plain(void)
{
	log_info("ready pid=%d", 7);
}

static void quiet(void)
{
	log_debug("not shown");
}

static void forged(void)
{
	log_warn("path=%s", "a\nmeshd: err: \033[31mfire");
}

static void longest(void)
{
	char text[6000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	log_err("%s", text);
}

TEST(lines)
{
	unsetenv("JOURNAL_STREAM");
	CHECK_STR(capture(plain), "test_log: info: ready pid=7\n");
	CHECK_STR(capture(quiet), "");
	log_set_level(LOG_LEVEL_DEBUG);
	CHECK_STR(capture(quiet), "test_log: debug: not shown\n");
	log_set_level(LOG_LEVEL_INFO);
}

TEST(priorities_under_systemd)
{
	setenv("JOURNAL_STREAM", "8:1", 1);
	CHECK_STR(capture(plain), "<6>ready pid=7\n");
	unsetenv("JOURNAL_STREAM");
}

TEST(a_value_cannot_forge_a_line)
{
	CHECK_STR(capture(forged), "test_log: warn: path=a meshd: err:  [31mfire\n");
}

TEST(long_lines_are_cut)
{
	const char *line = capture(longest);

	CHECK(strlen(line) <= 4097);
	CHECK(line[strlen(line) - 1] == '\n');
}

TEST(levels_and_errno)
{
	enum log_level level;

	CHECK(log_level_parse("warn", &level) && level == LOG_LEVEL_WARN);
	CHECK(!log_level_parse("warning", &level));
	CHECK(!log_level_parse("", &level));
	errno = ENOENT;
	capture(plain);
	errno = ENOENT;
	log_debug("keeps errno");
	CHECK_INT(errno, ENOENT);
}
