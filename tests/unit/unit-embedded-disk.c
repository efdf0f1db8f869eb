/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk of an embedded guest: a ledger's process and its clients by TCP,
 * with a real nbdkit over a file, which is killed and stopped.
 */
#include "config.h"

#include "tests/unit/embedded-fixture.h"

#include <fcntl.h>
#include <signal.h>

#include "resume/embedded/disk.h"
#include "resume/embedded/ledger.h"

enum { DISK_BYTES = 1 << 20, ENTRY_BYTES = sizeof(struct ledger_entry) };

static pid_t server;
static char socket_path[128], storage[128];

static int no_nbdkit(void)
{
	return system("nbdkit --version >/dev/null 2>&1");
}

static void serve(void)
{
	uint64_t end_us = clock_now_us() + PATIENCE_US;
	char file[140];

	snprintf(file, sizeof(file), "file=%s", storage);
	unlink(socket_path);
	server = fork();
	if (server == 0) {
		execlp("nbdkit", "nbdkit", "-f", "-U", socket_path, "file",
		       file, NULL);
		_exit(127);
	}
	while (access(socket_path, F_OK) && clock_now_us() < end_us)
		clock_sleep_us(2000);
}

static void server_dies(void)
{
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	server = 0;
}

static void server_stops(void)
{
	kill(server, SIGSTOP);
	waitpid(server, NULL, WUNTRACED);
}

static int serve_a_disk(void **state)
{
	char path[80];

	(void)state;
	snprintf(path, sizeof(path), "%s/disks", run_dir);
	mkdir(path, 0755);
	snprintf(storage, sizeof(storage), "%s/storage", path);
	snprintf(socket_path, sizeof(socket_path), "%s/d.nbd", path);
	unlink(storage);
	close(open(storage, O_CREAT | O_RDWR, 0600));
	if (truncate(storage, DISK_BYTES))
		return -1;
	serve();
	return 0;
}

static int destroy_with_server(void **state)
{
	if (server)
		server_dies();
	return destroy_all(state);
}

static struct ledger_entry stored(unsigned int index)
{
	struct ledger_entry e;
	int fd = open(storage, O_RDONLY);

	assert_int_equal(pread(fd, &e, sizeof(e), (index - 1) * ENTRY_BYTES),
			 sizeof(e));
	close(fd);
	return e;
}

static void spoil(unsigned int index)
{
	int fd = open(storage, O_WRONLY);

	assert_int_equal(pwrite(fd, "!", 1, (index - 1) * ENTRY_BYTES), 1);
	close(fd);
}

static void pay(int fd, unsigned int from, unsigned int to)
{
	char line[64];

	for (unsigned int i = from; i <= to; i++) {
		snprintf(line, sizeof(line), "PAY 1 %u 1 2 3\n", i);
		say(fd, line);
	}
}

static void answered(int fd, unsigned int from, unsigned int to)
{
	char begin[32];

	for (unsigned int i = from; i <= to; i++) {
		snprintf(begin, sizeof(begin), "OK 1 %u %u ", i, i);
		assert_begins(hear(fd), begin);
	}
}

static void assert_agrees(int fd, unsigned int count)
{
	char begin[32];

	say(fd, "DISK\n");
	snprintf(begin, sizeof(begin), "DISK %u ", count);
	assert_begins(hear(fd), begin);
}

/* --- tests --------------------------------------------------------------- */

static void what_is_answered_is_on_the_disk(void **state)
{
	struct guest_source *s = open_ledger(",disk=d");
	int fd = dial();

	(void)state;
	for (unsigned int i = 1; i <= 20; i++) {
		pay(fd, i, i);
		answered(fd, i, i);
		assert_int_equal(stored(i).seq, i);
	}
	pay(fd, 21, 1500);
	answered(fd, 21, 1500);
	assert_int_equal(stored(1500).seq, 1500);
	assert_int_equal(stored(1501).hash, 0);
	assert_agrees(fd, 1500);
	spoil(700);
	say(fd, "DISK\n");
	assert_string_equal(hear(fd), "NO 0 0 disk differs at 700\n");
	close(fd);
	src->close(s);
}

static void a_new_ledger_empties_the_disk(void **state)
{
	struct guest_source *s;
	int fd;

	(void)state;
	spoil(1);
	spoil(9000);
	s = open_ledger(",disk=d");
	fd = dial();
	assert_agrees(fd, 0);
	assert_int_equal(stored(9000).client, 0);
	close(fd);
	src->close(s);
}

static void a_disk_that_is_not_served_is_said(void **state)
{
	struct guest_source *s;

	(void)state;
	server_dies();
	assert_int_equal(src->open("ledger,mem=2M,disk=d", run_dir, &any_manner,
				   &s, &why),
			 -EIO);
	assert_non_null(strstr(why.text, "disk d is not served at"));
	assert_non_null(strstr(why.text, "colod disk serve d"));
}

