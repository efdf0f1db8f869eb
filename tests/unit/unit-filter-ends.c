/* SPDX-License-Identifier: Apache-2.0 */
/* net/filter.c: how a filter ends, and how much it holds. */
#include "config.h"

#include "filter-fixture.h"

/* ---- ends ---- */

static void test_close_sends_what_is_held(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(drills[0], "delay=50");
	start_drill(server_drill, "delay=50");
	send_bulk(&r->client, 10, 1000);
	link_close(r->client.link);
	link_send(r->client.link, frame(&r->client, WIRE_PAGES, 77, 10));
	run_until(r, both_down);
	in_order(&r->server, 10); /* and then the end, no sooner */
	assert_int_equal(r->client.err, 0);
	assert_int_equal(r->server.err, 0);
	assert_int_equal(r->client.released, 11);
}

static void test_close_has_a_deadline(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(drills[0], "stall=0:100");
	send_bulk(&r->client, 3, 1000);
	link_close(r->client.link);
	run_until(r, both_down); /* which does not wait for 100 s */
	assert_int_equal(r->client.err, -ETIMEDOUT);
	assert_int_equal(r->client.released_at_down, 3);
}

static void test_abort_with_much_held(void **state)
{
	struct rig *r = *state;

	up(r, 2);
	start_drill(drills[0], "delay=5000");
	start_drill(drills[1], "stall=0:100");
	send_bulk(&r->client, 20, 1000);
	link_abort(r->client.link, "enough");
	assert_int_equal(r->client.downs, 0); /* not inside the call */
	assert_int_equal(r->client.released, 0);
	run_until(r, both_down);
	assert_string_equal(r->client.why, "enough");
	assert_int_equal(r->client.err, -ECONNABORTED);
	assert_int_equal(r->client.released_at_down, 20);
}

static void test_abort_after_close(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(drills[0], "delay=5000");
	send_bulk(&r->client, 1, 1000);
	link_close(r->client.link);
	run_for(r, 5000);
	link_abort(r->client.link, "enough");
	link_abort(r->client.link, "twice");
	run_until(r, both_down);
	assert_string_equal(r->client.why, "enough");
}

static void test_abort_before_up(void **state)
{
	struct rig *r = *state;

	listen_filtered(r);
	connect_filtered(r, 2);
	start_drill(drills[0], "delay=10");
	send_bulk(&r->client, 3, 10);
	link_abort(r->client.link, "never mind");
	run_until(r, client_down);
	assert_int_equal(r->client.ups, 0);
	assert_int_equal(r->client.released, 3);
}

/* The end waits behind what came before it, also where it is held. */
static void test_the_end_while_frames_are_held(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(server_drill, "stall=0:60");
	send_bulk(&r->client, 10, 1000);
	run_for(r, 20000);
	link_close(r->client.link);
	run_until(r, client_down);
	assert_int_equal(r->server.downs, 0);
	assert_string_equal(link_peer_name(r->server.link), "beta");
	assert_string_equal(link_peer_address(r->server.link), "127.0.0.1");
	link_send(r->server.link, frame(&r->server, WIRE_PAGES, 1, 10));
	start_drill(server_drill, "off");
	run_until(r, server_down);
	in_order(&r->server, 10);
	assert_int_equal(r->server.released, 1);
}

static void test_abort_while_the_end_is_held(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(server_drill, "delay=5000");
	send_bulk(&r->client, 10, 1000);
	run_for(r, 20000);
	link_close(r->client.link);
	run_until(r, client_down);
	link_abort(r->server.link, "enough");
	run_until(r, server_down);
	assert_int_equal(r->server.got_count, 0);
	assert_string_equal(r->server.why, "enough");
}

static void abort_it(struct end *e)
{
	link_abort(e->link, "from inside");
}

static void test_abort_from_a_callback(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(server_drill, "delay=10");
	r->server.on_frame = abort_it;
	send_bulk(&r->client, 10, 1000);
	run_until(r, both_down);
	assert_int_equal(r->server.got_count, 1);
	assert_string_equal(r->server.why, "from inside");
}

/* ---- bounds ---- */

static bool some_arrived(struct rig *r)
{
	return r->server.got_count > 0;
}

static void test_pause_bounds_what_is_held(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(server_drill, "stall=0:60");
	send_bulk(&r->client, 100, WIRE_PAYLOAD_MAX); /* 25 MiB */
	run_for(r, 400000);
	assert_int_equal(r->server.got_count, 0);
	/* It holds some, the kernels have some; most is with its sender. */
	assert_true(link_queued(r->client.link) > 8 * 1024 * 1024);
	start_drill(server_drill, "off");
	run_for(r, 10000);
	link_pause(r->server.link, true);
	run_for(r, 30000);
	r->server.got_count = 0;
	run_for(r, 30000);
	assert_int_equal(r->server.got_count, 0);
	link_pause(r->server.link, false);
	run_until(r, some_arrived);
	assert_int_equal(r->server.downs, 0);
}

static void test_heartbeats_are_bounded(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(drills[0], "stall=0:100");
	for (int i = 0; i < 5000; i++)
		link_send(r->client.link,
			  frame(&r->client, WIRE_HEARTBEAT, 0, 0));
	run_for(r, 5000);
	assert_true(r->client.released > 3500);
}

static bool drained_once(struct rig *r)
{
	return r->client.draineds == 1;
}

static void test_drained_counts_what_is_held(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(drills[0], "stall=0:60");
	send_bulk(&r->client, 10, 100000);
	assert_true(link_queued(r->client.link) >= 1000000);
	run_for(r, 20000);
	assert_int_equal(r->client.draineds, 0);
	start_drill(drills[0], "off");
	run_until(r, drained_once);
	assert_true(link_queued(r->client.link) <= LINK_QUEUE_LOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_close_sends_what_is_held),
		TEST(test_close_has_a_deadline),
		TEST(test_abort_with_much_held),
		TEST(test_abort_after_close),
		TEST(test_abort_before_up),
		TEST(test_the_end_while_frames_are_held),
		TEST(test_abort_while_the_end_is_held),
		TEST(test_abort_from_a_callback),
		TEST(test_pause_bounds_what_is_held),
		TEST(test_heartbeats_are_bounded),
		TEST(test_drained_counts_what_is_held),
	};

	return RUN_FILTER_TESTS(tests);
}
