/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finishing journals that a killed colod, or a host that lost its power, has
 * left: all complete epochs, for an acknowledgement may have left for the last
 * of them.
 *
 * A disk that is no secondary's any more has gone its own way since, so it is
 * left alone, and so is one that is not here; the others are finished.  Whoever
 * holds one of them still works with the journal: -EBUSY.
 */
#include "config.h"

#include "resume/disk/replica_impl.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static_assert((int)DISK_JOURNAL_DISKS_MAX == (int)WIRE_DISKS_MAX, "disks");

typedef char disk_names[DISK_JOURNAL_DISKS_MAX][DISK_NAME_MAX + 1];

static void leave_alone(struct replica_disks *d, unsigned int i)
{
	disk_meta_close(d->disk[i].meta);
	d->disk[i].meta = NULL;
	d->sizes[i] = DISK_SIZE_MAX;
}

static bool is_secondary(const struct disk_meta *m)
{
	return disk_meta_role(m) == DISK_ROLE_SECONDARY;
}

static int open_disk(struct replica_disks *d, unsigned int i,
		     const char *disk_dir, const char *name,
		     struct guest_error *err)
{
	struct disk_meta **m = &d->disk[i].meta;
	int rc = disk_meta_open(disk_dir, name, m, err);

	if (rc && rc != -ENOENT)
		return rc;
	if (rc || !is_secondary(*m)) {
		leave_alone(d, i);
		return 0;
	}
	rc = replica_hold(*m, err);
	if (rc)
		return rc;
	/* It may have been made a primary's before it was held. */
	if (is_secondary(*m))
		return replica_open_storage(d, i, err);
	leave_alone(d, i);
	return 0;
}

static int open_disks(struct replica_disks *d, const char *disk_dir,
		      disk_names names, unsigned int count,
		      struct guest_error *err)
{
	int rc = 0;

	d->count = count;
	for (unsigned int i = 0; i < count && !rc; i++)
		rc = open_disk(d, i, disk_dir, names[i], err);
	return rc;
}

static int change(void *arg, uint64_t epoch, const uint8_t *raw, size_t length)
{
	return replica_change(arg, epoch, raw, length);
}

static bool any(const struct replica_disks *d)
{
	for (unsigned int i = 0; i < d->count; i++)
		if (d->disk[i].storage)
			return true;
	return false;
}

static int finish(struct replica_disks *d, const char *disk_dir,
		  const char *domain, struct guest_error *err)
{
	bool touched = any(d);
	int rc = touched ? disk_journal_replay(disk_dir, domain, change, d) : 0;

	if (!rc && touched)
		rc = replica_make_stable(d);
	if (!rc)
		rc = disk_journal_discard(disk_dir, domain);
	if (rc == -EBADMSG) {
		replica_distrust(d);
		guest_error_set(err,
				"the journal of %s is damaged: remove "
				"%s/%s.journal.*; the next synchronisation "
				"compares all of its disks",
				domain, disk_dir, domain);
	} else if (rc) {
		guest_error_set(err,
				"what is in the journal of %s cannot be "
				"written to its disks: %s; see the log, and "
				"try again",
				domain, strerror(-rc));
	}
	return rc;
}

int replica_finish_domain(const char *disk_dir, const char *domain,
			  struct guest_error *err)
{
	struct replica_disks d = { 0 };
	disk_names names;
	int rc = disk_journal_disks(disk_dir, domain, names);

	if (rc == -EBADMSG) {
		guest_error_set(err,
				"the journal of %s is damaged, so that it is "
				"not known which disks it is of: remove "
				"%s/%s.journal.* and the NAME.disk of each of "
				"its disks, and make these anew ('colod disk "
				"create')",
				domain, disk_dir, domain);
		return rc;
	}
	if (rc < 0) {
		guest_error_set(err,
				"the journal of %s in %s cannot be read: "
				"%s; see that colod may read it",
				domain, disk_dir, strerror(-rc));
		return rc;
	}
	rc = open_disks(&d, disk_dir, names, (unsigned int)rc, err);
	if (!rc)
		rc = finish(&d, disk_dir, domain, err);
	replica_close_disks(&d);
	return rc;
}

/* --- of a disk ------------------------------------------------------------ */

/* True: a journal's file, and whose. */
static bool domain_of(const char *file, char domain[DISK_PATH_MAX])
{
	static const char *const suffix = ".journal.";
	size_t n = strlen(file), tail = strlen(suffix) + 1;

	if (n <= tail || n >= DISK_PATH_MAX ||
	    strncmp(file + n - tail, suffix, tail - 1) != 0)
		return false;
	memcpy(domain, file, n - tail);
	domain[n - tail] = '\0';
	return true;
}

/* A journal that does not say of which disks it is may be of any secondary's.
 */
static bool may_be_named(const char *disk_dir, const char *disk)
{
	struct guest_error ignored;
	struct disk_meta *m;
	bool may = true;

	if (disk_meta_open(disk_dir, disk, &m, &ignored))
		return may;
	may = is_secondary(m);
	disk_meta_close(m);
	return may;
}

/* Where it names the disk, or cannot be read: that says so. */
static int finish_if_named(const char *disk_dir, const char *domain,
			   const char *disk, struct guest_error *err)
{
	disk_names names;
	int count = disk_journal_disks(disk_dir, domain, names);
	bool named = count < 0 && may_be_named(disk_dir, disk);

	for (int i = 0; i < count && !named; i++)
		named = !strcmp(names[i], disk);
	return named ? replica_finish_domain(disk_dir, domain, err) : 0;
}

int disk_replica_finish(const char *disk_dir, const char *disk,
			struct guest_error *err)
{
	char domain[DISK_PATH_MAX];
	DIR *dir = opendir(disk_dir);
	struct dirent *entry;
	int rc = 0;

	if (!dir && errno != ENOENT) {
		rc = -errno;
		guest_error_set(err, "cannot look for journals in %s: %s",
				disk_dir, strerror(-rc));
	}
	while (dir && !rc && (entry = readdir(dir)))
		if (domain_of(entry->d_name, domain))
			rc = finish_if_named(disk_dir, domain, disk, err);
	if (dir)
		closedir(dir);
	return rc;
}
