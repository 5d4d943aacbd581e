/* SPDX-License-Identifier: BSD-2-Clause */
/* user/config/batch.c and model.c, with the real table of kinds */
#include "config/model.h"

#include <time.h>

#include "guard.h"
#include "test.h"

static const char *const outcomes[] = { "applied", "skipped", "refused" };

/* Rows of one text, "line[/item] kind ns/name outcome" a line. */
static const char *rows_of(struct batch *b)
{
	static struct buf out;

	buf_clear(&out);
	buf_str(&out, STR(""));
	for (uint32_t i = 0; i < b->nr; i++) {
		const struct doc_result *r = &b->results[i];

		buf_printf(&out, "%u", r->at.line);
		if (r->at.item)
			buf_printf(&out, "/%u", r->at.item);
		buf_printf(&out, " %.*s %.*s/%.*s %s\n", STR_ARG(r->kind), STR_ARG(r->ns), STR_ARG(r->name),
			   outcomes[r->outcome]);
		if ((r->outcome == OUTCOME_APPLIED) != !!r->doc)
			abort();
	}
	return out.data;
}

static const char *diags_of(const struct batch *b)
{
	static struct buf out;

	buf_clear(&out);
	buf_str(&out, STR(""));
	for (uint32_t i = 0; i < b->diags.nr; i++)
		diag_print(&out, &b->diags.items[i], false);
	return out.data;
}

static struct batch read_text(const char *text)
{
	struct batch b = { 0 };

	batch_read(&b, LAYER_RULES, STR("f.yaml"), str_of(text));
	return b;
}

#define SERVICE(name) "apiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {ports: [{port: 80}]}\n"

TEST(rows_say_what_became_of_each_document)
{
	struct batch b =
		read_text(SERVICE("a") "---\n# empty\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
				       "---\napiVersion: v1\nkind: Servcie\nmetadata: {name: d, namespace: n}\n"
				       "---\n- 1\n---\nkind: Service\n---\nx: [\n---\n" SERVICE("z"));

	CHECK_STR(rows_of(&b), "1 Service default/a applied\n"
			       "8 ConfigMap /c skipped\n"
			       "12 Servcie n/d refused\n"
			       "16  / refused\n"
			       "18 Service / refused\n"
			       "20  / refused\n"
			       "22 Service default/z applied\n");
	CHECK_INT(b.applied, 2);
	CHECK_INT(b.skipped, 1);
	CHECK_INT(b.refused, 4);
	CHECK_STR(diags_of(&b), "f.yaml:13:7: error: kind: unknown kind `Servcie` of `v1`\n  kind: Servcie\n        ^\n"
				"hint: did you mean Service?\n"
				"f.yaml:16:1: error: want an object, got a list\n  - 1\n  ^\n"
				"f.yaml:18:1: error: apiVersion: required field is missing\n  kind: Service\n  ^\n"
				"f.yaml:20:4: error: did not find expected node content while parsing a flow node\n"
				"  x: [\n     ^\n");
	batch_release(&b);
}

TEST(headers_must_be_texts)
{
	struct batch b = read_text("apiVersion: 1\nkind: [x]\n---\napiVersion: \"\"\nkind: Service\n");

	CHECK_STR(diags_of(&b),
		  "f.yaml:1:13: error: apiVersion: want a string, got a number\n  apiVersion: 1\n              ^\n"
		  "f.yaml:2:7: error: kind: want a string, got a list\n  kind: [x]\n        ^\n"
		  "f.yaml:4:13: error: apiVersion: want a string, got an empty one\n  apiVersion: \"\"\n"
		  "              ^\n");
	CHECK_INT(b.refused, 2);
	batch_release(&b);
}

