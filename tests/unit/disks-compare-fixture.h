/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two served disks and their comparison with a peer's, which are files of this
 * process's; what it sends stays until the test looks at it.
 */
#ifndef TESTS_UNIT_DISKS_COMPARE_FIXTURE_H
#define TESTS_UNIT_DISKS_COMPARE_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "engine/disks_compare.h"
#include "stream/body.h"
#include "stream/changes.h"
#include "stream/checksum.h"
#include "stream/pieces.h"
#include "tests/unit/disk-served-fixture.h"
#include "tests/unit/unit-stream.h"

enum {
	PATIENCE_LOOKS = 60 * 1000,
	LOOK_US = 1000,
	DISKS = 2,
	BLOCKS = 33,
	LAST_BYTES = 512, /* of the last block */
	DISK_BYTES = (BLOCKS - 1) * DISK_BLOCK_BYTES + LAST_BYTES,
	/* More questions than may be on their way. */
	FAR_BLOCKS = 12 * 512,
	RING_BYTES = 1024 * 1024,
	CHANGE = 512,
	BUSY_FRAMES = 30,
	SEED = 5,
};

static const char *const names[DISKS] = { "d", "e" };
static uint64_t size;
static struct disk_export *exports[DISKS];
static struct disk_feed *feeds[DISKS];
static int ours[DISKS], theirs[DISKS]; /* the storages, and the peer's */
static struct disks offer;
static struct disks_compare *compare;
static struct disks_taken answer;
static const char *why;

/* What was put, and not looked at yet. */
static struct {
	pthread_mutex_t lock;
	struct frame_buf *first, **last;
	_Atomic bool lost;
	/* Frames that the guest changes something at the asking for. */
	_Atomic unsigned int busy;
	_Atomic bool flood; /* as much as a block, at each of them */
} line = { .lock = PTHREAD_MUTEX_INITIALIZER, .last = &line.first };

static struct body_decoder *decoder;
static struct disks_sent came; /* by DISK frames that were looked at */
static struct checksum *sum;
static uint8_t raw[WIRE_PIECE_MAX], block_bytes[DISK_BLOCK_BYTES];

/* --- disks ---------------------------------------------------------------- */

static inline int open_file(const char *name, const char *end)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.%s", dir, name, end);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* The first one is the fixture's. */
static inline void make_disks(void)
{
	struct guest_error err = { { 0 } };
	char path[128];

	make_disk(size);
	ours[0] = open(storage, O_RDWR);
	ours[1] = open_file(names[1], "storage");
	snprintf(path, sizeof(path), "%s/e.storage", dir);
	assert_int_equal(disk_meta_create(dir, names[1], path, size, &err), 0);
	for (unsigned int i = 0; i < DISKS; i++)
		theirs[i] = open_file(names[i], "theirs");
}

static inline void serve_disks(void)
{
	struct guest_error err = { { 0 } };

	serve();
	exports[0] = served;
	assert_int_equal(
		disk_export_open(dir, run_dir, names[1], &exports[1], &err), 0);
	assert_int_equal(disk_export_listen(exports[1]), 0);
}

static inline int setup_of(uint64_t bytes)
{
	size = bytes;
	why = NULL;
	line.lost = line.flood = false;
	line.busy = 0;
	came = (struct disks_sent){ 0 };
	sum = checksum_new();
	decoder = body_decoder_new();
	make_disks();
	serve_disks();
	answer = (struct disks_taken){ .count = DISKS };
	return !sum || !decoder;
}

static inline int setup(void **state)
{
	(void)state;
	return setup_of(DISK_BYTES);
}

static inline int setup_far(void **state)
{
	(void)state;
	return setup_of((uint64_t)FAR_BLOCKS * DISK_BLOCK_BYTES);
}

static inline void drop_line(void)
{
	while (line.first) {
		struct frame_buf *b = line.first;

		line.first = b->next;
		b->release(b);
	}
	line.last = &line.first;
}

static inline int teardown(void **state)
{
	(void)state;
	disks_compare_close(compare);
	compare = NULL;
	drop_line();
	for (unsigned int i = 0; i < DISKS; i++) {
		disk_feed_close(feeds[i]);
		feeds[i] = NULL;
		close(ours[i]);
		close(theirs[i]);
	}
	disk_export_close(exports[1]);
	checksum_free(sum);
	body_decoder_free(decoder);
	return remove_disk();
}

