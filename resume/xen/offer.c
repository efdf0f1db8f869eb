/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "resume/xen/offer.h"

#include <errno.h>

int xen_offer_parse(const char *text, size_t bytes)
{
	int port = 0;

	if (bytes == 0)
		return 0;
	/* No sign, space or leading zero: no kernel writes one. */
	if (text[0] == '0')
		return -EINVAL;
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		port = port * 10 + (text[i] - '0');
		if (port >= XEN_PORT_LIMIT)
			return -EINVAL;
	}
	return port;
}