TEST(lists_give_a_row_an_item)
{
	struct batch b =
		read_text("apiVersion: v1\nkind: List\nmetadata: {resourceVersion: \"\"}\nitems:\n"
			  "- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec:\n    ports:\n"
			  "    - port: 80 # web\n  # between\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n"
			  "- 5\n- apiVersion: v1\n  kind: List\n  items: []\n"
			  "---\napiVersion: v1\nkind: List\nitems: []\n---\napiVersion: v1\nkind: List\n"
			  "---\napiVersion: v1\nkind: List\nitem: []\n");

	CHECK_STR(rows_of(&b), "5/1 Service default/a applied\n"
			       "12/2 Secret /s skipped\n"
			       "13/3  / refused\n"
			       "14/4 List / refused\n"
			       "25 List / refused\n");
	CHECK(str_is(b.results[0].doc->text, "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n"
					     "  - port: 80 # web\n"));
	CHECK_INT(b.results[0].doc->text_line, 5);
	CHECK_INT(b.results[0].doc->text_indent, 2);
	CHECK_STR(diags_of(&b),
		  "f.yaml:13:3: error: want an object, got a number\n  - 5\n    ^\n"
		  "f.yaml:15:9: error: kind: a List inside a List is not accepted\n    kind: List\n          ^\n"
		  "hint: put its items into the outer list\n"
		  "f.yaml:27:1: error: item: unknown field `item`\n  item: []\n  ^\n"
		  "hint: did you mean `items`?\n");
	batch_release(&b);
}

/* kubectl get --raw leaves the kind out of the items. */
TEST(lists_of_one_kind_imply_it)
{
	static const char *const texts[] = {
		"apiVersion: v1\nkind: ServiceList\nitems:\n- metadata:\n    name: a\n  spec: {ports: [{port: 80}]}\n",
		"{\"apiVersion\": \"v1\", \"kind\": \"ServiceList\",\n  \"items\": [\n    {\"metadata\": {\"name\": "
		"\"a\"},\n"
		"     \"spec\": {\"ports\": [{\"port\": 80}]}}]}",
		"{\"apiVersion\":\"v1\",\"kind\":\"ServiceList\",\"metadata\":{\"resourceVersion\":\"1\",\"x\":\"y\"},"
		"\"items\":[{\"metadata\":{\"name\":\"a\"},\"spec\":{\"ports\":[{\"port\":80}]}}]}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct batch b = read_text(texts[i]), again = { 0 };

		CHECK_INT(b.applied, 1);
		CHECK_STR(diags_of(&b), "");
		if (b.applied) {
			batch_read(&again, LAYER_APPLIED, STR("g"), b.results[0].doc->text);
			CHECK_STR(diags_of(&again), "");
			CHECK_INT(again.applied, 1);
			CHECK(again.nr == 1 && str_is(again.results[0].name, "a"));
		}
		batch_release(&again);
		batch_release(&b);
	}
}

