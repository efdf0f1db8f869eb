/* SPDX-License-Identifier: Apache-2.0 */
/* The rig of link-fixture.h with filters in front of both ends. */
#ifndef TESTS_UNIT_FILTER_FIXTURE_H
#define TESTS_UNIT_FILTER_FIXTURE_H

#include "link-fixture.h"
#include "net/filter.h"

/* The client's filters, the last one is what it uses; the server has one. */
enum { STACK_MAX = 3 };

static struct drill *drills[STACK_MAX], *server_drill;
static struct tls_identity *server_identity;

static inline void start_drill(struct drill *d, const char *words)
{
	char why[DRILL_WHY_BYTES];
	struct drill_spec spec;

	if (drill_parse(words, &spec, why))
		fail_msg("%s", why);
	drill_start(d, &spec);
}

/* As accepted() of the fixture, behind a filter. */
static inline const struct link_events *filtered(void *arg, struct link *l,
						 void **link_arg)
{
	const struct link_events *given = &events;
	struct rig *r = arg;

	*link_arg = &r->server;
	r->server.link = filter_new(r->loop, server_drill, &given, link_arg);
	assert_non_null(r->server.link);
	filter_over(r->server.link, l);
	return given;
}

static inline void connect_filtered(struct rig *r, size_t count)
{
	struct tls_identity *id = identity(r->dirs->ours, "beta");
	const struct link_events *given = &events;
	struct link *filter[STACK_MAX], *inner;
	void *arg = &r->client;
	size_t i;

	for (i = 0; i < count; i++)
		filter[i] = filter_new(r->loop, drills[i], &given, &arg);
	inner = link_connect(r->loop, id, "127.0.0.1", r->port, given, arg);
	for (i = count; i--;) {
		filter_over(filter[i], inner);
		inner = filter[i];
	}
	r->client.link = inner;
	tls_identity_free(id);
}

static inline void listen_filtered(struct rig *r)
{
	tls_identity_free(server_identity);
	server_identity = identity(r->dirs->ours, "alpha");
	assert_int_equal(link_listen(r->loop, server_identity, NULL, 0,
				     filtered, r, &r->listener, &r->port),
			 0);
}

static inline void up(struct rig *r, size_t count)
{
	listen_filtered(r);
	connect_filtered(r, count);
	run_until(r, both_up);
}

static inline int open_all(void **state)
{
	struct rig *r;
	size_t i;

	rig_open(state);
	r = *state;
	for (i = 0; i < STACK_MAX; i++)
		drills[i] = drill_new(r->loop);
	server_drill = drill_new(r->loop);
	return 0;
}

static inline bool none_left(struct rig *r)
{
	return !r->client.link && !r->server.link;
}

static inline int close_all(void **state)
{
	struct rig *r = *state;
	size_t i;

	if (r->client.link)
		link_abort(r->client.link, "test over");
	if (r->server.link)
		link_abort(r->server.link, "test over");
	run_until(r, none_left); /* the filters leave their drills */
	for (i = 0; i < STACK_MAX; i++)
		drill_free(drills[i]);
	drill_free(server_drill);
	return rig_close(state);
}

static inline void in_order(const struct end *e, size_t count)
{
	assert_int_equal(e->got_count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(e->got[i].epoch, i);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

#define RUN_FILTER_TESTS(tests)                     \
	({                                          \
		int f_ = RUN_LINK_TESTS(tests);     \
		tls_identity_free(server_identity); \
		f_;                                 \
	})

#endif
