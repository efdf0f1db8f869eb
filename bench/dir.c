/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bench's temporary folder: certificates of two hosts, a and b, their run
 * folders and their logs.
 */
#include "config.h"

#include "bench/bench.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "net/certs.h"
#include "net/tls.h"

enum { UNUSED_US = 30 * 1000 * 1000, LOOK_US = 10 * 1000 };

int bench_dir_make(struct bench *b)
{
	static const char *const hosts[] = { "a=127.0.0.1", "b=127.0.0.1" };
	const char *tmp = getenv("TMPDIR");
	char certs[sizeof(b->dir) + 8], why[TLS_ERROR_BYTES];
	int err;

	/*
	 * Room for a socket's name, which is short: unix(7).  A comma would end
	 * the name of a trace among the words for a guest.
	 */
	if (!tmp || tmp[0] != '/' || strlen(tmp) > 60 || strchr(tmp, ','))
		tmp = "/tmp";
	snprintf(b->dir, sizeof(b->dir), "%s/colod-bench-XXXXXX", tmp);
	if (!mkdtemp(b->dir)) {
		err = -errno;
		b->dir[0] = '\0';
		bench_error("no folder in %s: %s", tmp, strerror(-err));
		return err;
	}
	snprintf(certs, sizeof(certs), "%s/certs", b->dir);
	err = certs_make(certs, hosts, 2, why);
	if (err)
		bench_error("%s", why);
	return err;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	remove(path);
	return 0;
}

/* The folder is among the words that this process was started with. */
static bool mentions(const char *pid, const char *dir)
{
	char path[64], words[4096];
	AUTO_FD int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, words, sizeof(words));
	return n > 0 && memmem(words, (size_t)n, dir, strlen(dir));
}

static bool used(const char *dir)
{
	DIR *proc = opendir("/proc");
	const struct dirent *e;
	bool found = false;

	while (proc && !found && (e = readdir(proc)))
		found = isdigit((unsigned char)e->d_name[0]) &&
			mentions(e->d_name, dir);
	if (proc)
		closedir(proc);
	return found;
}

/*
 * The guard of a primary that was killed is in no process group of ours; it
 * ends by itself as soon as it has seen that the guest is gone.
 */
static void wait_unused(const char *dir)
{
	uint64_t until = clock_now_us() + UNUSED_US;

	while (used(dir) && clock_now_us() < until)
		clock_sleep_us(LOOK_US);
}

void bench_dir_remove(struct bench *b)
{
	if (!b->dir[0])
		return;
	wait_unused(b->dir);
	nftw(b->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	b->dir[0] = '\0';
}

/* Without the time and the level that a line of a log begins with. */
static const char *words_of(const char *line)
{
	static const char error[] = "error: ";
	int n = 0;

	if (sscanf(line, "%*2d:%*2d:%*2d.%*3d %n", &n) == 0 && n > 0)
		line += n;
	if (!strncmp(line, error, strlen(error)))
		line += strlen(error);
	return line;
}

const char *bench_dir_last_line(const struct bench *b, const char *file)
{
	static char last[400];
	char path[sizeof(b->dir) + 64], line[sizeof(last)];
	FILE *f;

	last[0] = '\0';
	snprintf(path, sizeof(path), "%s/%s", b->dir, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0])
			strcpy(last, words_of(line));
	}
	if (f)
		fclose(f);
	return last[0] ? last : "it said nothing (is the disk full?)";
}
