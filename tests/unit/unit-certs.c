/* SPDX-License-Identifier: Apache-2.0 */
/* The small certificate authority: what it makes, refuses and cleans up. */
#include "config.h"

#include "net/certs.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <openssl/x509v3.h>

#include "net-fixture.h"

static char base[64], dir[80];

static int begin(void **state)
{
	(void)state;
	strcpy(base, "/tmp/colod-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(dir, sizeof(dir), "%s/certs", base);
	return 0;
}

static int end(void **state)
{
	(void)state;
	remove_dir(base);
	return 0;
}

static int make(const char *a, const char *b, char *why)
{
	const char *const hosts[] = { a, b };

	return certs_make(dir, hosts, b ? 2 : 1, why);
}

static int files(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	if (!d)
		return -1;
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static char *file(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static mode_t mode_of(const char *name)
{
	struct stat st;

	assert_int_equal(stat(file(name), &st), 0);
	return st.st_mode & 07777;
}

static X509 *certificate(const char *name)
{
	FILE *f = fopen(file(name), "r");
	X509 *x;

	assert_non_null(f);
	x = PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	assert_non_null(x);
	return x;
}

static void test_files_and_their_modes(void **state)
{
	char why[TLS_ERROR_BYTES];

	(void)state;
	assert_int_equal(make("alpha", "beta", why), 0);
	assert_string_equal(why, "");
	assert_int_equal(files(), 6);
	assert_int_equal(mode_of("."), 0700);
	assert_int_equal(mode_of("ca.key"), 0600);
	assert_int_equal(mode_of("alpha.key"), 0600);
	assert_int_equal(mode_of("ca.crt") & 0022, 0);
}

static void test_they_load_as_identities(void **state)
{
	char why[TLS_ERROR_BYTES];
	struct tls_identity *id;

	(void)state;
	assert_int_equal(make("alpha", "beta", why), 0);
	id = identity(dir, "alpha");
	assert_string_equal(tls_identity_name(id), "alpha");
	tls_identity_free(id);
	tls_identity_free(identity(dir, "beta"));
}

static void test_names_of_a_host(void **state)
{
	char why[TLS_ERROR_BYTES];
	X509 *x;

	(void)state;
	assert_int_equal(
		make("alpha=10.0.0.1,fd00::1,alpha.example", "192.0.2.7", why),
		0);
	x = certificate("alpha.crt");
	assert_int_equal(X509_check_host(x, "alpha", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(x, "alpha.example", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(x, "beta", 0, 0, NULL), 0);
	assert_int_equal(X509_check_ip_asc(x, "10.0.0.1", 0), 1);
	assert_int_equal(X509_check_ip_asc(x, "fd00::1", 0), 1);
	assert_int_equal(X509_check_ip_asc(x, "10.0.0.2", 0), 0);
	X509_free(x);
	x = certificate("192.0.2.7.crt");
	assert_int_equal(X509_check_ip_asc(x, "192.0.2.7", 0), 1);
	X509_free(x);
}

static void test_only_the_ca_may_sign(void **state)
{
	char why[TLS_ERROR_BYTES];
	X509 *ca, *x;

	(void)state;
	assert_int_equal(make("alpha", NULL, why), 0);
	ca = certificate("ca.crt");
	x = certificate("alpha.crt");
	assert_int_equal(X509_check_ca(ca), 1);
	assert_int_equal(X509_check_ca(x), 0);
	assert_false(X509_get_extension_flags(x) & EXFLAG_CA);
	assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0), 1);
	assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_SERVER, 0), 1);
	assert_int_equal(X509_check_issued(ca, x), X509_V_OK);
	assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(ca),
					      X509_get0_serialNumber(x)),
			     0);
	X509_free(ca);
	X509_free(x);
}

static void test_valid_for_ten_years(void **state)
{
	char why[TLS_ERROR_BYTES];
	time_t later = time(NULL) + 3649L * 86400, end_of_it;
	X509 *x;

	(void)state;
	assert_int_equal(make("alpha", NULL, why), 0);
	x = certificate("alpha.crt");
	end_of_it = later + 2 * 86400;
	assert_true(X509_cmp_current_time(X509_get0_notBefore(x)) < 0);
	assert_true(X509_cmp_time(X509_get0_notAfter(x), &later) > 0);
	assert_true(X509_cmp_time(X509_get0_notAfter(x), &end_of_it) < 0);
	X509_free(x);
}

