/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 over a BIO pair: OpenSSL never sees a socket.
 *
 * A session's input side is filled in place by the caller.  OpenSSL's pair
 * moves its write position back to the start when it has been read empty, so
 * the place that tls_receive_room() gave is only good until the next
 * tls_read() or tls_handshake() *that finds something to read*; a caller that
 * receives only after one of these wanted more bytes is always safe.  The
 * output side is a plain ring: bytes handed out by tls_send_bytes() stay where
 * they are while more are written behind them.
 *
 * A record is only begun where all of it fits the output, so a write is never
 * left half done, and whoever writes may choose freely what comes next.
 *
 * Failure: every error becomes one line of words.  Nothing of a key or of the
 * payload is ever in it; names out of certificates are stripped to printable
 * characters.
 */
#include "config.h"

#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/fault.h"
#include "base/memory.h"
#include "net/tls_impl.h"

enum {
	RECORD_BYTES = SSL3_RT_MAX_PLAIN_LENGTH,
	/* A full record, and beside it room for an alert and a KeyUpdate. */
	RECORD_ROOM = RECORD_BYTES + 1024,
	OUTPUT_BYTES = 12 * RECORD_ROOM,
	INPUT_BYTES = 8 * RECORD_ROOM,
};

/*
 * AES-GCM is good for 2^24.5 records under one key (RFC 8446 section 5.5);
 * OpenSSL does not count them.
 */
#define REKEY_RECORDS (UINT64_C(1) << 22)

struct tls {
	SSL *ssl;
	BIO *net; /* our end of the pair; the other one is OpenSSL's */
	bool established;
	uint64_t rekey_records;
	uint64_t records; /* written under the present key */
	char expected[256];
	char peer[TLS_NAME_BYTES];
	/* The first bytes received: do they look like a TLS record? */
	uint8_t first[2];
	size_t first_count;
};

/*
 * Changes no verdict; only keeps the name of the certificate, which OpenSSL
 * lets go of when it refuses it.
 */
int tls_note_name(int good, X509_STORE_CTX *v)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(
		v, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_app_data(ssl);

	tls_common_name(X509_STORE_CTX_get0_cert(v), t->peer);
	return good;
}

/* The name has to be among the subject alternative names (RFC 6125). */
static int expect_name(struct tls *t, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
	uint8_t ip[16];

	if (strlen(name) >= sizeof(t->expected))
		return -ENAMETOOLONG;
	strcpy(t->expected, name);
	/* A link-local address carries the interface after a '%'. */
	if (strchr(t->expected, ':'))
		t->expected[strcspn(t->expected, "%")] = '\0';
	if (inet_pton(AF_INET, t->expected, ip) == 1 ||
	    inet_pton(AF_INET6, t->expected, ip) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, t->expected) == 1
			       ? 0
			       : -ENOMEM;
	X509_VERIFY_PARAM_set_hostflags(
		param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
			       X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return X509_VERIFY_PARAM_set1_host(param, t->expected, 0) == 1
		       ? 0
		       : -EINVAL;
}

int tls_new(const struct tls_identity *id, bool server,
	    const char *expected_name, struct tls **out)
{
	struct tls *t = memory_zeroed(sizeof(*t));
	BIO *inner = NULL;
	int r = -ENOMEM;

	if (!t)
		return -ENOMEM;
	t->rekey_records = REKEY_RECORDS;
	t->ssl = SSL_new(id->ctx);
	if (!t->ssl ||
	    BIO_new_bio_pair(&inner, OUTPUT_BYTES, &t->net, INPUT_BYTES) != 1)
		goto fail;
	SSL_set_bio(t->ssl, inner, inner);
	SSL_set_app_data(t->ssl, t);
	if (server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	if (expected_name) {
		r = expect_name(t, expected_name);
		if (r)
			goto fail;
	}
	*out = t;
	return 0;
fail:
	tls_free(t);
	ERR_clear_error();
	return r;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	BIO_free(t->net);
	free(t);
}

void tls_rekey_after(struct tls *t, uint64_t records)
{
	t->rekey_records = records;
}

uint8_t *tls_receive_room(struct tls *t, size_t *room)
{
	char *place = NULL;
	int n = BIO_nwrite0(t->net, &place);

	*room = n > 0 ? (size_t)n : 0;
	return (uint8_t *)place;
}

void tls_received(struct tls *t, size_t n)
{
	char *place;

	if (!n)
		return;
	BIO_nwrite(t->net, &place, (int)n);
	for (size_t i = 0; i < n && t->first_count < sizeof(t->first); i++)
		t->first[t->first_count++] = (uint8_t)place[i];
}

const uint8_t *tls_send_bytes(struct tls *t, size_t *len)
{
	char *place = NULL;
	int n = BIO_nread0(t->net, &place);

	*len = n > 0 ? (size_t)n : 0;
	return n > 0 ? (const uint8_t *)place : NULL;
}

void tls_sent(struct tls *t, size_t n)
{
	char *place;

	if (n)
		BIO_nread(t->net, &place, (int)n);
}

/* ---- words ------------------------------------------------------------- */

/* A TLS record begins with its type, 20 to 23, and 3 (RFC 8446, 5.1). */
static bool looks_like_tls(const struct tls *t)
{
	if (t->first_count > 0 && (t->first[0] < SSL3_RT_CHANGE_CIPHER_SPEC ||
				   t->first[0] > SSL3_RT_APPLICATION_DATA))
		return false;
	return t->first_count < 2 || t->first[1] == SSL3_VERSION_MAJOR;
}

static int we_refuse(const struct tls *t, long verdict, char *why)
{
	const char *name = t->peer;

	switch (verdict) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer's certificate (%s) has expired", name);
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer's certificate (%s) is not valid yet: "
			 "are the clocks right?",
			 name);
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer's certificate (%s) does not name %.100s",
			 name, t->expected);
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_INVALID_CA:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer's certificate (%s) is not signed by our CA",
			 name);
		break;
	default:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer's certificate (%s) is refused: %s", name,
			 X509_verify_cert_error_string(verdict));
		break;
	}
	return -EACCES;
}

