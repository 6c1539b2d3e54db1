#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define IDS       (CLIENTS_MAX * 1000)
#define MEMORY    4096 /* requests remembered by all origins, oldest overwritten */
#define SLOW_US   (3 * SECOND)
#define UNSAFE_NO 65003

struct memory {
    struct flow flow;
    uint16_t mid;
    uint64_t at;
    uint16_t length; /* of the first answer; 0: none */
    uint8_t answer[128];
};

struct origins {
    struct memory memory[MEMORY];
    unsigned next;
    uint16_t next_mid;
    uint8_t executed[IDS];
};

struct origins *origins_create(void)
{
    return calloc(1, sizeof(struct origins));
}

void origins_destroy(struct origins *o)
{
    free(o);
}

static struct memory *recall(struct origins *o, const struct flow *flow, uint16_t mid, uint64_t now)
{
    for (unsigned i = 0; i < MEMORY; i++) {
        struct memory *m = &o->memory[i];

        if (m->at && now - m->at < LIFETIME && m->mid == mid && flow_equal(&m->flow, flow))
            return m;
    }
    return NULL;
}

uint32_t origin_id_of(const struct message *m)
{
    const struct option_view *query = &m->first[SLOT_URI_QUERY];
    char text[16] = "";

    if (!message_has(m, SLOT_URI_QUERY) || query->length < 3 || query->length > 12)
        return NOBODY;
    memcpy(text, query->value + 2, query->length - 2u);
    return (uint32_t)strtoul(text, NULL, 10);
}

static size_t write_answer(uint8_t *out, size_t room, uint8_t type, uint16_t mid,
                           const struct message *request, uint32_t id, enum behaviour behaviour)
{
    uint8_t token[8];
    char payload[16];
    struct encoder e;

    memcpy(token, request->token, sizeof(token));
    if (behaviour == WRONG_TOKEN)
        token[5] ^= 0x10;
    encoder_begin(&e, out, room, type, request->code == CODE_GET ? CODE_CONTENT : CODE_CHANGED, mid,
                  token, 8);
    if (behaviour == UNSAFE)
        encoder_option(&e, UNSAFE_NO, "?", 1);
    encoder_payload(&e, payload, (size_t)snprintf(payload, sizeof(payload), "%u", id));
    return encoder_end(&e);
}

/* Sends the answer now, and keeps it for duplicates of the request. */
static void answer(struct world *w, struct memory *m, const void *bytes, size_t length)
{
    memcpy(m->answer, bytes, length);
    m->length = (uint16_t)length;
    world_to_gateway(w, &m->flow, bytes, length);
}

/* A separate response; repeated a few times, as an origin would that gets no ACK. */
static void answer_later(struct world *w, struct origins *o, struct memory *m,
                         const struct message *request, uint32_t id, enum behaviour behaviour)
{
    bool con = behaviour != SEPARATE_NON && request->type == TYPE_CON;
    uint64_t after = behaviour == SLOW ? SLOW_US : 20000 + random_below(world_random(w), 900000);
    uint8_t bytes[128], ack[4];
    size_t length = write_answer(bytes, sizeof(bytes), con ? TYPE_CON : TYPE_NON, o->next_mid++,
                                 request, id, behaviour);

    if (request->type == TYPE_CON) {
        message_write_empty(ack, TYPE_ACK, request->mid);
        answer(w, m, ack, sizeof(ack));
    }
    for (unsigned i = 0; i < (con ? 4u : 1u); i++)
        world_to_gateway_in(w, after + (i ? (2ull << i) * SECOND : 0), &m->flow, bytes, length);
}

static void execute(struct world *w, struct origins *o, struct memory *m,
                    const struct message *request, uint32_t id)
{
    enum behaviour behaviour = behaviour_of(w, id);
    uint8_t type = request->type == TYPE_CON ? TYPE_ACK : TYPE_NON;
    uint16_t mid = request->type == TYPE_CON ? request->mid : o->next_mid++;
    uint8_t bytes[128];

    switch (behaviour) {
    case SILENT:
        return;
    case RESETS:
        message_write_empty(bytes, TYPE_RST, request->mid);
        answer(w, m, bytes, 4);
        return;
    case MALFORMED: /* a payload marker and nothing behind it */
        message_write_empty(bytes, type, mid);
        bytes[1] = CODE_CONTENT;
        bytes[4] = MESSAGE_PAYLOAD_START;
        answer(w, m, bytes, 5);
        return;
    case SEPARATE_CON:
    case SEPARATE_NON:
    case SLOW:
        answer_later(w, o, m, request, id, behaviour);
        return;
    default:
        answer(w, m, bytes, write_answer(bytes, sizeof(bytes), type, mid, request, id, behaviour));
        return;
    }
}

void origin_receive(struct world *w, struct origins *o, uint32_t index, const struct flow *flow,
                    const uint8_t *data, size_t length)
{
    uint64_t now = world_now(w);
    struct message request;
    struct memory *m;
    uint8_t pong[4];
    uint32_t id;

    if (world_origin(w, index)->dead) {
        world_icmp(w, flow, data, length < 60 ? length : 60);
        return;
    }
    if (message_parse(data, length, &request) != VERDICT_OK)
        return;
    if (request.code == CODE_EMPTY && request.type == TYPE_CON) { /* a ping */
        message_write_empty(pong, TYPE_RST, request.mid);
        world_to_gateway(w, flow, pong, sizeof(pong));
        return;
    }
    if (!code_is_request(request.code))
        return; /* ACK and RST to our separate responses: they are repeated all the same */
    m = recall(o, flow, request.mid, now);
    if (m) {
        if (m->length)
            world_to_gateway(w, &m->flow, m->answer, m->length);
        return;
    }
    id = origin_id_of(&request);
    if (id >= IDS) {
        world_fail(w, "origin %u: a request without an id", index);
        return;
    }
    if (request.token_length != 8) {
        world_fail(w, "origin %u: a token of %u bytes", index, request.token_length);
        return;
    }
    if (++o->executed[id] > 1 && request.code != CODE_GET)
        world_fail(w, "request %u was executed twice", id);
    m = &o->memory[o->next++ % MEMORY];
    *m = (struct memory){.flow = *flow, .mid = request.mid, .at = now};
    execute(w, o, m, &request, id);
}
