/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collecting what was written (see tracker.h).
 *
 *   userfaultfd  PAGEMAP_SCAN gets the written pages and protects them again in
 *                one pass; with PM_SCAN_CHECK_WPASYNC, since without it a range
 *                in another mode yields nothing and no error
 *   soft-dirty   bit 55 of /proc/PID/pagemap, then /proc/PID/clear_refs
 *   mprotect     the bitmap, then the other half protects all again
 */
#include "config.h"

#include "resume/embedded/tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "resume/embedded/kernel.h"
#include "resume/embedded/spec.h"

enum {
	REGIONS = 8192,	     /* of one PAGEMAP_SCAN */
	ENTRIES = 64 * 1024, /* of one read of pagemap */
	SOFT_DIRTY_BIT = 55,
};

struct tracker {
	uint32_t kind;
	uint64_t address;
	size_t pages;
	_Atomic uint64_t *written;
	tracked_order_fn *order;
	void *arg;
	int pagemap;
	int clear_refs;
	struct page_region *regions;
	uint64_t *entries;
	uint64_t *scratch; /* a bit a page */
	uint64_t *nothing; /* as many zeroes */
};

static size_t bitmap_bytes(const struct tracker *t)
{
	return (t->pages + 63) / 64 * 8;
}

static void *touched(size_t bytes)
{
	void *p = malloc(bytes);

	if (p)
		explicit_bzero(p, bytes);
	return p;
}

static void set_range(uint64_t *bits, size_t page, size_t end)
{
	for (; page < end; page++)
		bits[page / 64] |= UINT64_C(1) << page % 64;
}

/* --- userfaultfd -------------------------------------------------------- */

static int uffd_collect(struct tracker *t, uint64_t *bits)
{
	struct pm_scan_arg a = {
		.size = sizeof(a),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = t->address,
		.end = t->address + t->pages * WIRE_PAGE_BYTES,
		.vec = (uintptr_t)t->regions,
		.vec_len = REGIONS,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int n;

	do {
		n = ioctl(t->pagemap, PAGEMAP_SCAN, &a);
		if (n < 0)
			return -errno;
		for (int i = 0; i < n; i++)
			set_range(bits,
				  (t->regions[i].start - t->address) /
					  WIRE_PAGE_BYTES,
				  (t->regions[i].end - t->address) /
					  WIRE_PAGE_BYTES);
		a.start = a.walk_end;
	} while (a.start < a.end);
	return 0;
}

/* --- soft-dirty --------------------------------------------------------- */

static int softdirty_collect(struct tracker *t, uint64_t *bits)
{
	size_t at, n, i;
	off_t offset;

	for (at = 0; at < t->pages; at += n) {
		n = t->pages - at < ENTRIES ? t->pages - at : ENTRIES;
		offset = (off_t)((t->address / WIRE_PAGE_BYTES + at) * 8);
		if (pread(t->pagemap, t->entries, n * 8, offset) !=
		    (ssize_t)(n * 8))
			return errno ? -errno : -EIO;
		for (i = 0; i < n; i++)
			if (t->entries[i] >> SOFT_DIRTY_BIT & 1)
				set_range(bits, at + i, at + i + 1);
	}
	return pwrite(t->clear_refs, "4", 1, 0) == 1 ? 0 : -errno;
}

/* --- mprotect ----------------------------------------------------------- */

static int mprotect_collect(struct tracker *t, uint64_t *bits)
{
	for (size_t w = 0; w < (t->pages + 63) / 64; w++)
		bits[w] |= atomic_load(&t->written[w]);
	return t->order(t->arg, TRACKED_ARM);
}

/* --- all ---------------------------------------------------------------- */

static int open_proc(pid_t pid, const char *file, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_files(struct tracker *t, pid_t pid)
{
	if (t->kind == EMBEDDED_TRACKER_MPROTECT)
		return 0;
	t->pagemap = open_proc(pid, "pagemap", O_RDONLY);
	if (t->pagemap < 0)
		return t->pagemap;
	if (t->kind == EMBEDDED_TRACKER_UFFD)
		return 0;
	t->clear_refs = open_proc(pid, "clear_refs", O_WRONLY);
	return t->clear_refs < 0 ? t->clear_refs : 0;
}

int tracker_open(uint32_t kind, pid_t pid, uint64_t address, size_t bytes,
		 _Atomic uint64_t *written, tracked_order_fn *order, void *arg,
		 struct tracker **out)
{
	struct tracker *t;
	int rc;

	if (kind != EMBEDDED_TRACKER_UFFD &&
	    kind != EMBEDDED_TRACKER_SOFTDIRTY &&
	    kind != EMBEDDED_TRACKER_MPROTECT)
		return -ENOTSUP;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	*t = (struct tracker){
		.kind = kind,
		.address = address,
		.pages = bytes / WIRE_PAGE_BYTES,
		.written = written,
		.order = order,
		.arg = arg,
		.pagemap = -1,
		.clear_refs = -1,
	};
	t->regions = touched(REGIONS * sizeof(*t->regions));
	t->entries = touched(ENTRIES * sizeof(*t->entries));
	t->scratch = touched(bitmap_bytes(t));
	t->nothing = touched(bitmap_bytes(t));
	rc = t->regions && t->entries && t->scratch && t->nothing
		     ? open_files(t, pid)
		     : -ENOMEM;
	if (rc < 0) {
		tracker_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

void tracker_close(struct tracker *t)
{
	if (!t)
		return;
	if (t->pagemap >= 0)
		close(t->pagemap);
	if (t->clear_refs >= 0)
		close(t->clear_refs);
	free(t->regions);
	free(t->entries);
	free(t->scratch);
	free(t->nothing);
	free(t);
}

int tracker_collect(struct tracker *t, uint64_t *bits)
{
	switch (t->kind) {
	case EMBEDDED_TRACKER_UFFD:
		return uffd_collect(t, bits);
	case EMBEDDED_TRACKER_SOFTDIRTY:
		return softdirty_collect(t, bits);
	default:
		return mprotect_collect(t, bits);
	}
}

/*
 * PAGEMAP_SCAN reports a page and protects it in one step.  Of the others, one
 * reads and forgets in two, and one forgets what was written in between.
 */
bool tracker_runs_along(const struct tracker *t)
{
	return t->kind == EMBEDDED_TRACKER_UFFD;
}

int tracker_start(struct tracker *t)
{
	return tracker_collect(t, t->scratch);
}

void tracker_stop(struct tracker *t)
{
	t->order(t->arg, TRACKED_DISARM);
}

/* What is collected now, as -1: not just `expected`; 0; or an errno. */
static int expect(struct tracker *t, uint64_t expected)
{
	int rc;

	memset(t->scratch, 0, bitmap_bytes(t));
	rc = tracker_collect(t, t->scratch);
	if (rc < 0)
		return rc;
	t->nothing[0] = expected;
	rc = memcmp(t->scratch, t->nothing, bitmap_bytes(t)) ? -EIO : 0;
	t->nothing[0] = 0;
	return rc;
}

int tracker_prove(struct tracker *t, const char **why)
{
	int rc = expect(t, 0);

	*why = "pages are reported that nobody has written";
	if (rc < 0)
		return rc;
	rc = t->order(t->arg, TRACKED_TOUCH);
	*why = "a page was not to be written";
	if (rc < 0)
		return rc;
	rc = expect(t, 1);
	*why = "a page that was written is not reported";
	if (rc < 0)
		return rc;
	rc = expect(t, 0);
	*why = "a page that was written once is reported twice";
	return rc;
}
