// SPDX-License-Identifier: GPL-2.0
/*
 * Work for the xenwatch thread, by way of what xenbus keeps private: the list
 * of events (drivers/xen/xenbus/xenbus_xs.c) and do_suspend()
 * (drivers/xen/manage.c).
 *
 * Happy path: their addresses are found once, at load; a request is an event on
 * the list, made like xenbus' own; the thread takes it off, calls the callback
 * and frees it.
 *
 * Failure: a kernel without these names, or later than those whose event is
 * taken to be the one below, or on which a call through an unexported
 * address may be stopped by the processor (IBT).  Then nothing here is used.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/version.h>
#include <linux/wait.h>
#include <xen/xenbus.h>
#ifdef CONFIG_X86
#include <asm/cpufeature.h>
#endif

#include "colod-guest.h"
#include "xenwatch.h"

/*
 * As drivers/xen/xenbus/xenbus.h has it since 4.11.  With struct xenbus_watch's
 * nr_pending, which the compiler checks, since 5.10.3.  Tested with 6.1.192 and
 * nothing else; the others up to 6.12 are taken to be the same, and suspend=self
 * does without it.
 */
struct xs_watch_event {
	struct list_head list;
	unsigned int len;
	struct xenbus_watch *handle;
	const char *path;
	const char *token;
	char body[];
};

static const bool known = LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0);

static void (*do_suspend)(void);
static struct list_head *events;
static spinlock_t *events_lock;
static wait_queue_head_t *events_wait;

/* The thread frees an event with kfree(), so each has memory of its own. */
int xenwatch_queue(struct xenbus_watch *handle, const char *path)
{
	struct xs_watch_event *event = kzalloc(sizeof(*event), GFP_NOIO);

	if (!event)
		return -ENOMEM;
	event->handle = handle;
	event->path = path;
	event->token = path;
	spin_lock(events_lock);
	list_add(&event->list, events);
	handle->nr_pending++;
	wake_up(events_wait);
	spin_unlock(events_lock);
	return 0;
}

void xenwatch_do_suspend(void)
{
	do_suspend();
}

static bool calls_are_checked(void)
{
#ifdef CONFIG_X86_KERNEL_IBT
	return cpu_feature_enabled(X86_FEATURE_IBT);
#else
	return false;
#endif
}

const char *xenwatch_find(bool on_any)
{
	unsigned long (*lookup)(const char *name);

	if (!known && !on_any)
		return "this kernel's xenbus is not known";
	if (calls_are_checked())
		return "the processor checks indirect calls";
	lookup = (void *)colod_function("kallsyms_lookup_name");
	do_suspend = (void *)colod_function("do_suspend");
	if (!lookup || !do_suspend)
		return "do_suspend() is not found";
	events = (void *)lookup("watch_events");
	events_lock = (void *)lookup("watch_events_lock");
	events_wait = (void *)lookup("watch_events_waitq");
	if (!events || !events_lock || !events_wait)
		return "the list of the xenwatch thread is not found";
	return NULL;
}
