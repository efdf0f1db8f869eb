/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/image.c: a guest's side writes, the sender makes frames, a link that
 * is a queue in this file carries them, the receiver writes to a builder.
 */
#include "config.h"

#include "engine/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "stream/pieces.h"
#include "tests/unit/engine-loop.h"
#include "tests/unit/unit-stream.h"

enum {
	IMAGE_BYTES = 20 * 1024 * 1024 + 12345,
	LINK_BOUND = 2 * 1024 * 1024 + WIRE_PAYLOAD_MAX,
	BUILDER_BOUND = 8 * 1024 * 1024 + WIRE_PAYLOAD_MAX,
};

/* --- a link of our own -------------------------------------------------- */

struct link {
	struct frame_buf *first, **last;
	size_t queued;
	size_t most;
};

size_t link_queued(const struct link *l)
{
	return l->queued;
}

void link_send(struct link *l, struct frame_buf *b)
{
	assert_int_equal(b->type, WIRE_IMAGE);
	assert_true(b->length > 0 && b->length <= WIRE_PAYLOAD_MAX);
	b->next = NULL;
	*l->last = b;
	l->last = &b->next;
	l->queued += b->length;
	if (l->queued > l->most)
		l->most = l->queued;
}

static struct frame_buf *link_take(struct link *l)
{
	struct frame_buf *b = l->first;

	if (!b)
		return NULL;
	l->first = b->next;
	if (!l->first)
		l->last = &l->first;
	l->queued -= b->length;
	return b;
}

/* --- both ends ---------------------------------------------------------- */

struct rig {
	struct loop *loop;
	struct link link;
	struct image_sender *sender;
	struct image_receiver *receiver;
	int guest_fd;	/* the guest's side writes here */
	int builder_fd; /* the standby is built from here */
	const uint8_t *image;
	size_t written, built; /* bytes */
	bool write_ended;
	bool builder_stops; /* reads nothing */
	bool link_stops;    /* carries nothing */
	bool builder_eof;

	uint64_t moved, carried;
	unsigned int eofs, pauses, resumes, blocks, unblocks;
	struct wire_image_end end;
};

enum { LEVEL = 1 };

static uint8_t *noise;

/* One that the receiver is given by itself. */
static int put_piece(struct rig *r, const uint8_t *bytes, size_t length)
{
	static uint8_t payload[WIRE_PAYLOAD_MAX];
	struct body_encoder *e = body_encoder_new(LEVEL);
	size_t n;

	assert_non_null(e);
	n = piece_encode(e, bytes, length, payload);
	body_encoder_free(e);
	return image_receiver_put(r->receiver, payload, (uint32_t)n);
}

static int group_setup(void **state)
{
	(void)state;
	noise = malloc(IMAGE_BYTES);
	if (!noise)
		return -1;
	fill_noise(noise, IMAGE_BYTES, 3);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	free(noise);
	return 0;
}

static void on_moved(void *arg, uint64_t bytes)
{
	struct rig *r = arg;

	assert_true(bytes > r->moved);
	r->moved = bytes;
}

static void on_waits(void *arg, bool waits)
{
	struct rig *r = arg;

	r->blocks += waits;
	r->unblocks += !waits;
	assert_int_equal(r->blocks - r->unblocks, waits);
}

static void on_eof(void *arg, const struct wire_image_end *end)
{
	struct rig *r = arg;

	r->eofs++;
	r->end = *end;
}

static void on_pause(void *arg, bool paused)
{
	struct rig *r = arg;

	r->pauses += paused;
	r->resumes += !paused;
	assert_int_equal(r->pauses - r->resumes, paused);
}

