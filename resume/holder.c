/* SPDX-License-Identifier: Apache-2.0 */
/* See holder.h.  Reads /proc/PID/stat, proc(5).  Any thread. */
#include "config.h"

#include "resume/holder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Field 22, in clock ticks; 0: there is no such process, or a zombie. */
static unsigned long long start_time(int pid)
{
	char path[32], text[1024];
	unsigned long long ticks = 0;
	const char *at;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	/* The name, field 2, may hold anything but ends the parentheses. */
	at = strrchr(text, ')');
	if (!at || !strncmp(at, ") Z", 3) || !strncmp(at, ") X", 3))
		return 0;
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at || sscanf(at, " %llu", &ticks) != 1)
		return 0;
	return ticks;
}

void holder_self(char text[HOLDER_BYTES])
{
	int pid = (int)getpid();

	snprintf(text, HOLDER_BYTES, "%d %llu", pid, start_time(pid));
}

bool holder_lives(const char *text)
{
	unsigned long long ticks;
	int pid;

	if (sscanf(text, "%d %llu", &pid, &ticks) != 2)
		return false;
	return ticks && start_time(pid) == ticks;
}

bool holder_is_self(const char *text)
{
	char self[HOLDER_BYTES];

	holder_self(self);
	return !strcmp(self, text);
}
