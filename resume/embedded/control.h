/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control page: for an embedded guest what hypervisor and xenstore are for
 * a domain.  Shared by the guest's process, which owns it, and by colod; it
 * outlives colod, so that a new one finds what the dead one was doing.
 *
 * The state word.  A suspend goes
 *
 *   colod                            guest's process
 *   state |= WANTED, asks
 *                                    stop = SUSPENDED; all threads park
 *                                    state: RUNNING -> SUSPENDED, tells
 *   captures
 *   state -> RESUMING, stop = 0,
 *   resumes++, state -> RUNNING, wakes
 *
 * WANTED says that somebody waits for the suspend.  Where the request has been
 * withdrawn and the guest suspends late all the same, WANTED is not set, and
 * the guest's process lets the guest run again by itself.  Because it is a bit
 * of the same word, the one cannot happen between the other's look and leap.
 *
 * A thread that parks leaves when `resumes` is another than when it came.  The
 * guest's process does not stop anything before all have left, so nobody can
 * miss a wake-up.  All accesses are atomic; both processes are of one build.
 */
#ifndef RESUME_EMBEDDED_CONTROL_H
#define RESUME_EMBEDDED_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "resume/embedded/spec.h"
#include "resume/holder.h"

#define EMBEDDED_TWIN_SUFFIX "--standby"
#define EMBEDDED_MAGIC UINT64_C(0x3244424d45444c43)

enum embedded_state {
	EMBEDDED_STATE_RUNNING = 1,
	EMBEDDED_STATE_RESUMING,
	EMBEDDED_STATE_SUSPENDED,
	EMBEDDED_STATE_PAUSED, /* a standby, or yielded */
	EMBEDDED_STATE_POWEROFF,
	EMBEDDED_STATE_REBOOT,
	EMBEDDED_STATE_CRASHED,
	EMBEDDED_STATE_MASK = 0xff,
	EMBEDDED_WANTED = 0x100,
};

/* The analogue of control/shutdown. */
enum embedded_word { EMBEDDED_WORD_NONE, EMBEDDED_WORD_SUSPEND };

enum embedded_gate_mode {
	EMBEDDED_GATE_OPEN,
	EMBEDDED_GATE_CLOSED,
	EMBEDDED_GATE_DROP,
};

/* gate_current, gate_released: generation << 40 | epoch. */
enum { EMBEDDED_GATE_SHIFT = 40 };

enum { EMBEDDED_REGISTERS = 8 };

/* What a vCPU is, apart from the memory. */
struct embedded_vcpu {
	uint64_t reg[EMBEDDED_REGISTERS];
};

struct embedded_control {
	/* Set before anybody else sees the page. */
	uint64_t magic;
	uint64_t bytes;
	uint64_t ram_bytes;
	uint64_t map_address; /* of the memory, in the guest's process */
	uint32_t vcpu_count;
	uint32_t tracker; /* enum embedded_tracker, proven */
	uint8_t uuid[16];
	char process[HOLDER_BYTES];
	struct embedded_spec spec; /* suspend, late_ms: see below */
	bool standby;		   /* built as one */

	_Atomic uint32_t state;
	_Atomic uint32_t stop;	  /* 0, or the state to be reached */
	_Atomic uint32_t parked;  /* threads that stand still */
	_Atomic uint32_t resumes; /* futex of those */
	_Atomic uint32_t return_code;
	_Atomic uint32_t word; /* enum embedded_word */
	_Atomic uint32_t manner;
	_Atomic uint32_t late_ms;

	/* Counters, for people and tests. */
	_Atomic uint64_t suspends;
	_Atomic uint64_t late_resumes; /* suspends that nobody waited for */
	_Atomic uint64_t steps;

	_Atomic uint32_t gate_mode;
	_Atomic uint64_t gate_current;
	_Atomic uint64_t gate_released;
	_Atomic uint64_t gate_holding; /* replies held, for people */

	/* The colod that started it to protect it, or "". */
	char starter[HOLDER_BYTES];
	/* The colod that has this guest open, or "". */
	char holder[HOLDER_BYTES];
	/* Counts holds, for one that has it open twice, as after a reboot. */
	_Atomic uint64_t holds;

	struct embedded_vcpu vcpu[EMBEDDED_VCPUS_MAX];
	/* One bit a page: written, where the mprotect tracker is in use. */
	_Atomic uint64_t written[];
};

/* Of the whole object, page aligned. */
size_t embedded_control_bytes(uint64_t ram_bytes);

static inline uint32_t embedded_state_of(const struct embedded_control *c)
{
	return atomic_load(&c->state) & EMBEDDED_STATE_MASK;
}

/*
 * From exactly the state word `from` to running.  `code` is what the guest
 * finds: 1 cancelled, 0 moved.  False: the state was another one.
 */
bool embedded_resume(struct embedded_control *c, uint32_t from, uint32_t code);

/*
 * After the death of the process that was at it: whatever it left half done,
 * and with nobody waiting any more.  True where the guest had stood still.
 */
bool embedded_resume_after_death(struct embedded_control *c);

void embedded_futex_wake(_Atomic uint32_t *word);
/* Until the word is another or `timeout_us` (0: for ever) have passed. */
void embedded_futex_wait(_Atomic uint32_t *word, uint32_t value,
			 uint64_t timeout_us);

#endif
