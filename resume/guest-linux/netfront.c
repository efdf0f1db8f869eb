// SPDX-License-Identifier: GPL-2.0
/*
 * netfront's lost reference.
 *
 * Since Linux 5.9 each queue of xen-netfront has a page pool, with two
 * references: netfront's own and that of the XDP memory model that it is
 * registered with.  Disconnecting, at every resume with return code 0, netfront
 * gives back its own by page_pool_destroy() and forgets the other: the pool
 * stays for ever, with about 250 pages, 1 MB, a queue
 * (xen-netfront-page-pool.patch is the right cure).
 *
 * Here a probe on page_pool_destroy(), when it is called by netfront for a pool
 * with exactly two references, takes one away, so the call takes the last.  A
 * pool that netfront gives up half made, and one of a repaired netfront, which
 * unregisters first, has one reference: nothing is done.
 *
 * Who calls is decided by the return address: within the text of the module
 * xen_netfront, or, where that is built in, within the one function that
 * disconnects.  Only on kernels on which the loss and this cure were measured;
 * on any other the announcement says so and nothing is touched.
 *
 * The probe's handler runs with preemption off, in netfront's caller; a
 * module's text outlives a handler that has seen the module (it is freed after
 * an RCU grace period).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/kallsyms.h>
#include <linux/kobject.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/string.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#include <net/page_pool/types.h>
#else
#include <net/page_pool.h>
#endif

#include "colod-guest.h"

#define IS_VERSION(major, minor)                                  \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0) && \
	 LINUX_VERSION_CODE < KERNEL_VERSION(major, (minor) + 1, 0))

/* Where both the loss and the cure were measured. */
static const bool known_broken =
	IS_VERSION(6, 1) || IS_VERSION(6, 12) || IS_VERSION(7, 2);

static char *netfront = "auto";
module_param(netfront, charp, 0444);
MODULE_PARM_DESC(netfront, "takes auto | off");

static unsigned int cured;
module_param(cured, uint, 0444);
MODULE_PARM_DESC(cured, "page pools freed that would be lost (read only)");

static const char *how = "unknown";

const char *colod_netfront_how(void)
{
	return how;
}

#if IS_MODULE(CONFIG_XEN_NETDEV_FRONTEND)

static struct module *module_netfront;

static bool by_netfront(unsigned long addr)
{
	struct module *m = READ_ONCE(module_netfront);

	return m && within_module_core(addr, m);
}

static int module_event(struct notifier_block *nb, unsigned long what,
			void *data)
{
	struct module *m = data;

	if (strcmp(m->name, "xen_netfront"))
		return NOTIFY_DONE;
	if (what == MODULE_STATE_COMING)
		WRITE_ONCE(module_netfront, m);
	else if (what == MODULE_STATE_GOING)
		WRITE_ONCE(module_netfront, NULL);
	return NOTIFY_DONE;
}

static struct notifier_block module_notifier = { .notifier_call =
							 module_event };

/* The one that is loaded already, which the notifier does not tell of: its
 * folder in /sys/module is beside ours.
 */
static void find_loaded(void)
{
	struct kobject *k =
		kset_find_obj(THIS_MODULE->mkobj.kobj.kset, "xen_netfront");
	struct module *m;

	if (!k)
		return;
	m = container_of(k, struct module_kobject, kobj)->mod;
	if (m && try_module_get(m)) { /* not on its way out */
		WRITE_ONCE(module_netfront, m);
		module_put(m);
	}
	kobject_put(k);
}

static int callers_init(void)
{
	int err = register_module_notifier(&module_notifier);

	if (!err)
		find_loaded();
	return err;
}

static void callers_exit(void)
{
	unregister_module_notifier(&module_notifier);
}

#else /* built in */

static unsigned long from, size;

static bool by_netfront(unsigned long addr)
{
	return addr - from < size;
}

/* "name+0xOFFSET/0xSIZE": the size of a symbol, by what modules may call. */
static int callers_init(void)
{
	char text[KSYM_SYMBOL_LEN];
	const char *slash;

	from = colod_function("xennet_disconnect_backend");
	if (!from)
		return -ENOENT;
	sprint_symbol(text, from);
	slash = strchr(text, '/');
	return slash && sscanf(slash, "/0x%lx", &size) == 1 ? 0 : -ENOENT;
}

static void callers_exit(void)
{
}

#endif

static int on_destroy(struct kprobe *unused, struct pt_regs *regs)
{
	struct page_pool *pool;

	if (!by_netfront(regs_get_kernel_stack_nth(regs, 0)))
		return 0;
	pool = (void *)regs_get_kernel_argument(regs, 0);
	if (IS_ERR_OR_NULL(pool) || refcount_read(&pool->user_cnt) != 2)
		return 0;
	if (refcount_dec_not_one(&pool->user_cnt))
		cured++;
	return 0;
}

static struct kprobe probe = {
	.symbol_name = "page_pool_destroy",
	.pre_handler = on_destroy,
};

static int cure(void)
{
	int err = callers_init();

	if (err)
		return err;
	err = register_kprobe(&probe);
	if (err)
		callers_exit();
	return err;
}

int colod_netfront_init(void)
{
	int err;

	if (!strcmp(netfront, "off")) {
		how = "off";
		return 0;
	}
	if (strcmp(netfront, "auto")) {
		pr_err("netfront=%s: not auto or off\n", netfront);
		return -EINVAL;
	}
	if (!IS_ENABLED(CONFIG_XEN_NETDEV_FRONTEND)) {
		how = "not-needed";
		return 0;
	}
	/* The return address is on the stack, at the function's first byte. */
	if (!IS_ENABLED(CONFIG_X86_64) || !known_broken) {
		pr_info("whether this kernel's netfront loses memory is not "
			"known: nothing is done about it\n");
		return 0;
	}
	err = cure();
	if (err)
		pr_err("netfront's lost reference is not cured: error %d\n",
		       err);
	else
		how = "cured";
	return 0;
}

void colod_netfront_exit(void)
{
	if (strcmp(how, "cured"))
		return;
	unregister_kprobe(&probe);
	callers_exit();
}