/* Whatever an item looks like in its List, its own text must say the same. */
TEST(texts_of_items_read_alone)
{
	static const char *const items[] = {
		"- apiVersion: v1\n  kind: Service\n  metadata:\n    name: a\n    annotations:\n      x: |\n        "
		"one\n\n"
		"          two\n      z: >-\n        f\n  spec: {ports: [{port: 80}]}\n",
		"-   apiVersion: v1\n    kind: Service\n# left\n    metadata: {name: a,\nannotations: {x:\n---z,\n w: "
		"\"a\n   --- b\"}}\n"
		"    spec: {ports: [{port: 80}]}\n",
		"- kind: \"Service\"\n  metadata: {name: a, annotations: {k: \"two\n    lines\n\n  more\"}}\n  "
		"apiVersion: v1\n"
		"  spec:\n    ports: [{port: 80}]",
		"- {\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\"metadata\": {\"name\": \"a\"}, \"spec\":\n"
		"\t{\"ports\": [{\"port\": 80}]}}\n",
		"- apiVersion: v1\n  kind: Service\n  metadata:\n    name: a\n  spec:\n    ports:\n    - port: 80\n"
		"  # the end\n\n- apiVersion: v1\n  kind: Secret\n",
	};

	for (size_t i = 0; i < sizeof(items) / sizeof(*items); i++) {
		struct batch b = { 0 }, again = { 0 };
		struct buf text = { 0 };

		buf_printf(&text, "apiVersion: v1\nkind: List\nitems:\n%s", items[i]);
		batch_read(&b, LAYER_RULES, STR("f"), (struct str){ text.data, (uint32_t)text.len });
		CHECK_STR(diags_of(&b), "");
		CHECK(b.nr && b.results[0].doc);
		if (b.nr && b.results[0].doc) {
			const struct doc *first = b.results[0].doc, *second;

			batch_read(&again, LAYER_RULES, STR("g"), first->text);
			CHECK_MSG(again.nr == 1 && again.applied == 1, "%.*s: %s", STR_ARG(first->text),
				  diags_of(&again));
			second = again.nr ? again.results[0].doc : NULL;
			CHECK(second && kvs_match(&first->meta.annotations, &second->meta.annotations) &&
			      kvs_match(&first->meta.labels, &second->meta.labels));
			CHECK(second && first->service->port_nr == second->service->port_nr);
			CHECK(second && str_eq(first->text, second->text));
		}
		buf_release(&text);
		batch_release(&again);
		batch_release(&b);
	}
}

TEST(texts_of_documents_are_their_lines)
{
	struct batch b = read_text(
		"# licence\n---\n# about a\n" SERVICE("a") "# tail\n--- {apiVersion: v1, kind: Service, "
							   "metadata: {name: b}, spec: {ports: [{port: 1}]}}\n");

	CHECK_INT(b.applied, 2);
	CHECK(str_is(b.results[0].doc->text, SERVICE("a")));
	CHECK_INT(b.results[0].doc->text_line, 4);
	CHECK_INT(b.results[0].doc->at.line, 4);
	CHECK(str_starts(b.results[1].doc->text, STR("{apiVersion")));
	CHECK_INT(b.results[1].doc->at.document, 2);
	batch_release(&b);
}

TEST(the_same_twice_is_an_error_of_the_later)
{
	struct batch b = { 0 };

	batch_read(&b, LAYER_RULES, STR("a.yaml"), STR(SERVICE("x") "---\n" SERVICE("w")));
	batch_read(&b, LAYER_RULES, STR("b.yaml"), STR("---\n" SERVICE("x")));
	CHECK_STR(rows_of(&b),
		  "1 Service default/x applied\n6 Service default/w applied\n2 Service default/x refused\n");
	CHECK_STR(diags_of(&b), "b.yaml:4:18: error: metadata.name: Service \"x\" is given twice, first at a.yaml:1\n"
				"  metadata: {name: x}\n                   ^\n");
	batch_release(&b);
}

TEST(later_stages_refuse_rows)
{
	struct batch b =
		read_text(SERVICE("a") "---\n" SERVICE("b") "---\n{apiVersion: v1, kind: List, items: ["
							    "{apiVersion: v1, kind: Namespace, metadata: {name: o}}, "
							    "{apiVersion: v1, kind: Namespace, metadata: {name: m}}]}");
	struct doc *kept = doc_ref(b.results[3].doc);

	CHECK_INT(b.applied, 4);
	batch_refuse(&b, STR("f.yaml"), 2, 6);
	batch_refuse(&b, STR("f.yaml"), 2, 6);
	batch_refuse(&b, STR("other"), 1, 1);
	batch_refuse_doc(&b, kept);
	CHECK_STR(rows_of(&b), "1 Service default/a applied\n6 Service default/b refused\n11/1 Namespace /o applied\n"
			       "11/2 Namespace /m refused\n");
	CHECK_INT(b.applied, 2);
	CHECK_INT(b.refused, 2);
	doc_diag(&b.diags, DIAG_ERROR, kept, (struct place){ 11, 145 }, STR("metadata.name"), STR(""), "bad");
	CHECK(strstr(diags_of(&b), "f.yaml:11:145: error: metadata.name: bad\n"));
	CHECK(str_starts(str_sub(b.diags.items[0].source, b.diags.items[0].caret - 1, 9), STR("m")));
	CHECK_INT(diag_errors_at(&b.diags, &kept->at), 1);
	batch_release(&b);
	CHECK(str_is(kept->meta.name, "m"));
	doc_unref(kept);
	doc_unref(NULL);
}

