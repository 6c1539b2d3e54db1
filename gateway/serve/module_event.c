/* Sessions as modules know them, and what happens in a worker that they are told of. */
#include <string.h>

#include "gateway/serve/module_parts.h"

struct session *module_session(const struct module_host *host, coapgw_session handle)
{
    uint32_t place;

    return handle_find(&host->sessions, handle, &place) ? session_at(&host->m->sessions, place)
                                                        : NULL;
}

bool module_wants(const struct module_host *host, enum coapgw_event_kind kind)
{
    return host && host->events & COAPGW_EVENT(kind);
}

static void tell(struct coapgw_instance *instance, const struct coapgw_event *event)
{
    uint64_t begun;

    if (!(instance->module->events & COAPGW_EVENT(event->kind)))
        return;
    begun = module_enter();
    instance->module->event(instance->state, event);
    module_leave(instance, begun);
}

static void tell_all(struct module_host *host, const struct coapgw_event *event)
{
    for (unsigned i = 0; i < host->instance_count; i++)
        tell(&host->instances[i], event);
}

static struct coapgw_event make(enum coapgw_event_kind kind)
{
    return (struct coapgw_event){.size = sizeof(struct coapgw_event), .kind = kind, .format = -1};
}

static coapgw_session handle_for(struct module_host *host, const struct session *s)
{
    return s ? handle_of(&host->sessions, session_index(&host->m->sessions, s)) : 0;
}

/* ---- sessions ---- */

static void forget(struct module_host *host, uint32_t place)
{
    handle_close(&host->sessions, place);
    for (unsigned i = 0; i < host->instance_count; i++)
        if (host->instances[i].session_data[place])
            host->instances[i].session_data[place] = NULL;
}

void module_on_session(struct module_host *host, const struct session *s, enum session_event what,
                       uint16_t mid)
{
    static const struct {
        uint8_t kind, reason;
    } events[] = {
        [SESSION_OPENED] = {COAPGW_SESSION_OPENED, 0},
        [SESSION_CLOSED] = {COAPGW_SESSION_CLOSED, 0},
        [SESSION_PINGED] = {COAPGW_PING, 0},
        [SESSION_PONG] = {COAPGW_PONG, 0},
        [SESSION_KEEPALIVE_FAILED] = {COAPGW_KEEPALIVE_FAILED, 0},
        [SESSION_NACK_TIMED_OUT] = {COAPGW_NACK, COAPGW_NACK_TIMEOUT},
        [SESSION_NACK_RESET] = {COAPGW_NACK, COAPGW_NACK_RESET},
        [SESSION_NACK_UNREACHABLE] = {COAPGW_NACK, COAPGW_NACK_UNREACHABLE},
        [SESSION_NACK_MALFORMED] = {COAPGW_NACK, COAPGW_NACK_MALFORMED},
    };
    struct coapgw_event event = make(events[what].kind);

    if (!host || s->role != SESSION_CLIENT)
        return;
    if (module_wants(host, events[what].kind)) {
        event.session = handle_for(host, s);
        event.reason = events[what].reason;
        event.mid = mid;
        tell_all(host, &event);
    }
    if (what == SESSION_CLOSED)
        forget(host, session_index(&host->m->sessions, s));
}

void module_close_sessions(struct coapgw_instance *instance)
{
    struct module_host *host = instance->host;
    struct coapgw_event event = make(COAPGW_SESSION_CLOSED);

    for (uint32_t place = 0; place < host->sessions.count; place++) {
        if (!instance->session_data[place])
            continue;
        event.session = handle_of(&host->sessions, place);
        tell(instance, &event);
        instance->session_data[place] = NULL;
    }
}

/* ---- what may be kept ---- */

void module_on_relation(struct module_host *host, enum coapgw_event_kind kind,
                        const struct session *s, const void *token, uint32_t token_length,
                        const void *record, uint32_t length)
{
    struct coapgw_event event = make(kind);

    if (!module_wants(host, kind))
        return;
    event.session = handle_for(host, s);
    event.name = (struct coapgw_bytes){token, token_length};
    event.data = (struct coapgw_bytes){record, length};
    tell_all(host, &event);
}

void module_on_counter(struct module_host *host, uint64_t number)
{
    struct coapgw_event event = make(COAPGW_COUNTER);

    if (!module_wants(host, COAPGW_COUNTER))
        return;
    event.number = number;
    tell_all(host, &event);
}

void module_on_resource(struct module_host *host, enum coapgw_event_kind kind, const void *name,
                        uint32_t name_length, const void *payload, uint32_t length, int32_t format,
                        uint64_t version)
{
    struct coapgw_event event = make(kind);

    if (!module_wants(host, kind))
        return;
    event.name = (struct coapgw_bytes){name, name_length};
    event.data = (struct coapgw_bytes){payload, length};
    event.format = format;
    event.number = version;
    tell_all(host, &event);
}
