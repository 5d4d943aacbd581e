/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network namespace that meshl7 runs in, its link to the node (bpf/legs.bpf.h), and the listeners that clients' connections come to.
 * Every address is local there, and meshl7 may bind to any; what it may speak for on the node the programs at the link see to. The node
 * itself gets the link MESH_PARSER_LINK, without an address, and nothing else; it goes with the namespace, which lives as long as a process
 * is in it or meshd holds it.
 */
#ifndef PLANE_PARSER_NET_H
#define PLANE_PARSER_NET_H

#include <stdint.h>

struct plane;

/* Its program, as pins name it. */
#define PARSER_NET_PROG "mesh_parser"

struct parser_net {
	int netns_fd;	  /* -1: there is none */
	uint32_t ifindex; /* the node's end of its link; 0: there is none */
	uint32_t mtu;
	uint64_t cookie; /* of the namespace */
};

/*
 * Makes the namespace, and whatever an earlier meshd left of one goes. *ret_netns_fd is the plane's, until parser_net_close(). Needs
 * programs at links (p->tc). 0 or -errno.
 */
int parser_net_open(struct plane *p, int *ret_netns_fd);
/* Goes on with the namespace of a meshl7 that an earlier meshd has started: 0, or -errno: it is not ours, or lacks something; then
 * parser_net_open() is in order. The caller keeps netns_fd. */
int parser_net_adopt(struct plane *p, int netns_fd);
/* Makes nr listening sockets there, not blocking, which take IPv4 too; clients do not come before they are published. The caller's. 0 or
 * -errno. */
int parser_net_listen(struct plane *p, uint32_t nr, int *ret_fds);
/* New connections come to these from now on, in turn. Listeners before them keep what they have not accepted until they are closed. When the
 * last fd of a published listener is closed, by whichever process, it is none any more; without any the parser is down. 0 or -errno. */
int parser_net_publish(struct plane *p, const int *fds, uint32_t nr);
/* Takes the link away: the parser is down, and what it had is reset. Nothing there is fine. */
void parser_net_close(struct plane *p);

/* ---- for user/plane ---- */
/* The node's end of the link is in no use any more. */
void parser_net_gone(struct plane *p);
/* No packet of the parser is larger than any pod's link takes. */
void parser_net_fit(struct plane *p);
/* Takes away what pins tell of. */
void parser_net_remove(const char *pin);

#endif
