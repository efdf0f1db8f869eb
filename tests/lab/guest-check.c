/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's own witness, run inside the protected guest.
 *
 *	guest-check MIB PAGES_PER_SECOND TURN_US [BLOCK_DEVICE]
 *
 * Fills MIB of memory with pages that prove themselves, rewrites them at the
 * given rate, verifies them all again and again, turn by turn, and prints a
 * line every 25 turns, or as many as $check_report says.  A page carries its
 * own number, the version of its last write and of each of its eight parts;
 * every other word follows from these.  A table elsewhere knows the last version
 * of each page and a third place the sum of that table: a page that is stale,
 * torn, or of another page does not match, and neither does a set of pages that
 * went stale together with the table.
 *
 * Pauses are gaps between two turns of the loop longer than two and a half
 * turns, each printed once.  Time is CLOCK_BOOTTIME: the one monotonic clock of
 * Linux that goes on while the guest is suspended, and across a failover, where
 * the guest reads the new host's wall clock.  What it gains over
 * CLOCK_MONOTONIC is the time the virtual CPU stood still; each such jump is
 * counted as a suspend.
 *
 * A child process writes a block to the disk four times a second and reads it
 * back past the cache.  A line "poweroff", "reboot" or "crash" on standard
 * input does that; "run COMMAND" runs a command by the shell in a process of
 * its own, while the checks go on, and prints its output line by line as "run:
 * LINE" and last "run: ended with status N".  free_kb is the guest's free
 * memory.  Nothing here depends on the host; one thread a process.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	WORDS = PAGE / 8,
	PARTS = 8,
	HEADER = 16,
	PART_WORDS = (WORDS - HEADER) / PARTS,
	VERIFY_PER_TURN = 24,
	REPORT_TURNS = 25,
	GAPS_KEPT = 255,
	GAPS_A_LINE = 16,
	LINE = 1024,
	/* A suspend stops the clock for longer than two readings take. */
	STOPPED_US = 1000,
	READINGS = 8,
};

struct page {
	uint64_t number;
	uint64_t version;
	uint64_t part_version[PARTS];
	uint64_t header_sum;
	uint64_t unused[HEADER - PARTS - 3];
	uint64_t word[PARTS][PART_WORDS];
};
_Static_assert(sizeof(struct page) == PAGE, "a page is a page");

struct disk_count {
	uint64_t writes, errors;
};

struct check {
	struct page *pages;
	uint64_t *last_version;
	uint64_t count;	      /* pages in all */
	uint64_t version_sum; /* of last_version[] */
	uint64_t version;     /* of the newest write: the guest's counter */
	uint64_t next_verify;
	uint64_t pass_sum;
	uint64_t verified, passes, errors;
	uint64_t random;
	struct disk_count *disk;
};

struct pauses {
	uint64_t least_us; /* what is less is no pause */
	uint64_t last_us;
	int64_t last_stopped_us;
	uint64_t total, worst_us;
	uint64_t suspends;
	int64_t stopped_us;
	uint32_t kept_us[GAPS_KEPT];
	uint32_t line_us[GAPS_A_LINE];
	unsigned line_count;
};

static uint64_t clock_us(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9u;
	return x ^ x >> 32;
}

static uint64_t header_sum(const struct page *p)
{
	uint64_t sum = mix(p->number ^ 0x636f6c6f64ull) + p->version;

	for (unsigned i = 0; i < PARTS; i++)
		sum = mix(sum ^ p->part_version[i]);
	return sum;
}

static void write_part(struct page *p, unsigned part, uint64_t version)
{
	uint64_t seed = mix(version << 20 ^ p->number << 3 ^ part);

	p->part_version[part] = version;
	for (unsigned i = 0; i < PART_WORDS; i++)
		p->word[part][i] = seed += 0x9e3779b97f4a7c15u;
}

static bool part_holds(const struct page *p, unsigned part)
{
	uint64_t seed =
		mix(p->part_version[part] << 20 ^ p->number << 3 ^ part);
	uint64_t wrong = 0;

	for (unsigned i = 0; i < PART_WORDS; i++)
		wrong |= p->word[part][i] ^ (seed += 0x9e3779b97f4a7c15u);
	return wrong == 0;
}

static void rewrite(struct check *c, uint64_t number, bool all)
{
	struct page *p = &c->pages[number];
	uint64_t version = ++c->version;

	p->number = number;
	p->version = version;
	for (unsigned part = 0; part < PARTS; part++)
		if (all || part == version % PARTS)
			write_part(p, part, version);
	p->header_sum = header_sum(p);
	c->version_sum += version - c->last_version[number];
	c->last_version[number] = version;
}

