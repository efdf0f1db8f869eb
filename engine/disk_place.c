/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/disk_served.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "engine/env.h"
#include "resume/holder.h"

#define PLUGIN "nbdkit-colod-plugin.so"

void served_complain(struct served *d, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (d->told) {
		log_error("disk %s: %s", d->name, text);
	} else {
		fprintf(stderr, "colod: disk %s: %s\n", d->name, text);
		d->status = EXIT_FAILED;
	}
}

/* --- where everything is -------------------------------------------------- */

static int make_dir(const char *path, mode_t mode)
{
	return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

/* An installed program's plugin is in its own place. */
static void find_plugin(char *path, size_t room)
{
	ssize_t n = readlink("/proc/self/exe", path, room - 1);
	char *end;

	path[n < 0 ? 0 : n] = '\0';
	end = strrchr(path, '/');
	if (end) {
		snprintf(end + 1, room - (size_t)(end + 1 - path), PLUGIN);
		if (access(path, R_OK) == 0)
			return;
	}
	snprintf(path, room, PLUGIN_DIR "/" PLUGIN);
}

static int fill_paths(struct served *d)
{
	int rc = disk_nbd_path(d->run_dir, d->name, d->nbd_path);

	if (!rc)
		rc = disk_control_path(d->run_dir, d->name, d->control_path);
	if (rc) {
		served_complain(d,
				"its sockets' paths in %s are too long: use a "
				"shorter --run-dir",
				d->run_dir);
		return rc;
	}
	snprintf(d->link, sizeof(d->link), DISK_DEVICE_DIR "/%s", d->name);
	if ((size_t)snprintf(d->lock_path, sizeof(d->lock_path),
			     "%s/disks/%s.lock", d->run_dir,
			     d->name) >= sizeof(d->lock_path) ||
	    (size_t)snprintf(d->owner, sizeof(d->owner), "colod:%s/%s",
			     d->disk_dir, d->name) >= sizeof(d->owner)) {
		served_complain(d, "the path %s is too long", d->disk_dir);
		return -ENAMETOOLONG;
	}
	find_plugin(d->plugin, sizeof(d->plugin));
	return 0;
}

int served_find(struct served *d, const struct settings *set, const char *name)
{
	struct guest_error err = { { 0 } };
	char disks[PATH_MAX];
	int rc;

	*d = (struct served){ .name = name,
			      .device = !set->no_device,
			      .lock = -1,
			      .signals = -1,
			      .index = -1,
			      .connection = -1 };
	rc = disk_meta_open(set->disk_dir, name, &d->meta, &err);
	if (rc) {
		fprintf(stderr, "colod: %s\n", err.text);
		d->status = EXIT_FAILED;
		return rc;
	}
	snprintf(disks, sizeof(disks), "%s/disks", set->run_dir);
	rc = make_dir(set->run_dir, 0755);
	if (!rc)
		rc = make_dir(disks, 0700);
	if (!rc && (!realpath(set->run_dir, d->run_dir) ||
		    !realpath(set->disk_dir, d->disk_dir)))
		rc = -errno;
	if (rc) {
		served_complain(d, "the folder %s: %s", disks, strerror(-rc));
		return rc;
	}
	return fill_paths(d);
}

void served_close(struct served *d)
{
	disk_meta_close(d->meta);
	cleanup_fd(&d->connection);
	cleanup_fd(&d->signals);
	cleanup_fd(&d->lock);
}

/* --- the lock ------------------------------------------------------------- */

pid_t served_holder(const struct served *d)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	AUTO_FD int fd = open(d->lock_path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fcntl(fd, F_GETLK, &l) < 0)
		return -errno;
	return l.l_type == F_UNLCK ? 0 : l.l_pid;
}

/* 0, 1: another has it, or an errno. */
static int try_lock(struct served *d)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	AUTO_FD int fd = open(d->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETLK, &l) < 0)
		return errno == EAGAIN || errno == EACCES ? 1 : -errno;
	/* The file goes with its holder: this one has gone meanwhile. */
	if (fstat(fd, &st) < 0 || !st.st_nlink)
		return 1;
	d->lock = TAKE_FD(fd);
	return 0;
}

int served_lock(struct served *d)
{
	pid_t holder = 0;
	int rc;

	while ((rc = try_lock(d)) > 0 && !holder)
		holder = served_holder(d);
	if (rc < 0)
		served_complain(d, "%s: %s", d->lock_path, strerror(-rc));
	else if (rc > 0)
		served_complain(d,
				"process %d serves it already; 'colod disk "
				"detach' ends it",
				(int)holder);
	return rc > 0 ? -EBUSY : rc;
}

void served_sign(const struct served *d)
{
	char text[HOLDER_BYTES] = "";

	holder_self(text);
	if (pwrite(d->lock, text, sizeof(text), 0) != sizeof(text))
		log_warn("disk %s: %s: %s", d->name, d->lock_path,
			 strerror(errno));
}

pid_t served_left(const struct served *d)
{
	char text[HOLDER_BYTES] = "";
	AUTO_FD int own = -1;
	int fd = d->lock, pid;

	/* A descriptor that is closed ends this process's lock. */
	if (fd < 0)
		fd = own = open(d->lock_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, text, sizeof(text) - 1, 0) <= 0 ||
	    sscanf(text, "%d", &pid) != 1 || pid <= 0)
		return 0;
	return holder_lives(text) ? pid : 0;
}

void served_clean(const struct served *d)
{
	unlink(d->nbd_path);
	unlink(d->control_path);
	unlink(d->lock_path);
}

/* --- the device's link ---------------------------------------------------- */

bool served_link_is_foreign(const struct served *d)
{
	char target[64], owner[SERVED_OWNER_BYTES];
	ssize_t n = readlink(d->link, target, sizeof(target) - 1);
	int index;

	target[n < 0 ? 0 : n] = '\0';
	if (sscanf(target, "/dev/nbd%d", &index) != 1)
		return false;
	nbd_owner(index, owner, sizeof(owner));
	return owner[0] && strcmp(owner, d->owner) != 0;
}

int served_make_link(const struct served *d)
{
	char target[64], fresh[DISK_PATH_MAX + 8];
	int rc = make_dir(DISK_DEVICE_DIR, 0755);

	if (rc)
		return rc;
	snprintf(target, sizeof(target), "/dev/nbd%d", d->index);
	snprintf(fresh, sizeof(fresh), "%s.new", d->link);
	unlink(fresh);
	if (symlink(target, fresh) < 0)
		return -errno;
	return rename(fresh, d->link) < 0 ? -errno : 0;
}

/* --- who uses it ---------------------------------------------------------- */

/* Whoever is connected to the socket, but for the device. */
static bool has_clients(const struct served *d, bool attached)
{
	FILE *f = fopen("/proc/net/unix", "re");
	int clients = attached ? -1 : 0;
	char line[DISK_PATH_MAX], path[DISK_PATH_MAX];
	unsigned int state;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %*s %*s %*s %*s %x %*s %511[^\n]", &state,
			   path) == 2 &&
		    state == 3 && !strcmp(path, d->nbd_path))
			clients++;
	if (f)
		fclose(f);
	return clients > 0;
}

bool served_in_use(const struct served *d, char who[NBD_WHO_BYTES])
{
	int index = nbd_find(d->owner);

	snprintf(who, NBD_WHO_BYTES, "a client of its socket");
	if (index >= 0 && nbd_used(index, who))
		return true;
	if (has_clients(d, index >= 0))
		return true;
	snprintf(who, NBD_WHO_BYTES, "a colod of this host");
	return disk_meta_held(d->meta, DISK_HOLDER_COLOD) == 1;
}
