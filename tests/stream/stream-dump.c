/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a sample of one direction of a connection to standard output, and to
 * FILE what a decoder should make of it:
 *
 *	stream-dump primary|secondary FILE
 *
 * The same bytes each time.  Every type of frame occurs, optional ones that
 * nobody knows included; epochs with pages that compress, pages that do not,
 * pages of zeroes and deltas, in one round and in several; disks that are
 * synchronised, and changed in epochs.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "stream/changes.h"
#include "stream/checksum.h"
#include "stream/disk_messages.h"
#include "stream/epoch_encoder.h"
#include "stream/messages.h"
#include "stream/pieces.h"
#include "stream/records.h"

enum {
	GUEST_PAGES = 256,
	STATE_BYTES = 300 * 1024, /* more than one frame */
	OPTIONAL_TYPE = WIRE_OPTIONAL | 0x123,
	OPTIONAL_RECORD = (int)0x80000C7F,
};

static FILE *expected;
static uint64_t sequence;
static struct checksum *checksum;

/* The guest's memory, and which pages belong to the epoch under way. */
static uint8_t memory[GUEST_PAGES][WIRE_PAGE_BYTES];
static bool in_epoch[GUEST_PAGES];
/* Whether there is time to compress. */
static bool behind;

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "stream-dump: %s\n", what);
	exit(1);
}

static uint64_t hash(const void *bytes, size_t len)
{
	checksum_reset(checksum);
	checksum_add(checksum, bytes, len);
	return checksum_value(checksum);
}

/* Writes a frame and what is expected of it. */
static void write_frame(struct frame_buf *b)
{
	size_t bytes;

	if (!b)
		die("no memory");
	fprintf(expected, "%" PRIu64 " %s epoch=%" PRIu64 "\n", sequence,
		b->type & WIRE_OPTIONAL ? "optional" : frame_type_name(b->type),
		b->epoch);
	frame_header_encode(b, sequence++);
	bytes = WIRE_HEADER_BYTES + b->length;
	if (fwrite(b->bytes, 1, bytes, stdout) != bytes)
		die("cannot write");
	b->release(b);
}

static struct frame_buf *sink_get(void *arg)
{
	(void)arg;
	return frame_buf_new(0, 0, WIRE_PAYLOAD_MAX);
}

static void sink_put(void *arg, struct frame_buf *b)
{
	(void)arg;
	write_frame(b);
}

static void sink_unget(void *arg, struct frame_buf *b)
{
	(void)arg;
	b->release(b);
}

static bool sink_behind(void *arg)
{
	(void)arg;
	return behind;
}

static const struct frame_sink sink = { sink_get, sink_put, sink_unget,
					sink_behind, NULL };

/* Far above the size of memory, as in a PVH domain. */
enum { LAST_GFN = 0xfefff };

static uint64_t gfn_of(uint64_t page)
{
	return page == GUEST_PAGES - 1 ? LAST_GFN : page;
}

static void write_empty(uint16_t type)
{
	write_frame(frame_buf_new(type, 0, 0));
}

static void write_bytes(uint16_t type, const uint8_t *bytes, uint32_t len)
{
	struct frame_buf *b = frame_buf_new(type, 0, len);

	if (!b)
		die("no memory");
	memcpy(frame_payload(b), bytes, len);
	b->length = len;
	write_frame(b);
}

static void write_hello(enum wire_role role, const char *host)
{
	struct hello h = {
		.version = WIRE_VERSION,
		.role = role,
		.payload_max = WIRE_PAYLOAD_MAX,
		.inflight_max = 2,
		.heartbeat_us = 100000,
		.session = UINT64_C(0x0123456789abcdef),
	};

	snprintf(h.host, sizeof(h.host), "%s", host);
	write_frame(hello_encode(&h));
}

