/* SPDX-License-Identifier: Apache-2.0 */
/* Writing and reading an image (see image.h), side by side. */
#include "config.h"

#include "resume/embedded/image.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "resume/embedded/vcpus.h"

static_assert(sizeof(struct embedded_image_header) == 24, "image header");
static_assert(sizeof(struct embedded_run) == 16, "run");

enum { VCPUS_BYTES_MAX = 8 + EMBEDDED_VCPUS_MAX * EMBEDDED_REGISTERS * 8 };

/* --- writing ------------------------------------------------------------ */

static int put(int fd, const void *head, size_t head_bytes, const void *body,
	       size_t body_bytes)
{
	struct iovec iov[] = {
		{ (void *)(uintptr_t)head, head_bytes },
		{ (void *)(uintptr_t)body, body_bytes },
	};
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	while (iov[0].iov_len + iov[1].iov_len) {
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ECONNRESET ? -EPIPE : -errno;
		for (int i = 0; i < 2; i++) {
			size_t k = (size_t)n < iov[i].iov_len ? (size_t)n
							      : iov[i].iov_len;

			iov[i].iov_base = (char *)iov[i].iov_base + k;
			iov[i].iov_len -= k;
			n -= (ssize_t)k;
		}
	}
	return 0;
}

int image_put_header(int fd, uint64_t pages, uint32_t vcpus)
{
	const struct embedded_image_header h = {
		.magic = htole64(EMBEDDED_IMAGE_MAGIC),
		.version = htole32(EMBEDDED_IMAGE_VERSION),
		.vcpus = htole32(vcpus),
		.pages = htole64(pages),
	};

	return put(fd, &h, sizeof(h), NULL, 0);
}

static int put_run(int fd, uint64_t gfn, uint32_t count, uint32_t kind,
		   const void *body, size_t body_bytes)
{
	const struct embedded_run r = {
		.gfn = htole64(gfn),
		.count = htole32(count),
		.kind = htole32(kind),
	};

	return put(fd, &r, sizeof(r), body, body_bytes);
}

static bool is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, WIRE_PAGE_BYTES - 1);
}

enum what { SKIP, DATA, ZERO };

static enum what what(const uint8_t *memory, uint64_t gfn, const uint64_t *bits)
{
	if (bits && !(bits[gfn / 64] >> gfn % 64 & 1))
		return SKIP;
	if (!is_zero(memory + gfn * WIRE_PAGE_BYTES))
		return DATA;
	return bits ? ZERO : SKIP;
}

int image_put_pages(int fd, const uint8_t *memory, uint64_t pages,
		    const uint64_t *bits)
{
	uint64_t gfn = 0, n;
	int rc = 0;

	while (gfn < pages && !rc) {
		enum what kind = what(memory, gfn, bits);

		for (n = 1; n < EMBEDDED_RUN_PAGES && gfn + n < pages; n++)
			if (what(memory, gfn + n, bits) != kind)
				break;
		if (kind == DATA)
			rc = put_run(fd, gfn, (uint32_t)n, EMBEDDED_RUN_DATA,
				     memory + gfn * WIRE_PAGE_BYTES,
				     n * WIRE_PAGE_BYTES);
		else if (kind == ZERO)
			rc = put_run(fd, gfn, (uint32_t)n, EMBEDDED_RUN_ZERO,
				     NULL, 0);
		gfn += n;
	}
	return rc;
}

int image_put_end(int fd, const struct embedded_vcpu *vcpu, uint32_t count)
{
	uint8_t body[VCPUS_BYTES_MAX];
	uint32_t n = vcpus_record_bytes(count);

	vcpus_encode(vcpu, count, body);
	return put_run(fd, 0, n, EMBEDDED_RUN_END, body, n);
}

/* --- reading ------------------------------------------------------------ */

static int get(int fd, void *bytes, size_t length)
{
	size_t got = 0;
	ssize_t n;

	while (got < length) {
		n = recv(fd, (char *)bytes + got, length - got, MSG_WAITALL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EPIPE;
		got += (size_t)n;
	}
	return 0;
}

static int get_end(int fd, uint32_t length, struct embedded_vcpu *vcpu,
		   uint32_t count, const char **why)
{
	uint8_t body[VCPUS_BYTES_MAX];
	char more;
	int rc = -EPROTO;

	*why = "the vCPUs are not those of this guest";
	if (length > sizeof(body))
		return rc;
	rc = get(fd, body, length);
	if (rc == 0)
		rc = vcpus_decode(body, length, vcpu, count);
	if (rc < 0)
		return rc;
	*why = "something follows its end";
	rc = get(fd, &more, 1);
	return rc == 0 ? -EPROTO : rc == -EPIPE ? 0 : rc;
}

/* 1: again; 0: the end; or a negative errno. */
static int get_run(int fd, uint8_t *memory, uint64_t pages,
		   struct embedded_vcpu *vcpu, uint32_t count, const char **why)
{
	struct embedded_run r;
	uint64_t gfn;
	uint32_t n, kind;
	int rc = get(fd, &r, sizeof(r));

	if (rc < 0)
		return rc;
	gfn = le64toh(r.gfn);
	n = le32toh(r.count);
	kind = le32toh(r.kind);
	if (kind == EMBEDDED_RUN_END)
		return get_end(fd, n, vcpu, count, why);
	*why = "a run of pages that this guest does not have";
	if (!n || n > EMBEDDED_RUN_PAGES || gfn >= pages || n > pages - gfn ||
	    kind > EMBEDDED_RUN_END)
		return -EPROTO;
	if (kind == EMBEDDED_RUN_ZERO)
		memset(memory + gfn * WIRE_PAGE_BYTES, 0, n * WIRE_PAGE_BYTES);
	else
		rc = get(fd, memory + gfn * WIRE_PAGE_BYTES,
			 n * WIRE_PAGE_BYTES);
	return rc < 0 ? rc : 1;
}

int image_read(int fd, uint8_t *memory, uint64_t pages,
	       struct embedded_vcpu *vcpu, uint32_t count, const char **why)
{
	struct embedded_image_header h;
	int rc = get(fd, &h, sizeof(h));

	*why = "it ends early";
	if (rc < 0)
		return rc;
	*why = "it is not an image of this guest";
	if (le64toh(h.magic) != EMBEDDED_IMAGE_MAGIC ||
	    le32toh(h.version) != EMBEDDED_IMAGE_VERSION ||
	    le32toh(h.vcpus) != count || le64toh(h.pages) != pages)
		return -EPROTO;
	do
		rc = get_run(fd, memory, pages, vcpu, count, why);
	while (rc == 1);
	if (rc == -EPIPE)
		*why = "it ends early";
	return rc;
}