static int peer_alert(int alert, char *why)
{
	const char *words = SSL_alert_desc_string_long(alert);

	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
	case SSL_AD_CERTIFICATE_REQUIRED:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer refused our certificate: %s", words);
		return -EACCES;
	case SSL_AD_PROTOCOL_VERSION:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer does not speak TLS 1.3");
		return -EPROTO;
	default:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer ended TLS with an alert: %s", words);
		return -EPROTO;
	}
}

/* Words for the error that OpenSSL's last call left behind. */
static int explain(const struct tls *t, char *why)
{
	long verdict = SSL_get_verify_result(t->ssl);
	int reason = ERR_GET_REASON(ERR_peek_error());

	if (!looks_like_tls(t)) {
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer does not speak TLS "
			 "(is it a web server or browser?)");
		return -EPROTO;
	}
	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
		return we_refuse(t, verdict, why);
	if (reason > SSL_AD_REASON_OFFSET &&
	    reason < SSL_AD_REASON_OFFSET + 256)
		return peer_alert(reason - SSL_AD_REASON_OFFSET, why);
	switch (reason) {
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer presented no certificate");
		return -EACCES;
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_WRONG_SSL_VERSION:
		snprintf(why, TLS_ERROR_BYTES,
			 "the peer does not speak TLS 1.3");
		return -EPROTO;
	case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
		snprintf(why, TLS_ERROR_BYTES,
			 "a TLS record was corrupted on its way");
		return -EPROTO;
	default:
		snprintf(why, TLS_ERROR_BYTES, "TLS failed: %s",
			 tls_openssl_words());
		return -EPROTO;
	}
}

/* ---- moving ------------------------------------------------------------ */

int tls_handshake(struct tls *t, char *why)
{
	int r;

	if (t->established)
		return 1;
	r = fault_at(FAULT_HANDSHAKE);
	if (r) {
		snprintf(why, TLS_ERROR_BYTES, "TLS failed: %s", strerror(-r));
		return r;
	}
	ERR_clear_error();
	r = SSL_do_handshake(t->ssl);
	if (r != 1) {
		int err = SSL_get_error(t->ssl, r);

		if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE)
			return 0;
		return explain(t, why);
	}
	if (!SSL_get0_peer_certificate(t->ssl) ||
	    SSL_get_verify_result(t->ssl) != X509_V_OK)
		return we_refuse(t, SSL_get_verify_result(t->ssl), why);
	t->established = true;
	return 1;
}

const char *tls_peer_name(const struct tls *t)
{
	return t->peer;
}

const char *tls_cipher_name(const struct tls *t)
{
	return SSL_get_cipher_name(t->ssl);
}

ssize_t tls_read(struct tls *t, void *buf, size_t len, char *why)
{
	size_t n;

	ERR_clear_error();
	if (SSL_read_ex(t->ssl, buf, len, &n) == 1)
		return (ssize_t)n;
	switch (SSL_get_error(t->ssl, 0)) {
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	default:
		return explain(t, why);
	}
}

ssize_t tls_write(struct tls *t, const void *buf, size_t len, char *why)
{
	BIO *inner = SSL_get_wbio(t->ssl);
	size_t n;

	if (BIO_ctrl_get_write_guarantee(inner) < RECORD_ROOM)
		return -EAGAIN;
	ERR_clear_error();
	if (t->records >= t->rekey_records) {
		if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
			return explain(t, why);
		t->records = 0;
	}
	if (SSL_write_ex(t->ssl, buf, len < RECORD_BYTES ? len : RECORD_BYTES,
			 &n) != 1)
		return explain(t, why);
	t->records++;
	return (ssize_t)n;
}

void tls_shutdown(struct tls *t)
{
	if (!t->established)
		return;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
}
