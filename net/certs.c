/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the certificates of a pair of hosts, with nothing but OpenSSL's X.509
 * interface: a CA and, signed by it, one certificate a host that serves both
 * sides of a connection (RFC 5280 profiles).
 *
 * Everything is checked before the first file is made; every file is made
 * anew, never over another; if one fails, those made before it are removed.
 */
#include "config.h"

#include "net/certs.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "net/tls.h"

enum {
	VALID_DAYS = 3650,
	BACKDATED_DAYS = 1,  /* the hosts' clocks may differ */
	NAME_MAX_BYTES = 64, /* ub-common-name, RFC 5280 */
	ALT_NAMES_MAX = 16,
	FILES_MAX = 2 + 2 * CERTS_HOSTS_MAX,
};

struct host {
	char name[NAME_MAX_BYTES + 1];
	char alt[ALT_NAMES_MAX][NAME_MAX_BYTES + 1];
	size_t alt_count;
};

struct maker {
	const char *dir;
	bool made_dir;
	char made[FILES_MAX][PATH_MAX];
	size_t made_count;
	X509 *ca;
	EVP_PKEY *ca_key;
	char *why;
};

#define FREED_BY(type, function)             \
	static void cleanup_##type(type **p) \
	{                                    \
		function(*p);                \
	}
FREED_BY(X509, X509_free)
FREED_BY(EVP_PKEY, EVP_PKEY_free)
FREED_BY(GENERAL_NAMES, GENERAL_NAMES_free)
#define AUTO(type) __attribute__((cleanup(cleanup_##type))) type

static int fail(struct maker *m, int err, const char *what, const char *of)
{
	snprintf(m->why, TLS_ERROR_BYTES, "%.120s: %.100s", of, what);
	return err;
}

static int openssl_failed(struct maker *m, const char *of)
{
	const char *words = ERR_reason_error_string(ERR_get_error());

	return fail(m, -EIO, words ? words : "OpenSSL failed", of);
}

/* ---- names ------------------------------------------------------------- */

static bool is_address(const char *s)
{
	unsigned char ip[16];

	return inet_pton(AF_INET, s, ip) == 1 ||
	       inet_pton(AF_INET6, s, ip) == 1;
}

/* Good as a file's name and as a host's: a DNS name or an address. */
static bool name_ok(const char *s, size_t len)
{
	char copy[NAME_MAX_BYTES + 1] = "";

	if (!len || len > NAME_MAX_BYTES || *s == '-' || *s == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isascii(s[i]) ||
		    (!isalnum((unsigned char)s[i]) && !strchr("._-:", s[i])))
			return false;
	memcpy(copy, s, len);
	return !strchr(copy, ':') || is_address(copy);
}

/* "name" or "name=alternative,..." */
static int parse_host(struct maker *m, const char *text, struct host *h)
{
	size_t len = strcspn(text, "=");
	const char *p = text + len;

	*h = (struct host){ 0 };
	if (!name_ok(text, len) || (len == 2 && !memcmp(text, "ca", 2)))
		return fail(m, -EINVAL, "not a usable host name", text);
	memcpy(h->name, text, len);
	memcpy(h->alt[h->alt_count++], text, len);
	while (*p) {
		p++;
		len = strcspn(p, ",");
		if (!name_ok(p, len) || h->alt_count == ALT_NAMES_MAX)
			return fail(m, -EINVAL, "not a usable list of names",
				    text);
		memcpy(h->alt[h->alt_count++], p, len);
		p += len;
	}
	return 0;
}

/* ---- files ------------------------------------------------------------- */

static int path_of(struct maker *m, char path[PATH_MAX], const char *name,
		   const char *suffix)
{
	int n = snprintf(path, PATH_MAX, "%s/%s.%s", m->dir, name, suffix);

	if (n >= PATH_MAX)
		return fail(m, -ENAMETOOLONG, "the path is too long", m->dir);
	return 0;
}

static int write_pem(struct maker *m, const char *name, const char *suffix,
		     mode_t mode, X509 *x, EVP_PKEY *key)
{
	char *path = m->made[m->made_count];
	AUTO_FD int fd = -1;
	FILE *f;
	bool good;
	int r = path_of(m, path, name, suffix);

	if (r)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		  mode);
	if (fd < 0)
		return fail(m, -errno, strerror(errno), path);
	m->made_count++;
	f = fdopen(fd, "w");
	if (!f)
		return fail(m, -errno, strerror(errno), path);
	(void)TAKE_FD(fd);
	good = x ? PEM_write_X509(f, x)
		 : PEM_write_PKCS8PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	good = fflush(f) == 0 && fsync(fileno(f)) == 0 && good;
	good = fclose(f) == 0 && good;
	return good ? 0 : fail(m, -EIO, "cannot be written", path);
}

