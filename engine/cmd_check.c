/* SPDX-License-Identifier: Apache-2.0 */
/* `colod check`: what this host offers, or what a guest needs. */
#include "config.h"

#include "engine/commands.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "engine/env.h"
#include "net/loop.h"
#include "net/tls.h"
#include "resume/guest.h"
#include "stream/body.h"

/*
 * One kind of guest is enough: what a kind lacks counts as bad only where no
 * kind is possible, so all is collected before anything is printed.
 */
struct facts {
	json_t *list;
	unsigned int bad; /* of the host, or of the kind being probed */
};

static void fact(void *arg, const char *name, const char *value, bool good)
{
	struct facts *f = arg;

	f->bad += !good;
	json_array_append_new(f->list, json_pack("{s:s,s:s,s:b}", "name", name,
						 "value", value, "good", good));
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
	fact(f, "compression", body_library_version(), true);
}

static void fault_point(void *arg, const char *name, const char *side,
			unsigned int flags, const char *what)
{
	char label[48], value[160];

	snprintf(label, sizeof(label), "fault %s", name);
	snprintf(value, sizeof(value), "%s%s: %s", side,
		 flags & FAULT_XEN    ? ", Xen"
		 : flags & FAULT_DISK ? ", disk"
				      : "",
		 what);
	fact(arg, label, value, true);
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

/* Reports all kinds; says which of them are possible here. */
static void check_kinds(struct facts *f, size_t *possible, bool *first)
{
	const struct guest_kind *const *kind;
	unsigned int host = f->bad;
	char names[200] = "";
	size_t n = 0;

	*possible = 0;
	*first = false;
	for (kind = guest_kinds; *kind; kind++) {
		f->bad = 0;
		(*kind)->probe(fact, f);
		if (f->bad)
			continue;
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s",
				      n ? ", " : "", (*kind)->source->name);
		*first = *first || kind == guest_kinds;
		++*possible;
	}
	f->bad = host;
	fact(f, "kinds of guests", n ? names : "none", n > 0);
}

/* From `lacking` on, what is not good is no fault. */
static void print(const struct facts *f, size_t lacking)
{
	json_t *o;
	size_t i;

	json_array_foreach(f->list, i, o)
	{
		bool good = json_is_true(json_object_get(o, "good"));

		printf("%-4s %-22s %s\n",
		       good	      ? "ok"
		       : i >= lacking ? "no"
				      : "BAD",
		       json_string_value(json_object_get(o, "name")),
		       json_string_value(json_object_get(o, "value")));
	}
	if (f->bad && lacking)
		printf("\n%u of these keep colod from protecting a domain "
		       "here\n",
		       f->bad);
}

static void write_out(const struct facts *f, const struct settings *set,
		      size_t lacking)
{
	if (set->json) {
		json_dumpf(f->list, stdout, JSON_COMPACT);
		printf("\n");
	} else {
		print(f, lacking);
	}
}

/* Only the last fact, whether it can be protected, can be bad. */
static int check_domain(const struct settings *set, const char *words)
{
	const struct guest_kind *kind = guest_kind_of_words(words);
	struct facts f = { .list = json_array() };
	struct guest_error err = { "" };
	const json_t *last;
	size_t n;
	int rc = -ENOTSUP;

	if (kind->examine)
		rc = kind->examine(guest_words(kind, words), fact, &f, &err);
	else
		guest_error_set(&err,
				"about a guest of the kind %s there is nothing"
				" to find out",
				kind->source->name);
	if (rc < 0) {
		log_error("%s", *err.text ? err.text : strerror(-rc));
		json_decref(f.list);
		return EXIT_FAILED;
	}
	n = json_array_size(f.list);
	last = json_array_get(f.list, n - 1);
	f.bad = json_is_false(json_object_get(last, "good"));
	write_out(&f, set, 0);
	json_decref(f.list);
	return f.bad ? EXIT_FAILED : EXIT_ENDED;
}

int command_check(const struct settings *set, int argc, char **argv)
{
	struct facts f = { .list = json_array() };
	unsigned int process_bad;
	size_t lacking, possible;
	bool first;

	if (set->verbose)
		log_set_level(LOG_LEVEL_DEBUG);
	if (argc > 0) {
		json_decref(f.list);
		return check_domain(set, argv[0]);
	}
	fact(&f, "colod", PACKAGE_VERSION, true);
	check_process(&f);
	lacking = json_array_size(f.list);
	process_bad = f.bad;
	check_privileges(&f);
	check_kinds(&f, &possible, &first);
	if (!possible)
		lacking = json_array_size(f.list);
	else if (first) /* Xen: takeovers need those privileges */
		lacking += 2;
	else
		f.bad = process_bad;
	if (set->verbose)
		fault_each_point(fault_point, &f);
	write_out(&f, set, lacking);
	json_decref(f.list);
	return f.bad ? EXIT_FAILED : EXIT_ENDED;
}