static void nonblocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static int setup(void **state)
{
	static const struct image_sender_events sender_events = { on_moved,
								  on_waits,
								  on_eof };
	static const struct image_receiver_events receiver_events = {
		on_pause
	};
	static struct rig r;
	int guest[2], builder[2];

	memset(&r, 0, sizeof(r));
	*state = &r;
	r.link.last = &r.link.first;
	r.image = noise;
	if (loop_open(&r.loop) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, guest) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, builder))
		return -1;
	r.guest_fd = guest[1];
	r.builder_fd = builder[1];
	nonblocking(r.guest_fd);
	nonblocking(r.builder_fd);
	return image_sender_open(r.loop, &r.link, guest[0], LEVEL,
				 &sender_events, &r, &r.sender) ||
	       image_receiver_open(r.loop, builder[0], &receiver_events, &r,
				   &r.receiver);
}

static int teardown(void **state)
{
	struct rig *r = *state;
	struct frame_buf *b;

	image_sender_close(r->sender);
	image_receiver_close(r->receiver);
	loop_for(r->loop, 2000);
	while ((b = link_take(&r->link)))
		b->release(b);
	if (r->guest_fd >= 0)
		close(r->guest_fd);
	if (r->builder_fd >= 0)
		close(r->builder_fd);
	loop_close(r->loop);
	return 0;
}

