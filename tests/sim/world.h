/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world of two hosts in virtual time: the simulator's environment.
 *
 * Host A runs the guest and `colod primary`, host B `colod secondary`: the real
 * machines (engine/primary.h, engine/secondary.h) behind an environment that
 * is a model of both daemons, of the network between them, of the guest, its
 * output gate and its twin.
 *
 * All that happens is an *item* with the time at which it is due.  The
 * explorers decide which one comes next: sim_step() takes the earliest (time
 * order, ties in a fixed order), the exhaustive one tries them all.  After
 * each the invariants of design.md section 4 are checked; the first that does
 * not hold is kept in `violation`.
 *
 * The world holds no pointers but those of its two machines to itself: copied
 * away and back to the same address it goes on as if nothing had happened.
 * Nothing in it depends on a clock, an address or a random number.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/primary.h"
#include "engine/secondary.h"

enum { MS = 1000, SEC = 1000 * MS };

enum { A, B, HOSTS };

enum {
	CONNS = 6,
	MESSAGES = 48,
	JOBS = 8,
	PAYLOAD = 69, /* leaves no padding in a message */
	BARRIERS = 20,
	LINEAGES = 8,
	ITEMS = 128,
	STORES = 2, /* of the intake, see engine/intake.h */
};

/* What one run is made with; all times in microseconds. */
#define SIM_NUMBERS(X)                                         \
	/* the machines' configuration */                      \
	X(fence_a, 1)                                          \
	X(fence_b, 1)                                          \
	X(unsafe_a, 0)                                         \
	X(unsafe_b, 0)                                         \
	X(gate, 1)                                             \
	X(inflight, 2)                                         \
	X(inflight_b, 2)                                       \
	X(heartbeat_us, 100 * MS)                              \
	X(lost_after, 3)                                       \
	X(interval_us, 50 * MS)                                \
	X(retry_us, 2 * SEC)                                   \
	X(ack_timeout_us, 10 * SEC)                            \
	/* how long things take */                             \
	X(delay_us, 500)      /* one way */                    \
	X(bulk_us, 1 * MS)    /* a bulk frame */               \
	X(notice_us, 0)	      /* a reset */                    \
	X(suspend_us, 2 * MS) /* until it does */              \
	X(pause_us, 3 * MS)                                    \
	X(suspend_timeout_us, 500 * MS)                        \
	X(image_us, 200 * MS)                                  \
	X(encode_us, 2 * MS)                                   \
	X(decode_us, 1 * MS)                                   \
	X(build_us, 50 * MS)                                   \
	X(apply_us, 2 * MS)                                    \
	X(activate_us, 20 * MS)                                \
	X(fence_us, 1 * SEC)                                   \
	X(fence_timeout_us, 30 * SEC)                          \
	X(guard_us, 100 * MS)                                  \
	X(job_us, 1 * MS) /* any other */                      \
	/* an image ends no sooner than b has taken of it */   \
	X(image_blocks, 0)                                     \
	/* written pages are sent before the guest is asked */ \
	X(ahead, 0)                                            \
	/* a cancelled image may come to its end */            \
	X(cancel_is_late, 0)                                   \
	/* the hosts' clocks */                                \
	X(drift_a_ppm, 0)                                      \
	X(drift_b_ppm, 0)

struct sim_config {
#define X(name, usual) int64_t name;
	SIM_NUMBERS(X)
#undef X
};

extern const struct sim_config sim_usual;

/* A point in the guest's history: which one of its lives, how much output. */
struct history {
	uint64_t life;
	uint64_t count;
};

struct sim_guest {
	bool exists;
	bool suspended; /* by its own protocol */
	bool paused;	/* by yield: for good */
	enum guest_status status;
	struct history at;
	uint64_t late_at_us;	/* it will suspend at this time; 0: no */
	uint64_t late_since_us; /* it has; 0: no */
	uint64_t rescue_at_us;	/* the guard resumes it */
};

