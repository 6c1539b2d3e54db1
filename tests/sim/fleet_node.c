/* RFC 7252 4, for the peers of the gateway: a CON is repeated until it is acknowledged, a duplicate
 * gets the answer of the first again. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/fleet.h"

#define MAX_RETRANSMIT 4

struct node_sent {
    struct node_sent *next;
    uint64_t id, cookie, timeout;
    struct flow flow;
    uint16_t mid, length;
    unsigned sends;
    uint8_t data[];
};

struct node_heard {
    struct node_heard *next;
    struct flow flow;
    uint16_t mid;
    uint64_t at;
    uint16_t length; /* 0: no answer yet */
    uint8_t *answer;
};

struct node_later {
    struct node_later *next;
    uint64_t id, cookie;
    struct flow flow;
    size_t length;
    uint8_t data[];
};

void node_init(struct node *n, struct stage *s, const struct node_handler *handler, void *owner)
{
    memset(n, 0, sizeof(*n));
    n->stage = s;
    n->handler = handler;
    n->owner = owner;
    n->next_mid = (uint16_t)random_u64(&s->random);
}

void node_free(struct node *n)
{
    while (n->sent) {
        struct node_sent *sent = n->sent;

        n->sent = sent->next;
        free(sent);
    }
    while (n->later) {
        struct node_later *later = n->later;

        n->later = later->next;
        free(later);
    }
    for (unsigned i = 0; i < HEARD_BUCKETS; i++)
        while (n->heard[i]) {
            struct node_heard *heard = n->heard[i];

            n->heard[i] = heard->next;
            free(heard->answer);
            free(heard);
        }
}

uint16_t node_mid(struct node *n)
{
    return n->next_mid++;
}

/* ---- sending ---- */

static void transmit(struct node *n, const struct flow *flow, const uint8_t *data, size_t length)
{
    if (n->handler->transmit)
        n->handler->transmit(n, flow, data, length);
    else
        stage_send(n->stage, 0, flow, data, length);
}

