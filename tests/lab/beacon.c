/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The witness for what leaves a guest, of whatever protocol: a count in the
 * guest's memory that everybody can see.  A guest that goes on from an epoch
 * counts again what it had counted since; had any of that been seen outside,
 * it had left before its epoch was acknowledged.
 *
 *	beacon send IFACE US	in the guest: counts each US microseconds, and
 *				sends each count as one frame of each kind
 *	beacon watch IFACE	on a host: all that arrives there
 *
 * The kinds are arp, ipv4, ipv6, vlan (tagged) and other (an ethertype that
 * nobody knows), all to everybody, so that a bridge passes them on and up to
 * its own interface, and none that anybody would answer.
 *
 * The watcher says at once where a kind went back, once for each time, and
 * every second the highest count of each kind:
 *
 *	beacon BACK kind=arp from=123 to=100
 *	beacon seen arp=.. ipv4=.. ipv6=.. vlan=.. other=..
 *
 * A frame that is missing is no error, nor is an interface that is down or not
 * there for a while.  One thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	REPORT_US = 1000000,
	FRAME_MIN = 60,
	FRAME_MAX = 128,
	/* A gate lets the frames of seconds go at once. */
	BUFFER = 8 << 20,
	VLAN_ID = 9,
	/* For experiments (IEEE 802): nobody knows them. */
	TYPE_INNER = 0x88b5,
	TYPE_OTHER = 0x88b6,
	PORT_DISCARD = 9,
	NOTHING_FOLLOWS = 59, /* as a next header of IPv6 */
};

enum kind { ARP, IPV4, IPV6, VLAN, OTHER, KINDS };

static const char *const names[KINDS] = { "arp", "ipv4", "ipv6", "vlan",
					  "other" };

/* Behind the headers of each kind; a watcher finds it by its first word. */
struct message {
	uint64_t magic, count;
	uint32_t kind, zero;
};

static const uint64_t magic = 0x6e6f63616562a5c3;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* --- sending ---------------------------------------------------------------
 */

struct frame {
	uint8_t bytes[FRAME_MAX];
	size_t size;
};

static void put(struct frame *f, const void *bytes, size_t size)
{
	memcpy(f->bytes + f->size, bytes, size);
	f->size += size;
}

static void put16(struct frame *f, unsigned value)
{
	uint16_t v = htons((uint16_t)value);

	put(f, &v, sizeof(v));
}

static void put_ethernet(struct frame *f, enum kind kind, const uint8_t *mac)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	static const uint8_t all_nodes[6] = { 0x33, 0x33, 0, 0, 0, 1 };

	put(f, kind == IPV6 ? all_nodes : all, sizeof(all));
	put(f, mac, 6);
}

/* "Who has this address?", of nobody, so that nobody learns anything. */
static void put_arp(struct frame *f, const uint8_t *mac)
{
	static const uint8_t nobody[4], wanted[4] = { 10, 9, 0, 254 };

	put16(f, ETHERTYPE_ARP);
	put16(f, 1);
	put16(f, ETHERTYPE_IP);
	put(f, (const uint8_t[]){ 6, 4 }, 2);
	put16(f, 1);
	put(f, mac, 6);
	put(f, nobody, 4);
	put(f, (const uint8_t[6]){ 0 }, 6);
	put(f, wanted, 4);
}

static unsigned ip_sum(const uint8_t *header, size_t size)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < size; i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

/* UDP to 255.255.255.255, to a port that discards it; its sum may be left out.
 */
static void put_ipv4(struct frame *f)
{
	uint8_t header[20] = {
		0x45, 0,	   0,	 20 + 8 + sizeof(struct message),
		0,    0,	   0x40, 0,
		1,    IPPROTO_UDP, 0,	 0,
		10,   9,	   0,	 10,
		255,  255,	   255,	 255
	};
	unsigned sum = ip_sum(header, sizeof(header));

	header[10] = (uint8_t)(sum >> 8);
	header[11] = (uint8_t)sum;
	put16(f, ETHERTYPE_IP);
	put(f, header, sizeof(header));
	put16(f, PORT_DISCARD);
	put16(f, PORT_DISCARD);
	put16(f, 8 + sizeof(struct message));
	put16(f, 0);
}

static void put_ipv6(struct frame *f)
{
	static const uint8_t from[16] = { 0xfe, 0x80, [15] = 0x0b };
	static const uint8_t to[16] = { 0xff, 2, [15] = 1 };

	put16(f, ETHERTYPE_IPV6);
	put(f, (const uint8_t[]){ 0x60, 0, 0, 0 }, 4);
	put16(f, sizeof(struct message));
	put(f, (const uint8_t[]){ NOTHING_FOLLOWS, 1 }, 2);
	put(f, from, sizeof(from));
	put(f, to, sizeof(to));
}

static void put_headers(struct frame *f, enum kind kind, const uint8_t *mac)
{
	put_ethernet(f, kind, mac);
	switch (kind) {
	case ARP:
		put_arp(f, mac);
		break;
	case IPV4:
		put_ipv4(f);
		break;
	case IPV6:
		put_ipv6(f);
		break;
	case VLAN:
		put16(f, ETHERTYPE_VLAN);
		put16(f, VLAN_ID);
		put16(f, TYPE_INNER);
		break;
	case OTHER:
	case KINDS:
		put16(f, TYPE_OTHER);
		break;
	}
}

