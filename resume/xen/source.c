/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Xen domain as source: finding it, saying whether it can be protected,
 * describing it, and the table of operations.
 *
 * What can be protected: a running guest that can be suspended and resumed in
 * the manner wanted (able.c).
 */
#include "config.h"

#include "resume/xen/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/xen/able.h"
#include "resume/xen/disks.h"
#include "resume/xen/kind.h"
#include "resume/xen/lifecycle.h"
#include "resume/xen/pv/source.h"
#include "resume/xen/pv/stream.h"

/* A guest connects anew within a second, an emulated one within some. */
#define LET_GO_US UINT64_C(5000000)
#define MODEL_US UINT64_C(5000000)

void xen_source_free(struct guest_source *s)
{
	if (!s)
		return;
	xen_events_close(s);
	cleanup_fd(&s->cancel_fd);
	xen_slow_close(s->slow);
	xen_model_close(s->model);
	xen_host_close(s->host);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct guest_source *source_new(void)
{
	struct guest_source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->guest_port = s->local_port = s->image_fd = -1;
	s->request.local_port = s->request.lock_fd = -1;
	s->fast_safe = true;
	holder_self(s->holder);
	pthread_mutex_init(&s->lock, NULL);
	s->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->cancel_fd < 0) {
		xen_source_free(s);
		return NULL;
	}
	return s;
}

static int find_type(struct guest_source *s)
{
	struct xen_state st;
	int rc = xen_query(s->host, s->domid, &st);

	if (rc < 0)
		return rc;
	s->emulated = st.emulated;
	s->pv = !st.hvm;
	return 0;
}

/* A standby of this host's own colod is not to be protected itself. */
static int check_standby(struct guest_source *s, struct guest_error *err)
{
	AUTO_FREE char *mark =
		xen_node_read(s->host, s->domid, XEN_NODE_STANDBY);

	if (!mark)
		return 0;
	guest_error_set(err,
			"%s is itself the standby of a guest that another"
			" host protects here",
			s->name);
	return -ENOTSUP;
}

static int check_running(struct guest_source *s, struct guest_error *err)
{
	struct xen_state st;
	int rc = xen_query(s->host, s->domid, &st);

	if (rc < 0)
		return rc;
	if (st.status == GUEST_RUNNING && !st.paused)
		return 0;
	guest_error_set(err, "%s is %s, not running", s->name,
			st.status == GUEST_RUNNING
				? "paused (`xl unpause' lets it run)"
				: guest_status_text(st.status));
	return -EBUSY;
}

bool xen_source_held(struct guest_source *s, bool *marked)
{
	AUTO_FREE char *mark =
		xen_node_read(s->host, s->domid, XEN_NODE_SOURCE);
	const char *holder = mark ? strchr(mark, ' ') : NULL;

	*marked = mark;
	return holder && holder_lives(holder + 1);
}

/*
 * A mark whose holder is dead: a colod before us died, and no guard of its was
 * there to clean up.  This is done before anything else, for the guest may
 * stand still.  A suspend that it may still follow is waited for as long as it
 * can come: the mark goes with the rescue, and nobody would look any more.
 * Whoever is impatient and ends us leaves a mark of a dead holder again.  A
 * mark whose holder lives is not ours to touch: the lock on the guest's name
 * will tell the operator so.
 */
static int clear_leftover(struct guest_source *s, bool *held)
{
	bool marked;
	char id[16];
	int rc;

	*held = xen_source_held(s, &marked);
	if (!marked || *held)
		return 0;
	log_info("%s: cleaning up after a colod that died", s->name);
	snprintf(id, sizeof(id), "%u", s->domid);
	rc = guest_xen_source.rescue(id, NULL, XEN_LATE_US);
	*held = rc == -EBUSY; /* another, such as a guard, was faster */
	return *held ? 0 : rc;
}

static int find(struct guest_source *s, const char *words,
		struct guest_error *err)
{
	AUTO_FREE char *name = NULL;
	int rc = xen_find(s->host, words, &s->domid);

