/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded guest among the kinds of guests, and `colod guest`. */
#ifndef RESUME_EMBEDDED_KIND_H
#define RESUME_EMBEDDED_KIND_H

#include "resume/guest.h"

extern const struct guest_source_ops guest_embedded_source;
extern const struct guest_standby_ops guest_embedded_standby;

void embedded_probe(guest_fact_fn *fact, void *arg);

/* One line of `colod guest list`. */
struct embedded_entry {
	const char *name;
	const char *workload;
	const char *state;
	const char *tracker;
	const char *gate;
	int pid;
	uint64_t ram_bytes;
	uint64_t steps;
	uint64_t suspends;
	uint64_t late_resumes;
	uint64_t gate_holding;
	bool standby;
	bool held; /* by a colod that lives */
};

void embedded_list(const char *run_dir,
		   void (*one)(void *arg, const struct embedded_entry *e),
		   void *arg);

/*
 * An operator's order to a guest here: poweroff, reboot, crash, destroy, or
 * "set KEY=VALUE ...".  -ENOENT, -EBUSY, -EINVAL with one line in *err.
 */
int embedded_order(const char *run_dir, const char *name, const char *order,
		   struct guest_error *err);

/* The guest's process in the foreground, and the one that colod starts. */
int embedded_run(const char *run_dir, const char *words);
int embedded_serve(const char *run_dir, int argc, char **argv);

#endif
