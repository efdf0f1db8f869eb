/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process that is no more has left of a journal (see journal.h).
 */
#include "config.h"

#include "resume/disk/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/memory.h"
#include "resume/disk/journal_file.h"

struct left_file {
	int fd; /* -1: there is none */
	bool good;
	bool spoilt; /* it was */
	bool settled;
	struct journal_head head;
	struct journal_extent extent;
};

/* The older one first, where both are good. */
struct left {
	const char *domain;
	struct left_file file[JOURNAL_FILES];
	struct checksum *sum;
	uint8_t *payload;
};

static void left_close(struct left *l)
{
	for (int i = 0; i < JOURNAL_FILES; i++)
		cleanup_fd(&l->file[i].fd);
	checksum_free(l->sum);
	free(l->payload);
}

static int open_file(struct left *l, struct left_file *f, const char *path)
{
	uint64_t id;
	int rc;

	f->fd = open(path, O_RDWR | O_CLOEXEC);
	if (f->fd < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = journal_head_read(f->fd, &f->head, l->sum);
	if (rc < 0)
		return rc;
	f->good = rc;
	rc = journal_settled(f->fd, &id, l->sum);
	if (rc < 0)
		return rc;
	/* A loss of power keeps back a head, but never behind its mark. */
	f->spoilt = rc && !f->good;
	f->settled =
		f->good && ((rc && id == f->head.id) || f->head.order == 1);
	return 0;
}

static void order_files(struct left *l)
{
	struct left_file *f = l->file, swap = f[0];

	if (!f[1].good || (f[0].good && f[0].head.order < f[1].head.order))
		return;
	f[0] = f[1];
	f[1] = swap;
}

static int open_left(struct left *l, const char *disk_dir, const char *domain)
{
	char path[DISK_PATH_MAX];
	int err = 0;

	*l = (struct left){ .domain = domain,
			    .file = { { .fd = -1 }, { .fd = -1 } } };
	l->sum = checksum_new();
	l->payload = memory_new(JOURNAL_PAYLOAD_MAX);
	if (!l->sum || !l->payload)
		return -ENOMEM;
	for (unsigned int i = 0; i < JOURNAL_FILES && !err; i++) {
		err = disk_journal_path(disk_dir, domain, i, path);
		if (!err)
			err = open_file(l, &l->file[i], path);
	}
	order_files(l);
	return err;
}

static int damaged(const struct left *l)
{
	log_error("the journal of %s is damaged", l->domain);
	return -EBADMSG;
}

int disk_journal_disks(const char *disk_dir, const char *domain,
		       char names[DISK_JOURNAL_DISKS_MAX][DISK_NAME_MAX + 1])
{
	struct left l;
	int rc = open_left(&l, disk_dir, domain);

	if (!rc && !l.file[0].good && (l.file[0].spoilt || l.file[1].spoilt)) {
		rc = damaged(&l);
	} else if (!rc && l.file[0].good) {
		memcpy(names, l.file[0].head.disk, sizeof(l.file[0].head.disk));
		rc = (int)l.file[0].head.count;
	}
	left_close(&l);
	return rc;
}

/* --- replay --------------------------------------------------------------- */

static int replay_file(struct left *l, const struct left_file *f,
		       disk_journal_fn *change, void *arg)
{
	uint64_t at = JOURNAL_RECORDS_AT;
	struct journal_record r;
	int rc = 0;

	while (at < f->extent.end && !rc) {
		rc = journal_record_read(f->fd, f->head.id, &at, &r, l->payload,
					 l->sum);
		if (rc <= 0)
			return rc ? rc : -EIO;
		rc = r.kind == JOURNAL_CHANGES
			     ? change(arg, r.epoch, l->payload, r.length)
			     : 0;
	}
	if (!rc && f->extent.epoch)
		log_info("the journal of %s had epochs until %llu", l->domain,
			 (unsigned long long)f->extent.epoch);
	return rc;
}

/*
 * 1, or 0: the end of the file before it is lost, with the power, so nothing of
 * this one has been applied yet.
 */
static int follows(const struct left *l, const struct left_file *before,
		   const struct left_file *f)
{
	bool all = before->good && f->head.order == before->head.order + 1 &&
		   f->head.before == before->extent.epoch;

	if (all || (f->settled && !before->good))
		return 1;
	return f->settled || (before->good &&
			      f->head.order != before->head.order + 1)
		       ? damaged(l)
		       : 0;
}

static int replay(struct left *l, disk_journal_fn *change, void *arg)
{
	static const struct left_file none = { .fd = -1 };
	const struct left_file *before = &none;
	int rc = 0;

	if (l->file[0].spoilt || l->file[1].spoilt)
		return damaged(l);
	for (int i = 0; i < JOURNAL_FILES && l->file[i].good; i++) {
		struct left_file *f = &l->file[i];

		rc = journal_extent(f->fd, f->head.id, &f->extent, l->payload,
				    l->sum);
		if (!rc)
			rc = follows(l, before, f);
		if (rc > 0)
			rc = replay_file(l, f, change, arg);
		else
			return rc;
		if (rc)
			return rc;
		before = f;
	}
	return rc;
}

int disk_journal_replay(const char *disk_dir, const char *domain,
			disk_journal_fn *change, void *arg)
{
	struct left l;
	int rc = open_left(&l, disk_dir, domain);

	if (!rc)
		rc = replay(&l, change, arg);
	left_close(&l);
	return rc;
}

/* The older one first: what is left then can still be replayed. */
int disk_journal_discard(const char *disk_dir, const char *domain)
{
	bool any = false;
	struct left l;
	int rc = open_left(&l, disk_dir, domain);

	for (int i = 0; i < JOURNAL_FILES && !rc; i++) {
		any |= l.file[i].fd >= 0;
		if (l.file[i].fd >= 0)
			rc = journal_empty(l.file[i].fd);
	}
	left_close(&l);
	return rc || !any ? rc : journal_unlink(disk_dir, domain);
}
