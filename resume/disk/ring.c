/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of a served disk (see ring.h): a memfd of a header and the ring
 * itself.  All positions are counted in bytes from the beginning and never
 * wrap; where one is in the ring is its remainder.
 *
 * An entry is a struct entry and a change (stream/changes.h), filled up to a
 * multiple of ENTRY_ALIGN, and never goes over the end of the ring: where there
 * is no room for one up to there, a filler is put first.  `head` is moved when
 * an entry is whole, so one that a writer was killed in is not there; the
 * writer keeps nothing of its own, so another may go on.
 *
 * Neither side believes the other's memory further than the ring goes.
 */
#include "config.h"

#include "resume/disk/ring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"

enum {
	HEADER_BYTES = 4096,
	LINE_BYTES = 64,
	ENTRY_ALIGN = 8,
	SETS = 2,
	SET_FILLER = 0xff,
	/* A wake that is lost with a killed reader costs no more than this. */
	WAIT_SLICE_US = 100 * 1000,
};

#define MAGIC UINT64_C(0x31676e69726c6f63) /* "colring1" */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

struct header {
	uint64_t magic;
	uint64_t bytes;				    /* of the ring itself */
	_Alignas(LINE_BYTES) _Atomic uint64_t head; /* the writer's */
	_Alignas(LINE_BYTES) _Atomic uint64_t tail; /* the reader's */
	/* A futex: it changes with each pop, and when the ring is broken. */
	_Atomic uint32_t pops;
	_Atomic uint32_t waiting; /* the writer, for that */
	_Alignas(LINE_BYTES) _Atomic uint32_t broken;
};

struct entry {
	uint32_t bytes; /* with this */
	uint32_t set;	/* or SET_FILLER */
};

static_assert(sizeof(struct header) <= HEADER_BYTES, "header");
static_assert(sizeof(struct entry) == ENTRY_ALIGN, "a filler always fits");

struct disk_ring {
	int fd;
	size_t bytes;
	struct header *header;
	uint8_t *at;
	uint64_t tail; /* the reader's own: what it has taken */
	uint32_t peeked;
};

/* --- making and mapping --------------------------------------------------- */

/* Takes over `fd` in any case. */
static int map(int fd, size_t bytes, struct disk_ring **out)
{
	struct disk_ring *r = memory_zeroed(sizeof(*r));
	void *at;

	if (!r) {
		close(fd);
		return -ENOMEM;
	}
	r->fd = fd;
	r->bytes = bytes;
	at = mmap(NULL, HEADER_BYTES + bytes, PROT_READ | PROT_WRITE,
		  MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		disk_ring_close(r);
		return -ENOMEM;
	}
	r->header = at;
	r->at = (uint8_t *)at + HEADER_BYTES;
	*out = r;
	return 0;
}

/*
 * All of the memory at once: what is not to be had shows here, and not at a
 * write of the guest's.
 */
static int memory_fd(size_t bytes)
{
	AUTO_FD int fd = -1;

	if (memory_short())
		return -ENOMEM;
	fd = memfd_create("colod-disk-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)(HEADER_BYTES + bytes)) < 0 ||
	    fallocate(fd, 0, 0, (off_t)(HEADER_BYTES + bytes)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0)
		return -ENOMEM;
	return TAKE_FD(fd);
}

int disk_ring_new(size_t bytes, struct disk_ring **out)
{
	int fd, err;

	if (bytes == 0 || bytes % HEADER_BYTES ||
	    bytes > SSIZE_MAX - HEADER_BYTES)
		return -EINVAL;
	fd = memory_fd(bytes);
	err = fd < 0 ? fd : map(fd, bytes, out);
	if (err)
		return err;
	(*out)->header->magic = MAGIC;
	(*out)->header->bytes = bytes;
	return 0;
}

int disk_ring_fd(const struct disk_ring *r)
{
	return r->fd;
}

/* One that could be made shorter while it is mapped would kill who reads it. */
static size_t ring_bytes(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 ||
	    st.st_size <= HEADER_BYTES || st.st_size % HEADER_BYTES)
		return 0;
	return (size_t)st.st_size - HEADER_BYTES;
}

