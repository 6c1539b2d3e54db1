/* The credentials that are in use, and new ones while the gateway runs: read by the control thread,
 * which keeps those that there are when anything is wrong with the new ones, and handed over to
 * each worker in a parcel (PARCEL_CREDENTIALS). A worker that has not taken the last ones yet gets
 * the newest alone. Associations and handshakes that there are go on with what they began with.
 *
 * One thread, but for renewal_take(). */
#ifndef COAPGW_GATEWAY_CONTROL_RENEWAL_H
#define COAPGW_GATEWAY_CONTROL_RENEWAL_H

#include <stdint.h>
#include <stdio.h>

#include "config/config.h"
#include "gateway/parcel.h"
#include "gateway/security/credentials.h"

struct renewal;

/* Loads the credentials: what is wrong with them is said on `errors`. `config` must outlive it.
 * NULL with errno set; 0 is no error: the configuration has no use for any. */
struct renewal *renewal_create(const struct config *config,
                               const uint8_t secret[CREDENTIALS_SECRET_BYTES], FILE *errors);

/* Gives up what is on its way to workers, which must not be running, and its own reference. The
 * pool of the parcels is there still. NULL is nothing. */
void renewal_destroy(struct renewal *r);

/* Those in use, without a reference. NULL for NULL. */
struct credentials *renewal_credentials(const struct renewal *r);

/* From now on workers take them. */
void renewal_start(struct renewal *r, struct rte_mempool *parcels);

/* Reads all files again. 0, or -EINVAL with the old ones still in use; both is said on `out`. */
int renewal_run(struct renewal *r, FILE *out);

/* To be called about once a second: keys of tickets are turned over by the time of day, and what
 * could not be handed over is tried again; and credentials that nobody uses any more are freed. */
void renewal_tick(struct renewal *r, uint64_t unix_s);

/* The worker's side, as lcore_office.take(); `context` is a struct renewal, or NULL. */
struct parcel *renewal_take(void *context, unsigned worker);

#endif
