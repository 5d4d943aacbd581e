/* SPDX-License-Identifier: BSD-2-Clause */
/* explain: asks meshd about its live rules, or compiles the files given and answers itself. */
#include <stdio.h>

#include "config/explain.h"
#include "mesh_abi.h"
#include "meshctl.h"

static int explain_offline(const struct args *a, struct str host, uint16_t port, uint8_t proto)
{
	struct snapshot_options opts = compile_options(a);
	struct buf text = { 0 }, json_text = { 0 };
	bool as_json = a->value[FLAG_OUTPUT];
	struct inputs in = { 0 };
	struct compiled c = { 0 };
	struct json json;
	int rc;

	rc = inputs_read(&in, a);
	if (rc)
		goto out;
	progress_start("compiling");
	compile(&in, &opts, &c);
	progress_stop();
	if (!c.snapshot || c.batch->refused) {
		report_text(c.batch, &text, false);
		fwrite(text.data, 1, text.len, stderr);
		rc = EXIT_REFUSED;
		goto out;
	}
	json_init(&json, &json_text);
	rc = explain(c.snapshot, &opts, NULL, str_of(a->words[0]), host, port, proto, &text, &json) ? EXIT_REFUSED
												    : EXIT_DONE;
	if (rc) {
		fprintf(stderr, "error: %.*s%s", (int)text.len, text.data,
			text.len && text.data[text.len - 1] == '\n' ? "" : "\n");
	} else if (as_json) {
		buf_str(&json_text, STR("\n"));
		rc = print_out((struct str){ json_text.data, (uint32_t)json_text.len });
	} else {
		rc = print_out((struct str){ text.data, (uint32_t)text.len });
	}
out:
	buf_release(&text);
	buf_release(&json_text);
	compiled_release(&c);
	inputs_release(&in);
	return rc;
}

int verb_explain(struct args *a)
{
	const char *protocol = a->value[FLAG_PROTOCOL] ? a->value[FLAG_PROTOCOL] : "tcp";
	struct buf request = { 0 };
	struct str host;
	uint16_t port;

	if (a->word_nr != 2)
		return usage_error(
			"explain: SRC and DST:PORT are needed, for instance `explain default/client reviews:9080`");
	if (!addr_split_port(str_of(a->words[1]), &host, &port))
		return usage_error("explain: `%s` is not HOST:PORT, ADDRESS:PORT or [ADDRESS]:PORT", a->words[1]);
	if (a->given & FLAG(FILENAME))
		return explain_offline(a, host, port, strcmp(protocol, "udp") ? MESH_PROTO_TCP : MESH_PROTO_UDP);
	if (a->given & (FLAG(CLUSTER_DOMAIN) | FLAG(ROOT_NAMESPACE) | FLAG(NODE_NAME) | FLAG(OUTBOUND)))
		return usage_error("explain: --cluster-domain, --root-namespace, --node-name and "
				   "--outbound-traffic-policy go with "
				   "-f; a running meshd has its own");
	request_begin(&request, a, WIRE_EXPLAIN);
	request_text(&request, "source", a->words[0]);
	request_text(&request, "destination", a->words[1]);
	request_text(&request, "protocol", protocol);
	return request_run(a, &request);
}
