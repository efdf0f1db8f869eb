/* SPDX-License-Identifier: Apache-2.0 */
/* The standby's half of the seam, fed by a source, both with real processes. */
#include "config.h"

#include "tests/unit/embedded-fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "resume/embedded/image.h"
#include "stream/epoch_encoder.h"
#include "stream/checksum.h"
#include "stream/messages.h"

#define DIRTY "dirty,mem=4M,rate=20000,vcpus=2"

enum { PAGES = 1024, RUNS_BETWEEN = 3 };

/* The other host. */
static char far_dir[80];

static int make_dirs(void **state)
{
	if (make_run_dir(state))
		return -1;
	snprintf(far_dir, sizeof(far_dir), "%s/far", run_dir);
	return mkdir(far_dir, 0755);
}

static void destroy_far(void *arg, const char *name, bool standby)
{
	struct embedded e;

	(void)arg;
	if (embedded_attach(far_dir, name, standby, &e) == 0) {
		embedded_destroy(&e);
		embedded_detach(&e);
	}
}

static int destroy_both(void **state)
{
	embedded_each(far_dir, destroy_far, NULL);
	return destroy_all(state);
}

static int remove_dirs(void **state)
{
	embedded_each(far_dir, destroy_far, NULL);
	return remove_run_dir(state);
}

struct sending {
	struct guest_source *s;
	int fd;
	int rc;
};

static void *send_image(void *arg)
{
	struct sending *g = arg;
	struct guest_error err;

	g->rc = src->send_image(g->s, g->fd, &err);
	shutdown(g->fd, SHUT_RDWR);
	return NULL;
}

static struct guest_standby *build_from(struct guest_source *s)
{
	struct guest_description d;
	struct guest_standby *t = NULL;
	struct sending g = { .s = s };
	pthread_t thread;
	int fds[2];

	assert_ok(src->describe(s, &d, &why));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	g.fd = fds[0];
	pthread_create(&thread, NULL, send_image, &g);
	assert_ok(twin->build(&d, far_dir, fds[1], &t, &why));
	pthread_join(thread, NULL);
	assert_ok(g.rc);
	close(fds[0]);
	close(fds[1]);
	guest_description_fini(&d);
	return t;
}

/* --- epochs, without a link --------------------------------------------- */

struct pipe {
	struct history *history;
	struct store *store;
	struct epoch_encoder *encoder;
	struct epoch_peer peer;
};

static struct frame_buf *get_frame(void *arg)
{
	(void)arg;
	return frame_buf_new(WIRE_PAGES, 0, WIRE_PAYLOAD_MAX);
}

static void put_frame(void *arg, struct frame_buf *b)
{
	struct pipe *p = arg;
	struct frame f = {
		.type = b->type,
		.epoch = b->epoch,
		.payload = frame_payload(b),
		.length = b->length,
	};
	struct wire_epoch_end end;
	const char *text;

	switch (f.type) {
	case WIRE_EPOCH_BEGIN:
		store_begin(p->store, f.epoch);
		break;
	case WIRE_PAGES:
		assert_ok(store_pages(p->store, f.payload, f.length, &text));
		break;
	case WIRE_STATE:
		assert_ok(store_state(p->store, f.payload, f.length, &text));
		break;
	case WIRE_EPOCH_END:
		assert_ok(epoch_end_decode(&f, &end, &text));
		assert_ok(store_end(p->store, &end, &text));
		break;
	}
	b->release(b);
}

static void unget_frame(void *arg, struct frame_buf *b)
{
	(void)arg;
	b->release(b);
}

static bool behind(void *arg)
{
	(void)arg;
	return true;
}

static void pipe_open(struct pipe *p)
{
	p->history = history_new(PAGES - 1);
	p->store = store_new(PAGES * WIRE_PAGE_BYTES, PAGES - 1, p->history);
	p->encoder = epoch_encoder_new(1);
	p->peer = (struct epoch_peer){
		.connection = 1,
		.max_gfn = PAGES - 1,
		.shadow_bytes = PAGES * WIRE_PAGE_BYTES,
		.shadow_room = UINT64_MAX,
	};
}

