/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An epoch on the secondary, from EPOCH_BEGIN to EPOCH_END.
 *
 * The happy path:
 *   - store_begin() with the epoch's number;
 *   - store_pages() and store_state() decode each payload as it arrives, the
 *     latest version of each gfn replacing an earlier one of the same epoch, or
 *     changed by a delta; one that is of an earlier epoch's version stays a
 *     delta, and so does a second one behind it;
 *   - store_end() compares counts and checksum: only now is it complete;
 *   - store_each_page() and store_record() hand it to the standby.
 * Failure: any error leaves the store incomplete for good; store_complete()
 * is false, and a store that is not complete is never applied.
 *
 * Memory: the most that an epoch had.  That is at most the guest's RAM in
 * pages, twice more where each came as two deltas before, plus WIRE_STATE_MAX
 * of state, all checked before anything is taken.  One thread at a time.
 */
#ifndef STREAM_STORE_H
#define STREAM_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream/format.h"
#include "stream/history.h"
#include "stream/pages.h"
#include "stream/records.h"

struct store;

/*
 * For a guest with `ram_bytes` of memory and no gfn above `max_gfn`.  The page
 * limit is ram_bytes / WIRE_PAGE_BYTES plus a small slack for the special
 * frames of a domain.  `history`, the caller's, is of all that came before by
 * the same connection, in other stores too; NULL: deltas are refused.  NULL: no
 * memory.
 */
struct store *store_new(uint64_t ram_bytes, uint64_t max_gfn,
			struct history *history);
void store_free(struct store *s); /* NULL is fine */
/* An epoch for which it would hold more than this is refused with -E2BIG. */
void store_limit(struct store *s, size_t bytes);

/* Empties the store for epoch `number` (> 0). */
void store_begin(struct store *s, uint64_t number);

/* -EPROTO (malformed), -E2BIG (over a limit), -ENOMEM, with *why set. */
int store_pages(struct store *s, const uint8_t *payload, size_t length,
		const char **why);
int store_state(struct store *s, const uint8_t *payload, size_t length,
		const char **why);
/*
 * A DISK payload, whose changes go elsewhere (changes.h): only what counts for
 * store_end() is taken of it.  In front of the state.
 */
int store_disk(struct store *s, const uint8_t *payload, size_t length,
	       const char **why);
/*
 * 0 and complete, or -EBADMSG where a count or the checksum does not hold, or
 * -EPROTO where the state is not a sequence of whole records or has an unknown
 * mandatory one.
 */
int store_end(struct store *s, const struct wire_epoch_end *end,
	      const char **why);

bool store_complete(const struct store *s);
uint64_t store_number(const struct store *s);
size_t store_page_count(const struct store *s);	  /* distinct gfns */
size_t store_memory_bytes(const struct store *s); /* held at the moment */

/*
 * Calls `page` for each distinct gfn, twice in order where two deltas of it
 * have come.  Stops at the first negative return and returns it, else 0.
 */
int store_each_page(const struct store *s,
		    int (*page)(void *arg, const struct page_item *item),
		    void *arg);

/* Finds the first record of this type; false where there is none. */
bool store_record(const struct store *s, enum wire_record type,
		  struct record *r);

#endif
