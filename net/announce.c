/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells switches and neighbours where a guest lives now.
 *
 * The frames go out from the bridge itself, with the guest's MAC as source:
 * sent on the guest's own interface they would reach nobody but the guest.
 * Switches learn the MAC from any of them; neighbours, whose tables name the
 * MAC and not the place, are reminded of it.
 */
#include "config.h"

#include "net/announce.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
	FRAME_MIN = 60, /* Ethernet's shortest, without the checksum */
	NA_BYTES = 32,	/* an advertisement with one option */
};

static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

static uint8_t *put(uint8_t *p, const void *bytes, size_t len)
{
	memcpy(p, bytes, len);
	return p + len;
}

static uint8_t *put_u16(uint8_t *p, uint16_t v)
{
	return put(p, (uint8_t[]){ (uint8_t)(v >> 8), (uint8_t)v }, 2);
}

static uint8_t *put_ethernet(uint8_t *p, const uint8_t to[6],
			     const uint8_t from[6], uint16_t type)
{
	p = put(p, to, 6);
	p = put(p, from, 6);
	return put_u16(p, type);
}

/* ARP and RARP share their layout (RFC 826, RFC 903). */
static size_t arp_frame(uint8_t *out, uint16_t ethertype, uint16_t operation,
			const uint8_t mac[6], const uint8_t ip[4],
			const uint8_t target_mac[6])
{
	static const uint8_t ethernet_ipv4[] = { 0, 1, 8, 0, 6, 4 };
	uint8_t *p = put_ethernet(out, broadcast, mac, ethertype);

	p = put(p, ethernet_ipv4, sizeof(ethernet_ipv4));
	p = put_u16(p, operation);
	p = put(p, mac, 6);
	p = put(p, ip, 4);
	p = put(p, target_mac, 6);
	p = put(p, ip, 4);
	memset(p, 0, (size_t)(out + FRAME_MIN - p));
	return FRAME_MIN;
}

/* RFC 5227 section 2.3; some listen to requests only, some to replies only. */
size_t announce_arp_frame(uint8_t out[ANNOUNCE_FRAME_BYTES],
			  const uint8_t mac[6], const uint8_t ip[4], bool reply)
{
	static const uint8_t unknown[6];

	return reply ? arp_frame(out, ETHERTYPE_ARP, ARPOP_REPLY, mac, ip, mac)
		     : arp_frame(out, ETHERTYPE_ARP, ARPOP_REQUEST, mac, ip,
				 unknown);
}

size_t announce_rarp_frame(uint8_t out[ANNOUNCE_FRAME_BYTES],
			   const uint8_t mac[6])
{
	static const uint8_t none[4];

	return arp_frame(out, ETHERTYPE_REVARP, ARPOP_RREQUEST, mac, none, mac);
}

static uint32_t sum_words(uint32_t sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	return sum;
}

/* RFC 4443 section 2.3: over a pseudo-header and the message. */
static uint16_t icmpv6_checksum(const uint8_t *addresses,
				const uint8_t *message)
{
	uint32_t sum = NA_BYTES + IPPROTO_ICMPV6;

	sum = sum_words(sum, addresses, 32);
	sum = sum_words(sum, message, NA_BYTES);
	sum = (sum >> 16) + (sum & 0xffff);
	sum += sum >> 16;
	return (uint16_t)~sum;
}

/* RFC 4861 sections 4.4 and 7.2.6. */
size_t announce_na_frame(uint8_t out[ANNOUNCE_FRAME_BYTES],
			 const uint8_t mac[6], const uint8_t ip[16])
{
	static const uint8_t all_nodes_mac[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	static const uint8_t all_nodes[16] = { 0xff, 2, [15] = 1 };
	static const uint8_t version[4] = { 0x60 };
	uint8_t *p = put_ethernet(out, all_nodes_mac, mac, ETHERTYPE_IPV6);
	uint8_t *addresses, *message;

	p = put(p, version, 4);
	p = put_u16(p, NA_BYTES);
	p = put(p, (uint8_t[]){ IPPROTO_ICMPV6, 255 }, 2);
	addresses = p;
	p = put(p, ip, 16);
	p = put(p, all_nodes, 16);
	message = p;
	p = put(p, (uint8_t[8]){ ND_NEIGHBOR_ADVERT, [4] = 0x20 }, 8);
	p = put(p, ip, 16);
	p = put(p, (uint8_t[]){ ND_OPT_TARGET_LINKADDR, 1 }, 2);
	p = put(p, mac, 6);
	put_u16(message + 2, icmpv6_checksum(addresses, message));
	return (size_t)(p - out);
}

/* The index of the bridge that `ifname` is a port of. */
static int bridge_of(const char *ifname)
{
	char path[128], target[256];
	const char *name;
	unsigned index;
	ssize_t n;

	/* An interface's name is short and has no '/' in it. */
	if (!if_nametoindex(ifname))
		return -ENODEV;
	snprintf(path, sizeof(path), "/sys/class/net/%s/brport/bridge", ifname);
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return -ENOTCONN;
	target[n] = '\0';
	name = strrchr(target, '/');
	index = if_nametoindex(name ? name + 1 : target);
	return index ? (int)index : -ENODEV;
}

struct sender {
	int fd;
	struct sockaddr_ll to;
	int sent;
	int err; /* the last */
};

static void send_frame(struct sender *s, const uint8_t *frame, size_t len)
{
	memcpy(&s->to.sll_protocol, frame + 12, 2);
	if (sendto(s->fd, frame, len, MSG_DONTWAIT,
		   (const struct sockaddr *)&s->to, sizeof(s->to)) < 0)
		s->err = -errno;
	else
		s->sent++;
}

int announce(const char *ifname, const uint8_t mac[6],
	     const struct address_set *set)
{
	AUTO_FD int fd = -1;
	struct sender s = { .to = { .sll_family = AF_PACKET, .sll_halen = 6 } };
	uint8_t frame[ANNOUNCE_FRAME_BYTES];
	int bridge = bridge_of(ifname);

	if (bridge < 0)
		return bridge;
	/* Protocol 0: nothing is to be received. */
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	s.fd = fd;
	s.to.sll_ifindex = bridge;
	send_frame(&s, frame, announce_rarp_frame(frame, mac));
	for (size_t i = 0; i < set->count; i++) {
		const struct guest_address *a = &set->at[i];

		if (memcmp(a->mac, mac, 6))
			continue;
		if (a->ipv6) {
			send_frame(&s, frame,
				   announce_na_frame(frame, mac, a->ip));
			continue;
		}
		send_frame(&s, frame,
			   announce_arp_frame(frame, mac, a->ip, false));
		send_frame(&s, frame,
			   announce_arp_frame(frame, mac, a->ip, true));
	}
	return s.sent ? s.sent : s.err;
}
