/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: the main thread of a guest's process.  It is the guest's own
 * suspend handler, and its host's hands for what the shared page cannot do.
 *
 * The happy path:
 *   - colod connects to the socket, says "attach" and is given descriptors;
 *   - it asks for a suspend, by the event channel or by the control word; the
 *     agent acknowledges and stops all parties;
 *   - a suspend that nobody waits for any more is resumed here (control.h).
 * Failure modes: as the guest is told to behave (embedded_manner): the request
 * is ignored, acknowledged and forgotten, honoured late.  A guest that shut
 * down and has no colod that lives does itself what a toolstack would do:
 * it ends, or boots anew.
 *
 * A message is one line of words, and so is its answer: "ok" or what is wrong.
 * All but "attach" begin with a number, which comes back with the answer.
 */
#include "config.h"

#include "resume/embedded/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "resume/embedded/attach.h"

enum {
	CLIENTS = 16,
	MESSAGE_BYTES = 512,
	SOON_US = 20,
	/* Whether the colod that has to deal with a shutdown still lives. */
	ORPHAN_MS = 500,
};

struct agent {
	struct embedded_process *p;
	int client[CLIENTS]; /* or -1 */
};

static void tell(struct embedded_process *p)
{
	eventfd_write(p->fd[EMBEDDED_FD_DONE], 1);
}

/* --- what the host does ------------------------------------------------- */

/* From a stop of all parties to the first instruction. */
static void boot_again(struct embedded_process *p, uint32_t from)
{
	struct guest_error err = { { 0 } };

	p->suspend_asked = false;
	p->late_at_us = 0;
	p->shutdown = 0;
	tracked_order(&p->tracked, TRACKED_DISARM);
	memset(p->memory, 0, p->ram_bytes);
	if (vcpus_boot(p, &err) < 0)
		log_warn("%s: boots with nothing to do: %s",
			 p->control->spec.name, err.text);
	/* Whoever waited for a suspend has no use for one of the new guest. */
	atomic_fetch_and(&p->control->state, (uint32_t)~EMBEDDED_WANTED);
	if (embedded_resume(p->control, from, 0))
		log_info("%s: boots anew", p->control->spec.name);
}

static void take_name(struct embedded_process *p)
{
	char from[EMBEDDED_PATH_BYTES], to[EMBEDDED_PATH_BYTES];

	if (!p->control->standby ||
	    embedded_socket_path(p->run_dir, p->control->spec.name, true,
				 from) < 0 ||
	    embedded_socket_path(p->run_dir, p->control->spec.name, false, to) <
		    0)
		return;
	if (rename(from, to) < 0)
		log_error("%s: taking its name: %s", p->control->spec.name,
			  strerror(errno));
	else
		p->control->standby = false;
}

/* --- suspend and shutdown ----------------------------------------------- */

/* Takes a request where there is one and the guest looks at it at all. */
static bool request_taken(struct embedded_process *p)
{
	struct embedded_control *c = p->control;
	uint32_t word = EMBEDDED_WORD_SUSPEND;
	eventfd_t n;

	if (atomic_load(&c->manner) == EMBEDDED_SUSPEND_IGNORE)
		return false;
	if (eventfd_read(p->fd[EMBEDDED_FD_SUSPEND], &n) == 0)
		return true;
	return atomic_compare_exchange_strong(&c->word, &word,
					      EMBEDDED_WORD_NONE);
}

static void take_request(struct embedded_process *p)
{
	struct embedded_control *c = p->control;

	if (!request_taken(p))
		return;
	switch (atomic_load(&c->manner)) {
	case EMBEDDED_SUSPEND_ACK:
		return;
	case EMBEDDED_SUSPEND_LATE:
		if (!p->late_at_us)
			p->late_at_us = clock_now_us() +
					atomic_load(&c->late_ms) * 1000ULL;
		return;
	default:
		p->suspend_asked = true;
	}
}

/* While running.  True: to be called again soon. */
static bool look_running(struct embedded_process *p)
{
	struct embedded_control *c = p->control;
	uint32_t to = p->shutdown;

	if (p->late_at_us && clock_now_us() >= p->late_at_us) {
		p->late_at_us = 0;
		p->suspend_asked = true;
	}
	if (!to && p->suspend_asked)
		to = EMBEDDED_STATE_SUSPENDED;
	/* A stop under way is changed only for one that lasts. */
	if (!to || (atomic_load(&c->stop) && !p->shutdown))
		return false;
	/* Not before all have left the stop before this one. */
	if (!atomic_load(&c->stop) && atomic_load(&c->parked))
		return true;
	p->suspend_asked = p->suspend_asked && to != EMBEDDED_STATE_SUSPENDED;
	/*
	 * A shutdown is forgotten when it is reached: the stop that was under
	 * way may be complete at this moment, as the suspend it was.
	 */
	parties_stop(p, to);
	return false;
}

