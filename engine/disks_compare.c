/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread, and what reaches it from the event loop: answers, in a queue as
 * long as there are questions, the word to end, and the word to stop.
 */
#include "config.h"

#include "engine/disks_compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "engine/progress.h"
#include "stream/body.h"
#include "stream/changes.h"
#include "stream/checksum.h"
#include "stream/pieces.h"

enum {
	QUESTIONS_MAX = 4, /* on their way: the peer reads while we do */
	QUESTION_BLOCKS = 512,
	FOLLOW_BLOCKS = 16,
	LOOK_US = 10 * 1000, /* after changes of the guest's */
};

static_assert((int)QUESTION_BLOCKS <= (int)WIRE_DISK_BLOCKS_MAX, "a question");
static_assert((int)DISK_BLOCK_BYTES == (int)WIRE_DISK_BLOCK_BYTES, "a block");
static_assert((int)DISK_BLOCK_BYTES <= (int)CHANGE_DATA_MAX,
	      "a block as a change");

struct disks_compare {
	struct disk_feed *feeds[GUEST_DISKS_MAX];
	const struct disks *offer;
	struct disks_link link;
	pthread_t thread;
	struct progress progress;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool cancelled;
	bool taken;    /* `answer` has come, and all marks before it */
	bool compared; /* all that differed is sent */
	bool finishing;
	bool over; /* the thread has ended, or is about to, with `err` */
	int err;
	struct disk_limits to;
	struct disks_taken answer;
	uint64_t *marks[GUEST_DISKS_MAX]; /* the peer's; NULL: none */
	uint32_t marks_count;		  /* frames of them */
	struct disk_hashes *answers[QUESTIONS_MAX];
	unsigned int answer_count;
	struct disk_blocks asked[QUESTIONS_MAX]; /* the oldest first */
	unsigned int asked_count;
	struct disks_compared seen;

	/* The thread's own. */
	struct body_encoder *body;
	struct checksum *sum;
	struct disks_sent sent;
	uint8_t block[DISK_BLOCK_BYTES];
	size_t raw_bytes;
	uint8_t raw[WIRE_PIECE_MAX];
};

static uint64_t blocks_of(const struct disks_compare *c, unsigned int disk)
{
	return disk_meta_blocks(disk_feed_meta(c->feeds[disk]));
}

/* --- to the peer ------------------------------------------------------------
 */

static int send_raw(struct disks_compare *c)
{
	struct frame_buf *b;

	if (!c->raw_bytes)
		return 0;
	b = c->link.get(c->link.arg);
	if (!b)
		return -ECANCELED;
	b->type = WIRE_DISK;
	b->epoch = 0;
	b->length = (uint32_t)piece_encode(c->body, c->raw, c->raw_bytes,
					   frame_payload(b));
	c->raw_bytes = 0;
	c->sent.bytes += b->length;
	checksum_add(c->sum, frame_payload(b), b->length);
	c->link.put(c->link.arg, b);
	return 0;
}

static int follow_one(struct disks_compare *c, unsigned int disk, uint64_t to)
{
	ssize_t n;
	int err = send_raw(c);

	while (!err) {
		n = disk_feed_next(c->feeds[disk], to, c->raw, sizeof(c->raw));
		if (n <= 0)
			return (int)n;
		c->raw_bytes = (size_t)n;
		err = send_raw(c);
	}
	return err;
}

/* What the guest has changed so far, or up to `to`. */
static int follow(struct disks_compare *c, const struct disk_limits *to)
{
	int err = 0;

	for (unsigned int i = 0; i < c->offer->count && !err; i++)
		err = follow_one(c, i,
				 to ? to->at[i] : disk_feed_head(c->feeds[i]));
	return err;
}

static bool all_zero(const uint8_t *bytes, size_t n)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, n - 1);
}

static int put_block(struct disks_compare *c, unsigned int disk, uint64_t block,
		     size_t n)
{
	struct change change = {
		.disk = disk,
		.kind = all_zero(c->block, n) ? CHANGE_ZERO : CHANGE_WRITE,
		.offset = block * DISK_BLOCK_BYTES,
		.length = (uint32_t)n,
	};
	int err;

	if (change.kind == CHANGE_WRITE)
		change.data = c->block;
	if (change_bytes(&change) > sizeof(c->raw) - c->raw_bytes) {
		err = send_raw(c);
		if (err)
			return err;
	}
	c->raw_bytes += change_put(&change, c->raw + c->raw_bytes,
				   sizeof(c->raw) - c->raw_bytes);
	AUTO_LOCK(&c->lock);
	c->seen.sent_bytes += n;
	return 0;
}