TEST(errors_show_lines_of_lists)
{
	struct batch b = read_text(
		"apiVersion: v1\nkind: List\nitems:\n  - apiVersion: v1\n    kind: Service\n    metadata: {name: a}\n"
		"    spec:\n      ports: [{port: 80}]\n      selectro: {}\n");

	CHECK_STR(diags_of(&b),
		  "f.yaml:9:7: error: spec.selectro: unknown field `selectro`\n        selectro: {}\n        ^\n"
		  "hint: did you mean `selector`?\n");
	batch_release(&b);
}

/* ---- the set ---- */

static void put_all(struct model *m, enum layer layer, const char *text)
{
	struct batch b = { 0 };

	batch_read(&b, layer, STR("f"), str_of(text));
	if (b.refused) {
		fputs(diags_of(&b), stderr);
		abort();
	}
	for (uint32_t i = 0; i < b.nr; i++)
		doc_unref(model_put(m, b.results[i].doc));
	batch_release(&b);
}

static const char *names_of(const struct model *m, enum kind kind)
{
	static char out[512];
	uint32_t nr;
	struct doc *const *list = model_list(m, kind, &nr);
	size_t len = 0;

	out[0] = '\0';
	for (uint32_t i = 0; i < nr; i++)
		len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%.*s/%.*s", i ? " " : "",
					STR_ARG(list[i]->meta.ns), STR_ARG(list[i]->meta.name));
	return out;
}

static const char *slices_of(const struct model *m, const char *ns, const char *service)
{
	static char out[512];
	uint32_t nr;
	struct doc *const *list = model_slices_of(m, str_of(ns), str_of(service), &nr);
	size_t len = 0;

	out[0] = '\0';
	for (uint32_t i = 0; i < nr; i++)
		len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%.*s", i ? " " : "",
					STR_ARG(list[i]->meta.name));
	return out;
}

#define SERVICE_AT(name, ns, time)                                                      \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns \
	", creationTimestamp: \"2026-01-0" time "T00:00:00Z\"}\nspec: {ports: [{port: 80}]}\n"
#define SLICE(name, service)                                                                \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " name \
	", labels: {kubernetes.io/service-name: " service "}}\naddressType: IPv4\nendpoints: []\n"
TEST(lists_are_in_creation_order)
{
	struct model *m = model_new();

	put_all(m, LAYER_RULES, SERVICE_AT("a", "x", "3") SERVICE_AT("b", "x", "1") SERVICE_AT("c", "a", "2"));
	CHECK_STR(names_of(m, KIND_SERVICE), "x/b a/c x/a");
	put_all(m, LAYER_RULES, SERVICE("z") "---\n" SERVICE("w"));
	CHECK_STR(names_of(m, KIND_SERVICE), "default/w default/z x/b a/c x/a");
	put_all(m, LAYER_RULES, SERVICE_AT("b", "x", "4"));
	CHECK_STR(names_of(m, KIND_SERVICE), "default/w default/z a/c x/a x/b");
	CHECK_INT(model_count(m), 5);
	/* Istio's ties go by name before namespace. */
	put_all(m, LAYER_RULES,
		"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: b, namespace: a}\nspec: "
		"{host: h}\n"
		"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: "
		"b}\nspec: {host: h}\n");
	CHECK_STR(names_of(m, KIND_DESTINATION_RULE), "b/a a/b");
	CHECK_STR(names_of(m, KIND_POD), "");
	model_free(m);
	model_free(NULL);
}

