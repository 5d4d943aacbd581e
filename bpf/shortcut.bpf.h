/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shortcuts: packets of an established connection between two pods of the node go from the host's end of the one's link straight into the
 * other pod, past bridge, routes and netfilter of the node. The links where packets arrive say what may: SYN and answer, and one
 * segment each way, have come there by the long way, so that whatever the node forbids it has not forbidden this; the server's policy has
 * been asked; and the long way is tried again every few seconds. Who sends uses it. What ends a connection takes the long way, and so
 * does all that comes after.
 */
#ifndef BPF_SHORTCUT_H
#define BPF_SHORTCUT_H

#include "segment.bpf.h"
#include "work.bpf.h"
#include <bpf/bpf_core_read.h>

#define PACKET_HOST_ 0

/* Linux 6.2. */
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

/* Linux 5.18, and 6.0 for the timeout. */
struct bpf_ct_opts___mesh {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *t, __u32 t_len,
					 struct bpf_ct_opts___mesh *opts, __u32 opts_len) __ksym __weak;
extern int bpf_ct_change_timeout(struct nf_conn *ct, __u32 timeout_ms) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *ct) __ksym __weak;

/* The node's netfilter tracks this packet's connection; where that cannot be seen, it may. */
static __always_inline int shortcut_tracked(struct __sk_buff *skb)
{
	struct sk_buff *kernel = NULL;

	if (!bpf_cast_to_kern_ctx)
		return 1;
	if (!bpf_core_field_exists(kernel->_nfct))
		return 0;
	kernel = bpf_cast_to_kern_ctx(skb);
	return kernel->_nfct > 7;
}

/* The other direction's key. */
static __always_inline void shortcut_back(const struct mesh_tuple *t, struct mesh_tuple *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	ret->client = t->server;
	ret->server = t->client;
	ret->client_port_be = t->server_port_be;
	ret->server_port_be = t->client_port_be;
}

/* Where netfilter has its entry of the segment's connection, gives that the time it would have, had it seen all packets. */
static __always_inline int shortcut_keep(struct __sk_buff *skb, const struct mesh_tuple *t, __u32 timeout_ms)
{
	struct bpf_ct_opts___mesh opts = { .netns_id = -1, .l4proto = MESH_PROTO_TCP };
	struct bpf_sock_tuple at = {};
	__u32 len = sizeof(at.ipv4);
	struct nf_conn *ct;
	int rc;

	if (!bpf_skb_ct_lookup || !bpf_ct_change_timeout || !bpf_ct_release)
		return 0;
	if (skb->protocol == ETH_IP) {
		at.ipv4.saddr = t->client.w_be[3];
		at.ipv4.daddr = t->server.w_be[3];
		at.ipv4.sport = t->client_port_be;
		at.ipv4.dport = t->server_port_be;
	} else {
		__builtin_memcpy(at.ipv6.saddr, &t->client, sizeof(at.ipv6.saddr));
		__builtin_memcpy(at.ipv6.daddr, &t->server, sizeof(at.ipv6.daddr));
		at.ipv6.sport = t->client_port_be;
		at.ipv6.dport = t->server_port_be;
		len = sizeof(at.ipv6);
	}
	ct = bpf_skb_ct_lookup(skb, &at, len, &opts, sizeof(opts));
	if (!ct)
		return 0;
	rc = bpf_ct_change_timeout(ct, timeout_ms);
	bpf_ct_release(ct);
	return !rc;
}

static __always_inline void shortcut_offer(const struct mesh_tuple *key, const struct mesh_shortcut *here)
{
	struct mesh_offer *offer = bpf_ringbuf_reserve(&mesh_offers, sizeof(*offer), 0);

	if (!offer)
		return;
	offer->key = *key;
	offer->born_ns = here->born_ns;
	bpf_ringbuf_submit(offer, 0);
}

/* Netfilter tracks the connection: 1: what goes straight does not put its entry out. User space sees to that, once a connection has lasted,
 * and again with each lease, since an entry may be a new one, and minds resets by the last numbers that it has seen. */
