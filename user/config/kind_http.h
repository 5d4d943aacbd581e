/* SPDX-License-Identifier: BSD-2-Clause */
/* What Istio's and the Gateway API's rules for requests have in common when they are read, and the parts of Istio's. */
#ifndef CONFIG_KIND_HTTP_H
#define CONFIG_KIND_HTTP_H

#include "config/http.h"
#include "config/kind_local.h"
#include "mesh_http.h"

/* ---- both (kind_http.c) ---- */

struct str http_lower(struct arena *a, struct str s);
/* Why a header cannot have this name; NULL: it can. */
const char *http_name_bad(struct str s);
/* Why a header cannot be given this value. */
const char *http_value_bad(struct str s);
/* Why rules cannot change a header of this name (lower case). */
const char *http_change_bad(struct str s);
/* Why a path without query cannot be sent. */
const char *http_path_bad(struct str s);
/* "host", "host:port". */
const char *http_authority_bad(struct str s);
const char *http_method_bad(struct str s);
bool http_fields_any(const struct m_http_fields *f);
/* Anything but a choice of destinations by their weights. */
bool http_rule_acts(const struct m_http_rule *r, uint32_t dest_nr);
/* Reports what is no regular expression of RE2's, or too long, at `path`. */
bool http_regex_check(const struct check *c, struct str regex, const char *path);
/* The same of what its matches are replaced by; the expression is in order. */
void http_replacement_check(const struct check *c, struct str regex, struct str with, const char *path);
/* A list as a header has it, its items checked unless they are "*". */
struct str http_joined(const struct check *c, const struct strs *list, const char *(*bad)(struct str),
		       const char *base);
/* A text that stands for itself in a regular expression. */
void http_regex_quote(struct buf *out, struct str s);

/* ---- parts of a VirtualService (kind_vsparts.c); base is the path of the part ---- */

struct raw_text {
	struct str key; /* of a map of them */
	struct str exact, prefix, regex;
	struct place exact_at, prefix_at, regex_at;
};
extern const struct schema text_schema;
/* NULL, and an empty text: whatever is there, where `present`, else anything. */
void http_text_fill(const struct check *c, const struct raw_text *raw, bool present, const char *base,
		    struct m_http_text *t);

struct raw_operations {
	struct kvs set, add;
	struct strs remove;
};
struct raw_headers {
	struct raw_operations request, response;
};
extern const struct schema headers_schema;
/* authority: where Host is set; NULL: it must not be. */
void http_headers_fill(const struct check *c, const struct raw_headers *raw, const char *base,
		       struct m_http_fields *request, struct m_http_fields *response, struct str *authority);

struct raw_percent {
	double value;
};

struct raw_redirect {
	struct str uri, prefix, authority, scheme;
	int64_t port, code;
	uint32_t derive;
	struct place uri_at, prefix_at, port_at, code_at;
};
struct raw_rewrite_regex {
	struct str match, rewrite;
};
struct raw_rewrite {
	struct str uri, authority;
	struct raw_rewrite_regex *regex;
};
struct raw_body {
	struct str string, bytes;
	struct place bytes_at;
};
struct raw_direct {
	int64_t status;
	struct raw_body *body;
};
struct raw_retries {
	int64_t attempts, try_timeout, backoff;
	struct str on;
	bool remote, ignore;
	struct place attempts_at, try_at, backoff_at, remote_at, ignore_at;
};
struct raw_delay {
	int64_t fixed, percent;
	struct raw_percent *percentage;
	struct place fixed_at;
};
struct raw_abort {
	int64_t status;
	struct raw_percent *percentage;
	struct place status_at;
};
struct raw_fault {
	struct raw_delay *delay;
	struct raw_abort *abort;
};
struct raw_cors {
	struct list origins;
	struct strs old_origins, methods, headers, exposed;
	int64_t max_age;
	uint32_t preflights;
	bool credentials;
	struct place max_age_at;
};
extern const struct schema percent_schema, redirect_schema, rewrite_schema, direct_schema, retries_schema, fault_schema,
	cors_schema;

/* NULL: `otherwise`. */
uint32_t http_share_fill(const struct check *c, const struct raw_percent *raw, uint32_t otherwise, const char *base);
void http_redirect_fill(const struct check *c, const struct raw_redirect *raw, const char *base,
			struct m_http_redirect *r);
void http_rewrite_fill(const struct check *c, const struct raw_rewrite *raw, const char *base,
		       struct m_http_rewrite *r);
void http_direct_fill(const struct check *c, const struct raw_direct *raw, const char *base, struct m_http_rule *r);
const struct m_http_retry *http_retries_fill(const struct check *c, const struct raw_retries *raw, const char *base);
void http_fault_fill(const struct check *c, const struct raw_fault *raw, const char *base, struct m_http_fault *f);
const struct m_http_cors *http_cors_fill(const struct check *c, const struct raw_cors *raw, const char *base);

#endif
