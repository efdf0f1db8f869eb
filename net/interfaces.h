/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells of network interfaces that come to this host: a guest's, where one is
 * attached to it while it runs.
 */
#ifndef NET_INTERFACES_H
#define NET_INTERFACES_H

#include "net/loop.h"

struct interface_watch;

/*
 * `came` is called on the loop's thread, once for any number of them, and not
 * for what happens to one that is there.  0, or a negative errno.
 */
int interface_watch_open(struct loop *loop, void (*came)(void *arg), void *arg,
			 struct interface_watch **out);
/* NULL is harmless. */
void interface_watch_close(struct interface_watch *w);

#endif
