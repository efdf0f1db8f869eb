/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's process: source, guard, link, and the machine between them.
 *
 * Happy path: the guest is found and locked, the guard forked (before any
 * thread), loop and threads started, EVENT_START; the machine does the rest
 * through the environment below, until it finishes.
 * Failure before EVENT_START: one line, everything undone, EXIT_FAILED.
 */
#include "config.h"

#include "engine/primary_daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/primary_daemon_impl.h"

/* --- the link ----------------------------------------------------------- */

static void on_up(void *arg, struct link *l)
{
	static const struct event e = { .type = EVENT_LINK_UP };
	struct primary_daemon *pd = arg;

	log_info("connected to %s (%s)", link_peer_name(l),
		 link_peer_address(l));
	pd->link_ready = true;
	primary_event(&pd->machine, &e);
}

static void on_frame(void *arg, struct link *l, const struct frame *f)
{
	struct primary_daemon *pd = arg;
	struct event e = { .epoch = f->epoch };
	const char *why = "unexpected frame";
	struct wire_ack ack;
	struct hello hello;
	struct bye bye;
	int err = -EPROTO;

	(void)l;
	switch (f->type) {
	case WIRE_HELLO:
		err = hello_decode(f, &hello, &why);
		if (err == -EPROTONOSUPPORT)
			err = 0; /* the machine says which version it is */
		e.type = EVENT_HELLO;
		e.hello = &hello;
		break;
	case WIRE_ACK:
		err = ack_decode(f, &ack, &why);
		e.type = EVENT_ACK;
		e.applied = ack.applied;
		break;
	case WIRE_BYE:
		err = bye_decode(f, &bye, &why);
		e.type = EVENT_BYE;
		e.bye = &bye;
		break;
	case WIRE_DISKS_TAKEN:
	case WIRE_DISK_MARKS:
	case WIRE_DISK_HASHES:
		err = primary_disks_frame(&pd->disks, f, &why);
		if (err)
			break;
		primary_daemon_disks_moved(pd);
		return;
	case WIRE_HEARTBEAT:
		return;
	default:
		if (f->type & WIRE_OPTIONAL)
			return;
		break;
	}
	if (err) {
		e.type = EVENT_VIOLATION;
		e.error = err;
		e.text = why;
	}
	primary_event(&pd->machine, &e);
}

static void on_alive(void *arg, struct link *l)
{
	static const struct event e = { .type = EVENT_ALIVE };
	struct primary_daemon *pd = arg;

	(void)l;
	primary_event(&pd->machine, &e);
}

static void on_drained(void *arg, struct link *l)
{
	struct primary_daemon *pd = arg;

	(void)l;
	if (pd->image)
		image_sender_drained(pd->image);
}

static void on_down(void *arg, struct link *l, int err, const char *why)
{
	struct primary_daemon *pd = arg;
	const struct event e = {
		.type = EVENT_LINK_DOWN,
		.error = err,
		.text = why,
	};

	(void)l;
	pd->link = NULL;
	pd->link_ready = pd->link_closing = false;
	pd->generation++;
	frame_pool_cancel(pd->pool, true);
	primary_disks_stop(&pd->disks);
	primary_daemon_image_dropped(pd, why);
	primary_event(&pd->machine, &e);
}

static const struct link_events link_events = {
	.up = on_up,
	.frame = on_frame,
	.alive = on_alive,
	.drained = on_drained,
	.down = on_down,
};

/* --- the environment ---------------------------------------------------- */

static void env_timer(void *arg, enum env_timer t, uint64_t at_us)
{
	struct primary_daemon *pd = arg;

	daemon_timer(&pd->d, t, at_us);
}

static void no_link(void *arg)
{
	on_down(arg, NULL, -ENOMEM, "no memory for a connection");
}

/* In bytes a second; 0: no limit. */
static uint64_t max_rate(const struct settings *set)
{
	return set->max_rate_mbit * 1000000 / 8;
}

/*
 * How long what TLS and the kernel hold takes to be sent: a frame, and as much
 * in front of it, rounded up.
 */
static uint64_t wire_us(const struct settings *set)
{
	const uint64_t bytes = 1024 * 1024;

	return set->max_rate_mbit ? bytes * 1000000 / max_rate(set) : 0;
}

