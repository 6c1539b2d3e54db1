/* Devices over DTLS: each is a client of tests/dtls with one association for ever, whatever happens
 * to the gateway. Half of them have a Connection ID, and may change their port. Whatever comes
 * under a key of the gateway's is remembered by its number, since none may come twice (RFC 6655 3).
 */
#include <stdlib.h>
#include <string.h>

#include "tests/dtls/peer.h"
#include "tests/fleet/fleet.h"
#include "tests/fleet/spans.h"

#define RECORD_HEADER 13
#define NONCE_BYTES   8
#define IDENTITY_MAX  24
#define CID_LENGTHS   4 /* that devices ask for: 0 to 3 bytes */
#define EPOCH_SHIFT   48

struct secure {
    struct timer timer; /* of the handshake */
    struct peer peer;
    struct spans taken; /* numbers of the records that came: epoch and sequence number */
    uint64_t found_at;  /* when something came to this place first; 0: not yet */
    uint32_t refused;   /* by the peer, when it was looked at last */
    uint8_t place;
    bool established, has_moved;
    bool lost; /* it has been said */
    char identity[IDENTITY_MAX];
};

static struct secure *secures;
static struct peer_crypto *crypto;

static struct secure *secure_of(const struct device *d)
{
    return &secures[d->index];
}

static const struct device *device_of(const struct secure *s)
{
    return &fleet.devices[s - secures];
}

/* ---- what the client calls ---- */

static void on_send(void *context, const uint8_t *datagram, size_t length)
{
    const struct secure *s = context;

    if (length > DATAGRAM_OUT)
        abort();
    link_send(device_of(s), s->place, datagram, length);
}

static void on_deliver(void *context, const uint8_t *data, size_t length)
{
    const struct secure *s = context;

    device_receive(&fleet.devices[s - secures], data, length);
}

static void on_established(void *context)
{
    struct secure *s = context;

    s->established = true;
    fleet.handshakes++;
    fleet.connecting--;
}

static const struct peer_events events = {
    .send = on_send, .deliver = on_deliver, .established = on_established};

/* ---- what must not be ---- */

static uint64_t read_number(const uint8_t *at, unsigned bytes)
{
    uint64_t number = 0;

    while (bytes--)
        number = number << 8 | *at++;
    return number;
}

/* One record under a key: `body` is what the header announces. */
static void judge_record(struct secure *s, uint64_t number, const uint8_t *body, size_t length)
{
    bool explicit = s->peer.suite != PEER_SUITE_CHACHA;

    fleet.records++;
    if (!spans_add(&s->taken, number))
        judge_complain(device_of(s), VIOLATION_sequence_reused, "epoch %u, %llu",
                       (unsigned)(number >> EPOCH_SHIFT),
                       (unsigned long long)(number & ((UINT64_C(1) << EPOCH_SHIFT) - 1)));
    if (explicit && (length < NONCE_BYTES || read_number(body, NONCE_BYTES) != number))
        judge_complain(device_of(s), VIOLATION_nonce_other, "sequence number %llx",
                       (unsigned long long)number);
}

/* By the headers alone, whether or not the client takes them. */
static void judge_records(struct secure *s, const uint8_t *data, size_t length)
{
    while (length >= RECORD_HEADER) {
        size_t cid = data[0] == PEER_CID ? s->peer.setup.cid_length : 0, header, body;
        uint64_t number = read_number(data + 3, 8); /* epoch and sequence number */

        header = RECORD_HEADER + cid;
        if (length < header)
            return;
        body = read_number(data + header - 2, 2);
        if (length < header + body)
            return;
        if (number >> EPOCH_SHIFT)
            judge_record(s, number, data + header, body);
        data += header + body;
        length -= header + body;
    }
}

/* In the handshake, the gateway may repeat what the device has. */
static void judge_state(struct secure *s)
{
    enum peer_state state = peer_state(&s->peer);
    uint32_t refused = peer_refused(&s->peer);

    if (refused != s->refused && fleet.killed)
        judge_complain(device_of(s), VIOLATION_record_refused,
                       "form %u, CID %u, epoch %u, replay %u, tag %u, state %u",
                       s->peer.refused[PEER_REFUSED_FORM], s->peer.refused[PEER_REFUSED_CID],
                       s->peer.refused[PEER_REFUSED_EPOCH], s->peer.refused[PEER_REFUSED_REPLAY],
                       s->peer.refused[PEER_REFUSED_TAG], s->peer.refused[PEER_REFUSED_STATE]);
    s->refused = refused;
    if ((state != PEER_CLOSED && state != PEER_FAILED) || s->lost)
        return;
    s->lost = true;
    fleet.connecting -= !s->established;
    judge_complain(device_of(s), VIOLATION_association_lost, "%s, error %d",
                   state == PEER_CLOSED ? "closed" : "failed", peer_error(&s->peer));
}

