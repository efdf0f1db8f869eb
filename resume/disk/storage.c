/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk's bytes (see storage.h).  fallocate(2) knows block devices too; what a
 * storage cannot do by it is written.
 */
#include "config.h"

#include "resume/disk/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/memory.h"

enum { SECTOR_BYTES = 512 };

struct disk_storage {
	int fd;
	bool device;
	uint64_t size;
};

/* 0, or -EINVAL where it is neither a file nor a block device. */
static int measure(struct disk_storage *s)
{
	struct stat st;

	if (fstat(s->fd, &st) < 0)
		return -errno;
	s->device = S_ISBLK(st.st_mode);
	s->size = (uint64_t)st.st_size;
	if (s->device)
		return ioctl(s->fd, BLKGETSIZE64, &s->size) < 0 ? -errno : 0;
	return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

static int open_it(struct disk_storage *s, const char *path, bool writable,
		   struct guest_error *err)
{
	/* Not to wait for whoever is at the other end of a FIFO. */
	int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK;
	int rc;

	s->fd = open(path, flags);
	rc = s->fd < 0 ? -errno : measure(s);
	if (rc == -EINVAL)
		guest_error_set(err,
				"%s is neither a file nor a block device: name "
				"one as the disk's storage",
				path);
	else if (rc < 0)
		guest_error_set(
			err,
			"cannot open the storage %s: %s; see that it is "
			"there and that colod may open it",
			path, strerror(-rc));
	else if (s->size == 0) {
		guest_error_set(err,
				"the storage %s is empty: give it the size of "
				"the disk",
				path);
		return -EINVAL;
	}
	return rc;
}

int disk_storage_open(const char *path, bool writable,
		      struct disk_storage **out, struct guest_error *err)
{
	struct disk_storage *s = memory_zeroed(sizeof(*s));
	int rc;

	if (!s) {
		guest_error_set(err, "no memory for the storage %s", path);
		return -ENOMEM;
	}
	rc = open_it(s, path, writable, err);
	if (rc < 0) {
		disk_storage_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

void disk_storage_close(struct disk_storage *s)
{
	if (!s)
		return;
	cleanup_fd(&s->fd);
	free(s);
}

uint64_t disk_storage_size(const struct disk_storage *s)
{
	return s->size;
}

static bool within(const struct disk_storage *s, uint64_t offset,
		   uint64_t length)
{
	return offset <= s->size && length <= s->size - offset;
}

int disk_storage_read(struct disk_storage *s, void *bytes, size_t length,
		      uint64_t offset)
{
	uint8_t *at = bytes;

	if (!within(s, offset, length))
		return -EIO;
	while (length) {
		ssize_t n = pread(s->fd, at, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

int disk_storage_write(struct disk_storage *s, const void *bytes, size_t length,
		       uint64_t offset)
{
	const uint8_t *at = bytes;

	if (!within(s, offset, length))
		return -EIO;
	while (length) {
		ssize_t n = pwrite(s->fd, at, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		offset += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

static int allocate(struct disk_storage *s, int mode, uint64_t offset,
		    uint64_t length)
{
	int rc;

	do
		rc = fallocate(s->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			       (off_t)length);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* -EINVAL: a block device's, where no whole sectors are meant. */
static bool cannot(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -ENODEV ||
	       err == -EINVAL;
}

static int write_zeroes(struct disk_storage *s, uint64_t offset,
			uint64_t length)
{
	static const uint8_t zeroes[16 * 1024];
	int err = 0;

	while (length && !err) {
		size_t n = (size_t)at_most(length, sizeof(zeroes));

		err = disk_storage_write(s, zeroes, n, offset);
		offset += n;
		length -= n;
	}
	return err;
}

int disk_storage_zero(struct disk_storage *s, uint64_t offset, uint64_t length,
		      bool may_trim)
{
	int err = -EOPNOTSUPP;

	if (!within(s, offset, length))
		return -EIO;
	if (length == 0)
		return 0;
	if (may_trim)
		err = allocate(s, FALLOC_FL_PUNCH_HOLE, offset, length);
	if (cannot(err))
		err = allocate(s, FALLOC_FL_ZERO_RANGE, offset, length);
	return cannot(err) ? write_zeroes(s, offset, length) : err;
}

static void discard(struct disk_storage *s, uint64_t offset, uint64_t length)
{
	uint64_t first = (offset + SECTOR_BYTES - 1) & -(uint64_t)SECTOR_BYTES;
	uint64_t end = (offset + length) & -(uint64_t)SECTOR_BYTES;
	uint64_t range[2] = { first, end - first };

	if (first < end)
		ioctl(s->fd, BLKDISCARD, range);
}

void disk_storage_trim(struct disk_storage *s, uint64_t offset, uint64_t length)
{
	if (!within(s, offset, length) || length == 0)
		return;
	if (s->device)
		discard(s, offset, length);
	else
		allocate(s, FALLOC_FL_PUNCH_HOLE, offset, length);
}

int disk_storage_sync(struct disk_storage *s)
{
	return fdatasync(s->fd) < 0 ? -errno : 0;
}
