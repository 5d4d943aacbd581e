/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rule store against a plain list of what it should hold: random applies, deletions and directory changes, of which the data path
 * (a stand-in here) refuses some, and restarts between them.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "plane/rules.h"

#define NAMES 12

static char home[64], rules_dir[96];
static struct settings settings;
static bool plane_refuses;
static struct snapshot *plane_live;
static unsigned int plane_applies;

int plane_apply(struct plane *p, struct snapshot *s, struct plane_applied *ret, struct buf *err)
{
	if (plane_refuses) {
		buf_printf(err, "no room");
		return -ENOSPC;
	}
	plane_applies++;
	snapshot_unref(plane_live);
	plane_live = snapshot_ref(s);
	*ret = (struct plane_applied){ .epoch = plane_applies };
	return 0;
}

static void begin(void)
{
	snprintf(home, sizeof(home), "/tmp/test_rules.XXXXXX");
	if (!mkdtemp(home))
		abort();
	snprintf(rules_dir, sizeof(rules_dir), "%s/rules", home);
	if (mkdir(rules_dir, 0700))
		abort();
	settings = (struct settings){
		.rules = rules_dir, .state = home, .cluster_domain = "cluster.local", .root_namespace = "istio-system"
	};
	plane_refuses = false;
	plane_applies = 0;
	log_set_level(LOG_LEVEL_ERR);
}

static void end(struct rules *r)
{
	char command[128];

	rules_free(r);
	snapshot_unref(plane_live);
	plane_live = NULL;
	snprintf(command, sizeof(command), "rm -rf '%s'", home);
	if (system(command))
		abort();
}

static struct rules *start(void)
{
	struct rules *r = NULL;
	struct buf err = { 0 };

	CHECK_MSG(!rules_new(&settings, NULL, &r, &err), "%s", err.data);
	buf_release(&err);
	rules_start(r);
	return r;
}

static void service_text(struct buf *out, unsigned int i, unsigned int port)
{
	buf_printf(out,
		   "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%u}\nspec:\n  clusterIP: 10.0.0.%u\n"
		   "  ports: [{port: %u}]\n",
		   i, i + 1, port);
}

static void write_file(const char *name, const struct buf *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", rules_dir, name);
	if (!text) {
		unlink(path);
		return;
	}
	f = fopen(path, "w");
	if (!f || fwrite(text->data ? text->data : "", 1, text->len, f) != text->len || fclose(f))
		abort();
}

static int apply_text(struct rules *r, const struct buf *text, bool dry_run)
{
	struct rules_result res = { 0 };
	struct batch b = { 0 };
	int rc;

	batch_read(&b, LAYER_APPLIED, STR("in.yaml"), (struct str){ text->data, (uint32_t)text->len });
	diags_source(&b.diags, STR(""), 0, 0);
	rc = rules_apply(r, &b, dry_run, &res);
	rules_result_release(&res);
	batch_release(&b);
	return rc;
}

static struct doc *find(const struct rules *r, unsigned int i)
{
	char name[16];

	snprintf(name, sizeof(name), "s%u", i);
	return model_get(rules_model(r), KIND_SERVICE, STR("Service"), STR("default"), str_of(name));
}

static int delete_one(struct rules *r, unsigned int i)
{
	struct rules_victim v = { .doc = find(r, i) };
	struct rules_result res = { 0 };
	struct batch b = { 0 };
	char name[48];
	int rc;

	snprintf(name, sizeof(name), "Service/default/s%u", i);
	v.name = str_of(name);
	rc = rules_delete(r, &v, 1, &b, &res);
	rules_result_release(&res);
	batch_release(&b);
	return rc;
}

/* What should be there: the port of each Service in each layer, 0 for none. */
struct wanted {
	unsigned int applied[NAMES], file[NAMES];
};

static void check_store(const struct rules *r, const struct wanted *w)
{
	const struct snapshot *s = rules_live(r);
	uint32_t units = 0;

	for (unsigned int i = 0; i < NAMES; i++) {
		unsigned int port = w->applied[i] ? w->applied[i] : w->file[i];
		struct doc *d = find(r, i);

		units += port != 0;
		CHECK_INT(d != NULL, port != 0);
		if (!d || !port)
			continue;
		CHECK_INT(d->service->ports[0].port, port);
		CHECK_INT(d->layer, w->applied[i] ? LAYER_APPLIED : LAYER_RULES);
	}
	CHECK(s == plane_live);
	CHECK_INT(s->unit_nr, units);
}

/* Refusals are logged as errors, and there are hundreds of them here; the checks speak between the changes. */
static int quiet(void)
{
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY);

	if (saved < 0 || null < 0 || dup2(null, STDERR_FILENO) < 0)
		abort();
	close(null);
	return saved;
}

