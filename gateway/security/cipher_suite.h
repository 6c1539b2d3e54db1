/* The cipher suites of DTLS 1.2 that can be configured: AEAD ones whose PRF is of SHA-256.
 *
 * Constant tables; any thread. */
#ifndef COAPGW_GATEWAY_SECURITY_CIPHER_SUITE_H
#define COAPGW_GATEWAY_SECURITY_CIPHER_SUITE_H

#include <stdbool.h>
#include <stdint.h>

#define CIPHER_SUITES_MAX 16

/* The number by its name in IANA's registry, -EINVAL when it is not one of them. */
int cipher_suite_number(const char *name);

/* NULL when it is not one of them. */
const char *cipher_suite_name(uint16_t number);

/* True when the two ends have a key in common, false when the server has a certificate. */
bool cipher_suite_is_psk(uint16_t number);

/* All of them, the best first: RFC 7252 9.1.3 wants the CCM_8 ones; those without ephemeral keys
 * or with small messages stand before the others. Returns how many. */
unsigned cipher_suites_default(uint16_t numbers[CIPHER_SUITES_MAX]);

#endif
