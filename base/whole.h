/* SPDX-License-Identifier: Apache-2.0 */
/* Reading as many bytes as were asked for. */
#ifndef BASE_WHOLE_H
#define BASE_WHOLE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* 0, -EPIPE where the end comes too soon, or what read(2) failed with. */
static inline int read_whole(int fd, void *to, size_t bytes)
{
	uint8_t *at = to;
	ssize_t n;

	while (bytes) {
		n = read(fd, at, bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		at += n;
		bytes -= (size_t)n;
	}
	return 0;
}

#endif
