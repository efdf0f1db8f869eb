/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a journal in use, and emptying the file that was read.
 */
#include "config.h"

#include "resume/disk/journal_impl.h"

#include <errno.h>

#include "base/cleanup.h"

static uint64_t ended(struct disk_journal *j, const struct journal_file *f)
{
	AUTO_LOCK(&j->mutex);
	return f->ended;
}

/* Of both threads' files, the one to be read: NULL: all is read. */
static struct journal_file *file_to_read(struct disk_journal *j)
{
	AUTO_LOCK(&j->mutex);
	struct journal_file *f = &j->file[j->reading];

	if (f->read == f->ended && j->reading != j->current) {
		j->reading = j->current;
		f = &j->file[j->reading];
	}
	return f->read < f->ended ? f : NULL;
}

/*
 * All epochs that are complete at this moment, so that one call does for many.
 * The file before this one has been read, and so made stable.
 */
static int make_stable(struct disk_journal *j, struct journal_file *f)
{
	uint64_t to = ended(j, f);
	int err = 0;

	if (!f->settled)
		err = journal_settle(f->fd, f->head.id, j->read_sum);
	if (!err)
		err = journal_stable(f->fd);
	if (err)
		return err;
	f->settled = true;
	f->stable = to;
	return 0;
}

static int read_record(struct disk_journal *j, struct journal_file *f,
		       uint64_t *at, struct journal_record *r)
{
	int rc;

	*at = f->read;
	rc = journal_record_read(f->fd, f->head.id, at, r, j->payload,
				 j->read_sum);
	return rc ? rc : -EIO; /* it was written, and is not there */
}

static void was_read(struct disk_journal *j, struct journal_file *f,
		     uint64_t at)
{
	AUTO_LOCK(&j->mutex);
	f->read = at;
}

/* 1: a record was applied; 0: no more of them. */
static int apply_next(struct disk_journal *j, uint64_t epoch,
		      disk_journal_fn *change, void *arg)
{
	struct journal_file *f = file_to_read(j);
	struct journal_record r;
	uint64_t at;
	int rc = f ? read_record(j, f, &at, &r) : 0;

	if (rc <= 0 || r.epoch > epoch)
		return rc < 0 ? rc : 0;
	if (f->read >= f->stable)
		rc = make_stable(j, f);
	if (rc < 0)
		return rc;
	if (r.kind == JOURNAL_CHANGES)
		rc = change(arg, r.epoch, j->payload, r.length);
	else
		rc = 0;
	if (rc)
		return rc;
	was_read(j, f, at);
	return 1;
}

int disk_journal_apply(struct disk_journal *j, uint64_t epoch,
		       disk_journal_fn *change, void *arg)
{
	int rc;

	do
		rc = apply_next(j, epoch, change, arg);
	while (rc > 0);
	return rc;
}

void disk_journal_rewind(struct disk_journal *j)
{
	AUTO_LOCK(&j->mutex);
	for (unsigned int i = 0; i < JOURNAL_FILES; i++)
		if (j->file[i].bytes)
			j->file[i].read = JOURNAL_RECORDS_AT;
	if (journal_other(j)->bytes)
		j->reading = !j->current;
}

bool disk_journal_droppable(struct disk_journal *j)
{
	AUTO_LOCK(&j->mutex);
	return journal_other(j)->bytes &&
	       journal_other(j)->read == journal_other(j)->ended;
}

/* Whether there is a current file, and who begins one has done so. */
static bool has_current(struct disk_journal *j)
{
	AUTO_LOCK(&j->mutex);
	while (j->appending && !journal_current(j)->bytes)
		pthread_cond_wait(&j->changed, &j->mutex);
	return journal_current(j)->bytes;
}

/* The current one has to hold by itself from now on. */
int disk_journal_drop(struct disk_journal *j)
{
	int err = 0;

	if (!disk_journal_droppable(j))
		return -EINVAL;
	if (has_current(j) && !journal_current(j)->settled)
		err = make_stable(j, journal_current(j));
	if (!err)
		err = journal_empty(journal_other(j)->fd);
	if (!err)
		journal_forget(j, journal_other(j));
	return err;
}
