/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orders to the output gate, which is in the guest's process (backend.c): words
 * in the control page, and a kick.
 *
 * A reply bears the generation and the number of the epoch that the guest runs
 * in.  Epoch numbers begin anew with each image, generations do not, so what
 * is held from before an image counts as older than all after it.
 */
#include "config.h"

#include "resume/embedded/source.h"

#include <sys/eventfd.h>

static void kick(struct guest_source *s)
{
	eventfd_write(s->guest.fd[EMBEDDED_FD_BACKEND], 1);
}

void embedded_barrier(struct guest_source *s, uint64_t epoch)
{
	struct embedded_control *c = s->guest.control;
	uint64_t generation =
		atomic_load(&c->gate_current) >> EMBEDDED_GATE_SHIFT;
	uint32_t open = EMBEDDED_GATE_OPEN;

	if (epoch == 0)
		generation++;
	atomic_store(&c->gate_current,
		     (generation << EMBEDDED_GATE_SHIFT) + epoch + 1);
	/* The order to open may have come since this epoch was begun. */
	if (epoch > 0)
		return;
	if (c->spec.workload == EMBEDDED_LEDGER && !c->spec.gate)
		return;
	/* One that drops stays so; both orders may come at the same time. */
	atomic_compare_exchange_strong(&c->gate_mode, &open,
				       EMBEDDED_GATE_CLOSED);
}

static void release(struct embedded_control *c, uint64_t epoch)
{
	uint64_t generation =
		atomic_load(&c->gate_current) >> EMBEDDED_GATE_SHIFT;
	uint64_t to = (generation << EMBEDDED_GATE_SHIFT) + epoch;
	uint64_t was = atomic_load(&c->gate_released);

	while (was < to &&
	       !atomic_compare_exchange_weak(&c->gate_released, &was, to))
		;
}

void embedded_gate(struct guest_source *s, enum guest_gate order,
		   uint64_t epoch)
{
	struct embedded_control *c = s->guest.control;

	switch (order) {
	case GUEST_GATE_RELEASE:
		release(c, epoch);
		break;
	case GUEST_GATE_OPEN:
		atomic_store(&c->gate_mode, EMBEDDED_GATE_OPEN);
		break;
	case GUEST_GATE_DROP:
		atomic_store(&c->gate_mode, EMBEDDED_GATE_DROP);
		break;
	}
	kick(s);
}

bool embedded_gate_held(struct guest_source *s)
{
	return s->held;
}
