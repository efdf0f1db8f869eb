/* SPDX-License-Identifier: Apache-2.0 */
/* The source's half of the seam, with a real guest's process. */
#include "config.h"

#include "tests/unit/embedded-captures.h"
#include "tests/unit/embedded-fixture.h"

#include <pthread.h>

#include "resume/embedded/vcpus.h"

#ifdef __SANITIZE_THREAD__
enum { SUSPENDS = 300 };
#else
enum { SUSPENDS = 3000 };
#endif

static void a_guest_is_started_and_then_found(void **state)
{
	struct guest_source *s = open_guest(DIRTY), *again;
	struct embedded e = look_at("dirty", false);
	pid_t pid = e.pid;

	(void)state;
	assert_runs(&e);
	src->close(s);
	assert_runs(&e);
	again = open_guest("dirty");
	assert_int_equal(src->status(again), GUEST_RUNNING);
	embedded_detach(&e);
	e = look_at("dirty", false);
	assert_int_equal(e.pid, pid);
	embedded_detach(&e);
	src->close(again);
}

static void what_cannot_be_is_said(void **state)
{
	static const struct {
		const char *words;
		int rc;
		const char *says;
	} cases[] = {
		{ "nosuch", -ENOENT, "neither a guest that runs here nor" },
		{ "dirty,mem=7", -EINVAL, "a size such as" },
		{ "dirty,tracker=softdirty,name=s", -EIO, "cannot be tracked" },
		{ "dirty,mem=128G,name=big", -EIO, "less memory" },
		{ "ledger,address=203.0.113.1", -EIO, "cannot listen on" },
	};
	struct guest_source *s;
	const char *no;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* A kernel that has it may. */
		if (strstr(cases[i].words, "softdirty") &&
		    !tracker_selftest(EMBEDDED_TRACKER_SOFTDIRTY, &no))
			continue;
		why.text[0] = '\0';
		assert_int_equal(src->open(cases[i].words, run_dir, &any_manner,
					   &s, &why),
				 cases[i].rc);
		if (!strstr(why.text, cases[i].says))
			fail_msg("%s: %s", cases[i].words, why.text);
	}
	/* And nothing of it is left. */
	assert_int_not_equal(rmdir(run_dir) == 0 ? mkdir(run_dir, 0755) : 1, 1);
}

static void a_description_says_it_all(void **state)
{
	struct guest_source *s = open_guest(DIRTY ",name=web,vcpus=2");
	struct guest_description d;
	struct embedded_spec spec;

	(void)state;
	assert_ok(src->describe(s, &d, &why));
	assert_int_equal(d.kind, WIRE_GUEST_EMBEDDED);
	assert_int_equal(d.ram_bytes, 4 << 20);
	assert_int_equal(d.max_gfn, PAGES - 1);
	assert_string_equal(d.name, "web");
	assert_ok(embedded_spec_parse(d.config, &spec, &why));
	assert_int_equal(spec.vcpus, 2);
	guest_description_fini(&d);
	src->close(s);
}

static void captures_with(const char *words)
{
	struct guest_source *s = open_guest(words);

	protect(s);
	captures_follow(s, PAGES, 20);
	captures_follow(s, 16, 10);
	src->stop_tracking(s);
	/* And all once more: a new synchronisation. */
	protect(s);
	captures_follow(s, PAGES, 3);
	src->close(s);
}

static void captures_by_uffd(void **state)
{
	const char *no;

	(void)state;
	if (tracker_selftest(EMBEDDED_TRACKER_UFFD, &no))
		skip();
	captures_with(DIRTY ",vcpus=3,tracker=uffd");
}

static void captures_by_softdirty(void **state)
{
	const char *no;

	(void)state;
	if (tracker_selftest(EMBEDDED_TRACKER_SOFTDIRTY, &no))
		skip();
	captures_with(DIRTY ",vcpus=3,tracker=softdirty");
}

static void captures_by_mprotect(void **state)
{
	(void)state;
	captures_with(DIRTY ",vcpus=3,tracker=mprotect");
}

