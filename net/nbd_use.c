/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which NBD devices are attached, and who uses one (see nbd.h), as sysfs and
 * /proc tell it: the kernel has no other count of those who have a device open.
 */
#include "config.h"

#include "net/nbd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { PATH_BYTES = 320, TEXT_BYTES = 640 };

/* The first line of a small file, empty where there is none. */
static void read_line(const char *path, char *text, size_t room)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, room - 1);

	text[n < 0 ? 0 : n] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

void nbd_owner(int index, char *text, size_t room)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "/sys/block/nbd%d/backend", index);
	read_line(path, text, room);
}

int nbd_find(const char *owner)
{
	DIR *d = opendir("/sys/block");
	const struct dirent *e;
	int found = -ENOENT;

	while (d && found < 0 && (e = readdir(d))) {
		char text[TEXT_BYTES];
		int index, length = 0;

		if (sscanf(e->d_name, "nbd%d%n", &index, &length) != 1 ||
		    e->d_name[length])
			continue;
		nbd_owner(index, text, sizeof(text));
		if (!strcmp(text, owner))
			found = index;
	}
	if (d)
		closedir(d);
	return found;
}

/* A file system, device mapper, RAID or swap; -EBUSY of others than these. */
static bool used_exclusively(int index, char who[NBD_WHO_BYTES])
{
	char path[PATH_BYTES];
	AUTO_FD int fd = -1;

	snprintf(path, sizeof(path), "/dev/nbd%d", index);
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd >= 0 || errno != EBUSY)
		return false;
	snprintf(who, NBD_WHO_BYTES, "a file system or the like of this host");
	return true;
}

/* blkback opens it without any claim. */
static bool used_by_domain(dev_t number, char who[NBD_WHO_BYTES])
{
	DIR *d = opendir("/sys/bus/xen-backend/devices");
	const struct dirent *e;
	bool used = false;
	char device[32];

	snprintf(device, sizeof(device), "%x:%x", major(number), minor(number));
	while (d && !used && (e = readdir(d))) {
		char path[PATH_BYTES], text[32];
		int domid;

		if (sscanf(e->d_name, "vbd-%d-", &domid) != 1)
			continue;
		snprintf(path, sizeof(path),
			 "/sys/bus/xen-backend/devices/%s/physical_device",
			 e->d_name);
		read_line(path, text, sizeof(text));
		used = !strcmp(text, device);
		if (used)
			snprintf(who, NBD_WHO_BYTES, "domain %d", domid);
	}
	if (d)
		closedir(d);
	return used;
}

static bool process_has(const char *pid, dev_t number)
{
	char path[PATH_BYTES];
	const struct dirent *e;
	bool has = false;
	struct stat st;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%.32s/fd", pid);
	d = opendir(path);
	while (d && !has && (e = readdir(d)))
		has = fstatat(dirfd(d), e->d_name, &st, 0) == 0 &&
		      S_ISBLK(st.st_mode) && st.st_rdev == number;
	if (d)
		closedir(d);
	return has;
}

static bool used_by_process(dev_t number, char who[NBD_WHO_BYTES])
{
	DIR *d = opendir("/proc");
	const struct dirent *e;
	bool used = false;

	while (d && !used && (e = readdir(d))) {
		char path[PATH_BYTES], name[32];

		if (strspn(e->d_name, "0123456789") != strlen(e->d_name) ||
		    !process_has(e->d_name, number))
			continue;
		used = true;
		snprintf(path, sizeof(path), "/proc/%.32s/comm", e->d_name);
		read_line(path, name, sizeof(name));
		snprintf(who, NBD_WHO_BYTES, "process %.32s (%s)", e->d_name,
			 name);
	}
	if (d)
		closedir(d);
	return used;
}

bool nbd_used(int index, char who[NBD_WHO_BYTES])
{
	unsigned int major_number, minor_number;
	char path[PATH_BYTES], text[32];
	dev_t number;

	snprintf(path, sizeof(path), "/sys/block/nbd%d/dev", index);
	read_line(path, text, sizeof(text));
	if (sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
		return false;
	number = makedev(major_number, minor_number);
	return used_by_domain(number, who) || used_by_process(number, who) ||
	       used_exclusively(index, who);
}
