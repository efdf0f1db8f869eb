/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of a replicated disk (see meta.h): its making and mapping, and who
 * holds the disk.
 *
 * The locks are of open file descriptions: they end with the process, and hold
 * between two metas of one process too.
 */
#include "config.h"

#include "resume/disk/meta.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "resume/disk/meta_impl.h"

enum { FILE_VERSION = 1 };

#define MAGIC "COLODISK"

struct meta_about {
	char magic[8];
	uint32_t version;
	uint32_t block_bytes;
	uint64_t size;
	char name[64];
	char storage[DISK_PATH_MAX];
	uint64_t sum; /* of all in front of it */
};

static_assert(sizeof(struct meta_about) <= META_PAGE_BYTES, "page 0");
static_assert(sizeof(struct meta_live) <= META_PAGE_BYTES, "page 2");

static uint64_t about_sum(const struct meta_about *a)
{
	uint64_t word[offsetof(struct meta_about, sum) / 8];

	memcpy(word, a, sizeof(word));
	return meta_sum(word, sizeof(word) / 8);
}

static uint64_t blocks_of(uint64_t size)
{
	return (size + DISK_BLOCK_BYTES - 1) / DISK_BLOCK_BYTES;
}

static size_t set_bytes(uint64_t size)
{
	uint64_t pieces =
		(blocks_of(size) + META_PIECE_BITS - 1) / META_PIECE_BITS;

	return (size_t)pieces * META_PAGE_BYTES;
}

static size_t file_bytes(uint64_t size)
{
	return 3 * META_PAGE_BYTES + META_SETS * set_bytes(size);
}

/* --- holders -------------------------------------------------------------- */

int meta_lock(const struct disk_meta *m, int command, int byte, short type)
{
	struct flock l = { .l_type = type,
			   .l_whence = SEEK_SET,
			   .l_start = byte,
			   .l_len = 1 };
	int rc;

	do
		rc = fcntl(m->fd, command, &l);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
	return command == F_OFD_GETLK ? l.l_type != F_UNLCK : 0;
}

int disk_meta_hold(struct disk_meta *m, enum disk_holder holder)
{
	int err = meta_lock(m, F_OFD_SETLK, holder, F_WRLCK);

	if (!err)
		atomic_store(&m->held[holder], true);
	return err;
}

int disk_meta_held(struct disk_meta *m, enum disk_holder holder)
{
	int rc;

	/* A description's own lock is not in its own way. */
	if (atomic_load(&m->held[holder]))
		return 1;
	rc = meta_lock(m, F_OFD_GETLK, holder, F_WRLCK);
	return rc < 0 ? -1 : rc;
}

/* --- a new one ------------------------------------------------------------ */

