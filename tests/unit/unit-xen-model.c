/* SPDX-License-Identifier: Apache-2.0 */
/* resume/xen/model.c: what a device model is told, and what of it is believed.
 */
#include "config.h"

#include "resume/xen/model.h"

#include "base/clock.h"
#include "tests/unit/fake-qemu.h"

/* No guests of any kind are part of this test. */
const struct guest_kind *const guest_kinds[] = { NULL };

static const uint8_t STATE[] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3, 4, 'x', 0 };

/* What happens to each command; the same for all tests. */
static struct {
	_Atomic(const char *) fails; /* this one is refused */
	_Atomic(const char *) stays; /* this one is not answered */
	int file;		     /* that the state is written to */
	char loaded[64];	     /* and what was read back */
	size_t loaded_bytes;
} qemu;

static void load(struct fake_qemu *f)
{
	ssize_t n = read(qemu.file, qemu.loaded, sizeof(qemu.loaded));

	qemu.loaded_bytes = n > 0 ? (size_t)n : 0;
	qemu_say(f, "{\"event\": \"RESUME\"}\r\n");
}

static void carry_out(struct fake_qemu *f, const char *name, json_t *m, int fd)
{
	if (fd >= 0)
		qemu.file = fd;
	if (qemu.stays && !strcmp(name, qemu.stays))
		return;
	if (qemu.fails && !strcmp(name, qemu.fails)) {
		qemu_answer(f, m, "error", "{\"desc\": \"no\"}");
		return;
	}
	if (!strcmp(name, "xen-save-devices-state"))
		assert_int_equal(write(qemu.file, STATE, sizeof(STATE)),
				 sizeof(STATE));
	if (!strcmp(name, "query-status"))
		qemu_answer(f, m, "return", "{\"running\": true}");
	else if (!strcmp(name, "query-version"))
		qemu_answer(f, m, "return",
			    "{\"qemu\": {\"major\": 7, \"minor\": 2, "
			    "\"micro\": 22}, \"package\": \"\"}");
	else
		qemu_answer(f, m, "return", "{\"fdset-id\": 0}");
	if (!strcmp(name, "migrate-incoming"))
		load(f);
}

static int freeze(struct xen_model *m)
{
	return xen_model_freeze(m, clock_now_us() + 10000000);
}

static struct xen_model *opened(struct fake_qemu *f)
{
	struct xen_model *m = NULL;

	memset(&qemu, 0, sizeof(qemu));
	qemu.file = -1;
	*f = (struct fake_qemu){ .command = carry_out };
	qemu_start(f);
	assert_int_equal(xen_model_open_at(f->path, 7, clock_now_us() + 5000000,
					   &m, NULL),
			 0);
	assert_string_equal(xen_model_version(m), "7.2.22");
	return m;
}

static void closed(struct fake_qemu *f, struct xen_model *m, const char *asked)
{
	static const char begin[] = "qmp_capabilities;query-version;";

	xen_model_close(m);
	qemu_join(f);
	if (qemu.file >= 0)
		close(qemu.file);
	assert_memory_equal(f->asked, begin, strlen(begin));
	assert_string_equal(f->asked + strlen(begin), asked);
}

/* Each epoch has the state of its own pause, and nothing of one before. */
static void test_epochs(void **state)
{
	struct fake_qemu f;
	struct xen_model *m = opened(&f);
	uint8_t body[XEN_MODEL_HEAD_BYTES + sizeof(STATE)];
	const char *why;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(freeze(m), 0);
		assert_int_equal(xen_model_record_bytes(m), sizeof(body));
		memset(body, 0xff, sizeof(body));
		xen_model_record(m, body);
		assert_string_equal((char *)body, "7.2.22");
		assert_memory_equal(body + XEN_MODEL_HEAD_BYTES, STATE,
				    sizeof(STATE));
		assert_int_equal(xen_model_check(m, body, sizeof(body), &why),
				 0);
		xen_model_thaw(m);
		xen_model_thaw(m);
	}
	closed(&f, m,
	       "stop;add-fd;xen-save-devices-state;cont;"
	       "stop;xen-save-devices-state;cont;"
	       "stop;xen-save-devices-state;cont;");
}

/* Whatever fails, the devices are told to go on. */
static void test_failures(void **state)
{
	struct fake_qemu f;
	struct xen_model *m = opened(&f);

	(void)state;
	qemu.fails = "xen-save-devices-state";
	assert_int_equal(freeze(m), -EREMOTEIO);
	qemu.fails = NULL;
	xen_model_thaw(m);
	assert_int_equal(freeze(m), 0);
	xen_model_thaw(m);
	closed(&f, m,
	       "stop;add-fd;xen-save-devices-state;cont;"
	       "stop;xen-save-devices-state;cont;");
}

static void test_silence(void **state)
{
	struct fake_qemu f;
	struct xen_model *m = opened(&f);

	(void)state;
	qemu.stays = "stop";
	assert_int_equal(xen_model_freeze(m, clock_now_us() + 100000),
			 -ETIMEDOUT);
	qemu.stays = NULL;
	xen_model_thaw(m); /* does not wait for what may hang */
	/* Nobody knows yet whether it was heard. */
	qemu.stays = "query-status";
	assert_int_equal(xen_model_runs(m, clock_now_us() + 30000), -ETIMEDOUT);
	qemu.stays = NULL;
	assert_true(xen_model_left(m));
	assert_int_equal(xen_model_ready(m, clock_now_us() + 5000000), 0);
	assert_int_equal(freeze(m), 0);
	xen_model_thaw(m);
	closed(&f, m,
	       "stop;cont;query-status;query-status;query-status;stop;add-fd;"
	       "xen-save-devices-state;"
	       "cont;");
}

