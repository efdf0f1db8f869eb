/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named places at which a test makes the real daemon misbehave:
 *
 *	COLOD_FAULT=POINT:ACTION[:COUNT[+]][,...]
 *
 *	kill         the process dies by SIGKILL
 *	stop         the process stops by SIGSTOP, until somebody continues it
 *	hang         this thread stays here for ever
 *	error[=E]    the place behaves as if it had failed, with errno E (a name
 *	             or a number), EIO by default, ENOMEM at `memory`
 *	short        one byte is read or written
 *
 * It happens at the COUNT-th passage (the first by default), with `+` at that
 * and every later one.
 *
 * A point costs one relaxed load of a word that never changes once the daemon
 * has started, and nothing at all with --disable-faults.  Any thread.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Those where `short` has a meaning. */
#define FAULT_IO 1
/* Those that only a Xen domain passes. */
#define FAULT_XEN 2
/* Those that only a guest with a replicated disk passes. */
#define FAULT_DISK 4

/* name, text, the side that passes it, flags, what is true there */
#define FAULT_POINTS(X)                                                        \
	X(MID_IMAGE, "mid-image", "primary", 0,                                \
	  "a part of the image is queued, more follows")                       \
	X(IMAGE_SENT, "image-sent", "primary", 0,                              \
	  "the image is read, the guest suspended and not yet tracked")        \
	X(AHEAD, "ahead", "primary", 0,                                        \
	  "whether pages are copied before the suspend; error: they are")      \
	X(AFTER_SUSPEND, "after-suspend", "primary", 0,                        \
	  "the guest stands still")                                            \
	X(MID_CAPTURE, "mid-capture", "primary", 0,                            \
	  "its pages are copied, its processors' state is not")                \
	X(BEFORE_RESUME, "before-resume", "primary", 0,                        \
	  "it is to run again, and still stands")                              \
	X(AFTER_RESUME, "after-resume", "primary", 0, "the guest runs again")  \
	X(BEFORE_ENCODE, "before-encode", "primary", 0,                        \
	  "nothing of the epoch has been encoded")                             \
	X(MID_PAGES, "mid-pages", "primary", 0,                                \
	  "a PAGES frame of an epoch is queued")                               \
	X(BEFORE_STATE, "before-state", "primary", 0,                          \
	  "all pages are queued, the state is not")                            \
	X(BEFORE_EPOCH_END, "before-epoch-end", "primary", 0,                  \
	  "all is queued but EPOCH_END")                                       \
	X(AFTER_SEND, "after-send", "primary", 0, "the whole epoch is queued") \
	X(MID_BUILD, "mid-build", "secondary", 0,                              \
	  "a part of the image has arrived")                                   \
	X(AFTER_BUILD, "after-build", "secondary", 0, "the standby is built")  \
	X(MID_STORE, "mid-store", "secondary", 0,                              \
	  "a PAGES frame of an epoch has arrived")                             \
	X(BEFORE_ACK, "before-ack", "secondary", 0,                            \
	  "an epoch is stored, and not acknowledged")                          \
	X(AFTER_COMMIT, "after-commit", "secondary", 0,                        \
	  "an epoch is acknowledged, and not applied")                         \
	X(MID_APPLY, "mid-apply", "secondary", 0,                              \
	  "half of an epoch's pages are in the standby")                       \
	X(AFTER_APPLY, "after-apply", "secondary", 0, "an epoch is applied")   \
	X(BEFORE_FENCE, "before-fence", "both", 0, "the fence command is due") \
	X(AFTER_FENCE, "after-fence", "both", 0, "it has ended")               \
	X(BEFORE_ACTIVATE, "before-activate", "secondary", 0,                  \
	  "the decision to take over is made")                                 \
	X(MID_ACTIVATE, "mid-activate", "secondary", 0,                        \
	  "the standby is about to run")                                       \
	X(AFTER_ACTIVATE, "after-activate", "secondary", 0,                    \
	  "it runs; nothing is announced yet")                                 \
	X(DISK_MID_JOURNAL, "disk-mid-journal", "secondary", FAULT_DISK,       \
	  "some of an epoch's changes are in the journal")                     \
	X(DISK_MID_APPLY, "disk-mid-apply", "secondary", FAULT_DISK,           \
	  "some of a committed epoch's changes are on the disk")               \
	X(DISK_BEFORE_PROMOTE, "disk-before-promote", "secondary", FAULT_DISK, \
	  "the disks are as of the last epoch, not yet its guest's")           \
	X(DISK_BEFORE_DROP, "disk-before-drop", "secondary", FAULT_DISK,       \
	  "what was applied is stable, and still in the journal")              \
	X(MEMORY, "memory", "both", 0, "memory is taken")                      \
	X(READ, "read", "both", FAULT_IO, "the event loop receives")           \
	X(WRITE, "write", "both", FAULT_IO, "the event loop sends")            \
	X(CONNECT, "connect", "primary", 0, "a connection is made")            \
	X(ACCEPT, "accept", "both", 0, "a connection is taken")                \
	X(HANDSHAKE, "handshake", "both", 0, "a step of the TLS handshake")    \
	X(MODEL_VERSION, "model-version", "both", FAULT_XEN,                   \
	  "a device model was asked its version; error: it has the next one")  \
	X(MODEL_STATE, "model-state", "primary", FAULT_XEN,                    \
	  "a device model's state is taken; error: half of it is lost")        \
	X(SLOW_MARKED, "slow-marked", "primary", FAULT_XEN,                    \
	  "a slow resume has begun, no device knows")                          \
	X(SLOW_BACKEND, "slow-backend", "primary", FAULT_XEN,                  \
	  "a device is to be disconnected; error: it does not follow")         \
	X(SLOW_CLOSING, "slow-closing", "primary", FAULT_XEN,                  \
	  "all devices are to be disconnected, none is known to be")           \
	X(SLOW_DEVICES, "slow-devices", "primary", FAULT_XEN,                  \
	  "all devices wait for new frontends")                                \
	X(SLOW_DETACHED, "slow-detached", "primary", FAULT_XEN,                \
	  "the suspend event channel is given up")                             \
	X(SLOW_RESET_MARKED, "slow-reset-marked", "primary", FAULT_XEN,        \
	  "the domain is marked for its reset")                                \
	X(SLOW_PAUSED, "slow-paused", "primary", FAULT_XEN,                    \
	  "it is paused, and still suspended")                                 \
	X(SLOW_RESET, "slow-reset", "primary", FAULT_XEN,                      \
	  "it is reset and paused, without event channels")                    \
	X(SLOW_STORE_PORT, "slow-store-port", "primary", FAULT_XEN,            \
	  "it has a port for xenstore, none for its console")                  \
	X(SLOW_PORTS, "slow-ports", "primary", FAULT_XEN,                      \
	  "it has both ports, and is paused")                                  \
	X(SLOW_INTRODUCED, "slow-introduced", "primary", FAULT_XEN,            \
	  "xenstored has its port; it is paused")                              \
	X(SLOW_UNPAUSED, "slow-unpaused", "primary", FAULT_XEN,                \
	  "it runs; xenconsoled has no port")                                  \
	X(SLOW_PORTS_TOLD, "slow-ports-told", "primary", FAULT_XEN,            \
	  "xenconsoled has; for xenstored it has shut down")                   \
	X(SLOW_TOLD, "slow-told", "primary", FAULT_XEN,                        \
	  "all is done, colod's own event channel is not")

