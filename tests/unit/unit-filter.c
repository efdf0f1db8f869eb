/* SPDX-License-Identifier: Apache-2.0 */
/* net/filter.c and net/drill.c, in front of real links over loopback. */
#include "config.h"

#include "filter-fixture.h"

/* ---- the words ---- */

static void test_words(void **state)
{
	static const char *const bad[] = {
		"",	      ",",	    "delay",	   "delay=",
		"delay=x",    "delay=-1",   "delay=5ms",   "delay=60001",
		"delay=1~2",  "delay=5~",   "rate=0",	   "rate=1T",
		"rate=1KK",   "rate=",	    "drop=101",	   "drop=1/0",
		"drop=2/3",   "drop=1/",    "drop=5%%",	   "drop=0x5",
		"stall=1",    "stall=1:0",  "stall=:1",	   "cut=",
		"cut=1:2:3",  "out.cut=1",  "in.seed=1",   "seed=x",
		"seed=1.5",   "up.delay=1", "delay=1,",	   ",delay=1",
		"rate=2000G", "rate=1e9G",  "rate=0.1",	   "rate=1.2.3",
		"OFF",	      "off,off",    "delay=1 ",	   "drop=nan",
		"drop=inf",   "drop=1e2",   "stall=1:1e9", "delay=1;cut=2",
	};
	char why[DRILL_WHY_BYTES], many[DRILL_WORDS_MAX + 10];
	struct drill_spec s;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why[0] = '\0';
		if (!drill_parse(bad[i], &s, why))
			fail_msg("taken: '%s'", bad[i]);
		assert_true(why[0]);
	}
	memset(many, 'x', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	assert_int_equal(drill_parse(many, &s, why), -EINVAL);

	assert_int_equal(drill_parse("out.delay=20~5,in.rate=1.5M,drop=50,"
				     "in.drop=1/4,stall=1.5:0.25,cut=3:4,"
				     "corrupt=0.1%,seed=9",
				     &s, why),
			 0);
	assert_int_equal(s.way[DRILL_OUT].delay_us, 20000);
	assert_int_equal(s.way[DRILL_OUT].jitter_us, 5000);
	assert_int_equal(s.way[DRILL_IN].delay_us, 0);
	assert_int_equal(s.way[DRILL_IN].rate_bytes, 1500000);
	assert_int_equal(s.way[DRILL_OUT].rate_bytes, 0);
	assert_int_equal(s.way[DRILL_OUT].drop, DRILL_ALL / 2);
	assert_int_equal(s.way[DRILL_IN].drop, DRILL_ALL / 4);
	assert_int_equal(s.way[DRILL_IN].stall_at_us, 1500000);
	assert_int_equal(s.way[DRILL_OUT].stall_for_us, 250000);
	assert_true(s.cut && s.cut_at_us == 3000000 && s.cut_for_us == 4000000);
	assert_int_equal(s.way[DRILL_IN].corrupt, DRILL_ALL / 1000);
	assert_true(s.seeded && s.seed == 9);
	assert_int_equal(drill_parse("off", &s, why), 0);
	assert_true(!s.cut && !s.way[DRILL_IN].drop);
}

/* ---- effects ---- */

static void test_straight_through(void **state)
{
	struct rig *r = *state;

	up(r, 3);
	assert_string_equal(link_peer_name(r->client.link), "alpha");
	assert_string_equal(link_peer_name(r->server.link), "beta");
	assert_string_equal(link_peer_address(r->server.link), "127.0.0.1");
	send_bulk(&r->client, 10, 100000);
	assert_true(link_queued(r->client.link) >= 1000000);
	run_until(r, ten_arrived);
	in_order(&r->server, 10);
	assert_true(r->server.alives > 0);
	assert_true(r->client.draineds > 0);
	assert_int_equal(r->client.released, 10);
	assert_true(link_bytes_sent(r->client.link) > 1000000);
	assert_true(link_bytes_received(r->server.link) > 1000000);
	link_close(r->client.link);
	run_until(r, both_down);
	assert_int_equal(r->client.err, 0);
	assert_int_equal(r->server.err, 0);
}

static void delayed(struct rig *r, const char *out, const char *in,
		    uint64_t least_us)
{
	uint64_t start = clock_now_us();

	start_drill(drills[0], out);
	start_drill(server_drill, in);
	send_bulk(&r->client, 10, 1000);
	assert_int_equal(r->server.got_count, 0);
	run_until(r, ten_arrived);
	assert_true(clock_now_us() >= start + least_us);
	in_order(&r->server, 10);
	r->server.got_count = 0;
}

