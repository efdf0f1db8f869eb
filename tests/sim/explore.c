/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/sim/explore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/sim/run.h"

/* --- the states that were seen ------------------------------------------ */

/* Open addressing; `left` is the depth that was left there at most. */
struct seen {
	size_t room, count;
	struct slot {
		uint64_t hash;
		uint32_t left; /* 0: free; else 1 + depth */
	} * slots;
};

static struct slot *slot_of(struct slot *slots, size_t room, uint64_t h)
{
	size_t i = (size_t)h & (room - 1);

	while (slots[i].left && slots[i].hash != h)
		i = (i + 1) & (room - 1);
	return &slots[i];
}

static void grow(struct seen *s)
{
	size_t room = s->room ? 2 * s->room : 1 << 16, i;
	struct slot *slots = calloc(room, sizeof(*slots));

	if (!slots)
		abort();
	for (i = 0; i < s->room; i++)
		if (s->slots[i].left)
			*slot_of(slots, room, s->slots[i].hash) = s->slots[i];
	free(s->slots);
	s->slots = slots;
	s->room = room;
}

/* False where this state was left behind with as much depth before. */
static bool is_new(struct seen *s, uint64_t h, unsigned int depth)
{
	struct slot *at;

	if (2 * s->count >= s->room)
		grow(s);
	at = slot_of(s->slots, s->room, h);
	if (at->left >= depth + 1)
		return false;
	if (!at->left)
		s->count++;
	at->hash = h;
	at->left = depth + 1;
	return true;
}

/* --- what may come next -------------------------------------------------- */

struct choice {
	enum {
		FIRE,
		FENCE_FAIL,
		FENCE_LIE,
		JOB_FAIL,
		JOB_LATE,
		BLOCK,
		CRASH,
		POWER_OFF,
		START,
		CUT,
		MEND,
		BREAK,
		FAILOVER,
		STOP,
		CORRUPT,
	} kind;
	struct item item;
	unsigned int host;
	bool costs; /* a fault */
};

enum { CHOICES = 160, HEALED_ONE_IN = 16 };

static void offer(struct choice *all, unsigned int *n, struct choice c)
{
	if (*n == CHOICES)
		sim_no_room("choices");
	all[(*n)++] = c;
}

static bool can_fail(const struct world *w, const struct item *it)
{
	const struct job *j = &w->host[it->host].jobs[0];

	if (it->kind != ITEM_JOB || j->acted)
		return false;
	return j->kind == ENV_JOB_CAPTURE || j->kind == ENV_JOB_SYNC ||
	       j->kind == ENV_JOB_BUILD || j->kind == ENV_JOB_APPLY ||
	       j->kind == ENV_JOB_ACTIVATE;
}

static bool is_later_timer(const struct item *items, unsigned int n,
			   const struct item *it)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (items[i].kind == ITEM_TIMER && items[i].host == it->host &&
		    (items[i].due_us < it->due_us ||
		     (items[i].due_us == it->due_us && &items[i] < it)))
			return true;
	return false;
}

/* What else an item may come to than what it does by itself. */
static void other_ends(struct world *w, struct choice c, bool faults,
		       struct choice *all, unsigned int *n)
{
	if (c.item.kind == ITEM_FENCE) {
		c.kind = FENCE_FAIL;
		offer(all, n, c);
	}
	if (c.item.kind == ITEM_JOB && c.item.host == A &&
	    a_image_may_block(w)) {
		c.kind = BLOCK;
		offer(all, n, c);
	}
	if (!faults)
		return;
	c.costs = true;
	if (c.item.kind == ITEM_FENCE) {
		c.kind = FENCE_LIE;
		offer(all, n, c);
	}
	if (!can_fail(w, &c.item))
		return;
	c.kind = JOB_FAIL;
	offer(all, n, c);
	if (w->host[c.item.host].jobs[0].kind == ENV_JOB_CAPTURE) {
		c.kind = JOB_LATE;
		offer(all, n, c);
	}
}

static unsigned int item_choices(struct world *w, struct choice *all,
				 bool faults)
{
	struct item items[ITEMS];
	unsigned int n = sim_items(w, items), count = 0, i;

	for (i = 0; i < n; i++) {
		struct choice c = { .kind = FIRE, .item = items[i] };

		if (items[i].kind == ITEM_TIMER &&
		    is_later_timer(items, n, &items[i]))
			continue;
		offer(all, &count, c);
		other_ends(w, c, faults, all, &count);
	}
	return count;
}

static bool breakable(const struct world *w)
{
	unsigned int i;

	for (i = 0; i < CONNS; i++)
		if (w->conns[i].used && !w->conns[i].broken &&
		    w->conns[i].end[A] != END_SETUP)
			return true;
	return false;
}

static unsigned int choices(struct world *w, struct choice *all, bool faults)
{
	unsigned int n = item_choices(w, all, faults), i;

	for (i = 0; i < HOSTS; i++) {
		const struct sim_host *h = &w->host[i];

		if (h->up && !h->colod)
			offer(all, &n, (struct choice){ START, .host = i });
		if (w->cut[i])
			offer(all, &n, (struct choice){ MEND, .host = i });
		if (h->colod && !w->host[!i].up)
			offer(all, &n, (struct choice){ FAILOVER, .host = i });
		if (!faults || !h->up)
			continue;
		if (h->colod)
			offer(all, &n,
			      (struct choice){ CRASH, .host = i,
					       .costs = true });
		if (h->colod && !h->finishing)
			offer(all, &n,
			      (struct choice){ STOP, .host = i,
					       .costs = true });
		offer(all, &n,
		      (struct choice){ POWER_OFF, .host = i, .costs = true });
		if (!w->cut[i])
			offer(all, &n,
			      (struct choice){ CUT, .host = i, .costs = true });
	}
	if (faults && !w->corrupt_next && w->primary.greeted)
		offer(all, &n,
		      (struct choice){ CORRUPT, .host = A, .costs = true });
	for (i = 0; faults && breakable(w) && i < 3; i++)
		offer(all, &n,
		      (struct choice){ BREAK, .host = i, .costs = true });
	return n;
}

