/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waking a PV domain with return code 0 (see again.h).
 *
 * Xen refuses to soft-reset a PV domain, but only after it has reset its event
 * channels and unmapped its vcpu_info (4.17, domain_soft_reset() and
 * arch_domain_soft_reset()), which is what a second life needs; the crash that
 * it reports then is without effect on a domain that has shut down.  An
 * accident of the implementation: hence the gate by version, and the look
 * afterwards.
 *
 * libxenguest resets all vCPUs but the first.  Linux, suspended within
 * stop_machine(), finds them online and not there: so one vCPU only.
 */
#include "config.h"

#include "resume/xen/pv/again.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xen/version.h>
#include <xenguest.h>

#include "base/cleanup.h"

enum { KNOWN_MAJOR = 4, KNOWN_MINOR = 17, WIDTH_64 = 8 };

int xen_pv_slow_can(struct xen_host *h, uint32_t domid, const char *name,
		    struct guest_error *err)
{
	int version = xc_version(h->xc, XENVER_version, NULL);
	unsigned int width = 0;
	xc_domaininfo_t info;

	if (version < 0 || xc_domain_getinfolist(h->xc, domid, 1, &info) != 1 ||
	    info.domain != domid ||
	    xc_domain_get_guest_width(h->xc, domid, &width))
		return errno ? -errno : -EIO;
	if (version >> 16 != KNOWN_MAJOR || (version & 0xffff) != KNOWN_MINOR)
		guest_error_set(err,
				"%s is a PV guest, of which a slow resume in"
				" place is not known to work with Xen %d.%d:"
				" use --resume=fast",
				name, version >> 16, version & 0xffff);
	else if (info.max_vcpu_id)
		guest_error_set(err,
				"%s is a PV guest of more than one vCPU, which"
				" would not survive a slow resume in place: use"
				" --resume=fast",
				name);
	else if (width != WIDTH_64)
		guest_error_set(err,
				"%s is a 32-bit PV guest, which cannot be"
				" resumed slowly in place: use --resume=fast",
				name);
	else
		return 0;
	return -EOPNOTSUPP;
}

int xen_pv_reset(struct xen_host *h, uint32_t domid)
{
	struct xen_state st;
	int rc;

	if (xc_domain_soft_reset(h->xc, domid) && errno != EINVAL)
		return -errno;
	rc = xen_query(h, domid, &st);
	if (rc == 0 && st.status != GUEST_SUSPENDED)
		rc = -EIO;
	return rc;
}

/*
 * While it is suspended, Linux has its own frame numbers there
 * (xen_pv_pre_suspend()); libxenguest makes machine frames of them, and cannot
 * do so twice.
 */
static int check_frames(struct xen_host *h, uint32_t domid,
			const start_info_t *si)
{
	static const char magic[] = "xen-3.";
	xen_pfn_t max_pfn = 0;

	if (memcmp(si->magic, magic, sizeof(magic) - 1))
		return -EPROTO;
	if (xc_domain_maximum_gpfn(h->xc, domid, &max_pfn))
		return -errno;
	return si->store_mfn > max_pfn || si->console.domU.mfn > max_pfn
		       ? -ESTALE
		       : 0;
}

/* xenstored must be told of the machine frame that it was told of first. */
static int find_store(struct xen_host *h, uint32_t domid, uint64_t *store_gfn)
{
	AUTO_FREE char *text = xen_node_read(h, domid, "store/ring-ref");

	if (!text)
		return -ENOENT;
	*store_gfn = strtoull(text, NULL, 10);
	return 0;
}

int xen_pv_set_ports(struct xen_host *h, uint32_t domid, unsigned int store,
		     unsigned int console, uint64_t *store_gfn)
{
	vcpu_guest_context_any_t vcpu;
	start_info_t *si;
	xen_pfn_t mfn;
	int error = 0, rc;

	/* The argument of its suspend hypercall. */
	if (xc_vcpu_getcontext(h->xc, domid, 0, &vcpu))
		return -errno;
	mfn = vcpu.x64.user_regs.rdx;
	si = xenforeignmemory_map(h->fm, domid, PROT_READ | PROT_WRITE, 1, &mfn,
				  &error);
	if (!si || error)
		return error ? error : -errno;
	rc = check_frames(h, domid, si);
	if (rc == 0) {
		si->store_evtchn = store;
		si->console.domU.evtchn = console;
	}
	xenforeignmemory_unmap(h->fm, si, 1);
	return rc < 0 ? rc : find_store(h, domid, store_gfn);
}

int xen_pv_resume(struct xen_host *h, uint32_t domid)
{
	return xc_domain_resume(h->xc, domid, 0) ? -errno : 0;
}