TEST(applied_documents_hide_those_of_the_rules)
{
	struct model *m = model_new();
	struct doc *old;

	put_all(m, LAYER_RULES, SERVICE_AT("a", "default", "1"));
	put_all(m, LAYER_APPLIED, SERVICE_AT("a", "default", "5") "---\n" SERVICE("b"));
	CHECK_INT(model_count(m), 3);
	CHECK_STR(names_of(m, KIND_SERVICE), "default/b default/a");
	CHECK_INT(model_get(m, KIND_SERVICE, STR(""), STR("default"), STR("a"))->layer, LAYER_APPLIED);
	old = model_remove(m, LAYER_APPLIED, KIND_SERVICE, STR("Service"), STR("default"), STR("a"));
	CHECK(old && old->layer == LAYER_APPLIED);
	doc_unref(old);
	CHECK_INT(model_get(m, KIND_SERVICE, STR("Service"), STR("default"), STR("a"))->layer, LAYER_RULES);
	CHECK(!model_remove(m, LAYER_APPLIED, KIND_SERVICE, STR("Service"), STR("default"), STR("a")));
	CHECK(!model_remove(m, LAYER_RULES, KIND_SERVICE, STR("Service"), STR("other"), STR("a")));
	doc_unref(model_remove(m, LAYER_RULES, KIND_SERVICE, STR("Service"), STR("default"), STR("a")));
	CHECK(!model_get(m, KIND_SERVICE, STR(""), STR("default"), STR("a")));
	CHECK_STR(names_of(m, KIND_SERVICE), "default/b");
	model_free(m);
}

TEST(slices_are_found_by_their_service)
{
	struct model *m = model_new();

	put_all(m, LAYER_RULES, SLICE("s2", "a") SLICE("s1", "a") SLICE("t", "b"));
	CHECK_STR(slices_of(m, "default", "a"), "s1 s2");
	CHECK_STR(slices_of(m, "default", "b"), "t");
	CHECK_STR(slices_of(m, "other", "a"), "");
	put_all(m, LAYER_APPLIED, SLICE("s1", "b"));
	CHECK_STR(slices_of(m, "default", "a"), "s2");
	CHECK_STR(slices_of(m, "default", "b"), "s1 t");
	doc_unref(model_remove(m, LAYER_APPLIED, KIND_SLICE, STR("EndpointSlice"), STR("default"), STR("s1")));
	CHECK_STR(slices_of(m, "default", "a"), "s1 s2");
	doc_unref(model_remove(m, LAYER_RULES, KIND_SLICE, STR("EndpointSlice"), STR("default"), STR("t")));
	CHECK_STR(slices_of(m, "default", "b"), "");
	/* Endpoints of the same name stand beside an EndpointSlice, and kinds of one family apart. */
	put_all(m, LAYER_RULES,
		"apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets: [{addresses: [{ip: 10.0.0.1}]}]\n");
	put_all(m, LAYER_RULES, SLICE("a", "a"));
	CHECK_STR(slices_of(m, "default", "a"), "a s1 s2 a");
	CHECK(str_is(model_get(m, KIND_SLICE, STR("Endpoints"), STR("default"), STR("a"))->kind_name, "Endpoints"));
	CHECK(str_is(model_get(m, KIND_SLICE, STR("EndpointSlice"), STR("default"), STR("a"))->kind_name,
		     "EndpointSlice"));
	CHECK(model_get(m, KIND_SLICE, STR(""), STR("default"), STR("a")));
	model_free(m);
}

