/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/account/client.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/account/words.h"

enum { RETRY_US = 3000, ACCOUNTS = 4096 };

static uint64_t next_random(uint64_t *state)
{
	/* xorshift64*: Marsaglia, "Xorshift RNGs", and Vigna. */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

void client_init(struct client *c, struct clients *all, uint32_t id)
{
	memset(c, 0, sizeof(*c));
	c->all = all;
	c->id = id;
	c->fd = -1;
}

static uint64_t made(const struct client *c)
{
	return record_history(c->all->record, c->id)->made;
}

uint64_t client_open_payments(const struct client *c)
{
	return c->state == CLIENT_REFUSED ? 0 : made(c) - c->settled;
}

bool client_has_room(const struct client *c)
{
	return c->state == CLIENT_UP &&
	       client_open_payments(c) < c->all->pipeline;
}

static void ends(struct client *c, enum client_state state, uint64_t now_us)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->state = state;
	c->retry_at_us = now_us + RETRY_US;
}

void client_close(struct client *c, uint64_t now_us)
{
	ends(c, CLIENT_DOWN, now_us);
}

/* --- sending ------------------------------------------------------------- */

static void flush(struct client *c, uint64_t now_us)
{
	ssize_t n;

	if (!c->out_len)
		return;
	n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			ends(c, CLIENT_DOWN, now_us);
		return;
	}
	c->out_len -= (size_t)n;
	memmove(c->out, c->out + n, c->out_len);
}

static void put(struct client *c, uint64_t seq)
{
	const struct payment *p = record_find(c->all->record, c->id, seq);
	size_t room = sizeof(c->out) - c->out_len;
	int n = snprintf(c->out + c->out_len, room,
			 "PAY %" PRIu32 " %" PRIu64 " %" PRIu32 " %" PRIu32
			 " %" PRId64 "\n",
			 c->id, seq, p->from, p->to, p->amount);

	/* At most `pipeline` lines wait, and there is room for as many. */
	if (n < 0 || (size_t)n >= room)
		abort();
	c->out_len += (size_t)n;
}

void client_pay(struct client *c, uint64_t now_us)
{
	uint64_t r = next_random(&c->all->random);
	struct payment p = {
		.from = (uint32_t)(r % ACCOUNTS),
		.to = (uint32_t)(r / ACCOUNTS % ACCOUNTS),
		.amount = (int64_t)(r >> 40) - (1 << 20),
	};

	if (!client_open_payments(c))
		c->heard_us = now_us;
	put(c, record_make(c->all->record, c->id, &p));
	flush(c, now_us);
}

static void is_up(struct client *c, uint64_t now_us)
{
	uint64_t seq;

	c->state = CLIENT_UP;
	c->heard_us = now_us;
	c->in_len = 0;
	c->out_len = 0;
	c->answered = c->settled;
	c->all->connections++;
	for (seq = c->settled + 1; seq <= made(c); seq++)
		put(c, seq);
	flush(c, now_us);
}

static void connects(struct client *c, uint64_t now_us)
{
	const struct sockaddr_in *to = &c->all->ledger;
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		ends(c, CLIENT_DOWN, now_us);
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->heard_us = now_us;
	if (!connect(c->fd, (const struct sockaddr *)to, sizeof(*to)))
		is_up(c, now_us);
	else if (errno == EINPROGRESS)
		c->state = CLIENT_CONNECTING;
	else
		ends(c, CLIENT_DOWN, now_us);
}

static void connected(struct client *c, uint64_t now_us)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) || err)
		ends(c, CLIENT_DOWN, now_us);
	else
		is_up(c, now_us);
}

/* --- answers ------------------------------------------------------------- */

