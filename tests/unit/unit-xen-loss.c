/* SPDX-License-Identifier: Apache-2.0 */
/* What the log says of the memory that a guest's netfront loses. */
#include "config.h"

#include "resume/xen/loss.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *said(const struct xen_loss *l)
{
	static char text[512];

	xen_loss_text(l, text, sizeof(text));
	assert_true(strlen(text) < sizeof(text) - 1);
	return text;
}

static void nothing_is_lost(void **state)
{
	struct xen_loss l = { .cure = XEN_CURE_MODULE,
			      .module = true,
			      .queues = 2 };

	(void)state;
	assert_false(xen_loss_any(&l));
	assert_string_equal(said(&l),
			    "its module keeps netfront from losing memory");
	l.cure = XEN_CURE_NOT_NEEDED;
	assert_false(xen_loss_any(&l));
	assert_string_equal(said(&l),
			    "its netfront loses no memory, says its module");
	/* Without an interface there is nothing to lose. */
	l = (struct xen_loss){ .cure = XEN_CURE_NONE };
	assert_false(xen_loss_any(&l));
}

static void all_is_lost(void **state)
{
	struct xen_loss l = { .cure = XEN_CURE_NONE,
			      .queues = 2,
			      .interval_ms = 300 };

	(void)state;
	assert_true(xen_loss_any(&l));
	assert_string_equal(
		said(&l),
		"its netfront loses up to 2 MB at each slow resume, 400 MB a"
		" minute at this interval: load the module colod_guest in it,"
		" or load xen-gntdev here and boot it with"
		" grant_table.free_per_iteration=0, or use --resume=fast");
	l.interval_ms = 0;
	l.module = true;
	assert_string_equal(
		said(&l),
		"its netfront loses up to 2 MB at each slow resume: its module"
		" colod_guest does not cure this netfront: patch that"
		" (colod-guest(4)), or use --resume=fast");
}

static void the_hold_leaves_some(void **state)
{
	struct xen_loss l = { .cure = XEN_CURE_HOLD,
			      .queues = 1,
			      .interval_ms = 100 };

	(void)state;
	assert_true(xen_loss_any(&l));
	assert_string_equal(
		said(&l),
		"its netfront loses up to 0.5 MB at each slow resume, 300 MB a"
		" minute at this interval, although the receive buffers of all"
		" queues are held over it, and up to 1 MB if it was booted"
		" without grant_table.free_per_iteration=0: load the module"
		" colod_guest in it, or use --resume=fast");
	l.module = true; /* netfront=unknown or off */
	assert_non_null(strstr(said(&l), "patch that"));
	assert_null(strstr(said(&l), "load the module"));
}

/* A ring that cannot be mapped is one that nothing is held of. */
static void what_is_not_held_counts_in_full(void **state)
{
	struct xen_loss l = { .cure = XEN_CURE_HOLD,
			      .queues = 4,
			      .unheld = 1,
			      .interval_ms = 1000 };

	(void)state;
	assert_non_null(strstr(said(&l), "up to 2.5 MB at each"));
	assert_non_null(strstr(said(&l), "150 MB a minute"));
	assert_non_null(strstr(said(&l), "3 of its 4 queues"));
	l.unheld = 4;
	assert_non_null(strstr(said(&l), "loses up to 4 MB"));
	assert_null(strstr(said(&l), "held"));
}

static void a_change_is_a_change(void **state)
{
	const struct xen_loss l = { .cure = XEN_CURE_HOLD, .queues = 1 };
	struct xen_loss other = l;

	(void)state;
	assert_true(xen_loss_same(&l, &other));
	other.queues = 2;
	assert_false(xen_loss_same(&l, &other));
	other = l;
	other.unheld = 1;
	assert_false(xen_loss_same(&l, &other));
	other = l;
	other.module = true;
	assert_false(xen_loss_same(&l, &other));
	other = l;
	other.cure = XEN_CURE_NONE;
	assert_false(xen_loss_same(&l, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost),
		cmocka_unit_test(all_is_lost),
		cmocka_unit_test(the_hold_leaves_some),
		cmocka_unit_test(what_is_not_held_counts_in_full),
		cmocka_unit_test(a_change_is_a_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
