/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain's device model by QMP (see model.h).
 *
 * The happy path of an epoch: `stop', `xen-save-devices-state' into a memfd
 * that QEMU was given once, `cont'.  On the other side QEMU was started with
 * `-incoming defer': `getfd', `migrate-incoming', and it runs by itself when
 * all is read.  (`xen-load-devices-state' aborts QEMU 7.2 there: yank.c.)
 * Failure modes: no answer in time: `cont' is sent behind, and since QEMU does
 * things in their order, what comes late is undone late; QEMU died; a state
 * that it refuses, after which it ends itself.
 */
#include "config.h"

#include "resume/xen/model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/cursor.h"
#include "base/fault.h"
#include "base/log.h"
#include "resume/xen/qmp.h"
#include "stream/format.h"

#define SOCKET "/var/run/xen/qmp-libxenstat-%u"

/* The guest stands still meanwhile. */
#define THAW_US UINT64_C(3000000)
#define COMMAND_US UINT64_C(5000000)
/* The guest runs nowhere else: long. */
#define LOAD_US UINT64_C(30000000)

struct xen_model {
	struct xen_qmp *qmp;
	uint32_t domid;
	char version[XEN_MODEL_VERSION_BYTES];
	int state_fd;  /* a memfd */
	int write_fd;  /* the same, as QEMU has it: they share the position */
	long long set; /* QEMU's number for it, or -1 */
	char path[108];
	bool tracked;	/* as it was told */
	bool stopped;	/* `stop' was sent, and `cont' was not */
	bool unheard;	/* `cont' was, and has no answer yet */
	bool silent;	/* it did not stop in time, so it hangs */
	bool loading;	/* a state was handed over */
	uint32_t bytes; /* taken last */
	uint32_t wrote; /* by QEMU, which are as many */
	uint8_t state[WIRE_STATE_MAX / 2];
};

static uint64_t deadline(uint64_t us)
{
	return clock_now_us() + us;
}

static int read_version(struct xen_model *m, uint64_t end_us)
{
	int major = 0, minor = 0, micro = 0;
	json_t *answer;
	int rc = xen_qmp_call(m->qmp, "query-version", NULL, -1, end_us,
			      &answer);

	if (rc < 0)
		return rc;
	if (json_unpack(answer, "{s:{s:i, s:i, s:i}}", "qemu", "major", &major,
			"minor", &minor, "micro", &micro))
		rc = -EPROTO;
	if (fault_at(FAULT_MODEL_VERSION))
		micro++;
	snprintf(m->version, sizeof(m->version), "%d.%d.%d", major, minor,
		 micro);
	json_decref(answer);
	return rc;
}

/* QEMU opens only what was opened the way it wants to open it. */
static int make_files(struct xen_model *m)
{
	char path[32];

	m->state_fd = memfd_create("colod device model", MFD_CLOEXEC);
	if (m->state_fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->state_fd);
	m->write_fd = open(path, O_WRONLY | O_CLOEXEC);
	return m->write_fd < 0 ? -errno : 0;
}

int xen_model_open(uint32_t domid, uint64_t end_us, struct xen_model **out,
		   struct guest_error *err)
{
	char path[64];

	snprintf(path, sizeof(path), SOCKET, domid);
	return xen_model_open_at(path, domid, end_us, out, err);
}

static int connect_to(struct xen_model *m, uint64_t end_us)
{
	xen_qmp_close(m->qmp);
	m->qmp = NULL;
	/* QEMU forgets that with the connection, and what it has not begun. */
	m->set = -1;
	m->stopped = m->stopped || m->unheard;
	m->unheard = false;
	return xen_qmp_open(m->path, end_us, &m->qmp);
}

int xen_model_open_at(const char *path, uint32_t domid, uint64_t end_us,
		      struct xen_model **out, struct guest_error *err)
{
	struct xen_model *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return -ENOMEM;
	m->domid = domid;
	m->state_fd = m->write_fd = -1;
	snprintf(m->path, sizeof(m->path), "%s", path);
	rc = connect_to(m, end_us);
	if (rc == 0)
		rc = read_version(m, end_us);
	if (rc == 0)
		rc = make_files(m);
	if (rc < 0) {
		guest_error_set(err,
				"the device model (QEMU) of domain %u does not"
				" answer at %s: %s%s",
				domid, path, strerror(-rc),
				rc == -ETIMEDOUT
					? "; does something else talk with it"
					  " (xentop)?"
					: "");
		xen_model_close(m);
		return rc;
	}
	*out = m;
	return 0;
}

void xen_model_close(struct xen_model *m)
{
	if (!m)
		return;
	xen_qmp_close(m->qmp);
	cleanup_fd(&m->state_fd);
	cleanup_fd(&m->write_fd);
	free(m);
}

const char *xen_model_version(const struct xen_model *m)
{
	return m->version;
}

