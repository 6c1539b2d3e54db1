#include <stdio.h>
#include <string.h>

#include "gateway/hash.h"
#include "tests/sim/sim.h"

#define MAX_RETRANSMIT 4
#define PATIENCE       (400 * SECOND) /* after an Empty ACK */

static const char hello[] = "hello world!";

static bool safe(uint8_t method)
{
    return method == CODE_GET;
}

/* ---- asking ---- */

static void write_request(struct ask *a, bool non_upstream)
{
    char query[24];
    struct encoder e;

    encoder_begin(&e, a->bytes, sizeof(a->bytes), a->type, a->method, a->mid, a->token, 8);
    if (a->local) {
        encoder_option(&e, OPTION_URI_PATH, "hello", 5);
    } else {
        if (non_upstream)
            encoder_option(&e, OPTION_URI_PATH, "n", 1);
        encoder_option(&e, OPTION_URI_PATH, "thing", 5);
        snprintf(query, sizeof(query), "i=%u", a->id);
        encoder_option(&e, OPTION_URI_QUERY, query, strlen(query));
    }
    a->length = (uint16_t)encoder_end(&e);
}

static void transmit(struct world *w, struct client *c)
{
    struct ask *a = &c->ask;

    a->sends++;
    world_to_gateway(w, &c->flow, a->bytes, a->length);
}

static void begin(struct world *w, uint32_t index)
{
    static const uint8_t methods[] = {CODE_GET, CODE_GET, CODE_PUT, CODE_POST, CODE_DELETE};
    struct client *c = world_client(w, index);
    struct random *r = world_random(w);
    struct ask *a = &c->ask;
    uint64_t token = random_u64(r), now = world_now(w);

    c->before = c->ask;
    memset(a, 0, sizeof(*a));
    a->id = index * 1000 + c->left;
    a->type = random_below(r, 4) ? TYPE_CON : TYPE_NON;
    a->local = random_below(r, 4) == 0;
    a->method = a->local ? CODE_GET : methods[random_below(r, sizeof(methods))];
    a->mid = c->next_mid++;
    memcpy(a->token, &token, sizeof(a->token));
    write_request(a, random_below(r, 4) == 0);
    c->left--;
    c->asking = true;
    a->begun_at = now;
    a->give_up_at = now + PATIENCE;
    if (a->type == TYPE_CON) {
        a->timeout = 2 * SECOND + random_below(r, SECOND);
        a->next_at = now + a->timeout;
    }
    transmit(w, c);
    if (random_below(r, 10) == 0) { /* a ping beside it */
        uint8_t ping[4];

        message_write_empty(ping, TYPE_CON, c->next_mid++);
        world_to_gateway(w, &c->flow, ping, sizeof(ping));
    }
}

static void finish(struct world *w, uint32_t index)
{
    struct client *c = world_client(w, index);

    c->asking = false;
    if (c->left)
        world_wake_client(w, index, world_now(w) + random_below(world_random(w), 20 * SECOND));
}

void client_init(struct world *w, uint32_t index)
{
    struct client *c = world_client(w, index);

    c->next_mid = (uint16_t)random_u64(world_random(w));
    c->left = world_profile(w)->requests;
    world_wake_client(w, index, world_now(w) + 1 + random_below(world_random(w), 10 * SECOND));
}

uint64_t client_begun_at(struct world *w, uint32_t id)
{
    const struct client *c = world_client(w, id / 1000);

    if (c->ask.id == id)
        return c->ask.begun_at;
    return c->before.id == id ? c->before.begun_at : 0; /* long ago */
}

static void wake_for_ask(struct world *w, uint32_t index)
{
    const struct ask *a = &world_client(w, index)->ask;

    world_wake_client(w, index,
                      a->next_at && a->next_at < a->give_up_at ? a->next_at : a->give_up_at);
}

void client_on_timer(struct world *w, uint32_t index)
{
    struct client *c = world_client(w, index);
    struct ask *a = &c->ask;
    uint64_t now = world_now(w);

    if (!c->asking) {
        if (c->left) {
            begin(w, index);
            wake_for_ask(w, index);
        }
        return;
    }
    if (a->next_at && now >= a->next_at) {
        if (a->sends > MAX_RETRANSMIT) {
            a->next_at = 0;
            a->gave_up = true;
        } else {
            a->timeout *= 2;
            a->next_at = now + a->timeout;
            transmit(w, c);
        }
    }
    if (a->gave_up || now >= a->give_up_at) {
        if (a->type == TYPE_CON && world_stage(w)->network.loss == 0)
            world_fail(w, "client %u: request %u got no answer, and nothing was lost", index,
                       a->id);
        a->gave_up = true;
        finish(w, index);
        return;
    }
    wake_for_ask(w, index);
}

/* ---- answers ---- */

