/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device model of an HVM domain: the QEMU process in domain 0 that is the
 * machine around it.  Its state belongs to an epoch as that of the vCPUs does.
 *
 * Spoken with by the second of the two QMP sockets that libxl has made: while
 * the first is taken, libxl itself waits (20 s, then it fails).
 * One thread at a time.
 */
#ifndef RESUME_XEN_MODEL_H
#define RESUME_XEN_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/guest.h"

/*
 * What stands before the state in a record: the version that wrote it, padded
 * with zeros, and the state's length (u32, little-endian), for where a state
 * ends only QEMU could tell.  QEMU promises to read what an older one wrote, of
 * the same machine type, and says so only by failing; here both must be the
 * same.
 */
enum { XEN_MODEL_VERSION_BYTES = 28, XEN_MODEL_HEAD_BYTES = 32 };

struct xen_model;

/*
 * -ENOENT, -ECONNREFUSED: it is not there (yet); -ETIMEDOUT: it does not answer
 * by `end_us`, or something else talks with it.
 */
int xen_model_open(uint32_t domid, uint64_t end_us, struct xen_model **out,
		   struct guest_error *err);
/* The same at another socket than libxl's. */
int xen_model_open_at(const char *path, uint32_t domid, uint64_t end_us,
		      struct xen_model **out, struct guest_error *err);
void xen_model_close(struct xen_model *m); /* NULL is fine */
const char *xen_model_version(const struct xen_model *m);

/*
 * Whether it tells Xen of what it writes to the guest's memory: on before
 * log-dirty mode is.  Off only where this has switched it on: QEMU 7.2 aborts
 * where it is off already (memory_global_dirty_log_do_stop()).
 */
int xen_model_track(struct xen_model *m, bool on);

/*
 * The guest runs: does it answer?  What it was too slow for is over then.  To
 * be asked before a pause, in which a guest would wait for it.
 */
int xen_model_ready(struct xen_model *m, uint64_t end_us);
/* 1: its devices run; 0: they are stopped; or a negative errno. */
int xen_model_runs(struct xen_model *m, uint64_t end_us);
/* Whether its process is there, as far as that is seen without asking. */
bool xen_model_alive(struct xen_model *m);

/*
 * The domain is suspended: the devices are stopped and their state taken, by
 * `end_us`.  A negative errno: nothing was taken; thaw as after a success.
 */
int xen_model_freeze(struct xen_model *m, uint64_t end_us);
/* Somebody else has stopped them: libxl, for its own copy of their state. */
void xen_model_was_stopped(struct xen_model *m);
/*
 * Before the domain runs again; harmless where they run.  Where it fails the
 * domain may run all the same; to be tried again then.
 */
int xen_model_thaw(struct xen_model *m);
/*
 * Whether it was seen to run, or never stopped: closed before that it would
 * forget that it was told to.  May wait for its answer.
 */
bool xen_model_left(struct xen_model *m);
/* A record's body of the state taken last: its size; written to `body`. */
uint32_t xen_model_record_bytes(const struct xen_model *m);
void xen_model_record(const struct xen_model *m, uint8_t *body);

void xen_model_head(uint8_t *body, const char *version, uint32_t state_bytes);

/* Whether a record's body has all of a state. */
bool xen_model_whole(const uint8_t *body, uint32_t bytes);
/*
 * On the other side, where it waits for a state.  A record's body is checked
 * before it is kept: -EPROTO with what is wrong in `why`.
 */
int xen_model_check(const struct xen_model *m, const uint8_t *body,
		    uint32_t bytes, const char **why);
/*
 * Loads such a body and returns when the devices run.  It can be loaded once; a
 * further call waits for what became of that.
 */
int xen_model_load(struct xen_model *m, const uint8_t *body, uint32_t bytes,
		   struct guest_error *err);

#endif
