#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/dtls.h"

#define PATIENCE_US     (25 * SECOND) /* for an answer: then the association is given up */
#define BACKOFF_US      (4 * SECOND)
#define STORM_TURN      500
#define SERVER_HELLO    2
#define SERVER_HELLO_AT 13
#define KNOWERS         4 /* the first ones may read what not all may */

static struct dtls_world *world_of(const struct thing *t)
{
    return dtls_world_of(t->device.node.stage);
}

bool thing_is_honest(const struct thing *t)
{
    const struct dtls_world *w = world_of(t);

    return t->kind == KEY_FILE || (t->kind == KEY_STORE && w->store_keys);
}

bool thing_may_know(const struct thing *t)
{
    return t->kind == KEY_FILE && t->index < KNOWERS;
}

void thing_key(unsigned index, uint8_t key[16])
{
    for (unsigned i = 0; i < 16; i++)
        key[i] = (uint8_t)(index * 17 + i * 29 + 3);
}

size_t thing_stored_key(const uint8_t *identity, size_t length, uint8_t *key)
{
    char text[16] = "";
    unsigned index;

    if (length >= sizeof(text))
        return 0;
    memcpy(text, identity, length);
    if (sscanf(text, "sto%u", &index) != 1)
        return 0;
    thing_key(index, key);
    return 16;
}

/* ---- the association ---- */

static void on_peer_timer(struct stage *s, void *who, uint64_t timer);

static void set_timer(struct thing *t)
{
    struct stage *s = t->device.node.stage;
    uint64_t due = peer_next_us(&t->peer);

    t->timer++;
    if (due != UINT64_MAX)
        stage_at(s, due > s->now ? due : s->now, on_peer_timer, t, t->timer);
}

static void on_peer_timer(struct stage *s, void *who, uint64_t timer)
{
    struct thing *t = who;

    if (!t->has_peer || t->timer != timer)
        return;
    peer_advance(&t->peer, s->now);
    set_timer(t);
}

static void on_send(void *context, const uint8_t *datagram, size_t length)
{
    struct thing *t = context;
    struct dtls_world *w = world_of(t);

    if (w->storming) {
        stage_receive(dtls_stage(w), &t->wire, datagram, length);
        return;
    }
    judge_sent(w, t, datagram, length);
    stage_send(dtls_stage(w), 0, &t->wire, datagram, length);
}

static void on_deliver(void *context, const uint8_t *data, size_t length)
{
    struct thing *t = context;

    node_receive(&t->device.node, &t->device.flow, data, length);
}

/* Messages of an association belong to it (RFC 7252 9.1.1): each has a flow of its own. */
static void on_message(struct node *n, const struct flow *flow, const uint8_t *data, size_t length)
{
    struct thing *t = ((struct device *)n->owner)->owner;

    if (t->has_peer && flow_equal(flow, &t->device.flow))
        (void)peer_write(&t->peer, data, length); /* or it is lost */
}

static void on_random(void *context, uint8_t *bytes, size_t length)
{
    struct thing *t = context;

    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)random_u64(&t->device.node.stage->random);
}

static void act_in(struct thing *t, uint64_t us);

static void on_established(void *context)
{
    struct thing *t = context;

    if (!thing_is_honest(t))
        stage_fail(t->device.node.stage, "%s has an association", t->identity);
    t->failures = 0;
    act_in(t, 0);
}

static const struct peer_events events = {
    .send = on_send, .deliver = on_deliver, .established = on_established, .random = on_random};

static void give_up(struct thing *t)
{
    for (unsigned i = 0; i < CALLS; i++)
        caller_give_up(&t->calls[i].caller);
    caller_give_up(&t->watcher);
}

static void leave_peer(struct thing *t)
{
    give_up(t);
    if (t->has_peer)
        peer_free(&t->peer);
    t->has_peer = false;
    t->track = NULL;
}

/* The ticket outlives the peer that got it. */
static void keep_session(struct thing *t)
{
    struct peer_session session;

    if (!t->has_peer || !peer_session_get(&t->peer, &session) || session.ticket_length == 0 ||
        session.ticket_length > sizeof(t->ticket))
        return;
    memcpy(t->ticket, session.ticket, session.ticket_length);
    t->session = session;
    t->session.ticket = t->ticket;
}

