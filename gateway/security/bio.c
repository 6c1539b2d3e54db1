/* OpenSSL's way to the wire: it reads the one record that it has been given, if any, and what it
 * writes becomes part of a flight. There is no socket, and nobody waits. */
#include "gateway/security/handshake_parts.h"

#include <string.h>

/* Of IPv4 and UDP. OpenSSL refuses an MTU below 256 less this; what is given to it as MTU is the
 * room of a datagram already. */
#define MTU_OVERHEAD (256 - (long)HANDSHAKE_ROOM_MIN)

static int bio_read_record(BIO *bio, char *out, int room)
{
    struct handshake *h = BIO_get_data(bio);
    size_t length = h->in_length;

    BIO_clear_retry_flags(bio);
    if (!h->in) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (room < 0 || length > (size_t)room)
        length = room < 0 ? 0 : (size_t)room; /* as a socket would cut it */
    memcpy(out, h->in, length);
    if (!h->peek) {
        h->in = NULL;
        h->answered = true;
    }
    return (int)length;
}

static int bio_write_records(BIO *bio, const char *bytes, int length)
{
    struct handshake *h = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    return length >= 0 && flight_add(h, (const uint8_t *)bytes, (size_t)length) == 0 ? length : -1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    struct handshake *h = BIO_get_data(bio);

    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_PENDING:
        return h->in ? (long)h->in_length : 0;
    case BIO_CTRL_DGRAM_SET_PEEK_MODE:
        h->peek = number != 0;
        return 1;
    case BIO_CTRL_DGRAM_QUERY_MTU:
    case BIO_CTRL_DGRAM_GET_MTU:
    case BIO_CTRL_DGRAM_GET_FALLBACK_MTU:
        return h->room;
    case BIO_CTRL_DGRAM_SET_MTU:
        return number;
    case BIO_CTRL_DGRAM_GET_MTU_OVERHEAD:
        return MTU_OVERHEAD;
    case BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT: /* the worker's time is what counts */
        return 1;
    default:
        return 0;
    }
}

static int bio_begin(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *bio_method_create(void)
{
    /* Without an index of its own: there are but few, and nobody looks for it. */
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "coapgw records");

    if (method && BIO_meth_set_create(method, bio_begin) == 1 &&
        BIO_meth_set_read(method, bio_read_record) == 1 &&
        BIO_meth_set_write(method, bio_write_records) == 1 &&
        BIO_meth_set_ctrl(method, bio_control) == 1)
        return method;
    BIO_meth_free(method);
    return NULL;
}

BIO *bio_create(const BIO_METHOD *method, struct handshake *h)
{
    BIO *bio = BIO_new(method);

    if (bio)
        BIO_set_data(bio, h);
    return bio;
}
