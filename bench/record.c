/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The happy path of a look:
 *   - SIGSTOP, and all of the program's threads stand still;
 *   - its writable private memory that belongs to no file, as /proc/PID/maps
 *     and pagemap have it, is copied (process_vm_readv);
 *   - SIGCONT, and only then is it compared with the copy of the look before.
 * Nothing is asked of the program, and no tracker of the kernel is needed; a
 * page that is written with what it had before is not seen.
 *
 * A page that has appeared was zero before, and one that has gone is zero now:
 * so each entry begins where the one before of the same page ended.  In which
 * order the pages of an interval were written cannot be known: it is a random
 * one, always the same, since programs do not write in the order of addresses.
 *
 * What changes between two looks is recorded as a whole or, where there is no
 * room for it, not at all: then the recording is over.
 *
 * Failure modes: the program ends or does not stop; it has more memory than is
 * looked at, or writes too much between the first two looks; its memory may not
 * be read (ptrace(2), "Ptrace access mode"); the file cannot be written.
 */
#include "config.h"

#include "bench/record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum { STOP_US = 10 * 1000 * 1000, LOOK_US = 500, SEED = 7475 };

/* What is larger is address space, kept for something, and not memory. */
#define MAPPING_MAX (UINT64_C(64) << 30)

/* Address space alone, until something is written there. */
#define SNAPSHOT_BYTES ((size_t)RECORD_PAGES_MAX * WIRE_PAGE_BYTES)

struct snapshot {
	uint64_t *address; /* of its pages, ascending */
	uint8_t *pages;
	size_t count;
};

struct change {
	uint64_t address;
	const uint8_t *before, *after;
};

struct recorder {
	int fd;
	char path[BENCH_PATH_BYTES];
	struct snapshot at[2];
	unsigned int last; /* the one of the last look; the other has room */
	unsigned int looks;
	unsigned int seed;
	bool full;
	size_t entries, words;
	/* Of each entry: its page, and where its change begins. */
	uint64_t address[RECORD_ENTRIES_MAX];
	uint32_t change_at[RECORD_ENTRIES_MAX];
	uint64_t change[RECORD_WORDS_MAX];
};

static const uint8_t zero[WIRE_PAGE_BYTES];

/* --- one look ------------------------------------------------------------- */

static int stop(struct bench_process *p)
{
	uint64_t until = clock_now_us() + STOP_US;
	siginfo_t s;

	if (kill(p->pid, SIGSTOP))
		return -errno;
	while (clock_now_us() < until) {
		s.si_pid = 0;
		if (waitid(P_PID, (id_t)p->pid, &s, WSTOPPED | WNOHANG) == 0 &&
		    s.si_pid)
			return 0;
		if (bench_ended(p))
			return -ESRCH;
		clock_sleep_us(LOOK_US);
	}
	return -ETIMEDOUT;
}

static int read_range(struct snapshot *s, pid_t pid, uint64_t from, uint64_t to)
{
	size_t bytes = to - from;
	struct iovec here = { s->pages + s->count * WIRE_PAGE_BYTES, bytes };
	struct iovec there = { (void *)(uintptr_t)from, bytes };
	ssize_t n;

	if (s->count + bytes / WIRE_PAGE_BYTES > RECORD_PAGES_MAX)
		return -EFBIG;
	for (; from < to; from += WIRE_PAGE_BYTES)
		s->address[s->count++] = from;
	while (here.iov_len) {
		n = process_vm_readv(pid, &here, 1, &there, 1, 0);
		if (n <= 0)
			return n ? -errno : -EIO;
		here.iov_base = (char *)here.iov_base + n;
		there.iov_base = (char *)there.iov_base + n;
		here.iov_len -= (size_t)n;
		there.iov_len -= (size_t)n;
	}
	return 0;
}

/* Bits of an entry of /proc/PID/pagemap (the kernel's admin-guide/mm). */
#define IS_THERE (UINT64_C(3) << 62) /* in memory, or swapped out */

/* Those of the pages that the program has touched; all others are zero. */
static int read_mapping(struct snapshot *s, pid_t pid, int pagemap,
			uint64_t from, uint64_t to)
{
	uint64_t is[512], first = 0, at;
	size_t n, i;
	int err = 0;

	for (at = from; at < to && !err; at += n * WIRE_PAGE_BYTES) {
		n = (to - at) / WIRE_PAGE_BYTES;
		n = n < 512 ? n : 512;
		if (pread(pagemap, is, n * 8,
			  (off_t)(at / WIRE_PAGE_BYTES * 8)) != (ssize_t)n * 8)
			return -EIO;
		for (i = 0; i < n && !err; i++) {
			uint64_t here = at + i * WIRE_PAGE_BYTES;

			if (is[i] & IS_THERE) {
				first = first ? first : here;
			} else if (first) {
				err = read_range(s, pid, first, here);
				first = 0;
			}
		}
	}
	return !err && first ? read_range(s, pid, first, to) : err;
}