static void pipe_close(struct pipe *p)
{
	epoch_encoder_free(p->encoder);
	store_free(p->store);
	history_free(p->history);
}

static void encode(struct pipe *p, const struct epoch *e)
{
	const struct frame_sink sink = { get_frame, put_frame, unget_frame,
					 behind, p };
	uint64_t sent = 0;

	assert_ok(epoch_encode(p->encoder, e, &p->peer, NULL, &sink, &sent));
}

/*
 * One epoch from the source, which goes on, to the twin.  Between its rounds
 * the guest runs, but not between all: where it writes more than an arena in
 * that time, as on a slow machine, the epoch would have no end.
 */
static void follow(struct guest_source *s, struct guest_standby *t,
		   struct pipe *p, uint64_t number, size_t arena_pages)
{
	struct epoch *e = epoch_new(arena_pages, 65536);
	unsigned int rounds = 0;

	e->number = number;
	do {
		if (rounds < RUNS_BETWEEN)
			assert_ok(src->suspend(s, PATIENCE_US));
		epoch_clear(e);
		assert_ok(src->capture(s, e));
		if (++rounds < RUNS_BETWEEN || !e->partial)
			assert_ok(src->resume(s, GUEST_RESUME_FAST));
		encode(p, e);
	} while (e->partial);
	assert_true(store_complete(p->store));
	assert_ok(twin->apply(t, p->store));
	epoch_free(e);
}

static void follow_once(struct guest_source *s, struct guest_standby *t)
{
	struct pipe p;

	pipe_open(&p);
	follow(s, t, &p, 1, PAGES);
	pipe_close(&p);
}

static void start(struct guest_source *s)
{
	assert_ok(src->start_tracking(s, &why));
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
}

