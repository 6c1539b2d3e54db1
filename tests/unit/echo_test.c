/* Echo values (RFC 9175 2.2, 2.3). */
#include "tests/unit/worker_harness.h"

#include "gateway/session/echo.h"

static struct flow flow_of(uint16_t port)
{
    struct endpoint peer = {.address = address_from_v4((const uint8_t[]){10, 0, 0, 9}),
                            .port = port};

    return flow_make(0, 5683, &peer, TRANSPORT_UDP);
}

static struct echo *make(uint8_t seed)
{
    uint8_t bytes[RANDOM_SEED_BYTES] = {seed};
    struct random random;
    struct echo *echo;

    random_seed(&random, bytes);
    echo = echo_create(&random);
    assert_non_null(echo);
    return echo;
}

static void a_value_proves_its_flow_for_a_while(void **state)
{
    struct echo *echo = make(1), *other = make(2);
    struct flow flow = flow_of(1000), stranger = flow_of(1001);
    uint64_t now = 5000 * SECOND_US, late = now + (ECHO_LIFETIME_S + 1) * SECOND_US;
    uint8_t value[ECHO_BYTES];

    (void)state;
    echo_make(echo, &flow, now, value);
    assert_int_equal(echo_verify(echo, &flow, now, value, sizeof(value)), ECHO_PROOF);
    assert_int_equal(echo_verify(echo, &flow, late - SECOND_US, value, sizeof(value)), ECHO_PROOF);
    assert_int_equal(echo_verify(echo, &flow, late, value, sizeof(value)), ECHO_STALE);
    assert_int_equal(echo_verify(echo, &stranger, now, value, sizeof(value)), ECHO_FOREIGN);
    assert_int_equal(echo_verify(other, &flow, now, value, sizeof(value)), ECHO_FOREIGN);
    assert_int_equal(echo_verify(echo, &flow, now, value, sizeof(value) - 1), ECHO_FOREIGN);
    for (unsigned bit = 0; bit < 8 * ECHO_BYTES; bit++) {
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(echo_verify(echo, &flow, now, value, sizeof(value)), ECHO_FOREIGN);
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    echo_destroy(echo);
    echo_destroy(other);
}

static const char yaml[] = "instance: unit\n"
                           "interfaces:\n"
                           "  - name: south\n"
                           "    device: tap:unit0\n"
                           "    addresses: [10.99.0.2/24]\n"
                           "listeners:\n"
                           "  - uri: coap://10.99.0.2\n"
                           "upstreams:\n"
                           "  - {name: origin, servers: [coap://10.99.0.1]}\n"
                           "routes:\n"
                           "  - {path: /, to: origin}\n"
                           "limits: {transfers: 16}\n";

/* Asks from client 1, with an Echo or without. */
static void ask(struct harness *h, uint16_t mid, const uint8_t *echo, uint16_t length)
{
    struct flow client = harness_client(h, 1);
    uint8_t bytes[200];
    struct encoder e;

    encoder_begin(&e, bytes, sizeof(bytes), TYPE_CON, CODE_GET, mid, NULL, 0);
    encoder_option(&e, OPTION_URI_PATH, "x", 1);
    if (echo)
        encoder_option(&e, OPTION_ECHO, echo, length);
    harness_give(h, &client, bytes, encoder_end(&e));
}

/* One that has become stale is still ours: a new one is given, and the origin never sees it. */
static void a_stale_value_is_challenged_anew(void **state)
{
    struct harness h;
    struct message m;
    uint8_t bytes[1500], echo[ECHO_BYTES];
    char payload[1001];
    struct flow origin;

    (void)state;
    memset(payload, 'x', 1000);
    payload[1000] = 0;
    harness_start(&h, yaml);
    ask(&h, 1, NULL, 0);
    origin = harness_expect(&h, &m)->flow;
    harness_give(&h, &origin, bytes,
                 harness_message(bytes, TYPE_ACK, CODE_CONTENT, m.mid, m.token, 8, payload));
    harness_expect(&h, &m);
    assert_int_equal(m.code, CODE_UNAUTHORIZED);
    assert_int_equal(m.first[SLOT_ECHO].length, ECHO_BYTES);
    memcpy(echo, m.first[SLOT_ECHO].value, ECHO_BYTES);
    harness_advance(&h, (ECHO_LIFETIME_S + 1) * SECOND_US);

    ask(&h, 2, echo, ECHO_BYTES);
    origin = harness_expect(&h, &m)->flow; /* the cache has let it go: asked again, without Echo */
    assert_int_equal(m.code, CODE_GET);
    assert_false(message_has(&m, SLOT_ECHO));
    harness_give(&h, &origin, bytes,
                 harness_message(bytes, TYPE_ACK, CODE_CONTENT, m.mid, m.token, 8, payload));
    harness_expect(&h, &m);
    assert_int_equal(m.code, CODE_UNAUTHORIZED);
    assert_int_equal(m.first[SLOT_ECHO].length, ECHO_BYTES);
    assert_memory_not_equal(m.first[SLOT_ECHO].value, echo, ECHO_BYTES);
    memcpy(echo, m.first[SLOT_ECHO].value, ECHO_BYTES);
    ask(&h, 3, echo, ECHO_BYTES);
    harness_expect(&h, &m);
    assert_int_equal(m.code, CODE_CONTENT);
    assert_int_equal(m.payload_length, 1000);
    harness_nothing_left(&h);
    harness_stop(&h);
}

/* The first of several blocks, from client n. Returns the code of the answer. */
static uint8_t begin_upload(struct harness *h, unsigned n, uint16_t mid, const uint8_t *echo,
                            struct message *m)
{
    struct flow client = harness_client(h, n);
    uint8_t bytes[200], block[16] = {0};
    struct encoder e;

    encoder_begin(&e, bytes, sizeof(bytes), TYPE_CON, CODE_PUT, mid, NULL, 0);
    encoder_option(&e, OPTION_URI_PATH, "x", 1);
    encoder_uint(&e, OPTION_BLOCK1, 0x08); /* 0/1/16 */
    if (echo)
        encoder_option(&e, OPTION_ECHO, echo, ECHO_BYTES);
    encoder_payload(&e, block, sizeof(block));
    harness_give(h, &client, bytes, encoder_end(&e));
    harness_expect(h, m);
    return m->code;
}

/* Spoofed first blocks cannot take all transfers. */
static void when_transfers_run_short_a_proof_is_wanted(void **state)
{
    struct harness h;
    struct message m;
    uint8_t echo[ECHO_BYTES];

    (void)state;
    harness_start(&h, yaml);
    for (unsigned n = 0; n < 8; n++)
        assert_int_equal(begin_upload(&h, n, 1, NULL, &m), CODE_CONTINUE);
    for (unsigned n = 8; n < 40; n++)
        assert_int_equal(begin_upload(&h, n, 1, NULL, &m), CODE_UNAUTHORIZED);
    assert_int_equal(begin_upload(&h, 7, 2, NULL, &m), CODE_CONTINUE); /* has one: begins anew */
    assert_int_equal(begin_upload(&h, 50, 1, NULL, &m), CODE_UNAUTHORIZED);
    assert_int_equal(m.first[SLOT_ECHO].length, ECHO_BYTES);
    memcpy(echo, m.first[SLOT_ECHO].value, ECHO_BYTES);
    assert_int_equal(begin_upload(&h, 50, 2, echo, &m), CODE_CONTINUE);
    harness_nothing_left(&h);
    harness_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_proves_its_flow_for_a_while),
        cmocka_unit_test(a_stale_value_is_challenged_anew),
        cmocka_unit_test(when_transfers_run_short_a_proof_is_wanted),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
