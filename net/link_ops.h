/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kind of link has to offer: the TLS link (tls_link.c), and filters that
 * stand in front of another link and can be stacked (filter.c).  Each member
 * is the function of its name in net/link.h, which says what it does.
 */
#ifndef NET_LINK_OPS_H
#define NET_LINK_OPS_H

#include "net/link.h"

struct link_ops {
	void (*setup_timeout)(struct link *l, uint64_t us);
	void (*congestion)(struct link *l, const char *name);
	void (*max_rate)(struct link *l, uint64_t bytes_per_s);
	void (*send)(struct link *l, struct frame_buf *b);
	size_t (*queued)(const struct link *l);
	void (*pause)(struct link *l, bool paused);
	void (*close)(struct link *l);
	void (*abort)(struct link *l, const char *why);
	const char *(*peer_name)(const struct link *l);
	const char *(*peer_address)(const struct link *l);
	uint64_t (*bytes_sent)(const struct link *l);
	uint64_t (*bytes_received)(const struct link *l);
};

/* The beginning of every kind's own struct. */
struct link {
	const struct link_ops *ops;
};

/* HELLO is the first frame, so nothing may overtake it. */
static inline bool link_is_urgent(uint16_t type)
{
	return type == WIRE_HELLO || type == WIRE_HEARTBEAT ||
	       type == WIRE_ACK || type == WIRE_BYE;
}

#endif