static void write_piece(struct body_encoder *e, const uint8_t *bytes,
			size_t length)
{
	struct frame_buf *b = frame_buf_new(WIRE_IMAGE, 0, WIRE_PAYLOAD_MAX);

	if (!b)
		die("no memory");
	b->length = (uint32_t)piece_encode(e, bytes, length, frame_payload(b));
	write_frame(b);
}

/* --- disks ---------------------------------------------------------------- */

/* The second ends within a block. */
static const struct disks disks = {
	.new_base = UINT64_C(0xfedcba9876543210),
	.seed = 17,
	.count = 2,
	.disk = { { "root", 80 * WIRE_DISK_BLOCK_BYTES, 5, true },
		  { "data-1", 3 * WIRE_DISK_BLOCK_BYTES + 512, 0, false } },
};

/* Changes that are not sent yet, and those that are not expected yet. */
static uint8_t changes[2 * WIRE_PIECE_MAX];
static size_t changes_bytes;
static struct change expected_changes[16];
static uint64_t expected_hashes[16];
static unsigned int expected_count;

/* 'w'rites text, writes 'n'oise, 'z'eroes or 't'rims. */
static void change(char what, unsigned int disk, uint64_t offset,
		   uint32_t length)
{
	static uint8_t data[CHANGE_DATA_MAX];
	bool writes = what == 'w' || what == 'n';
	struct change c = { .disk = disk,
			    .kind = writes	  ? CHANGE_WRITE
				    : what == 'z' ? CHANGE_ZERO
						  : CHANGE_TRIM,
			    .offset = offset,
			    .length = length,
			    .data = data };
	uint64_t x = offset + disk + 1;
	size_t n;

	for (size_t i = 0; writes && i < length; i++) {
		x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
		data[i] = (uint8_t)(what == 'n' ? x >> 56 : 'a' + i % 23);
	}
	n = change_put(&c, changes + changes_bytes,
		       sizeof(changes) - changes_bytes);
	if (!n)
		die("too many changes");
	changes_bytes += n;
	expected_changes[expected_count] = c;
	expected_hashes[expected_count++] = hash(data, writes ? length : 0);
}

/* What the decoder prints behind IMAGE_END and EPOCH_END. */
static void expect_changes(void)
{
	for (unsigned int i = 0; i < expected_count; i++) {
		const struct change *c = &expected_changes[i];

		fprintf(expected,
			"  change disk=%u kind=%u offset=%" PRIu64
			" length=%u %016" PRIx64 "\n",
			c->disk, c->kind, c->offset, c->length,
			expected_hashes[i]);
	}
	expected_count = 0;
}

static ssize_t next_changes(void *arg, uint8_t *raw, size_t room)
{
	size_t n = changes_bytes;

	(void)arg;
	if (n > room)
		die("too many changes");
	memcpy(raw, changes, n);
	changes_bytes = 0;
	return (ssize_t)n;
}

static const struct epoch_changes changes_source = { next_changes, NULL };

/* Of what write_disk() writes. */
static struct checksum *disk_sum;
static uint64_t disk_bytes;

static void write_disk(struct body_encoder *e)
{
	struct frame_buf *b = frame_buf_new(WIRE_DISK, 0, WIRE_PAYLOAD_MAX);

	if (!b)
		die("no memory");
	b->length = (uint32_t)piece_encode(e, changes, changes_bytes,
					   frame_payload(b));
	changes_bytes = 0;
	disk_bytes += b->length;
	checksum_add(disk_sum, frame_payload(b), b->length);
	write_frame(b);
}

static void write_blocks(enum wire_type type, unsigned int disk,
			 unsigned int count)
{
	struct disk_blocks blocks = { .disk = disk,
				      .count = count,
				      .bits = { 5, 0 } };

	blocks.bits[(count - 1) / 64] |= UINT64_C(1) << (count - 1) % 64;
	write_frame(disk_blocks_encode(type, &blocks));
}

