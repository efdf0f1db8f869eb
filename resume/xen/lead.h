/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps libxl from a stream that fails within its first bytes.
 *
 * libxl 4.17 starts the helper that carries memory when the first record has
 * passed.  Where the stream fails before that, either way, it ends the helper
 * that was never started, and calls a callback that was never set: the process
 * dies of it (libxl_save_callout.c, libxl__save_helper_abort()).  A link that
 * breaks just then is enough, or a peer that sends anything else.
 */
#ifndef RESUME_XEN_LEAD_H
#define RESUME_XEN_LEAD_H

/* Header and first record of docs/specs/libxl-migration-stream. */
#include <stdint.h>

enum { XEN_LEAD_BYTES = 24 };
extern const uint8_t xen_lead[XEN_LEAD_BYTES];

/*
 * Waits until a stream's first bytes can be read from the socket, and leaves
 * them there.  -EPIPE: it ended before, also by shutdown(); -EPROTO: they are
 * those of something else.
 */
int xen_lead_await(int fd);

struct xen_lead_relay;

/*
 * A pipe for libxl to write to, which a thread carries on to `fd`, a blocking
 * socket that stays the caller's.  Where that breaks, the pipe breaks too, but
 * not before libxl has written its first bytes.  SIGPIPE is blocked.
 */
int xen_lead_relay_start(int fd, struct xen_lead_relay **out);
int xen_lead_relay_fd(const struct xen_lead_relay *r);
/* When libxl is done: 0 once all has been passed on, or a negative errno. */
int xen_lead_relay_finish(struct xen_lead_relay *r);

#endif
