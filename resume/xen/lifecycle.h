/* SPDX-License-Identifier: Apache-2.0 */
/* A domain's configuration and its end, for source and standby alike. */
#ifndef RESUME_XEN_LIFECYCLE_H
#define RESUME_XEN_LIFECYCLE_H

#include "resume/xen/host.h"

/*
 * The mark of a standby: /local/domain/DOMID/colod, set by libxl as it makes
 * the domain, so that no moment is without it.  Its value is the pid and start
 * time of the colod that holds the standby.
 */
#define XEN_NODE_STANDBY "colod"

/*
 * The domain's configuration as libxl keeps it, without what colod added.  The
 * caller calls libxl_domain_config_dispose() on success.
 */
int xen_config_get(struct xen_host *h, uint32_t domid,
		   libxl_domain_config *config, struct guest_error *err);

/* In a configuration that is sent: the version of the domain's QEMU. */
#define XEN_NODE_MODEL "colod-device-model"

/*
 * Sets a node of the domain, one of the above, to `value`; NULL: leaves it out.
 */
int xen_config_note(libxl_domain_config *config, const char *node,
		    const char *value);
/* What is set so, or NULL; the configuration's own. */
const char *xen_config_noted(const libxl_domain_config *config,
			     const char *node);
/* Takes out of it what colod has put there. */
int xen_config_clean(libxl_domain_config *config);
/* The same for what libxl keeps of a domain that has become the guest. */
int xen_config_restore(struct xen_host *h, uint32_t domid);

/* Whether its device model is to wait for a state (incoming.h). */
int xen_config_wait(libxl_domain_config *config, bool wait);

/*
 * Does what the domain's own configuration says to its shutdown.  `wait`: its
 * xl may still be there to do the same; it is given the time to do so.
 */
int xen_after_shutdown(struct xen_host *h, uint32_t domid, const char *name,
		       bool wait, bool *again);

#endif
