/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the ledger was silent: the times between two acknowledgements,
 * whichever clients they were for.  The long ones are kept one by one.
 */
#ifndef ACCOUNT_OUTAGES_H
#define ACCOUNT_OUTAGES_H

#include <stddef.h>
#include <stdint.h>

enum { OUTAGE_KEPT_US = 100000, OUTAGES_MAX = 2000 };

struct outage {
	uint64_t at_us; /* since the first acknowledgement */
	uint64_t length_us;
};

struct outages {
	uint64_t first_us;
	uint64_t last_us;
	uint64_t longest_us;
	uint64_t longest_since_mark_us;
	struct outage list[OUTAGES_MAX];
	size_t count;
};

/* An acknowledgement has arrived. */
static inline void outages_end(struct outages *o, uint64_t now_us)
{
	uint64_t length_us = now_us - o->last_us;

	if (!o->first_us) {
		o->first_us = o->last_us = now_us;
		return;
	}
	if (length_us > o->longest_us)
		o->longest_us = length_us;
	if (length_us > o->longest_since_mark_us)
		o->longest_since_mark_us = length_us;
	if (length_us > OUTAGE_KEPT_US && o->count < OUTAGES_MAX)
		o->list[o->count++] = (struct outage){
			.at_us = o->last_us - o->first_us,
			.length_us = length_us,
		};
	o->last_us = now_us;
}

#endif