int disk_ring_map(int fd, struct disk_ring **out)
{
	size_t bytes = ring_bytes(fd);
	struct disk_ring *r;
	int err;

	if (!bytes) {
		cleanup_fd(&fd);
		return -EINVAL;
	}
	err = map(fd, bytes, &r);
	if (err)
		return err;
	if (r->header->magic != MAGIC || r->header->bytes != bytes) {
		disk_ring_close(r);
		return -EINVAL;
	}
	*out = r;
	return 0;
}

void disk_ring_close(struct disk_ring *r)
{
	if (!r)
		return;
	if (r->header)
		munmap(r->header, HEADER_BYTES + r->bytes);
	cleanup_fd(&r->fd);
	free(r);
}

/* --- the writer ----------------------------------------------------------- */

static void wake_writer(struct header *h)
{
	atomic_fetch_add(&h->pops, 1);
	if (atomic_exchange(&h->waiting, 0))
		syscall(SYS_futex, &h->pops, FUTEX_WAKE, INT_MAX, NULL, NULL,
			0);
}

void disk_ring_break(struct disk_ring *r)
{
	atomic_store(&r->header->broken, 1);
	wake_writer(r->header);
}

bool disk_ring_broken(const struct disk_ring *r)
{
	return atomic_load(&r->header->broken);
}

/* -EPROTO: the positions are none. */
static int look(const struct disk_ring *r, uint64_t tail, uint64_t *head)
{
	*head = atomic_load(&r->header->head);
	if (*head - tail > r->bytes || (*head | tail) % ENTRY_ALIGN)
		return -EPROTO;
	return 0;
}

/* 1: there is, 0: there is not yet. */
static int has_room(const struct disk_ring *r, size_t bytes, uint64_t *head)
{
	uint64_t tail = atomic_load(&r->header->tail);

	if (disk_ring_broken(r))
		return -EPIPE;
	if (look(r, tail, head))
		return -EPROTO;
	return r->bytes - (size_t)(*head - tail) >= bytes;
}

static void wait_for_pop(struct header *h, uint32_t pops, uint64_t us)
{
	const struct timespec t = { .tv_sec = (time_t)(us / 1000000),
				    .tv_nsec = (long)(us % 1000000 * 1000) };

	syscall(SYS_futex, &h->pops, FUTEX_WAIT, pops, &t, NULL, 0);
}

/* The position where there is room for so much, in *head. */
static int wait_for_room(struct disk_ring *r, size_t bytes, uint64_t until_us,
			 uint64_t *head)
{
	struct header *h = r->header;
	int has = has_room(r, bytes, head);

	while (has == 0) {
		uint64_t now_us = clock_now_us();
		uint32_t pops = atomic_load(&h->pops);

		if (now_us >= until_us)
			return -ETIMEDOUT;
		/* Either this sees the pop, or the pop sees this. */
		atomic_store(&h->waiting, 1);
		has = has_room(r, bytes, head);
		if (has == 0) {
			wait_for_pop(h, pops,
				     at_most(until_us - now_us, WAIT_SLICE_US));
			has = has_room(r, bytes, head);
		}
	}
	return has < 0 ? has : 0;
}

static void put_entry(struct disk_ring *r, uint64_t head, uint32_t bytes,
		      uint32_t set)
{
	const struct entry e = { .bytes = bytes, .set = set };

	memcpy(r->at + head % r->bytes, &e, sizeof(e));
}

/*
 * Its own step: an entry and the filler before it may be more than the ring
 * ever has room for.
 */
static int go_to_front(struct disk_ring *r, size_t left, uint64_t until_us)
{
	uint64_t head;
	int err = wait_for_room(r, left, until_us, &head);

	if (err)
		return err;
	put_entry(r, head, (uint32_t)left, SET_FILLER);
	atomic_store(&r->header->head, head + left);
	return 0;
}

