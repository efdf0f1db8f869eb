/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Announcing and learning on a real bridge, in network and user namespaces of
 * the test's own: br0 with a port `vif`, whose other end is `guest`; and a
 * second port `uplink`, whose other end is `world`.  Skipped where the kernel
 * lets nobody make them.
 */
#include "config.h"

#include "net/announce.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

static const uint8_t mac[6] = { 0x00, 0x16, 0x3e, 0x12, 0x34, 0x56 };
static const uint8_t ip4[4] = { 192, 168, 7, 9 };

static const char commands[] =
	"ip link add br0 type bridge && "
	"ip link add vif type veth peer name guest && "
	"ip link add uplink type veth peer name world && "
	"ip link set vif master br0 && ip link set uplink master br0 && "
	"for i in lo br0 vif guest uplink world; do "
	"  echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; "
	"  ip link set $i up || exit 1; "
	"done";

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 &&
		    write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

static bool make_network(void)
{
	char map[32];

	snprintf(map, sizeof(map), "0 %u 1", getuid());
	return !unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) &&
	       write_file("/proc/self/uid_map", map) &&
	       !mount("sysfs", "/sys", "sysfs", 0, NULL) && !system(commands);
}

static int packets_on(const char *ifname)
{
	struct sockaddr_ll addr = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(ifname),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void send_on(int fd, const uint8_t *frame, size_t len)
{
	assert_int_equal(send(fd, frame, len, 0), len);
}

static void test_announcement_reaches_the_world(void **state)
{
	struct address_set set = { .count = 2 };
	uint8_t frame[256], seen[4] = { 0 };
	int fd = packets_on("world");
	unsigned int again = 0;

	(void)state;
	memcpy(set.at[0].mac, mac, 6);
	memcpy(set.at[0].ip, ip4, 4);
	/* Another interface's address is not announced here. */
	memset(set.at[1].mac, 2, 6);
	memcpy(set.at[1].ip, ip4, 4);
	assert_int_equal(announce("vif", mac, &set), 3);
	while (!seen[1] || !seen[2] || !seen[3]) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		/* Interfaces that have just come up drop one now and then. */
		if (poll(&p, 1, 1000) == 0) {
			assert_in_range(++again, 1, 20);
			assert_int_equal(announce("vif", mac, &set), 3);
			continue;
		}
		n = recv(fd, frame, sizeof(frame), 0);
		if (n != 60 || memcmp(frame + 6, mac, 6))
			continue;
		assert_in_range(frame[21], 1, 3);
		assert_in_range(++seen[frame[21]], 1, again + 1);
	}
	close(fd);
}

static void test_interface_without_a_bridge(void **state)
{
	struct address_set set = { 0 };

	(void)state;
	assert_int_equal(announce("world", mac, &set), -ENOTCONN);
}

struct watch_rig {
	struct loop *loop;
	struct address_set set;
	struct address_watch *watch;
	int growths;
	bool close_when_grown;
};

static void grown(void *arg)
{
	struct watch_rig *r = arg;

	r->growths++;
	if (r->close_when_grown) {
		address_watch_close(r->watch);
		r->watch = NULL;
	}
	loop_stop(r->loop);
}

static void stop(void *arg)
{
	loop_stop(arg);
}

static void run_for(struct loop *loop, uint64_t us)
{
	struct loop_timer t = { .fn = stop, .arg = loop };

	loop_timer_start(loop, &t, clock_now_us() + us);
	assert_int_equal(loop_run(loop), 0);
	loop_timer_stop(loop, &t);
}

static void test_watch_learns_the_guest_and_nobody_else(void **state)
{
	struct watch_rig r = { 0 };
	uint8_t frame[ANNOUNCE_FRAME_BYTES], other[6];
	int fd = packets_on("guest");

	(void)state;
	assert_int_equal(loop_open(&r.loop), 0);
	assert_int_equal(address_watch_open(r.loop, "vif", mac, &r.set, grown,
					    &r, &r.watch),
			 0);
	memcpy(other, mac, 6);
	other[5]++;
	/* More than its buffer holds, if they got into it. */
	for (int i = 0; i < 50; i++)
		send_on(fd, frame,
			announce_arp_frame(frame, other, ip4, false));
	send_on(fd, frame, announce_arp_frame(frame, mac, ip4, false));
	run_for(r.loop, 2000000);
	assert_int_equal(r.growths, 1);
	assert_int_equal(r.set.count, 1);
	assert_memory_equal(r.set.at[0].ip, ip4, 4);
	/* Closed from its own callback, with the next look due. */
	r.close_when_grown = true;
	frame[31]++;
	send_on(fd, frame, 60);
	run_for(r.loop, 2000000);
	assert_int_equal(r.growths, 2);
	assert_null(r.watch);
	close(fd);
	loop_close(r.loop);
}

static void test_watch_closes_while_waiting(void **state)
{
	struct watch_rig r = { 0 };

	(void)state;
	assert_int_equal(loop_open(&r.loop), 0);
	assert_int_equal(address_watch_open(r.loop, "nosuchif", mac, &r.set,
					    grown, &r, &r.watch),
			 -ENODEV);
	assert_int_equal(address_watch_open(r.loop, "vif", mac, &r.set, grown,
					    &r, &r.watch),
			 0);
	address_watch_close(r.watch);
	run_for(r.loop, 10000);
	loop_close(r.loop);
}

/* A flood costs a bounded number of looks. */
static void test_watch_samples(void **state)
{
	struct watch_rig r = { 0 };
	uint8_t frame[ANNOUNCE_FRAME_BYTES];
	int fd = packets_on("guest");
	size_t n = announce_arp_frame(frame, mac, ip4, false);

	(void)state;
	assert_int_equal(loop_open(&r.loop), 0);
	assert_int_equal(address_watch_open(r.loop, "vif", mac, &r.set, grown,
					    &r, &r.watch),
			 0);
	for (int i = 0; i < 2000; i++) {
		frame[30] = (uint8_t)(i >> 8);
		frame[31] = (uint8_t)i;
		send_on(fd, frame, n);
	}
	run_for(r.loop, 100000);
	assert_int_equal(r.growths, 1);
	assert_true(r.set.count <= 16);
	address_watch_close(r.watch);
	run_for(r.loop, 10000);
	close(fd);
	loop_close(r.loop);
}

/* Last: it takes the guest's interface away. */
static void test_interface_that_goes_away_ends_the_watch(void **state)
{
	struct watch_rig r = { 0 };

	(void)state;
	assert_int_equal(loop_open(&r.loop), 0);
	assert_int_equal(address_watch_open(r.loop, "vif", mac, &r.set, grown,
					    &r, &r.watch),
			 0);
	assert_int_equal(system("ip link del vif"), 0);
	run_for(r.loop, 50000);
	address_watch_close(r.watch);
	run_for(r.loop, 10000);
	loop_close(r.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_announcement_reaches_the_world),
		cmocka_unit_test(test_interface_without_a_bridge),
		cmocka_unit_test(test_watch_learns_the_guest_and_nobody_else),
		cmocka_unit_test(test_watch_closes_while_waiting),
		cmocka_unit_test(test_watch_samples),
		cmocka_unit_test(test_interface_that_goes_away_ends_the_watch),
	};

	if (!make_network())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