static void write_hashes(unsigned int disk, unsigned int count)
{
	struct disk_hashes h = { .disk = disk, .count = count };

	for (unsigned int i = 0; i < count; i++)
		checksum_wide(&i, sizeof(i), disks.seed, h.hash[i]);
	write_frame(disk_hashes_encode(&h));
}

/* What the secondary says of them. */
static void write_taken(void)
{
	const struct disks_taken taken = { 2, 2, { true, false } };

	write_blocks(WIRE_DISK_MARKS, 0, 70);
	write_blocks(WIRE_DISK_MARKS, 0, 64);
	write_frame(disks_taken_encode(&taken));
	write_hashes(0, 3);
	write_hashes(1, 3);
}

/* --- the image ------------------------------------------------------------ */

/* The largest piece raw, and a small one compressed; disks in between. */
static void write_image(void)
{
	AUTO_FREE uint8_t *image = malloc(WIRE_PIECE_MAX + 1000);
	struct wire_image_end end = { .bytes = WIRE_PIECE_MAX + 1000 };
	struct body_encoder *raw = body_encoder_new(0);
	struct body_encoder *zstd = body_encoder_new(1);

	disk_sum = checksum_new();
	if (!image || !raw || !zstd || !disk_sum)
		die("no memory");
	for (size_t i = 0; i < end.bytes; i++)
		image[i] = (uint8_t)(i * i >> 7);
	write_blocks(WIRE_DISK_ASK, 0, 70);
	write_piece(raw, image, WIRE_PIECE_MAX);
	change('n', 1, 3 * WIRE_DISK_BLOCK_BYTES, 512);
	change('z', 0, 0, 80 * WIRE_DISK_BLOCK_BYTES);
	write_disk(raw);
	write_blocks(WIRE_DISK_ASK, 1, 4);
	change('w', 0, 0, CHANGE_DATA_MAX);
	change('w', 1, WIRE_DISK_BLOCK_BYTES, 1);
	write_disk(zstd);
	write_piece(zstd, image + WIRE_PIECE_MAX, 1000);
	body_encoder_free(raw);
	body_encoder_free(zstd);
	end.checksum = hash(image, end.bytes);
	end.disk_bytes = disk_bytes;
	end.disk_checksum = checksum_value(disk_sum);
	checksum_free(disk_sum);
	write_frame(image_end_encode(&end));
	expect_changes();
}

static void write_domain(void)
{
	static char config[] = "{\n\t\"c_info\": { \"name\": \"gast\" }\n}\n";
	const struct guest_description d = {
		.kind = WIRE_GUEST_XEN_PVH,
		.ram_bytes = GUEST_PAGES * WIRE_PAGE_BYTES,
		.max_gfn = LAST_GFN,
		.uuid = { 0xa0, 0xb1, 0xc2, 0xd3 },
		.name = "g\xc3\xa4st",
		.config = config,
		.config_length = sizeof(config) - 1,
	};

	write_frame(domain_encode(&d));
}

static void capture(struct epoch *e, uint64_t page)
{
	if (!epoch_put(e, gfn_of(page), memory[page]))
		die("the epoch is full");
}

/* The guest writes a page: 0 zeroes, 1 what compresses, 2 what does not. */
static void guest_write(struct epoch *e, uint64_t page, int kind, uint64_t seed)
{
	uint64_t x = (seed << 20 | page) * UINT64_C(0x9e3779b97f4a7c15) + 1;
	uint8_t *bytes = memory[page];

	memset(bytes, 0, WIRE_PAGE_BYTES);
	for (size_t i = 0; kind && i < WIRE_PAGE_BYTES; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		bytes[i] = (uint8_t)(kind == 2 ? x >> 32 : x % 3 + 'a');
	}
	in_epoch[page] = true;
	capture(e, page);
}

/* It changes the first byte of each `step` bytes. */
static void guest_change(struct epoch *e, uint64_t page, size_t step)
{
	for (size_t i = 0; i < WIRE_PAGE_BYTES; i += step)
		memory[page][i]++;
	in_epoch[page] = true;
	capture(e, page);
}

