/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a domain that powered off, rebooted or crashed.
 *
 * `xl create` leaves a process behind that does this, but that process goes
 * when it sees the domain suspended; from then on it falls to colod.  One that
 * did not see it, for the domain ran again at once, is still there and does the
 * same as colod at the same time: whoever comes second lets the first one.  The
 * actions are those of xl.cfg(5).  What would need more than destroying and
 * creating (preserve, renaming, core dumps, soft reset) is left to the
 * operator, with a line that says so.  The guest's memory must be unmapped
 * before, or the domain stays a zombie.  The guest's worker thread.
 */
#include "config.h"

#include "resume/xen/lifecycle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#define XL_GRACE_US UINT64_C(3000000)
/* The same, when it was seen to have begun. */
#define XL_AT_WORK_US UINT64_C(30000000)
#define XL_POLL_US UINT64_C(50000)

int xen_config_note(libxl_domain_config *config, const char *node,
		    const char *value)
{
	char **old = config->c_info.xsdata, **kvl;
	size_t n = 0, kept = 0;

	while (old && old[n])
		n += 2;
	kvl = calloc(n + 3, sizeof(*kvl));
	if (!kvl)
		return -ENOMEM;
	for (size_t i = 0; i < n; i += 2) {
		if (!strcmp(old[i], node)) {
			free(old[i]);
			free(old[i + 1]);
			continue;
		}
		kvl[kept++] = old[i];
		kvl[kept++] = old[i + 1];
	}
	free(old);
	config->c_info.xsdata = kvl;
	if (!value)
		return 0;
	kvl[kept] = strdup(node);
	kvl[kept + 1] = strdup(value);
	if (kvl[kept] && kvl[kept + 1])
		return 0;
	free(kvl[kept]);
	free(kvl[kept + 1]);
	kvl[kept] = kvl[kept + 1] = NULL;
	return -ENOMEM;
}

/* The last `-incoming' of several is the one that QEMU follows. */
int xen_config_wait(libxl_domain_config *config, bool wait)
{
	static const char *const words[2] = { "-incoming", "defer" };
	char **list = config->b_info.extra_hvm, **longer;
	size_t n = 0;

	while (list && list[n])
		n++;
	while (n >= 2 && !strcmp(list[n - 2], words[0]) &&
	       !strcmp(list[n - 1], words[1])) {
		free(list[--n]);
		free(list[--n]);
		list[n] = NULL;
	}
	if (!wait)
		return 0;
	longer = realloc(list, (n + 3) * sizeof(*list));
	if (!longer)
		return -ENOMEM;
	config->b_info.extra_hvm = longer;
	longer[n] = strdup(words[0]);
	longer[n + 1] = longer[n] ? strdup(words[1]) : NULL;
	longer[n + 2] = NULL;
	return longer[n + 1] ? 0 : -ENOMEM;
}

const char *xen_config_noted(const libxl_domain_config *config,
			     const char *node)
{
	char **kvl = config->c_info.xsdata;

	for (size_t i = 0; kvl && kvl[i]; i += 2)
		if (!strcmp(kvl[i], node))
			return kvl[i + 1];
	return NULL;
}

int xen_config_clean(libxl_domain_config *config)
{
	int rc = xen_config_note(config, XEN_NODE_STANDBY, NULL);

	if (rc == 0)
		rc = xen_config_note(config, XEN_NODE_MODEL, NULL);
	return rc < 0 ? rc : xen_config_wait(config, false);
}

int xen_config_get(struct xen_host *h, uint32_t domid,
		   libxl_domain_config *config, struct guest_error *err)
{
	libxl_ctx *ctx = xen_host_libxl(h, err);
	int rc = -EIO;

	if (!ctx)
		return rc;
	libxl_domain_config_init(config);
	if (libxl_retrieve_domain_configuration(ctx, domid, config, NULL))
		guest_error_set(err,
				"the configuration of domain %u cannot be"
				" had from libxl: %s; was it made by xl?",
				domid, xen_host_why(h).text);
	else
		rc = xen_config_clean(config);
	if (rc < 0)
		libxl_domain_config_dispose(config);
	return rc;
}

/* Where libxl keeps the configuration of a domain, as JSON. */
static const char userdata[] = "libxl-json";

static int rewrite(libxl_ctx *ctx, uint32_t domid, libxl_domain_config *config,
		   const char *json)
{
	AUTO_FREE char *text = NULL;

	if (libxl_domain_config_from_json(ctx, config, json) ||
	    xen_config_clean(config))
		return -EIO;
	text = libxl_domain_config_to_json(ctx, config);
	if (!text ||
	    libxl_userdata_store(ctx, domid, userdata, (const uint8_t *)text,
				 (int)strlen(text) + 1))
		return -EIO;
	return 0;
}