/* The guest's side writes as much as is taken, then closes. */
static void guest_turn(struct rig *r)
{
	while (r->guest_fd >= 0 && r->written < IMAGE_BYTES) {
		ssize_t n = send(r->guest_fd, r->image + r->written,
				 IMAGE_BYTES - r->written, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		r->written += (size_t)n;
	}
	if (r->guest_fd >= 0) {
		close(r->guest_fd);
		r->guest_fd = -1;
	}
}

/* As the daemon does: no frame is read from a paused link. */
static void link_turn(struct rig *r)
{
	struct frame_buf *b;

	if (r->link_stops)
		return;
	while (r->pauses == r->resumes && (b = link_take(&r->link))) {
		r->carried += b->length;
		assert_int_equal(image_receiver_put(r->receiver,
						    frame_payload(b),
						    b->length),
				 0);
		b->release(b);
	}
	if (r->sender && r->link.queued <= LINK_QUEUE_LOW)
		image_sender_drained(r->sender);
}

static void builder_turn(struct rig *r)
{
	static uint8_t buf[256 * 1024];
	ssize_t n;

	if (r->builder_stops || r->builder_fd < 0)
		return;
	while ((n = recv(r->builder_fd, buf, sizeof(buf), 0)) > 0) {
		assert_true(r->built + (size_t)n <= IMAGE_BYTES);
		assert_memory_equal(buf, r->image + r->built, n);
		r->built += (size_t)n;
	}
	r->builder_eof = n == 0;
}

static void turn(struct rig *r)
{
	guest_turn(r);
	link_turn(r);
	builder_turn(r);
}

static bool sent(void *arg)
{
	struct rig *r = arg;

	turn(r);
	return r->eofs && !r->link.first;
}

static bool builder_has_all(void *arg)
{
	struct rig *r = arg;

	turn(r);
	return r->builder_eof;
}

static bool nothing_moves(void *arg)
{
	struct rig *r = arg;
	static uint64_t before;
	static unsigned int same;

	turn(r);
	same = r->moved == before ? same + 1 : 0;
	before = r->moved;
	return same > 20;
}

/* --- the whole way ------------------------------------------------------ */

static void test_whole_image(void **state)
{
	struct rig *r = *state;

	loop_until(r->loop, sent, r);
	assert_int_equal(r->end.bytes, IMAGE_BYTES);
	assert_int_equal(r->moved, IMAGE_BYTES);
	assert_int_equal(r->eofs, 1);
	assert_int_equal(image_receiver_bytes(r->receiver), IMAGE_BYTES);
	assert_int_equal(image_receiver_end(r->receiver, &r->end), 0);
	loop_until(r->loop, builder_has_all, r);
	assert_int_equal(r->built, IMAGE_BYTES);
}

/* What the link carries is what zstd makes of it. */
static void test_image_of_zeroes(void **state)
{
	struct rig *r = *state;
	AUTO_FREE uint8_t *zeroes = calloc(1, IMAGE_BYTES);

	assert_non_null(zeroes);
	r->image = zeroes;
	loop_until(r->loop, sent, r);
	assert_int_equal(r->end.bytes, IMAGE_BYTES);
	assert_true(r->carried < IMAGE_BYTES / 100);
	assert_int_equal(image_receiver_end(r->receiver, &r->end), 0);
	loop_until(r->loop, builder_has_all, r);
	assert_int_equal(r->built, IMAGE_BYTES);
}

static void test_empty_image(void **state)
{
	struct rig *r = *state;

	r->written = IMAGE_BYTES;
	loop_until(r->loop, sent, r);
	assert_int_equal(r->end.bytes, 0);
	assert_int_equal(image_receiver_end(r->receiver, &r->end), 0);
	loop_until(r->loop, builder_has_all, r);
	assert_int_equal(r->built, 0);
}

/* --- the sender --------------------------------------------------------- */

static void test_slow_link_slows_the_guest_side(void **state)
{
	struct rig *r = *state;

	r->link_stops = true;
	loop_until(r->loop, nothing_moves, r);
	assert_true(r->link.most > 2 * 1024 * 1024);
	assert_true(r->link.most <= LINK_BOUND);
	assert_true(r->written < IMAGE_BYTES);
	assert_int_equal(r->blocks - r->unblocks, 1);
	r->link_stops = false;
	loop_until(r->loop, sent, r);
	assert_int_equal(r->blocks, r->unblocks);
	assert_int_equal(r->end.bytes, IMAGE_BYTES);
	assert_true(r->link.most <= LINK_BOUND);
}

static void test_writer_closes_early(void **state)
{
	struct rig *r = *state;

	r->written = r->built = IMAGE_BYTES - 777;
	loop_until(r->loop, sent, r);
	assert_int_equal(r->eofs, 1);
	assert_int_equal(r->end.bytes, 777);
	loop_for(r->loop, 2000);
	assert_int_equal(r->eofs, 1);
}

static void closed_sender(struct rig *r)
{
	unsigned int eofs = r->eofs;
	uint64_t moved = r->moved;
	char byte = 0;

	image_sender_close(r->sender);
	r->sender = NULL;
	loop_for(r->loop, 5000);
	assert_int_equal(r->eofs, eofs); /* no more events */
	assert_int_equal(r->moved, moved);
	if (r->guest_fd >= 0) /* whoever writes is not left blocked */
		assert_int_equal(send(r->guest_fd, &byte, 1, MSG_NOSIGNAL), -1);
}

static void test_sender_closed_while_it_reads(void **state)
{
	closed_sender(*state);
}

static void test_sender_closed_while_it_waits_for_the_link(void **state)
{
	struct rig *r = *state;

	r->link_stops = true;
	loop_until(r->loop, nothing_moves, r);
	closed_sender(r);
}

static void test_sender_closed_after_the_end(void **state)
{
	struct rig *r = *state;

	loop_until(r->loop, sent, r);
	closed_sender(r);
	image_sender_close(NULL);
}

/* --- the receiver ------------------------------------------------------- */

static void test_slow_builder_pauses_the_link(void **state)
{
	struct rig *r = *state;

	r->builder_stops = true;
	loop_until(r->loop, nothing_moves, r);
	assert_int_equal(r->pauses, 1);
	assert_int_equal(r->resumes, 0);
	assert_true(image_receiver_bytes(r->receiver) > 4 * 1024 * 1024);
	/* What the socket has taken is not held here. */
	assert_true(image_receiver_bytes(r->receiver) <=
		    BUILDER_BOUND + 2 * 1024 * 1024);
	r->builder_stops = false;
	loop_until(r->loop, sent, r);
	assert_true(r->pauses > 0);
	assert_int_equal(image_receiver_end(r->receiver, &r->end), 0);
	loop_until(r->loop, builder_has_all, r);
	assert_int_equal(r->built, IMAGE_BYTES);
	assert_int_equal(r->resumes, r->pauses);
}

/* A piece of one byte takes more than a byte. */
static void test_small_pieces_pause_the_link(void **state)
{
	struct rig *r = *state;
	int i;

	for (i = 0; i < 1000 * 1000 && !r->pauses; i++)
		assert_int_equal(put_piece(r, noise, 1), 0);
	assert_int_equal(r->pauses, 1);
}

/* The build has failed and says so itself; nothing must pile up here. */
static void test_builder_closes(void **state)
{
	struct rig *r = *state;

	close(r->builder_fd);
	r->builder_fd = -1;
	loop_until(r->loop, sent, r);
	assert_int_equal(image_receiver_bytes(r->receiver), IMAGE_BYTES);
	assert_int_equal(r->pauses, r->resumes);
	assert_int_equal(image_receiver_end(r->receiver, &r->end), 0);
}

static void test_builder_closes_while_paused(void **state)
{
	struct rig *r = *state;

	r->builder_stops = true;
	loop_until(r->loop, nothing_moves, r);
	assert_int_equal(r->pauses, 1);
	close(r->builder_fd);
	r->builder_fd = -1;
	loop_until(r->loop, sent, r);
	assert_int_equal(r->resumes, 1);
}

static void test_not_what_was_sent(void **state)
{
	struct rig *r = *state;
	struct wire_image_end wrong;

	loop_until(r->loop, sent, r);
	wrong = r->end;
	wrong.checksum ^= 1;
	assert_int_equal(image_receiver_end(r->receiver, &wrong), -EBADMSG);
	wrong = r->end;
	wrong.bytes--;
	assert_int_equal(image_receiver_end(r->receiver, &wrong), -EBADMSG);
	loop_for(r->loop, 5000);
	builder_turn(r);
	assert_false(r->builder_eof); /* it is never told that this is all */
	assert_int_equal(image_receiver_end(r->receiver, &r->end), 0);
}

static void test_one_byte_differs(void **state)
{
	struct rig *r = *state;
	const uint8_t bytes[] = { 1, 2, 3 };

	r->written = IMAGE_BYTES;
	loop_until(r->loop, sent, r);
	assert_int_equal(put_piece(r, bytes, 3), 0);
	r->end.bytes = 3; /* the right number of the wrong ones */
	assert_int_equal(image_receiver_end(r->receiver, &r->end), -EBADMSG);
}

static void test_nothing_behind_the_end(void **state)
{
	struct rig *r = *state;
	const uint8_t byte = 0;

	loop_until(r->loop, sent, r);
	assert_int_equal(image_receiver_put(r->receiver, &byte, 1), -EPROTO);
	assert_int_equal(image_receiver_end(r->receiver, &r->end), 0);
	assert_int_equal(image_receiver_end(r->receiver, &r->end), -EBADMSG);
	assert_int_equal(put_piece(r, &byte, 1), -EPROTO);
}

static void test_receiver_closed_while_it_writes(void **state)
{
	struct rig *r = *state;

	r->builder_stops = true;
	loop_until(r->loop, nothing_moves, r);
	r->link_stops = true;
	image_receiver_close(r->receiver);
	r->receiver = NULL;
	loop_for(r->loop, 5000);
	r->builder_stops = false;
	builder_turn(r);
	assert_true(r->builder_eof); /* and sees a short image */
	assert_true(r->built < IMAGE_BYTES);
	image_receiver_close(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whole_image),
		TEST(test_image_of_zeroes),
		TEST(test_empty_image),
		TEST(test_slow_link_slows_the_guest_side),
		TEST(test_writer_closes_early),
		TEST(test_sender_closed_while_it_reads),
		TEST(test_sender_closed_while_it_waits_for_the_link),
		TEST(test_sender_closed_after_the_end),
		TEST(test_slow_builder_pauses_the_link),
		TEST(test_small_pieces_pause_the_link),
		TEST(test_builder_closes),
		TEST(test_builder_closes_while_paused),
		TEST(test_not_what_was_sent),
		TEST(test_one_byte_differs),
		TEST(test_nothing_behind_the_end),
		TEST(test_receiver_closed_while_it_writes),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
