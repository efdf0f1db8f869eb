/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending to a journal.
 *
 * An epoch lies in one file.  So files are switched at its beginning only, once
 * there is something in the current one and the other is empty; and before the
 * current one has half of the limit, so that there is room for the epochs that
 * come behind those.
 */
#include "config.h"

#include "resume/disk/journal_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/log.h"

enum { SWITCH_BYTES = 8 * 1024 * 1024 };

static void switch_files(struct disk_journal *j)
{
	journal_other(j)->head.order = journal_current(j)->head.order + 1;
	journal_other(j)->head.before = journal_current(j)->epoch;
	j->current = !j->current;
}

/* In which file the next epoch will be; waits for that. */
static int choose_file(struct disk_journal *j)
{
	uint64_t half = j->limit_bytes / 2;

	while (journal_current(j)->bytes >= at_most(SWITCH_BYTES, half)) {
		if (!journal_other(j)->bytes) {
			switch_files(j);
			break;
		}
		if (journal_current(j)->bytes < half)
			break;
		pthread_cond_wait(&j->changed, &j->mutex);
		if (journal_stopped(j))
			break;
	}
	return journal_stopped(j);
}

static int wait_for_room(struct disk_journal *j, uint64_t bytes)
{
	if (!journal_current(j)->bytes)
		bytes += JOURNAL_RECORDS_AT;
	while (journal_used(j) + bytes > j->limit_bytes) {
		if (!journal_other(j)->bytes)
			return -ENOSPC;
		pthread_cond_wait(&j->changed, &j->mutex);
		if (journal_stopped(j))
			break;
	}
	return journal_stopped(j);
}

/* 1: in another file than the last one. */
static int begin_epoch(struct disk_journal *j, uint64_t epoch)
{
	AUTO_LOCK(&j->mutex);
	unsigned int before = j->current;
	int err = journal_stopped(j);

	if (err || j->open_epoch == epoch)
		return err;
	if (j->open_epoch || epoch <= j->last_epoch)
		return -EPROTO;
	err = choose_file(j);
	if (err)
		return err;
	j->open_epoch = epoch;
	return j->current != before;
}

static int begin_append(struct disk_journal *j, uint64_t bytes)
{
	AUTO_LOCK(&j->mutex);
	int err = journal_stopped(j);

	/* What ends an epoch never finds that there is no room left. */
	if (!err)
		err = wait_for_room(j, bytes + JOURNAL_RECORD_BYTES);
	j->appending = !err;
	j->after_read = journal_other(j)->read == journal_other(j)->ended;
	return err;
}

/*
 * An empty file becomes one of a new id.  What is read is stable, and may be
 * dropped from here on.
 */
static int begin_file(struct disk_journal *j, struct journal_file *f,
		      uint64_t *at)
{
	ssize_t n;
	int err;

	do
		n = getrandom(&f->head.id, sizeof(f->head.id), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (!f->head.order)
		f->head.order = 1;
	*at = JOURNAL_RECORDS_AT;
	err = journal_head_write(f->fd, &f->head, j->put_sum);
	/* Before any mark: with one, a head that is not good is damage. */
	if (!err)
		err = journal_stable(f->fd);
	if (!err && j->after_read)
		err = journal_settle(f->fd, f->head.id, j->put_sum);
	return err;
}

static int append(struct disk_journal *j, const struct journal_record *r,
		  const uint8_t *payload, uint64_t *at)
{
	struct journal_file *f = journal_current(j);
	int err = 0;

	*at = f->bytes;
	if (!*at)
		err = begin_file(j, f, at);
	if (!err)
		err = journal_record_write(f->fd, f->head.id, at, r, payload,
					   j->put_sum);
	return err;
}

static void end_append(struct disk_journal *j, const struct journal_record *r,
		       uint64_t at, int err)
{
	AUTO_LOCK(&j->mutex);
	struct journal_file *f = journal_current(j);

	j->appending = false;
	pthread_cond_broadcast(&j->changed);
	if (err)
		return;
	if (!f->bytes)
		f->read = f->ended = f->stable = JOURNAL_RECORDS_AT;
	f->bytes = at;
	if (r->kind != JOURNAL_END)
		return;
	f->ended = at;
	f->epoch = j->last_epoch = r->epoch;
	j->open_epoch = 0;
}

/* An epoch that has lost a record must not be ended. */
static int failed(struct disk_journal *j, uint64_t epoch, int err)
{
	AUTO_LOCK(&j->mutex);
	if (!j->err && err != -ECANCELED) {
		log_error("the journal of %s takes nothing any more, at epoch "
			  "%llu with %llu of %llu bytes: %s",
			  j->domain, (unsigned long long)epoch,
			  (unsigned long long)journal_used(j),
			  (unsigned long long)j->limit_bytes, strerror(-err));
		j->err = err;
	}
	return err;
}

static int add(struct disk_journal *j, const struct journal_record *r,
	       const uint8_t *payload)
{
	uint64_t at = 0;
	int err = begin_epoch(j, r->epoch);

	if (err > 0 && j->wake)
		j->wake(j->wake_arg);
	if (err >= 0)
		err = begin_append(j, JOURNAL_RECORD_BYTES + r->length);
	if (!err) {
		err = append(j, r, payload, &at);
		end_append(j, r, at, err);
	}
	return err ? failed(j, r->epoch, err) : 0;
}

int disk_journal_put(struct disk_journal *j, uint64_t epoch, const uint8_t *raw,
		     size_t length)
{
	const struct journal_record r = {
		.kind = JOURNAL_CHANGES,
		.epoch = epoch,
		.length = (uint32_t)length,
	};

	if (!epoch || length > JOURNAL_PAYLOAD_MAX)
		return -EINVAL;
	return add(j, &r, raw);
}

/* 1: there is nothing of it in the file, and nothing is missing. */
static int end_empty(struct disk_journal *j, uint64_t epoch)
{
	AUTO_LOCK(&j->mutex);
	if (journal_stopped(j) || j->open_epoch == epoch)
		return journal_stopped(j);
	if (j->open_epoch || epoch <= j->last_epoch)
		return -EPROTO;
	j->last_epoch = epoch;
	return 1;
}

/*
 * Where an epoch changes nothing, a guest that stands still does not fill the
 * file.
 */
int disk_journal_end(struct disk_journal *j, uint64_t epoch)
{
	const struct journal_record r = { .kind = JOURNAL_END, .epoch = epoch };
	int rc = end_empty(j, epoch);

	if (rc)
		return rc < 0 ? failed(j, epoch, rc) : 0;
	return add(j, &r, NULL);
}
