/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building the twin, and removing twins that nobody holds any more.
 *
 * The happy path:
 *   - the source's configuration, with the twin's name and mark in it;
 *   - libxl restores the image into a domain that stays paused, with all its
 *     devices and backends; an HVM domain's device model waits (incoming.c);
 *   - its memory is mapped for good.
 * Failure modes: a guest of this name runs here; an earlier twin is still
 * there (removed, if colod made it and it never ran); the image ends early or
 * is malformed: libxl removes what it began.
 *
 * A twin that was never activated is paused, carries the mark and the suffix,
 * and none of its vCPUs has run: only such a domain is ever removed here.
 */
#include "config.h"

#include "resume/xen/standby.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "resume/holder.h"
#include "resume/xen/incoming.h"
#include "resume/xen/lead.h"
#include "resume/xen/lifecycle.h"
#include "resume/xen/pv/stream.h"

/* Whether this is a twin that never ran and whose colod is no more. */
static bool is_stale_twin(struct xen_host *h, uint32_t domid, const char *name)
{
	size_t suffix = strlen(XEN_STANDBY_SUFFIX), n = strlen(name);
	AUTO_FREE char *mark = xen_node_read(h, domid, XEN_NODE_STANDBY);
	struct xen_state st;

	if (!mark || n <= suffix ||
	    strcmp(name + n - suffix, XEN_STANDBY_SUFFIX))
		return false;
	if (xen_query(h, domid, &st) < 0 || st.status != GUEST_RUNNING ||
	    !st.paused || st.cpu_time_ns)
		return false;
	return holder_is_self(mark) || !holder_lives(mark);
}

static int remove_twin(struct xen_host *h, uint32_t domid, const char *name)
{
	libxl_ctx *ctx = xen_host_libxl(h, NULL);

	log_info("removing %s (domain %u), left by a colod that is no more",
		 name, domid);
	if (ctx && libxl_domain_destroy(ctx, domid, NULL) == 0)
		return 0;
	log_error("removing %s: %s", name, xen_host_why(h).text);
	return -EIO;
}

/*
 * Whether this domain is the guest itself, running: its twin was activated
 * before this colod was started, or before it got to renaming it.
 */
static bool has_taken_over(struct xen_host *h, uint32_t domid,
			   const uint8_t uuid[16])
{
	libxl_ctx *ctx = xen_host_libxl(h, NULL);
	bool same = false;
	libxl_dominfo info;

	if (!ctx)
		return false;
	libxl_dominfo_init(&info);
	if (!libxl_domain_info(ctx, &info, domid))
		same = !info.paused && !memcmp(info.uuid.uuid, uuid, 16);
	libxl_dominfo_dispose(&info);
	return same;
}

static int make_room(struct guest_standby *s, const uint8_t uuid[16],
		     struct guest_error *err)
{
	uint32_t domid;
	int rc = xen_find(s->host, s->name, &domid);

	if (rc != -ENOENT) {
		guest_error_set(err,
				"a domain named %s is on this host already",
				s->name);
		if (rc == 0 && has_taken_over(s->host, domid, uuid))
			return -EALREADY;
		return rc < 0 ? rc : -EEXIST;
	}
	rc = xen_find(s->host, s->twin, &domid);
	if (rc == -ENOENT)
		return 0;
	if (rc == 0 && is_stale_twin(s->host, domid, s->twin))
		rc = remove_twin(s->host, domid, s->twin);
	else if (rc == 0)
		rc = has_taken_over(s->host, domid, uuid) ? -EALREADY : -EEXIST;
	if (rc < 0)
		guest_error_set(err,
				"a domain named %s is on this host already"
				" and cannot be removed: see `xl list'",
				s->twin);
	return rc;
}

static libxl_domain_type type_of(enum wire_guest_kind kind)
{
	switch (kind) {
	case WIRE_GUEST_XEN_PVH:
		return LIBXL_DOMAIN_TYPE_PVH;
	case WIRE_GUEST_XEN_HVM:
		return LIBXL_DOMAIN_TYPE_HVM;
	case WIRE_GUEST_XEN_PV:
		return LIBXL_DOMAIN_TYPE_PV;
	default:
		return LIBXL_DOMAIN_TYPE_INVALID;
	}
}

