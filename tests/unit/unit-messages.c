/* SPDX-License-Identifier: Apache-2.0 */
/* stream/messages.c: each payload both ways, and each at its bounds. */
#include "config.h"

#include "stream/messages.h"

#include <errno.h>

#include "base/cleanup.h"
#include "tests/unit/unit-stream.h"

/* One decoder for all messages, by the frame's type. */
static int decode(const struct frame *f, const char **why)
{
	struct guest_description d;
	struct wire_image_end ie;
	struct wire_epoch_end ee;
	struct wire_ack a;
	struct hello h;
	struct bye b;
	int err;

	switch (f->type) {
	case WIRE_HELLO:
		return hello_decode(f, &h, why);
	case WIRE_DOMAIN:
		err = domain_decode(f, &d, why);
		if (!err)
			guest_description_fini(&d);
		return err;
	case WIRE_IMAGE_END:
		return image_end_decode(f, &ie, why);
	case WIRE_EPOCH_END:
		return epoch_end_decode(f, &ee, why);
	case WIRE_ACK:
		return ack_decode(f, &a, why);
	default:
		assert_int_equal(f->type, WIRE_BYE);
		return bye_decode(f, &b, why);
	}
}

/* As decode(), of the payload cut or grown to `length`. */
static int decode_resized(struct frame_buf *b, size_t length)
{
	AUTO_FREE uint8_t *p = payload_copy(b, length);
	struct frame f = frame_of(b);
	const char *why = NULL;
	int err;

	f.payload = p;
	f.length = (uint32_t)length;
	err = decode(&f, &why);
	assert_true(!err == !why);
	return err;
}

/* As decode(), with the byte at `at` of the payload replaced. */
static int decode_with(struct frame_buf *b, size_t at, uint8_t value)
{
	AUTO_FREE uint8_t *p = payload_copy(b, b->length);
	struct frame f = frame_of(b);
	const char *why;

	p[at] = value;
	f.payload = p;
	return decode(&f, &why);
}

/* 16 and 32 bits, little-endian, at `at`. */
static void poke(struct frame_buf *b, size_t at, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		frame_payload(b)[at + (size_t)i] = (uint8_t)(value >> 8 * i);
}

static struct hello sample_hello(void)
{
	return (struct hello){
		.version = WIRE_VERSION,
		.role = WIRE_ROLE_SECONDARY,
		.payload_max = WIRE_PAYLOAD_MAX,
		.inflight_max = 2,
		.heartbeat_us = 250000,
		.features = 0,
		.session = UINT64_C(0x1122334455667788),
		.host = "beta",
	};
}

static struct guest_description sample_domain(void)
{
	static char config[] = "{\n\t\"a\": 1 }";

	return (struct guest_description){
		.kind = WIRE_GUEST_XEN_PVH,
		.ram_bytes = 128 << 20,
		.max_gfn = 0xfefff,
		.uuid = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
			  16 },
		.name = "guest",
		.config = config,
		.config_length = sizeof(config) - 1,
	};
}

static struct frame_buf *hello_buf(void)
{
	const struct hello h = sample_hello();

	return hello_encode(&h);
}

static struct frame_buf *domain_buf(void)
{
	const struct guest_description d = sample_domain();

	return domain_encode(&d);
}

static struct frame_buf *image_end_buf(void)
{
	return image_end_encode(&(struct wire_image_end){ 5, 6, 7, 8 });
}

static struct frame_buf *epoch_end_buf(void)
{
	return epoch_end_encode(3, &(struct wire_epoch_end){ 7, 8, 9 });
}

static struct frame_buf *ack_buf(void)
{
	return ack_encode(5, 4);
}

static struct frame_buf *bye_buf(void)
{
	return bye_encode(WIRE_REASON_CRASH, "it died");
}

static struct frame_buf *(*const samples[])(void) = {
	hello_buf, domain_buf, image_end_buf, epoch_end_buf, ack_buf, bye_buf,
};
enum { SAMPLES = sizeof(samples) / sizeof(samples[0]) };