enum fault_point {
#define X(name, text, side, flags, what) FAULT_##name,
	FAULT_POINTS(X)
#undef X
		FAULT_COUNT
};

_Static_assert(FAULT_COUNT <= 64, "a bit of fault_armed for each point");

/* For `colod check`: calls fn for every point of this build. */
void fault_each_point(void (*fn)(void *arg, const char *name, const char *side,
				 unsigned int flags, const char *what),
		      void *arg);

/*
 * Takes the wishes of `words`, or of the environment where NULL; before the
 * process has threads.  -EINVAL after one line on standard error.
 */
int fault_init(const char *words);
/* No more of it, for a process that was forked off. */
void fault_fini(void);
/* Says in the log what this process was told to do. */
void fault_log(void);

#ifdef ENABLE_FAULTS
extern _Atomic uint64_t fault_armed;

int fault_passed(enum fault_point point, size_t *length);

static inline bool fault_wanted(enum fault_point point)
{
	return atomic_load_explicit(&fault_armed, memory_order_relaxed) >>
		       point &
	       1;
}
#else
static inline int fault_passed(enum fault_point point, size_t *length)
{
	(void)point;
	(void)length;
	return 0;
}

static inline bool fault_wanted(enum fault_point point)
{
	(void)point;
	return false;
}
#endif

/* 0, or the negative errno with which this place is to fail. */
static inline int fault_at(enum fault_point point)
{
	return fault_wanted(point) ? fault_passed(point, NULL) : 0;
}

/* The same where *length bytes are to be moved: `short` makes them one. */
static inline int fault_at_io(enum fault_point point, size_t *length)
{
	return fault_wanted(point) ? fault_passed(point, length) : 0;
}

#endif
