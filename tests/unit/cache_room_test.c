/* The cache's room: who goes when it is used up, what stays although it has gone, and stale answers
 * in the place of failures. */
#include "gateway/chunk.h"
#include "gateway/proxy/target.h"
#include "tests/unit/proxy_steps.h"

static uint64_t evictions; /* counted by targets */

static int setup_small(void **state)
{
    return start(state, ORIGINS_YAML("{size: 64KiB}", ""));
}

static int setup_none(void **state)
{
    return start(state, ORIGINS_YAML("{size: 0}", ""));
}

static int setup_stale(void **state)
{
    return start(state, ORIGINS_YAML("{size: 1MiB, stale_if_error: 100s}", ""));
}

static int setup_fresh_only(void **state)
{
    return start(state, ORIGINS_YAML("{size: 1MiB}", ""));
}

#define AGE(seconds) OPTIONS(UINT(OPTION_MAX_AGE, seconds))

static uint64_t cache_bytes(const struct harness *h)
{
    struct worker_usage usage;

    worker_usage(h->worker, &usage);
    assert_true(usage.cache_bytes <= usage.cache_bytes_max);
    return usage.cache_bytes;
}

/* Client 1 asks for a path that has `length` bytes. True when it was at hand. */
static bool ask_for(struct harness *h, uint16_t mid, const char *path, size_t length)
{
    static char payload[1024];
    struct message m;
    struct sent out;
    bool hit;

    memset(payload, path[0], sizeof(payload));
    payload[length] = '\0';
    get(h, 1, mid, path);
    assert_true(h->taken < h->count);
    hit = is_to_client(h, &h->sent[h->taken]);
    if (!hit) {
        out = expect_upstream(h, &m);
        answer_with(h, &out, CODE_CONTENT, AGE(10000), payload);
    }
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, payload);
    payload[length] = path[0];
    return hit;
}

/* ---- room ---- */

static void the_least_recently_used_goes_first(void **state)
{
    struct harness *h = *state;
    uint16_t mid = 0;
    char path[8];

    for (unsigned i = 0; i < 40; i++) { /* each takes 1 KiB and some: all fit */
        snprintf(path, sizeof(path), "p%u", i);
        assert_false(ask_for(h, mid++, path, 1000));
    }
    for (unsigned i = 0; i < 40; i++) {
        snprintf(path, sizeof(path), "p%u", i);
        assert_true(ask_for(h, mid++, path, 1000));
    }
    assert_true(ask_for(h, mid++, "p0", 1000));
    for (unsigned i = 0; i < 40; i++) { /* room for 52 to 57 */
        snprintf(path, sizeof(path), "q%u", i);
        assert_false(ask_for(h, mid++, path, 1000));
        cache_bytes(h);
    }
    assert_true(ask_for(h, mid++, "p0", 1000)); /* it was used, and the last of all */
    for (unsigned i = 0; i < 40; i++) {
        snprintf(path, sizeof(path), "q%u", i);
        assert_true(ask_for(h, mid++, path, 1000));
    }
    assert_true(ask_for(h, mid++, "p39", 1000));
    assert_false(ask_for(h, mid++, "p1", 1000));
}

/* The bytes count, with the key: many short ones have as much room as few long ones. */
static void bytes_count(void **state)
{
    struct harness *h = *state;
    uint64_t before;
    char path[8];

    assert_false(ask_for(h, 0, "a", 1));
    before = cache_bytes(h);
    assert_int_equal(before, 2 * CHUNK_BYTES); /* key and content */
    assert_false(ask_for(h, 1, "b", 1000));
    assert_int_equal(cache_bytes(h) - before, (1 + 1000 / CHUNK_PAYLOAD + 1) * CHUNK_BYTES);
    for (uint16_t i = 0; i < 600; i++) {
        snprintf(path, sizeof(path), "c%u", i);
        ask_for(h, (uint16_t)(2 + i), path, 1);
        cache_bytes(h);
    }
    assert_int_equal(cache_bytes(h), 64 * 1024);
}

static void a_longer_state_takes_the_place_of_a_shorter(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;
    char payload[1001] = "";

    get(h, 1, 1, "a");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, AGE(1), "short");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(cache_bytes(h), 2 * CHUNK_BYTES);
    harness_advance(h, 2 * SECOND_US);
    memset(payload, 'x', 1000);
    get(h, 1, 2, "a");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CONTENT, AGE(1), payload);
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(cache_bytes(h), (1 + 1000 / CHUNK_PAYLOAD + 1) * CHUNK_BYTES);
    harness_advance(h, 2 * SECOND_US);
    get(h, 1, 3, "a");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_UNAUTHORIZED, NO_OPTIONS, NULL); /* not to be kept: nothing is now */
    expect_client(h, 1, CODE_UNAUTHORIZED, &m);
    assert_int_equal(cache_bytes(h), 0);
}

