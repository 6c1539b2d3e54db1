/* The hellos: RFC 5246 7.4.1, RFC 6347 4.2.1, and their extensions. */
#include <errno.h>
#include <string.h>

#include "tests/dtls/peer_parts.h"

#define EXTENSION_EXTENDED_MASTER 23     /* RFC 7627 */
#define EXTENSION_SESSION_TICKET  35     /* RFC 5077 */
#define EXTENSION_CONNECTION_ID   54     /* RFC 9146 */
#define EXTENSION_RENEGOTIATION   0xff01 /* RFC 5746 */
#define SUITE_SCSV                0x00ff

static const uint16_t all_suites[PEER_SUITES] = {PEER_SUITE_CCM8, PEER_SUITE_GCM,
                                                 PEER_SUITE_CHACHA};

static const uint16_t *offered(const struct peer *p)
{
    return p->setup.suites[0] ? p->setup.suites : all_suites;
}

static bool is_offered(const struct peer *p, uint16_t suite)
{
    for (unsigned i = 0; i < PEER_SUITES; i++)
        if (offered(p)[i] == suite && suite)
            return true;
    return false;
}

static void suites_write(const struct peer *p, struct bytes *body)
{
    const uint16_t *suites = offered(p);
    unsigned count = 0;

    while (count < PEER_SUITES && suites[count])
        count++;
    peer_bytes_put_number(body, 2 * (count + p->setup.scsv), 2);
    for (unsigned i = 0; i < count; i++)
        peer_bytes_put_number(body, suites[i], 2);
    if (p->setup.scsv)
        peer_bytes_put_number(body, SUITE_SCSV, 2);
}

static void extension_write(struct bytes *out, uint16_t type, const void *data, size_t length)
{
    peer_bytes_put_number(out, type, 2);
    peer_bytes_put_number(out, length, 2);
    peer_bytes_put(out, data, length);
}

static void extensions_write(const struct peer *p, struct bytes *out)
{
    const struct peer_session *session = p->setup.session;
    uint8_t cid[1 + PEER_OWN_CID_MAX] = {p->setup.cid_length};

    if (!p->setup.scsv)
        extension_write(out, EXTENSION_RENEGOTIATION, "", 1);
    if (!p->setup.plain_master)
        extension_write(out, EXTENSION_EXTENDED_MASTER, NULL, 0);
    if (p->setup.offer_ticket)
        extension_write(out, EXTENSION_SESSION_TICKET, session ? session->ticket : NULL,
                        session ? session->ticket_length : 0);
    if (p->setup.offer_cid) {
        memcpy(cid + 1, p->setup.cid, p->setup.cid_length);
        extension_write(out, EXTENSION_CONNECTION_ID, cid, 1u + p->setup.cid_length);
    }
}

void peer_hello_write(struct peer *p, struct bytes *body)
{
    struct peer_handshake *h = p->handshake;
    struct bytes extensions = {0};

    peer_bytes_put_number(body, DTLS_1_2, 2);
    peer_bytes_put(body, h->random, RANDOM_BYTES);
    peer_bytes_put_number(body, p->session_id_length, 1);
    peer_bytes_put(body, p->session_id, p->session_id_length);
    peer_bytes_put_number(body, h->cookie_length, 1);
    peer_bytes_put(body, h->cookie, h->cookie_length);
    suites_write(p, body);
    peer_bytes_put(body, "\x01", 2); /* one compression method: null */
    extensions_write(p, &extensions);
    if (extensions.length) {
        peer_bytes_put_number(body, extensions.length, 2);
        peer_bytes_put(body, extensions.data, extensions.length);
    }
    body->failed |= extensions.failed;
    peer_bytes_free(&extensions);
}

int peer_hello_verify(struct peer *p, struct reader body)
{
    struct peer_handshake *h = p->handshake;
    struct reader cookie;

    peer_reader_number(&body,
                       2); /* DTLS 1.0 for compatibility: it decides nothing (RFC 6347 4.2.1) */
    cookie = peer_reader_vector(&body, 1);
    if (body.failed || reader_left(&body) || h->cookie_length)
        return body.failed ? ALERT_DECODE_ERROR : ALERT_UNEXPECTED_MESSAGE;
    h->cookie_length = (uint8_t)reader_left(&cookie);
    if (h->cookie_length)
        memcpy(h->cookie, cookie.at, h->cookie_length);
    return 0;
}

