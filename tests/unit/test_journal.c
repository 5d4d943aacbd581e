/* SPDX-License-Identifier: BSD-2-Clause */
/* The journal: what was committed comes back, a file cut at any byte gives a whole prefix of it, dead bytes go. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plane/journal.h"

static char dir[64], file[96];
static struct buf loaded;

static void on_entry(void *data, const struct journal_entry *e)
{
	buf_printf(&loaded, "%.*s=%.*s", STR_ARG(e->name), STR_ARG(e->text));
	if (e->vips.len)
		buf_printf(&loaded, "(%.*s)", STR_ARG(e->vips));
	buf_printf(&loaded, ";");
}

static void begin(void)
{
	snprintf(dir, sizeof(dir), "/tmp/test_journal.XXXXXX");
	if (!mkdtemp(dir))
		abort();
	snprintf(file, sizeof(file), "%s/applied.log", dir);
}

static void end(void)
{
	char other[128];

	unlink(file);
	snprintf(other, sizeof(other), "%s.torn", file);
	unlink(other);
	rmdir(dir);
	buf_release(&loaded);
}

static struct journal *open_journal(void)
{
	struct journal *j = NULL;
	struct buf err = { 0 };

	buf_clear(&loaded);
	CHECK_MSG(!journal_open(dir, on_entry, NULL, &j, &err), "%s", err.data);
	buf_release(&err);
	return j;
}

static const char *reload(void)
{
	journal_close(open_journal());
	return loaded.data ? loaded.data : "";
}

static int put(struct journal *j, const char *name, const char *text, const char *vips)
{
	struct journal_entry e = { str_of(name), str_of(text), str_of(vips) };

	journal_put(j, &e, 0);
	return journal_commit(j);
}

static long size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -1 : (long)st.st_size;
}

TEST(entries_come_back_in_order_of_their_last_put)
{
	struct journal *j;

	begin();
	j = open_journal();
	CHECK_INT(put(j, "Service/default/a", "one", ""), 0);
	CHECK_INT(put(j, "Service/default/b", "two", "10.0.0.1 fd00::1"), 0);
	CHECK_INT(put(j, "Service/default/a", "three", ""), 0);
	journal_del(j, STR("Service/default/never"), 0);
	CHECK_INT(journal_commit(j), 0);
	journal_close(j);
	CHECK_STR(reload(), "Service/default/b=two(10.0.0.1 fd00::1);Service/default/a=three;");
	/* Rewritten by the first reload, so nothing changes any more. */
	CHECK_STR(reload(), "Service/default/b=two(10.0.0.1 fd00::1);Service/default/a=three;");
	end();
}

TEST(deleted_undone_and_dropped_changes_are_gone)
{
	struct journal *j;

	begin();
	j = open_journal();
	CHECK_INT(put(j, "a", "1", "x"), 0);
	CHECK_INT(put(j, "b", "2", ""), 0);
	journal_del(j, STR("a"), 0);
	CHECK_INT(journal_commit(j), 0);
	CHECK_INT(put(j, "c", "3", ""), 0);
	journal_undo(j);
	journal_put(j, &(struct journal_entry){ STR("d"), STR("4"), { 0 } }, 0);
	journal_drop(j);
	CHECK_INT(put(j, "e", "5", ""), 0);
	journal_close(j);
	CHECK_STR(reload(), "b=2;e=5;");
	end();
}

TEST(an_end_torn_at_any_byte_is_cut_off)
{
	char whole[4096];
	struct journal *j;
	ssize_t len;
	long first;
	int fd;

	begin();
	j = open_journal();
	CHECK_INT(put(j, "a", "first", ""), 0);
	first = size_of(file);
	CHECK_INT(put(j, "b", "second", "1.2.3.4"), 0);
	journal_close(j);
	fd = open(file, O_RDONLY);
	len = read(fd, whole, sizeof(whole));
	close(fd);
	for (long cut = first; cut < len; cut++) {
		fd = open(file, O_WRONLY | O_TRUNC);
		CHECK_INT(write(fd, whole, (size_t)cut), cut);
		close(fd);
		CHECK_STR(reload(), "a=first;");
		CHECK_INT(size_of(file), first);
		/* And it can be written on. */
		j = open_journal();
		CHECK_INT(put(j, "c", "third", ""), 0);
		journal_close(j);
		CHECK_STR(reload(), "a=first;c=third;");
	}
	end();
}

