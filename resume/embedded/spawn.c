/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting the process of a guest.
 *
 * The happy path:
 *   - this program is executed anew, as `colod guest serve`, with a pipe;
 *   - that process forks and ends, so that the guest is nobody's child: it
 *     stays in colod's process group and outlives colod;
 *   - the guest says "ok" on the pipe when it is up.
 * Failure: what it says instead is the error; nothing is left behind.
 *
 * The guest's standard error is a log file of its own, RUN_DIR/guest-NAME.log,
 * which goes when it ends in order.
 */
#include "config.h"

#include "resume/embedded/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "resume/embedded/kind.h"

enum { READY_FD = 3, LOG_PATH_BYTES = 384 };

extern char **environ;

static void log_path(const char *run_dir, const char *name, bool standby,
		     char path[LOG_PATH_BYTES])
{
	snprintf(path, LOG_PATH_BYTES, "%s/guest-%s%s.log", run_dir, name,
		 standby ? EMBEDDED_TWIN_SUFFIX : "");
}

int embedded_new_uuid(uint8_t uuid[16])
{
	return getrandom(uuid, 16, 0) == 16 ? 0 : -EIO;
}

/* --- the maker ---------------------------------------------------------- */

static int set_attributes(posix_spawnattr_t *a)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	sigdelset(&all, SIGKILL);
	sigdelset(&all, SIGSTOP);
	posix_spawnattr_setsigmask(a, &none);
	posix_spawnattr_setsigdefault(a, &all);
	return -posix_spawnattr_setflags(a, POSIX_SPAWN_SETSIGMASK |
						    POSIX_SPAWN_SETSIGDEF);
}

static int spawn(char *const argv[], int ready, const char *log)
{
	posix_spawn_file_actions_t f;
	posix_spawnattr_t a;
	pid_t pid;
	int rc, status;

	posix_spawn_file_actions_init(&f);
	posix_spawnattr_init(&a);
	posix_spawn_file_actions_addopen(&f, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&f, 0, 1);
	posix_spawn_file_actions_addopen(&f, 2, log,
					 O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&f, ready, READY_FD);
	rc = set_attributes(&a);
	if (rc == 0)
		rc = -posix_spawn(&pid, "/proc/self/exe", &f, &a, argv,
				  environ);
	posix_spawn_file_actions_destroy(&f);
	posix_spawnattr_destroy(&a);
	while (rc == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return rc;
}

static int read_answer(int fd, struct guest_error *err)
{
	char text[sizeof(err->text)];
	size_t got = 0;
	ssize_t n;

	while (got < sizeof(text) - 1 &&
	       ((n = read(fd, text + got, sizeof(text) - 1 - got)) > 0 ||
		(n < 0 && errno == EINTR)))
		got += n > 0 ? (size_t)n : 0;
	text[got] = '\0';
	if (!strcmp(text, "ok"))
		return 0;
	guest_error_set(err, "%s",
			got ? text : "the guest's process ended at its start");
	return -EIO;
}

static void uuid_text(const uint8_t uuid[16], char text[33])
{
	for (int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", uuid[i]);
}

/* The guest's own words; a twin has no file, whatever was announced. */
static void put_words(const struct embedded_spec *spec, bool standby,
		      char words[EMBEDDED_SPEC_MAX])
{
	size_t n;

	embedded_spec_format(spec, words);
	n = strlen(words);
	if (!standby && spec->file[0])
		snprintf(words + n, EMBEDDED_SPEC_MAX - n, ",file=%s",
			 spec->file);
}

int embedded_spawn(const char *run_dir, const struct embedded_spec *spec,
		   const uint8_t uuid[16], bool standby,
		   struct guest_error *err)
{
	char words[EMBEDDED_SPEC_MAX], id[33], dir[256], log[LOG_PATH_BYTES];
	char *argv[] = { (char[]){ "colod" },
			 (char[]){ "guest" },
			 (char[]){ "serve" },
			 dir,
			 standby ? (char[]){ "standby" } : (char[]){ "source" },
			 id,
			 words,
			 NULL };
	AUTO_FD int in = -1;
	AUTO_FD int out = -1;
	int fds[2], rc;

	if (strlen(run_dir) >= sizeof(dir))
		return -ENAMETOOLONG;
	if (mkdir(run_dir, 0755) < 0 && errno != EEXIST) {
		rc = -errno;
		guest_error_set(err, "making %s: %s", run_dir, strerror(-rc));
		return rc;
	}
	strcpy(dir, run_dir);
	uuid_text(uuid, id);
	put_words(spec, standby, words);
	log_path(run_dir, spec->name, standby, log);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	in = fds[0];
	out = fds[1];
	rc = spawn(argv, out, log);
	close(out);
	out = -1;
	if (rc == 0)
		return read_answer(in, err);
	guest_error_set(err, "starting the guest's process: %s", strerror(-rc));
	return rc;
}

/* --- the made ----------------------------------------------------------- */

static bool parse_uuid(const char *text, uint8_t uuid[16])
{
	unsigned int byte;

	if (strlen(text) != 32)
		return false;
	for (int i = 0; i < 16; i++) {
		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		uuid[i] = (uint8_t)byte;
	}
	return true;
}

static void detach(void)
{
	pid_t pid = fork();

	if (pid < 0)
		dprintf(READY_FD, "the guest's process: %s", strerror(errno));
	if (pid)
		_exit(pid < 0);
	close_range(READY_FD + 1, ~0U, 0);
}

int embedded_serve(const char *run_dir, int argc, char **argv)
{
	struct process_request r = { .run_dir = run_dir, .ready_fd = READY_FD };
	struct guest_error err = { { 0 } };
	char path[LOG_PATH_BYTES];
	int status;

	if (argc != 3 || !parse_uuid(argv[1], r.uuid) ||
	    embedded_spec_parse(argv[2], &r.spec, &err) < 0) {
		fprintf(stderr, "colod: `guest serve' is for colod itself\n");
		return 1;
	}
	r.standby = !strcmp(argv[0], "standby");
	detach();
	status = embedded_process(&r);
	log_path(run_dir, r.spec.name, r.standby, path);
	/* After EEXIST it is the other's. */
	if (status != EMBEDDED_EXIT_EXISTS)
		unlink(path);
	_exit(status);
}

int embedded_run(const char *run_dir, const char *words)
{
	struct process_request r = {
		.run_dir = run_dir,
		.ready_fd = -1,
		.foreground = true,
	};
	struct guest_error err = { { 0 } };
	int status;

	if (embedded_spec_parse(words, &r.spec, &err) < 0) {
		fprintf(stderr, "colod: %s\n", err.text);
		return 1;
	}
	if (mkdir(run_dir, 0755) < 0 && errno != EEXIST) {
		fprintf(stderr, "colod: making %s: %s\n", run_dir,
			strerror(errno));
		return 1;
	}
	if (embedded_new_uuid(r.uuid) < 0)
		return 1;
	status = embedded_process(&r);
	fflush(NULL);
	_exit(status != 0);
}
