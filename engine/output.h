/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's output (invariant 1 of the design): held back by the gate of its
 * own kind, by one on its interfaces (net/gate.h), or by none.
 */
#ifndef ENGINE_OUTPUT_H
#define ENGINE_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "net/gate.h"
#include "resume/guest.h"

struct output {
	const struct guest_source_ops *ops;
	struct guest_source *source;
	const char *guest;
	struct gate
		*gate; /* NULL: its kind has one of its own, or there is none */
};

/*
 * `limit_bytes`: what each interface may hold; 0: they get no gate, and one
 * that is there is removed.  A line says what failed.
 */
int output_open(struct output *o, const struct guest_source_ops *ops,
		struct guest_source *source, const char *guest,
		uint32_t limit_bytes);
/* Only what is there: a gate of its kind, or what a colod has left closed. */
int output_find(struct output *o, const struct guest_source_ops *ops,
		struct guest_source *source, const char *guest);
/* It is held back until its epoch is acknowledged. */
bool output_gated(const struct output *o);
/* A colod that is no more has left it held. */
bool output_found_held(const struct output *o);
/* Interfaces that the guest has got since get a gate too. */
int output_follow(struct output *o);

/* The guest runs anew, under another source.  On its thread, as the last two.
 */
int output_move(struct output *o, struct guest_source *source);

/*
 * The guest stands still, on its thread: see guest_source_ops.barrier.  An
 * errno where an interface cannot be closed.
 */
int output_barrier(struct output *o, uint64_t epoch);
/* Any thread, never waits: see guest_source_ops.gate. */
void output_order(struct output *o, enum guest_gate order, uint64_t epoch);

/* As of some seconds ago; false where no interface has a gate. */
bool output_counts(const struct output *o, struct plug_counts *out);

/* The interfaces are as they were, unless output is held.  Before the source.
 */
void output_close(struct output *o);

#endif
