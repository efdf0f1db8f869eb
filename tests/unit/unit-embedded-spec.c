/* SPDX-License-Identifier: Apache-2.0 */
/* The words an embedded guest is described by. */
#include "config.h"

#include "resume/embedded/spec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The kinds are not part of this test. */
const struct guest_kind *const guest_kinds[] = { NULL };

static struct guest_error why;

static int parse(const char *words, struct embedded_spec *s)
{
	why.text[0] = '\0';
	return embedded_spec_parse(words, s, &why);
}

static void defaults_are_those_of_the_manual(void **state)
{
	struct embedded_spec s;

	(void)state;
	assert_int_equal(parse("ledger", &s), 0);
	assert_string_equal(s.name, "ledger");
	assert_int_equal(s.mem_bytes, 64 << 20);
	assert_string_equal(s.address, "127.0.0.1");
	assert_int_equal(s.port, 7476);
	assert_true(s.gate);
	assert_int_equal(s.vcpus, 1);
	assert_int_equal(s.tracker, EMBEDDED_TRACKER_AUTO);
	assert_string_equal(s.disk, "");
	assert_int_equal(parse("dirty", &s), 0);
	assert_string_equal(s.name, "dirty");
	assert_int_equal(s.mem_bytes, 256 << 20);
	assert_int_equal(s.rate, 20000);
	assert_int_equal(s.words, 8);
	assert_int_equal(s.whole, 5);
	assert_int_equal(s.pattern, EMBEDDED_PATTERN_RANDOM);
	assert_int_equal(s.fill, EMBEDDED_FILL_RANDOM);
	assert_int_equal(parse("replay", &s), 0);
	assert_string_equal(s.name, "replay");
	assert_int_equal(s.mem_bytes, 256 << 20);
	assert_int_equal(s.rate, 20000);
	assert_int_equal(s.vcpus, 1);
	assert_string_equal(s.file, "");
}

static void every_key_is_understood(void **state)
{
	struct embedded_spec s;

	(void)state;
	assert_int_equal(parse("ledger,mem=2G,name=a-B.9_,port=1,address=::1,"
			       "gate=off,channel=xenstore,suspend=late,"
			       "late=300,tracker=mprotect,disk=d-0_.x",
			       &s),
			 0);
	assert_string_equal(s.name, "a-B.9_");
	assert_int_equal(s.mem_bytes, UINT64_C(2) << 30);
	assert_int_equal(s.port, 1);
	assert_string_equal(s.address, "::1");
	assert_false(s.gate);
	assert_int_equal(s.channel, EMBEDDED_CHANNEL_XENSTORE);
	assert_int_equal(s.suspend, EMBEDDED_SUSPEND_LATE);
	assert_int_equal(s.late_ms, 300);
	assert_int_equal(s.tracker, EMBEDDED_TRACKER_MPROTECT);
	assert_string_equal(s.disk, "d-0_.x");
	assert_int_equal(parse("dirty,mem=1024K,rate=0,pattern=hot,words=512,"
			       "whole=100,vcpus=16,fill=zero,span=1M",
			       &s),
			 0);
	assert_int_equal(s.mem_bytes, 1 << 20);
	assert_int_equal(s.rate, 0);
	assert_int_equal(s.pattern, EMBEDDED_PATTERN_HOT);
	assert_int_equal(s.words, 512);
	assert_int_equal(s.whole, 100);
	assert_int_equal(s.vcpus, 16);
	assert_int_equal(s.fill, EMBEDDED_FILL_ZERO);
	assert_int_equal(s.span_bytes, 1 << 20);
	assert_int_equal(parse("replay,mem=1M,rate=7,name=r,suspend=ack,late=1,"
			       "channel=xenstore,tracker=uffd,file=/a/b c",
			       &s),
			 0);
	assert_int_equal(s.rate, 7);
	assert_string_equal(s.file, "/a/b c");
}

static void what_is_wrong_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"nosuch",
		"ledger,",
		"ledger,,mem=1M",
		"ledger,mem",
		"ledger,mem=",
		"ledger,mem=64",
		"ledger,mem=64m",
		"ledger,mem=64MM",
		"ledger,mem=-1M",
		"ledger,mem=1K",
		"ledger,mem=1025K",
		"ledger,mem=257G",
		"ledger,mem=99999999999999999999G",
		"ledger,mem=18014398509483008K", /* 2^64 + 1M bytes */
		"ledger,me=1M",
		"ledger,memory=1M",
		"ledger,rate=1",
		"dirty,port=1",
		"dirty,gate=off",
		"ledger,port=0",
		"ledger,port=65536",
		"ledger,port=+1",
		"ledger,port= 1",
		"ledger,address=localhost",
		"ledger,address=",
		"ledger,name=",
		"ledger,name=-a",
		"ledger,name=.a",
		"ledger,name=a/b",
		"ledger,name=a b",
		"ledger,name=a--standby",
		"ledger,name=\xc3\xa4",
		"ledger,suspend=maybe",
		"ledger,tracker=none",
		"ledger,gate=maybe",
		"ledger,disk",
		"ledger,disk=",
		"ledger,disk=-a",
		"ledger,disk=.a",
		"ledger,disk=a/b",
		"ledger,disk=../a",
		"ledger,disk=a b",
		"dirty,disk=a",
		"replay,disk=a",
		"dirty,words=0",
		"dirty,words=513",
		"dirty,whole=101",
		"dirty,vcpus=0",
		"dirty,vcpus=17",
		"dirty,fill=",
		"dirty,fill=one",
		"dirty,span=0M",
		"dirty,span=3M,mem=2M",
		"replay,span=1M",
		"dirty,file=/a",
		"replay,file",
		"replay,file=",
		"replay,file=a/b",
		"replay,vcpus=2",
		"replay,words=1",
		"replay,port=1",
	};
	char long_file[300] = "replay,file=/";
	char long_disk[100] = "ledger,disk=";
	char long_name[100] = "ledger,name=", all[2000];
	struct embedded_spec s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse(bad[i], &s) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
		assert_true(why.text[0] != '\0');
		assert_null(strchr(why.text, '\n'));
	}
	memset(long_name + strlen(long_name), 'x', EMBEDDED_NAME_MAX);
	assert_int_equal(parse(long_name, &s), 0);
	memset(long_file + strlen(long_file), 'x', EMBEDDED_FILE_MAX - 1);
	assert_int_equal(parse(long_file, &s), 0);
	strcat(long_file, "x");
	assert_int_equal(parse(long_file, &s), -EINVAL);
	strcat(long_name, "x");
	assert_int_equal(parse(long_name, &s), -EINVAL);
	memset(long_disk + strlen(long_disk), 'x', DISK_NAME_MAX);
	assert_int_equal(parse(long_disk, &s), 0);
	strcat(long_disk, "x");
	assert_int_equal(parse(long_disk, &s), -EINVAL);
	memset(all, 'a', sizeof(all) - 1);
	all[sizeof(all) - 1] = '\0';
	assert_int_equal(parse(all, &s), -EINVAL);
}

