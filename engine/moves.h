/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State machines as tables: the allowed moves are data, every move is one log
 * line, and a move that the table does not allow is a broken invariant, which
 * aborts with the trace of the last moves.
 */
#ifndef ENGINE_MOVES_H
#define ENGINE_MOVES_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

struct move_table {
	const char *machine;	  /* for the log: "primary", "epoch" */
	const char *const *names; /* of the states */
	const uint32_t *allowed; /* [from]: a bit for each state it may go to */
	size_t states;		 /* at most 32 */
	enum log_level level;	 /* of the line a move logs */
};

#define MOVE_TO(state) (UINT32_C(1) << (state))

/* True where the table allows `from` -> `to`. */
bool move_allowed(const struct move_table *t, unsigned int from,
		  unsigned int to);

/*
 * Moves *state to `to` and logs "MACHINE SUBJECT: OLD -> NEW (why)"; `subject`
 * is the domain's name or the epoch's number.
 */
void move(const struct move_table *t, unsigned int *state, unsigned int to,
	  const char *subject, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Logs what was broken and the last moves of this process, then aborts. */
void invariant_broken(const char *what) __attribute__((noreturn));

#define INVARIANT(condition, what)              \
	do {                                    \
		if (!(condition))               \
			invariant_broken(what); \
	} while (0)

#endif
