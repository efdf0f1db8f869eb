/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream/checksum.h"
#include "stream/messages.h"

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
	struct frame_buf *frame; /* being read into */
	struct checksum *sum;
	struct wire_image_end end;
	const struct image_sender_events *events;
	void *arg;
	bool waiting; /* for the link to drain */
	bool closed;
	bool eof;
};

static void sender_free(struct image_sender *s)
{
	if (s->frame)
		s->frame->release(s->frame);
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

static void sender_read(struct image_sender *s)
{
	s->waiting = link_queued(s->link) > LINK_AHEAD_BYTES;
	if (s->waiting)
		return;
	if (!s->frame)
		s->frame = frame_buf_new(WIRE_IMAGE, 0, WIRE_PAYLOAD_MAX);
	if (!s->frame) {
		/* The guest's side sees a closed socket and gives up. */
		shutdown(s->fd, SHUT_RDWR);
		sender_eof(s);
		return;
	}
	loop_recv(s->loop, &s->read, s->fd, frame_payload(s->frame),
		  WIRE_PAYLOAD_MAX);
}

static void sender_got(void *arg, int res)
{
	struct image_sender *s = arg;

	if (s->closed) {
		sender_free(s);
		return;
	}
	if (res <= 0) {
		sender_eof(s);
		return;
	}
	s->frame->length = (uint32_t)res;
	checksum_add(s->sum, frame_payload(s->frame), (size_t)res);
	s->end.bytes += (uint64_t)res;
	link_send(s->link, s->frame);
	s->frame = NULL;
	s->events->moved(s->arg, s->end.bytes);
	sender_read(s);
}

int image_sender_open(struct loop *loop, struct link *link, int fd,
		      const struct image_sender_events *events, void *arg,
		      struct image_sender **out)
{
	struct image_sender *s = calloc(1, sizeof(*s));

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
	s->sum = checksum_new();
	if (!s->sum) {
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
	uint8_t bytes[];
};

struct image_receiver {
	struct loop *loop;
	int fd;
	struct loop_op write;
	struct chunk *first;
	struct chunk **last;
	size_t queued;
	uint64_t bytes;
	struct checksum *sum;
	const struct image_receiver_events *events;
	void *arg;
	bool paused;
	bool ended;  /* close the descriptor when all is written */
	bool broken; /* the builder has closed its end */
	bool closed;
};

static void receiver_drop(struct image_receiver *r)
{
	while (r->first) {
		struct chunk *c = r->first;

		r->first = c->next;
		free(c);
	}
	r->last = &r->first;
	r->queued = 0;
}

static void receiver_free(struct image_receiver *r)
{
	receiver_drop(r);
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
		r->queued -= (size_t)res;
		if (c->written == c->length) {
			r->first = c->next;
			if (!r->first)
				r->last = &r->first;
			free(c);
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
	struct image_receiver *r = calloc(1, sizeof(*r));

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
	r->sum = checksum_new();
	if (!r->sum) {
		receiver_free(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

int image_receiver_put(struct image_receiver *r, const uint8_t *bytes,
		       uint32_t length)
{
	struct chunk *c;

	if (r->ended || !length)
		return -EPROTO;
	checksum_add(r->sum, bytes, length);
	r->bytes += length;
	if (r->broken)
		return 0;
	c = malloc(sizeof(*c) + length);
	if (!c)
		return -ENOMEM;
	c->next = NULL;
	c->length = length;
	c->written = 0;
	memcpy(c->bytes, bytes, length);
	*r->last = c;
	r->last = &c->next;
	r->queued += length;
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