	if (rc == -ENOENT) {
		guest_error_set(err,
				"there is no domain `%s' on this host; `xl"
				" list' shows those there are",
				words);
		return rc;
	}
	if (rc < 0) {
		guest_error_set(err, "looking for domain `%s': %s", words,
				strerror(-rc));
		return rc;
	}
	if (s->domid == 0) {
		guest_error_set(err,
				"domain 0 is this host itself and cannot be"
				" protected");
		return -ENOTSUP;
	}
	name = xen_node_read(s->host, s->domid, "name");
	if (!name || strlen(name) >= sizeof(s->name)) {
		guest_error_set(err, "domain %u has no usable name", s->domid);
		return -ENOTSUP;
	}
	snprintf(s->name, sizeof(s->name), "%s", name);
	return 0;
}

static int find_max_gfn(struct guest_source *s, struct guest_error *err)
{
	xen_pfn_t max_gfn = 0;
	struct xen_state st;

	if (xc_domain_maximum_gpfn(xen_call(s->host), s->domid, &max_gfn))
		return -errno;
	if (max_gfn > WIRE_GFN_MAX) {
		guest_error_set(err, "%s has memory above 16 TiB", s->name);
		return -ENOTSUP;
	}
	if (s->pv && (xen_query(s->host, s->domid, &st) < 0 ||
		      !pv_max_pfn_sane(max_gfn, st.tot_pages))) {
		guest_error_set(err,
				"%s says that it has memory at %#llx, which"
				" cannot be",
				s->name, (unsigned long long)max_gfn << 12);
		return -ENOTSUP;
	}
	s->max_gfn = max_gfn;
	return 0;
}

static int open_events(struct guest_source *s, struct guest_error *err)
{
	int rc = xen_events_open(s);

	if (rc == 0)
		rc = xen_request_watch(s);
	if (rc < 0)
		guest_error_set(err,
				"Xen's event channels or xenstore's watches"
				" cannot be used: %s; is the module xen-evtchn"
				" loaded?",
				strerror(-rc));
	return rc;
}

int xen_source_look(const char *words, struct guest_source **out,
		    struct guest_error *err)
{
	struct guest_source *s = source_new();
	int rc;