static uint8_t *memory_of(const struct embedded *e)
{
	void *at = mmap(NULL, e->ram_bytes, PROT_READ, MAP_SHARED,
			e->fd[EMBEDDED_FD_MEMORY], 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

/* --- the tests ---------------------------------------------------------- */

static void an_image_is_of_one_instant(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct guest_standby *t = build_from(s);
	struct embedded far;
	uint8_t *twins;

	(void)state;
	assert_ok(embedded_attach(far_dir, "dirty", true, &far));
	twins = memory_of(&far);
	/* The source stands still since the end of the image. */
	assert_memory_equal(twins, s->memory, PAGES * WIRE_PAGE_BYTES);
	assert_int_equal(twin->status(t), GUEST_SUSPENDED);
	assert_int_equal(steps(&far), 0);
	munmap(twins, far.ram_bytes);
	embedded_detach(&far);
	start(s);
	src->close(s);
	twin->destroy(t);
	assert_int_equal(embedded_attach(far_dir, "dirty", true, &far),
			 -ENOENT);
}

static void it_carries_on_from_the_last_epoch(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct guest_standby *t = build_from(s);
	struct embedded far, near = look_at("dirty", false);
	struct pipe p;
	uint64_t least;

	(void)state;
	assert_ok(embedded_attach(far_dir, "dirty", true, &far));
	start(s);
	pipe_open(&p);
	for (uint64_t n = 1; n <= 20; n++)
		follow(s, t, &p, n, n % 2 ? PAGES : 100);
	least = steps(&near);
	follow(s, t, &p, 21, PAGES);
	pipe_close(&p);
	assert_ok(src->yield(s));
	assert_ok(twin->activate(t, &why));
	/* It carries on from where the last epoch left it. */
	assert_true(steps(&far) >= least);
	assert_runs(&far);
	assert_int_equal(twin->status(t), GUEST_RUNNING);
	assert_int_equal(atomic_load(&far.control->return_code), 0);
	embedded_detach(&near);
	embedded_detach(&far);
	/* Under its own name. */
	assert_ok(embedded_attach(far_dir, "dirty", false, &far));
	twin->close(t);
	assert_runs(&far);
	embedded_detach(&far);
	src->close(s);
}

/* The memory after the last epoch is that of the source, byte by byte. */
static void an_epoch_is_of_one_instant(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct guest_standby *t = build_from(s);
	struct epoch *e = epoch_new(PAGES, 65536);
	struct embedded far, near = look_at("dirty", false);
	struct pipe p;
	uint8_t *twins;

	(void)state;
	pipe_open(&p);
	assert_ok(embedded_attach(far_dir, "dirty", true, &far));
	twins = memory_of(&far);
	start(s);
	for (e->number = 1; e->number < 20; e->number++) {
		clock_sleep_us(2000);
		assert_ok(src->suspend(s, PATIENCE_US));
		epoch_clear(e);
		assert_ok(src->capture(s, e));
		encode(&p, e);
		assert_ok(twin->apply(t, p.store));
		assert_memory_equal(twins, s->memory, PAGES * WIRE_PAGE_BYTES);
		assert_ok(src->resume(s, GUEST_RESUME_FAST));
	}
	assert_ok(src->suspend(s, PATIENCE_US));
	epoch_clear(e);
	assert_ok(src->capture(s, e));
	encode(&p, e);
	assert_ok(twin->apply(t, p.store));
	/* What the vCPUs knew comes too; nothing runs before that. */
	assert_int_equal(steps(&far), 0);
	assert_ok(twin->activate(t, &why));
	assert_true(steps(&far) >= steps(&near));
	munmap(twins, far.ram_bytes);
	embedded_detach(&near);
	embedded_detach(&far);
	epoch_free(e);
	pipe_close(&p);
	src->close(s);
	twin->close(t);
}

static int build_with(const struct guest_description *d, const void *bytes,
		      size_t length)
{
	struct guest_standby *t = NULL;
	int fds[2], rc;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(send(fds[0], bytes, length, 0), (ssize_t)length);
	close(fds[0]);
	why.text[0] = '\0';
	rc = twin->build(d, far_dir, fds[1], &t, &why);
	close(fds[1]);
	if (rc == 0)
		twin->destroy(t);
	else
		assert_true(why.text[0] != '\0');
	return rc;
}

static struct guest_description described(const char *config)
{
	struct guest_description d = {
		.kind = WIRE_GUEST_EMBEDDED,
		.ram_bytes = 4 << 20,
		.max_gfn = PAGES - 1,
		.name = "dirty",
	};

	d.config = strdup(config);
	d.config_length = strlen(config);
	return d;
}

/* A whole image of nothing, and then each number of it spoilt. */
static void hostile_images_are_refused(void **state)
{
	struct {
		struct embedded_image_header h;
		struct embedded_run run;
		uint8_t page[WIRE_PAGE_BYTES];
		struct embedded_run end;
		uint32_t count, registers;
		uint64_t reg[2][EMBEDDED_REGISTERS];
	} good = {
		.h = { EMBEDDED_IMAGE_MAGIC, 1, 2, PAGES },
		.run = { 7, 1, EMBEDDED_RUN_DATA },
		.end = { 0, 8 + 2 * EMBEDDED_REGISTERS * 8, EMBEDDED_RUN_END },
		.count = 2,
		.registers = EMBEDDED_REGISTERS,
	}, bad;
	struct guest_description d = described(DIRTY);
	struct embedded e;

	(void)state;
	assert_int_equal(build_with(&d, &good, sizeof(good)), 0);
#define BAD(member, value)                                                    \
	do {                                                                  \
		bad = good;                                                   \
		bad.member = (value);                                         \
		assert_int_equal(build_with(&d, &bad, sizeof(bad)), -EPROTO); \
	} while (0)
	BAD(h.magic, 1);
	BAD(h.version, 2);
	BAD(h.vcpus, 1);
	BAD(h.vcpus, UINT32_MAX);
	BAD(h.pages, PAGES + 1);
	BAD(run.gfn, PAGES);
	BAD(run.gfn, UINT64_MAX);
	BAD(run.count, 0);
	BAD(run.count, EMBEDDED_RUN_PAGES + 1);
	BAD(run.kind, 3);
	BAD(end.count, 0);
	BAD(end.count, UINT32_MAX);
	BAD(end.count, sizeof(good.reg));
	BAD(count, 3);
	BAD(registers, 7);
#undef BAD
	/* It ends where it says, but a register early. */
	bad = good;
	bad.end.count -= 8;
	assert_int_equal(build_with(&d, &bad, sizeof(bad) - 8), -EPROTO);
	bad = good;
	bad.run.gfn = PAGES - 1;
	bad.run.count = 2;
	assert_int_equal(build_with(&d, &bad, sizeof(bad)), -EPROTO);
	for (size_t n = 0; n < sizeof(good); n += n < 48 ? 1 : 997)
		assert_int_equal(build_with(&d, &good, n), -EPIPE);
	guest_description_fini(&d);
	assert_int_equal(embedded_attach(far_dir, "dirty", true, &e), -ENOENT);
}

static void hostile_descriptions_are_refused(void **state)
{
	static const char *const configs[] = {
		"",
		"{}",
		"dirty",
		"dirty,mem=4M,name=other",
		"dirty,mem=8M",
		"dirty,mem=4M,name=../../x",
		"dirty,mem=4M,vcpus=17",
		"dirty,mem=4M,tracker=none",
		"ledger,mem=4M,name=dirty,address=$(id)",
		"replay,mem=4M,name=dirty,file=/etc/hostname",
	};
	struct guest_description d;

	(void)state;
	for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
		d = described(configs[i]);
		assert_int_equal(build_with(&d, "x", 1), -EINVAL);
		guest_description_fini(&d);
	}
	d = described(DIRTY);
	d.max_gfn = PAGES;
	assert_int_equal(build_with(&d, "x", 1), -EINVAL);
	d.max_gfn = PAGES - 1;
	d.config_length++;
	assert_int_equal(build_with(&d, "x", 1), -EINVAL);
	guest_description_fini(&d);
}

static void an_epoch_that_does_not_fit_spoils_the_twin(void **state)
{
	struct guest_source *s = open_guest("dirty,mem=4M");
	struct guest_standby *t = build_from(s);
	struct store *none = store_new(4 << 20, PAGES - 1, NULL);

	(void)state;
	start(s);
	store_begin(none, 1);
	assert_int_equal(twin->apply(t, none), -EINVAL); /* not complete */
	{
		struct wire_epoch_end end = { 0 };
		struct checksum *c = checksum_new();
		const char *text;

		end.checksum = checksum_value(c);
		assert_ok(store_end(none, &end, &text));
		checksum_free(c);
	}
	assert_int_equal(twin->apply(t, none), -EPROTO); /* no vCPUs */
	assert_int_equal(twin->activate(t, &why), -EINVAL);
	store_free(none);
	src->close(s);
	twin->destroy(t);
}

static void a_guest_that_is_here_is_told_apart(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct guest_standby *t = build_from(s);
	struct guest_description d, other = described(DIRTY);

	(void)state;
	start(s);
	assert_ok(src->describe(s, &d, &why));
	follow_once(s, t);
	assert_ok(src->yield(s));
	assert_ok(twin->activate(t, &why));
	twin->close(t);
	assert_int_equal(build_with(&d, "x", 1), -EALREADY);
	assert_int_equal(build_with(&other, "x", 1), -EEXIST);
	assert_int_equal(twin->build(&d, run_dir, -1, &t, &why), -EEXIST);
	assert_non_null(strstr(why.text, "paused"));
	guest_description_fini(&d);
	guest_description_fini(&other);
	src->close(s);
}

static void it_deals_with_its_shutdown_when_active(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct guest_standby *t = build_from(s);
	struct embedded far;
	bool again = false;

	(void)state;
	start(s);
	follow_once(s, t);
	assert_ok(src->yield(s));
	src->close(s);
	assert_ok(twin->activate(t, &why));
	assert_ok(embedded_attach(far_dir, "dirty", false, &far));
	assert_ok(embedded_order(far_dir, "dirty", "reboot", &why));
	assert_int_equal(twin->status(t), GUEST_REBOOT);
	assert_ok(twin->after_shutdown(t, &again));
	assert_true(again);
	assert_runs(&far);
	assert_ok(embedded_order(far_dir, "dirty", "crash", &why));
	assert_int_equal(twin->status(t), GUEST_CRASHED);
	assert_ok(twin->after_shutdown(t, &again));
	assert_false(again);
	assert_true(embedded_gone(&far));
	embedded_detach(&far);
	twin->close(t);
}

enum death { BEFORE, MIDDLE, AFTER };

/* A colod that builds a twin and dies: when, with regard to its activation. */
static void die_after_build(enum death when)
{
	struct guest_source *s;
	struct guest_standby *t;

	s = open_guest(DIRTY);
	t = build_from(s);
	src->start_tracking(s, &why);
	src->resume(s, GUEST_RESUME_FAST);
	if (when != BEFORE) {
		struct embedded far;

		embedded_attach(far_dir, "dirty", true, &far);
		if (when == MIDDLE)
			atomic_store(&far.control->state,
				     EMBEDDED_STATE_RESUMING);
		else /* All of it but the name. */
			embedded_resume(far.control, EMBEDDED_STATE_PAUSED, 0);
	}
	(void)t;
	kill(getpid(), SIGKILL);
}

static void build_and_die(enum death when)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		die_after_build(when);
	waitpid(child, &status, 0);
	assert_true(WIFSIGNALED(status));
}

