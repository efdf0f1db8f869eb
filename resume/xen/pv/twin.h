/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PV domain as standby: libxl restores it from a stream that goes on.
 *
 * libxl is told that the stream has checkpoints, as in a `xl remus' of its own:
 * it applies what came before one when that one has come, and completes the
 * domain as of the last when the stream ends.  It is fed whole epochs only, so
 * it never sees part of one.  Its page tables are put together, and its devices
 * made, at that end.
 */
#ifndef RESUME_XEN_PV_TWIN_H
#define RESUME_XEN_PV_TWIN_H

#include "resume/xen/host.h"
#include "stream/store.h"

struct pv_twin;

/*
 * Begins a domain of this configuration, which is taken over, and reads its
 * image from `fd'.  On failure nothing is left.
 */
int pv_twin_build(libxl_domain_config *config, uint64_t max_pfn, int fd,
		  struct pv_twin **out, struct guest_error *err);
/* An error means that the twin is fit for pv_twin_close() only. */
int pv_twin_apply(struct pv_twin *t, const struct store *epoch);
/* The domain is complete then, and paused. */
int pv_twin_complete(struct pv_twin *t, struct guest_error *err);
/* Takes the domain away unless it was completed.  NULL is fine. */
void pv_twin_close(struct pv_twin *t);

#endif