static void round_begin(struct epoch *e, uint64_t number, bool partial)
{
	e->number = number;
	e->partial = partial;
	e->page_count = 0;
	e->state_bytes = 0;
}

static void add_record(struct epoch *e, enum wire_record type, const void *body,
		       uint32_t length)
{
	struct cursor c = cursor_over(e->state + e->state_bytes,
				      e->state_capacity - e->state_bytes);
	uint8_t *at = record_put(&c, type, length);

	if (!at)
		die("the state is too large");
	memcpy(at, body, length);
	e->state_bytes = (size_t)(c.at - e->state);
}

static void write_round(struct epoch_encoder *enc, const struct epoch *e)
{
	static const struct epoch_peer peer = {
		.connection = 1,
		.max_gfn = LAST_GFN,
		.shadow_bytes = GUEST_PAGES * WIRE_PAGE_BYTES,
		.shadow_room = UINT64_MAX,
	};
	uint64_t sent_bytes = 0;

	if (epoch_encode(enc, e, &peer, &changes_source, &sink, &sent_bytes))
		die("cannot encode");
}

/* What the decoder prints behind EPOCH_END. */
static void expect_epoch(const struct epoch *e)
{
	struct cursor c = cursor_over(e->state, e->state_bytes);
	struct record r;

	for (uint64_t p = 0; p < GUEST_PAGES; p++) {
		if (in_epoch[p])
			fprintf(expected,
				"  page gfn=0x%" PRIx64 " %016" PRIx64 "\n",
				gfn_of(p), hash(memory[p], WIRE_PAGE_BYTES));
		in_epoch[p] = false;
	}
	while (record_next(&c, &r) > 0)
		fprintf(expected,
			"  record type=%#x length=%u %016" PRIx64 "\n", r.type,
			r.length, hash(r.body, r.length));
	expect_changes();
}

static void add_state(struct epoch *e)
{
	/* 10.0.0.7 and fe80::9, each behind its MAC. */
	static const char addresses[] = "\0\x16\x3e\1\2\3"
					"\4\0"
					"\x0a\0\0\7"
					"\0\0\0\0\0\0\0\0\0\0\0\0"
					"\0\x16\x3e\1\2\3"
					"\6\0"
					"\xfe\x80\0\0\0\0\0\0"
					"\0\0\0\0\0\0\0\x09";
	AUTO_FREE uint8_t *context = malloc(STATE_BYTES);

	if (!context)
		die("no memory");
	for (size_t i = 0; i < STATE_BYTES; i++)
		context[i] = (uint8_t)(i % 251);
	add_record(e, WIRE_RECORD_HVM_CONTEXT, context, STATE_BYTES - 3);
	add_record(e, WIRE_RECORD_COLOD_ADDRESSES, addresses,
		   sizeof(addresses) - 1);
	add_record(e, (enum wire_record)OPTIONAL_RECORD, "?", 1);
}

/* All that there is, in one round: payloads that compress, and one not. */
static void write_first(struct epoch_encoder *enc, struct epoch *e)
{
	round_begin(e, 1, false);
	for (uint64_t p = 0; p < 63; p++)
		guest_write(e, p, 1, 1);
	for (uint64_t p = 63; p < 121; p++)
		guest_write(e, p, p % 3 ? 0 : 1, 1);
	for (uint64_t p = 121; p < 181; p++)
		guest_write(e, p, 2, 1);
	guest_write(e, GUEST_PAGES - 1, 0, 1);
	add_state(e);
	change('w', 0, 4096, 4096);
	change('t', 1, 0, 2 * WIRE_DISK_BLOCK_BYTES);
	write_round(enc, e);
	expect_epoch(e);
}

