/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend of an embedded guest's disk: carries out what the frontend asks
 * (memory.h), one request after the other, at whoever serves the disk on this
 * host, by NBD.
 *
 * Where that one dies, refuses or fails, it is connected to anew and the
 * request is issued again, for as long as it takes: the guest sees no errors,
 * it waits. Nothing blocks but disk_backend_prove().
 *
 * The backend's thread, while the guest runs: what is answered while it stands
 * still is told when it runs again, so its memory stays of one moment.
 */
#ifndef RESUME_EMBEDDED_DISK_H
#define RESUME_EMBEDDED_DISK_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "resume/guest.h"

struct disk_backend;

/* Not yet connected. */
int disk_backend_open(const char *run_dir, const char *name,
		      struct disk_backend **out, struct guest_error *err);
/* A guest's own ends with its process.  NULL is fine. */
void disk_backend_close(struct disk_backend *d);
/* -ENOTCONN: it is not served, and was not within `patience_us`. */
int disk_backend_prove(struct disk_backend *d, uint64_t patience_us,
		       struct guest_error *err);

/* What to poll for; returns within how many ms a turn is due, or -1. */
int disk_backend_wants(const struct disk_backend *d, struct pollfd *p);
/* True: the frontend has an answer. */
bool disk_backend_turn(struct disk_backend *d, uint8_t *memory, uint64_t bytes);

/*
 * The frontend is a new one (return code 0).  A request that was issued for the
 * one before is waited for, in front of all others: it may still change the
 * disk.
 */
void disk_backend_renew(struct disk_backend *d);
/* The guest stands still for good: lets go of the disk. */
void disk_backend_pull(struct disk_backend *d);

#endif
