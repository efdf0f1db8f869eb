/* SPDX-License-Identifier: Apache-2.0 */
/* The face of all kinds of links: see net/link.h and net/link_ops.h. */
#include "config.h"

#include "net/link.h"

#include "net/link_ops.h"

void link_setup_timeout(struct link *l, uint64_t us)
{
	l->ops->setup_timeout(l, us);
}

void link_congestion(struct link *l, const char *name)
{
	l->ops->congestion(l, name);
}

void link_max_rate(struct link *l, uint64_t bytes_per_s)
{
	l->ops->max_rate(l, bytes_per_s);
}

void link_send(struct link *l, struct frame_buf *b)
{
	l->ops->send(l, b);
}

void link_send_empty(struct link *l, uint16_t type, uint64_t epoch)
{
	struct frame_buf *b = frame_buf_new(type, epoch, 0);

	if (b)
		link_send(l, b);
	else
		link_abort(l, "no memory for a frame");
}

size_t link_queued(const struct link *l)
{
	return l->ops->queued(l);
}

void link_pause(struct link *l, bool paused)
{
	l->ops->pause(l, paused);
}

void link_close(struct link *l)
{
	l->ops->close(l);
}

void link_abort(struct link *l, const char *why)
{
	l->ops->abort(l, why);
}

const char *link_peer_name(const struct link *l)
{
	return l->ops->peer_name(l);
}

const char *link_peer_address(const struct link *l)
{
	return l->ops->peer_address(l);
}

uint64_t link_bytes_sent(const struct link *l)
{
	return l->ops->bytes_sent(l);
}

uint64_t link_bytes_received(const struct link *l)
{
	return l->ops->bytes_received(l);
}
