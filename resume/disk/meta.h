/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host knows of a replicated disk and must still know after kill -9 of
 * any process: its storage, its role, whether it is whole, and which blocks may
 * differ from the other side's.  A file, mapped by all who use the disk.
 *
 * The *base* is a random number for a moment at which both sides were the same;
 * the *marks* are the blocks that this side has changed since.  So two sides
 * with the same base differ at most in the blocks that one of them has marked.
 * There are two sets of marks: what is written sets a mark in the current one,
 * and the other can be dropped when the peer has acknowledged all that it
 * stands for (disk_meta_rotate()).
 *
 * Marks and storage are in the page cache: they outlive processes, and not a
 * host that loses power.  So a base counts only as long as the host has not
 * been started anew since it was set, unless the disk was closed in order
 * (disk_meta_rest()).
 *
 * Any process, any thread; who may call what is said at each.
 */
#ifndef RESUME_DISK_META_H
#define RESUME_DISK_META_H

#include <stdbool.h>
#include <stdint.h>

#include "resume/disk/names.h"
#include "resume/guest.h"

enum {
	/* What is marked, compared and sent as one. */
	DISK_BLOCK_BYTES = 64 * 1024,
};
#define DISK_SIZE_MAX (UINT64_C(16) << 40)

enum disk_role {
	DISK_ROLE_NEW,	     /* on this host alone, so far */
	DISK_ROLE_PRIMARY,   /* a guest of this host writes to it */
	DISK_ROLE_SECONDARY, /* the primary writes to it: nobody else may */
};

struct disk_state {
	enum disk_role role;
	/* Its guest has run, or could have, without the peer. */
	bool alone;
	/* A secondary's that is not just being synchronised. */
	bool whole;
	uint64_t base; /* 0: none */
};

struct disk_meta;

/*
 * A new one, of `size` bytes (not 0, up to DISK_SIZE_MAX, a multiple of 512) on
 * the file or block device `storage`, whose path is kept as given.  -EEXIST:
 * there is one of that name.
 */
int disk_meta_create(const char *disk_dir, const char *name,
		     const char *storage, uint64_t size,
		     struct guest_error *err);
/* -ENOENT: no such disk; -EINVAL: the file is damaged. */
int disk_meta_open(const char *disk_dir, const char *name,
		   struct disk_meta **out, struct guest_error *err);
void disk_meta_close(struct disk_meta *m); /* NULL is fine */

const char *disk_meta_name(const struct disk_meta *m);
const char *disk_meta_storage(const struct disk_meta *m);
uint64_t disk_meta_size(const struct disk_meta *m);
uint64_t disk_meta_blocks(const struct disk_meta *m);

/*
 * One holder of each at a time on this host, until the meta is closed (or the
 * process ends): who serves the disk, and the colod that replicates it.
 * -EBUSY: another has it.
 */
enum disk_holder { DISK_HOLDER_SERVER, DISK_HOLDER_COLOD };
int disk_meta_hold(struct disk_meta *m, enum disk_holder holder);
/* Whether anybody has it; -1: cannot be told. */
int disk_meta_held(struct disk_meta *m, enum disk_holder holder);

/*
 * The state as others see it at this moment.  base is 0 where it does not count
 * any more (above), or where there was none.
 */
struct disk_state disk_meta_state(const struct disk_meta *m);
/* All of it at once, on stable storage when it returns. */
int disk_meta_set(struct disk_meta *m, const struct disk_state *state);
/* As disk_meta_state().role, for each request: no system call. */
enum disk_role disk_meta_role(const struct disk_meta *m);

/*
 * What is on the storage is stable, and so are the marks: the base counts after
 * a new start of the host too, until disk_meta_wake().
 */
int disk_meta_rest(struct disk_meta *m);
int disk_meta_wake(struct disk_meta *m);

/* --- marks ---------------------------------------------------------------- */

/*
 * The server's, before it changes the storage: marks in the current set, which
 * is returned (0 or 1).
 */
unsigned int disk_meta_mark(struct disk_meta *m, uint64_t offset,
			    uint64_t length);
/* Who replicates: the other set becomes the current one.  It must be empty. */
void disk_meta_rotate(struct disk_meta *m);
unsigned int disk_meta_current(const struct disk_meta *m);
/* Empties the set that is not current: the peer has all that it stands for. */
void disk_meta_drop(struct disk_meta *m);
/* Empties both. */
void disk_meta_clear(struct disk_meta *m);

/* In either set. */
bool disk_meta_marked(const struct disk_meta *m, uint64_t block);
/* The first marked block at or behind `block`, or disk_meta_blocks(). */
uint64_t disk_meta_next_marked(const struct disk_meta *m, uint64_t block);
uint64_t disk_meta_count(const struct disk_meta *m);

/* --- the change under way ------------------------------------------------- */

/*
 * The server's: from before it changes the storage until the change is in the
 * ring (or only marked).  One at a time.  Who serves the disk after a kill -9
 * finds it here: how much of it is on the storage is not known.
 */
void disk_meta_begin(struct disk_meta *m, uint64_t offset, uint64_t length);
void disk_meta_end(struct disk_meta *m);
/* False: there is none. */
bool disk_meta_pending(const struct disk_meta *m, uint64_t *offset,
		       uint64_t *length);

#endif
