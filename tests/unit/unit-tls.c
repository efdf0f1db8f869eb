/* SPDX-License-Identifier: Apache-2.0 */
/* TLS sessions in memory: two of them, with the bytes carried by hand. */
#include "config.h"

#include "net/tls.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "net-fixture.h"

struct pair {
	struct tls *client, *server;
	int client_result, server_result;
	char client_why[TLS_ERROR_BYTES], server_why[TLS_ERROR_BYTES];
	uint64_t carried;
};

/* Moves all ciphertext one way; returns the bytes. */
static size_t carry(struct pair *p, struct tls *from, struct tls *to)
{
	size_t all = 0;

	for (;;) {
		size_t len, room;
		const uint8_t *bytes = tls_send_bytes(from, &len);
		uint8_t *place;

		if (!bytes)
			break;
		place = tls_receive_room(to, &room);
		if (!room)
			break;
		if (len > room)
			len = room;
		memcpy(place, bytes, len);
		tls_received(to, len);
		tls_sent(from, len);
		all += len;
	}
	p->carried += all;
	return all;
}

static void handshake(struct pair *p)
{
	for (int i = 0; i < 10; i++) {
		if (p->client_result == 0)
			p->client_result =
				tls_handshake(p->client, p->client_why);
		carry(p, p->client, p->server);
		if (p->server_result == 0)
			p->server_result =
				tls_handshake(p->server, p->server_why);
		carry(p, p->server, p->client);
	}
}

static struct pair pair_of(struct tls_identity *client,
			   struct tls_identity *server, const char *expected)
{
	struct pair p = { 0 };

	assert_int_equal(tls_new(client, false, expected, &p.client), 0);
	assert_int_equal(tls_new(server, true, NULL, &p.server), 0);
	tls_identity_free(client);
	tls_identity_free(server);
	return p;
}

static void pair_free(struct pair *p)
{
	tls_free(p->client);
	tls_free(p->server);
}

static struct pair established(const struct cert_dirs *d)
{
	struct pair p = pair_of(identity(d->ours, "alpha"),
				identity(d->ours, "beta"), "beta.example");

	handshake(&p);
	assert_int_equal(p.client_result, 1);
	assert_int_equal(p.server_result, 1);
	return p;
}

static void test_both_sides_know_each_other(void **state)
{
	struct pair p = established(*state);

	assert_string_equal(tls_peer_name(p.client), "beta");
	assert_string_equal(tls_peer_name(p.server), "alpha");
	pair_free(&p);
}

static void expect_cipher(const struct cert_dirs *d, bool client, bool server,
			  const char *wanted)
{
	struct tls_identity *ours = identity(d->ours, "alpha");
	struct tls_identity *theirs = identity(d->ours, "beta");
	struct pair p;

	assert_int_equal(tls_identity_cipher(ours, client), 0);
	assert_int_equal(tls_identity_cipher(theirs, server), 0);
	p = pair_of(ours, theirs, "beta.example");
	handshake(&p);
	assert_int_equal(p.client_result, 1);
	assert_string_equal(tls_cipher_name(p.client), wanted);
	assert_string_equal(tls_cipher_name(p.server), wanted);
	pair_free(&p);
}

/* AES without instructions for it is slow, on whichever side. */
static void test_cipher_of_the_slower_side(void **state)
{
	static const char aes[] = "TLS_AES_128_GCM_SHA256";
	static const char chacha[] = "TLS_CHACHA20_POLY1305_SHA256";

	expect_cipher(*state, true, true, aes);
	expect_cipher(*state, false, true, chacha);
	expect_cipher(*state, true, false, chacha);
	expect_cipher(*state, false, false, chacha);
}

/* What this machine has: its own choice is one of the two. */
static void test_cipher_of_this_processor(void **state)
{
	struct pair p = established(*state);
	bool aes = !system("grep -w aes /proc/cpuinfo | grep -qw pclmulqdq || "
			   "test \"$(uname -m)\" != x86_64");

	assert_string_equal(tls_cipher_name(p.client),
			    aes ? "TLS_AES_128_GCM_SHA256"
				: "TLS_CHACHA20_POLY1305_SHA256");
	pair_free(&p);
}

