/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all kinds of guests share: their texts, and the lock that gives one
 * colod the right to a guest's name on this host.
 *
 * The lock is a flock on RUN_DIR/NAME.lock: the kernel drops it with the last
 * descriptor, so no crash leaves one behind.  The file is never removed, since
 * removing it would let two processes hold locks on two files of one name.
 * Any thread.
 */
#include "config.h"

#include "resume/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"

void guest_error_set(struct guest_error *e, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
}

const char *guest_ask_text(enum guest_ask ask)
{
	static const char *const words[] = { "auto", "evtchn", "xenstore",
					     "toolstack" };

	return words[ask];
}

const char *guest_status_text(enum guest_status s)
{
	switch (s) {
	case GUEST_RUNNING:
		return "running";
	case GUEST_SUSPENDED:
		return "suspended";
	case GUEST_POWEROFF:
		return "powered off";
	case GUEST_REBOOT:
		return "rebooting";
	case GUEST_CRASHED:
		return "crashed";
	case GUEST_GONE:
		return "gone";
	}
	return "unknown";
}

const struct guest_kind *guest_kind_of_words(const char *words)
{
	const struct guest_kind *const *k;

	for (k = guest_kinds; *k; k++)
		if (!strncmp(words, (*k)->prefix, strlen((*k)->prefix)))
			return *k;
	return guest_kinds[0];
}

const char *guest_words(const struct guest_kind *kind, const char *words)
{
	size_t n = strlen(kind->prefix);

	return strncmp(words, kind->prefix, n) ? words : words + n;
}

int guest_plain_name(const char *words, char name[WIRE_NAME_MAX + 1],
		     struct guest_error *err)
{
	if (!words[0] || strlen(words) > WIRE_NAME_MAX) {
		guest_error_set(err, "'%.40s' is not the name of a guest",
				words);
		return -EINVAL;
	}
	strcpy(name, words);
	return 0;
}

static const struct guest_wire_kind *find_wire(const struct guest_kind *k,
					       enum wire_guest_kind kind)
{
	for (const struct guest_wire_kind *w = k->standby->kinds; w->kind; w++)
		if (w->kind == kind)
			return w;
	return NULL;
}

const struct guest_kind *guest_kind_of_wire(enum wire_guest_kind kind)
{
	const struct guest_kind *const *k;

	for (k = guest_kinds; *k; k++)
		if (find_wire(*k, kind))
			return *k;
	return NULL;
}

const struct guest_wire_kind *guest_wire_kind(enum wire_guest_kind kind)
{
	const struct guest_kind *k = guest_kind_of_wire(kind);

	return k ? find_wire(k, kind) : NULL;
}

int guest_lock(const char *name, const char *run_dir)
{
	char path[PATH_MAX];
	AUTO_FD int fd = -1;
	int n;

	if (!*name || *name == '.' || strchr(name, '/'))
		return -EINVAL;
	n = snprintf(path, sizeof(path), "%s/%s.lock", run_dir, name);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	if (mkdir(run_dir, 0755) < 0 && errno != EEXIST) {
		n = -errno;
		log_error("making %s: %s", run_dir, strerror(-n));
		return n;
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		n = -errno;
		log_error("opening %s: %s", path, strerror(-n));
		return n;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return TAKE_FD(fd);
}
