/* SPDX-License-Identifier: BSD-2-Clause */
/* metadata, the same for every kind. */
#include "config/kind_local.h"

#include "mesh_abi.h"

static const struct field meta_fields[] = {
	F_STR("name", struct raw_meta, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY,
	      .place_offset = offsetof(struct raw_meta, name_at)),
	F_STR("namespace", struct raw_meta, ns, .place_offset = offsetof(struct raw_meta, ns_at)),
	F_STR("uid", struct raw_meta, uid),
	F_KVS("labels", struct raw_meta, labels),
	F_KVS("annotations", struct raw_meta, annotations),
	F("creationTimestamp", FIELD_TIME, struct raw_meta, created_s),
	F("deletionTimestamp", FIELD_TIME, struct raw_meta, deleted_s,
	  .place_offset = offsetof(struct raw_meta, deleted_at)),
	F_INERT("generateName", FIELD_STR),
	F_INERT("selfLink", FIELD_STR),
	F_INERT("resourceVersion", FIELD_STR),
	F_INERT("generation", FIELD_INT),
	F_INERT("deletionGracePeriodSeconds", FIELD_INT),
	F_INERT("ownerReferences", FIELD_LIST),
	F_INERT("finalizers", FIELD_STRS),
	F_INERT("managedFields", FIELD_LIST),
	F_END,
};

const struct schema meta_schema = { .name = "metadata", .size = sizeof(struct raw_meta), .fields = meta_fields };

const char *const protocol_names[] = { "TCP", "UDP", "SCTP", NULL };

uint8_t protocol_of(uint32_t choice)
{
	return choice == 2 ? MESH_PROTO_UDP : choice == 3 ? PROTO_SCTP : MESH_PROTO_TCP;
}

static void check_accelerate(const struct check *c, const struct doc *doc)
{
	const struct str *value = kvs_get(&doc->meta.annotations, STR(ACCELERATE_KEY));

	if (!value)
		return;
	if (doc->kind != KIND_POD && doc->kind != KIND_SERVICE && doc->kind != KIND_NAMESPACE)
		check_fail_key(c, STR("only Pods, Services and Namespaces can be accelerated"), NULL,
			       STR(ACCELERATE_KEY), "metadata.annotations");
	else if (!accelerate_parse(*value))
		check_fail_key(c, STR("must be auto, on or off"), NULL, STR(ACCELERATE_KEY), "metadata.annotations");
}

/* How requests are routed. */
static void check_http(const struct check *c, const struct doc *doc)
{
	static const struct {
		const char *key, *a, *b, *message;
	} keys[] = {
		{ HTTP_WEIGHTS_KEY, "request", "connection", "must be request or connection" },
		{ HTTP_DOWN_KEY, "l4", "closed", "must be l4 or closed" },
	};
	bool routes = doc->kind == KIND_SERVICE || doc->kind == KIND_VIRTUAL_SERVICE ||
		      (doc->kind == KIND_ROUTE && str_is(doc->kind_name, "HTTPRoute"));

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		struct str key = str_of(keys[i].key);
		const struct str *value = kvs_get(&doc->meta.annotations, key);

		if (value && !routes)
			check_fail_key(c, STR("is for Services, VirtualServices and HTTPRoutes"), NULL, key,
				       "metadata.annotations");
		else if (value && !str_is(*value, keys[i].a) && !str_is(*value, keys[i].b))
			check_fail_key(c, str_of(keys[i].message), NULL, key, "metadata.annotations");
	}
}

static void check_splices(const struct check *c, const struct doc *doc)
{
	const struct str *value = kvs_get(&doc->meta.annotations, STR(SPLICES_KEY));

	if (value && doc->kind != KIND_POD)
		check_fail_key(c, STR("only of Pods can be said whether they splice"), NULL, STR(SPLICES_KEY),
			       "metadata.annotations");
	else if (value && !str_is(*value, "no"))
		check_fail_key(c, STR("must be no; without it, the programs of the pod are looked at"), NULL,
			       STR(SPLICES_KEY), "metadata.annotations");
}

static void check_annotations(const struct check *c, const struct kvs *annotations, enum name_rule rule)
{
	for (uint32_t i = 0; i < annotations->nr; i++) {
		struct str key = annotations->v[i].key;
		const char *bad = label_key_bad(key);

		if (bad)
			check_fail_key(c, CHECK_TEXT(c, "the key of an annotation %s", bad), NULL, key,
				       "metadata.annotations");
		if (rule == NAME_ISTIO && str_is(key, "istio.io/dry-run"))
			check_fail_key(c, STR("only an AuthorizationPolicy can be a dry run"), "remove the annotation",
				       key, "metadata.annotations");
		if (rule >= NAME_ISTIO && str_is(key, "internal.istio.io/webhook-always-reject"))
			check_fail_key(c, STR("this annotation asks for the document to be rejected"), NULL, key,
				       "metadata.annotations");
	}
}

void meta_fill(struct decode *d, const struct ynode *root, const struct raw_meta *raw, bool cluster_scoped,
	       enum name_rule rule, struct doc *doc, struct check *c)
{
	struct meta *meta = &doc->meta;
	const char *bad;

	meta->name = raw->name;
	/* The API server drops the namespace of a cluster-scoped object. */
	meta->ns = cluster_scoped ? (struct str){ 0 } : raw->ns.len ? raw->ns : STR("default");
	meta->labels = raw->labels;
	meta->annotations = raw->annotations;
	meta->uid = raw->uid;
	meta->created_s = raw->created_s;
	meta->deleting = raw->deleted_at.line != 0;
	meta->name_at = raw->name_at;

	*c = (struct check){ .d = d, .root = root, .ns = meta->ns };
	bad = rule == NAME_LABEL ? dns_label_bad(raw->name) : dns_subdomain_bad(raw->name);
	if (raw->name.len && bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->name), bad), NULL, "metadata.name");
	bad = raw->ns.len ? dns_label_bad(raw->ns) : NULL;
	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->ns), bad), NULL, "metadata.namespace");
	check_labels(c, &raw->labels, "metadata.labels");
	check_annotations(c, &raw->annotations, rule);
	check_accelerate(c, doc);
	check_http(c, doc);
	check_splices(c, doc);
}
