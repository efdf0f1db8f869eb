/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's witness for block requests in flight.
 *
 *	guest-order DEVICE OFFSET_MIB [REST_US]
 *					works on 1 MiB of a disk, for ever,
 *					with a rest after each round
 *	guest-order --prove		the rules of order.h against a disk that
 *					lies: status 0 when each lie is found
 *
 * Requests go past the cache by Linux' own asynchronous I/O, so that all of a
 * round are in flight at once.  A line a second says what was seen; an `order
 * ERROR' line is a verdict, the first eight are printed.  What the counts mean
 * is in order.h.  A disk that fails a request does not end it; a device that
 * is not there does, with status 1.  One thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "order.h"

enum {
	REPORT_US = 1000000,
	SWEEP_US = 5000000,
	/* The guest's processor is slow, and not this program's alone. */
	REST_US = 5000,
	STOPPED_US = 1000,
	READINGS = 8,
};

int order_prove(void);

struct real_disk {
	int fd;
	off_t at;
	aio_context_t aio;
	uint64_t suspends;
	int64_t stopped_us;
};

static uint64_t clock_us(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* As guest-check does: CLOCK_BOOTTIME alone goes on in a suspended guest. */
static uint64_t real_suspends(void *disk)
{
	struct real_disk *d = disk;
	uint64_t before, boot, after;
	int64_t stopped_us;
	int readings = 0;

	do {
		before = clock_us(CLOCK_MONOTONIC);
		boot = clock_us(CLOCK_BOOTTIME);
		after = clock_us(CLOCK_MONOTONIC);
	} while (after - before > STOPPED_US / 2 && ++readings < READINGS);
	stopped_us = (int64_t)(boot - before);
	if (stopped_us > d->stopped_us + STOPPED_US)
		d->suspends++;
	d->stopped_us = stopped_us;
	return d->suspends;
}

static int real_submit(void *disk, struct order_io **io, unsigned int count)
{
	struct real_disk *d = disk;
	struct iocb cb[ORDER_DEPTH], *list[ORDER_DEPTH];
	unsigned int sent = 0;
	long n;

	for (unsigned int i = 0; i < count; i++) {
		cb[i] = (struct iocb){
			.aio_data = (uintptr_t)io[i],
			.aio_lio_opcode =
				io[i]->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_fildes = (uint32_t)d->fd,
			.aio_buf = (uintptr_t)io[i]->buffer,
			.aio_nbytes = ORDER_BLOCK,
			.aio_offset = d->at + (off_t)io[i]->block * ORDER_BLOCK,
		};
		list[i] = &cb[i];
	}
	while (sent < count) {
		n = syscall(SYS_io_submit, d->aio, (long)(count - sent),
			    list + sent);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0)
			sent += (unsigned int)n;
	}
	return 0;
}

static int real_wait(void *disk, struct order_io **done, unsigned int room)
{
	struct real_disk *d = disk;
	struct io_event event[ORDER_DEPTH];
	long n;

	do
		n = syscall(SYS_io_getevents, d->aio, 1L, (long)room, event,
			    NULL);
	while (n < 0 && errno == EINTR);
	for (long i = 0; i < n; i++) {
		done[i] = (struct order_io *)(uintptr_t)event[i].data;
		done[i]->result = (long)event[i].res;
	}
	return n < 0 ? -errno : (int)n;
}

static int real_flush(void *disk)
{
	const struct real_disk *d = disk;

	return fdatasync(d->fd) ? -errno : 0;
}

static const struct order_disk real_ops = {
	.submit = real_submit,
	.wait = real_wait,
	.flush = real_flush,
	.suspends = real_suspends,
};

static void report(const struct order *o)
{
	static uint64_t line;

	printf("order line=%lu suspends=%lu", ++line, o->suspends);
#define ORDER_COUNT(name) printf(" " #name "=%lu", o->n.name);
	ORDER_COUNTS(ORDER_COUNT)
#undef ORDER_COUNT
	printf("\n");
}

static int run(struct order *o, useconds_t rest_us)
{
	uint64_t reported_us = 0, swept_us = 0, now_us;
	int rc = order_fill(o);

	for (uint64_t round = 0; rc == 0; round++) {
		order_stir(o, clock_us(CLOCK_BOOTTIME));
		rc = order_round(o, round);
		now_us = clock_us(CLOCK_BOOTTIME);
		if (rc == 0 && now_us - swept_us >= SWEEP_US) {
			rc = order_sweep(o);
			swept_us = now_us;
		}
		if (now_us - reported_us >= REPORT_US) {
			report(o);
			reported_us = now_us;
		}
		usleep(rest_us);
	}
	return rc;
}

static int open_disk(struct real_disk *d, const char *path, const char *mib)
{
	d->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	d->at = (off_t)strtoull(mib, NULL, 10) << 20;
	if (d->fd < 0 || syscall(SYS_io_setup, (long)ORDER_DEPTH, &d->aio))
		return -errno;
	return 0;
}

int main(int argc, char **argv)
{
	static struct real_disk disk;
	static struct order o;
	uint8_t *buffers;
	struct timespec t;
	int rc;

	if (argc == 2 && !strcmp(argv[1], "--prove"))
		return order_prove() ? 1 : 0;
	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: guest-order DEVICE OFFSET_MIB "
				"[REST_US] | --prove\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* The other witness measures pauses; this one shall not be one. */
	setpriority(PRIO_PROCESS, 0, 5);
	rc = open_disk(&disk, argv[1], argv[2]);
	buffers = aligned_alloc(ORDER_BLOCK, ORDER_DEPTH * ORDER_BLOCK);
	if (rc == 0 && buffers) {
		clock_gettime(CLOCK_REALTIME, &t);
		for (unsigned int i = 0; i < ORDER_DEPTH; i++)
			o.io[i].buffer = buffers + i * ORDER_BLOCK;
		order_init(&o, &real_ops, &disk,
			   (uint64_t)t.tv_sec << 30 ^ (uint64_t)t.tv_nsec);
		rc = run(&o, argc == 4 ? (useconds_t)atol(argv[3]) : REST_US);
	}
	fprintf(stderr, "order ERROR the end: %s\n", strerror(-rc));
	return 1;
}