static void a_sweep_removes_what_never_ran(void **state)
{
	struct guest_source *s;
	struct embedded far;

	(void)state;
	build_and_die(BEFORE);
	assert_int_equal(src->open("dirty", far_dir, &any_manner, &s, &why),
			 -ENOTSUP);
	assert_non_null(strstr(why.text, "colod guest destroy dirty"));
	assert_ok(embedded_attach(far_dir, "dirty", true, &far));
	assert_ok(twin->sweep(far_dir));
	assert_true(embedded_gone(&far));
	embedded_detach(&far);
}

static void sweep_after(enum death when)
{
	struct guest_description other = described(DIRTY);
	struct embedded far;

	build_and_die(when);
	/* What has taken over is no leftover. */
	assert_int_equal(build_with(&other, "x", 1), -EEXIST);
	guest_description_fini(&other);
	assert_ok(twin->sweep(far_dir));
	assert_ok(embedded_attach(far_dir, "dirty", false, &far));
	assert_runs(&far);
	assert_int_equal(atomic_load(&far.control->return_code), 0);
	embedded_detach(&far);
}

static void a_sweep_finishes_a_takeover(void **state)
{
	(void)state;
	sweep_after(AFTER);
	destroy_both(state);
	sweep_after(MIDDLE);
}

static void a_sweep_spares_what_is_held(void **state)
{
	struct guest_source *s = open_guest(DIRTY);
	struct guest_standby *t = build_from(s);
	struct embedded far;
	struct guest_source *other;
	int lock = guest_lock("dirty", far_dir);

	(void)state;
	start(s);
	assert_int_equal(src->open("dirty", far_dir, &any_manner, &other, &why),
			 -ENOTSUP);
	assert_non_null(strstr(why.text, "is itself the standby"));
	assert_true(lock >= 0);
	assert_ok(twin->sweep(far_dir));
	assert_ok(embedded_attach(far_dir, "dirty", true, &far));
	assert_false(embedded_gone(&far));
	embedded_detach(&far);
	close(lock);
	src->close(s);
	twin->destroy(t);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_teardown(name, destroy_both)
		T(an_image_is_of_one_instant),
		T(it_carries_on_from_the_last_epoch),
		T(an_epoch_is_of_one_instant),
		T(hostile_images_are_refused),
		T(hostile_descriptions_are_refused),
		T(an_epoch_that_does_not_fit_spoils_the_twin),
		T(a_guest_that_is_here_is_told_apart),
		T(it_deals_with_its_shutdown_when_active),
		T(a_sweep_removes_what_never_ran),
		T(a_sweep_finishes_a_takeover),
		T(a_sweep_spares_what_is_held),
#undef T
	};

	EMBEDDED_MAIN(argc, argv);
	return cmocka_run_group_tests_name("embedded standby", tests, make_dirs,
					   remove_dirs);
}
