/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compiled HTTP rules out of a few lines of text, for tests and benches of meshl7's engine: one table for everybody who dials the port.
 *
 *	cluster name=a to=127.0.0.1:9001,127.0.0.1:9002 [max_connections= max_pending= max_requests= max_retries= per_connection=
 *		connect_ms= idle_ms= tcp_idle_ms= duration_ms= lb= table= cookie=NAME]
 *	route [host=] [path=PREFIX] to=a:80,b:20 [timeout_ms= retries= on= try_ms= backoff_ms= statuses=503 delay_ms= abort= mirror=b
 *		path_to= name=]
 *	route [host=] [path=PREFIX] direct=200 [body=TEXT] | redirect=301 to_host=TEXT
 *	deny port=9001 | path=PREFIX
 *	tls		(the port is one of TLS: hosts are names that clients ask for)
 */
#ifndef TESTS_L7_RULES_H
#define TESTS_L7_RULES_H

#include "base/str.h"

/* Appends the whole; false: a line is not understood, which is in *err. */
bool rules_build(struct str text, uint16_t port, struct buf *out, struct buf *err);

#endif