static void a_guest_stands_still_between(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct embedded e = look_at("dirty", false);

	(void)state;
	protect(s);
	assert_ok(src->suspend(s, PATIENCE_US));
	assert_int_equal(src->status(s), GUEST_SUSPENDED);
	assert_stands(&e);
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
	assert_runs(&e);
	assert_int_equal(atomic_load(&e.control->return_code), 1);
	assert_ok(src->suspend(s, PATIENCE_US));
	assert_ok(src->resume(s, GUEST_RESUME_SLOW));
	assert_runs(&e);
	assert_int_equal(atomic_load(&e.control->return_code), 0);
	src->close(s);
	embedded_detach(&e);
}

/* What it fell behind by, up to 100 ms, it makes up for; no more than that. */
static void a_guest_keeps_to_its_rate(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct embedded e = look_at("dirty", false);
	uint64_t from_us = clock_now_us(), from = steps(&e), gone_us;

	(void)state;
	await_true(steps(&e) > from + 2000);
	gone_us = clock_now_us() - from_us + 100 * 1000;
	assert_true(steps(&e) - from <= gone_us * 20000 / 1000000 + 64);
	src->close(s);
	embedded_detach(&e);
}

/* No thread may miss a stop or a resume, however close they are. */
static void many_suspends_follow_each_other(void **state)
{
	struct guest_source *s =
		open_guest("dirty,mem=4M,vcpus=8,rate=1000000");
	struct embedded e = look_at("dirty", false);

	(void)state;
	for (int i = 0; i < SUSPENDS; i++) {
		assert_ok(src->suspend(s, PATIENCE_US));
		assert_int_equal(atomic_load(&e.control->parked), 8);
		assert_ok(src->resume(s, i % 2 ? GUEST_RESUME_FAST
					       : GUEST_RESUME_SLOW));
	}
	assert_runs(&e);
	assert_int_equal(atomic_load(&e.control->suspends), SUSPENDS);
	src->close(s);
	embedded_detach(&e);
}

/* A busy machine's guest has not seen it in time: asked again. */
static int suspend_in_vain(struct guest_source *s, uint64_t us, int error)
{
	uint64_t until_us = clock_now_us() + PATIENCE_US;
	int rc;

	do
		rc = src->suspend(s, us);
	while (rc == -ETIMEDOUT && error == -EINPROGRESS &&
	       clock_now_us() < until_us);
	return rc;
}

/* Asked in vain, by either channel; then it behaves again. */
static void refuses(const char *channel, const char *manner, int error)
{
	char words[200];
	struct guest_source *s;
	struct embedded e;

	snprintf(words, sizeof(words), DIRTY ",channel=%s", channel);
	s = open_guest(words);
	e = look_at("dirty", false);
	snprintf(words, sizeof(words), "set %s", manner);
	order("dirty", words);
	assert_int_equal(suspend_in_vain(s, MOMENT_US, error), error);
	assert_int_equal(src->status(s), GUEST_RUNNING);
	assert_runs(&e);
	assert_int_equal(suspend_in_vain(s, MOMENT_US, error), error);
	order("dirty", "set suspend=ok");
	/* What was withdrawn is not honoured now. */
	assert_runs(&e);
	clock_sleep_us(MOMENT_US);
	assert_int_equal(atomic_load(&e.control->suspends), 0);
	assert_ok(src->suspend(s, PATIENCE_US));
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
	assert_runs(&e);
	src->close(s);
	embedded_detach(&e);
	order("dirty", "destroy");
}

static void a_request_can_be_ignored(void **state)
{
	(void)state;
	refuses("evtchn", "suspend=ignore", -ETIMEDOUT);
	refuses("xenstore", "suspend=ignore", -ETIMEDOUT);
}

static void a_request_can_be_forgotten(void **state)
{
	(void)state;
	refuses("evtchn", "suspend=ack", -EINPROGRESS);
	refuses("xenstore", "suspend=ack", -EINPROGRESS);
}

static void late_one(const char *channel)
{
	char words[200];
	struct guest_source *s;
	struct embedded e;

	snprintf(words, sizeof(words),
		 DIRTY ",channel=%s,suspend=late,late=200", channel);
	s = open_guest(words);
	e = look_at("dirty", false);
	assert_int_equal(suspend_in_vain(s, 20000, -EINPROGRESS), -EINPROGRESS);
	await_true(atomic_load(&e.control->late_resumes) == 1);
	assert_runs(&e);
	assert_int_equal(src->status(s), GUEST_RUNNING);
	/* One that is still waited for is no late one. */
	assert_ok(src->suspend(s, PATIENCE_US));
	assert_stands(&e);
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
	assert_runs(&e);
	assert_int_equal(atomic_load(&e.control->late_resumes), 1);
	src->close(s);
	embedded_detach(&e);
	order("dirty", "destroy");
}

