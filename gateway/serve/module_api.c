/* What modules call. Nothing that they give is trusted: handles are looked up, numbers checked, and
 * what belongs to a call of handle() is refused outside of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/serve/module_parts.h"

#define LOG_WINDOW_US 1000000u

/* ---- requests ---- */

/* The call that a request belongs to, NULL when it is over. */
static struct call *call_of(const struct coapgw_request *request)
{
    struct call *call = (struct call *)(uintptr_t)request;

    return call && call->active ? call : NULL;
}

static int api_option(const struct coapgw_request *request, uint16_t number, unsigned nth,
                      struct coapgw_bytes *value)
{
    const struct call *call = call_of(request);
    struct option_cursor cursor;
    struct option_view view;

    if (!call)
        return -EINVAL;
    cursor =
        (struct option_cursor){.at = call->options, .end = call->options + call->options_length};
    while (option_next(&cursor, &view) && cursor.number <= number) {
        if (cursor.number != number || nth--)
            continue;
        *value = (struct coapgw_bytes){view.value, view.length};
        return 0;
    }
    return -ENOENT;
}

static int64_t api_option_uint(const struct coapgw_request *request, uint16_t number)
{
    struct coapgw_bytes bytes;
    uint32_t value = 0;

    if (api_option(request, number, 0, &bytes) < 0 || bytes.length > sizeof(value))
        return -1;
    for (size_t i = 0; i < bytes.length; i++)
        value = value << 8 | bytes.data[i];
    return value;
}

/* ---- answers ---- */

static bool is_open(const struct coapgw_response *response)
{
    const struct call *call;

    if (!response)
        return false;
    call = (const struct call *)(const void *)((const uint8_t *)response -
                                               offsetof(struct call, response));
    return call->active;
}

static int api_code(struct coapgw_response *response, uint8_t code)
{
    if (!is_open(response) || !code_is_response(code) || code == CODE_VALID ||
        code == CODE_CONTINUE)
        return -EINVAL;
    response->code = code;
    return 0;
}

/* Options that the gateway makes, or that no answer has. */
static bool is_own(uint16_t number)
{
    switch (number) {
    case 0:
    case OPTION_OBSERVE:
    case OPTION_OSCORE:
    case OPTION_Q_BLOCK1:
    case OPTION_BLOCK2:
    case OPTION_BLOCK1:
    case OPTION_SIZE2:
    case OPTION_Q_BLOCK2:
    case OPTION_SIZE1:
    case OPTION_ECHO:
        return true;
    default:
        return false;
    }
}

static bool is_in_range(uint16_t number, size_t length)
{
    enum option_slot slot = option_slot(number);

    if (slot == SLOT_UNKNOWN)
        return length <= COAPGW_OPTION_BYTES_MAX;
    return length >= option_table[slot].min_length && length <= option_table[slot].max_length;
}

static int put_option(struct coapgw_response *r, uint16_t number, const void *value, size_t length)
{
    struct response_option *option;

    if (r->option_count == RESPONSE_OPTIONS || sizeof(r->bytes) - r->bytes_used < length) {
        r->failed = true;
        return -ENOSPC;
    }
    option = &r->options[r->option_count++];
    *option = (struct response_option){number, (uint16_t)length, (uint16_t)r->bytes_used};
    if (length)
        memcpy(r->bytes + r->bytes_used, value, length);
    r->bytes_used += (uint32_t)length;
    return 0;
}

static int api_add_option(struct coapgw_response *response, uint16_t number, const void *value,
                          size_t length)
{
    uint32_t number_value = 0;

    if (!is_open(response) || is_own(number) || !is_in_range(number, length) || (length && !value))
        return -EINVAL;
    for (size_t i = 0; i < length && i < sizeof(number_value); i++)
        number_value = number_value << 8 | ((const uint8_t *)value)[i];
    switch (number) {
    case OPTION_CONTENT_FORMAT:
        response->format = (int32_t)number_value;
        return 0;
    case OPTION_MAX_AGE:
        response->max_age_s = number_value;
        return 0;
    case OPTION_ETAG:
        response->etag.length = (uint8_t)length;
        memcpy(response->etag.bytes, value, length);
        return 0;
    default:
        return put_option(response, number, value, length);
    }
}

