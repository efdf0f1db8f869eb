/* SPDX-License-Identifier: Apache-2.0 */
/* Links that come up, or do not: names, certificates, strangers. */
#include "config.h"

#include "net/link.h"

#include <netinet/tcp.h>

#include "net/congestion.h"

#include "link-raw.h"

static void test_connection_refused(void **state)
{
	struct rig *r = *state;
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int taken = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(taken, (struct sockaddr *)&addr, len), 0);
	getsockname(taken, (struct sockaddr *)&addr, &len);
	r->port = ntohs(addr.sin_port);
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	assert_int_equal(r->client.downs, 0);
	run_until(r, client_down);
	assert_int_equal(r->client.err, -ECONNREFUSED);
	assert_string_equal(r->client.why,
			    "cannot connect: Connection refused");
	close(taken);
}

static void test_unknown_name(void **state)
{
	struct rig *r = *state;

	connect_as(r, identity(r->dirs->ours, "beta"), "no.such.host.invalid");
	run_until(r, client_down);
	assert_int_equal(r->client.err, -EHOSTUNREACH);
	assert_non_null(
		strstr(r->client.why, "cannot resolve no.such.host.invalid"));
}

static bool listener_logged_refused(struct rig *r)
{
	return logged(r, "connection from 127.0.0.1: the peer refused our "
			 "certificate: unknown CA");
}

static bool listener_logged_unsigned(struct rig *r)
{
	return logged(r, "connection from 127.0.0.1: the peer's certificate "
			 "(beta) is not signed by our CA");
}

static void test_server_of_another_ca(void **state)
{
	struct rig *r = *state;

	listen_as(r, identity(r->dirs->theirs, "alpha"));
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	run_until(r, client_down);
	assert_int_equal(r->client.err, -EACCES);
	assert_string_equal(
		r->client.why,
		"the peer's certificate (alpha) is not signed by our CA");
	assert_int_equal(r->client.ups, 0);
	run_until(r, listener_logged_refused);
	assert_int_equal(r->server.ups + r->server.downs, 0);
}

static void send_hello(struct end *e)
{
	link_send(e->link, frame(e, WIRE_PAGES, 0, WIRE_PAYLOAD_MAX));
}

/* The client is up before the server has seen its certificate. */
static void test_client_of_another_ca(void **state)
{
	struct rig *r = *state;
	char why[TLS_ERROR_BYTES], both_cas[128], command[512];
	struct tls_identity *id;

	snprintf(both_cas, sizeof(both_cas), "%s/both.crt", r->dirs->theirs);
	snprintf(command, sizeof(command), "cat %s/ca.crt %s/ca.crt > %s",
		 r->dirs->ours, r->dirs->theirs, both_cas);
	assert_int_equal(system(command), 0);
	assert_int_equal(load_identity(r->dirs->theirs, "beta.crt", "beta.key",
				       both_cas, &id, why),
			 0);
	listen_as(r, identity(r->dirs->ours, "alpha"));
	r->client.on_up = send_hello;
	connect_as(r, id, "127.0.0.1");
	run_until(r, client_down);
	assert_int_equal(r->client.ups, 1);
	assert_int_equal(r->client.err, -EACCES);
	assert_string_equal(r->client.why,
			    "the peer refused our certificate: unknown CA");
	run_until(r, listener_logged_unsigned);
	assert_true(logged(r, "connection from 127.0.0.1: the peer's "
			      "certificate (beta) is not signed by our CA"));
	assert_int_equal(r->server.ups + r->server.downs, 0);
}

static void test_wrong_name(void **state)
{
	struct rig *r = *state;

	listen_as(r, identity(r->dirs->ours, "beta"));
	connect_as(r, identity(r->dirs->ours, "alpha"), "127.0.0.1");
	run_until(r, client_down);
	assert_int_equal(r->client.err, -EACCES);
	assert_string_equal(
		r->client.why,
		"the peer's certificate (beta) does not name 127.0.0.1");
}

static void test_unwanted_link_is_ended(void **state)
{
	struct rig *r = *state;

	r->refuse_all = true;
	both(r);
	run_until(r, client_down);
	assert_true(r->client.err < 0);
	assert_int_equal(r->server.ups + r->server.downs, 0);
}

static void test_listener_may_be_closed_while_accepting(void **state)
{
	struct rig *r = *state;

	r->close_in_accepted = true;
	established(r);
	send_bulk(&r->client, 10, 1000);
	run_until(r, ten_arrived);
}

static void say_http_error(struct raw *w)
{
	static const char text[] = "HTTP/1.1 400 Bad Request\r\n"
				   "Connection: close\r\n\r\n<html></html>";

	assert_true(write(w->fd, text, strlen(text)) > 0);
	shutdown(w->fd, SHUT_WR);
	read_to_the_end(w->fd);
}

