/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that reads a clock.  The state machines do not use it: they
 * ask their environment (engine/env.h), so that a simulator can replace time.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <sys/types.h>

/* Monotonic time in microseconds; only differences mean anything. */
uint64_t clock_now_us(void);

/*
 * What all threads of a process of this machine have taken of its processors,
 * those that have ended too.  -errno: there is none.
 */
int clock_process_us(pid_t pid, uint64_t *us);

/* Blocks the calling thread; never to be used on the event loop's thread. */
void clock_sleep_us(uint64_t us);

#endif
