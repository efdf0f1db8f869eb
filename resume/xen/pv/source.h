/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PV domain as source: what differs from the others.  The operations are
 * those of struct guest_source_ops; unlike that of other kinds, its capture
 * allocates, for libxenguest does.
 */
#ifndef RESUME_XEN_PV_SOURCE_H
#define RESUME_XEN_PV_SOURCE_H

#include "resume/xen/source.h"

int xen_pv_send_image(struct guest_source *s, int fd, struct guest_error *err);
int xen_pv_track(struct guest_source *s, struct guest_error *err);
int xen_pv_capture(struct guest_source *s, struct epoch *e);

#endif
