/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes between who serves a disk and the colod that replicates it, besides
 * the ring itself (ring.h).
 *
 * The control socket (names.h): colod connects and sends a ring's descriptor
 * with one byte, enum disk_control_ask; a struct disk_control_answer comes
 * back. The ring is used until the connection ends, or another colod asks.
 *
 * The *missed* changes: a count in a file beside the socket
 * (RUN_DIR/disks/NAME.missed, which stays), mapped by both; it begins anywhere.
 * A change of the storage that has not gone into a ring is counted before it is
 * answered, so colod knows from a look whether its ring has all that the guest
 * believes to be done.  A connection cannot tell it that: the server may have
 * been killed, started anew and written to, all while this colod did not run.
 */
#ifndef RESUME_DISK_CONTROL_H
#define RESUME_DISK_CONTROL_H

#include <stdatomic.h>
#include <stdint.h>

enum disk_control_ask {
	DISK_CONTROL_NEW,   /* nothing was read of the disk, nor of the ring */
	DISK_CONTROL_AGAIN, /* it was in use by a server that is no more */
};

struct disk_control_answer {
	uint32_t err; /* 0 or an errno */
	uint32_t reserved;
	uint64_t
		missed; /* changes, at the moment when the ring came into use */
};

/* --- colod's end ---------------------------------------------------------- */

/*
 * Passes the ring, and returns the connection.  -ENOTCONN: the disk is not
 * served; -ETIMEDOUT; what the server says.
 */
int disk_control_pass(const char *run_dir, const char *name,
		      enum disk_control_ask ask, int ring_fd, uint64_t *missed);

/* --- the server's end ----------------------------------------------------- */

struct disk_control;

struct disk_control_ops {
	/* Takes over ring_fd whatever happens; the ring before is of no use. */
	int (*attach)(void *arg, enum disk_control_ask ask, int ring_fd,
		      uint64_t *missed);
	/* The connection of the ring in use has ended. */
	void (*detach)(void *arg);
};

/* The server is the only one (DISK_HOLDER_SERVER).  A thread calls the ops. */
int disk_control_listen(const char *run_dir, const char *name,
			const struct disk_control_ops *ops, void *arg,
			struct disk_control **out);
/* Without a detach.  NULL is fine. */
void disk_control_close(struct disk_control *c);

/* --- both ------------------------------------------------------------------
 */

/* The server's makes it where there is none; colod's: -ENOENT. */
int disk_missed_make(const char *run_dir, const char *name,
		     _Atomic uint64_t **out);
int disk_missed_find(const char *run_dir, const char *name,
		     _Atomic uint64_t **out);
void disk_missed_unmap(_Atomic uint64_t *missed); /* NULL is fine */

#endif