static void test_address_is_a_name_too(void **state)
{
	const struct cert_dirs *d = *state;
	static const char *const names[] = { "127.0.0.1", "::1", "localhost",
					     "alpha" };

	for (size_t i = 0; i < 4; i++) {
		struct pair p = pair_of(identity(d->ours, "beta"),
					identity(d->ours, "alpha"), names[i]);

		handshake(&p);
		assert_int_equal(p.client_result, 1);
		pair_free(&p);
	}
}

static void test_bytes_arrive_in_full_records(void **state)
{
	struct pair p = established(*state);
	static uint8_t out[300000], in[300000];
	size_t written = 0, read = 0;
	uint64_t before;
	char why[TLS_ERROR_BYTES];

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + i / 251);
	before = p.carried;
	for (int i = 0; i < 1000 && read < sizeof(in); i++) {
		ssize_t n;

		while (written < sizeof(out)) {
			n = tls_write(p.client, out + written,
				      sizeof(out) - written, why);
			if (n == -EAGAIN)
				break;
			assert_true(n > 0);
			written += (size_t)n;
		}
		carry(&p, p.client, p.server);
		while ((n = tls_read(p.server, in + read, sizeof(in) - read,
				     why)) > 0)
			read += (size_t)n;
		assert_int_equal(n, -EAGAIN);
	}
	assert_int_equal(read, sizeof(in));
	assert_memory_equal(in, out, sizeof(in));
	/* 22 bytes a record (RFC 8446, 5.2), and no more records than needed */
	assert_int_equal(p.carried - before,
			 sizeof(out) + 22 * ((sizeof(out) + 16383) / 16384));
	pair_free(&p);
}

static void test_full_output_refuses_and_goes_on(void **state)
{
	struct pair p = established(*state);
	static uint8_t bytes[16384];
	char why[TLS_ERROR_BYTES];
	int taken = 0;

	while (tls_write(p.client, bytes, sizeof(bytes), why) > 0)
		assert_true(++taken < 100);
	assert_true(taken > 1);
	/* Something else may come instead of what was refused. */
	assert_int_equal(tls_write(p.client, "x", 1, why), -EAGAIN);
	carry(&p, p.client, p.server);
	assert_int_equal(tls_write(p.client, "x", 1, why), 1);
	pair_free(&p);
}

static void test_key_changes_unnoticed(void **state)
{
	struct pair p = established(*state);
	char why[TLS_ERROR_BYTES];
	uint8_t got[8];
	uint64_t before;

	tls_rekey_after(p.client, 3);
	before = p.carried;
	for (int i = 0; i < 50; i++) {
		assert_int_equal(tls_write(p.client, &i, sizeof(i), why),
				 sizeof(i));
		carry(&p, p.client, p.server);
		assert_int_equal(tls_read(p.server, got, sizeof(got), why),
				 sizeof(i));
		assert_memory_equal(got, &i, sizeof(i));
	}
	/* 50 records of 4 bytes, and 16 key updates of 5 bytes */
	assert_int_equal(p.carried - before, 50 * 26 + 16 * 27);
	pair_free(&p);
}

static void test_close_notify_is_an_end(void **state)
{
	struct pair p = established(*state);
	char why[TLS_ERROR_BYTES], byte;

	assert_int_equal(tls_read(p.server, &byte, 1, why), -EAGAIN);
	tls_shutdown(p.client);
	carry(&p, p.client, p.server);
	assert_int_equal(tls_read(p.server, &byte, 1, why), 0);
	pair_free(&p);
}

static void test_corrupted_record(void **state)
{
	struct pair p = established(*state);
	char why[TLS_ERROR_BYTES], byte;
	size_t len;
	uint8_t *bytes;

	assert_int_equal(tls_write(p.client, "x", 1, why), 1);
	bytes = (uint8_t *)(uintptr_t)tls_send_bytes(p.client, &len);
	bytes[len - 1] ^= 1;
	carry(&p, p.client, p.server);
	assert_int_equal(tls_read(p.server, &byte, 1, why), -EPROTO);
	assert_string_equal(why, "a TLS record was corrupted on its way");
	pair_free(&p);
}