static void a_server_that_is_killed_costs_time_alone(void **state)
{
	struct guest_source *s = open_ledger(",disk=d");
	unsigned int n = 0;
	int fd = dial();

	(void)state;
	for (int i = 0; i < 10; i++) {
		pay(fd, n + 1, n + 100);
		server_dies();
		serve();
		answered(fd, n + 1, n + 100);
		n += 100;
	}
	assert_agrees(fd, n);
	close(fd);
	src->close(s);
}

static void without_its_server_nothing_is_answered(void **state)
{
	struct guest_source *s = open_ledger(",disk=d");
	int fd = dial();

	(void)state;
	server_dies();
	pay(fd, 1, 3);
	assert_true(silent(fd));
	serve();
	answered(fd, 1, 3);
	assert_agrees(fd, 3);
	close(fd);
	src->close(s);
}

/* And what is answered meanwhile is told when it runs again. */
static void a_server_that_hangs_keeps_no_guest_from_suspending(void **state)
{
	struct guest_source *s = open_ledger(",disk=d");
	struct embedded e = look_at("ledger", false);
	uint8_t *ram = mmap(NULL, e.ram_bytes, PROT_READ, MAP_SHARED,
			    e.fd[EMBEDDED_FD_MEMORY], 0);
	struct embedded_disk_slot before;
	int fd = dial();

	(void)state;
	assert_ptr_not_equal(ram, MAP_FAILED);
	assert_agrees(fd, 0); /* it has booted */
	server_stops();
	pay(fd, 1, 1);
	await_true(embedded_disk_slot(ram)->kind == EMBEDDED_DISK_WRITE);
	for (int i = 0; i < 3; i++) {
		assert_ok(src->suspend(s, PATIENCE_US));
		assert_ok(src->resume(s, GUEST_RESUME_FAST));
	}
	assert_ok(src->suspend(s, PATIENCE_US));
	before = *embedded_disk_slot(ram);
	assert_int_equal(before.answered + 1, before.asked);
	kill(server, SIGCONT);
	await_true(stored(1).seq == 1);
	clock_sleep_us(MOMENT_US);
	assert_memory_equal(embedded_disk_slot(ram), &before, sizeof(before));
	assert_ok(src->resume(s, GUEST_RESUME_FAST));
	answered(fd, 1, 1);
	assert_agrees(fd, 1);
	munmap(ram, e.ram_bytes);
	embedded_detach(&e);
	close(fd);
	src->close(s);
}

/* Return code 0, with a write under way. */
static void new_devices_begin_with_a_comparison(void **state)
{
	struct guest_source *s = open_ledger(",disk=d");
	int fd = dial();

	(void)state;
	pay(fd, 1, 100);
	answered(fd, 1, 100);
	server_stops();
	pay(fd, 101, 150);
	assert_true(silent(fd));
	assert_ok(src->suspend(s, PATIENCE_US));
	assert_ok(src->resume(s, GUEST_RESUME_SLOW));
	assert_string_equal(hear(fd), "");
	close(fd);
	fd = dial();
	kill(server, SIGCONT);
	say(fd, "SUM\n");
	assert_begins(hear(fd), "SUM 150 ");
	assert_agrees(fd, 150);
	spoil(77);
	assert_ok(src->suspend(s, PATIENCE_US));
	assert_ok(src->resume(s, GUEST_RESUME_SLOW));
	assert_string_equal(hear(fd), "");
	close(fd);
	fd = dial();
	/* Whatever is there by now. */
	pay(fd, 151, 151);
	answered(fd, 151, 151);
	say(fd, "DISK\n");
	assert_string_equal(hear(fd), "NO 0 0 disk differs at 77\n");
	close(fd);
	src->close(s);
}

/* Another host has the guest, and may have the disk. */
static void a_guest_that_yields_writes_no_more(void **state)
{
	struct guest_source *s = open_ledger(",disk=d");
	int fd = dial();

	(void)state;
	assert_agrees(fd, 0);
	server_dies();
	pay(fd, 1, 1);
	assert_true(silent(fd));
	assert_ok(src->yield(s));
	serve();
	clock_sleep_us(MOMENT_US);
	assert_int_equal(stored(1).seq, 0);
	close(fd);
	src->close(s);
}

static void the_engine_is_told_of_it(void **state)
{
	struct guest_disk disks[GUEST_DISKS_MAX];
	struct guest_description d;
	struct guest_source *s = open_ledger(",disk=d");

	(void)state;
	assert_int_equal(src->disks(s, disks), 1);
	assert_string_equal(disks[0].name, "d");
	assert_ok(src->describe(s, &d, &why));
	assert_non_null(strstr(d.config, ",disk=d"));
	guest_description_fini(&d);
	src->close(s);
	destroy_all(state);
	s = open_ledger("");
	assert_int_equal(src->disks(s, disks), 0);
	src->close(s);
}