/* resume/guest.h, barrier and gate. */
struct sim_gate {
	enum { GATE_OPEN, GATE_HOLDS, GATE_DROPS } mode;
	unsigned int count;
	struct {
		uint64_t epoch;
		uint64_t upto;
	} barriers[BARRIERS];
};

struct sim_twin {
	bool exists;
	bool whole; /* built from the whole image, no apply has failed */
	struct history at;
	uint64_t applied;
};

/* A frame on its way, or one of these: */
enum { SIM_ARRIVE = 1000, SIM_FIN, SIM_RST };

struct message {
	uint64_t due_us;
	uint64_t epoch;
	struct history at; /* what an image or an epoch brings */
	uint32_t pages;	   /* EPOCH_END: how many PAGES there were */
	uint16_t type;
	uint8_t length;
	uint8_t conn;
	uint8_t from;
	bool bulk;
	bool corrupt;
	uint8_t payload[PAYLOAD];
};

enum end_state { END_NONE, END_SETUP, END_UP, END_CLOSING };

struct conn {
	bool used;
	enum end_state end[HOSTS];
	uint64_t notice_us[HOSTS]; /* LINK_DOWN is due there; 0: no */
	int error[HOSTS];	   /* with this */
	uint64_t setup_us;	   /* the handshake is done, or has failed */
	int setup_error;
	bool broken; /* nothing that is sent from now on arrives */

	/* The visitor at B, see engine/secondary_visitors.c */
	bool greeted;
	bool refused;
	uint64_t session;
	uint64_t beat_us; /* its next heartbeat; 0: none */
	uint64_t until_us;
};

struct job {
	enum env_job kind;
	bool acted; /* what it does is done, EVENT_DONE is to come */
	bool ended; /* EVENT_DONE is being told */
	bool cancelled;
	bool started;
	bool partial;
	bool waits; /* for something that is not time */
	int err;
	enum guest_status guest;
	bool again;
	uint64_t epoch;
	uint64_t due_us;
	uint32_t generation;
	uint32_t pages;
	struct history at;
	struct epoch_run run;
};

enum fence_mode { FENCE_OK, FENCE_FAILS, FENCE_HANGS, FENCE_LIES };

/* A fence command outlives the colod that ran it. */
struct sim_fence {
	bool runs;
	bool orphan;
	bool cancelled;
	enum fence_mode mode;
	uint64_t due_us;
};

struct sim_host {
	bool up;
	bool colod;   /* its process exists */
	bool stopped; /* SIGSTOP */
	bool finishing;
	int exit_status; /* of the last one */
	int64_t offset_us;
	int64_t drift_ppm;
	uint64_t timers[ENV_TIMERS]; /* by the host's clock; 0: not set */
	struct sim_guest guest;
	struct job jobs[JOBS]; /* of the guest's thread, in order */
	unsigned int job_count;
	struct sim_fence fence;
	enum fence_mode fence_mode; /* of those that start from now on */
	int link;		    /* the current connection; -1: none */
	bool link_ready;
	bool link_closing; /* A */
};

/* What the next job of a kind does instead of what it should. */
struct spoil {
	int err;
	uint64_t us;
};

struct world {
	struct sim_config cfg;
	uint64_t now_us;
	uint64_t steps;
	struct sim_host host[HOSTS];
	bool cut[HOSTS]; /* what this host sends does not arrive */

	struct primary primary;	    /* A */
	struct secondary secondary; /* B */

	struct conn conns[CONNS];
	struct message messages[MESSAGES];
	unsigned int message_count;
	uint64_t bulk_until_us[HOSTS];

	/* A, besides its machine */
	uint32_t generation;
	struct job encodes[JOBS]; /* of the encoder's thread */
	unsigned int encode_count;
	uint64_t sessions; /* how many a primary has begun */
	struct sim_gate gate;
	int64_t acked; /* since the last image; -1: nothing */
	uint32_t round_pages;

