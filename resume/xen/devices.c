/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain's disks and network interfaces (see devices.h).
 *
 * Each device has two watches, whose tokens are its serial number and a side;
 * a state that no event has made doubtful is not read again.
 *
 * Failure modes: a device that is half made or half gone is none yet; an error
 * of xenstore is the caller's, and the list is taken anew the next time.
 */
#include "config.h"

#include "resume/xen/devices.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xen/io/xenbus.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/xen/coming.h"

static const char list_token[] = "list", guest_token[] = "guest";

static void state_path(const char *folder, char *path, size_t bytes)
{
	snprintf(path, bytes, "%s/state", folder);
}

static void token_of(const struct xen_device *v, char side, char *text,
		     size_t bytes)
{
	snprintf(text, bytes, "%u%c", v->serial, side);
}

/* A guest may write anything for its own side: what is no state is none. */
static int read_state(struct xen_devices *d, const char *folder)
{
	char path[XEN_BACKEND_BYTES + 32];
	AUTO_FREE char *text = NULL;
	unsigned int len;

	state_path(folder, path, sizeof(path));
	text = xs_read(d->xs, XBT_NULL, path, &len);
	if (!text || len != 1 || *text < '0' || *text > '9')
		return 0;
	return *text - '0';
}

long xen_devices_number(const struct xen_devices *d, const char *folder,
			const char *node)
{
	char path[XEN_BACKEND_BYTES + 32];
	AUTO_FREE char *text = NULL;
	unsigned int len;
	unsigned long n;
	char *end;

	snprintf(path, sizeof(path), "%s/%s", folder, node);
	text = xs_read(d->xs, XBT_NULL, path, &len);
	if (!text || *text < '0' || *text > '9')
		return -1;
	errno = 0;
	n = strtoul(text, &end, 10);
	return *end || errno || n > UINT32_MAX ? -1 : (long)n;
}

/* What was mapped of a connected frontend counts until its state changes. */
static void set_front(struct xen_devices *d, struct xen_device *v, int state)
{
	d->connections += v->front_state == XenbusStateConnected ||
			  state == XenbusStateConnected;
	v->front_state = state;
}

int xen_device_say(struct xen_devices *d, struct xen_device *v, int state)
{
	const char text = (char)('0' + state);
	char path[XEN_BACKEND_BYTES + 32];

	state_path(v->front, path, sizeof(path));
	if (!xs_write(d->xs, XBT_NULL, path, &text, 1))
		return -errno;
	set_front(d, v, state);
	return 0;
}

static bool watch(struct xen_devices *d, struct xen_device *v, char side)
{
	char path[XEN_BACKEND_BYTES + 32], token[16];

	state_path(side == 'f' ? v->front : v->back, path, sizeof(path));
	token_of(v, side, token, sizeof(token));
	return xs_watch(d->xs, path, token);
}

static void unwatch(struct xen_devices *d, struct xen_device *v)
{
	char path[XEN_BACKEND_BYTES + 32], token[16];

	state_path(v->front, path, sizeof(path));
	token_of(v, 'f', token, sizeof(token));
	xs_unwatch(d->xs, path, token);
	state_path(v->back, path, sizeof(path));
	token_of(v, 'b', token, sizeof(token));
	xs_unwatch(d->xs, path, token);
}

static bool is_connected(const struct xen_device *v)
{
	return v->front_state == XenbusStateConnected &&
	       v->back_state == XenbusStateConnected;
}

void xen_device_read_back(struct xen_devices *d, struct xen_device *v)
{
	v->back_state = read_state(d, v->back);
	v->back_seen = true;
}

static void read_states(struct xen_devices *d, struct xen_device *v)
{
	if (!v->front_seen)
		set_front(d, v, read_state(d, v->front));
	if (!v->back_seen) {
		xen_device_read_back(d, v);
		/* One that comes after its frontend completes the connection.
		 */
		d->connections += v->back_state == XenbusStateConnected;
	}
	v->front_seen = true;
	if (is_connected(v))
		v->awaited = false;
	if (v->awaited || !xen_device_waits(v->front_state, v->back_state))
		v->waits_from_us = 0;
	else if (!v->waits_from_us)
		v->waits_from_us = clock_now_us();
}

