/* SPDX-License-Identifier: Apache-2.0 */
/* The smaller and the larger of two, named by what they are for. */
#ifndef BASE_BOUNDS_H
#define BASE_BOUNDS_H

#include <stdint.h>

static inline uint64_t at_most(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t at_least(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
