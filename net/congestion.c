/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "net/congestion.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

int congestion_set(int fd, const char *name)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name,
		       (socklen_t)strlen(name)))
		return -errno;
	return 0;
}

int congestion_check(const char *name, char used[CONGESTION_NAME_BYTES])
{
	AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = CONGESTION_NAME_BYTES - 1;
	int err;

	if (fd < 0)
		return -errno;
	if (name) {
		/* The kernel would cut a longer one, and may know the rest. */
		if (!*name || strlen(name) >= CONGESTION_NAME_BYTES)
			return -ENOENT;
		err = congestion_set(fd, name);
		if (err)
			return err;
	}
	memset(used, 0, CONGESTION_NAME_BYTES);
	if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, used, &len))
		return -errno;
	return 0;
}
