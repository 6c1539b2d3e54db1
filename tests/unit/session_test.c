/* The session table and message IDs (RFC 7252 4.4). */
#include "tests/unit/worker_harness.h"

#include "gateway/session/session.h"

static const struct mid_origin origin = {.key = 42, .life = 7};

static struct flow flow_of(uint32_t n)
{
    struct endpoint peer = {.address = address_from_v4((const uint8_t[]){
                                10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}),
                            .port = 1000};

    return flow_make(0, 5683, &peer, TRANSPORT_UDP);
}

static struct session *add(struct session_table *t, uint32_t n)
{
    struct flow flow = flow_of(n);

    return session_add(t, &flow, session_hash(t, &flow));
}

static void finds_what_was_added(void **state)
{
    struct session_table t;
    struct flow flows[64];
    const struct flow *keys[64];
    struct session *found[64];
    uint32_t hashes[64];

    (void)state;
    assert_int_equal(session_table_init(&t, 5000, 99), 0);
    for (uint32_t n = 0; n < 5000; n++)
        assert_non_null(add(&t, n));
    assert_null(add(&t, 5000));
    for (uint32_t n = 0; n < 64; n++) {
        flows[n] = flow_of(n * 100);
        keys[n] = &flows[n];
    }
    session_find_burst(&t, keys, hashes, 64, found);
    for (uint32_t n = 0; n < 64; n++) {
        assert_true(n >= 50 ? !found[n] : found[n] && flow_equal(&found[n]->flow, &flows[n]));
        assert_ptr_equal(found[n], session_find(&t, &flows[n], hashes[n]));
    }
    for (uint32_t n = 0; n < 5000; n++) {
        struct flow flow = flow_of(n);

        session_remove(&t, session_find(&t, &flow, session_hash(&t, &flow)));
        assert_null(session_find(&t, &flow, session_hash(&t, &flow)));
    }
    assert_int_equal(t.count, 0);
    session_table_fini(&t);
}

/* In a table of few slots chains meet, and go around its end, all the time. */
static void removal_leaves_the_others(void **state)
{
    enum { FLOWS = 48, ROOM = 32 };
    struct session *of[FLOWS] = {NULL};
    uint8_t seed[RANDOM_SEED_BYTES] = {5};
    struct session_table t;
    struct random random;
    unsigned live = 0;

    (void)state;
    random_seed(&random, seed);
    assert_int_equal(session_table_init(&t, ROOM, 3), 0);
    for (unsigned step = 0; step < 20000; step++) {
        uint32_t n = random_below(&random, FLOWS);

        if (of[n]) {
            session_remove(&t, of[n]);
            of[n] = NULL;
            live--;
        } else {
            of[n] = add(&t, n);
            assert_int_equal(of[n] != NULL, live < ROOM);
            live += of[n] != NULL;
        }
        assert_int_equal(t.count, live);
        for (n = 0; n < FLOWS; n++) {
            struct flow flow = flow_of(n);

            assert_ptr_equal(session_find(&t, &flow, session_hash(&t, &flow)), of[n]);
            assert_true(!of[n] || (session_index(&t, of[n]) < ROOM && of[n]->open));
        }
    }
    session_table_fini(&t);
}

/* Clients that follow one another spread as if at random: with half of the slots taken, half a slot
 * beyond the first choice on average. */
static void searches_are_short(void **state)
{
    enum { SESSIONS = 1 << 16 };
    uint32_t longest = 0;
    uint64_t total = 0;
    struct session_table t;

    (void)state;
    assert_int_equal(session_table_init(&t, SESSIONS, 7), 0);
    for (uint32_t n = 0; n < SESSIONS; n++)
        assert_non_null(add(&t, n));
    assert_int_equal(t.mask, 2 * SESSIONS - 1);
    for (uint32_t at = 0; at <= t.mask; at++) {
        uint32_t beyond = (at - t.slots[at].hash) & t.mask;

        if (!t.slots[at].place)
            continue;
        total += beyond;
        longest = beyond > longest ? beyond : longest;
    }
    assert_in_range(total, SESSIONS / 100 * 45, SESSIONS / 100 * 55);
    assert_in_range(longest, 1, 100);
    session_table_fini(&t);
}

