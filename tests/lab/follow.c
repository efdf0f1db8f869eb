/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints every new line of every file in a directory, as it is written.
 *
 *	follow DIRECTORY
 *
 * Lines are printed as "NAME: TEXT", NAME being the file's without ".log".
 * Used in dom0 for xenconsoled's logs, so that a guest's words leave a host
 * before that host is killed.  Files that appear later are followed from their
 * beginning; a file never shrinks here.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { FILES = 64, LINE = 4096 };

struct file {
	char name[256];
	int fd;
	size_t used;
	char line[LINE];
};

static struct file files[FILES];

static struct file *file_of(const char *name)
{
	for (unsigned i = 0; i < FILES; i++) {
		struct file *f = &files[i];

		if (f->name[0] == '\0') {
			snprintf(f->name, sizeof(f->name), "%s", name);
			f->fd = open(name, O_RDONLY | O_CLOEXEC);
			return f;
		}
		if (strcmp(f->name, name) == 0)
			return f;
	}
	return NULL;
}

static void print_line(struct file *f, size_t length)
{
	size_t name = strlen(f->name);
	char out[LINE + 512];
	int n;

	if (name > 4 && strcmp(f->name + name - 4, ".log") == 0)
		name -= 4;
	n = snprintf(out, sizeof(out), "%.*s: %.*s\n", (int)name, f->name,
		     (int)length, f->line);
	if (n > 0 && write(STDOUT_FILENO, out, (size_t)n) < 0)
		exit(1);
}

static void print_new(const char *name)
{
	struct file *f = file_of(name);
	ssize_t n;

	if (!f || f->fd < 0)
		return;
	while ((n = read(f->fd, f->line + f->used, LINE - f->used)) > 0) {
		char *end;

		f->used += (size_t)n;
		while ((end = memchr(f->line, '\n', f->used))) {
			size_t length = (size_t)(end - f->line);

			print_line(f, length);
			f->used -= length + 1;
			memmove(f->line, end + 1, f->used);
		}
		if (f->used == LINE) {
			print_line(f, LINE);
			f->used = 0;
		}
	}
}

int main(int argc, char **argv)
{
	_Alignas(struct inotify_event) char events[16384];
	int watch = inotify_init1(IN_CLOEXEC);
	struct dirent *d;
	DIR *dir;
	ssize_t n;

	if (argc != 2 || chdir(argv[1]) < 0 || watch < 0 ||
	    inotify_add_watch(watch, ".", IN_MODIFY | IN_CREATE) < 0) {
		perror("follow");
		return 1;
	}
	dir = opendir(".");
	while (dir && (d = readdir(dir)))
		if (d->d_type == DT_REG)
			print_new(d->d_name);
	while ((n = read(watch, events, sizeof(events))) > 0) {
		for (char *at = events; at < events + n;) {
			struct inotify_event *e = (void *)at;

			if (e->len > 0)
				print_new(e->name);
			at += sizeof(*e) + e->len;
		}
	}
	return 1;
}
