/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `colod guest` does: looking at the guests of a run directory, and giving
 * them orders.  An order goes to the guest's own process; colod, where one
 * protects it, finds out as it would with a domain.
 */
#include "config.h"

#include "resume/embedded/kind.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "resume/embedded/attach.h"

/* A guest stops at its next safe point. */
#define STOP_US UINT64_C(5000000)
#define LOOK_US UINT64_C(2000)

static const char *state_text(const struct embedded_control *c)
{
	switch (embedded_state_of(c)) {
	case EMBEDDED_STATE_RUNNING:
		return "running";
	case EMBEDDED_STATE_RESUMING:
	case EMBEDDED_STATE_SUSPENDED:
		return "suspended";
	case EMBEDDED_STATE_PAUSED:
		return "paused";
	case EMBEDDED_STATE_POWEROFF:
		return "poweroff";
	case EMBEDDED_STATE_REBOOT:
		return "reboot";
	case EMBEDDED_STATE_CRASHED:
		return "crashed";
	default:
		return "unknown";
	}
}

static const char *gate_text(const struct embedded_control *c)
{
	switch (atomic_load(&c->gate_mode)) {
	case EMBEDDED_GATE_OPEN:
		return "open";
	case EMBEDDED_GATE_CLOSED:
		return "closed";
	default:
		return "drop";
	}
}

struct listing {
	const char *run_dir;
	void (*one)(void *arg, const struct embedded_entry *e);
	void *arg;
};

static uint64_t steps_of(const struct embedded_control *c)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < c->vcpu_count; i++)
		n += c->vcpu[i].reg[1];
	return n;
}

static void list_one(void *arg, const char *name, bool standby)
{
	const struct listing *l = arg;
	const struct embedded_control *c;
	struct embedded e;

	if (embedded_attach(l->run_dir, name, standby, &e) < 0)
		return;
	c = e.control;
	l->one(l->arg,
	       &(struct embedded_entry){
		       .name = name,
		       .workload = embedded_workload_name(c->spec.workload),
		       .state = state_text(c),
		       .tracker = embedded_tracker_name(c->tracker),
		       .gate = gate_text(c),
		       .pid = e.pid,
		       .ram_bytes = e.ram_bytes,
		       .steps = steps_of(c),
		       .suspends = atomic_load(&c->suspends),
		       .late_resumes = atomic_load(&c->late_resumes),
		       .gate_holding = atomic_load(&c->gate_holding),
		       .standby = standby,
		       .held = holder_lives(c->holder),
	       });
	embedded_detach(&e);
}

void embedded_list(const char *run_dir,
		   void (*one)(void *arg, const struct embedded_entry *e),
		   void *arg)
{
	struct listing l = { run_dir, one, arg };

	embedded_each(run_dir, list_one, &l);
}

/* Until it stands still, is gone, or has booted anew. */
static int await_end(struct embedded *e, uint32_t resumes)
{
	const struct embedded_control *c = e->control;
	uint64_t end_us = clock_now_us() + STOP_US;

	while (clock_now_us() < end_us) {
		if (embedded_gone(e) ||
		    embedded_state_of(c) > EMBEDDED_STATE_PAUSED ||
		    (atomic_load(&c->resumes) != resumes &&
		     atomic_load(&c->return_code) == 0))
			return 0;
		clock_sleep_us(LOOK_US);
	}
	return -ETIMEDOUT;
}

static int order(struct embedded *e, const char *name, const char *text,
		 struct guest_error *err)
{
	uint32_t resumes = atomic_load(&e->control->resumes);
	int rc;

	if (!strcmp(text, "destroy")) {
		if (holder_lives(e->control->holder)) {
			guest_error_set(err,
					"%s is held by a living colod; end"
					" that with 'colod stop %s'",
					name, name);
			return -EBUSY;
		}
		rc = embedded_destroy(e);
		if (rc < 0)
			guest_error_set(err, "%s does not end: %s", name,
					strerror(-rc));
		return rc;
	}
	rc = embedded_call(e, text, err);
	if (rc < 0 || !strncmp(text, "set ", 4))
		return rc;
	rc = await_end(e, resumes);
	if (rc < 0)
		guest_error_set(err, "%s does not stop", name);
	return rc;
}

int embedded_order(const char *run_dir, const char *name, const char *text,
		   struct guest_error *err)
{
	struct embedded e;
	int rc;

	if (!embedded_name_good(name)) {
		guest_error_set(err, "'%.60s' is not the name of a guest",
				name);
		return -EINVAL;
	}
	rc = embedded_attach(run_dir, name, false, &e);
	/* A twin that nobody holds can be removed, nothing else. */
	if (rc == -ENOENT && !strcmp(text, "destroy"))
		rc = embedded_attach(run_dir, name, true, &e);
	if (rc < 0) {
		guest_error_set(err,
				rc == -ENOENT
					? "there is no guest %s here"
					: "taking hold of guest %s failed",
				name);
		return rc;
	}
	rc = order(&e, name, text, err);
	embedded_detach(&e);
	return rc;
}
