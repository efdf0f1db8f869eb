/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a primary takes memory for: arenas and frames, all of it at the start,
 * and the shadow, as pages are sent.
 *
 * Under --memory-limit the frames come first, arenas take half of what is left
 * at most, and the shadow may grow into the rest.  Less of either costs rounds
 * and bytes, never an epoch.
 */
#include "config.h"

#include "engine/primary_daemon_impl.h"

#include <errno.h>
#include <stdio.h>

#include "base/bounds.h"
#include "base/clock.h"

enum {
	POOL_FRAMES = 32,
	/* Less than a megabyte of pages, and an epoch would be all rounds. */
	ARENA_PAGES_MIN = 256,
	/* Of its place in an epoch: gfn, where, index; and its gfn's bits. */
	PAGE_EXTRA_BYTES = 24,
	/* Of a page in the shadow, and what its two arenas round up to. */
	SHADOW_EXTRA_BYTES = 24,
	SHADOW_STEPS_BYTES = 4 * 1024 * 1024,
	/* How long, and for how much more, a look at free memory is good. */
	ROOM_LOOK_US = 1000 * 1000,
	ROOM_LOOK_BYTES = 64 << 20,
};

/* With some that are not its memory: shared_info, xenstore, console. */
static uint64_t all_pages(const struct primary_daemon *pd)
{
	return pd->guest.ram_bytes / WIRE_PAGE_BYTES + 256;
}

/*
 * To copy pages ahead an arena needs four bytes for each gfn; a guest decides
 * how high those go, so it may be that this is too much.
 */
static bool worth_an_index(const struct primary_daemon *pd)
{
	const uint64_t small = UINT64_C(16) << 20;
	uint64_t bytes = (pd->guest.max_gfn + 1) * sizeof(uint32_t);

	return pd->ops->copy_ahead &&
	       (bytes <= small || bytes <= pd->guest.ram_bytes / 256);
}

/* What is taken whatever the limit says. */
static uint64_t fixed_bytes(const struct primary_daemon *pd)
{
	uint64_t index = worth_an_index(pd)
				 ? (pd->guest.max_gfn + 1) * sizeof(uint32_t)
				 : 0;

	return (uint64_t)POOL_FRAMES * WIRE_PAYLOAD_MAX +
	       pd->d.set->inflight * (WIRE_STATE_MAX + index);
}

static uint64_t arenas_bytes(const struct primary_daemon *pd, uint64_t pages)
{
	return pd->d.set->inflight * pages *
	       (WIRE_PAGE_BYTES + PAGE_EXTRA_BYTES);
}

/* Pages of an arena; 0, and a line, where the limit is too low for any. */
static uint64_t arena_pages(const struct primary_daemon *pd)
{
	uint64_t wanted =
		at_most(pd->d.set->arena_mib << 20 >> 12, all_pages(pd));
	uint64_t limit = pd->d.set->memory_limit_mib << 20;
	uint64_t least =
		fixed_bytes(pd) + 2 * arenas_bytes(pd, ARENA_PAGES_MIN);

	if (!limit)
		return wanted;
	if (limit < least) {
		fprintf(stderr,
			"colod: --memory-limit=%llu is too low: %s takes %llu "
			"MiB at the least, less with a smaller --in-flight\n",
			(unsigned long long)(limit >> 20), pd->guest.name,
			(unsigned long long)((least + (1 << 20) - 1) >> 20));
		return 0;
	}
	return at_most(wanted,
		       (limit - fixed_bytes(pd)) / 2 / arenas_bytes(pd, 1));
}

/* Of each gfn that the guest may have, whatever is sent. */
static uint64_t shadow_index_bytes(const struct primary_daemon *pd)
{
	return (pd->guest.max_gfn + 1) * sizeof(uint32_t) + SHADOW_STEPS_BYTES;
}

static uint64_t shadow_bound(const struct primary_daemon *pd, uint64_t pages)
{
	uint64_t bytes = at_most(pd->d.set->shadow_mib << 20,
				 all_pages(pd) * WIRE_PAGE_BYTES);
	uint64_t left = pd->d.set->memory_limit_mib << 20;

	if (!guest_wire_kind(pd->guest.kind)->deltas)
		return 0;
	if (!left)
		return bytes;
	left -= fixed_bytes(pd) + arenas_bytes(pd, pages);
	if (left < shadow_index_bytes(pd))
		return 0;
	left = (left - shadow_index_bytes(pd)) /
	       (WIRE_PAGE_BYTES + SHADOW_EXTRA_BYTES) * WIRE_PAGE_BYTES;
	return at_most(bytes, left);
}

static int make_arena(struct primary_daemon *pd, uint64_t pages)
{
	struct epoch *e = epoch_new(pages, WIRE_STATE_MAX);

	if (!e || (worth_an_index(pd) && epoch_index(e, pd->guest.max_gfn))) {
		epoch_free(e);
		fprintf(stderr,
			"colod: no memory for %u arenas of %llu MiB; try a "
			"smaller --arena\n",
			(unsigned int)pd->d.set->inflight,
			(unsigned long long)pages >> 8);
		return -ENOMEM;
	}
	pd->arenas[pd->arena_count++] = e;
	return 0;
}

int primary_daemon_memory(struct primary_daemon *pd)
{
	uint64_t pages = arena_pages(pd);
	unsigned int i;
	int err = pages ? 0 : -EINVAL;

	for (i = 0; i < pd->d.set->inflight && !err; i++)
		err = make_arena(pd, pages);
	if (err)
		return err;
	pd->taken_bytes = fixed_bytes(pd) + arenas_bytes(pd, pages);
	pd->shadow_bytes = shadow_bound(pd, pages);
	if (pd->shadow_bytes)
		pd->taken_bytes += shadow_index_bytes(pd) - SHADOW_STEPS_BYTES;
	pd->pool = frame_pool_new(POOL_FRAMES);
	pd->epoch_encoder = epoch_encoder_new((int)pd->d.set->compress);
	if (pd->pool && pd->epoch_encoder)
		return 0;
	fprintf(stderr, "colod: no memory for what encodes epochs\n");
	return -ENOMEM;
}

/* What this host could give without swapping; 0 where that is not known. */
static uint64_t available_bytes(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && !kib && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
			kib = 0;
	if (f)
		fclose(f);
	return kib << 10;
}

/*
 * A domain 0 is small beside its guests: where it ran out of memory, it would
 * not be colod alone that suffers.  Others take of the same memory, so it is
 * looked at again; not for each epoch, of whose time on this thread the kernel
 * would take a sixth for it.
 */
uint64_t primary_daemon_shadow_room(struct primary_daemon *pd)
{
	uint64_t now_us = clock_now_us();
	uint64_t has = pd->seen.shadow_bytes;

	if (!pd->room.seen_us || now_us - pd->room.seen_us >= ROOM_LOOK_US ||
	    has - pd->room.shadow_bytes >= ROOM_LOOK_BYTES) {
		pd->room.bytes = has + available_bytes() / 2;
		pd->room.shadow_bytes = has;
		pd->room.seen_us = now_us;
	}
	return pd->room.bytes;
}
