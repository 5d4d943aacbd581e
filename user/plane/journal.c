/* SPDX-License-Identifier: BSD-2-Clause */
/* The journal of applied documents: see journal.h. Knows frames and files; does not know what a document means. */
#include "plane/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/wire.h"

#define JOURNAL_FILE "applied.log"
#define JOURNAL_NEW "applied.log.new"
#define JOURNAL_TORN "applied.log.torn"
#define COMPACT_MIN (1u << 20)
/* Frames of a rewritten file hold about this much, so that a reader needs no more than a few at once. */
#define COMPACT_FRAME (1u << 20)

struct journal {
	int dir, fd;
	uint64_t len, dead;	      /* of the file */
	uint64_t undo_len, undo_dead; /* before the last commit */
	struct buf pending;	      /* frame being built; empty: none */
	uint64_t pending_dead;
};

/* ---- reading ---- */

/* Live entries while the file is read: a hash of names, entries in order of their last put. */
struct replay {
	struct journal_entry *entries; /* a deleted one has an empty name */
	uint32_t *slots;	       /* index + 1 */
	uint32_t nr, cap, slot_nr;
	bool dead; /* the file holds something that no longer counts */
};

static uint32_t *replay_slot(struct replay *r, struct str name)
{
	uint32_t i = (uint32_t)str_hash(name) & (r->slot_nr - 1);

	while (r->slots[i] && !str_eq(r->entries[r->slots[i] - 1].name, name))
		i = (i + 1) & (r->slot_nr - 1);
	return &r->slots[i];
}

/* Room for one more entry: entries that were replaced or deleted go, and the hash is made anew. */
static void replay_grow(struct replay *r)
{
	uint32_t nr = 0;

	if (r->nr < r->cap)
		return;
	for (uint32_t i = 0; i < r->nr; i++) {
		if (r->entries[i].name.len)
			r->entries[nr++] = r->entries[i];
	}
	r->nr = nr;
	if (r->nr * 2 >= r->cap) {
		r->cap = r->cap ? r->cap * 2 : 256;
		r->entries = xrealloc(r->entries, r->cap * sizeof(*r->entries));
	}
	free(r->slots);
	r->slot_nr = r->cap * 2;
	r->slots = xcalloc(r->slot_nr, sizeof(*r->slots));
	for (uint32_t i = 0; i < r->nr; i++)
		*replay_slot(r, r->entries[i].name) = i + 1;
}

static void replay_del(struct replay *r, struct str name)
{
	uint32_t i, *slot;

	if (!r->slot_nr)
		return;
	slot = replay_slot(r, name);
	if (!*slot)
		return;
	r->dead = true;
	r->entries[*slot - 1].name = (struct str){ 0 };
	/* Close the gap that linear probing must not have. */
	*slot = 0;
	for (i = ((uint32_t)(slot - r->slots) + 1) & (r->slot_nr - 1); r->slots[i]; i = (i + 1) & (r->slot_nr - 1)) {
		uint32_t entry = r->slots[i];

		r->slots[i] = 0;
		*replay_slot(r, r->entries[entry - 1].name) = entry;
	}
}

static void replay_put(struct replay *r, struct str name, struct str text)
{
	replay_del(r, name);
	replay_grow(r);
	r->entries[r->nr] = (struct journal_entry){ .name = name, .text = text };
	*replay_slot(r, name) = ++r->nr;
}

static void replay_part(struct replay *r, const struct wire_part *p)
{
	struct str name = str_sub(p->name, (uint32_t)str_find(p->name, ':') + 1, p->name.len);

	if (str_starts(p->name, STR("put:"))) {
		replay_put(r, name, p->data);
	} else if (str_starts(p->name, STR("del:"))) {
		replay_del(r, name);
		r->dead = true;
	} else if (r->slot_nr) {
		uint32_t *slot = replay_slot(r, name);

		if (*slot)
			r->entries[*slot - 1].vips = p->data;
	}
}

static bool part_is_known(const struct wire_part *p)
{
	uint32_t head = str_starts(p->name, STR("vips:")) ? 5 : 4;

	if (head == 4 && !str_starts(p->name, STR("put:")) && !str_starts(p->name, STR("del:")))
		return false;
	return p->name.len > head;
}

