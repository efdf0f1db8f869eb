/* SPDX-License-Identifier: Apache-2.0 */
/* The moves of the state word that both processes make (see control.h). */
#include "config.h"

#include "resume/embedded/control.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

size_t embedded_control_bytes(uint64_t ram_bytes)
{
	size_t bitmap = (ram_bytes / WIRE_PAGE_BYTES + 63) / 64 * 8;
	size_t all = sizeof(struct embedded_control) + bitmap;

	return (all + WIRE_PAGE_BYTES - 1) / WIRE_PAGE_BYTES * WIRE_PAGE_BYTES;
}

/* Not private: the two sides are two processes. */
void embedded_futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void embedded_futex_wait(_Atomic uint32_t *word, uint32_t value,
			 uint64_t timeout_us)
{
	const struct timespec t = {
		.tv_sec = (time_t)(timeout_us / 1000000),
		.tv_nsec = (long)(timeout_us % 1000000) * 1000,
	};

	syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_us ? &t : NULL,
		NULL, 0);
}

/*
 * RESUMING is left last, so that whoever dies in between leaves a state that
 * says so; doing it all twice does no harm.  A WANTED that came meanwhile is
 * for the next suspend.  Once all have left, the guest's process may have
 * stopped them again before the word says RUNNING: that state stays.
 */
static void resume_rest(struct embedded_control *c, uint32_t code)
{
	uint32_t was = EMBEDDED_STATE_RESUMING;

	atomic_store(&c->return_code, code);
	atomic_store(&c->stop, 0);
	atomic_fetch_add(&c->resumes, 1);
	while ((was & EMBEDDED_STATE_MASK) == EMBEDDED_STATE_RESUMING &&
	       !atomic_compare_exchange_weak(&c->state, &was,
					     EMBEDDED_STATE_RUNNING |
						     (was & EMBEDDED_WANTED)))
		;
	embedded_futex_wake(&c->resumes);
}

bool embedded_resume(struct embedded_control *c, uint32_t from, uint32_t code)
{
	if (!atomic_compare_exchange_strong(&c->state, &from,
					    EMBEDDED_STATE_RESUMING))
		return false;
	resume_rest(c, code);
	return true;
}

bool embedded_resume_after_death(struct embedded_control *c)
{
	uint32_t was = atomic_fetch_and(&c->state, (uint32_t)~EMBEDDED_WANTED);

	was &= EMBEDDED_STATE_MASK;
	/* Died between the store and the wake. */
	embedded_futex_wake(&c->resumes);
	if (was == EMBEDDED_STATE_RESUMING)
		resume_rest(c, atomic_load(&c->return_code));
	else if (was != EMBEDDED_STATE_SUSPENDED)
		return false;
	else /* else the guest's own process has been quicker */
		embedded_resume(c, EMBEDDED_STATE_SUSPENDED, 1);
	return true;
}
