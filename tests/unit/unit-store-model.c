/* SPDX-License-Identifier: Apache-2.0 */
/* The store, epoch after epoch, beside a model of what it must hand out. */
#include "config.h"

#include "stream/store.h"

#include "tests/unit/store-fixture.h"

enum { GFNS = 48 };

/* What came of a page in the epoch. */
struct course {
	char kind; /* as the latest is kept: w(hole), z(eroes), d(eltas) or 0 */
	unsigned int deltas; /* with nothing before them */
	unsigned int seen;   /* of it, as it was handed out */
};

static struct model {
	struct bench *b;
	uint64_t x;
	uint8_t now[GFNS][WIRE_PAGE_BYTES];
	uint8_t far[GFNS][WIRE_PAGE_BYTES];
	bool came[GFNS]; /* in an epoch that is complete */
	struct course course[GFNS];
} m;

static uint64_t dice(uint64_t sides)
{
	return next_random(&m.x) % sides;
}

static void model_delta(uint64_t gfn)
{
	uint8_t *page = m.now[gfn], was[WIRE_PAGE_BYTES];
	struct course *c = &m.course[gfn];

	memcpy(was, page, sizeof(was));
	change_words(page, 1 + (unsigned int)dice(dice(9) ? 9 : 400), &m.x);
	put_delta(m.b, gfn, was, page);
	if (c->kind == 'w' || c->kind == 'z') {
		c->kind = 'w';
		return;
	}
	c->kind = 'd';
	c->deltas++;
}

static void model_whole(uint64_t gfn, bool zeroes)
{
	uint8_t *page = m.now[gfn];

	if (zeroes)
		memset(page, 0, WIRE_PAGE_BYTES);
	else
		fill_noise(page, WIRE_PAGE_BYTES, dice(1000));
	put_page(m.b, gfn, zeroes ? NULL : page);
	m.course[gfn].kind = zeroes ? 'z' : 'w';
}

static bool takes_delta(uint64_t gfn)
{
	const struct course *c = &m.course[gfn];

	if (c->kind == 'w' || c->kind == 'z')
		return true;
	return m.came[gfn] && c->deltas < WIRE_DELTAS_MAX;
}

static void model_round(void)
{
	uint64_t share = 1 + dice(6);

	for (int i = 0; i < GFNS; i++) {
		uint64_t gfn = dice(GFNS), kind = dice(6);

		if (dice(share))
			continue;
		if (kind > 1 && takes_delta(gfn))
			model_delta(gfn);
		else
			model_whole(gfn, kind);
		if (m.b->parcel.count == PARCEL_MAX || !dice(20))
			assert_int_equal(feed_parcel(m.b), 0);
	}
}

static int model_item(void *arg, const struct page_item *item)
{
	struct course *c = &m.course[item->gfn];

	(void)arg;
	c->seen++;
	assert_int_equal("wzd"[item->kind], c -> kind);
	expect_length(item);
	page_item_apply(item, m.far[item->gfn]);
	return 0;
}

static void model_apply(void)
{
	end_epoch(m.b);
	assert_int_equal(store_each_page(m.b->store, model_item, NULL), 0);
	assert_int_equal(memcmp(m.far, m.now, sizeof(m.far)), 0);
	for (int i = 0; i < GFNS; i++) {
		const struct course *c = &m.course[i];

		assert_int_equal(c->seen,
				 c->kind == 'd' ? c->deltas : !!c->kind);
		m.came[i] |= c->kind != 0;
	}
}

/* True: there was a page of which no delta more could come. */
static bool model_refused(void)
{
	for (uint64_t gfn = 0; gfn < GFNS; gfn++) {
		if (m.course[gfn].kind != 'd' || takes_delta(gfn))
			continue;
		model_delta(gfn);
		assert_int_equal(feed_parcel(m.b), -EPROTO);
		memcpy(m.now, m.far, sizeof(m.now));
		return true;
	}
	return false;
}

static void any_rounds_make_the_guests_memory(void **state)
{
	unsigned int refused = 0;

	m = (struct model){ .b = *state, .x = 7 };
	for (uint64_t number = 1; number <= 400; number++) {
		memset(m.course, 0, sizeof(m.course));
		begin(m.b, number);
		for (uint64_t rounds = 1 + dice(4); rounds; rounds--)
			model_round();
		if (m.b->parcel.count)
			assert_int_equal(feed_parcel(m.b), 0);
		if (!dice(4) && model_refused())
			refused++;
		else
			model_apply();
	}
	assert_in_range(refused, 50, 150);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FRESH(any_rounds_make_the_guests_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
