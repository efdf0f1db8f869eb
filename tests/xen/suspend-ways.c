/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a guest takes from the request to its suspend, by each way of asking
 * and of learning of it, one after the other and over again, so that they see
 * the same machine.
 *
 *   suspend-ways DOMAIN N
 *
 * In one domain 0, for a guest with the module colod_guest:
 *   polled    asked through xenstore, its state looked at every 0.5 ms
 *   port      asked through xenstore, told by our own port
 *   evtchn    asked by its event channel, told by our own port
 * N rounds 200 ms apart; then each way's best and median, and the ratio of
 * its median to the first way's.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "resume/xen/kind.h"
#include "resume/xen/source.h"

#define POLL_US UINT64_C(500)
#define GAP_US UINT64_C(200000)
#define PATIENCE_US UINT64_C(5000000)

enum { POLLED, PORT, EVTCHN, WAYS, ROUNDS_MAX = 1000 };

static const char *const names[WAYS] = { "polled", "port", "evtchn" };
static uint64_t took_us[WAYS][ROUNDS_MAX];

static const struct guest_source_ops *const ops = &guest_xen_source;

static int suspend_polled(struct guest_source *s)
{
	uint64_t end_us = clock_now_us() + PATIENCE_US;
	int rc = xen_ask(s);

	while (rc == 0 && clock_now_us() < end_us) {
		rc = xen_query(s->host, s->domid, &s->state);
		if (rc == 0 && s->state.status == GUEST_SUSPENDED) {
			s->suspended = true;
			return 0;
		}
		clock_sleep_us(POLL_US);
	}
	return rc < 0 ? rc : -ETIMEDOUT;
}

static void choose(struct guest_source *s, int way)
{
	xen_request_unbind(s);
	s->request.watched = way == EVTCHN;
	xen_request_follow(s); /* as it has been long before a request */
}

static int one(struct guest_source *s, int way, uint64_t *us)
{
	uint64_t start_us;
	int rc;

	choose(s, way);
	start_us = clock_now_us();
	rc = way == POLLED ? suspend_polled(s) : ops->suspend(s, PATIENCE_US);
	*us = clock_now_us() - start_us;
	if (rc == 0)
		rc = ops->resume(s, GUEST_RESUME_FAST);
	if (rc < 0)
		printf("FAIL %s: %s\n", names[way], strerror(-rc));
	else if (s->phases.asked !=
		 (way == EVTCHN ? GUEST_ASK_EVTCHN : GUEST_ASK_XENSTORE))
		rc = printf("FAIL %s: asked by %s\n", names[way],
			    guest_ask_text(s->phases.asked));
	return rc;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print(unsigned long n)
{
	for (int way = 0; way < WAYS; way++)
		qsort(took_us[way], n, sizeof(took_us[way][0]), compare);
	for (int way = 0; way < WAYS; way++)
		printf("%-6s best %llu us, median %llu us, ratio %.2f\n",
		       names[way], (unsigned long long)took_us[way][0],
		       (unsigned long long)took_us[way][n / 2],
		       (double)took_us[way][n / 2] /
			       (double)took_us[POLLED][n / 2]);
}

int main(int argc, char **argv)
{
	const struct guest_manner manner = { .ask = GUEST_ASK_AUTO };
	struct guest_error err = { "" };
	unsigned long n = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	struct guest_source *s;
	int rc;

	if (n == 0 || n > ROUNDS_MAX)
		return 2;
	rc = ops->open(argv[1], RUNSTATEDIR "/colod", &manner, &s, &err);
	if (rc < 0) {
		printf("FAIL open: %s\n", err.text);
		return 1;
	}
	/* As the operations do it, without an image. */
	rc = xen_source_mark(s, XEN_MARK_IDLE);
	if (rc == 0)
		rc = xen_source_bind(s);
	if (rc == 0)
		rc = xen_source_subscribe(s);
	for (unsigned long i = 0; rc == 0 && i < n; i++)
		for (int way = 0; way < WAYS && rc == 0; way++) {
			clock_sleep_us(GAP_US);
			rc = one(s, way, &took_us[way][i]);
		}
	if (rc == 0)
		print(n);
	ops->close(s);
	return rc != 0;
}