/* The guest's: a change of this block alone, of its first bytes. */
static inline int write_at(unsigned int disk, uint64_t block, uint8_t value,
			   uint32_t length)
{
	uint8_t bytes[DISK_BLOCK_BYTES];

	memset(bytes, value, length);
	return disk_export_write(exports[disk], bytes, length,
				 block * DISK_BLOCK_BYTES);
}

static inline void change(unsigned int disk, uint64_t block, uint8_t value)
{
	assert_int_equal(write_at(disk, block, value, CHANGE), 0);
}

/* Without anybody's knowledge. */
static inline void fill(int fd, uint64_t block, uint8_t value)
{
	const uint64_t at = block * DISK_BLOCK_BYTES;
	size_t n = size - at < DISK_BLOCK_BYTES ? size - at : DISK_BLOCK_BYTES;

	memset(block_bytes, value, n);
	assert_int_equal(pwrite(fd, block_bytes, n, (off_t)at), n);
}

static inline void fill_both(unsigned int disk, uint64_t block, uint8_t value)
{
	fill(ours[disk], block, value);
	fill(theirs[disk], block, value);
}

static inline void assert_same(void)
{
	static uint8_t a[DISK_BYTES], b[DISK_BYTES];

	for (unsigned int i = 0; i < DISKS; i++) {
		assert_int_equal(pread(ours[i], a, size, 0), size);
		assert_int_equal(pread(theirs[i], b, size, 0), size);
		assert_memory_equal(a, b, size);
	}
}

/* --- the link ------------------------------------------------------------- */

static inline struct frame_buf *link_get(void *arg)
{
	(void)arg;
	if (line.lost)
		return NULL;
	/* Blocks that were sent, that wait for it, and that will be read. */
	if (line.busy && line.busy--)
		for (uint64_t b = line.busy % 3; b < BLOCKS; b += 3)
			write_at(b % DISKS, b, (uint8_t)(100 + line.busy),
				 CHANGE);
	if (line.flood)
		write_at(1, 0, 1, DISK_BLOCK_BYTES);
	return frame_buf_new(0, 77, WIRE_PAYLOAD_MAX);
}

static inline void link_put(void *arg, struct frame_buf *b)
{
	(void)arg;
	b->next = NULL;
	pthread_mutex_lock(&line.lock);
	*line.last = b;
	line.last = &b->next;
	pthread_mutex_unlock(&line.lock);
}

static inline struct frame_buf *look(void)
{
	struct frame_buf *b;

	pthread_mutex_lock(&line.lock);
	b = line.first;
	if (b)
		line.first = b->next;
	if (!line.first)
		line.last = &line.first;
	pthread_mutex_unlock(&line.lock);
	return b;
}

static inline void carry_out(const struct change *c)
{
	static const uint8_t zero[CHANGE_DATA_MAX];
	const uint8_t *bytes = c->kind == CHANGE_WRITE ? c->data : zero;

	assert_true(c->length <= CHANGE_DATA_MAX);
	assert_int_equal(
		pwrite(theirs[c->disk], bytes, c->length, (off_t)c->offset),
		c->length);
}

/* As a secondary takes a DISK: how many bytes of changes. */
static inline size_t take_disk(struct frame_buf *b)
{
	const uint64_t sizes[DISKS] = { size, size };
	const struct change_bounds bounds = { sizes, DISKS };
	const uint8_t *at = raw;
	struct change c;
	size_t left, n;

	assert_int_equal(b->type, WIRE_DISK);
	assert_int_equal(b->epoch, 0);
	came.bytes += b->length;
	checksum_add(sum, frame_payload(b), b->length);
	n = left =
		(size_t)piece_decode(decoder, frame_payload(b), b->length, raw);
	b->release(b);
	while (left) {
		assert_int_equal(change_take(&at, &left, &bounds, &c, &why), 0);
		carry_out(&c);
	}
	return n;
}

static inline struct frame_buf *next_frame(void)
{
	struct frame_buf *b = look();

	for (int i = 0; !b && i < PATIENCE_LOOKS; i++) {
		clock_sleep_us(LOOK_US);
		b = look();
	}
	if (!b)
		fail_msg("no frame comes");
	return b;
}

