/* Sessions as modules know them, and what happens in a worker that they are told of. */
#include <string.h>

#include "gateway/serve/module_parts.h"

/* Observe numbers follow the clock, 61 a second: a minute of them at a time. */
#define NUMBERS_AHEAD  4096
#define NUMBERS_MARGIN 1024

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
    instance->host->telling = true;
    instance->module->event(instance->state, event);
    instance->host->telling = false;
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
    if (what == SESSION_OPENED) /* its place may have been asked for after the last one's end */
        forget(host, session_index(&host->m->sessions, s));
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

/* Modules hear of a number before it is used, and so not of each. */
void module_on_number(struct module_host *host, uint64_t number)
{
    struct coapgw_event event = make(COAPGW_COUNTER);

    if (!module_wants(host, COAPGW_COUNTER) || number + NUMBERS_MARGIN < host->number_told)
        return;
    event.number = host->number_told = number + NUMBERS_AHEAD;
    tell_all(host, &event);
}

/* Content-Format among encoded options; -1: none. */
static int32_t format_of(const uint8_t *options, uint16_t length)
{
    struct option_cursor cursor = {.at = options, .end = options + length};
    struct option_view view;
    int32_t format = 0;

    while (option_next(&cursor, &view)) {
        if (cursor.number != OPTION_CONTENT_FORMAT)
            continue;
        for (unsigned i = 0; i < view.length; i++)
            format = format << 8 | view.value[i];
        return format;
    }
    return -1;
}

void module_on_resource(struct module_host *host, const void *name, uint32_t name_length,
                        uint32_t content, uint64_t version)
{
    struct coapgw_event event =
        make(content == CONTENT_NONE ? COAPGW_RESOURCE_DELETED : COAPGW_RESOURCE_ADDED);

    if (!module_wants(host, event.kind))
        return;
    event.name = (struct coapgw_bytes){name, name_length};
    event.number = version;
    if (content != CONTENT_NONE) {
        const struct contents *contents = &host->proxy->contents;
        const struct content *c = content_at(contents, content);

        rope_read(&contents->chunks, &c->rope, NULL, 0, host->body, c->rope.length);
        event.format = format_of(host->body, c->options_length);
        event.data = (struct coapgw_bytes){host->body + c->options_length, c->payload_length};
    }
    tell_all(host, &event);
}
