/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to the world from outside: processes, hosts, operators. */
#include "config.h"

#include <string.h>

#include "tests/sim/world.h"

/* Nothing of the process is left; its fence command runs on. */
static void process_is_gone(struct world *w, unsigned int host, bool silently)
{
	struct sim_host *h = &w->host[host];

	h->colod = h->stopped = h->finishing = false;
	h->job_count = 0;
	memset(h->timers, 0, sizeof(h->timers));
	if (h->fence.runs)
		h->fence.orphan = true;
	if (host == A) {
		w->encode_count = 0;
	} else {
		w->stored_us = 0;
		w->not_building = w->image_open = w->pending = false;
	}
	link_vanish(w, host, silently);
}

void sim_start(struct world *w, unsigned int host)
{
	struct sim_host *h = &w->host[host];

	if (!h->up || h->colod)
		return;
	/*
	 * A primary needs a guest, and its name's lock, which its guard, or a
	 * colod that waits for a late suspend, holds; not one that has yielded.
	 */
	if (host == A &&
	    (!h->guest.exists || h->guest.paused ||
	     h->guest.status != GUEST_RUNNING || h->guest.rescue_at_us ||
	     h->guest.late_at_us || w->gate.mode == GATE_DROPS))
		return;
	sim_trace(w, "colod is started on %c", host == A ? 'a' : 'b');
	h->colod = true;
	if (host == A)
		a_start(w);
	else
		b_start(w);
}

void sim_crash(struct world *w, unsigned int host)
{
	struct sim_host *h = &w->host[host];

	if (!h->up || !h->colod)
		return;
	sim_trace(w, "colod dies on %c", host == A ? 'a' : 'b');
	process_is_gone(w, host, false);
	if (host == A && (h->guest.suspended || h->guest.late_at_us))
		h->guest.rescue_at_us = sim_in(w, (uint64_t)w->cfg.guard_us);
}

void sim_ended(struct world *w, unsigned int host, int exit_status)
{
	w->host[host].exit_status = exit_status;
	sim_trace(w, "colod ends on %c with %d", host == A ? 'a' : 'b',
		  exit_status);
	process_is_gone(w, host, false);
	/* source.close() waits for a late suspend and resumes it. */
	if (host == A && w->host[A].guest.suspended)
		w->host[A].guest.rescue_at_us = sim_in(w, 0);
}

void sim_continue(struct world *w, unsigned int host)
{
	struct sim_host *h = &w->host[host];

	if (h->stopped && h->guest.late_since_us)
		h->guest.late_since_us = w->now_us; /* nobody could look */
	h->stopped = false;
}

void sim_power_off(struct world *w, unsigned int host)
{
	struct sim_host *h = &w->host[host];

	if (!h->up)
		return;
	sim_trace(w, "host %c is down", host == A ? 'a' : 'b');
	process_is_gone(w, host, true);
	h->up = false;
	memset(&h->fence, 0, sizeof(h->fence));
	memset(&h->guest, 0, sizeof(h->guest));
	if (host == A)
		memset(&w->gate, 0, sizeof(w->gate));
	else
		memset(&w->twin, 0, sizeof(w->twin));
}

void sim_power_on(struct world *w, unsigned int host)
{
	w->host[host].up = true;
}

void sim_guest_ends(struct world *w, unsigned int host, enum guest_status s)
{
	struct sim_host *h = &w->host[host];

	if (!guest_runs(h))
		return;
	sim_trace(w, "the guest on %c: %s", host == A ? 'a' : 'b',
		  guest_status_text(s));
	h->guest.status = s;
	if (s == GUEST_GONE)
		h->guest.exists = false;
	if (s != GUEST_REBOOT)
		w->ended = true;
}

void sim_operator(struct world *w, unsigned int host, enum event_type type)
{
	const struct event e = { .type = type };

	if (w->host[host].colod && !w->host[host].stopped)
		sim_event(w, host, &e);
}
