/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Colod's hold on a guest's process: found by its socket in the run directory,
 * then through shared memory and eventfds.  Keeps nothing alive and stops
 * nothing when it is let go.  One thread at a time but for the control page.
 */
#ifndef RESUME_EMBEDDED_ATTACH_H
#define RESUME_EMBEDDED_ATTACH_H

#include "resume/embedded/control.h"
#include "resume/embedded/process.h"

enum { EMBEDDED_PATH_BYTES = 108 }; /* of a socket's path, unix(7) */

struct embedded {
	int sock;
	int pidfd; /* readable when the process is gone */
	int fd[EMBEDDED_FDS];
	struct embedded_control *control;
	uint64_t ram_bytes; /* checked against the memory itself */
	unsigned int calls; /* numbers orders and their answers */
	pid_t pid;
};

/* RUN_DIR/guest-NAME.sock, or the standby's.  -ENAMETOOLONG. */
int embedded_socket_path(const char *run_dir, const char *name, bool standby,
			 char path[EMBEDDED_PATH_BYTES]);
/* A connection to the agent; -ENOENT: no such guest lives here. */
int embedded_connect(const char *run_dir, const char *name, bool standby);

/* -ENOENT; -EPROTO: a guest of another build of colod. */
int embedded_attach(const char *run_dir, const char *name, bool standby,
		    struct embedded *e);
void embedded_detach(struct embedded *e);

/* One order to the agent; what it says against it is in *err. */
int embedded_call(struct embedded *e, const char *text,
		  struct guest_error *err);
/* It has no process any more. */
bool embedded_gone(const struct embedded *e);
/* "destroy", and waits until the process is gone. */
int embedded_destroy(struct embedded *e);

/* The colod that has the guest open, if it lives and is not this one. */
bool embedded_held_by_other(const struct embedded *e);

/*
 * Starts the process of a guest, as this very program, and waits until it is
 * up.  It outlives this one and is not its child.
 */
int embedded_spawn(const char *run_dir, const struct embedded_spec *spec,
		   const uint8_t uuid[16], bool standby,
		   struct guest_error *err);
int embedded_new_uuid(uint8_t uuid[16]);

/* For each guest's socket in the run directory. */
void embedded_each(const char *run_dir,
		   void (*one)(void *arg, const char *name, bool standby),
		   void *arg);

#endif