/* Three rounds, of which the later override the earlier. */
static void write_rounds(struct epoch_encoder *enc, struct epoch *e)
{
	write_empty(WIRE_HEARTBEAT);
	round_begin(e, 2, true);
	for (uint64_t p = 0; p < 5; p++)
		guest_write(e, p, (int)(p % 3), 2);
	for (uint64_t p = 5; p < 9; p++)
		guest_change(e, p, 512);
	change('n', 0, 512, 1000);
	write_round(enc, e);
	write_empty(WIRE_HEARTBEAT);
	round_begin(e, 2, true);
	guest_write(e, 1, 0, 3);
	guest_write(e, 3, 2, 3);
	guest_change(e, 5, 512);
	guest_write(e, 6, 0, 3);
	guest_change(e, 9, 512);
	write_round(enc, e);
	round_begin(e, 2, false);
	guest_write(e, 1, 1, 4);
	guest_change(e, 5, 1024);
	change('w', 0, 512, 500);
	change('z', 0, 1024, 1);
	add_record(e, WIRE_RECORD_HVM_CONTEXT, "cpu", 3);
	write_round(enc, e);
	expect_epoch(e);
}

/* From one word of a page to nearly all, alone and with what is no delta. */
static void write_deltas(struct epoch_encoder *enc, struct epoch *e)
{
	round_begin(e, 3, false);
	for (uint64_t p = 0; p < 100; p++)
		guest_change(e, p, WIRE_PAGE_BYTES >> p % 8);
	guest_change(e, GUEST_PAGES - 1, 2048);
	write_round(enc, e);
	expect_epoch(e);

	behind = false;
	round_begin(e, 4, false);
	guest_write(e, 20, 2, 5);
	guest_change(e, 21, 64);
	guest_write(e, 22, 0, 5);
	capture(e, 23);		/* not changed: it is left out */
	guest_change(e, 24, 8); /* all words: whole */
	guest_change(e, 25, 16);
	write_round(enc, e);
	expect_epoch(e);
}

static void expect_all_kinds(const struct page_counts *n)
{
	if (!n->same || !n->zero || !n->delta || !n->whole || !n->compressed ||
	    !n->incompressible)
		die("the sample lacks a kind of page");
}

static void write_epochs(void)
{
	struct epoch_encoder *enc = epoch_encoder_new(1);
	struct epoch *e = epoch_new(GUEST_PAGES, WIRE_STATE_MAX);

	if (!enc || !e)
		die("no memory");
	behind = true;
	write_first(enc, e);
	write_rounds(enc, e);
	write_deltas(enc, e);
	expect_all_kinds(epoch_encoder_counts(enc));

	/* A guest that did nothing. */
	round_begin(e, 5, false);
	write_round(enc, e);
	expect_epoch(e);

	epoch_free(e);
	epoch_encoder_free(enc);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		die("usage: stream-dump primary|secondary FILE");
	expected = fopen(argv[2], "w");
	checksum = checksum_new();
	if (!expected || !checksum)
		die(strerror(errno));
	if (!strcmp(argv[1], "primary")) {
		write_hello(WIRE_ROLE_PRIMARY, "alpha.example");
		write_empty(OPTIONAL_TYPE);
		write_domain();
		write_frame(disks_encode(&disks));
		write_image();
		write_epochs();
		write_bytes(OPTIONAL_TYPE, (const uint8_t *)"new", 3);
		write_frame(bye_encode(WIRE_REASON_POWEROFF, ""));
	} else {
		write_hello(WIRE_ROLE_SECONDARY, "");
		write_empty(WIRE_HEARTBEAT);
		write_taken();
		write_frame(ack_encode(0, 0));
		write_frame(ack_encode(1, 0));
		write_frame(ack_encode(2, 1));
		write_frame(ack_encode(3, 3));
		write_frame(bye_encode(WIRE_REASON_NO_RESOURCES,
				       "no memory for epoch 4"));
	}
	checksum_free(checksum);
	if (fclose(expected) || fflush(stdout))
		die("cannot write");
	return 0;
}