static void any_other_length_is_refused(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLES; i++) {
		AUTO_FREE struct frame_buf *b = samples[i]();

		assert_non_null(b);
		for (size_t len = 0; len < b->length; len++)
			assert_int_equal(decode_resized(b, len), -EPROTO);
		assert_int_equal(decode_resized(b, b->length), 0);
		assert_int_equal(decode_resized(b, b->length + 1), -EPROTO);
		assert_int_equal(decode_resized(b, b->length + 8), -EPROTO);
	}
}

static void no_corrupted_byte_does_harm(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLES; i++) {
		AUTO_FREE struct frame_buf *b = samples[i]();

		assert_non_null(b);
		for (size_t at = 0; at < b->length; at++)
			for (int v = 0; v < 256; v++)
				decode_with(b, at, (uint8_t)v);
	}
}

static void hello_comes_back(void **state)
{
	const struct hello h = sample_hello();
	AUTO_FREE struct frame_buf *b = hello_encode(&h);
	struct frame f = frame_of(b);
	const char *why;
	struct hello got;

	(void)state;
	assert_int_equal(f.type, WIRE_HELLO);
	assert_int_equal(f.length, 48 + 4);
	assert_int_equal(hello_decode(&f, &got, &why), 0);
	assert_int_equal(got.version, h.version);
	assert_int_equal(got.role, h.role);
	assert_int_equal(got.payload_max, h.payload_max);
	assert_int_equal(got.inflight_max, h.inflight_max);
	assert_int_equal(got.heartbeat_us, h.heartbeat_us);
	assert_int_equal(got.features, h.features);
	assert_int_equal(got.session, h.session);
	assert_string_equal(got.host, "beta");
}

static void names_reach_to_their_limit(void **state)
{
	const int lengths[] = { 0, 1, WIRE_NAME_MAX - 1, WIRE_NAME_MAX };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct hello h = sample_hello();
		AUTO_FREE struct frame_buf *b = NULL;
		const char *why;
		struct hello got;
		struct frame f;

		memset(h.host, 'n', sizeof(h.host));
		h.host[lengths[i]] = '\0';
		b = hello_encode(&h);
		f = frame_of(b);
		assert_int_equal(hello_decode(&f, &got, &why), 0);
		assert_string_equal(got.host, h.host);
	}
}

static void a_name_over_the_limit_is_refused(void **state)
{
	AUTO_FREE struct frame_buf *big =
		frame_buf_new(WIRE_HELLO, 0, 48 + WIRE_NAME_MAX + 1);
	AUTO_FREE struct frame_buf *b = hello_buf();
	struct frame f;
	const char *why;

	(void)state;
	memset(frame_payload(big), 'n', big->capacity);
	memcpy(frame_payload(big), frame_payload(b), 48);
	big->length = big->capacity;
	poke(big, 40, WIRE_NAME_MAX + 1, 4);
	f = frame_of(big);
	assert_int_equal(decode(&f, &why), -EPROTO);
	poke(big, 40, WIRE_NAME_MAX, 4);
	f.length--;
	assert_int_equal(decode(&f, &why), 0);
	poke(big, 40, UINT32_MAX, 4);
	assert_int_equal(decode(&f, &why), -EPROTO);
}

static void hello_without_the_magic_is_refused(void **state)
{
	AUTO_FREE struct frame_buf *b = hello_buf();

	(void)state;
	for (size_t at = 0; at < 8; at++)
		assert_int_equal(decode_with(b, at, 'X'), -EPROTO);
}

static void another_version_is_told_apart(void **state)
{
	struct hello h = sample_hello();
	AUTO_FREE struct frame_buf *b = NULL;
	struct frame f;
	const char *why;
	struct hello got;

	(void)state;
	h.version = WIRE_VERSION + 1;
	b = hello_encode(&h);
	f = frame_of(b);
	assert_int_equal(hello_decode(&f, &got, &why), -EPROTONOSUPPORT);
	assert_int_equal(got.version, WIRE_VERSION + 1);
	/* However its layout goes on. */
	f.length = 10;
	assert_int_equal(hello_decode(&f, &got, &why), -EPROTONOSUPPORT);
	f.length = 9;
	assert_int_equal(hello_decode(&f, &got, &why), -EPROTO);
}

