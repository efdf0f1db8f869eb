/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"
#include "stream/checksum.h"
#include "stream/messages.h"
#include "stream/pieces.h"

enum {
	/* Queued on the link before reading waits for it to drain. */
	LINK_AHEAD_BYTES = 2 * 1024 * 1024,
	/* Queued for the builder before the link is paused, and again free. */
	BUILDER_AHEAD_BYTES = 8 * 1024 * 1024,
	BUILDER_RESUME_BYTES = 2 * 1024 * 1024,
};

/* --- sender ------------------------------------------------------------- */

struct image_sender {
	struct loop *loop;
	struct link *link;
	int fd;
	struct loop_op read;
	struct body_encoder *encoder;
	struct checksum *sum;
	struct wire_image_end end;
	const struct image_sender_events *events;
	void *arg;
	bool waiting; /* for the link to drain */
	bool closed;
	bool eof;
	uint8_t piece[WIRE_PIECE_MAX]; /* being read into */
	uint8_t payload[WIRE_PAYLOAD_MAX];
};

static void sender_free(struct image_sender *s)
{
	body_encoder_free(s->encoder);
	checksum_free(s->sum);
	close(s->fd);
	free(s);
}

static void sender_eof(struct image_sender *s)
{
	s->eof = true;
	s->end.checksum = checksum_value(s->sum);
	s->events->eof(s->arg, &s->end);
}

/* The guest's side sees a closed socket and gives up. */
static void sender_fail(struct image_sender *s)
{
	s->eof = true;
	shutdown(s->fd, SHUT_RDWR);
	s->events->eof(s->arg, NULL);
}

static void sender_read(struct image_sender *s)
{
	bool waits = link_queued(s->link) > LINK_AHEAD_BYTES;

	if (s->waiting != waits)
		s->events->waits(s->arg, waits);
	s->waiting = waits;
	if (waits)
		return;
	loop_recv(s->loop, &s->read, s->fd, s->piece, sizeof(s->piece));
}

/*
 * A frame takes just what is in it: a buffer for the largest would be fresh
 * memory each time, which is slow to touch.
 */
static int sender_send(struct image_sender *s, size_t length)
{
	size_t n = piece_encode(s->encoder, s->piece, length, s->payload);
	struct frame_buf *b = frame_buf_new(WIRE_IMAGE, 0, (uint32_t)n);

	if (!b)
		return -ENOMEM;
	memcpy(frame_payload(b), s->payload, n);
	b->length = (uint32_t)n;
	checksum_add(s->sum, s->piece, length);
	s->end.bytes += length;
	link_send(s->link, b);
	return 0;
}

static void sender_got(void *arg, int res)
{
	struct image_sender *s = arg;

	if (s->closed) {
		sender_free(s);
		return;
	}
	if (res == 0) {
		sender_eof(s);
		return;
	}
	if (res > 0 && s->end.bytes && fault_at(FAULT_MID_IMAGE))
		res = -EIO;
	if (res > 0) {
		int err = sender_send(s, (size_t)res);

		if (err)
			res = err;
		else
			s->events->moved(s->arg, s->end.bytes);
	}
	if (res < 0 && res != -EINTR && res != -EAGAIN) {
		sender_fail(s);
		return;
	}
	sender_read(s);
}

int image_sender_open(struct loop *loop, struct link *link, int fd, int level,
		      const struct image_sender_events *events, void *arg,
		      struct image_sender **out)
{
	struct image_sender *s = memory_zeroed(sizeof(*s));

	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	s->loop = loop;
	s->link = link;
	s->fd = fd;
	s->events = events;
	s->arg = arg;
	s->read.fn = sender_got;
	s->read.arg = s;
	s->encoder = body_encoder_new(level);
	s->sum = checksum_new();
	if (!s->encoder || !s->sum) {
		sender_free(s);
		return -ENOMEM;
	}
	*out = s;
	sender_read(s);
	return 0;
}

void image_sender_drained(struct image_sender *s)
{
	if (s->waiting && !s->closed && !s->eof)
		sender_read(s);
}

void image_sender_close(struct image_sender *s)
{
	if (!s)
		return;
	s->closed = true;
	shutdown(s->fd, SHUT_RDWR); /* ends both the read and the writer */
	if (s->read.busy)
		loop_cancel(s->loop, &s->read);
	else
		sender_free(s);
}

/* --- receiver ----------------------------------------------------------- */

struct chunk {
	struct chunk *next;
	uint32_t length;
	uint32_t written;
	uint8_t bytes[WIRE_PIECE_MAX];
};

