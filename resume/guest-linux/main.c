// SPDX-License-Identifier: GPL-2.0
/*
 * colod's side of a Linux guest: offers the suspend event channel (suspend.c),
 * keeps netfront from losing memory at resumes (netfront.c), and says so.
 *
 * This file owns the announcement, the node data/colod-guest, which libxl makes
 * writable for the guest.  colod reads it, so its form is fixed:
 *
 *	1 suspend=xenwatch|self netfront=cured|not-needed|off|unknown
 *
 * "1" is the version of the form; words may be added behind.  It is written at
 * load, again after each resume with return code 0, which may be one in another
 * domain with an empty xenstore, and removed at unload.
 *
 * The guest's suspend tells a platform device's power management which kind of
 * resume it was: .thaw is return code 1, or a suspend that failed, and all is
 * as before; .restore is return code 0: event channels are gone, xenstore works
 * again, and user space is still frozen.
 *
 * What cannot be published after such a resume is tried again each second from
 * a work item, as there is nobody who could be told.  The work is freezable, so
 * it never runs at the same time as .restore.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pm.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <xen/xen.h>
#include <xen/xenbus.h>

#include "colod-guest.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 10, 3)
#error "colod-guest needs Linux 5.10.3 or newer"
#endif

static struct platform_device *device;
static void publish_work(struct work_struct *unused);
static DECLARE_DELAYED_WORK(publish_again, publish_work);

/*
 * A probe that is registered and removed at once: the way to an address that
 * modules may use since kallsyms_lookup_name() is not exported any more (5.7).
 */
unsigned long colod_function(const char *name)
{
	struct kprobe kp = { .symbol_name = name };
	unsigned long addr;

	if (register_kprobe(&kp))
		return 0;
	addr = (unsigned long)kp.addr;
	unregister_kprobe(&kp);
	return addr;
}

static int announce(void)
{
	return xenbus_printf(XBT_NIL, "data", "colod-guest",
			     "1 suspend=%s netfront=%s", colod_suspend_how(),
			     colod_netfront_how());
}

static int publish_all(void)
{
	int err = colod_suspend_publish();

	return err ?: announce();
}

void colod_publish_soon(void)
{
	queue_delayed_work(system_freezable_wq, &publish_again, HZ);
}

static void publish_work(struct work_struct *unused)
{
	int err = publish_all();

	if (!err)
		return;
	pr_err_ratelimited("cannot publish: error %d, trying again\n", err);
	colod_publish_soon();
}

static int guest_freeze_noirq(struct device *unused)
{
	colod_suspend_stopping();
	return 0;
}

static int guest_restore(struct device *unused)
{
	int err;

	colod_suspend_new_domain();
	err = publish_all();
	if (err) {
		pr_err("cannot publish: error %d, trying again\n", err);
		colod_publish_soon();
	}
	return 0;
}

/* .thaw: nothing has changed.  .poweroff (the end of a hibernation): the next
 * boot gets .restore.
 */
static const struct dev_pm_ops guest_pm = {
	.freeze_noirq = guest_freeze_noirq,
	.restore = guest_restore,
};

static struct platform_driver driver = {
	.driver = { .name = "colod-guest", .pm = &guest_pm },
};

static int __init guest_init(void)
{
	int err;

	if (!xen_domain() || xen_initial_domain())
		return -ENODEV;
	err = platform_driver_register(&driver);
	if (err)
		return err;
	device = platform_device_register_simple("colod-guest", -1, NULL, 0);
	if (IS_ERR(device)) {
		err = PTR_ERR(device);
		goto no_device;
	}
	err = colod_netfront_init();
	if (err)
		goto no_netfront;
	err = colod_suspend_init();
	if (err)
		goto no_suspend;
	err = announce();
	if (err) {
		pr_err("cannot write data/colod-guest: error %d\n", err);
		goto no_announcement;
	}
	pr_info("suspend=%s netfront=%s\n", colod_suspend_how(),
		colod_netfront_how());
	return 0;

no_announcement:
	colod_suspend_exit();
	cancel_delayed_work_sync(&publish_again);
no_suspend:
	colod_netfront_exit();
no_netfront:
	platform_device_unregister(device);
no_device:
	platform_driver_unregister(&driver);
	return err;
}

static void __exit guest_exit(void)
{
	/* After this nobody asks for the work any more. */
	colod_suspend_exit();
	cancel_delayed_work_sync(&publish_again);
	xenbus_rm(XBT_NIL, "data", "colod-guest");
	colod_netfront_exit();
	platform_device_unregister(device);
	platform_driver_unregister(&driver);
}

module_init(guest_init);
module_exit(guest_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION(
	"Xen guest side of colod: suspend event channel, netfront memory");
MODULE_VERSION("1");