static void draw_setup(struct thing *t)
{
    static const uint16_t suites[] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};
    static const uint16_t fragments[] = {0, 0, 0, 5, 12};
    struct dtls_world *w = world_of(t);
    struct stage *s = dtls_stage(w);
    struct peer_setup *p = &t->setup;

    *p = (struct peer_setup){.crypto = w->crypto,
                             .events = &events,
                             .context = t,
                             .identity = (const uint8_t *)t->identity,
                             .key = t->key,
                             .identity_length = (uint16_t)strlen(t->identity),
                             .key_length = sizeof(t->key)};
    p->suites[0] = suites[stage_below(s, 3)];
    p->offer_cid = stage_below(s, 3) != 0;
    if (p->offer_cid && stage_below(s, 3)) {
        p->cid_length = (uint8_t)(4 + stage_below(s, OWN_CID_MAX - 3));
        on_random(t, p->cid, p->cid_length);
    }
    p->padding = stage_below(s, 4) ? 0 : (uint8_t)stage_below(s, 20);
    p->plain_master = stage_below(s, 6) == 0;
    p->scsv = stage_below(s, 2);
    p->separate = stage_below(s, 3) == 0;
    t->fragment_bytes = fragments[stage_below(s, 5)];
    p->tries = 4;
    p->offer_ticket = w->tickets && stage_below(s, 2);
    if (p->offer_ticket && t->session.ticket_length && stage_below(s, 2)) {
        p->session = &t->session;
        p->suites[0] = t->session.suite;
        p->plain_master = !t->session.extended;
    }
}

static void connect_anew(struct thing *t)
{
    struct stage *s = t->device.node.stage;

    keep_session(t);
    leave_peer(t);
    t->device.flow.local_port++;
    draw_setup(t);
    if (peer_init(&t->peer, &t->setup) != 0) {
        stage_fail(s, "a device that cannot be set up");
        return;
    }
    t->has_peer = true;
    (void)peer_start(&t->peer, s->now);
    set_timer(t);
}

void thing_receive(struct thing *t, const uint8_t *data, size_t length)
{
    struct stage *s = t->device.node.stage;

    if (!t->has_peer || s->now < t->silent_until)
        return;
    /* A ClientHello in pieces would have to be kept before anybody is known (RFC 6347 4.2.1): what
     * follows it may come in pieces. */
    if (length > SERVER_HELLO_AT && data[SERVER_HELLO_AT] == SERVER_HELLO)
        t->peer.setup.fragment_bytes = t->fragment_bytes;
    peer_receive(&t->peer, data, length, s->now);
    if (!t->track && t->peer.ready)
        judge_track(world_of(t), t);
    if (peer_state(&t->peer) == PEER_CLOSED)
        give_up(t);
    set_timer(t);
}

/* ---- addresses ---- */

static struct flow wire_at(unsigned number, uint16_t port)
{
    uint8_t ip[4] = {10, 2, (uint8_t)(number >> 8), (uint8_t)number};
    struct endpoint peer = {address_from_v4(ip), port};

    return flow_make(0, COAPS_PORT, &peer, TRANSPORT_UDP);
}

/* To a new place, or to one where another one has been, as behind a NAT. */
static void move(struct thing *t)
{
    struct dtls_world *w = world_of(t);
    struct stage *s = dtls_stage(w);
    struct flow old = t->wire;

    if (w->abandoned_count && stage_below(s, 3) == 0) {
        unsigned i = stage_below(s, w->abandoned_count);

        t->wire = w->abandoned[i];
        w->abandoned[i] = old;
    } else {
        t->wire = wire_at(++w->addresses, (uint16_t)(THING_PORT + stage_below(s, 2000)));
        if (w->abandoned_count < sizeof(w->abandoned) / sizeof(w->abandoned[0]))
            w->abandoned[w->abandoned_count++] = old;
    }
    stage_note(s, "%s moves to port %u", t->identity, t->wire.peer_port);
}

/* ---- requests ---- */

static void send_call(struct thing *t, struct call *c)
{
    struct dtls_world *w = world_of(t);
    struct stage *s = dtls_stage(w);
    static const uint8_t methods[] = {CODE_GET, CODE_PUT, CODE_POST};
    uint8_t method = methods[stage_below(s, 3)];
    struct request *r = &c->caller.request;

    if (w->asked_count + 1 == ASKED_MAX) {
        stage_fail(s, "too many requests for this simulation");
        return;
    }
    c->id = ++w->asked_count;
    w->asked[c->id] = (struct asked){.thing = (uint8_t)t->index, .method = method};
    *r = request_make(method, TYPE_CON, "/s/x");
    snprintf(r->query, sizeof(r->query), "k=%u", c->id);
    snprintf((char *)c->payload, sizeof(c->payload), "%u", c->id);
    if (method != CODE_GET) {
        r->payload = c->payload;
        r->payload_length = strlen((char *)c->payload);
    }
}

