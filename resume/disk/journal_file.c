/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/disk/journal_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/cursor.h"

#define HEAD_MAGIC "COLODJNL"

enum {
	FILE_VERSION = 1,
	HEAD_BYTES = 1024,
	NAME_BYTES = DISK_NAME_MAX + 1,
	SUM_BYTES = 8,
	SETTLED_AT = HEAD_BYTES,
	SETTLED_BYTES = 24,
	RECORD_MAGIC = 0x524c4f43,
};

static const uint64_t settled_magic = UINT64_C(0x454c54544553);

static_assert(8 + 2 * 4 + 3 * 8 + DISK_JOURNAL_DISKS_MAX * NAME_BYTES +
			      SUM_BYTES <=
		      HEAD_BYTES,
	      "a head has room for all names");
static_assert(SETTLED_AT + 512 == JOURNAL_RECORDS_AT, "a sector of its own");

static int write_all(int fd, struct iovec *v, int count, uint64_t at)
{
	while (count) {
		ssize_t n = pwritev(fd, v, count, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (uint64_t)n;
		for (; count && (size_t)n >= v->iov_len; v++, count--)
			n -= (ssize_t)v->iov_len;
		if (count) {
			v->iov_base = (uint8_t *)v->iov_base + n;
			v->iov_len -= (size_t)n;
		}
	}
	return 0;
}

static int write_at(int fd, void *bytes, size_t length, uint64_t at)
{
	struct iovec v = { bytes, length };

	return write_all(fd, &v, 1, at);
}

/* 1, or 0: there are not as many bytes. */
static int read_at(int fd, void *bytes, size_t length, uint64_t at)
{
	uint8_t *to = bytes;

	while (length) {
		ssize_t n = pread(fd, to, length, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		to += n;
		at += (uint64_t)n;
		length -= (size_t)n;
	}
	return 1;
}

static uint64_t sum_of(struct checksum *sum, uint64_t id, const void *head,
		       size_t head_bytes, const void *payload, size_t bytes)
{
	const uint64_t id_le = htole64(id);

	checksum_reset(sum);
	checksum_add(sum, &id_le, sizeof(id_le));
	checksum_add(sum, head, head_bytes);
	checksum_add(sum, payload, bytes);
	return checksum_value(sum);
}

/* --- what it is ----------------------------------------------------------- */

int journal_head_write(int fd, const struct journal_head *h,
		       struct checksum *sum)
{
	uint8_t bytes[JOURNAL_RECORDS_AT] = { 0 };
	struct cursor to = cursor_over(bytes, sizeof(bytes));

	cursor_put_bytes(&to, HEAD_MAGIC, 8);
	cursor_put_u32(&to, FILE_VERSION);
	cursor_put_u32(&to, h->count);
	cursor_put_u64(&to, h->id);
	cursor_put_u64(&to, h->order);
	cursor_put_u64(&to, h->before);
	cursor_put_bytes(&to, h->disk, sizeof(h->disk));
	to.at = bytes + HEAD_BYTES - SUM_BYTES;
	cursor_put_u64(&to, sum_of(sum, h->id, bytes, HEAD_BYTES - SUM_BYTES,
				   NULL, 0));
	return write_at(fd, bytes, sizeof(bytes), 0);
}

static bool names_good(const struct journal_head *h)
{
	for (unsigned int i = 0; i < h->count; i++)
		if (h->disk[i][DISK_NAME_MAX] || !disk_name_good(h->disk[i]))
			return false;
	return true;
}

int journal_head_read(int fd, struct journal_head *h, struct checksum *sum)
{
	uint8_t bytes[HEAD_BYTES], magic[8];
	struct cursor from = cursor_over(bytes, sizeof(bytes));
	uint32_t version;
	uint64_t expected;
	int rc = read_at(fd, bytes, sizeof(bytes), 0);

	if (rc <= 0)
		return rc;
	cursor_get_bytes(&from, magic, sizeof(magic));
	version = cursor_get_u32(&from);
	h->count = cursor_get_u32(&from);
	h->id = cursor_get_u64(&from);
	h->order = cursor_get_u64(&from);
	h->before = cursor_get_u64(&from);
	cursor_get_bytes(&from, h->disk, sizeof(h->disk));
	from.at = bytes + HEAD_BYTES - SUM_BYTES;
	expected = cursor_get_u64(&from);
	return !memcmp(magic, HEAD_MAGIC, sizeof(magic)) &&
	       version == FILE_VERSION && h->order &&
	       expected == sum_of(sum, h->id, bytes, HEAD_BYTES - SUM_BYTES,
				  NULL, 0) &&
	       h->count <= DISK_JOURNAL_DISKS_MAX && names_good(h);
}

/* --- whether it is settled ------------------------------------------------ */

static void settled_bytes(uint8_t *bytes, uint64_t id, struct checksum *sum)
{
	struct cursor to = cursor_over(bytes, SETTLED_BYTES);

	cursor_put_u64(&to, settled_magic);
	cursor_put_u64(&to, id);
	cursor_put_u64(&to, sum_of(sum, id, bytes, SETTLED_BYTES - SUM_BYTES,
				   NULL, 0));
}

int journal_settle(int fd, uint64_t id, struct checksum *sum)
{
	uint8_t bytes[SETTLED_BYTES];

	settled_bytes(bytes, id, sum);
	return write_at(fd, bytes, sizeof(bytes), SETTLED_AT);
}

int journal_settled(int fd, uint64_t *id, struct checksum *sum)
{
	uint8_t bytes[SETTLED_BYTES], expected[SETTLED_BYTES];
	struct cursor from = cursor_over(bytes, sizeof(bytes));
	int rc = read_at(fd, bytes, sizeof(bytes), SETTLED_AT);

	if (rc <= 0)
		return rc;
	cursor_get_u64(&from); /* the magic */
	*id = cursor_get_u64(&from);
	settled_bytes(expected, *id, sum);
	return !memcmp(bytes, expected, sizeof(bytes));
}

/* --- records -------------------------------------------------------------- */

static_assert(3 * 4 + 8 + 4 + SUM_BYTES == JOURNAL_RECORD_BYTES, "record");

int journal_record_write(int fd, uint64_t id, uint64_t *at,
			 const struct journal_record *r, const uint8_t *payload,
			 struct checksum *sum)
{
	uint8_t head[JOURNAL_RECORD_BYTES];
	struct cursor to = cursor_over(head, sizeof(head));
	struct iovec v[2] = {
		{ head, sizeof(head) },
		{ (uint8_t *)(uintptr_t)payload, r->length },
	};
	int err;

	cursor_put_u32(&to, RECORD_MAGIC);
	cursor_put_u32(&to, r->kind);
	cursor_put_u64(&to, r->epoch);
	cursor_put_u32(&to, r->length);
	cursor_put_u32(&to, 0);
	cursor_put_u64(&to, sum_of(sum, id, head, sizeof(head) - SUM_BYTES,
				   payload, r->length));
	err = write_all(fd, v, r->length ? 2 : 1, *at);
	if (!err)
		*at += sizeof(head) + r->length;
	return err;
}

static bool kind_good(uint32_t kind, uint32_t length)
{
	return kind == JOURNAL_CHANGES ? length <= JOURNAL_PAYLOAD_MAX
				       : kind == JOURNAL_END && !length;
}

int journal_record_read(int fd, uint64_t id, uint64_t *at,
			struct journal_record *r, uint8_t *payload,
			struct checksum *sum)
{
	uint8_t head[JOURNAL_RECORD_BYTES];
	struct cursor from = cursor_over(head, sizeof(head));
	uint32_t magic, kind;
	uint64_t expected;
	int rc = read_at(fd, head, sizeof(head), *at);

	if (rc <= 0)
		return rc;
	magic = cursor_get_u32(&from);
	kind = cursor_get_u32(&from);
	r->epoch = cursor_get_u64(&from);
	r->length = cursor_get_u32(&from);
	cursor_get_u32(&from); /* reserved */
	expected = cursor_get_u64(&from);
	if (magic != RECORD_MAGIC || !kind_good(kind, r->length))
		return 0;
	r->kind = (enum journal_kind)kind;
	rc = read_at(fd, payload, r->length, *at + sizeof(head));
	if (rc <= 0)
		return rc;
	if (expected !=
	    sum_of(sum, id, head, sizeof(head) - SUM_BYTES, payload, r->length))
		return 0;
	*at += sizeof(head) + r->length;
	return 1;
}

int journal_extent(int fd, uint64_t id, struct journal_extent *x,
		   uint8_t *payload, struct checksum *sum)
{
	uint64_t at = JOURNAL_RECORDS_AT, open = 0;
	struct journal_record r;
	int rc;

	*x = (struct journal_extent){ .end = at };
	while ((rc = journal_record_read(fd, id, &at, &r, payload, sum)) > 0) {
		if (open ? r.epoch != open : r.epoch <= x->epoch)
			return 0; /* not of one who appended in order */
		open = r.epoch;
		if (r.kind != JOURNAL_END)
			continue;
		*x = (struct journal_extent){ .end = at, .epoch = r.epoch };
		open = 0;
	}
	return rc;
}

/* --- stable storage ------------------------------------------------------- */

int journal_stable(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

int journal_empty(int fd)
{
	return ftruncate(fd, 0) < 0 ? -errno : journal_stable(fd);
}

int journal_unlink(const char *disk_dir, const char *domain)
{
	char path[DISK_PATH_MAX];
	int err = 0;

	for (unsigned int i = 0; i < JOURNAL_FILES && !err; i++) {
		err = disk_journal_path(disk_dir, domain, i, path);
		if (!err && unlink(path) < 0 && errno != ENOENT)
			err = -errno;
	}
	return err ? err : disk_dir_stable(disk_dir);
}