/* The same for an answer that is stale from the start, and good for validation only. True when the
 * origin was asked whether it is still the same. */
static bool ask_for_stale(struct harness *h, uint16_t mid, const char *path)
{
    struct message m;
    struct sent out;
    bool validated;

    get(h, 1, mid, path);
    out = expect_upstream(h, &m);
    validated = message_has(&m, SLOT_ETAG);
    if (validated)
        answer_with(h, &out, CODE_VALID, OPTIONS({OPTION_ETAG, "e", 1, 0}, UINT(OPTION_MAX_AGE, 0)),
                    NULL);
    else
        answer_with(h, &out, CODE_CONTENT,
                    OPTIONS({OPTION_ETAG, "e", 1, 0}, UINT(OPTION_MAX_AGE, 0)), "state");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "state");
    return validated;
}

/* What is asked for once and never again does not drive out what is fresh. */
static void stale_from_the_start_takes_no_place_until_asked_for_again(void **state)
{
    struct harness *h = *state;
    uint16_t mid = 0;
    char path[8];

    assert_false(ask_for_stale(h, mid++, "room")); /* as long as there is room, it is kept */
    assert_true(ask_for_stale(h, mid++, "room"));
    for (unsigned i = 0; i < 300; i++) {
        snprintf(path, sizeof(path), "p%u", i);
        assert_false(ask_for(h, mid++, path, 1));
    }
    assert_int_equal(cache_bytes(h), 64 * 1024);
    for (unsigned i = 0; i < 600; i++) {
        snprintf(path, sizeof(path), "s%u", i);
        assert_false(ask_for_stale(h, mid++, path));
    }
    for (unsigned i = 100; i < 300; i++) {
        snprintf(path, sizeof(path), "p%u", i);
        assert_true(ask_for(h, mid++, path, 1));
    }
    assert_false(ask_for_stale(h, mid++, "again"));
    assert_false(ask_for_stale(h, mid++, "again")); /* kept now */
    assert_true(ask_for_stale(h, mid++, "again"));
    assert_true(ask_for_stale(h, mid++, "again"));
    assert_int_equal(cache_bytes(h), 64 * 1024);
}

static void without_a_cache_nothing_is_kept(void **state)
{
    struct harness *h = *state;

    for (uint16_t mid = 0; mid < 3; mid++)
        assert_false(ask_for(h, mid, "a", 100));
    assert_int_equal(cache_bytes(h), 0);
}

/* The answer to a request for one block, of 1,024 bytes and a number, from an origin that serves it
 * in blocks. */
static void serve_blocks(struct harness *h, unsigned blocks, char fill, const char *etag)
{
    char payload[1025];
    struct message m;

    memset(payload, fill, 1024);
    payload[1024] = '\0';
    for (unsigned i = 0; i < blocks; i++) {
        struct sent out = expect_upstream(h, &m);

        assert_int_equal(message_uint(&m, SLOT_BLOCK2, 6) >> 4, i);
        payload[0] = (char)('0' + i);
        answer_with(h, &out, CODE_CONTENT,
                    OPTIONS({OPTION_ETAG, etag, strlen(etag), 0}, UINT(OPTION_MAX_AGE, 1000),
                            UINT(OPTION_BLOCK2, i << 4 | (i + 1 < blocks) << 3 | 6)),
                    payload);
    }
}

static void ask_block(struct harness *h, unsigned n, uint16_t mid, const char *path, unsigned block)
{
    ask_with(h, n, mid, CODE_GET,
             OPTIONS({OPTION_URI_PATH, path, strlen(path), 0}, UINT(OPTION_BLOCK2, block << 4 | 6)),
             NULL);
}

static void what_a_client_is_fetching_survives_eviction(void **state)
{
    struct harness *h = *state;
    struct worker_usage usage;
    struct message m;
    char path[8];

    ask_block(h, 1, 1, "big", 0);
    serve_blocks(h, 40, 'o', "v1");
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(m.payload[0], '0');
    for (uint16_t i = 0; i < 60; i++) {
        snprintf(path, sizeof(path), "p%u", i);
        ask_for(h, (uint16_t)(100 + i), path, 1000);
    }
    worker_usage(h->worker, &usage);
    assert_in_range(usage.assembly_bytes, 40 * 1024, 60 * 1024); /* it counts there now */
    ask_block(h, 2, 1, "big", 0); /* another client, who gets a newer state */
    serve_blocks(h, 40, 'n', "v2");
    expect_client(h, 2, CODE_CONTENT, &m);
    for (unsigned i = 1; i < 40; i++) {
        ask_block(h, 1, (uint16_t)(1 + i), "big", i);
        expect_client(h, 1, CODE_CONTENT, &m);
        assert_int_equal(m.payload[0], '0' + i);
        assert_int_equal(m.payload[1], 'o');
        assert_string_equal(option_texts(&m, OPTION_ETAG), "|v1");
    }
    ask_block(h, 2, 2, "big", 1);
    expect_client(h, 2, CODE_CONTENT, &m);
    assert_int_equal(m.payload[1], 'n');
    harness_silent(h);
    harness_advance(h, 248 * SECOND_US);
    worker_usage(h->worker, &usage);
    assert_int_equal(usage.transfers, 0);
    assert_int_equal(usage.assembly_bytes, 0);
}