	/* B, besides its machine */
	bool not_building;
	bool image_open, image_ended, image_whole;
	struct history image_at;
	struct sim_twin twin;
	bool told_inconsistent;
	unsigned int stores_used;
	bool filling;
	uint64_t filling_epoch;
	uint32_t filling_pages;
	uint64_t stored_us; /* EVENT_STORED is due; 0: not */
	int stored_error;
	uint64_t stored_epoch;
	struct history stored_at;
	bool pending; /* stored, offered to the machine for APPLY */
	struct history committed_at; /* what B would be activated with */
	int64_t last_ack;

	/* History: its lives, and what the world has seen of each. */
	struct {
		uint64_t parent;
		uint64_t branch; /* what of the parent it contains */
		uint64_t visible;
	} lives[LINEAGES];
	uint64_t life_count;
	bool excused;	   /* a lie: invariants 1 and 3 do not hold any more */
	bool ended;	   /* the guest ended by its own will */
	bool yield_failed; /* an operator has been asked to pause it */

	/* Disturbances that wait for the next of their kind. */
	struct spoil spoil[HOSTS][ENV_JOBS];
	unsigned int partial_rounds;
	uint64_t late_suspend_us;
	unsigned int die_in_capture; /* 1 + where, see guest.c */
	bool dying;		     /* the process is dead in a guest's job */
	bool corrupt_next;
	bool any_order; /* explore.c: time says nothing, one heartbeat is enough
			 */

	char violation[160];
};

/* The one that engine's abort and the log speak of. */
extern struct world *sim_world;
/* Narrates on standard output. */
extern bool sim_traces;
/* Which states of the two machines there were, in all worlds: a bit each. */
extern uint32_t sim_seen[HOSTS];

/* --- world.c: what happens ---------------------------------------------- */

enum item_kind {
	ITEM_TIMER,
	ITEM_JOB,
	ITEM_ENCODE,
	ITEM_FENCE,
	ITEM_SETUP,
	ITEM_MESSAGE,
	ITEM_NOTICE,
	ITEM_BEAT,
	ITEM_STORED,
	ITEM_LATE,
	ITEM_RESCUE,
};

struct item {
	enum item_kind kind;
	unsigned int host;
	unsigned int index; /* of the timer, job, connection or message */
	uint64_t due_us;
};

/* Both hosts are up, the guest runs on A, nobody protects it. */
void sim_init(struct world *w, const struct sim_config *cfg);
/* All that may happen next; how many. */
unsigned int sim_items(struct world *w, struct item *items);
/* Lets it happen, at its time or now if that is over, and checks. */
void sim_fire(struct world *w, const struct item *it);
/* What follows everything that happens: the guest lives on, all is checked. */
void sim_after(struct world *w);
/* The earliest item; false: there is none before or at `until_us`. */
bool sim_step(struct world *w, uint64_t until_us);
/* Up to this time, or to a violation. */
void sim_run_until(struct world *w, uint64_t until_us);
void sim_item_text(const struct world *w, const struct item *it, char *text,
		   size_t room);

uint64_t sim_local(const struct world *w, unsigned int host);
/* A time to be due at, never 0, which means "not". */
uint64_t sim_in(const struct world *w, uint64_t us);
void sim_timer(struct world *w, unsigned int host, enum env_timer t,
	       uint64_t at_us);
/* To the machine of this host. */
void sim_event(struct world *w, unsigned int host, const struct event *e);
void sim_done(struct world *w, unsigned int host, const struct job *j);
/* A job for the guest's thread. */
struct job *sim_job(struct world *w, unsigned int host, enum env_job kind,
		    uint64_t epoch, uint64_t takes_us);