/* Nobody is there; the gateway must know after a while of records from the new place. */
static void judge_old_place(const struct secure *s)
{
    fleet.left_behind++;
    if (s->found_at && fleet.now - s->found_at > fleet.options.grace_us)
        judge_complain(device_of(s), VIOLATION_address_left, "%.3f s after it was found",
                       (double)(fleet.now - s->found_at) / 1e6);
}

/* ---- the rest ---- */

static void arm(struct secure *s)
{
    uint64_t due = peer_next_us(&s->peer);

    if (due == UINT64_MAX)
        timer_cancel(&s->timer);
    else
        timer_arm(&s->timer, due);
}

void secure_send(const struct device *d, const uint8_t *data, size_t length)
{
    if (!d->mute)
        trace(d, "->", data, length);
    if (!secures)
        link_send(d, 0, data, length);
    else if (peer_write(&secure_of(d)->peer, data, length) < 0)
        fleet.unsent++;
}

void secure_receive(struct device *d, unsigned place, const uint8_t *data, size_t length)
{
    struct secure *s;

    if (!secures) {
        device_receive(d, data, length);
        return;
    }
    s = secure_of(d);
    judge_records(s, data, length);
    if (place != s->place) {
        judge_old_place(s);
        return;
    }
    if (!s->found_at)
        s->found_at = fleet.now;
    peer_receive(&s->peer, data, length, fleet.now);
    judge_state(s);
    arm(s);
}

bool secure_connect(const struct device *d)
{
    struct secure *s = secures ? secure_of(d) : NULL;

    if (!s || peer_state(&s->peer) != PEER_IDLE)
        return false;
    fleet.connecting++;
    if (peer_start(&s->peer, fleet.now) < 0)
        abort();
    arm(s);
    return true;
}

bool secure_move(struct device *d)
{
    struct secure *s = secures ? secure_of(d) : NULL;

    if (!s || !s->peer.cid_agreed || d->mute || peer_state(&s->peer) != PEER_ESTABLISHED)
        return false;
    s->place = (uint8_t)((s->place + 1) % PLACES);
    s->found_at = 0;
    s->has_moved = true;
    fleet.moved++;
    device_touch(d);
    return true;
}

bool secure_is_used(void)
{
    return secures;
}

bool secure_is_found(const struct device *d)
{
    return !secures || secure_of(d)->found_at;
}

void secure_gateway_down(uint64_t since)
{
    for (unsigned i = 0; secures && i < fleet.options.devices; i++) {
        if (!secures[i].has_moved || (secures[i].found_at && secures[i].found_at < since))
            continue;
        secures[i].found_at = 0;
        device_touch(&fleet.devices[i]);
    }
}

bool secure_expire(struct timer *t)
{
    struct secure *s = (struct secure *)t;

    if (!secures || s < secures || s >= secures + fleet.options.devices)
        return false;
    peer_advance(&s->peer, fleet.now);
    judge_state(s);
    arm(s);
    return true;
}

static void create_one(unsigned i)
{
    static const uint16_t suites[] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};
    struct secure *s = &secures[i];
    bool cid = i % 2 == 1;
    struct peer_setup setup = {
        .crypto = crypto,
        .events = &events,
        .context = s,
        .identity = (uint8_t *)s->identity,
        .key = fleet.options.key,
        .key_length = fleet.options.key_length,
        .suites = {suites[i % 3]},
        .offer_cid = cid,
        .cid_length = (uint8_t)(cid ? i / 2 % CID_LENGTHS : 0),
        .cid = {(uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16)},
        .datagram_bytes = DATAGRAM_OUT,
    };

    setup.identity_length = (uint16_t)snprintf(s->identity, IDENTITY_MAX, "device-%u", i);
    if (peer_init(&s->peer, &setup) < 0)
        abort();
}

void secure_create(void)
{
    if (!fleet.options.key_length)
        return;
    crypto = peer_crypto_create();
    secures = calloc(fleet.options.devices, sizeof(*secures));
    if (!crypto || !secures) {
        fputs("coapgw-fleet: no memory\n", stderr);
        exit(1);
    }
    for (unsigned i = 0; i < fleet.options.devices; i++)
        create_one(i);
}