static int ask(struct disks_compare *c, const struct disk_blocks *q)
{
	struct frame_buf *b = disk_blocks_encode(WIRE_DISK_ASK, q);

	if (!b)
		return -ENOMEM;
	pthread_mutex_lock(&c->lock);
	c->asked[c->asked_count++] = *q;
	pthread_mutex_unlock(&c->lock);
	c->link.put(c->link.arg, b);
	return 0;
}

/* --- from the peer ----------------------------------------------------------
 */

/* With the lock held: 0 after a change, or after LOOK_US. */
static int wait_a_while(struct disks_compare *c)
{
	const uint64_t until_us = clock_now_us() + LOOK_US;
	const struct timespec until = {
		.tv_sec = (time_t)(until_us / 1000000),
		.tv_nsec = (long)(until_us % 1000000 * 1000),
	};

	pthread_cond_timedwait(&c->changed, &c->lock, &until);
	return c->cancelled ? -ECANCELED : 0;
}

/* An answer and its question; the guest's changes are followed meanwhile. */
static int next_answer(struct disks_compare *c, struct disk_hashes **out,
		       struct disk_blocks *question)
{
	int err = 0;

	pthread_mutex_lock(&c->lock);
	while (!c->answer_count && !err) {
		err = wait_a_while(c);
		pthread_mutex_unlock(&c->lock);
		if (!err)
			err = follow(c, NULL);
		pthread_mutex_lock(&c->lock);
	}
	if (!err) {
		*out = c->answers[0];
		*question = c->asked[0];
		memmove(c->answers, c->answers + 1,
			--c->answer_count * sizeof(*c->answers));
		memmove(c->asked, c->asked + 1,
			--c->asked_count * sizeof(*c->asked));
	}
	pthread_mutex_unlock(&c->lock);
	return err;
}

static int compare_block(struct disks_compare *c, unsigned int disk,
			 uint64_t block, const uint8_t *theirs)
{
	uint8_t ours[WIRE_DISK_HASH_BYTES];
	ssize_t n = disk_feed_read(c->feeds[disk], block, c->block);

	if (n < 0)
		return (int)n;
	checksum_wide(c->block, (size_t)n, c->offer->seed, ours);
	if (!memcmp(ours, theirs, sizeof(ours)))
		return 0;
	return put_block(c, disk, block, (size_t)n);
}

static void compared_so_far(struct disks_compare *c, uint64_t blocks)
{
	uint64_t done;

	pthread_mutex_lock(&c->lock);
	c->seen.done_bytes += blocks * DISK_BLOCK_BYTES;
	/* More may have been marked since they were counted. */
	if (c->seen.done_bytes > c->seen.all_bytes)
		c->seen.all_bytes = c->seen.done_bytes;
	done = c->seen.done_bytes;
	pthread_mutex_unlock(&c->lock);
	progress_update(&c->progress, done, clock_now_us());
}

static int take_answer(struct disks_compare *c)
{
	AUTO_FREE struct disk_hashes *answer = NULL;
	struct disk_blocks q = { 0 };
	unsigned int n = 0;
	int err = next_answer(c, &answer, &q);

	for (unsigned int i = 0; i < q.count && !err; i++) {
		if (!(q.bits[i / 64] >> i % 64 & 1))
			continue;
		err = compare_block(c, q.disk, q.first + i, answer->hash[n++]);
		/* A ring must not run full while a slow link takes these. */
		if (!err && n % FOLLOW_BLOCKS == 0)
			err = follow(c, NULL);
	}
	if (err)
		return err;
	compared_so_far(c, n);
	return follow(c, NULL);
}

/* --- the thread -------------------------------------------------------------
 */

static bool is_asked(const struct disks_compare *c, unsigned int disk,
		     uint64_t block)
{
	const struct disk_meta *m = disk_feed_meta(c->feeds[disk]);
	const uint64_t *theirs = c->marks[disk];

	if (!c->answer.same_base[disk])
		return true;
	return disk_meta_marked(m, block) ||
	       (theirs && theirs[block / 64] >> block % 64 & 1);
}