/* Length of the whole, sound frame at `p`, or 0. */
static uint64_t frame_check(const uint8_t *p, uint64_t left, struct str *ret_body)
{
	struct wire_header h;
	struct wire_part part;
	uint32_t at = 0, nr = 0;
	int rc;

	if (left < WIRE_HEADER_LEN || wire_header_decode(p, &h) || h.type != WIRE_JOURNAL ||
	    h.body_len > left - WIRE_HEADER_LEN)
		return 0;
	*ret_body = (struct str){ (const char *)p + WIRE_HEADER_LEN, h.body_len };
	while ((rc = wire_part_next(*ret_body, &at, &part)) > 0) {
		if (!part_is_known(&part))
			return 0;
		nr++;
	}
	return rc || nr != h.part_nr ? 0 : WIRE_HEADER_LEN + (uint64_t)h.body_len;
}

/* Bytes of sound frames from the start of the file; they are replayed. */
static uint64_t replay_file(struct replay *r, const uint8_t *p, uint64_t len)
{
	uint64_t at = 0, frame;
	struct wire_part part;
	struct str body;

	while ((frame = frame_check(p + at, len - at, &body))) {
		uint32_t pos = 0;

		while (wire_part_next(body, &pos, &part) > 0)
			replay_part(r, &part);
		at += frame;
	}
	return at;
}

static void each_replayed(void *data, void (*add)(void *, const struct journal_entry *), void *to)
{
	const struct replay *r = data;

	for (uint32_t i = 0; i < r->nr; i++) {
		if (r->entries[i].name.len)
			add(to, &r->entries[i]);
	}
}

struct hand_on {
	journal_fn fn;
	void *data;
};

static void hand_on(void *to, const struct journal_entry *e)
{
	const struct hand_on *h = to;

	h->fn(h->data, e);
}

/* What follows the last sound frame: the end of a write that was cut short, or damage. The old file is kept beside the new one. */
static int torn(const struct journal *j, const uint8_t *p, uint64_t len)
{
	struct wire_header h;

	if (len >= WIRE_HEADER_LEN && wire_header_decode(p, &h) == -EPROTONOSUPPORT)
		return -EPROTONOSUPPORT;
	log_warn("journal has a torn end, cut off; the old file is kept as " JOURNAL_TORN " bytes=%llu kept=%llu",
		 (unsigned long long)len, (unsigned long long)(j->len - len));
	unlinkat(j->dir, JOURNAL_TORN, 0);
	if (linkat(j->dir, JOURNAL_FILE, j->dir, JOURNAL_TORN, 0))
		log_warn("torn journal could not be kept: %s", strerror(errno));
	return 0;
}

