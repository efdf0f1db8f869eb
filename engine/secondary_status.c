/* SPDX-License-Identifier: Apache-2.0 */
/* `colod status` of a secondary. */
#include "config.h"

#include "engine/secondary_daemon_impl.h"

static const char *or_empty(bool known, const char *text)
{
	return known ? text : "";
}

json_t *secondary_daemon_status(void *owner)
{
	const struct secondary_daemon *sd = owner;
	const struct secondary *m = &sd->machine;
	bool known = m->domain[0] != '\0';

	return json_pack(
		"{s:s,s:s,s:s,s:s,s:s,s:b,s:{s:I,s:I},s:{s:I,s:I,s:I},s:I,s:I,"
		"s:I,s:i,s:s,s:o}",
		"role", "secondary", "domain", m->domain, "peer",
		or_empty(known, sd->peer), "peer_host",
		or_empty(known, m->primary_host), "state",
		secondary_state_text(m->state), "protected",
		m->state == SECONDARY_STANDBY, "epochs", "stored",
		(json_int_t)m->committed, "applied", (json_int_t)m->applied,
		"bytes", "raw", (json_int_t)sd->raw_bytes, "received",
		(json_int_t)sd->stored_bytes, "memory",
		(json_int_t)(known ? sd->guest.ram_bytes : 0), "since_alive_us",
		known ? daemon_since_us(m->alive_us) : -1, "since_commit_us",
		daemon_since_us(m->stats.last_commit_us), "takeovers",
		(json_int_t)m->stats.takeovers, "addresses",
		(int)sd->addresses.count, "last_error", m->last_error, "disks",
		sd->intake ? intake_disks_status(intake_disks(sd->intake))
			   : json_null());
}