/* What the origin's behaviour leads to. */
static uint8_t expected_code(const struct world *w, const struct ask *a)
{
    switch (behaviour_of(w, a->id)) {
    case RESETS:
    case MALFORMED:
    case UNSAFE:
        return CODE_BAD_GATEWAY;
    case SILENT:
    case WRONG_TOKEN:
        return CODE_GATEWAY_TIMEOUT;
    default:
        return safe(a->method) ? CODE_CONTENT : CODE_CHANGED;
    }
}

static bool code_is_legal(const struct world *w, const struct ask *a, uint8_t code)
{
    const struct profile *p = world_profile(w);

    if (a->local)
        return code == CODE_CONTENT || (p->small_limits && code == CODE_SERVICE_UNAVAILABLE);
    if (code == expected_code(w, a))
        return true;
    if (code == CODE_SERVICE_UNAVAILABLE)
        return p->small_limits || p->nstart < 64;
    if (code ==
        CODE_GATEWAY_TIMEOUT) /* lost, dead, waited for NSTART too long, or a NON that got no ACK */
        return true;
    return false;
}

static void check_payload(struct world *w, const struct ask *a, const struct message *m)
{
    char id[16];
    size_t length = (size_t)snprintf(id, sizeof(id), "%u", a->id);
    const char *wanted = a->local ? hello : id;

    if (a->local)
        length = strlen(hello);
    if (code_class(m->code) != 2)
        return;
    if (m->payload_length != length || memcmp(m->payload, wanted, length) != 0)
        world_fail(w, "request %u got another's answer: \"%.*s\"", a->id, (int)m->payload_length,
                   (const char *)m->payload);
}

/* A safe request may be answered from the cache again: its options are as of now. */
static uint64_t answer_hash(const struct ask *a, const struct message *m)
{
    uint64_t hash = hash_bytes(m->options, safe(a->method) ? 0 : m->options_length, m->code);

    return hash_bytes(m->payload ? m->payload : m->options, m->payload_length, hash);
}

static void take_answer(struct world *w, uint32_t index, struct ask *a, const struct message *m)
{
    if (a->done) {
        bool refused = a->code == CODE_SERVICE_UNAVAILABLE || m->code == CODE_SERVICE_UNAVAILABLE;

        /* Where memory is short, a safe request may be executed again (RFC 7252 4.5), and one that
         * was refused without a session may be taken when it comes again. */
        if (a->answer_hash != answer_hash(a, m) &&
            !(world_profile(w)->small_limits && (safe(a->method) || refused)))
            world_fail(w, "request %u got two different answers", a->id);
        return;
    }
    a->done = true;
    a->code = m->code;
    a->answer_hash = answer_hash(a, m);
    a->next_at = 0;
    if (!code_is_legal(w, a, m->code))
        world_fail(w, "request %u (behaviour %u) got %u.%02u", a->id, behaviour_of(w, a->id),
                   code_class(m->code), code_detail(m->code));
    check_payload(w, a, m);
    if (a == &world_client(w, index)->ask && world_client(w, index)->asking)
        finish(w, index);
}

static struct ask *ask_of(struct client *c, const struct message *m)
{
    struct ask *asks[] = {&c->ask, &c->before};

    for (unsigned i = 0; i < 2; i++)
        if (asks[i]->length && m->token_length == 8 && memcmp(m->token, asks[i]->token, 8) == 0)
            return asks[i];
    return NULL;
}

static bool seen_before(struct client *c, uint16_t mid)
{
    for (unsigned i = 0; i < 16 && i < c->seen; i++)
        if (c->seen_mids[i] == mid)
            return true;
    c->seen_mids[c->seen++ % 16] = mid;
    return false;
}

static void receive_empty(struct world *w, struct client *c, const struct message *m)
{
    struct ask *a = &c->ask;

    (void)w;
    if (m->type == TYPE_ACK && a->length && a->mid == m->mid) {
        a->acked = true;
        a->next_at = 0;
    }
}

void client_receive(struct world *w, uint32_t index, const uint8_t *data, size_t length)
{
    struct client *c = world_client(w, index);
    struct message m;
    struct ask *a;
    uint8_t ack[4];

    if (message_parse(data, length, &m) != VERDICT_OK)
        return; /* watch.c has complained */
    if (m.code == CODE_EMPTY) {
        receive_empty(w, c, &m);
        return;
    }
    if (m.type == TYPE_CON) {
        message_write_empty(ack, TYPE_ACK, m.mid);
        world_to_gateway(w, &c->flow, ack, sizeof(ack));
        if (seen_before(c, m.mid))
            return;
    }
    a = ask_of(c, &m);
    if (!a)
        return; /* of a request long ago */
    if (m.type == TYPE_ACK && m.mid != a->mid)
        world_fail(w, "client %u: an ACK with another request's token", index);
    if (m.type == TYPE_ACK && a->type != TYPE_CON)
        world_fail(w, "client %u: a NON request was acknowledged", index);
    take_answer(w, index, a, &m);
}

void client_check(struct world *w, uint32_t index)
{
    const struct client *c = world_client(w, index);

    if (c->asking || c->left)
        world_fail(w, "client %u is not at its end", index);
}
