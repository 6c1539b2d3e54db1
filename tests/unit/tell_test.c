/* What an origin is told of a client, and that a client cannot write it itself. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/proxy/tell.h"

struct option {
    uint16_t number;
    const char *value;
};

static const struct config_upstream by_query = {.tell_client = CONFIG_TELL_QUERY,
                                                .tell_query = (char[]){"who"}};

static struct config_upstream by_option(uint16_t number)
{
    return (struct config_upstream){.tell_client = CONFIG_TELL_OPTION, .tell_option = number};
}

static struct principal named(const char *name)
{
    struct principal p;

    assert_int_equal(principal_set(&p, PRINCIPAL_PSK, name, strlen(name)), 0);
    return p;
}

static void write_request(const struct option *options, uint8_t *bytes, struct message *out)
{
    struct encoder e;

    encoder_begin(&e, bytes, MESSAGE_MAX_BYTES, TYPE_CON, CODE_FETCH, 0x1234,
                  (const uint8_t *)"token", 5);
    for (; options->value; options++)
        encoder_option(&e, options->number, options->value, strlen(options->value));
    encoder_payload(&e, "body", 4);
    assert_int_equal(message_parse(bytes, (uint16_t)encoder_end(&e), out), VERDICT_OK);
}

/* All of the told message is as `wanted`, and the rest as it was. */
static void tells(const struct config_upstream *upstream, const struct principal *client,
                  const struct option *options, const struct option *wanted)
{
    uint8_t bytes[MESSAGE_MAX_BYTES];
    struct message request;
    static struct told told;
    struct option_cursor cursor;
    struct option_view view;

    write_request(options, bytes, &request);
    assert_int_equal(tell_write(&told, &request, upstream, client), 0);
    assert_int_equal(told.message.type, TYPE_CON);
    assert_int_equal(told.message.code, CODE_FETCH);
    assert_int_equal(told.message.mid, 0x1234);
    assert_int_equal(told.message.token_length, 5);
    assert_memory_equal(told.message.token, "token", 5);
    assert_int_equal(told.message.payload_length, 4);
    assert_memory_equal(told.message.payload, "body", 4);
    cursor = option_cursor(&told.message);
    for (; wanted->value; wanted++) {
        assert_true(option_next(&cursor, &view));
        assert_int_equal(cursor.number, wanted->number);
        assert_int_equal(view.length, strlen(wanted->value));
        assert_memory_equal(view.value, wanted->value, view.length);
    }
    assert_false(option_next(&cursor, &view));
}

#define END     \
    {           \
        0, NULL \
    }
#define OPTIONS(...) ((const struct option[]){__VA_ARGS__ END})

static void by_a_query(void **state)
{
    struct principal client = named("device-1"), nobody = {.kind = PRINCIPAL_NONE};

    (void)state;
    tells(&by_query, &client, OPTIONS(), OPTIONS({15, "who=psk:device-1"}, ));
    tells(&by_query, &client, OPTIONS({11, "a"}, {15, "x=1"}, {15, "y"}, {17, "2"}, ),
          OPTIONS({11, "a"}, {15, "x=1"}, {15, "y"}, {15, "who=psk:device-1"}, {17, "2"}, ));
    tells(&by_query, &client, OPTIONS({11, "a"}, {60, "7"}, ),
          OPTIONS({11, "a"}, {15, "who=psk:device-1"}, {60, "7"}, ));
    tells(&by_query, &nobody, OPTIONS({11, "a"}, {15, "x=1"}, ), OPTIONS({11, "a"}, {15, "x=1"}, ));
}

