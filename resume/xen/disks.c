/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/xen/disks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "resume/disk/names.h"

enum { PATH_BYTES = 256 };

/* libxl puts a format in front where the device model opens it: "raw:/dev/". */
const char *xen_disk_of_params(const char *params)
{
	const char *path = strchr(params, '/'), *name;
	size_t n = strlen(DISK_DEVICE_DIR "/");

	if (!path || strncmp(path, DISK_DEVICE_DIR "/", n))
		return NULL;
	name = path + n;
	return disk_name_good(name) ? name : NULL;
}

static char *read_node(struct xen_host *h, const char *folder, const char *node)
{
	AUTO_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", folder, node) < 0)
		return path = NULL;
	return xs_read(h->xs, XBT_NULL, path, NULL);
}

/* Calls `each` for every disk that is one of colod's, until it returns false.
 */
static void each_disk(struct xen_host *h, uint32_t domid,
		      bool (*each)(void *arg, const char *name, bool model),
		      void *arg)
{
	char folder[PATH_BYTES];
	AUTO_FREE char **devids = NULL;
	unsigned int count = 0;
	bool go_on = true;

	snprintf(folder, sizeof(folder), "/libxl/%u/device/vbd", domid);
	devids = xs_directory(h->xs, XBT_NULL, folder, &count);
	for (unsigned int i = 0; devids && i < count && go_on; i++) {
		AUTO_FREE char *back = NULL;
		AUTO_FREE char *params = NULL;
		const char *name;

		snprintf(folder, sizeof(folder), "/libxl/%u/device/vbd/%s",
			 domid, devids[i]);
		back = read_node(h, folder, "backend");
		params = back ? read_node(h, back, "params") : NULL;
		name = params ? xen_disk_of_params(params) : NULL;
		if (name)
			go_on = each(arg, name, strstr(back, "/qdisk/"));
	}
}

struct list {
	struct guest_disk *disks;
	size_t count;
};

static bool add(void *arg, const char *name, bool model)
{
	struct list *l = arg;

	(void)model;
	for (size_t i = 0; i < l->count && i < GUEST_DISKS_MAX; i++)
		if (!strcmp(l->disks[i].name, name))
			return true;
	if (l->count < GUEST_DISKS_MAX)
		snprintf(l->disks[l->count].name, sizeof(l->disks->name), "%s",
			 name);
	l->count++;
	return true;
}

static int by_name(const void *a, const void *b)
{
	const struct guest_disk *x = a, *y = b;

	return strcmp(x->name, y->name);
}

size_t xen_disks(struct xen_host *h, uint32_t domid, struct guest_disk *disks)
{
	struct list l = { .disks = disks };

	each_disk(h, domid, add, &l);
	if (l.count <= GUEST_DISKS_MAX)
		qsort(disks, l.count, sizeof(*disks), by_name);
	return l.count;
}

static bool find_model(void *arg, const char *name, bool model)
{
	struct guest_disk *found = arg;

	if (model)
		snprintf(found->name, sizeof(found->name), "%s", name);
	return !model;
}

int xen_disks_able(struct xen_host *h, uint32_t domid, const char *domain,
		   struct guest_error *err)
{
	struct guest_disk found = { { 0 } };

	each_disk(h, domid, find_model, &found);
	if (!found.name[0])
		return 0;
	guest_error_set(err,
			"%s has the replicated disk %s by its device model,"
			" which keeps back what it has written; use a disk of"
			" the kernel's backend (backendtype=phy)",
			domain, found.name);
	return -EOPNOTSUPP;
}
