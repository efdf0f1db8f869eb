/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock that Xen's tools hold while they use a guest's suspend event
 * channel: the file, and the way of locking it, of libxenguest
 * (tools/libs/guest/xg_suspend.c), so that colod and `xl save' keep each other
 * out.
 *
 * It is a POSIX record lock: it belongs to the process, not to the descriptor.
 * A dead owner holds nothing, whatever file it left.  But within one process it
 * keeps nobody out, and any close of that file drops it: it must not be held
 * where libxl, in this process, is about to take it.  Any thread.
 */
#ifndef RESUME_XEN_LOCK_H
#define RESUME_XEN_LOCK_H

#include <stdint.h>

/* XEN_RUN_DIR of the tools; Debian's, and the default of Xen's configure. */
#define XEN_RUN_DIR "/var/run/xen"

/* The descriptor that holds it; -EBUSY: another process does. */
int xen_suspend_lock(const char *dir, uint32_t domid);
/* Drops it and closes `fd`; -1 is fine. */
void xen_suspend_unlock(const char *dir, uint32_t domid, int fd);

#endif
