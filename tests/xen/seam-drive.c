/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the guest seam on a real Xen, in one domain 0, without an engine.
 *
 *   seam-drive probe                     what `colod check` would say
 *   seam-drive open DOMAIN               may it be protected?
 *   seam-drive pair DOMAIN N MS          image into a twin on this host, N
 *                                        epochs MS apart, then the source is
 *                                        stopped and the twin activated
 *   seam-drive pages DOMAIN N MS PAGES   as pair, with an arena of PAGES pages
 *   seam-drive epochs DOMAIN N MS [slow] N epochs without a twin; ends early
 *                                        where the guest shuts down
 *   seam-drive late DOMAIN N             N suspends with time-outs too short
 *   seam-drive bare DOMAIN N             N suspends without image and tracking,
 *                                        for one that libxl cannot suspend
 *   seam-drive cancel DOMAIN MS          cancels the image after MS
 *   seam-drive leave DOMAIN MS           the image's reader leaves after MS
 *   seam-drive kill DOMAIN               SIGKILL while the guest is suspended
 *   seam-drive killimage DOMAIN MS       SIGKILL, MS after the image began; 0:
 *                                        when libxl has suspended the guest
 *   seam-drive build DOMAIN              a twin, then SIGKILL: for sweep
 *   seam-drive sweep
 *
 * A twin on the host of its source needs another name and uuid, which this
 * program writes into the description.  SUSPEND=evtchn and the like in the
 * environment is --suspend.  With FOLLOW in the environment, `pair'
 * waits for the twin's own end after its activation; with NOGUARD there is no
 * guard.  Prints one line a step
 * and exits with 0 where all was as it should be.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "resume/guard.h"
#include "resume/guest.h"
#include "resume/xen/host.h"
#include "stream/epoch_encoder.h"

enum { ARENA_PAGES = 16384, EPOCHS_MAX = 4096 };

struct drive {
	const struct guest_source_ops *ops;
	struct guest_source *source;
	struct guest_description description;
	struct guest_standby *twin;
	struct history *history;
	struct store *store;
	struct epoch *epoch;
	struct epoch_encoder *encoder;
	struct epoch_peer peer;
	struct guard *guard;
	int ends[2]; /* of the image's socket pair */
	const char *words;
	unsigned long arg; /* of the mode */
	struct guest_manner manner;
	uint64_t parts[3][EPOCHS_MAX]; /* of each slow resume */
	uint64_t pauses[EPOCHS_MAX];
	uint64_t waits[EPOCHS_MAX];
	uint64_t pages;
};

static int fail(const char *what, int rc, const struct guest_error *err)
{
	printf("FAIL %s: %s%s%s\n", what, strerror(-rc),
	       err && *err->text ? ": " : "", err ? err->text : "");
	fflush(stdout);
	return 1;
}

/* The other end of the image, in a thread of its own. */
static void *image_nowhere(void *arg)
{
	struct drive *d = arg;
	static char buf[1 << 16];

	while (read(d->ends[1], buf, sizeof(buf)) > 0)
		;
	return NULL;
}

static void *image_leaves(void *arg)
{
	struct drive *d = arg;
	static char buf[1 << 16];
	uint64_t end_us = clock_now_us() + d->arg * 1000;

	while (clock_now_us() < end_us &&
	       read(d->ends[1], buf, sizeof(buf)) > 0)
		;
	close(d->ends[1]);
	return NULL;
}

static void *image_into_twin(void *arg)
{
	struct drive *d = arg;
	struct guest_error err = { "" };
	uint64_t t0 = clock_now_us();
	int rc = guest_xen.standby->build(&d->description, RUNSTATEDIR "/colod",
					  d->ends[1], &d->twin, &err);

	if (rc < 0) {
		fail("build", rc, &err);
		shutdown(d->ends[1], SHUT_RDWR);
		return NULL;
	}
	printf("built in %llu ms\n",
	       (unsigned long long)(clock_now_us() - t0) / 1000);
	return NULL;
}

static void *cancel_later(void *arg)
{
	struct drive *d = arg;

	clock_sleep_us(d->arg * 1000);
	d->ops->cancel(d->source);
	return NULL;
}

static void *kill_later(void *arg)
{
	struct drive *d = arg;
	struct xen_host *h;
	struct xen_state st = { 0 };
	uint32_t domid;

	clock_sleep_us(d->arg * 1000);
	if (d->arg == 0 && xen_host_open(&h, NULL) == 0 &&
	    xen_find(h, d->words, &domid) == 0)
		while (st.status != GUEST_SUSPENDED &&
		       xen_query(h, domid, &st) == 0)
			clock_sleep_us(500);
	log_info("killing, guest is %s", guest_status_text(st.status));
	raise(SIGKILL);
	return NULL;
}

static enum guest_ask wanted(void)
{
	const char *word = getenv("SUSPEND");

	for (int ask = GUEST_ASK_TOOLSTACK; word && ask > 0; ask--)
		if (!strcmp(word, guest_ask_text(ask)))
			return ask;
	return GUEST_ASK_AUTO;
}

/* Deltas where this kind of guest takes them, as the engine has it. */
static int make_peer(struct drive *d)
{
	const struct guest_description *g = &d->description;
	bool deltas = guest_wire_kind(g->kind)->deltas;

	d->peer = (struct epoch_peer){
		.connection = 1,
		.max_gfn = g->max_gfn,
		.shadow_bytes = deltas ? g->ram_bytes : 0,
		.shadow_room = UINT64_MAX,
	};
	if (deltas)
		d->history = history_new(g->max_gfn);
	d->store = store_new(g->ram_bytes, g->max_gfn, d->history);
	d->encoder = epoch_encoder_new(1);
	return !d->store || !d->encoder || (deltas && !d->history);
}

static int begin(struct drive *d, const char *words, size_t pages)
{
	struct guest_error err = { "" };
	int rc;

	d->words = words;
	d->ops = guest_kind_of_words(words)->source;
	d->manner.ask = wanted();
	rc = d->ops->open(words, RUNSTATEDIR "/colod", &d->manner, &d->source,
			  &err);
	if (rc < 0)
		return fail("open", rc, &err);
	rc = d->ops->describe(d->source, &d->description, &err);
	if (rc < 0)
		return fail("describe", rc, &err);
	printf("%s: %llu MiB, max gfn %#llx, configuration %zu bytes\n",
	       d->description.name,
	       (unsigned long long)d->description.ram_bytes >> 20,
	       (unsigned long long)d->description.max_gfn,
	       d->description.config_length);
	strcat(d->description.name, "2");
	d->description.uuid[0] ^= 1;
	d->epoch = epoch_new(pages, WIRE_STATE_MAX);
	return make_peer(d) || !d->epoch;
}

/* The image, read by `reader`; leaves the guest running and tracked. */
static int synchronise(struct drive *d, void *(*reader)(void *),
		       void *(*beside)(void *))
{
	struct guest_error err = { "" };
	uint64_t t0 = clock_now_us(), t1;
	pthread_t thread, other;
	int rc;

	/* libxl's helper must not hold the reader's end, or it never ends. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, d->ends) < 0)
		return fail("socketpair", -errno, NULL);
	pthread_create(&thread, NULL, reader, d);
	if (beside)
		pthread_create(&other, NULL, beside, d);
	rc = d->ops->send_image(d->source, d->ends[0], &err);
	t1 = clock_now_us();
	shutdown(d->ends[0], SHUT_WR);
	if (rc < 0) {
		pthread_join(thread, NULL);
		d->ops->resume(d->source, d->manner.resume);
		return fail("send_image", rc, &err);
	}
	rc = d->ops->start_tracking(d->source, &err);
	if (rc < 0)
		return fail("start_tracking", rc, &err);
	rc = d->ops->resume(d->source, d->manner.resume);
	if (rc < 0)
		return fail("resume", rc, NULL);
	printf("image %llu ms, then tracking and resume %llu us\n",
	       (unsigned long long)(t1 - t0) / 1000,
	       (unsigned long long)(clock_now_us() - t1));
	pthread_join(thread, NULL);
	return 0;
}

static struct frame_buf *sink_get(void *arg)
{
	(void)arg;
	return frame_buf_new(0, 0, WIRE_PAYLOAD_MAX);
}

static void sink_put(void *arg, struct frame_buf *b)
{
	struct drive *d = arg;
	struct frame f = { .type = b->type,
			   .length = b->length,
			   .epoch = b->epoch,
			   .payload = frame_payload(b) };
	struct wire_epoch_end end;
	const char *why = "";
	int rc = 0;

	switch (b->type) {
	case WIRE_EPOCH_BEGIN:
		store_begin(d->store, b->epoch);
		break;
	case WIRE_PAGES:
		rc = store_pages(d->store, f.payload, f.length, &why);
		break;
	case WIRE_STATE:
		rc = store_state(d->store, f.payload, f.length, &why);
		break;
	case WIRE_EPOCH_END:
		rc = epoch_end_decode(&f, &end, &why);
		if (rc == 0)
			rc = store_end(d->store, &end, &why);
		break;
	}
	if (rc < 0)
		printf("FAIL frame: %s\n", why);
	free(b);
}

static void sink_unget(void *arg, struct frame_buf *b)
{
	(void)arg;
	free(b);
}

static bool sink_behind(void *arg)
{
	(void)arg;
	return true;
}

static int apply(struct drive *d)
{
	const struct frame_sink sink = { sink_get, sink_put, sink_unget,
					 sink_behind, d };
	uint64_t bytes = 0;
	int rc = epoch_encode(d->encoder, d->epoch, &d->peer, NULL, &sink,
			      &bytes);

	if (rc < 0)
		return fail("encode", rc, NULL);
	if (d->epoch->partial || !d->twin)
		return 0;
	rc = guest_xen.standby->apply(d->twin, d->store);
	return rc < 0 ? fail("apply", rc, NULL) : 0;
}

static int one_epoch(struct drive *d, unsigned long n, bool last)
{
	struct epoch *e = d->epoch;
	uint64_t t0 = clock_now_us(), t1;
	struct guest_phases p;
	int rc = d->ops->suspend(d->source, 20000000);

	/* As the engine does: the guest runs on, and is asked again. */
	for (int i = 0; i < 20 && rc == -ENOTCONN; i++) {
		printf("epoch %lu: skipped\n", n);
		t0 = clock_now_us();
		rc = d->ops->suspend(d->source, 20000000);
	}
	if (rc == -ESHUTDOWN)
		return rc;
	if (rc < 0)
		return fail("suspend", rc, NULL);
	t1 = clock_now_us();
	e->number = n + 1;
	do {
		epoch_clear(e);
		rc = d->ops->capture(d->source, e);
		if (rc < 0)
			break;
		d->pages += e->page_count;
		if (e->partial)
			apply(d);
	} while (e->partial);
	if (rc < 0)
		fail("capture", rc, NULL);
	if (last) {
		d->ops->yield(d->source);
		return apply(d);
	}
	if (d->ops->resume(d->source, d->manner.resume) < 0)
		return fail("resume", rc, NULL);
	d->waits[n] = t1 - t0;
	d->pauses[n] = clock_now_us() - t1;
	d->ops->phases(d->source, &p);
	d->parts[0][n] = p.devices_us;
	d->parts[1][n] = p.reset_us;
	d->parts[2][n] = p.channels_us;
	if (n < 3)
		printf("epoch %lu: wait %llu scan %llu copy %llu (%zu pages)"
		       " state %llu (%zu bytes) paused %llu us\n",
		       n, (unsigned long long)d->waits[n],
		       (unsigned long long)e->times.scan_us,
		       (unsigned long long)e->times.copy_us, e->page_count,
		       (unsigned long long)e->times.state_us, e->state_bytes,
		       (unsigned long long)d->pauses[n]);
	return rc < 0 ? rc : apply(d);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void summary(struct drive *d, unsigned long n)
{
	struct guest_phases phases;

	if (!n)
		return;
	qsort(d->waits, n, sizeof(*d->waits), compare);
	qsort(d->pauses, n, sizeof(*d->pauses), compare);
	d->ops->phases(d->source, &phases);
	printf("%lu epochs by %s: wait median %llu us, pause median %llu p90"
	       " %llu max %llu us, %llu pages each\n",
	       n, guest_ask_text(phases.asked),
	       (unsigned long long)d->waits[n / 2],
	       (unsigned long long)d->pauses[n / 2],
	       (unsigned long long)d->pauses[n * 9 / 10],
	       (unsigned long long)d->pauses[n - 1],
	       (unsigned long long)(d->pages / n));
	if (d->manner.resume != GUEST_RESUME_SLOW)
		return;
	for (size_t i = 0; i < 3; i++)
		qsort(d->parts[i], n, sizeof(*d->parts[i]), compare);
	printf("slow: devices median %llu us, reset %llu us, channels %llu"
	       " us\n",
	       (unsigned long long)d->parts[0][n / 2],
	       (unsigned long long)d->parts[1][n / 2],
	       (unsigned long long)d->parts[2][n / 2]);
}

static int end(struct drive *d, int rc)
{
	d->ops->stop_tracking(d->source);
	printf("status %s\n", guest_status_text(d->ops->status(d->source)));
	guard_stop(d->guard);
	d->ops->close(d->source);
	guest_description_fini(&d->description);
	store_free(d->store);
	history_free(d->history);
	epoch_free(d->epoch);
	epoch_encoder_free(d->encoder);
	printf("%s\n", rc ? "FAILED" : "PASSED");
	return rc;
}

static int after_shutdown(struct drive *d)
{
	bool again = false;
	int rc;

	printf("the guest is %s\n",
	       guest_status_text(d->ops->status(d->source)));
	rc = d->ops->after_shutdown(d->source, &again);
	if (rc < 0)
		return fail("after_shutdown", rc, NULL);
	printf("after shutdown: %s\n", again ? "runs again" : "is left");
	return 0;
}

static int run_epochs(struct drive *d, unsigned long count, unsigned long ms)
{
	unsigned long n;
	int rc = 0;

	for (n = 0; n < count && n < EPOCHS_MAX && rc == 0; n++) {
		clock_sleep_us(ms * 1000);
		rc = one_epoch(d, n, d->twin && n == count - 1);
	}
	summary(d, rc || d->twin ? n - 1 : n);
	if (rc == -ESHUTDOWN)
		return after_shutdown(d);
	return rc != 0;
}

/* With FOLLOW set: waits for the activated guest's own end. */
static int follow(struct drive *d)
{
	bool again = false;
	int rc;

	while (guest_xen.standby->status(d->twin) == GUEST_RUNNING)
		clock_sleep_us(50000);
	printf("the twin is %s\n",
	       guest_status_text(guest_xen.standby->status(d->twin)));
	rc = guest_xen.standby->after_shutdown(d->twin, &again);
	printf("after shutdown: %s\n", again ? "runs again" : "is left");
	return rc;
}

static int mode_pair(struct drive *d, char **argv)
{
	struct guest_nic nics[GUEST_NICS_MAX];
	struct guest_error err = { "" };
	int rc = synchronise(d, image_into_twin, NULL);

	if (rc || !d->twin)
		return 1;
	rc = run_epochs(d, strtoul(argv[3], NULL, 10),
			strtoul(argv[4], NULL, 10));
	if (rc) {
		guest_xen.standby->destroy(d->twin);
		return rc;
	}
	for (size_t i = 0, n = d->ops->nics(d->source, nics); i < n; i++)
		printf("source nic %s %02x:..:%02x\n", nics[i].ifname,
		       nics[i].mac[0], nics[i].mac[5]);
	for (size_t i = 0, n = guest_xen.standby->nics(d->twin, nics); i < n;
	     i++)
		printf("twin nic %s %02x:..:%02x\n", nics[i].ifname,
		       nics[i].mac[0], nics[i].mac[5]);
	rc = guest_xen.standby->activate(d->twin, &err);
	if (rc < 0)
		return fail("activate", rc, &err);
	rc = getenv("FOLLOW") ? follow(d) : 0;
	guest_xen.standby->close(d->twin);
	return rc;
}

static int mode_epochs(struct drive *d, char **argv)
{
	return synchronise(d, image_nowhere, NULL) ||
	       run_epochs(d, strtoul(argv[3], NULL, 10),
			  strtoul(argv[4], NULL, 10));
}

static int mode_late(struct drive *d, char **argv)
{
	unsigned long count = strtoul(argv[3], NULL, 10), done = 0, late = 0;
	unsigned long unanswered = 0;
	int rc = synchronise(d, image_nowhere, NULL);

	for (unsigned long n = 0; n < count && rc == 0; n++) {
		rc = d->ops->suspend(d->source, 1000 * (n * 3 % 90));
		if (rc == 0) {
			done++;
			rc = d->ops->resume(d->source, d->manner.resume);
		} else if (rc == -ETIMEDOUT || rc == -EINPROGRESS) {
			late += rc == -EINPROGRESS;
			unanswered += rc == -ETIMEDOUT;
			rc = 0;
			if (n % 2)
				clock_sleep_us(50000);
			if (n % 4 == 1)
				d->ops->status(d->source);
		}
	}
	printf("%lu suspended, %lu timed out, %lu of them late\n", done,
	       late + unanswered, late);
	return rc < 0 ? fail("late", rc, NULL) : 0;
}

static int mode_bare(struct drive *d, char **argv)
{
	unsigned long count = strtoul(argv[3], NULL, 10);
	int rc = 0;

	for (unsigned long n = 0; n < count && rc == 0; n++) {
		rc = d->ops->suspend(d->source, 5000000);
		if (rc == 0)
			rc = d->ops->resume(d->source, GUEST_RESUME_FAST);
		clock_sleep_us(50000);
	}
	printf("%lu suspends\n", count);
	return rc < 0 ? fail("bare", rc, NULL) : 0;
}

static int mode_kill(struct drive *d)
{
	int rc = synchronise(d, image_nowhere, NULL);

	if (rc)
		return rc;
	rc = d->ops->suspend(d->source, 5000000);
	/* Not by the operation: that resumes one that should run. */
	log_info("suspend: %d, killing", rc);
	fflush(stdout);
	raise(SIGKILL);
	return 1;
}

static int mode_build(struct drive *d)
{
	if (synchronise(d, image_into_twin, NULL) || !d->twin)
		return 1;
	fflush(stdout);
	raise(SIGKILL);
	return 1;
}

static int mode_ended(struct drive *d, void *(*reader)(void *),
		      void *(*beside)(void *))
{
	enum guest_status status;

	if (!synchronise(d, reader, beside))
		return fail("the image was sent all the same", 0, NULL);
	status = d->ops->status(d->source);
	printf("status %s\n", guest_status_text(status));
	return status != GUEST_RUNNING;
}

static int run(struct drive *d, const char *mode, char **argv)
{
	d->arg = argv[3] ? strtoul(argv[3], NULL, 10) : 0;
	if (!strcmp(mode, "pair") || !strcmp(mode, "pages"))
		return mode_pair(d, argv);
	if (!strcmp(mode, "epochs"))
		return mode_epochs(d, argv);
	if (!strcmp(mode, "late"))
		return mode_late(d, argv);
	if (!strcmp(mode, "bare"))
		return mode_bare(d, argv);
	if (!strcmp(mode, "kill"))
		return mode_kill(d);
	if (!strcmp(mode, "build"))
		return mode_build(d);
	if (!strcmp(mode, "killimage"))
		return mode_ended(d, image_nowhere, kill_later);
	if (!strcmp(mode, "cancel"))
		return mode_ended(d, image_nowhere, cancel_later);
	if (!strcmp(mode, "leave"))
		return mode_ended(d, image_leaves, NULL);
	return strcmp(mode, "open");
}

static void print_fact(void *arg, const char *name, const char *value,
		       bool good)
{
	(void)arg;
	printf("%s %s: %s\n", good ? "ok " : "BAD", name, value);
}

int main(int argc, char **argv)
{
	static struct drive d;
	size_t pages = ARENA_PAGES;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("DEBUG"))
		log_set_level(LOG_LEVEL_DEBUG);
	if (argc == 2 && !strcmp(argv[1], "probe")) {
		guest_xen.probe(print_fact, NULL);
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "sweep"))
		return guest_xen.standby->sweep(RUNSTATEDIR "/colod") != 0;
	if (argc < 3 || fault_init(NULL) < 0)
		return 2;
	if (!strcmp(argv[argc - 1], "slow"))
		d.manner.resume = GUEST_RESUME_SLOW;
	if (!strcmp(argv[1], "pages"))
		pages = strtoul(argv[5], NULL, 10);
	/* No threads yet. */
	if (!getenv("NOGUARD") &&
	    guard_start(&guest_xen, argv[2], RUNSTATEDIR "/colod", -1,
			&d.guard) < 0)
		return 1;
	if (begin(&d, argv[2], pages)) {
		guard_stop(d.guard);
		return 1;
	}
	return end(&d, run(&d, argv[1], argv));
}