/* --- listing ------------------------------------------------------------ */

static struct xen_device *find(struct xen_devices *d, bool vif, int devid)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->list[i].vif == vif && d->list[i].devid == devid)
			return &d->list[i];
	return NULL;
}

static struct xen_device *append(struct xen_devices *d)
{
	struct xen_device *list;
	size_t capacity = d->capacity ? d->capacity * 2 : 4;

	if (d->count == d->capacity) {
		list = realloc(d->list, capacity * sizeof(*list));
		if (!list)
			return NULL;
		d->list = list;
		d->capacity = capacity;
	}
	return memset(&d->list[d->count++], 0, sizeof(*d->list));
}

static bool is_cdrom(struct xen_devices *d, const char *back)
{
	AUTO_FREE char *type = NULL;
	char path[XEN_BACKEND_BYTES + 16];
	unsigned int len;

	snprintf(path, sizeof(path), "%s/device-type", back);
	type = xs_read(d->xs, XBT_NULL, path, &len);
	return type && !strcmp(type, "cdrom");
}

static int add(struct xen_devices *d, bool vif, int devid, const char *back)
{
	struct xen_device *v = append(d);
	const char *kind = vif ? "vif" : "vbd";

	if (!v)
		return -ENOMEM;
	v->cdrom = !vif && is_cdrom(d, back);
	v->vif = vif;
	v->devid = devid;
	v->serial = ++d->serials;
	v->found = true;
	snprintf(v->name, sizeof(v->name), "%s %d", kind, devid);
	snprintf(v->front, sizeof(v->front), "/local/domain/%u/device/%s/%d",
		 d->domid, kind, devid);
	snprintf(v->back, sizeof(v->back), "%s", back);
	/* A watch tells at once that it is there. */
	if (!watch(d, v, 'f') || !watch(d, v, 'b'))
		return -errno;
	return 0;
}

static int take(struct xen_devices *d, bool vif, const char *devid)
{
	char path[96];
	AUTO_FREE char *back = NULL;
	struct xen_device *v;
	unsigned int len;
	int id = atoi(devid);

	snprintf(path, sizeof(path), "/libxl/%u/device/%s/%s/backend", d->domid,
		 vif ? "vif" : "vbd", devid);
	back = xs_read(d->xs, XBT_NULL, path, &len);
	if (!back || len >= XEN_BACKEND_BYTES)
		return 0; /* half made or half gone */
	v = find(d, vif, id);
	if (!v)
		return add(d, vif, id, back);
	v->found = true;
	if (!strcmp(v->back, back))
		return 0;
	unwatch(d, v);
	snprintf(v->back, sizeof(v->back), "%s", back);
	v->front_seen = v->back_seen = false;
	return watch(d, v, 'f') && watch(d, v, 'b') ? 0 : -errno;
}

static int take_kind(struct xen_devices *d, bool vif)
{
	char path[64];
	AUTO_FREE char **ids = NULL;
	unsigned int n = 0;
	int rc = 0;

	snprintf(path, sizeof(path), "/libxl/%u/device/%s", d->domid,
		 vif ? "vif" : "vbd");
	ids = xs_directory(d->xs, XBT_NULL, path, &n);
	for (unsigned int i = 0; ids && i < n && rc == 0; i++)
		rc = take(d, vif, ids[i]);
	return rc;
}

static void note_gone(struct xen_devices *d, const struct xen_device *v)
{
	if (d->gone_count == XEN_GONE_MAX)
		memmove(d->gone[0], d->gone[1],
			sizeof(d->gone[0]) * --d->gone_count);
	memcpy(d->gone[d->gone_count++], v->front, sizeof(v->front));
}

static void drop_gone(struct xen_devices *d)
{
	size_t kept = 0;

	for (size_t i = 0; i < d->count; i++) {
		if (!d->list[i].found) {
			unwatch(d, &d->list[i]);
			note_gone(d, &d->list[i]);
			d->connections++;
		} else {
			d->list[kept++] = d->list[i];
		}
	}
	d->count = kept;
}

