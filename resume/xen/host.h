/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This host's Xen as one object holds it: handles of libxc, xenstore and
 * foreign memory, and of libxl once it is asked for.  Every source, standby
 * and rescue opens its own; one thread at a time uses it.
 */
#ifndef RESUME_XEN_HOST_H
#define RESUME_XEN_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xenctrl.h> /* before libxl.h: it asks for the tools' interface */
#include <libxl.h>
#include <xenforeignmemory.h>
#include <xenstore.h>
#include <xentoollog.h>

#include "resume/guest.h"

struct xen_host {
	xentoollog_logger *log;
	xc_interface *xc;
	struct xs_handle *xs;
	xenforeignmemory_handle *fm;
	libxl_ctx *ctx; /* see xen_host_libxl() */
	uint64_t hypercalls;
};

/*
 * -ENODEV: not a Xen host; -EACCES/-EPERM: no privilege; each with a sentence
 * in `err`, which may be NULL.  Says nothing on stderr.
 */
int xen_host_open(struct xen_host **out, struct guest_error *err);
void xen_host_close(struct xen_host *h); /* NULL is fine */

/*
 * The libxl context, made at the first call, or NULL with `err` set.  Leaves
 * SIGCHLD unblocked in the calling thread, for libxl learns of the end of its
 * helpers by it; libxl reaps none but its own children.
 */
libxl_ctx *xen_host_libxl(struct xen_host *h, struct guest_error *err);

/* For one hypercall, which is counted. */
static inline xc_interface *xen_call(struct xen_host *h)
{
	h->hypercalls++;
	return h->xc;
}

/* What a library last complained of, for the end of a sentence. */
struct xen_why {
	char text[200];
};
struct xen_why xen_host_why(const struct xen_host *h);

/* A logger that sends the libraries' chatter to base/log at debug level. */
xentoollog_logger *xen_log_new(void);
/* Copies the last line of level error or worse; "" where there was none. */
void xen_log_last(xentoollog_logger *log, char *text, size_t bytes);

/* A domain as Xen sees it at one moment. */
struct xen_state {
	enum guest_status status;
	bool hvm;      /* PVH or HVM */
	bool emulated; /* HVM: Xen and a device model emulate a machine */
	bool hap;
	bool paused;	     /* by control software */
	unsigned int reason; /* SHUTDOWN_*, where it is shut down */
	uint64_t tot_pages;
	uint64_t cpu_time_ns;
};

/* 0 (a domain that does not exist is GUEST_GONE), or a negative errno. */
int xen_query(struct xen_host *h, uint32_t domid, struct xen_state *st);

/* Finds a running domain by name, or by number.  -ENOENT: there is none. */
int xen_find(struct xen_host *h, const char *words, uint32_t *domid);

/*
 * Xenstore nodes below /local/domain/DOMID.  Reading returns a string from the
 * heap or NULL; writing and removing return 0 or a negative errno.
 */
char *xen_node_read(struct xen_host *h, uint32_t domid, const char *node);
int xen_node_write(struct xen_host *h, uint32_t domid, const char *node,
		   const char *value);
void xen_node_remove(struct xen_host *h, uint32_t domid, const char *node);

/* See struct guest_source_ops. */
size_t xen_nics(struct xen_host *h, uint32_t domid, struct guest_nic *nics);

#endif