static int write_pair(struct maker *m, const char *name, X509 *x, EVP_PKEY *key)
{
	int r = write_pem(m, name, "key", 0600, NULL, key);

	return r ? r : write_pem(m, name, "crt", 0644, x, NULL);
}

static void undo(struct maker *m)
{
	while (m->made_count)
		unlink(m->made[--m->made_count]);
	if (m->made_dir)
		rmdir(m->dir);
}

/* Neither of a host's files may be there. */
static int check_absent(struct maker *m, const char *name)
{
	static const char *const suffixes[] = { "crt", "key" };
	char path[PATH_MAX];
	struct stat st;

	for (size_t i = 0; i < 2; i++) {
		int r = path_of(m, path, name, suffixes[i]);

		if (r)
			return r;
		if (!lstat(path, &st))
			return fail(m, -EEXIST, "exists already", path);
		if (errno != ENOENT && errno != ENOTDIR)
			return fail(m, -errno, strerror(errno), path);
	}
	return 0;
}

/* ---- certificates ------------------------------------------------------ */

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;
	int r;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!e)
		return false;
	r = X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	return r == 1;
}

/* 127 random bits, so that no two certificates are ever taken for one. */
static bool set_serial(X509 *x)
{
	unsigned char bytes[16];
	BIGNUM *n = NULL;
	bool good = RAND_bytes(bytes, sizeof(bytes)) == 1;

	bytes[0] = (bytes[0] & 0x7f) | 0x40;
	if (good)
		n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	good = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
	BN_free(n);
	return good;
}

/* Names, dates and key; `issuer` is x itself for a CA. */
static bool fill(X509 *x, X509 *issuer, const char *name, EVP_PKEY *key)
{
	X509_NAME *subject = X509_get_subject_name(x);

	return X509_set_version(x, X509_VERSION_3) && set_serial(x) &&
	       X509_time_adj_ex(X509_getm_notBefore(x), -BACKDATED_DAYS, 0,
				NULL) &&
	       X509_time_adj_ex(X509_getm_notAfter(x), VALID_DAYS, 0, NULL) &&
	       X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC,
					  (const unsigned char *)name, -1, -1,
					  0) &&
	       X509_set_issuer_name(x, X509_get_subject_name(issuer)) &&
	       X509_set_pubkey(x, key);
}

static bool add_alt_names(X509 *x, const struct host *h)
{
	AUTO(GENERAL_NAMES) *names = sk_GENERAL_NAME_new_null();

	for (size_t i = 0; names && i < h->alt_count; i++) {
		GENERAL_NAME *n = a2i_GENERAL_NAME(
			NULL, NULL, NULL,
			is_address(h->alt[i]) ? GEN_IPADD : GEN_DNS, h->alt[i],
			0);

		if (!n || !sk_GENERAL_NAME_push(names, n)) {
			GENERAL_NAME_free(n);
			return false;
		}
	}
	return names &&
	       X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0) == 1;
}

static int make_host(struct maker *m, const struct host *h)
{
	AUTO(X509) *x = X509_new();
	AUTO(EVP_PKEY) *key = EVP_EC_gen("P-256");

	if (!x || !key || !fill(x, m->ca, h->name, key) ||
	    !add_extension(x, m->ca, NID_basic_constraints,
			   "critical,CA:FALSE") ||
	    !add_extension(x, m->ca, NID_key_usage,
			   "critical,digitalSignature") ||
	    !add_extension(x, m->ca, NID_ext_key_usage,
			   "serverAuth,clientAuth") ||
	    !add_extension(x, m->ca, NID_subject_key_identifier, "hash") ||
	    !add_extension(x, m->ca, NID_authority_key_identifier,
			   "keyid:always") ||
	    !add_alt_names(x, h) || !X509_sign(x, m->ca_key, EVP_sha256()))
		return openssl_failed(m, h->name);
	return write_pair(m, h->name, x, key);
}

