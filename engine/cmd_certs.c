/* SPDX-License-Identifier: Apache-2.0 */
/* `colod certs`: a CA and certificates for a pair of hosts. */
#include "config.h"

#include "engine/commands.h"

#include <stdio.h>
#include <string.h>

#include "engine/env.h"
#include "net/certs.h"
#include "net/tls.h"

int command_certs(const struct settings *set, int argc, char **argv)
{
	const char *dir = argv[0];
	char why[TLS_ERROR_BYTES];
	int i;

	(void)set;
	if (certs_make(dir, (const char *const *)argv + 1, (size_t)argc - 1,
		       why)) {
		fprintf(stderr, "colod: %s\n", why);
		return EXIT_FAILED;
	}
	printf("made in %s; copy to each host, as /etc/colod/ca.crt, host.crt "
	       "and host.key:\n",
	       dir);
	for (i = 1; i < argc; i++) {
		int n = (int)strcspn(argv[i], "=");

		printf("  %-20.*s ca.crt %.*s.crt %.*s.key\n", n, argv[i], n,
		       argv[i], n, argv[i]);
	}
	printf("keep ca.key where neither host can read it\n");
	return EXIT_ENDED;
}