static void look_suspended(struct embedded_process *p)
{
	struct embedded_control *c = p->control;
	uint32_t state = atomic_load(&c->state);

	if (p->shutdown == EMBEDDED_STATE_PAUSED &&
	    (state & EMBEDDED_STATE_MASK) == EMBEDDED_STATE_SUSPENDED &&
	    atomic_compare_exchange_strong(&c->state, &state,
					   EMBEDDED_STATE_PAUSED)) {
		p->shutdown = 0;
		tell(p);
		return;
	}
	if (embedded_resume(c, EMBEDDED_STATE_SUSPENDED, 1)) {
		atomic_fetch_add(&c->late_resumes, 1);
		log_info("%s: suspended although nobody waits for it; goes on",
			 c->spec.name);
	}
}

static void look_down(struct embedded_process *p, uint32_t state)
{
	if (holder_lives(p->control->holder))
		return;
	if (state == EMBEDDED_STATE_REBOOT)
		boot_again(p, state);
	else
		p->ending = true;
}

/* The time until the next look, in microseconds; 0: when something happens. */
static uint64_t look(struct embedded_process *p)
{
	uint32_t state = embedded_state_of(p->control);
	uint64_t now_us;

	take_request(p);
	switch (state) {
	case EMBEDDED_STATE_RUNNING:
	case EMBEDDED_STATE_RESUMING:
		if (look_running(p))
			return SOON_US;
		break;
	case EMBEDDED_STATE_SUSPENDED:
		look_suspended(p);
		/* A request may wait for the resume, of which none is told. */
		if (p->suspend_asked || p->shutdown)
			return 1000;
		break;
	case EMBEDDED_STATE_PAUSED:
		p->shutdown = 0;
		break;
	default:
		p->shutdown = 0;
		look_down(p, state);
		return ORPHAN_MS * 1000;
	}
	if (!p->late_at_us)
		return 0;
	now_us = clock_now_us();
	return now_us < p->late_at_us ? p->late_at_us - now_us : SOON_US;
}

/* --- messages ----------------------------------------------------------- */