static int cid_read(struct peer *p, struct reader data)
{
    struct reader cid = peer_reader_vector(&data, 1);

    if (!p->setup.offer_cid)
        return ALERT_UNSUPPORTED_EXTENSION;
    if (data.failed || reader_left(&data))
        return ALERT_DECODE_ERROR;
    if (reader_left(&cid) > PEER_SERVER_CID_MAX)
        return ALERT_ILLEGAL_PARAMETER;
    p->cid_agreed = true;
    p->server_cid_length = (uint8_t)reader_left(&cid);
    if (p->server_cid_length)
        memcpy(p->server_cid, cid.at, p->server_cid_length);
    return 0;
}

/* An answer to one of ours; any other one is a fault (RFC 5246 7.4.1.4). */
static int extension_read(struct peer *p, uint16_t type, struct reader data)
{
    size_t length = reader_left(&data);

    switch (type) {
    case EXTENSION_RENEGOTIATION: /* also answers the SCSV */
        return length == 1 && data.at[0] == 0 ? 0 : ALERT_HANDSHAKE_FAILURE;
    case EXTENSION_EXTENDED_MASTER:
        p->extended = true;
        return p->setup.plain_master ? ALERT_UNSUPPORTED_EXTENSION
               : length              ? ALERT_DECODE_ERROR
                                     : 0;
    case EXTENSION_SESSION_TICKET:
        p->handshake->ticket_promised = true;
        return !p->setup.offer_ticket ? ALERT_UNSUPPORTED_EXTENSION
               : length               ? ALERT_DECODE_ERROR
                                      : 0;
    case EXTENSION_CONNECTION_ID:
        return cid_read(p, data);
    default:
        return ALERT_UNSUPPORTED_EXTENSION;
    }
}

static int extensions_read(struct peer *p, struct reader *body)
{
    struct reader all, one;
    uint32_t seen = 0, bit;
    uint16_t type;
    int alert = 0;

    if (reader_left(body) == 0)
        return 0;
    all = peer_reader_vector(body, 2);
    while (!all.failed && reader_left(&all) && alert == 0) {
        type = (uint16_t)peer_reader_number(&all, 2);
        one = peer_reader_vector(&all, 2);
        if (all.failed)
            break;
        alert = extension_read(p, type, one);
        bit = 1u << (type == EXTENSION_RENEGOTIATION ? 0 : type % 32);
        if (alert == 0 && seen & bit)
            alert = ALERT_ILLEGAL_PARAMETER; /* twice */
        seen |= bit;
    }
    return all.failed ? ALERT_DECODE_ERROR : alert;
}

/* Whether the session is resumed: the server repeats the session's ID, or the one that we made up
 * for the ticket (RFC 5077 3.4). Both then have to agree with the session. */
static int resumption_read(struct peer *p, const struct reader *id)
{
    const struct peer_session *session = p->setup.session;
    size_t length = reader_left(id);

    p->resumed = session && length && length == p->session_id_length &&
                 memcmp(id->at, p->session_id, length) == 0;
    if (!p->resumed) {
        p->session_id_length = (uint8_t)length;
        if (length)
            memcpy(p->session_id, id->at, length);
        return 0;
    }
    if (p->suite != session->suite)
        return ALERT_ILLEGAL_PARAMETER;
    if (p->extended != session->extended)
        return ALERT_HANDSHAKE_FAILURE; /* RFC 7627 5.3 */
    memcpy(p->master, session->master, PEER_MASTER_BYTES);
    return 0;
}

int peer_hello_read(struct peer *p, struct reader body)
{
    struct peer_handshake *h = p->handshake;
    uint16_t version = (uint16_t)peer_reader_number(&body, 2);
    const uint8_t *random = peer_reader_take(&body, RANDOM_BYTES);
    struct reader id = peer_reader_vector(&body, 1);
    uint16_t suite = (uint16_t)peer_reader_number(&body, 2);
    uint8_t compression = (uint8_t)peer_reader_number(&body, 1);
    int alert;

    if (body.failed || reader_left(&id) > PEER_SESSION_ID_MAX)
        return ALERT_DECODE_ERROR;
    if (version != DTLS_1_2)
        return ALERT_PROTOCOL_VERSION;
    if (!is_offered(p, suite) || compression != 0)
        return ALERT_ILLEGAL_PARAMETER;
    memcpy(h->server_random, random, RANDOM_BYTES);
    p->suite = suite;
    alert = extensions_read(p, &body);
    if (alert)
        return alert;
    if (reader_left(&body))
        return ALERT_DECODE_ERROR;
    return resumption_read(p, &id);
}
