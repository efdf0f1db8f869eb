/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/disk_serve.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/disk_served.h"
#include "engine/env.h"
#include "resume/disk/storage.h"

enum {
	START_TRY_MS = 20, /* whether nbdkit answers yet */
	START_WARN_US = 10 * 1000 * 1000,
	ATTACH_TRY_MS = 1000, /* after a failure */
	ENDING_TRY_MS = 500,  /* whether nobody uses the disk any more */
	GRACE_MS = 200,	      /* between a connection's end and nbdkit's */
	DETACH_US = 20 * 1000 * 1000,
};

/* --- what happens --------------------------------------------------------- */

static void take_signals(struct served *d)
{
	struct signalfd_siginfo s;
	int status;

	while (read(d->signals, &s, sizeof(s)) == sizeof(s))
		if (s.ssi_signo != SIGCHLD)
			d->ending = true;
	if (d->pid && waitpid(d->pid, &status, WNOHANG) == d->pid)
		served_ended(d, status);
}

/*
 * Where nbdkit lives the kernel has given up on it, and will ask for the same
 * again.  Only its death makes sure that nothing old comes behind something
 * new.
 */
static void connection_ended(struct served *d)
{
	struct pollfd p = { .fd = d->signals, .events = POLLIN };

	served_disconnect(d);
	if (poll(&p, 1, GRACE_MS) > 0)
		take_signals(d);
	if (!d->pid)
		return;
	log_warn("disk %s: a request had no answer within %d s: killing nbdkit",
		 d->name, NBD_ANSWER_S);
	d->dying = true;
	kill(d->pid, SIGKILL);
}

/* Waits at most so long (-1: for ever) and notices what happens. */
static void look(struct served *d, int wait_ms)
{
	struct pollfd p[] = {
		{ .fd = d->signals, .events = POLLIN },
		{ .fd = d->connection, .events = POLLRDHUP },
	};

	if (poll(p, 2, wait_ms) <= 0)
		return;
	if (p[0].revents)
		take_signals(d);
	if (p[1].revents && d->connection >= 0)
		connection_ended(d);
}

/* --- it is served --------------------------------------------------------- */

