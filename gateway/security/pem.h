/* PEM files: read once, and parsed as often as there are workers, so that no two of them share what
 * OpenSSL makes of them. Used while credentials are loaded. */
#ifndef COAPGW_GATEWAY_SECURITY_PEM_H
#define COAPGW_GATEWAY_SECURITY_PEM_H

#include <stddef.h>

#include <openssl/x509.h>

#include "gateway/security/complaint.h"

struct pem {
    const struct config_file *file;
    const char *key; /* in the configuration: "certificate", for one */
    char *text;      /* NULL: there is no such file in the configuration */
    size_t length;
};

#define PEM_PRIVATE 1u /* the file must not be open to everybody */

/* Reads the file; nothing when its path is NULL. */
void pem_read(struct pem *pem, const struct config_file *file, const char *key, unsigned flags,
              struct complaints *c);

/* Wipes it. */
void pem_free(struct pem *pem);

/* Each of these says what is wrong, and returns NULL then. */
STACK_OF(X509) * pem_certificates(const struct pem *pem, struct complaints *c); /* at least one */
STACK_OF(X509_CRL) * pem_crls(const struct pem *pem, struct complaints *c);     /* at least one */
EVP_PKEY *pem_private_key(const struct pem *pem, struct complaints *c);

/* A key of 1 to PSK_KEY_MAX bytes, as hexadecimal digits in the first line; its length, or 0. */
unsigned pem_hex_key(const struct pem *pem, struct complaints *c, unsigned char *key);

#endif