static void test_existing_ca_is_used_again(void **state)
{
	char why[TLS_ERROR_BYTES];
	X509 *before, *after;

	(void)state;
	assert_int_equal(make("alpha", NULL, why), 0);
	before = certificate("ca.crt");
	assert_int_equal(make("beta", NULL, why), 0);
	after = certificate("ca.crt");
	assert_int_equal(X509_cmp(before, after), 0);
	X509_free(before);
	X509_free(after);
	tls_identity_free(identity(dir, "alpha"));
	tls_identity_free(identity(dir, "beta"));
}

static void test_existing_host_is_never_overwritten(void **state)
{
	char why[TLS_ERROR_BYTES];
	X509 *before, *after;

	(void)state;
	assert_int_equal(make("alpha", NULL, why), 0);
	before = certificate("alpha.crt");
	assert_int_equal(make("beta", "alpha", why), -EEXIST);
	assert_non_null(strstr(why, "alpha.crt: exists already"));
	assert_int_equal(files(), 4);
	after = certificate("alpha.crt");
	assert_int_equal(X509_cmp(before, after), 0);
	X509_free(before);
	X509_free(after);
	assert_int_equal(unlink(file("alpha.crt")), 0);
	assert_int_equal(make("alpha", NULL, why), -EEXIST);
	assert_non_null(strstr(why, "alpha.key"));
}

static void test_bad_names(void **state)
{
	static const char *const bad[] = {
		"",
		"-rf",
		"a/b",
		"..",
		".a",
		"a b",
		"ca",
		"a=b,",
		"a=",
		"a=b/c",
		"a=b,,c",
		"a=-b",
		"a\nb",
		"a*",
		":::",
		"a=1:2",
		"\xc3\xa4",
		"=10.0.0.1",
		"0123456789012345678901234567890123456789012345678901234567890"
		"1234",
	};
	char why[TLS_ERROR_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (make(bad[i], NULL, why) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(files(), -1);
	}
	assert_int_equal(make("alpha", "alpha=10.0.0.1", why), -EINVAL);
	assert_non_null(strstr(why, "named twice"));
}

static void test_failure_leaves_nothing_behind(void **state)
{
	char why[TLS_ERROR_BYTES];
	const char *const hosts[] = { "alpha" };

	(void)state;
	/* A CA without its key. */
	assert_int_equal(make("alpha", NULL, why), 0);
	assert_int_equal(unlink(file("ca.key")), 0);
	assert_int_equal(make("beta", NULL, why), -ENOENT);
	assert_non_null(strstr(why, "ca.key"));
	assert_int_equal(files(), 3);
	assert_int_equal(certs_make("/nonexistent/dir", hosts, 1, why),
			 -ENOENT);
	assert_int_equal(certs_make(file("alpha.crt"), hosts, 1, why),
			 -ENOTDIR);
}

/* A disk that fills up with the second host's certificate. */
static void test_half_made_files_are_removed(void **state)
{
	char why[TLS_ERROR_BYTES], names[1024] = "beta=";
	struct rlimit old, small;

	(void)state;
	for (int i = 0; i < 15; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names),
			 "%sname-number-%02d-that-is-as-long-as-can-be.example",
			 i ? "," : "", i);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 1024;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(make("alpha", names, why), -EIO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_non_null(strstr(why, "beta.crt: cannot be written"));
	assert_int_equal(files(), -1);
	/* With space it does. */
	assert_int_equal(make("alpha", names, why), 0);
}

static void test_ca_of_another_key(void **state)
{
	char why[TLS_ERROR_BYTES], command[512];

	(void)state;
	assert_int_equal(make("alpha", NULL, why), 0);
	snprintf(command, sizeof(command), "cp %s/alpha.key %s/ca.key", dir,
		 dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(make("beta", NULL, why), -EINVAL);
	assert_int_equal(files(), 4);
}

#define CERTS_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CERTS_TEST(test_files_and_their_modes),
		CERTS_TEST(test_they_load_as_identities),
		CERTS_TEST(test_names_of_a_host),
		CERTS_TEST(test_only_the_ca_may_sign),
		CERTS_TEST(test_valid_for_ten_years),
		CERTS_TEST(test_existing_ca_is_used_again),
		CERTS_TEST(test_existing_host_is_never_overwritten),
		CERTS_TEST(test_bad_names),
		CERTS_TEST(test_failure_leaves_nothing_behind),
		CERTS_TEST(test_half_made_files_are_removed),
		CERTS_TEST(test_ca_of_another_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
