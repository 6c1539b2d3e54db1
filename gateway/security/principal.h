/* Who a client is: the identity of its pre-shared key, or the name in its certificate.
 *
 * A plain value; pure functions, any thread. */
#ifndef COAPGW_GATEWAY_SECURITY_PRINCIPAL_H
#define COAPGW_GATEWAY_SECURITY_PRINCIPAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRINCIPAL_MAX 128 /* bytes of an identity or a name */

enum principal_kind { PRINCIPAL_NONE, PRINCIPAL_PSK, PRINCIPAL_CERTIFICATE };

struct principal {
    uint8_t kind;
    uint8_t length;
    char text[PRINCIPAL_MAX]; /* not ended by a zero; of an identity any bytes but zero */
};

/* "psk:" or "cert:" and the text with what cannot be printed as \xHH, or "" for nobody. */
#define PRINCIPAL_TEXT_BYTES (4 * PRINCIPAL_MAX + sizeof("cert:"))

/* -EMSGSIZE, with `out` nobody, when the text is empty or too long or has a zero byte. */
int principal_set(struct principal *out, enum principal_kind kind, const void *text, size_t length);

/* The name of a certificate is its first DNS name; without one its first URI; without one the
 * common name of its subject. -ENOENT when it has none of them; errors as principal_set(). */
struct x509_st;
int principal_of_certificate(const struct x509_st *certificate, struct principal *out);

/* Writes how operators see it. Returns `text`. */
const char *principal_format(const struct principal *p, char text[PRINCIPAL_TEXT_BYTES]);

/* A pattern is "psk:IDENTITY" or "cert:NAME", where "*" stands at the end for any rest or, as a
 * whole label in front of a name of a certificate ("cert:*.example.org"), for any one label or
 * more. Names of certificates are compared without regard to case, identities byte by byte. */
bool principal_matches(const struct principal *p, const char *pattern);

/* The same for the part behind "cert:" alone. */
bool principal_name_matches(const struct principal *p, const char *pattern);

#endif