static void an_answer_larger_than_the_cache_is_delivered_and_not_kept(void **state)
{
    struct harness *h = *state;
    struct message m;

    ask_for(h, 0, "a", 100);
    ask_block(h, 1, 1, "big", 0);
    serve_blocks(h, 64, 'o', "v1"); /* limits.body, and with its key more than there is room for */
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_true(ask_for(h, 2, "a", 100)); /* nor has it pushed others out */
    for (unsigned i = 1; i < 64; i++) {
        ask_block(h, 1, (uint16_t)(10 + i), "big", i);
        expect_client(h, 1, CODE_CONTENT, &m);
        assert_int_equal(m.payload[0], '0' + i);
    }
}

/* ---- stale answers ---- */

static void expect_stale(struct harness *h, uint16_t mid, struct sent *out)
{
    struct message m;

    get(h, 1, mid, "a");
    *out = expect_upstream(h, &m);
}

static void a_stale_answer_stands_in_for_a_failure(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, OPTIONS(PATH("a")), AGE(10), "body");
    harness_advance(h, 11 * SECOND_US);
    expect_stale(h, 2, &out);
    unreachable(h, &out);
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_payload(&m, "body");
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 99), 0);
    expect_stale(h, 3, &out);
    give_empty(h, &out.flow, TYPE_RST, (uint16_t)(out.data[2] << 8 | out.data[3]));
    expect_client(h, 1, CODE_CONTENT, &m);
    assert_int_equal(message_uint(&m, SLOT_MAX_AGE, 99), 0);
    expect_stale(h, 4, &out);
    answer_with(h, &out, CODE_SERVICE_UNAVAILABLE, AGE(5), NULL);
    expect_client(h, 1, CODE_CONTENT, &m);
    expect_stale(h, 5, &out); /* what the origin says to the client is the client's */
    answer_with(h, &out, CODE_UNAUTHORIZED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_UNAUTHORIZED, &m);
    assert_int_equal(COUNTER(h, cache_stale), 3);
}

static void a_stale_answer_has_an_end(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, OPTIONS(PATH("a")), AGE(10), "body");
    harness_advance(h, 111 * SECOND_US);
    expect_stale(h, 2, &out);
    unreachable(h, &out);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
}

static void what_was_changed_does_not_stand_in(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, OPTIONS(PATH("a")), AGE(10), "body");
    harness_advance(h, 11 * SECOND_US);
    ask_with(h, 1, 2, CODE_PUT, OPTIONS(PATH("a")), "new");
    out = expect_upstream(h, &m);
    answer_with(h, &out, CODE_CHANGED, NO_OPTIONS, NULL);
    expect_client(h, 1, CODE_CHANGED, &m);
    expect_stale(h, 3, &out);
    unreachable(h, &out);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
}

static void stale_answers_stand_in_only_where_wanted(void **state)
{
    struct harness *h = *state;
    struct message m;
    struct sent out;

    fetch_through(h, 1, 1, OPTIONS(PATH("a")), AGE(10), "body");
    harness_advance(h, 11 * SECOND_US);
    expect_stale(h, 2, &out);
    unreachable(h, &out);
    expect_client(h, 1, CODE_GATEWAY_TIMEOUT, &m);
}

/* ---- targets by themselves ---- */

static void set_key(struct key *key, const char *options, const char *payload, uint64_t hash,
                    uint64_t uri)
{
    memset(key, 0, sizeof(*key));
    memcpy(key->bytes + sizeof(struct space), options, strlen(options));
    key->options_length = (uint16_t)strlen(options);
    memcpy(key->bytes + sizeof(struct space) + strlen(options), payload, strlen(payload));
    key->length = (uint32_t)(sizeof(struct space) + strlen(options) + strlen(payload));
    key->hash = hash;
    key->uri = uri;
}

