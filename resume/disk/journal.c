/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/disk/journal_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"

/* --- opening and closing -------------------------------------------------- */

void disk_journal_close(struct disk_journal *j)
{
	if (!j)
		return;
	for (int i = 0; i < JOURNAL_FILES; i++)
		cleanup_fd(&j->file[i].fd);
	checksum_free(j->put_sum);
	checksum_free(j->read_sum);
	free(j->payload);
	free(j->disk_dir);
	free(j->domain);
	pthread_cond_destroy(&j->changed);
	pthread_mutex_destroy(&j->mutex);
	free(j);
}

static struct disk_journal *new_journal(const char *disk_dir,
					const char *domain)
{
	struct disk_journal *j = memory_zeroed(sizeof(*j));

	if (!j)
		return NULL;
	pthread_mutex_init(&j->mutex, NULL);
	pthread_cond_init(&j->changed, NULL);
	for (int i = 0; i < JOURNAL_FILES; i++)
		j->file[i].fd = -1;
	j->put_sum = checksum_new();
	j->read_sum = checksum_new();
	j->payload = memory_new(JOURNAL_PAYLOAD_MAX);
	j->disk_dir = strdup(disk_dir);
	j->domain = strdup(domain);
	if (j->put_sum && j->read_sum && j->payload && j->disk_dir && j->domain)
		return j;
	disk_journal_close(j);
	return NULL;
}

static int open_files(struct disk_journal *j)
{
	char path[DISK_PATH_MAX];

	for (unsigned int i = 0; i < JOURNAL_FILES; i++) {
		int err = disk_journal_path(j->disk_dir, j->domain, i, path);

		if (err)
			return err;
		j->file[i].fd =
			open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (j->file[i].fd < 0)
			return -errno;
	}
	return disk_dir_stable(j->disk_dir);
}

/* Both heads name the disks; the rest is filled in when one is begun. */
static int name_disks(struct disk_journal *j, const char *const *disks,
		      unsigned int count)
{
	if (count > DISK_JOURNAL_DISKS_MAX)
		return -EINVAL;
	for (int f = 0; f < JOURNAL_FILES; f++) {
		struct journal_head *h = &j->file[f].head;

		h->count = count;
		for (unsigned int i = 0; i < count; i++) {
			if (!disk_name_good(disks[i]))
				return -EINVAL;
			strcpy(h->disk[i], disks[i]);
		}
	}
	return 0;
}

int disk_journal_open(const char *disk_dir, const char *domain,
		      const char *const *disks, unsigned int count,
		      uint64_t limit_bytes, struct disk_journal **out,
		      struct guest_error *err)
{
	struct disk_journal *j = new_journal(disk_dir, domain);
	int rc = j ? name_disks(j, disks, count) : -ENOMEM;

	if (!rc)
		rc = disk_journal_discard(disk_dir, domain);
	if (!rc)
		rc = open_files(j);
	if (rc) {
		guest_error_set(err,
				"the journal of %s cannot be made in %s: %s; "
				"see that there is room and that colod may "
				"write there",
				domain, disk_dir, strerror(-rc));
		disk_journal_close(j);
		return rc;
	}
	j->limit_bytes = limit_bytes;
	*out = j;
	return 0;
}

void disk_journal_watch(struct disk_journal *j, void (*wake)(void *arg),
			void *arg)
{
	j->wake = wake;
	j->wake_arg = arg;
}

void disk_journal_cancel(struct disk_journal *j)
{
	AUTO_LOCK(&j->mutex);
	j->cancelled = true;
	pthread_cond_broadcast(&j->changed);
}

uint64_t disk_journal_used(struct disk_journal *j)
{
	AUTO_LOCK(&j->mutex);
	return journal_used(j);
}

/* --- removal -------------------------------------------------------------- */

void journal_forget(struct disk_journal *j, struct journal_file *f)
{
	AUTO_LOCK(&j->mutex);
	f->bytes = f->ended = f->read = f->stable = f->epoch = 0;
	f->settled = false;
	j->reading = j->current;
	pthread_cond_broadcast(&j->changed);
}

/*
 * At any moment of it, what is left can be replayed: the one that the storages
 * have all of goes first, or else the one that they have nothing of.
 */
int disk_journal_remove(struct disk_journal *j)
{
	unsigned int first;
	int err;

	pthread_mutex_lock(&j->mutex);
	j->cancelled = true;
	pthread_cond_broadcast(&j->changed);
	while (j->appending)
		pthread_cond_wait(&j->changed, &j->mutex);
	first = journal_other(j)->read == journal_other(j)->ended ? !j->current
								  : j->current;
	pthread_mutex_unlock(&j->mutex);
	err = journal_empty(j->file[first].fd);
	if (!err)
		err = journal_empty(j->file[!first].fd);
	if (!err)
		err = journal_unlink(j->disk_dir, j->domain);
	for (int i = 0; i < JOURNAL_FILES && !err; i++)
		journal_forget(j, &j->file[i]);
	return err;
}
