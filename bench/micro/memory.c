/* The cache, and the pools that all is made of. */
#include "bench/micro/micro.h"

#include <errno.h>
#include <stdio.h>

#include "gateway/hash.h"
#include "gateway/proxy/target.h"

#define FEW         1000
#define MANY        100000
#define CACHE_BYTES (64u << 20)
#define MESSAGE     64 /* bytes of one that is kept */

static struct {
    struct contents contents;
    struct targets targets;
    uint64_t evictions, random, next, wrong;
    uint32_t count;
    struct message answer;
    uint8_t bytes[128];
    struct key keys[MICRO_BATCH];

    struct chunks chunks;
    uint32_t handles[64];
} c;

static void make_key(struct key *key, uint64_t i)
{
    struct space space = {.method = CODE_GET};
    char text[24];
    struct encoder e = {.data = key->bytes + sizeof(space), .room = KEY_BYTES - sizeof(space)};

    memcpy(key->bytes, &space, sizeof(space));
    snprintf(text, sizeof(text), "%08llu", (unsigned long long)i);
    encoder_option(&e, OPTION_URI_PATH, "sensors", 7);
    encoder_option(&e, OPTION_URI_PATH, text, strlen(text));
    key->options_length = (uint16_t)encoder_end(&e);
    key->length = (uint32_t)sizeof(space) + key->options_length;
    key->hash = key->uri = hash_bytes(key->bytes, key->length, 99);
}

static int make_answer(void)
{
    static const uint8_t token[4] = {1, 2, 3, 4}, payload[64];
    struct encoder e;

    encoder_begin(&e, c.bytes, sizeof(c.bytes), TYPE_ACK, CODE_CONTENT, 1, token, sizeof(token));
    encoder_uint(&e, OPTION_CONTENT_FORMAT, 60);
    encoder_uint(&e, OPTION_MAX_AGE, 300);
    encoder_payload(&e, payload, sizeof(payload));
    return message_parse(c.bytes, encoder_end(&e), &c.answer) == VERDICT_OK ? 0 : -EINVAL;
}

static void insert(const struct key *key)
{
    uint32_t target = target_add(&c.targets, key);
    uint32_t content = content_create(&c.contents, &c.answer, 1000000);

    if (target == TARGET_NONE || content == CONTENT_NONE) {
        c.wrong++;
        return;
    }
    target_store(&c.targets, target, content);
    content_release(&c.contents, content);
    target_release(&c.targets, target);
}

/* Filled, and with room for no more. */
static int begin_cache(uint32_t count)
{
    struct key key;

    c.random = 1;
    c.wrong = c.next = c.evictions = 0;
    c.count = count;
    if (make_answer() < 0 ||
        contents_init(&c.contents, 2 * MANY, CACHE_BYTES, CACHE_BYTES, 0) < 0 ||
        targets_init(&c.targets, &c.contents, 2 * MANY, (uint64_t)count * 2 * CHUNK_BYTES,
                     &c.evictions) < 0)
        return -ENOMEM;
    for (; c.next < count; c.next++) {
        make_key(&key, c.next);
        insert(&key);
    }
    return 0;
}

static bool end_cache(void)
{
    targets_fini(&c.targets);
    contents_fini(&c.contents);
    return c.wrong == 0;
}

static void ready_known(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        make_key(&c.keys[i], micro_random(&c.random) % c.count);
}

static void ready_new(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        make_key(&c.keys[i], c.next++);
}

static uint64_t run_find(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        uint32_t index = target_find(&c.targets, &c.keys[i]);

        if (index == TARGET_NONE) {
            c.wrong++;
            continue;
        }
        target_touch(&c.targets, index);
        sum += target_at(&c.targets, index)->content;
    }
    return sum;
}

static uint64_t run_miss(unsigned n)
{
    uint64_t found = 0;

    for (unsigned i = 0; i < n; i++)
        found += target_find(&c.targets, &c.keys[i]) != TARGET_NONE;
    c.wrong += found;
    return found;
}

static uint64_t run_insert(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        insert(&c.keys[i]);
    return c.evictions;
}

/* ---- messages that are kept, hashes ---- */

static int begin_chunks(uint32_t count)
{
    c.wrong = 0;
    return chunks_init(&c.chunks, (size_t)count * CHUNK_BYTES);
}

static bool end_chunks(void)
{
    c.wrong += pool_used(&c.chunks.pool);
    chunks_fini(&c.chunks);
    return c.wrong == 0;
}

static uint64_t run_chunks(unsigned n)
{
    static const uint8_t message[MESSAGE];

    for (unsigned i = 0; i < n; i++) {
        const uint8_t *bytes = message;
        size_t length = sizeof(message);
        uint32_t handle;

        MICRO_HIDE(bytes);
        MICRO_HIDE(length);
        handle = chunks_write(&c.chunks, bytes, length);
        c.wrong += handle == CHUNK_NONE;
        chunks_free(&c.chunks, handle);
    }
    return c.wrong;
}

static uint64_t run_hash(unsigned n)
{
    static const uint8_t bytes[40];
    uint64_t sum = 1;

    for (unsigned i = 0; i < n; i++) {
        const uint8_t *at = bytes;
        size_t length = sizeof(bytes);

        MICRO_HIDE(at);
        MICRO_HIDE(length);
        sum = hash_bytes(at, length, sum);
    }
    return sum;
}

const struct micro_case micro_memory[] = {
    {"cache: look-up, 1,000", 0, FEW, begin_cache, run_find, ready_known, end_cache},
    {"cache: look-up, 100,000", 0, MANY, begin_cache, run_find, ready_known, end_cache},
    {"cache: not there, 100,000", 0, MANY, begin_cache, run_miss, ready_new, end_cache},
    {"cache: insert, full of 100,000", 0, MANY, begin_cache, run_insert, ready_new, end_cache},
    {"message kept and let go, 64 bytes", 0, FEW, begin_chunks, run_chunks, NULL, end_chunks},
    {.name = "hash of 40 bytes", .run = run_hash},
    {0},
};