static void the_victim_is_idle_and_free(void **state)
{
    struct session_table t;

    (void)state;
    assert_int_equal(session_table_init(&t, 16, 1), 0);
    for (uint32_t n = 0; n < 16; n++) {
        struct session *s = add(&t, n);

        s->seen_us = n == 9 ? 10 : 1000 + n;
        s->exchanges = n == 9 ? 0 : POOL_NONE; /* the oldest is at work */
        s->next_mid = session_first_mid(&s->flow, &origin, 2000);
    }
    struct session *victim = session_victim(&t, &origin, 2000);
    assert_non_null(victim);
    assert_int_equal(victim->seen_us, 1000);
    for (uint32_t n = 0; n < 16; n++) {
        struct flow flow = flow_of(n);
        struct session *s = session_find(&t, &flow, session_hash(&t, &flow));

        s->remembered_unsafe = 1;
    }
    assert_null(session_victim(&t, &origin, 2000));
    session_table_fini(&t);
}

/* One that has just used message IDs would use them again, were it forgotten and back at once. */
/* A session to a host that the forward proxy has given up is nobody's: it makes room, too. */
static void what_was_left_behind_makes_room(void **state)
{
    struct session_table t;
    struct session *s;

    (void)state;
    assert_int_equal(session_table_init(&t, 8, 99), 0);
    s = add(&t, 1);
    s->role = SESSION_UPSTREAM;
    s->side.upstream.server = 3;
    s->side.upstream.users = 0;
    assert_false(session_is_evictable(s)); /* its server would go on with it */
    s->side.upstream.server = POOL_NONE;
    assert_true(session_is_evictable(s));
    s->side.upstream.users = 1;
    assert_false(session_is_evictable(s)); /* an answer is still waited for */
    s->side.upstream.users = 0;
    session_remove(&t, s);
    session_table_fini(&t);
}

static void a_victim_cannot_use_its_message_ids_again(void **state)
{
    struct session_table t;
    uint64_t now = 1000 * SECOND_US;
    struct session *s;
    uint16_t first, mid;

    (void)state;
    assert_int_equal(session_table_init(&t, 1, 1), 0);
    s = add(&t, 1);
    s->seen_us = now;
    first = s->next_mid = session_first_mid(&s->flow, &origin, now);
    assert_ptr_equal(session_victim(&t, &origin, now), s); /* it has used none */
    for (unsigned i = 0; i < 100; i++)
        assert_true(session_take_mid(s, now, &mid));
    while (!session_victim(&t, &origin, now))
        now += 1000;
    assert_true((uint16_t)(session_first_mid(&s->flow, &origin, now) - first) >= 100);
    assert_in_range(now, 1000 * SECOND_US + 770000, 1000 * SECOND_US + 790000); /* 7.8 ms each */
    s->next_mid = (uint16_t)(first + 0x8000);
    assert_ptr_equal(session_victim(&t, &origin, s->seen_us + EXCHANGE_LIFETIME_MS * 1000ull), s);
    session_table_fini(&t);
}

/* Takes IDs as fast as they come for half an hour: each is used again only after EXCHANGE_LIFETIME,
 * but then it is. */
static void expect_rest(const struct transmission *t, uint64_t lifetime_ms)
{
    static uint64_t last[65536];
    struct session s = {.next_mid = 0xfff0, .transmission = t};
    uint32_t taken = 0;
    uint16_t mid;

    memset(last, 0, sizeof(last));
    for (uint64_t now = 5 * SECOND_US; now < 1800 * SECOND_US; now += 100000) {
        for (int i = 0; i < 2000 && session_take_mid(&s, now, &mid); i++) {
            assert_true(last[mid] == 0 || now - last[mid] > lifetime_ms * 1000);
            last[mid] = now;
            taken++;
        }
    }
    assert_true(taken > 1800000 / (lifetime_ms + 40000) * 65536);
}

static void message_ids_rest_for_their_lifetime(void **state)
{
    struct transmission t = TRANSMISSION_DEFAULTS;

    (void)state;
    expect_rest(&t, 247000);
    t.ack_timeout_ms = 8000; /* a peer that is slow remembers for longer (RFC 7252 4.8.2) */
    expect_rest(&t, 388000);
    t.ack_timeout_ms = 500;
    t.max_retransmit = 0;
    expect_rest(&t, 200500);
}

static void message_ids_go_on_when_a_session_comes_back(void **state)
{
    const struct mid_origin other = {.key = 43, .life = 7};
    struct flow flow = flow_of(7);
    uint16_t first = session_first_mid(&flow, &origin, 1000 * SECOND_US);
    uint16_t later = session_first_mid(&flow, &origin, 1010 * SECOND_US);

    (void)state;
    assert_int_equal((uint16_t)(later - first), 10 * MID_RATE);
    assert_int_not_equal(first, session_first_mid(&flow, &other, 1000 * SECOND_US));
}

/* A process that dies at once after 512 messages in no time, and so on: 60 lives within
 * EXCHANGE_LIFETIME. */
