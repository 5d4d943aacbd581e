/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames of the control socket and of the journal: a fixed header, then parts, each a name and bytes. Pure encoder and
 * decoder, no I/O; the decoder takes hostile input.
 *
 *   header: "TULL" | u16 version | u16 type | u32 body_len | u32 part_nr         (16 bytes, little endian)
 *   part:   u32 name_len | u32 data_len | name | data                             (body_len is the sum of all parts)
 *
 * Parts of requests (R: repeated; every request may carry "output": table|wide|json|yaml|name and "colour": 1):
 *   VERSION_GET, STATUS   none
 *   APPLY                 R "file:<name as the user wrote it>": text; "dry-run": 1
 *   DELETE                R "file:<name>": text, or "kind", "namespace", R "name"
 *   GET                   "kind" ("all" too), "namespace" (empty: all namespaces), R "name"
 *   DIFF                  R "file:<name>": text
 *   EXPLAIN               "source", "destination" ("host:port"), "protocol" (tcp|udp)
 *   FLOWS                 "workload", "service", "state", "live": 1
 *   ENDPOINTS             "name" of a host; without it all
 *   PARSER                "name": restart
 *   METRICS               nothing
 * Parts of a reply: "exit": decimal exit code (0 done, 1 refused or not found, 2 usage, 3 internal), "out": bytes for standard
 * output, "err": bytes for standard error. The daemon renders; meshctl only carries.
 * A journal record (WIRE_JOURNAL): R "put:<kind>/<namespace>/<name>": text of one document; R "del:<kind>/<namespace>/<name>";
 * R "vips:<kind>/<namespace>/<name>": behind its put, the addresses that a Service took over, separated by spaces.
 */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H

#include <stdint.h>

#include "base/str.h"

#define WIRE_VERSION 1
#define WIRE_HEADER_LEN 16
#define WIRE_BODY_MAX (256u << 20)
#define WIRE_PARTS_MAX (1u << 20)
#define WIRE_NAME_MAX 4096

/* Requests of the control socket. A reply has type WIRE_REPLY and at least the part "exit" (decimal exit code). */
enum wire_type {
	WIRE_REPLY = 0,
	WIRE_VERSION_GET = 1,
	WIRE_APPLY = 2,
	WIRE_DELETE = 3,
	WIRE_GET = 4,
	WIRE_DIFF = 5,
	WIRE_EXPLAIN = 6,
	WIRE_FLOWS = 7,
	WIRE_STATUS = 8,
	WIRE_ENDPOINTS = 9,
	WIRE_PARSER = 10,
	WIRE_METRICS = 11,
	WIRE_JOURNAL = 100, /* a record of the journal file */
};

struct wire_header {
	uint16_t version, type;
	uint32_t body_len, part_nr;
};

struct wire_part {
	struct str name, data; /* borrowed from the frame */
};

/* 0; -EPROTO: not our magic, or sizes out of bounds; -EPROTONOSUPPORT: another version. `in` has WIRE_HEADER_LEN bytes. */
int wire_header_decode(const uint8_t *in, struct wire_header *ret);
/* Next part of a body; *at starts at 0 and advances. 1: a part, 0: end, -EPROTO: malformed. */
int wire_part_next(struct str body, uint32_t *at, struct wire_part *ret);

/* Encoder of one frame a buffer: begin empties it, add appends a part, end fills the length in. A body over WIRE_BODY_MAX is the
 * caller's to avoid (b->len - WIRE_HEADER_LEN); decoders refuse it. */
void wire_begin(struct buf *b, uint16_t type);
void wire_add(struct buf *b, struct str name, struct str data);
void wire_end(struct buf *b);

#endif
