/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initial image between a guest's descriptor and the link.
 *
 * The sender reads what the guest's side writes and makes IMAGE frames of it,
 * no faster than the link carries them.  The receiver writes what is in them to
 * the descriptor that the standby is built from, and says when the link has to
 * be paused because the builder lags.  Both live on the event loop; both are
 * closed by *_close(), which frees them once their operations have ended.
 */
#ifndef ENGINE_IMAGE_H
#define ENGINE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "net/link.h"
#include "net/loop.h"

struct image_sender;
struct image_receiver;

struct image_sender_events {
	/* More of it is on its way: bytes read so far. */
	void (*moved)(void *arg, uint64_t bytes);
	/* It waits for the link to drain, or does so no more. */
	void (*waits)(void *arg, bool waits);
	/*
	 * The guest's side has closed the descriptor, all frames are queued;
	 * *end describes them.  Whether they are a whole image only the
	 * guest's side knows.  NULL: no, for it could not be read to the end.
	 */
	void (*eof)(void *arg, const struct wire_image_end *end);
};

/* Takes over `fd`.  `level`: of zstd, or 0 for no compression. */
int image_sender_open(struct loop *loop, struct link *link, int fd, int level,
		      const struct image_sender_events *events, void *arg,
		      struct image_sender **out);
/* Call when the link has drained. */
void image_sender_drained(struct image_sender *s);
void image_sender_close(struct image_sender *s); /* NULL is fine */

struct image_receiver_events {
	/* The link should be paused, or may go on. */
	void (*pause)(void *arg, bool paused);
};

/* Takes over `fd`. */
int image_receiver_open(struct loop *loop, int fd,
			const struct image_receiver_events *events, void *arg,
			struct image_receiver **out);
/* An IMAGE payload.  -ENOMEM; -EPROTO: malformed, or behind the end; or 0. */
int image_receiver_put(struct image_receiver *r, const uint8_t *payload,
		       uint32_t length);
/*
 * IMAGE_END: compares, then closes the descriptor behind what is queued.
 * -EBADMSG where the image is not what was sent.
 */
int image_receiver_end(struct image_receiver *r,
		       const struct wire_image_end *end);
uint64_t image_receiver_bytes(const struct image_receiver *r);
void image_receiver_close(struct image_receiver *r); /* NULL is fine */

#endif