static void test_wrong_name(void **state)
{
	const struct cert_dirs *d = *state;
	struct pair p = pair_of(identity(d->ours, "alpha"),
				identity(d->ours, "beta"), "gamma.example");

	handshake(&p);
	assert_int_equal(p.client_result, -EACCES);
	assert_string_equal(
		p.client_why,
		"the peer's certificate (beta) does not name gamma.example");
	assert_int_equal(p.server_result, -EACCES);
	assert_non_null(strstr(p.server_why, "the peer refused our "
					     "certificate: "));
	pair_free(&p);
}

static void test_wrong_address(void **state)
{
	const struct cert_dirs *d = *state;
	struct pair p = pair_of(identity(d->ours, "beta"),
				identity(d->ours, "alpha"), "127.0.0.2");

	handshake(&p);
	assert_int_equal(p.client_result, -EACCES);
	assert_non_null(strstr(p.client_why, "does not name 127.0.0.2"));
	pair_free(&p);
}

static void test_server_of_another_ca(void **state)
{
	const struct cert_dirs *d = *state;
	struct pair p = pair_of(identity(d->ours, "alpha"),
				identity(d->theirs, "beta"), "beta");

	handshake(&p);
	assert_int_equal(p.client_result, -EACCES);
	assert_string_equal(
		p.client_why,
		"the peer's certificate (beta) is not signed by our CA");
	assert_int_equal(p.server_result, -EACCES);
	assert_string_equal(p.server_why,
			    "the peer refused our certificate: unknown CA");
	pair_free(&p);
}

/* A chain of our CA for the server to show, and theirs to trust. */
static struct tls_identity *trusts_others(const struct cert_dirs *d)
{
	char why[TLS_ERROR_BYTES], both[128], command[512];
	struct tls_identity *id = NULL;

	snprintf(both, sizeof(both), "%s/both.crt", d->theirs);
	snprintf(command, sizeof(command), "cat %s/ca.crt %s/ca.crt > %s",
		 d->ours, d->theirs, both);
	assert_int_equal(system(command), 0);
	assert_int_equal(load_identity(d->theirs, "alpha.crt", "alpha.key",
				       "both.crt", &id, why),
			 0);
	return id;
}

/* In TLS 1.3 the client is done before the server has seen its certificate. */
static void test_client_refused_learns_it_when_reading(void **state)
{
	const struct cert_dirs *d = *state;
	struct pair p =
		pair_of(trusts_others(d), identity(d->ours, "beta"), "beta");
	char why[TLS_ERROR_BYTES], byte;

	handshake(&p);
	assert_int_equal(p.client_result, 1);
	assert_int_equal(p.server_result, -EACCES);
	assert_string_equal(
		p.server_why,
		"the peer's certificate (alpha) is not signed by our CA");
	assert_int_equal(tls_read(p.client, &byte, 1, why), -EACCES);
	assert_string_equal(why,
			    "the peer refused our certificate: unknown CA");
	pair_free(&p);
}

static void test_server_may_expect_a_name(void **state)
{
	const struct cert_dirs *d = *state;
	struct tls_identity *id = identity(d->ours, "beta");
	struct pair p = { 0 };

	assert_int_equal(tls_new(id, false, NULL, &p.client), 0);
	assert_int_equal(tls_new(id, true, "alpha", &p.server), 0);
	tls_identity_free(id);
	handshake(&p);
	assert_int_equal(p.server_result, -EACCES);
	assert_string_equal(p.server_why, "the peer's certificate (beta) does "
					  "not name alpha");
	pair_free(&p);
}

