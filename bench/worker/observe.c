/* Fan-out: all clients observe one resource, and the origin notifies. */
#include "bench/worker/load.h"

#include <string.h>

#define TURN_NS       13000              /* between two turns of a busy worker */
#define STATE_NS      UINT64_C(10000000) /* between two states */
#define TURNS_MAX     100000             /* until all must have been told */
#define STATE_PAYLOAD 64
#define CONFIRM_EVERY 5 /* as configured */
#define STEPPED_TURN  2 /* of a state; the ones before it do more than notify */
#define ACKS_MAX      LOAD_WINDOW_MAX

static struct {
    unsigned count;
    struct flow flows[ACKS_MAX];
    uint16_t mids[ACKS_MAX];
} acks;

/* Notifications, and the answers to registrations. */
void observe_sink(const struct flow *flow, const uint8_t *data, uint16_t length)
{
    uint32_t token;

    (void)length;
    memcpy(&token, data + MESSAGE_HEADER_BYTES, sizeof(token));
    load.answers++;
    load.wrong += data[1] != load.expected;
    load.sums += token;
    if ((data[0] >> 4 & 3) == TYPE_CON && acks.count < ACKS_MAX) {
        acks.flows[acks.count] = *flow;
        acks.mids[acks.count++] = harness_mid(data);
    }
}

/* The first one alone: whom others join is answered over several turns. */
bool observe_register(void)
{
    if (!load_window(1))
        return false;
    for (unsigned left = load.o.sessions - 1; left;) {
        unsigned n = left < load.o.window ? left : load.o.window;

        if (!load_window(n))
            return false;
        left -= n;
    }
    return true;
}

static void prepare_acks(void)
{
    for (unsigned i = 0; i < acks.count; i++) {
        message_write_empty(load.packets[i].data, TYPE_ACK, acks.mids[i]);
        load.in[i] = (struct datagram){
            .data = load.packets[i].data, .length = MESSAGE_HEADER_BYTES, .flow = acks.flows[i]};
    }
}

/* Acknowledgements of what the turn before has sent, all of them, and then the next ones are told.
 */
static void turn(void)
{
    unsigned n = acks.count;

    prepare_acks();
    acks.count = 0;
    load.now_ns += TURN_NS;
    load_measure();
    for (unsigned i = 0; i < n; i += load.o.burst)
        worker_receive(load.worker, load.in + i, n - i < load.o.burst ? n - i : load.o.burst,
                       load.now_ns / 1000);
    worker_advance(load.worker, load.now_ns / 1000);
    load_measured();
}

static void notify(void)
{
    uint8_t payload[STATE_PAYLOAD];
    struct encoder e;
    const struct load_packet *from = &load.state;

    memset(payload, 'a' + (int)(load.number % 26), sizeof(payload));
    encoder_begin(&e, load.packets[0].data, LOAD_PACKET, TYPE_NON, CODE_CONTENT,
                  (uint16_t)load.number, from->data + MESSAGE_HEADER_BYTES, from->data[0] & 15);
    encoder_uint(&e, OPTION_OBSERVE, ++load.number);
    encoder_uint(&e, OPTION_CONTENT_FORMAT, 0);
    encoder_uint(&e, OPTION_MAX_AGE, 86400);
    encoder_payload(&e, payload, sizeof(payload));
    load.in[0] = (struct datagram){
        .data = load.packets[0].data, .length = (uint16_t)encoder_end(&e), .flow = from->flow};
    load_measure();
    load_turns(1);
    load_measured();
}

/* Tells one state to all. Of `stepping`, one turn is, with what is acknowledged in it: the number
 * of its notifications is given then. */
static uint64_t tell_all(bool stepping)
{
    uint64_t stepped = 0;

    load.answers = load.wrong = 0;
    load.sums = 0;
    load.ids = (uint64_t)load.o.sessions * (load.o.sessions - 1) / 2; /* tokens: 0, 1, 2... */
    load.now_ns += STATE_NS;
    notify();
    for (unsigned i = 1; i <= TURNS_MAX && (load.answers < load.o.sessions || acks.count); i++) {
        unsigned before = load.answers;

        load.stepping = stepping && i == STEPPED_TURN;
        turn();
        if (load.stepping)
            stepped = load.answers - before;
        load.stepping = false;
    }
    if (load.answers != load.o.sessions || load.wrong || load.sums != load.ids) {
        load_fail("notifications", load.o.sessions);
        return 0;
    }
    return stepping ? stepped : load.answers;
}

/* One of CONFIRM_EVERY states is confirmable, for all of them together. */
uint64_t observe_states(void)
{
    bool stepping = load.stepping;
    uint64_t sum = 0;

    load.stepping = false;
    for (unsigned i = 0; i < CONFIRM_EVERY; i++) {
        uint64_t n = tell_all(stepping);

        if (n == 0)
            return 0;
        sum += n;
    }
    load.stepping = stepping;
    return sum;
}