static int make_config(struct guest_standby *s,
		       const struct guest_description *d,
		       libxl_domain_config *config, struct guest_error *err)
{
	libxl_ctx *ctx = xen_host_libxl(s->host, err);
	char mark[HOLDER_BYTES];

	libxl_domain_config_init(config);
	if (!ctx)
		return -EIO;
	if (libxl_domain_config_from_json(ctx, config, d->config)) {
		guest_error_set(err,
				"libxl does not understand the"
				" configuration of %s (another version of"
				" Xen?): %s",
				s->name, xen_host_why(s->host).text);
		return -EINVAL;
	}
	if (config->c_info.type != type_of(d->kind)) {
		guest_error_set(err,
				"the configuration of %s is of another kind of"
				" guest",
				s->name);
		return -ENOTSUP;
	}
	free(config->c_info.name);
	config->c_info.name = strdup(s->twin);
	if (!config->c_info.name)
		return -ENOMEM;
	memcpy(config->c_info.uuid.uuid, d->uuid, sizeof(d->uuid));
	holder_self(mark);
	if (xen_config_note(config, XEN_NODE_STANDBY, mark))
		return -ENOMEM;
	return s->emulated ? xen_config_wait(config, true) : 0;
}

static void remove_broken(struct guest_standby *s)
{
	xen_memory_close(s->memory);
	s->memory = NULL;
	libxl_domain_destroy(xen_host_libxl(s->host, NULL), s->domid, NULL);
}

static int restore(struct guest_standby *s, libxl_domain_config *config, int fd,
		   struct guest_error *err)
{
	libxl_ctx *ctx = xen_host_libxl(s->host, err);
	libxl_domain_restore_params params;
	uint32_t domid = (uint32_t)INVALID_DOMID;
	int rc;

	rc = xen_lead_await(fd);
	if (rc < 0) {
		guest_error_set(err, "%s",
				rc == -EPROTO
					? "what came is not an image of libxl's"
					: "the image ended before it began");
		return rc;
	}
	libxl_domain_restore_params_init(&params);
	params.stream_version = 2;
	rc = libxl_domain_create_restore(ctx, config, &domid, fd, -1, &params,
					 NULL, NULL);
	libxl_domain_restore_params_dispose(&params);
	if (rc == 0) {
		s->domid = domid;
		return 0;
	}
	guest_error_set(err, "libxl could not build %s: %s", s->twin,
			xen_host_why(s->host).text);
	if (domid != (uint32_t)INVALID_DOMID)
		libxl_domain_destroy(ctx, domid, NULL);
	return -EIO;
}

/* QEMU promises less across versions than a takeover needs. */
static int check_version(struct guest_standby *s,
			 const libxl_domain_config *config,
			 struct guest_error *err)
{
	const char *theirs = xen_config_noted(config, XEN_NODE_MODEL);
	const char *ours = xen_model_version(s->model);

	if (theirs && !strcmp(theirs, ours))
		return 0;
	guest_error_set(err,
			"the device model (QEMU) of %s is of version %s there"
			" and of %s here: install the same on both hosts",
			s->name, theirs ? theirs : "?", ours);
	return -EPROTO;
}

static int restore_emulated(struct guest_standby *s,
			    libxl_domain_config *config, int fd,
			    struct guest_error *err)
{
	struct guest_error why = { { 0 } };
	struct xen_incoming *in;
	int rc = xen_incoming_start(s->twin, &in), ready;

	if (rc < 0)
		return rc;
	rc = restore(s, config, fd, err);
	ready = xen_incoming_finish(in, &s->model, &s->devices,
				    &s->devices_bytes, &why);
	if (rc == 0 && ready == 0)
		ready = check_version(s, config, &why);
	if (rc == 0 && ready < 0) {
		*err = why;
		remove_broken(s);
		rc = ready;
	}
	return rc;
}

static int restore_pv(struct guest_standby *s, uint64_t ram_bytes,
		      libxl_domain_config *config, int fd,
		      struct guest_error *err)
{
	int rc;

