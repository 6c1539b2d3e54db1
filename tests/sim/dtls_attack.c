#include <string.h>

#include "gateway/security/record.h"
#include "tests/sim/dtls.h"

#define PAUSE_US  (3 * SECOND)
#define BYTES_MAX (2 * SIGHT_BYTES)
#define FLOOD_MAX 60

/* What none of this may change. */
struct state {
    uint64_t figures[10];
    uint32_t associations, sessions, handshakes;
    uint64_t emitted;
};

static struct state state_of(const struct stage *s)
{
    struct state state = {.emitted = 0};

    for (unsigned i = 0; i < s->worker_count; i++) {
        const struct counters *c = worker_counters(s->workers[i]);
        const uint64_t figures[] = {
            c->associations_opened,  c->associations_closed,   c->associations_expired,
            c->associations_evicted, c->associations_replaced, c->associations_exhausted,
            c->associations_moved,   c->dtls_records_in,       c->requests,
            c->dtls_alerts_out};
        struct worker_usage u;

        for (unsigned k = 0; k < sizeof(figures) / sizeof(figures[0]); k++)
            state.figures[k] += figures[k];
        worker_usage(s->workers[i], &u);
        state.associations += u.associations;
        state.sessions += u.sessions;
        state.handshakes += u.handshakes;
        state.emitted += s->sides[i].emitted;
    }
    return state;
}

static void compare(struct stage *s, const struct state *before, const char *what)
{
    struct state after = state_of(s);

    for (unsigned k = 0; k < sizeof(after.figures) / sizeof(after.figures[0]); k++)
        if (after.figures[k] != before->figures[k])
            stage_fail(s, "%s: figure %u has changed", what, k);
    if (after.associations != before->associations || after.sessions != before->sessions)
        stage_fail(s, "%s: there are %u associations and %u sessions", what, after.associations,
                   after.sessions);
}

/* A datagram of the attacker's, which changes nothing. */
static void throw_in(struct dtls_world *w, const struct flow *flow, const uint8_t *bytes,
                     size_t length, bool answered, const char *what)
{
    struct stage *s = dtls_stage(w);
    struct state before = state_of(s);

    stage_note(s, "attack: %s", what);
    stage_receive(s, flow, bytes, length);
    compare(s, &before, what);
    if (!answered && state_of(s).emitted != before.emitted)
        stage_fail(s, "%s is answered", what);
}

static struct sight *any_sight(struct dtls_world *w)
{
    struct sight *sight = &w->sights[stage_below(dtls_stage(w), SIGHTS_MAX)];

    return sight->length ? sight : NULL;
}

static struct flow somewhere(struct dtls_world *w)
{
    uint32_t number = stage_below(dtls_stage(w), 1 << 16);
    uint8_t ip[4] = {10, 66, (uint8_t)(number >> 8), (uint8_t)number};
    struct endpoint peer = {address_from_v4(ip), (uint16_t)(1024 + number % 60000)};

    return flow_make(0, COAPS_PORT, &peer, TRANSPORT_UDP);
}

/* From where it came, from where somebody else is, or from elsewhere. */
static struct flow any_flow(struct dtls_world *w, const struct sight *sight)
{
    struct stage *s = dtls_stage(w);

    switch (stage_below(s, 3)) {
    case 0:
        return sight->flow;
    case 1:
        return w->things[stage_below(s, w->thing_count)].wire;
    default:
        return somewhere(w);
    }
}

static bool is_of_now(struct dtls_world *w, const struct sight *sight)
{
    return sight->opened == dtls_stage(w)->life;
}

/* What was lost on its way, or opened by a process that is gone, may be taken: but it is only what
 * the device wanted, and not twice, which others see to. */
static void replay(struct dtls_world *w, struct sight *sight)
{
    struct stage *s = dtls_stage(w);
    struct flow flow = any_flow(w, sight);

    if (is_of_now(w, sight)) {
        throw_in(w, &flow, sight->bytes, sight->length, false, "a record that comes again");
        return;
    }
    stage_note(s, "attack: an older datagram");
    stage_receive(s, &flow, sight->bytes, sight->length);
}

static void forge(struct dtls_world *w, const struct sight *sight)
{
    struct stage *s = dtls_stage(w);
    struct flow flow = any_flow(w, sight);
    uint8_t bytes[SIGHT_BYTES];

    if (!sight->track)
        return;
    memcpy(bytes, sight->bytes, sight->length);
    bytes[stage_below(s, sight->length)] ^= (uint8_t)(1 << stage_below(s, 8));
    throw_in(w, &flow, bytes, sight->length, false, "a forged record");
}

