/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tracking, in the guest's process (see tracked.h).
 *
 *   userfaultfd  registered once; the collecting half write-protects by
 *                PAGEMAP_SCAN, and the kernel lifts that on the first write
 *   soft-dirty   nothing to do here
 *   mprotect     all is read-only; the SIGSEGV handler marks the page in the
 *                bitmap that both processes see, and makes it writable
 *
 * The handler runs on any thread that writes guest memory.
 */
#include "config.h"

#include "resume/embedded/tracked.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "resume/embedded/kernel.h"
#include "resume/embedded/spec.h"

/* The one whose handler is in place. */
static struct tracked *_Atomic handled;
static struct sigaction before;

/* --- mprotect ----------------------------------------------------------- */

/*
 * Every second page made writable splits a mapping in two, and their number is
 * limited (vm.max_map_count): then all of it counts as written.
 */
static void all_written(struct tracked *t)
{
	size_t pages = t->bytes / WIRE_PAGE_BYTES;

	for (size_t i = 0; i < pages / 64; i++)
		atomic_store(&t->written[i], ~UINT64_C(0));
	if (pages % 64)
		atomic_store(&t->written[pages / 64],
			     (UINT64_C(1) << pages % 64) - 1);
	mprotect(t->base, t->bytes, PROT_READ | PROT_WRITE);
}

static void on_segv(int signal, siginfo_t *info, void *context)
{
	struct tracked *t = atomic_load(&handled);
	uintptr_t at = (uintptr_t)info->si_addr;
	int saved = errno;
	size_t page;

	(void)context;
	if (!t || at < (uintptr_t)t->base ||
	    at >= (uintptr_t)t->base + t->bytes) {
		sigaction(signal, &before, NULL); /* and fault again */
		return;
	}
	page = (at - (uintptr_t)t->base) / WIRE_PAGE_BYTES;
	atomic_fetch_or(&t->written[page / 64], UINT64_C(1) << page % 64);
	if (mprotect(t->base + page * WIRE_PAGE_BYTES, WIRE_PAGE_BYTES,
		     PROT_READ | PROT_WRITE) < 0)
		all_written(t);
	/* Once more, for an ARM that came in between, guest running. */
	atomic_fetch_or(&t->written[page / 64], UINT64_C(1) << page % 64);
	errno = saved;
}

static int mprotect_open(struct tracked *t)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO };
	struct tracked *none = NULL;

	act.sa_sigaction = on_segv;
	if (!t->written || !atomic_compare_exchange_strong(&handled, &none, t))
		return -EBUSY;
	return sigaction(SIGSEGV, &act, &before) < 0 ? -errno : 0;
}

static int mprotect_arm(struct tracked *t)
{
	size_t words = (t->bytes / WIRE_PAGE_BYTES + 63) / 64;

	/* In this order: what is written in between is read after this. */
	for (size_t i = 0; i < words; i++)
		atomic_store(&t->written[i], 0);
	return mprotect(t->base, t->bytes, PROT_READ) < 0 ? -errno : 0;
}

static void mprotect_disarm(struct tracked *t)
{
	mprotect(t->base, t->bytes, PROT_READ | PROT_WRITE);
}

/* --- userfaultfd -------------------------------------------------------- */

static int uffd_open(struct tracked *t)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features =
			UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)t->base, t->bytes },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int err;

	t->uffd = (int)syscall(SYS_userfaultfd,
			       O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (t->uffd < 0)
		return -ENOTSUP;
	if (ioctl(t->uffd, UFFDIO_API, &api) == 0 &&
	    ioctl(t->uffd, UFFDIO_REGISTER, &reg) == 0)
		return 0;
	err = errno == ENOMEM ? -ENOMEM : -ENOTSUP;
	close(t->uffd);
	t->uffd = -1;
	return err;
}

static int uffd_disarm(struct tracked *t)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)t->base, t->bytes },
	};

	return ioctl(t->uffd, UFFDIO_WRITEPROTECT, &wp) < 0 ? -errno : 0;
}

/* --- all ---------------------------------------------------------------- */

int tracked_open(struct tracked *t, uint32_t kind, uint8_t *base, size_t bytes,
		 _Atomic uint64_t *written)
{
	int rc;

	*t = (struct tracked){ kind, base, bytes, written, -1 };
	switch (kind) {
	case EMBEDDED_TRACKER_UFFD:
		rc = uffd_open(t);
		break;
	case EMBEDDED_TRACKER_MPROTECT:
		rc = mprotect_open(t);
		break;
	case EMBEDDED_TRACKER_SOFTDIRTY:
	case EMBEDDED_TRACKER_NONE:
		rc = 0;
		break;
	default:
		rc = -EINVAL;
	}
	if (rc < 0)
		t->kind = EMBEDDED_TRACKER_NONE;
	return rc;
}

void tracked_close(struct tracked *t)
{
	if (t->uffd >= 0)
		close(t->uffd);
	t->uffd = -1;
	if (t->kind == EMBEDDED_TRACKER_MPROTECT) {
		mprotect_disarm(t);
		sigaction(SIGSEGV, &before, NULL);
		atomic_store(&handled, NULL);
	}
	t->kind = EMBEDDED_TRACKER_NONE;
}

int tracked_order(struct tracked *t, enum tracked_order order)
{
	_Atomic uint8_t *first = (void *)t->base;

	switch (order) {
	case TRACKED_ARM:
		if (t->kind == EMBEDDED_TRACKER_MPROTECT)
			return mprotect_arm(t);
		return 0;
	case TRACKED_DISARM:
		if (t->kind == EMBEDDED_TRACKER_MPROTECT)
			mprotect_disarm(t);
		if (t->kind == EMBEDDED_TRACKER_UFFD)
			return uffd_disarm(t);
		return 0;
	case TRACKED_TOUCH:
		/* A write that changes nothing, whoever writes besides. */
		atomic_fetch_add(first, 0);
		return 0;
	}
	return -EINVAL;
}
