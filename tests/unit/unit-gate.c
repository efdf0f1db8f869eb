/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/gate.c over plugs that count as the kernel's do (sch_plug.c): no frame of
 * an epoch that was not acknowledged leaves, and none stays for good.
 */
#include "config.h"

#include "net/gate.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"

enum { FRAMES = 64, EPOCHS = 5000 };

/* --- plugs ------------------------------------------------------------------
 */

struct plug {
	char ifname[16];
	bool closed, found_closed, dropping, removed;
	atomic_bool stopped;	/* its interface passes nothing */
	uint64_t frame[FRAMES]; /* the epoch of each, in the order of sending */
	size_t count;
	size_t before, behind, leaving; /* pkts_last_epoch and so on */
};

/* A guest sends while the gate's thread looks: in the kernel, too. */
static pthread_mutex_t kernel = PTHREAD_MUTEX_INITIALIZER;
static struct plug plugs[4];
static size_t plug_total;
static atomic_bool find_closed, orders_fail;
static _Atomic uint64_t acknowledged, left;

int plug_open(const char *ifname, uint32_t limit_bytes, struct plug **out)
{
	struct plug *p = &plugs[plug_total];

	assert_int_equal(limit_bytes, 1000);
	if (!strcmp(ifname, "none"))
		return -ENODEV;
	plug_total++;
	*p = (struct plug){ .closed = find_closed,
			    .found_closed = find_closed };
	strcpy(p->ifname, ifname);
	*out = p;
	return 0;
}

int plug_find(const char *ifname, struct plug **out)
{
	return find_closed ? plug_open(ifname, 1000, out) : -ENOENT;
}

bool plug_passes(const struct plug *p)
{
	return !p->stopped;
}

bool plug_found_closed(const struct plug *p)
{
	return p->found_closed;
}

const char *plug_ifname(const struct plug *p)
{
	return p->ifname;
}

static void leave(struct plug *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p->frame[i] > acknowledged)
			fail_msg("a frame of epoch %lu left, %lu was "
				 "acknowledged",
				 (unsigned long)p->frame[i],
				 (unsigned long)acknowledged);
	p->count -= n;
	memmove(p->frame, p->frame + n, p->count * sizeof(p->frame[0]));
	left += n;
}

static void send(struct plug *p, uint64_t epoch)
{
	AUTO_LOCK(&kernel);
	if (p->dropping || p->count == FRAMES)
		return;
	p->frame[p->count++] = epoch;
	if (p->closed)
		p->behind++;
	else
		leave(p, p->count);
}

int plug_mark(struct plug *p)
{
	AUTO_LOCK(&kernel);
	if (orders_fail)
		return -EIO;
	p->before = p->behind;
	p->behind = 0;
	p->closed = true;
	return 0;
}

int plug_release(struct plug *p)
{
	AUTO_LOCK(&kernel);
	if (orders_fail)
		return -EIO;
	leave(p, p->before);
	p->before = 0;
	return 0;
}

int plug_let(struct plug *p)
{
	AUTO_LOCK(&kernel);
	if (orders_fail)
		return -EIO;
	p->closed = false;
	p->before = p->behind = 0;
	leave(p, p->count);
	return 0;
}

int plug_drop(struct plug *p)
{
	AUTO_LOCK(&kernel);
	p->dropping = true;
	p->count = 0;
	return 0;
}

int plug_count(struct plug *p, struct plug_counts *out)
{
	AUTO_LOCK(&kernel);
	*out = (struct plug_counts){ .held_frames = p->count,
				     .held_bytes = p->count * 60,
				     .dropped_frames = 1 };
	return orders_fail ? -EIO : 0;
}

int plug_remove(struct plug *p)
{
	p->removed = true;
	return 0;
}

void plug_close(struct plug *p)
{
	(void)p;
}

/* --- tests -------------------------------------------------------------------
 */

static struct gate *gate_of(int count)
{
	static const char *const names[] = { "vif1.0", "vif1.1", "vif1.2" };
	struct gate *g;

	plug_total = 0;
	left = acknowledged = 0;
	orders_fail = false;
	assert_int_equal(gate_new("guest", 1000, &g), 0);
	for (int i = 0; i < count; i++)
		assert_int_equal(gate_add(g, names[i]), 0);
	return g;
}

/* What looks at the plugs waits for all orders. */
static void orders_done(struct gate *g)
{
	struct plug_counts c;

	gate_count(g, &c);
}

static void acknowledge(struct gate *g, uint64_t epoch)
{
	acknowledged = epoch;
	gate_release(g, epoch);
	orders_done(g);
}