static void forged_queries_go(void **state)
{
    struct principal client = named("device-1"), nobody = {.kind = PRINCIPAL_NONE};

    (void)state;
    tells(
        &by_query, &client,
        OPTIONS({15, "who=psk:other"}, {15, "whose=mine"}, {15, "who"}, {15, "who="}, {60, "7"}, ),
        OPTIONS({15, "whose=mine"}, {15, "who=psk:device-1"}, {60, "7"}, ));
    tells(&by_query, &nobody, OPTIONS({11, "a"}, {15, "who=psk:other"}, {17, "2"}, ),
          OPTIONS({11, "a"}, {17, "2"}, ));
    tells(&by_query, &nobody, OPTIONS({15, "who"}, ), OPTIONS());
    tells(&by_query, &client,
          OPTIONS({15, "x=1&who=psk:other"}, {15, "who&y"}, {15, "&who"}, {15, "x=who&y&"},
                  {15, "xwho=1"}, ),
          OPTIONS({15, "x=who&y&"}, {15, "xwho=1"}, {15, "who=psk:device-1"}, ));
}

/* Whatever the bits of the number say: critical, unsafe, no part of a cache key (RFC 7252 5.4.6).
 */
static void by_an_option(void **state)
{
    static const uint16_t numbers[] = {65000, 65001, 65002, 65003, 0x101c, 256, 65535};
    struct principal client = named("device-1"), nobody = {.kind = PRINCIPAL_NONE};

    (void)state;
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct config_upstream upstream = by_option(numbers[i]);

        tells(&upstream, &client, OPTIONS({11, "a"}, {numbers[i], "me"}, {numbers[i], ""}, ),
              OPTIONS({11, "a"}, {numbers[i], "psk:device-1"}, ));
        tells(&upstream, &nobody, OPTIONS({11, "a"}, {numbers[i], "me"}, ), OPTIONS({11, "a"}, ));
    }
}

/* What the client itself asks for that is not understood is still known to be so; what the gateway
 * adds is not taken for it. */
static void what_is_not_understood_is_the_clients(void **state)
{
    struct config_upstream upstream = by_option(65003); /* critical and unsafe */
    struct principal client = named("device-1");
    uint8_t bytes[MESSAGE_MAX_BYTES];
    struct message request;
    static struct told told;

    (void)state;
    write_request(OPTIONS({11, "a"}, {65003, "me"}, ), bytes, &request);
    assert_int_equal(request.unknown_critical_unsafe, 65003);
    assert_int_equal(tell_write(&told, &request, &upstream, &client), 0);
    assert_int_equal(told.message.unknown_critical_unsafe, 0);
    assert_int_equal(told.message.unknown_critical, 0);
    write_request(OPTIONS({11, "a"}, {65007, "x"}, ), bytes, &request);
    assert_int_equal(tell_write(&told, &request, &upstream, &client), 0);
    assert_int_equal(told.message.unknown_critical_unsafe, 65007);
}

static void what_is_too_long_is_refused(void **state)
{
    uint8_t bytes[MESSAGE_MAX_BYTES];
    char name[PRINCIPAL_MAX + 1] = {0};
    struct principal client;
    struct message request;
    static struct told told;
    struct encoder e;

    (void)state;
    memset(name, 1, PRINCIPAL_MAX); /* each byte is written as four */
    client = named(name);
    write_request(OPTIONS(), bytes, &request);
    assert_int_equal(tell_write(&told, &request, &by_query, &client), -EMSGSIZE);
    client = named("device-1");
    encoder_begin(&e, bytes, sizeof(bytes), TYPE_CON, CODE_POST, 1, NULL, 0);
    while (e.length < sizeof(bytes) - 300)
        encoder_option(&e, 11, name, PRINCIPAL_MAX);
    encoder_payload(&e, told.bytes, sizeof(bytes) - e.length - 1);
    assert_int_equal(message_parse(bytes, (uint16_t)encoder_end(&e), &request), VERDICT_OK);
    assert_int_equal(tell_write(&told, &request, &by_query, &client), -EMSGSIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_a_query),
        cmocka_unit_test(forged_queries_go),
        cmocka_unit_test(by_an_option),
        cmocka_unit_test(what_is_not_understood_is_the_clients),
        cmocka_unit_test(what_is_too_long_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
