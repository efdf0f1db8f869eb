/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and network interfaces over a slow resume (see recycle.h).
 *
 * The happy path, the guest suspended and all devices at once:
 *   - vif: Initialising is written for the frontend; netback goes by itself
 *     through Closing and Closed to InitWait;
 *   - vbd: Closed is written, for blkback heeds Initialising only when it is
 *     Closed itself; when it is, Initialising, and it goes to InitWait.
 *     Closing before Closed would change nothing but the number of events.
 * A frontend left Connected would be a trap: blkback ignores a new one while it
 * is Connected, and the guest then waits for its disk for ever.  The old
 * `ring-ref' and `event-channel' stay: a frontend writes new ones before it
 * says Initialised or Connected, and backends read them no sooner.  `online'
 * stays 1, so that no backend leaves at Closed and no hotplug script runs.
 *
 * Failure modes: a backend that does not follow within BACKEND_US, or a write
 * that fails: the device is replaced (libxl destroys and adds it; the guest
 * finds the new one under the old name).  A device that goes meanwhile is no
 * failure.
 * A device that is not connected again for long after a resume is replaced when
 * the caller says so (xen_devices_replace()).
 */
#include "config.h"

#include "resume/xen/recycle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <xen/io/xenbus.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "resume/xen/coming.h"
#include "resume/xen/replace.h"

/* Long: a device that is made anew costs more than one that is slow. */
#define BACKEND_US UINT64_C(5000000)
#define LOOK_US UINT64_C(500000)

enum step { STEP_NONE, STEP_CLOSING, STEP_OPENING, STEP_READY, STEP_FAILED };

static void move(struct xen_devices *d, struct xen_device *v, int state,
		 enum step step)
{
	int rc = xen_device_say(d, v, state);

	v->step = rc < 0 ? STEP_FAILED : step;
	if (rc < 0)
		log_warn("domain %u: %s: writing its state: %s", d->domid,
			 v->name, strerror(-rc));
}

static void begin(struct xen_devices *d, struct xen_device *v, uint64_t now_us)
{
	v->end_us = now_us + BACKEND_US;
	v->announced = false;
	/* One that the guest has let go is not to be waited for. */
	if (v->front_state == XenbusStateConnected)
		v->awaited = true;
	if (v->back_state == 0 ||
	    xen_device_waits(v->front_state, v->back_state))
		v->step = STEP_READY;
	else if (fault_at(FAULT_SLOW_BACKEND))
		v->step = STEP_FAILED;
	else if (v->back_state == XenbusStateClosed ||
		 (v->vif && v->back_state == XenbusStateConnected))
		move(d, v, XenbusStateInitialising, STEP_OPENING);
	else
		move(d, v, XenbusStateClosed, STEP_CLOSING);
}

/* One step, if the backend has followed; true while there is more to come. */
static bool advance(struct xen_devices *d, struct xen_device *v,
		    uint64_t now_us)
{
	if (v->step == STEP_READY || v->step == STEP_FAILED)
		return false;
	if (v->back_state == 0)
		v->step = STEP_READY; /* taken away */
	else if (v->step == STEP_CLOSING && v->back_state == XenbusStateClosed)
		move(d, v, XenbusStateInitialising, STEP_OPENING);
	else if (v->step == STEP_OPENING &&
		 v->back_state == XenbusStateInitWait)
		v->step = STEP_READY;
	else if (now_us >= v->end_us)
		v->step = STEP_FAILED;
	return v->step == STEP_CLOSING || v->step == STEP_OPENING;
}

static void read_backs(struct xen_devices *d)
{
	for (size_t i = 0; i < d->count; i++)
		if (!d->list[i].back_seen && d->list[i].step != STEP_READY)
			xen_device_read_back(d, &d->list[i]);
}

static uint64_t advance_all(struct xen_devices *d)
{
	uint64_t now_us = clock_now_us(), end_us = 0;

	for (size_t i = 0; i < d->count; i++)
		if (advance(d, &d->list[i], now_us) &&
		    (!end_us || d->list[i].end_us < end_us))
			end_us = d->list[i].end_us;
	return end_us; /* 0: nothing is awaited any more */
}

static int replace(struct xen_devices *d, struct xen_device *v)
{
	int rc;

	log_warn("domain %u: %s: its backend %s does not follow (state %d);"
		 " making the device anew",
		 d->domid, v->name, v->back, v->back_state);
	rc = xen_device_replace(d->host, d->domid, v->vif, v->devid);
	if (rc < 0)
		log_error("domain %u: %s: it could not be made anew: %s; the"
			  " guest is without it: detach it and attach it again"
			  " (xl %s-detach, -attach)",
			  d->domid, v->name, xen_host_why(d->host).text,
			  v->vif ? "network" : "block");
	else
		log_info("domain %u: %s: made anew", d->domid, v->name);
	v->front_seen = v->back_seen = false;
	v->step = STEP_READY;
	d->changed = d->changed || rc < 0;
	return rc;
}

/* Those that have a step to go, until each is ready or was made anew. */
static void follow(struct xen_devices *d)
{
	uint64_t end_us;

	while ((end_us = advance_all(d))) {
		xen_devices_wait(d, end_us, -1);
		xen_devices_events(d);
		read_backs(d);
	}
	for (size_t i = 0; i < d->count; i++)
		if (d->list[i].step == STEP_FAILED)
			replace(d, &d->list[i]);
}

int xen_devices_recycle(struct xen_devices *d)
{
	uint64_t now_us = clock_now_us();
	int rc = xen_devices_update(d);

	if (rc < 0)
		return rc;
	d->forgotten = true; /* by the time it runs */
	for (size_t i = 0; i < d->count; i++)
		begin(d, &d->list[i], now_us);
	rc = fault_at(FAULT_SLOW_CLOSING);
	if (rc == 0)
		follow(d);
	return rc;
}

/* --- connecting on the guest's behalf ----------------------------------- */

/*
 * Of one that was connected, whoever disconnected it: the numbers stay when a
 * device is recycled.
 */
static bool has_ring(const struct xen_devices *d, const struct xen_device *v)
{
	static const char *const of_disk[] = { "ring-ref", "ring-ref0",
					       "queue-0/ring-ref",
					       "queue-0/ring-ref0" };
	static const char *const of_vif[] = { "tx-ring-ref",
					      "queue-0/tx-ring-ref" };
	const char *const *names = v->vif ? of_vif : of_disk;
	size_t n = v->vif ? 2 : 4;

	for (size_t i = 0; i < n; i++)
		if (xen_devices_number(d, v->front, names[i]) >= 0)
			return true;
	return false;
}

/*
 * Backends take up a ring where its last answer is (Linux, BACK_RING_ATTACH()
 * in xen_blkif_map() and xenvif_map_frontend_data_rings()), and closing their
 * end of an event channel left the guest's waiting for another (Xen,
 * evtchn_close()).  The guest sees nothing of it: at a backend's InitWait its
 * drivers, which know themselves Connected, do nothing.
 */
int xen_devices_reconnect(struct xen_devices *d)
{
	uint64_t now_us = clock_now_us();
	int rc = xen_devices_update(d);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < d->count; i++) {
		struct xen_device *v = &d->list[i];

		v->awaited = v->front_state != XenbusStateConnected &&
			     has_ring(d, v);
		v->step = STEP_READY;
		if (v->awaited)
			begin(d, v, now_us);
	}
	follow(d);
	for (size_t i = 0; i < d->count && rc == 0; i++)
		if (d->list[i].awaited &&
		    d->list[i].back_state == XenbusStateInitWait)
			rc = xen_device_say(d, &d->list[i],
					    XenbusStateConnected);
	return rc;
}

/* --- connected again ---------------------------------------------------- */

static bool is_back(const struct xen_device *v)
{
	return !v->awaited || v->back_state == 0;
}

/* It uses another device of the kind, or did before it was recycled. */
static bool has_driver(const struct xen_devices *d, bool vif)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->list[i].vif == vif &&
		    (d->list[i].awaited ||
		     d->list[i].front_state == XenbusStateConnected))
			return true;
	return false;
}

static bool is_coming(const struct xen_devices *d, const struct xen_device *v)
{
	return !v->cdrom && xen_device_coming(v->front_state, v->back_state,
					      clock_now_us() - v->waits_from_us,
					      has_driver(d, v->vif));
}

static bool is_ready(const struct xen_devices *d, const struct xen_device *v)
{
	return is_back(v) && !is_coming(d, v);
}

static bool all_back(const struct xen_devices *d)
{
	for (size_t i = 0; i < d->count; i++)
		if (!is_back(&d->list[i]))
			return false;
	return true;
}

bool xen_devices_connected(const struct xen_devices *d)
{
	for (size_t i = 0; i < d->count; i++)
		if (!is_ready(d, &d->list[i]))
			return false;
	return true;
}

/* Any node of it will do but its state, which the guest may just be writing. */
static void tell_of(struct xen_devices *d, struct xen_device *v)
{
	AUTO_FREE char *value = NULL;
	char path[96];
	unsigned int len;

	snprintf(path, sizeof(path), "%s/backend-id", v->front);
	value = xs_read(d->xs, XBT_NULL, path, &len);
	if (value && xs_write(d->xs, XBT_NULL, path, value, len))
		log_debug("domain %u: told of %s once more", d->domid, v->name);
}

static bool is_there(const struct xen_devices *d, const char *front)
{
	for (size_t i = 0; i < d->count; i++)
		if (!strcmp(d->list[i].front, front))
			return true;
	return false;
}

/*
 * Linux looks whether a node of its devices is there whenever it is told of one
 * (xenbus_dev_changed()); this one comes and goes.
 */
static void tell_of_end(struct xen_devices *d, const char *front)
{
	if (is_there(d, front) || !xs_mkdir(d->xs, XBT_NULL, front))
		return;
	xs_rm(d->xs, XBT_NULL, front);
	log_debug("domain %u: told of the end of %s once more", d->domid,
		  front);
}

/*
 * xenstored forgets what it had to tell a guest whose connection is made anew,
 * as a slow resume does, and Linux lists its devices at boot only: one attached
 * in a pause would stay unknown to it, and one detached known.
 */
static void announce(struct xen_devices *d)
{
	for (size_t i = 0; i < d->count; i++) {
		struct xen_device *v = &d->list[i];

		if (v->announced || v->cdrom || !v->waits_from_us)
			continue;
		v->announced = true;
		tell_of(d, v);
	}
	while (d->forgotten && d->gone_count)
		tell_of_end(d, d->gone[--d->gone_count]);
	d->forgotten = false;
}

/* Time alone makes one that waits not be expected any more. */
static uint64_t patience(const struct xen_devices *d, uint64_t end_us)
{
	uint64_t look_us = clock_now_us() + LOOK_US;

	for (size_t i = 0; i < d->count; i++)
		if (d->list[i].waits_from_us && look_us < end_us)
			return look_us;
	return end_us;
}

int xen_devices_await(struct xen_devices *d, uint64_t end_us, int cancel_fd)
{
	int rc = xen_devices_update(d);

	for (;;) {
		/* One that is back shows that the guest hears again. */
		if (all_back(d))
			announce(d);
		if (rc < 0 || xen_devices_connected(d))
			return rc;
		if (clock_now_us() >= end_us)
			return -ETIMEDOUT;
		rc = xen_devices_wait(d, patience(d, end_us), cancel_fd);
		if (rc == 0)
			rc = xen_devices_update(d);
	}
}

unsigned int xen_devices_replace(struct xen_devices *d)
{
	unsigned int n = 0;

	for (size_t i = 0; i < d->count; i++)
		if (!is_back(&d->list[i]) &&
		    xen_device_backend_owes(d->list[i].front_state,
					    d->list[i].back_state)) {
			replace(d, &d->list[i]);
			n++;
		}
	return n;
}

void xen_devices_missing(const struct xen_devices *d, char *text, size_t bytes)
{
	size_t at = 0;

	*text = '\0';
	for (size_t i = 0; i < d->count && at < bytes; i++)
		if (!is_ready(d, &d->list[i]))
			at += (size_t)snprintf(text + at, bytes - at,
					       "%s%s (frontend %d, backend %d)",
					       at ? ", " : "", d->list[i].name,
					       d->list[i].front_state,
					       d->list[i].back_state);
}
