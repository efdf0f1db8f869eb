/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the primary's daemon share; nobody else's. */
#ifndef ENGINE_PRIMARY_DAEMON_IMPL_H
#define ENGINE_PRIMARY_DAEMON_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/daemon.h"
#include "engine/epoch_log.h"
#include "engine/frame_pool.h"
#include "engine/image.h"
#include "engine/outbox.h"
#include "engine/output.h"
#include "engine/primary.h"
#include "engine/primary_disks.h"
#include "engine/progress.h"
#include "net/interfaces.h"
#include "net/announce.h"
#include "resume/guard.h"
#include "stream/epoch_encoder.h"

/* --policy, in the order of its words. */
enum primary_policy {
	PRIMARY_POLICY_PAUSE,
	PRIMARY_POLICY_LATENCY,
	PRIMARY_POLICY_AUTO,
};

/* From the guest's thread to the loop: the image begins. */
struct image_start {
	struct frame_buf *domain;
	struct frame_buf *disks; /* NULL: none is replicated */
	int fd;
	unsigned int generation;
	struct loop_call call;
};

struct capture {
	struct epoch_run run; /* a copy: the machine's own may move in memory */
	struct epoch_manner manner;
	struct epoch *arena;
	struct epoch_id id;
	struct disk_limits disks; /* what belongs to it */
	uint64_t resumed_us;
	enum guest_ask asked;
};

struct encode {
	struct primary_daemon *pd;
	struct epoch *arena; /* NULL: not in use */
	unsigned int generation;
	uint64_t epoch;
	struct epoch_peer peer;
	struct disk_changes disks;
	uint64_t sent_bytes;
	struct page_counts counts; /* the encoder's, when it was done */
	size_t shadow_bytes;
	uint64_t done_us;
	int err;
	struct worker_job work;
	struct outbox outbox;
};

struct primary_daemon {
	struct daemon d;
	struct primary machine;

	const struct guest_source_ops *ops;
	struct guest_manner manner;
	struct guest_source *source; /* the guest thread's, while it has jobs */
	struct output output;
	struct primary_disks disks;
	struct loop_timer rings;
	struct disks_way *disks_way; /* primary_sync.c's */
	char disks_what[2 * WIRE_NAME_MAX + 40];
	/* What the metas are to say, on the encoder's thread: it waits for
	 * them. */
	struct worker_job disks_note;
	bool disks_noting;
	atomic_bool note_synced, note_alone;
	struct interface_watch *interfaces;
	struct worker_job follow;
	bool follows, follow_again;
	int follow_err; /* what the guest sends by one of them is not held */
	struct guest_description guest;
	atomic_bool boot_cancelled; /* nobody waits for a reboot any more */
	struct guard *guard;
	int lock_fd;

	char peer_host[256];
	uint16_t peer_port;
	struct link *link;
	struct loop_call no_link;
	bool link_ready; /* up, and not being closed */
	bool link_closing;
	/* Counts connections: what was made for an earlier one is dropped. */
	unsigned int generation;

	struct image_sender *image;
	bool image_eof;
	bool image_failed;
	struct image_start image_start;
	struct wire_image_end image_end;
	struct guest_job *sync_result; /* sent, waits for the image's eof */
	struct progress progress;
	char progress_what[2 * WIRE_NAME_MAX + 40];

	struct worker *encoder;
	struct epoch_encoder *epoch_encoder; /* the encoder thread's */
	uint64_t shadow_bytes;		     /* its bound */
	struct {			     /* what this host has for it */
		uint64_t bytes;
		uint64_t seen_us;      /* 0: never looked */
		uint64_t shadow_bytes; /* what it had then */
	} room;
	uint64_t taken_bytes; /* for checkpoints, without the shadow */
	struct frame_pool *pool;
	/* As many as can be under way: see primary_epochs.c. */
	struct capture capture;
	struct encode encodes[WIRE_INFLIGHT_MAX];
	struct epoch *arenas[WIRE_INFLIGHT_MAX]; /* free ones */
	unsigned int arena_count;

	struct epoch_log *epoch_log; /* NULL: none was asked for */

	struct address_set addresses;
	struct address_watch *watches[GUEST_NICS_MAX];
	size_t watch_count;

	struct {
		struct epoch_times times; /* of the last epoch */
		size_t dirty_pages;
		uint64_t raw_bytes;
		uint64_t sent_bytes;
		struct page_counts counts;
		size_t shadow_bytes;
		uint64_t image_bytes;
		uint64_t pause_max_us;
		enum guest_ask asked;
		uint64_t hypercalls; /* of the last epoch */
		uint64_t pause_sum_us;
		uint64_t pauses;
	} seen;
};

/* primary_memory.c: 0, or a negative errno after one line. */
int primary_daemon_memory(struct primary_daemon *pd);
/* Bytes that the shadow may have, as this host stands.  On the loop's thread.
 */
uint64_t primary_daemon_shadow_room(struct primary_daemon *pd);

/* primary_jobs.c: the jobs of enum env_job. */
void primary_daemon_job(void *arg, enum env_job job, uint64_t epoch);
/* Its SYNC alone, see primary_sync.c. */
void primary_daemon_sync(struct primary_daemon *pd);
void primary_daemon_image_dropped(struct primary_daemon *pd, const char *why);
/* On the loop's thread: something of the comparison was sent, or has come. */
void primary_daemon_disks_moved(struct primary_daemon *pd);
/* The guest's thread's, or when that has ended. */
void primary_daemon_close_disks(struct primary_daemon *pd);
/* As epoch_manner.barrier. */
int primary_daemon_barrier(void *arg, uint64_t epoch);
/*
 * On the loop's thread: frames (a list by `next`) that were made for this
 * connection go to it, or back.
 */
void primary_daemon_send_frames(struct primary_daemon *pd,
				unsigned int generation,
				struct frame_buf *frames);
void primary_daemon_watch_addresses(struct primary_daemon *pd);
void primary_daemon_unwatch_addresses(struct primary_daemon *pd);

/* The epoch of this connection, for the epoch log. */
static inline struct epoch_id primary_daemon_epoch(struct primary_daemon *pd,
						   uint64_t number)
{
	return (struct epoch_id){ number, pd->generation };
}

/* primary_daemon_disks.c, on the loop's thread. */
/*
 * Has note_synced or note_alone carried out: in front of all that is encoded
 * from now on, so an epoch that is acknowledged comes after the image.
 */
void primary_daemon_note(struct primary_daemon *pd, atomic_bool *what);
/* In front of IMAGE_END; there may be none. */
void primary_daemon_disks_synced(struct primary_daemon *pd);

/* primary_status.c */
json_t *primary_daemon_status(void *owner);

#endif
