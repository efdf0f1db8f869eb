/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device model of a standby, while libxl builds that.
 *
 * It is started with `-incoming defer' (xen_config_wait()): it sets up nothing
 * before it gets a state, and that is the last one committed.  libxl does not
 * know of such a device model and waits for it to say that it runs, so that is
 * said in its place, by a thread beside the one in which libxl works.
 */
#ifndef RESUME_XEN_INCOMING_H
#define RESUME_XEN_INCOMING_H

#include <stdint.h>

#include "resume/xen/model.h"

struct xen_incoming;

/* `name` is the domain's, which libxl is about to make; it must outlive this.
 */
int xen_incoming_start(const char *name, struct xen_incoming **out);

/*
 * libxl has come back.  0: *model waits for a state, and *body is the image's
 * own, of `*bytes`, as in a record (the caller frees and closes both).
 */
int xen_incoming_finish(struct xen_incoming *in, struct xen_model **model,
			uint8_t **body, uint32_t *bytes,
			struct guest_error *err);

#endif