static __noinline int shortcut_loosened(struct __sk_buff *skb, const struct mesh_tuple *t, struct mesh_shortcut *here)
{
	struct mesh_loosened *loosened;
	struct mesh_tuple key = *t;

	if (here->reply)
		shortcut_back(t, &key);
	loosened = bpf_map_lookup_elem(&mesh_loosened, &key);
	if (!loosened || loosened->born_ns != here->born_ns) {
		if (++here->waits % MESH_SHORTCUT_WAITS == 0)
			shortcut_offer(&key, here);
		return 0;
	}
	if (here->state == MESH_SHORTCUT_OPEN)
		shortcut_offer(&key, here);
	return shortcut_keep(skb, t, loosened->timeout_ms);
}

/* The SYN of w is about to arrive at the pod, and its policy allows it. */
__noinline int tc_shortcut_begin(void)
{
	struct work *w = work_get();
	struct mesh_shortcut fresh = {};
	struct mesh_tuple key;

	if (!w)
		return 0;
	key = w->p.t;
	key.proto = 0;
	fresh.destination = key.server;
	fresh.far_cookie = w->netns_cookie;
	fresh.far_ifindex = w->ifindex;
	fresh.born_ns = bpf_ktime_get_boot_ns();
	fresh.verdict_epoch = w->live;
	fresh.seq = w->p.seq;
	fresh.state = MESH_SHORTCUT_SYN;
	bpf_map_update_elem(&mesh_shortcuts, &key, &fresh, BPF_ANY);
	return 0;
}

/* The answer to a SYN arrives at the client's link. */
static __always_inline void shortcut_answered(const struct mesh_iface *iface, __u32 ifindex, const struct segment *s)
{
	struct mesh_shortcut fresh = {}, *there;
	struct mesh_tuple back;

	shortcut_back(&s->t, &back);
	there = bpf_map_lookup_elem(&mesh_shortcuts, &back);
	if (!there || there->state != MESH_SHORTCUT_SYN || u32_at(s->tcp + 8) != there->seq + 1)
		return;
	fresh.destination = s->t.server;
	fresh.near_cookie = there->far_cookie;
	fresh.far_cookie = iface->netns_cookie;
	fresh.far_ifindex = ifindex;
	fresh.born_ns = there->born_ns;
	fresh.verdict_epoch = there->verdict_epoch;
	fresh.seq = u32_at(s->tcp + 4);
	fresh.state = MESH_SHORTCUT_ANSWERED;
	fresh.reply = 1;
	if (bpf_map_update_elem(&mesh_shortcuts, &s->t, &fresh, BPF_ANY))
		return;
	there->near_cookie = iface->netns_cookie;
	there->state = MESH_SHORTCUT_ANSWERED;
}

/* Policies have changed since they were asked: 1: the connection may go on. */
__noinline int tc_shortcut_ask(const struct mesh_tuple *t, int reply)
{
	struct mesh_control *ctl = mesh_control_get();
	struct work *w = work_get();

	if (!t || !w || !ctl)
		return 0;
	w->live = *(volatile __u64 *)&ctl->live;
	return !tc_ask(reply ? &t->server : &t->client, 0, reply ? &t->client : &t->server,
		       bpf_ntohs(reply ? t->client_port_be : t->server_port_be), 0);
}