static int read_memory(struct snapshot *s, pid_t pid)
{
	char path[64], line[512], mode[5];
	uint64_t from, to, inode;
	AUTO_FD int pagemap = -1;
	int err = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	if (!maps || pagemap < 0)
		err = -errno;
	s->count = 0;
	while (!err && fgets(line, sizeof(line), maps))
		if (sscanf(line,
			   "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64,
			   &from, &to, mode, &inode) == 4 &&
		    !strcmp(mode, "rw-p") && !inode && to - from <= MAPPING_MAX)
			err = read_mapping(s, pid, pagemap, from, to);
	if (maps)
		fclose(maps);
	return err;
}

static int say_look(struct bench_process *p, int err)
{
	if (err == -EFBIG)
		bench_error("process %d has more than %d MiB of memory, too "
			    "much to record it",
			    (int)p->pid, RECORD_PAGES_MAX / 256);
	else if (err)
		bench_error("the memory of process %d cannot be recorded: %s",
			    (int)p->pid, strerror(-err));
	return err;
}

/* --- what has changed ----------------------------------------------------- */

static void note(struct change *all, size_t *count, uint64_t address,
		 const uint8_t *before, const uint8_t *after)
{
	if (memcmp(before, after, WIRE_PAGE_BYTES))
		all[(*count)++] = (struct change){ address, before, after };
}

/* Both in the order of addresses.  Returns how many, of at most all pages. */
static size_t compare(const struct snapshot *was, const struct snapshot *is,
		      struct change *all)
{
	size_t i = 0, k = 0, count = 0;

	while (i < was->count || k < is->count) {
		bool old = i < was->count, new = k < is->count;
		const uint8_t *before = zero, *after = zero;
		uint64_t address;

		if (old && new && was->address[i] != is->address[k]) {
			old = was->address[i] < is->address[k];
			new = !old;
		}
		address = old ? was->address[i] : is->address[k];
		if (old)
			before = was->pages + i++ * WIRE_PAGE_BYTES;
		if (new)
			after = is->pages + k++ * WIRE_PAGE_BYTES;
		note(all, &count, address, before, after);
	}
	return count;
}

/* Fisher and Yates, of which only the beginning is needed. */
static void shuffle(struct recorder *r, struct change *all, size_t count)
{
	size_t i, k;

	for (i = 0; i + 1 < count; i++) {
		struct change first = all[i];

		k = i + (size_t)rand_r(&r->seed) % (count - i);
		all[i] = all[k];
		all[k] = first;
	}
}

/* As words of the trace; returns how many, at most all and the mask. */
static size_t put_change(uint64_t *to, const struct change *c)
{
	uint64_t before[TRACE_PAGE_WORDS], after[TRACE_PAGE_WORDS];
	size_t n = TRACE_MASK, i;

	memcpy(before, c->before, sizeof(before));
	memcpy(after, c->after, sizeof(after));
	memset(to, 0, TRACE_MASK * sizeof(*to));
	for (i = 0; i < TRACE_PAGE_WORDS; i++) {
		if (before[i] == after[i])
			continue;
		to[i / 64] |= UINT64_C(1) << i % 64;
		to[n++] = before[i] ^ after[i];
	}
	return n;
}

/* All of them, or none. */
static void put_changes(struct recorder *r, const struct change *all,
			size_t count)
{
	size_t entries = r->entries, words = r->words, i;

	for (i = 0; i < count && !r->full; i++) {
		if (entries == RECORD_ENTRIES_MAX ||
		    RECORD_WORDS_MAX - words < TRACE_MASK + TRACE_PAGE_WORDS) {
			r->full = true;
			return;
		}
		r->address[entries] = all[i].address;
		r->change_at[entries++] = (uint32_t)words;
		words += put_change(r->change + words, &all[i]);
	}
	r->entries = entries;
	r->words = words;
}

int recorder_look(struct recorder *r, struct bench_process *p)
{
	const struct snapshot *was = &r->at[r->last];
	struct snapshot *is = &r->at[!r->last];
	AUTO_FREE struct change *all = NULL;
	size_t count;
	int err = stop(p);

	if (!err)
		err = read_memory(is, p->pid);
	kill(p->pid, SIGCONT);
	if (err)
		return say_look(p, err);
	if (r->looks++) {
		all = calloc(was->count + is->count + 1, sizeof(*all));
		if (!all)
			return -ENOMEM;
		count = compare(was, is, all);
		shuffle(r, all, count);
		put_changes(r, all, count);
	}
	if (!r->full)
		r->last = !r->last;
	return 0;
}

bool recorder_full(const struct recorder *r)
{
	return r->full;
}

/* --- the file ------------------------------------------------------------- */

static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The addresses that there are, once each; returns how many. */
static uint32_t live_addresses(const struct recorder *r, uint64_t *live)
{
	uint32_t count = 0;
	size_t i;

	memcpy(live, r->address, r->entries * sizeof(*live));
	qsort(live, r->entries, sizeof(*live), by_address);
	for (i = 0; i < r->entries; i++)
		if (!count || live[count - 1] != live[i])
			live[count++] = live[i];
	return count;
}