static void ok(struct client *c, uint64_t seq, uint64_t index, uint64_t hash,
	       uint64_t now_us)
{
	struct payment *p = record_find(c->all->record, c->id, seq);

	p->index = index;
	p->hash = hash;
	c->all->record->acknowledged++;
	/* Those that were refused on the way are in the chain before it. */
	c->settled = c->answered = seq;
	c->heard_us = now_us;
	outages_end(&c->all->outages, now_us);
	if (c->all->file)
		fprintf(c->all->file,
			"%" PRIu32 " %" PRIu64 " %" PRIu64 " %016" PRIx64 "\n",
			c->id, seq, index, hash);
}

static void no(struct client *c, uint64_t seq, const char *reason,
	       uint64_t now_us)
{
	c->answered = seq;
	if (seq < made(c))
		return;
	fprintf(stderr,
		"client %" PRIu32 ": payment %" PRIu64 " and all before it "
		"back to %" PRIu64 " were refused: %s\n",
		c->id, seq, c->settled + 1, reason);
	c->all->refused++;
	ends(c, CLIENT_REFUSED, now_us);
}

/* False: not an answer to what this connection was sent. */
static bool take_answer(struct client *c, char *line, uint64_t now_us)
{
	struct words w = { .rest = line };
	const char *word = words_next(&w);
	bool is_ok = !strcmp(word, "OK");
	uint32_t id;
	uint64_t seq, index, hash;

	if (!is_ok && strcmp(word, "NO"))
		return false;
	id = (uint32_t)words_number(&w, 10, UINT32_MAX);
	seq = words_number(&w, 10, UINT64_MAX);
	if (w.bad || id != c->id || seq != c->answered + 1 || seq > made(c))
		return false;
	if (!is_ok) {
		no(c, seq, w.rest, now_us);
		return true;
	}
	index = words_number(&w, 10, UINT64_MAX);
	hash = words_number(&w, 16, UINT64_MAX);
	if (!words_good(&w) || !index)
		return false;
	ok(c, seq, index, hash, now_us);
	return true;
}

static void take_lines(struct client *c, uint64_t now_us)
{
	char *line = c->in, *end = c->in + c->in_len, *lf;

	while (c->fd >= 0 && (lf = memchr(line, '\n', (size_t)(end - line)))) {
		*lf = '\0';
		if (!take_answer(c, line, now_us)) {
			fprintf(stderr, "client %" PRIu32 ": not an answer\n",
				c->id);
			c->all->nonsense++;
			ends(c, CLIENT_DOWN, now_us);
			return;
		}
		line = lf + 1;
	}
	c->in_len = (size_t)(end - line);
	memmove(c->in, line, c->in_len);
}

static void receive(struct client *c, uint64_t now_us)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len,
			 MSG_DONTWAIT);

	if (n > 0) {
		c->in_len += (size_t)n;
		take_lines(c, now_us);
	} else if (!n || (errno != EAGAIN && errno != EINTR)) {
		/* Also a line that fills the buffer and does not end. */
		ends(c, CLIENT_DOWN, now_us);
	}
}

/* --- from the loop ------------------------------------------------------- */

short client_wants(const struct client *c)
{
	if (c->state == CLIENT_CONNECTING)
		return POLLOUT;
	return c->out_len ? POLLIN | POLLOUT : POLLIN;
}

void client_ready(struct client *c, short revents, uint64_t now_us)
{
	if (!revents)
		return;
	if (c->state == CLIENT_CONNECTING) {
		connected(c, now_us);
		return;
	}
	if (revents & (POLLIN | POLLHUP | POLLERR))
		receive(c, now_us);
	if (c->fd >= 0 && (revents & POLLOUT))
		flush(c, now_us);
}

void client_tick(struct client *c, uint64_t now_us)
{
	bool waits = c->state == CLIENT_CONNECTING ||
		     (c->state == CLIENT_UP && client_open_payments(c));

	if (waits && now_us - c->heard_us > c->all->patience_us)
		ends(c, CLIENT_DOWN, now_us);
	if (c->state == CLIENT_DOWN && now_us >= c->retry_at_us)
		connects(c, now_us);
}