/* A segment arrives at the pod's link by the long way. */
static __always_inline void shortcut_seen(struct __sk_buff *skb, const struct mesh_iface *iface,
					  const struct mesh_control *ctl, const struct segment *s)
{
	struct mesh_shortcut *here;
	__u8 state;

	if (s->tcp[13] & TCP_SYN) {
		shortcut_answered(iface, skb->ifindex, s);
		return;
	}
	here = bpf_map_lookup_elem(&mesh_shortcuts, &s->t);
	if (!here || here->far_cookie != iface->netns_cookie || here->state == MESH_SHORTCUT_SYN ||
	    here->state == MESH_SHORTCUT_CLOSED || (s->tcp[13] & (TCP_FIN | TCP_RST)))
		return;
	if (here->verdict_epoch < ctl->cut_epoch) {
		if (!tc_shortcut_ask(&s->t, here->reply))
			return;
		here->verdict_epoch = *(const volatile __u64 *)&ctl->live;
	}
	here->seen_ns = bpf_ktime_get_coarse_ns();
	state = MESH_SHORTCUT_OPEN;
	if (shortcut_tracked(skb) && !shortcut_loosened(skb, &s->t, here))
		state = MESH_SHORTCUT_TRACKED;
	if (here->state != state)
		here->state = state;
}

static __always_inline void shortcut_close(struct mesh_shortcut *here, const struct mesh_tuple *t)
{
	struct mesh_shortcut *there;
	struct mesh_tuple back;

	shortcut_back(t, &back);
	here->state = MESH_SHORTCUT_CLOSED;
	there = bpf_map_lookup_elem(&mesh_shortcuts, &back);
	if (there)
		there->state = MESH_SHORTCUT_CLOSED;
}

/* Where the segment may go straight to: number of the interface, 0: it takes the long way. */
static __always_inline __u32 shortcut_find(const struct mesh_iface *iface, const struct mesh_control *ctl,
					   const struct segment *s, struct mesh_shortcut **ret_here,
					   struct mesh_iface **ret_far)
{
	struct mesh_shortcut *here = bpf_map_lookup_elem(&mesh_shortcuts, &s->t);
	__u32 ifindex;
	__u64 cookie;

	if (!here || here->near_cookie != iface->netns_cookie)
		return 0;
	if (s->tcp[13] & (TCP_FIN | TCP_RST)) {
		shortcut_close(here, &s->t);
		return 0;
	}
	if (here->state != MESH_SHORTCUT_OPEN || here->verdict_epoch < ctl->cut_epoch || (s->tcp[13] & TCP_SYN) ||
	    bpf_ktime_get_coarse_ns() - here->seen_ns > MESH_SHORTCUT_LEASE_S * SECOND)
		return 0;
	ifindex = here->far_ifindex;
	cookie = here->far_cookie;
	*ret_far = bpf_map_lookup_elem(&mesh_ifaces, &ifindex);
	if (!*ret_far || (*ret_far)->netns_cookie != cookie || !((*ret_far)->flags & MESH_IFACE_ALONE))
		return 0;
	barrier();
	*ret_here = here;
	return mesh_addr_eq(&here->destination, &s->t.server) ? ifindex : 0;
}

/* 1: the segment of that pod goes straight to where it is for, and *ret is the program's result. */
static __always_inline int shortcut_take(struct __sk_buff *skb, const struct mesh_iface *iface,
					 const struct mesh_control *ctl, const struct segment *s, int *ret)
{
	struct mesh_iface *far = NULL;
	struct mesh_shortcut *here = NULL;
	__u32 ifindex = shortcut_find(iface, ctl, s, &here, &far);
	__u8 mac[6];

	if (!ifindex || !far || !here)
		return 0;
	__sync_fetch_and_add(&here->packets, 1);
	__sync_fetch_and_add(&here->bytes, s->payload);
	/* The link address is that of the gateway where the node routes. */
	if (!mac_equal(s->eth, far->mac)) {
		__builtin_memcpy(mac, far->mac, sizeof(mac));
		if (bpf_skb_store_bytes(skb, 0, mac, sizeof(mac), 0))
			return 0;
	}
	/* Not for a link address of the host's: before Linux 6.16 that would stay so. */
	if (skb->pkt_type != PACKET_HOST_)
		bpf_skb_change_type(skb, PACKET_HOST_);
	mesh_count(MESH_HOOK_FROM_POD, MESH_REASON_SHORTCUT);
	*ret = bpf_redirect_peer(ifindex, 0);
	return 1;
}

#endif