struct image_receiver {
	struct loop *loop;
	int fd;
	struct loop_op write;
	struct chunk *first;
	struct chunk **last;
	struct chunk *spare; /* written, to be used again */
	size_t queued;
	uint64_t bytes;
	struct body_decoder *decoder;
	struct checksum *sum;
	const struct image_receiver_events *events;
	void *arg;
	bool paused;
	bool ended;  /* close the descriptor when all is written */
	bool broken; /* the builder has closed its end */
	bool closed;
};

static void chunks_free(struct chunk *c)
{
	while (c) {
		struct chunk *next = c->next;

		free(c);
		c = next;
	}
}

static void receiver_drop(struct image_receiver *r)
{
	chunks_free(r->first);
	r->first = NULL;
	r->last = &r->first;
	r->queued = 0;
}

static void receiver_free(struct image_receiver *r)
{
	receiver_drop(r);
	chunks_free(r->spare);
	body_decoder_free(r->decoder);
	checksum_free(r->sum);
	if (r->fd >= 0)
		close(r->fd);
	free(r);
}

static void set_paused(struct image_receiver *r, bool paused)
{
	if (r->paused == paused)
		return;
	r->paused = paused;
	r->events->pause(r->arg, paused);
}

static void receiver_write(struct image_receiver *r)
{
	struct chunk *c = r->first;

	if (r->broken)
		receiver_drop(r);
	else if (c) {
		loop_send(r->loop, &r->write, r->fd, c->bytes + c->written,
			  c->length - c->written);
		return;
	}
	if (r->ended && r->fd >= 0) {
		close(r->fd);
		r->fd = -1;
	}
}

static void receiver_wrote(void *arg, int res)
{
	struct image_receiver *r = arg;
	struct chunk *c = r->first;

	if (r->closed) {
		receiver_free(r);
		return;
	}
	if (res < 0) {
		/* The build has failed and reports it itself. */
		r->broken = true;
	} else {
		c->written += (uint32_t)res;
		if (c->written == c->length) {
			r->queued -= sizeof(*c);
			r->first = c->next;
			if (!r->first)
				r->last = &r->first;
			c->next = r->spare;
			r->spare = c;
		}
	}
	receiver_write(r);
	if (r->queued < BUILDER_RESUME_BYTES)
		set_paused(r, false);
}

int image_receiver_open(struct loop *loop, int fd,
			const struct image_receiver_events *events, void *arg,
			struct image_receiver **out)
{
	struct image_receiver *r = memory_zeroed(sizeof(*r));

	if (!r) {
		close(fd);
		return -ENOMEM;
	}
	r->loop = loop;
	r->fd = fd;
	r->events = events;
	r->arg = arg;
	r->last = &r->first;
	r->write.fn = receiver_wrote;
	r->write.arg = r;
	r->decoder = body_decoder_new();
	r->sum = checksum_new();
	if (!r->decoder || !r->sum) {
		receiver_free(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

/* Written ones first: fresh memory is slow to touch. */
static struct chunk *receiver_chunk(struct image_receiver *r)
{
	struct chunk *c = r->spare;

	if (!c)
		return memory_new(sizeof(*c));
	r->spare = c->next;
	return c;
}

int image_receiver_put(struct image_receiver *r, const uint8_t *payload,
		       uint32_t length)
{
	int n = r->bytes ? fault_at(FAULT_MID_BUILD) : 0;
	struct chunk *c;

	if (n)
		return n;
	if (r->ended)
		return -EPROTO;
	c = receiver_chunk(r);
	if (!c)
		return -ENOMEM;
	n = piece_decode(r->decoder, payload, length, c->bytes);
	if (n > 0) {
		checksum_add(r->sum, c->bytes, (size_t)n);
		r->bytes += (uint64_t)n;
	}
	if (n < 0 || r->broken) {
		c->next = r->spare;
		r->spare = c;
		return n < 0 ? n : 0;
	}
	c->next = NULL;
	c->length = (uint32_t)n;
	c->written = 0;
	*r->last = c;
	r->last = &c->next;
	r->queued += sizeof(*c);
	if (!r->write.busy)
		receiver_write(r);
	if (r->queued > BUILDER_AHEAD_BYTES)
		set_paused(r, true);
	return 0;
}

int image_receiver_end(struct image_receiver *r,
		       const struct wire_image_end *end)
{
	if (r->ended || end->bytes != r->bytes ||
	    end->checksum != checksum_value(r->sum))
		return -EBADMSG;
	r->ended = true;
	if (!r->write.busy)
		receiver_write(r);
	return 0;
}

uint64_t image_receiver_bytes(const struct image_receiver *r)
{
	return r->bytes;
}

void image_receiver_close(struct image_receiver *r)
{
	if (!r)
		return;
	r->closed = true;
	if (r->write.busy) {
		shutdown(r->fd, SHUT_RDWR);
		loop_cancel(r->loop, &r->write);
	} else {
		receiver_free(r);
	}
}