static int put(struct disk_ring *r, const struct change *c, unsigned int set,
	       uint64_t until_us)
{
	size_t bytes = sizeof(struct entry) + change_bytes(c), left;
	size_t all = (bytes + ENTRY_ALIGN - 1) & ~(size_t)(ENTRY_ALIGN - 1);
	uint64_t head;
	int err;

	if (all > r->bytes || set >= SETS)
		return -EINVAL;
	left = r->bytes - (size_t)(atomic_load(&r->header->head) % r->bytes);
	err = left < all ? go_to_front(r, left, until_us) : 0;
	if (!err)
		err = wait_for_room(r, all, until_us, &head);
	if (err)
		return err;
	if (head % r->bytes + all > r->bytes)
		return -EPROTO;
	put_entry(r, head, (uint32_t)all, set);
	if (!change_put(c, r->at + head % r->bytes + sizeof(struct entry),
			bytes - sizeof(struct entry)))
		return -EINVAL;
	atomic_store(&r->header->head, head + all);
	return 0;
}

int disk_ring_put(struct disk_ring *r, const struct change *c,
		  const uint8_t *data, unsigned int set, uint64_t patience_us)
{
	struct change whole = *c;

	if (disk_ring_broken(r))
		return -EPIPE;
	if (c->length == 0)
		return 0;
	whole.data = c->kind == CHANGE_WRITE ? data : NULL;
	if ((c->kind == CHANGE_WRITE && c->length > CHANGE_DATA_MAX) ||
	    put(r, &whole, set, clock_now_us() + patience_us)) {
		disk_ring_break(r);
		return -EPIPE;
	}
	return 0;
}

/* --- the reader ----------------------------------------------------------- */

uint64_t disk_ring_head(const struct disk_ring *r)
{
	return atomic_load(&r->header->head);
}

/* The tail first: so it is never in front of the head. */
size_t disk_ring_used(const struct disk_ring *r)
{
	uint64_t tail = atomic_load(&r->header->tail);

	return (size_t)at_most(atomic_load(&r->header->head) - tail, r->bytes);
}

static void take_off(struct disk_ring *r, uint32_t bytes)
{
	r->tail += bytes;
	r->peeked = 0;
	atomic_store(&r->header->tail, r->tail);
	wake_writer(r->header);
}

/* The disk's size is known to who uses the change. */
static int read_change(const struct disk_ring *r, const struct entry *e,
		       struct change *c)
{
	static const uint64_t any[WIRE_DISKS_MAX] = {
		[0 ... WIRE_DISKS_MAX - 1] = INT64_MAX,
	};
	const struct change_bounds bounds = { any, WIRE_DISKS_MAX };
	const uint8_t *at = r->at + r->tail % r->bytes + sizeof(*e);
	size_t left = e->bytes - sizeof(*e);
	const char *why;

	if (e->set >= SETS || change_take(&at, &left, &bounds, c, &why))
		return -EPROTO;
	return left < ENTRY_ALIGN ? 1 : -EPROTO;
}

/* The entry at the tail, which has `used` bytes behind it. */
static int read_entry(const struct disk_ring *r, uint64_t used, struct entry *e)
{
	size_t at = (size_t)(r->tail % r->bytes);

	if (used < sizeof(*e))
		return -EPROTO;
	memcpy(e, r->at + at, sizeof(*e));
	return e->bytes < sizeof(*e) || e->bytes % ENTRY_ALIGN ||
			       e->bytes > used || e->bytes > r->bytes - at
		       ? -EPROTO
		       : 0;
}

int disk_ring_peek(struct disk_ring *r, uint64_t limit, struct change *c,
		   unsigned int *set)
{
	struct entry e;
	uint64_t head;
	int rc = look(r, r->tail, &head);

	while (rc == 0 && r->tail < at_most(limit, head)) {
		rc = read_entry(r, head - r->tail, &e);
		if (rc < 0)
			return rc;
		if (e.set == SET_FILLER) {
			take_off(r, e.bytes);
			continue;
		}
		rc = read_change(r, &e, c);
		r->peeked = rc < 0 ? 0 : e.bytes;
		*set = e.set;
	}
	return rc;
}

void disk_ring_pop(struct disk_ring *r)
{
	if (r->peeked)
		take_off(r, r->peeked);
}
