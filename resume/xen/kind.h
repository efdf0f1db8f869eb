/* SPDX-License-Identifier: Apache-2.0 */
/* The parts that guest_xen is put together from. */
#ifndef RESUME_XEN_KIND_H
#define RESUME_XEN_KIND_H

#include "resume/guest.h"

extern const struct guest_source_ops guest_xen_source;	 /* source.c */
extern const struct guest_standby_ops guest_xen_standby; /* standby.c */
int xen_rescue(const char *words, const char *run_dir,
	       uint64_t patience_us);		/* rescue.c */
void xen_probe(guest_fact_fn *fact, void *arg); /* probe.c */
int xen_examine(const char *words, guest_fact_fn *fact, void *arg,
		struct guest_error *err); /* examine.c */

#endif
