#include <stdlib.h>
#include <string.h>

#include "gateway/security/record.h"
#include "tests/sim/dtls.h"

#define MESSAGE_AT           RECORD_HEADER_BYTES
#define HELLO_VERIFY_REQUEST 3
#define CLIENT_HELLO         1
#define EPOCH                1

/* ---- associations ---- */

void judge_track(struct dtls_world *w, struct thing *t)
{
    struct track *track;

    if (w->track_count == TRACKS_MAX) {
        stage_fail(dtls_stage(w), "too many associations for this simulation");
        return;
    }
    track = calloc(1, sizeof(*track));
    *track = (struct track){.thing = t, .keys = t->peer};
    track->keys.handshake = NULL;
    track->keys.ticket = NULL;
    if (t->peer.cid_agreed)
        track->cid_length = t->setup.cid_length;
    memcpy(track->cid, t->setup.cid, OWN_CID_MAX);
    w->tracks[w->track_count++] = track;
    t->track = track;
}

void judge_free(struct dtls_world *w)
{
    for (unsigned i = 0; i < w->track_count; i++) {
        free(w->tracks[i]->used);
        free(w->tracks[i]);
    }
}

/* What is read back may lack the last move. */
void judge_born(struct dtls_world *w)
{
    for (unsigned i = 0; i < w->track_count; i++)
        w->tracks[i]->heard = false;
}

/* ---- what the gateway sends ---- */

/* The rule of every AEAD: a key and a nonce come together once, whatever happens in between. */
static void use_nonce(struct dtls_world *w, struct track *track, uint64_t nonce)
{
    bool above = track->used_count == 0 || nonce > track->top;

    for (unsigned i = 0; !above && i < track->used_count; i++)
        if (track->used[i] == nonce)
            stage_fail(dtls_stage(w), "device %u: nonce %llx a second time", track->thing->index,
                       (unsigned long long)nonce);
    if (track->used_count == track->used_room) {
        track->used_room = track->used_room ? 2 * track->used_room : 16;
        track->used = realloc(track->used, track->used_room * sizeof(track->used[0]));
    }
    track->used[track->used_count++] = nonce;
    if (above)
        track->top = nonce;
}

static bool carries(const struct track *track, const uint8_t *data, size_t length)
{
    if (data[0] != RECORD_CID)
        return track->cid_length == 0;
    return track->cid_length && length >= RECORD_CID_AT + track->cid_length &&
           memcmp(data + RECORD_CID_AT, track->cid, track->cid_length) == 0;
}

/* The association that a record is of: the newest one first. */
static struct track *track_of(struct dtls_world *w, const uint8_t *data, size_t length,
                              struct record_seen *seen)
{
    for (unsigned i = w->track_count; i-- > 0;) {
        struct track *track = w->tracks[i];

        if (carries(track, data, length) &&
            record_is_under(&track->keys, data, length, track->cid_length, seen))
            return track;
    }
    return NULL;
}

/* RFC 9146 6: to where the newest authentic record came from. */
static void check_place(struct dtls_world *w, const struct track *track, const struct flow *flow)
{
    const struct sight *now = w->arriving_sight;

    /* What is just being taken in is answered within that call. */
    if (now && now->track == track && (!track->heard || now->sequence > track->newest) &&
        flow_equal(&w->arriving_from, flow))
        return;
    if (track->heard && !flow_equal(&track->from, flow))
        stage_fail(dtls_stage(w), "device %u: a record to port %u, while it is at %u",
                   track->thing->index, flow->peer_port, track->from.peer_port);
}

static size_t check_sealed(struct dtls_world *w, const struct flow *flow, const uint8_t *data,
                           size_t length)
{
    struct record_seen seen;
    struct track *track = track_of(w, data, length, &seen);

    if (track) {
        use_nonce(w, track, seen.nonce);
        check_place(w, track, flow);
        return seen.length;
    }
    /* Of a resumed handshake the gateway's Finished is the first one, and goes with the
     * ServerHello. */
    if (!w->tickets)
        stage_fail(dtls_stage(w), "a record to port %u that nobody can read", flow->peer_port);
    return length;
}

/* RFC 6347 4.2.1: nobody gets more than he has sent, before he has shown who he is. */
static void check_clear(struct dtls_world *w, const uint8_t *data, size_t length)
{
    if (data[0] == RECORD_HANDSHAKE && data[MESSAGE_AT] == HELLO_VERIFY_REQUEST &&
        length > w->arriving)
        stage_fail(dtls_stage(w), "%zu bytes for a ClientHello of %u", length, w->arriving);
}