TEST(clones_do_not_see_each_others_changes)
{
	struct model *m = model_new(), *clone;

	put_all(m, LAYER_RULES, SERVICE("a") "---\n" SERVICE("b") SLICE("s1", "a") SLICE("s2", "a") SLICE("s3", "b"));
	CHECK_STR(names_of(m, KIND_SERVICE), "default/a default/b");
	clone = model_clone(m);
	put_all(clone, LAYER_RULES, SERVICE("c") SLICE("s4", "a") SLICE("s5", "c"));
	doc_unref(model_remove(clone, LAYER_RULES, KIND_SLICE, STR("EndpointSlice"), STR("default"), STR("s3")));
	doc_unref(model_remove(m, LAYER_RULES, KIND_SERVICE, STR("Service"), STR("default"), STR("a")));
	CHECK_STR(names_of(m, KIND_SERVICE), "default/b");
	CHECK_STR(names_of(clone, KIND_SERVICE), "default/a default/b default/c");
	CHECK_STR(slices_of(m, "default", "a"), "s1 s2");
	CHECK_STR(slices_of(m, "default", "b"), "s3");
	CHECK_STR(slices_of(m, "default", "c"), "");
	CHECK_STR(slices_of(clone, "default", "a"), "s1 s2 s4");
	CHECK_STR(slices_of(clone, "default", "b"), "");
	CHECK_STR(slices_of(clone, "default", "c"), "s5");
	model_free(m);
	CHECK_STR(slices_of(clone, "default", "a"), "s1 s2 s4");
	CHECK_STR(names_of(clone, KIND_SERVICE), "default/a default/b default/c");
	model_free(clone);
}

/* The set against a plain array, over random changes of two clones. */
#define NAMES 40

struct shadow {
	struct doc *docs[2][NAMES];
};

static bool agrees(const struct model *m, const struct shadow *s)
{
	uint32_t want = 0, nr, per_service[4] = { 0 };

	for (uint32_t i = 0; i < NAMES; i++) {
		struct doc *d = s->docs[1][i] ? s->docs[1][i] : s->docs[0][i];
		char name[16];

		snprintf(name, sizeof(name), "s%02u", i);
		if (model_get(m, KIND_SLICE, STR("EndpointSlice"), STR("default"), str_of(name)) != d)
			return false;
		want += d != NULL;
		if (d)
			per_service[d->slices[0].service.p[0] - 'a']++;
	}
	for (uint32_t i = 0; i < 4; i++) {
		struct doc *const *list = model_slices_of(m, STR("default"), (struct str){ &"abcd"[i], 1 }, &nr);

		if (nr != per_service[i])
			return false;
		for (uint32_t k = 1; k < nr; k++)
			if (str_cmp(list[k - 1]->meta.name, list[k]->meta.name) >= 0)
				return false;
	}
	model_list(m, KIND_SLICE, &nr);
	return nr == want;
}

TEST(agrees_with_a_plain_array)
{
	struct model *m[2] = { model_new(), NULL };
	struct shadow s[2] = { 0 };
	bool fine = true;

	srand(1);
	m[1] = model_clone(m[0]);
	for (int step = 0; step < 4000 && fine; step++) {
		int which = rand() % 2, layer = rand() % 2;
		uint32_t i = (uint32_t)rand() % NAMES;
		char text[256], name[16];
		struct batch b = { 0 };
		struct doc *old;

		if (step % 97 == 0) {
			model_free(m[1 - which]);
			m[1 - which] = model_clone(m[which]);
			s[1 - which] = s[which];
		}
		snprintf(name, sizeof(name), "s%02u", i);
		snprintf(text, sizeof(text),
			 "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: %s, labels: "
			 "{kubernetes.io/service-name: %c}}, addressType: IPv4, endpoints: []}",
			 name, "abcd"[rand() % 4]);
		if (rand() % 3) {
			batch_read(&b, (enum layer)layer, STR("f"), str_of(text));
			old = model_put(m[which], b.results[0].doc);
			fine &= old == s[which].docs[layer][i];
			s[which].docs[layer][i] = b.results[0].doc;
			batch_release(&b);
		} else {
			old = model_remove(m[which], (enum layer)layer, KIND_SLICE, STR("EndpointSlice"),
					   STR("default"), str_of(name));
			fine &= old == s[which].docs[layer][i];
			s[which].docs[layer][i] = NULL;
		}
		doc_unref(old);
		if (step % 7 == 0)
			fine &= agrees(m[0], &s[0]) && agrees(m[1], &s[1]);
	}
	CHECK(fine);
	model_free(m[0]);
	model_free(m[1]);
}