/* Those of blocks first .. that are to be compared: how many. */
static unsigned int question(struct disks_compare *c, unsigned int disk,
			     uint64_t first, struct disk_blocks *q)
{
	uint64_t left = blocks_of(c, disk) - first;
	unsigned int n = 0;

	memset(q, 0, sizeof(*q));
	q->disk = disk;
	q->first = first;
	q->count =
		(unsigned int)(left < QUESTION_BLOCKS ? left : QUESTION_BLOCKS);
	for (unsigned int i = 0; i < q->count; i++) {
		if (!is_asked(c, disk, first + i))
			continue;
		q->bits[i / 64] |= UINT64_C(1) << i % 64;
		n++;
	}
	return n;
}

static int compare_disk(struct disks_compare *c, unsigned int disk)
{
	struct disk_blocks q;
	int err = 0;

	for (uint64_t first = 0; first < blocks_of(c, disk) && !err;
	     first += QUESTION_BLOCKS) {
		if (!question(c, disk, first, &q))
			continue;
		if (c->asked_count == QUESTIONS_MAX)
			err = take_answer(c);
		if (!err)
			err = ask(c, &q);
	}
	return err;
}

static int wait_until_taken(struct disks_compare *c)
{
	int err = 0;

	pthread_mutex_lock(&c->lock);
	while (!c->taken && !err) {
		err = wait_a_while(c);
		pthread_mutex_unlock(&c->lock);
		/* Not sent: the peer does not know of disks yet. */
		for (unsigned int i = 0; i < c->offer->count && !err; i++)
			if (disk_feed_broken(c->feeds[i]))
				err = -ESTALE;
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return err;
}

static void count_all(struct disks_compare *c)
{
	uint64_t blocks = 0;

	for (unsigned int disk = 0; disk < c->offer->count; disk++)
		for (uint64_t b = 0; b < blocks_of(c, disk); b++)
			blocks += is_asked(c, disk, b);
	pthread_mutex_lock(&c->lock);
	c->seen.all_bytes = blocks * DISK_BLOCK_BYTES;
	pthread_mutex_unlock(&c->lock);
	progress_start(&c->progress, c->link.what, blocks * DISK_BLOCK_BYTES,
		       clock_now_us());
}

static int compare(struct disks_compare *c)
{
	int err = wait_until_taken(c);

	if (err)
		return err;
	count_all(c);
	for (unsigned int i = 0; i < c->offer->count && !err; i++)
		err = compare_disk(c, i);
	while (c->asked_count && !err)
		err = take_answer(c);
	return err ? err : send_raw(c);
}

static int follow_until_told(struct disks_compare *c)
{
	bool finishing = false;
	int err = 0;

	while (!finishing && !err) {
		err = follow(c, NULL);
		pthread_mutex_lock(&c->lock);
		if (!err && !c->finishing)
			err = wait_a_while(c);
		finishing = c->finishing;
		pthread_mutex_unlock(&c->lock);
	}
	return err ? err : follow(c, &c->to);
}

static void *compare_main(void *arg)
{
	struct disks_compare *c = arg;
	int err = compare(c);

	pthread_mutex_lock(&c->lock);
	c->compared = !err;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (!err)
		err = follow_until_told(c);
	pthread_mutex_lock(&c->lock);
	c->over = true;
	c->err = err;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* --- for others -------------------------------------------------------------
 */

static void compare_free(struct disks_compare *c)
{
	while (c->answer_count)
		free(c->answers[--c->answer_count]);
	for (unsigned int i = 0; i < GUEST_DISKS_MAX; i++)
		free(c->marks[i]);
	body_encoder_free(c->body);
	checksum_free(c->sum);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int disks_compare_start(struct disk_feed *const *feeds,
			const struct disks *offer, const struct disks_link *l,
			struct disks_compare **out)
{
	struct disks_compare *c = memory_zeroed(sizeof(*c));
	pthread_condattr_t attr;
	int err;

	if (!c)
		return -ENOMEM;
	memcpy(c->feeds, feeds, offer->count * sizeof(*feeds));
	c->offer = offer;
	c->link = *l;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
	c->body = body_encoder_new(l->level);
	c->sum = checksum_new();
	err = c->body && c->sum
		      ? pthread_create(&c->thread, NULL, compare_main, c)
		      : ENOMEM;
	if (err) {
		compare_free(c);
		return -err;
	}
	pthread_setname_np(c->thread, "colod-compare");
	*out = c;
	return 0;
}

void disks_compare_cancel(struct disks_compare *c)
{
	AUTO_LOCK(&c->lock);
	c->cancelled = true;
	pthread_cond_broadcast(&c->changed);
}

int disks_compare_wait(struct disks_compare *c)
{
	AUTO_LOCK(&c->lock);
	while (!c->compared && !c->over)
		pthread_cond_wait(&c->changed, &c->lock);
	return c->over ? c->err : 0;
}

int disks_compare_finish(struct disks_compare *c, const struct disk_limits *to,
			 struct disks_sent *sent)
{
	AUTO_LOCK(&c->lock);
	c->to = *to;
	c->finishing = true;
	pthread_cond_broadcast(&c->changed);
	while (!c->over)
		pthread_cond_wait(&c->changed, &c->lock);
	if (c->sent.bytes)
		c->sent.checksum = checksum_value(c->sum);
	*sent = c->sent;
	return c->err;
}

void disks_compare_close(struct disks_compare *c)
{
	if (!c)
		return;
	disks_compare_cancel(c);
	pthread_join(c->thread, NULL);
	compare_free(c);
}

bool disks_compare_waits(struct disks_compare *c)
{
	AUTO_LOCK(&c->lock);
	return !c->over && (!c->taken || c->asked_count > c->answer_count);
}

void disks_compare_seen(struct disks_compare *c, struct disks_compared *out)
{
	AUTO_LOCK(&c->lock);
	*out = c->seen;
}

/* --- frames, on the loop's thread -------------------------------------------
 */

static int on_taken(struct disks_compare *c, const struct frame *f,
		    const char **why)
{
	int err = disks_taken_decode(f, &c->answer, why);

	if (!err && c->answer.count != c->offer->count) {
		*why = "DISKS_TAKEN of another number of disks";
		err = -EPROTO;
	}
	if (!err && c->answer.marks != c->marks_count) {
		*why = "DISKS_TAKEN behind another number of DISK_MARKS";
		err = -EPROTO;
	}
	for (unsigned int i = 0; i < c->offer->count && !err; i++)
		if (c->marks[i] && !c->answer.same_base[i]) {
			*why = "DISK_MARKS of a disk with another base";
			err = -EPROTO;
		}
	if (err)
		return err;
	c->taken = true;
	pthread_cond_broadcast(&c->changed);
	return 0;
}

static int on_marks(struct disks_compare *c, const struct frame *f,
		    const char **why)
{
	struct disk_blocks m;
	uint64_t blocks;
	int err = disk_blocks_decode(f, &m, why);

	if (err)
		return err;
	*why = "DISK_MARKS of blocks that there are not";
	if (m.disk >= c->offer->count)
		return -EPROTO;
	blocks = blocks_of(c, m.disk);
	if (m.first >= blocks || m.count > blocks - m.first)
		return -EPROTO;
	if (!c->marks[m.disk])
		c->marks[m.disk] = memory_zeroed((blocks + 63) / 64 * 8);
	*why = "no memory for the peer's marks";
	if (!c->marks[m.disk])
		return -ENOMEM;
	for (unsigned int i = 0; i < (m.count + 63) / 64; i++)
		c->marks[m.disk][m.first / 64 + i] |= m.bits[i];
	c->marks_count++;
	return 0;
}

static unsigned int bits_of(const struct disk_blocks *b)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < (b->count + 63) / 64; i++)
		n += (unsigned int)__builtin_popcountll(b->bits[i]);
	return n;
}

static int on_hashes(struct disks_compare *c, const struct frame *f,
		     const char **why)
{
	AUTO_FREE struct disk_hashes *h = memory_new(sizeof(*h));
	const struct disk_blocks *q = &c->asked[c->answer_count];
	int err;

	*why = "no memory for hashes";
	err = h ? disk_hashes_decode(f, h, why) : -ENOMEM;

	if (err)
		return err;
	*why = "DISK_HASHES that were not asked for";
	if (c->answer_count >= c->asked_count || h->disk != q->disk ||
	    h->first != q->first || h->count != bits_of(q))
		return -EPROTO;
	c->answers[c->answer_count++] = TAKE_PTR(h);
	pthread_cond_broadcast(&c->changed);
	return 0;
}

int disks_compare_frame(struct disks_compare *c, const struct frame *f,
			const char **why)
{
	AUTO_LOCK(&c->lock);
	if (f->type == WIRE_DISK_HASHES)
		return on_hashes(c, f, why);
	if (c->taken) {
		*why = "disks that were taken before";
		return -EPROTO;
	}
	return f->type == WIRE_DISKS_TAKEN ? on_taken(c, f, why)
					   : on_marks(c, f, why);
}
