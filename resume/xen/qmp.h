/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of QMP, the protocol by which a device model (QEMU) is told what to
 * do (QEMU, docs/interop/qmp-spec.txt): JSON, one message a line.
 *
 * Every command has a deadline.  An answer that comes after it is known by its
 * number and thrown away, so one command that was too slow spoils no other.
 * QEMU carries commands out in their order.  One thread at a time.
 */
#ifndef RESUME_XEN_QMP_H
#define RESUME_XEN_QMP_H

#include <stdint.h>

#include <jansson.h>

struct xen_qmp;

/*
 * Connects to the socket and agrees on QMP.  `end_us` is a time of
 * clock_now_us(), here as below.  -ENOENT, -ECONNREFUSED: nobody listens;
 * -ETIMEDOUT: it says nothing, or somebody else talks with it.
 */
int xen_qmp_open(const char *path, uint64_t end_us, struct xen_qmp **out);
void xen_qmp_close(struct xen_qmp *q); /* NULL is fine */

/*
 * Carries out a command.  `arguments` may be NULL and becomes the call's own;
 * `fd`, or -1, is handed over with it.  `answer`, unless NULL, is set to what
 * was returned, to be given back by json_decref().  -ETIMEDOUT; -ECONNRESET: it
 * has gone; -EREMOTEIO: it refused, see xen_qmp_why(); -EPROTO: it does not
 * speak QMP, or a message has more than 64 KiB.
 */
int xen_qmp_call(struct xen_qmp *q, const char *command, json_t *arguments,
		 int fd, uint64_t end_us, json_t **answer);

/*
 * The same in two: `tell' sends a command without arguments and needs no
 * memory; `hear' waits for its answer, unless nobody wants to know.
 */
int xen_qmp_tell(struct xen_qmp *q, const char *command, uint64_t end_us);
int xen_qmp_hear(struct xen_qmp *q, uint64_t end_us);

/*
 * 0, or the error of all that follows, such as -ECONNRESET.  Takes in what has
 * come and waits for nothing.
 */
int xen_qmp_alive(struct xen_qmp *q);

/*
 * An event that is to come of a command: `expect` before that, `await` behind
 * it.  The name must outlive both.
 */
void xen_qmp_expect(struct xen_qmp *q, const char *event);
int xen_qmp_await(struct xen_qmp *q, uint64_t end_us);

/* The words of the last refusal, for the end of a sentence. */
const char *xen_qmp_why(const struct xen_qmp *q);

#endif