/* --- the backend by itself ------------------------------------------------ */

static uint8_t memory[1 << 20];

static struct disk_backend *open_backend(void)
{
	struct disk_backend *d;

	memset(memory, 0, sizeof(memory));
	assert_ok(disk_backend_open(run_dir, "d", &d, &why));
	assert_ok(disk_backend_prove(d, PATIENCE_US, &why));
	return d;
}

static void ask(uint32_t kind, uint32_t length, uint64_t where)
{
	struct embedded_disk_slot *slot = embedded_disk_slot(memory);

	slot->kind = kind;
	slot->length = length;
	slot->memory = where;
	slot->asked = slot->answered + 1;
}

static bool turn(struct disk_backend *d)
{
	return disk_backend_turn(d, memory, sizeof(memory));
}

static void turn_in_vain(struct disk_backend *d)
{
	for (int i = 0; i < 20; i++) {
		assert_false(turn(d));
		clock_sleep_us(1000);
	}
}

static void await_answer(struct disk_backend *d)
{
	bool is = false;

	await_true(is || (is = turn(d)));
	assert_int_equal(embedded_disk_slot(memory)->answered,
			 embedded_disk_slot(memory)->asked);
}

static void new_frontend(struct disk_backend *d)
{
	embedded_disk_slot(memory)->asked = 0;
	embedded_disk_slot(memory)->answered = 0;
	disk_backend_renew(d);
}

/* What is under way for the old one is done before anything of the new one. */
static void new_devices_wait_for_what_is_under_way(void **state)
{
	static const uint8_t zeros[60];
	struct disk_backend *d = open_backend();

	(void)state;
	ask(EMBEDDED_DISK_SIZE, 0, 0);
	await_answer(d);
	server_stops();
	memset(memory, 'x', 100);
	ask(EMBEDDED_DISK_WRITE, 100, 0);
	turn_in_vain(d);
	new_frontend(d);
	embedded_disk_slot(memory)->offset = 60;
	ask(EMBEDDED_DISK_READ, 100, 1000);
	turn_in_vain(d);
	kill(server, SIGCONT);
	await_answer(d);
	assert_memory_equal(memory + 1000, memory, 40);
	assert_memory_equal(memory + 1040, zeros, 60);
	disk_backend_close(d);
}

static void new_devices_forget_what_was_not_issued(void **state)
{
	static const uint8_t zeros[100];
	struct disk_backend *d = open_backend();

	(void)state;
	server_dies();
	memset(memory, 'x', 100);
	ask(EMBEDDED_DISK_WRITE, 100, 0);
	turn_in_vain(d);
	new_frontend(d);
	serve();
	memset(memory + 1000, 'y', 100);
	ask(EMBEDDED_DISK_READ, 100, 1000);
	await_answer(d);
	assert_memory_equal(memory + 1000, zeros, 100);
	disk_backend_close(d);
}

/* One that is asked for bytes that the guest does not have takes none. */
static void nonsense_is_not_answered(void **state)
{
	struct disk_backend *d = open_backend();

	(void)state;
	ask(EMBEDDED_DISK_READ, 2, sizeof(memory) - 1);
	turn_in_vain(d);
	ask(EMBEDDED_DISK_WRITE, 1, UINT64_MAX);
	turn_in_vain(d);
	ask(EMBEDDED_DISK_READ, EMBEDDED_DISK_BUFFER_BYTES + 1, 0);
	turn_in_vain(d);
	ask(EMBEDDED_DISK_WRITE, UINT32_MAX, 0);
	turn_in_vain(d);
	ask(EMBEDDED_DISK_SIZE, 0, 0);
	await_answer(d);
	assert_int_equal(embedded_disk_slot(memory)->size, DISK_BYTES);
	embedded_disk_slot(memory)->asked += 2; /* more than one at a time */
	turn_in_vain(d);
	disk_backend_close(d);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(name) \
	cmocka_unit_test_setup_teardown(name, serve_a_disk, destroy_with_server)
		T(what_is_answered_is_on_the_disk),
		T(a_new_ledger_empties_the_disk),
		T(a_disk_that_is_not_served_is_said),
		T(a_server_that_is_killed_costs_time_alone),
		T(without_its_server_nothing_is_answered),
		T(a_server_that_hangs_keeps_no_guest_from_suspending),
		T(new_devices_begin_with_a_comparison),
		T(a_guest_that_yields_writes_no_more),
		T(the_engine_is_told_of_it),
		T(new_devices_wait_for_what_is_under_way),
		T(new_devices_forget_what_was_not_issued),
		T(nonsense_is_not_answered),
#undef T
	};

	EMBEDDED_MAIN(argc, argv);
	if (no_nbdkit()) {
		print_message("SKIP: no nbdkit on this machine\n");
		return 77;
	}
	return cmocka_run_group_tests_name("embedded disk", tests, make_run_dir,
					   remove_run_dir);
}
