/* SPDX-License-Identifier: Apache-2.0 */
/* What is learned from a guest's frames, the record of it, and the bytes sent.
 */
#include "config.h"

#include "net/announce.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t mac[6] = { 0x00, 0x16, 0x3e, 0x12, 0x34, 0x56 };
static const uint8_t other[6] = { 0x00, 0x16, 0x3e, 0x99, 0x99, 0x99 };
static const uint8_t ip4[4] = { 192, 168, 7, 9 };
static const uint8_t ip6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x42 };

static size_t ipv4_packet(uint8_t *out, const uint8_t from[6],
			  const uint8_t source[4])
{
	memset(out, 0, 60);
	memcpy(out + 6, from, 6);
	out[12] = 0x08;
	out[14] = 0x45;
	memcpy(out + 26, source, 4);
	return 60;
}

static size_t ipv6_packet(uint8_t *out, const uint8_t source[16])
{
	memset(out, 0, 60);
	memcpy(out + 6, mac, 6);
	out[12] = 0x86;
	out[13] = 0xdd;
	out[14] = 0x60;
	out[20] = 17;
	memcpy(out + 22, source, 16);
	return 60;
}

static void test_arp_announcement_bytes(void **state)
{
	static const uint8_t expected[60] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x16,
		0x3e, 0x12, 0x34, 0x56, 0x08, 0x06, /* broadcast, the guest, ARP
						     */
		0,    1,    8,	  0,	6,    4,    /* Ethernet, IPv4 */
		0,    1,			    /* request */
		0x00, 0x16, 0x3e, 0x12, 0x34, 0x56, 192,  168,
		7,    9, /* sender */
		0,    0,    0,	  0,	0,    0,    192,  168,
		7,    9, /* target: itself */
	};
	uint8_t out[ANNOUNCE_FRAME_BYTES];

	(void)state;
	memset(out, 0xaa, sizeof(out));
	assert_int_equal(announce_arp_frame(out, mac, ip4, false), 60);
	assert_memory_equal(out, expected, 60);
}

static void test_arp_reply_bytes(void **state)
{
	uint8_t request[ANNOUNCE_FRAME_BYTES], reply[ANNOUNCE_FRAME_BYTES];

	(void)state;
	announce_arp_frame(request, mac, ip4, false);
	assert_int_equal(announce_arp_frame(reply, mac, ip4, true), 60);
	assert_int_equal(reply[21], 2);
	assert_memory_equal(reply + 32, mac, 6);
	/* Else the same. */
	reply[21] = 1;
	memset(reply + 32, 0, 6);
	assert_memory_equal(reply, request, 60);
}

static void test_rarp_bytes(void **state)
{
	static const uint8_t expected[60] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x16,
		0x3e, 0x12, 0x34, 0x56, 0x80, 0x35, 0,	  1,
		8,    0,    6,	  4,	0,    3, /* request reverse */
		0x00, 0x16, 0x3e, 0x12, 0x34, 0x56, 0,	  0,
		0,    0,    0x00, 0x16, 0x3e, 0x12, 0x34, 0x56,
	};
	uint8_t out[ANNOUNCE_FRAME_BYTES];

	(void)state;
	assert_int_equal(announce_rarp_frame(out, mac), 60);
	assert_memory_equal(out, expected, 60);
}

static void test_neighbour_advertisement_bytes(void **state)
{
	static const uint8_t expected[86] = {
		0x33, 0x33, 0,	  0,	0,    1,    0x00, 0x16,
		0x3e, 0x12, 0x34, 0x56, 0x86, 0xdd, /* all nodes, the guest,
						       IPv6 */
		0x60, 0,    0,	  0,	0,    32,   58,	  255, /* ICMPv6 */
		0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,	  0,
		0,    0,    0,	  0,	0,    0,    0,	  0x42, /* source */
		0xff, 2,    0,	  0,	0,    0,    0,	  0,
		0,    0,    0,	  0,	0,    0,    0,	  1, /* ff02::1 */
		136,  0,    0x88, 0x2b, 0x20, 0,    0,	  0, /* override */
		0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,	  0,
		0,    0,    0,	  0,	0,    0,    0,	  0x42, /* target */
		2,    1,    0x00, 0x16, 0x3e, 0x12, 0x34, 0x56, /* its MAC */
	};
	uint8_t out[ANNOUNCE_FRAME_BYTES];
	uint32_t sum = 32 + 58;

	(void)state;
	assert_int_equal(announce_na_frame(out, mac, ip6), 86);
	/* The checksum makes the sum of all words come out as all ones. */
	for (int i = 22; i < 86; i += 2)
		sum += (uint32_t)(out[i] << 8 | out[i + 1]);
	sum = (sum >> 16) + (sum & 0xffff);
	sum += sum >> 16;
	assert_int_equal(sum & 0xffff, 0xffff);
	assert_memory_equal(out, expected, 86);
}

