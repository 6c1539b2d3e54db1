/* The servers by themselves: how they are counted that have something to be told, and which one is
 * chosen. */
#include "gateway/hash.h"
#include "gateway/proxy/upstream.h"
#include "tests/unit/proxy_steps.h"

#define SERVERS 4

struct bench {
    struct harness harness;
    struct messaging m;
    struct counters counters;
    struct upstreams u;
};

static const char yaml[] = "instance: unit\n"
                           "interfaces:\n"
                           "  - name: south\n"
                           "    device: tap:unit0\n"
                           "    addresses: [10.99.0.2/24]\n"
                           "listeners: [{uri: coap://10.99.0.2}]\n"
                           "upstreams:\n"
                           "  - name: four\n"
                           "    ports: 2\n"
                           "    servers: [coap://10.99.0.11, coap://10.99.0.12, coap://10.99.0.13, "
                           "coap://10.99.0.14]\n"
                           "  - name: again\n"
                           "    servers: [coap://10.99.0.11]\n"
                           "routes: [{path: /, to: four}, {path: /again, to: again}]\n"
                           "limits: {sessions: 64, exchanges: 16, outbound: 16, queue: 2, "
                           "remembered: 16, message_memory: 64KiB}\n";

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct messaging_setup ms = {.counters = &b->counters, .sessions = 64};
    static const uint8_t seed[RANDOM_SEED_BYTES] = {1};

    harness_start(&b->harness, yaml);
    ms.config = b->harness.config;
    ms.io = (struct worker_io){.context = &b->harness,
                               .alloc = harness_alloc,
                               .send = harness_send,
                               .cancel = harness_cancel,
                               .upstream_port = harness_port};
    ms.seed = seed;
    assert_int_equal(messaging_init(&b->m, &ms, b->harness.now), 0);
    assert_int_equal(upstreams_init(&b->u, &b->m, 1), 0);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;

    upstreams_fini(&b->u);
    messaging_fini(&b->m);
    harness_stop(&b->harness);
    free(b);
    return 0;
}

static unsigned servers_to_tell(const struct upstreams *u)
{
    unsigned n = 0;

    for (unsigned i = 0; i < u->total; i++)
        n += u->servers[i].lost_fetches || u->servers[i].lost_observations;
    return n;
}

/* Whatever happens before they are told: the count of servers is right, or the worker would never
 * rest again. */
static void the_count_of_lost_servers_is_right(void **state)
{
    struct bench *b = *state;
    struct random random;
    static const uint8_t seed[RANDOM_SEED_BYTES] = {7};

    random_seed(&random, seed);
    for (unsigned i = 0; i < 2000; i++) {
        uint32_t index = random_below(&random, SERVERS);
        struct server *server = &b->u.servers[index];

        server->fetch_count = random_below(&random, 2);
        server->observation_count = random_below(&random, 2);
        if (random_below(&random, 2))
            upstreams_failed(&b->u, index);
        else
            upstreams_heard(&b->u, index);
        assert_int_equal(b->u.lost, servers_to_tell(&b->u));
        assert_true(!server->gate.held || server->lost_fetches);
    }
}

static void who_is_left_out_is_chosen_only_when_nobody_else_is_up(void **state)
{
    struct bench *b = *state;
    struct server *servers = b->u.servers;

    for (unsigned up = 0; up < 1u << SERVERS; up++) {
        for (unsigned i = 0; i < SERVERS; i++)
            servers[i].down = !(up >> i & 1);
        for (uint32_t but = 0; but < SERVERS; but++) {
            unsigned others = up & ~(1u << but);
            uint32_t pick = upstreams_choose(&b->u, 0, SERVERS, 12345 + up, but);

            assert_true(pick < SERVERS);
            if (others)
                assert_true(others >> pick & 1);
            else if (up)
                assert_int_equal(pick, but);
            else
                assert_int_not_equal(pick, but);
        }
        assert_int_equal(upstreams_any_up(&b->u, 0, SERVERS), up != 0);
    }
}

static void the_hash_spreads_evenly(void **state)
{
    struct bench *b = *state;
    unsigned share[SERVERS] = {0};

    for (uint64_t i = 0; i < 4000; i++)
        share[upstreams_choose(&b->u, 0, SERVERS, hash_bytes(&i, sizeof(i), 99), SERVER_NONE)]++;
    for (unsigned k = 0; k < SERVERS; k++)
        assert_in_range(share[k], 850, 1150);
}

static void expire(struct bench *b, struct session *s)
{
    upstreams_closed(&b->u, s);
    wheel_cancel(&b->m.wheel, &s->idle);
    session_remove(&b->m.sessions, s);
}

