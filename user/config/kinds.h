/* SPDX-License-Identifier: BSD-2-Clause */
/* Which kinds there are: one row a kind, with its served versions, its table of fields and its validation. */
#ifndef CONFIG_KINDS_H
#define CONFIG_KINDS_H

#include "config/model.h"

enum kind_class {
	KIND_DECODED, /* has traffic meaning: decoded */
	KIND_SKIPPED, /* has none (Deployment, ConfigMap ...): listed as skipped */
	KIND_REFUSED, /* has traffic meaning that is not enforced yet: refused by name, with `note` */
};

struct kind_entry {
	const char *group;    /* "" for v1 */
	const char *kind;     /* "VirtualService" */
	const char *versions; /* served versions, space-separated: "v1 v1beta1 v1alpha3" */
	const char *plural;   /* "virtualservices" */
	const char *shorts;   /* "vs"; space-separated, may be "" */
	enum kind_class class;
	bool cluster_scoped;
	enum kind id; /* KIND_DECODED only */
	/*
	 * Fills doc->meta and the kind's struct from `root`, in doc->arena; adds diags. False when any error
	 * was added. d->arena is doc->arena.
	 */
	bool (*decode)(struct decode *d, const struct ynode *root, struct doc *doc);
	const char *note; /* REFUSED: why */
};

extern const struct kind_entry kind_entries[];
extern const unsigned int kind_entry_nr;

/*
 * NULL with *ret_hint (static or in arena, may be empty): unknown group, kind or version; the hint names the
 * nearest one or the served versions.
 */
const struct kind_entry *kind_find(struct arena *arena, struct str api_version, struct str kind, struct str *ret_hint);
/* The same in whatever version, served or not. */
const struct kind_entry *kind_of_group(struct str api_version, struct str kind);
/* For `meshctl get KIND`: name, plural, short name, with or without ".group". NULL: unknown. */
const struct kind_entry *kind_by_resource(struct str text);

#endif
