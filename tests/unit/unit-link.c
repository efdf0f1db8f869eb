/* SPDX-License-Identifier: Apache-2.0 */
/* Links that are up: frames, order, flow control, and how they end. */
#include "config.h"

#include "net/link.h"

#include "link-fixture.h"

static const uint32_t sizes[] = { 0,	 1,	 24,	 4096,	16359,
				  16360, 16361,	 16384,	 16385, 65535,
				  65536, 131072, 262143, 262144 };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static bool all_sizes_arrived(struct rig *r)
{
	return r->client.got_count == SIZES * 2 &&
	       r->server.got_count == SIZES * 2;
}

static void test_frames_of_all_sizes_both_ways(void **state)
{
	struct rig *r = *state;

	established(r);
	for (size_t i = 0; i < SIZES * 2; i++) {
		uint32_t size = i < SIZES ? sizes[i] : sizes[2 * SIZES - 1 - i];

		link_send(r->client.link,
			  frame(&r->client, WIRE_PAGES, i, size));
		link_send(r->server.link,
			  frame(&r->server, WIRE_STATE, i, size));
	}
	run_until(r, all_sizes_arrived);
	for (size_t i = 0; i < SIZES * 2; i++) {
		assert_int_equal(r->server.got[i].epoch, i);
		assert_int_equal(r->server.got[i].sequence, i);
		assert_int_equal(r->server.got[i].type, WIRE_PAGES);
		assert_int_equal(r->client.got[i].type, WIRE_STATE);
		assert_int_equal(r->client.got[i].length,
				 i < SIZES ? sizes[i]
					   : sizes[2 * SIZES - 1 - i]);
	}
	assert_int_equal(r->client.released, SIZES * 2);
	assert_int_equal(link_queued(r->client.link), 0);
	assert_true(r->server.alives > 0);
	assert_true(link_bytes_sent(r->client.link) > 2 * 800000);
	assert_true(link_bytes_received(r->client.link) > 2 * 800000);
}

static void test_both_know_each_other(void **state)
{
	struct rig *r = *state;

	established(r);
	assert_string_equal(link_peer_name(r->client.link), "alpha");
	assert_string_equal(link_peer_name(r->server.link), "beta");
	assert_string_equal(link_peer_address(r->client.link), "127.0.0.1");
	assert_string_equal(link_peer_address(r->server.link), "127.0.0.1");
	assert_int_equal(r->client.ups, 1);
	assert_int_equal(r->server.ups, 1);
}

static void test_name_is_resolved(void **state)
{
	struct rig *r = *state;

	listen_as(r, identity(r->dirs->ours, "alpha"));
	connect_as(r, identity(r->dirs->ours, "beta"), "localhost");
	run_until(r, both_up);
}

static bool three_arrived(struct rig *r)
{
	return r->server.got_count == 3;
}

static void test_frames_sent_before_up_wait_for_it(void **state)
{
	struct rig *r = *state;

	both(r);
	send_bulk(&r->client, 3, 1000);
	link_close(r->client.link);
	run_until(r, client_down);
	/* Closed before it was up: nothing was sent, all was given back. */
	assert_int_equal(r->client.released, 3);
	assert_int_equal(r->client.err, 0);
	assert_int_equal(r->client.ups, 0);

	r->client = (struct end){ .rig = r };
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	send_bulk(&r->client, 3, 1000);
	run_until(r, three_arrived);
	run_for(r, 5000);
	assert_int_equal(r->server.got_count, 3);
}

static void heartbeat_after_five(struct frame_buf *b)
{
	struct end *e = b->owner;

	if (++e->released == 5)
		link_send_empty(e->link, WIRE_HEARTBEAT, 0);
	free(b);
}

static bool forty_one_arrived(struct rig *r)
{
	return r->server.got_count == 41;
}

