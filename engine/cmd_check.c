/* SPDX-License-Identifier: Apache-2.0 */
/* `colod check`: what this host offers, and what is missing. */
#include "config.h"

#include "engine/commands.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/env.h"
#include "net/loop.h"
#include "net/tls.h"
#include "resume/guest.h"
#include "stream/pages.h"

struct facts {
	bool json;
	json_t *list;
	unsigned int bad;
};

static void fact(void *arg, const char *name, const char *value, bool good)
{
	struct facts *f = arg;

	f->bad += !good;
	if (f->json)
		json_array_append_new(f->list,
				      json_pack("{s:s,s:s,s:b}", "name", name,
						"value", value, "good", good));
	else
		printf("%-4s %-22s %s\n", good ? "ok" : "BAD", name, value);
}

static void check_process(struct facts *f)
{
	struct utsname u;
	struct loop *loop;
	int err = loop_open(&loop);
	char value[200];

	uname(&u);
	snprintf(value, sizeof(value), "%s %s", u.sysname, u.release);
	fact(f, "kernel", value, true);
	fact(f, "io_uring", err ? strerror(-err) : "works", !err);
	if (!err)
		loop_close(loop);
	fact(f, "TLS", tls_library_version(), true);
	fact(f, "compression", page_library_version(), true);
}

static void check_privileges(struct facts *f)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	fact(f, "user", geteuid() ? "not root" : "root", !geteuid());
	fact(f, "raw sockets",
	     fd < 0 ? "no CAP_NET_RAW: takeovers are not announced"
		    : "permitted",
	     fd >= 0);
	if (fd >= 0)
		close(fd);
}

int command_check(const struct settings *set, int argc, char **argv)
{
	const struct guest_kind *const *kind;
	struct facts f = { .json = set->json, .list = json_array() };

	(void)argc;
	(void)argv;
	if (set->verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	fact(&f, "colod", PACKAGE_VERSION, true);
	check_process(&f);
	check_privileges(&f);
	for (kind = guest_kinds; *kind; kind++)
		(*kind)->probe(fact, &f);
	if (set->json) {
		json_dumpf(f.list, stdout, JSON_COMPACT);
		printf("\n");
	} else if (f.bad) {
		printf("\n%u of these keep colod from protecting a domain "
		       "here\n",
		       f.bad);
	}
	json_decref(f.list);
	return f.bad ? EXIT_FAILED : EXIT_ENDED;
}
