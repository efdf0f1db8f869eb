// SPDX-License-Identifier: GPL-2.0
/*
 * The suspend event channel, the guest's end.
 *
 * A port that domain 0 may bind, its number in device/suspend/event-channel
 * (which libxl makes, empty and writable for the guest).  When domain 0 signals
 * it, the guest suspends as if control/shutdown had said "suspend", without the
 * way through xenstore.
 *
 *	interrupt -> our thread -> xenwatch: do_suspend()
 *
 * do_suspend() belongs into the xenwatch thread: no watch's callback, so no
 * driver that connects or closes, runs beside it.  An event is put on xenbus'
 * own list for that thread.  The list and do_suspend() are private to the
 * kernel: where they are not found, or where this file does not know the shape
 * of an event ("self"), the guest writes its own control/shutdown, which works
 * everywhere and is no faster than domain 0 doing it.
 *
 * The event's handle is a watch that we have registered, on our own node.  So
 * unregister_xenbus_watch() takes back an event that is queued and waits for
 * one that runs; and a node that somebody else has emptied is noticed and
 * written again.
 *
 * Requests: a signal while one is queued, or while the guest is on its way down
 * for whatever reason, is answered by that one suspend.  A signal after the
 * devices have stopped counts as a new request, but none outlives a resume with
 * return code 0: a guest that is activated elsewhere must not suspend itself
 * there.  A guest that powers off or reboots does not suspend any more: domain
 * 0 sees that by itself.  A queued request holds the module, so unloading is
 * refused (EBUSY) until it has been served.
 *
 * Binding from domain 0 makes domain 0's end pending, not ours (Xen,
 * evtchn_bind_interdomain()), so an event here always is a notification.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait.h>
#include <xen/events.h>
#include <xen/interface/event_channel.h>
#include <xen/xenbus.h>
#include <asm/xen/hypercall.h>

#include "colod-guest.h"
#include "xenwatch.h"

#define NODE_DIR "device/suspend"
#define NODE_NAME "event-channel"

static char *suspend = "auto";
module_param(suspend, charp, 0444);
MODULE_PARM_DESC(suspend, "takes auto | xenwatch | self");

/* For whoever looks, in /sys/module/colod_guest/parameters/. */
static unsigned int port;
module_param(port, uint, 0444);
MODULE_PARM_DESC(port, "the published event channel, 0: none (read only)");
static unsigned int ports;
module_param(ports, uint, 0444);
MODULE_PARM_DESC(ports, "event channels published so far (read only)");
static unsigned int signals;
module_param(signals, uint, 0444);
MODULE_PARM_DESC(signals, "signals received (read only)");
static unsigned int suspends;
module_param(suspends, uint, 0444);
MODULE_PARM_DESC(suspends, "suspends begun for them (read only)");

static bool by_xenwatch;
static int irq = -1;
/* Of port, irq and the node, against each other's writers. */
static DEFINE_MUTEX(port_lock);
static struct task_struct *thread;
static DECLARE_WAIT_QUEUE_HEAD(thread_wait);

static unsigned long flags;
enum {
	SIGNALLED, /* the thread has not looked yet */
	ASKED, /* a suspend is queued or on its way down; else an event is stale
		*/
	CLOSING, /* the guest or this module ends */
};

/* From SIGNALLED to ASKED in one step, for those who clear both. */
static DEFINE_MUTEX(request_lock);

/* Of the xenwatch thread alone: the devices have stopped for our suspend. */
static bool stopped;
/* Of our thread alone, in jiffies; for "self". */
static unsigned long asked_at;

static const char request_path[] = "colod-guest";

const char *colod_suspend_how(void)
{
	return by_xenwatch ? "xenwatch" : "self";
}

static void forget_requests(void)
{
	mutex_lock(&request_lock);
	clear_bit(SIGNALLED, &flags);
	clear_bit(ASKED, &flags);
	mutex_unlock(&request_lock);
}

/* Our interrupt is off by now, so what comes later is not forgotten. */
void colod_suspend_stopping(void)
{
	forget_requests();
	stopped = true;
}

static void serve_request(void)
{
	if (!test_bit(ASKED, &flags))
		return;
	if (test_bit(CLOSING, &flags) || system_state != SYSTEM_RUNNING) {
		pr_info("the guest is shutting down: not suspended\n");
		clear_bit(ASKED, &flags);
		return;
	}
	suspends++;
	stopped = false;
	xenwatch_do_suspend();
	if (!stopped) /* it failed before: the request is over all the same */
		clear_bit(ASKED, &flags);
}

/* In the xenwatch thread: our own event, or the node has been written. */
static void node_event(struct xenbus_watch *unused, const char *path,
		       const char *token)
{
	if (path != request_path) {
		colod_publish_soon();
		return;
	}
	serve_request();
	/* Our exit still waits for this callback's end. */
	module_put(THIS_MODULE);
}

static struct xenbus_watch node_watch = {
	.node = NODE_DIR "/" NODE_NAME,
	.callback = node_event,
};

static int ask_xenwatch(void)
{
	int err;

	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	err = xenwatch_queue(&node_watch, request_path);
	if (err)
		module_put(THIS_MODULE);
	return err;
}

/*
 * No answer says that the write was ignored, hence the time, which is that of a
 * suspend at its slowest.
 */