void judge_emitted(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                   size_t length)
{
    struct dtls_world *w = dtls_world_of(s);
    struct record_seen seen;

    (void)worker;
    if (flow->local_port != COAPS_PORT)
        return;
    for (size_t at = 0; at < length && !s->failed; at += seen.length) {
        if (length - at <= RECORD_HEADER_BYTES) {
            stage_fail(s, "a datagram with something that is no record");
            return;
        }
        if (data[at + 3] == 0 && data[at + 4] == EPOCH) {
            seen.length = check_sealed(w, flow, data + at, length - at);
        } else if (record_look(data + at, length - at, 0, &seen) && seen.epoch == 0) {
            check_clear(w, data + at, length);
        } else {
            stage_fail(s, "a datagram with something that is no record");
            return;
        }
    }
}

/* ---- what it gets ---- */

void judge_sent(struct dtls_world *w, struct thing *t, const uint8_t *data, size_t length)
{
    struct sight *sight = &w->sights[w->sight_at];
    struct record_seen seen;

    if (length > SIGHT_BYTES ||
        !record_look(data, length, data[0] == RECORD_CID ? t->peer.server_cid_length : 0, &seen))
        return;
    w->sight_at = (w->sight_at + 1) % SIGHTS_MAX;
    *sight = (struct sight){.flow = t->wire,
                            .track = seen.epoch == EPOCH ? t->track : NULL,
                            .sequence = seen.sequence,
                            .length = (uint16_t)length,
                            .hello = data[0] == RECORD_HANDSHAKE && seen.epoch == 0 &&
                                     data[MESSAGE_AT] == CLIENT_HELLO};
    memcpy(sight->bytes, data, length);
}

static struct sight *sight_of(struct dtls_world *w, const uint8_t *data, size_t length)
{
    for (unsigned i = 1; i <= SIGHTS_MAX; i++) {
        struct sight *sight = &w->sights[(w->sight_at + SIGHTS_MAX - i) % SIGHTS_MAX];

        if (sight->length == length && memcmp(sight->bytes, data, length) == 0)
            return sight;
    }
    return NULL;
}

void judge_delivered(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                     size_t length, bool icmp)
{
    struct dtls_world *w = dtls_world_of(s);

    (void)icmp;
    w->arriving = (unsigned)length;
    w->arriving_from = *flow;
    w->arriving_sight = w->storming ? NULL : sight_of(w, data, length);
    w->records_before = worker_counters(s->workers[worker])->dtls_records_in;
}

static void take(struct dtls_world *w, struct sight *sight, const struct flow *flow)
{
    struct track *track = sight->track;

    sight->opened = dtls_stage(w)->life;
    if (!track || (track->heard && track->newest >= sight->sequence))
        return;
    track->heard = true;
    track->newest = sight->sequence;
    track->from = *flow;
}

void judge_consumed(struct stage *s, unsigned worker, const struct flow *flow, const uint8_t *data,
                    size_t length)
{
    struct dtls_world *w = dtls_world_of(s);
    struct sight *sight = w->arriving_sight;

    (void)data;
    (void)length;
    w->arriving_sight = NULL;
    if (sight && worker_counters(s->workers[worker])->dtls_records_in != w->records_before)
        take(w, sight, flow);
}

void judge_limits(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);

    for (unsigned i = 0; s->running && i < s->worker_count; i++) {
        struct worker_usage u;

        worker_usage(s->workers[i], &u);
        if (u.associations > u.associations_max || u.associations_max > w->associations ||
            u.handshakes > w->handshakes || u.sessions > u.sessions_max || u.chunks > u.chunks_max)
            stage_fail(s, "worker %u: %u associations, %u handshakes, %u sessions, %u chunks", i,
                       u.associations, u.handshakes, u.sessions, u.chunks);
    }
}

/* ---- what the server is asked ---- */

/* No message is longer on its way than this. */
#define LONGEST_WAY_US 500000

void judge_executed(struct dtls_world *w, unsigned id, uint8_t method, const char *query)
{
    struct stage *s = dtls_stage(w);
    struct asked *a = &w->asked[id];
    const struct thing *t = &w->things[a->thing];
    const char *client = strstr(query, "client=");

    if (id == 0 || id > w->asked_count || a->method != method) {
        stage_fail(s, "a request that nobody has made");
    } else if (!client || !strstr(client, t->identity) || !thing_is_honest(t)) {
        stage_fail(s, "request %u of %s comes as that of %s", id, t->identity, query);
    } else if (a->executed && method != CODE_GET &&
               ((a->life == s->life && !a->underway) || (s->journaled && method == CODE_POST))) {
        stage_fail(s, "request %u of %s is executed a second time, first in life %u", id,
                   t->identity, a->life);
    }
    a->executed++;
    a->life = (uint8_t)s->life;
    a->underway = s->life > 1 && s->now - w->started_us < LONGEST_WAY_US;
}
