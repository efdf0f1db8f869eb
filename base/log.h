/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event on standard error, safe from any thread.
 *
 * Under systemd (JOURNAL_STREAM set) a line carries the syslog priority that
 * the journal understands and no time stamp; elsewhere it carries the wall
 * clock in UTC with milliseconds.  A log that cannot be written (full disk,
 * closed pipe) is dropped: losing a line must never cost the guest anything.
 * No secret (key, certificate body, guest memory) is ever logged.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Lines above `level` are dropped; the default is LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/*
 * Appends to this file from now on instead of standard error.  Writes its
 * first line at once, so that a full disk or a missing right shows here.
 */
int log_open(const char *path);

void log_line(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * A progress line.  On a terminal it overwrites itself and is wiped by the
 * next log line; elsewhere it is an ordinary line, which the caller paces.
 */
void log_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool log_is_terminal(void);

#endif