/* Its own value, which others observe. */
static void write_value(struct thing *t, struct call *c)
{
    struct request *r = &c->caller.request;

    *r = request_make(CODE_PUT, TYPE_CON, "");
    snprintf(r->path, sizeof(r->path), "/h/d%u", t->index);
    body_write(c->payload, sizeof(c->payload), t->index, ++t->version);
    r->payload = c->payload;
    r->payload_length = sizeof(c->payload);
    c->id = 0;
}

static void ask(struct thing *t, struct call *c)
{
    struct stage *s = t->device.node.stage;

    caller_new_token(&c->caller);
    switch (stage_below(s, 6)) {
    case 0:
        c->caller.request = request_make(CODE_GET, TYPE_CON, "/hello");
        c->id = 0;
        break;
    case 1:
        c->caller.request = request_make(CODE_GET, TYPE_CON, "/only");
        c->id = 0;
        break;
    case 2:
    case 3:
        write_value(t, c);
        break;
    default:
        send_call(t, c);
    }
    c->caller.patience_us = PATIENCE_US;
    c->life = s->life;
    caller_ask(&c->caller);
}

static void watch(struct thing *t)
{
    struct request *r = &t->watcher.request;

    caller_new_token(&t->watcher);
    *r = request_make(CODE_GET, TYPE_CON, "");
    snprintf(r->path, sizeof(r->path), "/h/d%u", t->target);
    r->observe = 0;
    t->watcher.patience_us = PATIENCE_US;
    caller_ask(&t->watcher);
}

/* ---- answers ---- */

static void take_value(struct thing *t, const struct message *m)
{
    struct stage *s = t->device.node.stage;
    uint32_t version;

    if (!body_check(m->payload, m->payload_length, t->target, &version) ||
        version > world_of(t)->things[t->target].version)
        stage_fail(s, "%s has got a value that is not that of device %u", t->identity, t->target);
    else
        t->seen_version = version;
}

static bool on_unasked(struct device *d, const struct message *m)
{
    struct thing *t = d->owner;

    if (m->token_length != t->watcher.token_length ||
        memcmp(m->token, t->watcher.token, m->token_length) != 0)
        return false;
    if (m->code == CODE_CONTENT)
        take_value(t, m);
    return m->code == CODE_CONTENT;
}

static void on_watched(struct caller *c, const struct message *m)
{
    if (m && m->code == CODE_CONTENT)
        take_value(c->owner, m);
}

static bool is_for(const struct call *c, const struct message *m)
{
    const struct thing *t = c->thing;
    const char *path = c->caller.request.path;
    uint32_t version;

    if (strcmp(path, "/hello") == 0)
        return m->payload_length == 5 && memcmp(m->payload, "hello", 5) == 0;
    if (strcmp(path, "/only") == 0)
        return thing_may_know(t) && m->payload_length == 6 && memcmp(m->payload, "secret", 6) == 0;
    if (c->id == 0)
        return m->payload_length == 0;
    return body_check(m->payload, m->payload_length, c->id, &version) && version == t->index;
}

static void on_answered(struct caller *caller, const struct message *m)
{
    struct call *c = caller->owner;
    struct thing *t = c->thing;
    struct stage *s = t->device.node.stage;

    if (!m) { /* silence: perhaps the gateway does not know the association any more */
        t->failures++;
        act_in(t, 0);
        return;
    }
    t->failures = 0;
    if (code_class(m->code) == 2 && !is_for(c, m))
        stage_fail(s, "%s has got an answer to %s that was not made for it", t->identity,
                   caller->request.path);
    else if (m->code == CODE_FORBIDDEN &&
             (strcmp(caller->request.path, "/only") != 0 || thing_may_know(t)))
        stage_fail(s, "%s is not let to %s", t->identity, caller->request.path);
    t->served += code_class(m->code) == 2 || m->code == CODE_FORBIDDEN;
    if (m->code == CODE_UNAUTHORIZED && c->life == s->life) /* another process has another secret */
        stage_fail(s, "%s is not believed with a fresh Echo", t->identity);
    if (code_class(m->code) == 5 && stage_below(s, 8) == 0)
        stage_note(s, "%s: %u.%02u", t->identity, code_class(m->code), code_detail(m->code));
}

/* ---- what a device does now and then ---- */

