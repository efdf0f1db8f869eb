/* SPDX-License-Identifier: Apache-2.0 */
/* What the log says of the memory that a guest's netfront loses (hold.h). */
#ifndef RESUME_XEN_LOSS_H
#define RESUME_XEN_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What keeps the memory of a guest with a network interface. */
enum xen_cure {
	XEN_CURE_NOT_NEEDED, /* no interface, or a netfront without the fault */
	XEN_CURE_MODULE,
	XEN_CURE_HOLD,
	XEN_CURE_NONE,
};

struct xen_loss {
	enum xen_cure cure;
	bool module;	      /* is in the guest, whether it cures or not */
	unsigned int queues;  /* receive queues of all interfaces */
	unsigned int unheld;  /* of which the hold cannot take so many */
	uint64_t interval_ms; /* of the resumes; 0: not known */
};

bool xen_loss_same(const struct xen_loss *a, const struct xen_loss *b);
/* Memory is lost: the line is a warning. */
bool xen_loss_any(const struct xen_loss *l);
/* A sentence that begins behind the guest's name and a colon. */
void xen_loss_text(const struct xen_loss *l, char *text, size_t bytes);

#endif
