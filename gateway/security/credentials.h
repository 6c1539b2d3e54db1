/* Credentials: keys and certificates of all coaps listeners and upstreams, ready for OpenSSL.
 *
 * A set is made as a whole from the configuration and the files that it names, is not changed after
 * that, and is replaced as a whole when they are to be read again. It is counted who uses it: the
 * last one to drop it frees it, and its keys are wiped. Sets are made and dropped by any thread;
 * making one reads files and takes as long as that takes: never on a worker.
 *
 * For each worker there is an SSL_CTX of its own in each side: OpenSSL's locks and counters are not
 * shared. The SSL_CTX and what is made of it are used by that worker alone. */
#ifndef COAPGW_GATEWAY_SECURITY_CREDENTIALS_H
#define COAPGW_GATEWAY_SECURITY_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <openssl/ssl.h>

#include "config/config.h"
#include "gateway/security/principal.h"
#include "gateway/security/psk.h"

struct credentials;
struct credentials_side; /* of one listener or one upstream */

#define CREDENTIALS_SECRET_BYTES 16

/* Reads all. `secret` is the service's: the keys of tickets follow from it and from what was read,
 * so that they are the same for all workers and after a restart, and others when what a listener
 * trusts has changed; NULL: random ones. NULL when anything is wrong: each error is a line on
 * `errors` that names a file and a line. What is only doubtful is said there, too. `config` must
 * outlive it. Without a coaps listener or upstream it is an empty set. */
struct credentials *credentials_load(const struct config *config,
                                     const uint8_t secret[CREDENTIALS_SECRET_BYTES], FILE *errors);

/* True when the configuration has any use for credentials. */
bool credentials_wanted(const struct config *config);

/* One more user; the same for one less, who does not use it any more. NULL is nothing. Any thread.
 * credentials_take() returns its argument. */
struct credentials *credentials_take(struct credentials *credentials);
void credentials_drop(struct credentials *credentials);

/* True when the caller is the only user. */
bool credentials_is_last(const struct credentials *credentials);

/* How many pre-shared keys and certificates (own ones and CAs) it has, for operators. */
struct credentials_count {
    uint64_t identities;
    uint64_t certificates;
};
struct credentials_count credentials_count(const struct credentials *credentials);

/* The time of day that keys of tickets are turned over by; never asked of the machine by a worker.
 * Set when loaded; to be set about once a minute or more often. Any thread. */
void credentials_set_time(struct credentials *credentials, uint64_t unix_s);

/* The side of a listener or an upstream by its index in the configuration; NULL: it has no DTLS.
 * The one of the forward proxy's destinations is behind the last upstream. */
const struct credentials_side *credentials_listener(const struct credentials *credentials,
                                                    unsigned listener);
const struct credentials_side *credentials_upstream(const struct credentials *credentials,
                                                    unsigned upstream);

/* The worker's own. All is set but what hands things to the worker: callbacks for pre-shared keys
 * and extensions. SSL_CTX_set_ex_data() and the ticket key's callback are used here already. */
SSL_CTX *credentials_context(const struct credentials_side *side, unsigned worker);

/* The key of an identity in the listener's file: its length in bytes, or -ENOENT. */
int credentials_psk(const struct credentials_side *side, const uint8_t *identity, size_t length,
                    uint8_t key[PSK_KEY_MAX]);

/* What an upstream presents: the length of the key; `*identity` lives as long as the side. -ENOENT
 * when it has no pre-shared key. */
int credentials_own_psk(const struct credentials_side *side, const char **identity,
                        uint8_t key[PSK_KEY_MAX]);

/* Whether the server's certificate has the name that is expected is checked in the handshake, once
 * this has been called for its SSL object: the configured name or else the server's address. 0 or
 * -ENOMEM. */
int credentials_expect(const struct credentials_side *side, SSL *ssl, const struct address *server);

/* After a listener's handshake: false when the certificate's name is not one that the listener
 * admits, or when the identity is not in its file any more and the store is not asked. */
bool credentials_admit(const struct credentials_side *side, const struct principal *principal);

/* What the configuration says of it; the other one is NULL. */
const struct config_dtls_listener *credentials_listener_config(const struct credentials_side *side);
const struct config_dtls_upstream *credentials_upstream_config(const struct credentials_side *side);

#endif
