/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/sim/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

static const char *const names[DEED_KINDS] = {
#define X(name, text) [DEED_##name] = text,
	SIM_DEEDS(X)
#undef X
};

static const struct number {
	const char *name;
	size_t offset;
} numbers[] = {
#define X(name, usual) { #name, offsetof(struct sim_config, name) },
	SIM_NUMBERS(X)
#undef X
};

enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static int64_t *number_at(struct sim_config *cfg, unsigned int i)
{
	return (int64_t *)(void *)((char *)cfg + numbers[i].offset);
}

/* --- text --------------------------------------------------------------- */

void run_print(FILE *out, const struct run *r)
{
	struct sim_config cfg = r->cfg, usual = sim_usual;
	unsigned int i;

	for (i = 0; i < NUMBERS; i++)
		if (*number_at(&cfg, i) != *number_at(&usual, i))
			fprintf(out, "%s %" PRId64 "\n", numbers[i].name,
				*number_at(&cfg, i));
	for (i = 0; i < r->count; i++)
		fprintf(out, "at %" PRIu64 " %s %c %u %u\n", r->deeds[i].at_us,
			names[r->deeds[i].kind],
			r->deeds[i].host == A ? 'a' : 'b', r->deeds[i].what,
			r->deeds[i].number);
	fprintf(out, "heal %" PRIu64 "\n", r->heal_us);
}

static bool read_deed(const char *line, struct run *r)
{
	struct deed d = { 0 };
	char word[20], side;
	unsigned int kind;

	if (r->count == DEEDS_MAX ||
	    sscanf(line, "at %" SCNu64 " %19s %c %" SCNu32 " %" SCNu32,
		   &d.at_us, word, &side, &d.what, &d.number) != 5)
		return false;
	for (kind = 0; kind < DEED_KINDS; kind++)
		if (strcmp(word, names[kind]) == 0)
			break;
	if (kind == DEED_KINDS || (side != 'a' && side != 'b'))
		return false;
	d.kind = kind;
	d.host = side == 'a' ? A : B;
	r->deeds[r->count++] = d;
	return true;
}

static bool read_number(const char *line, struct run *r)
{
	char word[40];
	int64_t value;
	unsigned int i;

	if (sscanf(line, "heal %" SCNu64, &r->heal_us) == 1)
		return true;
	if (sscanf(line, "%39s %" SCNd64, word, &value) != 2)
		return false;
	for (i = 0; i < NUMBERS; i++)
		if (strcmp(word, numbers[i].name) == 0) {
			*number_at(&r->cfg, i) = value;
			return true;
		}
	return false;
}

bool run_read(FILE *in, struct run *r, unsigned int *line)
{
	char text[200];

	memset(r, 0, sizeof(*r));
	r->cfg = sim_usual;
	for (*line = 1; fgets(text, sizeof(text), in); (*line)++) {
		if (text[0] == '#' || text[0] == '\n')
			continue;
		if (!read_deed(text, r) && !read_number(text, r))
			return false;
	}
	return true;
}

/* --- deeds -------------------------------------------------------------- */

static const int errors[] = { EIO, ETIMEDOUT, ESTALE, ENOMEM };

static void spoil(struct world *w, const struct deed *d)
{
	struct spoil *s = &w->spoil[d->host][d->what % ENV_JOBS];

	if (d->kind == DEED_SLOW)
		s->us = d->number;
	else
		s->err = -errors[d->number % (sizeof(errors) / sizeof(int))];
}

/* Who says "the peer is down" has made sure of it. */
static void failover(struct world *w, unsigned int host)
{
	if (!w->host[!host].up)
		sim_operator(w, host, EVENT_FAILOVER);
}

