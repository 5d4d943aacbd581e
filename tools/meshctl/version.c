/* SPDX-License-Identifier: BSD-2-Clause */
/* version: of this program, and of meshd when it can be reached. A meshd that cannot be reached is no failure. */
#include <stdio.h>

#include "base/json.h"
#include "base/version.h"
#include "mesh_abi.h"
#include "meshctl.h"

static struct str trimmed(const struct buf *b)
{
	struct str s = { b->data ? b->data : "", (uint32_t)b->len };

	while (s.len && s.p[s.len - 1] == '\n')
		s.len--;
	return s;
}

static void version_json(struct buf *text, struct str server)
{
	struct json j;

	json_init(&j, text);
	json_object(&j);
	json_key(&j, "client");
	json_object(&j);
	json_kstr(&j, "version", tulle_version);
	json_kuint(&j, "protocol", WIRE_VERSION);
	json_kuint(&j, "layout", MESH_LAYOUT);
	json_object_end(&j);
	json_key(&j, "server");
	if (server.len && server.p[0] == '{')
		json_raw(&j, server);
	else
		json_null(&j);
	json_object_end(&j);
	buf_str(text, STR("\n"));
}

int verb_version(struct args *a)
{
	struct buf request = { 0 }, out = { 0 }, err = { 0 }, text = { 0 };
	int reply, rc;

	if (a->word_nr)
		return usage_error("version: unexpected argument `%s`", a->words[0]);
	request_begin(&request, a, WIRE_VERSION_GET);
	reply = request_send(a, &request, &out, &err);
	if (a->value[FLAG_OUTPUT]) {
		version_json(&text, reply ? STR("") : trimmed(&out));
	} else {
		buf_printf(&text, "meshctl %s\n", tulle_version.p);
		buf_add(&text, out.data, out.len);
	}
	rc = print_out((struct str){ text.data, (uint32_t)text.len });
	if (err.len)
		fwrite(err.data, 1, err.len, stderr);
	if (!rc && reply == EXIT_DAEMON)
		rc = EXIT_DAEMON;
	buf_release(&request);
	buf_release(&out);
	buf_release(&err);
	buf_release(&text);
	return rc;
}
