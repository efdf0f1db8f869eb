/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The twin of an embedded guest: building it, writing epochs into it,
 * activating it, and removing twins that nobody holds any more.
 *
 * The happy path:
 *   - a guest's process is started with all its threads parked, and its memory
 *     mapped here; the image is read into it;
 *   - epochs are written into it, the vCPUs kept aside;
 *   - activate: the vCPUs are loaded, return code 0, one wake; only then comes
 *     what can wait, the name.
 * Failure modes: what arrives does not fit the guest that was announced; an
 * error in the middle of an epoch makes the twin unfit for good.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "resume/embedded/image.h"
#include "resume/embedded/kind.h"
#include "resume/embedded/source.h"
#include "resume/embedded/vcpus.h"

struct guest_standby {
	struct embedded guest;
	char name[EMBEDDED_NAME_MAX + 1];
	uint8_t *memory;
	uint64_t pages;
	struct embedded_vcpu vcpu[EMBEDDED_VCPUS_MAX];
	bool broken;
	bool activated;
};

static void standby_free(struct guest_standby *s)
{
	if (s->memory)
		munmap(s->memory, s->guest.ram_bytes);
	embedded_detach(&s->guest);
	free(s);
}

/* --- build -------------------------------------------------------------- */

/* What is announced comes from the network. */
static int read_spec(const struct guest_description *d,
		     struct embedded_spec *spec, struct guest_error *err)
{
	struct guest_error why = { { 0 } };
	int rc = -EINVAL;

	if (strlen(d->config) == d->config_length)
		rc = embedded_spec_parse(d->config, spec, &why);
	/* A path of another host's choice is not opened here. */
	if (rc == 0 && !spec->file[0] && !strcmp(spec->name, d->name) &&
	    spec->mem_bytes == d->ram_bytes &&
	    d->max_gfn == d->ram_bytes / WIRE_PAGE_BYTES - 1)
		return 0;
	guest_error_set(err, "the configuration of %.60s is not one: %.200s",
			d->name, rc ? why.text : "it contradicts itself");
	return -EINVAL;
}

static int is_here(struct embedded *e, const char *name, const uint8_t uuid[16],
		   struct guest_error *err)
{
	bool paused = embedded_state_of(e->control) == EMBEDDED_STATE_PAUSED;
	bool same = !memcmp(e->control->uuid, uuid, 16);

	guest_error_set(err, "a guest %s is here already, %s", name,
			paused ? "paused: `colod guest destroy' removes it"
			       : "and runs");
	embedded_detach(e);
	return same && !paused ? -EALREADY : -EEXIST;
}

static int make_room(const char *name, const uint8_t uuid[16],
		     const char *run_dir, struct guest_error *err)
{
	struct embedded e;
	int rc = embedded_attach(run_dir, name, false, &e);

	if (rc == 0)
		return is_here(&e, name, uuid, err);
	rc = embedded_attach(run_dir, name, true, &e);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	/* It took over, and its colod died before it gave it its name. */
	if (embedded_state_of(e.control) != EMBEDDED_STATE_PAUSED)
		return is_here(&e, name, uuid, err);
	/* The lock on the name is ours, so it is a leftover. */
	log_info("removing the standby of %s, left by a colod that is no more",
		 name);
	rc = embedded_destroy(&e);
	embedded_detach(&e);
	return rc;
}

static int receive(struct guest_standby *s, int fd, struct guest_error *err)
{
	struct embedded *e = &s->guest;
	const char *why = "";
	void *at = mmap(NULL, e->ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			e->fd[EMBEDDED_FD_MEMORY], 0);
	int rc;

	if (at == MAP_FAILED)
		return -errno;
	s->memory = at;
	s->pages = e->ram_bytes / WIRE_PAGE_BYTES;
	rc = image_read(fd, s->memory, s->pages, s->vcpu,
			e->control->vcpu_count, &why);
	if (rc < 0)
		guest_error_set(err, "the image of %s cannot be used: %s%s%s",
				s->name, why, *why ? ": " : "", strerror(-rc));
	return rc;
}

static int build(struct guest_standby *s, const struct guest_description *d,
		 const char *run_dir, int fd, struct guest_error *err)
{
	struct embedded_spec spec;
	int rc = read_spec(d, &spec, err);

	if (rc == 0)
		rc = make_room(spec.name, d->uuid, run_dir, err);
	if (rc == 0)
		rc = embedded_spawn(run_dir, &spec, d->uuid, true, err);
	if (rc == 0)
		rc = embedded_attach(run_dir, spec.name, true, &s->guest);
	if (rc < 0)
		return rc;
	strcpy(s->name, spec.name);
	holder_self(s->guest.control->holder);
	rc = s->guest.ram_bytes == spec.mem_bytes ? receive(s, fd, err)
						  : -EPROTO;
	if (rc < 0)
		embedded_destroy(&s->guest);
	return rc;
}

