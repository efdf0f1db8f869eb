/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named places at which a test makes the daemon misbehave:
 *
 *	COLOD_FAULT=POINT:ACTION[:COUNT]
 *
 * At the COUNT-th passage of POINT (the first by default) the process hangs
 * there for ever or is killed.  Compiled out by --disable-faults.
 */
#ifndef ENGINE_FAULT_H
#define ENGINE_FAULT_H

#define FAULT_POINTS(X)                                                    \
	X(AFTER_SUSPEND, "after-suspend")     /* the guest stands still */ \
	X(BEFORE_RESUME, "before-resume")     /* captured, still stands */ \
	X(BEFORE_ACTIVATE, "before-activate") /* the decision is made */

enum fault_point {
#define X(name, text) FAULT_##name,
	FAULT_POINTS(X)
#undef X
		FAULT_COUNT
};

#ifdef ENABLE_FAULTS
void fault_here(enum fault_point point);
#else
static inline void fault_here(enum fault_point point)
{
	(void)point;
}
#endif

#endif
