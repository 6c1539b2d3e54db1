/* Handshakes of a worker: who gets a place for one, whose turn it is, and what is left in the end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/security_harness.h"

#define HELLO_BYTES 69 /* without a cookie, one cipher suite, no extension */

/* RFC 6347 4.2.1 */
static size_t write_hello(uint8_t out[HELLO_BYTES + 255], const uint8_t *cookie, uint8_t length)
{
    static const uint8_t head[60] = {22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0,    0,    0, 1, 0,
                                     0,  0,    0,    0, 0, 0, 0, 0, 0, 0, 0xfe, 0xfd, 9, 9, 9};
    static const uint8_t tail[] = {0, 2, 0xc0, 0xa8, 1, 0};
    size_t whole = 61 + length + sizeof(tail);

    memcpy(out, head, sizeof(head));
    out[12] = (uint8_t)(whole - 13);
    out[16] = out[24] = (uint8_t)(whole - 25);
    out[18] = length != 0; /* the second message */
    out[10] = out[18];
    out[60] = length;
    if (length)
        memcpy(out + 61, cookie, length);
    memcpy(out + 61 + length, tail, sizeof(tail));
    return whole;
}

/* A client begins a handshake and is not heard of any more. */
static void greet_from(struct bench *b, uint32_t client)
{
    uint8_t hello[HELLO_BYTES + 255];
    struct flow wire = bench_wire(client);

    b->sent_count = 0;
    bench_receive(b, &wire, hello, write_hello(hello, NULL, 0));
    assert_int_equal(b->sent[0].length, HELLO_VERIFY_BYTES);
    bench_receive(b, &wire, hello,
                  write_hello(hello, b->sent[0].bytes + HELLO_VERIFY_BYTES - HELLO_COOKIE_BYTES,
                              HELLO_COOKIE_BYTES));
}

static bool has_contact(const struct bench *b, uint32_t client)
{
    struct flow wire = bench_wire(client);

    return security_contact_of(b->security, &wire,
                               places_hash_flow(&b->security->associations.key, &wire));
}

/* When all places are taken by clients that are silent, the longest silent one's goes. */
static void silent_clients_keep_nobody_out(void **state)
{
    struct bench *b = *state;

    for (uint32_t client = 1; client <= 5; client++, b->now += 100000)
        greet_from(b, client);
    assert_int_equal(b->counters.dtls_handshakes_refused, 1);
    b->now += 6000000;
    greet_from(b, 1); /* heard again */
    b->now += 2000000;
    greet_from(b, 5);
    assert_true(has_contact(b, 5) && has_contact(b, 1));
    assert_false(has_contact(b, 2));
    assert_int_equal(b->counters.dtls_handshakes_failed, 1);
    greet_from(b, 6);
    greet_from(b, 7);
    assert_false(has_contact(b, 3) || has_contact(b, 4));
    greet_from(b, 8); /* none is silent for so long */
    assert_int_equal(b->counters.dtls_handshakes_refused, 2);
    assert_int_equal(pool_used(&b->security->contacts), 4);
}

/* A set with one pre-shared key for listener 0; `*config` must outlive it. */
static struct credentials *load_credentials(struct config **config)
{
    static const char line[] = "device:00112233445566778899aabbccddeeff\n";
    char text[512], path[] = "/tmp/security_test_XXXXXX";
    int fd = mkstemp(path);
    struct credentials *credentials;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, line, sizeof(line) - 1), sizeof(line) - 1);
    close(fd);
    snprintf(text, sizeof(text),
             "workers: 4\ninterfaces:\n"
             "  - {name: a, device: 'tap:t', addresses: [10.9.0.2/24]}\n"
             "listeners:\n  - {uri: 'coaps://10.9.0.2', dtls: {psk: {file: %s}}}\n",
             path);
    *config = config_load_text("t.yaml", text, strlen(text), stderr);
    assert_non_null(*config);
    credentials = credentials_load(*config, NULL, stderr);
    assert_non_null(credentials);
    unlink(path);
    return credentials;
}

