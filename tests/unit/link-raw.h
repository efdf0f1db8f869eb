/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer that need not keep to any protocol: a thread with a blocking socket,
 * and TLS by OpenSSL's own socket interface instead of ours.
 */
#ifndef TESTS_UNIT_LINK_RAW_H
#define TESTS_UNIT_LINK_RAW_H

#include <signal.h>

#include <openssl/ssl.h>

#include "link-fixture.h"

struct raw {
	struct rig *rig;
	bool tls;
	const char *dir, *host;
	void (*act)(struct raw *w);
	int fd;
	SSL *ssl;
	bool served; /* it took our connection, instead of making its own */
	bool verify; /* trusts no certificate at all */
	bool finished;
};

static struct raw raw;

static inline void raw_tls(struct raw *w)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	char path[128];

	snprintf(path, sizeof(path), "%s/%s.crt", w->dir, w->host);
	SSL_CTX_use_certificate_file(ctx, path, SSL_FILETYPE_PEM);
	snprintf(path, sizeof(path), "%s/%s.key", w->dir, w->host);
	SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM);
	w->ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_fd(w->ssl, w->fd);
	if (w->verify)
		SSL_set_verify(w->ssl,
			       SSL_VERIFY_PEER |
				       SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			       NULL);
	if ((w->served ? SSL_accept(w->ssl) : SSL_connect(w->ssl)) == 1)
		w->act(w);
	SSL_free(w->ssl);
}

static inline void *raw_thread(void *arg)
{
	struct raw *w = arg;
	struct timeval patience = { .tv_sec = 5 };
	struct sockaddr_in addr = { .sin_family = AF_INET };

	bool connected;

	signal(SIGPIPE, SIG_IGN);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.sin_port = htons(w->rig->port);
	if (w->served) {
		w->fd = accept(w->rig->raw_fd, NULL, NULL);
		connected = w->fd >= 0;
	} else {
		w->fd = socket(AF_INET, SOCK_STREAM, 0);
		connected =
			!connect(w->fd, (struct sockaddr *)&addr, sizeof(addr));
	}
	setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connected && w->tls)
		raw_tls(w);
	else if (connected)
		w->act(w);
	close(w->fd);
	__atomic_store_n(&w->finished, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static inline bool raw_finished(struct rig *r)
{
	(void)r;
	return __atomic_load_n(&raw.finished, __ATOMIC_SEQ_CST);
}

static inline void raw_start(struct rig *r, struct raw w)
{
	raw = w;
	raw.rig = r;
	if (!raw.dir)
		raw.dir = r->dirs->ours;
	if (!raw.host)
		raw.host = "beta";
	assert_int_equal(pthread_create(&r->raw, NULL, raw_thread, &raw), 0);
}

/* A peer that connects to our listener. */
static inline void raw_client(struct rig *r, struct raw w)
{
	listen_as(r, identity(r->dirs->ours, "alpha"));
	raw_start(r, w);
}

/* A peer that our link connects to. */
static inline void raw_server(struct rig *r, struct raw w)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	r->raw_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(r->raw_fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(r->raw_fd, 1), 0);
	getsockname(r->raw_fd, (struct sockaddr *)&addr, &len);
	r->port = ntohs(addr.sin_port);
	w.served = true;
	raw_start(r, w);
}

static inline void raw_join(struct rig *r)
{
	pthread_join(r->raw, NULL);
	if (r->raw_fd >= 0)
		close(r->raw_fd);
}

static inline void read_to_the_end(int fd)
{
	char bytes[4096];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
}

static inline void hang_up(struct raw *w)
{
	(void)w;
}

static inline void read_tls(struct raw *w)
{
	char bytes[4096];

	while (SSL_read(w->ssl, bytes, sizeof(bytes)) > 0)
		;
}

#endif