/* Reads what is there, hands the live entries on and leaves a file without dead or torn bytes. */
static int load(struct journal *j, journal_fn fn, void *data)
{
	struct replay r = { 0 };
	struct hand_on to = { fn, data };
	uint64_t len = j->len, sound;
	void *map;
	int rc = 0;

	if (!len)
		return 0;
	map = mmap(NULL, len, PROT_READ, MAP_PRIVATE, j->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	sound = replay_file(&r, map, len);
	if (sound != len)
		rc = torn(j, (const uint8_t *)map + sound, len - sound);
	if (rc)
		goto out;
	each_replayed(&r, hand_on, &to);
	if (sound != len || r.dead)
		rc = journal_compact(j, each_replayed, &r);
out:
	free(r.entries);
	free(r.slots);
	munmap(map, len);
	return rc;
}

int journal_open(const char *state, journal_fn fn, void *data, struct journal **ret, struct buf *err)
{
	struct journal *j = xcalloc(1, sizeof(*j));
	struct stat st;
	int rc;

	j->fd = -1;
	j->dir = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->dir < 0) {
		rc = -errno;
		goto out_error;
	}
	if (flock(j->dir, LOCK_EX | LOCK_NB)) {
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		goto out_error;
	}
	j->fd = openat(j->dir, JOURNAL_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (j->fd < 0 || fstat(j->fd, &st)) {
		rc = -errno;
		goto out_error;
	}
	if (!S_ISREG(st.st_mode)) {
		rc = -EINVAL;
		goto out_error;
	}
	j->len = (uint64_t)st.st_size;
	rc = load(j, fn, data);
	if (rc)
		goto out_error;
	*ret = j;
	return 0;

out_error:
	if (rc == -EPROTONOSUPPORT)
		buf_printf(err, "journal %s/" JOURNAL_FILE " was written by a newer meshd", state);
	else if (rc == -EBUSY)
		buf_printf(err, "another meshd uses the state directory %s", state);
	else
		buf_printf(err, "journal %s/" JOURNAL_FILE ": %s", state, strerror(-rc));
	journal_close(j);
	return rc;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		close(j->fd);
	if (j->dir >= 0)
		close(j->dir);
	buf_release(&j->pending);
	free(j);
}

/* ---- writing ---- */

static int write_at(int fd, const struct buf *b, uint64_t at)
{
	size_t done = 0;

	while (done < b->len) {
		ssize_t n = pwrite(fd, b->data + done, b->len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static void add_part(struct buf *b, const char *verb, struct str name, struct str data)
{
	struct buf part = { 0 };

	if (!b->len)
		wire_begin(b, WIRE_JOURNAL);
	buf_str(&part, str_of(verb));
	buf_str(&part, name);
	wire_add(b, (struct str){ part.data, (uint32_t)part.len }, data);
	buf_release(&part);
}

static void add_entry(struct buf *b, const struct journal_entry *e)
{
	add_part(b, "put:", e->name, e->text);
	if (e->vips.len)
		add_part(b, "vips:", e->name, e->vips);
}

void journal_put(struct journal *j, const struct journal_entry *e, uint64_t dead)
{
	add_entry(&j->pending, e);
	j->pending_dead += dead;
}

void journal_del(struct journal *j, struct str name, uint64_t dead)
{
	add_part(&j->pending, "del:", name, STR(""));
	/* The record of a deletion is dead itself. */
	j->pending_dead += dead + name.len;
}

void journal_drop(struct journal *j)
{
	/* One big apply must not keep its buffer for ever. */
	if (j->pending.cap > COMPACT_FRAME)
		buf_release(&j->pending);
	else
		buf_clear(&j->pending);
	j->pending_dead = 0;
}

int journal_commit(struct journal *j)
{
	int rc = 0;

	j->undo_len = j->len;
	j->undo_dead = j->dead;
	if (j->pending.len) {
		wire_end(&j->pending);
		if (j->pending.len - WIRE_HEADER_LEN > WIRE_BODY_MAX)
			rc = -E2BIG;
		else
			rc = write_at(j->fd, &j->pending, j->len);
		if (!rc) {
			j->len += j->pending.len;
			j->dead += j->pending_dead;
		} else if (ftruncate(j->fd, (off_t)j->len)) {
			/* What is left behind is a torn end, which the next start cuts off. */
			log_warn("journal could not be cut back: %s", strerror(errno));
		}
	}
	journal_drop(j);
	return rc;
}

void journal_undo(struct journal *j)
{
	if (ftruncate(j->fd, (off_t)j->undo_len))
		log_err("journal keeps a change that was taken back: %s", strerror(errno));
	j->len = j->undo_len;
	j->dead = j->undo_dead;
}

bool journal_wants_compaction(const struct journal *j)
{
	return j->len > COMPACT_MIN && j->dead > j->len / 4 * 3;
}

struct compaction {
	int fd, rc;
	uint64_t len;
	struct buf frame;
};

static void compact_flush(struct compaction *c)
{
	if (!c->frame.len)
		return;
	wire_end(&c->frame);
	if (!c->rc)
		c->rc = write_at(c->fd, &c->frame, c->len);
	c->len += c->frame.len;
	buf_clear(&c->frame);
}

static void compact_add(void *to, const struct journal_entry *e)
{
	struct compaction *c = to;

	if (c->frame.len && c->frame.len + e->text.len > COMPACT_FRAME)
		compact_flush(c);
	add_entry(&c->frame, e);
}

int journal_compact(struct journal *j, journal_each_fn each, void *data)
{
	struct compaction c = { 0 };

	c.fd = openat(j->dir, JOURNAL_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c.fd < 0)
		return -errno;
	each(data, compact_add, &c);
	compact_flush(&c);
	buf_release(&c.frame);
	if (!c.rc && fsync(c.fd))
		c.rc = -errno;
	if (!c.rc && renameat(j->dir, JOURNAL_NEW, j->dir, JOURNAL_FILE))
		c.rc = -errno;
	if (c.rc) {
		close(c.fd);
		unlinkat(j->dir, JOURNAL_NEW, 0);
		return c.rc;
	}
	fsync(j->dir);
	close(j->fd);
	j->fd = c.fd;
	j->len = c.len;
	j->dead = 0;
	return 0;
}
