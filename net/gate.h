/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output gate of a guest on this host's network: a plug (plug.h) for each
 * of its interfaces.  What the guest sends in epoch n leaves when epoch n has
 * been acknowledged, or later, never earlier.
 *
 * Any thread.  Orders to let something leave never wait: a thread of the gate's
 * carries them out, for the kernel may be busy with interfaces.  All other
 * calls wait for those, and for the kernel.
 *
 * Where a plug cannot be told to let something leave, a line says so, and it
 * leaves with a later order.  Where its interface passes nothing at the moment
 * (plug_passes()), it leaves as soon as that does.
 */
#ifndef NET_GATE_H
#define NET_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "net/plug.h"

enum { GATE_PLUGS_MAX = 16 };

struct gate;

/*
 * No interface yet; `limit_bytes` for each, or 0: only those come in that have
 * a plug of an earlier colod.  `what` is for the log.  -ENOMEM, -EAGAIN: no
 * thread.
 */
int gate_new(const char *what, uint32_t limit_bytes, struct gate **out);
/*
 * One more interface, in the state of the others.  0 too where it is there
 * already; -ENODEV, -ENOSPC (GATE_PLUGS_MAX) or what the kernel says.
 */
int gate_add(struct gate *g, const char *ifname);
/* None any more: the guest that had them is no more. */
void gate_forget(struct gate *g);
/* An earlier colod, which is no more, has left one of them closed. */
bool gate_found_closed(struct gate *g);

/*
 * The guest stands still: what it has sent so far belongs to `epoch` or to
 * earlier ones.  Epoch 0, an image, closes the gate; all that is held from
 * before belongs to it.  Another one leaves an open gate open.  Where an
 * interface cannot be closed, what the kernel says: its guest is not to be
 * protected.
 */
int gate_barrier(struct gate *g, uint64_t epoch);

/* --- orders: they never wait ---------------------------------------------- */

/* What belongs to `epoch` and to earlier ones leaves. */
void gate_release(struct gate *g, uint64_t epoch);
/* All of it, and from now on everything at once. */
void gate_let(struct gate *g);
/* What is held never leaves, nor does anything from now on. */
void gate_drop(struct gate *g);

/* -------------------------------------------------------------------------- */

/* Of all interfaces.  -ENODEV, or what the kernel says, where one failed. */
int gate_count(struct gate *g, struct plug_counts *out);
/* The same as it was at most some seconds ago; waits for nobody. */
void gate_seen(struct gate *g, struct plug_counts *out);

/*
 * Frees it.  An open gate is removed, so that the interfaces are as they were;
 * another stays as it is, for who comes next.  NULL is harmless.
 */
void gate_close(struct gate *g);

#endif