static void env_connect(void *arg)
{
	struct primary_daemon *pd = arg;

	frame_pool_cancel(pd->pool, false);
	pd->link = daemon_connect(&pd->d, pd->peer_host, pd->peer_port,
				  &link_events, pd);
	if (!pd->link)
		loop_post_call(pd->d.loop, &pd->no_link, no_link, pd);
	if (pd->link && pd->d.set->congestion)
		link_congestion(pd->link, pd->d.set->congestion);
	if (pd->link && pd->d.set->max_rate_mbit)
		link_max_rate(pd->link, max_rate(pd->d.set));
}

static void env_send(void *arg, struct frame_buf *frame)
{
	struct primary_daemon *pd = arg;

	daemon_send(pd->link_ready ? pd->link : NULL, frame);
}

static void env_disconnect(void *arg, const struct bye *bye)
{
	struct primary_daemon *pd = arg;

	if (!pd->link || pd->link_closing)
		return;
	/* Nobody takes the rest of an image any more. */
	image_sender_close(pd->image);
	pd->image = NULL;
	pd->link_closing = true;
	daemon_disconnect(pd->link, pd->link_ready ? bye : NULL);
	pd->link_ready = false;
	frame_pool_cancel(pd->pool, true);
	primary_disks_stop(&pd->disks);
}

static void env_gate(void *arg, enum guest_gate order, uint64_t epoch)
{
	struct primary_daemon *pd = arg;

	output_order(&pd->output, order, epoch);
	if (order == GUEST_GATE_RELEASE && epoch)
		primary_disks_acked(&pd->disks, epoch);
	else if (order == GUEST_GATE_RELEASE)
		primary_daemon_note(pd, &pd->note_synced);
	else if (order == GUEST_GATE_OPEN)
		primary_daemon_note(pd, &pd->note_alone);
}

static void env_epoch_over(void *arg, uint64_t epoch, enum env_epoch_end end,
			   const char *why)
{
	struct primary_daemon *pd = arg;

	epoch_log_over(pd->epoch_log, epoch, end, why,
		       pd->machine.stats.applied, clock_now_us());
}

/* On the loop's thread, where the link gives its frames back. */
static void frame_taken(void *arg, const struct frame_buf *b)
{
	struct primary_daemon *pd = arg;

	primary_moved(&pd->machine);
	if (b->type == WIRE_EPOCH_END)
		epoch_log_sent(pd->epoch_log,
			       primary_daemon_epoch(pd, b->epoch),
			       clock_now_us());
}

static void env_cancel(void *arg, enum env_job job)
{
	struct primary_daemon *pd = arg;

	if (job == ENV_JOB_SYNC) {
		primary_disks_stop(&pd->disks);
		pd->ops->cancel(pd->source);
	} else if (job == ENV_JOB_FENCE)
		daemon_fence_cancel(&pd->d);
	else if (job == ENV_JOB_AFTER_SHUTDOWN)
		pd->boot_cancelled = true;
}

static void env_finish(void *arg, int exit_status)
{
	struct primary_daemon *pd = arg;

	primary_daemon_unwatch_addresses(pd);
	interface_watch_close(pd->interfaces);
	pd->interfaces = NULL;
	loop_timer_stop(pd->d.loop, &pd->rings);
	daemon_finish(&pd->d, exit_status);
}

static const struct env_ops env_ops = {
	.now_us = daemon_now_us,
	.random = daemon_random,
	.timer = env_timer,
	.connect = env_connect,
	.send = env_send,
	.disconnect = env_disconnect,
	.gate = env_gate,
	.epoch_over = env_epoch_over,
	.job = primary_daemon_job,
	.cancel = env_cancel,
	.finish = env_finish,
};

/* --- the guest's addresses ---------------------------------------------- */

static void addresses_grown(void *arg)
{
	struct primary_daemon *pd = arg;

	log_debug("%s: %zu addresses known", pd->machine.cfg.domain,
		  pd->addresses.count);
}

void primary_daemon_unwatch_addresses(struct primary_daemon *pd)
{
	while (pd->watch_count)
		address_watch_close(pd->watches[--pd->watch_count]);
}

void primary_daemon_watch_addresses(struct primary_daemon *pd)
{
	struct guest_nic nics[GUEST_NICS_MAX];
	size_t count = pd->ops->nics(pd->source, nics), i;

	primary_daemon_unwatch_addresses(pd);
	for (i = 0; i < count; i++) {
		int err = address_watch_open(
			pd->d.loop, nics[i].ifname, nics[i].mac, &pd->addresses,
			addresses_grown, pd, &pd->watches[pd->watch_count]);

		if (err)
			log_warn("%s: cannot learn the addresses behind %s "
				 "(%s): after a takeover only its MAC address "
				 "is announced",
				 pd->machine.cfg.domain, nics[i].ifname,
				 strerror(-err));
		else
			pd->watch_count++;
	}
}

