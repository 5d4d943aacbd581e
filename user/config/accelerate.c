/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The annotation tulle.dev/accelerate of Pods, Services and Namespaces, resolved for each pod. What the mesh's own setting says is not
 * known here.
 */
#include "config/resolve.h"

static const char *const words[ACCELERATE_NR] = {
	[ACCELERATE_OFF] = "off",
	[ACCELERATE_AUTO] = "auto",
	[ACCELERATE_ON] = "on",
};

enum accelerate accelerate_parse(struct str s)
{
	for (uint32_t i = 1; i < ACCELERATE_NR; i++)
		if (str_is(s, words[i]))
			return i;
	return ACCELERATE_UNSET;
}

const char *accelerate_text(enum accelerate a)
{
	return a < ACCELERATE_NR && words[a] ? words[a] : "unset";
}

static enum accelerate asked(const struct doc *d)
{
	const struct str *value = kvs_get(&d->meta.annotations, STR(ACCELERATE_KEY));

	return value ? accelerate_parse(*value) : ACCELERATE_UNSET;
}

void accelerate_index(struct build *b, struct accelerations *ret)
{
	uint32_t nr;
	struct doc *const *services = model_list(b->model, KIND_SERVICE, &nr);

	*ret = (struct accelerations){ .model = b->model, .services = arena_array(&b->temp, nr + 1, sizeof(void *)) };
	for (uint32_t i = 0; i < nr; i++)
		if (asked(services[i]))
			ret->services[ret->service_nr++] = services[i];
}

/* The most careful of the Services that select the pod; NULL: none says anything. */
static const struct doc *service_of(const struct accelerations *acc, const struct doc *pod)
{
	const struct doc *best = NULL;

	for (uint32_t i = 0; i < acc->service_nr; i++) {
		const struct doc *d = acc->services[i];

		if (str_eq(d->meta.ns, pod->meta.ns) && d->service->selector.nr &&
		    kvs_match(&d->service->selector, &pod->meta.labels) && (!best || asked(d) < asked(best)))
			best = d;
	}
	return best;
}

void accelerate_find(const struct accelerations *acc, const struct doc *pod, struct arena *a, struct client *ret)
{
	const struct doc *by;

	ret->no_splice = kvs_get(&pod->meta.annotations, STR(SPLICES_KEY));
	ret->accelerate = asked(pod);
	ret->accelerate_by = ret->accelerate ? STR("pod") : STR("");
	if (ret->accelerate)
		return;
	by = service_of(acc, pod);
	if (by) {
		ret->accelerate = asked(by);
		ret->accelerate_by = arena_printf(a, "service %.*s/%.*s", STR_ARG(by->meta.ns), STR_ARG(by->meta.name));
		return;
	}
	by = model_get(acc->model, KIND_NAMESPACE, STR("Namespace"), (struct str){ 0 }, pod->meta.ns);
	ret->accelerate = by ? asked(by) : ACCELERATE_UNSET;
	ret->accelerate_by = ret->accelerate ? STR("namespace") : STR("");
}
