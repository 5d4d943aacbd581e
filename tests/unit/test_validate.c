/* SPDX-License-Identifier: BSD-2-Clause */
/* Predicates over names, hosts and labels. */
#include "test.h"

#include "config/validate.h"

static char long_text[300];

static struct str repeat(char c, uint32_t nr)
{
	memset(long_text, c, nr);
	return (struct str){ long_text, nr };
}

#define GOOD(check, text) CHECK_MSG(!check(STR(text)), "%s", text)
#define BAD(check, text) CHECK_MSG(check(STR(text)), "%s", text)

TEST(dns_names)
{
	GOOD(dns_label_bad, "a");
	GOOD(dns_label_bad, "a-1");
	GOOD(dns_label_bad, "1");
	BAD(dns_label_bad, "");
	BAD(dns_label_bad, "-a");
	BAD(dns_label_bad, "a-");
	BAD(dns_label_bad, "A");
	BAD(dns_label_bad, "a.b");
	BAD(dns_label_bad, "a\0b");
	CHECK(!dns_label_bad(repeat('a', 63)) && dns_label_bad(repeat('a', 64)));
	GOOD(dns_subdomain_bad, "a.b-c.1");
	BAD(dns_subdomain_bad, "a..b");
	BAD(dns_subdomain_bad, "a.");
	BAD(dns_subdomain_bad, "");
	CHECK(!dns_subdomain_bad(repeat('a', 253)) && dns_subdomain_bad(repeat('a', 254)));
	GOOD(istio_label_bad, "aB-1");
	BAD(istio_label_bad, "a_b");
	BAD(istio_label_bad, "");
	CHECK(istio_label_bad(repeat('a', 64)));
	GOOD(port_name_bad, "http-1");
	BAD(port_name_bad, "http--1");
	BAD(port_name_bad, "8080");
	BAD(port_name_bad, "sixteen-letters-");
	BAD(port_name_bad, "a-name-too-longer");
	BAD(port_name_bad, "-a");
	GOOD(kind_name_bad, "Service");
	BAD(kind_name_bad, "1Service");
	BAD(kind_name_bad, "*");
	BAD(kind_name_bad, "");
	CHECK(kind_name_bad(repeat('a', 64)));
	GOOD(group_name_bad, "");
	GOOD(group_name_bad, "gateway.networking.k8s.io");
	BAD(group_name_bad, "A.b");
}

TEST(hosts)
{
	GOOD(fqdn_bad, "istio.io.");
	GOOD(fqdn_bad, "Reviews.default.svc.cluster.local");
	BAD(fqdn_bad, "");
	BAD(fqdn_bad, "10.0.0.1");
	BAD(fqdn_bad, "a..b");
	BAD(fqdn_bad, "*.a");
	CHECK(fqdn_bad(repeat('a', 256)) != NULL);
	GOOD(wildcard_domain_bad, "*");
	GOOD(wildcard_domain_bad, "*.a.b");
	GOOD(wildcard_domain_bad, "*-a.b");
	GOOD(wildcard_domain_bad, "*a");
	GOOD(wildcard_domain_bad, "reviews");
	BAD(wildcard_domain_bad, "**");
	BAD(wildcard_domain_bad, "*-");
	BAD(wildcard_domain_bad, "a.*.b");
	BAD(wildcard_domain_bad, "a*");
	BAD(wildcard_domain_bad, "");
	CHECK(host_is_partial_wildcard(STR("*a.b")) && !host_is_partial_wildcard(STR("*.b")) &&
	      !host_is_partial_wildcard(STR("*")));
	CHECK(hosts_overlap(STR("a.b"), STR("a.b")) && !hosts_overlap(STR("a.b"), STR("b.b")));
	CHECK(hosts_overlap(STR("*.b"), STR("a.b")) && hosts_overlap(STR("a.b"), STR("*.b")));
	CHECK(hosts_overlap(STR("*.b"), STR("*.a.b")) && hosts_overlap(STR("*.a.b"), STR("*.b")));
	CHECK(hosts_overlap(STR("*"), STR("x")) && !hosts_overlap(STR("*.a"), STR("*.b")));
	CHECK(text_is_ip(STR("10.0.0.1")) && text_is_ip(STR("fd00::1")) && !text_is_ip(STR("a")));
}

TEST(labels)
{
	GOOD(label_key_bad, "app");
	GOOD(label_key_bad, "app.kubernetes.io/name");
	GOOD(label_key_bad, "a_B.c");
	BAD(label_key_bad, "");
	BAD(label_key_bad, "/a");
	BAD(label_key_bad, "a/");
	BAD(label_key_bad, "a/b/c");
	BAD(label_key_bad, "a b");
	BAD(label_key_bad, "a..b/c");
	CHECK(label_key_bad(repeat('a', 64)) != NULL);
	repeat('a', 254);
	long_text[254] = '/';
	long_text[255] = 'b';
	CHECK(label_key_bad((struct str){ long_text, 256 }) != NULL);
	GOOD(label_value_bad, "");
	GOOD(label_value_bad, "v1.2_3");
	BAD(label_value_bad, "-");
	BAD(label_value_bad, "a/b");
	CHECK(label_value_bad(repeat('a', 64)) != NULL);
}

TEST(protocols)
{
	CHECK_INT(app_protocol_parse(STR("tcp")), APP_TCP);
	CHECK_INT(app_protocol_parse(STR("UDP")), APP_UDP);
	CHECK_INT(app_protocol_parse(STR("gRPC-Web")), APP_HTTP);
	CHECK_INT(app_protocol_parse(STR("HTTPS")), APP_TLS);
	CHECK_INT(app_protocol_parse(STR("Mongo")), APP_OTHER_TCP);
	CHECK_INT(app_protocol_parse(STR("")), APP_UNKNOWN);
	CHECK_INT(app_protocol_parse(STR("tcpx")), APP_UNKNOWN);
	CHECK(port_ok(1) && port_ok(65535) && !port_ok(0) && !port_ok(65536) && !port_ok(-1));
}
