/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Xen domain as source: what its files share.
 *
 *   source.c   finding it, describing it, the table of operations
 *   image.c    the initial image, through libxl
 *   suspend.c  waiting until it has suspended
 *   ask.c      asking it to suspend, in each way, and taking that back
 *   request.c  the event channel that it offers to be asked by
 *   events.c   the event channel that it is told to us by
 *   resume.c   resuming it; slow.c, recycle.c the slow way
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

#include "resume/dirty.h"
#include "resume/holder.h"
#include "resume/xen/memory.h"
#include "resume/xen/model.h"
#include "resume/xen/slow.h"

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
/* Where the guest offers its event channel; the guest's own to write. */
#define XEN_NODE_OFFER "device/suspend/event-channel"

/* Tokens of the watches on s->watch. */
#define XEN_TOKEN_RELEASE "release"
#define XEN_TOKEN_OFFER "offer"

/* libxl is at work: the guest may be suspended, or asked to, by it. */
#define XEN_MARK_IMAGE "image"
/* Asked to suspend and not yet resumed. */
#define XEN_MARK_ASKED "asked"
/* Stopped by the toolstack: never to be resumed with a return code written. */
#define XEN_MARK_FORCED "forced"
/* Running and not asked: whoever suspends it now is not colod. */
#define XEN_MARK_IDLE "idle"
/* A slow resume has begun; the domain is suspended. */
#define XEN_MARK_SLOW "slow"
/*
 * It is to be reset, or has been: a pause of it is ours, and where it is not
 * suspended any more it lacks its new event channels, or others do.
 */
#define XEN_MARK_RESET "reset"
/* Behind any of them: a fast resume is not safe for this guest. */
#define XEN_MARK_NOT_FAST ",slow"

enum { XEN_MARK_BYTES = 24 + HOLDER_BYTES };

/*
 * How long after its request a suspend may come: Linux gives up freezing after
 * 20 s (freeze_timeout_msecs).
 */
#define XEN_LATE_US UINT64_C(30000000)

/* The guest's own event channel, to ask it by. */
struct xen_request {
	bool watched;
	bool changed;	/* since the node was read */
	int offered;	/* its port; 0: none; or a negative errno */
	int local_port; /* where it is bound to, or -1 */
	int lock_fd;	/* libxc's lock, held while it is bound; or -1 */
	int error;	/* why it is not bound though something is offered */
	enum guest_ask told_way; /* what the log said last */
	int told_error;
	int64_t told_until_us; /* no line before that */
};

struct guest_source {
	struct xen_host *host;
	uint32_t domid;
	char name[WIRE_NAME_MAX + 1];
	uint64_t max_gfn; /* as told to the standby */
	struct guest_manner manner;
	bool fast_safe; /* it says that it carries on with return code 1 */
	bool emulated;	/* an HVM domain, else PVH */
	bool pv;	/* neither of them */
	struct xen_model *model; /* of an HVM domain, while it is protected */

	struct xs_handle *watch; /* carries all watches, see XEN_TOKEN_* */
	xenevtchn_handle *evtchn;
	int guest_port; /* or -1 */
	int local_port; /* or -1 */
	bool told;	/* the event of a completion has come */
	struct xen_request request;
	struct guest_phases phases;
	uint64_t hypercalls_told;

	bool marked; /* XEN_NODE_SOURCE is there */
	char holder[HOLDER_BYTES];
	bool suspended;		/* by us, to be resumed by us */
	bool forced;		/* so, without its help: see XEN_MARK_FORCED */
	bool signalled;		/* an event asks it, and cannot be withdrawn */
	bool was_suspended;	/* once: xl's own process for it has left */
	uint64_t late_until_us; /* not 0: a suspend may still come */
	struct xen_slow *slow;	/* or NULL: none was needed yet */
	struct xen_state state; /* when it suspended */

	struct pv_scan *scan; /* of a PV domain; the others: */
	struct xen_memory *memory;
	bool tracking;
	bool proven; /* a capture has seen dirty pages */
	bool stale;  /* pages were lost: a new image is needed */
	xc_hypercall_buffer_t bits_buffer;
	uint64_t *bits; /* log-dirty bitmap, in hypercall memory */
	struct dirty dirty;
	uint64_t *remap; /* one bit a chunk: holes that became memory */
	bool remap_any;
	uint64_t holes; /* dirty frames not to be had, of the last capture */
	uint8_t *context;
	uint32_t context_bytes;
	uint64_t pv_pages; /* a PV domain's, when its image was sent */

	pthread_mutex_t lock;
	int image_fd; /* being written to, or -1 */
	bool cancelled;
	int cancel_fd; /* eventfd, readable once cancelled */
};

/* For one hypercall about an event channel, which is counted. */
static inline xenevtchn_handle *xen_port(struct guest_source *s)
{
	s->host->hypercalls++;
	return s->evtchn;
}

/*
 * source.c.  Finds a domain and looks what it is, without a mark or an event
 * channel; with `free', that is all that may be done with it.
 */
int xen_source_look(const char *words, struct guest_source **out,
		    struct guest_error *err);