/* ---- cost ---- */

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

TEST(a_change_costs_what_it_touches)
{
	struct model *m = model_new(), *clone;
	struct batch b = { 0 }, one[2];
	struct buf text = { 0 };
	double from, put, cloned;
	uint32_t nr, found = 0;

	for (int i = 0; i < 10000; i++)
		buf_printf(&text, "---\n" SERVICE("s%d") SLICE("s%d-x", "s%d"), i, i, i);
	batch_read(&b, LAYER_RULES, STR("f"), (struct str){ text.data, (uint32_t)text.len });
	CHECK_INT(b.applied, 20000);
	for (uint32_t i = 0; i < b.nr; i++)
		doc_unref(model_put(m, b.results[i].doc));
	for (uint32_t i = 0; i < b.nr; i += 2) {
		const struct doc *d = b.results[i].doc;

		found += model_get(m, KIND_SERVICE, STR(""), d->meta.ns, d->meta.name) == d;
		model_slices_of(m, d->meta.ns, d->meta.name, &nr);
		found += nr;
	}
	CHECK_INT(found, 20000);
	model_list(m, KIND_SLICE, &nr);
	CHECK_INT(nr, 10000);
	memset(one, 0, sizeof(one));
	for (int i = 0; i < 2; i++)
		batch_read(&one[i], LAYER_RULES, STR("f"), STR(SLICE("s777-x", "s777")));
	from = now_us();
	for (int i = 0; i < 1000; i++) {
		doc_unref(model_put(m, one[i % 2].results[0].doc));
		model_list(m, KIND_SLICE, &nr);
	}
	put = (now_us() - from) / 1000;
	from = now_us();
	for (int i = 0; i < 1000; i++)
		model_free(model_clone(m));
	cloned = (now_us() - from) / 1000;
	/* Sorting 10,000 documents takes milliseconds, a pass over 20,000 a good part of one. */
	CHECK_MSG(put < 200, "put and list: %.1f us", put);
	CHECK_MSG(cloned < 50, "clone: %.1f us", cloned);
	clone = model_clone(m);
	from = now_us();
	doc_unref(model_put(clone, one[0].results[0].doc));
	printf("model of 20,000: put %.2f us, clone %.2f us, first put into a clone %.0f us\n", put, cloned,
	       now_us() - from);
	model_free(clone);
	model_free(m);
	batch_release(&b);
	batch_release(&one[0]);
	batch_release(&one[1]);
	buf_release(&text);
}

TEST(reads_no_byte_too_many)
{
	static const char text[] =
		"apiVersion: v1\nkind: List\nitems:\n- "
		"apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n"
		"  spec: {ports: [{port: 80}]}\n---\n{\"apiVersion\":\"v1\",\"kind\":\"ServiceList\",\"items\":"
		"[{\"metadata\":{\"name\":\"b\"},\"spec\":{\"ports\":[{\"port\":80}]}}]}";
	struct guard g = guard_new(sizeof(text));
	uint32_t rows = 0;

	for (size_t len = 0; len < sizeof(text); len++) {
		struct batch b = { 0 };

		batch_read(&b, LAYER_RULES, STR("f"), guard_end(&g, text, len));
		batch_read(&b, LAYER_RULES, STR("g"), guard_begin(&g, text, len));
		batch_read(&b, LAYER_RULES, STR("h"), guard_end(&g, text + len, sizeof(text) - 1 - len));
		rows += b.nr;
		batch_release(&b);
	}
	CHECK(rows > 300);
	guard_free(&g);
}
