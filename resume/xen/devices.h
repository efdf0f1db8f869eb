/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain's disks and network interfaces: what there is, and its states.
 *
 * What there is comes from libxl's own part of xenstore, which a guest cannot
 * write.  One handle carries all watches, set while the guest runs, so that in
 * a pause nothing is listed and nothing polled.  One thread at a time.
 *
 * The states are those of xen/include/public/io/xenbus.h.
 */
#ifndef RESUME_XEN_DEVICES_H
#define RESUME_XEN_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resume/xen/host.h"

enum { XEN_BACKEND_BYTES = 160, XEN_FRONTEND_BYTES = 64, XEN_GONE_MAX = 16 };

struct xen_device {
	bool vif;   /* else a vbd */
	bool cdrom; /* which an HVM guest's blkfront leaves alone */
	int devid;
	unsigned int serial;		/* in the tokens of its watches */
	char name[24];			/* "vif 0", for the log */
	char front[XEN_FRONTEND_BYTES]; /* folders in xenstore */
	char back[XEN_BACKEND_BYTES];
	int front_state,
		back_state;	    /* as last read; 0: there is no such node */
	bool front_seen, back_seen; /* no event since it was read */
	bool awaited;	/* was recycled and is not yet connected again */
	bool announced; /* once more, since it was last recycled */
	uint64_t waits_from_us; /* for a driver in the guest; 0: it does not */
	bool found;		/* by the listing that is under way */
	unsigned int step;	/* of the recycling, see recycle.c */
	uint64_t end_us;
};

struct xen_devices {
	struct xen_host *host;
	struct xs_handle *xs;
	uint32_t domid;
	struct xen_device *list;
	size_t count, capacity;
	/* Frontends' folders of devices that went; the last of them. */
	char gone[XEN_GONE_MAX][XEN_FRONTEND_BYTES];
	size_t gone_count;
	bool forgotten; /* xenstored has, what the guest was to be told */
	unsigned int serials;
	/* Grows when a frontend connects or is not so any more, or goes. */
	unsigned int connections;
	bool changed;	/* a device came or went: to be listed anew */
	bool announced; /* data/colod-guest was written, or removed */
	bool listed;	/* since the last look for frontends of other kinds */
	bool warned;	/* of those */
};

/* Lists the devices and watches them; the guest runs. */
int xen_devices_open(struct xen_host *h, uint32_t domid,
		     struct xen_devices **out);
void xen_devices_close(struct xen_devices *d); /* NULL is fine */

/* Takes in what the watches have told; asks xenstore only about that. */
int xen_devices_update(struct xen_devices *d);

/*
 * Warns, once, of frontends that a slow resume does not know how to bring back.
 * Asks xenstore only where devices have come or gone.
 */
void xen_devices_warn_others(struct xen_devices *d);

/*
 * A number that the guest has written for a frontend: 32 bits, or -1 where
 * there is none.
 */
long xen_devices_number(const struct xen_devices *d, const char *folder,
			const char *node);

/* Says the frontend's state on the guest's behalf.  0 or a negative errno. */
int xen_device_say(struct xen_devices *d, struct xen_device *v, int state);

/*
 * In a pause, where nothing but the backends matters: waits for an event, until
 * end_us or, with -ECANCELED, until cancel_fd (or -1) can be read; takes in
 * what is there; reads the state of one backend.
 */
int xen_devices_wait(struct xen_devices *d, uint64_t end_us, int cancel_fd);
void xen_devices_events(struct xen_devices *d);
void xen_device_read_back(struct xen_devices *d, struct xen_device *v);

#endif