/* Whatever an attacker knows of the hash: keys are compared. */
static void keys_with_the_same_hash_are_told_apart(void **state)
{
    static const char *const options[] = {"a", "b", "ab", "a", "abc"};
    static const char *const payloads[] = {"", "", "", "b", ""};
    struct contents contents;
    struct targets targets;
    struct key keys[5];
    uint32_t index[5];

    (void)state;
    assert_int_equal(contents_init(&contents, 16, 1 << 16, 1 << 16, 0), 0);
    assert_int_equal(targets_init(&targets, &contents, 16, 1 << 16, &evictions), 0);
    for (unsigned i = 0; i < 5; i++) {
        set_key(&keys[i], options[i], payloads[i], 7, 9);
        assert_int_equal(target_find(&targets, &keys[i]), TARGET_NONE);
        index[i] = target_add(&targets, &keys[i]);
        assert_int_not_equal(index[i], TARGET_NONE);
    }
    for (unsigned gone = 0; gone < 5; gone++) {
        unsigned found = 0;

        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(target_find(&targets, &keys[i]), i < gone ? TARGET_NONE : index[i]);
        for (uint32_t i = target_of_uri(&targets, 9); i != TARGET_NONE;
             i = target_next_of_uri(&targets, i))
            found++;
        assert_int_equal(found, 5 - gone);
        target_release(&targets, index[gone]);
    }
    assert_int_equal(target_of_uri(&targets, 9), TARGET_NONE);
    assert_int_equal(pool_used(&targets.pool), 0);
    assert_int_equal(pool_used(&contents.chunks.pool), 0);
    targets_fini(&targets);
    contents_fini(&contents);
}

static uint32_t make_content(struct contents *contents)
{
    static const uint8_t bytes[] = {0x50, CODE_CONTENT, 0, 1, 0xff, 'x'};
    struct message m;
    uint32_t index;

    assert_int_equal(message_parse(bytes, sizeof(bytes), &m), VERDICT_OK);
    index = content_create(contents, &m, 1);
    assert_int_not_equal(index, CONTENT_NONE);
    return index;
}

/* A target that somebody needs loses its answer and stays; the answer stays with who holds it. */
static void eviction_takes_nothing_from_those_who_use_it(void **state)
{
    struct contents contents;
    struct targets targets;
    struct key key;
    uint32_t first, second, content;

    (void)state;
    assert_int_equal(contents_init(&contents, 16, 2 * CHUNK_BYTES, 1 << 16, 0), 0);
    assert_int_equal(targets_init(&targets, &contents, 16, 2 * CHUNK_BYTES, &evictions), 0);
    set_key(&key, "a", "", 1, 1);
    first = target_add(&targets, &key);
    content = make_content(&contents);
    target_store(&targets, first, content);
    assert_int_equal(contents.cached, 2);
    assert_int_equal(content_at(&contents, content)->refs, 2);
    set_key(&key, "b", "", 2, 2);
    second = target_add(&targets, &key);
    target_store(&targets, second, content); /* both at a time: there is room for one */
    assert_int_equal(target_at(&targets, first)->content, CONTENT_NONE);
    assert_int_equal(target_at(&targets, second)->content, content);
    assert_int_equal(contents.cached, 2);
    target_store(&targets, second, content); /* the same again */
    assert_int_equal(contents.cached, 2);
    assert_int_equal(contents_assembling(&contents), 1);
    target_release(&targets, first);
    target_release(&targets, second); /* lives on: it has an answer */
    assert_int_equal(pool_used(&targets.pool), 1);
    content_release(&contents, content);
    set_key(&key, "c", "", 3, 3);
    first = target_add(&targets, &key);
    content = make_content(&contents);
    target_store(&targets, first, content); /* pushes it out, and it goes */
    target_release(&targets, first);
    content_release(&contents, content);
    assert_int_equal(pool_used(&targets.pool), 1);
    assert_int_equal(pool_used(&contents.chunks.pool), 2);
    targets_fini(&targets);
    contents_fini(&contents);
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_least_recently_used_goes_first, setup_small),
        TEST(bytes_count, setup_small),
        TEST(a_longer_state_takes_the_place_of_a_shorter, setup_small),
        TEST(stale_from_the_start_takes_no_place_until_asked_for_again, setup_small),
        TEST(without_a_cache_nothing_is_kept, setup_none),
        TEST(what_a_client_is_fetching_survives_eviction, setup_small),
        TEST(an_answer_larger_than_the_cache_is_delivered_and_not_kept, setup_small),
        TEST(a_stale_answer_stands_in_for_a_failure, setup_stale),
        TEST(a_stale_answer_has_an_end, setup_stale),
        TEST(what_was_changed_does_not_stand_in, setup_stale),
        TEST(stale_answers_stand_in_only_where_wanted, setup_fresh_only),
        cmocka_unit_test(keys_with_the_same_hash_are_told_apart),
        cmocka_unit_test(eviction_takes_nothing_from_those_who_use_it),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
