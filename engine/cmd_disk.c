/* SPDX-License-Identifier: Apache-2.0 */
/* `colod disk`: making, serving, listing and settling replicated disks. */
#include "config.h"

#include "engine/commands.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/cleanup.h"
#include "engine/disk_serve.h"
#include "engine/disk_served.h"
#include "engine/env.h"
#include "resume/disk/meta.h"
#include "resume/disk/replica.h"
#include "resume/disk/storage.h"

#define SUFFIX ".disk"

static int failed(const struct guest_error *err)
{
	fprintf(stderr, "colod: %s\n", err->text);
	return EXIT_FAILED;
}

/* --- all of a folder ------------------------------------------------------ */

/* The name of the disk whose file this is; false: it is none's. */
static bool name_of(const char *file, char name[DISK_NAME_MAX + 1])
{
	size_t n = strlen(file), suffix = strlen(SUFFIX);

	if (n <= suffix || n > DISK_NAME_MAX + suffix ||
	    strcmp(file + n - suffix, SUFFIX) != 0)
		return false;
	memcpy(name, file, n - suffix);
	name[n - suffix] = '\0';
	return disk_name_good(name);
}

static int is_disk(const struct dirent *e)
{
	char name[DISK_NAME_MAX + 1];

	return name_of(e->d_name, name);
}

/*
 * Calls `each` with every disk, in the order of their names, until it returns
 * other than 0; that, or an errno.  One that cannot be opened is NULL.
 */
typedef int disk_fn(void *arg, struct disk_meta *m,
		    const struct guest_error *err);

static int walk(const char *disk_dir, disk_fn *each, void *arg)
{
	struct dirent **entry;
	int n = scandir(disk_dir, &entry, is_disk, alphasort), rc = 0;

	if (n < 0)
		return errno == ENOENT ? 0 : -errno;
	for (int i = 0; i < n; i++) {
		struct guest_error err = { { 0 } };
		char name[DISK_NAME_MAX + 1];
		struct disk_meta *m = NULL;

		name_of(entry[i]->d_name, name);
		if (!rc) {
			disk_meta_open(disk_dir, name, &m, &err);
			rc = each(arg, m, &err);
			disk_meta_close(m);
		}
		free(entry[i]);
	}
	free(entry);
	return rc;
}

/* --- create --------------------------------------------------------------- */

struct storage_search {
	struct stat wanted;
	char owner[DISK_NAME_MAX + 1];
};

/* By whatever path: two disks of one storage would be each other's ruin. */
static int has_storage(void *arg, struct disk_meta *m,
		       const struct guest_error *err)
{
	struct storage_search *s = arg;
	struct stat st;

	(void)err;
	if (!m || stat(disk_meta_storage(m), &st) < 0)
		return 0;
	if (S_ISBLK(st.st_mode) != S_ISBLK(s->wanted.st_mode))
		return 0;
	if (S_ISBLK(st.st_mode) ? st.st_rdev != s->wanted.st_rdev
				: st.st_dev != s->wanted.st_dev ||
					  st.st_ino != s->wanted.st_ino)
		return 0;
	snprintf(s->owner, sizeof(s->owner), "%s", disk_meta_name(m));
	return 1;
}

static int check_storage(const struct settings *set, const char *storage,
			 uint64_t *size, struct guest_error *err)
{
	struct storage_search search = { .owner = "" };
	struct disk_storage *s;
	int rc = disk_storage_open(storage, true, &s, err);

	if (rc)
		return rc;
	*size = disk_storage_size(s);
	disk_storage_close(s);
	if (stat(storage, &search.wanted) == 0)
		rc = walk(set->disk_dir, has_storage, &search);
	if (rc > 0)
		guest_error_set(err,
				"%s is the storage of the disk %s already: "
				"name another",
				storage, search.owner);
	else if (rc < 0)
		guest_error_set(err, "cannot look into %s: %s", set->disk_dir,
				strerror(-rc));
	return rc;
}

