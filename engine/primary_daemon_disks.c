/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the primary's daemon does for the replicated disks besides its jobs: it
 * has noted what their metas must say, and makes a checkpoint due where one is
 * written to faster than they come.
 */
#include "config.h"

#include "base/clock.h"
#include "engine/primary_daemon_impl.h"

enum { RINGS_US = 20 * 1000 };

/* --- notes, which wait for a storage: on the encoder's thread ------------- */

static void note_run(void *arg)
{
	struct primary_daemon *pd = arg;

	if (atomic_exchange(&pd->note_synced, false))
		primary_disks_synced(&pd->disks);
	if (atomic_exchange(&pd->note_alone, false))
		primary_disks_alone(&pd->disks);
}

static void note_done(void *arg)
{
	struct primary_daemon *pd = arg;

	pd->disks_noting = pd->encoder && (pd->note_synced || pd->note_alone);
	if (pd->disks_noting)
		worker_post(pd->encoder, &pd->disks_note, note_run, note_done,
			    pd);
}

void primary_daemon_note(struct primary_daemon *pd, atomic_bool *what)
{
	atomic_store(what, true);
	if (pd->disks_noting || !pd->encoder)
		return;
	pd->disks_noting = true;
	worker_post(pd->encoder, &pd->disks_note, note_run, note_done, pd);
}

/* --- rings -----------------------------------------------------------------
 */

static void look_at_rings(void *arg)
{
	static const struct event due = {
		.type = EVENT_TIMER,
		.timer = ENV_TIMER_EPOCH,
	};
	struct primary_daemon *pd = arg;

	if (pd->machine.state == PRIMARY_PROTECTED &&
	    primary_disks_filling(&pd->disks))
		primary_event(&pd->machine, &due);
	loop_timer_start(pd->d.loop, &pd->rings, clock_now_us() + RINGS_US);
}

/* They may have been attached since the one before. */
void primary_daemon_disks_synced(struct primary_daemon *pd)
{
	if (!pd->disks.count)
		return;
	primary_gated(&pd->machine);
	pd->rings.fn = look_at_rings;
	pd->rings.arg = pd;
	if (!pd->rings.armed)
		look_at_rings(pd);
}