static void a_late_suspend_is_resumed(void **state)
{
	(void)state;
	late_one("evtchn");
	late_one("xenstore");
}

/* The operator's choice, where the guest leaves one. */
static void asked_as_told(void **state)
{
	static const struct {
		const char *channel;
		enum guest_ask ask, used;
		int rc;
	} cases[] = {
		{ "evtchn", GUEST_ASK_AUTO, GUEST_ASK_EVTCHN, 0 },
		{ "xenstore", GUEST_ASK_AUTO, GUEST_ASK_XENSTORE, 0 },
		{ "evtchn", GUEST_ASK_XENSTORE, GUEST_ASK_XENSTORE, 0 },
		{ "xenstore", GUEST_ASK_EVTCHN, 0, -EOPNOTSUPP },
		{ "evtchn", GUEST_ASK_TOOLSTACK, 0, -EOPNOTSUPP },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct guest_manner m = { .ask = cases[i].ask };
		struct guest_source *s = NULL;
		struct guest_phases p;
		char words[200];

		snprintf(words, sizeof(words), DIRTY ",channel=%s",
			 cases[i].channel);
		src->close(open_guest(words));
		assert_int_equal(src->open("dirty", run_dir, &m, &s, &why),
				 cases[i].rc);
		if (s) {
			assert_ok(src->suspend(s, PATIENCE_US));
			src->phases(s, &p);
			assert_int_equal(p.asked, cases[i].used);
			assert_ok(src->resume(s, GUEST_RESUME_SLOW));
			src->close(s);
		}
		order("dirty", "destroy");
	}
}

static void *cancel_soon(void *arg)
{
	clock_sleep_us(30000);
	src->cancel(arg);
	return NULL;
}

static void a_wait_can_be_cancelled(void **state)
{
	struct guest_source *s = open_guest(DIRTY ",suspend=ignore");
	struct embedded e = look_at("dirty", false);
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, cancel_soon, s);
	assert_int_equal(src->suspend(s, PATIENCE_US), -ECANCELED);
	pthread_join(thread, NULL);
	assert_runs(&e);
	src->stop_tracking(s);
	order("dirty", "set suspend=ok");
	assert_ok(src->suspend(s, PATIENCE_US));
	src->close(s);
	assert_runs(&e);
	embedded_detach(&e);
}

static void an_image_can_be_cancelled(void **state)
{
	struct guest_source *s = open_guest("dirty,mem=16M,whole=100");
	struct embedded e = look_at("dirty", false);
	pthread_t thread;
	int fds[2];

	(void)state;
	clock_sleep_us(MOMENT_US); /* it has more to send than a socket holds */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pthread_create(&thread, NULL, cancel_soon, s);
	assert_int_equal(src->send_image(s, fds[0], &why), -ECANCELED);
	pthread_join(thread, NULL);
	close(fds[0]);
	close(fds[1]);
	src->stop_tracking(s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	close(fds[1]);
	assert_int_equal(src->send_image(s, fds[0], &why), -EPIPE);
	close(fds[0]);
	assert_runs(&e);
	protect(s);
	src->close(s);
	embedded_detach(&e);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_teardown(name, destroy_all)
		T(what_cannot_be_is_said),
		T(a_guest_is_started_and_then_found),
		T(a_description_says_it_all),
		T(captures_by_uffd),
		T(captures_by_softdirty),
		T(captures_by_mprotect),
		T(a_guest_stands_still_between),
		T(a_guest_keeps_to_its_rate),
		T(many_suspends_follow_each_other),
		T(a_request_can_be_ignored),
		T(a_request_can_be_forgotten),
		T(asked_as_told),
		T(a_late_suspend_is_resumed),
		T(a_wait_can_be_cancelled),
		T(an_image_can_be_cancelled),
#undef T
	};

	EMBEDDED_MAIN(argc, argv);
	return cmocka_run_group_tests_name("embedded source", tests,
					   make_run_dir, remove_run_dir);
}
