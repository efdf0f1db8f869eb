/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the secondary's machine share; nobody else's. */
#ifndef ENGINE_SECONDARY_INTERNAL_H
#define ENGINE_SECONDARY_INTERNAL_H

#include <stdio.h>

#include "engine/secondary.h"

static inline uint64_t secondary_now(const struct secondary *s)
{
	return s->env.ops->now_us(s->env.arg);
}

static inline void secondary_timer(struct secondary *s, enum env_timer t,
				   uint64_t at_us)
{
	s->env.ops->timer(s->env.arg, t, at_us);
}

static inline void secondary_job(struct secondary *s, enum env_job j,
				 uint64_t epoch)
{
	s->env.ops->job(s->env.arg, j, epoch);
}

static inline void secondary_disconnect(struct secondary *s,
					enum wire_reason reason,
					const char *text)
{
	struct bye bye = { .reason = reason };

	snprintf(bye.text, sizeof(bye.text), "%s", text ? text : "");
	s->env.ops->disconnect(s->env.arg, &bye);
}

static inline void secondary_remember(struct secondary *s, const char *text)
{
	snprintf(s->last_error, sizeof(s->last_error), "%s", text ? text : "");
}

/* secondary.c */
void secondary_go(struct secondary *s, enum secondary_state to,
		  const char *why);
void secondary_discard(struct secondary *s, const char *why);
void secondary_stop(struct secondary *s);
/* How long a primary may be silent. */
uint64_t secondary_silence_us(const struct secondary *s);

/* secondary_takeover.c */
void secondary_lose(struct secondary *s, const char *why);
/* The primary's time to come back is over. */
void secondary_arbitrate(struct secondary *s);
/* The standby is kept until somebody knows. */
void secondary_wait(struct secondary *s, const char *why);
void secondary_fence_done(struct secondary *s, const struct event *e);
void secondary_activated(struct secondary *s, const struct event *e);
void secondary_guest_status(struct secondary *s, const struct event *e);
void secondary_after_shutdown(struct secondary *s, const struct event *e);
void secondary_failover(struct secondary *s);

#endif
