/* What one worker changes, the others give out no more (RFC 7252 5.6). */
#include "tests/unit/worker_harness.h"

static const char yaml[] = "instance: unit\n"
                           "interfaces:\n"
                           "  - name: south\n"
                           "    device: tap:unit0\n"
                           "    addresses: [10.99.0.2/24]\n"
                           "listeners:\n"
                           "  - uri: coap://10.99.0.2\n"
                           "upstreams:\n"
                           "  - name: origin\n"
                           "    servers: [coap://10.99.0.1:5683]\n"
                           "routes:\n"
                           "  - {path: /, to: origin}\n";

struct pair {
    struct harness writer, reader;
    uint16_t mid;
};

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));

    harness_start(&p->writer, yaml);
    harness_start(&p->reader, yaml);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;

    harness_nothing_left(&p->writer);
    harness_nothing_left(&p->reader);
    harness_stop(&p->writer);
    harness_stop(&p->reader);
    free(p);
    return 0;
}

/* Asks, and plays the origin when it is asked. Returns whether it was. */
static bool ask(struct pair *p, struct harness *h, uint8_t code, const char *path, uint8_t answer)
{
    struct flow client = harness_client(h, 1);
    uint8_t bytes[1500];
    struct message m;
    struct sent *s;
    bool asked;

    harness_give(h, &client, bytes,
                 harness_request(bytes, TYPE_CON, code, p->mid++, 1, path, NULL));
    s = harness_expect(h, &m);
    asked = s->flow.peer_port == 5683;
    if (asked) {
        struct flow origin = s->flow;

        harness_give(h, &origin, bytes,
                     harness_message(bytes, TYPE_ACK, answer, m.mid, m.token, 8, "x"));
        harness_expect(h, &m);
    }
    assert_int_equal(m.code, answer);
    harness_silent(h);
    return asked;
}

static void the_others_are_told(void **state)
{
    struct pair *p = *state;

    assert_true(ask(p, &p->reader, CODE_GET, "a", CODE_CONTENT));
    assert_true(ask(p, &p->reader, CODE_GET, "b", CODE_CONTENT));
    assert_false(ask(p, &p->reader, CODE_GET, "a", CODE_CONTENT));
    assert_int_equal(p->reader.changes, 0);

    assert_true(ask(p, &p->writer, CODE_PUT, "a", CODE_NOT_FOUND)); /* nothing was changed */
    assert_int_equal(p->writer.changes, 0);
    assert_true(ask(p, &p->writer, CODE_PUT, "a", CODE_CHANGED));
    assert_int_equal(p->writer.changes, 1);

    worker_changed(p->reader.worker, &p->writer.changed_uri, 1, p->reader.now);
    assert_false(ask(p, &p->reader, CODE_GET, "b", CODE_CONTENT));
    assert_true(ask(p, &p->reader, CODE_GET, "a", CODE_CONTENT));
    assert_false(ask(p, &p->reader, CODE_GET, "a", CODE_CONTENT));
}

static void when_news_are_lost_nothing_is_trusted(void **state)
{
    struct pair *p = *state;

    assert_true(ask(p, &p->reader, CODE_GET, "a", CODE_CONTENT));
    assert_true(ask(p, &p->reader, CODE_GET, "b", CODE_CONTENT));
    worker_forget(p->reader.worker, p->reader.now);
    assert_true(ask(p, &p->reader, CODE_GET, "a", CODE_CONTENT));
    assert_true(ask(p, &p->reader, CODE_GET, "b", CODE_CONTENT));
    assert_false(ask(p, &p->reader, CODE_GET, "b", CODE_CONTENT));
}

/* RFC 7252 5.9.1.1: that there is no such resource is not true of one that was created. */
static void what_was_created_is_not_missing(void **state)
{
    struct pair *p = *state;
    struct harness *h = &p->writer;
    struct flow client = harness_client(h, 2), origin;
    uint8_t bytes[1500];
    struct message m;
    struct encoder e;

    assert_true(ask(p, h, CODE_GET, "a/1", CODE_NOT_FOUND));
    assert_false(ask(p, h, CODE_GET, "a/1", CODE_NOT_FOUND));
    harness_give(h, &client, bytes,
                 harness_request(bytes, TYPE_CON, CODE_POST, p->mid++, 2, "a", NULL));
    origin = harness_expect(h, &m)->flow;
    encoder_begin(&e, bytes, sizeof(bytes), TYPE_ACK, CODE_CREATED, m.mid, m.token, 8);
    encoder_option(&e, OPTION_LOCATION_PATH, "a", 1);
    encoder_option(&e, OPTION_LOCATION_PATH, "1", 1);
    harness_give(h, &origin, bytes, encoder_end(&e));
    harness_expect(h, &m);
    assert_int_equal(m.code, CODE_CREATED);
    assert_true(ask(p, h, CODE_GET, "a/1", CODE_CONTENT));
}

/* What is on its way was read before the change: it is answered, and not kept. */
static void what_is_on_its_way_is_not_kept(void **state)
{
    struct pair *p = *state;
    struct harness *h = &p->reader;
    struct flow client = harness_client(h, 2), origin;
    uint8_t bytes[1500];
    struct message m;

    assert_true(ask(p, &p->writer, CODE_DELETE, "a", CODE_DELETED));
    harness_give(h, &client, bytes,
                 harness_request(bytes, TYPE_CON, CODE_GET, p->mid++, 2, "a", NULL));
    origin = harness_expect(h, &m)->flow;
    worker_changed(h->worker, &p->writer.changed_uri, 1, h->now);
    harness_give(h, &origin, bytes,
                 harness_message(bytes, TYPE_ACK, CODE_CONTENT, m.mid, m.token, 8, "old"));
    harness_expect(h, &m);
    assert_memory_equal(m.payload, "old", 3);
    assert_true(ask(p, h, CODE_GET, "a", CODE_CONTENT));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_others_are_told),
        TEST(when_news_are_lost_nothing_is_trusted),
        TEST(what_was_created_is_not_missing),
        TEST(what_is_on_its_way_is_not_kept),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
