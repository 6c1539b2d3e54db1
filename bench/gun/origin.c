/* The origin server that coapgun can play: it answers at once, block-wise where it must, and
 * notifies. All its resources have the same state. */
#include "bench/gun/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/coap/block.h"

#define RELATIONS_MAX 65536
#define BUCKETS       65536
#define NONE          UINT32_MAX
#define TAIL_BYTES    1152
#define EACH_TURN     32 /* notifications of one turn */
#define CON_EVERY     32 /* one notification in so many is confirmable (RFC 7641 4.5) */

struct relation {
    struct carrier_peer peer;
    uint32_t next; /* in its bucket, or among the free ones */
    uint8_t token[TOKEN_INLINE_BYTES];
    uint8_t token_length;
    bool held;
};

/* Options and payload of an answer, written in advance. */
struct tail {
    uint16_t length;
    uint8_t bytes[TAIL_BYTES];
};

struct origin {
    const struct gun_options *o;
    uint8_t *body;
    uint32_t state;            /* the Observe value and the ETag */
    struct tail plain, notice; /* 2.05 without and with Observe */
    uint16_t mid;
    uint64_t next_state_ns, interval_ns; /* 0: the state stays */
    uint32_t told; /* relations from here on have not been told of the state */
    uint32_t used; /* relations that were ever held are below it */
    uint32_t free;
    struct relation *relations;
    uint32_t *buckets;
    uint32_t *by_mid; /* the relation that a notification was for */
};

