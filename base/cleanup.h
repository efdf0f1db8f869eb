/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resources that release themselves at the end of their scope.
 *
 * Memory, descriptors and locks only: whatever has to be put back in the
 * outside world (a suspended guest, log-dirty mode) is undone by a function
 * named for it, never silently by a scope.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_unlock(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

#define AUTO_FREE __attribute__((cleanup(cleanup_free)))
#define AUTO_FD __attribute__((cleanup(cleanup_fd)))

/* Holds `mutex` until the end of the enclosing block. */
#define AUTO_LOCK(mutex)                                 \
	__attribute__((cleanup(cleanup_unlock), unused)) \
	pthread_mutex_t *auto_lock_ = (pthread_mutex_lock(mutex), (mutex))

/* Hands a resource out of its scope: returns the value and clears it. */
#define TAKE_PTR(p)                         \
	({                                  \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})
#define TAKE_FD(fd)                \
	({                         \
		int taken_ = (fd); \
		(fd) = -1;         \
		taken_;            \
	})

#endif
