/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 without I/O: bytes in, bytes out.  The only file that includes
 * OpenSSL for the connection is net/tls.c.
 *
 * Both sides present a certificate of the same CA; nothing older than TLS 1.3
 * is spoken, there is no session resumption and no early data.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* "OpenSSL 3.0.17 ..." */
const char *tls_library_version(void);

struct tls_identity; /* a certificate, its key and the CA: for many sessions */
struct tls;

struct tls_files {
	const char *cert;
	const char *key;
	const char *ca;
};

enum { TLS_ERROR_BYTES = 256 };

/*
 * Loads and checks the files: readable, belonging together, within their
 * dates, the certificate issued by the CA, the key not readable by others.
 * -EINVAL/-ENOENT/-EACCES/-EKEYEXPIRED with one line in why[TLS_ERROR_BYTES].
 */
int tls_identity_load(const struct tls_files *files, struct tls_identity **out,
		      char *why);
void tls_identity_free(struct tls_identity *id);
/*
 * Which cipher this side would have: AES-GCM where the processor has
 * instructions for it, which tls_identity_load() finds out, else ChaCha20.  The
 * slower side decides.
 */
int tls_identity_cipher(struct tls_identity *id, bool aes);
/* The subject's common name, for logs. */
const char *tls_identity_name(const struct tls_identity *id);

/*
 * A client session expects the peer's certificate to be valid for
 * `expected_name` (DNS name or IP address among its subject alternative
 * names).  A server session (server == true) accepts any name that the CA
 * vouches for, or only `expected_name` where it is not NULL.
 */
int tls_new(const struct tls_identity *id, bool server,
	    const char *expected_name, struct tls **out);
void tls_free(struct tls *t);
/*
 * Changes our key after this many records instead of the default, which stays
 * well below what AES-GCM allows under one key.
 */
void tls_rekey_after(struct tls *t, uint64_t records);

/*
 * Where to put received ciphertext: *room bytes at the returned place, then
 * tls_received(n).  Zero-copy into OpenSSL's BIO pair: the place is lost when
 * tls_read() or tls_handshake() finds bytes to read in between, so ask for it
 * after they have wanted more.
 */
uint8_t *tls_receive_room(struct tls *t, size_t *room);
void tls_received(struct tls *t, size_t n);

/* Ciphertext to be sent: *len bytes, then tls_sent(n).  NULL: none. */
const uint8_t *tls_send_bytes(struct tls *t, size_t *len);
void tls_sent(struct tls *t, size_t n);

/*
 * Moves the handshake on.  1: established; 0: needs more bytes either way;
 * -EPROTO/-EACCES: failed, with one line in why[TLS_ERROR_BYTES] that says
 * which side refused which certificate and why, or that the peer does not
 * speak TLS at all.
 */
int tls_handshake(struct tls *t, char *why);
/* The common name in the peer's certificate; valid once established. */
const char *tls_peer_name(const struct tls *t);

/* "TLS_AES_128_GCM_SHA256"; valid once established. */
const char *tls_cipher_name(const struct tls *t);

/* Bytes read; -EAGAIN: none yet; 0: the peer closed; -EPROTO with why. */
ssize_t tls_read(struct tls *t, void *buf, size_t len, char *why);
/* Bytes taken, -EAGAIN where the output is full: send first. */
ssize_t tls_write(struct tls *t, const void *buf, size_t len, char *why);
/* Queues a close_notify. */
void tls_shutdown(struct tls *t);

#endif
