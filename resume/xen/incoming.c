/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving a standby's device model from libxl (see incoming.h).
 *
 * The happy path: a domain of that name appears, then its device model's
 * socket; when it answers there it has read its command line and waits.  The
 * state that libxl took out of the image lies in a file, which libxl removes
 * when it thinks that the device model has read it, so it is read before the
 * word is said. Failure modes: libxl fails before it comes to that, and the
 * thread is stopped; the device model does not answer, then libxl gives up by
 * itself after 60 s.
 */
#include "config.h"

#include "resume/xen/incoming.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/whole.h"
#include "resume/xen/host.h"
#include "stream/format.h"

/* libxl's (LIBXL_DEVICE_MODEL_RESTORE_FILE in libxl_internal.h). */
#define STATE_FILE "/var/lib/xen/qemu-resume.%u"
/* Where libxl waits for the word (libxl__device_model_xs_path()). */
#define STATE_NODE "/local/domain/0/device-model/%u/state"

#define LOOK_US UINT64_C(20000)
#define ANSWER_US UINT64_C(10000000)

struct xen_incoming {
	pthread_t thread;
	const char *name;
	atomic_bool stop;
	struct xen_host *host;
	struct xen_model *model;
	uint8_t *body;
	uint32_t bytes;
	int rc;
	struct guest_error err;
};

/* The image's state, with the version that will read it before it. */
static int read_state(struct xen_incoming *in, uint32_t domid)
{
	AUTO_FD int fd = -1;
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), STATE_FILE, domid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (st.st_size <= 0 || st.st_size > WIRE_STATE_MAX / 2)
		return -EFBIG;
	in->bytes = XEN_MODEL_HEAD_BYTES + (uint32_t)st.st_size;
	in->body = calloc(1, in->bytes);
	if (!in->body)
		return -ENOMEM;
	xen_model_head(in->body, xen_model_version(in->model),
		       (uint32_t)st.st_size);
	return read_whole(fd, in->body + XEN_MODEL_HEAD_BYTES,
			  (size_t)st.st_size);
}

static int say_running(struct xen_incoming *in, uint32_t domid)
{
	char node[64];

	snprintf(node, sizeof(node), STATE_NODE, domid);
	return xs_write(in->host->xs, XBT_NULL, node, "running", 7) ? 0
								    : -errno;
}

/* -EAGAIN: it is not there yet. */
static int try(struct xen_incoming *in)
{
	uint32_t domid;
	int rc = xen_find(in->host, in->name, &domid);

	if (rc == 0)
		rc = xen_model_open(domid, clock_now_us() + ANSWER_US,
				    &in->model, &in->err);
	/* libxl knows how long to wait. */
	if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -ETIMEDOUT ||
	    rc == -ECONNRESET)
		return -EAGAIN;
	*in->err.text = '\0';
	if (rc == 0)
		rc = read_state(in, domid);
	if (rc == 0)
		rc = say_running(in, domid);
	return rc;
}

static void *look(void *arg)
{
	struct xen_incoming *in = arg;

	while (in->rc == -EAGAIN && !atomic_load(&in->stop)) {
		in->rc = try(in);
		if (in->rc == -EAGAIN)
			clock_sleep_us(LOOK_US);
	}
	if (in->rc < 0 && in->rc != -EAGAIN)
		log_error("the device model of %s: %s", in->name,
			  *in->err.text ? in->err.text : strerror(-in->rc));
	return NULL;
}

static void release(struct xen_incoming *in)
{
	xen_model_close(in->model);
	free(in->body);
	xen_host_close(in->host);
	free(in);
}

int xen_incoming_start(const char *name, struct xen_incoming **out)
{
	struct xen_incoming *in = calloc(1, sizeof(*in));
	int rc;

	if (!in)
		return -ENOMEM;
	in->name = name;
	in->rc = -EAGAIN;
	rc = xen_host_open(&in->host, NULL);
	if (rc == 0)
		rc = -pthread_create(&in->thread, NULL, look, in);
	if (rc < 0) {
		release(in);
		return rc;
	}
	*out = in;
	return 0;
}

int xen_incoming_finish(struct xen_incoming *in, struct xen_model **model,
			uint8_t **body, uint32_t *bytes,
			struct guest_error *err)
{
	int rc;

	atomic_store(&in->stop, true);
	pthread_join(in->thread, NULL);
	rc = in->rc;
	if (rc == 0) {
		*model = TAKE_PTR(in->model);
		*body = TAKE_PTR(in->body);
		*bytes = in->bytes;
	} else if (err) {
		guest_error_set(err, "the device model of %s is not ready: %s",
				in->name,
				*in->err.text ? in->err.text : strerror(-rc));
	}
	release(in);
	return rc;
}
