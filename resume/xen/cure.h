/* SPDX-License-Identifier: Apache-2.0 */
/* Which cure of netfront's lost memory is at work, and what the log says. */
#ifndef RESUME_XEN_CURE_H
#define RESUME_XEN_CURE_H

#include "resume/xen/slow.h"

/*
 * The guest runs and its devices are connected: takes in what its module says,
 * readies the hold for the next slow resume and tells, once and whenever it
 * changes, which cure is at work or how much memory is lost.
 */
void xen_cure_follow(struct xen_slow *w);

#endif
