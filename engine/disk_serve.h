/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `colod disk serve`: sees to it that a disk is served, by nbdkit with our
 * plugin (resume/disk/plugin.c), and that its block device has a server.
 *
 * The happy path: nbdkit is started and answers; the device is attached to it,
 * and DISK_DEVICE_DIR/NAME leads there; whoever started us is told
 * (NOTIFY_SOCKET, sd_notify(3)); at SIGTERM all of that is undone, once nobody
 * uses the disk any more.
 *
 * Failure: an nbdkit that ends, however, is started again, and the device gets
 * a connection to the new one: its users wait and see no error.  An nbdkit that
 * is ended in order answers what is in flight with errors.  So it does not
 * listen to SIGTERM, which it would ask the kernel for at our death and gets
 * from others too, is in no group of ours, and goes on where we were killed;
 * the next `serve` kills it, puts its own in the place, and finds the device by
 * its owner (net/nbd.h).
 *
 * One thread.  RUN_DIR/disks/NAME.lock is held by the one that serves, and says
 * which process its nbdkit is.
 */
#ifndef ENGINE_DISK_SERVE_H
#define ENGINE_DISK_SERVE_H

#include "engine/options.h"

/* Until SIGTERM or SIGINT; an exit status, after one line where it failed. */
int disk_serve(const struct settings *set, const char *name);
/* Ends the `serve` of the disk, or what a killed one has left. */
int disk_detach(const struct settings *set, const char *name);

#endif
