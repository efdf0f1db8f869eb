/* SPDX-License-Identifier: GPL-2.0 */
/* xenwatch.c: work for the xenwatch thread, by way of what xenbus keeps
 * private. */
#ifndef COLOD_XENWATCH_H
#define COLOD_XENWATCH_H

#include <linux/types.h>

struct xenbus_watch;

/* Finds all that is needed, on a kernel whose xenbus is known, or on any. NULL,
 * or a phrase that says what is missing.
 */
const char *xenwatch_find(bool on_any);

/* Makes the xenwatch thread call handle's callback with this path, before all
 * that waits.  The watch is registered.  May sleep; 0 or a negative errno.
 */
int xenwatch_queue(struct xenbus_watch *handle, const char *path);

/* The kernel's own suspend, for the xenwatch thread only. */
void xenwatch_do_suspend(void);

#endif
