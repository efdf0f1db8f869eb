/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a replicated disk (see meta.h).
 *
 * It is written into the slot that does not hold the newest one, with the next
 * number and a sum over all of it.  So a writer that is killed leaves the old
 * state or the new one, and who reads meanwhile sees one of them.
 */
#include "config.h"

#include "resume/disk/meta.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "resume/disk/meta_impl.h"

enum { READ_TRIES = 1000 };

enum slot_word { NUMBER, ROLE_FLAGS, BASE, BOOT_HIGH, BOOT_LOW, SUM };
enum { ROLE_MASK = 0xff, ALONE = 0x100, WHOLE = 0x200, RESTS = 0x400 };

static_assert(sizeof(union meta_slot) == META_SECTOR_BYTES, "a sector");

/* One of them, as it was at a moment. */
struct snapshot {
	uint64_t word[META_SLOT_WORDS];
};

static const char *boot_path = "/proc/sys/kernel/random/boot_id";

void meta_read_boot_from(const char *path)
{
	boot_path = path;
}

/* A UUID, as two numbers. */
void meta_read_boot(uint64_t boot[2])
{
	char text[64] = { 0 }, digits[33] = { 0 };
	AUTO_FD int fd = open(boot_path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;

	boot[0] = boot[1] = 0;
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return;
	for (const char *at = text; *at && n < sizeof(digits) - 1; at++)
		if (*at != '-')
			digits[n++] = *at;
	if (sscanf(digits, "%16lx%16lx", &boot[0], &boot[1]) != 2)
		boot[0] = boot[1] = 0;
}

uint64_t meta_sum(const uint64_t *word, size_t count)
{
	uint64_t sum = UINT64_C(0x9e3779b97f4a7c15);

	for (size_t i = 0; i < count; i++) {
		sum = (sum ^ word[i]) * UINT64_C(0xff51afd7ed558ccd);
		sum ^= sum >> 32;
	}
	return sum;
}

static bool read_slot(const union meta_slot *s, struct snapshot *out)
{
	for (int i = META_SLOT_WORDS - 1; i >= 0; i--)
		out->word[i] = atomic_load(&s->word[i]);
	return out->word[SUM] == meta_sum(out->word, SUM) &&
	       (out->word[ROLE_FLAGS] & ROLE_MASK) <= DISK_ROLE_SECONDARY;
}

static void write_slot(union meta_slot *s, struct snapshot *n)
{
	n->word[SUM] = meta_sum(n->word, SUM);
	for (int i = 0; i < META_SLOT_WORDS; i++)
		atomic_store(&s->word[i], n->word[i]);
}

void meta_first_state(union meta_slot *slot)
{
	struct snapshot first = {
		.word = { [NUMBER] = 1, [ROLE_FLAGS] = DISK_ROLE_NEW }
	};

	write_slot(slot, &first);
}

/* The slot it was in, or -1: both were being written to, one after the other.
 */
static int read_newest(const struct disk_meta *m, struct snapshot *out)
{
	struct snapshot n[2];
	bool good[2] = { read_slot(&m->slots[0], &n[0]),
			 read_slot(&m->slots[1], &n[1]) };
	int at = good[1] && (!good[0] || n[1].word[NUMBER] > n[0].word[NUMBER]);

	*out = n[at];
	return good[at] ? at : -1;
}

/*
 * What nobody can read stops everybody: no guest writes to it, and no peer
 * takes it for one that it may overwrite.
 */
static int read_state(const struct disk_meta *m, struct snapshot *out)
{
	int at = read_newest(m, out);

	for (int i = 0; at < 0 && i < READ_TRIES; i++) {
		sched_yield();
		at = read_newest(m, out);
	}
	if (at < 0)
		*out = (struct snapshot){
			.word[ROLE_FLAGS] = DISK_ROLE_SECONDARY | ALONE,
		};
	return at;
}

bool meta_has_state(const struct disk_meta *m)
{
	struct snapshot s;

	return read_state(m, &s) >= 0;
}

static uint64_t base_that_counts(const struct disk_meta *m,
				 const struct snapshot *s)
{
	bool same_boot = (m->boot[0] | m->boot[1]) &&
			 s->word[BOOT_HIGH] == m->boot[0] &&
			 s->word[BOOT_LOW] == m->boot[1];

	return same_boot || s->word[ROLE_FLAGS] & RESTS ? s->word[BASE] : 0;
}

struct disk_state disk_meta_state(const struct disk_meta *m)
{
	struct snapshot s;

	read_state(m, &s);
	return (struct disk_state){
		.role = (enum disk_role)(s.word[ROLE_FLAGS] & ROLE_MASK),
		.alone = s.word[ROLE_FLAGS] & ALONE,
		.whole = s.word[ROLE_FLAGS] & WHOLE,
		.base = base_that_counts(m, &s),
	};
}

enum disk_role disk_meta_role(const struct disk_meta *m)
{
	struct snapshot s;

	read_state(m, &s);
	return (enum disk_role)(s.word[ROLE_FLAGS] & ROLE_MASK);
}

static int make_stable(void *at, size_t bytes)
{
	return msync(at, bytes, MS_SYNC) < 0 ? -errno : 0;
}

/* With the lock: the next state is of this start of the host. */
static int put_state(struct disk_meta *m, uint64_t role_flags, uint64_t base)
{
	struct snapshot s;
	int at = read_state(m, &s);

	s.word[NUMBER] = at < 0 ? 1 : s.word[NUMBER] + 1;
	s.word[ROLE_FLAGS] = role_flags;
	s.word[BASE] = base;
	s.word[BOOT_HIGH] = m->boot[0];
	s.word[BOOT_LOW] = m->boot[1];
	write_slot(&m->slots[at == 0], &s);
	return make_stable(m->slots, META_PAGE_BYTES);
}

/*
 * A base that is set anew is of a moment that was no rest; and to a primary's
 * disk somebody may write at any moment, by a server that has been there
 * before.
 */
static int set_locked(struct disk_meta *m, const struct disk_state *state)
{
	uint64_t role_flags = state->role | (state->alone ? ALONE : 0) |
			      (state->whole ? WHOLE : 0);
	struct snapshot s;

	read_state(m, &s);
	if (state->role != DISK_ROLE_PRIMARY &&
	    state->base == base_that_counts(m, &s))
		role_flags |= s.word[ROLE_FLAGS] & RESTS;
	return put_state(m, role_flags, state->base);
}

/* The base that does not count must not come to count again by it. */
static int rest_locked(struct disk_meta *m, bool rests)
{
	struct snapshot s;
	uint64_t role_flags;

	if (read_state(m, &s) < 0)
		return -EIO;
	role_flags = s.word[ROLE_FLAGS] & ~(uint64_t)RESTS;
	return put_state(m, role_flags | (rests ? RESTS : 0),
			 base_that_counts(m, &s));
}

static int lock_state(struct disk_meta *m)
{
	int err;

	pthread_mutex_lock(&m->mutex);
	err = meta_lock(m, F_OFD_SETLKW, META_LOCK_STATE, F_WRLCK);
	if (err)
		pthread_mutex_unlock(&m->mutex);
	return err;
}

static void unlock_state(struct disk_meta *m)
{
	meta_lock(m, F_OFD_SETLK, META_LOCK_STATE, F_UNLCK);
	pthread_mutex_unlock(&m->mutex);
}

int disk_meta_set(struct disk_meta *m, const struct disk_state *state)
{
	int err = lock_state(m);

	if (err)
		return err;
	err = set_locked(m, state);
	unlock_state(m);
	return err;
}

int disk_meta_rest(struct disk_meta *m)
{
	int err = make_stable(m->map, m->bytes);

	if (!err)
		err = lock_state(m);
	if (err)
		return err;
	err = rest_locked(m, true);
	unlock_state(m);
	return err;
}

int disk_meta_wake(struct disk_meta *m)
{
	int err = lock_state(m);

	if (err)
		return err;
	err = rest_locked(m, false);
	unlock_state(m);
	return err;
}
