/* SPDX-License-Identifier: BSD-2-Clause */
/* check: the compiler that meshd uses, without meshd. */
#include <stdlib.h>
#include <string.h>

#include "config/explain.h"
#include "meshctl.h"

struct snapshot_options compile_options(const struct args *a)
{
	const char *domain = a->value[FLAG_CLUSTER_DOMAIN], *root = a->value[FLAG_ROOT_NAMESPACE];
	const char *node = a->value[FLAG_NODE_NAME];

	return (struct snapshot_options){
		.registry_only = a->value[FLAG_OUTBOUND] && !strcmp(a->value[FLAG_OUTBOUND], "REGISTRY_ONLY"),
		.cluster_domain = str_of(domain ? domain : "cluster.local"),
		.root_namespace = str_of(root ? root : "istio-system"),
		.node_name = str_of(node ? node : ""),
	};
}

void compile(const struct inputs *in, const struct snapshot_options *opts, struct compiled *ret)
{
	struct batch *b = xcalloc(1, sizeof(*b));

	*ret = (struct compiled){ .batch = b, .model = model_new() };
	for (uint32_t i = 0; i < in->nr; i++) {
		const struct input *f = &in->v[i];

		batch_read(b, LAYER_RULES, f->name,
			   (struct str){ f->text.data ? f->text.data : "", (uint32_t)f->text.len });
	}
	/* Also when something is refused already, so that one run reports all there is. */
	for (uint32_t i = 0; i < b->nr; i++) {
		if (b->results[i].doc)
			doc_unref(model_put(ret->model, b->results[i].doc));
	}
	if (snapshot_build(ret->model, opts, NULL, NULL, 0, b, &ret->snapshot))
		ret->snapshot = NULL;
}

void compiled_release(struct compiled *c)
{
	snapshot_unref(c->snapshot);
	model_free(c->model);
	if (c->batch)
		batch_release(c->batch);
	free(c->batch);
}

int verb_check(struct args *a)
{
	struct snapshot_options opts = compile_options(a);
	struct inputs in = { 0 };
	struct compiled c = { 0 };
	struct buf out = { 0 };
	int rc;

	if (!(a->given & FLAG(FILENAME)) && a->word_nr)
		return usage_error("check: unexpected argument `%s`; files are given with -f", a->words[0]);
	rc = inputs_read(&in, a);
	if (rc)
		goto out;
	progress_start("checking");
	compile(&in, &opts, &c);
	progress_stop();
	if (a->value[FLAG_OUTPUT])
		report_json(c.batch, &out);
	else
		report_text(c.batch, &out, a->colour);
	rc = print_out((struct str){ out.data, (uint32_t)out.len });
	if (!rc && c.batch->refused)
		rc = EXIT_REFUSED;
out:
	buf_release(&out);
	compiled_release(&c);
	inputs_release(&in);
	return rc;
}
