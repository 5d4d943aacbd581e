/* SPDX-License-Identifier: BSD-2-Clause */
/* meshd's settings: one table gives the keys of the config file (YAML, kebab-case), the flags, --help and the defaults. */
#ifndef PLANE_SETTINGS_H
#define PLANE_SETTINGS_H

#include "base/str.h"
#include "config/snapshot.h"

#define PARSER_USER "tulle-l7"

struct settings {
	/* Defaults in comments; key and flag are the name with '-' for '_'. */
	char *config;		/* --config only: /etc/tulle/meshd.yaml, may be absent unless given */
	char *cgroup;		/* cgroup2 directory whose sockets are the mesh's: /sys/fs/cgroup (kubepods below it) */
	char *pin;		/* /sys/fs/bpf/tulle */
	char *rules;		/* directory of YAML files, watched; "" (none) */
	char *state;		/* directory of the journal of applied documents: /var/lib/tulle */
	char *socket;		/* /run/tulle/meshd.sock */
	char *socket_group;	/* group that may use the socket: "" (root) */
	char *node_name;	/* this node's name; "" : hostname */
	char *cluster_domain;	/* cluster.local */
	char *root_namespace;	/* istio-system */
	bool registry_only;	/* outbound-traffic-policy: REGISTRY_ONLY; ALLOW_ANY */
	uint32_t max_services;	/* rows, i.e. address x port x scope: 65536 */
	uint32_t max_endpoints; /* each counts for every destination that has it: 131072 */
	uint32_t max_pods;	/* pods on this node: 1024 */
	uint32_t max_flows;	/* live flows: 65536 */
	uint32_t max_closed_flows;    /* ring of closed flows: 65536, rounded up to a power of two */
	uint32_t max_connections;     /* of the tc path: 65536 */
	uint32_t max_pod_connections; /* of these, of one pod; 0: a quarter */
	uint32_t max_workloads;	      /* addresses of workloads, in the whole cluster: 131072 */
	uint32_t max_policy_terms;    /* steps of policy programs, old and new: 262144 */
	uint32_t max_table_entries;   /* of hash rings, Maglev tables and turns by weight, old and new: 1048576 */
	bool cut;		      /* on-policy-change: cut; keep */
	uint32_t drain_timeout_s;     /* of connections whose endpoint drains or is gone; 0: never */
	bool reset_removed;	      /* on-endpoint-removal: reset; keep */
	bool sock_diag;		      /* sockets are cut through it even where programs can: off */
	bool socket_hooks;	      /* programs at the sockets: on */
	bool tc;		      /* programs at the links of pods and node: on */
	enum accelerate accelerate;   /* connections between pods of the node past TCP: off */
	bool accelerate_loopback;     /* and inside of pods: off */
	bool accelerate_parser;	      /* and with the parser: off */
	uint32_t accelerate_message;  /* bytes one way until the other side answers: 65536 */
	uint32_t accelerate_flow;     /* accelerate-flow-bytes: of a direction that wait for their reader: 131072 */
	uint32_t accelerate_pod;      /* accelerate-pod-bytes: of all connections of a pod: 67108864 */
	uint32_t max_accelerated;     /* sockets: 16384 */
	bool shortcut;		      /* packets straight from pod to pod of the node: on */
	char *node_interfaces;	      /* links to the outside, by name, "auto": those of default routes; "none": auto */
	bool parser;		      /* HTTP may be routed by request: on */
	char *parser_user;	      /* PARSER_USER, or an id where nobody has that name */
	uint32_t parser_workers;      /* 0: one for each CPU */
	uint32_t parser_memory;	      /* MiB of its own: 1024; 0: any */
	bool parser_fail_open;	      /* on-parser-down: l4; closed */
	bool http_per_request;	      /* http-weights: request; connection */
	char *access_log;	      /* file or FIFO; "": none */
	bool access_log_json;	      /* access-log-format: json; text */
	char *log_level;	      /* info */
	bool unload, version, help;   /* flags only */
};

/* Reads the command line, then the config file under it (flags win). 0; -EINVAL with a message (file:line:column for the file) in
 * err; -ENOENT when --config names no file. */
int settings_read(struct settings *s, int argc, char **argv, struct buf *err);
void settings_release(struct settings *s);
/* --help text, generated from the table. */
void settings_help(struct buf *out);

#endif
