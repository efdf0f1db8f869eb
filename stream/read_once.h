/* SPDX-License-Identifier: Apache-2.0 */
/* For what a guest may write to while it is read. */
#ifndef STREAM_READ_ONCE_H
#define STREAM_READ_ONCE_H

/*
 * Behind the reading: a compiler, which does not know of the guest, could read
 * it again instead of keeping what it found, in a variable or in memory.
 */
#define READ_ONCE(where, variable) __asm__("" : where(variable))
#define READ_ONCE_INTO(to) __asm__ volatile("" : : "r"(to) : "memory")

#endif
