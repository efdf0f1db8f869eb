/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drills in a daemon: every link has a filter in front, which lets all pass
 * until the operator says otherwise, at the start or by `colod drill`.
 */
#include "config.h"

#include "engine/daemon.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

struct link *daemon_connect(struct daemon *d, const char *host, uint16_t port,
			    const struct link_events *events, void *arg)
{
	struct link *filter = filter_new(d->loop, d->drill, &events, &arg);
	struct link *inner = NULL;

	if (!filter)
		return NULL;
	inner = link_connect(d->loop, d->identity, host, port, events, arg);
	filter_over(filter, inner);
	return inner ? filter : NULL;
}

struct link *daemon_filter(struct daemon *d, struct link *inner,
			   const struct link_events **events, void **arg)
{
	struct link *filter = filter_new(d->loop, d->drill, events, arg);

	if (filter)
		filter_over(filter, inner);
	return filter;
}

int daemon_drill(struct daemon *d, const char *words, char *why)
{
	struct drill_spec spec;
	int err = drill_parse(words, &spec, why);

	if (err)
		return err;
	drill_start(d->drill, &spec);
	if (!strcmp(words, "off"))
		log_warn("DRILL: over, the link is left alone");
	else
		log_warn("DRILL: the link is disturbed on purpose: %s "
			 "(seed=%llu)",
			 words, (unsigned long long)drill_seed(d->drill));
	return 0;
}
