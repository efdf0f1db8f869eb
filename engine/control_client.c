/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/control.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { REPLY_BYTES = 64 * 1024 };

int control_call(const char *path, const char *command, json_t **reply)
{
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval patience = { .tv_sec = 3 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	AUTO_FREE char *text = malloc(REPLY_BYTES);
	size_t got = 0;
	ssize_t n;

	if (!text || fd < 0)
		return -ENOMEM;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	/* connect() waits for room in the backlog of one that is stopped. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	/* With a time-out no call is restarted, and io_uring interrupts, too. */
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		if (errno != EINTR)
			return -errno;
	if (dprintf(fd, "%s\n", command) < 0)
		return -errno;
	while ((n = read(fd, text + got, REPLY_BYTES - got)) > 0 ||
	       (n < 0 && errno == EINTR))
		got += n > 0 ? (size_t)n : 0;
	if (n < 0)
		return -errno;
	*reply = json_loadb(text, got, 0, NULL);
	return *reply ? 0 : -EBADMSG;
}

static bool is_socket_name(const char *file)
{
	size_t n = strlen(file);

	return n > 5 && n < 256 && strcmp(file + n - 5, ".sock") == 0;
}

static bool speaks_of(const json_t *status, const char *domain)
{
	const char *d = json_string_value(json_object_get(status, "domain"));

	return !domain || (d && strcmp(d, domain) == 0);
}

int control_ask_all(const char *dir, const char *domain,
		    struct control_reply *replies, size_t room,
		    unsigned int *silent)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	size_t n = 0;
	int err;

	if (silent)
		*silent = 0;
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (n < room && (e = readdir(d))) {
		char path[512];
		json_t *status = NULL;

		if (!is_socket_name(e->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		err = control_call(path, "status", &status);
		if (silent && err == -EAGAIN)
			(*silent)++;
		if (err)
			continue; /* else left by one that was killed */
		if (!speaks_of(status, domain)) {
			json_decref(status);
			continue;
		}
		snprintf(replies[n].name, sizeof(replies[n].name), "%.*s",
			 (int)strlen(e->d_name) - 5, e->d_name);
		replies[n++].status = status;
	}
	closedir(d);
	return (int)n;
}