static void formatted_it_parses_to_the_same(void **state)
{
	static const char *const words[] = {
		"ledger",
		"dirty",
		"ledger,name=x,port=99,gate=off,address=::1,channel=xenstore",
		"ledger,disk=root.0",
		"dirty,mem=256G,rate=7,pattern=sequential,words=1,whole=0,"
		"vcpus=3,suspend=late,late=1,tracker=uffd",
		"dirty,whole=100,fill=zero",
		"dirty,span=2M,mem=4M,fill=zero",
		"dirty,span=1044K,mem=2M",
		"replay,mem=3M,rate=9,late=4,name=again",
	};
	struct embedded_spec a, b;
	char text[EMBEDDED_SPEC_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		assert_int_equal(parse(words[i], &a), 0);
		embedded_spec_format(&a, text);
		assert_int_equal(parse(text, &b), 0);
		assert_memory_equal(&a, &b, sizeof(a));
	}
}

/* Another host must not be told to open anything. */
static void a_file_does_not_cross_the_wire(void **state)
{
	struct embedded_spec s;
	char text[EMBEDDED_SPEC_MAX];

	(void)state;
	assert_int_equal(parse("replay,file=/tmp/trace", &s), 0);
	embedded_spec_format(&s, text);
	assert_null(strstr(text, "file"));
	assert_int_equal(parse(text, &s), 0);
	assert_string_equal(s.file, "");
}

/* A peer that has never heard of disks takes a guest without one. */
static void what_was_not_asked_for_is_not_said(void **state)
{
	struct embedded_spec s;
	char text[EMBEDDED_SPEC_MAX];

	(void)state;
	assert_int_equal(parse("ledger", &s), 0);
	embedded_spec_format(&s, text);
	assert_null(strstr(text, "disk"));
}

static void only_some_may_change_at_run_time(void **state)
{
	struct embedded_spec s;

	(void)state;
	assert_int_equal(parse("dirty", &s), 0);
	assert_int_equal(embedded_spec_change(&s, "suspend=ack", &why), 0);
	assert_int_equal(s.suspend, EMBEDDED_SUSPEND_ACK);
	assert_int_equal(embedded_spec_change(&s, "late=9", &why), 0);
	assert_int_equal(s.late_ms, 9);
	assert_int_equal(embedded_spec_change(&s, "mem=1M", &why), -EINVAL);
	assert_int_equal(embedded_spec_change(&s, "disk=d", &why), -EINVAL);
	assert_int_equal(embedded_spec_change(&s, "suspend", &why), -EINVAL);
	assert_int_equal(embedded_spec_change(&s, "", &why), -EINVAL);
}

static void a_name_is_in_the_words_or_is_them(void **state)
{
	char name[WIRE_NAME_MAX + 1];

	(void)state;
	assert_int_equal(embedded_name("accounts", name, &why), 0);
	assert_string_equal(name, "accounts");
	assert_int_equal(embedded_name("ledger,name=web", name, &why), 0);
	assert_string_equal(name, "web");
	assert_int_equal(embedded_name("dirty,mem=1M", name, &why), 0);
	assert_string_equal(name, "dirty");
	assert_int_equal(embedded_name("a/b", name, &why), -EINVAL);
	assert_int_equal(embedded_name("web,mem=1M", name, &why), -EINVAL);
	assert_int_equal(embedded_name("", name, &why), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_manual),
		cmocka_unit_test(every_key_is_understood),
		cmocka_unit_test(what_is_wrong_is_refused),
		cmocka_unit_test(formatted_it_parses_to_the_same),
		cmocka_unit_test(a_file_does_not_cross_the_wire),
		cmocka_unit_test(what_was_not_asked_for_is_not_said),
		cmocka_unit_test(only_some_may_change_at_run_time),
		cmocka_unit_test(a_name_is_in_the_words_or_is_them),
	};

	return cmocka_run_group_tests_name("embedded spec", tests, NULL, NULL);
}
