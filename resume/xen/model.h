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
 * with zeros.  QEMU promises to read what an older one wrote, of the same
 * machine type, and says so only by failing; here both must be the same.
 */
enum { XEN_MODEL_VERSION_BYTES = 32 };

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
 * log-dirty mode is.
 */
int xen_model_track(struct xen_model *m, bool on);

/*
 * The domain is suspended: the devices are stopped and their state taken.  A
 * negative errno: they go on, as soon as it comes to that; nothing was taken.
 */
int xen_model_freeze(struct xen_model *m);
/* libxl has stopped them, and taken their state for itself. */
void xen_model_frozen_by_libxl(struct xen_model *m);
/* Before the domain runs again; harmless where they run. */
void xen_model_thaw(struct xen_model *m);
/* A record's body of the state taken last: its size; written to `body`. */
uint32_t xen_model_record_bytes(const struct xen_model *m);
void xen_model_record(const struct xen_model *m, uint8_t *body);

/*
 * On the other side, where it waits for a state.  A record's body is checked
 * before it is kept: -EPROTO with what is wrong in `why`.
 */
int xen_model_check(const struct xen_model *m, const uint8_t *body,
		    uint32_t bytes, const char **why);
/* Loads such a body, once, and returns when the devices run. */
int xen_model_load(struct xen_model *m, const uint8_t *body, uint32_t bytes,
		   struct guest_error *err);

#endif