	if (!s)
		return -ENOMEM;
	rc = xen_host_open(&s->host, err);
	if (rc == 0)
		rc = find(s, words, err);
	if (rc == 0)
		rc = find_type(s);
	if (rc == 0)
		rc = find_max_gfn(s, err);
	if (rc < 0) {
		xen_source_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

/* It can be suspended in the manner that is asked for. */
static int check_able(struct guest_source *s, bool held,
		      struct guest_error *err)
{
	int rc = xen_able_kind(s, err);

	/* One that another colod holds may be suspended at the moment. */
	if (rc == 0 && !held)
		rc = check_running(s, err);
	if (rc == 0)
		rc = xen_able(s, held, err);
	if (rc == 0)
		rc = xen_disks_able(s->host, s->domid, s->name, err);
	return rc ? rc : open_events(s, err);
}

static int xen_open(const char *words, const char *run_dir,
		    const struct guest_manner *manner,
		    struct guest_source **out, struct guest_error *err)
{
	struct guest_source *s;
	bool held;
	int rc = xen_source_look(words, &s, err);

	(void)run_dir;
	if (rc < 0)
		return rc;
	s->manner = *manner;
	rc = check_standby(s, err);
	if (rc == 0)
		rc = clear_leftover(s, &held);
	if (rc == 0 && !manner->never)
		rc = check_able(s, held, err);
	if (rc < 0) {
		xen_source_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

static int fill_config(struct guest_source *s, libxl_domain_config *config,
		       struct guest_description *d, struct guest_error *err)
{
	d->config = libxl_domain_config_to_json(xen_host_libxl(s->host, NULL),
						config);
	if (!d->config)
		return -ENOMEM;
	d->config_length = strlen(d->config);
	if (d->config_length > WIRE_CONFIG_MAX) {
		guest_error_set(err, "the configuration of %s is too long",
				s->name);
		return -E2BIG;
	}
	memcpy(d->uuid, config->c_info.uuid.uuid, sizeof(d->uuid));
	return 0;
}

static int open_model(struct guest_source *s, struct guest_error *err)
{
	uint64_t end_us = clock_now_us() + MODEL_US;
	int rc;

	if (!s->model)
		return xen_model_open(s->domid, end_us, &s->model, err);
	/* Kept, for it did not go on before. */
	rc = xen_model_ready(s->model, end_us);
	if (rc == 0)
		rc = xen_model_thaw(s->model);
	if (rc < 0)
		guest_error_set(err,
				"the device model (QEMU) of %s does not answer:"
				" %s",
				s->name, strerror(-rc));
	return rc;
}

/*
 * For the standby to refuse one that it has not.  Where another colod protects
 * the guest nothing is sent, and that one speaks with it.
 */
static int note_model(struct guest_source *s, libxl_domain_config *config,
		      struct guest_error *err)
{
	bool marked;
	int rc;

	if (!s->emulated || (!s->marked && xen_source_held(s, &marked)))
		return 0;
	rc = open_model(s, err);
	return rc < 0 ? rc
		      : xen_config_note(config, XEN_NODE_MODEL,
					xen_model_version(s->model));
}

static int xen_describe(struct guest_source *s, struct guest_description *d,
			struct guest_error *err)
{
	libxl_domain_config config;
	struct xen_state st;
	int rc;

	memset(d, 0, sizeof(*d));
	/* It may have got disks since, which would be compared first. */
	rc = xen_disks_able(s->host, s->domid, s->name, err);
	if (rc == 0)
		rc = find_max_gfn(s, err);
	if (rc == 0)
		rc = xen_query(s->host, s->domid, &st);
	if (rc == 0)
		rc = xen_config_get(s->host, s->domid, &config, err);
	if (rc < 0)
		return rc;
	d->kind = s->pv		? WIRE_GUEST_XEN_PV
		  : s->emulated ? WIRE_GUEST_XEN_HVM
				: WIRE_GUEST_XEN_PVH;
	d->ram_bytes = st.tot_pages * WIRE_PAGE_BYTES;
	d->max_gfn = s->max_gfn;
	snprintf(d->name, sizeof(d->name), "%s", s->name);
	rc = note_model(s, &config, err);
	if (rc == 0)
		rc = fill_config(s, &config, d, err);
	libxl_domain_config_dispose(&config);
	if (rc < 0) {
		free(d->config);
		d->config = NULL;
	}
	return rc;
}

void xen_source_mark_text(const struct guest_source *s, const char *word,
			  char text[XEN_MARK_BYTES])
{
	snprintf(text, XEN_MARK_BYTES, "%s%s %s", word,
		 s->fast_safe ? "" : XEN_MARK_NOT_FAST, s->holder);
}

int xen_source_mark(struct guest_source *s, const char *word)
{
	char text[XEN_MARK_BYTES];
	int rc;

	if (!word) {
		xen_node_remove(s->host, s->domid, XEN_NODE_SOURCE);
		s->marked = false;
		return 0;
	}
	xen_source_mark_text(s, word, text);
	rc = xen_node_write(s->host, s->domid, XEN_NODE_SOURCE, text);
	if (rc < 0)
		log_debug("%s: marking it `%s': %s", s->name, word,
			  strerror(-rc));
	else
		s->marked = true;
	return rc;
}

bool xen_source_cancelled(struct guest_source *s)
{
	AUTO_LOCK(&s->lock);
	return s->cancelled;
}

static void xen_cancel(struct guest_source *s)
{
	AUTO_LOCK(&s->lock);
	s->cancelled = true;
	eventfd_write(s->cancel_fd, 1);
	if (s->image_fd >= 0)
		shutdown(s->image_fd, SHUT_RDWR);
}

static int xen_send_image(struct guest_source *s, int fd,
			  struct guest_error *err)
{
	return s->pv ? xen_pv_send_image(s, fd, err)
		     : xen_source_send_image(s, fd, err);
}

static int xen_start_tracking(struct guest_source *s, struct guest_error *err)
{
	return s->pv ? xen_pv_track(s, err) : xen_source_track(s, err);
}

static int xen_capture(struct guest_source *s, struct epoch *e)
{
	return s->pv ? xen_pv_capture(s, e) : xen_source_capture(s, e);
}

static int xen_resume(struct guest_source *s, enum guest_resume kind)
{
	int rc = xen_source_resume_as(s, kind);

	if (rc == 0)
		xen_source_after_resume(s);
	return rc;
}

static void xen_phases(struct guest_source *s, struct guest_phases *p)
{
	if (s->slow)
		*p = s->slow->phases;
	else
		memset(p, 0, sizeof(*p));
	p->asked = s->phases.asked;
	p->hypercalls = s->host->hypercalls - s->hypercalls_told;
	s->hypercalls_told = s->host->hypercalls;
}

/* Others may speak with it, but not while it is to be told to go on. */
static void close_model(struct guest_source *s)
{
	if (!s->model || s->suspended)
		return;
	xen_model_thaw(s->model);
	if (!xen_model_left(s->model))
		return;
	xen_model_track(s->model, false);
	xen_model_close(s->model);
	s->model = NULL;
}

static void xen_stop_tracking(struct guest_source *s)
{
	eventfd_t ignored;

	xen_source_settle(s);
	xen_source_resume(s);
	if (s->marked) {
		xen_source_unsubscribe(s);
		xc_shadow_control(xen_call(s->host), s->domid,
				  XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0);
	}
	close_model(s);
	s->tracking = false;
	xen_source_unbind(s);
	xen_request_unbind(s);
	xen_source_release(s);
	/* Else a rescue still has work. */
	if (s->marked && !s->suspended && !s->model)
		xen_source_mark(s, NULL);
	AUTO_LOCK(&s->lock);
	s->cancelled = false;
	eventfd_read(s->cancel_fd, &ignored);
}

static enum guest_status xen_status(struct guest_source *s)
{
	struct xen_state st;

	if (xen_source_resume_late(s))
		return GUEST_RUNNING;
	if (s->suspended) /* an earlier resume has failed */
		xen_source_resume(s);
	/* What is held over a slow resume is better let go of soon. */
	if (s->slow && !s->suspended)
		xen_slow_ready(s->slow, 0, -1);
	/* It failed to go on before. */
	if (s->model && !s->suspended)
		xen_model_thaw(s->model);
	/* A query that fails says nothing against the guest. */
	if (xen_query(s->host, s->domid, &st) < 0)
		return s->suspended ? GUEST_SUSPENDED : GUEST_RUNNING;
	return st.status;
}

static size_t xen_source_nics(struct guest_source *s, struct guest_nic *nics)
{
	return xen_nics(s->host, s->domid, nics);
}

static int xen_yield(struct guest_source *s)
{
	struct xen_state st;
	int rc;

	if (xc_domain_pause(xen_call(s->host), s->domid))
		log_error("%s: pausing it: %s", s->name, strerror(errno));
	rc = xen_query(s->host, s->domid, &st);
	if (rc < 0)
		return rc;
	if (st.paused || st.status != GUEST_RUNNING)
		return 0;
	log_error("%s runs here although its standby has taken over: pause or"
		  " destroy domain %u",
		  s->name, s->domid);
	return -EIO;
}

static int xen_source_after_shutdown(struct guest_source *s, bool *again)
{
	xen_stop_tracking(s);
	/* A domain of which something is mapped is destroyed to a zombie. */
	xen_slow_close(s->slow);
	s->slow = NULL;
	return xen_after_shutdown(s->host, s->domid, s->name, !s->was_suspended,
				  again);
}

static void xen_close(struct guest_source *s)
{
	if (!s)
		return;
	xen_stop_tracking(s);
	if (s->slow && !s->suspended)
		xen_slow_let_go(s->slow, clock_now_us() + LET_GO_US);
	xen_source_free(s);
}

static size_t xen_source_disks(struct guest_source *s, struct guest_disk *disks)
{
	return xen_disks(s->host, s->domid, disks);
}

const struct guest_source_ops guest_xen_source = {
	.name = "xen",
	.open = xen_open,
	.describe = xen_describe,
	.send_image = xen_send_image,
	.start_tracking = xen_start_tracking,
	.copy_ahead = xen_source_copy_ahead,
	.suspend = xen_source_suspend,
	.capture = xen_capture,
	.resume = xen_resume,
	.phases = xen_phases,
	.stop_tracking = xen_stop_tracking,
	.status = xen_status,
	.nics = xen_source_nics,
	.disks = xen_source_disks,
	.yield = xen_yield,
	.after_shutdown = xen_source_after_shutdown,
	.cancel = xen_cancel,
	.close = xen_close,
	.rescue = xen_rescue,
};
