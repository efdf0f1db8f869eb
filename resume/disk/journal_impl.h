/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a journal in use share (see journal.h):
 *
 *   journal.c		its life
 *   journal_put.c	who appends
 *   journal_apply.c	who applies
 *   journal_file.h	a file's layout
 *   journal_replay.c	one that was left
 *
 * No I/O is done with the mutex, so neither thread waits for the other's: what
 * is behind `bytes` of the current file is the appender's, what is before
 * `ended` of either the applier's, until it empties the one that is not
 * current.
 */
#ifndef RESUME_DISK_JOURNAL_IMPL_H
#define RESUME_DISK_JOURNAL_IMPL_H

#include <errno.h>
#include <pthread.h>

#include "resume/disk/journal_file.h"

struct journal_file {
	int fd;
	struct journal_head head;
	bool settled;
	/* Offsets; all 0: it is empty. */
	uint64_t bytes; /* appended */
	uint64_t ended; /* of complete epochs */
	uint64_t read;	/* by the applier */
	uint64_t stable;
	uint64_t epoch; /* the last complete one */
};

struct disk_journal {
	char *disk_dir, *domain;
	uint64_t limit_bytes;
	void (*wake)(void *arg);
	void *wake_arg;

	/* The appender's own, and the applier's. */
	struct checksum *put_sum, *read_sum;
	uint8_t *payload;

	pthread_mutex_t mutex; /* of all that follows */
	pthread_cond_t changed;
	struct journal_file file[JOURNAL_FILES];
	unsigned int current, reading;
	uint64_t open_epoch; /* which has records, and no end; 0: none */
	uint64_t last_epoch;
	bool appending;	 /* to the current file, without the mutex */
	bool after_read; /* all of the other one was read when that began */
	bool cancelled;
	int err; /* what appending failed with: nothing is appended after it */
};

static inline struct journal_file *journal_current(struct disk_journal *j)
{
	return &j->file[j->current];
}

static inline struct journal_file *journal_other(struct disk_journal *j)
{
	return &j->file[!j->current];
}

static inline uint64_t journal_used(const struct disk_journal *j)
{
	return j->file[0].bytes + j->file[1].bytes;
}

static inline int journal_stopped(const struct disk_journal *j)
{
	return j->err ? j->err : j->cancelled ? -ECANCELED : 0;
}

/* --- journal.c ------------------------------------------------------------ */

/* It was emptied: who waits for room looks again. */
void journal_forget(struct disk_journal *j, struct journal_file *f);

#endif