static void test_plain_text_is_told_apart(void **state)
{
	const struct cert_dirs *d = *state;
	static const char *const said[] = { "HTTP/1.1 400 Bad Request\r\n\r\n",
					    "GET / HTTP/1.0\r\n\r\n",
					    "SSH-2.0-OpenSSH_9.2\r\n",
					    "\0\0\0\0\0\0\0\0" };

	for (size_t i = 0; i < 8; i++) {
		struct tls_identity *id = identity(d->ours, "alpha");
		struct tls *t;
		char why[TLS_ERROR_BYTES];
		size_t room;
		uint8_t *place;

		assert_int_equal(tls_new(id, i & 1, NULL, &t), 0);
		tls_identity_free(id);
		assert_int_equal(tls_handshake(t, why), 0);
		place = tls_receive_room(t, &room);
		memcpy(place, said[i / 2], 8);
		tls_received(t, 8);
		assert_int_equal(tls_handshake(t, why), -EPROTO);
		assert_non_null(strstr(why, "does not speak TLS (is it a web"));
		tls_free(t);
	}
}

static void test_files_are_checked(void **state)
{
	const struct cert_dirs *d = *state;
	struct tls_identity *id = NULL;
	char why[TLS_ERROR_BYTES], other[128], key[128];

	assert_int_equal(load_identity(d->ours, "none.crt", "alpha.key",
				       "ca.crt", &id, why),
			 -ENOENT);
	assert_non_null(strstr(why, "none.crt: No such file"));
	assert_int_equal(load_identity(d->ours, "alpha.crt", "beta.key",
				       "ca.crt", &id, why),
			 -EINVAL);
	assert_non_null(strstr(why, "does not belong to the certificate"));
	snprintf(other, sizeof(other), "%s/ca.crt", d->theirs);
	assert_int_equal(load_identity(d->ours, "alpha.crt", "alpha.key", other,
				       &id, why),
			 -EINVAL);
	assert_non_null(strstr(why, "is not signed by the CA"));
	assert_int_equal(load_identity(d->ours, "old.crt", "old.key", "ca.crt",
				       &id, why),
			 -EKEYEXPIRED);
	assert_non_null(strstr(why, "expired"));
	assert_int_equal(load_identity(d->ours, "alpha.key", "alpha.key",
				       "ca.crt", &id, why),
			 -EINVAL);
	assert_int_equal(load_identity(d->ours, "alpha.crt", "alpha.crt",
				       "ca.crt", &id, why),
			 -EACCES);
	snprintf(key, sizeof(key), "%s/beta.key", d->ours);
	assert_int_equal(chmod(key, 0604), 0);
	assert_int_equal(load_identity(d->ours, "beta.crt", "beta.key",
				       "ca.crt", &id, why),
			 -EACCES);
	assert_non_null(strstr(why, "chmod 600"));
	assert_int_equal(chmod(key, 0600), 0);
	assert_null(id);
}

static void test_own_name(void **state)
{
	const struct cert_dirs *d = *state;
	struct tls_identity *id = identity(d->ours, "alpha");

	assert_string_equal(tls_identity_name(id), "alpha");
	tls_identity_free(id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_sides_know_each_other),
		cmocka_unit_test(test_cipher_of_the_slower_side),
		cmocka_unit_test(test_cipher_of_this_processor),
		cmocka_unit_test(test_address_is_a_name_too),
		cmocka_unit_test(test_bytes_arrive_in_full_records),
		cmocka_unit_test(test_full_output_refuses_and_goes_on),
		cmocka_unit_test(test_key_changes_unnoticed),
		cmocka_unit_test(test_close_notify_is_an_end),
		cmocka_unit_test(test_corrupted_record),
		cmocka_unit_test(test_wrong_name),
		cmocka_unit_test(test_wrong_address),
		cmocka_unit_test(test_server_of_another_ca),
		cmocka_unit_test(test_client_refused_learns_it_when_reading),
		cmocka_unit_test(test_server_may_expect_a_name),
		cmocka_unit_test(test_plain_text_is_told_apart),
		cmocka_unit_test(test_files_are_checked),
		cmocka_unit_test(test_own_name),
	};

	return cmocka_run_group_tests(tests, make_cert_dirs, remove_cert_dirs);
}