void sim_start_first(struct world *w, unsigned int host);
void sim_fence(struct world *w, unsigned int host);
void sim_cancel_job(struct world *w, unsigned int host, enum env_job kind);
/* What was ordered for the next job of this kind; 0: nothing. */
int sim_spoilt(struct world *w, unsigned int host, enum env_job kind);
void sim_violate(struct world *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* An array is too small: what does not fit would be silently unexplored. */
_Noreturn void sim_no_room(const char *what);
void sim_trace(const struct world *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* --- faults.c: what is done to the world -------------------------------- */

void sim_start(struct world *w, unsigned int host); /* colod */
void sim_crash(struct world *w, unsigned int host); /* kill -9 */
void sim_ended(struct world *w, unsigned int host, int exit_status);
void sim_continue(struct world *w, unsigned int host); /* SIGCONT */
void sim_power_off(struct world *w, unsigned int host);
void sim_power_on(struct world *w, unsigned int host);
void sim_guest_ends(struct world *w, unsigned int host, enum guest_status s);
void sim_operator(struct world *w, unsigned int host, enum event_type type);

/* --- link.c ------------------------------------------------------------- */

void link_connect_a(struct world *w);
void link_post(struct world *w, unsigned int from, unsigned int conn,
	       struct frame_buf *b, struct history at, uint32_t pages);
void link_plain(struct world *w, unsigned int from, unsigned int conn,
		uint16_t type);
void link_close_end(struct world *w, unsigned int host, unsigned int conn);
void link_abort_end(struct world *w, unsigned int host, unsigned int conn);
/* The process that held it is gone; with its host nobody says so. */
void link_vanish(struct world *w, unsigned int host, bool silently);
/* All connections break; who notices, and when, is up to the caller. */
void link_break(struct world *w, bool a_notices, bool b_notices,
		uint64_t after_us);
void link_setup_done(struct world *w, unsigned int conn);
void link_notice(struct world *w, unsigned int host, unsigned int conn);
void link_deliver(struct world *w, unsigned int index);
bool link_deliverable(const struct world *w, unsigned int index);
void link_sweep(struct world *w);

/* --- side_a.c, side_b.c: the daemons ------------------------------------ */

void a_start(struct world *w);
void a_up(struct world *w, unsigned int conn);
void a_frame(struct world *w, const struct frame *f);
void a_down(struct world *w, unsigned int conn, int error);
/* B has taken the first part of the image from the network. */
void a_image_taken(struct world *w);
/* The image is about to be read to its end, and B has taken nothing of it. */
bool a_image_may_block(const struct world *w);
void a_job(struct world *w);
void a_encode(struct world *w);

void b_start(struct world *w);
void b_arrive(struct world *w, unsigned int conn);
void b_frame(struct world *w, unsigned int conn, const struct frame *f,
	     const struct message *m);
void b_down(struct world *w, unsigned int conn, int error);
void b_job(struct world *w);
void b_stored(struct world *w);
void b_beat(struct world *w, unsigned int conn);
bool b_paused(const struct world *w);
bool b_reads(const struct world *w, const struct message *m);

/* --- guest.c ------------------------------------------------------------ */

bool guest_runs(const struct sim_host *h);
void guest_puts_out(struct world *w);
int guest_capture(struct world *w, struct job *j);
void guest_image(struct world *w, struct job *j);
void gate_barrier(struct world *w, uint64_t epoch);
void gate_order(struct world *w, enum guest_gate order, uint64_t epoch);
enum guest_status guest_look(struct world *w, unsigned int host);
void guest_resumed(struct sim_guest *g);
/* A new life that carries on from there. */
uint64_t life_from(struct world *w, struct history at);
/* All that the world has seen is part of what is remembered there. */
bool life_contains_visible(const struct world *w, struct history at);

/* --- check.c ------------------------------------------------------------ */

void sim_check(struct world *w);
void check_capture(struct world *w);
void check_reader(struct world *w, enum env_job kind);
void check_ack(struct world *w, uint64_t epoch);
void check_takeover(struct world *w, uint64_t epoch);
void check_activation(struct world *w, const struct job *j);
void check_farewell(struct world *w, struct frame_buf *frame);
/* B may still make its standby run. */
bool check_may_take_over(const struct world *w);

#endif
