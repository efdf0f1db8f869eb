/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { LINE_BYTES = 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum log_level max_level = LOG_LEVEL_INFO;
static int log_fd = STDERR_FILENO;
static bool progress_shown; /* a progress line stands on the terminal */

void log_set_level(enum log_level level)
{
	max_level = level;
}

bool log_enabled(enum log_level level)
{
	return level <= max_level;
}

bool log_is_terminal(void)
{
	return isatty(log_fd);
}

/* Appends to `line` at `used`, truncating; returns the new length. */
static size_t append(char *line, size_t used, const char *fmt, va_list ap)
{
	int n = vsnprintf(line + used, LINE_BYTES - used, fmt, ap);

	if (n < 0)
		return used;
	used += (size_t)n;
	return used < LINE_BYTES ? used : LINE_BYTES - 1;
}

static size_t prefix(char *line, enum log_level level)
{
	static const struct {
		int priority; /* syslog(3) severity */
		const char *word;
	} of[] = {
		[LOG_LEVEL_ERROR] = { 3, "error: " },
		[LOG_LEVEL_WARN] = { 4, "warning: " },
		[LOG_LEVEL_INFO] = { 6, "" },
		[LOG_LEVEL_DEBUG] = { 7, "debug: " },
	};
	struct timespec t;
	struct tm tm;
	size_t n;

	if (log_fd == STDERR_FILENO && getenv("JOURNAL_STREAM"))
		return (size_t)snprintf(line, LINE_BYTES, "<%d>%s",
					of[level].priority, of[level].word);
	timespec_get(&t, TIME_UTC);
	gmtime_r(&t.tv_sec, &tm);
	n = strftime(line, LINE_BYTES, "%H:%M:%S", &tm);
	return n + (size_t)snprintf(line + n, LINE_BYTES - n, ".%03ld %s",
				    t.tv_nsec / 1000000, of[level].word);
}

static void emit(const char *line, size_t n)
{
	ssize_t ignored = write(log_fd, line, n);

	(void)ignored;
}

int log_open(const char *path)
{
	static const char first[] = "--- colod " PACKAGE_VERSION "\n";
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	ssize_t n;
	int err;

	if (fd < 0)
		return -errno;
	n = write(fd, first, sizeof(first) - 1);
	if (n != sizeof(first) - 1) {
		err = n < 0 ? -errno : -ENOSPC;
		close(fd);
		return err;
	}
	log_fd = fd;
	return 0;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[LINE_BYTES + 1];
	size_t n;
	va_list ap;

	if (!log_enabled(level))
		return;
	AUTO_LOCK(&lock);
	if (progress_shown)
		emit("\r\033[K", 4);
	progress_shown = false;
	n = prefix(line, level);
	va_start(ap, fmt);
	n = append(line, n, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	emit(line, n);
}

void log_progress(const char *fmt, ...)
{
	char line[LINE_BYTES + 1];
	size_t n;
	va_list ap;

	if (!log_enabled(LOG_LEVEL_INFO))
		return;
	AUTO_LOCK(&lock);
	if (log_is_terminal())
		n = (size_t)snprintf(line, sizeof(line), "\r\033[K");
	else
		n = prefix(line, LOG_LEVEL_INFO);
	va_start(ap, fmt);
	n = append(line, n, fmt, ap);
	va_end(ap);
	if (log_is_terminal())
		progress_shown = true;
	else
		line[n++] = '\n';
	emit(line, n);
}
