/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a guest can be suspended and resumed in the manner that is wanted.
 * Changes nothing of it.
 */
#ifndef RESUME_XEN_ABLE_H
#define RESUME_XEN_ABLE_H

#include "resume/xen/source.h"

/*
 * `held`: another process protects it at the moment, and what it offers cannot
 * be told.  Sets s->fast_safe.  0, -EAGAIN: it cannot, or not yet;
 * -EOPNOTSUPP: not in this manner; each with a sentence in `err`.
 */
int xen_able(struct guest_source *s, bool held, struct guest_error *err);
/* The part of it that the kind of guest decides, whatever its state is. */
int xen_able_kind(struct guest_source *s, struct guest_error *err);

/* It suspends itself when it is asked to, through xenstore. */
bool xen_able_suspends(struct guest_source *s);
/*
 * Whether it has drivers for Xen, to which Xen is to bring events: a guest says
 * how (CALLBACK_IRQ).  Where that cannot be told: yes.
 */
bool xen_takes_events(struct xen_host *h, uint32_t domid);

#endif
