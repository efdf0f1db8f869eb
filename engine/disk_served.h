/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `colod disk serve` knows of the disk that it serves: for its own files.
 *
 *   disk_serve.c   what happens, and what is done about it; the device
 *   disk_nbdkit.c  nbdkit's life and death
 *   disk_place.c   where everything is, and who has it
 */
#ifndef ENGINE_DISK_SERVED_H
#define ENGINE_DISK_SERVED_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/options.h"
#include "net/nbd.h"
#include "resume/disk/meta.h"

enum { SERVED_OWNER_BYTES = DISK_PATH_MAX + DISK_NAME_MAX + 16 };

struct served {
	const char *name;
	bool device;
	char disk_dir[PATH_MAX], run_dir[PATH_MAX]; /* from / on */
	char nbd_path[DISK_PATH_MAX], control_path[DISK_PATH_MAX];
	char lock_path[DISK_PATH_MAX], link[DISK_PATH_MAX];
	char owner[SERVED_OWNER_BYTES]; /* of the device (net/nbd.h) */
	char plugin[PATH_MAX + 64];
	struct disk_meta *meta;

	int lock, signals;
	pid_t pid; /* nbdkit's; 0: none */
	uint64_t started_us, ended_us;
	uint64_t back_off_ms;
	int index;	/* of the device, or negative */
	int connection; /* ours of the one that the kernel has, or -1 */
	bool connected; /* nbdkit answers, and has the device */
	bool dying;	/* it was killed */
	bool told;	/* that it is served, the first time */
	bool warned, ending;
	int said;			/* the last error, said once */
	char said_users[NBD_WHO_BYTES]; /* for whom the end waits */
	int status;			/* EXIT_FAILED: could not start */
};

/* Before it is served, the one line of a command; later one of the log. */
void served_complain(struct served *d, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* --- disk_place.c: 0, or an errno after a complaint ----------------------- */

/* Finds the disk, and changes nothing but the run directory. */
int served_find(struct served *d, const struct settings *set, const char *name);
void served_close(struct served *d);

/* Until the process ends.  -EBUSY: another has it. */
int served_lock(struct served *d);
/* The process that serves the disk, 0: none, or an errno (no complaint). */
pid_t served_holder(const struct served *d);
/* A process that is about to be nbdkit leaves word of itself. */
void served_sign(const struct served *d);
/* The nbdkit that whoever had the lock before has left alive, or 0. */
pid_t served_left(const struct served *d);

/* With the lock: nothing is left of who served it. */
void served_clean(const struct served *d);

/* The link of a device that another --disk-dir's disk of that name has. */
bool served_link_is_foreign(const struct served *d);
/* 0 or an errno (no complaint). */
int served_make_link(const struct served *d);

/* Who uses the disk at this moment. */
bool served_in_use(const struct served *d, char who[NBD_WHO_BYTES]);

/* --- disk_nbdkit.c -------------------------------------------------------- */

void served_start(struct served *d);
/* It has ended, which is waited for; `status` as of waitpid(2). */
void served_ended(struct served *d, int status);
/* Ends it by this signal, and waits for that. */
void served_stop(struct served *d, int signal);
/* The kernel has no connection to it any more. */
void served_disconnect(struct served *d);
/*
 * The nbdkit that a killed `serve` has left is gone.  -EBUSY, after a
 * complaint: somebody else serves the disk.
 */
int served_kill_left(struct served *d);

#endif