int xen_config_restore(struct xen_host *h, uint32_t domid)
{
	libxl_ctx *ctx = xen_host_libxl(h, NULL);
	AUTO_FREE uint8_t *json = NULL;
	libxl_domain_config config;
	int length = 0, rc;

	if (!ctx ||
	    libxl_userdata_retrieve(ctx, domid, userdata, &json, &length) ||
	    length <= 0 || json[length - 1])
		return -EIO;
	libxl_domain_config_init(&config);
	rc = rewrite(ctx, domid, &config, (const char *)json);
	libxl_domain_config_dispose(&config);
	return rc;
}

static libxl_action_on_shutdown action_of(const libxl_domain_config *c,
					  unsigned int reason)
{
	switch (reason) {
	case SHUTDOWN_poweroff:
		return c->on_poweroff;
	case SHUTDOWN_reboot:
		return c->on_reboot;
	case SHUTDOWN_watchdog:
		return c->on_watchdog;
	case SHUTDOWN_soft_reset:
		return c->on_soft_reset;
	default:
		return c->on_crash;
	}
}

static int restart(struct xen_host *h, libxl_domain_config *config,
		   const char *name)
{
	libxl_ctx *ctx = xen_host_libxl(h, NULL);
	uint32_t domid = (uint32_t)INVALID_DOMID;

	if (!ctx || libxl_domain_create_new(ctx, config, &domid, NULL, NULL)) {
		log_error("%s: it could not be started again: %s", name,
			  xen_host_why(h).text);
		return -EIO;
	}
	if (libxl_domain_unpause(ctx, domid, NULL)) {
		log_error("%s: it was made anew as domain %u, but does not run:"
			  " %s",
			  name, domid, xen_host_why(h).text);
		return -EIO;
	}
	log_info("%s: runs again, as domain %u", name, domid);
	return 0;
}

/*
 * True where the domain's own xl has dealt with it meanwhile.  `anew`: it may
 * make it anew, after some time of its own.
 */
static bool left_to_xl(struct xen_host *h, uint32_t domid, const char *name,
		       uint64_t grace_us, bool anew, bool *again)
{
	uint64_t end_us = clock_now_us() + grace_us;
	struct xen_state st;
	uint32_t other;

	while (clock_now_us() < end_us) {
		if (xen_query(h, domid, &st) == 0 && st.status == GUEST_GONE)
			break;
		clock_sleep_us(XL_POLL_US);
	}
	if (clock_now_us() >= end_us)
		return false;
	while (anew && !*again && clock_now_us() < end_us) {
		*again = xen_find(h, name, &other) == 0;
		clock_sleep_us(XL_POLL_US);
	}
	return true;
}

static int act(struct xen_host *h, uint32_t domid, const char *name,
	       libxl_action_on_shutdown action, libxl_domain_config *config,
	       bool *again)
{
	libxl_ctx *ctx = xen_host_libxl(h, NULL);
	bool anew = action == LIBXL_ACTION_ON_SHUTDOWN_RESTART;
	int rc;

	if (!anew && action != LIBXL_ACTION_ON_SHUTDOWN_DESTROY) {
		log_warn("%s: its configuration asks for `%s', which colod"
			 " leaves to you: domain %u stays as it is",
			 name, libxl_action_on_shutdown_to_string(action),
			 domid);
		return 0;
	}
	if (!ctx || libxl_domain_destroy(ctx, domid, NULL)) {
		/* xl stays where it did not come to see the guest suspended. */
		if (left_to_xl(h, domid, name, XL_AT_WORK_US, anew, again)) {
			log_info("%s: domain %u was destroyed by something else"
				 " (xl?)",
				 name, domid);
			return 0;
		}
		log_error("%s: domain %u could not be destroyed: %s", name,
			  domid, xen_host_why(h).text);
		return -EIO;
	}
	log_info("%s: domain %u is destroyed, as configured", name, domid);
	if (!anew)
		return 0;
	rc = restart(h, config, name);
	*again = rc == 0;
	return rc;
}

int xen_after_shutdown(struct xen_host *h, uint32_t domid, const char *name,
		       bool wait, bool *again)
{
	libxl_domain_config config;
	struct guest_error err = { { 0 } };
	struct xen_state st;
	int rc;

	*again = false;
	if (wait && left_to_xl(h, domid, name, XL_GRACE_US, true, again))
		return 0;
	rc = xen_query(h, domid, &st);
	if (rc < 0)
		return rc;
	if (st.status == GUEST_GONE)
		return 0;
	if (st.status == GUEST_RUNNING || st.status == GUEST_SUSPENDED)
		return -EBUSY;
	rc = xen_config_get(h, domid, &config, &err);
	if (rc < 0) {
		log_error("%s: %s", name, err.text);
		return rc;
	}
	rc = act(h, domid, name, action_of(&config, st.reason), &config, again);
	libxl_domain_config_dispose(&config);
	return rc;
}