void run_deed(struct world *w, const struct deed *d)
{
	struct sim_host *h = &w->host[d->host];

	sim_world = w;
	sim_trace(w, "--- %s %c %u %u", names[d->kind],
		  d->host == A ? 'a' : 'b', d->what, d->number);
	switch (d->kind) {
	case DEED_CUT:
	case DEED_MEND:
		w->cut[d->host] = d->kind == DEED_CUT;
		break;
	case DEED_BREAK:
		link_break(w, d->what == 2 || d->host == A,
			   d->what == 2 || d->host == B, d->number);
		break;
	case DEED_CRASH:
		sim_crash(w, d->host);
		break;
	case DEED_START:
		sim_start(w, d->host);
		break;
	case DEED_STOP:
		h->stopped = h->up && h->colod;
		break;
	case DEED_CONT:
		sim_continue(w, d->host);
		break;
	case DEED_OFF:
		sim_power_off(w, d->host);
		break;
	case DEED_ON:
		sim_power_on(w, d->host);
		break;
	case DEED_FENCE:
		h->fence_mode = d->what % (FENCE_LIES + 1);
		break;
	case DEED_FAIL:
	case DEED_SLOW:
		spoil(w, d);
		break;
	case DEED_PARTIAL:
		w->partial_rounds = d->what;
		break;
	case DEED_LATE:
		w->spoil[A][ENV_JOB_CAPTURE].err = -ETIMEDOUT;
		w->late_suspend_us = d->number + 1;
		break;
	case DEED_CORRUPT:
		w->corrupt_next = true;
		break;
	case DEED_DIE:
		w->die_in_capture = d->what;
		break;
	case DEED_GUEST:
		sim_guest_ends(w, d->host, GUEST_POWEROFF + d->what % 4);
		break;
	case DEED_FAILOVER:
		failover(w, d->host);
		break;
	case DEED_SIGTERM:
		sim_operator(w, d->host, EVENT_STOP);
		break;
	case DEED_KINDS:
		break;
	}
	sim_after(w);
}

/* --- the end of a run --------------------------------------------------- */

enum { LOOK_US = 500 * MS, LOOKS = 240, OPERATOR_LOOKS = 40 };

static void heal(struct world *w)
{
	unsigned int i;

	sim_trace(w, "--- all is whole again");
	memset(w->spoil, 0, sizeof(w->spoil));
	w->partial_rounds = w->die_in_capture = 0;
	w->late_suspend_us = 0;
	w->corrupt_next = false;
	for (i = 0; i < HOSTS; i++) {
		w->cut[i] = false;
		sim_continue(w, i);
		w->host[i].fence_mode = FENCE_OK;
		sim_power_on(w, i);
	}
	/* "Could not be paused here: pause or destroy it NOW" */
	if (w->yield_failed)
		w->host[A].guest.paused = true;
	sim_start(w, B);
	sim_start(w, A);
}

/* What the manual tells an operator to do; after a while. */
static void operate(struct world *w, unsigned int looks)
{
	struct sim_host *a = &w->host[A], *b = &w->host[B];

	if (w->yield_failed)
		a->guest.paused = true;
	sim_power_on(w, A);
	sim_power_on(w, B);
	if (!b->colod)
		sim_start(w, B);
	if (!a->colod)
		sim_start(w, A);
	if (looks % OPERATOR_LOOKS != OPERATOR_LOOKS - 1)
		return;
	if (b->colod && w->secondary.state == SECONDARY_WAITING &&
	    !guest_runs(a)) {
		sim_power_off(w, A);
		sim_operator(w, B, EVENT_FAILOVER);
	} else if (a->colod && w->gate.mode == GATE_HOLDS &&
		   w->primary.state == PRIMARY_WAITING) {
		sim_power_off(w, B);
		sim_operator(w, A, EVENT_FAILOVER);
	}
}

static bool flows(const struct world *w, uint64_t since)
{
	const struct sim_guest *g = &w->host[A].guest;

	return !w->cfg.gate || w->lives[g->at.life].visible > since;
}

static bool is_good(const struct world *w, uint64_t since)
{
	bool a = guest_runs(&w->host[A]), b = guest_runs(&w->host[B]);

	if (a != b)
		return b || flows(w, since);
	return !a && !w->host[A].guest.suspended && !check_may_take_over(w);
}

static void check_liveness(struct world *w)
{
	uint64_t since = w->host[A].guest.at.count;
	unsigned int looks;

	for (looks = 0; looks < LOOKS && !w->violation[0]; looks++) {
		sim_run_until(w, w->now_us + LOOK_US);
		if (is_good(w, since))
			return;
		operate(w, looks);
	}
	sim_violate(w,
		    "L: the guest does not come to run with its output "
		    "flowing: a %s, b %s",
		    w->host[A].colod ? primary_state_text(w->primary.state)
				     : "-",
		    w->host[B].colod ? secondary_state_text(w->secondary.state)
				     : "-");
}

void run_heal(struct world *w)
{
	heal(w);
	check_liveness(w);
}

bool run_execute(struct world *w, const struct run *r)
{
	unsigned int i;

	sim_init(w, &r->cfg);
	sim_start(w, B);
	sim_start(w, A);
	for (i = 0; i < r->count && !w->violation[0]; i++) {
		if (r->deeds[i].at_us > w->now_us)
			sim_run_until(w, r->deeds[i].at_us);
		if (!w->violation[0])
			run_deed(w, &r->deeds[i]);
	}
	if (!w->violation[0] && r->heal_us > w->now_us)
		sim_run_until(w, r->heal_us);
	if (!w->violation[0])
		run_heal(w);
	return !w->violation[0];
}