static void loud(int saved)
{
	dup2(saved, STDERR_FILENO);
	close(saved);
}

static void random_apply(struct rules *r, struct wanted *w)
{
	bool dry_run = rand() % 5 == 0, broken = rand() % 6 == 0;
	struct wanted next = *w;
	struct buf text = { 0 };

	for (unsigned int i = 0; i < NAMES; i++) {
		if (rand() % 3)
			continue;
		next.applied[i] = 1 + (unsigned int)rand() % 1000;
		service_text(&text, i, next.applied[i]);
	}
	if (broken)
		service_text(&text, NAMES, 70000);
	if (!text.len)
		return;
	CHECK_INT(apply_text(r, &text, dry_run), broken ? -EINVAL : plane_refuses && !dry_run ? -ENOSPC : 0);
	if (!broken && !plane_refuses && !dry_run)
		*w = next;
	buf_release(&text);
}

static void random_delete(struct rules *r, struct wanted *w)
{
	unsigned int i = (unsigned int)rand() % NAMES;

	if (!w->applied[i])
		return;
	CHECK_INT(delete_one(r, i), plane_refuses ? -ENOSPC : 0);
	if (!plane_refuses)
		w->applied[i] = 0;
}

/* Two files with the even and the odd names. What is refused stays on disk, so it is taken back at once. */
static void random_directory(struct rules *r, struct wanted *w)
{
	static const char *const names[] = { "even.yaml", "odd.yaml" };
	unsigned int which = (unsigned int)rand() % 2;
	struct buf before = { 0 }, after = { 0 };
	bool broken = rand() % 6 == 0;
	struct wanted next = *w;

	for (unsigned int i = which; i < NAMES; i += 2) {
		if (w->file[i])
			service_text(&before, i, w->file[i]);
		if (rand() % 2)
			next.file[i] = (unsigned int)(rand() % 3 ? 1 + rand() % 1000 : 0);
		if (next.file[i])
			service_text(&after, i, next.file[i]);
	}
	if (broken)
		buf_printf(&after, "---\nkind: {\n");
	write_file(names[which], &after);
	rules_reread(r);
	if (!broken && !plane_refuses)
		*w = next;
	else
		write_file(names[which], &before);
	buf_release(&before);
	buf_release(&after);
}

TEST(random_changes_with_refusals_and_restarts)
{
	struct wanted w = { 0 };
	struct rules *r;

	srand(1);
	begin();
	r = start();
	for (int i = 0; i < 1500; i++) {
		int saved = quiet();

		plane_refuses = rand() % 5 == 0;
		if (rand() % 3 == 0)
			random_apply(r, &w);
		else if (rand() % 2)
			random_delete(r, &w);
		else
			random_directory(r, &w);
		plane_refuses = false;
		rules_reread(r);
		rules_idle(r);
		loud(saved);
		check_store(r, &w);
		if (i % 50)
			continue;
		rules_free(r);
		r = start();
		check_store(r, &w);
	}
	end(r);
}

TEST(an_unchanged_input_costs_no_apply)
{
	struct buf text = { 0 };
	struct rules *r;
	unsigned int nr;

	begin();
	r = start();
	service_text(&text, 0, 80);
	CHECK_INT(apply_text(r, &text, false), 0);
	nr = plane_applies;
	CHECK_INT(apply_text(r, &text, false), 0);
	write_file("empty.yaml", &(struct buf){ 0 });
	rules_reread(r);
	CHECK_INT(plane_applies, nr);
	buf_release(&text);
	end(r);
}

TEST(unchanged_documents_of_a_changed_file_stay_the_same_object)
{
	struct buf text = { 0 };
	struct doc *first;
	struct rules *r;

	begin();
	service_text(&text, 0, 80);
	service_text(&text, 1, 80);
	write_file("a.yaml", &text);
	r = start();
	first = find(r, 0);
	buf_clear(&text);
	service_text(&text, 0, 80);
	service_text(&text, 1, 81);
	write_file("a.yaml", &text);
	rules_reread(r);
	CHECK(find(r, 0) == first);
	CHECK_INT(find(r, 1)->service->ports[0].port, 81);
	buf_release(&text);
	end(r);
}

TEST(a_start_that_the_data_path_refuses)
{
	struct buf text = { 0 };
	struct rules *r;

	begin();
	service_text(&text, 0, 80);
	write_file("a.yaml", &text);
	plane_refuses = true;
	r = start();
	CHECK(!rules_live(r));
	plane_refuses = false;
	buf_clear(&text);
	service_text(&text, 1, 81);
	/* The first change that succeeds brings the directory with it. */
	CHECK_INT(apply_text(r, &text, false), 0);
	CHECK(find(r, 0) && find(r, 1));
	CHECK_INT(rules_live(r)->unit_nr, 2);
	buf_release(&text);
	end(r);
}
