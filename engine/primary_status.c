/* SPDX-License-Identifier: Apache-2.0 */
/* `colod status` of a primary. */
#include "config.h"

#include "engine/primary_daemon_impl.h"

static json_t *last(const struct primary_daemon *pd)
{
	const struct epoch_times *t = &pd->seen.times;

	return json_pack(
		"{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}",
		"dirty_pages", (json_int_t)pd->seen.dirty_pages, "hypercalls",
		(json_int_t)pd->seen.hypercalls, "pause_us",
		(json_int_t)t->paused_us, "ahead_us", (json_int_t)t->ahead_us,
		"suspend_us", (json_int_t)t->suspend_us, "scan_us",
		(json_int_t)t->scan_us, "copy_us", (json_int_t)t->copy_us,
		"state_us", (json_int_t)t->state_us, "resume_us",
		(json_int_t)t->resume_us, "devices_us",
		(json_int_t)t->devices_us, "reset_us", (json_int_t)t->reset_us,
		"channels_us", (json_int_t)t->channels_us, "encode_us",
		(json_int_t)t->encode_us, "commit_us",
		(json_int_t)pd->machine.stats.last_commit_us);
}

static json_t *skipped_for(const struct primary *m)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I}", "unanswered",
			 (json_int_t)m->stats.skipped_unanswered, "late",
			 (json_int_t)m->stats.skipped_late, "busy",
			 (json_int_t)m->stats.skipped_busy, "devices",
			 (json_int_t)m->stats.skipped_devices, "device_model",
			 (json_int_t)m->stats.skipped_model);
}

static json_t *epochs(const struct primary *m)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:o,s:I,s:i}", "captured",
			 (json_int_t)m->stats.captured, "acknowledged",
			 (json_int_t)m->stats.acknowledged, "number",
			 (json_int_t)m->stats.number, "applied",
			 (json_int_t)m->stats.applied, "skipped",
			 (json_int_t)m->stats.skipped, "skipped_for",
			 skipped_for(m), "stretched",
			 (json_int_t)m->stats.stretched, "in_flight",
			 (int)m->epoch_count);
}

/* What checkpoints have taken, and may take. */
static json_t *memory(const struct primary_daemon *pd)
{
	return json_pack("{s:I,s:I}", "taken",
			 (json_int_t)(pd->taken_bytes + pd->seen.shadow_bytes),
			 "limit",
			 (json_int_t)(pd->d.set->memory_limit_mib << 20));
}

static json_t *bytes(const struct primary_daemon *pd)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I}", "raw",
			 (json_int_t)pd->seen.raw_bytes, "sent",
			 (json_int_t)pd->seen.sent_bytes, "image",
			 (json_int_t)pd->seen.image_bytes, "shadow",
			 (json_int_t)pd->seen.shadow_bytes, "memory",
			 (json_int_t)pd->guest.ram_bytes);
}

/* Of all epochs; payloads are those that had more than flags. */
static json_t *pages(const struct primary_daemon *pd)
{
	const struct page_counts *n = &pd->seen.counts;

	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "same",
			 (json_int_t)n->same, "zeroes", (json_int_t)n->zero,
			 "deltas", (json_int_t)n->delta, "whole",
			 (json_int_t)n->whole, "encoded_bytes",
			 (json_int_t)n->body_bytes, "compressed",
			 (json_int_t)n->compressed, "incompressible",
			 (json_int_t)n->incompressible);
}

static json_t *pace(const struct primary *m)
{
	return json_pack("{s:s,s:I,s:I}", "rule", pace_rule_text(m->pace.rule),
			 "min_us", (json_int_t)m->cfg.pace.min_us, "max_us",
			 (json_int_t)m->cfg.pace.max_us);
}

static const char *output(const struct primary_daemon *pd)
{
	const struct primary *m = &pd->machine;

	if (!output_gated(&pd->output))
		return "not gated";
	if (!m->gate_closed)
		return "flows";
	if (pd->follow_err)
		return "not all gated";
	return m->state == PRIMARY_PROTECTED ? "gated" : "held";
}

/* null: no interface has a gate of ours. */
static json_t *gate(const struct primary_daemon *pd)
{
	struct plug_counts c;

	if (!output_counts(&pd->output, &c))
		return json_null();
	return json_pack("{s:I,s:I,s:I,s:I,s:I}", "held_frames",
			 (json_int_t)c.held_frames, "held_bytes",
			 (json_int_t)c.held_bytes, "passed_frames",
			 (json_int_t)c.passed_frames, "passed_bytes",
			 (json_int_t)c.passed_bytes, "dropped_frames",
			 (json_int_t)c.dropped_frames);
}

json_t *primary_daemon_status(void *owner)
{
	struct primary_daemon *pd = owner;
	const struct primary *m = &pd->machine;
	uint64_t oldest = m->epoch_count ? m->epochs[0].started_us : 0;

	return json_pack(
		"{s:s,s:s,s:s,s:s,s:b,s:o,s:o,s:o,s:o,s:o,s:I,s:o,s:I,s:I,s:I,"
		"s:I,s:I,s:I,s:s,s:s,s:o,s:o,s:s,s:s}",
		"role", "primary", "domain", m->cfg.domain, "peer", m->cfg.peer,
		"state", primary_state_text(m->state), "protected",
		m->state == PRIMARY_PROTECTED, "epochs", epochs(m), "last",
		last(pd), "bytes", bytes(pd), "pages", pages(pd),
		"checkpoint_memory", memory(pd), "interval_us",
		(json_int_t)m->pace.interval_us, "pace", pace(m), "lag_us",
		oldest ? daemon_since_us(oldest) : 0, "since_ack_us",
		daemon_since_us(m->stats.last_ack_us), "pause_max_us",
		(json_int_t)pd->seen.pause_max_us, "pause_mean_us",
		(json_int_t)(pd->seen.pauses
				     ? pd->seen.pause_sum_us / pd->seen.pauses
				     : 0),
		"synchronisations", (json_int_t)m->stats.synchronisations,
		"losses", (json_int_t)m->stats.losses, "last_error",
		m->last_error, "output", output(pd), "gate", gate(pd), "disks",
		primary_disks_status(&pd->disks), "suspend",
		guest_ask_text(pd->seen.asked), "resume",
		pd->manner.resume == GUEST_RESUME_SLOW ? "slow" : "fast");
}