static int api_add_uint(struct coapgw_response *response, uint16_t number, uint32_t value)
{
    struct addition bytes = addition_uint(number, value);

    return api_add_option(response, number, bytes.small, bytes.length);
}

static int api_write(struct coapgw_response *response, const void *data, size_t length)
{
    if (!is_open(response) || (length && !data))
        return -EINVAL;
    if (response->room - response->length < length) {
        response->failed = true;
        return -EMSGSIZE;
    }
    if (length)
        memcpy(response->payload + response->length, data, length);
    response->length += (uint32_t)length;
    return 0;
}

static void api_observable(struct coapgw_response *response)
{
    if (is_open(response))
        response->observable = true;
}

static int api_notify(struct coapgw_instance *instance, const struct coapgw_bytes *path,
                      size_t count)
{
    return instance ? watch_notify(instance, path, count) : -EINVAL;
}

/* ---- timers ---- */

static int api_timer_start(struct coapgw_instance *instance, uint32_t delay_ms, uint64_t argument,
                           coapgw_timer *out)
{
    struct module_host *host;
    struct module_timer *t;
    uint64_t handle;

    if (!instance || !instance->module->timer || delay_ms > COAPGW_DELAY_MS_MAX)
        return -EINVAL;
    host = instance->host;
    t = instance->timers < COAPGW_TIMERS_MAX ? pool_get(&host->timers) : NULL;
    if (!t)
        return -ENOSPC;
    instance->timers++;
    timer_init(&t->timer, TIMER_MODULE);
    t->instance = instance->number;
    t->argument = argument;
    wheel_arm(&host->m->wheel, &t->timer, host->m->now + delay_ms * UINT64_C(1000));
    handle = handle_of(&host->timer_handles, pool_index(&host->timers, t));
    if (out)
        *out = handle;
    return 0;
}

static int api_timer_cancel(struct coapgw_instance *instance, coapgw_timer timer)
{
    struct module_host *host = instance ? instance->host : NULL;
    struct module_timer *t;
    uint32_t place;

    if (!host || !handle_find(&host->timer_handles, timer, &place))
        return -ENOENT;
    t = pool_at(&host->timers, place);
    if (t->instance != instance->number)
        return -ENOENT;
    wheel_cancel(&host->m->wheel, &t->timer);
    handle_close(&host->timer_handles, place);
    pool_put(&host->timers, t);
    instance->timers--;
    return 0;
}

/* ---- asynchronous requests ---- */

static int refuse_async(struct module_host *host, int err)
{
    host->m->counters->refused_asyncs++;
    return err;
}

static int api_async_register(const struct coapgw_request *request, uint32_t delay_ms,
                              coapgw_async *out)
{
    struct call *call = call_of(request);
    struct module_host *host;
    struct async *async;
    uint32_t session;
    int err;

    if (!call || request->pass != COAPGW_PASS_REQUEST || request->resumed ||
        delay_ms > COAPGW_DELAY_MS_MAX)
        return -EINVAL;
    host = call->instance->host;
    if (!handle_find(&host->sessions, request->session, &session))
        return -EINVAL;
    err = async_register(&host->asyncs, session, request->token.data,
                         (uint32_t)request->token.length, &async);
    if (err)
        return err == -EEXIST ? err : refuse_async(host, err);
    if (!kept_make(host, call, true, &async->request)) {
        async_free(&host->asyncs, async);
        return refuse_async(host, -ENOMEM);
    }
    async->owner = call->instance->number;
    async->observe = request->observe;
    async_set_delay(&host->asyncs, async, host->m->now, delay_ms * UINT64_C(1000));
    call->registered = async;
    if (out)
        *out = async_handle(&host->asyncs, async);
    return 0;
}

