/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process of an embedded guest, from its making to its end.
 *
 * The happy path: memory, control page, tracker, socket, device; then the
 * threads, and who asked for it is told "ok"; then the agent's loop.
 * Failure: before the threads; one line to who asked, nothing left behind.
 */
#include "config.h"

#include "resume/embedded/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "resume/embedded/attach.h"
#include "resume/embedded/tracker.h"

static const struct workload *const workloads[EMBEDDED_WORKLOAD_COUNT] = {
	[EMBEDDED_LEDGER] = &workload_ledger,
	[EMBEDDED_DIRTY] = &workload_dirty,
	[EMBEDDED_REPLAY] = &workload_replay,
};

static int map_new(const char *name, size_t bytes, int *fd, void **at)
{
	*fd = memfd_create(name, MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, (off_t)bytes) < 0)
		return -errno;
	*at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return *at == MAP_FAILED ? -errno : 0;
}

static int make_memory(struct embedded_process *p,
		       const struct process_request *r, struct guest_error *err)
{
	uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * WIRE_PAGE_BYTES;
	void *memory = NULL, *control = NULL;
	int rc;

	if (r->spec.mem_bytes > host) {
		guest_error_set(err,
				"%s: this host has less memory than %llu"
				" MiB",
				r->spec.name,
				(unsigned long long)r->spec.mem_bytes >> 20);
		return -ENOMEM;
	}
	p->ram_bytes = r->spec.mem_bytes;
	rc = map_new("guest-memory", p->ram_bytes, &p->fd[EMBEDDED_FD_MEMORY],
		     &memory);
	if (rc == 0)
		rc = map_new("guest-control",
			     embedded_control_bytes(p->ram_bytes),
			     &p->fd[EMBEDDED_FD_CONTROL], &control);
	if (rc < 0) {
		guest_error_set(err, "memory for %s: %s", r->spec.name,
				strerror(-rc));
		return rc;
	}
	p->memory = memory;
	p->control = control;
	return 0;
}

static void fill_control(struct embedded_process *p,
			 const struct process_request *r)
{
	struct embedded_control *c = p->control;

	c->magic = EMBEDDED_MAGIC;
	c->bytes = embedded_control_bytes(p->ram_bytes);
	c->ram_bytes = p->ram_bytes;
	c->map_address = (uintptr_t)p->memory;
	c->vcpu_count = r->spec.vcpus;
	memcpy(c->uuid, r->uuid, sizeof(c->uuid));
	holder_self(c->process);
	c->spec = r->spec;
	c->standby = r->standby;
	atomic_store(&c->manner, r->spec.suspend);
	atomic_store(&c->late_ms, r->spec.late_ms);
	/* What a twin finds, wherever its activation is cut short. */
	atomic_store(&c->return_code, !r->standby);
	atomic_store(&c->state, r->standby ? EMBEDDED_STATE_PAUSED
					   : EMBEDDED_STATE_RUNNING);
	atomic_store(&c->stop, r->standby ? EMBEDDED_STATE_PAUSED : 0);
}

static int make_events(struct embedded_process *p)
{
	for (int i = EMBEDDED_FD_SUSPEND; i < EMBEDDED_FDS; i++) {
		p->fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (p->fd[i] < 0)
			return -errno;
	}
	p->agent_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return p->agent_fd < 0 ? -errno : 0;
}

/* A standby runs even where it could not be protected in its turn. */
static int choose_tracker(struct embedded_process *p, struct guest_error *err)
{
	struct embedded_control *c = p->control;
	uint32_t kind = c->spec.tracker;
	const char *why = "the kernel offers none";
	int rc = 0;

	if (kind == EMBEDDED_TRACKER_AUTO) {
		kind = tracker_best();
		rc = kind == EMBEDDED_TRACKER_NONE ? -ENOTSUP : 0;
	} else {
		rc = tracker_selftest(kind, &why);
	}
	if (rc == 0)
		rc = tracked_open(&p->tracked, kind, p->memory, p->ram_bytes,
				  c->written);
	c->tracker = rc == 0 ? kind : EMBEDDED_TRACKER_NONE;
	if (rc == 0)
		return 0;
	guest_error_set(err, "%s: what it writes cannot be tracked by %s: %s",
			c->spec.name, embedded_tracker_name(c->spec.tracker),
			why);
	if (!c->standby)
		return rc;
	log_warn("%s", err->text);
	return 0;
}

static int make(struct embedded_process *p, const struct process_request *r,
		struct guest_error *err)
{
	struct pollfd stopped = { .events = POLLIN };
	int rc = make_memory(p, r, err);

	if (rc < 0)
		return rc;
	p->workload = workloads[r->spec.workload];
	p->parties = r->spec.vcpus + p->workload->device;
	fill_control(p, r);
	rc = make_events(p);
	if (rc == 0)
		rc = choose_tracker(p, err);
	if (rc == 0)
		rc = agent_open(p, err);
	if (rc < 0)
		return rc;
	if (p->workload->device)
		rc = backend_open(p, err);
	if (rc < 0)
		return rc;
	if (!r->standby)
		rc = vcpus_boot(p, err);
	if (rc == 0 && p->backend)
		rc = backend_start(p);
	if (rc == 0)
		rc = vcpus_start(p);
	stopped.fd = p->agent_fd;
	/* A twin is one when all stand still: not before is it let run. */
	while (rc == 0 && r->standby && poll(&stopped, 1, -1) < 0)
		;
	return rc;
}

/* A terminal's signals are for colod; in the foreground they are the end. */
static void set_signals(struct embedded_process *p, bool foreground)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	p->signal_fd = foreground
			       ? signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)
			       : -1;
}

static void tell_maker(const struct process_request *r, int rc,
		       const struct guest_error *err)
{
	const char *text = rc == 0	? "ok"
			   : *err->text ? err->text
					: strerror(-rc);

	if (r->ready_fd >= 0) {
		if (write(r->ready_fd, text, strlen(text)) < 0)
			log_error("%s", text);
		/* After a failure, the end of the process is its end. */
		if (rc == 0)
			close(r->ready_fd);
	} else if (rc < 0) {
		fprintf(stderr, "colod: %s\n", text);
	} else {
		printf("%s: runs, its written pages are tracked by %s\n",
		       r->spec.name, embedded_tracker_name(r->spec.tracker));
		fflush(stdout);
	}
}

static void unlink_socket(const struct embedded_process *p)
{
	char path[EMBEDDED_PATH_BYTES];

	if (p->listener >= 0 &&
	    embedded_socket_path(p->run_dir, p->control->spec.name,
				 p->control->standby, path) == 0)
		unlink(path);
}

int embedded_process(const struct process_request *r)
{
	static struct embedded_process p; /* one guest a process */
	struct guest_error err = { { 0 } };
	struct process_request told = *r;
	int rc;

	for (int i = 0; i < EMBEDDED_FDS; i++)
		p.fd[i] = -1;
	p.agent_fd = p.listener = p.signal_fd = -1;
	p.tracked.uffd = -1;
	p.foreground = r->foreground;
	snprintf(p.run_dir, sizeof(p.run_dir), "%s", r->run_dir);
	prctl(PR_SET_NAME, "colod-embedded");
	set_signals(&p, r->foreground);
	rc = make(&p, r, &err);
	if (rc < 0)
		unlink_socket(&p);
	else
		told.spec.tracker = p.control->tracker;
	tell_maker(&told, rc, &err);
	if (rc < 0)
		return rc == -EEXIST ? EMBEDDED_EXIT_EXISTS : 1;
	agent_run(&p);
	return 0;
}
