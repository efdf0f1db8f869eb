/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/output.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static int add(struct output *o, const char *ifname)
{
	int err = gate_add(o->gate, ifname);

	if (err)
		log_error("%s: what it sends by %s cannot be held back: %s",
			  o->guest, ifname, strerror(-err));
	return err;
}

int output_follow(struct output *o)
{
	struct guest_nic nics[GUEST_NICS_MAX];
	size_t count;
	int err = 0, e;

	if (!o->gate)
		return 0;
	count = o->ops->nics(o->source, nics);
	for (size_t i = 0; i < count; i++) {
		char emulated[sizeof(nics[i].ifname) + 4];

		e = add(o, nics[i].ifname);
		if (e)
			err = e;
		/* An HVM guest without PV drivers sends by this one. */
		snprintf(emulated, sizeof(emulated), "%s-emu", nics[i].ifname);
		if (!if_nametoindex(emulated))
			continue;
		e = add(o, emulated);
		if (e)
			err = e;
	}
	return err;
}

static int open_gate(struct output *o, uint32_t limit_bytes)
{
	int err = gate_new(o->guest, limit_bytes, &o->gate);

	if (err) {
		log_error("%s: its output gate: %s", o->guest, strerror(-err));
		return err;
	}
	err = output_follow(o);
	if (err)
		output_close(o);
	return err;
}

int output_find(struct output *o, const struct guest_source_ops *ops,
		struct guest_source *source, const char *guest)
{
	*o = (struct output){ .ops = ops, .source = source, .guest = guest };
	return ops->gate ? 0 : open_gate(o, 0);
}

/* Nobody is to hold anything: what an earlier colod has held goes. */
static int open_none(struct output *o)
{
	int err = open_gate(o, 0);

	if (err)
		return err;
	log_warn("%s: --no-net-gate: what it sends is seen before its standby "
		 "has what it did",
		 o->guest);
	gate_let(o->gate);
	output_close(o);
	return 0;
}

int output_open(struct output *o, const struct guest_source_ops *ops,
		struct guest_source *source, const char *guest,
		uint32_t limit_bytes)
{
	*o = (struct output){ .ops = ops, .source = source, .guest = guest };
	if (ops->gate)
		return 0;
	if (!limit_bytes)
		return open_none(o);
	plug_sweep();
	return open_gate(o, limit_bytes);
}

bool output_gated(const struct output *o)
{
	return o->gate || o->ops->gate;
}

bool output_found_held(const struct output *o)
{
	if (o->gate)
		return gate_found_closed(o->gate);
	return o->ops->gate_held && o->ops->gate_held(o->source);
}

int output_move(struct output *o, struct guest_source *source)
{
	o->source = source;
	if (o->gate)
		gate_forget(o->gate);
	return output_follow(o);
}

int output_barrier(struct output *o, uint64_t epoch)
{
	if (o->gate)
		return gate_barrier(o->gate, epoch);
	if (o->ops->barrier)
		o->ops->barrier(o->source, epoch);
	return 0;
}

void output_order(struct output *o, enum guest_gate order, uint64_t epoch)
{
	if (!o->gate) {
		if (o->ops->gate)
			o->ops->gate(o->source, order, epoch);
		return;
	}
	switch (order) {
	case GUEST_GATE_RELEASE:
		gate_release(o->gate, epoch);
		break;
	case GUEST_GATE_OPEN:
		gate_let(o->gate);
		break;
	case GUEST_GATE_DROP:
		gate_drop(o->gate);
		break;
	}
}

bool output_counts(const struct output *o, struct plug_counts *out)
{
	if (o->gate)
		gate_seen(o->gate, out);
	return o->gate;
}

void output_close(struct output *o)
{
	gate_close(o->gate);
	o->gate = NULL;
}