static void test_peer_is_a_web_server(void **state)
{
	struct rig *r = *state;

	raw_server(r, (struct raw){ .act = say_http_error });
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	run_until(r, client_down);
	assert_int_equal(r->client.err, -EPROTO);
	assert_non_null(strstr(r->client.why, "does not speak TLS"));
	raw_join(r);
}

static void ask_http(struct raw *w)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: alpha\r\n\r\n";

	assert_true(write(w->fd, text, strlen(text)) > 0);
	read_to_the_end(w->fd);
}

static bool listener_logged_tls(struct rig *r)
{
	return logged(r, "connection from 127.0.0.1: the peer does not speak "
			 "TLS");
}

static void test_browser_at_the_listener(void **state)
{
	struct rig *r = *state;

	raw_client(r, (struct raw){ .act = ask_http });
	run_until(r, listener_logged_tls);
	raw_join(r);
	assert_int_equal(r->server.ups + r->server.downs, 0);
}

static void say_nothing(struct raw *w)
{
	read_to_the_end(w->fd);
}

static void test_listener_closed_with_handshakes_pending(void **state)
{
	struct rig *r = *state;
	uint64_t start_us = clock_now_us();

	raw_client(r, (struct raw){ .act = say_nothing });
	run_for(r, 20000);
	link_listener_close(r->listener);
	r->listener = NULL;
	run_until(r, raw_finished);
	raw_join(r);
	assert_true(clock_now_us() - start_us < 3000000);
}

static bool listener_logged_timeout(struct rig *r)
{
	return logged(r, "connection from 127.0.0.1: the TLS handshake was not "
			 "finished within 1 s");
}

static void test_silent_client_is_not_waited_for(void **state)
{
	struct rig *r = *state;
	uint64_t start_us = clock_now_us();

	listen_as(r, identity(r->dirs->ours, "alpha"));
	link_listener_setup_timeout(r->listener, 100000);
	raw_start(r, (struct raw){ .act = say_nothing });
	run_until(r, listener_logged_timeout);
	raw_join(r);
	assert_true(clock_now_us() - start_us >= 100000);
	assert_int_equal(r->server.ups + r->server.downs, 0);
}

static void test_silent_server_is_not_waited_for(void **state)
{
	struct rig *r = *state;

	raw_server(r, (struct raw){ .act = say_nothing });
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	link_setup_timeout(r->client.link, 100000);
	run_until(r, client_down);
	assert_int_equal(r->client.err, -ETIMEDOUT);
	raw_join(r);
}

static void test_server_hangs_up_in_the_handshake(void **state)
{
	struct rig *r = *state;

	raw_server(r, (struct raw){ .act = hang_up });
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	run_until(r, client_down);
	assert_int_equal(r->client.err, -ECONNRESET);
	assert_non_null(strstr(r->client.why, "in the TLS handshake"));
	raw_join(r);
}

static void test_strangers_do_not_keep_the_peer_out(void **state)
{
	struct rig *r = *state;
	struct sockaddr_in addr = { .sin_family = AF_INET };
	int fds[24];

	listen_as(r, identity(r->dirs->ours, "alpha"));
	link_listener_setup_timeout(r->listener, 100000);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.sin_port = htons(r->port);
	for (int i = 0; i < 24; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(
			connect(fds[i], (struct sockaddr *)&addr, sizeof(addr)),
			0);
	}
	run_for(r, 20000);
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	run_until(r, both_up);
	for (int i = 0; i < 24; i++)
		close(fds[i]);
}

static void test_server_with_an_expired_certificate(void **state)
{
	struct rig *r = *state;

	raw_server(r,
		   (struct raw){ .tls = true, .host = "old", .act = hang_up });
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	run_until(r, client_down);
	assert_int_equal(r->client.err, -EACCES);
	assert_string_equal(r->client.why,
			    "the peer's certificate (old) has expired");
	raw_join(r);
}

static void send_much(struct end *e)
{
	send_bulk(e, 40, WIRE_PAYLOAD_MAX);
}

/* A peer that refuses us and hangs up at once, so that our sends fail. */
static void test_refusal_is_read_though_sending_failed(void **state)
{
	struct rig *r = *state;

	raw_server(r, (struct raw){ .tls = true,
				    .host = "alpha",
				    .verify = true,
				    .act = hang_up });
	r->client.on_up = send_much;
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	run_until(r, client_down);
	raw_join(r);
	assert_int_equal(r->client.ups, 1);
	assert_int_equal(r->client.err, -EACCES);
	assert_string_equal(r->client.why,
			    "the peer refused our certificate: unknown CA");
	assert_int_equal(r->client.released_at_down, 40);
}