	if (!pv_max_pfn_sane(s->max_gfn, ram_bytes / WIRE_PAGE_BYTES)) {
		guest_error_set(err, "%s has too little memory for its size",
				s->name);
		return -EPROTO;
	}
	rc = pv_twin_build(config, s->max_gfn, fd, &s->pv, err);
	if (rc < 0)
		return rc;
	rc = xen_find(s->host, s->twin, &s->domid);
	if (rc < 0) {
		guest_error_set(err, "%s: libxl has not made it", s->twin);
		pv_twin_close(s->pv);
		s->pv = NULL;
	}
	return rc;
}

static int map_twin(struct guest_standby *s, struct guest_error *err)
{
	int rc = xen_memory_open(s->host, s->domid, PROT_READ | PROT_WRITE,
				 s->max_gfn, &s->memory);

	if (rc == 0)
		rc = xen_memory_map(s->memory);
	s->context_capacity = WIRE_STATE_MAX;
	s->context = malloc(s->context_capacity);
	if (rc == 0 && !s->context)
		rc = -ENOMEM;
	if (rc < 0)
		guest_error_set(err, "mapping the memory of %s: %s", s->twin,
				strerror(-rc));
	return rc;
}

static int build(struct guest_standby *s, const struct guest_description *d,
		 int fd, struct guest_error *err)
{
	libxl_domain_config config;
	int rc = xen_host_open(&s->host, err);

	if (rc == 0)
		rc = make_room(s, d->uuid, err);
	if (rc < 0)
		return rc;
	rc = make_config(s, d, &config, err);
	if (rc == 0 && d->kind == WIRE_GUEST_XEN_PV)
		rc = restore_pv(s, d->ram_bytes, &config, fd, err);
	else if (rc == 0)
		rc = s->emulated ? restore_emulated(s, &config, fd, err)
				 : restore(s, &config, fd, err);
	libxl_domain_config_dispose(&config);
	if (rc < 0 || s->pv)
		return rc;
	rc = map_twin(s, err);
	if (rc < 0)
		remove_broken(s);
	return rc;
}

void xen_standby_free(struct guest_standby *s)
{
	if (!s)
		return;
	xen_memory_close(s->memory);
	pv_twin_close(s->pv);
	xen_model_close(s->model);
	xen_host_close(s->host);
	free(s->context);
	free(s->devices);
	free(s);
}

int xen_standby_build(const struct guest_description *d, const char *run_dir,
		      int fd, struct guest_standby **out,
		      struct guest_error *err)
{
	struct guest_standby *s = calloc(1, sizeof(*s));
	int rc;

	(void)run_dir;
	if (!s)
		return -ENOMEM;
	s->max_gfn = d->max_gfn;
	s->emulated = d->kind == WIRE_GUEST_XEN_HVM;
	snprintf(s->name, sizeof(s->name), "%s", d->name);
	snprintf(s->twin, sizeof(s->twin), "%s" XEN_STANDBY_SUFFIX, d->name);
	rc = build(s, d, fd, err);
	if (rc < 0) {
		xen_standby_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

/* Removes the twin unless a colod holds the right to its guest's name. */
static void sweep_one(struct xen_host *h, uint32_t domid, const char *twin,
		      const char *run_dir)
{
	AUTO_FREE char *name = NULL;
	AUTO_FD int lock = -1;

	if (!is_stale_twin(h, domid, twin))
		return;
	name = strndup(twin, strlen(twin) - strlen(XEN_STANDBY_SUFFIX));
	lock = name ? guest_lock(name, run_dir) : -ENOMEM;
	if (lock >= 0)
		remove_twin(h, domid, twin);
}

int xen_standby_sweep(const char *run_dir)
{
	AUTO_FREE char **ids = NULL;
	struct guest_error err = { { 0 } };
	struct xen_host *h;
	unsigned int n = 0;
	int rc = xen_host_open(&h, &err);

	if (rc < 0) {
		/* No fault of a host that is for other kinds of guests. */
		log_info("no Xen guests here: %s", err.text);
		return rc;
	}
	ids = xs_directory(h->xs, XBT_NULL, "/local/domain", &n);
	for (unsigned int i = 0; ids && i < n; i++) {
		uint32_t domid = (uint32_t)strtoul(ids[i], NULL, 10);
		AUTO_FREE char *name = xen_node_read(h, domid, "name");

		if (domid && name)
			sweep_one(h, domid, name, run_dir);
	}
	xen_host_close(h);
	return 0;
}
