/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/disk/names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static const size_t socket_bytes = sizeof(((struct sockaddr_un *)0)->sun_path);

bool disk_name_good(const char *name)
{
	size_t n = strspn(name, LETTERS DIGITS "._-");

	return n > 0 && n <= DISK_NAME_MAX && name[n] == '\0' &&
	       name[0] != '.' && name[0] != '-';
}

static int put(char *path, size_t room, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int put(char *path, size_t room, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(path, room, fmt, ap);
	va_end(ap);
	return n < 0 || (size_t)n >= room ? -ENAMETOOLONG : 0;
}

int disk_meta_path(const char *disk_dir, const char *name, char *path)
{
	return put(path, DISK_PATH_MAX, "%s/%s.disk", disk_dir, name);
}

int disk_journal_path(const char *disk_dir, const char *domain,
		      unsigned int number, char *path)
{
	return put(path, DISK_PATH_MAX, "%s/%s.journal.%u", disk_dir, domain,
		   number);
}

int disk_nbd_path(const char *run_dir, const char *name, char *path)
{
	return put(path, socket_bytes, "%s/disks/%s.nbd", run_dir, name);
}

int disk_control_path(const char *run_dir, const char *name, char *path)
{
	return put(path, socket_bytes, "%s/disks/%s.control", run_dir, name);
}

int disk_dir_stable(const char *disk_dir)
{
	AUTO_FD int fd = open(disk_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}
