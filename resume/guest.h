/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest seam: all that the engine knows of a guest.
 *
 * Two halves: a *source* is the guest that runs on the primary, a *standby*
 * its paused twin on the secondary.  Implementations: resume/xen/ (a domain)
 * and resume/embedded/ (an ordinary process, on any Linux).
 *
 * `run_dir` is where colod keeps its sockets and locks; a kind of guest that
 * needs files of its own puts them there.
 *
 * Threads: every operation but `cancel` may block and is called from the
 * guest's own worker thread, one at a time; before that thread has work, and
 * for `nics` and `sweep`, from the thread that starts it.  `cancel` may be
 * called from any thread.  An implementation holds no global state: several
 * guests may live in one process.
 *
 * Errors: 0 or a negative errno.  The operation logs what went wrong; where a
 * `struct guest_error` is passed it also says in one line, fit for an
 * operator, what happened and what to do next.
 */
#ifndef RESUME_GUEST_H
#define RESUME_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/epoch.h"
#include "stream/messages.h"
#include "stream/store.h"

/* One line for the operator: what failed, why, what to do next. */
struct guest_error {
	char text[512];
};

void guest_error_set(struct guest_error *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

enum guest_status {
	GUEST_RUNNING,
	GUEST_SUSPENDED, /* by its own suspend protocol */
	GUEST_POWEROFF,
	GUEST_REBOOT,
	GUEST_CRASHED,
	GUEST_GONE, /* does not exist any more */
};

const char *guest_status_text(enum guest_status s);

/* What the guest finds on waking: the meaning of the suspend's return code. */
enum guest_resume {
	/*
	 * Return code 1, "cancelled": the guest carries on with its devices as
	 * they were.  Only for a guest that suspended itself.
	 */
	GUEST_RESUME_FAST,
	/* Return code 0: the guest sets up everything anew, devices too. */
	GUEST_RESUME_SLOW,
};

/* How a guest is asked to suspend itself: --suspend. */
enum guest_ask {
	GUEST_ASK_AUTO, /* by event channel where the guest offers one */
	GUEST_ASK_EVTCHN,
	GUEST_ASK_XENSTORE,
	/* Not asked but stopped: only one without PV drivers survives that. */
	GUEST_ASK_TOOLSTACK,
};

const char *guest_ask_text(enum guest_ask ask);

/* The operator's choice of how a source is suspended and resumed. */
struct guest_manner {
	enum guest_ask ask;
	enum guest_resume resume;
	uint64_t interval_ms; /* of the epochs; 0: not known */
	/* Where what it writes cannot be tracked: all of it, each time. */
	bool full_scan;
	/* It is not suspended at all, so any that runs will do. */
	bool never;
};

/* How the last suspend and resume went; times of parts not passed are 0. */
struct guest_phases {
	enum guest_ask asked; /* AUTO: not yet */
	/* Of a slow resume: */
	uint64_t devices_us; /* backends made ready for new frontends */
	uint64_t reset_us;   /* event channels, vcpu_info and the like undone */
	uint64_t channels_us; /* new ones, until the vCPUs run */
	uint64_t hypercalls;  /* since the last question */
};

/* What is to become of the guest's output, see `gate` below. */
enum guest_gate { GUEST_GATE_RELEASE, GUEST_GATE_OPEN, GUEST_GATE_DROP };

enum { GUEST_NICS_MAX = 8 };

/* A network interface of the guest as its host sees it. */
struct guest_nic {
	uint8_t mac[6];
	char ifname[16]; /* the backend's interface, e.g. vif3.0 */
};

enum { GUEST_DISKS_MAX = 16, GUEST_DISK_NAME_MAX = 48 };

/* A replicated disk of the guest's (resume/disk/). */
struct guest_disk {
	char name[GUEST_DISK_NAME_MAX + 1];
};

struct guest_source;
struct guest_standby;

/*
 * The primary's half.  Order of calls:
 *
 *   open, describe
 *   send_image -> guest is suspended
 *   start_tracking, resume
 *   any number of: copy_ahead -> suspend -> capture -> resume
 *   stop_tracking, close
 *
 * send_image .. stop_tracking may be repeated (a new full synchronisation).
 * After any failure the engine calls resume where the guest may be suspended,
 * then stop_tracking.  status may be called at any time after open.
 */
struct guest_source_ops {
	const char *name; /* "xen" */

	/*
	 * Finds the guest by the operator's words (name or id, without the
	 * kind's prefix), and checks that it can be protected.
	 * Changes nothing of it.  -ENOENT: no such
	 * guest; -ENOTSUP: of a kind that is not supported; -EAGAIN: it cannot
	 * be suspended, or not yet, for it is booting; -EPERM/-EACCES: no
	 * privilege; -EOPNOTSUPP: not in this manner, and another one is named.
	 */
	int (*open)(const char *words, const char *run_dir,
		    const struct guest_manner *manner,
		    struct guest_source **out, struct guest_error *err);

	/* Fills *d; the caller calls guest_description_fini(). */
	int (*describe)(struct guest_source *s, struct guest_description *d,
			struct guest_error *err);

	/*
	 * Writes the initial image to `fd` (a blocking socket, which stays the
	 * caller's) while the guest runs, suspends the guest and writes the
	 * rest.  On success the guest is left SUSPENDED.  On failure it is left
	 * running.  Ends early with -ECANCELED or -EPIPE when `cancel` is
	 * called or the reader goes away.
	 */
	int (*send_image)(struct guest_source *s, int fd,
			  struct guest_error *err);

	/*
	 * Starts recording which pages the guest writes.  The guest is
	 * SUSPENDED: what it writes after the resume that follows is seen by
	 * the next capture, and nothing before.  Proves that the recording
	 * works, or fails: an ignored failure would lose memory silently.
	 */
	int (*start_tracking)(struct guest_source *s, struct guest_error *err);

	/*
	 * RUNNING: puts the pages written since the last capture into `e`,
	 * which is empty, so that the capture that follows has less to do; what
	 * is written again meanwhile that one copies again.  Stops where `e` is
	 * full.  `e` has an index.
	 * With `apart`, `e` is a round of its own, and the capture goes into
	 * another one; pages may be referred to instead of copied: until they
	 * are encoded no operation is called that could resume the guest, track
	 * it anew or let go of its memory.
	 * Without, it goes into `e` too, and if none succeeds the next one
	 * takes what was copied here.
	 * NULL where a kind cannot; a source that cannot, or that has little to
	 * copy, does nothing.
	 */
	void (*copy_ahead)(struct guest_source *s, struct epoch *e, bool apart);

	/*
	 * Asks the guest to suspend itself and waits at most `timeout_us`; and
	 * as long again, before it is asked, for devices that a slow resume has
	 * not yet brought back.
	 * 0: SUSPENDED.  -ESHUTDOWN: it powered off, rebooted, crashed or is
	 * gone: ask status.  In all that follow the guest runs on, and should
	 * it suspend late all the same, the implementation resumes it:
	 * -ETIMEDOUT: it has not acknowledged the request, which is withdrawn;
	 * -EINPROGRESS: it has, and did not suspend in time; -EBUSY: somebody
	 * else wants something of it (xl save, xl shutdown); -ENOTCONN: its
	 * devices are not back since the last slow resume, or are just being
	 * attached; -EREMOTEIO: its device model did not do its part.
	 */
	int (*suspend)(struct guest_source *s, uint64_t timeout_us);

	/*
	 * SUSPENDED: copies the pages written since the last capture, or since
	 * they were copied ahead, and the CPU state into `e`, which
	 * belongs to the caller and has what was copied ahead into it or is
	 * empty, and fills the scan, copy and state times.  Allocates nothing.
	 * Where the pages do not fit, takes as many as do, remembers the rest
	 * for the next capture and sets e->partial.  -ESTALE: the guest's
	 * memory layout changed (ballooning); a new image is needed.
	 */
	int (*capture)(struct guest_source *s, struct epoch *e);

	/* SUSPENDED -> RUNNING.  -ENOTSUP: this kind is not safe here. */
	int (*resume)(struct guest_source *s, enum guest_resume kind);

	/* Of the last suspend and resume; ask once for each.  May be NULL. */
	void (*phases)(struct guest_source *s, struct guest_phases *p);

	/* Stops recording; harmless when it was never started. */
	void (*stop_tracking)(struct guest_source *s);

	enum guest_status (*status)(struct guest_source *s);

	/* Fills at most GUEST_NICS_MAX entries; returns how many. */
	size_t (*nics)(struct guest_source *s, struct guest_nic *nics);

	/*
	 * Its replicated disks, each once, in an order that stays the same while
	 * it has the same disks: fills at most GUEST_DISKS_MAX entries and
	 * returns how many it has.  NULL: the kind has none.
	 */
	size_t (*disks)(struct guest_source *s, struct guest_disk *disks);

	/*
	 * The output gate (invariant 1 of the design); both NULL where the
	 * kind has none.
	 *
	 * barrier: SUSPENDED, on the guest's thread.  What the guest has put
	 * out so far belongs to `epoch` or an earlier one.  Epoch 0, the image,
	 * begins anew: all that is held from before belongs to it, and the gate
	 * is closed.  Any other leaves it as it is: it may have been opened
	 * meanwhile.
	 *
	 * gate: any thread, never blocks.  RELEASE: what belongs to `epoch` and
	 * to earlier ones leaves.  OPEN: all of it leaves, and from now on
	 * everything at once.  DROP: what is held never leaves, nor does
	 * anything from now on; the guest yields, and no order follows.
	 */
	void (*barrier)(struct guest_source *s, uint64_t epoch);
	void (*gate)(struct guest_source *s, enum guest_gate order,
		     uint64_t epoch);
	/* A colod that is no more has left the gate holding.  May be NULL. */
	bool (*gate_held)(struct guest_source *s);

	/*
	 * The standby has taken over elsewhere: make sure that this guest does
	 * not run, without destroying anything (a paused domain).
	 */
	int (*yield)(struct guest_source *s);

	/*
	 * After GUEST_POWEROFF/REBOOT/CRASHED: does what the guest's own
	 * configuration says (on_poweroff, on_reboot, on_crash), since the
	 * tool that would have done so left when the guest was first
	 * suspended.  *again is set where the guest runs anew and may be opened
	 * again by its name.
	 */
	int (*after_shutdown)(struct guest_source *s, bool *again);

	/* Makes a blocked send_image or suspend return soon.  Any thread. */
	void (*cancel)(struct guest_source *s);

	/*
	 * Before close, where the guest was never protected: one that `open`
	 * has started, for this protection alone, ends with it.  NULL where
	 * open starts none.
	 */
	void (*give_up)(struct guest_source *s);

	/* Stops tracking where it was on; the guest runs on. */
	void (*close)(struct guest_source *s);

	/*
	 * For a process of its own, after the one that held the source died at
	 * any point: makes sure that the guest runs, withdraws a request it
	 * left, waits up to `patience_us` for a suspend under way to resume it,
	 * and undoes tracking and subscriptions.  Uses nothing of the dead
	 * process.  A gate that holds goes on holding: the standby may be about
	 * to take over.  0: the guest runs and nothing is left behind; -ENOENT:
	 * no such guest; -EBUSY: the process that holds it lives; -EINPROGRESS:
	 * it runs, and a suspend may come after that patience: call again.
	 */
	int (*rescue)(const char *words, const char *run_dir,
		      uint64_t patience_us);
};

/* A guest as the stream knows it. */
struct guest_wire_kind {
	enum wire_guest_kind kind;
	/* The records without which nothing is activated from an epoch; 0 ends.
	 */
	enum wire_record needs[3];
	/*
	 * Whether its pages may come as deltas: its standby has them at hand as
	 * they were, where nothing but apply() writes to them.
	 */
	bool deltas;
	/*
	 * Whether a record of them is whole, as far as its bytes tell; NULL:
	 * they do not.  Any thread.
	 */
	bool (*whole)(const struct record *r);
};

/*
 * The secondary's half.  Order of calls:
 *
 *   build -> any number of apply -> activate -> status, after_shutdown, close
 *                                -> destroy
 */
struct guest_standby_ops {
	const char *name;
	/* What guests it stands by for; one of kind 0 ends them. */
	const struct guest_wire_kind *kinds;

	/*
	 * Builds the paused twin from `d` and the image read from `fd`, with
	 * all its devices, so that nothing is created at activation (but for
	 * what libxl makes of a PV domain only then).  Removes
	 * first what an earlier colod left behind under the standby's name.
	 * Ends early where `fd` is shut down.
	 * `d` stays the caller's.  -EALREADY: this very guest (by its uuid)
	 * runs here, so it has been taken over; -EEXIST: another of its name is
	 * here.  On failure nothing is left.
	 */
	int (*build)(const struct guest_description *d, const char *run_dir,
		     int fd, struct guest_standby **out,
		     struct guest_error *err);

	/*
	 * Writes a complete epoch into the twin's memory and keeps its CPU
	 * state for activation.  An error means that the twin is inconsistent:
	 * it must be destroyed, never activated.
	 */
	int (*apply)(struct guest_standby *s, const struct store *epoch);

	/*
	 * Loads the CPU state last applied and lets the twin run, under the
	 * guest's own name.  No return to standby from here.
	 */
	int (*activate)(struct guest_standby *s, struct guest_error *err);

	size_t (*nics)(struct guest_standby *s, struct guest_nic *nics);
	enum guest_status (*status)(struct guest_standby *s);
	int (*after_shutdown)(struct guest_standby *s, bool *again);

	/* Frees the handle and leaves an activated guest running. */
	void (*close)(struct guest_standby *s);

	/* Removes the twin and all that belongs to it, then frees the handle.
	 */
	void (*destroy)(struct guest_standby *s);

	/*
	 * Removes the twins that a colod which is no more has left on this
	 * host; never one that was activated or that a living colod holds.
	 */
	int (*sweep)(const char *run_dir);
};

/* One fact of this host for `colod check`: a name, a value, good or not. */
typedef void guest_fact_fn(void *arg, const char *name, const char *value,
			   bool good);

struct guest_kind {
	const char *prefix; /* of an operator's words: "embedded:" */
	/*
	 * The guest's name in such words, which may have options behind it.
	 * Looks at the words alone.  -EINVAL: they are not well formed.
	 */
	int (*name)(const char *words, char name[WIRE_NAME_MAX + 1],
		    struct guest_error *err);
	const struct guest_source_ops *source;
	const struct guest_standby_ops *standby;
	/* Reports what this host offers for this kind of guest. */
	void (*probe)(guest_fact_fn *fact, void *arg);
	/*
	 * Reports what a running guest is and how it can be protected; the last
	 * fact says whether it can.  Changes nothing of it.  NULL: there is
	 * nothing to find out about guests of this kind.
	 */
	int (*examine)(const char *words, guest_fact_fn *fact, void *arg,
		       struct guest_error *err);
};

extern const struct guest_kind guest_xen;
extern const struct guest_kind guest_embedded;

/* All kinds built in, NULL at the end. */
extern const struct guest_kind *const guest_kinds[];

/*
 * The kind that `words` (a DOMAIN on the command line) speak of: the one whose
 * prefix they begin with, else the first in the list.
 */
const struct guest_kind *guest_kind_of_words(const char *words);
/* For a kind whose words are the name and nothing else: its `name`. */
int guest_plain_name(const char *words, char name[WIRE_NAME_MAX + 1],
		     struct guest_error *err);
/* The same words without the kind's prefix: what its operations take. */
const char *guest_words(const struct guest_kind *kind, const char *words);
/* The kind that builds this standby, or NULL. */
const struct guest_kind *guest_kind_of_wire(enum wire_guest_kind kind);
const struct guest_wire_kind *guest_wire_kind(enum wire_guest_kind kind);

/*
 * Holds the right to this guest name on this host, as source or as standby,
 * until the descriptor is closed (also by the process's death; a guard that
 * inherited the descriptor keeps it).  -EBUSY: another colod holds it.
 */
int guest_lock(const char *name, const char *run_dir);

#endif
