/* SSL_CTX objects from what the files of a listener or an upstream hold. For credentials.c alone;
 * used while credentials are loaded. */
#ifndef COAPGW_GATEWAY_SECURITY_CONTEXT_H
#define COAPGW_GATEWAY_SECURITY_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "gateway/security/complaint.h"
#include "gateway/security/pem.h"

/* What one side is made of. */
struct material {
    struct pem certificate, key, ca, crl;
    const struct config_suites *suites;
    bool server;
    enum config_clients clients; /* server */
    const char *hint;            /* server: for clients with several pre-shared keys, or "" */
    const char *name;            /* client: that the server must have; NULL: said later */
};

/* What is wrong with it, or only doubtful at `now`: dates, a key of another certificate, suites
 * that this key cannot be used with. Returns the number of certificates. */
unsigned material_check(const struct material *m, struct complaints *c, int64_t now);

/* NULL: said. DTLS 1.2 alone; no renegotiation, no compression, no cache of sessions. */
SSL_CTX *context_create(const struct material *m, struct complaints *c);

#endif
