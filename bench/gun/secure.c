#include "bench/gun/clock.h"
#include "bench/gun/secure_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <rte_prefetch.h>

/* So many associations have their two contexts keyed all the time, 650 bytes each for CCM and 1,200
 * for GCM. For others one is keyed for each record, which is a seventh to a third of what the
 * record costs then: worth the memory up to a point. */
#define KEYED_MAX 16384

/* The target's answers to our farewells are waited for until none has come for so long. */
#define SILENCE_NS  (50 * MILLISECOND_NS)
#define FAREWELL_NS (200 * MILLISECOND_NS) /* at most */

#define ALERT_WARNING      1
#define ALERT_FATAL        2
#define ALERT_CLOSE_NOTIFY 0

static inline uint64_t slot_of(uint32_t endpoint, bool write)
{
    return (uint64_t)endpoint << 1 | write;
}

static void prefetch(const struct association *a)
{
    for (unsigned i = 0; i < sizeof(*a); i += 64)
        rte_prefetch0((const uint8_t *)a + i);
}

/* ---- receiving ---- */

/* The content of a record, where it lies: the buffers that carriers receive into are their own to
 * write to. Its length, or -EBADMSG. */
static int open_one(struct secure *s, struct association *a, uint32_t endpoint,
                    const struct record_view *view, uint8_t *type)
{
    uint8_t *plain = (uint8_t *)(uintptr_t)record_plain(view, s->suite);
    int length;

    if (view->epoch != 1 || (view->cid_length != 0) != a->cid_in ||
        !window_is_fresh(&a->window, view->sequence))
        return -EBADMSG;
    length = record_open(s->aead, slot_of(endpoint, false), &a->read, view, plain, type);
    if (length >= 0)
        window_mark(&a->window, view->sequence);
    return length;
}

static void take_alert(struct secure *s, struct association *a, const uint8_t *alert, int length)
{
    if (length != 2 || (alert[0] != ALERT_FATAL && alert[1] != ALERT_CLOSE_NOTIFY))
        return;
    if (a->state == ASSOCIATION_OPEN)
        s->result.closed++;
    a->state = ASSOCIATION_CLOSED;
}

/* What is in the records of one datagram. Returns how many messages there are in `in` then. */
static unsigned open_all(struct secure *s, const struct incoming *datagram, struct incoming *in,
                         unsigned have)
{
    struct association *a = &s->all[datagram->endpoint];
    uint8_t cid_length = a->cid_in ? s->o->cid_length : 0, type = 0;
    struct record_view view;
    int used, length;

    if (datagram->astray || a->state < ASSOCIATION_OPEN) {
        s->result.refused++;
        return have;
    }
    for (uint16_t at = 0; at < datagram->length; at = (uint16_t)(at + used)) {
        used = record_next(datagram->data + at, (size_t)(datagram->length - at), cid_length, &view);
        length = used < 0 ? used : open_one(s, a, datagram->endpoint, &view, &type);
        if (length < 0 || (type == RECORD_APPLICATION_DATA && have == CARRIER_BURST))
            s->result.refused++;
        else if (type == RECORD_ALERT)
            take_alert(s, a, record_plain(&view, s->suite), length);
        else if (type == RECORD_APPLICATION_DATA) {
            in[have] = *datagram;
            in[have].data = record_plain(&view, s->suite);
            in[have++].length = (uint16_t)length;
        }
        if (used < 0)
            break;
    }
    return have;
}

static unsigned receive(struct carrier *c, struct incoming *in)
{
    struct secure *s = (struct secure *)c;
    unsigned n = s->inner->receive(s->inner, s->in), have = 0;

    for (unsigned i = 0; i < n; i++)
        if (s->in[i].party == PARTY_DEVICE)
            prefetch(&s->all[s->in[i].endpoint]);
    for (unsigned i = 0; i < n; i++) {
        if (s->in[i].party == PARTY_DEVICE)
            have = open_all(s, &s->in[i], in, have);
        else if (have < CARRIER_BURST)
            in[have++] = s->in[i];
    }
    return have;
}

static void release(struct carrier *c)
{
    struct secure *s = (struct secure *)c;

    s->inner->release(s->inner);
}

/* ---- sending ---- */

static unsigned reserve(struct carrier *c, struct outgoing *out, unsigned n)
{
    struct secure *s = (struct secure *)c;

    n = s->inner->reserve(s->inner, out, n);
    for (unsigned i = 0; i < n; i++)
        out[i].data += s->lead;
    return n;
}

/* The record begins where the carrier's message would. */
static void seal_one(struct secure *s, struct outgoing *out, enum record_type type)
{
    struct association *a = &s->all[out->endpoint];
    struct record_mark mark = {.type = (uint8_t)type,
                               .epoch = 1,
                               .sequence = a->sequence++,
                               .cid = a->cid,
                               .cid_length = a->cid_length};
    uint8_t *record = out->data - s->lead;
    unsigned lead = record_lead(s->suite, a->cid_length);
    int length;

    if (lead != s->lead)
        memmove(record + lead, out->data, out->length);
    length =
        record_seal(s->aead, slot_of(out->endpoint, true), &a->write, &mark, record, out->length);
    out->data = record;
    out->length = (uint16_t)(length < 0 ? 0 : length); /* an empty datagram is ignored */
    out->summed = false;
}

