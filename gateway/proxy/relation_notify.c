/* What clients that observe are told, and when (RFC 7641 4.2, 4.5). Notifications go out in
 * portions, so that a large fan-out starves nobody. */
#include <stddef.h>

#include "gateway/proxy/relation.h"

#define BY_FANOUT offsetof(struct observation, by_fanout)

#define CONFIRM_LATEST_US UINT64_C(86400000000) /* RFC 7641 4.5: a CON in 24 h */
#define AGAIN_US          5000000u              /* when a notification could not be sent */

/* ---- pacing ---- */

void relation_arm(struct proxy *p, struct relation *r)
{
    uint64_t latest = r->acked_us + CONFIRM_LATEST_US;
    uint64_t due = r->confirmed ? latest : r->sent_us + p->m->config->observe.confirm_after_us;

    wheel_arm(&p->m->wheel, &r->confirm, due < latest ? due : latest);
}

/* A notification that the client has not acknowledged yet does not concern the relation any more:
 * NSTART holds all the same (RFC 7252 4.7). */
void relation_leave_outbound(struct proxy *p, struct relation *r)
{
    if (r->outbound == POOL_NONE)
        return;
    if (outbound_was_sent(p->m, r->outbound)) {
        relation_remember_mid(r, outbound_mid(p->m, r->outbound));
        outbound_disown(p->m, r->outbound);
    } else {
        outbound_cancel(p->m, r->outbound);
    }
    r->outbound = POOL_NONE;
}

/* ---- what is sent ---- */

/* What comes behind header and token, the same for all relations with one block size: built once
 * for a state, as long as its Max-Age is the same. */
static const struct fanout_tail *build_tail(struct proxy *p, const struct relation *r, uint8_t szx)
{
    struct observation *o = observation_at(p, r->observation);
    struct fanout_tail *tail = &p->tail;
    uint32_t age_s = content_age_s(content_at(&p->contents, o->content), p->m->now);
    struct part part;
    struct encoder e = {.data = tail->bytes, .room = sizeof(tail->bytes)};

    if (tail->built && tail->observation == r->observation && tail->state_n == o->state_n &&
        tail->number == o->number && tail->age_s == age_s && tail->szx == szx)
        return tail;
    part = deliver_part(p, relation_session(p, r), o->content, szx);
    if (o->state == OBSERVATION_LIVE)
        part.number = observation_number(o);
    deliver_encode(p, &e, &part);
    tail->observation = r->observation;
    tail->state_n = o->state_n;
    tail->number = o->number;
    tail->age_s = age_s;
    tail->szx = szx;
    tail->code = content_at(&p->contents, o->content)->code;
    tail->in_blocks = part.in_blocks;
    tail->length = (uint16_t)encoder_end(&e);
    tail->built = !e.failed;
    return tail;
}

/* Writes a notification. Its length, 0 when it does not fit. */
static size_t write_notification(struct proxy *p, const struct relation *r, enum message_type type,
                                 uint16_t mid, uint8_t *out, uint32_t room)
{
    const struct observation *o = observation_at(p, r->observation);
    uint8_t largest = messaging_listener(p->m, relation_session(p, r))->block_szx;
    uint8_t buffer[MESSAGE_MAX_BYTES];
    int szx = r->szx < largest ? r->szx : largest;
    struct encoder e;

    do {
        uint8_t code = o->last_code;
        const struct fanout_tail *tail = NULL;

        if (o->content != CONTENT_NONE) {
            tail = build_tail(p, r, (uint8_t)szx);
            code = tail->code;
        }
        encoder_begin(&e, out, room, type, code, mid, relation_token(p, r, buffer),
                      r->token_length);
        if (tail && !tail->built)
            e.failed = true;
        else if (tail)
            encoder_raw(&e, tail->bytes, tail->length);
        if (tail && tail->in_blocks) /* what it fetches next is the rest of this state */
            transfer_unpin(p, relation_session(p, r), r->transfer);
    } while (e.failed && --szx >= 0); /* beside a long token: in smaller blocks */
    return encoder_end(&e);
}

static bool send_confirmable(struct proxy *p, struct relation *r, uint16_t mid)
{
    struct messaging *m = p->m;
    struct session *s = relation_session(p, r);
    bool last = observation_at(p, r->observation)->state == OBSERVATION_OVER;
    size_t length =
        write_notification(p, r, TYPE_CON, mid, m->scratch, messaging_room(m, &s->flow));
    uint32_t index;

    if (length == 0 ||
        outbound_submit(m, s, TYPE_CON, mid, m->scratch, (uint16_t)length,
                        last ? OWNER_NONE : OWNER_RELATION, relation_index(p, r), &index) < 0)
        return false;
    if (p->confirms)
        p->confirms--;
    if (!last)
        r->outbound = index;
    return true;
}

