/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the files of a replicated disk are:
 *
 *	DISK_DIR/NAME.disk		what this host knows of it (meta.h)
 *	DISK_DIR/DOMAIN.journal.N	changes not yet on the disks (journal.h)
 *	RUN_DIR/disks/NAME.nbd		where it is served, by NBD
 *	RUN_DIR/disks/NAME.control	where colod asks for its changes
 *	RUN_DIR/disks/NAME.missed	how many changes no ring has (control.h)
 *	RUN_DIR/disks/NAME.lock		who serves it (engine/disk_served.h)
 *	/dev/colod/NAME			the block device of this host
 */
#ifndef RESUME_DISK_NAMES_H
#define RESUME_DISK_NAMES_H

#include <stdbool.h>
#include <stddef.h>

enum {
	DISK_NAME_MAX = 48, /* so that the sockets' paths stay short */
	DISK_PATH_MAX = 512,
};

#define DISK_DEVICE_DIR "/dev/colod"

/* Letters, digits, '.', '_' and '-'; neither '.' nor '-' at the front. */
bool disk_name_good(const char *name);

/*
 * Each writes into path[DISK_PATH_MAX]; -ENAMETOOLONG, in the case of sockets
 * where an address has no room for it.
 */
int disk_meta_path(const char *disk_dir, const char *name, char *path);
int disk_journal_path(const char *disk_dir, const char *domain,
		      unsigned int number, char *path);
int disk_nbd_path(const char *run_dir, const char *name, char *path);
int disk_control_path(const char *run_dir, const char *name, char *path);

/* Which files there are in it is on stable storage. */
int disk_dir_stable(const char *disk_dir);

#endif
