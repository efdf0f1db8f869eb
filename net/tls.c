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
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"

const char *tls_library_version(void)
{
	return OpenSSL_version(OPENSSL_VERSION);
}

enum {
	NAME_BYTES = 80, /* a common name has 64 at most (RFC 5280) */
	RECORD_BYTES = SSL3_RT_MAX_PLAIN_LENGTH,
	/* A full record, and beside it room for an alert and a KeyUpdate. */
	RECORD_ROOM = RECORD_BYTES + 1024,
	OUTPUT_BYTES = 12 * RECORD_ROOM,
	INPUT_BYTES = 8 * RECORD_ROOM,
	/* Certificates have to fit the output while nothing is sent yet. */
	CERTIFICATES_MAX = 32 * 1024,
};

/*
 * AES-GCM is good for 2^24.5 records under one key (RFC 8446 section 5.5);
 * OpenSSL does not count them.
 */
#define REKEY_RECORDS (UINT64_C(1) << 22)

struct tls_identity {
	SSL_CTX *ctx;
	char name[NAME_BYTES];
};

struct tls {
	SSL *ssl;
	BIO *net; /* our end of the pair; the other one is OpenSSL's */
	bool established;
	uint64_t rekey_records;
	uint64_t records; /* written under the present key */
	char expected[256];
	char peer[NAME_BYTES];
	/* The first bytes received: do they look like a TLS record? */
	uint8_t first[2];
	size_t first_count;
};

static void common_name(X509 *x, char name[NAME_BYTES])
{
	name[0] = '\0';
	if (x)
		X509_NAME_get_text_by_NID(X509_get_subject_name(x),
					  NID_commonName, name, NAME_BYTES);
	for (char *p = name; *p; p++)
		if (!isascii(*p) || !isprint((unsigned char)*p))
			*p = '?';
	if (!name[0])
		strcpy(name, "(no name)");
}

/* What OpenSSL thinks of a file or a session, for want of better words. */
static const char *openssl_words(void)
{
	const char *words = ERR_reason_error_string(ERR_peek_error());

	return words ? words : "unknown TLS error";
}

/* ---- identity ---------------------------------------------------------- */

static int check_file(const char *path, bool secret, char *why)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		int err = errno;

		snprintf(why, TLS_ERROR_BYTES, "cannot read %s: %s", path,
			 strerror(err));
		return -err;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > CERTIFICATES_MAX) {
		snprintf(why, TLS_ERROR_BYTES,
			 "%s is not a file of at most %d KiB", path,
			 CERTIFICATES_MAX / 1024);
		return -EINVAL;
	}
	if (secret && (st.st_mode & (S_IWGRP | S_IRWXO))) {
		snprintf(why, TLS_ERROR_BYTES,
			 "the key %s may be read or changed by others: "
			 "chmod 600 %s",
			 path, path);
		return -EACCES;
	}
	return 0;
}

/* A daemon asks nobody for a passphrase. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int bad_file(char *why, const char *what, const char *path)
{
	snprintf(why, TLS_ERROR_BYTES, "%s %s: %s", path, what,
		 openssl_words());
	return -EINVAL;
}

static int load_files(SSL_CTX *ctx, const struct tls_files *files, char *why)
{
	int r;

	if ((r = check_file(files->cert, false, why)) ||
	    (r = check_file(files->ca, false, why)) ||
	    (r = check_file(files->key, true, why)))
		return r;
	ERR_clear_error();
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	if (SSL_CTX_use_certificate_chain_file(ctx, files->cert) != 1)
		return bad_file(why, "is not a usable certificate",
				files->cert);
	if (SSL_CTX_load_verify_file(ctx, files->ca) != 1)
		return bad_file(why, "is not a CA's certificate", files->ca);
	/* Compares it with the certificate, too; told apart just below. */
	if (SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) !=
		    1 ||
	    SSL_CTX_check_private_key(ctx) != 1) {
		int reason = ERR_GET_REASON(ERR_peek_error());

		if (reason != X509_R_KEY_VALUES_MISMATCH &&
		    reason != X509_R_KEY_TYPE_MISMATCH)
			return bad_file(why,
					"is not an unencrypted PEM private key",
					files->key);
		snprintf(why, TLS_ERROR_BYTES,
			 "the key %s does not belong to the certificate %s",
			 files->key, files->cert);
		return -EINVAL;
	}
	return 0;
}

