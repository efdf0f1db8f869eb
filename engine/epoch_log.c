/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "engine/epoch_log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"

enum {
	/* In flight, and acknowledged ones that the encoder is not done with.
	 */
	ENTRIES = 2 * WIRE_INFLIGHT_MAX,
	/* A pipe takes as much as this whole or not at all: pipe(7). */
	LINE_BYTES = 4096,
};

struct entry {
	bool used;
	struct epoch_id id;
	uint64_t started_us;
	unsigned int rounds;
	unsigned int encoding; /* rounds captured and not encoded */
	uint64_t dirty_pages;
	uint64_t sent_bytes;
	struct epoch_times sum;
	uint64_t resumed_us;
	uint64_t encoded_us;
	uint64_t sent_us; /* 0: not yet */
	bool over;
	uint64_t over_us;
	uint64_t applied;
};

struct epoch_log {
	int fd;
	char *path;
	bool warned;
	bool torn; /* the file ends in a part of a line */
	struct entry entries[ENTRIES];
};

/*
 * A FIFO is opened for reading too: so it needs no reader to be opened, and a
 * reader may go and come again.
 */
static int open_file(const char *path)
{
	const int flags = O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	struct stat st;
	int fd;

	if (!stat(path, &st) && S_ISFIFO(st.st_mode))
		fd = open(path, O_RDWR | flags);
	else
		fd = open(path, O_WRONLY | O_CREAT | flags, 0600);
	return fd < 0 ? -errno : fd;
}

int epoch_log_open(const char *path, struct epoch_log **out)
{
	AUTO_FD int fd = open_file(path);
	struct epoch_log *l;

	if (fd < 0)
		return fd;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->path = strdup(path);
	if (!l->path) {
		free(l);
		return -ENOMEM;
	}
	l->fd = TAKE_FD(fd);
	*out = l;
	return 0;
}

void epoch_log_close(struct epoch_log *l)
{
	if (!l)
		return;
	close(l->fd);
	free(l->path);
	free(l);
}

static struct entry *find(struct epoch_log *l, struct epoch_id id)
{
	size_t i;

	for (i = 0; l && i < ENTRIES; i++)
		if (l->entries[i].used &&
		    l->entries[i].id.number == id.number &&
		    l->entries[i].id.generation == id.generation)
			return &l->entries[i];
	return NULL;
}

static struct entry *find_open(struct epoch_log *l, uint64_t number)
{
	size_t i;

	for (i = 0; l && i < ENTRIES; i++)
		if (l->entries[i].used && !l->entries[i].over &&
		    l->entries[i].id.number == number)
			return &l->entries[i];
	return NULL;
}

/* --- a line -------------------------------------------------------------- */

static void lost(struct epoch_log *l, const char *why)
{
	if (!l->warned)
		log_warn("the epoch log %s does not take a line (%s): such "
			 "epochs will be missing in it",
			 l->path, why);
	l->warned = true;
}

/* `line` has room for a line feed on each side. */
static void write_line(struct epoch_log *l, char *line, size_t length)
{
	ssize_t n;

	line[length] = '\n';
	if (l->torn)
		*--line = '\n';
	length += 1 + l->torn;
	do
		n = write(l->fd, line, length);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		lost(l, strerror(errno));
		return;
	}
	l->torn = (size_t)n < length;
	if (l->torn)
		lost(l, strerror(ENOSPC));
}

/* What happened on another thread may have been seen a moment too late. */
static json_int_t since(uint64_t then_us, uint64_t now_us)
{
	return now_us > then_us ? (json_int_t)(now_us - then_us) : 0;
}

static json_t *times(const struct entry *r)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}",
			 "ahead_us", (json_int_t)r->sum.ahead_us, "suspend_us",
			 (json_int_t)r->sum.suspend_us, "scan_us",
			 (json_int_t)r->sum.scan_us, "copy_us",
			 (json_int_t)r->sum.copy_us, "state_us",
			 (json_int_t)r->sum.state_us, "resume_us",
			 (json_int_t)r->sum.resume_us, "devices_us",
			 (json_int_t)r->sum.devices_us, "reset_us",
			 (json_int_t)r->sum.reset_us, "channels_us",
			 (json_int_t)r->sum.channels_us, "paused_us",
			 (json_int_t)r->sum.paused_us, "encode_us",
			 (json_int_t)r->sum.encode_us, "send_us",
			 r->sent_us ? since(r->encoded_us, r->sent_us) : 0);
}