/* NULL when it has gone, or is another instance's. */
static struct async *async_of(const struct coapgw_instance *instance, coapgw_async handle)
{
    struct async *async = instance ? async_at(&instance->host->asyncs, handle) : NULL;

    return async && !async->freed && async->owner == instance->number ? async : NULL;
}

static void note_again(struct module_host *host, const struct async *async)
{
    if (host->call.active && host->call.due == async)
        host->call.again = true;
}

static int api_async_set_delay(struct coapgw_instance *instance, coapgw_async handle,
                               uint32_t delay_ms)
{
    struct async *async = async_of(instance, handle);

    if (!async)
        return -ENOENT;
    if (delay_ms > COAPGW_DELAY_MS_MAX)
        return -EINVAL;
    note_again(instance->host, async);
    async_set_delay(&instance->host->asyncs, async, instance->host->m->now,
                    delay_ms * UINT64_C(1000));
    return 0;
}

static int api_async_trigger(struct coapgw_instance *instance, coapgw_async handle)
{
    struct async *async = async_of(instance, handle);

    if (!async)
        return -ENOENT;
    note_again(instance->host, async);
    async_trigger(&instance->host->asyncs, async, instance->host->m->now);
    return 0;
}

static int api_async_find(struct coapgw_instance *instance, coapgw_session session,
                          const void *token, size_t token_length, coapgw_async *out)
{
    struct async *async;
    uint32_t place;

    if (!instance || !handle_find(&instance->host->sessions, session, &place) ||
        token_length > MESSAGE_MAX_BYTES || (token_length && !token))
        return -ENOENT;
    async = async_find(&instance->host->asyncs, place, token, (uint32_t)token_length);
    if (!async || async->freed || async->owner != instance->number)
        return -ENOENT;
    *out = async_handle(&instance->host->asyncs, async);
    return 0;
}

static int api_async_free(struct coapgw_instance *instance, coapgw_async handle)
{
    struct async *async = async_of(instance, handle);
    struct call *call;

    if (!async)
        return -ENOENT;
    call = &instance->host->call;
    if (call->registered == async)
        call->registered = NULL;
    async_give_up(instance->host, async);
    return 0;
}

static int api_async_attach(struct coapgw_instance *instance, coapgw_async handle, void *data,
                            void (*destroy)(void *data))
{
    struct async *async = async_of(instance, handle);

    if (!async)
        return -ENOENT;
    async_attach(async, data, destroy);
    return 0;
}

static void *api_async_data(struct coapgw_instance *instance, coapgw_async handle)
{
    const struct async *async = async_of(instance, handle);

    return async ? async->data : NULL;
}

/* ---- sessions ---- */

static int api_session_address(struct coapgw_instance *instance, coapgw_session handle, char *text,
                               size_t room)
{
    const struct session *s = instance ? module_session(instance->host, handle) : NULL;
    char whole[ENDPOINT_TEXT_BYTES];
    struct endpoint peer;

    if (!s)
        return -ENOENT;
    peer = messaging_peer(instance->host->m, &s->flow);
    endpoint_format(&peer.address, peer.port, whole);
    if (strlen(whole) >= room)
        return -ENOSPC;
    memcpy(text, whole, strlen(whole) + 1);
    return 0;
}

static int api_session_set_data(struct coapgw_instance *instance, coapgw_session handle, void *data)
{
    uint32_t place;

    if (!instance || !handle_find(&instance->host->sessions, handle, &place))
        return -ENOENT;
    instance->session_data[place] = data;
    return 0;
}

static void *api_session_data(struct coapgw_instance *instance, coapgw_session handle)
{
    uint32_t place;

    if (!instance || !handle_find(&instance->host->sessions, handle, &place))
        return NULL;
    return instance->session_data[place];
}