static void hello_fields_are_checked(void **state)
{
	static const struct {
		size_t at;
		int bytes;
		uint64_t value;
	} bad[] = {
		{ 10, 2, 0 },
		{ 10, 2, 3 },
		{ 12, 4, WIRE_PAYLOAD_MAX - 1 },
		{ 16, 4, 0 },
		{ 16, 4, WIRE_INFLIGHT_MAX + 1 },
		{ 20, 4, 0 },
		{ 44, 4, 1 },
		{ 44, 4, UINT32_C(1) << 31 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		AUTO_FREE struct frame_buf *b = hello_buf();

		poke(b, bad[i].at, bad[i].value, bad[i].bytes);
		assert_int_equal(decode_resized(b, b->length), -EPROTO);
	}
}

static void unknown_features_are_no_error(void **state)
{
	AUTO_FREE struct frame_buf *b = hello_buf();
	struct frame f = frame_of(b);
	const char *why;
	struct hello got;

	(void)state;
	poke(b, 24, UINT64_MAX, 8);
	assert_int_equal(hello_decode(&f, &got, &why), 0);
	assert_int_equal(got.features, UINT64_MAX);
}

static void unprintable_names_are_refused(void **state)
{
	AUTO_FREE struct frame_buf *hello = hello_buf();
	AUTO_FREE struct frame_buf *domain = domain_buf();
	AUTO_FREE struct frame_buf *bye = bye_buf();
	const uint8_t bad[] = { 0, '\n', 0x1b, 0x7f, 0x80, 0xff };

	(void)state;
	for (size_t i = 0; i < sizeof(bad); i++) {
		assert_int_equal(decode_with(hello, 49, bad[i]), -EPROTO);
		assert_int_equal(decode_with(domain, 49, bad[i]), -EPROTO);
		assert_int_equal(decode_with(bye, 9, bad[i]), -EPROTO);
	}
}

static void domain_comes_back(void **state)
{
	const struct guest_description d = sample_domain();
	AUTO_FREE struct frame_buf *b = domain_encode(&d);
	struct frame f = frame_of(b);
	struct guest_description got;
	const char *why;

	(void)state;
	assert_int_equal(f.type, WIRE_DOMAIN);
	assert_int_equal(domain_decode(&f, &got, &why), 0);
	assert_int_equal(got.kind, d.kind);
	assert_int_equal(got.ram_bytes, d.ram_bytes);
	assert_int_equal(got.max_gfn, d.max_gfn);
	assert_memory_equal(got.uuid, d.uuid, 16);
	assert_string_equal(got.name, "guest");
	assert_int_equal(got.config_length, d.config_length);
	assert_string_equal(got.config, d.config);
	guest_description_fini(&got);
	assert_null(got.config);
}

static void configurations_reach_to_their_limit(void **state)
{
	const size_t lengths[] = { 0, 1, WIRE_CONFIG_MAX - 1, WIRE_CONFIG_MAX };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct guest_description d = sample_domain();
		AUTO_FREE char *config = malloc(WIRE_CONFIG_MAX);
		AUTO_FREE struct frame_buf *b = NULL;
		struct guest_description got;
		const char *why;
		struct frame f;

		memset(config, 'c', WIRE_CONFIG_MAX);
		memset(d.name, 'n', WIRE_NAME_MAX);
		d.config = config;
		d.config_length = lengths[i];
		b = domain_encode(&d);
		f = frame_of(b);
		frame_header_encode(b, 0);
		assert_int_equal(frame_header_decode(b->bytes, 0, &f, &why), 0);
		f.payload = frame_payload(b);
		assert_int_equal(domain_decode(&f, &got, &why), 0);
		assert_int_equal(got.config_length, lengths[i]);
		assert_int_equal(strlen(got.config), lengths[i]);
		guest_description_fini(&got);
	}
}