static void fail_job(struct world *w, const struct item *it)
{
	enum env_job kind = w->host[it->host].jobs[0].kind;

	w->spoil[it->host][kind].err =
		kind == ENV_JOB_CAPTURE ? -ETIMEDOUT : -EIO;
	sim_fire(w, it);
}

static void make(struct world *w, const struct choice *c)
{
	struct sim_fence *f = &w->host[c->item.host].fence;

	sim_world = w;
	switch (c->kind) {
	case FENCE_FAIL:
		f->mode = FENCE_FAILS;
		sim_fire(w, &c->item);
		return;
	case FENCE_LIE:
		f->mode = FENCE_LIES;
		sim_fire(w, &c->item);
		return;
	case BLOCK:
		w->cfg.image_blocks = 1;
		sim_fire(w, &c->item);
		w->cfg.image_blocks = 0;
		return;
	case FIRE:
		sim_fire(w, &c->item);
		return;
	case JOB_LATE:
		w->late_suspend_us = 1;
		fail_job(w, &c->item);
		return;
	case JOB_FAIL:
		fail_job(w, &c->item);
		return;
	case CRASH:
		sim_crash(w, c->host);
		break;
	case POWER_OFF:
		sim_power_off(w, c->host);
		break;
	case START:
		sim_start(w, c->host);
		break;
	case CUT:
	case MEND:
		w->cut[c->host] = c->kind == CUT;
		break;
	case BREAK:
		link_break(w, c->host != B, c->host != A, 0);
		break;
	case FAILOVER:
		sim_operator(w, c->host, EVENT_FAILOVER);
		break;
	case STOP:
		sim_operator(w, c->host, EVENT_STOP);
		break;
	case CORRUPT:
		w->corrupt_next = true;
		break;
	}
	sim_after(w);
}

static void describe(struct world *w, const struct choice *c, char *text)
{
	static const char *const words[] = {
		[FIRE] = "",
		[FENCE_FAIL] = "(it fails) ",
		[FENCE_LIE] = "(it lies) ",
		[JOB_FAIL] = "(it fails) ",
		[JOB_LATE] = "(the guest suspends late) ",
		[BLOCK] = "(it blocks) ",
		[CRASH] = "colod dies on",
		[POWER_OFF] = "power off on",
		[START] = "colod is started on",
		[CUT] = "cut from",
		[MEND] = "mended from",
		[BREAK] = "the connection breaks for",
		[FAILOVER] = "colod failover on",
		[STOP] = "colod stop on",
		[CORRUPT] = "the next bulk frame is corrupted from",
	};
	char item[EXPLORE_TEXT - 30] = "";

	if (c->kind <= BLOCK)
		sim_item_text(w, &c->item, item, sizeof(item));
	else
		snprintf(item, sizeof(item), " %s",
			 c->host == A	? "a"
			 : c->host == B ? "b"
					: "both");
	snprintf(text, EXPLORE_TEXT, "%s%s", words[c->kind], item);
}

/* --- the search --------------------------------------------------------- */

/* The way to where the search is: worlds before each choice, and these. */
struct way {
	struct world before;
	struct choice chosen;
};

static void failed(struct explore *x, struct way *way, unsigned int length)
{
	unsigned int i;

	memcpy(x->violation, x->world->violation, sizeof(x->violation));
	x->path_length = length;
	for (i = 0; i < length; i++)
		describe(&way[i].before, &way[i].chosen, x->path[i]);
}

/*
 * From some of the states, chosen by their hashes, all is healed as at the end
 * of a random run: the guest must come to run.  All would take minutes.
 */
static void heal(struct explore *x, struct way *way, unsigned int depth)
{
	x->healed++;
	sim_world = x->world;
	run_heal(x->world);
	if (x->world->violation[0])
		failed(x, way, depth);
	*x->world = way[depth].before;
}

/* Depth first, over one world that is put back after each branch. */
static bool search(struct explore *x, struct seen *seen, struct way *way,
		   unsigned int depth, unsigned int faults)
{
	uint64_t hash = canon_hash(x->world, faults);
	struct choice all[CHOICES];
	unsigned int n, i;

	if (!is_new(seen, hash, x->depth - depth))
		return true;
	way[depth].before = *x->world;
	if (hash % HEALED_ONE_IN == 0)
		heal(x, way, depth);
	if (x->violation[0] || depth == x->depth)
		return !x->violation[0];
	n = choices(x->world, all, faults > 0);
	for (i = 0; i < n; i++) {
		way[depth].chosen = all[i];
		make(x->world, &all[i]);
		x->moves++;
		if (x->world->violation[0])
			failed(x, way, depth + 1);
		else
			search(x, seen, way, depth + 1, faults - all[i].costs);
		*x->world = way[depth].before;
		if (x->violation[0])
			return false;
	}
	return true;
}

bool explore(struct explore *x)
{
	AUTO_FREE struct way *way = calloc(x->depth + 1, sizeof(*way));
	struct seen seen = { 0 };
	bool good;

	if (!way || x->depth > EXPLORE_DEPTH_MAX)
		abort();
	x->world->any_order = true;
	good = search(x, &seen, way, 0, x->faults);
	x->states = seen.count;
	free(seen.slots);
	return good;
}