static void test_announced_is_what_is_learned(void **state)
{
	struct address_set set = { 0 };
	uint8_t out[ANNOUNCE_FRAME_BYTES];

	(void)state;
	assert_true(address_learn(&set, mac, out,
				  announce_arp_frame(out, mac, ip4, false)));
	assert_true(address_learn(&set, mac, out,
				  announce_na_frame(out, mac, ip6)));
	assert_false(
		address_learn(&set, mac, out, announce_rarp_frame(out, mac)));
	assert_int_equal(set.count, 2);
	assert_false(set.at[0].ipv6);
	assert_memory_equal(set.at[0].ip, ip4, 4);
	assert_memory_equal(set.at[0].mac, mac, 6);
	assert_true(set.at[1].ipv6);
	assert_memory_equal(set.at[1].ip, ip6, 16);
}

static void test_source_of_any_packet_is_learned_once(void **state)
{
	struct address_set set = { 0 };
	uint8_t out[64];
	size_t n = ipv4_packet(out, mac, ip4);

	(void)state;
	assert_true(address_learn(&set, mac, out, n));
	assert_false(address_learn(&set, mac, out, n));
	n = ipv6_packet(out, ip6);
	assert_true(address_learn(&set, mac, out, n));
	assert_int_equal(set.count, 2);
}

static void test_other_guests_are_not_learned(void **state)
{
	struct address_set set = { 0 };
	uint8_t out[ANNOUNCE_FRAME_BYTES];

	(void)state;
	assert_false(
		address_learn(&set, mac, out, ipv4_packet(out, other, ip4)));
	/* ARP whose sender is not who sent it. */
	announce_arp_frame(out, other, ip4, false);
	memcpy(out + 6, mac, 6);
	assert_false(address_learn(&set, mac, out, 60));
	assert_int_equal(set.count, 0);
}

static void test_impossible_sources_are_not_learned(void **state)
{
	static const uint8_t v4[][4] = { { 0, 0, 0, 0 },
					 { 127, 0, 0, 1 },
					 { 224, 0, 0, 1 },
					 { 255, 255, 255, 255 } };
	static const uint8_t v6[][16] = {
		{ 0 },
		{ [15] = 1 },
		{ 0xff, 2, [15] = 1 },
		{ [10] = 0xff, 0xff, 10, 0, 0, 1 },
	};
	struct address_set set = { 0 };
	uint8_t out[ANNOUNCE_FRAME_BYTES];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		address_learn(&set, mac, out, ipv4_packet(out, mac, v4[i]));
		announce_arp_frame(out, mac, v4[i], false);
		address_learn(&set, mac, out, 60);
		address_learn(&set, mac, out, ipv6_packet(out, v6[i]));
	}
	assert_int_equal(set.count, 0);
}

static void test_tentative_address_is_not_learned(void **state)
{
	static const uint8_t none[16];
	struct address_set set = { 0 };
	uint8_t out[ANNOUNCE_FRAME_BYTES];

	(void)state;
	/* A solicitation without a source: duplicate address detection. */
	announce_na_frame(out, mac, ip6);
	memcpy(out + 22, none, 16);
	out[54] = 135;
	assert_false(address_learn(&set, mac, out, 86));
}

static void test_short_frames_are_harmless(void **state)
{
	struct address_set set = { 0 };
	uint8_t out[ANNOUNCE_FRAME_BYTES];
	size_t n = announce_na_frame(out, mac, ip6);

	(void)state;
	for (size_t len = 0; len < 54; len++)
		assert_false(address_learn(&set, mac, out, len));
	assert_true(address_learn(&set, mac, out, n));
	announce_arp_frame(out, mac, ip4, false);
	for (size_t len = 0; len < 42; len++)
		assert_false(address_learn(&set, mac, out, len));
}

