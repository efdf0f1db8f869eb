/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the Xen libraries write to: base/log, at debug level.  Their errors
 * are often half of a sentence about an attempt that is made in another way
 * afterwards; the last one is kept, so that whoever reports a failure to the
 * operator can quote it.  What the libraries themselves call debugging (every
 * hypercall buffer) is dropped.  Any thread.
 */
#include "config.h"

#include "resume/xen/host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"

struct xen_log {
	xentoollog_logger vtable; /* first: the libraries know only this */
	pthread_mutex_t lock;
	char last[700]; /* the longest line and its errno */
};

static void log_message(xentoollog_logger *logger, xentoollog_level level,
			int err, const char *context, const char *fmt,
			va_list ap) __attribute__((format(printf, 5, 0)));

static void log_message(xentoollog_logger *logger, xentoollog_level level,
			int err, const char *context, const char *fmt,
			va_list ap)
{
	struct xen_log *l = (struct xen_log *)logger;
	char text[400];

	if (level <= XTL_DEBUG ||
	    (level < XTL_ERROR && !log_enabled(LOG_LEVEL_DEBUG)))
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	if (level >= XTL_ERROR) {
		AUTO_LOCK(&l->lock);
		snprintf(l->last, sizeof(l->last), "%s%s%s", text,
			 err >= 0 ? ": " : "", err >= 0 ? strerror(err) : "");
	}
	log_debug("%s: %s%s%s", context ? context : "xen", text,
		  err >= 0 ? ": " : "", err >= 0 ? strerror(err) : "");
}

static void log_destroy(xentoollog_logger *logger)
{
	struct xen_log *l = (struct xen_log *)logger;

	pthread_mutex_destroy(&l->lock);
	free(l);
}

xentoollog_logger *xen_log_new(void)
{
	struct xen_log *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->vtable.vmessage = log_message;
	l->vtable.destroy = log_destroy;
	pthread_mutex_init(&l->lock, NULL);
	return &l->vtable;
}

void xen_log_last(xentoollog_logger *log, char *text, size_t bytes)
{
	struct xen_log *l = (struct xen_log *)log;

	AUTO_LOCK(&l->lock);
	snprintf(text, bytes, "%s", l->last);
}