static void make_frame(struct frame *f, enum kind kind, const uint8_t *mac,
		       uint64_t count)
{
	struct message m = { .magic = magic, .count = count, .kind = kind };

	memset(f, 0, sizeof(*f));
	put_headers(f, kind, mac);
	put(f, &m, sizeof(m));
	if (f->size < FRAME_MIN)
		f->size = FRAME_MIN;
}

/* A socket at the interface as it is now, or -1: it is not there. */
static int open_at(const char *ifname, int protocol, uint8_t *mac)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htons((uint16_t)protocol) };
	struct ifreq r = { 0 };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", ifname);
	at.sll_ifindex = (int)if_nametoindex(ifname);
	if (!at.sll_ifindex || ioctl(fd, SIOCGIFHWADDR, &r) ||
	    bind(fd, (const struct sockaddr *)&at, sizeof(at))) {
		close(fd);
		return -1;
	}
	memcpy(mac, r.ifr_hwaddr.sa_data, 6);
	return fd;
}

/* False: the socket is of no more use.  A full queue empties by itself. */
static int send_kinds(int fd, const uint8_t *mac, uint64_t count)
{
	struct frame f;

	for (enum kind kind = 0; kind < KINDS; kind++) {
		make_frame(&f, kind, mac, count);
		if (send(fd, f.bytes, f.size, MSG_DONTWAIT) < 0 &&
		    errno != EAGAIN && errno != ENOBUFS)
			return 0;
	}
	return 1;
}

static void send_all(const char *ifname, unsigned period_us)
{
	const struct timespec rest = { .tv_sec = period_us / 1000000,
				       .tv_nsec = period_us % 1000000 * 1000 };
	uint64_t count = 0, failed = 0, reported_us = now_us();
	uint8_t mac[6];
	int fd = -1;

	for (;;) {
		nanosleep(&rest, NULL);
		count++;
		if (fd < 0)
			fd = open_at(ifname, 0, mac);
		if (fd < 0 || !send_kinds(fd, mac, count)) {
			failed++;
			if (fd >= 0)
				close(fd);
			fd = -1;
		}
		if (now_us() - reported_us >= REPORT_US) {
			reported_us = now_us();
			printf("beacon sent=%lu failed=%lu\n", count, failed);
		}
	}
}

/* --- watching --------------------------------------------------------------
 */

struct seen {
	uint64_t highest, last;
};

/* Once for each time that it goes back: what follows counts on from there. */
static void take(struct seen *s, const char *name, uint64_t count)
{
	if (count <= s->highest && (s->last == s->highest || count <= s->last))
		printf("beacon BACK kind=%s from=%lu to=%lu\n", name,
		       s->highest, count);
	s->last = count;
	if (count > s->highest)
		s->highest = count;
}

/* A tag may have been taken off on the way into the socket. */
static void look(struct seen *seen, const uint8_t *bytes, size_t size)
{
	const void *at = memmem(bytes, size, &magic, sizeof(magic));
	struct message m;

	if (!at || (size_t)(bytes + size - (const uint8_t *)at) < sizeof(m))
		return;
	memcpy(&m, at, sizeof(m));
	if (m.kind < KINDS)
		take(&seen[m.kind], names[m.kind], m.count);
}

/*
 * Only what is to several comes in: not what the host itself sends there, nor
 * its connections, of which a watcher would slow each packet.
 */
static int to_several_only(int fd)
{
	struct sock_filter only[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS,
			 (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_BROADCAST, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_MULTICAST, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, FRAME_MAX),
	};
	struct sock_fprog program = { .len = 5, .filter = only };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
			  sizeof(program));
}

/* What came in before there was a filter goes. */
static int open_watch(const char *ifname)
{
	uint8_t mac[6], byte;
	int fd = open_at(ifname, ETH_P_ALL, mac), size = BUFFER;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (to_several_only(fd)) {
		perror("beacon: filter");
		exit(1);
	}
	while (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0)
		;
	return fd;
}

/* False: an interface that was down may be another one when it is back. */
static int receive(int fd, struct seen *seen)
{
	uint8_t bytes[FRAME_MAX];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	look(seen, bytes, (size_t)n);
	return 1;
}

static void report(const struct seen *seen)
{
	printf("beacon seen");
	for (enum kind kind = 0; kind < KINDS; kind++)
		printf(" %s=%lu", names[kind], seen[kind].highest);
	printf("\n");
}

static void watch(const char *ifname)
{
	struct seen seen[KINDS] = { 0 };
	uint64_t reported_us = now_us();
	struct pollfd p = { .fd = -1, .events = POLLIN };

	for (;;) {
		if (p.fd < 0)
			p.fd = open_watch(ifname);
		if (poll(&p, 1, 200) == 1 && !receive(p.fd, seen)) {
			close(p.fd);
			p.fd = -1;
		}
		if (now_us() - reported_us >= REPORT_US) {
			reported_us = now_us();
			report(seen);
		}
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "send") && atoi(argv[3]) > 0) {
		send_all(argv[2], (unsigned)atoi(argv[3]));
	} else if (argc == 3 && !strcmp(argv[1], "watch")) {
		watch(argv[2]);
	}
	fprintf(stderr, "usage: beacon send IFACE US | watch IFACE\n");
	return 2;
}