static void emit(struct epoch_log *l, const struct entry *r,
		 enum env_epoch_end end, const char *why)
{
	static const char *const words[] = { "acknowledged", "skipped",
					     "aborted" };
	char line[LINE_BYTES];
	json_t *o = json_pack("{s:I,s:s,s:I,s:i,s:I,s:I,s:I}", "epoch",
			      (json_int_t)r->id.number, "end", words[end],
			      "time_us", (json_int_t)r->started_us, "rounds",
			      (int)r->rounds, "dirty_pages",
			      (json_int_t)r->dirty_pages, "raw_bytes",
			      (json_int_t)(r->dirty_pages * WIRE_PAGE_BYTES),
			      "sent_bytes", (json_int_t)r->sent_bytes);
	size_t n;

	json_object_update_new(o, times(r));
	if (end == ENV_EPOCH_ACKNOWLEDGED) {
		json_object_set_new(
			o, "ack_us",
			json_integer(since(r->resumed_us, r->over_us)));
		json_object_set_new(
			o, "commit_us",
			json_integer(since(r->started_us, r->over_us)));
		json_object_set_new(o, "applied",
				    json_integer((json_int_t)r->applied));
	} else {
		json_object_set_new(o, "why", json_string(why ? why : ""));
	}
	n = json_dumpb(o, line + 1, sizeof(line) - 2,
		       JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(o);
	if (n && n <= sizeof(line) - 2)
		write_line(l, line + 1, n);
	else
		lost(l, strerror(n ? EMSGSIZE : ENOMEM));
}

/* --- an epoch's way ------------------------------------------------------ */

void epoch_log_begin(struct epoch_log *l, struct epoch_id id,
		     uint64_t started_us)
{
	size_t i;

	if (!l || find(l, id))
		return;
	for (i = 0; i < ENTRIES; i++)
		if (!l->entries[i].used) {
			l->entries[i] = (struct entry){
				.used = true,
				.id = id,
				.started_us = started_us,
			};
			return;
		}
	lost(l, strerror(ENOBUFS));
}

void epoch_log_captured(struct epoch_log *l, struct epoch_id id,
			const struct epoch *e, uint64_t resumed_us)
{
	struct entry *r = find(l, id);
	const struct epoch_times *t = &e->times;

	if (!r)
		return;
	r->rounds++;
	r->encoding++;
	r->dirty_pages += e->page_count - e->again_count;
	r->sum.ahead_us += t->ahead_us;
	r->sum.suspend_us += t->suspend_us;
	r->sum.scan_us += t->scan_us;
	r->sum.copy_us += t->copy_us;
	r->sum.state_us += t->state_us;
	r->sum.resume_us += t->resume_us;
	r->sum.devices_us += t->devices_us;
	r->sum.reset_us += t->reset_us;
	r->sum.channels_us += t->channels_us;
	r->sum.paused_us += t->paused_us;
	r->resumed_us = resumed_us;
}

static void finish(struct epoch_log *l, struct entry *r)
{
	emit(l, r, ENV_EPOCH_ACKNOWLEDGED, NULL);
	r->used = false;
}

void epoch_log_encoded(struct epoch_log *l, struct epoch_id id,
		       const struct epoch *e, uint64_t bytes, uint64_t done_us)
{
	struct entry *r = find(l, id);

	if (!r)
		return;
	r->encoding--;
	r->sum.encode_us += e->times.encode_us;
	r->sent_bytes += bytes;
	r->encoded_us = done_us;
	if (r->over && !r->encoding)
		finish(l, r);
}

void epoch_log_sent(struct epoch_log *l, struct epoch_id id, uint64_t at_us)
{
	struct entry *r = find(l, id);

	if (r)
		r->sent_us = at_us;
}

void epoch_log_over(struct epoch_log *l, uint64_t number,
		    enum env_epoch_end end, const char *why, uint64_t applied,
		    uint64_t at_us)
{
	struct entry *r = find_open(l, number);

	if (!r)
		return;
	r->over_us = at_us;
	r->applied = applied;
	if (end != ENV_EPOCH_ACKNOWLEDGED) {
		emit(l, r, end, why);
		r->used = false;
	} else if (r->encoding) {
		r->over = true;
	} else {
		finish(l, r);
	}
}