static void do_mischief(struct thing *t)
{
    struct dtls_world *w = world_of(t);
    struct stage *s = dtls_stage(w);

    switch (stage_below(s, 14)) {
    case 0:
    case 1:
    case 2:
    case 3:
        move(t);
        if (!t->peer.cid_agreed || t->peer.server_cid_length == 0)
            connect_anew(t); /* it knows that it has moved */
        break;
    case 4:
    case 5:
        connect_anew(t); /* from the same address */
        break;
    case 6:
        peer_close(&t->peer);
        give_up(t);
        break;
    case 7:
        t->silent_until = s->now + stage_below(s, 2 * w->idle_s) * SECOND;
        give_up(t);
        break;
    default:
        break;
    }
}

static void use(struct thing *t)
{
    struct stage *s = t->device.node.stage;

    for (unsigned i = 0; i < CALLS; i++)
        if (!t->calls[i].caller.waiting && stage_below(s, 3))
            ask(t, &t->calls[i]);
    if (!t->watcher.waiting && stage_below(s, 3) == 0)
        watch(t);
    if (!world_of(t)->calm && stage_below(s, 4) == 0)
        do_mischief(t);
}

static void on_time_to_act(struct stage *s, void *who, uint64_t what)
{
    struct dtls_world *w = dtls_world_of(s);
    struct thing *t = who;
    enum peer_state state;

    if (w->leaving || s->failed)
        return;
    state = t->has_peer ? peer_state(&t->peer) : PEER_IDLE;
    if (s->now >= t->silent_until || w->calm) {
        t->silent_until = 0;
        if (state == PEER_ESTABLISHED && t->failures == 0)
            use(t);
        else if (state != PEER_CONNECTING)
            connect_anew(t);
        if (state == PEER_ESTABLISHED)
            t->failures = 0;
    }
    if (what)
        act_in(t, 100000 + stage_below(s, state == PEER_ESTABLISHED ? w->pause_us : BACKOFF_US));
}

/* At once: beside what is done regularly. */
static void act_in(struct thing *t, uint64_t us)
{
    struct stage *s = t->device.node.stage;

    stage_at(s, s->now + us, on_time_to_act, t, us != 0);
}

/* ---- start and end ---- */

static void name(struct thing *t)
{
    static const char *const names[] = {"dev", "sto", "unk", "dev"};

    snprintf(t->identity, sizeof(t->identity), "%s%02u", names[t->kind], t->index % THINGS_MAX);
    thing_key(t->index, t->key);
    if (t->kind == KEY_WRONG)
        t->key[3] ^= 1;
}

void thing_init(struct dtls_world *w, unsigned index)
{
    static const enum key_kind kinds[] = {KEY_FILE,  KEY_FILE,  KEY_FILE,  KEY_FILE,    KEY_FILE,
                                          KEY_STORE, KEY_STORE, KEY_WRONG, KEY_UNKNOWN, KEY_FILE};
    struct stage *s = dtls_stage(w);
    struct thing *t = &w->things[index];

    device_init(&t->device, &w->fleet, t);
    t->device.transmit = on_message;
    t->device.unasked = on_unasked;
    t->index = index;
    t->kind = index == 0 ? KEY_FILE : kinds[stage_below(s, 10)];
    t->target = stage_below(s, w->thing_count);
    name(t);
    t->wire = wire_at(++w->addresses, (uint16_t)(THING_PORT + index));
    for (unsigned i = 0; i < CALLS; i++) {
        t->calls[i].thing = t;
        caller_init(&t->calls[i].caller, &t->device, &t->calls[i], on_answered);
    }
    caller_init(&t->watcher, &t->device, t, on_watched);
    act_in(t, 1 + stage_below(s, stage_below(s, 2) ? 100000 : 20 * SECOND));
}

void thing_free(struct thing *t)
{
    if (t->has_peer)
        peer_free(&t->peer);
}

void thing_storm(struct thing *t, unsigned count)
{
    struct dtls_world *w = world_of(t);
    struct stage *s = dtls_stage(w);

    for (unsigned i = 0; i < count && !s->failed; i++) {
        const uint8_t ping[4] = {0x40, 0, (uint8_t)(i >> 8), (uint8_t)i};

        if (!t->has_peer || peer_state(&t->peer) != PEER_ESTABLISHED)
            return;
        w->storming = s->muted = true;
        (void)peer_write(&t->peer, ping, sizeof(ping));
        w->storming = s->muted = false;
        if (i % STORM_TURN == STORM_TURN - 1)
            stage_run(s, s->now + 2000); /* the store answers */
    }
}