/* One port after the other; the session of one that has expired is not used again. */
static void ports_are_used_up_one_after_the_other(void **state)
{
    struct bench *b = *state;
    struct session *first, *second, *s;
    unsigned n;
    uint16_t mid;

    first = upstreams_session(&b->u, 0, &mid);
    assert_non_null(first);
    for (n = 1; (second = upstreams_session(&b->u, 0, &mid)) == first; n++)
        ;
    assert_in_range(n, 32769, 65536); /* it begins anywhere, and uses no ID twice */
    assert_non_null(second);
    assert_int_not_equal(second->flow.local_port, first->flow.local_port);
    for (n = 1; (s = upstreams_session(&b->u, 0, &mid)) == second; n++)
        ;
    assert_in_range(n, 32769, 65536);
    assert_null(s); /* all IDs of both */
    assert_null(upstreams_session(&b->u, 0, &mid));
    b->m.now += 246 * SECOND_US;
    assert_null(upstreams_session(&b->u, 0, &mid));
    b->m.now += 2 * SECOND_US;
    assert_non_null(upstreams_session(&b->u, 0, &mid)); /* EXCHANGE_LIFETIME later */
    expire(b, first);
    expire(b, second);
    s = upstreams_session(&b->u, 0, &mid);
    assert_non_null(s);
    assert_int_equal(s->side.upstream.server, 0);
    expire(b, s);
}

/* An origin may remember message IDs of lives before: each begins with a port of its own, and far
 * from where the ones before it may have got to. */
static void lives_begin_with_ports_far_apart(void **state)
{
    struct bench *b = *state;
    struct server *server = &b->u.servers[SERVERS]; /* with 1,024 ports */

    assert_int_equal(server->ports, 1024);
    for (uint64_t life = 1; life < 600; life++) {
        struct config_server place = server->place;
        unsigned first[4], at = 0;

        for (; at < 4; at++) {
            b->m.mids.life = life + at;
            upstreams_move(&b->u, SERVERS, &place);
            first[at] = server->current;
            assert_true(first[at] < 256);
        }
        for (unsigned before = 0; before < 3; before++)
            assert_in_range((first[3] - first[before]) % 256, 32, 224);
    }
    for (server->ports = 1; server->ports <= 20; server->ports++) {
        bool begun[20] = {false};

        for (b->m.mids.life = 77; b->m.mids.life < 77u + server->ports; b->m.mids.life++) {
            struct config_server place = server->place;

            upstreams_move(&b->u, SERVERS, &place);
            assert_false(begun[server->current]);
            begun[server->current] = true;
        }
    }
}

static void a_port_that_is_free_again_is_found_at_once(void **state)
{
    struct bench *b = *state;
    struct session *s, *last = NULL;
    uint16_t mid;

    while ((s = upstreams_session(&b->u, 0, &mid)))
        last = s;
    assert_true(upstreams_is_dry(&b->u, 0));
    assert_null(upstreams_session(&b->u, 0, &mid));
    expire(b, last);
    assert_false(upstreams_is_dry(&b->u, 0));
    assert_non_null(upstreams_session(&b->u, 0, &mid));
}

/* A server that becomes another endpoint leaves its sessions behind, and its ping. */
static void sessions_of_a_place_that_was_left_mean_nothing(void **state)
{
    struct bench *b = *state;
    struct config_server there = b->u.servers[0].place, back = there;
    struct session *old, *new;
    uint16_t mid;

    there.endpoint.address.bytes[15] = 99;
    old = upstreams_session(&b->u, 0, &mid);
    upstreams_move(&b->u, 0, &there);
    new = upstreams_session(&b->u, 0, &mid);
    assert_ptr_not_equal(old, new);
    assert_int_equal(new->flow.peer.bytes[15], 99);
    assert_false(upstreams_pong(&b->u, old, mid, true));
    expire(b, old); /* the new one's port is not forgotten with it */
    assert_ptr_equal(upstreams_session(&b->u, 0, &mid), new);
    upstreams_move(&b->u, 0, &back);
    old = upstreams_session(&b->u, 0, &mid);
    assert_non_null(old);
    assert_int_equal(old->flow.peer.bytes[15], 11);
    expire(b, new);
    assert_ptr_equal(upstreams_session(&b->u, 0, &mid), old);
    expire(b, old);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_count_of_lost_servers_is_right),
        TEST(who_is_left_out_is_chosen_only_when_nobody_else_is_up),
        TEST(the_hash_spreads_evenly),
        TEST(ports_are_used_up_one_after_the_other),
        TEST(lives_begin_with_ports_far_apart),
        TEST(a_port_that_is_free_again_is_found_at_once),
        TEST(sessions_of_a_place_that_was_left_mean_nothing),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
