/* SPDX-License-Identifier: BSD-2-Clause */
/* Rules for requests as text, read from a unit's image (struct mesh_http_image, as http_image.c makes it: not checked again). */
#ifndef CONFIG_HTTP_PRINT_H
#define CONFIG_HTTP_PRINT_H

#include "base/str.h"
#include "mesh_http.h"

const struct mesh_http_table *http_table_at(const void *image, uint32_t table);
/* Hosts, routes and destinations, each on a line behind `indent`. */
void http_table_print(const void *image, uint32_t table, const char *indent, struct buf *out);
/* "path prefix "/a", header x given", "everything". */
void http_match_print(const void *image, const struct mesh_http_route *r, struct buf *out);
/* "; timeout 1s; ...": what is done beside the choice of a destination. */
void http_action_print(const void *image, const struct mesh_http_route *r, struct buf *out);
/* "80 outbound|80|v1|host; ...". */
void http_dest_print(const void *image, const struct mesh_http_dest *d, struct buf *out);
/* "; ...": limits and hashes that hold for requests only. */
void http_cluster_print(const void *image, uint32_t cluster, struct buf *out);

#endif
