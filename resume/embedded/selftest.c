/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trying out the trackers on a little memory of this process, which has what
 * makes trackers lie: pages never touched, and pages of a shared file.
 */
#include "config.h"

#include "resume/embedded/tracker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "resume/embedded/spec.h"

enum { PAGES = 128 };

static int order_here(void *arg, enum tracked_order order)
{
	return tracked_order(arg, order);
}

static int prove(struct tracked *side, const char **why)
{
	struct tracker *t = NULL;
	int rc = tracker_open(side->kind, getpid(), (uintptr_t)side->base,
			      side->bytes, side->written, order_here, side, &t);

	*why = "the kernel does not allow it";
	if (rc == 0)
		rc = tracker_start(t);
	if (rc == 0)
		rc = tracker_prove(t, why);
	if (t)
		tracker_stop(t);
	tracker_close(t);
	return rc;
}

static int test_on(uint8_t *base, uint32_t kind, const char **why)
{
	_Atomic uint64_t written[PAGES / 64] = { 0 };
	struct tracked side;
	int rc;

	/* Half of it is there, half of it is not. */
	for (size_t i = 0; i < PAGES / 2; i++)
		base[i * WIRE_PAGE_BYTES] = 1;
	rc = tracked_open(&side, kind, base, PAGES * WIRE_PAGE_BYTES, written);
	*why = "the kernel does not have it";
	if (rc == 0)
		rc = prove(&side, why);
	tracked_close(&side);
	return rc;
}

int tracker_selftest(uint32_t kind, const char **why)
{
	size_t bytes = PAGES * WIRE_PAGE_BYTES;
	AUTO_FD int fd = memfd_create("colod-selftest", MFD_CLOEXEC);
	uint8_t *base;
	int rc;

	*why = "no memory";
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	rc = test_on(base, kind, why);
	munmap(base, bytes);
	return rc;
}

uint32_t tracker_best(void)
{
	static const uint32_t order[] = {
		EMBEDDED_TRACKER_UFFD,
		EMBEDDED_TRACKER_SOFTDIRTY,
		EMBEDDED_TRACKER_MPROTECT,
	};
	const char *why;

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (tracker_selftest(order[i], &why) == 0)
			return order[i];
	return EMBEDDED_TRACKER_NONE;
}