static int create(const struct settings *set, const char *name,
		  const char *storage)
{
	struct guest_error err = { { 0 } };
	AUTO_FREE char *here = NULL;
	AUTO_FREE char *path = NULL;
	uint64_t size;

	if (!disk_name_good(name)) {
		guest_error_set(&err,
				"'%s' cannot be a disk's name: take letters, "
				"digits, '.', '_' and '-', neither '.' nor '-' "
				"at the front, up to %d",
				name, DISK_NAME_MAX);
		return failed(&err);
	}
	/* As it is named, since /dev/VG/LV stays and what it leads to not. */
	here = storage[0] == '/' ? strdup("") : getcwd(NULL, 0);
	if (!here ||
	    asprintf(&path, "%s%s%s", here, *here ? "/" : "", storage) < 0) {
		path = NULL;
		guest_error_set(&err, "this folder: %s", strerror(errno));
		return failed(&err);
	}
	if (check_storage(set, path, &size, &err) ||
	    disk_meta_create(set->disk_dir, name, path, size, &err))
		return failed(&err);
	return EXIT_ENDED;
}

/* --- list ----------------------------------------------------------------- */

static const char *role_text(enum disk_role role)
{
	switch (role) {
	case DISK_ROLE_PRIMARY:
		return "primary";
	case DISK_ROLE_SECONDARY:
		return "secondary";
	case DISK_ROLE_NEW:
		break;
	}
	return "new";
}

static bool is_whole(const struct disk_state *s)
{
	return s->role != DISK_ROLE_SECONDARY || s->whole;
}

static uint64_t marked_bytes(const struct disk_meta *m)
{
	return at_most(disk_meta_count(m) * DISK_BLOCK_BYTES,
		       disk_meta_size(m));
}

static const char *mib_text(uint64_t bytes, char text[32])
{
	double mib = (double)bytes / (1 << 20);

	if (mib < 1024)
		snprintf(text, 32, "%.*f MiB", bytes & 0xfffff ? 1 : 0, mib);
	else
		snprintf(text, 32, "%.*f GiB", bytes & 0x3fffffff ? 1 : 0,
			 mib / 1024);
	return text;
}

struct listing {
	json_t *all; /* or NULL: for people */
	bool bad;
};

static void print_one(const struct disk_meta *m, const struct disk_state *s,
		      bool served)
{
	char size[32], marked[32];

	printf("%s: %s%s, %s, %s, %s, %s marked, %s, on %s\n",
	       disk_meta_name(m), role_text(s->role), s->alone ? " alone" : "",
	       mib_text(disk_meta_size(m), size),
	       is_whole(s) ? "whole" : "not whole",
	       s->base ? "base known" : "no base",
	       mib_text(marked_bytes(m), marked),
	       served ? "served" : "not served", disk_meta_storage(m));
}

static int list_one(void *arg, struct disk_meta *m,
		    const struct guest_error *err)
{
	struct listing *l = arg;
	struct disk_state s;
	bool served;

	if (!m) {
		l->bad = true;
		failed(err);
		return 0;
	}
	s = disk_meta_state(m);
	served = disk_meta_held(m, DISK_HOLDER_SERVER) == 1;
	if (!l->all) {
		print_one(m, &s, served);
		return 0;
	}
	json_array_append_new(
		l->all,
		json_pack("{s:s,s:s,s:b,s:I,s:b,s:b,s:I,s:b,s:s}", "name",
			  disk_meta_name(m), "role", role_text(s.role), "alone",
			  s.alone, "size_bytes", (json_int_t)disk_meta_size(m),
			  "whole", is_whole(&s), "base_known", s.base != 0,
			  "marked_bytes", (json_int_t)marked_bytes(m), "served",
			  served, "storage", disk_meta_storage(m)));
	return 0;
}