static bool send_once(struct proxy *p, struct relation *r, uint16_t mid)
{
    struct messaging *m = p->m;
    const struct session *s = relation_session(p, r);
    struct outgoing out;
    size_t length;

    if (!m->io.alloc(m->io.context, &s->flow, &out)) {
        m->counters->drop_reply_buffer++;
        return false;
    }
    length = write_notification(p, r, TYPE_NON, mid, out.data, out.room);
    if (length == 0) {
        m->io.cancel(m->io.context, &out);
        return false;
    }
    relation_remember_mid(r, mid);
    messaging_send(m, &s->flow, &out, (uint16_t)length);
    return true;
}

/* How a state is sent. */
enum manner {
    AS_NON,
    AS_CON,     /* where it cannot be kept, as a NON, and a CON is tried again soon */
    AS_CON_ONLY /* it has gone as a NON already */
};

static bool try_to_send(struct proxy *p, struct relation *r, enum manner *manner)
{
    uint16_t mid;

    if (!messaging_take_mid(p->m, relation_session(p, r), &mid)) {
        p->m->counters->drop_no_mid++;
        return false;
    }
    if (*manner != AS_NON && send_confirmable(p, r, mid))
        return true;
    if (*manner == AS_CON_ONLY)
        return false;
    *manner = AS_NON;
    return send_once(p, r, mid);
}

/* Sends the present state. False when it could not be sent: it is tried again soon. */
static bool send_state(struct proxy *p, struct relation *r, enum manner wanted)
{
    enum manner manner = wanted;
    bool sent = try_to_send(p, r, &manner);

    if (sent) {
        r->state_n = observation_at(p, r->observation)->state_n;
        r->sent_us = p->m->now;
        p->m->counters->notifications++;
        if (manner != AS_NON)
            r->unconfirmed = 0;
        else if (wanted != AS_NON)
            r->unconfirmed = UINT16_MAX; /* the next one has to be a CON */
        else if (r->unconfirmed < UINT16_MAX)
            r->unconfirmed++;
    }
    r->confirmed = false;
    if (sent && manner == wanted)
        relation_arm(p, r);
    else
        wheel_arm(&p->m->wheel, &r->confirm, p->m->now + AGAIN_US);
    return sent;
}

/* What is sent of its own accord must be no more than what the request may get as an answer. */
static bool is_short_enough(struct proxy *p, const struct relation *r, const struct client *to)
{
    struct messaging *m = p->m;
    const struct session *s = relation_session(p, r);
    uint32_t longest =
        reply_longest(m, s, to->rq ? to->rq->message->length : to->exchange->request_length);

    return longest == 0 || write_notification(p, r, TYPE_NON, 0, m->scratch,
                                              messaging_room(m, &s->flow)) <= longest;
}

bool relation_answer(struct proxy *p, uint32_t index, const struct client *to)
{
    struct relation *r = relation_at(p, index);
    bool confirmable = (to->rq ? to->rq->message->type : to->exchange->type) == TYPE_CON;
    bool piggybacked = confirmable && (to->rq || !to->exchange->acked);
    uint16_t unconfirmed = r->unconfirmed;

    if (piggybacked || (to->rq ? to->rq->unwanted : to->exchange->unwanted) ||
        !is_short_enough(p, r, to))
        return false;
    if (to->exchange)
        exchange_close(p->m, to->exchange);
    (void)observation_next_number(p, observation_at(p, r->observation));
    if (!send_state(p, r, confirmable ? AS_CON : AS_NON) || confirmable)
        return true;
    r->unconfirmed = unconfirmed;
    r->confirmed = true; /* as any answer to a registration */
    relation_arm(p, r);
    return true;
}