static void an_epoch_leaves_when_it_is_acknowledged(void **state)
{
	struct gate *g = gate_of(1);
	struct plug *p = plugs;

	(void)state;
	find_closed = false;
	send(p, 0);
	assert_int_equal(left, 1); /* open until there is an image */
	assert_int_equal(gate_barrier(g, 0), 0);
	send(p, 1);
	acknowledge(g, 0);
	assert_int_equal(left, 1);
	gate_barrier(g, 1);
	send(p, 2);
	acknowledge(g, 1);
	assert_int_equal(left, 2);
	assert_int_equal(p->count, 1);
	gate_close(g);
	assert_false(p->removed); /* it holds on */
}

/* Two in flight: the second has no mark of its own. */
static void an_unmarked_epoch_is_late_and_no_more(void **state)
{
	struct gate *g = gate_of(1);
	struct plug *p = plugs;

	(void)state;
	assert_int_equal(gate_barrier(g, 0), 0);
	acknowledge(g, 0);
	send(p, 1);
	gate_barrier(g, 1);
	send(p, 2);
	gate_barrier(g, 2);
	send(p, 3);
	acknowledge(g, 1);
	assert_int_equal(left, 1);
	acknowledge(g, 2);
	assert_int_equal(left, 1);
	gate_barrier(g, 3);
	send(p, 4);
	acknowledge(g, 3);
	assert_int_equal(left, 3);
	gate_close(g);
}

static void an_open_gate_lets_all_through_and_is_removed(void **state)
{
	struct gate *g = gate_of(2);

	(void)state;
	assert_int_equal(gate_barrier(g, 0), 0);
	send(&plugs[0], 1);
	send(&plugs[1], 1);
	acknowledged = UINT64_MAX;
	gate_let(g);
	orders_done(g);
	assert_int_equal(left, 2);
	gate_barrier(g, 1); /* the order to let came while it was captured */
	send(&plugs[0], 2);
	assert_int_equal(left, 3);
	gate_close(g);
	assert_true(plugs[0].removed && plugs[1].removed);
}

static void a_dropped_gate_stays_so(void **state)
{
	struct gate *g = gate_of(1);

	(void)state;
	assert_int_equal(gate_barrier(g, 0), 0);
	send(plugs, 1);
	gate_drop(g);
	orders_done(g);
	acknowledge(g, 5);
	gate_let(g);
	orders_done(g);
	gate_barrier(g, 6);
	send(plugs, 7);
	assert_int_equal(left, 0);
	assert_int_equal(plugs->count, 0);
	gate_close(g);
	assert_false(plugs->removed);
}

/* By a colod that was killed, with frames on both sides of its mark. */
static void what_was_left_closed_leaves_behind_an_image(void **state)
{
	struct gate *g;

	(void)state;
	find_closed = true;
	g = gate_of(1);
	find_closed = false;
	assert_true(gate_found_closed(g));
	plugs->count = 3;
	plugs->before = 1;
	plugs->behind = 2;
	assert_int_equal(gate_barrier(g, 0), 0);
	assert_int_equal(left, 0);
	acknowledge(g, 0);
	assert_int_equal(left, 1);
	gate_barrier(g, 1);
	assert_int_equal(left, 1);
	acknowledge(g, 1);
	assert_int_equal(left, 3);
	gate_close(g);
}

/* One interface was found closed, the other is new, or comes later. */
static void all_interfaces_are_in_one_state(void **state)
{
	struct gate *g = gate_of(1);

	(void)state;
	find_closed = true;
	assert_int_equal(gate_add(g, "vif1.1"), 0);
	find_closed = false;
	assert_true(plugs[0].closed);
	assert_int_equal(gate_barrier(g, 0), 0);
	acknowledge(g, 0);
	assert_int_equal(gate_add(g, "vif1.2"), 0);
	for (int i = 0; i < 3; i++)
		send(&plugs[i], 1);
	assert_int_equal(left, 0);
	gate_barrier(g, 1);
	acknowledge(g, 1);
	assert_int_equal(left, 3);
	assert_int_equal(gate_add(g, "vif1.2"), 0);
	assert_int_equal(plug_total, 3);
	assert_int_equal(gate_add(g, "none"), -ENODEV);
	gate_drop(g);
	orders_done(g);
	assert_int_equal(gate_add(g, "vif1.3"), 0);
	assert_true(plugs[3].dropping);
	gate_close(g);
}

static void what_is_held_is_counted(void **state)
{
	struct gate *g = gate_of(2);
	struct plug_counts c;

	(void)state;
	assert_int_equal(gate_barrier(g, 0), 0);
	send(&plugs[0], 1);
	send(&plugs[1], 1);
	send(&plugs[1], 1);
	assert_int_equal(gate_count(g, &c), 0);
	assert_int_equal(c.held_frames, 3);
	assert_int_equal(c.held_bytes, 180);
	assert_int_equal(c.dropped_frames, 2);
	orders_fail = true;
	assert_int_equal(gate_count(g, &c), -EIO);
	gate_close(g);
}

