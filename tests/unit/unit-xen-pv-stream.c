/* SPDX-License-Identifier: Apache-2.0 */
/* libxenguest's stream of a PV domain: written, read back, and broken. */
#include "config.h"

#include "resume/xen/pv/stream.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096, MAX_PFN = 4999 };

struct file {
	int fd;
	struct pv_writer *w;
	struct pv_reader r;
};

static int open_file(void **state)
{
	struct file *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->fd = memfd_create("stream", MFD_CLOEXEC);
	f->w = pv_writer_new(f->fd);
	assert_non_null(f->w);
	assert_int_equal(pv_reader_init(&f->r, f->fd), 0);
	*state = f;
	return 0;
}

static int close_file(void **state)
{
	struct file *f = *state;

	pv_reader_fini(&f->r);
	pv_writer_free(f->w);
	close(f->fd);
	free(f);
	return 0;
}

static void rewind_file(struct file *f)
{
	assert_int_equal(pv_writer_flush(f->w), 0);
	assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
}

/* Each page has its number in every word, and a type that depends on it. */
static uint8_t type_of(uint64_t pfn)
{
	return pfn % 7 == 0 ? 0xc : pfn % 11 == 0 ? PV_PAGE_NONE : 0;
}

static void put_pages(struct file *f, uint64_t count)
{
	uint32_t words[PAGE / 4];
	struct pv_page p;

	for (p.pfn = 0; p.pfn < count; p.pfn++) {
		for (size_t i = 0; i < PAGE / 4; i++)
			words[i] = (uint32_t)p.pfn;
		p.type = type_of(p.pfn);
		p.bytes = pv_type_has_bytes(p.type) ? (uint8_t *)words : NULL;
		pv_write_page(f->w, &p);
	}
}

static int check_page(void *arg, const struct pv_page *p)
{
	uint64_t *next = arg;
	uint32_t words[PAGE / 4];

	assert_int_equal(p->pfn, *next);
	assert_int_equal(p->type, type_of(p->pfn));
	if (p->type == PV_PAGE_NONE) {
		assert_null(p->bytes);
	} else {
		memcpy(words, p->bytes, PAGE);
		assert_int_equal(words[0], p->pfn);
		assert_int_equal(words[PAGE / 4 - 1], p->pfn);
	}
	++*next;
	return 0;
}

/* More than two batches, and a record whose body is padded behind them. */
static void what_was_written_is_read(void **state)
{
	struct file *f = *state;
	const char *why = NULL;
	struct record rec;
	uint64_t next = 0;

	put_pages(f, 2500);
	pv_write_record(f->w, PV_VCPU_BASIC, "thirteen byte", 13);
	pv_write_record(f->w, PV_END, NULL, 0);
	rewind_file(f);
	while (next < 2500) {
		assert_int_equal(pv_read_record(&f->r, &rec, &why), 0);
		assert_int_equal(rec.type, PV_PAGE_DATA);
		assert_int_equal(pv_each_page(&rec, MAX_PFN, check_page, &next),
				 0);
	}
	assert_int_equal(next, 2500);
	assert_int_equal(pv_read_record(&f->r, &rec, &why), 0);
	assert_int_equal(rec.type, PV_VCPU_BASIC);
	assert_int_equal(rec.length, 13);
	assert_memory_equal(rec.body, "thirteen byte", 13);
	assert_int_equal(pv_read_record(&f->r, &rec, &why), 0);
	assert_int_equal(rec.type, PV_END);
	assert_int_equal(pv_read_record(&f->r, &rec, &why), -EPIPE);
}

static void a_stream_that_ends_in_a_record(void **state)
{
	struct file *f = *state;
	const char *why = NULL;
	struct record rec;

	put_pages(f, 3);
	rewind_file(f);
	assert_int_equal(ftruncate(f->fd, 5000), 0);
	assert_int_equal(pv_read_record(&f->r, &rec, &why), -EPIPE);
}

static void a_record_that_is_too_long(void **state)
{
	const uint32_t head[2] = { htole32(PV_PAGE_DATA), htole32(1U << 30) };
	struct file *f = *state;
	const char *why = NULL;
	struct record rec;

	pv_write(f->w, head, sizeof(head));
	rewind_file(f);
	assert_int_equal(pv_read_record(&f->r, &rec, &why), -EPROTO);
	assert_string_equal(why, "a record is too long");
}

static int no_page(void *arg, const struct pv_page *p)
{
	(void)arg;
	(void)p;
	return 0;
}

static int pages_of(const void *body, uint32_t length)
{
	const struct record rec = { .type = PV_PAGE_DATA,
				    .length = length,
				    .body = body };

	return pv_each_page(&rec, MAX_PFN, no_page, NULL);
}

static void pages_that_are_malformed(void **state)
{
	static uint8_t body[8 + 2 * 8 + 2 * PAGE];
	uint64_t *entries = (uint64_t *)(void *)(body + 8);

	(void)state;
	body[0] = 2;
	entries[0] = htole64(pv_entry(1, 0));
	entries[1] = htole64(pv_entry(MAX_PFN, 4));
	assert_int_equal(pages_of(body, sizeof(body)), 0);
	assert_int_equal(pages_of(body, sizeof(body) - 1), -EPROTO);
	assert_int_equal(pages_of(body, sizeof(body) - PAGE), -EPROTO);
	assert_int_equal(pages_of(body, 12), -EPROTO);
	assert_int_equal(pages_of(body, 4), -EPROTO);
	entries[1] = htole64(pv_entry(MAX_PFN + 1, 0));
	assert_int_equal(pages_of(body, sizeof(body)), -EPROTO);
	/* A page without content leaves one over. */
	entries[1] = htole64(pv_entry(2, PV_PAGE_NONE));
	assert_int_equal(pages_of(body, sizeof(body)), -EPROTO);
	assert_int_equal(pages_of(body, sizeof(body) - PAGE), 0);
	body[0] = 0;
	assert_int_equal(pages_of(body, 8), -EPROTO);
	memset(body, 0xff, 4);
	assert_int_equal(pages_of(body, sizeof(body)), -EPROTO);
}

