/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a host is: its certificate, its key and the CA it believes, checked
 * before anything is done with them.
 *
 * Happy path: three files become one SSL_CTX that every session shares.
 * Failure: one line that names the file and what is wrong with it; nothing is
 * left.  Called at the start, on the thread that starts; read-only afterwards.
 */
#include "config.h"

#include "net/tls_impl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>

#include "base/cleanup.h"

const char *tls_library_version(void)
{
	return OpenSSL_version(OPENSSL_VERSION);
}

enum {
	/* Certificates have to fit the output while nothing is sent yet. */
	CERTIFICATES_MAX = 32 * 1024,
};

void tls_common_name(X509 *x, char name[TLS_NAME_BYTES])
{
	name[0] = '\0';
	if (x)
		X509_NAME_get_text_by_NID(X509_get_subject_name(x),
					  NID_commonName, name, TLS_NAME_BYTES);
	for (char *p = name; *p; p++)
		if (!isascii(*p) || !isprint((unsigned char)*p))
			*p = '?';
	if (!name[0])
		strcpy(name, "(no name)");
}

/* What OpenSSL thinks of a file or a session, for want of better words. */
const char *tls_openssl_words(void)
{
	const char *words = ERR_reason_error_string(ERR_peek_error());

	return words ? words : "unknown TLS error";
}

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
		 tls_openssl_words());
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

/* Elsewhere it is not known, and those of today have them. */
static bool processor_has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_cpu_supports("aes") &&
	       __builtin_cpu_supports("pclmul");
#else
	return true;
#endif
}

int tls_identity_cipher(struct tls_identity *id, bool aes)
{
	const char *suites = aes ? "TLS_AES_128_GCM_SHA256:"
				   "TLS_CHACHA20_POLY1305_SHA256"
				 : "TLS_CHACHA20_POLY1305_SHA256:"
				   "TLS_AES_128_GCM_SHA256";

	return SSL_CTX_set_ciphersuites(id->ctx, suites) == 1 ? 0 : -ENOMEM;
}

static SSL_CTX *context_new(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (!ctx)
		return NULL;
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET |
					 SSL_OP_CIPHER_SERVER_PREFERENCE |
					 SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_early_data(ctx, 0);
	SSL_CTX_set_verify(ctx,
			   SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   tls_note_name);
	SSL_CTX_set_max_cert_list(ctx, 2 * CERTIFICATES_MAX);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_num_tickets(ctx, 0) != 1) {
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
		r = tls_identity_cipher(id, processor_has_aes());
	if (!r)
		r = load_files(id->ctx, files, why);
	if (!r)
		r = check_certificate(id->ctx, files, why);
	ERR_clear_error();
	if (r) {
		if (id)
			SSL_CTX_free(id->ctx);
		return r;
	}
	tls_common_name(SSL_CTX_get0_certificate(id->ctx), id->name);
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
