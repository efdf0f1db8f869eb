/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `call` (test machine) and `agent` (dom0) say to each other over a
 * virtio-serial port.  Both run on the same processor: host byte order.
 *
 * A request asks for one shell script; the answer is any number of OUT and ERR
 * pieces and one EXIT.  Every piece carries the request's id, so that what is
 * left of an abandoned request is told apart and skipped.
 */
#ifndef TESTS_LAB_CALL_H
#define TESTS_LAB_CALL_H

#include <stdint.h>

enum { CALL_MAGIC = 0x6c6c6143, CALL_SCRIPT_MAX = 65536, CALL_PORTS = 4 };

enum call_kind {
	CALL_RUN = 1, /* body: a script for sh -c */
	CALL_CLOCK,   /* body: nanoseconds since 1970, to set the clock */
	CALL_OUT,
	CALL_ERR,
	CALL_EXIT, /* body: one int, the exit status as a shell has it */
};

struct call_head {
	uint32_t magic;
	uint32_t id;
	uint32_t kind;
	uint32_t bytes;
};

#endif