static struct node_sent **find_id(struct node *n, uint64_t id)
{
    struct node_sent **at = &n->sent;

    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static struct node_sent **find_mid(struct node *n, const struct flow *flow, uint16_t mid)
{
    struct node_sent **at = &n->sent;

    while (*at && ((*at)->mid != mid || !flow_equal(&(*at)->flow, flow)))
        at = &(*at)->next;
    return at;
}

static void end(struct node *n, struct node_sent **at, enum node_end how)
{
    struct node_sent *sent = *at;

    *at = sent->next;
    if (n->handler->ended)
        n->handler->ended(n, &sent->flow, sent->cookie, how);
    free(sent);
}

static void on_timer(struct stage *s, void *who, uint64_t id)
{
    struct node *n = who;
    struct node_sent **at = find_id(n, id), *sent = *at;

    if (!sent)
        return;
    if (sent->sends > MAX_RETRANSMIT) {
        end(n, at, NODE_GAVE_UP);
        return;
    }
    sent->sends++;
    sent->timeout *= 2;
    transmit(n, &sent->flow, sent->data, sent->length);
    stage_at(s, s->now + sent->timeout, on_timer, n, id);
}

void node_send(struct node *n, const struct flow *flow, const uint8_t *data, size_t length,
               uint64_t cookie)
{
    struct node_sent *sent;

    if (n->down)
        return;
    transmit(n, flow, data, length);
    if ((data[0] >> 4 & 3) != TYPE_CON)
        return;
    sent = malloc(sizeof(*sent) + length);
    *sent = (struct node_sent){.next = n->sent,
                               .id = ++n->next_id,
                               .cookie = cookie,
                               .timeout = 2 * SECOND + stage_below(n->stage, SECOND),
                               .flow = *flow,
                               .mid = (uint16_t)(data[2] << 8 | data[3]),
                               .length = (uint16_t)length,
                               .sends = 1};
    memcpy(sent->data, data, length);
    n->sent = sent;
    stage_at(n->stage, n->stage->now + sent->timeout, on_timer, n, sent->id);
}

static void on_later(struct stage *s, void *who, uint64_t id)
{
    struct node *n = who;
    struct node_later **at = &n->later, *later;

    (void)s;
    while ((*at)->id != id)
        at = &(*at)->next;
    later = *at;
    *at = later->next;
    node_send(n, &later->flow, later->data, later->length, later->cookie);
    free(later);
}

void node_send_later(struct node *n, uint64_t pause_us, const struct flow *flow,
                     const uint8_t *data, size_t length, uint64_t cookie)
{
    struct node_later *later = malloc(sizeof(*later) + length);

    *later = (struct node_later){n->later, ++n->next_id, cookie, *flow, length};
    memcpy(later->data, data, length);
    n->later = later;
    stage_at(n->stage, n->stage->now + pause_us, on_later, n, later->id);
}

void node_respond(struct node *n, const struct flow *flow, const struct message *request,
                  const struct response *r, uint64_t slow_us)
{
    bool con = request->type == TYPE_CON, apart = slow_us && stage_below(n->stage, 3) == 0;
    uint8_t type = !con ? TYPE_NON : apart ? TYPE_CON : TYPE_ACK;
    uint16_t mid = type == TYPE_ACK ? request->mid : node_mid(n);
    uint8_t bytes[MESSAGE_BYTES];
    size_t length;

    if (apart && con && stage_below(n->stage, 4) == 0)
        type = TYPE_NON; /* RFC 7252 5.2.2: either will do */
    length =
        response_write(r, bytes, sizeof(bytes), type, mid, request->token, request->token_length);
    if (!apart) {
        node_answer(n, flow, request->mid, bytes, length);
        return;
    }
    if (con)
        node_answer_empty(n, flow, request->mid);
    node_send_later(n, stage_below(n->stage, (uint32_t)slow_us), flow, bytes, length, 0);
}

void node_stop(struct node *n, uint64_t cookie)
{
    for (struct node_sent **at = &n->sent; *at;) {
        struct node_sent *sent = *at;

        if (sent->cookie != cookie) {
            at = &sent->next;
            continue;
        }
        *at = sent->next;
        free(sent);
    }
}

void node_crash(struct node *n, bool icmp)
{
    n->down = true;
    n->icmp = icmp;
    while (n->sent) {
        struct node_sent *sent = n->sent;

        n->sent = sent->next;
        free(sent);
    }
}

/* ---- what has been heard ---- */

static struct node_heard *recall(struct node *n, const struct flow *flow, uint16_t mid)
{
    for (struct node_heard *h = n->heard[mid % HEARD_BUCKETS]; h; h = h->next)
        if (h->mid == mid && n->stage->now - h->at < LIFETIME && flow_equal(&h->flow, flow))
            return h;
    return NULL;
}

static void remember(struct node *n, const struct flow *flow, uint16_t mid)
{
    struct node_heard *h = calloc(1, sizeof(*h));

    h->flow = *flow;
    h->mid = mid;
    h->at = n->stage->now;
    h->next = n->heard[mid % HEARD_BUCKETS];
    n->heard[mid % HEARD_BUCKETS] = h;
}

void node_answer(struct node *n, const struct flow *flow, uint16_t request_mid, const uint8_t *data,
                 size_t length)
{
    struct node_heard *h = recall(n, flow, request_mid);

    if (!h || n->down)
        return;
    free(h->answer);
    h->answer = malloc(length);
    memcpy(h->answer, data, length);
    h->length = (uint16_t)length;
    transmit(n, flow, data, length);
}

void node_answer_empty(struct node *n, const struct flow *flow, uint16_t request_mid)
{
    uint8_t ack[MESSAGE_HEADER_BYTES];

    message_write_empty(ack, TYPE_ACK, request_mid);
    node_answer(n, flow, request_mid, ack, sizeof(ack));
}

/* ---- receiving ---- */

static void reject(struct node *n, const struct flow *flow, uint16_t mid)
{
    uint8_t rst[MESSAGE_HEADER_BYTES];

    message_write_empty(rst, TYPE_RST, mid);
    node_answer(n, flow, mid, rst, sizeof(rst));
}

static void receive_empty(struct node *n, const struct flow *flow, const struct message *m)
{
    struct node_sent **at = find_mid(n, flow, m->mid);

    if (m->type == TYPE_CON) { /* a ping */
        if (!recall(n, flow, m->mid))
            remember(n, flow, m->mid);
        reject(n, flow, m->mid);
    } else if (*at) {
        end(n, at, m->type == TYPE_RST ? NODE_RESET : NODE_ACKED);
    } else if (m->type == TYPE_RST && n->handler->reset) {
        n->handler->reset(n, flow, m->mid);
    }
}

/* CON and NON: the peer's message ID. */
static void receive_new(struct node *n, const struct flow *flow, const struct message *m)
{
    struct node_heard *h = recall(n, flow, m->mid);
    bool taken;

    if (h) {
        if (h->length)
            transmit(n, flow, h->answer, h->length);
        return;
    }
    remember(n, flow, m->mid);
    if (code_is_request(m->code)) {
        n->handler->request(n, flow, m);
        return;
    }
    taken = n->handler->response && n->handler->response(n, flow, m);
    if (!taken)
        reject(n, flow, m->mid);
    else if (m->type == TYPE_CON)
        node_answer_empty(n, flow, m->mid);
}

static void receive_piggybacked(struct node *n, const struct flow *flow, const struct message *m)
{
    struct node_sent **at = find_mid(n, flow, m->mid);

    if (!*at)
        return; /* another copy, or the request was given up */
    end(n, at, NODE_ACKED);
    if (n->handler->response)
        n->handler->response(n, flow, m);
}

void node_receive(struct node *n, const struct flow *flow, const uint8_t *data, size_t length)
{
    struct message m;

    if (n->down) {
        if (n->icmp)
            stage_icmp(n->stage, flow, data, length < 60 ? length : 60);
        return;
    }
    if (message_parse(data, length, &m) != VERDICT_OK)
        return; /* watch.c has complained */
    if (m.code == CODE_EMPTY)
        receive_empty(n, flow, &m);
    else if (m.type == TYPE_ACK)
        receive_piggybacked(n, flow, &m);
    else if (m.type != TYPE_RST)
        receive_new(n, flow, &m);
}
