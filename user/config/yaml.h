/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text -> tree of nodes with places, over libyaml, one document at a time. Refused by name: anchors, aliases, tags, merge
 * keys, duplicate keys, documents over the limits below. JSON is YAML.
 */
#ifndef CONFIG_YAML_H
#define CONFIG_YAML_H

#include "base/arena.h"
#include "base/diag.h"

enum ynode_kind { YNODE_NULL, YNODE_SCALAR, YNODE_SEQ, YNODE_MAP };

#define YAML_DEPTH_MAX 64
#define YAML_TEXT_MAX (256u << 20)

struct ynode {
	uint8_t kind;  /* enum ynode_kind */
	bool quoted;   /* scalar: not plain, so it is a string whatever it looks like */
	uint32_t line, column; /* 1-based */
	uint32_t begin, end;   /* byte offsets of the node in the text of the stream */
	union {
		struct str scalar;
		struct {
			struct ynode **items; /* MAP: key, value, key, value ... */
			uint32_t nr;	      /* SEQ: items; MAP: pairs */
		};
	};
};

struct yaml;

/* Reads `text` (borrowed until yaml_close). file is for diags. */
struct yaml *yaml_open(struct str file, struct str text);
/*
 * Next document into `arena`. 1: *ret_root is set (NULL for an empty document, which still counts); 0: end of the stream;
 * -EINVAL: this document cannot be read (diag added), the next call goes on behind it where libyaml can, or ends.
 * *ret_document is its 1-based number; *ret_text the slice of the text it stands in.
 */
int yaml_next(struct yaml *y, struct arena *arena, struct diags *diags, struct ynode **ret_root, uint32_t *ret_document,
	      struct str *ret_text);
void yaml_close(struct yaml *y);

/* Value of `key` in a map node, or NULL. */
const struct ynode *ynode_get(const struct ynode *map, const char *key);
/* How sigs.k8s.io/yaml types a plain scalar: true when it is not a string (null, bool, int or float). */
bool ynode_is_string(const struct ynode *n);

#endif