static void test_after_libxl(void **state)
{
	struct fake_qemu f;
	struct xen_model *m = opened(&f);

	(void)state;
	xen_model_was_stopped(m);
	/* Off where it is off already would be QEMU's end. */
	assert_int_equal(xen_model_track(m, false), 0);
	assert_int_equal(xen_model_track(m, true), 0);
	assert_int_equal(xen_model_thaw(m), 0);
	assert_int_equal(xen_model_track(m, false), 0);
	assert_int_equal(xen_model_track(m, false), 0);
	closed(&f, m,
	       "xen-set-global-dirty-log;cont;xen-set-global-dirty-log;");
}

static void test_what_is_refused(void **state)
{
	struct fake_qemu f;
	struct xen_model *m = opened(&f);
	uint8_t body[XEN_MODEL_HEAD_BYTES + sizeof(STATE)];
	const uint32_t bytes = sizeof(body);
	const char *why = NULL;

	(void)state;
	xen_model_head(body, "7.2.22", sizeof(STATE));
	memcpy(body + XEN_MODEL_HEAD_BYTES, STATE, sizeof(STATE));
	assert_int_equal(xen_model_check(m, body, bytes, &why), 0);
	for (uint32_t n = 0; n < bytes; n++)
		assert_int_equal(xen_model_check(m, body, n, &why), -EPROTO);
	body[XEN_MODEL_HEAD_BYTES + 7] = 4;
	assert_int_equal(xen_model_check(m, body, bytes, &why), -EPROTO);
	body[XEN_MODEL_HEAD_BYTES + 7] = 3;
	body[4] = '3';
	assert_int_equal(xen_model_check(m, body, bytes, &why), -EPROTO);
	assert_non_null(strstr(why, "different versions"));
	closed(&f, m, "");
}

/* It dies, or its socket does: seen without asking, mended where it can be. */
static void test_lost_connection(void **state)
{
	struct fake_qemu f;
	struct xen_model *m = opened(&f);

	(void)state;
	assert_true(xen_model_alive(m));
	assert_int_equal(freeze(m), 0);
	qemu_say(&f, "{\"event\": \"SHUTDOWN\"}\r\n");
	qemu_hang_up(&f);
	assert_false(xen_model_alive(m));
	assert_int_equal(xen_model_thaw(m), 0);
	assert_true(xen_model_alive(m));
	assert_int_equal(freeze(m), 0);
	assert_int_equal(xen_model_thaw(m), 0);
	closed(&f, m,
	       "stop;add-fd;xen-save-devices-state;qmp_capabilities;cont;"
	       "stop;add-fd;xen-save-devices-state;cont;");
}

/* QEMU forgets with a connection what it has not begun: said once more. */
static void test_unheard(void **state)
{
	static const char again[] = "qmp_capabilities;query-status;cont;";
	struct fake_qemu f;
	struct xen_model *m = opened(&f);
	size_t end;

	(void)state;
	qemu.stays = "stop";
	assert_int_equal(xen_model_freeze(m, clock_now_us() + 100000),
			 -ETIMEDOUT);
	qemu.stays = NULL;
	assert_int_equal(xen_model_thaw(m), 0);
	qemu_hang_up(&f);
	assert_false(xen_model_left(m));
	assert_int_equal(xen_model_ready(m, clock_now_us() + 5000000), 0);
	assert_int_equal(xen_model_thaw(m), 0);
	assert_true(xen_model_left(m));
	xen_model_close(m);
	qemu_join(&f);
	end = strlen(f.asked) - strlen(again);
	assert_string_equal(f.asked + end, again);
}

static void test_load(void **state)
{
	struct fake_qemu f;
	struct xen_model *m = opened(&f);
	uint8_t body[XEN_MODEL_HEAD_BYTES + sizeof(STATE)];
	struct guest_error err = { "" };

	(void)state;
	xen_model_head(body, "7.2.22", sizeof(STATE));
	memcpy(body + XEN_MODEL_HEAD_BYTES, STATE, sizeof(STATE));
	assert_int_equal(xen_model_load(m, body, sizeof(body), &err), 0);
	/* Again, for what failed behind it: it runs. */
	assert_int_equal(xen_model_load(m, body, sizeof(body), &err), 0);
	closed(&f, m, "getfd;migrate-incoming;query-status;query-status;");
	assert_int_equal(qemu.loaded_bytes, sizeof(STATE));
	assert_memory_equal(qemu.loaded, STATE, sizeof(STATE));

	m = opened(&f);
	qemu.fails = "migrate-incoming";
	assert_int_equal(xen_model_load(m, body, sizeof(body), &err),
			 -EREMOTEIO);
	assert_non_null(strstr(err.text, "does not take its state: no"));
	closed(&f, m, "getfd;migrate-incoming;");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_epochs),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_after_libxl),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_lost_connection),
		cmocka_unit_test(test_unheard),
		cmocka_unit_test(test_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
