/* The handshakes of all devices, so many at a time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/gun/clock.h"
#include "bench/gun/secure_parts.h"

#define TRIES     4  /* of a flight: 15 s, with 1 s for the first one (RFC 6347 4.2.4.1) */
#define LOOK_AT   64 /* attempts whose timers are looked at in a turn */
#define BEGIN_MAX 16 /* handshakes that are begun in a turn */

uint64_t secure_resident(void)
{
    unsigned long long all, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (!file)
        return 0;
    if (fscanf(file, "%llu %llu", &all, &resident) != 2)
        resident = 0;
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

int secure_identity(const char *text, uint32_t endpoint, char *out, size_t room)
{
    const char *number = strstr(text, "%u");
    int length =
        number ? snprintf(out, room, "%.*s%u%s", (int)(number - text), text, endpoint, number + 2)
               : snprintf(out, room, "%s", text);

    return length >= 0 && (size_t)length < room ? length : -ENAMETOOLONG;
}

/* ---- what a handshake sends ---- */

static void flush(struct secure *s)
{
    if (s->out_count)
        s->inner->send(s->inner, s->out, s->out_count);
    s->out_count = 0;
}

/* What is lost here is sent again later. */
static void on_send(void *context, const uint8_t *datagram, size_t length)
{
    struct attempt *t = context;
    struct secure *s = t->secure;
    struct outgoing *out;

    if (s->out_count == CARRIER_BURST)
        flush(s);
    out = &s->out[s->out_count];
    if (length > CARRIER_MAX_BYTES || s->inner->reserve(s->inner, out, 1) == 0)
        return;
    memcpy(out->data, datagram, length);
    out->length = (uint16_t)length;
    out->endpoint = t->endpoint;
    out->party = PARTY_DEVICE;
    out->summed = false;
    s->out_count++;
}

static void on_deliver(void *context, const uint8_t *data, size_t length)
{
    (void)context; /* nothing has been asked yet */
    (void)data;
    (void)length;
}

static void on_alert(void *context, uint8_t level, uint8_t description)
{
    struct attempt *t = context;

    (void)level;
    t->alert = description;
}

static const struct peer_events events = {
    .send = on_send, .deliver = on_deliver, .alert = on_alert};

/* ---- its end ---- */

static void leave(struct secure *s, struct attempt *t)
{
    peer_free(&t->peer);
    t->used = false;
    s->free[s->free_count++] = (uint32_t)(t - s->attempts);
}

static void say_fault(struct secure *s, const struct attempt *t, int error)
{
    char why[64];

    if (error == -ECONNREFUSED)
        snprintf(why, sizeof(why), "the target sent alert %u", t->alert);
    else if (error == -EPROTO)
        snprintf(why, sizeof(why), "alert %u was sent to the target", t->peer.alert_sent);
    else if (error == -ETIMEDOUT)
        snprintf(why, sizeof(why), "no answer");
    else if (error == -EMSGSIZE)
        snprintf(why, sizeof(why), "a Connection ID of more than %u bytes", RECORD_CID_MAX);
    else
        snprintf(why, sizeof(why), "%s", strerror(-error));
    snprintf(s->result.fault, sizeof(s->result.fault), "endpoint %u as %.100s: %s", t->endpoint,
             t->identity, why);
}

static void fail(struct secure *s, struct attempt *t, int error)
{
    if (s->result.failed++ == 0)
        say_fault(s, t, error);
    s->all[t->endpoint].state = ASSOCIATION_FAILED;
    leave(s, t);
}

static void take_key(const struct secure *s, const struct peer_keys *keys, struct record_key *out)
{
    out->suite = (uint8_t)s->suite;
    memcpy(out->key, keys->key, suite_key_bytes(s->suite));
    memcpy(out->salt, keys->iv, suite_salt_bytes(s->suite));
}

/* The handshake is done: all that the run needs of it. */
static void establish(struct secure *s, struct attempt *t, uint64_t now_ns)
{
    struct association *a = &s->all[t->endpoint];
    struct peer_export end;
    unsigned lead;

    peer_export(&t->peer, &end);
    if (end.server_cid_length > RECORD_CID_MAX) {
        fail(s, t, -EMSGSIZE);
        return;
    }
    take_key(s, &end.write, &a->write);
    take_key(s, &end.read, &a->read);
    a->sequence = end.write_sequence[1];
    window_mark(&a->window, end.read_top);
    a->cid_in = end.cid_agreed && s->o->cid_length;
    a->cid_length = end.server_cid_length;
    memcpy(a->cid, end.server_cid, end.server_cid_length);
    a->state = ASSOCIATION_OPEN;
    lead = record_lead(s->suite, a->cid_length);
    s->lead = lead > s->lead ? lead : s->lead;
    s->result.done++;
    histogram_add(&s->result.latency_ns, now_ns - t->begun_ns);
    leave(s, t);
}

/* Looks what became of it. */
static void settle(struct secure *s, struct attempt *t, uint64_t now_ns)
{
    enum peer_state state = peer_state(&t->peer);

    if (state == PEER_ESTABLISHED)
        establish(s, t, now_ns);
    else if (state == PEER_FAILED)
        fail(s, t, peer_error(&t->peer));
    else if (state == PEER_CLOSED)
        fail(s, t, -ECONNREFUSED);
}

/* ---- its begin ---- */

static void begin_one(struct secure *s, uint32_t endpoint, uint64_t now_ns)
{
    struct attempt *t = &s->attempts[s->free[--s->free_count]];
    struct peer_setup setup = {.crypto = s->crypto,
                               .events = &events,
                               .context = t,
                               .identity = (const uint8_t *)t->identity,
                               .key = s->o->key,
                               .key_length = s->o->key_length,
                               .suites = {s->o->suite},
                               .offer_cid = s->o->cid,
                               .cid_length = s->o->cid_length,
                               .tries = TRIES};
    int error;

    t->used = true;
    t->endpoint = endpoint;
    t->begun_ns = now_ns;
    t->alert = 0;
    setup.identity_length =
        (uint16_t)secure_identity(s->o->identity, endpoint, t->identity, sizeof(t->identity));
    memcpy(setup.cid, &endpoint, s->o->cid_length < 4 ? s->o->cid_length : 4);
    s->all[endpoint].state = ASSOCIATION_CONNECTING;
    s->all[endpoint].sequence = (uint64_t)(t - s->attempts);
    error = peer_init(&t->peer, &setup);
    if (!error)
        error = peer_start(&t->peer, now_ns / 1000);
    if (error)
        fail(s, t, error);
}

static unsigned begin_some(struct secure *s, uint64_t now_ns)
{
    double due = s->o->handshake_rate * (double)(now_ns - s->begun_ns) / 1e9;
    unsigned n = 0;

    while (n < BEGIN_MAX && s->free_count && s->next < s->o->endpoints &&
           (s->o->handshake_rate == 0 || s->next < due)) {
        begin_one(s, s->next++, now_ns);
        n++;
    }
    return n;
}

/* ---- a turn ---- */

static unsigned take_datagrams(struct secure *s, uint64_t now_ns)
{
    unsigned n = s->inner->receive(s->inner, s->in);

    for (unsigned i = 0; i < n; i++) {
        const struct incoming *in = &s->in[i];
        struct attempt *t;

        if (in->party != PARTY_DEVICE || in->astray ||
            s->all[in->endpoint].state != ASSOCIATION_CONNECTING)
            continue;
        t = &s->attempts[s->all[in->endpoint].sequence];
        peer_receive(&t->peer, in->data, in->length, now_ns / 1000);
        settle(s, t, now_ns);
    }
    s->inner->release(s->inner);
    return n;
}

static void look_at_timers(struct secure *s, uint64_t now_ns)
{
    uint32_t count = s->o->handshakes;

    for (unsigned i = 0; i < LOOK_AT && i < count; i++) {
        struct attempt *t = &s->attempts[s->looked_at];

        s->looked_at = s->looked_at + 1 < count ? s->looked_at + 1 : 0;
        if (!t->used)
            continue;
        peer_advance(&t->peer, now_ns / 1000);
        settle(s, t, now_ns);
    }
}

void secure_begin(struct secure *s, uint64_t now_ns)
{
    s->begun_ns = now_ns;
}

unsigned secure_turn(struct secure *s, uint64_t now_ns)
{
    unsigned n = take_datagrams(s, now_ns);

    n += begin_some(s, now_ns);
    look_at_timers(s, now_ns);
    flush(s);
    return n;
}

bool secure_is_busy(const struct secure *s)
{
    return s->result.done + s->result.failed < s->o->endpoints;
}

void secure_end(struct secure *s, uint64_t now_ns)
{
    uint64_t resident = secure_resident();

    if (secure_is_busy(s) && s->result.failed == 0)
        snprintf(s->result.fault, sizeof(s->result.fault), "interrupted");
    s->result.failed = s->o->endpoints - s->result.done;
    s->result.seconds = (double)(now_ns - s->begun_ns) / 1e9;
    if (s->result.done && resident > s->resident)
        s->result.bytes_each = (double)(resident - s->resident) / (double)s->result.done;
    secure_attempts_free(s);
}

/* ---- memory ---- */

int secure_attempts_make(struct secure *s)
{
    uint32_t count = s->o->handshakes;

    s->crypto = peer_crypto_create();
    s->attempts = calloc(count, sizeof(*s->attempts));
    s->free = malloc(count * sizeof(*s->free));
    if (!s->crypto || !s->attempts || !s->free)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        s->attempts[i].secure = s;
        s->free[s->free_count++] = count - 1 - i;
    }
    return 0;
}

void secure_attempts_free(struct secure *s)
{
    for (uint32_t i = 0; s->attempts && i < s->o->handshakes; i++)
        if (s->attempts[i].used)
            peer_free(&s->attempts[i].peer);
    free(s->attempts);
    free(s->free);
    peer_crypto_destroy(s->crypto);
    s->attempts = NULL;
    s->free = NULL;
    s->crypto = NULL;
}