static int send_fds(int to, const struct embedded_process *p)
{
	char text[] = "ok", control[CMSG_SPACE(sizeof(p->fd))] = { 0 };
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(p->fd));
	memcpy(CMSG_DATA(c), p->fd, sizeof(p->fd));
	return sendmsg(to, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static void gate_set(struct embedded_process *p, uint32_t mode)
{
	atomic_store(&p->control->gate_mode, mode);
	eventfd_write(p->fd[EMBEDDED_FD_BACKEND], 1);
}

/* Words of `guest set`: the gate, and what the specification lets change. */
static int change(struct embedded_process *p, char *words,
		  struct guest_error *err)
{
	struct embedded_control *c = p->control;
	struct embedded_spec s = c->spec;
	const char *word;
	int rc = 0;

	s.suspend = atomic_load(&c->manner);
	s.late_ms = atomic_load(&c->late_ms);
	while (!rc && (word = strsep(&words, " "))) {
		if (!strcmp(word, "gate=open"))
			gate_set(p, EMBEDDED_GATE_OPEN);
		else
			rc = embedded_spec_change(&s, word, err);
	}
	if (rc == 0) {
		atomic_store(&c->late_ms, s.late_ms);
		atomic_store(&c->manner, s.suspend);
	}
	return rc;
}

static int restart(struct embedded_process *p, struct guest_error *err)
{
	if (embedded_state_of(p->control) != EMBEDDED_STATE_REBOOT) {
		guest_error_set(err, "%s is not rebooting",
				p->control->spec.name);
		return -EINVAL;
	}
	boot_again(p, EMBEDDED_STATE_REBOOT);
	return 0;
}

static int shut(struct embedded_process *p, uint32_t state,
		struct guest_error *err)
{
	uint32_t now = embedded_state_of(p->control);

	if (state == EMBEDDED_STATE_PAUSED ? now > EMBEDDED_STATE_PAUSED
					   : now >= EMBEDDED_STATE_PAUSED) {
		guest_error_set(err, "%s does not run", p->control->spec.name);
		return -EINVAL;
	}
	p->shutdown = state;
	return 0;
}

static int obey(struct embedded_process *p, char *text, struct guest_error *err)
{
	static const struct {
		const char *word;
		uint32_t state;
	} ends[] = {
		{ "pause", EMBEDDED_STATE_PAUSED },
		{ "poweroff", EMBEDDED_STATE_POWEROFF },
		{ "reboot", EMBEDDED_STATE_REBOOT },
		{ "crash", EMBEDDED_STATE_CRASHED },
	};
	static const struct {
		const char *word;
		enum tracked_order order;
	} orders[] = {
		{ "arm", TRACKED_ARM },
		{ "disarm", TRACKED_DISARM },
		{ "touch", TRACKED_TOUCH },
	};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (!strcmp(text, ends[i].word))
			return shut(p, ends[i].state, err);
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
		if (!strcmp(text, orders[i].word))
			return tracked_order(&p->tracked, orders[i].order);
	if (!strncmp(text, "set ", 4))
		return change(p, text + 4, err);
	if (!strcmp(text, "restart"))
		return restart(p, err);
	if (!strcmp(text, "activated")) {
		take_name(p);
		return 0;
	}
	if (!strcmp(text, "destroy")) {
		p->ending = true;
		return 0;
	}
	guest_error_set(err, "'%.40s' is not understood", text);
	return -EINVAL;
}

/* Negative: the connection is over. */
static int serve(struct embedded_process *p, int fd)
{
	struct guest_error err = { { 0 } };
	char text[MESSAGE_BYTES], answer[sizeof(err.text) + 16];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	unsigned int number;
	int rc, at = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	text[n] = '\0';
	if (!strcmp(text, "attach"))
		return send_fds(fd, p);
	if (sscanf(text, "%u %n", &number, &at) != 1)
		return -EPROTO;
	rc = obey(p, text + at, &err);
	if (rc == 0)
		strcpy(err.text, "ok");
	else if (!err.text[0])
		snprintf(err.text, sizeof(err.text), "%s", strerror(-rc));
	rc = snprintf(answer, sizeof(answer), "%u %s", number, err.text);
	n = send(fd, answer, (size_t)rc, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : 0;
}

static void accept_client(struct agent *a)
{
	int fd = accept4(a->p->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = 0; i < CLIENTS; i++)
		if (a->client[i] < 0) {
			a->client[i] = fd;
			return;
		}
	close(fd);
}

/* --- the loop ----------------------------------------------------------- */

/* The first one asks the guest to power off, the second does not ask. */
static void signalled(struct embedded_process *p)
{
	if (p->asked_to_end ||
	    embedded_state_of(p->control) >= EMBEDDED_STATE_PAUSED)
		p->ending = true;
	p->asked_to_end = true;
	p->shutdown = EMBEDDED_STATE_POWEROFF;
}

static void wait_and_serve(struct agent *a, uint64_t wait_us)
{
	struct embedded_process *p = a->p;
	bool deaf = atomic_load(&p->control->manner) == EMBEDDED_SUSPEND_IGNORE;
	struct pollfd fds[5 + CLIENTS] = {
		{ p->agent_fd, POLLIN, 0 },
		{ p->listener, POLLIN, 0 },
		{ p->fd[EMBEDDED_FD_WATCH], POLLIN, 0 },
		{ deaf ? -1 : p->fd[EMBEDDED_FD_SUSPEND], POLLIN, 0 },
		{ p->signal_fd, POLLIN, 0 },
	};
	const struct timespec t = {
		.tv_sec = (time_t)(wait_us / 1000000),
		.tv_nsec = (long)(wait_us % 1000000) * 1000,
	};
	struct signalfd_siginfo info;
	eventfd_t ignored;

	for (int i = 0; i < CLIENTS; i++)
		fds[5 + i] = (struct pollfd){ a->client[i], POLLIN, 0 };
	if (ppoll(fds, 5 + CLIENTS, wait_us ? &t : NULL, NULL) <= 0)
		return;
	if (fds[0].revents)
		eventfd_read(fds[0].fd, &ignored);
	if (fds[1].revents)
		accept_client(a);
	if (fds[2].revents)
		eventfd_read(fds[2].fd, &ignored);
	if (fds[4].revents && read(p->signal_fd, &info, sizeof(info)) > 0)
		signalled(p);
	for (int i = 0; i < CLIENTS; i++)
		if (fds[5 + i].revents && serve(p, a->client[i]) < 0) {
			close(a->client[i]);
			a->client[i] = -1;
		}
}

void agent_run(struct embedded_process *p)
{
	struct agent a = { .p = p };
	char path[EMBEDDED_PATH_BYTES];

	for (int i = 0; i < CLIENTS; i++)
		a.client[i] = -1;
	while (!p->ending)
		wait_and_serve(&a, look(p));
	if (embedded_socket_path(p->run_dir, p->control->spec.name,
				 p->control->standby, path) == 0)
		unlink(path);
	log_info("%s: ends", p->control->spec.name);
}

/* The name is free, or only a dead process's socket has it. */
static int name_free(const char *run_dir, const char *name, bool standby,
		     const char *path)
{
	int fd = embedded_connect(run_dir, name, standby);

	if (fd >= 0) {
		close(fd);
		return -EEXIST;
	}
	if (fd != -ENOENT)
		return fd;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int agent_open(struct embedded_process *p, struct guest_error *err)
{
	const char *name = p->control->spec.name;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	AUTO_FD int fd = -1;
	mode_t mask;
	int rc = embedded_socket_path(p->run_dir, name, p->control->standby,
				      a.sun_path);

	if (rc == 0)
		rc = name_free(p->run_dir, name, p->control->standby,
			       a.sun_path);
	if (rc == 0) {
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		mask = umask(0177);
		if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		    listen(fd, CLIENTS) < 0)
			rc = -errno;
		umask(mask);
	}
	if (rc == -EEXIST)
		guest_error_set(err, "a guest %s runs here already", name);
	else if (rc == -ENAMETOOLONG)
		guest_error_set(err, "%s is too long a path for %s", p->run_dir,
				name);
	else if (rc < 0)
		guest_error_set(err, "the socket %s: %s", a.sun_path,
				strerror(-rc));
	else
		p->listener = TAKE_FD(fd);
	return rc;
}