static unsigned begun(const struct bench *b, uint32_t clients)
{
    unsigned n = 0;

    for (uint32_t client = 1; client <= clients; client++) {
        struct flow wire = bench_wire(client);
        const struct contact *c = security_contact_of(
            b->security, &wire, places_hash_flow(&b->security->associations.key, &wire));

        n += c && c->handshake;
    }
    return n;
}

/* A storm of handshakes waits: a turn does what its budget is, whoever has come first, and what is
 * not a handshake is delivered at once meanwhile. */
static void a_turn_has_a_budget_for_handshakes(void **state)
{
    struct bench *b = *state;
    struct config *config;
    struct association *a = bench_add(b, 50, SUITE_AES_128_CCM_8, false);
    uint64_t sequence = 1;

    security_renew(b->security, load_credentials(&config));
    b->config.security.handshake_budget = 1;
    for (uint32_t client = 1; client <= 4; client++)
        greet_from(b, client);
    assert_int_equal(begun(b, 4), 0);
    for (unsigned turn = 1; turn <= 2; turn++) {
        assert_true(security_has_work(b->security));
        assert_int_equal(security_advance(b->security, b->now), 1);
        assert_int_equal(begun(b, 4), turn);
        assert_int_equal(begun(b, turn), turn);
        b->plain_count = 0;
        bench_say(b, a, &a->wire, sequence++, "now");
        assert_int_equal(b->plain_count, 1);
    }
    b->config.security.handshake_budget = 2;
    assert_int_equal(security_advance(b->security, b->now), 2);
    assert_int_equal(begun(b, 4), 4);
    assert_int_equal(security_advance(b->security, b->now), 0);
    security_destroy(b->security);
    b->security = NULL;
    config_free(config);
}

/* Nothing would ever end it: neither work nor a timer is due. */
static void a_handshake_without_room_for_its_hello_is_none(void **state)
{
    struct bench *b = *state;
    struct security *s = b->security;
    uint8_t hello[HELLO_BYTES + 255];
    struct flow wire = bench_wire(1);

    while (chunks_write(&s->chunks, hello, 0) != CHUNK_NONE)
        continue;
    bench_receive(b, &wire, hello, write_hello(hello, NULL, 0));
    assert_int_equal(b->counters.dtls_hello_verify, 1);
    assert_int_equal(b->sent[0].length, HELLO_VERIFY_BYTES);
    bench_receive(b, &wire, hello,
                  write_hello(hello, b->sent[0].bytes + HELLO_VERIFY_BYTES - HELLO_COOKIE_BYTES,
                              HELLO_COOKIE_BYTES));
    assert_int_equal(b->counters.drop_dtls_queue, 1);
    assert_int_equal(pool_used(&s->contacts), 0);
}

/* What else was armed may be gone by then, and its memory with it. */
static void the_end_leaves_the_wheel_alone(void **state)
{
    struct bench *b = *state;
    struct flow wire = bench_wire(1);
    struct contact *c = security_contact_make(b->security, &wire, 0, ASSOCIATION_SERVER);
    struct timer gone = {.kind = TIMER_HANDSHAKE};

    assert_non_null(c);
    wheel_arm(&b->wheel, &gone, b->now + 5000);
    wheel_arm(&b->wheel, &c->timer, b->now + 5000);
    gone.link = NULL;
    security_destroy(b->security);
    b->security = NULL;
    assert_null(gone.link);
    assert_int_equal(b->wheel.armed, 2);
}

static int begin(void **state)
{
    return bench_begin(state, 4);
}

static int begin_large(void **state)
{
    return bench_begin(state, 100);
}

#define SMALL(test) cmocka_unit_test_setup_teardown(test, begin, bench_end)
#define LARGE(test) cmocka_unit_test_setup_teardown(test, begin_large, bench_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SMALL(a_handshake_without_room_for_its_hello_is_none),
        SMALL(silent_clients_keep_nobody_out),
        LARGE(a_turn_has_a_budget_for_handshakes),
        SMALL(the_end_leaves_the_wheel_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