static void message_ids_of_lives_are_apart(void **state)
{
    static bool used[65536];
    struct flow flow = flow_of(7);

    (void)state;
    memset(used, 0, sizeof(used));
    for (uint64_t life = 1000; life < 1060; life++) {
        const struct mid_origin mids = {.key = 42, .life = life};
        uint64_t now = life * SECOND_US;
        struct session s = {.next_mid = session_first_mid(&flow, &mids, now)};
        uint16_t mid;

        for (unsigned i = 0; i < MID_LEAD; i++) {
            assert_true(session_take_mid(&s, now, &mid));
            assert_false(used[mid]);
            used[mid] = true;
        }
    }
}

/* Any process may be the last one for a session: what the next one begins with has not been used
 * within EXCHANGE_LIFETIME. Returns how often it has. */
static unsigned repeated_after(uint64_t gap_us, bool follows)
{
    static uint64_t last[65536];
    struct transmission t = TRANSMISSION_DEFAULTS;
    struct session s = {.flow = flow_of(7), .transmission = &t};
    struct mid_origin next = {.key = origin.key, .life = origin.life + 1};
    unsigned repeated = 0;
    uint16_t mid;

    memset(last, 0, sizeof(last));
    s.next_mid = session_first_mid(&s.flow, &origin, SECOND_US);
    s.gate.own.ticks = session_ticks(SECOND_US);
    for (uint64_t now = SECOND_US; now < 3600 * SECOND_US; now += gap_us) {
        if (follows && session_may_be_behind(&s, now))
            session_follow_clock(&s, &origin, now);
        assert_true(session_take_mid(&s, now, &mid));
        assert_true(last[mid] == 0 || now - last[mid] > 247 * SECOND_US);
        last[mid] = now;
        mid = session_first_mid(&s.flow, &next, now);
        for (unsigned i = 0; i < MID_LEAD; i++, mid++)
            repeated += last[mid] && now - last[mid] <= 247 * SECOND_US;
    }
    return repeated;
}

static void message_ids_of_a_quiet_session_follow_the_clock(void **state)
{
    const uint64_t gaps_us[] = {10000, 100000, 900000, 4100000, 7 * SECOND_US, 60 * SECOND_US};

    (void)state;
    for (unsigned i = 0; i < sizeof(gaps_us) / sizeof(gaps_us[0]); i++) {
        assert_int_not_equal(repeated_after(gaps_us[i], false), 0);
        assert_int_equal(repeated_after(gaps_us[i], true), 0);
    }
}

/* The ticks go around in 50 days; what they tell is never more than it is. */
static void how_long_nothing_was_sent_is_never_told_too_long(void **state)
{
    struct transmission t = TRANSMISSION_DEFAULTS;
    struct session s = {.next_mid = 1, .transmission = &t};
    uint64_t steps[] = {1, 1023, 1024, 1025, 5000, 1000000, 86400000000};
    uint16_t mid;

    (void)state;
    for (uint64_t sent = (UINT64_C(1) << 42) - 10000; sent < (UINT64_C(1) << 42) + 10000;
         sent += 77) {
        assert_true(session_take_mid(&s, sent, &mid));
        for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
            uint64_t quiet_us = session_quiet_us(&s, sent + steps[i]);

            assert_true(quiet_us <= steps[i]);
            assert_true(quiet_us + 2048 > steps[i]);
        }
    }
}

/* The other side of the union is a server's. */
static void an_upstream_session_keeps_its_gate(void **state)
{
    struct gate_shared shared = {.heard_us = 1};
    struct transmission t = TRANSMISSION_DEFAULTS;
    struct session s = {.role = SESSION_UPSTREAM, .gate.shared = &shared, .transmission = &t};
    uint16_t mid;

    (void)state;
    assert_true(session_take_mid(&s, SECOND_US, &mid));
    assert_ptr_equal(s.gate.shared, &shared);
    assert_int_equal(shared.gate.ticks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added),
        cmocka_unit_test(removal_leaves_the_others),
        cmocka_unit_test(searches_are_short),
        cmocka_unit_test(the_victim_is_idle_and_free),
        cmocka_unit_test(what_was_left_behind_makes_room),
        cmocka_unit_test(a_victim_cannot_use_its_message_ids_again),
        cmocka_unit_test(message_ids_rest_for_their_lifetime),
        cmocka_unit_test(message_ids_go_on_when_a_session_comes_back),
        cmocka_unit_test(message_ids_of_lives_are_apart),
        cmocka_unit_test(message_ids_of_a_quiet_session_follow_the_clock),
        cmocka_unit_test(how_long_nothing_was_sent_is_never_told_too_long),
        cmocka_unit_test(an_upstream_session_keeps_its_gate),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