void xen_devices_warn_others(struct xen_devices *d)
{
	static const char *const known[] = { "vbd", "vif", "console" };
	AUTO_FREE char **kinds = NULL;
	char path[64], names[128] = "";
	unsigned int n = 0;
	size_t at = 0, k;

	if (!d->listed || d->warned)
		return;
	d->listed = false;
	snprintf(path, sizeof(path), "/libxl/%u/device", d->domid);
	kinds = xs_directory(d->xs, XBT_NULL, path, &n);
	for (unsigned int i = 0; kinds && i < n; i++) {
		for (k = 0; k < 3 && strcmp(kinds[i], known[k]); k++)
			;
		if (k == 3 && at < sizeof(names))
			at += (size_t)snprintf(names + at, sizeof(names) - at,
					       "%s%s", at ? ", " : "",
					       kinds[i]);
	}
	if (!at)
		return;
	d->warned = true;
	log_warn("domain %u has devices that do not come back after a slow"
		 " resume (%s): take them away, or use --resume=fast",
		 d->domid, names);
}

static int list(struct xen_devices *d)
{
	int rc;

	d->changed = false;
	for (size_t i = 0; i < d->count; i++)
		d->list[i].found = false;
	rc = take_kind(d, false);
	if (rc == 0)
		rc = take_kind(d, true);
	if (rc < 0) {
		d->changed = true;
		return rc;
	}
	drop_gone(d);
	d->listed = true;
	return 0;
}

int xen_devices_open(struct xen_host *h, uint32_t domid,
		     struct xen_devices **out)
{
	struct xen_devices *d = calloc(1, sizeof(*d));
	char path[64], module[64];
	int rc = 0;

	if (!d)
		return -ENOMEM;
	d->host = h;
	d->domid = domid;
	d->xs = xs_open(0);
	snprintf(path, sizeof(path), "/libxl/%u/device", domid);
	snprintf(module, sizeof(module), "/local/domain/%u/data/colod-guest",
		 domid);
	if (!d->xs || !xs_watch(d->xs, path, list_token) ||
	    !xs_watch(d->xs, module, guest_token))
		rc = errno ? -errno : -EIO;
	if (rc == 0)
		rc = list(d);
	if (rc == 0)
		rc = xen_devices_update(d);
	if (rc < 0) {
		xen_devices_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

void xen_devices_close(struct xen_devices *d)
{
	if (!d)
		return;
	if (d->xs)
		xs_close(d->xs);
	free(d->list);
	free(d);
}

/* --- events ------------------------------------------------------------- */

static void take_event(struct xen_devices *d, const char *token)
{
	unsigned int serial;
	char side;

	if (!strcmp(token, list_token)) {
		d->changed = true;
		return;
	}
	if (!strcmp(token, guest_token)) {
		d->announced = true;
		return;
	}
	if (sscanf(token, "%u%c", &serial, &side) != 2)
		return;
	for (size_t i = 0; i < d->count; i++) {
		if (d->list[i].serial != serial)
			continue;
		if (side == 'f')
			d->list[i].front_seen = false;
		else
			d->list[i].back_seen = false;
	}
}

void xen_devices_events(struct xen_devices *d)
{
	char **event;

	while ((event = xs_check_watch(d->xs))) {
		take_event(d, event[XS_WATCH_TOKEN]);
		free(event);
	}
}

int xen_devices_update(struct xen_devices *d)
{
	int rc = 0;

	xen_devices_events(d);
	if (d->changed) {
		rc = list(d);
		xen_devices_events(d);
	}
	for (size_t i = 0; i < d->count; i++)
		read_states(d, &d->list[i]);
	return rc;
}

int xen_devices_wait(struct xen_devices *d, uint64_t end_us, int cancel_fd)
{
	struct pollfd p[] = {
		{ .fd = xs_fileno(d->xs), .events = POLLIN },
		{ .fd = cancel_fd, .events = POLLIN },
	};
	uint64_t now_us = clock_now_us();
	uint64_t left_us = end_us > now_us ? end_us - now_us : 0;
	struct timespec t = { .tv_sec = (time_t)(left_us / 1000000),
			      .tv_nsec = (long)(left_us % 1000000) * 1000 };

	if (ppoll(p, 2, &t, NULL) > 0 && p[1].revents)
		return -ECANCELED;
	return 0;
}