static void test_urgent_overtakes_bulk(void **state)
{
	struct rig *r = *state;

	established(r);
	for (uint64_t i = 0; i < 40; i++) {
		struct frame_buf *b =
			frame(&r->client, WIRE_PAGES, i, WIRE_PAYLOAD_MAX);

		b->release = heartbeat_after_five;
		link_send(r->client.link, b);
	}
	run_until(r, forty_one_arrived);
	/* At the next frame's end, before the other 35. */
	assert_int_equal(r->server.got[5].type, WIRE_HEARTBEAT);
	for (size_t i = 0; i < 41; i++) {
		assert_int_equal(r->server.got[i].sequence, i);
		if (i != 5)
			assert_int_equal(r->server.got[i].epoch,
					 i < 5 ? i : i - 1);
	}
}

static bool queue_is_empty(struct rig *r)
{
	return !link_queued(r->client.link);
}

static void test_drained_is_told_once_and_never_inside_a_call(void **state)
{
	struct rig *r = *state;

	established(r);
	send_bulk(&r->client, 10, 131072);
	assert_int_equal(link_queued(r->client.link), 10 * 131072);
	assert_int_equal(r->client.draineds, 0);
	assert_int_equal(r->client.released, 0);
	run_until(r, queue_is_empty);
	assert_int_equal(r->client.draineds, 1);
	send_bulk(&r->client, 1, 1000);
	run_until(r, queue_is_empty);
	assert_int_equal(r->client.draineds, 1);
}

static void send_until_enough(struct end *e)
{
	if (e->released < 200)
		send_bulk(e, 4, WIRE_PAYLOAD_MAX / 4);
}

static bool two_hundred_released(struct rig *r)
{
	return r->client.released >= 200;
}

static void test_drained_keeps_a_stream_going(void **state)
{
	struct rig *r = *state;

	established(r);
	r->client.on_drained = send_until_enough;
	send_bulk(&r->client, 10, WIRE_PAYLOAD_MAX / 4);
	run_until(r, two_hundred_released);
}

static void pause_it(struct end *e)
{
	link_pause(e->link, true);
}

static void test_pause_holds_frames_back_and_loses_none(void **state)
{
	struct rig *r = *state;

	established(r);
	r->server.on_frame = pause_it;
	send_bulk(&r->client, 10, 20000);
	run_until(r, one_arrived);
	run_for(r, 20000);
	assert_int_equal(r->server.got_count, 1);
	r->server.on_frame = NULL;
	link_pause(r->server.link, false);
	run_until(r, ten_arrived);
}

static void test_paused_reader_bounds_what_is_taken(void **state)
{
	struct rig *r = *state;

	established(r);
	link_pause(r->server.link, true);
	send_bulk(&r->client, 100, WIRE_PAYLOAD_MAX);
	run_for(r, 100000);
	assert_true(link_queued(r->client.link) > 10 * WIRE_PAYLOAD_MAX);
	assert_true(r->client.released < 90);
	/* Torn down with a send under way that the peer never took. */
}

/* ---- the end ----------------------------------------------------------- */

static void test_close_delivers_everything_first(void **state)
{
	struct rig *r = *state;

	established(r);
	send_bulk(&r->client, 50, 100000);
	/* Traffic against it, which must not reset the connection. */
	send_bulk(&r->server, 50, 100000);
	link_close(r->client.link);
	link_send(r->client.link, frame(&r->client, WIRE_PAGES, 0, 10));
	run_until(r, both_down);
	assert_int_equal(r->server.got_count, 50);
	assert_int_equal(r->server.err, 0);
	assert_string_equal(r->server.why, "the peer closed the link");
	assert_int_equal(r->client.err, 0);
	assert_string_equal(r->client.why, "closed");
	run_for(r, 5000);
	assert_int_equal(r->client.downs, 1);
	assert_int_equal(r->server.downs, 1);
	assert_int_equal(r->client.released, 51);
	assert_int_equal(r->server.released, 50);
}

static void test_both_close_at_once(void **state)
{
	struct rig *r = *state;

	established(r);
	send_bulk(&r->client, 20, 100000);
	send_bulk(&r->server, 2, 100000);
	link_close(r->client.link);
	link_close(r->server.link);
	run_until(r, both_down);
	assert_int_equal(r->client.err, 0);
	assert_int_equal(r->server.err, 0);
}

