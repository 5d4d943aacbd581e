/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One table a kind: which fields exist, of which type, and what becomes of them. The decoder walks a document beside its
 * table, fills a struct, and reports each unknown, mistyped, missing, repeated or unenforced field with its place and path.
 * The one law: a field is decoded (used), inert (no meaning for traffic), or refused by name with the reason.
 */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include <stdint.h>

#include "base/arena.h"
#include "base/diag.h"
#include "config/yaml.h"

/* Places kept beside values, for diags that later stages raise. */
struct place {
	uint32_t line, column;
};

struct kv {
	struct str key, val;
};

struct kvs {
	struct kv *v; /* sorted by key, unique */
	uint32_t nr;
};

struct strs {
	struct str *v;
	struct place *at;
	uint32_t nr;
};

/* IntOrString of Kubernetes; name.len != 0: a name. */
struct int_or_str {
	int32_t number;
	struct str name;
	bool given;
};

enum field_type {
	FIELD_STR,    /* struct str */
	FIELD_BOOL,   /* bool */
	FIELD_INT,    /* int64_t, between min and max (both 0: any) */
	FIELD_DOUBLE, /* double */
	FIELD_DURATION, /* int64_t nanoseconds; Go's time.ParseDuration as Istio reads it, or GEP-2257 with FIELD_GEP2257 */
	FIELD_TIME,	/* int64_t seconds since 1970, RFC 3339 */
	FIELD_ENUM,	/* uint32_t index + 1 into `names` (0: absent) */
	FIELD_INTSTR,	  /* struct int_or_str */
	FIELD_STRS,	  /* struct strs */
	FIELD_KVS,	  /* struct kvs, map of string to string; null counts as the empty string */
	FIELD_OBJECT,	  /* embedded struct, decoded in place by `sub` */
	FIELD_OBJECT_PTR, /* pointer to a struct in the arena, NULL when absent */
	FIELD_LIST,	  /* struct list of structs decoded by `sub` */
	FIELD_MAP, /* the same of a map of objects, in the order they stand in; each begins with its key, a struct str */
	FIELD_ANY, /* nothing is stored; any value is fine (use with FIELD_INERT) */
};

struct list {
	void *v; /* array of sub->size bytes each */
	uint32_t nr;
};

enum field_flags {
	FIELD_REQUIRED = 1 << 0,
	FIELD_INERT =
		1
		<< 1, /* has no meaning for traffic: only its type is looked at, and of LIST and OBJECT not what is in them */
	FIELD_REFUSED = 1 << 2, /* exists upstream, not enforced yet: refused with `note` */
	FIELD_GEP2257 = 1 << 3,
	FIELD_OPEN_ENUM = 1 << 4,  /* a value outside `names` is refused as not enforced instead of as unknown */
	FIELD_NONEMPTY = 1 << 5,   /* string, list or map must not be empty */
	FIELD_SCRATCH = 1 << 6,	   /* STR, STRS: only looked at while decoding, not kept */
	FIELD_EMPTY_ENUM = 1 << 7, /* an empty value is no value, as in Kubernetes' own kinds */
};

struct schema;

struct field {
	const char *name;
	uint8_t type;
	uint16_t flags;
	uint32_t offset;      /* of the value in the struct */
	int32_t place_offset; /* of a struct place for the value, 0: none (a struct never begins with its place) */
	const struct schema *sub;
	const char *const *names; /* ENUM, NULL-terminated */
	int64_t min, max;	  /* INT; LIST and STRS: max entries when max != 0 */
	const char *note;	  /* REFUSED: why; others: hint */
};

/* A union of fields, of which at most (exactly, with required) one may be given. */
struct oneof {
	const char *const *names; /* NULL-terminated */
	bool required;
};

struct schema {
	const char *name;
	uint32_t size;
	const struct field *fields;  /* ends with a row without a name */
	const struct oneof *oneofs;  /* ends with a row without names; may be NULL */
	uint32_t place_offset_plus1; /* of a struct place for the object itself, + 1; 0: none */
	bool open;		     /* unknown fields are fine */
};

struct decode {
	struct arena *arena; /* results: all texts, and the arrays of STRS and KVS */
	/* Where LIST and OBJECT_PTR keep their structs, and STRS with FIELD_SCRATCH; cleared behind the document. NULL: arena. */
	struct arena *scratch;
	struct diags *diags;
	struct str file;
	uint32_t document, item; /* as in struct where */
	bool proto_names; /* Istio's kinds: fields may be given by their protobuf names too (match_labels for matchLabels) */
	char path[512]; /* field path while walking */
	uint32_t path_len;
	uint32_t errors;
};

/* Decodes `node` into `out` (schema->size zeroed bytes). Goes on after an error; d->errors counts them. */
void schema_decode(struct decode *d, const struct schema *schema, const struct ynode *node, void *out);
/* Adds an error or a warning at a node or place, under the current path plus `sub` (may be ""). */
void decode_error(struct decode *d, const struct ynode *at, const char *sub, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
void decode_error_at(struct decode *d, struct place at, const char *field, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
void decode_warn_at(struct decode *d, struct place at, const char *field, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Go's time.ParseDuration ("1h2m3.5s", "-5ms", "0"), or Gateway API's narrower form ("1h30m"); nanoseconds. */
bool duration_parse(struct str text, bool gep2257, int64_t *ret_ns);
/* RFC 3339; seconds since 1970, fractions dropped. */
bool time_parse(struct str text, int64_t *ret_s);

/* Lookup in a sorted kvs; NULL when absent. */
const struct str *kvs_get(const struct kvs *kvs, struct str key);
/* Every pair of `want` is in `have` (a label selector of equality terms). */
bool kvs_match(const struct kvs *want, const struct kvs *have);

#endif
