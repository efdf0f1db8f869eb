/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Xen domain as standby: what its files share.
 *
 *   build.c    the twin, from a description and an image; its remains
 *   incoming.c its device model
 *   standby.c  epochs into it, activation, the table of operations
 */
#ifndef RESUME_XEN_STANDBY_H
#define RESUME_XEN_STANDBY_H

#include "resume/xen/host.h"
#include "resume/xen/memory.h"
#include "resume/xen/model.h"
#include "resume/xen/pv/twin.h"

/* Behind the guest's name until it is activated. */
#define XEN_STANDBY_SUFFIX "--standby"

struct guest_standby {
	struct xen_host *host;
	uint32_t domid;
	char name[WIRE_NAME_MAX + 1];  /* the guest's own */
	char twin[WIRE_NAME_MAX + 16]; /* with the suffix */
	uint64_t max_gfn;
	struct xen_memory *memory; /* NULL once activated */
	uint8_t *context;	   /* HVM context of the last epoch */
	uint32_t context_bytes;	   /* 0: the image's own is loaded */
	uint32_t context_capacity;
	struct pv_twin *pv;	 /* a PV domain: this and no memory */
	bool emulated;		 /* an HVM domain */
	struct xen_model *model; /* of one: waits for its state */
	uint8_t *devices;	 /* that state, as the record of an epoch */
	uint32_t devices_bytes;
	bool broken; /* an epoch was applied in part */
	bool activated;
	bool settled; /* libxl knows it as the guest and nothing else */
};

void xen_standby_free(struct guest_standby *s);
int xen_standby_build(const struct guest_description *d, const char *run_dir,
		      int fd, struct guest_standby **out,
		      struct guest_error *err);
int xen_standby_sweep(const char *run_dir);

#endif
