/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An embedded guest as source: finding it, or starting it where it does not
 * run, describing it, and the table of operations.
 */
#include "config.h"

#include "resume/embedded/source.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "resume/embedded/kind.h"

static void source_free(struct guest_source *s)
{
	embedded_detach(&s->guest);
	cleanup_fd(&s->cancel_fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct guest_source *source_new(const char *run_dir)
{
	struct guest_source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->image_fd = -1;
	s->guest.sock = s->guest.pidfd = -1;
	for (int i = 0; i < EMBEDDED_FDS; i++)
		s->guest.fd[i] = -1;
	snprintf(s->run_dir, sizeof(s->run_dir), "%s", run_dir);
	pthread_mutex_init(&s->lock, NULL);
	s->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->cancel_fd < 0) {
		source_free(s);
		return NULL;
	}
	return s;
}

static int start(struct guest_source *s, const char *words,
		 struct guest_error *err)
{
	struct embedded_spec spec;
	uint8_t uuid[16];
	int rc = embedded_spec_parse(words, &spec, err);

	if (rc < 0)
		return strchr(words, ',') ? rc : -ENOENT;
	rc = embedded_new_uuid(uuid);
	if (rc == 0)
		rc = embedded_spawn(s->run_dir, &spec, uuid, false, err);
	if (rc == 0)
		rc = embedded_attach(s->run_dir, spec.name, false, &s->guest);
	if (rc < 0)
		return rc;
	holder_self(s->guest.control->starter);
	log_info("%s: started, process %d", spec.name, (int)s->guest.pid);
	return 0;
}

static int find(struct guest_source *s, const char *words,
		struct guest_error *err)
{
	char name[WIRE_NAME_MAX + 1];
	int rc = embedded_name(words, name, err);

	if (rc < 0)
		return rc;
	rc = embedded_attach(s->run_dir, name, true, &s->guest);
	if (rc == 0) {
		guest_error_set(err,
				holder_lives(s->guest.control->holder)
					? "%s is itself the standby of a guest"
					  " that another host protects here"
					: "a standby of %s is here, left by a"
					  " colod that is no more; `colod guest"
					  " destroy %s' removes it",
				name, name);
		return -ENOTSUP;
	}
	rc = embedded_attach(s->run_dir, name, false, &s->guest);
	if (rc == -ENOENT)
		return start(s, words, err);
	if (rc == 0 && strchr(words, ','))
		log_info("%s: runs already, with the options it was started"
			 " with",
			 name);
	if (rc < 0)
		guest_error_set(err, "taking hold of guest %s: %s%s", name,
				strerror(-rc),
				rc == -EPROTO ? " (of another build of colod?)"
					      : "");
	return rc;
}

static int check(struct guest_source *s, struct guest_error *err)
{
	enum guest_status status = embedded_status(&s->guest);

	if (s->guest.control->tracker == EMBEDDED_TRACKER_NONE) {
		guest_error_set(err,
				"this host offers no way to track what %s"
				" writes; see `colod check'",
				s->name);
		return -ENOTSUP;
	}
	if (status == GUEST_RUNNING)
		return 0;
	guest_error_set(err,
			"%s is %s, not running; `colod guest destroy %s'"
			" removes it",
			s->name,
			embedded_state_of(s->guest.control) ==
					EMBEDDED_STATE_PAUSED
				? "paused"
				: guest_status_text(status),
			s->name);
	return -EBUSY;
}

void embedded_hold(struct guest_source *s)
{
	struct embedded_control *c = s->guest.control;

	s->hold = atomic_fetch_add(&c->holds, 1) + 1;
	holder_self(c->holder);
}

/* One that a living colod holds is not touched: the lock will tell. */
static int take(struct guest_source *s, struct guest_error *err)
{
	struct embedded_control *c = s->guest.control;
	int rc;

	strcpy(s->name, c->spec.name);
	s->held = atomic_load(&c->gate_mode) == EMBEDDED_GATE_CLOSED;
	s->late_seen = atomic_load(&c->late_resumes);
	if (embedded_held_by_other(&s->guest))
		return 0;
	if (c->holder[0] && !holder_is_self(c->holder)) {
		log_info("%s: cleaning up after a colod that died", s->name);
		embedded_let_go(&s->guest);
	}
	rc = check(s, err);
	if (rc == 0)
		embedded_hold(s);
	return rc;
}

static int choose_channel(struct guest_source *s, enum guest_ask ask,
			  struct guest_error *err)
{
	bool offered =
		s->guest.control->spec.channel == EMBEDDED_CHANNEL_EVTCHN;

	s->ask = ask;
	if (ask == GUEST_ASK_AUTO)
		s->ask = offered ? GUEST_ASK_EVTCHN : GUEST_ASK_XENSTORE;
	if (s->ask == GUEST_ASK_TOOLSTACK) {
		guest_error_set(err,
				"--suspend=toolstack stops a guest that knows"
				" nothing of it; an embedded guest suspends"
				" itself");
		return -EOPNOTSUPP;
	}
	if (s->ask == GUEST_ASK_EVTCHN && !offered) {
		guest_error_set(err,
				"%s offers no suspend event channel; leave"
				" out --suspend=evtchn",
				s->guest.control->spec.name);
		return -EOPNOTSUPP;
	}
	return 0;
}

static void embedded_phases(struct guest_source *s, struct guest_phases *p)
{
	*p = (struct guest_phases){ .asked = s->ask };
}

static int embedded_open(const char *words, const char *run_dir,
			 const struct guest_manner *manner,
			 struct guest_source **out, struct guest_error *err)
{
	struct guest_source *s = source_new(run_dir);
	int rc;

	if (!s)
		return -ENOMEM;
	rc = find(s, words, err);
	if (rc == 0)
		rc = choose_channel(s, manner->ask, err);
	if (rc == 0)
		rc = take(s, err);
	if (rc < 0) {
		source_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

static int embedded_describe(struct guest_source *s,
			     struct guest_description *d,
			     struct guest_error *err)
{
	const struct embedded_control *c = s->guest.control;

	memset(d, 0, sizeof(*d));
	d->config = malloc(EMBEDDED_SPEC_MAX);
	if (!d->config) {
		guest_error_set(err, "no memory");
		return -ENOMEM;
	}
	embedded_spec_format(&c->spec, d->config);
	d->config_length = strlen(d->config);
	d->kind = WIRE_GUEST_EMBEDDED;
	d->ram_bytes = s->guest.ram_bytes;
	d->max_gfn = s->guest.ram_bytes / WIRE_PAGE_BYTES - 1;
	memcpy(d->uuid, c->uuid, sizeof(d->uuid));
	strcpy(d->name, s->name);
	return 0;
}

static void embedded_stop_tracking(struct guest_source *s)
{
	eventfd_t ignored;

	embedded_source_resume(s, GUEST_RESUME_FAST);
	embedded_release(s);
	AUTO_LOCK(&s->lock);
	s->cancelled = false;
	eventfd_read(s->cancel_fd, &ignored);
}

static enum guest_status embedded_source_status(struct guest_source *s)
{
	return embedded_status(&s->guest);
}

static size_t embedded_nics(struct guest_source *s, struct guest_nic *nics)
{
	(void)s;
	(void)nics;
	return 0;
}

static size_t embedded_disks(struct guest_source *s, struct guest_disk *disks)
{
	const struct embedded_spec *spec = &s->guest.control->spec;

	static_assert(sizeof(disks->name) == sizeof(spec->disk), "disk names");
	if (!spec->disk[0])
		return 0;
	strcpy(disks[0].name, spec->disk);
	return 1;
}

static int embedded_source_after_shutdown(struct guest_source *s, bool *again)
{
	embedded_stop_tracking(s);
	return embedded_after_shutdown(&s->guest, again);
}

static void embedded_cancel(struct guest_source *s)
{
	AUTO_LOCK(&s->lock);
	s->cancelled = true;
	eventfd_write(s->cancel_fd, 1);
	if (s->image_fd >= 0)
		shutdown(s->image_fd, SHUT_RDWR);
}

static void embedded_give_up(struct guest_source *s)
{
	if (!holder_is_self(s->guest.control->starter))
		return;
	log_info("%s: ended, for it was started to be protected", s->name);
	embedded_destroy(&s->guest);
}

static void embedded_close(struct guest_source *s)
{
	struct embedded_control *c;

	if (!s)
		return;
	c = s->guest.control;
	embedded_stop_tracking(s);
	/* After a reboot it has been opened anew, and is held by that. */
	if (s->hold && s->hold == atomic_load(&c->holds) &&
	    holder_is_self(c->holder))
		c->holder[0] = '\0';
	source_free(s);
}

const struct guest_source_ops guest_embedded_source = {
	.name = "embedded",
	.open = embedded_open,
	.describe = embedded_describe,
	.send_image = embedded_send_image,
	.start_tracking = embedded_track,
	.copy_ahead = embedded_copy_ahead,
	.suspend = embedded_suspend,
	.capture = embedded_capture,
	.phases = embedded_phases,
	.resume = embedded_source_resume,
	.stop_tracking = embedded_stop_tracking,
	.status = embedded_source_status,
	.nics = embedded_nics,
	.disks = embedded_disks,
	.barrier = embedded_barrier,
	.gate = embedded_gate,
	.gate_held = embedded_gate_held,
	.yield = embedded_yield,
	.after_shutdown = embedded_source_after_shutdown,
	.cancel = embedded_cancel,
	.give_up = embedded_give_up,
	.close = embedded_close,
	.rescue = embedded_rescue,
};