void relation_confirm(struct proxy *p, uint32_t index, const struct client *to,
                      const struct wish *wish)
{
    struct relation *r = relation_at(p, index);
    struct observation *o = observation_at(p, r->observation);

    if (o->state != OBSERVATION_LIVE) { /* it has ended while the answer was waiting */
        if (o->content != CONTENT_NONE)
            (void)deliver(p, to, o->content, wish, NULL);
        else
            deliver_code(p, to, o->last_code ? o->last_code : CODE_SERVICE_UNAVAILABLE, NULL);
        relation_drop(p, index);
        return;
    }
    relation_leave_outbound(p,
                            r); /* two registrations may have waited: the answer to the other one */
    r->state_n = o->state_n;
    if (!relation_answer(p, index, to) && !deliver(p, to, o->content, wish, o))
        relation_drop(p, index);
}

void relation_accept(struct proxy *p, uint32_t index, const struct client *to,
                     const struct wish *wish)
{
    switch (persist_keep(p, relation_at(p, index), to, wish)) {
    case PERSIST_ANSWER:
        relation_confirm(p, index, to, wish);
        return;
    case PERSIST_HELD:
        return;
    case PERSIST_REFUSED:
        deliver_code(p, to, CODE_SERVICE_UNAVAILABLE, "the registration cannot be kept");
        relation_drop(p, index);
        return;
    }
}

/* Clients of before a restart are told one after the other: the states of many come at once. */
static void arm_resumed(struct proxy *p, struct relation *r)
{
    uint64_t within_us = p->m->config->store.resume_spread_us;
    uint32_t spread = within_us < UINT32_MAX ? (uint32_t)within_us : UINT32_MAX - 1;

    wheel_arm(&p->m->wheel, &r->confirm, p->m->now + random_below(&p->m->random, spread + 1));
}

/* Where many relations are due at once, those beyond what a turn may have go as NON once more: that
 * sets them apart for the next time, too. But only once in a cycle, and not those that have been
 * quiet for so long that it is in doubt whether the client is there. */
static bool is_due(const struct proxy *p, const struct relation *r)
{
    const struct config_observe *config = &p->m->config->observe;
    uint32_t every = config->confirm_every;

    if (p->m->now - r->sent_us >= config->confirm_after_us)
        return true;
    return r->unconfirmed + 1u >= (p->confirms || every == 1 ? every : 2 * every);
}

/* What is held or has come back will be told the state in its own time. */
static bool is_to_be_told(const struct proxy *p, const struct relation *r)
{
    return r->state_n != observation_at(p, r->observation)->state_n && r->outbound == POOL_NONE &&
           r->held == POOL_NONE && !r->resumed;
}

/* What it would be sent now is confirmable, and is for the next turn. */
static bool has_to_wait(const struct proxy *p, const struct relation *r)
{
    if (p->confirms)
        return false;
    if (observation_at(p, r->observation)->state == OBSERVATION_OVER)
        return true;
    return is_to_be_told(p, r) &&
           (is_due(p, r) || outbound_is_silent(p->m, relation_session(p, r)));
}

/* RFC 7641 4.5: while a CON is not acknowledged, newer states wait. */
static void notify(struct proxy *p, struct relation *r)
{
    if (r->resumed && !timer_armed(&r->confirm))
        arm_resumed(p, r);
    if (!is_to_be_told(p, r))
        return;
    if (outbound_is_silent(p->m, relation_session(p, r)))
        (void)send_state(p, r, AS_CON_ONLY);
    else
        (void)send_state(p, r, is_due(p, r) ? AS_CON : AS_NON);
}

/* RFC 7641 4.5.2: a retransmission carries the newest state, under a new message ID. False when it
 * stays as it was. */
static bool replace(struct proxy *p, struct relation *r, uint32_t outbound)
{
    struct messaging *m = p->m;
    struct session *s = relation_session(p, r);
    uint16_t mid, before = outbound_mid(m, outbound);
    size_t length;

    if (!messaging_take_mid(m, s, &mid))
        return false;
    length = write_notification(p, r, TYPE_CON, mid, m->scratch, messaging_room(m, &s->flow));
    if (!length || !outbound_replace(m, outbound, mid, m->scratch, (uint16_t)length))
        return false;
    r->state_n = observation_at(p, r->observation)->state_n;
    if (outbound_was_sent(m, outbound))
        relation_remember_mid(r, before);
    return true;
}

/* The origin has ended it: the last word is said in the place of what is not acknowledged yet. */
static void dismiss(struct proxy *p, struct relation *r)
{
    if (r->outbound != POOL_NONE && replace(p, r, r->outbound)) {
        outbound_disown(p->m, r->outbound);
        r->outbound = POOL_NONE;
    } else {
        relation_leave_outbound(p, r);
        (void)send_state(p, r, AS_CON);
    }
    p->m->counters->relations_ended++;
    persist_close_holds(p, r);
    relation_remove(p, r);
}

