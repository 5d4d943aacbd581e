/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text -> tree of nodes with places, over libyaml, one document at a time. An alias stands for the very node of its anchor, and a
 * merge key for the pairs of other maps, as sigs.k8s.io/yaml reads them. Refused by name: tags, duplicate keys, documents over the
 * limits below. JSON is YAML.
 */
#ifndef CONFIG_YAML_H
#define CONFIG_YAML_H

#include "base/arena.h"
#include "base/diag.h"

enum ynode_kind { YNODE_NULL, YNODE_SCALAR, YNODE_SEQ, YNODE_MAP };

#define YAML_DEPTH_MAX 64
#define YAML_TEXT_MAX (256u << 20)

/* Bounds what one document costs in memory: about 56 bytes a node. */
#define YAML_NODES_MAX (16u << 20)

struct ynode {
	uint8_t kind;	       /* enum ynode_kind; a key is always a SCALAR */
	bool quoted;	       /* scalar: not plain, so it is a string whatever it looks like */
	bool flow;	       /* SEQ, MAP: written in brackets */
	uint32_t line, column; /* 1-based; column counts characters */
	uint32_t begin, end;   /* byte offsets of the node in the text of the stream */
	union {
		struct str scalar; /* in the arena, or a piece of the text */
		struct {
			struct ynode **items; /* MAP: key, value, key, value ... */
			uint32_t nr;	      /* SEQ: items; MAP: pairs */
		};
	};
};

struct yaml;

/* Reads `text` (borrowed as long as nodes are used). file is for diags. */
struct yaml *yaml_open(struct str file, struct str text);
/*
 * Next document into `arena`. 1: *ret_root is set (NULL for an empty document, which still counts); 0: end of the stream;
 * -EINVAL: this document cannot be read (diag added); *ret_root is what there is of it, for its names, or NULL. Documents are told apart by their `---` lines before they are parsed, so a
 * broken one costs only itself.
 * *ret_document is its 1-based number; *ret_text the slice of the text it stands in: the lines from the one its root begins in to
 * the one it ends in, so that root's line is the first. diags_source() is set to the document.
 */
int yaml_next(struct yaml *y, struct arena *arena, struct diags *diags, struct ynode **ret_root, uint32_t *ret_document,
	      struct str *ret_text);
void yaml_close(struct yaml *y);

/* Value of `key` in a map node, or NULL; NULL too when it is null or `map` is no map. */
const struct ynode *ynode_get(const struct ynode *map, const char *key);

/* How sigs.k8s.io/yaml types a node: plain scalars by their look, as YAML 1.1 has it; time stamps stay strings. */
enum ytype { YTYPE_NULL, YTYPE_BOOL, YTYPE_INT, YTYPE_FLOAT, YTYPE_STR, YTYPE_SEQ, YTYPE_MAP };
enum ytype ynode_type(const struct ynode *n);
const char *ytype_text(enum ytype t); /* "a number", for messages */
bool ynode_is_string(const struct ynode *n);
bool ynode_bool(const struct ynode *n, bool *ret);
/* INT, or FLOAT without a fraction, in 64 bits. */
bool ynode_int(const struct ynode *n, int64_t *ret);
bool ynode_double(const struct ynode *n, double *ret);
/* The type of a plain scalar with this text. */
enum ytype yscalar_type(struct str text);

#endif
