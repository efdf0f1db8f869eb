// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: a guest that does not suspend when it is asked.
 *
 *	echo "watch MS" >/proc/stuck
 *	echo "task MS" >/proc/stuck
 *	echo panic >/proc/stuck
 *
 * `watch': the thread that all of xenstore's watches run in hangs, so no
 * request is acknowledged.  `task': one that cannot be frozen, so a request is
 * acknowledged, and the suspend comes late or, after Linux' 20 s, not at all.
 * `panic': the next request is acknowledged, and the guest dies of it.
 *
 * All return at once.  One of a kind at a time; the module cannot be removed.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/freezer.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/uaccess.h>

#include <xen/xen.h>
#include <xen/xenbus.h>

static unsigned int watch_ms;

static void hang(struct xenbus_watch *watch, const char *path,
		 const char *token)
{
	unsigned int ms = xchg(&watch_ms, 0);

	if (!ms)
		return;
	pr_info("the watches hang for %u ms\n", ms);
	msleep(ms);
	pr_info("the watches go on\n");
}

static struct xenbus_watch watch = {
	.node = "data/lab-stuck",
	.callback = hang,
};

/* Freezable, and asleep where it cannot see that it is to freeze. */
static int sleeper(void *ms)
{
	set_freezable();
	pr_info("a task hangs for %lu ms\n", (unsigned long)ms);
	msleep((unsigned long)ms);
	pr_info("the task goes on\n");
	try_to_freeze();
	return 0;
}

static int make_sleeper(unsigned int ms)
{
	struct task_struct *task;

	task = kthread_run(sleeper, (void *)(unsigned long)ms, "lab-stuck");
	return PTR_ERR_OR_ZERO(task);
}

/* The first thing of a suspend, the request having been answered. */
static int die(struct kprobe *unused, struct pt_regs *regs)
{
	panic("lab-stuck: asked to suspend");
	return 0;
}

static struct kprobe dying = {
	.symbol_name = "freeze_processes",
	.pre_handler = die,
};

static ssize_t stuck_write(struct file *file, const char __user *from,
			   size_t bytes, loff_t *at)
{
	char text[32] = "";
	unsigned int ms;
	int rc;

	if (bytes >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, bytes))
		return -EFAULT;
	if (sscanf(text, "task %u", &ms) == 1) {
		rc = make_sleeper(ms);
	} else if (sscanf(text, "watch %u", &ms) == 1) {
		xchg(&watch_ms, ms);
		rc = xenbus_printf(XBT_NIL, "data", "lab-stuck", "%u", ms);
	} else if (!strncmp(text, "panic", 5)) {
		rc = register_kprobe(&dying);
	} else {
		rc = -EINVAL;
	}
	return rc ? rc : (ssize_t)bytes;
}

static const struct proc_ops stuck_ops = {
	.proc_write = stuck_write,
};

static int __init stuck_init(void)
{
	int rc;

	if (!xen_domain())
		return -ENODEV;
	rc = register_xenbus_watch(&watch);
	if (rc)
		return rc;
	if (!proc_create("stuck", 0200, NULL, &stuck_ops)) {
		unregister_xenbus_watch(&watch);
		return -ENOMEM;
	}
	return 0;
}
module_init(stuck_init);

MODULE_DESCRIPTION("A guest that does not suspend, for colod's tests");
MODULE_LICENSE("GPL");