static const char *fault_of(const struct check *c, uint64_t number)
{
	const struct page *p = &c->pages[number];

	if (p->number != number)
		return "another page's content";
	if (p->version != c->last_version[number])
		return "stale";
	if (p->header_sum != header_sum(p))
		return "torn header";
	for (unsigned part = 0; part < PARTS; part++)
		if (!part_holds(p, part))
			return "torn";
	return NULL;
}

static void fault(struct check *c, uint64_t number, const char *what)
{
	/* One line is a verdict; thousands would hide it. */
	if (c->errors++ < 8)
		printf("check ERROR page=%lu %s\n", number, what);
}

static void verify_some(struct check *c)
{
	for (unsigned i = 0; i < VERIFY_PER_TURN; i++) {
		const char *what = fault_of(c, c->next_verify);

		if (what)
			fault(c, c->next_verify, what);
		c->verified++;
		if (++c->next_verify < c->count)
			continue;
		c->next_verify = 0;
		c->passes++;
		c->pass_sum = 0;
		for (uint64_t n = 0; n < c->count; n++)
			c->pass_sum += c->last_version[n];
		if (c->pass_sum != c->version_sum)
			fault(c, c->count, "table of versions went stale");
	}
}

static void write_some(struct check *c, uint64_t pages)
{
	while (pages--) {
		c->random = mix(c->random + 0x9e3779b97f4a7c15u);
		rewrite(c, c->random % c->count, false);
	}
}

/*
 * How far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, and the former itself.
 * Where no moment is undisturbed, as on a busy host, what was known before: a
 * suspend is still seen at the next one that is.
 */
static int64_t stopped_us(int64_t known_us, uint64_t *now_us)
{
	uint64_t before, after;
	int readings = 0;

	do { /* both clocks in one undisturbed moment */
		before = clock_us(CLOCK_MONOTONIC);
		*now_us = clock_us(CLOCK_BOOTTIME);
		after = clock_us(CLOCK_MONOTONIC);
	} while (after - before > STOPPED_US / 2 && ++readings < READINGS);
	return after - before > STOPPED_US / 2 ? known_us
					       : (int64_t)(*now_us - before);
}