TEST(zeroes_and_noise_behind_sound_frames)
{
	static const char noise[] = "TULL\1\0\144\0\377\377\377\377";
	struct journal *j;
	long first;
	int fd;

	begin();
	j = open_journal();
	CHECK_INT(put(j, "a", "first", ""), 0);
	journal_close(j);
	first = size_of(file);
	for (int i = 0; i < 2; i++) {
		char zeroes[64] = { 0 };

		fd = open(file, O_WRONLY | O_APPEND);
		CHECK(write(fd, i ? noise : zeroes, i ? sizeof(noise) : sizeof(zeroes)) > 0);
		close(fd);
		CHECK_STR(reload(), "a=first;");
		CHECK_INT(size_of(file), first);
	}
	end();
}

TEST(a_newer_journal_is_left_alone)
{
	struct buf err = { 0 };
	struct journal *j;
	uint8_t newer = 9;
	long size;
	int fd;

	begin();
	j = open_journal();
	CHECK_INT(put(j, "a", "first", ""), 0);
	journal_close(j);
	size = size_of(file);
	fd = open(file, O_WRONLY);
	CHECK_INT(pwrite(fd, &newer, 1, 4), 1);
	close(fd);
	CHECK_INT(journal_open(dir, on_entry, NULL, &j, &err), -EPROTONOSUPPORT);
	CHECK(strstr(err.data, "newer meshd") != NULL);
	CHECK_INT(size_of(file), size);
	buf_release(&err);
	end();
}

TEST(a_second_owner_is_refused)
{
	struct journal *j, *other = NULL;
	struct buf err = { 0 };

	begin();
	j = open_journal();
	CHECK_INT(journal_open(dir, on_entry, NULL, &other, &err), -EBUSY);
	CHECK(strstr(err.data, "another meshd") != NULL);
	journal_close(j);
	buf_release(&err);
	end();
}

static void each_live(void *data, void (*add)(void *to, const struct journal_entry *e), void *to)
{
	struct journal_entry e = { STR("a"), *(struct str *)data, { 0 } };

	add(to, &e);
}

TEST(dead_bytes_ask_for_a_rewrite)
{
	static char text[100000];
	struct str last = { text, sizeof(text) };
	struct journal *j;

	begin();
	memset(text, 'x', sizeof(text));
	j = open_journal();
	for (int i = 0; i < 20; i++) {
		struct journal_entry e = { STR("a"), last, { 0 } };

		journal_put(j, &e, i ? last.len : 0);
		CHECK_INT(journal_commit(j), 0);
	}
	CHECK(journal_wants_compaction(j));
	CHECK_INT(journal_compact(j, each_live, &last), 0);
	CHECK(!journal_wants_compaction(j));
	CHECK(size_of(file) < 101000);
	CHECK_INT(put(j, "b", "behind", ""), 0);
	journal_close(j);
	CHECK(strstr(reload(), ";b=behind;") != NULL);
	end();
}

TEST(many_entries)
{
	struct journal *j;
	char name[32];
	uint32_t nr = 0;

	begin();
	j = open_journal();
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		journal_put(j, &(struct journal_entry){ str_of(name), STR("x"), { 0 } }, 0);
	}
	for (int i = 0; i < 3000; i += 3) {
		snprintf(name, sizeof(name), "n%d", i);
		journal_del(j, str_of(name), 0);
	}
	CHECK_INT(journal_commit(j), 0);
	journal_close(j);
	reload();
	for (size_t i = 0; i < loaded.len; i++)
		nr += loaded.data[i] == ';';
	CHECK_INT(nr, 2000);
	CHECK(strstr(loaded.data, "n1=x;") && !strstr(loaded.data, "n3=x;"));
	end();
}