static int ask_self(void)
{
	if (test_and_set_bit(ASKED, &flags) &&
	    time_before(jiffies, asked_at + 20 * HZ))
		return 0;
	asked_at = jiffies;
	suspends++;
	return xenbus_write(XBT_NIL, "control", "shutdown", "suspend");
}

/* Not under the lock where it waits for xenstore, which is stopped, too. */
static int pass_on(void)
{
	int err = 0;
	bool asked;

	mutex_lock(&request_lock);
	asked = test_and_clear_bit(SIGNALLED, &flags) &&
		!test_bit(CLOSING, &flags);
	if (asked && by_xenwatch && !test_and_set_bit(ASKED, &flags))
		err = ask_xenwatch();
	mutex_unlock(&request_lock);
	if (asked && !by_xenwatch)
		err = ask_self();
	if (err)
		clear_bit(ASKED, &flags);
	return err;
}

/* Not freezable, as kernel threads are by default. */
static int thread_main(void *unused)
{
	int err;

	while (!kthread_should_stop()) {
		wait_event_interruptible(thread_wait,
					 test_bit(SIGNALLED, &flags) ||
						 kthread_should_stop());
		err = pass_on();
		if (err)
			pr_err("a request to suspend is lost: error %d\n", err);
	}
	return 0;
}

static irqreturn_t signalled(int unused, void *unused_too)
{
	signals++;
	set_bit(SIGNALLED, &flags);
	wake_up(&thread_wait);
	return IRQ_HANDLED;
}

static int port_open(void)
{
	struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF };
	struct evtchn_close close;
	int err;

	/* .remote_dom is 0: where the toolstack runs, as for Linux itself. */
	err = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
	if (err)
		return err;
	err = bind_evtchn_to_irqhandler(alloc.port, signalled, 0, "colod-guest",
					&port);
	if (err < 0) {
		close.port = alloc.port;
		HYPERVISOR_event_channel_op(EVTCHNOP_close, &close);
		return err;
	}
	irq = err;
	port = alloc.port;
	return 0;
}

/* Closes the port, too, unless it is gone already. */
static void port_close(void)
{
	if (irq >= 0)
		unbind_from_irqhandler(irq, &port);
	irq = -1;
	port = 0;
}

static bool node_holds(unsigned int number)
{
	unsigned int there;

	return xenbus_scanf(XBT_NIL, NODE_DIR, NODE_NAME, "%u", &there) == 1 &&
	       there == number;
}

static int publish_locked(void)
{
	bool fresh = irq < 0;
	int err;

	if (test_bit(CLOSING, &flags))
		return 0;
	if (fresh) {
		err = port_open();
		if (err)
			return err;
	} else if (node_holds(port)) {
		return 0;
	}
	err = xenbus_printf(XBT_NIL, NODE_DIR, NODE_NAME, "%u", port);
	if (err) {
		if (fresh)
			port_close();
		return err;
	}
	ports += fresh;
	pr_info("event channel %u published%s\n", port, fresh ? "" : " again");
	return 0;
}

int colod_suspend_publish(void)
{
	int err;

	mutex_lock(&port_lock);
	err = publish_locked();
	mutex_unlock(&port_lock);
	return err;
}

void colod_suspend_new_domain(void)
{
	mutex_lock(&port_lock);
	port_close();
	mutex_unlock(&port_lock);
	forget_requests();
}

static int reboot_event(struct notifier_block *nb, unsigned long code,
			void *unused)
{
	set_bit(CLOSING, &flags);
	return NOTIFY_DONE;
}

static struct notifier_block reboot_notifier = {
	.notifier_call = reboot_event,
};

static int choose_how(void)
{
	bool forced = !strcmp(suspend, "xenwatch");
	const char *lack;

	if (!strcmp(suspend, "self"))
		return 0;
	if (!forced && strcmp(suspend, "auto")) {
		pr_err("suspend=%s: not auto, xenwatch or self\n", suspend);
		return -EINVAL;
	}
	lack = xenwatch_find(forced);
	by_xenwatch = !lack;
	if (lack)
		pr_info("suspend=self, since %s\n", lack);
	return lack && forced ? -ENOENT : 0;
}

int colod_suspend_init(void)
{
	int err = choose_how();

	if (err)
		return err;
	thread = kthread_run(thread_main, NULL, "colod-guest");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	/* A busy guest must not keep its own suspend waiting. */
	sched_set_fifo(thread);
	register_reboot_notifier(&reboot_notifier);
	err = register_xenbus_watch(&node_watch);
	if (err) {
		pr_err("no watch on %s: error %d\n", node_watch.node, err);
		goto no_watch;
	}
	err = colod_suspend_publish();
	if (err) {
		pr_err("cannot publish in %s: error %d\n", node_watch.node,
		       err);
		goto no_port;
	}
	return 0;

no_port:
	unregister_xenbus_watch(&node_watch);
no_watch:
	unregister_reboot_notifier(&reboot_notifier);
	kthread_stop(thread);
	return err;
}

void colod_suspend_exit(void)
{
	mutex_lock(&port_lock);
	set_bit(CLOSING, &flags);
	xenbus_write(XBT_NIL, NODE_DIR, NODE_NAME, "");
	port_close();
	mutex_unlock(&port_lock);
	kthread_stop(thread);
	unregister_xenbus_watch(&node_watch);
	unregister_reboot_notifier(&reboot_notifier);
}