static int call(struct xen_model *m, const char *command, json_t *arguments,
		uint64_t end_us)
{
	if (!m->qmp) {
		json_decref(arguments);
		return -ENOTCONN;
	}
	return xen_qmp_call(m->qmp, command, arguments, -1, end_us, NULL);
}

/* What was sent is done, be it late. */
int xen_model_track(struct xen_model *m, bool on)
{
	int rc;

	if (!on && !m->tracked)
		return 0;
	rc = call(m, "xen-set-global-dirty-log",
		  json_pack("{s:b}", "enable", on), deadline(COMMAND_US));
	if (rc == 0 || rc == -ETIMEDOUT)
		m->tracked = on;
	return rc;
}

int xen_model_runs(struct xen_model *m, uint64_t end_us)
{
	json_t *answer;
	int rc = m->qmp ? xen_qmp_call(m->qmp, "query-status", NULL, -1, end_us,
				       &answer)
			: -ENOTCONN;

	if (rc < 0)
		return rc;
	rc = json_is_true(json_object_get(answer, "running"));
	json_decref(answer);
	if (m->unheard) { /* it came before this */
		m->unheard = false;
		m->stopped = !rc;
	}
	return rc;
}

int xen_model_ready(struct xen_model *m, uint64_t end_us)
{
	int rc = xen_model_alive(m) ? 0 : connect_to(m, end_us);

	if (rc == 0)
		rc = xen_model_runs(m, end_us);
	return rc < 0 ? rc : 0;
}

bool xen_model_alive(struct xen_model *m)
{
	return m->qmp && xen_qmp_alive(m->qmp) == 0;
}

static int hand_over_file(struct xen_model *m, uint64_t end_us)
{
	json_t *answer;
	int rc;

	if (m->set >= 0)
		return 0;
	rc = xen_qmp_call(m->qmp, "add-fd", NULL, m->write_fd, end_us, &answer);
	if (rc < 0)
		return rc;
	m->set = json_integer_value(json_object_get(answer, "fdset-id"));
	json_decref(answer);
	return 0;
}

static int read_state(struct xen_model *m)
{
	off_t length = lseek(m->write_fd, 0, SEEK_CUR);
	ssize_t n;

	if (length <= 0)
		return -EIO;
	if ((size_t)length > sizeof(m->state))
		return -E2BIG;
	n = pread(m->state_fd, m->state, (size_t)length, 0);
	if (n != length)
		return n < 0 ? -errno : -EIO;
	m->wrote = (uint32_t)n;
	m->bytes = (uint32_t)(fault_at(FAULT_MODEL_STATE) ? n / 2 : n);
	return 0;
}

