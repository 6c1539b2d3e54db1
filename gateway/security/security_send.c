/* The way out: the worker's emitter, with records in it. */
#include <string.h>

#include "gateway/security/security_parts.h"

/* ---- records ---- */

static void mark_of(const struct association *a, uint8_t type, struct record_mark *mark)
{
    *mark = (struct record_mark){.type = type,
                                 .epoch = ASSOCIATION_EPOCH,
                                 .sequence = a->sequence,
                                 .cid = a->cid,
                                 .cid_length = a->cid_length};
}

/* Makes a record of what lies behind the room for its head. Its length; negative: it is not to be
 * sent. The sequence is used up in any case, as OpenSSL may have used it. */
static int seal(struct security *s, struct association *a, uint8_t type, uint8_t *record,
                size_t length)
{
    struct record_mark mark;

    mark_of(a, type, &mark);
    a->sequence++;
    return record_seal(s->aead, association_slot(&s->associations, a, true), &a->write, &mark,
                       record, length);
}

bool security_send_raw(struct security *s, const struct flow *wire, const uint8_t *bytes,
                       size_t length)
{
    const struct worker_io *io = &s->setup.io;
    struct outgoing out;

    if (!io->alloc(io->context, wire, &out))
        return false;
    if (length > out.room) {
        io->cancel(io->context, &out);
        return false;
    }
    memcpy(out.data, bytes, length);
    io->send(io->context, wire, &out, (uint16_t)length);
    return true;
}

void security_send_alert(struct security *s, struct association *a, enum alert_level level,
                         enum alert alert)
{
    const struct worker_io *io = &s->setup.io;
    unsigned lead = record_lead((enum suite)a->suite, a->cid_length);
    struct outgoing out;
    int length;

    if (a->sequence >= a->limit + SECURITY_ALERTS_LEFT || !io->alloc(io->context, &a->wire, &out))
        return;
    out.data[lead] = (uint8_t)level;
    out.data[lead + 1] = (uint8_t)alert;
    length = seal(s, a, RECORD_ALERT, out.data, 2);
    if (length < 0) {
        io->cancel(io->context, &out);
        return;
    }
    s->setup.counters->dtls_alerts_out++;
    io->send(io->context, &a->wire, &out, (uint16_t)length);
}

/* ---- the emitter ---- */

static bool io_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    struct security *s = context;
    const struct worker_io *io = &s->setup.io;
    const struct association *a;
    unsigned lead;

    if (flow->transport != TRANSPORT_DTLS)
        return io->alloc(io->context, flow, out);
    a = security_lookup(s, flow);
    if (!a || !io->alloc(io->context, &a->wire, out))
        return false;
    lead = record_lead((enum suite)a->suite, a->cid_length);
    out->data += lead;
    out->room -= (uint16_t)(lead + record_trail((enum suite)a->suite, a->cid_length));
    return true;
}

static void io_cancel(void *context, struct outgoing *out)
{
    struct security *s = context;

    s->setup.io.cancel(s->setup.io.context, out);
}

/* A key has had its day, or the store has not confirmed yet that the next sequences are ours. */
static void refuse(struct security *s, struct association *a, struct outgoing *out)
{
    s->setup.counters->drop_dtls_limit++;
    s->setup.io.cancel(s->setup.io.context, out);
    security_keep_due(s, a);
    if (a->limit == security_last_sequence(a) || security_keep_is_stalled(s, a))
        wheel_arm(s->setup.wheel, &a->idle, s->now); /* it ends, but not within this call */
}

static void io_send(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    struct security *s = context;
    const struct worker_io *io = &s->setup.io;
    struct association *a;
    int sealed;

    if (flow->transport != TRANSPORT_DTLS) {
        io->send(io->context, flow, out, length);
        return;
    }
    a = security_lookup(s, flow);
    if (!a) {
        io->cancel(io->context, out);
        return;
    }
    if (a->sequence >= a->limit) {
        refuse(s, a, out);
        return;
    }
    out->data -= record_lead((enum suite)a->suite, a->cid_length);
    out->summed = false;
    sealed = seal(s, a, RECORD_APPLICATION_DATA, out->data, length);
    if (sealed < 0) {
        s->setup.counters->drop_dtls_limit++;
        io->cancel(io->context, out);
        return;
    }
    s->setup.counters->dtls_records_out++;
    io->send(io->context, &a->wire, out, (uint16_t)sealed);
    if (__builtin_expect(a->sequence + KEEP_STEP / 2 >= a->limit, 0))
        security_keep_due(s, a);
}

/* ---- what is passed on as it is ---- */

static uint16_t io_upstream_port(void *context, uint16_t local, const struct endpoint *server,
                                 unsigned n)
{
    const struct worker_io *io = &((struct security *)context)->setup.io;

    return io->upstream_port(io->context, local, server, n);
}

static bool io_resolve(void *context, const char *name, size_t length, uint32_t id)
{
    const struct worker_io *io = &((struct security *)context)->setup.io;

    return io->resolve(io->context, name, length, id);
}

static void io_changed(void *context, uint64_t uri)
{
    const struct worker_io *io = &((struct security *)context)->setup.io;

    io->changed(io->context, uri);
}

static bool io_tell(void *context, unsigned to, struct parcel *parcel)
{
    const struct worker_io *io = &((struct security *)context)->setup.io;

    return io->tell(io->context, to, parcel);
}

static unsigned io_room(void *context, unsigned to)
{
    const struct worker_io *io = &((struct security *)context)->setup.io;

    return io->room(io->context, to);
}

struct worker_io security_io(struct security *s)
{
    const struct worker_io *io = &s->setup.io;

    return (struct worker_io){.context = s,
                              .alloc = io_alloc,
                              .send = io_send,
                              .cancel = io_cancel,
                              .upstream_port = io->upstream_port ? io_upstream_port : NULL,
                              .resolve = io->resolve ? io_resolve : NULL,
                              .changed = io->changed ? io_changed : NULL,
                              .tell = io->tell ? io_tell : NULL,
                              .room = io->room ? io_room : NULL,
                              .parcels = io->parcels};
}
