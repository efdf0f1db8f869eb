/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image of an embedded guest, colod-stream(7): header, runs of pages, end,
 * vCPUs.  The reader trusts nothing: every number is bounded by the memory that
 * it was told to fill.
 */
#ifndef RESUME_EMBEDDED_IMAGE_H
#define RESUME_EMBEDDED_IMAGE_H

#include <stdint.h>

#include "resume/embedded/control.h"

#define EMBEDDED_IMAGE_MAGIC UINT64_C(0x4547414d49424d45) /* "EMBIMAGE" */

enum {
	EMBEDDED_IMAGE_VERSION = 1,
	EMBEDDED_RUN_PAGES = 64,
	EMBEDDED_RUN_DATA = 0,
	EMBEDDED_RUN_ZERO = 1,
	EMBEDDED_RUN_END = 2,
};

/* Little-endian. */
struct embedded_image_header {
	uint64_t magic;
	uint32_t version;
	uint32_t vcpus;
	uint64_t pages;
};

struct embedded_run {
	uint64_t gfn;
	uint32_t count; /* pages, 1..EMBEDDED_RUN_PAGES; END: bytes */
	uint32_t kind;
};

int image_put_header(int fd, uint64_t pages, uint32_t vcpus);
/*
 * The pages whose bit is set, or all that are not zero where `bits` is NULL.
 * -EPIPE where the reader has gone.
 */
int image_put_pages(int fd, const uint8_t *memory, uint64_t pages,
		    const uint64_t *bits);
int image_put_end(int fd, const struct embedded_vcpu *vcpu, uint32_t count);

/*
 * Fills memory (zeroes until now) and vCPUs.  -EPIPE: it ends early; -EPROTO,
 * with *why: not an image of such a guest.
 */
int image_read(int fd, uint8_t *memory, uint64_t pages,
	       struct embedded_vcpu *vcpu, uint32_t count, const char **why);

#endif