static int list(const struct settings *set)
{
	struct listing l = { .all = set->json ? json_array() : NULL };
	int rc = walk(set->disk_dir, list_one, &l);

	if (rc)
		fprintf(stderr, "colod: cannot look into %s: %s\n",
			set->disk_dir, strerror(-rc));
	else if (l.all) {
		json_dumpf(l.all, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
		printf("\n");
	}
	json_decref(l.all);
	return rc || l.bad ? EXIT_FAILED : EXIT_ENDED;
}

/* --- primary and forget --------------------------------------------------- */

static int hold(struct disk_meta *m, enum disk_holder holder,
		struct guest_error *err)
{
	int rc = disk_meta_hold(m, holder);

	if (rc == -EBUSY)
		guest_error_set(err, "disk %s is used by a %s",
				disk_meta_name(m),
				holder == DISK_HOLDER_COLOD
					? "colod of this host: see `colod "
					  "status' and `colod failover'"
					: "server: end that first, by `colod "
					  "disk detach'");
	else if (rc)
		guest_error_set(err, "disk %s: %s", disk_meta_name(m),
				strerror(-rc));
	return rc;
}

static int may_be_primary(struct disk_meta *m, struct guest_error *err)
{
	struct disk_state s = disk_meta_state(m);

	if (is_whole(&s))
		return 0;
	guest_error_set(err,
			"disk %s is not whole, it was just being synchronised: "
			"bring the primary's host back, or where that is lost "
			"for good give up what is here by `colod disk forget'",
			disk_meta_name(m));
	return -EPERM;
}

static int change(struct disk_meta *m, const struct disk_state *s,
		  struct guest_error *err)
{
	int rc = disk_meta_set(m, s);

	if (rc)
		guest_error_set(err, "disk %s: its state was not changed: %s",
				disk_meta_name(m), strerror(-rc));
	return rc;
}

/*
 * What is in the journals first: it is committed, so it belongs to the disk,
 * and may not come to it later.
 */
static int finish(const struct settings *set, struct disk_meta *m,
		  struct guest_error *err)
{
	if (disk_meta_held(m, DISK_HOLDER_COLOD) == 1)
		return hold(m, DISK_HOLDER_COLOD, err);
	return disk_replica_finish(set->disk_dir, disk_meta_name(m), err);
}

static int become_primary(const struct settings *set, struct disk_meta *m,
			  struct guest_error *err)
{
	struct disk_state s;
	int rc = may_be_primary(m, err);

	if (!rc)
		rc = finish(set, m, err);
	if (!rc)
		rc = hold(m, DISK_HOLDER_COLOD, err);
	if (rc)
		return rc;
	s = disk_meta_state(m);
	s.role = DISK_ROLE_PRIMARY;
	s.alone = true;
	return change(m, &s, err);
}

static int primary(const struct settings *set, const char *name)
{
	struct guest_error err = { { 0 } };
	struct disk_meta *m;
	int rc = disk_meta_open(set->disk_dir, name, &m, &err);

	if (rc)
		return failed(&err);
	rc = become_primary(set, m, &err);
	disk_meta_close(m);
	return rc ? failed(&err) : EXIT_ENDED;
}

static void forget_it(const struct settings *set, struct served *d)
{
	const struct disk_state new = { .role = DISK_ROLE_NEW };
	struct guest_error err = { { 0 } };
	char who[NBD_WHO_BYTES];

	if (served_in_use(d, who)) {
		served_complain(d, "it is used by %s", who);
		return;
	}
	if (finish(set, d->meta, &err) ||
	    hold(d->meta, DISK_HOLDER_COLOD, &err) ||
	    hold(d->meta, DISK_HOLDER_SERVER, &err) ||
	    change(d->meta, &new, &err))
		d->status = failed(&err);
	else
		disk_meta_clear(d->meta);
}

static int forget(const struct settings *set, const char *name)
{
	struct served d;

	if (served_find(&d, set, name) == 0)
		forget_it(set, &d);
	served_close(&d);
	return d.status;
}

/* -------------------------------------------------------------------------- */

int command_disk(const struct settings *set, int argc, char **argv)
{
	static const struct {
		const char *verb;
		int (*run)(const struct settings *set, const char *name);
	} verbs[] = {
		{ "serve", disk_serve },
		{ "detach", disk_detach },
		{ "primary", primary },
		{ "forget", forget },
	};

	if (!strcmp(argv[0], "create") && argc == 3)
		return create(set, argv[1], argv[2]);
	if (!strcmp(argv[0], "list") && argc == 1)
		return list(set);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(argv[0], verbs[i].verb) && argc == 2)
			return verbs[i].run(set, argv[1]);
	fprintf(stderr, "colod: usage: colod disk create NAME STORAGE | "
			"serve NAME | list | detach NAME | primary NAME | "
			"forget NAME\n");
	return EXIT_USAGE;
}
