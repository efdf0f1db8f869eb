/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payloads of the control frames, encode beside decode.
 *
 * Encoders return a new frame_buf (NULL: no memory).  Decoders read exactly
 * the frame's payload: a payload that is too short, too long, or has a
 * reserved field that is not zero is -EPROTO, with *why a constant text.
 * Names and texts that are decoded are checked to be printable UTF-8 free of
 * control characters, so that they may be logged.
 */
#ifndef STREAM_MESSAGES_H
#define STREAM_MESSAGES_H

#include <stddef.h>
#include <stdint.h>

#include "stream/frame.h"

struct hello {
	uint16_t version;
	enum wire_role role;
	uint32_t payload_max;
	uint32_t inflight_max;
	uint32_t heartbeat_us;
	uint64_t features;
	uint64_t session;
	char host[WIRE_NAME_MAX + 1];
};

struct frame_buf *hello_encode(const struct hello *h);
/*
 * -EPROTO for a bad magic or layout.  A HELLO of another version is decoded as
 * far as `version` and returned with -EPROTONOSUPPORT: the layout behind it
 * may differ.
 */
int hello_decode(const struct frame *f, struct hello *h, const char **why);

/* What the standby is to be built as. */
struct guest_description {
	enum wire_guest_kind kind;
	uint64_t ram_bytes;
	uint64_t max_gfn;
	uint8_t uuid[16];
	char name[WIRE_NAME_MAX + 1];
	char *config; /* NUL-terminated, heap; libxl's JSON for a Xen domain */
	size_t config_length; /* without the NUL */
};

struct frame_buf *domain_encode(const struct guest_description *d);
/* On success the caller owns d->config. */
int domain_decode(const struct frame *f, struct guest_description *d,
		  const char **why);
void guest_description_fini(struct guest_description *d);

struct frame_buf *image_end_encode(const struct wire_image_end *e);
int image_end_decode(const struct frame *f, struct wire_image_end *e,
		     const char **why);

struct frame_buf *epoch_end_encode(uint64_t epoch,
				   const struct wire_epoch_end *e);
int epoch_end_decode(const struct frame *f, struct wire_epoch_end *e,
		     const char **why);

/* Acknowledges `epoch`: all of it is stored and its checksum holds. */
struct frame_buf *ack_encode(uint64_t epoch, uint64_t applied);
int ack_decode(const struct frame *f, struct wire_ack *a, const char **why);

struct bye {
	enum wire_reason reason;
	char text[WIRE_TEXT_MAX + 1]; /* may be empty */
};

struct frame_buf *bye_encode(enum wire_reason reason, const char *text);
/* A reason this version does not know is kept as its number. */
int bye_decode(const struct frame *f, struct bye *b, const char **why);
/* Words for people; "unknown reason" for one this version does not know. */
const char *wire_reason_text(enum wire_reason reason);
/* "ENDED", ... */
const char *wire_reason_name(enum wire_reason reason);

#endif
