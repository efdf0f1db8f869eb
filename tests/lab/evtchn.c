/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A toolstack by hand, in domain 0: works a guest's suspend event channel step
 * by step.
 *
 *	evtchn DOMAIN-ID STEP...
 *
 *	lock		takes libxc's lock, as whoever binds the port should
 *	bind		binds the port that the guest has published
 *	subscribe	has Xen tell that port of suspends, and nobody else
 *	signal		signals it
 *	suspended	waits until the guest is suspended
 *	resume		resumes it with return code 1, as after a checkpoint
 *	sleep=MS	waits, whatever the guest does
 *	running=MS	the guest is not suspended in all of this time
 *	pause, unpause	its processors stand still meanwhile
 *
 * Prints each step's time.  Exit status 0 when all steps went well; else the
 * last line says which did not.  A guest that is suspended when a step fails is
 * resumed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xenguest.h>
#include <xenstore.h>

enum { DEADLINE_MS = 30000, TURN_US = 1000 };

static xc_interface *xc;
static xenevtchn_handle *xe;
static struct xs_handle *xs;
static uint32_t domain;
static int local = -1;

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* 1 suspended, 0 not, -1 gone or shut down for another reason */
static int state(void)
{
	xc_domaininfo_t info;
	unsigned int why;

	if (xc_domain_getinfolist(xc, domain, 1, &info) != 1 ||
	    info.domain != domain || info.flags & XEN_DOMINF_dying)
		return -1;
	if (!(info.flags & XEN_DOMINF_shutdown))
		return 0;
	why = info.flags >> XEN_DOMINF_shutdownshift;
	return (why & XEN_DOMINF_shutdownmask) == SHUTDOWN_suspend ? 1 : -1;
}

/* libxc's: tools/libs/guest/xg_suspend.c.  Held until this process ends. */
static bool lock(void)
{
	struct flock all = { .l_type = F_WRLCK, .l_len = 1 };
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "/var/run/xen/suspend-evtchn-%u.lock",
		 domain);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	return fd >= 0 && fcntl(fd, F_SETLK, &all) == 0;
}

static int published_port(void)
{
	char path[80], *text;
	unsigned int length;
	int port = 0;

	snprintf(path, sizeof(path),
		 "/local/domain/%u/device/suspend/event-channel", domain);
	text = xs_read(xs, XBT_NULL, path, &length);
	if (text)
		port = atoi(text);
	free(text);
	if (port <= 0)
		errno = ENOENT;
	return port;
}

static bool bind_port(void)
{
	int port = published_port();

	if (port <= 0)
		return false;
	local = xenevtchn_bind_interdomain(xe, domain, (evtchn_port_t)port);
	return local >= 0;
}

static bool subscribe(void)
{
	int port = published_port();

	return port > 0 && xc_domain_subscribe_for_suspend(
				   xc, domain, (evtchn_port_t)port) == 0;
}

static bool wait_suspended(void)
{
	double end = now_ms() + DEADLINE_MS;
	int is;

	while ((is = state()) == 0) {
		if (now_ms() > end) {
			errno = ETIMEDOUT;
			return false;
		}
		usleep(TURN_US);
	}
	errno = ESRCH;
	return is == 1;
}

static bool stays_running(int ms)
{
	double end = now_ms() + ms;

	errno = ESHUTDOWN;
	while (now_ms() < end) {
		if (state() != 0)
			return false;
		usleep(TURN_US);
	}
	return true;
}

static bool resume(void)
{
	return xc_domain_resume(xc, domain, 1) == 0 &&
	       xs_resume_domain(xs, domain);
}

static bool step(const char *word)
{
	if (strcmp(word, "lock") == 0)
		return lock();
	if (strcmp(word, "subscribe") == 0)
		return subscribe();
	if (strcmp(word, "bind") == 0)
		return bind_port();
	if (strcmp(word, "signal") == 0)
		return xenevtchn_notify(xe, (evtchn_port_t)local) == 0;
	if (strcmp(word, "suspended") == 0)
		return wait_suspended();
	if (strcmp(word, "resume") == 0)
		return resume();
	if (strcmp(word, "pause") == 0)
		return xc_domain_pause(xc, domain) == 0;
	if (strcmp(word, "unpause") == 0)
		return xc_domain_unpause(xc, domain) == 0;
	if (strncmp(word, "sleep=", 6) == 0)
		return usleep((useconds_t)atoi(word + 6) * 1000) == 0;
	if (strncmp(word, "running=", 8) == 0)
		return stays_running(atoi(word + 8));
	errno = EINVAL;
	return false;
}

int main(int argc, char **argv)
{
	double before;

	if (argc < 3) {
		fprintf(stderr, "usage: evtchn DOMAIN-ID STEP...\n");
		return 2;
	}
	domain = (uint32_t)atoi(argv[1]);
	xc = xc_interface_open(NULL, NULL, 0);
	xe = xenevtchn_open(NULL, 0);
	xs = xs_open(0);
	if (!xc || !xe || !xs) {
		perror("evtchn: no Xen");
		return 1;
	}
	for (int i = 2; i < argc; i++) {
		before = now_ms();
		if (!step(argv[i])) {
			printf("%s: failed: %s\n", argv[i], strerror(errno));
			if (state() == 1)
				resume();
			return 1;
		}
		printf("%s: %.1f ms\n", argv[i], now_ms() - before);
		fflush(stdout);
	}
	return 0;
}
