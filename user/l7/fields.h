/* SPDX-License-Identifier: BSD-2-Clause */
/* Writing heads. Of the router's files alone. */
#ifndef L7_FIELDS_H
#define L7_FIELDS_H

#include "l7/rules.h"

/* As the server gets them: the path, true: it is another one than was asked for, and the authority. */
bool path_sent(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
	       struct buf *out);
struct str authority_sent(const struct http_place *place, const struct http_request *rq, const struct http_choice *c);
/* All of a field together, as field_find(), with what is written of the client in x-forwarded-for and x-forwarded-proto. */
bool field_sent(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
		struct str name, struct buf *joined, struct str *ret);
/* "name: value" CR LF. */
void field_write(struct buf *out, struct str name, struct str value);
/* Changes of one side, the destination's and the route's, each may be NULL. */
struct changes {
	const struct mesh_http_image *image;
	const struct mesh_http_fields *v[2];
};
/* A field of the message itself is not passed on: it is removed, or set to something else. */
bool changes_drop(const struct changes *c, struct str name);
/* Appends what is set and added. */
void changes_write(const struct changes *c, struct buf *out);
/* The fields of the route's CORS policy for an answer, when the request comes from an origin that it lets in. */
void cors_write(const struct http_place *place, const struct http_request *rq, const struct mesh_http_route *r,
		struct buf *out);
bool cors_origin(const struct http_place *place, const struct http_request *rq, const struct mesh_http_route *r,
		 struct str *ret_origin);
bool cors_field(struct str name);
/* "HTTP/1.1 200 OK" CR LF; reason NULL: the usual one. */
void status_write(struct buf *out, uint16_t status, struct str reason);
/* Connection fields of an answer. */
void connection_write(struct buf *out, bool keep_alive, bool http10);

#endif
