/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Xen domain as source: what its files share.
 *
 *   source.c   finding it, describing it, the table of operations
 *   image.c    the initial image, through libxl
 *   suspend.c  asking it to suspend, waiting, resuming
 *   capture.c  dirty pages and CPU state
 *
 * All runs on the guest's worker thread but xen_cancel(), which touches only
 * what `lock` protects.
 */
#ifndef RESUME_XEN_SOURCE_H
#define RESUME_XEN_SOURCE_H

#include <pthread.h>

#include "resume/xen/host.h"

#include <xenevtchn.h> /* behind xenctrl.h, as libxl.h */

#include "resume/xen/holder.h"
#include "resume/xen/memory.h"

/*
 * Nodes below /local/domain/DOMID.  The first says what colod is doing to this
 * domain, for the rescue after colod's death; it is there from send_image to
 * stop_tracking: one of the words below, then who holds it (see holder.h).
 * The second is the event channel that completions of a
 * suspend are told by: a guest's port cannot be closed from outside, so one
 * port is used again and again.
 */
#define XEN_NODE_SOURCE "colod-source"
#define XEN_NODE_PORT "colod-port"

/* libxl is at work: the guest may be suspended, or asked to, by it. */
#define XEN_MARK_IMAGE "image"
/* Asked to suspend and not yet resumed. */
#define XEN_MARK_ASKED "asked"
/* Running and not asked: whoever suspends it now is not colod. */
#define XEN_MARK_IDLE "idle"

enum { XEN_MARK_BYTES = 16 + XEN_HOLDER_BYTES };

struct guest_source {
	struct xen_host *host;
	uint32_t domid;
	char name[WIRE_NAME_MAX + 1];
	uint64_t max_gfn; /* as told to the standby */

	struct xs_handle *watch; /* carries the watch on @releaseDomain */
	xenevtchn_handle *evtchn;
	int guest_port; /* or -1 */
	int local_port; /* or -1 */

	bool marked; /* XEN_NODE_SOURCE is there */
	char holder[XEN_HOLDER_BYTES];
	bool suspended;		/* by us, to be resumed by us */
	bool was_suspended;	/* once: xl's own process for it has left */
	uint64_t late_until_us; /* not 0: a suspend may still come */
	struct xen_state state; /* when it suspended */

	struct xen_memory *memory;
	bool tracking;
	bool proven; /* a capture has seen dirty pages */
	bool stale;  /* pages were lost: a new image is needed */
	size_t bitmap_words;
	xc_hypercall_buffer_t bits_buffer;
	uint64_t *bits;	  /* log-dirty bitmap, in hypercall memory */
	uint64_t *carry;  /* dirty, and no room in the last capture */
	size_t next_word; /* of the bitmap, where the next capture begins */
	uint64_t *remap;  /* one bit a chunk: holes that became memory */
	bool remap_any;
	uint64_t holes; /* dirty frames not to be had, of the last capture */
	uint8_t *context;
	uint32_t context_bytes;

	pthread_mutex_t lock;
	int image_fd; /* being written to, or -1 */
	bool cancelled;
	int cancel_fd; /* eventfd, readable once cancelled */
};

/* source.c */
int xen_source_mark(struct guest_source *s, const char *word);
/* The mark's value for this word. */
void xen_source_mark_text(const struct guest_source *s, const char *word,
			  char text[XEN_MARK_BYTES]);
bool xen_source_cancelled(struct guest_source *s);

/* image.c */
int xen_source_send_image(struct guest_source *s, int fd,
			  struct guest_error *err);

/* suspend.c */
int xen_source_subscribe(struct guest_source *s);
void xen_source_unsubscribe(struct guest_source *s);
int xen_source_bind(struct guest_source *s);
void xen_source_unbind(struct guest_source *s);
int xen_source_suspend(struct guest_source *s, uint64_t timeout_us);
int xen_source_resume(struct guest_source *s);
/* A suspend that came after its time: resumes the guest.  True if it did. */
bool xen_source_resume_late(struct guest_source *s);
/* Waits for a late suspend that is still possible, and resumes the guest. */
void xen_source_settle(struct guest_source *s);
/* 1: the request was withdrawn; 0: there was none; or a negative errno. */
int xen_withdraw(struct xen_host *h, uint32_t domid);
/* Suspended -> running, tried for a while; -ESHUTDOWN where it is neither. */
int xen_resume_fast(struct xen_host *h, uint32_t domid);

/* capture.c */
int xen_source_prepare(struct guest_source *s); /* may be called running */
void xen_source_release(struct guest_source *s);
int xen_source_track(struct guest_source *s, struct guest_error *err);
int xen_source_capture(struct guest_source *s, struct epoch *e);
/* After a resume: what need not be done while the guest stands still. */
void xen_source_after_resume(struct guest_source *s);

#endif
