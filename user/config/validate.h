/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Checks that several kinds share. Two parts: predicates over text (names, hosts, labels, exportTo), which know
 * nothing of documents; and the check_* calls, which report at the place of a field by its path. Paths are only
 * formatted and places only looked up when there is something to report, so a valid document costs none of it.
 *
 * The text predicates return NULL when the text is fine, or why it is not ("must be ...", without the text
 * itself). Sources: Kubernetes apimachinery name rules, Istio pkg/config/labels and pkg/config/validation.
 */
#ifndef CONFIG_VALIDATE_H
#define CONFIG_VALIDATE_H

#include "base/addr.h"
#include "config/model.h"

/* ---- names ---- */
/* DNS-1123 label as Kubernetes has it: lower case, at most 63. */
const char *dns_label_bad(struct str s);
/* DNS-1123 subdomain as Kubernetes has it: lower case, at most 253. */
const char *dns_subdomain_bad(struct str s);
/* DNS-1123 label as Istio has it: either case, at most 63. */
const char *istio_label_bad(struct str s);
/* IANA service name, the form of named ports: 1..15 of a-z, 0-9 and '-', with a letter, no "--". */
const char *port_name_bad(struct str s);
/* Kind of an object reference. */
const char *kind_name_bad(struct str s);
/* API group of an object reference: empty or a subdomain. */
const char *group_name_bad(struct str s);

/* ---- hosts ---- */
/* A full domain name; a trailing dot is fine. */
const char *fqdn_bad(struct str s);
/* A domain name, whose first label may be "*", or begin with "*" or "*-". */
const char *wildcard_domain_bad(struct str s);
/* "*" inside a label ("*foo.com") is accepted by the rule above and never useful. */
bool host_is_partial_wildcard(struct str s);
/* Do two hosts cover a common name? */
bool hosts_overlap(struct str a, struct str b);
bool text_is_ip(struct str s);
/* An address that no Service may send to or be reached at: unspecified, loopback, link-local, multicast. */
const char *special_addr_bad(const struct addr *a);

/* ---- labels ---- */
const char *label_key_bad(struct str s);
const char *label_value_bad(struct str s);

/*
 * A path of a policy: "{*}" stands for one segment and "{**}" for the rest, braces have no other use, and beside them a segment has
 * only characters that RFC 3986 allows it.
 */
const char *path_template_bad(struct str path);

/* ---- protocols, as Istio names them in ports ---- */
enum app_protocol { APP_UNKNOWN, APP_TCP, APP_UDP, APP_HTTP, APP_TLS, APP_OTHER_TCP };
/*
 * Ignores case. APP_HTTP: http, http2, grpc, grpc-web, http_proxy; APP_TLS: https, tls; APP_OTHER_TCP: mongo,
 * redis, mysql.
 */
enum app_protocol app_protocol_parse(struct str s);

/* ---- reporting ---- */
struct check {
	struct decode *d;
	const struct ynode *root;
	struct str ns; /* of the document */
};

/* Text in the arena of the document; for messages, so only on the way to a report. */
#define CHECK_TEXT(c, ...) arena_printf((c)->d->arena, __VA_ARGS__)

/* Reports at the field that path names ("spec.http[0].route[1].weight"), or at its nearest parent that was given. */
void check_fail(const struct check *c, struct str message, const char *hint, const char *path_fmt, ...)
	__attribute__((format(printf, 4, 5)));
void check_warn(const struct check *c, struct str message, const char *hint, const char *path_fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The same for one key of a map (labels), whose name may hold dots. */
void check_fail_key(const struct check *c, struct str message, const char *hint, struct str key, const char *path_fmt,
		    ...) __attribute__((format(printf, 5, 6)));
/* The node at a path, or NULL. */
const struct ynode *check_node(const struct check *c, const char *path);
/* A field is there, whatever its value (null is not there). */
bool check_has(const struct check *c, const char *path_fmt, ...) __attribute__((format(printf, 2, 3)));

/* Keys and values of labels, or of a selector of labels. */
void check_labels(const struct check *c, const struct kvs *labels, const char *path);
/* A selector as Istio has it: no empty keys, no "*", at most `max` entries; a warning when it is empty. */
#define SELECTOR_MAX 4096
void check_selector(const struct check *c, const struct kvs *labels, uint32_t max, const char *path);
/* exportTo of Istio's kinds. none_ok: "~" is allowed (ServiceEntry). */
void check_export_to(const struct check *c, const struct strs *export_to, bool none_ok);
/* Names of Istio gateways: "mesh", "name", "namespace/name". */
void check_gateway_names(const struct check *c, const struct strs *gateways, const char *path);
/* A port is 1..65535. */
bool port_ok(int64_t port);
/* destinationSubnets, addresses: "a.b.c.d", "a.b.c.d/n" and the IPv6 forms. False: reported. */
bool check_cidr(const struct check *c, struct str text, struct cidr *ret, const char *path_fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
