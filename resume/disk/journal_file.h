/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file of a journal: its layout, and reading and writing it.
 *
 *	0	what it is (struct journal_head)
 *	1024	a sector for the mark that it is settled
 *	1536	records, one behind the other: a header and a payload
 *
 * Each has a checksum that begins with the file's random id.  So what an
 * earlier use of the same blocks, or a killed writer, has left is no record.
 *
 * *Settled* says that all of the file before this one has been on stable
 * storage.  Without the mark a host that lost power may have lost the end of
 * that one, and then nothing of this one may be applied; nothing was, since it
 * is marked before.
 *
 * Functions return 0 or a negative errno unless said otherwise.  No state but
 * what is passed; any thread.
 */
#ifndef RESUME_DISK_JOURNAL_FILE_H
#define RESUME_DISK_JOURNAL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/disk/journal.h"
#include "stream/checksum.h"
#include "stream/format.h"

enum {
	JOURNAL_FILES = 2,
	JOURNAL_RECORDS_AT = 1536,
	JOURNAL_RECORD_BYTES = 32,
	JOURNAL_PAYLOAD_MAX = WIRE_PAYLOAD_MAX,
};

struct journal_head {
	uint64_t id;
	uint64_t order;	 /* 1 of a journal's first file; never 0 */
	uint64_t before; /* the last epoch of the file of order - 1; 0: none */
	unsigned int count;
	char disk[DISK_JOURNAL_DISKS_MAX][DISK_NAME_MAX + 1];
};

enum journal_kind { JOURNAL_CHANGES = 1, JOURNAL_END = 2 };

struct journal_record {
	enum journal_kind kind;
	uint64_t epoch;
	uint32_t length; /* of the payload */
};

/* How far the records of a file hold. */
struct journal_extent {
	uint64_t end;	/* behind the last complete epoch */
	uint64_t epoch; /* that one, or 0 */
};

int journal_head_write(int fd, const struct journal_head *h,
		       struct checksum *sum);
/* 1, or 0: there is none. */
int journal_head_read(int fd, struct journal_head *h, struct checksum *sum);

/* It is stable when journal_stable() has returned. */
int journal_settle(int fd, uint64_t id, struct checksum *sum);
/* 1, and of which id it says so; or 0: of none. */
int journal_settled(int fd, uint64_t *id, struct checksum *sum);

/* Where it ends moves from *at on, if all of it was written. */
int journal_record_write(int fd, uint64_t id, uint64_t *at,
			 const struct journal_record *r, const uint8_t *payload,
			 struct checksum *sum);
/*
 * 1, with its payload in payload[JOURNAL_PAYLOAD_MAX] and *at behind it, or 0:
 * what is there is no record.
 */
int journal_record_read(int fd, uint64_t id, uint64_t *at,
			struct journal_record *r, uint8_t *payload,
			struct checksum *sum);
int journal_extent(int fd, uint64_t id, struct journal_extent *x,
		   uint8_t *payload, struct checksum *sum);

int journal_stable(int fd);
/* Nothing is in it any more, and so it will be after a loss of power. */
int journal_empty(int fd);
/* Both files, which are empty; stable on return. */
int journal_unlink(const char *disk_dir, const char *domain);

#endif
