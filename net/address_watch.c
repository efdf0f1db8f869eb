/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Learns a guest's addresses from what it sends.
 *
 * The kernel drops all but the guest's own frames by a filter, and all that
 * arrive while the tiny buffer is full.  The watch empties it a few times a
 * second and looks at a few frames each time, so its cost does not grow with
 * the guest's traffic.  An interface that goes away ends the watch; it is
 * closed by its owner as ever.  On the loop's thread.
 */
#include "config.h"

#include "net/announce.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	FRAME_BYTES = 96, /* reaches the end of a neighbour advertisement */
	FRAMES_A_LOOK = 16,
	LOOK_US = 250 * 1000,
	BUFFER_BYTES = 2048, /* the kernel makes it its own minimum */
};

struct address_watch {
	struct loop *loop;
	struct loop_op readable;
	struct loop_timer next_look;
	int fd;
	bool closing;
	uint8_t mac[6];
	struct address_set *set;
	void (*grown)(void *arg);
	void *arg;
};

/* Takes the first FRAME_BYTES of frames whose source is `mac`. */
static int attach_filter(int fd, const uint8_t mac[6])
{
	uint32_t high = (uint32_t)mac[0] << 24 | (uint32_t)mac[1] << 16 |
			(uint32_t)mac[2] << 8 | mac[3];
	uint32_t low = (uint32_t)mac[4] << 8 | mac[5];
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 6),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, high, 0, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 10),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, low, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, FRAME_BYTES),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = {
		.len = sizeof(code) / sizeof(code[0]),
		.filter = code,
	};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
			  sizeof(program))
		       ? -errno
		       : 0;
}

/* Nothing is received before the filter stands: it is bound to a protocol last.
 */
static int open_socket(const char *ifname, const uint8_t mac[6])
{
	AUTO_FD int fd = -1;
	struct sockaddr_ll addr = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(ifname),
	};
	int bytes = BUFFER_BYTES, r;

	if (!addr.sll_ifindex)
		return -ENODEV;
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	r = attach_filter(fd, mac);
	if (r)
		return r;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static void wait_readable(void *arg)
{
	struct address_watch *w = arg;

	loop_poll(w->loop, &w->readable, w->fd, POLLIN);
}

static void watch_free(struct address_watch *w)
{
	close(w->fd);
	free(w);
}

/* False where the interface is gone. */
static bool look(struct address_watch *w, bool *grown)
{
	uint8_t frame[FRAME_BYTES];

	for (int i = 0; i < FRAMES_A_LOOK; i++) {
		ssize_t n = recv(w->fd, frame, sizeof(frame), MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		*grown |= address_learn(w->set, w->mac, frame, (size_t)n);
	}
	return true;
}

static void readable(void *arg, int res)
{
	struct address_watch *w = arg;
	bool grown = false;

	if (w->closing) {
		watch_free(w);
		return;
	}
	if (res < 0 || !look(w, &grown)) {
		log_debug("the guest's interface is gone: "
			  "its addresses are watched no more");
		return;
	}
	loop_timer_start(w->loop, &w->next_look, clock_now_us() + LOOK_US);
	/* Last: it may close the watch. */
	if (grown)
		w->grown(w->arg);
}

int address_watch_open(struct loop *loop, const char *ifname,
		       const uint8_t mac[6], struct address_set *set,
		       void (*grown)(void *arg), void *arg,
		       struct address_watch **out)
{
	struct address_watch *w = calloc(1, sizeof(*w));
	int fd;

	if (!w)
		return -ENOMEM;
	fd = open_socket(ifname, mac);
	if (fd < 0) {
		free(w);
		return fd;
	}
	*w = (struct address_watch){
		.loop = loop,
		.readable = { .fn = readable, .arg = w },
		.next_look = { .fn = wait_readable, .arg = w },
		.fd = fd,
		.set = set,
		.grown = grown,
		.arg = arg,
	};
	memcpy(w->mac, mac, 6);
	wait_readable(w);
	*out = w;
	return 0;
}

void address_watch_close(struct address_watch *w)
{
	if (!w)
		return;
	loop_timer_stop(w->loop, &w->next_look);
	if (!w->readable.busy) {
		watch_free(w);
		return;
	}
	w->closing = true;
	loop_cancel(w->loop, &w->readable);
}