static void test_delay_keeps_the_order(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	delayed(r, "delay=30", "off", 30000);
	delayed(r, "off", "delay=30", 30000);
	delayed(r, "delay=20~20", "delay=20~20", 0);
	delayed(r, "out.delay=40", "in.delay=40", 80000);
	delayed(r, "in.delay=5000", "out.delay=5000", 0); /* the other way */
}

static void test_rate(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	/* The last of ten waits for the nine in front of it. */
	delayed(r, "rate=100K", "off", 85000);
	delayed(r, "off", "rate=100K", 85000);
}

static void test_stacked(void **state)
{
	struct rig *r = *state;

	up(r, 3);
	start_drill(drills[1], "delay=20");
	start_drill(drills[2], "delay=20~10");
	delayed(r, "delay=20", "delay=20", 70000);
	start_drill(drills[2], "drop=100");
	send_bulk(&r->client, 5, 10);
	run_for(r, 100000);
	assert_int_equal(r->server.got_count, 0);
	assert_int_equal(r->client.released, 15);
}

static bool beat_arrived(struct rig *r)
{
	for (size_t i = 0; i < r->server.got_count; i++)
		if (r->server.got[i].type == WIRE_HEARTBEAT)
			return true;
	return false;
}

static void test_a_heartbeat_overtakes_what_is_slow(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(drills[0], "rate=200K");
	send_bulk(&r->client, 100, 10000); /* 5 s */
	link_send_empty(r->client.link, WIRE_HEARTBEAT, 0);
	run_until(r, beat_arrived);
	assert_true(r->server.got[99].type != WIRE_HEARTBEAT);
	assert_true(r->server.got_count < 90);
}

static void test_stall(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	delayed(r, "stall=0:0.1", "off", 95000);
	delayed(r, "off", "stall=0:0.1", 95000);
	assert_true(logged(r, "drill: nothing passes"));
	assert_int_equal(r->server.downs, 0);
	/* Nothing is alive in it either. */
	start_drill(server_drill, "stall=0:60");
	r->server.alives = 0;
	send_bulk(&r->client, 1, 10);
	run_for(r, 50000);
	assert_int_equal(r->server.alives, 0);
	start_drill(server_drill, "off");
	run_until(r, one_arrived);
	assert_true(r->server.alives > 0);
}

static bool last_arrived(struct rig *r)
{
	const struct end *e = &r->server;

	return e->got_count && e->got[e->got_count - 1].epoch == 999;
}

static void lossy(struct rig *r, const char *words, size_t got[FRAMES_MAX])
{
	start_drill(drills[0], words);
	send_bulk(&r->client, 200, 10);
	start_drill(drills[0], "off");
	link_send(r->client.link, frame(&r->client, WIRE_PAGES, 999, 10));
	run_until(r, last_arrived);
	for (size_t i = 0; i < r->server.got_count; i++)
		got[i] = r->server.got[i].epoch;
	got[r->server.got_count] = SIZE_MAX;
	/* Those that came are in order. */
	for (size_t i = 1; i < r->server.got_count; i++)
		assert_true(r->server.got[i].epoch >
			    r->server.got[i - 1].epoch);
	r->server.got_count = 0;
}

static void test_drop_is_repeatable(void **state)
{
	size_t first[FRAMES_MAX + 1], second[FRAMES_MAX + 1],
		third[FRAMES_MAX + 1];
	struct rig *r = *state;
	size_t n = 0, i;

	up(r, 1);
	lossy(r, "out.drop=30,seed=5", first);
	lossy(r, "out.drop=30,seed=5", second);
	lossy(r, "out.drop=30,seed=6", third);
	while (first[n] != SIZE_MAX)
		n++;
	assert_in_range(n, 100, 180);
	for (i = 0; i <= n; i++)
		assert_int_equal(first[i], second[i]);
	for (i = 0; i < n && first[i] == third[i]; i++)
		;
	assert_true(i < n);
	/* What is dropped is given back, and the link does not mind. */
	assert_int_equal(r->client.released, 603);
	assert_int_equal(r->server.downs, 0);
	assert_int_equal(link_queued(r->client.link), 0);
}

