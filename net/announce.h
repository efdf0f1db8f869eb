/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's addresses on the network: learned on the primary by listening
 * to its interfaces, announced by the secondary after a takeover.
 */
#ifndef NET_ANNOUNCE_H
#define NET_ANNOUNCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/loop.h"

enum { ADDRESSES_MAX = 32 };

struct guest_address {
	uint8_t mac[6];
	bool ipv6;
	uint8_t ip[16]; /* the first 4 bytes for IPv4 */
};

struct address_set {
	size_t count;
	struct guest_address at[ADDRESSES_MAX];
};

/* False where it was known already or the set is full. */
bool address_set_add(struct address_set *set, const struct guest_address *a);

/*
 * Learns a frame's sender: ARP, IPv6 neighbour discovery, or the source
 * address of any other IPv4/IPv6 packet, where the frame comes from `mac`.
 * Never learns multicast, broadcast, unspecified or loopback addresses.
 */
bool address_learn(struct address_set *set, const uint8_t mac[6],
		   const uint8_t *ethernet, size_t len);

/*
 * The body of a COLOD_ADDRESSES record: 24 bytes an address: mac[6], u8 family
 * (4 or 6), u8 zero, ip[16] (zero-padded).
 */
size_t addresses_encode(const struct address_set *set, uint8_t *out,
			size_t room);
/* -EPROTO where the body is malformed or holds too many. */
int addresses_decode(const uint8_t *body, size_t len, struct address_set *set);

/*
 * Listens on an interface for the guest's own frames; a sample is enough, so
 * the socket's buffer is small and only the first bytes of each frame are
 * taken.  Called back on the loop when *set has grown.  -ENODEV: no such
 * interface; -EPERM: no CAP_NET_RAW.
 */
struct address_watch;
/* `set` stays the caller's and must outlive the watch. */
int address_watch_open(struct loop *loop, const char *ifname,
		       const uint8_t mac[6], struct address_set *set,
		       void (*grown)(void *arg), void *arg,
		       struct address_watch **out);
void address_watch_close(struct address_watch *w);

/* Room enough for any of the frames below. */
enum { ANNOUNCE_FRAME_BYTES = 96 };

/* The frames of an announcement, as sent; each returns its length. */
size_t announce_arp_frame(uint8_t out[ANNOUNCE_FRAME_BYTES],
			  const uint8_t mac[6], const uint8_t ip[4],
			  bool reply);
size_t announce_na_frame(uint8_t out[ANNOUNCE_FRAME_BYTES],
			 const uint8_t mac[6], const uint8_t ip[16]);
size_t announce_rarp_frame(uint8_t out[ANNOUNCE_FRAME_BYTES],
			   const uint8_t mac[6]);

/*
 * Tells the network that `mac` now lives behind `ifname`: gratuitous ARP and
 * unsolicited neighbour advertisements for its addresses in `set`, and a RARP
 * frame with the MAC alone, sent from the bridge that ifname is a port of.
 * Returns the number of frames sent, or a negative errno (-ENODEV: no such
 * interface, -ENOTCONN: not a port of a bridge).  Caller repeats it.
 */
int announce(const char *ifname, const uint8_t mac[6],
	     const struct address_set *set);

#endif
