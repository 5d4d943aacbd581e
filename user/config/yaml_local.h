/* SPDX-License-Identifier: BSD-2-Clause */
/* What yaml.c (pieces, the parser, its errors) and yaml_nodes.c (events to nodes) share. */
#ifndef CONFIG_YAML_LOCAL_H
#define CONFIG_YAML_LOCAL_H

#include <yaml.h>

#include "config/yaml.h"

struct anchor;

/* A collection that is not closed yet. */
struct frame {
	struct ynode *node;
	uint32_t base; /* of its items in y->pending */
};

struct yaml {
	struct str file, text;
	uint32_t begin, end; /* of the piece in hand */
	uint32_t line;	     /* of its first character, 0-based */
	uint32_t document;

	/* One piece. libyaml counts characters; `at_char` characters of the piece are `at_byte`
	 * bytes. */
	yaml_parser_t parser;
	bool ascii;
	size_t at_char, at_byte;
	struct frame frames[YAML_DEPTH_MAX];
	uint32_t depth, nodes;
	uint32_t last_end; /* byte behind the last token that is part of a node */
	uint32_t errors;
	struct arena *arena;
	struct diags *diags;
	/* The piece as the parser sees it: the text, or a copy with colons masked. */
	const char *input;
	char *masked;
	size_t budget; /* bytes that may be parsed again, over the whole text */

	/* Anchors of the document, in order, and what aliases stand for so far. */
	struct anchor *anchors;
	uint32_t anchor_nr, alias_nodes;
	bool merges; /* it has merge keys */

	/* Items of all open collections, innermost last. */
	struct ynode **pending;
	uint32_t pending_nr, pending_cap;
	/* Keys of one large map, by hash, to find duplicates. */
	const struct ynode **keys;
	uint32_t keys_cap;
};

/* Byte offset in the whole text of a libyaml mark. */
uint32_t yaml_byte_at(struct yaml *y, const yaml_mark_t *mark);
/* Adds an error; line and column as people count. path: of the field, "" for none. */
void yaml_report(struct yaml *y, size_t line, size_t column, const char *path, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
/* The same at a mark of the parser, without a path. */
void yaml_report_mark(struct yaml *y, const yaml_mark_t *mark, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Takes one event in. False: the rest of the document makes no sense any more. */
bool yaml_take(struct yaml *y, const yaml_event_t *ev);
/* Closes what the parser left open, so that the tree can be looked at; a key without a value is dropped. */
void yaml_close_all(struct yaml *y);
/* Forgets the nodes of a piece. */
void yaml_nodes_clear(struct yaml *y);
void yaml_nodes_release(struct yaml *y);

#endif
