/* Which destinations of the forward proxy are remembered, and what becomes of those that are not.
 */
#include "tests/unit/names_steps.h"

static const char *uri_of(unsigned i)
{
    static char uri[64];

    snprintf(uri, sizeof(uri), "coap://n%u.fleet.example/", i);
    return uri;
}

static uint32_t question_of(struct named *n, unsigned i)
{
    char name[64];

    snprintf(name, sizeof(name), "n%u.fleet.example", i);
    return expect_question(n, name);
}

static void fetch_from_new(struct named *n, uint16_t mid, unsigned i)
{
    struct sent out;
    char host[64], address[16];

    snprintf(host, sizeof(host), "|n%u.fleet.example", i);
    snprintf(address, sizeof(address), "10.99.0.%u", 100 + i);
    ask_uri(n, 1, mid, uri_of(i));
    give_answer(n, question_of(n, i), 0, 6000, address);
    out = expect_at(n, 100 + i, host);
    finish_request(n, 1, &out, "far");
}

static uint32_t destinations(const struct named *n)
{
    struct worker_usage usage;

    worker_usage(n->h.worker, &usage);
    return usage.destinations;
}

static void the_destination_not_used_for_longest_goes(void **state)
{
    struct named *n = *state;

    for (unsigned i = 0; i < 20; i++)
        fetch_from_new(n, (uint16_t)i, i);
    assert_int_equal(destinations(n), 20);
    fetch_from(n, 20, uri_of(0), 100, "|n0.fleet.example"); /* known */
    fetch_from_new(n, 21, 20);
    assert_int_equal(destinations(n), 20);
    fetch_from(n, 22, uri_of(0), 100, "|n0.fleet.example");
    fetch_from_new(n, 23, 1); /* had to be asked for again */
    for (unsigned i = 3; i <= 20; i++) {
        char host[64];

        snprintf(host, sizeof(host), "|n%u.fleet.example", i);
        fetch_from(n, (uint16_t)(30 + i), uri_of(i), 100 + i, host);
    }
}

/* The client takes all that is sent to it. */
static void acknowledge_all(struct named *n, unsigned client)
{
    struct flow flow = harness_client(&n->h, client);
    struct sent *s;

    for (unsigned i = 0; i < 100; i++) {
        harness_advance(&n->h, SECOND_US);
        while ((s = harness_take(&n->h)))
            if (s->data[0] >> 4 == 4 && flow_equal(&s->flow, &flow)) /* a CON */
                give_empty(&n->h, &flow, TYPE_ACK, (uint16_t)(s->data[2] << 8 | s->data[3]));
    }
}

/* However many of the oldest are in use for long. */
static void busy_destinations_stay_and_hinder_nobody(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out[19];

    for (unsigned i = 0; i < 19; i++) { /* observed for good */
        ask_with(
            &n->h, 2, (uint16_t)i, CODE_GET,
            OPTIONS(UINT(OPTION_OBSERVE, 0), {OPTION_PROXY_URI, uri_of(i), strlen(uri_of(i)), 0}),
            NULL);
        give_answer(n, question_of(n, i), 0, 60000, "10.99.0.7");
        out[i] = expect_upstream(&n->h, &m);
        answer_with(&n->h, &out[i], CODE_CONTENT,
                    OPTIONS(UINT(OPTION_OBSERVE, 5), UINT(OPTION_MAX_AGE, 3000)), "state");
        expect_client(&n->h, 2, CODE_CONTENT, &m);
        assert_true(message_has(&m, SLOT_OBSERVE));
    }
    for (unsigned i = 19; i < 60; i++)
        fetch_from_new(n, (uint16_t)(100 + i), i);
    assert_int_equal(destinations(n), 20);
    ask_uri(n, 1, 1, "coap://10.99.0.50/"); /* the last one is in use: no place for another */
    expect_upstream(&n->h, &m);
    expect_refusal(n, 2, "coap://10.99.0.51/", CODE_SERVICE_UNAVAILABLE);
    let_it_end(&n->h, 200 * SECOND_US);
    for (unsigned i = 0; i < 19; i++) { /* the origins have nothing more to say */
        uint8_t bytes[1500];

        harness_give(&n->h, &out[i].flow, bytes,
                     harness_message(bytes, TYPE_NON, CODE_NOT_FOUND, (uint16_t)(0x7000 + i),
                                     out[i].data + 4, 8, NULL));
    }
    acknowledge_all(n, 2);
    for (unsigned i = 0; i < 19; i++) /* and all have gone, so that there is room */
        fetch_from_new(n, (uint16_t)(700 + i), 70 + i);
}

/* The answer to a question about one that has been given up is not for the one in its place. */
static void an_answer_for_a_place_that_was_given_up_does_nothing(void **state)
{
    struct named *n = *state;
    struct message m;
    struct sent out;
    uint32_t ids[20], other;

    for (unsigned i = 0; i < 20; i++) { /* none is answered in time */
        ask_typed(&n->h, 1, TYPE_NON, (uint16_t)i, CODE_GET,
                  OPTIONS({OPTION_PROXY_URI, uri_of(i), strlen(uri_of(i)), 0}), NULL);
        ids[i] = question_of(n, i);
    }
    harness_advance(&n->h, 21 * SECOND_US);
    for (unsigned i = 0; i < 20; i++)
        expect_client(&n->h, 1, CODE_GATEWAY_TIMEOUT, &m);
    ask_uri(n, 1, 100, "coap://a.example/"); /* in the place of n0 */
    other = expect_question(n, "a.example");
    assert_int_equal(other & 0xffff, ids[0] & 0xffff);
    give_answer(n, ids[0], 0, 60, "10.99.0.66");
    harness_silent(&n->h);
    give_answer(n, other, 0, 60, "10.99.0.7");
    out = expect_at(n, 7, "|a.example");
    finish_request(n, 1, &out, "far");
    give_answer(n, ids[0], 0, 60, "10.99.0.66");
    fetch_from(n, 101, "coap://a.example/", 7, "|a.example");
    /* A literal in the place of a name that is being asked for. */
    fetch_from(n, 102, "coap://10.99.0.9/", 9, "");
    give_answer(n, ids[1], 0, 60, "10.99.0.66");
    fetch_from(n, 103, "coap://10.99.0.9/", 9, "");
    for (unsigned i = 2; i < 20; i++)
        give_answer(n, ids[i], 0, 60, "10.99.0.66");
    fetch_from(n, 104, uri_of(5), 66, "|n5.fleet.example"); /* late, but still the right one */
}

/* The same in the place of another: its sessions are the old one's no more. */
static void a_place_that_is_used_again_goes_to_the_new_host(void **state)
{
    struct named *n = *state;

    for (unsigned round = 0; round < 5; round++)
        for (unsigned i = 0; i < 22; i++) {
            char uri[64];

            snprintf(uri, sizeof(uri), "coap://10.99.0.%u/", 100 + i);
            fetch_from(n, (uint16_t)(round * 22 + i), uri, 100 + i, "");
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_destination_not_used_for_longest_goes),
        TEST(busy_destinations_stay_and_hinder_nobody),
        TEST(an_answer_for_a_place_that_was_given_up_does_nothing),
        TEST(a_place_that_is_used_again_goes_to_the_new_host),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