_Static_assert((int)COAPGW_ACK_TIMEOUT == TRANSMISSION_ACK_TIMEOUT &&
                   (int)COAPGW_ACK_RANDOM_FACTOR == TRANSMISSION_ACK_RANDOM_FACTOR &&
                   (int)COAPGW_MAX_RETRANSMIT == TRANSMISSION_MAX_RETRANSMIT &&
                   (int)COAPGW_NSTART == TRANSMISSION_NSTART &&
                   (int)COAPGW_DEFAULT_LEISURE == TRANSMISSION_DEFAULT_LEISURE &&
                   (int)COAPGW_PROBING_RATE == TRANSMISSION_PROBING_RATE &&
                   (int)COAPGW_PARAMETER_COUNT == TRANSMISSION_PARAMETERS,
               "modules number the parameters as the gateway does");

static int api_session_get(struct coapgw_instance *instance, coapgw_session handle,
                           enum coapgw_parameter parameter, uint64_t *value_milli)
{
    const struct session *s = instance ? module_session(instance->host, handle) : NULL;

    if (!s)
        return -ENOENT;
    if ((unsigned)parameter >= COAPGW_PARAMETER_COUNT)
        return -EINVAL;
    *value_milli =
        transmission_get(s->transmission, (enum transmission_parameter)(unsigned)parameter);
    return 0;
}

static int api_session_set(struct coapgw_instance *instance, coapgw_session handle,
                           enum coapgw_parameter parameter, uint64_t value_milli)
{
    struct session *s = instance ? module_session(instance->host, handle) : NULL;
    struct transmission t;
    int err;

    if (!s)
        return -ENOENT;
    /* More may be let go by it, and nothing is sent from within an event. */
    if (instance->host->telling && s->gate.own.waiting)
        return -EBUSY;
    t = *s->transmission;
    err = transmission_set(&t, (enum transmission_parameter)(unsigned)parameter, value_milli);
    return err ? err : messaging_set_transmission(instance->host->m, s, &t);
}

/* ---- the rest ---- */

static int api_packet_loss(struct coapgw_instance *instance, const char *text)
{
    struct loss loss = {0};
    int err = instance && text ? loss_parse(&loss, text, NULL) : -EINVAL;

    if (!err)
        messaging_set_loss(instance->host->m, &loss);
    return err;
}

static void api_log(struct coapgw_instance *instance, const char *text)
{
    struct module_host *host;

    if (!instance || !text)
        return;
    host = instance->host;
    if (host->m->now - instance->log_since_us >= LOG_WINDOW_US) {
        instance->log_since_us = host->m->now;
        instance->log_lines = 0;
    }
    if (instance->log_lines < COAPGW_LOG_LINES &&
        module_log_write(&host->modules->logs[host->worker], instance->route, text))
        instance->log_lines++;
    else
        host->m->counters->module_log_lost++;
}

static uint64_t api_now_us(const struct coapgw_instance *instance)
{
    return instance ? instance->host->m->now : 0;
}

const struct coapgw_api module_api = {
    .abi = COAPGW_MODULE_ABI,
    .size = sizeof(struct coapgw_api),
    .option = api_option,
    .option_uint = api_option_uint,
    .code = api_code,
    .add_option = api_add_option,
    .add_uint = api_add_uint,
    .write = api_write,
    .observable = api_observable,
    .notify = api_notify,
    .timer_start = api_timer_start,
    .timer_cancel = api_timer_cancel,
    .async_register = api_async_register,
    .async_set_delay = api_async_set_delay,
    .async_trigger = api_async_trigger,
    .async_find = api_async_find,
    .async_free = api_async_free,
    .async_attach = api_async_attach,
    .async_data = api_async_data,
    .session_address = api_session_address,
    .session_get = api_session_get,
    .session_set = api_session_set,
    .session_set_data = api_session_set_data,
    .session_data = api_session_data,
    .packet_loss = api_packet_loss,
    .log = api_log,
    .now_us = api_now_us,
};
