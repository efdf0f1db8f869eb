/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/embedded/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnbd.h>

#include "base/clock.h"
#include "base/log.h"
#include "resume/disk/names.h"
#include "resume/embedded/memory.h"

enum { RETRY_US = 20000, PROVE_POLL_MS = 20 };

struct disk_backend {
	char name[DISK_NAME_MAX + 1];
	char path[DISK_PATH_MAX];
	struct nbd_handle *nbd; /* or NULL */
	uint64_t retry_at_us;
	bool complained;

	/* The request, in our own memory: the guest's may be stopped. */
	bool busy;
	bool orphaned; /* who asked is no more */
	uint64_t number;
	uint32_t kind;
	uint32_t length;
	uint64_t offset;
	uint64_t memory;
	uint64_t size;
	int64_t cookie; /* 0: not issued */
	uint8_t bytes[EMBEDDED_DISK_BUFFER_BYTES];
};

int disk_backend_open(const char *run_dir, const char *name,
		      struct disk_backend **out, struct guest_error *err)
{
	struct disk_backend *d = calloc(1, sizeof(*d));
	int rc = d ? 0 : -ENOMEM;

	if (rc == 0)
		rc = disk_nbd_path(run_dir, name, d->path);
	if (rc < 0) {
		guest_error_set(err, "disk %s: %s", name, strerror(-rc));
		free(d);
		return rc;
	}
	snprintf(d->name, sizeof(d->name), "%s", name);
	*out = d;
	return 0;
}

static void disconnect(struct disk_backend *d)
{
	nbd_close(d->nbd);
	d->nbd = NULL;
	d->cookie = 0;
}

void disk_backend_close(struct disk_backend *d)
{
	if (!d)
		return;
	disconnect(d);
	free(d);
}

/* --- the connection ----------------------------------------------------- */

static void lost(struct disk_backend *d, const char *why)
{
	if (!d->complained && d->busy)
		log_warn("disk %s: %s; trying on", d->name, why);
	d->complained = d->busy;
	disconnect(d);
	d->retry_at_us = clock_now_us() + RETRY_US;
	/* With its server gone it changes nothing any more. */
	if (d->orphaned)
		d->busy = d->orphaned = false;
}

static const char *nbd_why(void)
{
	const char *why = nbd_get_error();

	return why ? why : "the connection has ended";
}

static bool connect_to(struct disk_backend *d)
{
	d->nbd = nbd_create();
	if (d->nbd && nbd_aio_connect_unix(d->nbd, d->path) == 0)
		return true;
	lost(d, nbd_why());
	return false;
}

/* Takes and sends what can be without waiting. */
static void move_on(struct disk_backend *d, int timeout_ms)
{
	while (d->nbd && nbd_poll(d->nbd, timeout_ms) > 0)
		timeout_ms = 0;
	if (d->nbd && (nbd_aio_is_dead(d->nbd) || nbd_aio_is_closed(d->nbd)))
		lost(d, nbd_why());
}

int disk_backend_prove(struct disk_backend *d, uint64_t patience_us,
		       struct guest_error *err)
{
	uint64_t end_us = clock_now_us() + patience_us;

	do {
		if (!d->nbd && !connect_to(d))
			clock_sleep_us(RETRY_US);
		move_on(d, PROVE_POLL_MS);
		if (d->nbd && nbd_aio_is_ready(d->nbd))
			return 0;
	} while (clock_now_us() < end_us);
	guest_error_set(err,
			"disk %s is not served at %s; `colod disk serve %s' on"
			" this host does that",
			d->name, d->path, d->name);
	return -ENOTCONN;
}

int disk_backend_wants(const struct disk_backend *d, struct pollfd *p)
{
	unsigned int direction = d->nbd ? nbd_aio_get_direction(d->nbd) : 0;
	uint64_t now_us;

	*p = (struct pollfd){ .fd = d->nbd ? nbd_aio_get_fd(d->nbd) : -1 };
	if (direction & LIBNBD_AIO_DIRECTION_READ)
		p->events |= POLLIN;
	if (direction & LIBNBD_AIO_DIRECTION_WRITE)
		p->events |= POLLOUT;
	if (d->nbd || !d->busy)
		return -1;
	now_us = clock_now_us();
	return d->retry_at_us <= now_us
		       ? 0
		       : (int)((d->retry_at_us - now_us) / 1000 + 1);
}

