/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: a Unix stream socket a running colod listens on.  A
 * client sends one command and a newline ("status", "failover", "stop", "drill
 * SPEC") and reads one JSON object until the end.  Only root and the daemon's own
 * user may connect (mode 0600 in a directory of mode 0755).
 */
#ifndef ENGINE_CONTROL_H
#define ENGINE_CONTROL_H

#include <jansson.h>
#include <stddef.h>

#include "net/loop.h"

struct control;

/*
 * Listens on DIR/NAME.sock; DIR is made where it is missing.  A socket that a
 * dead process left is replaced, one that is answered is -EADDRINUSE.  `handle`
 * returns the reply, which is taken over; NULL for an unknown command.
 */
int control_open(struct loop *loop, const char *dir, const char *name,
		 json_t *(*handle)(void *arg, const char *command), void *arg,
		 struct control **out);
/* Stops listening and removes the socket; frees itself in time. */
void control_close(struct control *c); /* NULL is fine */

/*
 * The client's side, blocking, for the subcommands; -EAGAIN after 3 s in which a
 * colod that is there has taken or said nothing.
 */
int control_call(const char *path, const char *command, json_t **reply);

struct control_reply {
	char name[256]; /* the socket's, without .sock */
	json_t *status;
};

/*
 * Asks every colod of `dir` for its status: those of `domain`, or all where it
 * is NULL.  Returns how many answered (the caller decrefs their status), or a
 * negative errno.  `path` of each is DIR/name.sock.  *silent (may be NULL): how
 * many there are that did not answer in time.
 */
int control_ask_all(const char *dir, const char *domain,
		    struct control_reply *replies, size_t room,
		    unsigned int *silent);

#endif
