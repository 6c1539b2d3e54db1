/* Keys of session tickets (RFC 5077): what resumes a session is kept by the client alone.
 *
 * They follow by HKDF (RFC 5869) from a secret and the number of a period of the time of day: the
 * same for all workers and after a restart, others in each period. Tickets are taken for their own
 * period and the two after it, and no longer than TICKET_LIFE_S.
 *
 * struct tickets belongs to one SSL_CTX, and so to one worker. */
#ifndef COAPGW_GATEWAY_SECURITY_TICKET_H
#define COAPGW_GATEWAY_SECURITY_TICKET_H

#include <stdatomic.h>
#include <stdint.h>

#include <openssl/ssl.h>

#define TICKET_PERIOD_S     43200
#define TICKET_LIFE_S       (2 * TICKET_PERIOD_S)
#define TICKET_SECRET_BYTES 32

#define TICKET_PERIODS 3 /* the present one, and those whose tickets are still taken */

struct ticket_key {
    uint8_t name[16], cipher[32], mac[32];
};

struct tickets {
    uint8_t secret[TICKET_SECRET_BYTES];
    const _Atomic uint64_t *now_s; /* somebody else's clock */
    uint64_t period;               /* of keys[0]; 0: none were made */
    struct ticket_key keys[TICKET_PERIODS];
};

/* Makes the context issue and take tickets; `tickets` must live as long as it. 0 or -ENOMEM. */
int tickets_attach(struct tickets *tickets, SSL_CTX *context);

#endif
