/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs inside an embedded guest.
 *
 * A workload lives in the guest's memory and in its vCPU's registers and
 * nowhere else: between two steps the guest may be stopped, copied, and go on
 * in another process.  The memory is zero when it boots.  Guest's vCPU threads.
 */
#ifndef RESUME_EMBEDDED_WORKLOAD_H
#define RESUME_EMBEDDED_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "resume/embedded/control.h"

/* What a vCPU sees. */
struct workload_view {
	const struct embedded_spec *spec;
	uint8_t *memory;
	uint64_t bytes;
	unsigned int vcpu; /* 0.. */
	uint64_t *reg;	   /* EMBEDDED_REGISTERS */
	bool notify;	   /* set by a step: the backend has something to do */
};

struct workload {
	bool device; /* it has a frontend, so it needs a backend */
	/*
	 * What it takes from this host into its memory, before a boot; never in
	 * a twin.  vCPU 0 alone; may be NULL.  One line in *err.
	 */
	int (*load)(struct workload_view *v, struct guest_error *err);
	/* Before the first step; for each vCPU, vCPU 0 first. */
	void (*boot)(struct workload_view *v);
	/* One step.  False: it waits for an event. */
	bool (*step)(struct workload_view *v);
	/* Return code 0: the devices are new.  vCPU 0 alone; may be NULL. */
	void (*reconnect)(struct workload_view *v);
	/* How many steps a second, or 0: as many as it can. */
	uint32_t (*rate)(const struct embedded_spec *s);
};

extern const struct workload workload_ledger;
extern const struct workload workload_dirty;
extern const struct workload workload_replay;

#endif