/* --- interfaces that the guest gets ------------------------------------- */

static void follow(void *arg)
{
	struct primary_daemon *pd = arg;

	pd->follow_err = output_follow(&pd->output);
}

static void interface_came(void *arg);

static void followed(void *arg)
{
	struct primary_daemon *pd = arg;
	bool again = pd->follow_again;

	pd->follows = pd->follow_again = false;
	if (again && pd->interfaces)
		interface_came(pd);
}

/*
 * Mostly before its frontend is connected; what the guest sends by it before
 * the guest's thread comes to it (which may be at an image) is not held back.
 */
static void interface_came(void *arg)
{
	struct primary_daemon *pd = arg;

	pd->follow_again = pd->follows;
	if (pd->follows)
		return;
	pd->follows = true;
	worker_post(pd->d.guest, &pd->follow, follow, followed, pd);
}

static int watch_interfaces(struct primary_daemon *pd)
{
	int err = pd->output.gate
			  ? interface_watch_open(pd->d.loop, interface_came, pd,
						 &pd->interfaces)
			  : 0;

	if (err)
		log_error("interfaces that %s gets cannot be watched for: %s",
			  pd->guest.name, strerror(-err));
	return err;
}

/* --- start and end ------------------------------------------------------ */

static int open_output(struct primary_daemon *pd)
{
	const struct settings *set = pd->d.set;

	return output_open(
		&pd->output, pd->ops, pd->source, pd->guest.name,
		set->no_net_gate ? 0 : (uint32_t)(set->gate_limit_mib << 20));
}

/*
 * Finds the guest, takes its lock and forks the guard while the process still
 * has one thread: the source that was opened to learn the guest's name is
 * closed again, for its libraries have threads.
 */
static int find_guest(struct primary_daemon *pd, const char *domain)
{
	const struct guest_kind *kind = guest_kind_of_words(domain);
	struct guest_error why = { { 0 } };
	const char *run_dir = pd->d.set->run_dir;
	int err;

	pd->manner = (struct guest_manner){
		.ask = (enum guest_ask)pd->d.set->suspend,
		.resume = (enum guest_resume)pd->d.set->resume,
		.interval_ms = pd->d.set->interval_ms.min,
		.full_scan = pd->d.set->full_scan,
	};
	err = kind->source->open(guest_words(kind, domain), run_dir,
				 &pd->manner, &pd->source, &why);

	pd->ops = kind->source;
	if (!err)
		err = pd->ops->describe(pd->source, &pd->guest, &why);
	if (err) {
		fprintf(stderr, "colod: %s\n",
			why.text[0] ? why.text : strerror(-err));
		return err;
	}
	pd->ops->close(pd->source);
	pd->source = NULL;
	pd->lock_fd = guest_lock(pd->guest.name, run_dir);
	if (pd->lock_fd < 0) {
		fprintf(stderr, "colod: %s: %s\n", pd->guest.name,
			pd->lock_fd == -EBUSY
				? "another colod on this host protects it (or "
				  "its guard is still releasing it)"
				: strerror(-pd->lock_fd));
		return pd->lock_fd;
	}
	err = guard_start(kind, pd->guest.name, run_dir, pd->lock_fd,
			  &pd->guard);
	if (err) {
		fprintf(stderr, "colod: cannot start the guard: %s\n",
			strerror(-err));
		return err;
	}
	err = pd->ops->open(pd->guest.name, run_dir, &pd->manner, &pd->source,
			    &why);
	if (err)
		fprintf(stderr, "colod: %s\n",
			why.text[0] ? why.text : strerror(-err));
	return err ? err : open_output(pd);
}

static int open_epoch_log(struct primary_daemon *pd, const char *path)
{
	int err = path ? epoch_log_open(path, &pd->epoch_log) : 0;

	if (err)
		fprintf(stderr, "colod: cannot write the epoch log %s: %s\n",
			path, strerror(-err));
	return err;
}

