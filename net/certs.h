/* SPDX-License-Identifier: Apache-2.0 */
/* A small certificate authority for a pair of hosts: `colod certs`. */
#ifndef NET_CERTS_H
#define NET_CERTS_H

#include <stddef.h>

enum { CERTS_HOSTS_MAX = 16 };

/*
 * Makes DIR (mode 0700) with ca.crt, ca.key, and for each host HOST.crt and
 * HOST.key: ECDSA P-256, valid ten years, HOST as common name and as subject
 * alternative name (IP where it is an address, else DNS; names of a host
 * may be given as NAME=ADDRESS,...: "alpha=10.0.0.1,alpha.example").  Keys are
 * mode 0600.  An existing CA in DIR is used again, an existing host
 * certificate is never overwritten: -EEXIST.  On failure files made by this
 * call are removed.  `why` is TLS_ERROR_BYTES long.
 */
int certs_make(const char *dir, const char *const *hosts, size_t count,
	       char *why);

#endif