void xen_source_free(struct guest_source *s); /* NULL is fine */
/* Whether a living process protects it; one that died may have left its mark.
 */
bool xen_source_held(struct guest_source *s, bool *marked);
int xen_source_mark(struct guest_source *s, const char *word);
/* The mark's value for this word. */
void xen_source_mark_text(const struct guest_source *s, const char *word,
			  char text[XEN_MARK_BYTES]);
bool xen_source_cancelled(struct guest_source *s);

/* image.c */
/* Marks, maps and binds; from here on a rescue acts on this domain. */
int xen_source_prepare_image(struct guest_source *s, struct guest_error *err);
int xen_source_send_image(struct guest_source *s, int fd,
			  struct guest_error *err);

/*
 * events.c: the completion port.  `take` reads what has come and waits for
 * nothing.
 */
int xen_events_open(struct guest_source *s);
void xen_events_close(struct guest_source *s);
void xen_events_take(struct guest_source *s);
void xen_watches_take(struct guest_source *s);
int xen_source_subscribe(struct guest_source *s);
void xen_source_unsubscribe(struct guest_source *s);
int xen_source_bind(struct guest_source *s);
void xen_source_unbind(struct guest_source *s);
/*
 * Around a soft reset, which closes every port of the domain and keeps the
 * subscription: it would name whatever gets that number next.  `before`: all is
 * unbound and unsubscribed, and the guest's offer cleared.  `after`: a new
 * completion port, subscribed; without one, suspends are found by polling.
 * `after_resume`, once the vCPUs run and while the mark still says that a reset
 * is under way: the new port is remembered (XEN_NODE_PORT).  A rescue that
 * finds such a mark removes XEN_NODE_PORT: it may name a port of old.
 */
void xen_events_before_reset(struct guest_source *s);
int xen_events_after_reset(struct guest_source *s);
int xen_events_after_resume(struct guest_source *s);

/* request.c: the guest's own port. */
/* For a guest nobody asks yet: its port, 0: none, or a negative errno. */
int xen_request_offered(struct xen_host *h, uint32_t domid);
int xen_request_watch(struct guest_source *s);
/* Binds what is offered now; costs nothing where nothing has changed. */
void xen_request_follow(struct guest_source *s);
/* Whether an event reaches the guest; if not, it is unbound. */
bool xen_request_alive(struct guest_source *s);
void xen_request_unbind(struct guest_source *s);
/* Unbinds and keeps the lock, where the guest will offer another port soon. */
void xen_request_drop(struct guest_source *s);
/* A line in the log where the way, or the reason for it, is not as before. */
void xen_request_tell(struct guest_source *s, enum guest_ask way);
/* Clears an offer that nobody can use: libxl would fail on it. */
void xen_offer_check(struct guest_source *s);

/* ask.c */
/* 0: asked, or to be waited for; -EBUSY: it is asked for something else. */
int xen_ask(struct guest_source *s);
/* 1: the request was withdrawn; 0: there was none; or a negative errno. */
int xen_withdraw(struct xen_host *h, uint32_t domid);

/* suspend.c */
int xen_source_suspend(struct guest_source *s, uint64_t timeout_us);
/* A suspend that came after its time: resumes the guest.  True if it did. */
bool xen_source_resume_late(struct guest_source *s);
/* Waits for a late suspend that is still possible, and resumes the guest. */
void xen_source_settle(struct guest_source *s);

/* resume.c */
/* Suspended -> running, tried for a while; -ESHUTDOWN where it is neither. */
int xen_resume_fast(struct xen_host *h, uint32_t domid);
/* The same for one that was stopped by force: its registers are left alone. */
int xen_resume_plain(struct xen_host *h, uint32_t domid);
/* Whether its epochs end so. */
bool xen_source_resumes_slowly(const struct guest_source *s);
/* The guest runs: what a slow resume needs to know, and need not look for. */
int xen_source_prepare_slow(struct guest_source *s);
/* Harmless where colod has not suspended it. */
int xen_source_resume_as(struct guest_source *s, enum guest_resume kind);
/* Fast, unless that is not safe: for a suspend that was not for an epoch. */
int xen_source_resume(struct guest_source *s);
/*
 * Its devices are back since a slow resume, and none is just being attached;
 * -ENOTCONN, -ECANCELED.
 */
int xen_source_await_devices(struct guest_source *s, uint64_t end_us);
/*
 * The guest is suspended: -ENOTCONN, and it runs on as if nothing had been
 * asked of it, where it began to connect a device since it was asked.  Another
 * error: it could not be resumed.
 */
int xen_source_check_devices(struct guest_source *s);

/* capture.c */
int xen_source_prepare(struct guest_source *s); /* may be called running */
void xen_source_release(struct guest_source *s);
int xen_source_track(struct guest_source *s, struct guest_error *err);
void xen_source_copy_ahead(struct guest_source *s, struct epoch *e, bool apart);
int xen_source_capture(struct guest_source *s, struct epoch *e);
/* The guest is suspended still, so what was copied is of one moment. */
int xen_source_stood(struct guest_source *s);
/* After a resume: what need not be done while the guest stands still. */
void xen_source_after_resume(struct guest_source *s);

#endif