static void what_cannot_be_closed_is_told(void **state)
{
	struct gate *g = gate_of(2);

	(void)state;
	orders_fail = true;
	assert_int_equal(gate_barrier(g, 0), -EIO);
	orders_fail = false;
	assert_int_equal(gate_barrier(g, 0), 0);
	orders_fail = true;
	assert_int_equal(gate_barrier(g, 0), 0); /* it is closed */
	orders_fail = false;
	gate_close(g);
}

/* Its backend has no frontend for a moment: what left now would be lost. */
static void what_would_not_arrive_waits(void **state)
{
	struct gate *g = gate_of(2);

	(void)state;
	assert_int_equal(gate_barrier(g, 0), 0);
	acknowledge(g, 0);
	send(&plugs[0], 1);
	send(&plugs[1], 1);
	gate_barrier(g, 1);
	plugs[0].stopped = true;
	acknowledge(g, 1);
	assert_int_equal(left, 1);
	gate_barrier(g, 2);
	send(&plugs[0], 3);
	acknowledge(g, 2);
	assert_int_equal(left, 1);
	plugs[0].stopped = false;
	for (int i = 0; i < 1000 && left < 2; i++) {
		usleep(1000);
		orders_done(g);
	}
	assert_int_equal(left, 2);
	assert_int_equal(plugs[0].count, 1);
	gate_close(g);
}

static void a_guest_that_is_no_more_is_forgotten(void **state)
{
	struct gate *g = gate_of(2);

	(void)state;
	gate_forget(g);
	assert_true(plugs[0].removed && plugs[1].removed);
	assert_int_equal(gate_add(g, "vif2.0"), 0);
	assert_int_equal(gate_barrier(g, 0), 0);
	assert_true(plugs[2].closed);
	gate_close(g);
}

static void only_what_was_left_comes_in_without_a_limit(void **state)
{
	struct gate *g;

	(void)state;
	plug_total = 0;
	assert_int_equal(gate_new("guest", 0, &g), 0);
	assert_int_equal(gate_add(g, "vif1.0"), 0);
	assert_int_equal(plug_total, 0);
	find_closed = true;
	assert_int_equal(gate_add(g, "vif1.0"), 0);
	find_closed = false;
	assert_true(gate_found_closed(g));
	gate_let(g);
	gate_close(g);
	assert_true(plugs[0].removed);
}

/* The image of another connection: the order was for the one before. */
static void an_order_is_carried_out_before_the_next_barrier(void **state)
{
	struct gate *g = gate_of(1);

	(void)state;
	assert_int_equal(gate_barrier(g, 0), 0);
	acknowledge(g, 0);
	for (uint64_t i = 0; i < 2000; i++) {
		send(plugs, 1);
		gate_barrier(g, 1);
		acknowledged = 1;
		gate_release(g, 1);
		gate_barrier(g, 0);
		assert_int_equal(left, i + 1);
		acknowledge(g, 0);
	}
	gate_close(g);
}

/*
 * Up to three epochs in flight, acknowledged in any rhythm, orders that fail
 * now and then, images anew.  leave() looks at each frame.
 */
static void any_order_holds_what_is_not_acknowledged(void **state)
{
	struct gate *g = gate_of(2);
	uint64_t epoch = 0, sent = 0;

	(void)state;
	srandom(1);
	for (int i = 0; i < EPOCHS; i++) {
		orders_fail = i && random() % 10 == 0;
		gate_barrier(g, epoch);
		for (long n = random() % 4; n; n--) {
			struct plug *p = &plugs[random() % 2];

			sent += p->count < FRAMES;
			send(p, epoch + 1);
		}
		if (epoch - acknowledged >= 3 ||
		    (epoch > acknowledged && random() % 2))
			acknowledge(g, acknowledged + 1 +
					       (uint64_t)random() %
						       (epoch - acknowledged));
		epoch++;
	}
	orders_fail = false;
	for (int i = 0; i < 3; i++) {
		gate_barrier(g, epoch);
		acknowledge(g, epoch++);
	}
	assert_int_equal(left, sent);
	gate_close(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_epoch_leaves_when_it_is_acknowledged),
		cmocka_unit_test(an_unmarked_epoch_is_late_and_no_more),
		cmocka_unit_test(an_open_gate_lets_all_through_and_is_removed),
		cmocka_unit_test(a_dropped_gate_stays_so),
		cmocka_unit_test(what_was_left_closed_leaves_behind_an_image),
		cmocka_unit_test(all_interfaces_are_in_one_state),
		cmocka_unit_test(what_is_held_is_counted),
		cmocka_unit_test(what_cannot_be_closed_is_told),
		cmocka_unit_test(what_would_not_arrive_waits),
		cmocka_unit_test(a_guest_that_is_no_more_is_forgotten),
		cmocka_unit_test(only_what_was_left_comes_in_without_a_limit),
		cmocka_unit_test(
			an_order_is_carried_out_before_the_next_barrier),
		cmocka_unit_test(any_order_holds_what_is_not_acknowledged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