static void a_configuration_over_the_limit_is_refused(void **state)
{
	struct guest_description d = sample_domain();
	AUTO_FREE struct frame_buf *b = domain_buf();
	AUTO_FREE struct frame_buf *big =
		frame_buf_new(WIRE_DOMAIN, 0, 48 + 5 + WIRE_CONFIG_MAX + 1);
	struct frame f;
	const char *why;

	(void)state;
	d.config_length = WIRE_CONFIG_MAX + 1;
	assert_null(domain_encode(&d));

	memset(frame_payload(big), 'c', big->capacity);
	memcpy(frame_payload(big), frame_payload(b), 48);
	big->length = big->capacity;
	poke(big, 44, WIRE_CONFIG_MAX + 1, 4);
	f = frame_of(big);
	assert_int_equal(decode(&f, &why), -EPROTO);
	/* A sum that wraps around to the right length. */
	poke(big, 40, UINT32_MAX - 9, 4);
	poke(big, 44, big->length - 48 + 10, 4);
	assert_int_equal(decode(&f, &why), -EPROTO);
}

static void domain_fields_are_checked(void **state)
{
	static const struct {
		size_t at;
		int bytes;
		uint64_t value;
		int err;
	} cases[] = {
		{ 2, 2, 1, -EPROTO },
		{ 2, 2, 0x8000, -EPROTO },
		{ 4, 4, 1, -EPROTO },
		{ 4, 4, UINT32_C(1) << 31, -EPROTO },
		{ 8, 8, 0, -EPROTO },
		{ 8, 8, (UINT64_C(1) << 44) + 1, -EPROTO },
		{ 8, 8, UINT64_C(1) << 44, 0 },
		{ 16, 8, WIRE_GFN_MAX + 1, -EPROTO },
		{ 16, 8, WIRE_GFN_MAX, 0 },
		/* Whether a kind can be built is not for the format to say. */
		{ 0, 2, 0x7777, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		AUTO_FREE struct frame_buf *b = domain_buf();

		poke(b, cases[i].at, cases[i].value, cases[i].bytes);
		assert_int_equal(decode_resized(b, b->length), cases[i].err);
	}
}

static void a_domain_without_a_name_is_refused(void **state)
{
	struct guest_description d = sample_domain();
	AUTO_FREE struct frame_buf *b = NULL;

	(void)state;
	d.name[0] = '\0';
	b = domain_encode(&d);
	assert_int_equal(decode_resized(b, b->length), -EPROTO);
}

static void a_configuration_with_a_nul_is_refused(void **state)
{
	AUTO_FREE struct frame_buf *b = domain_buf();

	(void)state;
	assert_int_equal(decode_with(b, b->length - 1, 0), -EPROTO);
	assert_int_equal(decode_with(b, 48 + 5, 0), -EPROTO);
}

static void image_end_comes_back(void **state)
{
	const struct wire_image_end e = { UINT64_MAX, 0x0123456789abcdef, 1,
					  UINT64_MAX - 1 };
	AUTO_FREE struct frame_buf *b = image_end_encode(&e);
	struct frame f = frame_of(b);
	struct wire_image_end got;
	const char *why;

	(void)state;
	assert_int_equal(f.type, WIRE_IMAGE_END);
	assert_int_equal(image_end_decode(&f, &got, &why), 0);
	assert_memory_equal(&got, &e, sizeof(e));
}

static void epoch_end_comes_back(void **state)
{
	const struct wire_epoch_end e = { 1, UINT64_MAX, 0x0123456789abcdef };
	AUTO_FREE struct frame_buf *b = epoch_end_encode(77, &e);
	struct frame f = frame_of(b);
	struct wire_epoch_end got;
	const char *why;

	(void)state;
	assert_int_equal(f.type, WIRE_EPOCH_END);
	assert_int_equal(f.epoch, 77);
	assert_int_equal(epoch_end_decode(&f, &got, &why), 0);
	assert_memory_equal(&got, &e, sizeof(e));
}

static void ack_comes_back(void **state)
{
	AUTO_FREE struct frame_buf *b = ack_encode(9, 9);
	struct frame f = frame_of(b);
	struct wire_ack got;
	const char *why;

	(void)state;
	assert_int_equal(f.type, WIRE_ACK);
	assert_int_equal(f.epoch, 9);
	assert_int_equal(ack_decode(&f, &got, &why), 0);
	assert_int_equal(got.applied, 9);
}

static void nothing_is_applied_before_it_is_acknowledged(void **state)
{
	AUTO_FREE struct frame_buf *b = ack_encode(9, 10);

	(void)state;
	assert_int_equal(decode_resized(b, b->length), -EPROTO);
}

static void bye_texts_reach_to_their_limit(void **state)
{
	const int lengths[] = { 0, 1, WIRE_TEXT_MAX - 1, WIRE_TEXT_MAX };
	char text[WIRE_TEXT_MAX + 1];

	(void)state;
	for (int i = 0; i < 4; i++) {
		AUTO_FREE struct frame_buf *b = NULL;
		const char *why;
		struct frame f;
		struct bye got;

		memset(text, 't', sizeof(text));
		text[lengths[i]] = '\0';
		b = bye_encode(WIRE_REASON_LIMIT, text);
		f = frame_of(b);
		assert_int_equal(f.length, 8 + lengths[i]);
		assert_int_equal(bye_decode(&f, &got, &why), 0);
		assert_int_equal(got.reason, WIRE_REASON_LIMIT);
		assert_string_equal(got.text, text);
	}
}

static void a_longer_text_is_cut(void **state)
{
	char text[WIRE_TEXT_MAX + 10];
	AUTO_FREE struct frame_buf *b = NULL;

	(void)state;
	memset(text, 't', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	b = bye_encode(WIRE_REASON_LIMIT, text);
	assert_int_equal(b->length, 8 + WIRE_TEXT_MAX);
	assert_int_equal(decode_resized(b, b->length), 0);
}

static void a_text_is_made_fit_to_be_sent(void **state)
{
	AUTO_FREE struct frame_buf *none = bye_encode(WIRE_REASON_ENDED, NULL);
	AUTO_FREE struct frame_buf *b =
		bye_encode(WIRE_REASON_ENDED, "a\nb\xff");
	struct frame f = frame_of(b);
	const char *why;
	struct bye got;

	(void)state;
	assert_int_equal(none->length, 8);
	assert_int_equal(bye_decode(&f, &got, &why), 0);
	assert_string_equal(got.text, "a?b?");
}

static void an_unknown_reason_is_kept(void **state)
{
	AUTO_FREE struct frame_buf *b = bye_encode(4711, "");
	struct frame f = frame_of(b);
	const char *why;
	struct bye got;

	(void)state;
	assert_int_equal(bye_decode(&f, &got, &why), 0);
	assert_int_equal(got.reason, 4711);
	assert_string_equal(wire_reason_text(got.reason), "unknown reason");
	assert_string_equal(wire_reason_name(got.reason), "?");
}

static void reasons_have_names_and_words(void **state)
{
	(void)state;
#define X(number, name, text)                                 \
	assert_string_equal(wire_reason_name(number), #name); \
	assert_string_equal(wire_reason_text(number), text);
	WIRE_REASONS(X)
#undef X
	assert_string_equal(wire_reason_name(13), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_other_length_is_refused),
		cmocka_unit_test(no_corrupted_byte_does_harm),
		cmocka_unit_test(hello_comes_back),
		cmocka_unit_test(names_reach_to_their_limit),
		cmocka_unit_test(a_name_over_the_limit_is_refused),
		cmocka_unit_test(hello_without_the_magic_is_refused),
		cmocka_unit_test(another_version_is_told_apart),
		cmocka_unit_test(hello_fields_are_checked),
		cmocka_unit_test(unknown_features_are_no_error),
		cmocka_unit_test(unprintable_names_are_refused),
		cmocka_unit_test(domain_comes_back),
		cmocka_unit_test(configurations_reach_to_their_limit),
		cmocka_unit_test(a_configuration_over_the_limit_is_refused),
		cmocka_unit_test(domain_fields_are_checked),
		cmocka_unit_test(a_domain_without_a_name_is_refused),
		cmocka_unit_test(a_configuration_with_a_nul_is_refused),
		cmocka_unit_test(image_end_comes_back),
		cmocka_unit_test(epoch_end_comes_back),
		cmocka_unit_test(ack_comes_back),
		cmocka_unit_test(nothing_is_applied_before_it_is_acknowledged),
		cmocka_unit_test(bye_texts_reach_to_their_limit),
		cmocka_unit_test(a_longer_text_is_cut),
		cmocka_unit_test(a_text_is_made_fit_to_be_sent),
		cmocka_unit_test(an_unknown_reason_is_kept),
		cmocka_unit_test(reasons_have_names_and_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
