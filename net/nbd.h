/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block devices of this host whose server is at a Unix socket: the kernel's NBD
 * client, by netlink.
 *
 * The happy path: nbd_load(); nbd_handshake() makes a connection and
 * nbd_attach() hands it to the kernel, with which it stays when this process
 * ends.  A server that was started anew gets a connection by nbd_reattach():
 * requests wait for that, however long, and none fails.
 *
 * A device carries its *owner*, a text that says whose it is, and the kernel
 * compares it: so nbd_find() needs no notes, and nobody else's is touched.
 *
 * The kernel gives a connection up when it ends, and when a request had no
 * answer for NBD_ANSWER_S; both end the descriptor that the caller has kept
 * (POLLHUP).  A server that is late, not dead, may still work on requests that
 * the kernel will repeat: it must be dead before another connection is made.
 *
 * Functions return 0 (or what they say) or a negative errno; any thread.
 */
#ifndef NET_NBD_H
#define NET_NBD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	/*
	 * What was in flight when a server died is repeated after this time:
	 * less than what a slow resume gives a disk to answer all.
	 */
	NBD_ANSWER_S = 4,
	NBD_WHO_BYTES = 160,
};

struct nbd_export {
	uint64_t size;
	uint16_t flags; /* as the server sends them */
};

/* A connection that is ready for requests: its descriptor. */
int nbd_handshake(const char *path, struct nbd_export *out);

/* The kernel's part, as a module where it is one.  -ENOENT: it has none. */
int nbd_load(void);
/*
 * The index of the device, a free one of the kernel's choice.  `fd` stays the
 * caller's.  -EOPNOTSUPP: a kernel that knows of no owners, before 5.14.
 */
int nbd_attach(int fd, const struct nbd_export *e, const char *owner);
/*
 * -EAGAIN: the device still has its old connection; -EINVAL: it is not attached
 * any more, or not this owner's.
 */
int nbd_reattach(int index, int fd, const char *owner);
/* Whoever has it open gets errors: see nbd_used(). */
int nbd_detach(int index);

/* The attached device of this owner.  -ENOENT: none. */
int nbd_find(const char *owner);
/* Its owner, empty where it has none or is not attached. */
void nbd_owner(int index, char *text, size_t room);
/* Who uses it at this moment, as in "NAME is used by ..."; false: nobody. */
bool nbd_used(int index, char who[NBD_WHO_BYTES]);

#endif