static void put_header(uint8_t header[PV_HEADER_BYTES])
{
	static const uint8_t good[PV_HEADER_BYTES] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* marker */
		'X',  'E',  'N',  'F',	0,    0,    0,	  3,	/* version */
		0,    0,    0,	  0,	0,    0,    0,	  0,	/* options */
		1,    0,    0,	  0,	12,   0,    0,	  0,	/* PV, 4 KiB */
		4,    0,    0,	  0,	17,   0,    0,	  0,
	};

	memcpy(header, good, sizeof(good));
}

static int read_header(struct file *f, const uint8_t *header, const char **why)
{
	uint8_t got[PV_HEADER_BYTES];

	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
	pv_write(f->w, header, PV_HEADER_BYTES);
	rewind_file(f);
	return pv_read_header(&f->r, got, why);
}

static void headers(void **state)
{
	static const size_t places[] = { 0, 8, 17, 24, 28 };
	uint8_t header[PV_HEADER_BYTES];
	struct file *f = *state;
	const char *why;

	put_header(header);
	assert_int_equal(read_header(f, header, &why), 0);
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		put_header(header);
		header[places[i]] ^= 1;
		why = NULL;
		assert_int_equal(read_header(f, header, &why), -EPROTO);
		assert_non_null(why);
	}
}

/* The state of a checkpoint: two types, then records of these kinds. */
static uint32_t put_state(uint8_t *to, size_t room, const uint32_t *kinds,
			  size_t count)
{
	struct cursor c = cursor_over(to, room);

	cursor_put_u32(&c, 2);
	cursor_put_u32(&c, 0);
	cursor_put_u64(&c, pv_entry(7, 0x9));
	cursor_put_u64(&c, pv_entry(MAX_PFN, 0xc));
	for (size_t i = 0; i < count; i++)
		memset(record_put(&c, (enum wire_record)kinds[i], 13), 1, 13);
	return (uint32_t)(room - cursor_left(&c));
}

static int read_state(const uint8_t *bytes, uint32_t length, uint8_t *types)
{
	const struct record body = { .body = bytes, .length = length };
	const uint8_t *records;
	size_t left;

	return pv_state_read(&body, MAX_PFN, types, &records, &left);
}

static bool is_whole(const uint8_t *bytes, uint32_t length)
{
	return pv_state_whole(
		&(struct record){ .body = bytes, .length = length });
}

static void a_state_is_whole_or_refused(void **state)
{
	static const uint32_t kinds[] = { PV_SHARED_INFO, PV_VCPU_BASIC };
	uint8_t bytes[200], types[MAX_PFN + 1];
	uint32_t length = put_state(bytes, sizeof(bytes), kinds, 2);

	(void)state;
	assert_int_equal(read_state(bytes, length, types), 0);
	assert_int_equal(types[7], 0x9);
	assert_int_equal(types[8], PV_PAGE_ORDINARY);
	assert_int_equal(types[MAX_PFN], 0xc);
	assert_true(is_whole(bytes, length));
	for (uint32_t n = 0; n < length; n++) {
		assert_int_equal(read_state(bytes, n, types), -EPROTO);
		assert_false(is_whole(bytes, n));
	}
}

static void a_state_with_what_does_not_belong_there(void **state)
{
	static const uint32_t others[] = { PV_END, PV_PAGE_DATA, PV_INFO,
					   PV_CHECKPOINT, 0x80000001 };
	uint8_t bytes[200], types[MAX_PFN + 1];
	uint32_t kinds[2] = { PV_VCPU_BASIC }, length;
	uint64_t entry = htole64(pv_entry(MAX_PFN + 1, 0));

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		kinds[1] = others[i];
		length = put_state(bytes, sizeof(bytes), kinds, 2);
		assert_int_equal(read_state(bytes, length, types), -EPROTO);
	}
	/* No vCPU at all. */
	kinds[0] = PV_TSC_INFO;
	length = put_state(bytes, sizeof(bytes), kinds, 1);
	assert_int_equal(read_state(bytes, length, types), -EPROTO);
	kinds[0] = PV_VCPU_BASIC;
	length = put_state(bytes, sizeof(bytes), kinds, 1);
	memcpy(bytes + 16, &entry, sizeof(entry));
	assert_int_equal(read_state(bytes, length, types), -EPROTO);
}

static void which_record_is_what(void **state)
{
	(void)state;
	for (uint32_t type = 0; type < 0x20; type++)
		assert_false(pv_record_is_static(type) &&
			     pv_record_is_state(type));
	assert_true(pv_record_is_state(PV_VCPU_MSRS));
	assert_true(pv_record_is_static(PV_P2M_FRAMES));
	assert_false(pv_record_is_state(PV_CHECKPOINT));
	assert_false(pv_record_is_static(PV_VERIFY));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_was_written_is_read,
						open_file, close_file),
		cmocka_unit_test_setup_teardown(a_stream_that_ends_in_a_record,
						open_file, close_file),
		cmocka_unit_test_setup_teardown(a_record_that_is_too_long,
						open_file, close_file),
		cmocka_unit_test(pages_that_are_malformed),
		cmocka_unit_test_setup_teardown(headers, open_file, close_file),
		cmocka_unit_test(a_state_is_whole_or_refused),
		cmocka_unit_test(a_state_with_what_does_not_belong_there),
		cmocka_unit_test(which_record_is_what),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