static int embedded_build(const struct guest_description *d,
			  const char *run_dir, int fd,
			  struct guest_standby **out, struct guest_error *err)
{
	struct guest_standby *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->guest.sock = s->guest.pidfd = -1;
	for (int i = 0; i < EMBEDDED_FDS; i++)
		s->guest.fd[i] = -1;
	rc = build(s, d, run_dir, fd, err);
	if (rc < 0) {
		if (!err->text[0])
			guest_error_set(err, "building %s: %s", d->name,
					strerror(-rc));
		standby_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

/* --- apply, activate ---------------------------------------------------- */

static int apply_page(void *arg, const struct page_item *item)
{
	struct guest_standby *s = arg;

	if (item->gfn >= s->pages)
		return -ERANGE;
	page_item_apply(item, s->memory + item->gfn * WIRE_PAGE_BYTES);
	return 0;
}

static int embedded_apply(struct guest_standby *s, const struct store *epoch)
{
	struct embedded_vcpu vcpu[EMBEDDED_VCPUS_MAX];
	struct record r;
	int rc;

	if (s->broken || s->activated || !store_complete(epoch))
		return -EINVAL;
	rc = store_record(epoch, WIRE_RECORD_COLOD_VCPUS, &r)
		     ? vcpus_decode(r.body, r.length, vcpu,
				    s->guest.control->vcpu_count)
		     : -EPROTO;
	if (rc == 0)
		rc = store_each_page(epoch, apply_page, s);
	if (rc < 0) {
		s->broken = true;
		log_error("%s: epoch %llu cannot be applied: %s", s->name,
			  (unsigned long long)store_number(epoch),
			  strerror(-rc));
		return rc;
	}
	memcpy(s->vcpu, vcpu, sizeof(s->vcpu));
	return 0;
}

static int embedded_activate(struct guest_standby *s, struct guest_error *err)
{
	struct embedded_control *c = s->guest.control;
	struct guest_error why = { { 0 } };
	uint64_t t0 = clock_now_us();
	int fault;

	if (s->broken || s->activated) {
		guest_error_set(err, "%s cannot be activated: %s", s->name,
				s->broken ? "an epoch was applied in part"
					  : "it already is");
		return -EINVAL;
	}
	memcpy(c->vcpu, s->vcpu, sizeof(c->vcpu));
	fault = fault_at(FAULT_MID_ACTIVATE);
	if (fault) {
		guest_error_set(err, "letting %s run: %s", s->name,
				strerror(-fault));
		return fault;
	}
	if (!embedded_resume(c, EMBEDDED_STATE_PAUSED, 0)) {
		guest_error_set(err, "the standby of %s is %s", s->name,
				guest_status_text(embedded_status(&s->guest)));
		return -EIO;
	}
	s->activated = true;
	log_info("%s runs here as process %d (%llu us)", s->name,
		 (int)s->guest.pid, (unsigned long long)(clock_now_us() - t0));
	/* Nothing from here on keeps the guest from running. */
	if (embedded_call(&s->guest, "activated", &why) < 0)
		log_error("%s keeps the name of a standby: %s", s->name,
			  why.text);
	munmap(s->memory, s->guest.ram_bytes);
	s->memory = NULL;
	return 0;
}

static size_t embedded_standby_nics(struct guest_standby *s,
				    struct guest_nic *nics)
{
	(void)s;
	(void)nics;
	return 0;
}

static enum guest_status embedded_standby_status(struct guest_standby *s)
{
	return embedded_status(&s->guest);
}

static int embedded_standby_after_shutdown(struct guest_standby *s, bool *again)
{
	return embedded_after_shutdown(&s->guest, again);
}

static void embedded_standby_close(struct guest_standby *s)
{
	if (!s)
		return;
	s->guest.control->holder[0] = '\0';
	standby_free(s);
}

static void embedded_standby_destroy(struct guest_standby *s)
{
	int rc;

	if (!s)
		return;
	rc = embedded_destroy(&s->guest);
	if (rc < 0)
		log_error("the standby of %s could not be removed: %s", s->name,
			  strerror(-rc));
	standby_free(s);
}

/* --- sweep -------------------------------------------------------------- */

static void sweep_one(void *arg, const char *name, bool standby)
{
	const char *run_dir = arg;
	struct guest_error err = { { 0 } };
	AUTO_FD int lock = -1;
	struct embedded e;

	if (!standby || embedded_attach(run_dir, name, true, &e) < 0)
		return;
	if (!embedded_held_by_other(&e))
		lock = guest_lock(name, run_dir);
	if (lock < 0) {
		embedded_detach(&e);
		return;
	}
	if (embedded_state_of(e.control) == EMBEDDED_STATE_PAUSED) {
		log_info("removing the standby of %s, left by a colod that is"
			 " no more",
			 name);
		embedded_destroy(&e);
	} else {
		/* It took over just as its colod died, and may not yet run. */
		embedded_let_go(&e);
		if (embedded_call(&e, "activated", &err) < 0)
			log_warn("%s: %s", name, err.text);
	}
	embedded_detach(&e);
}

static int embedded_sweep(const char *run_dir)
{
	char dir[256];

	snprintf(dir, sizeof(dir), "%s", run_dir);
	embedded_each(run_dir, sweep_one, dir);
	return 0;
}

const struct guest_standby_ops guest_embedded_standby = {
	.name = "embedded",
	.kinds =
		(const struct guest_wire_kind[]){
			{ .kind = WIRE_GUEST_EMBEDDED,
			  .needs = { WIRE_RECORD_COLOD_VCPUS },
			  .deltas = true },
			{ 0 },
		},
	.build = embedded_build,
	.apply = embedded_apply,
	.activate = embedded_activate,
	.nics = embedded_standby_nics,
	.status = embedded_standby_status,
	.after_shutdown = embedded_standby_after_shutdown,
	.close = embedded_standby_close,
	.destroy = embedded_standby_destroy,
	.sweep = embedded_sweep,
};