/* ---- the authority ----------------------------------------------------- */

static int make_ca(struct maker *m)
{
	m->ca = X509_new();
	m->ca_key = EVP_EC_gen("P-256");
	if (!m->ca || !m->ca_key ||
	    !fill(m->ca, m->ca, "colod CA", m->ca_key) ||
	    !add_extension(m->ca, m->ca, NID_basic_constraints,
			   "critical,CA:TRUE,pathlen:0") ||
	    !add_extension(m->ca, m->ca, NID_key_usage,
			   "critical,keyCertSign,cRLSign") ||
	    !add_extension(m->ca, m->ca, NID_subject_key_identifier, "hash") ||
	    !X509_sign(m->ca, m->ca_key, EVP_sha256()))
		return openssl_failed(m, "the CA");
	return write_pair(m, "ca", m->ca, m->ca_key);
}

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int load_ca(struct maker *m, const char *crt, const char *key)
{
	FILE *f = fopen(crt, "re");

	if (!f)
		return fail(m, -errno, strerror(errno), crt);
	m->ca = PEM_read_X509(f, NULL, no_passphrase, NULL);
	fclose(f);
	f = fopen(key, "re");
	if (!f)
		return fail(m, -errno, strerror(errno), key);
	m->ca_key = PEM_read_PrivateKey(f, NULL, no_passphrase, NULL);
	fclose(f);
	if (!m->ca || !m->ca_key ||
	    X509_check_private_key(m->ca, m->ca_key) != 1)
		return fail(m, -EINVAL, "not a CA and its key", crt);
	if (X509_check_ca(m->ca) < 1)
		return fail(m, -EINVAL, "not a CA's certificate", crt);
	if (X509_cmp_current_time(X509_get0_notAfter(m->ca)) < 0)
		return fail(m, -EKEYEXPIRED, "has expired", crt);
	return 0;
}

/* The one that is there, whole, or else a new one. */
static int have_ca(struct maker *m)
{
	char crt[PATH_MAX], key[PATH_MAX];
	bool have_crt, have_key;
	struct stat st;
	int r = path_of(m, crt, "ca", "crt");

	if (!r)
		r = path_of(m, key, "ca", "key");
	if (r)
		return r;
	have_crt = !lstat(crt, &st);
	have_key = !lstat(key, &st);
	return have_crt || have_key ? load_ca(m, crt, key) : make_ca(m);
}

/* ---- all of it --------------------------------------------------------- */

static int make_dir(struct maker *m)
{
	struct stat st;

	if (!mkdir(m->dir, 0700)) {
		m->made_dir = true;
		return 0;
	}
	if (errno != EEXIST || stat(m->dir, &st))
		return fail(m, -errno, strerror(errno), m->dir);
	if (!S_ISDIR(st.st_mode))
		return fail(m, -ENOTDIR, strerror(ENOTDIR), m->dir);
	return 0;
}

static int make_all(struct maker *m, const struct host *hosts, size_t count)
{
	int r = make_dir(m);

	if (!r)
		r = have_ca(m);
	for (size_t i = 0; !r && i < count; i++)
		r = make_host(m, &hosts[i]);
	return r;
}

int certs_make(const char *dir, const char *const *hosts, size_t count,
	       char *why)
{
	AUTO_FREE struct maker *m = calloc(1, sizeof(*m));
	AUTO_FREE struct host *h = calloc(CERTS_HOSTS_MAX, sizeof(*h));
	int r = 0;

	snprintf(why, TLS_ERROR_BYTES, "no memory");
	if (!m || !h)
		return -ENOMEM;
	m->dir = dir;
	m->why = why;
	if (!count || count > CERTS_HOSTS_MAX)
		return fail(m, -EINVAL, "1 to 16 hosts can be named", dir);
	for (size_t i = 0; !r && i < count; i++) {
		r = parse_host(m, hosts[i], &h[i]);
		for (size_t j = 0; !r && j < i; j++)
			if (!strcmp(h[i].name, h[j].name))
				r = fail(m, -EINVAL, "named twice", h[i].name);
		if (!r)
			r = check_absent(m, h[i].name);
	}
	if (!r)
		r = make_all(m, h, count);
	if (r)
		undo(m);
	else
		why[0] = '\0';
	X509_free(m->ca);
	EVP_PKEY_free(m->ca_key);
	ERR_clear_error();
	return r;
}