static void test_close_gives_up_on_a_peer_that_does_not_read(void **state)
{
	struct rig *r = *state;

	established(r);
	link_pause(r->server.link, true);
	send_bulk(&r->client, 100, WIRE_PAYLOAD_MAX);
	link_close(r->client.link);
	run_until(r, client_down);
	assert_int_equal(r->client.err, -ETIMEDOUT);
	assert_int_equal(r->client.released_at_down, 100);
}

static void abort_it(struct end *e)
{
	link_abort(e->link, "enough");
	link_abort(e->link, "twice");
	link_close(e->link);
	assert_int_equal(e->downs, 0);
}

static void test_abort_inside_frame(void **state)
{
	struct rig *r = *state;

	established(r);
	r->server.on_frame = abort_it;
	send_bulk(&r->client, 10, 20000);
	run_until(r, both_down);
	assert_int_equal(r->server.got_count, 1);
	assert_int_equal(r->server.err, -ECONNABORTED);
	assert_string_equal(r->server.why, "enough");
	assert_true(r->client.err < 0);
	run_for(r, 5000);
	assert_int_equal(r->server.downs, 1);
	assert_int_equal(r->client.downs, 1);
	assert_int_equal(r->client.released, 10);
}

static void test_abort_inside_up(void **state)
{
	struct rig *r = *state;

	r->client.on_up = abort_it;
	both(r);
	run_until(r, client_down);
	run_for(r, 20000);
	assert_int_equal(r->client.downs, 1);
	assert_int_equal(r->server.downs, r->server.ups);
}

static void close_it(struct end *e)
{
	link_close(e->link);
}

static void test_close_inside_up(void **state)
{
	struct rig *r = *state;

	r->server.on_up = close_it;
	both(r);
	run_until(r, both_down);
	assert_int_equal(r->client.err, 0);
	assert_int_equal(r->server.err, 0);
	assert_int_equal(r->client.ups, 1);
}

static void test_abort_gives_the_queue_back_before_down(void **state)
{
	struct rig *r = *state;

	established(r);
	send_bulk(&r->client, 10, WIRE_PAYLOAD_MAX);
	link_send(r->client.link, frame(&r->client, WIRE_ACK, 1, 8));
	link_abort(r->client.link, "enough");
	assert_int_equal(r->client.downs, 0);
	assert_int_equal(r->client.released, 0);
	link_send(r->client.link, frame(&r->client, WIRE_PAGES, 1, 8));
	run_until(r, client_down);
	assert_int_equal(r->client.released_at_down, 11);
	run_until(r, both_down);
	assert_int_equal(r->client.released, 12);
	assert_int_equal(r->server.err, -ECONNRESET);
}

static void test_abort_with_a_send_under_way(void **state)
{
	struct rig *r = *state;

	established(r);
	link_pause(r->server.link, true);
	send_bulk(&r->client, 100, WIRE_PAYLOAD_MAX);
	run_for(r, 50000);
	link_abort(r->client.link, "enough");
	link_abort(r->server.link, "too");
	run_until(r, both_down);
	assert_int_equal(r->client.released, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LINK_TEST(test_frames_of_all_sizes_both_ways),
		LINK_TEST(test_both_know_each_other),
		LINK_TEST(test_name_is_resolved),
		LINK_TEST(test_frames_sent_before_up_wait_for_it),
		LINK_TEST(test_urgent_overtakes_bulk),
		LINK_TEST(test_drained_is_told_once_and_never_inside_a_call),
		LINK_TEST(test_drained_keeps_a_stream_going),
		LINK_TEST(test_pause_holds_frames_back_and_loses_none),
		LINK_TEST(test_paused_reader_bounds_what_is_taken),
		LINK_TEST(test_close_delivers_everything_first),
		LINK_TEST(test_both_close_at_once),
		LINK_TEST(test_close_gives_up_on_a_peer_that_does_not_read),
		LINK_TEST(test_abort_inside_frame),
		LINK_TEST(test_abort_inside_up),
		LINK_TEST(test_close_inside_up),
		LINK_TEST(test_abort_gives_the_queue_back_before_down),
		LINK_TEST(test_abort_with_a_send_under_way),
	};

	return RUN_LINK_TESTS(tests);
}