/* The next question; DISK frames in front of it are taken. */
static inline struct disk_blocks next_ask(void)
{
	struct frame_buf *b = next_frame();
	struct disk_blocks ask;
	struct frame f;

	while (b->type == WIRE_DISK) {
		take_disk(b);
		b = next_frame();
	}
	f = frame_of(b);
	assert_int_equal(f.type, WIRE_DISK_ASK);
	assert_int_equal(disk_blocks_decode(&f, &ask, &why), 0);
	b->release(b);
	return ask;
}

/* --- the peer ------------------------------------------------------------- */

/* Takes over `b`. */
static inline int give(struct frame_buf *b)
{
	const struct frame f = frame_of(b);
	int err = disks_compare_frame(compare, &f, &why);

	b->release(b);
	return err;
}

static inline int give_marks(unsigned int disk, uint64_t first,
			     unsigned int blocks, uint64_t bits)
{
	const struct disk_blocks m = { disk, first, blocks, { bits } };

	return give(disk_blocks_encode(WIRE_DISK_MARKS, &m));
}

static inline int give_taken(void)
{
	return give(disks_taken_encode(&answer));
}

static inline void hash(const struct disk_blocks *q, unsigned int i,
			uint8_t *out)
{
	ssize_t n = pread(theirs[q->disk], block_bytes, DISK_BLOCK_BYTES,
			  (off_t)((q->first + i) * DISK_BLOCK_BYTES));

	assert_true(n > 0);
	checksum_wide(block_bytes, (size_t)n, SEED, out);
}

static inline struct disk_hashes *hashes_of(const struct disk_blocks *q)
{
	static struct disk_hashes h;

	h.disk = q->disk;
	h.first = q->first;
	h.count = 0;
	for (unsigned int i = 0; i < q->count; i++)
		if (q->bits[i / 64] >> i % 64 & 1)
			hash(q, i, h.hash[h.count++]);
	return &h;
}

static inline int give_hashes(const struct disk_blocks *q)
{
	return give(disk_hashes_encode(hashes_of(q)));
}

/* --- a comparison --------------------------------------------------------- */

static inline void begin(void)
{
	const struct disks_link l = {
		.get = link_get, .put = link_put, .what = "test", .level = 1
	};
	struct guest_error err = { { 0 } };

	offer = (struct disks){ .new_base = 9, .seed = SEED, .count = DISKS };
	for (unsigned int i = 0; i < DISKS; i++)
		assert_int_equal(disk_feed_open(dir, run_dir, names[i], i,
						RING_BYTES, &feeds[i], &err),
				 0);
	assert_int_equal(disks_compare_start(feeds, &offer, &l, &compare), 0);
}

static inline void begin_taken(void)
{
	begin();
	assert_int_equal(give_taken(), 0);
}

/* A question for each disk. */
static inline void answer_all(void)
{
	for (unsigned int i = 0; i < DISKS; i++) {
		const struct disk_blocks q = next_ask();

		assert_int_equal(q.disk, i);
		assert_int_equal(give_hashes(&q), 0);
	}
	assert_int_equal(disks_compare_wait(compare), 0);
}

static inline struct disk_limits heads(void)
{
	struct disk_limits to = { { 0 } };

	for (unsigned int i = 0; i < DISKS; i++)
		to.at[i] = disk_feed_head(feeds[i]);
	return to;
}

/* And takes all that came: the sums must be of that. */
static inline void finish(const struct disk_limits *to)
{
	struct disks_sent sent = { 77, 77 };
	struct frame_buf *b;

	assert_int_equal(disks_compare_finish(compare, to, &sent), 0);
	while ((b = look()))
		take_disk(b);
	assert_int_equal(sent.bytes, came.bytes);
	assert_int_equal(sent.checksum, came.bytes ? checksum_value(sum) : 0);
}

static inline void finish_now(void)
{
	const struct disk_limits to = heads();

	finish(&to);
}

static inline struct disks_compared seen(void)
{
	struct disks_compared s;

	disks_compare_seen(compare, &s);
	return s;
}

static inline void assert_seen(uint64_t all, uint64_t done, uint64_t sent)
{
	const struct disks_compared s = seen();

	assert_int_equal(s.all_bytes, all * DISK_BLOCK_BYTES);
	assert_int_equal(s.done_bytes, done * DISK_BLOCK_BYTES);
	assert_int_equal(s.sent_bytes, sent);
}

#define TEST_FAR(name) \
	cmocka_unit_test_setup_teardown(name, setup_far, teardown)

#endif