static unsigned int bad_bits, seen_frames;

static void count_bits(void *arg, struct link *l, const struct frame *f)
{
	struct rig *r = ((struct end *)arg)->rig;

	(void)l;
	seen_frames++;
	for (size_t i = 0; i < f->length; i++)
		bad_bits += (unsigned int)__builtin_popcount(
			f->payload[i] ^ pattern(f->epoch, i));
	r->server.got_count = seen_frames;
}

static const struct link_events *counting(void *arg, struct link *l,
					  void **link_arg)
{
	static struct link_events own;
	const struct link_events *given = &own;
	struct rig *r = arg;

	own = events;
	own.frame = count_bits;
	*link_arg = &r->server;
	r->server.link = filter_new(r->loop, server_drill, &given, link_arg);
	filter_over(r->server.link, l);
	return given;
}

static bool hundred_seen(struct rig *r)
{
	(void)r;
	return seen_frames == 100;
}

static void corrupted(struct rig *r, uint16_t type, const char *out,
		      const char *in, unsigned int bits)
{
	start_drill(drills[0], out);
	start_drill(server_drill, in);
	bad_bits = seen_frames = 0;
	for (uint64_t i = 0; i < 100; i++)
		link_send(r->client.link, frame(&r->client, type, i, 50));
	run_until(r, hundred_seen);
	assert_int_equal(bad_bits, bits);
}

static void test_corrupt_flips_one_bit(void **state)
{
	struct rig *r = *state;

	tls_identity_free(server_identity);
	server_identity = identity(r->dirs->ours, "alpha");
	assert_int_equal(link_listen(r->loop, server_identity, NULL, 0,
				     counting, r, &r->listener, &r->port),
			 0);
	connect_filtered(r, 1);
	run_until(r, both_up);
	corrupted(r, WIRE_PAGES, "corrupt=100", "off", 100);
	corrupted(r, WIRE_STATE, "off", "corrupt=100", 100);
	/* All but that of epoch 0, which is used before its sum has come. */
	corrupted(r, WIRE_DISK, "corrupt=100", "off", 99);
	corrupted(r, WIRE_PAGES, "in.corrupt=100", "out.corrupt=100", 0);
}

static void test_only_what_is_checked_is_corrupted(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(drills[0], "corrupt=100");
	/* on_frame() of the fixture compares. */
	link_send(r->client.link, frame(&r->client, WIRE_BYE, 0, 50));
	run_until(r, one_arrived);
}

static void test_cut(void **state)
{
	struct rig *r = *state;

	up(r, 2);
	start_drill(drills[1], "delay=1000");
	send_bulk(&r->client, 5, 1000);
	start_drill(drills[0], "cut=0.02:60");
	run_until(r, both_down);
	assert_true(logged(r, "drill: the connection is cut"));
	assert_int_equal(r->client.err, -ECONNRESET);
	assert_int_equal(r->client.released_at_down, 5);
	assert_true(r->server.err != 0);

	/* There is no other for a while, and then there is. */
	r->client = r->server = (struct end){ .rig = r };
	start_drill(drills[1], "off");
	connect_filtered(r, 2);
	run_until(r, client_down);
	assert_int_equal(r->client.ups, 0);
	assert_int_equal(r->client.err, -ECONNREFUSED);
	start_drill(drills[0], "off");
	r->client = r->server = (struct end){ .rig = r };
	connect_filtered(r, 2);
	run_until(r, both_up);
}

static void test_the_listening_side_cuts(void **state)
{
	struct rig *r = *state;

	up(r, 1);
	start_drill(server_drill, "cut=0:60");
	run_until(r, both_down);
	r->client = r->server = (struct end){ .rig = r };
	connect_filtered(r, 1);
	run_until(r, both_down);
	assert_int_equal(r->server.ups, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_words),
		TEST(test_straight_through),
		TEST(test_delay_keeps_the_order),
		TEST(test_rate),
		TEST(test_stacked),
		TEST(test_a_heartbeat_overtakes_what_is_slow),
		TEST(test_stall),
		TEST(test_drop_is_repeatable),
		TEST(test_corrupt_flips_one_bit),
		TEST(test_only_what_is_checked_is_corrupted),
		TEST(test_cut),
		TEST(test_the_listening_side_cuts),
	};

	return RUN_FILTER_TESTS(tests);
}
