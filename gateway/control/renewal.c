#include "gateway/control/renewal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

/* Credentials that were replaced, and may be in use still. */
#define RETIRED_MAX 8

struct renewal {
    const struct config *config;
    struct credentials *credentials, *retired[RETIRED_MAX];
    struct rte_mempool *parcels; /* NULL: no worker runs yet */
    uint8_t secret[CREDENTIALS_SECRET_BYTES];
    bool pending[CONFIG_WORKERS_MAX]; /* no parcel was free */
    _Atomic(struct parcel *) to[CONFIG_WORKERS_MAX];
};

struct renewal *renewal_create(const struct config *config,
                               const uint8_t secret[CREDENTIALS_SECRET_BYTES], FILE *errors)
{
    struct renewal *r;

    errno = 0;
    if (!credentials_wanted(config))
        return NULL;
    r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->config = config;
    memcpy(r->secret, secret, sizeof(r->secret));
    r->credentials = credentials_load(config, secret, errors);
    if (r->credentials)
        return r;
    renewal_destroy(r);
    errno = EINVAL;
    return NULL;
}

/* Nobody gets it any more. */
static void discard(struct renewal *r, struct parcel *parcel)
{
    struct credentials *credentials;

    if (parcel && parcel_read(parcel, 0, &credentials, sizeof(credentials)))
        credentials_drop(credentials);
    parcel_free(r->parcels, parcel);
}

/* A worker would be held up that dropped a million keys as the last one: that is done here. */
static void drop_unused(struct renewal *r)
{
    for (unsigned i = 0; i < RETIRED_MAX; i++)
        if (r->retired[i] && credentials_is_last(r->retired[i])) {
            credentials_drop(r->retired[i]);
            r->retired[i] = NULL;
        }
}

static void retire(struct renewal *r, struct credentials *credentials)
{
    for (unsigned i = 0; i < RETIRED_MAX; i++)
        if (!r->retired[i]) {
            r->retired[i] = credentials;
            return;
        }
    credentials_drop(credentials);
}

void renewal_destroy(struct renewal *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < CONFIG_WORKERS_MAX; i++)
        discard(r, atomic_exchange(&r->to[i], NULL));
    for (unsigned i = 0; i < RETIRED_MAX; i++)
        credentials_drop(r->retired[i]);
    credentials_drop(r->credentials);
    OPENSSL_cleanse(r, sizeof(*r));
    free(r);
}

struct credentials *renewal_credentials(const struct renewal *r)
{
    return r ? r->credentials : NULL;
}

void renewal_start(struct renewal *r, struct rte_mempool *parcels)
{
    r->parcels = parcels;
}

/* What was there before has not been taken, and is not needed any more. */
static void post(struct renewal *r, unsigned worker)
{
    struct parcel *parcel = parcel_new(r->parcels, PARCEL_CREDENTIALS, 0, sizeof(r->credentials));
    struct credentials *credentials = r->credentials;

    r->pending[worker] = parcel == NULL;
    if (!parcel)
        return;
    credentials_take(credentials);
    parcel_write(parcel, 0, &credentials, sizeof(credentials));
    parcel->from = PARCEL_CONTROL;
    discard(r, atomic_exchange_explicit(&r->to[worker], parcel, memory_order_acq_rel));
}

int renewal_run(struct renewal *r, FILE *out)
{
    struct credentials *next = credentials_load(r->config, r->secret, out);
    struct credentials_count count;

    if (!next) {
        fputs("coapgw: the credentials stay as they were\n", out);
        return -EINVAL;
    }
    drop_unused(r);
    retire(r, r->credentials);
    r->credentials = next;
    for (unsigned i = 0; i < r->config->workers && r->parcels; i++)
        post(r, i);
    count = credentials_count(next);
    fprintf(out,
            "coapgw: the credentials have been read again: %" PRIu64 " identities, %" PRIu64
            " certificates; other changes of the configuration need a restart\n",
            count.identities, count.certificates);
    return 0;
}

void renewal_tick(struct renewal *r, uint64_t unix_s)
{
    if (!r)
        return;
    credentials_set_time(r->credentials, unix_s);
    drop_unused(r);
    for (unsigned i = 0; i < r->config->workers && r->parcels; i++)
        if (r->pending[i])
            post(r, i);
}

struct parcel *renewal_take(void *context, unsigned worker)
{
    struct renewal *r = context;

    if (!r || !atomic_load_explicit(&r->to[worker], memory_order_relaxed))
        return NULL;
    return atomic_exchange_explicit(&r->to[worker], NULL, memory_order_acq_rel);
}