static int save(struct xen_model *m, uint64_t end_us)
{
	char path[40];
	int rc = hand_over_file(m, end_us);

	if (rc < 0)
		return rc;
	if (lseek(m->write_fd, 0, SEEK_SET) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/dev/fdset/%lld", m->set);
	/* `live' would make QEMU let go of its disks. */
	rc = xen_qmp_call(m->qmp, "xen-save-devices-state",
			  json_pack("{s:s, s:b}", "filename", path, "live", 0),
			  -1, end_us, NULL);
	return rc < 0 ? rc : read_state(m);
}

static const char *why(const struct xen_model *m, int rc)
{
	return rc == -EREMOTEIO && m->qmp ? xen_qmp_why(m->qmp) : strerror(-rc);
}

int xen_model_freeze(struct xen_model *m, uint64_t end_us)
{
	int rc;

	m->bytes = 0;
	m->stopped = true;
	rc = call(m, "stop", NULL, end_us);
	if (rc == 0)
		rc = save(m, end_us);
	m->silent = rc == -ETIMEDOUT;
	if (rc < 0)
		log_error("domain %u: the state of its device model cannot be"
			  " had: %s",
			  m->domid, why(m, rc));
	return rc;
}

void xen_model_was_stopped(struct xen_model *m)
{
	m->stopped = true;
}

/* On a new connection where the old one is of no use. */
static int tell_cont(struct xen_model *m, uint64_t end_us)
{
	int rc = -ENOTCONN;

	if (xen_model_alive(m))
		rc = xen_qmp_tell(m->qmp, "cont", end_us);
	if (rc < 0)
		rc = connect_to(m, end_us);
	else
		return 0;
	return rc < 0 ? rc : xen_qmp_tell(m->qmp, "cont", end_us);
}

/* The guest does not wait twice for one that hangs. */
static int hear_cont(struct xen_model *m, uint64_t end_us)
{
	int rc;

	if (m->silent)
		return 0;
	rc = xen_qmp_hear(m->qmp, end_us);
	if (rc == 0 || rc == -EREMOTEIO)
		m->unheard = false;
	m->stopped = rc == -EREMOTEIO;
	return rc;
}

int xen_model_thaw(struct xen_model *m)
{
	uint64_t end_us = deadline(THAW_US);
	int rc;

	if (!m->stopped)
		return 0;
	rc = tell_cont(m, end_us);
	if (rc == 0) {
		m->stopped = false;
		m->unheard = true;
		rc = hear_cont(m, end_us);
	}
	m->silent = false;
	if (rc < 0)
		log_error("domain %u: its device model does not go on: %s; the"
			  " guest has no emulated devices until it does",
			  m->domid, why(m, rc));
	return rc;
}

bool xen_model_left(struct xen_model *m)
{
	if (m->unheard)
		xen_model_runs(m, deadline(THAW_US));
	return !m->stopped && !m->unheard;
}

uint32_t xen_model_record_bytes(const struct xen_model *m)
{
	return XEN_MODEL_HEAD_BYTES + m->bytes;
}

void xen_model_head(uint8_t *body, const char *version, uint32_t state_bytes)
{
	struct cursor c = cursor_over(body + XEN_MODEL_VERSION_BYTES, 4);

	memset(body, 0, XEN_MODEL_VERSION_BYTES);
	snprintf((char *)body, XEN_MODEL_VERSION_BYTES, "%s", version);
	cursor_put_u32(&c, state_bytes);
}

void xen_model_record(const struct xen_model *m, uint8_t *body)
{
	xen_model_head(body, m->version, m->wrote);
	memcpy(body + XEN_MODEL_HEAD_BYTES, m->state, m->bytes);
}

/* What QEMU writes begins with "QEVM" and 3 (migration/savevm.c). */
bool xen_model_whole(const uint8_t *body, uint32_t bytes)
{
	static const uint8_t begin[8] = { 'Q', 'E', 'V', 'M', 0, 0, 0, 3 };
	struct cursor c = cursor_over(body, bytes);
	uint32_t length;

	cursor_take(&c, XEN_MODEL_VERSION_BYTES);
	length = cursor_get_u32(&c);
	return !c.bad && length == cursor_left(&c) && length >= sizeof(begin) &&
	       !memcmp(c.at, begin, sizeof(begin));
}

int xen_model_check(const struct xen_model *m, const uint8_t *body,
		    uint32_t bytes, const char **why)
{
	*why = NULL;
	if (!xen_model_whole(body, bytes))
		*why = "it is no whole state of a device model";
	else if (strncmp((const char *)body, m->version,
			 XEN_MODEL_VERSION_BYTES))
		*why = "the device models are of different versions: install"
		       " the same QEMU on both hosts";
	return *why ? -EPROTO : 0;
}

static int put_into_file(struct xen_model *m, const uint8_t *state,
			 size_t bytes)
{
	ssize_t n;

	if (ftruncate(m->state_fd, 0))
		return -errno;
	n = pwrite(m->state_fd, state, bytes, 0);
	if (n < 0)
		return -errno;
	return (size_t)n == bytes ? 0 : -EIO;
}

static int hand_over_state(struct xen_model *m, uint64_t end_us)
{
	AUTO_FD int fd = -1;
	char path[32];
	int rc;

	/* A file of its own: its position is at the beginning. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->state_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = xen_qmp_call(m->qmp, "getfd",
			  json_pack("{s:s}", "fdname", "colod"), fd, end_us,
			  NULL);
	if (rc < 0)
		return rc;
	xen_qmp_expect(m->qmp, "RESUME");
	rc = call(m, "migrate-incoming", json_pack("{s:s}", "uri", "fd:colod"),
		  end_us);
	m->loading = rc == 0 || rc == -ETIMEDOUT;
	return rc;
}

/* RESUME is said before the devices are told; what follows it is behind that.
 */
static int await_running(struct xen_model *m, uint64_t end_us)
{
	int rc = xen_qmp_await(m->qmp, end_us);

	if (rc == 0)
		rc = xen_model_runs(m, end_us);
	return rc < 0 ? rc : rc ? 0 : -EIO;
}

int xen_model_load(struct xen_model *m, const uint8_t *body, uint32_t bytes,
		   struct guest_error *err)
{
	uint64_t end_us = deadline(LOAD_US);
	int rc = 0;

	if (!m->qmp)
		rc = -ENOTCONN;
	if (rc == 0 && !m->loading)
		rc = put_into_file(m, body + XEN_MODEL_HEAD_BYTES,
				   bytes - XEN_MODEL_HEAD_BYTES);
	if (rc == 0 && !m->loading)
		rc = hand_over_state(m, end_us);
	if (rc == 0)
		rc = await_running(m, end_us);
	if (rc < 0)
		guest_error_set(err,
				"the device model of domain %u does not take"
				" its state: %s (see"
				" /var/log/xen/qemu-dm-*.log)",
				m->domid, why(m, rc));
	return rc;
}
