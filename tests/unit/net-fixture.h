/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of net/ share: certificates in a directory of their own. */
#ifndef TESTS_UNIT_NET_FIXTURE_H
#define TESTS_UNIT_NET_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "net/certs.h"
#include "net/tls.h"

struct cert_dirs {
	char ours[64];	 /* ca, alpha, beta, old (expired) */
	char theirs[64]; /* another ca, alpha, beta */
};

static inline void remove_dir(const char *dir)
{
	char command[128];

	/* Only ever what mkdtemp() made. */
	assert_int_equal(strncmp(dir, "/tmp/colod-", 11), 0);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
}

static inline void make_certs(char dir[64])
{
	static const char *const hosts[] = { "alpha=127.0.0.1,::1,localhost",
					     "beta=beta.example",
					     "old=127.0.0.1" };
	char why[TLS_ERROR_BYTES];

	strcpy(dir, "/tmp/colod-XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(certs_make(dir, hosts, 3, why), 0);
}

/* Signs HOST's certificate again with an end that has passed. */
static inline void expire(const char *dir, const char *host)
{
	char path[128];
	EVP_PKEY *ca;
	X509 *x;
	FILE *f;

	snprintf(path, sizeof(path), "%s/ca.key", dir);
	f = fopen(path, "r");
	ca = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	snprintf(path, sizeof(path), "%s/%s.crt", dir, host);
	f = fopen(path, "r");
	x = PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	assert_non_null(ca);
	assert_non_null(x);
	X509_gmtime_adj(X509_getm_notAfter(x), -60);
	assert_true(X509_sign(x, ca, EVP_sha256()) > 0);
	f = fopen(path, "w");
	assert_int_equal(PEM_write_X509(f, x), 1);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(ca);
}

static inline int make_cert_dirs(void **state)
{
	struct cert_dirs *d = calloc(1, sizeof(*d));

	make_certs(d->ours);
	make_certs(d->theirs);
	expire(d->ours, "old");
	*state = d;
	return 0;
}

static inline int remove_cert_dirs(void **state)
{
	struct cert_dirs *d = *state;

	remove_dir(d->ours);
	remove_dir(d->theirs);
	free(d);
	return 0;
}

static inline int load_identity(const char *dir, const char *cert,
				const char *key, const char *ca,
				struct tls_identity **out, char *why)
{
	char paths[3][128];
	const char *const names[3] = { cert, key, ca };

	for (int i = 0; i < 3; i++)
		if (names[i][0] == '/')
			snprintf(paths[i], sizeof(paths[i]), "%s", names[i]);
		else
			snprintf(paths[i], sizeof(paths[i]), "%s/%s", dir,
				 names[i]);
	return tls_identity_load(&(struct tls_files){ .cert = paths[0],
						      .key = paths[1],
						      .ca = paths[2] },
				 out, why);
}

static inline struct tls_identity *identity(const char *dir, const char *host)
{
	struct tls_identity *id = NULL;
	char why[TLS_ERROR_BYTES], cert[64], key[64];

	snprintf(cert, sizeof(cert), "%s.crt", host);
	snprintf(key, sizeof(key), "%s.key", host);
	if (load_identity(dir, cert, key, "ca.crt", &id, why))
		fail_msg("%s", why);
	return id;
}

#endif