static void fill(struct address_set *set, int count)
{
	for (int i = 0; i < count; i++) {
		struct guest_address a = { .ipv6 = i & 1 };

		memcpy(a.mac, mac, 6);
		memcpy(a.ip, i & 1 ? ip6 : ip4, i & 1 ? 16 : 4);
		a.ip[3] = (uint8_t)(i + 1);
		address_set_add(set, &a);
	}
}

static void test_set_is_bounded(void **state)
{
	struct address_set set = { 0 };

	(void)state;
	fill(&set, ADDRESSES_MAX + 10);
	assert_int_equal(set.count, ADDRESSES_MAX);
}

static void test_record_comes_back_as_it_was(void **state)
{
	struct address_set set = { 0 }, back;
	uint8_t body[ADDRESSES_MAX * 24];

	(void)state;
	fill(&set, 5);
	assert_int_equal(addresses_encode(&set, body, sizeof(body)), 5 * 24);
	assert_memory_equal(body, mac, 6);
	assert_int_equal(body[6], 4);
	assert_int_equal(body[24 + 6], 6);
	assert_int_equal(addresses_decode(body, 5 * 24, &back), 0);
	assert_int_equal(back.count, 5);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(back.at[i].ipv6, set.at[i].ipv6);
		assert_memory_equal(back.at[i].mac, set.at[i].mac, 6);
		assert_memory_equal(back.at[i].ip, set.at[i].ip, 16);
	}
	assert_int_equal(addresses_encode(&set, body, 5 * 24 - 1), 0);
	assert_int_equal(addresses_decode(body, 0, &back), 0);
	assert_int_equal(back.count, 0);
}

static void test_malformed_records_are_refused(void **state)
{
	struct address_set set = { 0 }, back;
	uint8_t good[24], body[(ADDRESSES_MAX + 1) * 24];
	static const struct {
		int at;
		uint8_t value;
	} faults[] = { { 6, 5 }, { 7, 1 }, { 12, 1 },  { 23, 1 },
		       { 0, 1 }, { 8, 0 }, { 8, 127 }, { 8, 240 } };

	(void)state;
	fill(&set, 1);
	addresses_encode(&set, good, sizeof(good));
	assert_int_equal(addresses_decode(good, 24, &back), 0);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		memcpy(body, good, 24);
		body[faults[i].at] = faults[i].value;
		assert_int_equal(addresses_decode(body, 24, &back), -EPROTO);
		assert_int_equal(back.count, 0);
	}
	assert_int_equal(addresses_decode(good, 23, &back), -EPROTO);
	for (size_t i = 0; i <= ADDRESSES_MAX; i++)
		memcpy(body + i * 24, good, 24);
	assert_int_equal(addresses_decode(body, sizeof(body), &back), -EPROTO);
}

static void test_no_such_interface(void **state)
{
	struct address_set set = { 0 };

	(void)state;
	assert_int_equal(announce("nosuchif", mac, &set), -ENODEV);
	assert_int_equal(announce("../../etc", mac, &set), -ENODEV);
	assert_int_equal(announce("lo", mac, &set), -ENOTCONN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arp_announcement_bytes),
		cmocka_unit_test(test_arp_reply_bytes),
		cmocka_unit_test(test_rarp_bytes),
		cmocka_unit_test(test_neighbour_advertisement_bytes),
		cmocka_unit_test(test_announced_is_what_is_learned),
		cmocka_unit_test(test_source_of_any_packet_is_learned_once),
		cmocka_unit_test(test_other_guests_are_not_learned),
		cmocka_unit_test(test_impossible_sources_are_not_learned),
		cmocka_unit_test(test_tentative_address_is_not_learned),
		cmocka_unit_test(test_short_frames_are_harmless),
		cmocka_unit_test(test_set_is_bounded),
		cmocka_unit_test(test_record_comes_back_as_it_was),
		cmocka_unit_test(test_malformed_records_are_refused),
		cmocka_unit_test(test_no_such_interface),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
