/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP's congestion control, chosen for a socket: the system's default may be
 * made for the internet, and slow between two hosts on one wire.
 */
#ifndef NET_CONGESTION_H
#define NET_CONGESTION_H

enum { CONGESTION_NAME_BYTES = 16 }; /* TCP_CA_NAME_MAX of linux/tcp.h */

/*
 * Whether this process may choose `name` here (NULL: the system's default),
 * and which that is.  0, -ENOENT where the kernel does not have it, -EPERM
 * where only root may choose it.
 */
int congestion_check(const char *name, char used[CONGESTION_NAME_BYTES]);

/* For a socket, also a listening one for those that it accepts. */
int congestion_set(int fd, const char *name);

#endif
