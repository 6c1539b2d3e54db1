/* Records of observe relations: the registration as it came, for the store and for modules. */
#include "gateway/proxy/proxy.h"
#include "gateway/serve/module.h"
#include "gateway/store/store.h"

/* The registration as it came: one that the forward proxy has taken apart would not find its way
 * again. */
struct rope persist_record(struct proxy *p, const struct request *rq)
{
    const struct message *msg = rq->original ? rq->original : rq->message;
    const struct session *s = rq->session;
    const struct local_address *local = &p->m->config->locals[s->flow.local];
    struct store_relation head = {
        .listen = {local->address, s->flow.local_port},
        .peer = {s->flow.peer, s->flow.peer_port},
        .transport = s->flow.transport,
        .created_us = rq->resumed ? rq->created_us : p->m->now,
    };
    uint8_t packet[MESSAGE_MAX_BYTES];
    struct encoder e;
    struct rope rope = ROPE_EMPTY;

    if (!p->persist.enabled && !module_wants(p->modules, COAPGW_RELATION_ADDED))
        return rope;
    encoder_begin(&e, packet, sizeof(packet), TYPE_CON, msg->code, msg->mid, msg->token,
                  msg->token_length);
    encoder_raw(&e, msg->options, msg->options_length);
    encoder_payload(&e, msg->payload, msg->payload_length);
    head.packet_length = (uint32_t)encoder_end(&e);
    if (head.packet_length && rope_append(&p->persist.records, &rope, &head, sizeof(head)) &&
        rope_append(&p->persist.records, &rope, packet, head.packet_length))
        return rope;
    rope_free(&p->persist.records, &rope);
    return rope;
}

void persist_drop_record(struct proxy *p, struct rope *record)
{
    if (record->length)
        rope_free(&p->persist.records, record);
}

/* Modules may keep relations in their own way. */
static void tell_modules(struct proxy *p, const struct relation *r, const struct rope *record)
{
    const struct session *s = session_at(&p->m->sessions, r->session);
    uint8_t buffer[MESSAGE_MAX_BYTES], packet[MESSAGE_MAX_BYTES];
    uint32_t head = sizeof(struct store_relation);
    uint32_t length = record->length > head ? record->length - head : 0;

    if (length)
        rope_read(&p->persist.records, record, NULL, head, packet, length);
    module_on_relation(p->modules, COAPGW_RELATION_ADDED, s, relation_token(p, r, buffer),
                       r->token_length, packet, length);
}

/* What a client may say anew each time without asking for anything else. */
static bool is_passing(uint16_t number)
{
    return number == OPTION_ETAG || number == OPTION_ECHO || number == OPTION_REQUEST_TAG;
}

static bool next_lasting(struct option_cursor *cursor, struct option_view *view)
{
    while (option_next(cursor, view))
        if (!is_passing(cursor->number))
            return true;
    return false;
}

static bool read_packet(const struct proxy *p, const struct rope *record, struct message *msg,
                        uint8_t packet[MESSAGE_MAX_BYTES])
{
    const uint32_t head = sizeof(struct store_relation), length = record->length - head;

    rope_read(&p->persist.records, record, NULL, head, packet, length);
    return message_parse(packet, length, msg) == VERDICT_OK;
}

/* True when two records of one relation ask for the same. */
static bool asks_the_same(const struct proxy *p, const struct rope *one, const struct rope *other)
{
    uint8_t packets[2][MESSAGE_MAX_BYTES];
    struct option_view a, b;
    struct message x, y;

    if (!read_packet(p, one, &x, packets[0]) || !read_packet(p, other, &y, packets[1]) ||
        x.code != y.code || x.payload_length != y.payload_length ||
        (x.payload_length && memcmp(x.payload, y.payload, x.payload_length) != 0))
        return false;
    for (struct option_cursor i = option_cursor(&x), j = option_cursor(&y);;) {
        bool more = next_lasting(&i, &a);

        if (more != next_lasting(&j, &b))
            return false;
        if (!more)
            return true;
        if (i.number != j.number || a.length != b.length || memcmp(a.value, b.value, a.length) != 0)
            return false;
    }
}

void persist_attach(struct proxy *p, struct relation *r, struct rope record)
{
    if (module_wants(p->modules, COAPGW_RELATION_ADDED))
        tell_modules(p, r, &record);
    if (!p->persist.enabled) {
        persist_drop_record(p, &record);
        return;
    }
    if (record.length == 0 ||
        (r->kept == KEPT && r->record.length && asks_the_same(p, &r->record, &record))) {
        persist_drop_record(p, &record);
        return;
    }
    persist_drop_record(p, &r->record);
    r->record = record;
    r->kept = KEPT_NOT;
}

bool persist_tell(struct proxy *p, unsigned type, uint64_t cookie, const struct rope *record)
{
    const struct worker_io *io = &p->m->io;
    struct store_head head = {.cookie = cookie, .what = STORE_RELATION};
    struct rope_cursor cursor = ROPE_START;
    struct parcel *parcel = parcel_new(io->parcels, PARCEL_RECORD, (uint16_t)type,
                                       (uint32_t)sizeof(head) + record->length);
    uint8_t bytes[PARCEL_DATA_BYTES];

    if (!parcel)
        return false;
    (void)parcel_write(parcel, 0, &head, sizeof(head));
    for (uint32_t at = 0; at < record->length;) {
        uint32_t n = record->length - at < sizeof(bytes) ? record->length - at : sizeof(bytes);

        rope_read(&p->persist.records, record, &cursor, at, bytes, n);
        (void)parcel_write(parcel, (uint32_t)sizeof(head) + at, bytes, n);
        at += n;
    }
    if (io->tell(io->context, PARCEL_STORE, parcel))
        return true;
    parcel_free(io->parcels, parcel);
    return false;
}
