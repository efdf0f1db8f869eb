/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `colod status`: every colod of this host, as a table for people or as one
 * JSON array for scripts.
 */
#include "config.h"

#include "engine/commands.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/control.h"
#include "engine/env.h"

enum { DAEMONS_MAX = 64, WATCH_US = 1000 * 1000 };

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static long long number(const json_t *o, const char *group, const char *key)
{
	if (group)
		o = json_object_get(o, group);
	return json_integer_value(json_object_get(o, key));
}

/* 1.2 GiB, 34.5 MiB, 678 KiB */
static const char *size(long long bytes, char out[16])
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double n = (double)bytes;
	unsigned int i = 0;

	while (n >= 1024 && i < 4) {
		n /= 1024;
		i++;
	}
	snprintf(out, 16, i ? "%.1f %s" : "%.0f %s", n, unit[i]);
	return out;
}

static void line(const char *name, const char *value)
{
	printf("  %-18s %s\n", name, value);
}

static void print_disks(const json_t *disks)
{
	char v[200], a[16], b[16];
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(disks, "list"), i, disk)
	{
		snprintf(v, sizeof(v), "%s: %s, %s marked, %s to be sent",
			 text(disk, "name"), text(disk, "state"),
			 size(number(disk, NULL, "marked"), a),
			 size(number(disk, NULL, "waiting"), b));
		line("disk", v);
	}
	if (!number(disks, NULL, "compare"))
		return;
	snprintf(v, sizeof(v), "%s of %s compared",
		 size(number(disks, NULL, "compared"), a),
		 size(number(disks, NULL, "compare"), b));
	line("disks", v);
}

static void print_replica(const json_t *disks)
{
	char v[200], a[16];

	if (!json_is_object(disks))
		return;
	snprintf(v, sizeof(v), "%lld, %s, %s in the journal%s%s",
		 number(disks, NULL, "disks"),
		 json_is_true(json_object_get(disks, "whole")) ? "whole"
							       : "not whole",
		 size(number(disks, NULL, "journal"), a),
		 text(disks, "error")[0] ? ": " : "", text(disks, "error"));
	line("disks", v);
}

static void print_primary(const json_t *s)
{
	char v[160], a[16], b[16];

	snprintf(v, sizeof(v),
		 "%lld captured, %lld acknowledged, %lld skipped, %lld in "
		 "flight",
		 number(s, "epochs", "captured"),
		 number(s, "epochs", "acknowledged"),
		 number(s, "epochs", "skipped"),
		 number(s, "epochs", "in_flight"));
	line("epochs", v);
	snprintf(v, sizeof(v),
		 "%.1f ms, mean %.1f, longest %.1f (of every "
		 "%lld ms)",
		 (double)number(s, "last", "pause_us") / 1e3,
		 (double)number(s, NULL, "pause_mean_us") / 1e3,
		 (double)number(s, NULL, "pause_max_us") / 1e3,
		 number(s, NULL, "interval_us") / 1000);
	line("last pause", v);
	snprintf(v, sizeof(v), "%lld", number(s, "last", "dirty_pages"));
	line("dirty pages", v);
	snprintf(v, sizeof(v), "%s raw, %s sent",
		 size(number(s, "bytes", "raw"), a),
		 size(number(s, "bytes", "sent"), b));
	line("bytes", v);
	snprintf(v, sizeof(v), "%.1f ms, last acknowledgement %.1f ms ago",
		 (double)number(s, NULL, "lag_us") / 1e3,
		 (double)number(s, NULL, "since_ack_us") / 1e3);
	line("lag", v);
	snprintf(v, sizeof(v), "%lld synchronisations, %lld losses",
		 number(s, NULL, "synchronisations"),
		 number(s, NULL, "losses"));
	line("protection", v);
	line("output", text(s, "output"));
	print_disks(json_object_get(s, "disks"));
}

static void print_secondary(const json_t *s)
{
	char v[160], a[16], b[16];

	snprintf(v, sizeof(v), "%lld stored, %lld applied",
		 number(s, "epochs", "stored"), number(s, "epochs", "applied"));
	line("epochs", v);
	snprintf(v, sizeof(v), "%s raw, %s received",
		 size(number(s, "bytes", "raw"), a),
		 size(number(s, "bytes", "received"), b));
	line("bytes", v);
	snprintf(v, sizeof(v), "%.1f ms ago, last epoch %.1f ms ago",
		 (double)number(s, NULL, "since_alive_us") / 1e3,
		 (double)number(s, NULL, "since_commit_us") / 1e3);
	line("primary heard", v);
	print_replica(json_object_get(s, "disks"));
}

static void print_one(const json_t *s)
{
	const char *domain = text(s, "domain"), *peer = text(s, "peer");
	bool primary = !strcmp(text(s, "role"), "primary");

	printf("%s%s%s: %s%s%s\n", text(s, "role"), domain[0] ? " " : "",
	       domain, text(s, "state"), peer[0] ? ", peer " : "", peer);
	if (primary)
		print_primary(s);
	else if (domain[0])
		print_secondary(s);
	if (text(s, "last_error")[0])
		line("last error", text(s, "last_error"));
}

void command_silent(const struct settings *set, unsigned int count)
{
	fprintf(stderr,
		"colod: %u in %s did not answer: stopped, or it hangs\n", count,
		set->run_dir);
}

static int show(const struct settings *set, const char *domain)
{
	struct control_reply found[DAEMONS_MAX];
	json_t *all = json_array();
	unsigned int silent;
	int n, i;

	n = control_ask_all(set->run_dir, domain, found, DAEMONS_MAX, &silent);
	if (n < 0) {
		fprintf(stderr, "colod: cannot look into %s: %s\n",
			set->run_dir, strerror(-n));
		json_decref(all);
		return EXIT_FAILED;
	}
	for (i = 0; i < n; i++) {
		if (!set->json)
			print_one(found[i].status);
		json_array_append_new(all, found[i].status);
	}
	if (set->json) {
		json_dumpf(all, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
		printf("\n");
	} else if (!n && !silent) {
		printf("no colod runs here%s%s\n", domain ? " for " : "",
		       domain ? domain : "");
	}
	json_decref(all);
	fflush(stdout);
	if (silent)
		command_silent(set, silent);
	return n ? EXIT_ENDED : EXIT_FAILED;
}

int command_status(const struct settings *set, int argc, char **argv)
{
	const char *domain = argc ? argv[0] : NULL;
	int status;

	for (;;) {
		if (set->watch && !set->json && isatty(STDOUT_FILENO))
			printf("\033[H\033[J");
		status = show(set, domain);
		if (!set->watch)
			return status;
		clock_sleep_us(WATCH_US);
	}
}