static uint32_t place_of(const uint64_t *sorted, size_t count, uint64_t address)
{
	const uint64_t *at =
		bsearch(&address, sorted, count, sizeof(*sorted), by_address);

	return at ? (uint32_t)(at - sorted) : UINT32_MAX;
}

static int write_all(struct recorder *r, const void *bytes, size_t length,
		     uint64_t at)
{
	const char *from = bytes;
	ssize_t n;

	while (length) {
		n = pwrite(r->fd, from, length, (off_t)at);
		if (n <= 0) {
			n = n ? -errno : -EIO;
			bench_error("cannot write %s: %s", r->path,
				    strerror((int)-n));
			return (int)n;
		}
		from += n;
		at += (uint64_t)n;
		length -= (size_t)n;
	}
	return 0;
}

static int write_table(struct recorder *r, const struct trace_header *h,
		       const uint64_t *live)
{
	AUTO_FREE struct trace_entry *table =
		calloc(h->entries, sizeof(*table));
	size_t i;

	if (!table)
		return -ENOMEM;
	for (i = 0; i < h->entries; i++)
		table[i] = (struct trace_entry){
			.live = place_of(live, h->live, r->address[i]),
			.at = r->change_at[i],
		};
	return write_all(r, table, h->entries * sizeof(*table),
			 trace_table_at());
}

/*
 * The live pages as they were at first: as they are now, and all changes taken
 * back.  A page that is no more is zero now.
 */
static int write_pages(struct recorder *r, const struct trace_header *h,
		       const uint64_t *live)
{
	const struct snapshot *now = &r->at[r->last];
	AUTO_FREE uint8_t *pages = calloc(h->live, WIRE_PAGE_BYTES);
	uint32_t at;
	size_t i;

	if (!pages)
		return -ENOMEM;
	for (i = 0; i < h->live; i++) {
		at = place_of(now->address, now->count, live[i]);
		if (at != UINT32_MAX)
			memcpy(pages + i * WIRE_PAGE_BYTES,
			       now->pages + (size_t)at * WIRE_PAGE_BYTES,
			       WIRE_PAGE_BYTES);
	}
	for (i = 0; i < h->entries; i++) {
		at = place_of(live, h->live, r->address[i]);
		trace_apply(r->change + r->change_at[i],
			    (uint64_t *)(void *)(pages +
						 (size_t)at * WIRE_PAGE_BYTES));
	}
	return write_all(r, pages, (size_t)h->live * WIRE_PAGE_BYTES,
			 trace_pages_at(h));
}

int recorder_finish(struct recorder *r, struct trace_header *h)
{
	AUTO_FREE uint64_t *live = calloc(r->entries + 1, sizeof(*live));
	int err;

	if (!live)
		return -ENOMEM;
	if (!r->entries) {
		bench_error("%s: the program wrote %s", r->path,
			    r->full ? "too much to be recorded" : "nothing");
		return -ENODATA;
	}
	*h = (struct trace_header){
		.magic = TRACE_MAGIC,
		.version = TRACE_VERSION,
		.page_bytes = WIRE_PAGE_BYTES,
		.live = live_addresses(r, live),
		.entries = (uint32_t)r->entries,
		.words = (uint32_t)r->words,
	};
	err = write_table(r, h, live);
	if (!err)
		err = write_all(r, r->change, r->words * sizeof(*r->change),
				trace_changes_at(h));
	if (!err)
		err = write_pages(r, h, live);
	/* Last: a file without it is no trace. */
	return err ? err : write_all(r, h, sizeof(*h), 0);
}

static int make_snapshot(struct snapshot *s)
{
	s->pages = mmap(NULL, SNAPSHOT_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->pages == MAP_FAILED)
		s->pages = NULL;
	s->address = calloc(RECORD_PAGES_MAX, sizeof(*s->address));
	return s->pages && s->address ? 0 : -ENOMEM;
}

int recorder_open(const char *path, struct recorder **out)
{
	struct recorder *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->seed = SEED;
	snprintf(r->path, sizeof(r->path), "%s", path);
	r->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	err = r->fd < 0 ? -errno : 0;
	if (err)
		bench_error("cannot write %s: %s", path, strerror(-err));
	if (!err)
		err = make_snapshot(&r->at[0]);
	if (!err)
		err = make_snapshot(&r->at[1]);
	if (err)
		recorder_close(r);
	else
		*out = r;
	return err;
}

void recorder_close(struct recorder *r)
{
	int i;

	if (!r)
		return;
	for (i = 0; i < 2; i++) {
		if (r->at[i].pages)
			munmap(r->at[i].pages, SNAPSHOT_BYTES);
		free(r->at[i].address);
	}
	if (r->fd >= 0)
		close(r->fd);
	free(r);
}
