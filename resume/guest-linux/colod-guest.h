/* SPDX-License-Identifier: GPL-2.0 */
/* What the three parts of the module know of each other. */
#ifndef COLOD_GUEST_H
#define COLOD_GUEST_H

#include <linux/types.h>

/* suspend.c: the suspend event channel. */

int colod_suspend_init(void);
void colod_suspend_exit(void);

/*
 * A port is bound and its number is in xenstore, where it is put again if it is
 * not.  May be called at any time in a process that may sleep; 0 or a negative
 * errno.
 */
int colod_suspend_publish(void);

/* The ports of before are gone with the domain they were in. */
void colod_suspend_new_domain(void);

/* The guest is about to stop, all devices are still: requests from here on are
 * new ones.
 */
void colod_suspend_stopping(void);

/* "xenwatch" or "self", for the announcement. */
const char *colod_suspend_how(void);

/* netfront.c: netfront's lost reference. */

/* Fails only for a parameter that is none; without a cure the module is still
 * of use.
 */
int colod_netfront_init(void);
void colod_netfront_exit(void);

/* "cured", "not-needed", "off" or "unknown", for the announcement. */
const char *colod_netfront_how(void);

/* main.c: publishes and announces from a work item, soon. */
void colod_publish_soon(void);

/* One kernel symbol's address, exported or not; 0 where there is none. */
unsigned long colod_function(const char *name);

#endif
