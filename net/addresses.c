/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of a guest's addresses: learned from frames, and as a record.
 * Pure; any thread.
 *
 * A guest may put any source address into its packets, so what is learned is
 * bounded in number and never an address that could not be a host's own.
 * Frames with a VLAN tag are not looked into: what they announce would have to
 * be announced with that tag.
 */
#include "config.h"

#include "net/announce.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <string.h>

#include "base/cursor.h"

enum {
	ADDRESS_BYTES = 24, /* of one in a record */
	ARP_BYTES = 28,
};

bool address_set_add(struct address_set *set, const struct guest_address *a)
{
	size_t ip_bytes = a->ipv6 ? 16 : 4;

	for (size_t i = 0; i < set->count; i++)
		if (set->at[i].ipv6 == a->ipv6 &&
		    !memcmp(set->at[i].mac, a->mac, 6) &&
		    !memcmp(set->at[i].ip, a->ip, ip_bytes))
			return false;
	if (set->count == ADDRESSES_MAX)
		return false;
	set->at[set->count++] = *a;
	return true;
}

/* Could it be the address of one host? */
static bool ipv4_ok(const uint8_t ip[4])
{
	return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
}

static bool ipv6_ok(const uint8_t ip[16])
{
	/* ::/96 holds the unspecified, the loopback and the IPv4-compatible
	 * addresses, ::ffff:0:0/96 the IPv4-mapped ones. */
	static const uint8_t zero[10];

	if (!memcmp(ip, zero, 10) &&
	    ((!ip[10] && !ip[11]) || (ip[10] == 0xff && ip[11] == 0xff)))
		return false;
	return ip[0] != 0xff;
}

static bool learn(struct address_set *set, const uint8_t mac[6], bool ipv6,
		  const uint8_t *ip)
{
	struct guest_address a = { .ipv6 = ipv6 };

	if (ipv6 ? !ipv6_ok(ip) : !ipv4_ok(ip))
		return false;
	memcpy(a.mac, mac, 6);
	memcpy(a.ip, ip, ipv6 ? 16 : 4);
	return address_set_add(set, &a);
}

/* RFC 826; a probe (RFC 5227) has no sender's address yet. */
static bool learn_arp(struct address_set *set, const uint8_t mac[6],
		      struct cursor c)
{
	static const uint8_t ethernet_ipv4[] = { 0, 1, 8, 0, 6, 4 };
	const uint8_t *arp = cursor_take(&c, ARP_BYTES);

	if (!arp || memcmp(arp, ethernet_ipv4, sizeof(ethernet_ipv4)) ||
	    memcmp(arp + 8, mac, 6))
		return false;
	return learn(set, mac, false, arp + 14);
}

static bool learn_ipv4(struct address_set *set, const uint8_t mac[6],
		       struct cursor c)
{
	const uint8_t *ip = cursor_take(&c, 20);

	return ip && ip[0] >> 4 == 4 && learn(set, mac, false, ip + 12);
}

/*
 * The source, and what a neighbour advertisement advertises (RFC 4861).  The
 * target of a solicitation without a source is tentative, and not learned.
 */
static bool learn_ipv6(struct address_set *set, const uint8_t mac[6],
		       struct cursor c)
{
	const uint8_t *ip = cursor_take(&c, sizeof(struct ip6_hdr));
	const uint8_t *na;
	bool grown;

	if (!ip || ip[0] >> 4 != 6)
		return false;
	grown = learn(set, mac, true, ip + 8);
	na = cursor_take(&c, sizeof(struct nd_neighbor_advert));
	if (ip[6] == IPPROTO_ICMPV6 && ip[7] == 255 && na &&
	    na[0] == ND_NEIGHBOR_ADVERT)
		grown |= learn(set, mac, true, na + 8);
	return grown;
}

bool address_learn(struct address_set *set, const uint8_t mac[6],
		   const uint8_t *ethernet, size_t len)
{
	struct cursor c = cursor_over(ethernet, len);
	const uint8_t *header = cursor_take(&c, ETH_HLEN);

	if (!header || memcmp(header + 6, mac, 6))
		return false;
	switch (header[12] << 8 | header[13]) {
	case ETHERTYPE_ARP:
		return learn_arp(set, mac, c);
	case ETHERTYPE_IP:
		return learn_ipv4(set, mac, c);
	case ETHERTYPE_IPV6:
		return learn_ipv6(set, mac, c);
	default:
		return false;
	}
}

size_t addresses_encode(const struct address_set *set, uint8_t *out,
			size_t room)
{
	struct cursor c = cursor_over(out, room);

	if (room < set->count * ADDRESS_BYTES)
		return 0;
	for (size_t i = 0; i < set->count; i++) {
		const struct guest_address *a = &set->at[i];
		uint8_t ip[16] = { 0 };

		memcpy(ip, a->ip, a->ipv6 ? 16 : 4);
		cursor_put_bytes(&c, a->mac, 6);
		cursor_put_bytes(&c, (uint8_t[]){ a->ipv6 ? 6 : 4, 0 }, 2);
		cursor_put_bytes(&c, ip, 16);
	}
	return set->count * ADDRESS_BYTES;
}

static bool decode_one(struct cursor *c, struct guest_address *a)
{
	static const uint8_t zero[12];
	uint8_t family[2];

	*a = (struct guest_address){ 0 };
	cursor_get_bytes(c, a->mac, 6);
	cursor_get_bytes(c, family, 2);
	cursor_get_bytes(c, a->ip, 16);
	a->ipv6 = family[0] == 6;
	if (c->bad || family[1] || (a->mac[0] & 1))
		return false;
	if (a->ipv6)
		return ipv6_ok(a->ip);
	return family[0] == 4 && ipv4_ok(a->ip) && !memcmp(a->ip + 4, zero, 12);
}

int addresses_decode(const uint8_t *body, size_t len, struct address_set *set)
{
	struct cursor c = cursor_over(body, len);
	struct guest_address a;

	set->count = 0;
	if (len > ADDRESSES_MAX * ADDRESS_BYTES)
		return -EPROTO;
	while (cursor_left(&c)) {
		if (!decode_one(&c, &a)) {
			set->count = 0;
			return -EPROTO;
		}
		address_set_add(set, &a);
	}
	return 0;
}