static uint64_t note_pause(struct pauses *p)
{
	uint64_t now;
	int64_t stopped = stopped_us(p->last_stopped_us, &now);
	uint64_t gap = now - p->last_us;

	if (stopped > p->last_stopped_us + STOPPED_US) {
		p->suspends++;
		p->stopped_us = stopped - p->last_stopped_us;
	}
	if (gap > p->least_us) {
		p->kept_us[p->total++ % GAPS_KEPT] = (uint32_t)gap;
		if (gap > p->worst_us)
			p->worst_us = gap;
		if (p->line_count < GAPS_A_LINE)
			p->line_us[p->line_count++] = (uint32_t)gap;
	}
	p->last_us = now;
	p->last_stopped_us = stopped;
	return gap;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t median_us(const struct pauses *p)
{
	uint32_t sorted[GAPS_KEPT];
	size_t n = p->total < GAPS_KEPT ? p->total : GAPS_KEPT;

	if (n == 0)
		return 0;
	memcpy(sorted, p->kept_us, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_size);
	return sorted[n / 2];
}

/* MemFree of /proc/meminfo: without caches, so that what is lost shows. */
static long free_kb(void)
{
	static int fd = -1;
	char text[256];
	const char *at;
	ssize_t n;

	if (fd < 0)
		fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	n = pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	at = strstr(text, "MemFree:");
	return at ? strtol(at + strlen("MemFree:"), NULL, 10) : -1;
}

static void report(const struct check *c, struct pauses *p)
{
	static uint64_t line;

	printf("check line=%lu count=%lu up_us=%lu verified=%lu passes=%lu "
	       "errors=%lu gaps=%lu median_us=%u worst_us=%lu suspends=%lu "
	       "stopped_us=%ld disk=%lu disk_errors=%lu free_kb=%ld gaps_us=",
	       ++line, c->version, p->last_us, c->verified, c->passes,
	       c->errors, p->total, median_us(p), p->worst_us, p->suspends,
	       p->stopped_us, c->disk->writes, c->disk->errors, free_kb());
	for (unsigned i = 0; i < p->line_count; i++)
		printf("%s%u", i ? "," : "", p->line_us[i]);
	printf("\n");
	p->line_count = 0;
}

/* In a process of its own; each line goes out whole, among the reports. */
static void run(const char *command)
{
	char line[LINE + 32];
	FILE *out;

	if (fork() != 0)
		return;
	snprintf(line, sizeof(line), "exec </dev/null 2>&1; %s", command);
	out = popen(line, "r");
	while (out && fgets(line, sizeof(line), out)) {
		line[strcspn(line, "\r\n")] = '\0';
		printf("run: %s\n", line);
	}
	printf("run: ended with status %d\n",
	       out ? WEXITSTATUS(pclose(out)) : -1);
	fflush(stdout);
	_exit(0);
}

static void obey_line(char *line)
{
	if (strncmp(line, "run ", 4) == 0)
		run(line + 4);
	else if (strstr(line, "poweroff"))
		execl("/sbin/poweroff", "poweroff", (char *)NULL);
	else if (strstr(line, "reboot"))
		execl("/sbin/reboot", "reboot", (char *)NULL);
	else if (strstr(line, "crash"))
		execl("/sbin/crash", "crash", (char *)NULL);
}

/* The console hands lines over one by one. */
static void obey(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char line[LINE];
	ssize_t n;

	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	if (poll(&in, 1, 0) != 1 || !(in.revents & POLLIN))
		return;
	n = read(STDIN_FILENO, line, sizeof(line) - 1);
	if (n <= 0)
		return;
	line[n] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	obey_line(line);
}

/* A block that was just written must read back, from the disk itself. */
static void disk_turn(int fd, uint64_t *block, struct disk_count *count)
{
	uint64_t number = count->writes + 1;
	off_t at = (off_t)(number % 64) * PAGE;

	/* A failover between write and read changes the disk: once more. */
	for (int attempt = 0; attempt < 2; attempt++) {
		for (unsigned i = 0; i < WORDS; i++)
			block[i] = mix(number + i);
		if (pwrite(fd, block, PAGE, at) != PAGE)
			continue;
		memset(block, 0, PAGE);
		if (pread(fd, block, PAGE, at) != PAGE)
			continue;
		uint64_t wrong = 0;
		for (unsigned i = 0; i < WORDS; i++)
			wrong |= block[i] ^ mix(number + i);
		if (wrong == 0) {
			count->writes = number;
			return;
		}
	}
	count->errors++;
}

static void disk_loop(const char *path, struct disk_count *count)
{
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint64_t *block = aligned_alloc(PAGE, PAGE);

	if (fd < 0 || !block) {
		perror(path);
		_exit(1);
	}
	for (;;) {
		disk_turn(fd, block, count);
		usleep(250000);
	}
}

static void *memory(size_t bytes, int kind)
{
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       kind | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (m == MAP_FAILED) {
		perror("guest-check: memory");
		exit(1);
	}
	return m;
}

/*
 * Each sleep costs the emulated host a millisecond or more.  A turn itself
 * takes 18 ms there now and then, where it should take 8.
 */
static void loop(struct check *c, uint64_t rate, uint64_t turn_us)
{
	struct pauses p = { .least_us = turn_us * 5 / 2 };
	const char *report_turns = getenv("check_report");
	uint64_t line_us =
		turn_us * (report_turns ? strtoull(report_turns, NULL, 10)
					: REPORT_TURNS);
	uint64_t owed_us = 0, reported_us = 0;

	p.last_stopped_us = stopped_us(0, &p.last_us);
	for (;;) {
		uint64_t gap = note_pause(&p);

		/* What a pause kept from being written is not made up for. */
		owed_us += gap < p.least_us ? gap : p.least_us;
		write_some(c, owed_us * rate / 1000000);
		owed_us -= owed_us * rate / 1000000 * 1000000 / rate;
		verify_some(c);
		obey();
		if (p.last_us - reported_us >= line_us) {
			report(c, &p);
			reported_us = p.last_us;
		}
		usleep((useconds_t)turn_us);
	}
}

int main(int argc, char **argv)
{
	struct check c = { .random = 1 };
	uint64_t rate = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	uint64_t turn_us = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;

	c.count = argc > 1 ? strtoull(argv[1], NULL, 10) << 20 >> 12 : 0;
	if (c.count == 0 || rate == 0 || turn_us == 0) {
		fprintf(stderr, "usage: guest-check MIB PAGES_PER_SECOND "
				"TURN_US [BLOCK_DEVICE]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	c.disk = memory(sizeof(*c.disk), MAP_SHARED);
	if (argc > 4 && fork() == 0)
		disk_loop(argv[4], c.disk);
	c.pages = memory(c.count * PAGE, MAP_PRIVATE);
	c.last_version = memory(c.count * sizeof(*c.last_version), MAP_PRIVATE);
	for (uint64_t n = 0; n < c.count; n++)
		rewrite(&c, n, true);
	loop(&c, rate, turn_us);
}