void relation_fan_out(struct proxy *p, struct observation *o)
{
    uint32_t index = pool_index(&p->observations, o);

    o->left = o->relation_count;
    if (o->in_fanout)
        return;
    o->in_fanout = true;
    list_push_back(&p->fanout, &p->observations, BY_FANOUT, index);
}

/* A portion of one observation's relations. Returns how many were looked at. */
static unsigned fan_out_some(struct proxy *p, struct observation *o, unsigned budget)
{
    unsigned n = 0;

    for (; n < budget && o->left && o->relation_count; n++, o->left--) {
        struct relation *r;

        if (o->cursor == POOL_NONE)
            o->cursor = o->relations.head;
        r = relation_at(p, o->cursor);
        if (has_to_wait(p, r))
            break;
        o->cursor = r->by_observation.next;
        if (relation_is_left(p, r))
            continue;
        if (o->state == OBSERVATION_OVER)
            dismiss(p, r);
        else
            notify(p, r);
    }
    if (o->relation_count == 0)
        o->left = 0;
    return n;
}

unsigned relation_advance(struct proxy *p, unsigned budget)
{
    unsigned done = 0, looked;

    while (done < budget && p->fanout.head != POOL_NONE) {
        uint32_t index = p->fanout.head;
        struct observation *o = observation_at(p, index);

        looked = fan_out_some(p, o, budget - done);
        done += looked;
        list_remove(&p->fanout, &p->observations, BY_FANOUT, index);
        if (o->left) {
            list_push_back(&p->fanout, &p->observations, BY_FANOUT, index);
            if (looked)
                continue;
            break; /* the turn has had its confirmable ones: what is behind it has its turn next */
        }
        o->in_fanout = false;
        if (o->state == OBSERVATION_OVER)
            observation_left(p, index);
    }
    return done;
}

/* ---- what becomes of them ---- */

void relation_settled(struct proxy *p, uint32_t index, enum outbound_outcome outcome)
{
    struct relation *r = relation_at(p, index);
    const struct observation *o = observation_at(p, r->observation);

    r->outbound = POOL_NONE;
    if (outcome != OUTBOUND_ACKED) {
        p->m->counters->relations_lost++;
        if (outcome == OUTBOUND_RESET)
            relation_reject(p, r);
        else
            relation_end(p, r);
        return;
    }
    r->acked_us = p->m->now;
    r->confirmed = r->state_n == o->state_n;
    relation_arm(p, r);
    if (o->state == OBSERVATION_LIVE && !relation_is_left(p, r)) /* else the last word is sent */
        notify(p, r);
}

void relation_renew(struct proxy *p, uint32_t index, uint32_t outbound)
{
    struct relation *r = relation_at(p, index);
    const struct observation *o = observation_at(p, r->observation);

    if (r->state_n != o->state_n && o->state == OBSERVATION_LIVE)
        (void)replace(p, r, outbound);
}

void relation_resume(struct proxy *p, uint32_t index)
{
    struct relation *r = relation_at(p, index);

    r->resumed = true;
    r->kept = KEPT;
    r->confirmed = false;
    r->unconfirmed = UINT16_MAX; /* a CON: is it there still? */
    arm_resumed(p, r);
}

void relation_on_confirm(void *context, struct timer *timer, uint64_t now_us)
{
    struct proxy *p = context;
    struct relation *r =
        (struct relation *)(void *)((uint8_t *)timer - offsetof(struct relation, confirm));
    struct observation *o = observation_at(p, r->observation);

    (void)now_us;
    if (relation_is_left(p, r) || (r->resumed && o->state != OBSERVATION_LIVE))
        return; /* the fan-out of the first state arms it again */
    if (r->outbound != POOL_NONE || r->held != POOL_NONE || o->state != OBSERVATION_LIVE) {
        wheel_arm(&p->m->wheel, &r->confirm, p->m->now + AGAIN_US);
        return;
    }
    if (p->confirms == 0) {
        wheel_arm(&p->m->wheel, &r->confirm, p->m->now + 1);
        return;
    }
    if (r->resumed) {
        r->resumed = false;
        p->m->counters->relations_resumed++;
    }
    observation_keep_up(p, o);
    (void)observation_next_number(p, o);
    (void)send_state(p, r, r->state_n == o->state_n && r->unconfirmed ? AS_CON_ONLY : AS_CON);
}
