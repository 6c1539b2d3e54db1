#include "gateway/serve/async.h"

#include <string.h>

#include "gateway/hash.h"
#include "gateway/memory.h"

#define BY_SESSION offsetof(struct async, by_session)

static void on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct asyncs *a = context;

    (void)now_us;
    a->due(a->context, (struct async *)(void *)((uint8_t *)timer - offsetof(struct async, timer)));
}

/* ---- start and end ---- */

static uint32_t bucket_count(uint32_t capacity)
{
    uint32_t count = 16;

    while (count < capacity)
        count *= 2;
    return count;
}

int asyncs_init(struct asyncs *a, const struct asyncs_setup *setup)
{
    uint32_t buckets = bucket_count(setup->capacity);
    int err;

    *a = (struct asyncs){.wheel = setup->wheel,
                         .chunks = setup->chunks,
                         .sessions = setup->sessions,
                         .seed = setup->seed,
                         .due = setup->due,
                         .context = setup->context,
                         .bucket_mask = buckets - 1};
    err = pool_init(&a->pool, sizeof(struct async), setup->capacity);
    if (!err)
        err = handles_init(&a->handles, setup->capacity);
    a->buckets = memory_reserve((size_t)buckets * sizeof(*a->buckets));
    a->heads = memory_reserve((size_t)a->sessions * sizeof(*a->heads));
    if (!err && (!a->buckets || !a->heads))
        err = -ENOMEM;
    if (err) {
        asyncs_fini(a);
        return err;
    }
    wheel_handle(a->wheel, TIMER_ASYNC, on_timer, a);
    return 0;
}

void asyncs_fini(struct asyncs *a)
{
    memory_release(a->buckets, ((size_t)a->bucket_mask + 1) * sizeof(*a->buckets));
    memory_release(a->heads, (size_t)a->sessions * sizeof(*a->heads));
    handles_fini(&a->handles);
    pool_fini(&a->pool);
    a->buckets = a->heads = NULL;
}

/* ---- the index ---- */

static uint32_t hash_of(const struct asyncs *a, uint32_t session, const uint8_t *token,
                        uint32_t token_length)
{
    return (uint32_t)hash_bytes(token, token_length, hash_mix(a->seed, session));
}

static bool has_token(const struct asyncs *a, const struct async *async, const uint8_t *token,
                      uint32_t token_length)
{
    uint8_t kept[MESSAGE_MAX_BYTES];

    if (async->token_length != token_length)
        return false;
    if (token_length == 0)
        return true;
    if (async->token_chunk == CHUNK_NONE)
        return memcmp(async->token, token, token_length) == 0;
    chunks_read(a->chunks, async->token_chunk, kept, token_length);
    return memcmp(kept, token, token_length) == 0;
}

struct async *async_find(const struct asyncs *a, uint32_t session, const uint8_t *token,
                         uint32_t token_length)
{
    uint32_t hash = hash_of(a, session, token, token_length);

    if (token_length > MESSAGE_MAX_BYTES)
        return NULL;
    for (uint32_t at = a->buckets[hash & a->bucket_mask]; at;) {
        struct async *async = pool_at(&a->pool, at - 1);

        if (async->hash == hash && async->session == session &&
            has_token(a, async, token, token_length))
            return async;
        at = async->next;
    }
    return NULL;
}

static void index_add(struct asyncs *a, struct async *async)
{
    uint32_t *bucket = &a->buckets[async->hash & a->bucket_mask];
    uint32_t index = pool_index(&a->pool, async);
    uint32_t head = a->heads[async->session] - 1; /* 0 becomes POOL_NONE */

    async->next = *bucket;
    *bucket = index + 1;
    chain_push(&head, &a->pool, BY_SESSION, index);
    a->heads[async->session] = head + 1;
}

static void index_remove(struct asyncs *a, const struct async *async)
{
    uint32_t *link = &a->buckets[async->hash & a->bucket_mask];
    uint32_t index = pool_index(&a->pool, async);
    uint32_t head = a->heads[async->session] - 1;

    while (*link != index + 1)
        link = &((struct async *)pool_at(&a->pool, *link - 1))->next;
    *link = async->next;
    chain_remove(&head, &a->pool, BY_SESSION, index);
    a->heads[async->session] = head + 1;
}

struct async *async_first(const struct asyncs *a, uint32_t session)
{
    uint32_t head = a->heads[session];

    return head ? pool_at(&a->pool, head - 1) : NULL;
}

/* ---- one of them ---- */

int async_register(struct asyncs *a, uint32_t session, const uint8_t *token, uint32_t token_length,
                   struct async **out)
{
    uint32_t chunk = CHUNK_NONE;
    struct async *async;

    if (async_find(a, session, token, token_length))
        return -EEXIST;
    if (token_length > TOKEN_INLINE_BYTES) {
        chunk = chunks_write(a->chunks, token, token_length);
        if (chunk == CHUNK_NONE)
            return -ENOMEM;
    }
    async = pool_get(&a->pool);
    if (!async) {
        chunks_free(a->chunks, chunk);
        return -ENOSPC;
    }
    *async = (struct async){.session = session,
                            .hash = hash_of(a, session, token, token_length),
                            .token_chunk = chunk,
                            .token_length = token_length};
    async->request.rope = async->wish.record = ROPE_EMPTY;
    if (chunk == CHUNK_NONE && token_length)
        memcpy(async->token, token, token_length);
    timer_init(&async->timer, TIMER_ASYNC);
    (void)async_handle(a, async); /* from now on its place is seen to be taken */
    index_add(a, async);
    *out = async;
    return 0;
}

void async_set_delay(struct asyncs *a, struct async *async, uint64_t now_us, uint64_t delay_us)
{
    if (delay_us)
        wheel_arm(a->wheel, &async->timer, now_us + delay_us);
    else
        wheel_cancel(a->wheel, &async->timer);
}

void async_trigger(struct asyncs *a, struct async *async, uint64_t now_us)
{
    wheel_arm(a->wheel, &async->timer, now_us);
}

void async_attach(struct async *async, void *data, void (*destroy)(void *data))
{
    void (*old)(void *) = async->destroy;
    void *old_data = async->data;

    async->data = data;
    async->destroy = destroy;
    if (old)
        old(old_data);
}

void async_free(struct asyncs *a, struct async *async)
{
    wheel_cancel(a->wheel, &async->timer);
    index_remove(a, async);
    handle_close(&a->handles, pool_index(&a->pool, async));
    chunks_free(a->chunks, async->token_chunk);
    async_attach(async, NULL, NULL);
    pool_put(&a->pool, async);
}