/* Tells systemd, or whoever else wants to know: sd_notify(3). */
static void notify(const char *what)
{
	const char *to = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = to ? strlen(to) : 0;
	AUTO_FD int fd = -1;

	if (n < 2 || n >= sizeof(a.sun_path))
		return;
	memcpy(a.sun_path, to, n);
	if (to[0] == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, what, strlen(what), MSG_NOSIGNAL,
		       (const struct sockaddr *)&a,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

static void say_served(struct served *d)
{
	d->said = 0;
	if (d->told) {
		log_info("disk %s: served again after %" PRIu64
			 " ms, by process %d",
			 d->name, (clock_now_us() - d->ended_us) / 1000,
			 (int)d->pid);
		return;
	}
	d->told = true;
	log_info("disk %s: served at %s, by process %d", d->name, d->nbd_path,
		 (int)d->pid);
	if (d->device)
		log_info("disk %s: %s is /dev/nbd%d", d->name, d->link,
			 d->index);
	notify("READY=1");
}

static int attach(struct served *d, int fd, const struct nbd_export *e)
{
	d->index = nbd_find(d->owner);
	if (d->index >= 0)
		return nbd_reattach(d->index, fd, d->owner);
	if (served_link_is_foreign(d))
		return -EEXIST;
	d->index = nbd_attach(fd, e, d->owner);
	return d->index < 0 ? d->index : 0;
}

static void say_why_not(struct served *d, int err)
{
	if (err == d->said)
		return;
	d->said = err;
	if (err == -EPERM)
		served_complain(d, "only root attaches and detaches block "
				   "devices; see --no-device");
	else if (err == -EEXIST)
		served_complain(d,
				"%s is that of another --disk-dir: give one of "
				"the two another name",
				d->link);
	else if (err == -EOPNOTSUPP)
		served_complain(d, "this kernel is older than Linux 5.14: its "
				   "block device could not be found again");
	else
		served_complain(d,
				"its block device: %s; the kernel's log may "
				"say more",
				strerror(-err));
}

/* The device is attached, or none is wanted: 0 or an errno. */
static int take_connection(struct served *d, int fd, const struct nbd_export *e)
{
	int rc = d->device ? attach(d, fd, e) : 0;

	/* The kernel still has the old one, and will see in a moment. */
	if (rc == -EAGAIN)
		return rc;
	if (rc) {
		say_why_not(d, rc);
		return rc;
	}
	if (d->device && (rc = served_make_link(d)))
		served_complain(d, "the link %s: %s", d->link, strerror(-rc));
	return 0;
}

static void try_connect(struct served *d)
{
	struct nbd_export e;
	int fd = nbd_handshake(d->nbd_path, &e);

	if (fd < 0) {
		if (d->warned || clock_now_us() - d->started_us < START_WARN_US)
			return;
		d->warned = true;
		log_warn("disk %s: nbdkit does not answer yet: %s", d->name,
			 strerror(-fd));
		return;
	}
	d->connected = !take_connection(d, fd, &e);
	if (d->connected && d->device)
		d->connection = fd;
	else
		close(fd);
	if (d->connected && !d->status)
		say_served(d);
}

/* --- the end -------------------------------------------------------------- */

/*
 * Asked to end, and nobody uses the disk.  Without its link nobody new finds
 * it, so that goes before the last look.
 */
static bool may_end(struct served *d)
{
	char who[NBD_WHO_BYTES];

	if (!d->ending)
		return false;
	if (!served_in_use(d, who)) {
		if (d->index >= 0)
			unlink(d->link);
		if (!served_in_use(d, who))
			return true;
		if (d->index >= 0)
			served_make_link(d);
	}
	if (strcmp(who, d->said_users) != 0)
		log_warn("disk %s: it is used by %s, and served until it is "
			 "not any more",
			 d->name, who);
	strcpy(d->said_users, who);
	return false;
}

/* What could not be served is left to its users, to whoever tries again. */
static void undo(struct served *d)
{
	char who[NBD_WHO_BYTES];
	int rc = 0;

	served_disconnect(d);
	if (d->status && served_in_use(d, who)) {
		served_stop(d, SIGKILL);
	} else {
		if (d->index >= 0)
			rc = nbd_detach(d->index);
		if (rc)
			say_why_not(d, rc);
		else if (d->index >= 0)
			unlink(d->link);
		served_stop(d, SIGINT);
	}
	if (d->started_us)
		served_clean(d);
	/* Else the next one would not know whom to kill. */
	else if (!served_left(d))
		unlink(d->lock_path);
}

/* --- serving -------------------------------------------------------------- */

/* How long nothing has to be done unless something happens. */
static int wait_ms(const struct served *d)
{
	uint64_t now_us = clock_now_us(), due_us;

	if (d->connected || d->dying)
		return d->ending ? ENDING_TRY_MS : -1;
	if (d->pid)
		return d->said ? ATTACH_TRY_MS : START_TRY_MS;
	due_us = d->ended_us + d->back_off_ms * 1000;
	return due_us > now_us ? (int)((due_us - now_us) / 1000) + 1 : 0;
}

static void serve(struct served *d)
{
	served_start(d);
	while (!d->status && !may_end(d)) {
		if (d->pid && !d->connected && !d->dying)
			try_connect(d);
		if (d->status)
			break;
		look(d, wait_ms(d));
		if (!d->pid && !d->status && wait_ms(d) == 0)
			served_start(d);
	}
}

static int block_signals(struct served *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signals < 0)
		served_complain(d, "no signals: %s", strerror(errno));
	return d->signals < 0 ? -errno : 0;
}

/* What is better said in our words than in nbdkit's. */
static int check(struct served *d)
{
	struct guest_error err = { { 0 } };
	struct disk_storage *s = NULL;
	int index = nbd_find(d->owner);

	if (disk_storage_open(disk_meta_storage(d->meta), true, &s, &err))
		served_complain(d, "%s", err.text);
	else if (disk_storage_size(s) < disk_meta_size(d->meta))
		served_complain(d, "its storage %s is smaller than the disk",
				disk_meta_storage(d->meta));
	else if (!d->device && index >= 0)
		served_complain(d,
				"/dev/nbd%d is attached for it: serve it "
				"without --no-device",
				index);
	else if (d->device && nbd_load())
		served_complain(d, "the kernel has no NBD client: load its "
				   "module nbd as root, or see --no-device");
	disk_storage_close(s);
	return d->status ? -EIO : 0;
}

int disk_serve(const struct settings *set, const char *name)
{
	struct served d;

	if (served_find(&d, set, name) == 0 && served_lock(&d) == 0) {
		if (check(&d) == 0 && served_kill_left(&d) == 0 &&
		    block_signals(&d) == 0) {
			serve(&d);
			if (d.told)
				log_info("disk %s: served no more", name);
		}
		undo(&d);
	}
	served_close(&d);
	return d.status;
}

/* --- ending another's ----------------------------------------------------- */

static void end_it(struct served *d, pid_t pid)
{
	uint64_t until_us = clock_now_us() + DETACH_US;

	if (kill(pid, SIGTERM) < 0) {
		served_complain(d, "process %d, which serves it: %s", (int)pid,
				strerror(errno));
		return;
	}
	while (served_holder(d) == pid) {
		if (clock_now_us() >= until_us) {
			served_complain(d,
					"process %d was asked to end, and has "
					"not yet; its log says why",
					(int)pid);
			return;
		}
		clock_sleep_us(START_TRY_MS * 1000);
	}
}

/* With the lock. */
static void end_left(struct served *d)
{
	uint64_t until_us = clock_now_us() + DETACH_US;
	pid_t left = served_left(d);
	int rc = d->index < 0 ? 0 : nbd_detach(d->index);

	if (rc) {
		say_why_not(d, rc);
		return;
	}
	if (d->index >= 0)
		unlink(d->link);
	if (left)
		kill(left, SIGINT);
	while (served_left(d) && clock_now_us() < until_us)
		clock_sleep_us(START_TRY_MS * 1000);
	if (served_left(d))
		served_complain(d,
				"process %d, its nbdkit, was asked to end, and "
				"has not yet: its storage may hang",
				(int)left);
	else
		served_clean(d);
}

static void detach(struct served *d)
{
	pid_t pid = served_holder(d);
	char who[NBD_WHO_BYTES];

	d->index = nbd_find(d->owner);
	if (pid < 0)
		served_complain(d, "%s: %s", d->lock_path, strerror(-pid));
	else if (!pid && d->index < 0 && !served_left(d))
		served_complain(d, "it is not served");
	else if (served_in_use(d, who))
		served_complain(d, "it is used by %s: end that first", who);
	else if (pid)
		end_it(d, pid);
	else if (served_lock(d) == 0)
		end_left(d);
}

int disk_detach(const struct settings *set, const char *name)
{
	struct served d;

	if (served_find(&d, set, name) == 0)
		detach(&d);
	served_close(&d);
	return d.status;
}
