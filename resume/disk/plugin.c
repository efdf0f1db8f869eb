/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbdkit's plugin `colod`: a replicated disk (export.h) by NBD.
 *
 *	nbdkit ... nbdkit-colod-plugin.so disk-dir=DIR run-dir=DIR name=NAME
 *
 * One disk for each nbdkit, which calls the requests from threads of its own.
 * A secondary's disk can be attached, and answers writes with EROFS: so its
 * device is there before a takeover.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "resume/disk/export.h"
#include "resume/disk/names.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* Of resume/guest.c: who serves a disk knows no guests. */
const struct guest_kind *const guest_kinds[] = { NULL };

static char *disk_dir, *run_dir;
static const char *name;
static struct disk_export *export;

/* nbdkit changes its folder before it listens. */
static int set_dir(char **dir, const char *value)
{
	free(*dir);
	*dir = nbdkit_absolute_path(value);
	return *dir ? 0 : -1;
}

static int plugin_config(const char *key, const char *value)
{
	if (!strcmp(key, "disk-dir"))
		return set_dir(&disk_dir, value);
	if (!strcmp(key, "run-dir"))
		return set_dir(&run_dir, value);
	if (strcmp(key, "name")) {
		nbdkit_error("there is no parameter %s", key);
		return -1;
	}
	if (!disk_name_good(value)) {
		nbdkit_error("'%s' is not the name of a disk", value);
		return -1;
	}
	name = value;
	return 0;
}

static int plugin_config_complete(void)
{
	if (disk_dir && run_dir && name)
		return 0;
	nbdkit_error("give all of disk-dir=, run-dir= and name=");
	return -1;
}

/* Before it forks, so that who starts it sees what is wrong. */
static int plugin_get_ready(void)
{
	struct guest_error err = { { 0 } };

	if (!disk_export_open(disk_dir, run_dir, name, &export, &err))
		return 0;
	nbdkit_error("%s", err.text);
	return -1;
}

static int plugin_after_fork(void)
{
	int rc = disk_export_listen(export);

	if (rc == 0)
		return 0;
	nbdkit_error("the control socket of disk %s in %s: %s", name, run_dir,
		     strerror(-rc));
	return -1;
}

static void plugin_unload(void)
{
	disk_export_close(export);
	free(disk_dir);
	free(run_dir);
}

static void *plugin_open(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t plugin_get_size(void *handle)
{
	(void)handle;
	return (int64_t)disk_export_size(export);
}

static int yes(void *handle)
{
	(void)handle;
	return 1;
}

/* A guest has one backend, and a disk of it one device. */
static int plugin_can_multi_conn(void *handle)
{
	(void)handle;
	return 0;
}

static int plugin_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

static int answer(int rc)
{
	if (rc == 0)
		return 0;
	nbdkit_set_error(-rc);
	return -1;
}

/* The change, and then its flush where the client wants both. */
static int answer_change(int rc, uint32_t flags)
{
	if (rc == 0 && flags & NBDKIT_FLAG_FUA)
		rc = disk_export_flush(export);
	return answer(rc);
}

static int plugin_pread(void *handle, void *bytes, uint32_t count,
			uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return answer(disk_export_read(export, bytes, count, offset));
}

static int plugin_pwrite(void *handle, const void *bytes, uint32_t count,
			 uint64_t offset, uint32_t flags)
{
	(void)handle;
	return answer_change(disk_export_write(export, bytes, count, offset),
			     flags);
}

static int plugin_zero(void *handle, uint32_t count, uint64_t offset,
		       uint32_t flags)
{
	bool may_trim = flags & NBDKIT_FLAG_MAY_TRIM;

	(void)handle;
	return answer_change(disk_export_zero(export, count, offset, may_trim),
			     flags);
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset,
		       uint32_t flags)
{
	(void)handle;
	return answer_change(disk_export_trim(export, count, offset), flags);
}

static int plugin_flush(void *handle, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return answer(disk_export_flush(export));
}

static struct nbdkit_plugin plugin = {
	.name = "colod",
	.version = PACKAGE_VERSION,
	.longname = "colod's replicated disks",
	.description = "A disk whose changes colod sends to another host",
	.config = plugin_config,
	.config_complete = plugin_config_complete,
	.config_help = "disk-dir=DIR  what this host knows of its disks\n"
		       "run-dir=DIR   the control sockets\n"
		       "name=NAME     of the disk",
	.get_ready = plugin_get_ready,
	.after_fork = plugin_after_fork,
	.unload = plugin_unload,
	.open = plugin_open,
	.get_size = plugin_get_size,
	.can_flush = yes,
	.can_trim = yes,
	.can_zero = yes,
	.can_multi_conn = plugin_can_multi_conn,
	.can_fua = plugin_can_fua,
	.pread = plugin_pread,
	.pwrite = plugin_pwrite,
	.zero = plugin_zero,
	.trim = plugin_trim,
	.flush = plugin_flush,
};

NBDKIT_REGISTER_PLUGIN(plugin)
