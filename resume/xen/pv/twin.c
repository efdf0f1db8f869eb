/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeding libxl with a PV domain's checkpoints (see twin.h).
 *
 * The happy path:
 *   - a thread in which libxl restores, for as long as there is a standby, from
 *     a pipe; the image is checked record by record and passed on;
 *   - an epoch becomes pages, state, and a checkpoint.  It has been applied
 *     when libxenguest reads on behind that, so a record follows that says
 *     nothing new: the TSC's, forgotten where the stream ends behind it;
 *   - at the end of the pipe libxl completes the domain.
 * Failure modes:
 *   - libxl ends before it is told to: the domain is gone, and every write from
 *     then on fails;
 *   - an end between a checkpoint and the record that libxl wants behind it
 *     would make libxl wait for ever (Xen 4.17, datacopier's end of file): the
 *     two are one write;
 *   - libxl does not read on: given up after TAKEN_US.  Should it hang for
 *     good, so does whoever takes the twin away.
 */
#include "config.h"

#include "resume/xen/pv/twin.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "resume/xen/lead.h"
#include "resume/xen/pv/stream.h"

#define POLL_US UINT64_C(200)
#define TAKEN_US UINT64_C(30000000)

enum {
	PIPE_BYTES = 1 << 20,
	/* libxl_sr_stream_format.h */
	LIBXL_CHECKPOINT_END = 4,
};

struct pv_twin {
	pthread_t thread;
	struct xen_host *host; /* the thread's own */
	libxl_domain_config config;
	uint64_t max_pfn;
	uint8_t *types;		   /* of the epoch under way */
	uint8_t tsc[PV_TSC_BYTES]; /* the last record of it */
	struct pv_writer *writer;
	int in, out; /* the pipe */
	/* The thread's result, once it has ended. */
	atomic_bool ended;
	int rc;
	uint32_t domid;
	bool joined, completed;
};

static void *restore(void *arg)
{
	struct pv_twin *t = arg;
	libxl_ctx *ctx = xen_host_libxl(t->host, NULL);
	libxl_domain_restore_params params;

	libxl_domain_restore_params_init(&params);
	params.stream_version = 2;
	params.checkpointed_stream = LIBXL_CHECKPOINTED_STREAM_REMUS;
	t->rc = ctx ? libxl_domain_create_restore(ctx, &t->config, &t->domid,
						  t->in, -1, &params, NULL,
						  NULL)
		    : -EIO;
	libxl_domain_restore_params_dispose(&params);
	close(t->in);
	atomic_store(&t->ended, true);
	return NULL;
}

static void join(struct pv_twin *t)
{
	cleanup_fd(&t->out);
	t->out = -1;
	if (!t->joined)
		pthread_join(t->thread, NULL);
	t->joined = true;
}

/* Until libxl has read it all: then it has done with the checkpoint. */
static int await_taken(struct pv_twin *t)
{
	uint64_t end_us = clock_now_us() + TAKEN_US;
	int waiting = 1;

	while (!atomic_load(&t->ended)) {
		if (ioctl(t->out, FIONREAD, &waiting))
			return -errno;
		if (!waiting)
			return 0;
		if (clock_now_us() >= end_us)
			return -ETIMEDOUT;
		clock_sleep_us(POLL_US);
	}
	return -EPIPE;
}

static int write_checkpoint(struct pv_twin *t)
{
	const uint32_t records[4] = { htole32(PV_CHECKPOINT), 0,
				      htole32(LIBXL_CHECKPOINT_END), 0 };
	int rc;

	pv_write(t->writer, records, sizeof(records));
	pv_write_record(t->writer, PV_TSC_INFO, t->tsc, sizeof(t->tsc));
	rc = pv_writer_flush(t->writer);
	return rc < 0 ? rc : await_taken(t);
}

static void note_tsc(struct pv_twin *t, const struct record *r)
{
	if (r->type == PV_TSC_INFO && r->length == sizeof(t->tsc))
		memcpy(t->tsc, r->body, sizeof(t->tsc));
}

/* --- the image ------------------------------------------------------------ */

static int any_page(void *arg, const struct pv_page *p)
{
	(void)arg;
	(void)p;
	return 0;
}

/* 1: that was the end. */
static int pass_record(struct pv_twin *t, const struct record *r,
		       unsigned int *checkpoints, const char **why)
{
	switch (r->type) {
	case PV_END:
		return 1;
	case PV_CHECKPOINT:
		++*checkpoints;
		return write_checkpoint(t);
	case PV_PAGE_DATA:
		if (pv_each_page(r, t->max_pfn, any_page, NULL) == 0)
			break;
		*why = "its pages are malformed";
		return -EPROTO;
	default:
		if (pv_record_is_state(r->type) ||
		    (pv_record_is_static(r->type) && !*checkpoints))
			break;
		*why = "it has a record that does not belong there";
		return -EPROTO;
	}
	note_tsc(t, r);
	pv_write_record(t->writer, r->type, r->body, r->length);
	return pv_writer_flush(t->writer);
}

static int pass_image(struct pv_twin *t, int fd, const char **why)
{
	uint8_t header[PV_HEADER_BYTES];
	unsigned int checkpoints = 0;
	struct pv_reader in;
	struct record r;
	int rc = pv_reader_init(&in, fd);

	if (rc == 0)
		rc = pv_read_header(&in, header, why);
	if (rc == 0)
		pv_write(t->writer, header, sizeof(header));
	while (rc == 0) {
		rc = pv_read_record(&in, &r, why);
		if (rc == 0)
			rc = pass_record(t, &r, &checkpoints, why);
	}
	pv_reader_fini(&in);
	if (rc == 1 && !checkpoints)
		rc = -EPROTO;
	return rc < 0 ? rc : 0;
}

/* --- building and taking away ----------------------------------------------
 */

static int start(struct pv_twin *t)
{
	int ends[2], rc;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	t->in = ends[0];
	t->out = ends[1];
	fcntl(t->out, F_SETPIPE_SZ, PIPE_BYTES); /* or what is allowed */
	fcntl(t->out, F_SETFL, O_NONBLOCK); /* the writer waits, not for ever */
	t->writer = pv_writer_new(t->out);
	t->types = memory_touched(t->max_pfn + 1);
	rc = t->writer && t->types ? xen_host_open(&t->host, NULL) : -ENOMEM;
	if (rc == 0)
		rc = -pthread_create(&t->thread, NULL, restore, t);
	if (rc == 0) {
		t->joined = false;
		/* At once: libxl dies of a stream that ends before (lead.h). */
		pv_write(t->writer, xen_lead, XEN_LEAD_BYTES);
		return pv_writer_flush(t->writer);
	}
	close(t->in);
	return rc;
}

int pv_twin_build(libxl_domain_config *config, uint64_t max_pfn, int fd,
		  struct pv_twin **out, struct guest_error *err)
{
	struct pv_twin *t = memory_zeroed(sizeof(*t));
	const char *why = NULL;
	int rc;

	if (!t)
		return -ENOMEM;
	t->config = *config;
	libxl_domain_config_init(config);
	t->max_pfn = max_pfn;
	t->in = t->out = -1;
	t->domid = (uint32_t)INVALID_DOMID;
	t->joined = true; /* there is no thread yet */
	rc = start(t);
	if (rc == 0)
		rc = pass_image(t, fd, &why);
	if (rc == 0) {
		*out = t;
		return 0;
	}
	if (!t->joined)
		join(t);
	guest_error_set(err, "the image of a PV guest cannot be used: %s",
			why		   ? why
			: t->rc && t->host ? xen_host_why(t->host).text
					   : strerror(-rc));
	pv_twin_close(t);
	return rc;
}

int pv_twin_complete(struct pv_twin *t, struct guest_error *err)
{
	if (t->completed)
		return 0;
	if (atomic_load(&t->ended)) {
		guest_error_set(err, "libxl has given the standby up: %s",
				xen_host_why(t->host).text);
		return -EIO;
	}
	join(t);
	if (t->rc) {
		guest_error_set(err,
				"libxl could not complete the domain, and has"
				" taken it away: %s",
				xen_host_why(t->host).text);
		return -EIO;
	}
	t->completed = true;
	return 0;
}

void pv_twin_close(struct pv_twin *t)
{
	if (!t)
		return;
	join(t);
	if (t->host && !t->rc && !t->completed &&
	    t->domid != (uint32_t)INVALID_DOMID)
		libxl_domain_destroy(xen_host_libxl(t->host, NULL), t->domid,
				     NULL);
	xen_host_close(t->host);
	libxl_domain_config_dispose(&t->config);
	pv_writer_free(t->writer);
	free(t->types);
	free(t);
}

/* --- epochs ------------------------------------------------------------------
 */

/* They come whole, as libxl wants them (struct guest_wire_kind). */
static int write_page(void *arg, const struct page_item *item)
{
	static const uint8_t zeroes[WIRE_PAGE_BYTES];
	struct pv_twin *t = arg;
	struct pv_page p = { .pfn = item->gfn,
			     .bytes = item->bytes ? item->bytes : zeroes };

	if (p.pfn > t->max_pfn || item->kind == WIRE_PAGE_DELTA)
		return -EPROTO;
	p.type = t->types[p.pfn];
	pv_write_page(t->writer, &p);
	return 0;
}

int pv_twin_apply(struct pv_twin *t, const struct store *epoch)
{
	const uint8_t *records;
	struct record state, r;
	struct cursor c;
	size_t length;
	int rc;

	if (!store_record(epoch, WIRE_RECORD_COLOD_PV, &state))
		return -EPROTO;
	rc = pv_state_read(&state, t->max_pfn, t->types, &records, &length);
	/* Nothing was passed on so far. */
	if (rc == 0)
		rc = store_each_page(epoch, write_page, t);
	if (rc < 0)
		return rc;
	pv_write(t->writer, records, length);
	c = cursor_over(records, length);
	while (record_next(&c, &r) > 0)
		note_tsc(t, &r);
	return write_checkpoint(t);
}