static bool listener_logged_expired(struct rig *r)
{
	return logged(r, "connection from 127.0.0.1: the peer's certificate "
			 "(old) has expired");
}

static void test_client_with_an_expired_certificate(void **state)
{
	struct rig *r = *state;

	raw_client(r,
		   (struct raw){ .tls = true, .host = "old", .act = read_tls });
	run_until(r, listener_logged_expired);
	raw_join(r);
	assert_int_equal(r->server.ups + r->server.downs, 0);
}

static bool listener_logged_none(struct rig *r)
{
	return logged(r, "connection from 127.0.0.1: the peer presented no "
			 "certificate");
}

static void test_client_without_a_certificate(void **state)
{
	struct rig *r = *state;

	raw_client(r, (struct raw){
			      .tls = true, .host = "nobody", .act = read_tls });
	run_until(r, listener_logged_none);
	raw_join(r);
}

/* How many connected sockets of this process use this congestion control. */
static int sockets_with(const char *congestion)
{
	struct sockaddr_storage peer;
	int fd, count = 0;

	for (fd = 0; fd < 1024; fd++) {
		socklen_t peer_len = sizeof(peer), len = CONGESTION_NAME_BYTES;
		char name[CONGESTION_NAME_BYTES + 1] = { 0 };

		if (!getpeername(fd, (struct sockaddr *)&peer, &peer_len) &&
		    !getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len))
			count += !strcmp(name, congestion);
	}
	return count;
}

static void test_congestion_control(void **state)
{
	struct rig *r = *state;
	char used[CONGESTION_NAME_BYTES];

	assert_int_equal(congestion_check(NULL, used), 0);
	assert_true(used[0]);
	assert_int_equal(congestion_check("no-such-thing", used), -ENOENT);
	assert_int_equal(congestion_check("reno-and-much-more", used), -ENOENT);
	assert_int_equal(congestion_check("", used), -ENOENT);
	assert_int_equal(congestion_check("reno", used), 0);
	assert_string_equal(used, "reno");
	listen_as(r, identity(r->dirs->ours, "alpha"));
	link_listener_congestion(r->listener, "reno");
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	link_congestion(r->client.link, "reno");
	run_until(r, both_up);
	assert_int_equal(sockets_with("reno"), 2);
}

/* Of the sockets that this process has connected, the most that one may send.
 */
static uint64_t slowest_socket(void)
{
	struct sockaddr_storage peer;
	uint64_t slowest = UINT64_MAX;

	for (int fd = 0; fd < 1024; fd++) {
		socklen_t peer_len = sizeof(peer), len = sizeof(uint64_t);
		uint64_t rate = UINT64_MAX;

		if (!getpeername(fd, (struct sockaddr *)&peer, &peer_len) &&
		    !getsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate,
				&len) &&
		    rate < slowest)
			slowest = rate;
	}
	return slowest;
}

/* More than 32 bits hold, too. */
static void test_max_rate(void **state)
{
	struct rig *r = *state;

	listen_as(r, identity(r->dirs->ours, "alpha"));
	connect_as(r, identity(r->dirs->ours, "beta"), "127.0.0.1");
	link_max_rate(r->client.link, UINT64_C(12500000000));
	run_until(r, both_up);
	assert_int_equal(slowest_socket(), UINT64_C(12500000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LINK_TEST(test_congestion_control),
		LINK_TEST(test_max_rate),
		LINK_TEST(test_connection_refused),
		LINK_TEST(test_unknown_name),
		LINK_TEST(test_server_of_another_ca),
		LINK_TEST(test_client_of_another_ca),
		LINK_TEST(test_wrong_name),
		LINK_TEST(test_unwanted_link_is_ended),
		LINK_TEST(test_listener_may_be_closed_while_accepting),
		LINK_TEST(test_peer_is_a_web_server),
		LINK_TEST(test_browser_at_the_listener),
		LINK_TEST(test_listener_closed_with_handshakes_pending),
		LINK_TEST(test_silent_client_is_not_waited_for),
		LINK_TEST(test_silent_server_is_not_waited_for),
		LINK_TEST(test_server_hangs_up_in_the_handshake),
		LINK_TEST(test_strangers_do_not_keep_the_peer_out),
		LINK_TEST(test_server_with_an_expired_certificate),
		LINK_TEST(test_refusal_is_read_though_sending_failed),
		LINK_TEST(test_client_with_an_expired_certificate),
		LINK_TEST(test_client_without_a_certificate),
	};

	return RUN_LINK_TESTS(tests);
}
