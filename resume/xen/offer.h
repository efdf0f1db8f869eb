/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest writes into device/suspend/event-channel to say by which event
 * channel it may be asked to suspend.  The guest owns the node: whatever it
 * holds is to be expected.  Pure.
 */
#ifndef RESUME_XEN_OFFER_H
#define RESUME_XEN_OFFER_H

#include <stddef.h>

/* FIFO event channels have 2^17 ports, port 0 is never used. */
enum { XEN_PORT_LIMIT = 1 << 17 };

/*
 * The port that `text` of `bytes` bytes offers, in plain decimal; 0: it offers
 * none, being empty; -EINVAL: it is no port.
 */
int xen_offer_parse(const char *text, size_t bytes);

#endif
