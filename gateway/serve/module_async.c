/* Requests that modules answer later, from the gateway's side: their exchanges, and how they end.
 */
#include "gateway/serve/module_parts.h"

/* It ends without an answer of the module's. Its exchange is still to be dealt with. */
static void drop(struct module_host *host, struct async *async)
{
    kept_free(host, &async->request);
    async_free(&host->asyncs, async);
}

void async_give_up(struct module_host *host, struct async *async)
{
    if (!async->exchange) { /* its first pass has not returned: there will be an answer */
        drop(host, async);
        return;
    }
    async->freed = true;
    handle_close(&host->asyncs.handles, pool_index(&host->asyncs.pool, async));
    async_attach(async, NULL, NULL);
    async_trigger(&host->asyncs, async, host->m->now);
}

void module_session_ends(struct module_host *host, const struct session *s)
{
    uint32_t place = session_index(&host->m->sessions, s);
    struct async *async;

    while ((async = async_first(&host->asyncs, place)) != NULL) {
        struct exchange *x = async->exchange;

        host->m->counters->asyncs_dropped++;
        drop(host, async);
        exchange_abandon(host->m, x);
    }
}

static void deliver_later(struct module_host *host, struct async *async)
{
    struct exchange *x = async->exchange;
    struct wish wish = async->wish;
    uint32_t content = call_content(host);

    drop(host, async);
    if (content == CONTENT_NONE) {
        host->m->counters->refused_memory++;
        local_code_later(host->proxy, x, &wish, CODE_SERVICE_UNAVAILABLE, MODULE_NO_MEMORY);
        return;
    }
    local_deliver_later(host->proxy, x, &wish, content);
    content_release(&host->proxy->contents, content);
}

static void tell_given_up(struct module_host *host, struct async *async)
{
    struct exchange *x = async->exchange;
    struct wish wish = async->wish;

    host->m->counters->asyncs_dropped++;
    drop(host, async);
    local_code_later(host->proxy, x, &wish, CODE_SERVICE_UNAVAILABLE, "given up");
}

/* The second pass, with a copy of the request. */
void module_async_due(void *context, struct async *async)
{
    struct module_host *host = context;
    struct call *call = &host->call;
    uint8_t token[MESSAGE_MAX_BYTES];
    bool good;

    if (async->freed) {
        tell_given_up(host, async);
        return;
    }
    call_prepare_kept(host, &host->instances[async->owner], &async->request, COAPGW_PASS_ASYNC);
    call->due = async;
    call->request.async = async_handle(&host->asyncs, async);
    call->request.session = handle_of(&host->sessions, async->session);
    call->request.observe = async->observe;
    call->request.token = (struct coapgw_bytes){exchange_token(host->m, async->exchange, token),
                                                async->exchange->token_length};
    good = call_run(host);
    if (!call->response.code && !call->response.failed && (call->again || async->freed))
        return;
    if (!good)
        call_fail(host);
    deliver_later(host, async);
}

void module_drain(struct module_host *host)
{
    for (uint32_t i = 0; host && i < host->asyncs.pool.fresh; i++)
        if (host->asyncs.handles.nonces[i])
            async_give_up(host, pool_at(&host->asyncs.pool, i));
}

uint32_t module_asyncs(const struct module_host *host)
{
    return host ? pool_used(&host->asyncs.pool) : 0;
}
