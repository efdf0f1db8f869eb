/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening this host's Xen, and the few questions that all of the room asks.
 *
 * Failure modes: the host does not run Xen, or the caller may not use it;
 * both are found before a library is called, for the libraries' own words do
 * not tell them apart.
 */
#include "config.h"

#include "resume/xen/host.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

static int check_privcmd(struct guest_error *err)
{
	AUTO_FD int fd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
	int e;

	if (fd < 0 && errno == ENOENT)
		fd = open("/proc/xen/privcmd", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return 0;
	e = errno;
	if (e == ENOENT || e == ENODEV || e == ENXIO) {
		guest_error_set(err, "this is not a Xen host: there is no"
				     " /dev/xen/privcmd; boot it under Xen and"
				     " load the module xen-privcmd");
		return -ENODEV;
	}
	guest_error_set(err,
			"no privilege for Xen's /dev/xen/privcmd (%s):"
			" run colod as root",
			strerror(e));
	return -e;
}

int xen_host_open(struct xen_host **out, struct guest_error *err)
{
	struct xen_host *h;
	int rc = check_privcmd(err);

	if (rc < 0)
		return rc;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->log = xen_log_new();
	if (!h->log) {
		free(h);
		return -ENOMEM;
	}
	errno = 0;
	h->xc = xc_interface_open(h->log, h->log, 0);
	h->fm = h->xc ? xenforeignmemory_open(h->log, 0) : NULL;
	if (!h->fm) {
		rc = errno ? -errno : -EIO;
		guest_error_set(err, "Xen's libraries cannot be used here: %s",
				xen_host_why(h).text);
		xen_host_close(h);
		return rc;
	}
	errno = 0;
	h->xs = xs_open(0);
	if (!h->xs) {
		rc = errno ? -errno : -EIO;
		guest_error_set(err,
				"xenstore does not answer (%s): is"
				" xenstored running?",
				strerror(-rc));
		xen_host_close(h);
		return rc;
	}
	*out = h;
	return 0;
}

void xen_host_close(struct xen_host *h)
{
	if (!h)
		return;
	if (h->ctx)
		libxl_ctx_free(h->ctx);
	if (h->xs)
		xs_close(h->xs);
	if (h->fm)
		xenforeignmemory_close(h->fm);
	if (h->xc)
		xc_interface_close(h->xc);
	xtl_logger_destroy(h->log);
	free(h);
}

/*
 * What libxl starts inherits the signals that are blocked here, for colod reads
 * them from a descriptor.  libxl ends a device model by SIGHUP and its helper
 * by SIGTERM: a QEMU that takes neither would stay, and with it its domain.
 */
static pid_t fork_unblocked(void *user)
{
	pid_t pid = fork();
	sigset_t ends;

	(void)user;
	if (pid == 0) {
		sigemptyset(&ends);
		sigaddset(&ends, SIGHUP);
		sigaddset(&ends, SIGTERM);
		sigprocmask(SIG_UNBLOCK, &ends, NULL);
	}
	return pid;
}

libxl_ctx *xen_host_libxl(struct xen_host *h, struct guest_error *err)
{
	/* libxl_event.h, "Subprocess handling": must outlast the context. */
	static const libxl_childproc_hooks hooks = {
		.chldowner = libxl_sigchld_owner_libxl_always_selective_reap,
		.fork_replacement = fork_unblocked,
	};
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	pthread_sigmask(SIG_UNBLOCK, &chld, NULL);
	if (h->ctx)
		return h->ctx;
	if (libxl_ctx_alloc(&h->ctx, LIBXL_VERSION, 0, h->log)) {
		guest_error_set(err, "libxl cannot be used: %s",
				xen_host_why(h).text);
		h->ctx = NULL;
		return NULL;
	}
	libxl_childproc_setmode(h->ctx, &hooks, NULL);
	return h->ctx;
}

struct xen_why xen_host_why(const struct xen_host *h)
{
	struct xen_why why;

	xen_log_last(h->log, why.text, sizeof(why.text));
	if (!*why.text)
		snprintf(why.text, sizeof(why.text), "no reason was given");
	return why;
}

static enum guest_status status_of(const xc_domaininfo_t *i,
				   unsigned int reason)
{
	if (i->flags & XEN_DOMINF_dying)
		return GUEST_GONE;
	if (!(i->flags & XEN_DOMINF_shutdown))
		return GUEST_RUNNING;
	switch (reason) {
	case SHUTDOWN_suspend:
		return GUEST_SUSPENDED;
	case SHUTDOWN_poweroff:
		return GUEST_POWEROFF;
	case SHUTDOWN_reboot:
	case SHUTDOWN_soft_reset:
		return GUEST_REBOOT;
	default:
		return GUEST_CRASHED;
	}
}

int xen_query(struct xen_host *h, uint32_t domid, struct xen_state *st)
{
	xc_domaininfo_t i;
	int n = xc_domain_getinfolist(xen_call(h), domid, 1, &i);

	memset(st, 0, sizeof(*st));
	st->status = GUEST_GONE;
	if (n < 0)
		return errno == ESRCH ? 0 : -errno;
	if (n == 0 || i.domain != domid)
		return 0;
	st->reason =
		(i.flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
	st->status = status_of(&i, st->reason);
	st->hvm = i.flags & XEN_DOMINF_hvm_guest;
	/* A PVH domain has a local APIC and nothing else that is emulated. */
	st->emulated = i.arch_config.emulation_flags & XEN_X86_EMU_PM;
	st->hap = i.flags & XEN_DOMINF_hap;
	st->paused = i.flags & XEN_DOMINF_paused;
	st->tot_pages = i.tot_pages;
	st->cpu_time_ns = i.cpu_time;
	return 0;
}

static bool is_number(const char *words, uint32_t *value)
{
	char *end;
	unsigned long v;

	if (!isdigit((unsigned char)*words))
		return false;
	errno = 0;
	v = strtoul(words, &end, 10);
	if (*end || errno || v >= DOMID_FIRST_RESERVED)
		return false;
	*value = (uint32_t)v;
	return true;
}

int xen_find(struct xen_host *h, const char *words, uint32_t *domid)
{
	AUTO_FREE char **ids = NULL;
	struct xen_state st;
	unsigned int n = 0;
	uint32_t id;
	int rc;

	if (is_number(words, &id)) {
		rc = xen_query(h, id, &st);
		*domid = id;
		return rc < 0 ? rc : st.status == GUEST_GONE ? -ENOENT : 0;
	}
	ids = xs_directory(h->xs, XBT_NULL, "/local/domain", &n);
	for (unsigned int i = 0; ids && i < n; i++) {
		AUTO_FREE char *name = NULL;

		if (!is_number(ids[i], &id))
			continue;
		name = xen_node_read(h, id, "name");
		if (!name || strcmp(name, words))
			continue;
		/* A zombie keeps its nodes for a while. */
		rc = xen_query(h, id, &st);
		if (rc < 0)
			return rc;
		if (st.status == GUEST_GONE)
			continue;
		*domid = id;
		return 0;
	}
	return -ENOENT;
}

static const char *node_path(uint32_t domid, const char *node, char *path,
			     size_t bytes)
{
	snprintf(path, bytes, "/local/domain/%u/%s", domid, node);
	return path;
}

char *xen_node_read(struct xen_host *h, uint32_t domid, const char *node)
{
	char path[256];
	unsigned int len;

	return xs_read(h->xs, XBT_NULL,
		       node_path(domid, node, path, sizeof(path)), &len);
}

int xen_node_write(struct xen_host *h, uint32_t domid, const char *node,
		   const char *value)
{
	char path[256];

	if (xs_write(h->xs, XBT_NULL,
		     node_path(domid, node, path, sizeof(path)), value,
		     (unsigned int)strlen(value)))
		return 0;
	return -errno;
}

void xen_node_remove(struct xen_host *h, uint32_t domid, const char *node)
{
	char path[256];

	xs_rm(h->xs, XBT_NULL, node_path(domid, node, path, sizeof(path)));
}

size_t xen_nics(struct xen_host *h, uint32_t domid, struct guest_nic *nics)
{
	libxl_ctx *ctx = xen_host_libxl(h, NULL);
	libxl_device_nic *list;
	size_t n = 0;
	int count = 0;

	list = ctx ? libxl_device_nic_list(ctx, domid, &count) : NULL;
	for (int i = 0; list && i < count && n < GUEST_NICS_MAX; i++, n++) {
		memcpy(nics[n].mac, list[i].mac, sizeof(nics[n].mac));
		if (list[i].ifname)
			snprintf(nics[n].ifname, sizeof(nics[n].ifname), "%s",
				 list[i].ifname);
		else
			snprintf(nics[n].ifname, sizeof(nics[n].ifname),
				 "vif%u.%d", domid, list[i].devid);
	}
	if (list)
		libxl_device_nic_list_free(list, count);
	return n;
}
