/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the primary's daemon share; nobody else's. */
#ifndef ENGINE_PRIMARY_DAEMON_IMPL_H
#define ENGINE_PRIMARY_DAEMON_IMPL_H

#include <stdatomic.h>

#include "engine/daemon.h"
#include "engine/frame_pool.h"
#include "engine/image.h"
#include "engine/primary.h"
#include "engine/progress.h"
#include "net/announce.h"
#include "resume/guard.h"

struct primary_daemon {
	struct daemon d;
	struct primary machine;

	const struct guest_source_ops *ops;
	struct guest_source *source; /* the guest thread's, while it has jobs */
	struct guest_description guest;
	atomic_bool boot_cancelled; /* nobody waits for a reboot any more */
	struct guard *guard;
	int lock_fd;

	char peer_host[256];
	uint16_t peer_port;
	struct link *link;
	bool link_ready; /* up, and not being closed */
	bool link_closing;
	/* Counts connections: what was made for an earlier one is dropped. */
	unsigned int generation;

	struct image_sender *image;
	bool image_eof;
	struct wire_image_end image_end;
	struct guest_job *sync_result; /* sent, waits for the image's eof */
	struct progress progress;
	char progress_what[2 * WIRE_NAME_MAX + 40];

	struct worker *encoder;
	struct epoch_encoder *epoch_encoder; /* the encoder thread's */
	struct frame_pool *pool;
	struct epoch *arenas[WIRE_INFLIGHT_MAX]; /* free ones */
	unsigned int arena_count;

	struct address_set addresses;
	struct address_watch *watches[GUEST_NICS_MAX];
	size_t watch_count;

	struct {
		struct epoch_times times; /* of the last epoch */
		size_t dirty_pages;
		uint64_t raw_bytes;
		uint64_t sent_bytes;
		uint64_t image_bytes;
		uint64_t pause_max_us;
		uint64_t pause_sum_us;
		uint64_t pauses;
	} seen;
};

/* primary_jobs.c: the jobs of enum env_job. */
void primary_daemon_job(void *arg, enum env_job job, uint64_t epoch);
void primary_daemon_image_dropped(struct primary_daemon *pd, const char *why);
void primary_daemon_watch_addresses(struct primary_daemon *pd);
void primary_daemon_unwatch_addresses(struct primary_daemon *pd);

/* primary_status.c */
json_t *primary_daemon_status(void *owner);

#endif