static int make_dirs(const char *dir)
{
	char path[DISK_PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s", dir);

	if (n <= 0 || (size_t)n >= sizeof(path))
		return n ? -ENAMETOOLONG : -ENOENT;
	for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_page(int fd, const void *bytes, size_t length, off_t at)
{
	ssize_t n = pwrite(fd, bytes, length, at);

	if (n < 0)
		return -errno;
	return (size_t)n == length ? 0 : -EIO;
}

/* Room for all marks: one that cannot be set would kill who sets it. */
static int fill(int fd, const char *name, const char *storage, uint64_t size)
{
	struct meta_about about = { .magic = MAGIC,
				    .version = FILE_VERSION,
				    .block_bytes = DISK_BLOCK_BYTES,
				    .size = size };
	union meta_slot state = { .room = { 0 } };
	int err = posix_fallocate(fd, 0, (off_t)file_bytes(size));

	if (err)
		return -err;
	memcpy(about.name, name, strlen(name));
	memcpy(about.storage, storage, strlen(storage));
	about.sum = about_sum(&about);
	meta_first_state(&state);
	err = write_page(fd, &about, sizeof(about), 0);
	if (!err)
		err = write_page(fd, &state, sizeof(state), META_PAGE_BYTES);
	if (!err && fsync(fd) < 0)
		err = -errno;
	return err;
}

/* It is there whole, or not at all; what a kill leaves has no disk's name. */
static int make_file(const char *dir, const char *path, const char *name,
		     const char *storage, uint64_t size)
{
	char half[DISK_PATH_MAX];
	AUTO_FD int fd = -1;
	int err, n = snprintf(half, sizeof(half), "%s/.%s.XXXXXX", dir, name);

	if (n < 0 || (size_t)n >= sizeof(half))
		return -ENAMETOOLONG;
	fd = mkostemp(half, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fill(fd, name, storage, size);
	if (!err && link(half, path) < 0)
		err = -errno;
	unlink(half);
	return err ? err : disk_dir_stable(dir);
}

static int check_wish(const char *name, const char *storage, uint64_t size,
		      struct guest_error *err)
{
	if (!disk_name_good(name))
		guest_error_set(err,
				"'%s' cannot be a disk's name: take up to %d "
				"letters, digits, '.', '_' and '-', neither "
				"'.' nor '-' at the front",
				name, DISK_NAME_MAX);
	else if (size == 0 || size > DISK_SIZE_MAX || size % 512)
		guest_error_set(err,
				"a disk of %llu bytes cannot be: its size is "
				"a multiple of 512, up to 16 TiB",
				(unsigned long long)size);
	else if (!*storage || strlen(storage) >= DISK_PATH_MAX)
		guest_error_set(err,
				"the path of the storage of disk %s is empty "
				"or longer than %d bytes: name another",
				name, DISK_PATH_MAX - 1);
	else
		return 0;
	return -EINVAL;
}

int disk_meta_create(const char *disk_dir, const char *name,
		     const char *storage, uint64_t size,
		     struct guest_error *err)
{
	char path[DISK_PATH_MAX];
	int rc = check_wish(name, storage, size, err);

	if (rc < 0)
		return rc;
	rc = disk_meta_path(disk_dir, name, path);
	if (!rc)
		rc = make_dirs(disk_dir);
	if (!rc)
		rc = make_file(disk_dir, path, name, storage, size);
	if (rc == -EEXIST)
		guest_error_set(err,
				"there is a disk %s already: take another "
				"name, or remove %s first",
				name, path);
	else if (rc)
		guest_error_set(err,
				"cannot make the file of disk %s in %s: %s; "
				"see that there is room and that colod may "
				"write there",
				name, disk_dir, strerror(-rc));
	return rc;
}

/* --- opening -------------------------------------------------------------- */

static int read_about(int fd, const char *name, struct meta_about *a)
{
	ssize_t n = pread(fd, a, sizeof(*a), 0);
	struct stat st;

	if (n < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (n != sizeof(*a) || memcmp(a->magic, MAGIC, sizeof(a->magic)) ||
	    a->version != FILE_VERSION || a->block_bytes != DISK_BLOCK_BYTES ||
	    a->sum != about_sum(a) || a->size == 0 || a->size > DISK_SIZE_MAX ||
	    strncmp(a->name, name, sizeof(a->name)) ||
	    strnlen(a->storage, sizeof(a->storage)) == sizeof(a->storage) ||
	    (uint64_t)st.st_size != file_bytes(a->size))
		return -EINVAL;
	return 0;
}

static int map_file(struct disk_meta *m, uint64_t size)
{
	m->bytes = file_bytes(size);
	m->map = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd,
		      0);
	if (m->map == MAP_FAILED) {
		m->map = NULL;
		return -errno;
	}
	m->about = (const struct meta_about *)m->map;
	m->slots = (union meta_slot *)(m->map + META_PAGE_BYTES);
	m->live = (struct meta_live *)(m->map + 2 * META_PAGE_BYTES);
	for (int i = 0; i < META_SETS; i++)
		m->marks[i] =
			(_Atomic uint64_t *)(m->map + 3 * META_PAGE_BYTES +
					     (size_t)i * set_bytes(size));
	m->blocks = blocks_of(size);
	m->words = (m->blocks + META_WORD_BITS - 1) / META_WORD_BITS;
	return meta_has_state(m) ? 0 : -EINVAL;
}

static int open_file(struct disk_meta *m, const char *disk_dir,
		     const char *name)
{
	char path[DISK_PATH_MAX];
	struct meta_about about;
	int err = disk_name_good(name) ? disk_meta_path(disk_dir, name, path)
				       : -ENOENT;

	if (err)
		return err;
	m->fd = open(path, O_RDWR | O_CLOEXEC);
	if (m->fd < 0)
		return -errno;
	err = read_about(m->fd, name, &about);
	return err ? err : map_file(m, about.size);
}

static void say_why(struct guest_error *err, const char *disk_dir,
		    const char *name, int rc)
{
	if (rc == -ENOENT)
		guest_error_set(err,
				"there is no disk %s in %s: make it with "
				"`colod disk create`",
				name, disk_dir);
	else if (rc == -EINVAL)
		guest_error_set(err,
				"the file %s/%s.disk is damaged: remove it, "
				"make the disk anew on the same storage, and "
				"synchronise it",
				disk_dir, name);
	else
		guest_error_set(err, "cannot open disk %s in %s: %s", name,
				disk_dir, strerror(-rc));
}

int disk_meta_open(const char *disk_dir, const char *name,
		   struct disk_meta **out, struct guest_error *err)
{
	struct disk_meta *m = memory_zeroed(sizeof(*m));
	int rc = -ENOMEM;

	if (m) {
		m->fd = -1;
		pthread_mutex_init(&m->mutex, NULL);
		meta_read_boot(m->boot);
		rc = open_file(m, disk_dir, name);
	}
	if (rc < 0) {
		say_why(err, disk_dir, name, rc);
		disk_meta_close(m);
		return rc;
	}
	*out = m;
	return 0;
}

/* A child that was forked meanwhile may have the descriptor, too. */
void disk_meta_close(struct disk_meta *m)
{
	if (!m)
		return;
	for (int i = 0; i < META_HOLDERS; i++)
		if (atomic_load(&m->held[i]))
			meta_lock(m, F_OFD_SETLK, i, F_UNLCK);
	if (m->map)
		munmap(m->map, m->bytes);
	cleanup_fd(&m->fd);
	pthread_mutex_destroy(&m->mutex);
	free(m);
}

const char *disk_meta_name(const struct disk_meta *m)
{
	return m->about->name;
}

const char *disk_meta_storage(const struct disk_meta *m)
{
	return m->about->storage;
}

uint64_t disk_meta_size(const struct disk_meta *m)
{
	return m->about->size;
}

uint64_t disk_meta_blocks(const struct disk_meta *m)
{
	return m->blocks;
}
