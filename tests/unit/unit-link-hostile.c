/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that are authenticated and do not keep to the protocol. */
#include "config.h"

#include "net/link.h"

#include "link-raw.h"

/* Sends these bytes of a frame's header, then reads to the end. */
static struct {
	uint8_t bytes[2 * WIRE_HEADER_BYTES];
	int count, piece;
	bool shut, vanish;
} say;

static void say_header(struct raw *w)
{
	int n;

	for (int i = 0; i < say.count; i += n) {
		n = say.count - i;
		if (say.piece && n > say.piece)
			n = say.piece;
		SSL_write(w->ssl, say.bytes + i, n);
	}
	if (say.shut)
		SSL_shutdown(w->ssl);
	if (!say.vanish)
		read_tls(w);
}

static void header(uint16_t type, uint16_t flags, uint32_t length,
		   uint64_t sequence)
{
	struct wire_header h = { htole16(type), htole16(flags), htole32(length),
				 0, htole64(sequence) };

	memset(&say, 0, sizeof(say));
	memcpy(say.bytes, &h, sizeof(h));
	say.count = sizeof(h);
}

static void raw_frame(struct rig *r, bool (*done)(struct rig *r))
{
	raw_client(r, (struct raw){ .tls = true, .act = say_header });
	run_until(r, done);
	if (r->server.link)
		link_abort(r->server.link, "enough");
	run_until(r, server_down);
	raw_join(r);
	assert_int_equal(r->server.ups, 1);
	assert_int_equal(r->server.downs, 1);
}

static void malformed(struct rig *r)
{
	raw_frame(r, server_down);
	assert_int_equal(r->server.err, -EPROTO);
	assert_non_null(
		strstr(r->server.why, "malformed frame 0 from the peer: "));
	assert_int_equal(r->server.got_count, 0);
}

static bool two_arrived(struct rig *r)
{
	return r->server.got_count == 2;
}

/* Records that end anywhere, in the middle of a header and across two. */
static void headers_in_pieces(struct rig *r, int piece)
{
	header(WIRE_HEARTBEAT, 0, 0, 0);
	memcpy(say.bytes + WIRE_HEADER_BYTES, say.bytes, WIRE_HEADER_BYTES);
	say.bytes[WIRE_HEADER_BYTES + 16] = 1; /* its sequence number */
	say.count *= 2;
	say.piece = piece;
	raw_frame(r, two_arrived);
}

static void test_headers_byte_by_byte(void **state)
{
	headers_in_pieces(*state, 1);
}

static void test_headers_across_records(void **state)
{
	headers_in_pieces(*state, 11);
}

static void test_oversize_length(void **state)
{
	header(WIRE_PAGES, 0, WIRE_PAYLOAD_MAX + 1, 0);
	malformed(*state);
}

static void test_largest_length(void **state)
{
	header(WIRE_OPTIONAL | 77, 0, UINT32_MAX, 0);
	malformed(*state);
}

static void test_wrong_sequence(void **state)
{
	header(WIRE_HEARTBEAT, 0, 0, 1);
	malformed(*state);
}

static void test_reserved_flags(void **state)
{
	header(WIRE_HEARTBEAT, 1, 0, 0);
	malformed(*state);
}

static void test_unknown_type(void **state)
{
	header(77, 0, 0, 0);
	malformed(*state);
}

static void test_closed_inside_a_frame(void **state)
{
	struct rig *r = *state;

	header(WIRE_HEARTBEAT, 0, 0, 0);
	say.count = 11;
	say.shut = true;
	raw_frame(r, server_down);
	assert_int_equal(r->server.err, -EPROTO);
	assert_string_equal(r->server.why, "the peer closed inside a frame");
}

static void test_vanished_inside_a_frame(void **state)
{
	struct rig *r = *state;

	header(WIRE_HEARTBEAT, 0, 0, 0);
	say.count = 11;
	say.vanish = true;
	raw_frame(r, server_down);
	assert_int_equal(r->server.err, -ECONNRESET);
	assert_string_equal(r->server.why,
			    "the peer ended the connection without closing it");
}

static void say_garbage_record(struct raw *w)
{
	uint8_t record[5 + 64] = { 23, 3, 3, 0, 64, 1, 2, 3 };

	assert_true(write(w->fd, record, sizeof(record)) > 0);
	read_tls(w);
}

static void test_corrupted_record(void **state)
{
	struct rig *r = *state;

	raw_client(r, (struct raw){ .tls = true, .act = say_garbage_record });
	run_until(r, server_down);
	raw_join(r);
	assert_int_equal(r->server.err, -EPROTO);
	assert_string_equal(r->server.why,
			    "a TLS record was corrupted on its way");
}

static void say_garbage(struct raw *w)
{
	uint8_t bytes[1000];

	memset(bytes, 0xa5, sizeof(bytes));
	assert_true(write(w->fd, bytes, sizeof(bytes)) > 0);
	read_to_the_end(w->fd);
}

static void test_garbage_inside_a_session(void **state)
{
	struct rig *r = *state;

	raw_client(r, (struct raw){ .tls = true, .act = say_garbage });
	run_until(r, server_down);
	raw_join(r);
	assert_int_equal(r->server.err, -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LINK_TEST(test_headers_byte_by_byte),
		LINK_TEST(test_headers_across_records),
		LINK_TEST(test_oversize_length),
		LINK_TEST(test_largest_length),
		LINK_TEST(test_wrong_sequence),
		LINK_TEST(test_reserved_flags),
		LINK_TEST(test_unknown_type),
		LINK_TEST(test_closed_inside_a_frame),
		LINK_TEST(test_vanished_inside_a_frame),
		LINK_TEST(test_corrupted_record),
		LINK_TEST(test_garbage_inside_a_session),
	};

	return RUN_LINK_TESTS(tests);
}