/* Our own certificate as the peer will see it. */
static int check_certificate(SSL_CTX *ctx, const struct tls_files *files,
			     char *why)
{
	X509 *own = SSL_CTX_get0_certificate(ctx);
	STACK_OF(X509) *chain = NULL;
	X509_STORE_CTX *v = X509_STORE_CTX_new();
	int err = X509_V_ERR_OUT_OF_MEM;

	SSL_CTX_get0_chain_certs(ctx, &chain);
	if (v &&
	    X509_STORE_CTX_init(v, SSL_CTX_get_cert_store(ctx), own, chain)) {
		X509_verify_cert(v);
		err = X509_STORE_CTX_get_error(v);
	}
	X509_STORE_CTX_free(v);
	switch (err) {
	case X509_V_OK:
		return 0;
	case X509_V_ERR_OUT_OF_MEM:
		snprintf(why, TLS_ERROR_BYTES, "no memory");
		return -ENOMEM;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		snprintf(why, TLS_ERROR_BYTES,
			 "the certificate %s, or its CA's, has expired",
			 files->cert);
		return -EKEYEXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		snprintf(why, TLS_ERROR_BYTES,
			 "the certificate %s is not valid yet: "
			 "is the clock right?",
			 files->cert);
		return -EKEYEXPIRED;
	default:
		snprintf(why, TLS_ERROR_BYTES,
			 "the certificate %s is not signed by the CA %s (%s)",
			 files->cert, files->ca,
			 X509_verify_cert_error_string(err));
		return -EINVAL;
	}
}

/*
 * Changes no verdict; only keeps the name of the certificate, which OpenSSL
 * lets go of when it refuses it.
 */
static int note_name(int good, X509_STORE_CTX *v)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(
		v, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_app_data(ssl);

	common_name(X509_STORE_CTX_get0_cert(v), t->peer);
	return good;
}

static SSL_CTX *context_new(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (!ctx)
		return NULL;
	SSL_CTX_set_options(ctx,
			    SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_early_data(ctx, 0);
	SSL_CTX_set_verify(ctx,
			   SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   note_name);
	SSL_CTX_set_max_cert_list(ctx, 2 * CERTIFICATES_MAX);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:"
					  "TLS_AES_256_GCM_SHA384") != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

int tls_identity_load(const struct tls_files *files, struct tls_identity **out,
		      char *why)
{
	AUTO_FREE struct tls_identity *id = calloc(1, sizeof(*id));
	int r = -ENOMEM;

	snprintf(why, TLS_ERROR_BYTES, "no memory");
	if (id)
		id->ctx = context_new();
	if (id && id->ctx)
		r = load_files(id->ctx, files, why);
	if (!r)
		r = check_certificate(id->ctx, files, why);
	ERR_clear_error();
	if (r) {
		if (id)
			SSL_CTX_free(id->ctx);
		return r;
	}
	common_name(SSL_CTX_get0_certificate(id->ctx), id->name);
	why[0] = '\0';
	*out = TAKE_PTR(id);
	return 0;
}

void tls_identity_free(struct tls_identity *id)
{
	if (!id)
		return;
	SSL_CTX_free(id->ctx);
	free(id);
}

const char *tls_identity_name(const struct tls_identity *id)
{
	return id->name;
}

/* ---- session ----------------------------------------------------------- */

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
	struct tls *t = calloc(1, sizeof(*t));
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
			 openssl_words());
		return -EPROTO;
	}
}

/* ---- moving ------------------------------------------------------------ */

int tls_handshake(struct tls *t, char *why)
{
	int r;

	if (t->established)
		return 1;
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