static void truncate_it(struct dtls_world *w, const struct sight *sight)
{
    struct stage *s = dtls_stage(w);
    struct flow flow = any_flow(w, sight);
    uint8_t bytes[SIGHT_BYTES];
    size_t length = stage_below(s, sight->length);

    if (!sight->track)
        return;
    memcpy(bytes, sight->bytes, sight->length);
    if (length > RECORD_HEADER_BYTES && sight->bytes[0] != RECORD_CID && stage_below(s, 2)) {
        bytes[11] = (uint8_t)((length - RECORD_HEADER_BYTES) >> 8);
        bytes[12] = (uint8_t)(length - RECORD_HEADER_BYTES);
    }
    throw_in(w, &flow, bytes, length, false, "a record without its end");
}

static void mix(struct dtls_world *w, const struct sight *one)
{
    const struct sight *other = any_sight(w);
    struct flow flow = any_flow(w, one);
    uint8_t bytes[BYTES_MAX];

    if (!other || !is_of_now(w, one) || !is_of_now(w, other))
        return;
    memcpy(bytes, one->bytes, one->length);
    memcpy(bytes + one->length, other->bytes, other->length);
    throw_in(w, &flow, bytes, (size_t)one->length + other->length, false,
             "records of two associations");
}

/* An alert that is not under any key: nobody is to believe it, once there are keys. */
static void cry(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);
    const struct thing *t = &w->things[stage_below(s, w->thing_count)];
    uint8_t alert[15] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 2, 0};

    alert[14] = (uint8_t)(stage_below(s, 2) ? 0 : 40);
    if (t->has_peer && peer_state(&t->peer) == PEER_CONNECTING)
        return; /* as long as there is no key it is as good as the real one */
    throw_in(w, &t->wire, alert, sizeof(alert), false, "an alert that is not sealed");
}

static void flood(struct dtls_world *w, const struct sight *sight)
{
    struct stage *s = dtls_stage(w);
    unsigned count = 1 + stage_below(s, FLOOD_MAX);
    uint32_t handshakes = state_of(s).handshakes;

    for (unsigned i = 0; i < count && !s->failed; i++) {
        struct flow flow = somewhere(w);

        throw_in(w, &flow, sight->bytes, sight->length, true, "a ClientHello from nowhere");
    }
    if (state_of(s).handshakes != handshakes)
        stage_fail(s, "handshakes are begun with somebody else's cookies");
}

static void babble(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);
    const struct thing *t = &w->things[stage_below(s, w->thing_count)];
    uint8_t bytes[64];
    size_t length = stage_below(s, sizeof(bytes));

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)random_u64(&s->random);
    if (stage_below(s, 2)) { /* a record, nearly */
        const uint8_t head[] = {(uint8_t)(stage_below(s, 2) ? 23 : 25), 0xfe, 0xfd, 0, 1, 0, 0, 0};

        memcpy(bytes, head, sizeof(head));
        if (t->has_peer && t->peer.server_cid_length == 8)
            memcpy(bytes + RECORD_CID_AT, t->peer.server_cid, 8);
    }
    throw_in(w, &t->wire, bytes, length, false, "bytes that are nothing");
}

static void attack(struct dtls_world *w)
{
    struct sight *sight = any_sight(w);
    struct stage *s = dtls_stage(w);

    if (!sight)
        return;
    switch (stage_below(s, 10)) {
    case 0:
    case 1:
    case 2:
        if (!w->calm || !sight->hello) /* with them one could begin handshakes */
            replay(w, sight);
        break;
    case 3:
    case 4:
        forge(w, sight);
        break;
    case 5:
        truncate_it(w, sight);
        break;
    case 6:
        mix(w, sight);
        break;
    case 7:
        cry(w);
        break;
    case 8:
        if (sight->hello)
            flood(w, sight);
        break;
    case 9:
        babble(w);
        break;
    }
}

static void on_time_to_attack(struct stage *s, void *who, uint64_t what)
{
    struct dtls_world *w = dtls_world_of(s);

    (void)who;
    (void)what;
    if (w->leaving)
        return;
    if (s->running)
        attack(w);
    judge_limits(w);
    stage_at(s, s->now + 1 + stage_below(s, PAUSE_US), on_time_to_attack, NULL, 0);
}

void attack_begin(struct dtls_world *w)
{
    stage_at(dtls_stage(w), dtls_stage(w)->now + 1, on_time_to_attack, NULL, 0);
}
