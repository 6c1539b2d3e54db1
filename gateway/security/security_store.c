/* What is asked of the store; for its records see security_keep.c. */
#include <string.h>

#include <openssl/crypto.h>

#include "gateway/security/security_parts.h"
#include "gateway/store/store.h"

/* ---- pre-shared keys ---- */

bool security_ask_key(struct security *s, const struct contact *c)
{
    const struct worker_io *io = &s->setup.io;
    uint32_t index = pool_index(&s->contacts, c);
    struct store_head head = {.cookie = (uint64_t)c->serial << 32 | index};
    const uint8_t *identity;
    struct parcel *parcel;
    size_t length;

    if (!io->tell)
        return false;
    identity = handshake_identity(c->handshake, &length);
    parcel =
        parcel_new(io->parcels, PARCEL_RECORD, STORE_KEY_ASK, (uint32_t)(sizeof(head) + length));
    if (!parcel)
        return false;
    parcel_write(parcel, 0, &head, sizeof(head));
    parcel_write(parcel, sizeof(head), identity, length);
    if (io->tell(io->context, PARCEL_STORE, parcel))
        return true;
    parcel_free(io->parcels, parcel);
    return false;
}

static void take_key(struct security *s, struct parcel *parcel)
{
    uint8_t key[STORE_KEY_MAX];
    struct store_head head;
    size_t length;

    if (!parcel_read(parcel, 0, &head, sizeof(head)))
        return;
    length = parcel->length - sizeof(head);
    if (length <= sizeof(key) && parcel_read(parcel, sizeof(head), key, length))
        security_take_key(s, head.cookie, head.error, key, length);
    OPENSSL_cleanse(key, sizeof(key));
    OPENSSL_cleanse(parcel->data, sizeof(parcel->data));
}

bool security_told(struct security *s, struct parcel *parcel)
{
    if (parcel->type != STORE_KEY)
        return security_keep_told(s, parcel);
    take_key(s, parcel);
    return true;
}