static unsigned send_burst(struct carrier *c, struct outgoing *out, unsigned n)
{
    struct secure *s = (struct secure *)c;

    for (unsigned i = 0; i < n; i++)
        if (out[i].party == PARTY_DEVICE)
            prefetch(&s->all[out[i].endpoint]);
    for (unsigned i = 0; i < n; i++) {
        if (out[i].party == PARTY_DEVICE) {
            seal_one(s, &out[i], RECORD_APPLICATION_DATA);
        } else {
            memmove(out[i].data - s->lead, out[i].data, out[i].length);
            out[i].data -= s->lead;
        }
    }
    return s->inner->send(s->inner, out, n);
}

static void stay(struct carrier *c, uint64_t ns)
{
    struct secure *s = (struct secure *)c;

    s->inner->wait(s->inner, ns);
}

/* ---- the end ---- */

static bool say_goodbye(struct secure *s, uint32_t *next)
{
    static const uint8_t close_notify[] = {ALERT_WARNING, ALERT_CLOSE_NOTIFY};
    unsigned n = 0;

    for (; n < CARRIER_BURST && *next < s->o->endpoints; ++*next) {
        struct outgoing *out = &s->out[n];

        if (s->all[*next].state != ASSOCIATION_OPEN)
            continue;
        if (reserve(&s->carrier, out, 1) == 0)
            break;
        memcpy(out->data, close_notify, sizeof(close_notify));
        out->length = sizeof(close_notify);
        out->endpoint = *next;
        out->party = PARTY_DEVICE;
        seal_one(s, out, RECORD_ALERT);
        n++;
    }
    return n && s->inner->send(s->inner, s->out, n) == 0;
}

static unsigned hear(struct secure *s)
{
    unsigned n = s->inner->receive(s->inner, s->in);

    s->inner->release(s->inner);
    return n;
}

/* The target is told, or it would take the next run's devices, which have the same addresses, for
 * these (RFC 6347 4.2.8 is not everywhere). What comes meanwhile is left alone. */
static void say_goodbyes(struct secure *s)
{
    uint32_t next = 0;
    uint64_t end, silence;

    while (say_goodbye(s, &next))
        (void)hear(s);
    end = clock_monotonic_ns() + FAREWELL_NS;
    silence = next ? clock_monotonic_ns() + SILENCE_NS : 0;
    while (clock_monotonic_ns() < silence && clock_monotonic_ns() < end)
        if (hear(s))
            silence = clock_monotonic_ns() + SILENCE_NS;
}

/* ---- life ---- */

static void destroy(struct secure *s)
{
    secure_attempts_free(s);
    aead_destroy(s->aead);
    if (s->all)
        OPENSSL_cleanse(s->all, sizeof(*s->all) * s->o->endpoints);
    free(s->all);
    free(s);
}

static void close_secure(struct carrier *c)
{
    struct secure *s = (struct secure *)c;

    say_goodbyes(s);
    s->inner->close(s->inner);
    destroy(s);
}

static int make(struct secure *s)
{
    uint32_t keyed = s->o->endpoints < KEYED_MAX ? s->o->endpoints : KEYED_MAX;

    s->resident = secure_resident();
    s->aead = aead_create(2 * keyed);
    s->all = aligned_alloc(64, sizeof(*s->all) * s->o->endpoints);
    if (!s->aead || !s->all || aead_prepare(s->aead, s->suite) != 0)
        return -ENOMEM;
    memset(s->all, 0, sizeof(*s->all) * s->o->endpoints);
    return secure_attempts_make(s);
}

int secure_open(const struct gun_options *o, struct carrier *inner, struct secure **out)
{
    struct secure *s = calloc(1, sizeof(*s));
    int err = s ? 0 : -ENOMEM;

    if (s) {
        s->o = o;
        s->inner = inner;
        s->carrier = (struct carrier){.receive = receive,
                                      .release = release,
                                      .reserve = reserve,
                                      .send = send_burst,
                                      .wait = stay,
                                      .close = close_secure,
                                      .uses_tsc = inner->uses_tsc};
        err = suite_of(o->suite, &s->suite) ? make(s) : -EINVAL;
    }
    if (!err) {
        *out = s;
        return 0;
    }
    fprintf(stderr, "coapgun: DTLS for %u endpoints: %s\n", o->endpoints, strerror(-err));
    if (s)
        destroy(s);
    return err;
}

struct carrier *secure_carrier(struct secure *s)
{
    return &s->carrier;
}

const struct gun_security *secure_result(const struct secure *s)
{
    return &s->result;
}
