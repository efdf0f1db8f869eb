/* SPDX-License-Identifier: Apache-2.0 */
/* The SUSPEND_CANCEL note of a PV guest's kernel (see resume/xen/note.h). */
#ifndef RESUME_XEN_PV_NOTE_H
#define RESUME_XEN_PV_NOTE_H

#include "resume/xen/host.h"

/* 1: found; 0: not; or a negative errno.  The domain may run. */
int xen_pv_find_note(struct xen_host *h, uint32_t domid);

#endif
