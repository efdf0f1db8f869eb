/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever drops the lock removes the file while it still holds it, so one who
 * got the lock of a file that has been removed meanwhile has got nothing, and
 * tries again with the file that is there now.
 */
#include "config.h"

#include "resume/xen/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

enum { LOCK_TRIES = 20 };

static void lock_path(const char *dir, uint32_t domid, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/suspend-evtchn-%u.lock", dir, domid);
}

static bool still_there(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
	       ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

int xen_suspend_lock(const char *dir, uint32_t domid)
{
	struct flock lock = { .l_type = F_WRLCK,
			      .l_whence = SEEK_SET,
			      .l_len = 1 };
	char path[PATH_MAX];

	lock_path(dir, domid, path);
	for (int i = 0; i < LOCK_TRIES; i++) {
		AUTO_FD int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

		if (fd < 0)
			return -errno;
		if (fcntl(fd, F_SETLK, &lock) < 0)
			return errno == EACCES || errno == EAGAIN ? -EBUSY
								  : -errno;
		if (still_there(fd, path))
			return TAKE_FD(fd);
	}
	return -EBUSY;
}

void xen_suspend_unlock(const char *dir, uint32_t domid, int fd)
{
	char path[PATH_MAX];

	if (fd < 0)
		return;
	lock_path(dir, domid, path);
	if (unlink(path) < 0)
		log_debug("removing %s: %s", path, strerror(errno));
	close(fd);
}