static void machine_init(struct primary_daemon *pd, const char *peer)
{
	const struct settings *set = pd->d.set;
	const struct env env = { .ops = &env_ops, .arg = pd };
	struct primary_config cfg = {
		.pace = {
			.min_us = set->interval_ms.min * 1000,
			.max_us = set->interval_ms.max * 1000,
			.overhead_percent = (unsigned int)set->overhead_percent,
			.latency_us = set->latency_ms * 1000,
			.bytes_per_s = max_rate(set),
		},
		.heartbeat_us = set->heartbeat_ms * 1000,
		.lost_after = (unsigned int)set->lost_after,
		.inflight = (unsigned int)set->inflight,
		.fence = set->fence != NULL,
		.unsafe_no_fence = set->unsafe_no_fence,
		.retry_us = set->retry_ms * 1000,
		.wire_us = wire_us(set),
		.ack_timeout_us = set->ack_timeout_ms * 1000,
		/* A disk too must not have two writers. */
		.gate = output_gated(&pd->output) || pd->disks.known_count,
		.gate_held = output_found_held(&pd->output),
	};

	snprintf(cfg.domain, sizeof(cfg.domain), "%s", pd->guest.name);
	snprintf(cfg.peer, sizeof(cfg.peer), "%s", peer);
	snprintf(cfg.host, sizeof(cfg.host), "%s", pd->d.host);
	primary_init(&pd->machine, &cfg, &env);
}

static void event(void *owner, const struct event *e)
{
	struct primary_daemon *pd = owner;

	primary_event(&pd->machine, e);
}

static int start(struct primary_daemon *pd, const struct settings *set,
		 const char *domain, const char *peer)
{
	static const struct event start_event = { .type = EVENT_START };
	char name[WIRE_NAME_MAX + 16];
	int err;

	if (daemon_parse_peer(peer, pd->peer_host, sizeof(pd->peer_host),
			      &pd->peer_port) ||
	    !pd->peer_host[0]) {
		fprintf(stderr, "colod: '%s' is not HOST or HOST:PORT\n", peer);
		return -EINVAL;
	}
	err = daemon_prepare(&pd->d, set);
	if (!err)
		err = open_epoch_log(pd, set->epoch_log);
	if (!err)
		err = find_guest(pd, domain);
	if (!err)
		err = primary_daemon_memory(pd);
	if (err)
		return err;
	primary_disks_find(&pd->disks, pd->ops, pd->source);
	frame_pool_watch(pd->pool, frame_taken, pd);
	pd->d.event = event;
	pd->d.status = primary_daemon_status;
	pd->d.owner = pd;
	machine_init(pd, peer);
	snprintf(name, sizeof(name), "primary-%s", pd->guest.name);
	err = daemon_start(&pd->d, name);
	if (err)
		return err;
	err = worker_start(pd->d.loop, "colod-encoder", &pd->encoder);
	if (err) {
		log_error("the encoder's thread: %s", strerror(-err));
		return err;
	}
	err = watch_interfaces(pd);
	if (err)
		return err;
	primary_daemon_watch_addresses(pd);
	primary_event(&pd->machine, &start_event);
	return 0;
}

static void close_all(struct primary_daemon *pd)
{
	/* Where the event loop has failed nobody else lets the threads go. */
	if (pd->pool)
		frame_pool_cancel(pd->pool, true);
	image_sender_close(pd->image);
	pd->image = NULL;
	worker_stop(TAKE_PTR(pd->encoder));
	primary_disks_stop(&pd->disks);
	worker_stop(TAKE_PTR(pd->d.guest));
	primary_daemon_close_disks(pd);
	daemon_fini(&pd->d);
	output_close(&pd->output);
	if (pd->source && !pd->machine.was_protected && pd->ops->give_up)
		pd->ops->give_up(pd->source);
	if (pd->source)
		pd->ops->close(pd->source);
	guard_stop(pd->guard);
	if (pd->lock_fd >= 0)
		close(pd->lock_fd);
	while (pd->arena_count)
		epoch_free(pd->arenas[--pd->arena_count]);
	epoch_log_close(pd->epoch_log);
	epoch_encoder_free(pd->epoch_encoder);
	frame_pool_free(pd->pool);
	guest_description_fini(&pd->guest);
}

int primary_daemon(const struct settings *set, const char *domain,
		   const char *peer)
{
	struct primary_daemon *pd = calloc(1, sizeof(*pd));
	int status = EXIT_FAILED;

	if (!pd)
		return status;
	pd->lock_fd = -1;
	primary_disks_init(&pd->disks, set->disk_dir, set->run_dir,
			   set->disk_ring_mib << 20);
	if (!start(pd, set, domain, peer))
		status = daemon_run(&pd->d);
	close_all(pd);
	free(pd);
	return status;
}