static uint64_t net64(const uint8_t *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

static const uint8_t stamp_mark[8] = {'c', 'o', 'a', 'p', 'g', 'u', 'n', ':'};

uint64_t origin_stamp(const uint8_t *payload, uint16_t length)
{
    if (length < ORIGIN_STAMP_BYTES || net64(payload) != net64(stamp_mark))
        return 0;
    return net64(payload + 8);
}

/* ---- the state ---- */

static bool goes_in_blocks(const struct origin *s)
{
    return s->o->origin_payload_bytes > BLOCK_BODY_MIN;
}

/* Up to where an answer is the same for all: from there on it may have Block2 and a payload. */
static void write_options(const struct origin *s, struct encoder *e, bool observe)
{
    uint8_t etag[4] = {(uint8_t)(s->state >> 24), (uint8_t)(s->state >> 16),
                       (uint8_t)(s->state >> 8), (uint8_t)s->state};

    encoder_option(e, OPTION_ETAG, etag, sizeof(etag));
    if (observe)
        encoder_uint(e, OPTION_OBSERVE, s->state & 0xffffff);
    encoder_uint(e, OPTION_CONTENT_FORMAT, 0);
    encoder_uint(e, OPTION_MAX_AGE, s->o->origin_max_age_s);
}

static void write_block(const struct origin *s, struct encoder *e, const struct block *block)
{
    uint32_t offset = block->number * block_size(block);
    uint32_t left = s->o->origin_payload_bytes - offset;

    encoder_uint(e, OPTION_BLOCK2, block_encode(block));
    encoder_payload(e, s->body + offset, block->more ? block_size(block) : left);
}

static void write_tail(const struct origin *s, struct tail *tail, bool observe)
{
    struct encoder e = {.data = tail->bytes, .room = sizeof(tail->bytes)};
    struct block first = {.szx = BLOCK_SZX_DEFAULT, .more = true};

    write_options(s, &e, observe);
    if (goes_in_blocks(s))
        write_block(s, &e, &first);
    else
        encoder_payload(&e, s->body, s->o->origin_payload_bytes);
    tail->length = (uint16_t)encoder_end(&e);
}

static void set_state(struct origin *s, uint32_t state, uint64_t now)
{
    s->state = state;
    if (s->o->notify_rate > 0 && s->o->origin_payload_bytes >= ORIGIN_STAMP_BYTES) {
        memcpy(s->body, stamp_mark, sizeof(stamp_mark));
        memcpy(s->body + sizeof(stamp_mark), &now, sizeof(now));
    }
    write_tail(s, &s->plain, false);
    write_tail(s, &s->notice, true);
}

/* ---- relations ---- */

static uint32_t bucket_of(const struct carrier_peer *peer, const struct message *m)
{
    uint64_t token = 0;

    memcpy(&token, m->token,
           m->token_length < TOKEN_INLINE_BYTES ? m->token_length : TOKEN_INLINE_BYTES);
    token =
        (token ^ carrier_low(&peer->address) ^ (uint64_t)peer->port << 32) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(token >> 40) % BUCKETS;
}

static bool is_peer(const struct relation *r, const struct carrier_peer *peer)
{
    return address_equal(&r->peer.address, &peer->address) && r->peer.port == peer->port;
}

/* Where the link to a relation stands, or the end of its bucket. */
static uint32_t *find(struct origin *s, const struct carrier_peer *peer, const struct message *m)
{
    uint32_t *link = &s->buckets[bucket_of(peer, m)];

    while (*link != NONE) {
        const struct relation *r = &s->relations[*link];

        if (is_peer(r, peer) && r->token_length == m->token_length &&
            memcmp(r->token, m->token, m->token_length) == 0)
            break;
        link = &s->relations[*link].next;
    }
    return link;
}

static bool add(struct gun *g, const struct carrier_peer *peer, const struct message *m)
{
    struct origin *s = g->origin;
    uint32_t *link = find(s, peer, m), index = *link;
    struct relation *r;

    if (index == NONE) {
        if (s->free == NONE && s->used == RELATIONS_MAX)
            return false;
        index = s->free != NONE ? s->free : s->used++;
        if (index == s->free)
            s->free = s->relations[index].next;
        *link = index;
        r = &s->relations[index];
        r->next = NONE;
        r->held = true;
        r->token_length = (uint8_t)m->token_length;
        memcpy(r->token, m->token, m->token_length);
    }
    s->relations[index].peer = *peer;
    g->r->origin_registrations++;
    return true;
}

static void take_out(struct origin *s, uint32_t *link)
{
    uint32_t index = *link;

    if (index == NONE)
        return;
    *link = s->relations[index].next;
    s->relations[index].held = false;
    s->relations[index].next = s->free;
    s->free = index;
}

/* A RST to a notification ends its relation (RFC 7641 3.6). */
static void receive_reset(struct origin *s, const struct incoming *in, const struct message *m)
{
    uint32_t index = s->by_mid[m->mid];
    const struct relation *r = &s->relations[index];
    struct message named = {0};

    if (index >= s->used || !r->held || !is_peer(r, in->peer))
        return;
    named.token = r->token;
    named.token_length = r->token_length;
    take_out(s, find(s, &r->peer, &named));
}

/* ---- answers ---- */

static struct outgoing *take_for(struct gun *g, const struct carrier_peer *peer)
{
    struct outgoing *out = engine_take(g);

    if (out) {
        out->party = PARTY_ORIGIN;
        g->out_peers[out - g->out] = *peer;
        out->peer = &g->out_peers[out - g->out];
    }
    return out;
}

static void begin_answer(struct gun *g, struct encoder *e, struct outgoing *out,
                         const struct message *m, uint8_t code)
{
    bool ack = m->type == TYPE_CON;

    encoder_begin(e, out->data, CARRIER_MAX_BYTES, ack ? TYPE_ACK : TYPE_NON, code,
                  ack ? m->mid : g->origin->mid++, m->token, m->token_length);
}

/* A block of the state that is asked for. False: there is none with that number. */
static bool answer_block(const struct origin *s, struct encoder *e, const struct message *m,
                         bool observe)
{
    struct block block = {.szx = BLOCK_SZX_DEFAULT};
    uint64_t end;

    if (message_has(m, SLOT_BLOCK2) && block_decode(message_uint(m, SLOT_BLOCK2, 0), &block) != 0)
        return false;
    end = ((uint64_t)block.number + 1) * block_size(&block);
    if (block.number && end - block_size(&block) >= s->o->origin_payload_bytes)
        return false;
    block.more = end < s->o->origin_payload_bytes;
    write_options(s, e, observe);
    write_block(s, e, &block);
    return true;
}

static void answer_get(struct gun *g, struct outgoing *out, const struct message *m, bool observe)
{
    struct origin *s = g->origin;
    const struct tail *tail = observe ? &s->notice : &s->plain;
    struct encoder e;

    begin_answer(g, &e, out, m, CODE_CONTENT);
    if (!message_has(m, SLOT_BLOCK2)) {
        encoder_raw(&e, tail->bytes, tail->length);
    } else if (!answer_block(s, &e, m, observe)) {
        out->length = 0;
        begin_answer(g, &e, out, m, CODE_BAD_REQUEST);
    }
    out->length = (uint16_t)encoder_end(&e);
}

/* The current state is known to who names its ETag (RFC 7252 5.9.1.3). */
static bool answer_valid(struct gun *g, struct outgoing *out, const struct message *m)
{
    const struct origin *s = g->origin;
    const struct option_view *etag = &m->first[SLOT_ETAG];
    struct encoder e;

    if (!message_has(m, SLOT_ETAG) || etag->length != 4 ||
        memcmp(etag->value, s->plain.bytes + 1, 4) != 0)
        return false;
    begin_answer(g, &e, out, m, CODE_VALID);
    encoder_option(&e, OPTION_ETAG, etag->value, 4);
    encoder_uint(&e, OPTION_MAX_AGE, s->o->origin_max_age_s);
    out->length = (uint16_t)encoder_end(&e);
    return true;
}

/* A body is taken as it comes, block by block, and thrown away. */
static void answer_write(struct gun *g, struct outgoing *out, const struct message *m)
{
    struct block block = {0};
    bool in_blocks =
        message_has(m, SLOT_BLOCK1) && block_decode(message_uint(m, SLOT_BLOCK1, 0), &block) == 0;
    uint8_t code = m->code == CODE_DELETE ? CODE_DELETED : CODE_CHANGED;
    struct encoder e;

    begin_answer(g, &e, out, m, block.more ? CODE_CONTINUE : code);
    if (in_blocks)
        encoder_uint(&e, OPTION_BLOCK1, block_encode(&block));
    out->length = (uint16_t)encoder_end(&e);
}

static bool observes(struct gun *g, const struct incoming *in, const struct message *m)
{
    if (!message_has(m, SLOT_OBSERVE) || m->token_length > TOKEN_INLINE_BYTES)
        return false;
    if (message_uint(m, SLOT_OBSERVE, 0) == 0)
        return add(g, in->peer, m);
    take_out(g->origin, find(g->origin, in->peer, m));
    return false;
}

static void answer(struct gun *g, const struct incoming *in, const struct message *m, uint64_t now)
{
    struct outgoing *out = take_for(g, in->peer);
    bool observe;

    if (!out)
        return;
    g->r->origin_requests += engine_measures(g, now);
    if (m->code != CODE_GET && m->code != CODE_FETCH) {
        answer_write(g, out, m);
        return;
    }
    observe = observes(g, in, m);
    if (observe || !answer_valid(g, out, m))
        answer_get(g, out, m, observe);
}

void origin_receive(struct gun *g, const struct incoming *in, uint64_t now)
{
    struct message m;
    struct outgoing *out;

    if (message_parse(in->data, in->length, &m) != VERDICT_OK)
        return;
    if (code_is_request(m.code)) {
        answer(g, in, &m, now);
    } else if (m.type == TYPE_RST) {
        receive_reset(g->origin, in, &m);
    } else if (m.type == TYPE_CON && (out = take_for(g, in->peer))) {
        message_write_empty(out->data, TYPE_RST, m.mid); /* a ping */
        out->length = MESSAGE_HEADER_BYTES;
    }
}

/* ---- notifications ---- */

static bool notify(struct gun *g, uint32_t index, uint64_t now)
{
    struct origin *s = g->origin;
    const struct relation *r = &s->relations[index];
    struct outgoing *out = take_for(g, &r->peer);
    struct encoder e;

    if (!out)
        return false;
    s->by_mid[s->mid] = index;
    encoder_begin(&e, out->data, CARRIER_MAX_BYTES, s->mid % CON_EVERY ? TYPE_NON : TYPE_CON,
                  CODE_CONTENT, s->mid, r->token, r->token_length);
    s->mid++;
    encoder_raw(&e, s->notice.bytes, s->notice.length);
    out->length = (uint16_t)encoder_end(&e);
    g->r->origin_notifications += engine_measures(g, now);
    return true;
}

/* The next state when its time has come and all know the one before. What could not be told in time
 * is not made up for: a notification is of the latest state (RFC 7641 1.3). */
unsigned origin_turn(struct gun *g, uint64_t now)
{
    struct origin *s = g->origin;
    unsigned n = 0;

    if (s->told >= s->used && s->interval_ns && now >= s->next_state_ns) {
        s->next_state_ns += s->interval_ns;
        if (s->next_state_ns < now)
            s->next_state_ns = now;
        set_state(s, s->state + 1, now);
        s->told = 0;
    }
    while (s->told < s->used && n < EACH_TURN) {
        if (s->relations[s->told].held) {
            if (!notify(g, s->told, now))
                break;
            n++;
        }
        s->told++;
    }
    return n;
}

/* ---- start ---- */

int origin_start(struct gun *g)
{
    const struct gun_options *o = g->o;
    struct origin *s = g->origin = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    s->o = o;
    s->free = NONE;
    s->body = malloc(o->origin_payload_bytes + 1u);
    s->relations = calloc(RELATIONS_MAX, sizeof(*s->relations));
    s->buckets = malloc(sizeof(*s->buckets) * BUCKETS);
    s->by_mid = calloc(65536, sizeof(*s->by_mid));
    if (!s->body || !s->relations || !s->buckets || !s->by_mid)
        return -ENOMEM;
    memset(s->buckets, 0xff, sizeof(*s->buckets) * BUCKETS);
    for (uint32_t i = 0; i < o->origin_payload_bytes; i++)
        s->body[i] = (uint8_t)('a' + i % 26);
    s->mid = engine_first_mid();
    s->next_state_ns = clock_now(&g->clock);
    s->interval_ns = o->notify_rate > 0 ? (uint64_t)(1e9 / o->notify_rate) : 0;
    set_state(s, (uint32_t)random() & 0x7fffff, s->next_state_ns);
    return 0;
}

void origin_stop(struct gun *g)
{
    if (!g->origin)
        return;
    free(g->origin->body);
    free(g->origin->relations);
    free(g->origin->buckets);
    free(g->origin->by_mid);
    free(g->origin);
    g->origin = NULL;
}
