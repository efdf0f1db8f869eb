/* SPDX-License-Identifier: Apache-2.0 */
/* What identity.c and tls.c share; nobody else's. */
#ifndef NET_TLS_IMPL_H
#define NET_TLS_IMPL_H

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "net/tls.h"

enum {
	TLS_NAME_BYTES = 80, /* a common name has 64 at most (RFC 5280) */
};

struct tls_identity {
	SSL_CTX *ctx;
	char name[TLS_NAME_BYTES];
};

/* The common name of `x`, in printable characters; "(no name)" for none. */
void tls_common_name(X509 *x, char name[TLS_NAME_BYTES]);
/* What OpenSSL thinks of a file or a session, for want of better words. */
const char *tls_openssl_words(void);
/* tls.c: OpenSSL asks it about every certificate of a peer. */
int tls_note_name(int good, X509_STORE_CTX *v);

#endif
