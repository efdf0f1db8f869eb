/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacing a device through libxl (see replace.h).  It is added as the
 * domain's configuration has it: what libxl lists of a device that is there
 * lacks, for one, a disk's format.  The guest's worker thread, or the rescue.
 *
 * libxl waits ten seconds for a backend to close, calls it an error that one
 * without a driver does not, and takes the device away all the same: so whether
 * the old one has gone is left to the adding of the new.
 */
#include "config.h"

#include "resume/xen/replace.h"

#include <errno.h>
#include <string.h>

#include "resume/xen/lifecycle.h"

static libxl_device_disk *find_disk(libxl_domain_config *config,
				    const char *vdev)
{
	for (int i = 0; i < config->num_disks; i++)
		if (!strcmp(config->disks[i].vdev, vdev))
			return &config->disks[i];
	return NULL;
}

/* Destroys what is listed, adds what is configured. */
static int swap_disk(struct xen_host *h, uint32_t domid,
		     libxl_domain_config *config, libxl_device_disk *listed)
{
	libxl_device_disk *disk = find_disk(config, listed->vdev);

	if (!disk)
		return -ENODEV;
	libxl_device_disk_destroy(h->ctx, domid, listed, NULL);
	return libxl_device_disk_add(h->ctx, domid, disk, NULL) ? -EIO : 0;
}

/* libxl numbers disks itself; it tells only of one that is there. */
static int replace_disk(struct xen_host *h, uint32_t domid,
			libxl_domain_config *config, int devid)
{
	int n = 0, rc = -ENODEV;
	libxl_device_disk *list = libxl_device_disk_list(h->ctx, domid, &n);
	libxl_diskinfo info;
	bool same;

	for (int i = 0; i < n && rc == -ENODEV; i++) {
		libxl_diskinfo_init(&info);
		same = !libxl_device_disk_getinfo(h->ctx, domid, &list[i],
						  &info) &&
		       info.devid == devid;
		libxl_diskinfo_dispose(&info);
		if (same)
			rc = swap_disk(h, domid, config, &list[i]);
	}
	libxl_device_disk_list_free(list, n);
	return rc;
}

static int replace_nic(struct xen_host *h, uint32_t domid,
		       libxl_domain_config *config, int devid)
{
	libxl_device_nic *nic = NULL;

	for (int i = 0; i < config->num_nics; i++)
		if (config->nics[i].devid == devid)
			nic = &config->nics[i];
	if (!nic)
		return -ENODEV;
	libxl_device_nic_destroy(h->ctx, domid, nic, NULL);
	return libxl_device_nic_add(h->ctx, domid, nic, NULL) ? -EIO : 0;
}

int xen_device_replace(struct xen_host *h, uint32_t domid, bool vif, int devid)
{
	struct guest_error err = { "" };
	libxl_domain_config config;
	int rc = xen_config_get(h, domid, &config, &err);

	if (rc < 0)
		return rc;
	rc = vif ? replace_nic(h, domid, &config, devid)
		 : replace_disk(h, domid, &config, devid);
	libxl_domain_config_dispose(&config);
	return rc;
}