/* --- a request ---------------------------------------------------------- */

static bool inside(uint64_t at, uint64_t length, uint64_t bytes)
{
	return at <= bytes && length <= bytes - at;
}

static bool has_bytes(uint32_t kind)
{
	return kind == EMBEDDED_DISK_READ || kind == EMBEDDED_DISK_WRITE;
}

static void take(struct disk_backend *d, uint8_t *memory, uint64_t bytes)
{
	const struct embedded_disk_slot *s = embedded_disk_slot(memory);
	uint64_t asked = atomic_load(&s->asked);

	if (atomic_load(&s->answered) + 1 != asked)
		return;
	d->kind = s->kind;
	d->length = s->length;
	d->offset = s->offset;
	d->memory = s->memory;
	/* A frontend that asks nonsense is not answered. */
	if (has_bytes(d->kind) && (d->length > sizeof(d->bytes) ||
				   !inside(d->memory, d->length, bytes)))
		return;
	d->number = asked;
	d->busy = true;
	if (d->kind == EMBEDDED_DISK_WRITE)
		memcpy(d->bytes, memory + d->memory, d->length);
}

/* 0: under way; 1: nothing to wait for; negative: it cannot be. */
static int issue(struct disk_backend *d)
{
	const nbd_completion_callback none = NBD_NULL_COMPLETION;
	int64_t size;

	switch (d->kind) {
	case EMBEDDED_DISK_SIZE:
		size = nbd_get_size(d->nbd);
		d->size = size < 0 ? 0 : (uint64_t)size;
		return size < 0 ? -EIO : 1;
	case EMBEDDED_DISK_READ:
		d->cookie = nbd_aio_pread(d->nbd, d->bytes, d->length,
					  d->offset, none, 0);
		break;
	case EMBEDDED_DISK_WRITE:
		d->cookie = nbd_aio_pwrite(d->nbd, d->bytes, d->length,
					   d->offset, none, 0);
		break;
	case EMBEDDED_DISK_ZERO:
		d->cookie = nbd_aio_zero(d->nbd, d->length, d->offset, none, 0);
		break;
	default:
		if (nbd_can_flush(d->nbd) != 1)
			return 1;
		d->cookie = nbd_aio_flush(d->nbd, none, 0);
	}
	return d->cookie < 0 ? -EIO : 0;
}

static void answer(struct disk_backend *d, uint8_t *memory)
{
	struct embedded_disk_slot *s = embedded_disk_slot(memory);

	if (d->complained)
		log_info("disk %s: answers again", d->name);
	d->complained = false;
	d->cookie = 0;
	d->busy = false;
	if (d->kind == EMBEDDED_DISK_READ)
		memcpy(memory + d->memory, d->bytes, d->length);
	else if (d->kind == EMBEDDED_DISK_SIZE)
		s->size = d->size;
	atomic_store(&s->answered, d->number);
}

/* As issue(), of one that may have been issued. */
static int look(struct disk_backend *d)
{
	int rc = 0;

	if (!nbd_aio_is_ready(d->nbd) && !d->cookie)
		return 0; /* still shaking hands */
	if (!d->cookie)
		rc = issue(d);
	if (rc == 0)
		rc = nbd_aio_command_completed(d->nbd, (uint64_t)d->cookie);
	return rc;
}

bool disk_backend_turn(struct disk_backend *d, uint8_t *memory, uint64_t bytes)
{
	int rc;

	move_on(d, 0);
	if (!d->busy)
		take(d, memory, bytes);
	if (!d->busy ||
	    (!d->nbd && (clock_now_us() < d->retry_at_us || !connect_to(d))))
		return false;
	rc = look(d);
	if (rc < 0)
		lost(d, nbd_why());
	if (rc <= 0)
		return false;
	if (!d->orphaned) {
		answer(d, memory);
		return true;
	}
	d->cookie = 0;
	d->busy = d->orphaned = false;
	return disk_backend_turn(d, memory, bytes);
}

void disk_backend_renew(struct disk_backend *d)
{
	d->orphaned = d->cookie > 0;
	d->busy = d->orphaned;
}

void disk_backend_pull(struct disk_backend *d)
{
	disconnect(d);
	d->busy = d->orphaned = false;
}
